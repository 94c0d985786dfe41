"""Curves as inline SVG: a few lines over one axis, no script, no external file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 240  # of a chart, in CSS pixels
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 30, 38  # room for numbers and names around the plot
TICKS = 5  # about so many numbers on an axis


@dataclass(frozen=True, slots=True)
class Line:
    """A named line through points (x, y), in a CSS colour. A y of None is a gap."""

    name: str
    colour: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where numbers from `low` to `high` lie between two places of the picture."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where a value stands, in the units of `start` and `end`."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def chart(title: str, x_name: str, lines: Sequence[Line], *, x_step: float = 0.0) -> str:
    """Draw lines over a common x as an `<svg>` element; empty text where there is no point at all.

    The numbers along x are at least `x_step` apart: 1 for epochs, of which there are no halves.
    """
    drawn = [(x, y) for line in lines for x, y in line.points if y is not None]
    if not drawn:
        return ""
    x_ticks, y_ticks = ticks(*_range(x for x, _ in drawn), x_step), ticks(*_range(y for _, y in drawn))
    x_axis = _Axis(*_range([*x_ticks, *(x for x, _ in drawn)]), LEFT, WIDTH - RIGHT)
    y_axis = _Axis(*_range([*y_ticks, *(y for _, y in drawn)]), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        _text(LEFT, 18, title, "start", "title"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, x_name, "middle"),
        *(_horizontal(y_axis.place(tick), number(tick)) for tick in y_ticks),
        *(_text(x_axis.place(tick), HEIGHT - BOTTOM + 15, number(tick), "middle") for tick in x_ticks),
        *(_draw(line, x_axis, y_axis) for line in lines),
        *(_legend(line, position) for position, line in enumerate(lines) if len(lines) > 1),
        "</svg>",
    ]
    return "\n".join(parts)


def ticks(low: float, high: float, least_step: float = 0.0) -> list[float]:
    """Round numbers within low … high, 1, 2 or 5 times a power of ten apart."""
    rough = max((high - low) / TICKS, least_step)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [tick * step for tick in range(first, last + 1)]


def number(value: float) -> str:
    """Short: 0.25, 40, 1e-05."""
    return f"{value:.4g}" if abs(value) > 1e-15 else "0"


def _range(values: Iterable[float]) -> tuple[float, float]:
    """The lowest and the highest; a single value gets some room on both sides."""
    known = list(values)
    low, high = min(known), max(known)
    if high - low > 1e-12 * max(1.0, abs(high)):
        return low, high
    room = abs(high) / 2 or 0.5
    return low - room, high + room


def _draw(line: Line, x_axis: _Axis, y_axis: _Axis) -> str:
    """One polyline per run without gaps, and a dot for a point that stands alone."""
    runs: list[list[str]] = [[]]
    for x, y in line.points:
        if y is None:
            runs.append([])
        else:
            runs[-1].append(f"{x_axis.place(x):.1f},{y_axis.place(y):.1f}")
    colour, parts = escape(line.colour), []
    for run in runs:
        if len(run) == 1:
            x_place, y_place = run[0].split(",")
            parts.append(f'<circle cx="{x_place}" cy="{y_place}" r="3" fill="{colour}"/>')
        elif run:
            parts.append(f'<polyline points="{" ".join(run)}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
    return "".join(parts)


def _horizontal(y: float, shown: str) -> str:
    grid = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>'
    return grid + _text(LEFT - 6, y + 4, shown, "end")


def _legend(line: Line, position: int) -> str:
    left, y = WIDTH - RIGHT - 170, TOP + 6 + 16 * position
    stroke = f'<line x1="{left}" x2="{left + 18}" y1="{y}" y2="{y}" stroke="{escape(line.colour)}" stroke-width="3"/>'
    return stroke + _text(left + 24, y + 4, line.name, "start")


def _text(x: float, y: float, content: str, anchor: str, kind: str = "label") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" class="{kind}">{escape(content)}</text>'
