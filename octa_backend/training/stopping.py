"""When a run ends before its last epoch: `patience` and `max_minutes`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.training.checkpoint import Best
from octa_backend.training.config import TrainConfig


@dataclass(slots=True)
class Limits:
    """Counts epochs without a better validation Dice, and minutes, over all attempts at a run.

    A run that is resumed with other `epochs` or another `lr` is meant to go on, so both are counted anew from there.

    Attributes:
        config: with `patience` and `max_minutes`.
        counted_from: the epoch after which epochs count.
        seconds: before `started`: of earlier attempts up to their last checkpoint, and of this one before a treatment.
        clock: seconds from some moment on.
    """

    config: TrainConfig
    counted_from: int = 0
    seconds: float = 0.0
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        self.started = self.clock()

    def out_of_patience(self, epoch: int, best: Best | None) -> Finding | None:
        """What to say if the Dice has not risen for `patience` epochs at the end of `epoch`, else None.

        Judged only after epochs that `val_freq` has validated: the others cannot have been better.
        """
        patience = self.config.patience
        if not patience or best is None or epoch % self.config.val_freq:
            return None
        if epoch - max(best.epoch, self.counted_from) < patience:
            return None
        evidence = {"patience": patience, "best_epoch": best.epoch, "best_val_dice": round(best.val_dice, 4)}
        return Finding("stopped_early", Severity.INFO, evidence, epoch=epoch)

    def out_of_time(self, epoch: int, best: Best | None) -> Finding | None:
        """What to say if `max_minutes` are over during `epoch`, else None; before the first epoch is done, None."""
        minutes = self.config.max_minutes
        if not minutes or best is None or self.elapsed() < 60 * minutes:
            return None
        return Finding("time_used_up", Severity.INFO, {"max_minutes": minutes, "epochs": epoch - 1}, epoch=epoch)

    def is_nearly_over(self, begun: float) -> bool:
        """Whether `max_minutes` may be over before two more epochs are, as long as the one that began at `begun`."""
        now = self.elapsed()
        return bool(self.config.max_minutes) and now + 2 * (now - begun) >= 60 * self.config.max_minutes

    def elapsed(self) -> float:
        """Seconds of all attempts, up to now."""
        return self.seconds + self.clock() - self.started

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {
            "counted_from": self.counted_from,
            "seconds": self.elapsed(),
            "epochs": self.config.epochs,
            "lr": self.config.lr,
        }

    def begin_anew(self, seconds: float, epoch: int) -> None:
        """Go on after `epoch` as a treatment says: its epochs count from here, its minutes go on from `seconds`."""
        self.counted_from, self.seconds, self.started = epoch, seconds, self.clock()

    def load_state_dict(self, state: Mapping[str, Any], epoch: int) -> None:
        """Go on from a checkpoint of `epoch`."""
        if (state["epochs"], state["lr"]) == (self.config.epochs, self.config.lr):
            self.counted_from, self.seconds = state["counted_from"], state["seconds"]
        else:
            self.counted_from, self.seconds = epoch, 0.0
