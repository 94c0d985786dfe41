"""A recorded run is looked at as the product looks at a run that goes on."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from judged_runs import judge

from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.service.run_doctor import Watched
from octa_backend.training.events import EpochFinished, FindingNoticed
from tests.diagnosis.histories import FAULTS, healthy, planted, run


def told_by_the_product(history):
    """Code -> epoch, as `Watched` tells them."""
    told, now = {}, 0

    def emit(event):
        if isinstance(event, FindingNoticed):
            told[event.finding.code] = now

    watched = Watched(emit, history.facts, history.epochs_planned)
    for now, record in enumerate(history.epochs, start=1):  # noqa: B007 - `emit` reads it
        watched(an_event(record))
    return told


def an_event(record):
    rest = {"val_iou": 0.0, "seconds": 1.0, "scans_per_second": 1.0, "peak_memory_mb": 1.0}
    return EpochFinished(**asdict(record), **rest, gradient_norms={}, gradient_verdict="healthy")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_findings_are_told_in_the_same_epochs_as_by_the_product(fault):
    history, _ = planted(fault, 5)
    plain = replace(history, start=StartChecks(), non_finite=None)
    assert judge(plain).told == told_by_the_product(plain)


def test_nothing_is_said_of_a_healthy_run():
    found = judge(healthy(1003))
    assert (found.told, found.verdict, found.remedy) == ({}, None, None)


def test_a_loss_that_is_not_finite_is_told_in_its_epoch():
    made = run(np.random.default_rng(0), epochs=10)
    found = judge(replace(made, epochs=made.epochs[:4], non_finite=("bce", 5)))
    assert found.told["loss_not_finite"] == 5
    assert (found.verdict, found.remedy.code) == ("loss_not_finite", "lower_lr")
    assert found.val_dice == max(epoch.val_dice for epoch in made.epochs[:4])


def test_an_error_of_the_start_checks_is_told_before_the_first_epoch():
    made = run(np.random.default_rng(0), epochs=10)
    found = judge(replace(made, epochs=(), start=StartChecks(overfit_dice=0.1, overfit_steps=100)))
    assert found.told == {"one_batch_not_learnt": 0}
