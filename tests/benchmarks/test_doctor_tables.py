"""Recall, false alarms and precision of the training doctor, worked out by hand."""

from __future__ import annotations

from doctor_tables import aims_table, fault_table, healthy_table, is_soon, precision_table
from judged_runs import Runs

from tests.benchmarks.judged import a_run
from tests.benchmarks.records import cells


def low(seed, **said):
    """A learning rate that is too low, and hurts."""
    return a_run("lr_/100", dice=0.5, seed=seed, **said)


def clean(*seeds, **said):
    return [a_run("clean", seed=seed, **said) for seed in seeds]


NAMED = {"told": {"lr_too_low": 6}, "verdict": "lr_too_low"}


def test_a_cause_that_was_told_counts_as_found_and_one_that_is_the_verdict_as_first():
    late = low(1, told={"lr_too_low": 10, "labels_noisy": 4}, verdict="labels_noisy")
    shown = cells(fault_table(Runs([*clean(0, 1, 2), low(0, **NAMED), late, low(2)])), 0)
    assert (shown["Told, tuned"], shown["told, held out"]) == ("1 of 1", "1 of 2")
    assert (shown["First, tuned"], shown["first, held out"]) == ("1 of 1", "0 of 2")
    assert shown["Hurts in"] == "3 of 3"
    assert (shown["Epochs until told"], shown["Share of the run"]) == ("8", "40%")
    assert shown["Said instead"] == "`labels_noisy` 1, `no fault` 1"


def test_a_fault_that_costs_nothing_is_not_missed_where_no_fault_is_said():
    harmless = a_run("lr_/100", dice=0.79)
    shown = cells(fault_table(Runs([*clean(0), harmless])), 0)
    assert (shown["Hurts in"], shown["Told, tuned"], shown["Said instead"]) == ("0 of 1", "–", "–")
    wrong = a_run("lr_/100", dice=0.79, told={"overfitting": 9}, verdict="overfitting")
    assert cells(fault_table(Runs([*clean(0), wrong])), 0)["Said instead"] == "`overfitting` 1"


def test_a_run_that_ended_hurts_whatever_its_dice():
    ended = a_run("lr_x30", dice=0.9, diverged=True, told={"loss_not_finite": 3}, verdict="loss_not_finite")
    assert cells(fault_table(Runs([*clean(0), ended])), 0)["Hurts in"] == "1 of 1"


def test_what_the_checks_of_the_data_said_stands_beside_the_case():
    found = a_run("masks_inverted", dice=0.4, findings=("masks_inverted",))
    shown = cells(fault_table(Runs([*clean(0), found])), 0)
    assert shown["Data findings"] == "`masks_inverted` 1"


def test_faults_without_a_clean_run_are_left_out():
    assert fault_table(Runs([low(0, **NAMED)])).count("\n") == 1


def test_any_finding_told_of_a_healthy_run_is_a_false_alarm():
    alarm = a_run("healthy_60", told={"overfitting": 30})
    shown = healthy_table(Runs([*clean(0, 1), alarm]))
    assert list(cells(shown, 0).values()) == ["clean", "0 of 2", "–"]
    assert list(cells(shown, 1).values()) == ["healthy_60", "1 of 1", "`overfitting` 1"]
    assert list(cells(shown, 2).values()) == ["all", "1 of 3", "`overfitting` 1"]


def test_precision_is_the_share_of_the_runs_with_a_finding_that_have_its_cause():
    wrong = a_run("masks_shuffled", dice=0.1, told={"lr_too_low": 7, "masks_unpredictable": 9}, verdict="lr_too_low")
    shown = precision_table(Runs([*clean(0), low(0, **NAMED), wrong]))
    assert list(cells(shown, 0).values()) == ["`lr_too_low`", "1 of 2", "0.50", "1 of 2", "0.50"]
    assert list(cells(shown, 1).values()) == ["`masks_unpredictable`", "1 of 1", "1.00", "–", "–"]


def test_aims_are_counted_over_faults_that_hurt():
    found = [low(0, **NAMED), low(1, told={"lr_too_low": 12}), low(2)]
    shown = aims_table(Runs([*clean(0, 1, 2), *found]))
    assert [list(cells(shown, row).values())[2:] for row in range(4)] == [
        ["0.67 (2 of 3)", "0.50 (1 of 2)"],
        ["0.33 (1 of 3)", "0.00 (0 of 2)"],
        ["0.50 (1 of 2)", "0.00 (0 of 1)"],
        ["0.00 (0 of 3)", "–"],
    ]


def test_ten_epochs_or_a_fifth_of_the_run_are_soon():
    assert is_soon(low(0, told={"lr_too_low": 10}))
    assert not is_soon(low(0, told={"lr_too_low": 11}))
    assert not is_soon(low(0))
