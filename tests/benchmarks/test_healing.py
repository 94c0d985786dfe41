"""Which remedies are applied one after the other, and what share of a gap they win back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from healing import auto_job, auto_jobs, harm_table, healing_table, next_job, treatments
from judged_runs import Runs

from tests.benchmarks.judged import a_job, a_run
from tests.benchmarks.records import cells

CLEAN = a_run("clean", dice=0.8)


def faulty(dice=0.4, remedy="raise_lr"):
    return a_run("lr_/100", dice=dice, verdict="lr_too_low", remedy=remedy)


def treated(*runs):
    (found,) = treatments(Runs([CLEAN, *runs]))
    return found


def test_the_verdicts_remedy_is_applied_and_then_that_of_the_childs():
    assert next_job(treated(faulty())) == a_job("lr_/100", "raise_lr")
    child = a_run("lr_/100", "raise_lr", dice=0.6, verdict="lr_too_high", remedy="lower_lr")
    assert next_job(treated(faulty(), child)) == a_job("lr_/100", "raise_lr", "lower_lr")


def test_a_child_of_a_remedy_that_is_no_longer_proposed_is_left_out():
    child = a_run("lr_/100", "lower_lr", dice=0.8)
    assert len(treated(faulty(), child).runs) == 1


@pytest.mark.parametrize(
    "runs",
    [
        [faulty(dice=0.79)],
        [faulty(remedy=None)],
        [faulty(), a_run("lr_/100", "raise_lr", dice=0.785, verdict="overfitting", remedy="augment_more")],
    ],
    ids=["no gap", "no remedy", "healed"],
)
def test_nothing_is_applied_where_nothing_is_to_be_won(runs):
    assert next_job(treated(*runs)) is None


def test_at_most_three_remedies_are_applied():
    names = ["raise_lr"] * 3
    children = [a_run("lr_/100", *names[:count], dice=0.5, remedy="raise_lr") for count in (1, 2, 3)]
    assert next_job(treated(faulty(), *children)) is None


def test_the_share_of_the_gap_is_counted_for_the_first_and_the_last_remedy():
    child = a_run("lr_/100", "raise_lr", dice=0.6, remedy="lower_lr")
    grandchild = a_run("lr_/100", "raise_lr", "lower_lr", dice=0.8)
    found = treated(faulty(), child, grandchild)
    assert (found.regained(1), found.regained(3)) == pytest.approx((0.5, 1.0))
    assert found.is_healed


def test_the_table_tells_mean_and_worst_over_the_runs_with_a_gap():
    runs = [CLEAN, a_run("clean", dice=0.8, seed=1), a_run("clean", dice=0.8, seed=2)]
    runs += [faulty(), a_run("lr_/100", "raise_lr", dice=0.8)]
    runs += [a_run("lr_/100", dice=0.6, seed=1), a_run("lr_/100", dice=0.79, seed=2)]
    shown = list(cells(healing_table(Runs(runs)), 0).values())
    assert shown[:3] == ["lr_/100", "`raise_lr` 1, `none` 1", "2 of 3"]
    assert shown[3:7] == ["0.500", "0.700", "0.700", "0.800"]
    assert shown[7:] == ["50%", "0%", "50%", "0%", "1 of 2", "1.0", "–", "–", "–"]


def test_a_case_that_costs_nothing_is_marked():
    shown = list(cells(healing_table(Runs([CLEAN, faulty(dice=0.79)])), 0).values())
    assert shown[2:4] == ["0 of 1", "no gap"]


# --- runs that heal themselves --------------------------------------------------------------------------------------

ALARMED = a_run("healthy_6", dice=0.7, told={"overfitting": 4})


def by_itself(run, dice):
    return replace(run, job=auto_job(run), dice=dice)


def test_faults_that_cost_dice_and_false_alarms_are_run_again_with_auto_heal():
    runs = Runs([CLEAN, ALARMED, a_run("healthy_8_cosine"), faulty(), a_run("lr_/1000", dice=0.79)])
    assert auto_jobs(runs) == [auto_job(faulty()), auto_job(ALARMED)]


def test_an_emulated_fp16_cannot_be_left_by_the_run_itself():
    assert auto_jobs(Runs([CLEAN, a_run("fp16_overflow", dice=0.1)])) == []


def test_what_a_run_won_back_by_itself_stands_beside_the_remedies():
    runs = [CLEAN, faulty(), a_run("lr_/100", "raise_lr", dice=0.8), by_itself(faulty(), 0.7)]
    shown = list(cells(healing_table(Runs(runs)), 0).values())
    assert shown[-3:] == ["0.700", "75%", "75%"]


def test_harm_is_counted_over_all_runs_that_healed_themselves():
    runs = Runs([CLEAN, ALARMED, by_itself(ALARMED, 0.65), faulty(), by_itself(faulty(), 0.7)])
    table = harm_table(runs)
    assert list(cells(table, 0).values()) == ["faults", "1", "0.300", "0.300", "0"]
    assert list(cells(table, 1).values()) == ["healthy runs with a false alarm", "1", "-0.050", "-0.050", "1"]


def test_a_run_that_waits_for_its_remedy_counts_in_no_mean():
    runs = [CLEAN, a_run("clean", dice=0.8, seed=1), faulty(), a_run("lr_/100", "raise_lr", dice=0.8)]
    runs.append(a_run("lr_/100", dice=0.3, seed=1, verdict="lr_too_low", remedy="raise_lr"))
    shown = cells(healing_table(Runs(runs)), 0)
    assert (shown["Gap in"], shown["Regained, first: mean"]) == ("2 of 2, 1 not treated yet", "100%")
