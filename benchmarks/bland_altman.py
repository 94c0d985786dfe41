"""How well two ways to measure the same scans agree: correlation, and limits of agreement as numbers and as a picture.

Source: J. M. Bland and D. G. Altman, Statistical methods for assessing agreement between two methods of clinical
measurement, Lancet 327, 1986.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

LIMITS = 1.96
"""Standard deviations between which 95 % of normally distributed differences lie."""

LEAST_PAIRS = 3

PANEL = (460, 330)  # width and height in pixels
COLUMNS = 3
LEFT, RIGHT, TOP, BOTTOM = 74, 16, 52, 40  # room around the plot of a panel
DOT = 3
INK, GRID, DOTS, BIAS, LIMIT = "#222222", "#dddddd", "#0a84ff", "#222222", "#ff3b30"


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two ways compared on the scans that both could measure.

    Attributes:
        first: numbers of the one way, (N,).
        second: numbers of the other, (N,).
        left_out: scans that one of them, or both, could not measure.
    """

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    left_out: int

    @property
    def differences(self) -> NDArray[np.float64]:
        """Second less first."""
        return self.second - self.first

    @property
    def correlation(self) -> float | None:
        """Pearson's r; None where one of the two is the same for all scans."""
        if np.ptp(self.first) == 0 or np.ptp(self.second) == 0:
            return None
        return float(np.corrcoef(self.first, self.second)[0, 1])

    @property
    def bias(self) -> float:
        """Mean difference."""
        return float(self.differences.mean())

    @property
    def limits(self) -> tuple[float, float]:
        """Between which 95 % of the differences are expected."""
        reach = LIMITS * float(self.differences.std(ddof=1))
        return self.bias - reach, self.bias + reach


def compare(pairs: Sequence[tuple[float | None, float | None]]) -> Agreement | None:
    """Compare pairs of first and second; None where fewer than `LEAST_PAIRS` are complete."""
    known = np.array([pair for pair in pairs if None not in pair], dtype=float).reshape(-1, 2)
    if len(known) < LEAST_PAIRS:
        return None
    return Agreement(known[:, 0], known[:, 1], len(pairs) - len(known))


def drawn(panels: Mapping[str, Agreement]) -> Image.Image:
    """A panel per measurement: difference over mean of each scan, with bias and limits of agreement."""
    rows = -(-len(panels) // COLUMNS)
    picture = Image.new("RGB", (PANEL[0] * COLUMNS, PANEL[1] * rows), "white")
    for place, (title, agreement) in enumerate(panels.items()):
        row, column = divmod(place, COLUMNS)
        picture.paste(_panel(title, agreement), (column * PANEL[0], row * PANEL[1]))
    return picture


@dataclass(frozen=True, slots=True)
class _Axis:
    """Where numbers lie between two places of a panel."""

    ticks: Sequence[float]
    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _panel(title: str, agreement: Agreement) -> Image.Image:
    panel = Image.new("RGB", PANEL, "white")
    pen = ImageDraw.Draw(panel)
    means = (agreement.first + agreement.second) / 2
    x = _axis(means, LEFT, PANEL[0] - RIGHT)
    y = _axis([*agreement.differences, *agreement.limits, 0.0], PANEL[1] - BOTTOM, TOP)
    _frame(pen, x, y)
    correlation = "r –" if agreement.correlation is None else f"r {agreement.correlation:.2f}"
    _write(pen, (LEFT, 10), title, 15)
    _write(pen, (LEFT, 29), f"{correlation}, bias {agreement.bias:.3g}, {len(means)} scans", 12)
    for value, colour in ((agreement.bias, BIAS), *((limit, LIMIT) for limit in agreement.limits)):
        pen.line((LEFT, y.place(value), PANEL[0] - RIGHT, y.place(value)), fill=colour, width=2)
    for mean, difference in zip(means, agreement.differences, strict=True):
        pen.circle((x.place(mean), y.place(difference)), DOT, fill=DOTS)
    return panel


def _axis(values: Sequence[float] | NDArray[np.float64], start: float, end: float) -> _Axis:
    from octa_backend.training.evaluation_curves import ticks

    low, high = float(np.min(values)), float(np.max(values))
    room = (high - low) * 0.05 or abs(high) / 2 or 0.5
    low, high = low - room, high + room
    return _Axis(ticks(low, high), low, high, start, end)


def _frame(pen: ImageDraw.ImageDraw, x: _Axis, y: _Axis) -> None:
    from octa_backend.training.evaluation_curves import number

    for tick in y.ticks:
        pen.line((LEFT, y.place(tick), PANEL[0] - RIGHT, y.place(tick)), fill=GRID)
        _write(pen, (LEFT - 6, y.place(tick)), number(tick), 11, "rm")
    for tick in x.ticks:
        _write(pen, (x.place(tick), PANEL[1] - BOTTOM + 6), number(tick), 11, "ma")
    _write(pen, ((LEFT + PANEL[0] - RIGHT) / 2, PANEL[1] - 16), "mean of both; upwards: second less first", 11, "ma")


def _write(pen: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, anchor: str = "la") -> None:
    pen.text(place, text, fill=INK, font=ImageFont.load_default(size), anchor=anchor)
