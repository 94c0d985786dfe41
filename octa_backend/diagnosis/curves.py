"""What a curve of losses or scores does: falls, stands still, rises or swings. Free of scale, robust to outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

WINDOW = (5, 10)
"""Fewest and most epochs a trend is taken over: below 5 a line says nothing, above 10 it looks at the past. Between
them it is half of the run, so that a short run is not judged by its first epochs."""

MAD_TO_DEVIATION = 1.4826
"""Median absolute deviation to standard deviation, for Gaussian noise."""

ENTERS, STAYS = 0.02, 0.008
"""Hysteresis of a trend: the share of its level that a curve must change by over a window to be called moving, and to
stay so. Healthy runs change by 3 % or more in ten epochs until they are done, and by under 0.5 % afterwards."""

ENTERS_SURE, STAYS_SURE = 2.5, 1.2
"""Likewise, in standard errors of the slope: 2.5 is passed by chance once in about 80 windows of Gaussian noise."""

SWINGS = 0.10
"""Epoch means that lie this share of the level off their own trend swing. Healthy runs of 2 to 20 steps per epoch stay
below 0.06."""

REMEMBERED = 10
"""Epochs that the hysteresis looks back on: what was before them is out of every window, and forgotten."""

PLATEAU_SHARE = 0.05
"""A curve has reached its plateau when less than this share of all it will gain is still to come."""


class Shape(StrEnum):
    """What a curve of losses does at its end."""

    UNCLEAR = "unclear"
    IMPROVING = "improving"
    FLAT = "flat"
    RISING = "rising"
    OSCILLATING = "oscillating"


@dataclass(frozen=True, slots=True)
class Trend:
    """A robust line through the last epochs of a curve.

    Attributes:
        slope: per epoch, the median of the slopes of all pairs (Theil-Sen).
        level: the line at the last epoch.
        noise: standard deviation of the distances from the line, from their median.
        change: slope times the number of steps between the window's first and last epoch.
        certainty: |slope| in standard errors; infinite where there is no noise.

    Source:
        P. K. Sen, Journal of the American Statistical Association 63(324), 1968.
    """

    slope: float
    level: float
    noise: float
    change: float
    certainty: float

    @property
    def relative_change(self) -> float:
        """Change over the window as a share of the level; the sign is kept."""
        return self.change / max(abs(self.level), 1e-9)

    @property
    def relative_noise(self) -> float:
        """Noise as a share of the level."""
        return self.noise / max(abs(self.level), 1e-9)


def window(count: int) -> int:
    """How many of the last epochs of a run of `count` are looked at."""
    least, most = WINDOW
    return min(most, max(least, count // 2), count)


def trend(values: Sequence[float] | Values) -> Trend:
    """The trend of these values, at least two, evenly spaced."""
    y = np.asarray(values, dtype=np.float64)
    x = np.arange(len(y), dtype=np.float64)
    i, j = _pairs(len(y))
    slope = float(np.median((y[j] - y[i]) / (j - i)))
    offset = float(np.median(y - slope * x))
    off = y - offset - slope * x
    noise = float(np.median(np.abs(off))) * MAD_TO_DEVIATION
    error = noise / float(np.sqrt(((x - x.mean()) ** 2).sum()))
    certainty = abs(slope) / error if error > 0 else (np.inf if slope else 0.0)
    return Trend(slope, offset + slope * float(x[-1]), noise, slope * (len(y) - 1), float(certainty))


@cache
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(count, 1)


def shape(values: Sequence[float] | Values) -> Shape:
    """What a curve of losses does at its end, with hysteresis: small changes do not make the answer flicker.

    Args:
        values: per epoch, finite; where more is better (a Dice), pass 1 - value.
    """
    found = Shape.UNCLEAR
    for end in range(max(WINDOW[0], len(values) - REMEMBERED), len(values) + 1):
        found = _next_shape(found, trend(values[end - window(end) : end]))
    return found


def _next_shape(before: Shape, now: Trend) -> Shape:
    for moving, change in ((Shape.IMPROVING, -now.relative_change), (Shape.RISING, now.relative_change)):
        least, sure = (STAYS, STAYS_SURE) if before is moving else (ENTERS, ENTERS_SURE)
        if change > least and now.certainty > sure:
            return moving
    return Shape.OSCILLATING if now.relative_noise > SWINGS else Shape.FLAT


@dataclass(frozen=True, slots=True)
class Approach:
    """An exponential approach fitted to a curve: limit + height · exp(-epoch / pace).

    Attributes:
        limit: where the curve leads if it goes on like this.
        pace: epochs in which the distance to the limit falls to 37 %.
        gain: what the epochs that are left would still bring; positive is a fall.
        epochs_to_plateau: until 95 % of the way from the first epoch to the limit are gone; 0 where they are.
    """

    limit: float
    pace: float
    gain: float
    epochs_to_plateau: int


PACES = tuple(float(pace) for pace in np.geomspace(1, 200, 25))
"""Tried in turn: the fit is linear for each. Nothing slower than 200 epochs can be told from a line."""

LEAST_EPOCHS_OF_A_FIT = 6
"""Three numbers are fitted; with fewer than twice as many epochs the limit is a guess."""


def approach(values: Sequence[float] | Values, epochs_left: int) -> Approach | None:
    """Fit an exponential approach; None where there are too few epochs or the curve does not fall.

    The schedule is not looked at, so for one whose rate falls late (`onecycle`, `cosine`) the gain is a lower bound.
    """
    y = np.asarray(values, dtype=np.float64)
    if len(y) < LEAST_EPOCHS_OF_A_FIT:
        return None
    x = np.arange(len(y), dtype=np.float64)
    best: tuple[float, float, float, float] | None = None
    for pace in PACES:
        decay = np.exp(-x / pace)
        centred = decay - decay.mean()
        height = float((centred * y).sum() / (centred**2).sum())
        limit = float(y.mean() - height * decay.mean())
        error = float(((y - limit - height * decay) ** 2).sum())
        if height > 0 and (best is None or error < best[0]):
            best = (error, pace, height, limit)
    if best is None:
        return None
    _, pace, height, limit = best
    now = height * float(np.exp(-x[-1] / pace))
    gain = now * (1 - float(np.exp(-epochs_left / pace)))
    until = pace * float(np.log(1 / PLATEAU_SHARE)) - x[-1]
    return Approach(limit, pace, gain, max(0, int(np.ceil(until))))


# --- the classic rule -----------------------------------------------------------------------------------------------

CLASSIC_EPOCHS = 5
CLASSIC_VARIANCE = 1e-6
CLASSIC_IMPROVEMENT = 1e-4
CLASSIC_FIRST, CLASSIC_EVERY = 11, 10
"""The rule that users of the product know. It depends on the loss's scale and is never met by a noisy plateau, so it is
evidence beside the shape, not a verdict."""


@dataclass(frozen=True, slots=True)
class ClassicPlateau:
    """The classic rule on the last epochs.

    Attributes:
        last_losses: up to five.
        variance: of them (population).
        improvement: the first of them minus the last; negative where the loss rose.
        is_due: whether the rule looks at this epoch: 11, 21, 31 …
        is_plateau: variance below 1e-6 and improvement below 1e-4, over five epochs, whether due or not.
    """

    last_losses: tuple[float, ...]
    variance: float
    improvement: float
    is_due: bool
    is_plateau: bool


def classic_plateau(losses: Sequence[float]) -> ClassicPlateau:
    """Apply the classic rule to the train losses of all epochs so far, at least one."""
    last = tuple(float(loss) for loss in losses[-CLASSIC_EPOCHS:])
    variance, improvement = float(np.var(last)), last[0] - last[-1]
    still = len(last) == CLASSIC_EPOCHS and variance < CLASSIC_VARIANCE and improvement < CLASSIC_IMPROVEMENT
    is_due = len(losses) >= CLASSIC_FIRST and (len(losses) - CLASSIC_FIRST) % CLASSIC_EVERY == 0
    return ClassicPlateau(last, variance, improvement, is_due, still)
