"""Learning rates: a pure function of where the run is, so that a resumed run needs no state; but for `plateau`."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from octa_backend.training.config import TrainConfig

ONECYCLE_RISE = 0.3  # share of all steps until the peak, as in torch's OneCycleLR
ONECYCLE_RISE_STEPS = 100  # but no more than these: Adam is steady after so many, and a long run waits for its peak
ONECYCLE_START = 1 / 25  # of the peak
ONECYCLE_END = 1e-4  # of the start

PLATEAU_THRESHOLD = 1e-4
"""Dice by which the validation must rise to count as better for `plateau`, as in torch's ReduceLROnPlateau."""


def learning_rate(config: TrainConfig, epoch: int, step: int, steps: int) -> float:
    """The learning rate of one step.

    With W warm-up steps (`warmup_epochs` · `steps`), step k of them (from 1) has `lr` · k / W; after them the schedule
    runs over the epochs that are left, and `done`, from 0 to 1, is the share of their steps that was taken:

    - `constant`, `plateau`: `lr` (see `Plateau` for its factor)
    - `step`: `lr` · gamma^⌊(epoch - 1) / step_size⌋, epochs counted from the end of the warm-up
    - `exponential`: `lr` · gamma^(epoch - 1), likewise
    - `cosine`: `lr` · (1 + cos(π · done)) / 2
    - `poly`: `lr` · (1 - done)^power
    - `onecycle`: a cosine from `lr` / 25 up to `lr` at 30 %, or after 100 steps if that is sooner, then a cosine down;
      after a warm-up the way down alone

    Args:
        config: names schedule, peak and number of epochs.
        epoch: from 1.
        step: from 1, within the epoch.
        steps: steps per epoch.

    Source:
        Warm-up: P. Goyal et al., 2017 (arXiv:1706.02677). cosine: I. Loshchilov and F. Hutter, SGDR, 2017
        (arXiv:1608.03983), one cycle. poly: L.-C. Chen et al., DeepLab, 2017 (arXiv:1606.00915). onecycle: L. N. Smith
        and N. Topin, 2018 (arXiv:1708.07120).
    """
    assert config.lr != "auto", "complete_plan resolves it"
    assert config.epochs != "auto", "complete_plan resolves it"
    warm_up = config.warmup_epochs * steps
    taken = (epoch - 1) * steps + step - 1
    if taken < warm_up:
        return config.lr * (taken + 1) / warm_up
    left = config.epochs * steps - warm_up
    return config.lr * _factor(config, epoch - config.warmup_epochs, (taken - warm_up) / left, left)


def _factor(config: TrainConfig, epoch: int, done: float, steps: int) -> float:
    """Of the peak, with `done` of so many steps."""
    assert config.scheduler != "auto", "make_plan resolves it"
    match config.scheduler:
        case "step":
            return config.gamma ** ((epoch - 1) // config.step_size)
        case "exponential":
            return config.gamma ** (epoch - 1)
        case "cosine":
            return _fall(done)
        case "poly":
            return math.pow(1 - done, config.power)
        case "onecycle":
            rise = min(ONECYCLE_RISE, ONECYCLE_RISE_STEPS / steps) if config.warmup_epochs == 0 else 0.0
            return _onecycle(done, rise)
        case "constant" | "plateau":
            return 1.0


def _fall(share: float) -> float:
    """A cosine from 1 down to 0."""
    return (1 + math.cos(math.pi * share)) / 2


def _onecycle(done: float, rise: float) -> float:
    if done < rise:
        return ONECYCLE_START + (1 - ONECYCLE_START) * _fall(1 - done / rise)
    low = ONECYCLE_START * ONECYCLE_END
    return low + (1 - low) * _fall((done - rise) / (1 - rise))


@dataclass(slots=True)
class Plateau:
    """The factor that `plateau` puts on the learning rate: times `gamma` whenever the validation Dice stands still.

    Attributes:
        patience: epochs without a better Dice until the factor falls.
        gamma: what it is multiplied with.
        factor: on the learning rate, 1 at first.
        best: the best Dice so far, from which a better one must differ by `PLATEAU_THRESHOLD`.
        since: the epoch of the best Dice, or of the latest fall if that came later.
    """

    patience: int
    gamma: float
    factor: float = 1.0
    best: float = -math.inf
    since: int = 0

    def see(self, epoch: int, dice: float) -> None:
        """Take one validation into account."""
        if dice > self.best + PLATEAU_THRESHOLD:
            self.best, self.since = dice, epoch
        elif epoch - self.since >= self.patience:
            self.factor, self.since = self.factor * self.gamma, epoch


class Schedule:
    """The learning rate of a run: the pure function, and for `plateau` what the validations said."""

    def __init__(self, config: TrainConfig, begun_after: int = 0) -> None:
        """Begin a schedule.

        Args:
            config: names schedule, peak and the last epoch.
            begun_after: epochs before it began, where a treatment begins it anew; it runs over those that are left.
        """
        self._begun_after = begun_after
        self._config = _for_the_rest(config, begun_after)
        self._plateau = Plateau(config.plateau_patience, config.gamma)

    def rate(self, epoch: int, step: int, steps: int) -> float:
        """The learning rate of one step; arguments as in `learning_rate`."""
        return learning_rate(self._config, epoch - self._begun_after, step, steps) * self._plateau.factor

    def see(self, epoch: int, dice: float) -> None:
        """Take one validation into account."""
        if self._config.scheduler == "plateau":
            self._plateau.see(epoch, dice)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        state = asdict(self._plateau)
        return {name: state[name] for name in ("factor", "best", "since")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self._plateau.factor, self._plateau.best, self._plateau.since = state["factor"], state["best"], state["since"]


def _for_the_rest(config: TrainConfig, begun_after: int) -> TrainConfig:
    """The config of the epochs that are left."""
    assert config.epochs != "auto", "complete_plan resolves it"
    left = max(1, config.epochs - begun_after)
    return config.model_copy(update={"epochs": left, "warmup_epochs": min(config.warmup_epochs, left - 1)})
