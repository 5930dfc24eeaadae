"""Lines over time as SVG, so that a plot needs no library. Pure."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

import msgspec

_WIDTH, _HEIGHT = 800, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 30, 30
_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf")
_TICKS = 4


class Line(msgspec.Struct, frozen=True):
    """One value a time."""

    label: str
    values: Sequence[float]


class Panel(msgspec.Struct, frozen=True):
    """Lines that share an axis, which begins at 0."""

    title: str
    lines: Sequence[Line]


def svg(times: Sequence[float], panels: Sequence[Panel]) -> str:
    """The panels one below the other; `times` in seconds, rising, as many as each line has values."""
    height = _HEIGHT * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="Arial" font-size="11">',
        f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate(0 {number * _HEIGHT})">', *_panel(times, panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _panel(times: Sequence[float], panel: Panel) -> list[str]:
    top = max((max(line.values, default=0.0) for line in panel.lines), default=0.0) or 1.0
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    span = max(times[-1] - times[0], 1e-9)
    parts = [f'<text x="{_LEFT}" y="16" font-weight="bold">{escape(panel.title)}</text>']
    for tick in range(_TICKS + 1):
        y = bottom - (bottom - _TOP) * tick / _TICKS
        x = _LEFT + (right - _LEFT) * tick / _TICKS
        parts += [
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}" stroke="#ddd"/>',
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * tick / _TICKS:.4g}</text>',
            f'<text x="{x:.1f}" y="{_HEIGHT - 12}" text-anchor="middle">{span * tick / _TICKS / 60:.3g} min</text>',
        ]
    for number, line in enumerate(panel.lines):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(
            f"{_LEFT + (right - _LEFT) * (at - times[0]) / span:.1f},{bottom - (bottom - _TOP) * value / top:.1f}"
            for at, value in zip(times, line.values, strict=True)
        )
        label = right - 110 * (len(panel.lines) - 1 - number)
        parts += [
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>',
            f'<text x="{label}" y="16" text-anchor="end" fill="{colour}">{escape(line.label)}</text>',
        ]
    return parts
