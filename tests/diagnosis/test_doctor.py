"""Recall on planted faults and false alarms on healthy runs. Thresholds were chosen with seeds below `HELD_OUT`."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from octa_backend.diagnosis.doctor import CHECKS, RunState, examine_run, first_cause, plateau_report
from octa_backend.diagnosis.findings import Severity
from octa_backend.diagnosis.messages import describe
from octa_backend.diagnosis.run_history import RunHistory
from octa_backend.diagnosis.run_view import RunView, Suspicion
from octa_backend.training.config import TrainConfig
from tests.diagnosis import histories
from tests.diagnosis.histories import FAULTS, altered, blind, first_epochs, healthy, planted, run

HELD_OUT = 1000
SEEDS = range(HELD_OUT, HELD_OUT + 3)

DATASET_REMEDIES = {"invert_masks", "binarize_masks", "map_colours", "drop_unusable"}


def alarms(diagnosis):
    return [found.code for found in diagnosis.findings if found.severity is not Severity.INFO]


def test_planted_faults_are_named():
    found = Counter(
        (fault.__name__, examine_run(history).verdict.code == code)
        for fault in FAULTS
        for history, code in (planted(fault, seed) for seed in SEEDS)
    )
    named = sum(count for (_, right), count in found.items() if right)
    assert named / found.total() >= 0.95, found
    assert all(found[fault.__name__, True] >= 0.6 * len(SEEDS) for fault in FAULTS), found


@pytest.mark.parametrize("seed", range(HELD_OUT, HELD_OUT + 40))
def test_healthy_runs_raise_no_alarm_at_any_time(seed):
    history = healthy(seed)
    epochs = len(history.epochs)
    for count in sorted({1, 3, 4, 6, epochs // 2, epochs}):
        assert alarms(examine_run(first_epochs(history, count))) == []


def test_recorded_healthy_run_raises_no_alarm():
    """The numbers of a run of `unet_transformer` on OCTA vessels, as far as they were written down."""
    rng = np.random.default_rng(0)
    losses = (0.41, 0.31, 0.27, 0.2475, 0.183, 0.161)
    dice = (0.80, 0.86, 0.87, 0.881, 0.892, 0.897)
    made = first_epochs(run(rng, epochs=12, scheduler="onecycle"), len(losses))
    own = iter(zip(losses, dice, strict=True))
    history = blind(altered(made, lambda _: dict(zip(("train_loss", "val_dice"), next(own), strict=True))))
    for count in range(1, 7):
        assert alarms(examine_run(first_epochs(history, count))) == []
    assert examine_run(history).state is RunState.STILL_LEARNING


def test_plateau_after_a_good_run_is_converged_not_stuck():
    made = run(np.random.default_rng(3), epochs=60, noise=0.005, pace=0.06, dice=(0.2, 0.9), scheduler="constant")
    found = examine_run(made)
    assert found.state is RunState.CONVERGED
    assert (found.verdict.severity, found.verdict.evidence["confidence"] >= 0.5) == (Severity.INFO, True)


def test_stuck_run_that_no_cause_explains_is_said_to_be_unexplained():
    made = run(np.random.default_rng(3), epochs=30, first=0.6, limit=0.55, noise=0.005, dice=(0.2, 0.42), loss="iou")
    found = examine_run(blind(made))
    assert (found.state, found.verdict.severity) == (RunState.STUCK_UNEXPLAINED, Severity.WARNING)
    assert found.not_judged != ()


def test_flat_beginning_is_not_called_stuck_before_ten_epochs():
    made = blind(
        run(
            np.random.default_rng(3),
            epochs=30,
            first=0.6,
            limit=0.59,
            noise=0.001,
            dice=(0.3, 0.42),
            scheduler="constant",
        )
    )
    states = [examine_run(first_epochs(made, count)).state for count in (9, 10)]
    assert states == [RunState.TOO_EARLY, RunState.STUCK_UNEXPLAINED]


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_epochs_are_no_verdict_and_say_what_is_awaited(count):
    found = examine_run(first_epochs(healthy(3), count))
    assert found.state is RunState.TOO_EARLY
    assert (found.verdict.evidence["epochs"], found.verdict.evidence["awaited"]) == (count, 5)


def test_run_that_ended_in_its_first_epoch_has_a_verdict():
    history = replace(first_epochs(healthy(1), 0), non_finite=("dice", 1))
    assert examine_run(history).verdict.code == "loss_not_finite"


def test_epochs_without_a_finite_loss_are_left_out():
    history = healthy(5)
    broken = replace(history, epochs=(*history.epochs, replace(history.epochs[-1], train_loss=math.nan)))
    assert alarms(examine_run(broken)) == []


@pytest.mark.parametrize(
    ("confidences", "expected"),
    [((0.6, 0.8), "first"), ((0.55, 0.95), "second"), ((0.9, 0.5), "first"), ((), None)],
)
def test_surer_later_cause_outranks_a_doubtful_earlier_one(confidences, expected):
    causes = [Suspicion(code, sure, {}) for code, sure in zip(("first", "second"), confidences, strict=False)]
    found = first_cause(causes)
    assert (found and found.code) == expected


def test_a_cause_comes_before_what_it_causes():
    order = [check.code for check in CHECKS]
    named = ("data_at_fault", "loss_not_finite", "layers_frozen", "lr_too_low", "lr_too_high", "collapse_to_background")
    places = [order.index(code) for code in (*named, "batch_too_noisy", "overfitting")]
    assert places == sorted(places)


def test_slow_data_loading_is_told_but_is_no_verdict():
    waits = lambda *_: {"data_seconds": 7.0, "step_seconds": 10.0}  # noqa: E731
    found = examine_run(run(np.random.default_rng(0), epochs=20, given=waits))
    assert [other.code for other in found.others] == ["data_loading_slow"]
    assert found.state is not RunState.FAULT


def test_every_check_is_told_ruled_out_doubtful_or_not_judged():
    history, _ = planted(histories.lr_too_low, HELD_OUT)
    found = examine_run(history)
    told = {one.code for one in found.findings}
    groups = (told, set(found.ruled_out), set(found.doubtful), set(found.not_judged))
    assert sum(len(group) for group in groups) == len(CHECKS)
    assert set().union(*groups) == {check.code for check in CHECKS}


@pytest.mark.parametrize("fault", FAULTS)
def test_findings_read_in_both_languages_and_remedies_fit_the_config(fault):
    history, _ = planted(fault, HELD_OUT)
    for found in examine_run(history).findings:
        assert 0 <= found.evidence["confidence"] <= 1
        for language in ("en", "zh"):
            assert "None" not in describe(found, language)["message"]
        if found.remedy is not None and found.remedy.code not in DATASET_REMEDIES:
            TrainConfig(**{**history.facts.config, **found.remedy.changes})
            assert found.remedy.from_checkpoint is not None


def first_loss_of(initial, expected, **options):
    """What a run without epochs is said to have."""
    history = first_epochs(run(np.random.default_rng(0), epochs=5, **options), 0)
    found = examine_run(histories.with_start(history, initial_loss=initial, expected_initial_loss=expected))
    return [other.code for other in found.others], found


@pytest.mark.parametrize(("initial", "codes"), [(1.2, []), (0.3, []), (2.0, ["initial_loss_off"]), (None, [])])
def test_first_loss_far_above_theory_is_told_before_the_first_epoch_but_is_no_cause(initial, codes):
    told, found = first_loss_of(initial, 0.69)
    assert (told, found.state) == (codes, RunState.TOO_EARLY)


@pytest.mark.parametrize("options", [{"loss": "focal"}, {"pretrained": "m1"}])
def test_first_loss_is_not_judged_where_theory_says_nothing(options):
    told, found = first_loss_of(9.0, 0.69, **options)
    assert (told, "initial_loss_off" in found.not_judged) == ([], True)


@pytest.mark.parametrize(("lr", "judged"), [(1e-3, True), (1.5e-3, True), (0.1, False), (None, True)])
def test_trial_on_one_batch_counts_for_the_rate_that_it_was_made_at(lr, judged):
    history = run(np.random.default_rng(0), epochs=5, lr=1e-3)
    found = examine_run(histories.with_start(first_epochs(history, 0), overfit_dice=0.1, overfit_steps=100, lr=lr))
    assert (found.verdict.code == "one_batch_not_learnt") is judged


def test_batch_that_was_not_learnt_at_a_low_rate_gives_way_to_the_rate_where_no_range_test_was_made():
    tiny = lambda *_: {"update_ratios": {"encoder_conv1": 3e-5}}  # noqa: E731
    slow = run(np.random.default_rng(0), epochs=8, lr=1e-5, first=0.7, limit=0.69, dice=(0.1, 0.1), given=tiny)
    untimed = histories.with_start(slow, overfit_dice=0.1, overfit_steps=100, not_tried={"rates": "time"})
    assert examine_run(first_epochs(untimed, 2)).verdict.code == "one_batch_not_learnt"
    assert examine_run(untimed).verdict.code == "lr_too_low"


def test_plateau_report_has_the_classic_rule_and_the_shape():
    history = run(np.random.default_rng(0), epochs=11, first=0.5, limit=0.5, noise=0.0)
    found = plateau_report(RunView(history))
    assert found == {
        "last_losses": [0.5] * 5,
        "variance": 0.0,
        "improvement": 0.0,
        "is_due": True,
        "is_plateau": True,
        "verdict": "flat",
    }


def test_no_epochs_have_no_plateau_report():
    empty = RunHistory(histories.facts(epochs=10), (), 10)
    assert examine_run(empty).plateau is None


def test_collapse_beside_an_earlier_cause_is_its_consequence_and_has_no_remedy():
    history, _ = planted(histories.collapse_to_background, HELD_OUT)
    alone = examine_run(history)
    assert (alone.verdict.code, alone.verdict.remedy is None) == ("collapse_to_background", False)
    blamed = replace(history, facts=replace(history.facts, data_findings={"masks_inverted": "error"}))
    found = examine_run(blamed)
    symptom = next(other for other in found.others if other.code == "collapse_to_background")
    assert (found.verdict.code, symptom.severity, symptom.remedy) == ("data_at_fault", Severity.INFO, None)
    assert symptom.evidence["explained_by"] == "data_at_fault"


@pytest.mark.parametrize(
    ("severity", "share", "verdict"),
    [
        ("warning", 0.01, "lr_too_high"),
        ("warning", 0.2, "lr_too_high"),
        ("warning", 0.5, "data_at_fault"),
        ("error", 0.01, "data_at_fault"),
    ],
)
def test_a_warning_of_the_data_explains_a_run_only_where_it_is_about_many_scans(severity, share, verdict):
    history, _ = planted(histories.lr_too_high_unseen, HELD_OUT)
    named = {"data_findings": {"scans_blank": severity}, "data_shares": {"scans_blank": share}}
    found = examine_run(replace(history, facts=replace(history.facts, **named))).verdict
    assert found.code == verdict
    assert verdict != "data_at_fault" or found.evidence["findings"] == f"scans_blank ({severity}, {100 * share:g} %)"


def test_collapse_that_no_setting_asks_for_waits_for_masks_that_nothing_predicts():
    history, _ = planted(histories.collapse_to_background, HELD_OUT)
    config = {**history.facts.config, "pos_weight": None}
    unasked = replace(history, facts=replace(history.facts, config=config, foreground_fraction=0.05))
    for count, codes in ((8, ([], ["collapse_to_background"])), (10, (["collapse_to_background"],) * 2)):
        found = [alarms(examine_run(first_epochs(one, count))) for one in (unasked, history)]
        assert [[code for code in told if code == "collapse_to_background"] for told in found] == list(codes)
