"""What people read in a job's log while it trains: gradients of steps, a line per epoch, checks for a plateau."""

from __future__ import annotations

import logging

from octa_backend.diagnosis.curves import Shape
from octa_backend.diagnosis.text import Language
from octa_backend.training.events import EpochFinished, StepFinished
from octa_backend.training.log_lines import plateau_block, step_line

STEP_LINES = 200
"""Most lines of steps in one epoch, 40 kB of log; a longer epoch shows every second, third … step. All of them are rows
of the database, whatever the log shows."""

NAMES = {"bce": "BCE", "ce": "CE", "dice": "Dice"}
"""How the log spells components; others stand there as they are named."""

_log = logging.getLogger(__name__)


class RunLog:
    """Writes one attempt's steps and epochs to the log.

    Attributes:
        epochs: how many the run is to have, as its lines show.
    """

    def __init__(self, epochs: int, language: Language) -> None:
        """Begin.

        Args:
            epochs: how many the run is to have.
            language: of hints and plateau checks; the lines of epochs are the same in both.
        """
        self.epochs, self._language = epochs, language
        self._shape: str = Shape.UNCLEAR

    def step(self, step: StepFinished) -> None:
        """Write a step's gradient norms, if it is its turn."""
        apart = -(-step.steps // STEP_LINES)
        if (step.step - 1) % apart == 0:
            _log.info("%s", step_line(step.epoch, step.step, step.gradient_norms, self._language))

    def epoch(self, report: EpochFinished, *, is_new: bool) -> None:
        """Write an epoch's line, and its plateau check where that is due or the loss has just come to a stand.

        Args:
            report: as the training doctor filled it in.
            is_new: False for the last epoch of an earlier attempt, which wrote it; its plateau is taken note of.
        """
        if is_new:
            _log.info("%s", epoch_line(report, self.epochs))
        if report.plateau is None:
            return
        before, self._shape = self._shape, report.plateau["verdict"]
        comes_to_a_stand = self._shape == Shape.FLAT and before != Shape.FLAT
        if is_new and (report.plateau["is_due"] or comes_to_a_stand):
            _log.info("%s", plateau_block(report.epoch, report.plateau, self._language))


def epoch_line(report: EpochFinished, epochs: int) -> str:
    """The line of the log that people read and grep for."""
    parts = ", ".join(f"{NAMES.get(name, name)}: {value:.4f}" for name, value in report.loss_components.items())
    return (
        f"Epoch [{report.epoch}/{epochs}] | Train Loss: {report.train_loss:.4f} ({parts}) "
        f"| Val Dice: {report.val_dice:.4f}"
    )
