"""Charts in a terminal. Numbers in, text out.

Every band has a glyph of its own beside its colour, so a chart can be read without colours.
"""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
from rich.text import Text

T = TypeVar("T")

_BARS = " ▁▂▃▄▅▆▇█"


class Band(msgspec.Struct, frozen=True):
    """One part of what is stacked; `shade` is for SVG."""

    label: str
    glyph: str
    style: str
    shade: str


# The states of an audience, in the order in which they are stacked: who is mailed, then who rests.
STATES = (
    Band("engaged", "█", "green", "#2ca02c"),
    Band("active", "▓", "blue", "#1f77b4"),
    Band("reactivated", "▒", "cyan", "#17becf"),
    Band("new", "∙", "grey62", "#aaaaaa"),
    Band("trying", "▚", "magenta", "#9467bd"),
    Band("cooling", "░", "yellow", "#ff7f0e"),
    Band("resting", "·", "grey50", "#8c564b"),
)


# Who may not be mailed any more.
LEFT = Band("left", " ", "red", "#d62728")


def curve(values: Sequence[float], most: float, width: int) -> str:
    """One line of bars, `most` being a full one; none is lost that is not 0. Of more than `width` some are left out."""
    return "".join(_bar(value / most if most else 0.0) for value in _thinned(values, width))


def _bar(share: float) -> str:
    return _BARS[max(share > 0, round(min(1.0, share) * (len(_BARS) - 1)))]


def stacked(columns: Sequence[Sequence[float]], bands: Sequence[Band], *, width: int, height: int) -> list[Text]:
    """Columns side by side, each with a number for each band; the axis says what the highest adds up to."""
    chosen = _thinned(columns, width)
    wide = max(1, width // max(1, len(chosen)))
    most = max((sum(column) for column in chosen), default=0.0) or 1.0
    drawn = [_column(column, most, height) for column in chosen]
    axis = [f"{most:,.0f}", *[""] * (height - 2), "0"]
    lines = []
    for row, mark in enumerate(axis):
        line = Text(f"{mark:>10} ┤" if mark else f"{'':>10} │")
        for column in drawn:
            band = column[height - 1 - row]
            line.append(
                (" " if band is None else bands[band].glyph) * wide, bands[band].style if band is not None else ""
            )
        lines.append(line)
    return lines


def legend(bands: Sequence[Band]) -> list[Text]:
    """Glyphs and their names, four a line."""
    lines = []
    for first in range(0, len(bands), 4):
        line = Text(" " * 12)
        for band in bands[first : first + 4]:
            line.append(f"{band.glyph * 2} ", band.style)
            line.append(f"{band.label:<13}")
        lines.append(line)
    return lines


def _column(values: Sequence[float], most: float, height: int) -> list[int | None]:
    """Which band each cell belongs to, from the bottom: the one that its middle lies in."""
    cells: list[int | None] = []
    for cell in range(height):
        middle, reached, band = (cell + 0.5) / height * most, 0.0, None
        for number, value in enumerate(values):
            reached += value
            if middle <= reached and value:
                band = number
                break
        cells.append(band)
    return cells


def _thinned(values: Sequence[T], most: int) -> list[T]:
    """At most so many, evenly chosen, the newest among them."""
    if len(values) <= most:
        return list(values)
    return [values[round((n + 1) * len(values) / most) - 1] for n in range(most)]
