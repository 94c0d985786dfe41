from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.service.run_doctor import (
    Watched,
    divergence_in,
    facts_of,
    record_of,
    severities_of,
    shares_of,
    since_treatment,
    start_since,
)
from octa_backend.training.events import EpochFinished, FindingNoticed, RunTreated, StartChecked, StepFinished
from octa_backend.training.treatment import Treatment
from tests.diagnosis import histories

PLAN = {
    "config": {"batch_size": 2, "accumulation_steps": 3},
    "classes": 2,
    "patches_per_scan": 4,
    "fingerprint": {"training_scans": 10, "validation_scans": 3, "foreground_fraction": 0.1},
    "estimate": {"parameters": 68_000},
}


def reports(history):
    """Epochs as the trainer tells them."""
    for record in history.epochs:
        rest = {"val_iou": 0.5, "seconds": 1.0, "scans_per_second": 2.0, "peak_memory_mb": 1.0}
        told = {**asdict(record), "gradient_norms": record.signals.gradient_norms, "gradient_verdict": "healthy"}
        yield EpochFinished(**told, **rest)


def watched(history, **options):
    told = []
    doctor = Watched(told.append, history.facts, history.epochs_planned, **options)
    for report in reports(history):
        doctor(report)
    return told


def test_facts_are_those_of_the_plan():
    facts = facts_of(PLAN, {"few_scans": "warning"})
    assert (facts.train_scans, facts.val_scans, facts.parameters) == (10, 3, 68_000)
    assert facts.steps_per_epoch == 7  # 40 patches, 6 a step
    assert facts.data_findings == {"few_scans": "warning"}


def test_gravest_severity_of_a_code_counts():
    found = [Finding("a", Severity.WARNING), Finding("a", Severity.ERROR), Finding("b", Severity.INFO)]
    assert severities_of(found) == {"a": "error", "b": "info"}


def test_share_of_the_scans_is_that_of_the_count():
    found = [Finding("a", Severity.WARNING, {"count": 3}), Finding("b", Severity.INFO, {"total": 4})]
    assert shares_of(found, 12) == {"a": 0.25}
    assert shares_of([Finding("a", Severity.WARNING, {"count": 3})], 2) == {"a": 1.0}
    assert facts_of(PLAN, {"a": "warning"}, shares_of(found, 12)).data_shares == {"a": 0.25}


def test_an_epoch_survives_its_way_through_rows():
    history = histories.run(np.random.default_rng(0), epochs=12)
    assert [record_of(asdict(report)) for report in reports(history)] == list(history.epochs)


def test_every_epoch_gets_a_plateau_and_a_healthy_run_no_finding():
    told = watched(histories.run(np.random.default_rng(0), epochs=20))
    assert [event.plateau["verdict"] for event in told if isinstance(event, EpochFinished)][-1] in ("flat", "improving")
    assert not [event for event in told if isinstance(event, FindingNoticed)]


def test_what_is_no_epoch_passes_as_it_is():
    told = []
    step = StepFinished(1, 1, 2, 0.5, {"bce": 0.5}, 1e-3, {})
    Watched(told.append, facts_of(PLAN, {}), 5)(step)
    assert told == [step]


def test_what_was_tried_first_is_passed_on_and_told_at_once_and_once():
    history = histories.first_epochs(histories.run(np.random.default_rng(0), epochs=20), 3)
    told = []
    doctor = Watched(told.append, history.facts, 20)
    checks = StartChecks(overfit_dice=0.1, overfit_steps=100, initial_loss=3.0, expected_initial_loss=0.7)
    for event in (StartChecked(checks), *reports(history)):
        doctor(event)
    assert told[0] == StartChecked(checks)
    assert [event.finding.code for event in told[1:3]] == ["one_batch_not_learnt", "initial_loss_off"]
    assert [type(event) for event in told[3:]] == [EpochFinished] * 3


@pytest.fixture
def too_low():
    """A run whose learning rate is a thousandth of what it needs."""
    return histories.lr_too_low(np.random.default_rng(0))


def test_a_suspicion_is_told_once_after_the_second_epoch_that_raises_it(too_low):
    codes = [event.finding.code for event in watched(too_low) if isinstance(event, FindingNoticed)]
    assert codes.count("lr_too_low") == 1


def test_what_an_earlier_attempt_told_is_not_told_again(too_low):
    told = watched(too_low, told=["lr_too_low"])
    assert "lr_too_low" not in [event.finding.code for event in told if isinstance(event, FindingNoticed)]


