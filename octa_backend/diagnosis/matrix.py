"""The diagnosis matrix: what losses and Dice of a stuck run have looked like, and what it turned out to be.

It knows the loss `dice_bce` with equal weights. A row that is near supports a verdict; it never makes one, because the
same numbers come from different causes, and every healthy run passes through some rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from octa_backend.diagnosis.run_view import RECENT, RunView
from octa_backend.diagnosis.training import gradient_verdict


@dataclass(frozen=True, slots=True)
class Row:
    """One picture. None: the row says nothing about it.

    Attributes:
        name: of the picture.
        code: of the finding it speaks for; None for healthy pictures.
        loss: total training loss.
        dice: validation Dice.
        bce: unweighted cross-entropy.
        gradients: verdict on the gradient norms (`training.gradient_verdict`).
        few_scans: whether there are fewer than 50 training scans.
    """

    name: str
    code: str | None
    loss: float
    dice: float
    bce: float | None = None
    gradients: str | None = None
    few_scans: bool | None = None


MATRIX: tuple[Row, ...] = (
    Row("dice_stuck", "loss_weights_wrong", 0.60, 0.40, 0.30, "healthy"),
    Row("bce_not_settled", "lr_too_low", 0.65, 0.35, 0.50),
    Row("rate_too_low", "lr_too_low", 0.70, 0.42, 0.60, "mild_vanishing"),
    Row("foreground_scarce", "collapse_to_background", 0.55, 0.43, 0.20),
    Row("no_gradient", "gradients_vanishing", 0.80, 0.38, None, "vanishing"),
    Row("few_scans_large_network", "network_too_large", 0.55, 0.50, 0.35, "healthy", few_scans=True),
    Row("all_foreground", "collapse_to_foreground", 0.80, 0.13, 0.75),
    Row("just_begun", None, 0.72, 0.48, 0.64, "healthy"),
    Row("on_its_way", None, 0.42, 0.74, 0.24, "healthy"),
    Row("nearly_there", None, 0.27, 0.86, 0.13, "healthy"),
    Row("good_end", None, 0.12, 0.89, 0.06, "healthy"),
)
"""The first six are the matrix in use; the others are epochs of runs of our own: a network that calls everything
foreground, and a healthy run at its second, fourth, fifth and last epoch."""

SCALE = 0.1
"""A difference of loss, Dice or cross-entropy that counts 1: rows that mean different things are about as far apart."""

OTHER_GRADIENTS = 1.5
"""What another verdict on the gradients counts."""

NEAR = 1.0
"""A run resembles a row up to this distance."""


@dataclass(frozen=True, slots=True)
class Resemblance:
    """The nearest row, and how far the run is from it: 0 is the same, up to `NEAR` is alike."""

    row: Row
    distance: float


def nearest_row(view: RunView) -> Resemblance | None:
    """The row that the last epochs resemble; None where none is near, or the loss is another one."""
    weights = (view.option("bce_weight", 0.5), view.option("dice_weight", 0.5))
    if view.option("loss", "dice_bce") != "dice_bce" or not view.epochs or weights[0] != weights[1]:
        return None
    found = min((Resemblance(row, _distance(row, view)) for row in MATRIX), key=lambda one: one.distance)
    return found if found.distance <= NEAR else None


def _distance(row: Row, view: RunView) -> float:
    """Root mean square of the differences in units of `SCALE`, over what the row speaks of."""
    last = view.epochs[-RECENT:]
    differences = [
        (view.loss_now / _weight(view) - row.loss) / SCALE,
        (fmean(epoch.val_dice for epoch in last) - row.dice) / SCALE,
    ]
    if row.bce is not None:
        differences.append((fmean(epoch.loss_components["bce"] for epoch in last) - row.bce) / SCALE)
    norms = view.gradient_norms
    if row.gradients is not None and norms:
        differences.append(0.0 if gradient_verdict(norms) == row.gradients else OTHER_GRADIENTS)
    if row.few_scans is not None and row.few_scans != (view.facts.train_scans < 50):
        return math.inf
    return math.sqrt(fmean(difference**2 for difference in differences))


def _weight(view: RunView) -> float:
    """The matrix was made with weights that sum to 1."""
    return float(view.option("bce_weight", 0.5)) + float(view.option("dice_weight", 0.5))
