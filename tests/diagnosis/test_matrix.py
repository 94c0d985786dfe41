from __future__ import annotations

import numpy as np
import pytest

from octa_backend.diagnosis.matrix import MATRIX, nearest_row
from octa_backend.diagnosis.messages import MESSAGES
from octa_backend.diagnosis.run_view import RunView
from octa_backend.diagnosis.training import gradient_verdict
from octa_backend.training.events import GRADIENT_GROUPS
from tests.diagnosis.histories import altered, blind, run

NORMS = {"healthy": (0.05, 0.01, 0.02, 0.1), "mild_vanishing": (0.005, 0.01, 0.02, 0.1), "vanishing": (1e-5,) * 4}


def a_run_like(row, **options):
    norms = dict(zip(GRADIENT_GROUPS, NORMS[row.gradients or "healthy"], strict=True))
    assert gradient_verdict(norms) == (row.gradients or "healthy")
    scans = 20 if row.few_scans else 85
    given = lambda *_: {"gradient_norms": norms}  # noqa: E731
    made = run(np.random.default_rng(0), epochs=6, given=given, train_scans=scans, **options)
    parts = {"bce": 0.6 if row.bce is None else row.bce, "dice": 0.9}
    return altered(made, lambda _: {"train_loss": row.loss, "val_dice": row.dice, "loss_components": parts})


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row.name)
def test_a_run_like_a_row_resembles_it(row):
    found = nearest_row(RunView(a_run_like(row)))
    assert (found.row, found.distance) == (row, pytest.approx(0))


def test_weights_that_sum_to_two_are_the_same_picture():
    row = MATRIX[0]
    made = altered(a_run_like(row, bce_weight=1, dice_weight=1), lambda _: {"train_loss": 2 * row.loss})
    assert nearest_row(RunView(made)).row == row


def test_what_is_far_from_all_rows_resembles_none():
    made = altered(a_run_like(MATRIX[0]), lambda _: {"train_loss": 5.0})
    assert nearest_row(RunView(made)) is None


@pytest.mark.parametrize("options", [{"loss": "dice"}, {"bce_weight": 0.9}])
def test_other_losses_are_not_compared(options):
    assert nearest_row(RunView(a_run_like(MATRIX[0], **options))) is None


def test_a_run_without_signals_is_compared_by_its_losses():
    assert nearest_row(RunView(blind(a_run_like(MATRIX[0])))).distance < 0.5


def test_rows_speak_for_findings_that_there_are():
    assert all(row.code is None or row.code in MESSAGES for row in MATRIX)
