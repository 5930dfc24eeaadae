"""Lines and stacked areas over time as SVG, so that a plot needs no library. Pure."""

import itertools
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

import msgspec

_WIDTH, _HEIGHT = 800, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 30, 30
# A label: its colour and the space behind it, and a letter of 11 px Arial.
_SWATCH, _LETTER = 30.0, 5.6
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")
_TICKS = 4


class Line(msgspec.Struct, frozen=True):
    """One value a time."""

    label: str
    values: Sequence[float]
    colour: str = ""  # '' takes the next of ours


class Panel(msgspec.Struct, frozen=True):
    """Lines that share an axis, which begins at 0. `stacked`: areas, the first at the bottom."""

    title: str
    lines: Sequence[Line]
    stacked: bool = False


def minutes(seconds: float) -> str:
    """The usual label of a moment: how long after the first it is."""
    return f"{seconds / 60:.3g} min"


def svg(times: Sequence[float], panels: Sequence[Panel], label: Callable[[float], str] = minutes) -> str:
    """The panels one below the other; `times` rise and are as many as each line has values.

    `label` says what stands below the axis, of a time counted from the first.
    """
    heights = [_HEIGHT + _legend_rows(panel) * 16 for panel in panels]
    box = f"0 0 {_WIDTH} {sum(heights)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" font-family="Arial" font-size="11">',
        f'<rect width="{_WIDTH}" height="{sum(heights)}" fill="white"/>',
    ]
    for panel, height, top in zip(panels, heights, itertools.accumulate([0, *heights]), strict=False):
        parts += [f'<g transform="translate(0 {top})">', *_panel(times, panel, height, label), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _legend_rows(panel: Panel) -> int:
    """How many lines below the title the labels need; 0: they find room beside it."""
    return max(row for row, _ in _places(panel)) if panel.lines else 0


def _places(panel: Panel) -> list[tuple[int, float]]:
    """Of each label its line, 0 being the title's, and where it begins."""
    widths = [_SWATCH + _LETTER * len(line.label) for line in panel.lines]
    x = _WIDTH - _RIGHT - sum(widths)
    if x > _LEFT + _LETTER * (len(panel.title) + 4):
        return [(0, x + before) for before in itertools.accumulate([0.0, *widths[:-1]])]
    places, row, x = [], 1, float(_LEFT)
    for width in widths:
        if x > _LEFT and x + width > _WIDTH - _RIGHT:
            row, x = row + 1, _LEFT
        places.append((row, x))
        x += width
    return places


def _panel(times: Sequence[float], panel: Panel, height: int, label: Callable[[float], str]) -> list[str]:
    floors = _floors(panel)
    most = max((max(upper, default=0.0) for _, upper in floors), default=0.0) or 1.0
    head = _TOP + _legend_rows(panel) * 16
    right, bottom = _WIDTH - _RIGHT, height - _BOTTOM
    span = max(times[-1] - times[0], 1e-9)
    parts = [f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(panel.title)}</text>']

    def points(values: Sequence[float]) -> list[str]:
        return [
            f"{_LEFT + (right - _LEFT) * (at - times[0]) / span:.1f},{bottom - (bottom - head) * value / most:.1f}"
            for at, value in zip(times, values, strict=True)
        ]

    for (lower, upper), line, colour in zip(floors, panel.lines, _colours(panel), strict=True):
        if panel.stacked:
            shape = " ".join([*points(upper), *reversed(points(lower))])
            parts.append(f'<polygon points="{shape}" fill="{colour}" fill-opacity="0.8"/>')
        else:
            shape = " ".join(points(line.values))
            parts.append(f'<polyline points="{shape}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for tick in range(_TICKS + 1):
        y = bottom - (bottom - head) * tick / _TICKS
        x = _LEFT + (right - _LEFT) * tick / _TICKS
        anchor = "middle" if tick < _TICKS else "end"
        parts += [
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#888" stroke-opacity="0.3"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(most * tick / _TICKS)}</text>',
            f'<text x="{x:.1f}" y="{height - 12}" text-anchor="{anchor}">{escape(label(span * tick / _TICKS))}</text>',
        ]
    return [*parts, *_legend(panel)]


def _floors(panel: Panel) -> list[tuple[Sequence[float], Sequence[float]]]:
    """Where each line's area begins and ends."""
    lower: Sequence[float] = ()
    made: list[tuple[Sequence[float], Sequence[float]]] = []
    for line in panel.lines:
        lower = lower if panel.stacked and lower else [0.0] * len(line.values)
        upper = [below + value for below, value in zip(lower, line.values, strict=True)]
        made.append((lower, upper))
        lower = upper
    return made


def _colours(panel: Panel) -> list[str]:
    return [line.colour or _COLOURS[number % len(_COLOURS)] for number, line in enumerate(panel.lines)]


def _legend(panel: Panel) -> list[str]:
    parts = []
    for (row, x), line, colour in zip(_places(panel), panel.lines, _colours(panel), strict=True):
        y = 16 + 16 * row
        parts += [
            f'<rect x="{x:.1f}" y="{y - 8}" width="9" height="9" fill="{colour}"/>',
            f'<text x="{x + 13:.1f}" y="{y}">{escape(line.label)}</text>',
        ]
    return parts


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