# --- advice, and what becomes of the epochs -------------------------------------------------------------------------

DIVERGED = FindingNoticed(
    Finding("loss_not_finite", Severity.ERROR, {"what": "bce", "epoch": 15, "lr": 0.01, "confidence": 1.0}, epoch=15)
)


def treated_after(after, lr):
    changes = {"lr": (2e-6, lr), "epochs": (40, after + 40)}
    treatment = Treatment(
        cause="lr_too_low", remedy="raise_lr", after=after, changes=changes, from_checkpoint=True, restarts=True
    )
    plan = {**PLAN, "config": {**PLAN["config"], "lr": lr, "epochs": after + 40}}
    plan["treatments"] = [treatment.model_dump(mode="json")]
    return RunTreated(after, plan, Finding("treated_further", Severity.WARNING))


def test_the_verdict_is_advised_once_two_epochs_in_a_row_raise_it(too_low):
    doctor = Watched(lambda _event: None, too_low.facts, too_low.epochs_planned)
    advised = []
    for report in reports(too_low):
        doctor(report)
        advised.append(doctor.advise())
    first = next(index for index, finding in enumerate(advised) if finding is not None)
    assert first >= 1
    assert (advised[first].code, advised[first].remedy.code) == ("lr_too_low", "raise_lr")


def test_nothing_is_advised_for_a_healthy_run():
    history = histories.run(np.random.default_rng(0), epochs=20)
    doctor = Watched(lambda _event: None, history.facts, history.epochs_planned)
    for report in reports(history):
        doctor(report)
        assert doctor.advise() is None


def test_a_divergence_that_going_back_did_not_mend_is_advised_about():
    history = histories.run(np.random.default_rng(0), epochs=14)
    told = []
    doctor = Watched(told.append, history.facts, history.epochs_planned)
    for report in reports(history):
        doctor(report)
    doctor(DIVERGED)
    assert told[-1] == DIVERGED
    assert (doctor.advise().code, doctor.advise().remedy.code) == ("loss_not_finite", "lower_lr")


def test_a_run_that_begins_anew_is_judged_by_its_own_epochs(too_low):
    told = []
    doctor = Watched(told.append, too_low.facts, too_low.epochs_planned)
    for report in reports(too_low):
        doctor(report)
    last = too_low.epochs[-1].epoch
    doctor(treated_after(last, 0.01))
    assert doctor.advise() is None
    healthy = histories.run(np.random.default_rng(0), epochs=12)
    for report in reports(healthy):
        doctor(replace(report, epoch=last + report.epoch))
        assert doctor.advise() is None
    assert told[-1].plateau["last_losses"] == [epoch.train_loss for epoch in healthy.epochs[-5:]]


def test_epochs_before_a_treatment_that_begins_anew_are_left_out():
    history = histories.run(np.random.default_rng(0), epochs=12)
    kept = since_treatment(treated_after(5, 0.01).plan, history.epochs)
    assert [record.epoch for record in kept] == list(range(6, 13))
    assert since_treatment(PLAN, history.epochs) == history.epochs


def test_a_divergence_counts_until_it_is_treated():
    diverged = {"code": "loss_not_finite", "evidence": {"what": "bce", "epoch": 3, "lr": 0.3}}
    assert divergence_in([{"code": "went_back"}, diverged]) == (("bce", 3), 0.3)
    assert divergence_in([diverged, {"code": "treated_anew"}]) == (None, None)
    assert divergence_in([]) == (None, None)


def test_a_divergence_is_past_once_its_epoch_is_finished():
    diverged = {"code": "loss_not_finite", "evidence": {"what": "bce", "epoch": 3, "lr": 0.3}}
    assert divergence_in([diverged], finished=2) == (("bce", 3), 0.3)
    assert divergence_in([diverged], finished=3) == (None, None)


def test_what_was_tried_first_holds_while_only_the_rate_and_the_augmentation_were_treated():
    start = StartChecks(lr=0.001, lr_found=0.003)
    plan = treated_after(5, 0.01).plan
    assert start_since(plan, start) == start
    plan["treatments"][0]["changes"]["augmentation"] = ("standard", "strong")
    assert start_since(plan, start) == start
    plan["treatments"][0]["changes"]["model"] = ("tiny_unet", "unet")
    assert start_since(plan, start) == StartChecks()
