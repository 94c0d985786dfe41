"""Epochs of few steps are looked at together: what counts is how many steps there were, not what they are called."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from octa_backend.diagnosis.curves import Shape
from octa_backend.diagnosis.doctor import RunState, examine_run, plateau_report
from octa_backend.diagnosis.run_view import RunView, merged
from tests.diagnosis.histories import altered, facts, first_epochs, run


def a_run(epochs=60, **options):
    return run(np.random.default_rng(0), epochs=epochs, **options)


def swinging(steps_per_epoch, epochs=60, lost=0.15):
    """A run at its limit whose epochs' losses swing by half, as means of very few scans do.

    Args:
        lost: validation Dice that the last ten epochs have lost.
    """
    numbers = iter(np.random.default_rng(1).uniform(0.12, 0.36, epochs))
    made = a_run(epochs, steps_per_epoch=steps_per_epoch, scheduler="constant", train_scans=20)

    def swing(record):
        score = record.val_dice - (lost if record.epoch > epochs - 10 else 0)
        return {"train_loss": float(next(numbers)), "val_dice": score}

    return altered(made, swing)


@pytest.mark.parametrize(("steps", "at_once"), [(1, 10), (3, 4), (6, 2), (9, 2), (10, 1), (43, 1)])
def test_as_many_epochs_as_have_ten_steps_are_one(steps, at_once):
    assert RunView(a_run(steps_per_epoch=steps)).at_once == at_once


def test_merged_epochs_have_their_mean_losses_and_the_rest_of_the_last():
    epochs = a_run(10).epochs
    first, second, third = merged(epochs, 4)
    assert (first.epoch, second.epoch, third.epoch) == (2, 6, 10)
    assert second.train_loss == pytest.approx(np.mean([one.train_loss for one in epochs[2:6]]))
    dice = [one.loss_components["dice"] for one in epochs[2:6]]
    assert second.loss_components["dice"] == pytest.approx(np.mean(dice))
    assert (second.val_dice, second.lr) == (epochs[5].val_dice, epochs[5].lr)


def test_the_best_dice_is_that_of_all_epochs_also_where_they_are_merged():
    made = a_run(30, steps_per_epoch=3, pace=0.05)
    history = altered(made, lambda one: {"val_dice": 0.95} if one.epoch == 17 else {})
    assert 17 not in [epoch.epoch for epoch in RunView(history).epochs]
    assert RunView(history).skill == pytest.approx((0.95 - 0.2301) / (1 - 0.2301), abs=1e-3)
    assert examine_run(history).verdict.evidence["best_dice"] == 0.95
    assert RunView(first_epochs(history, 0)).best_dice == 0.0


def test_epochs_of_enough_steps_stay_as_they_are():
    epochs = a_run(10).epochs
    assert merged(epochs, 1) == epochs
    assert merged((), 4) == ()


@pytest.mark.parametrize(
    ("frequency", "validated"),
    [(1, [4, 8, 12, 16, 20]), (4, [4, 8, 12, 16, 20]), (8, [4, 8, 16, 20]), (9, [4, 12, 20])],
)
def test_merged_epochs_count_as_validated_where_one_of_them_was(frequency, validated):
    view = RunView(a_run(20, steps_per_epoch=3, val_freq=frequency))
    assert [one.epoch for one in view.validated] == validated


def test_swinging_losses_of_tiny_epochs_are_no_rate_too_high():
    tiny, usual = (examine_run(swinging(steps)) for steps in (3, 43))
    assert usual.verdict.code == "lr_too_high"
    assert "lr_too_high" not in [finding.code for finding in tiny.findings]


def test_swinging_losses_are_no_rate_too_high_while_the_validation_keeps_what_it_had():
    assert examine_run(swinging(43, lost=0)).state is not RunState.FAULT


def test_tiny_epochs_are_too_few_for_a_verdict_until_their_steps_are_enough():
    found = examine_run(first_epochs(a_run(steps_per_epoch=3), 16))
    assert found.state is RunState.TOO_EARLY
    assert (found.verdict.evidence["epochs"], found.verdict.evidence["awaited"]) == (16, 20)
    assert examine_run(first_epochs(a_run(steps_per_epoch=3), 20)).state is not RunState.TOO_EARLY


def test_outlook_of_tiny_epochs_is_told_in_epochs():
    begun = (first_epochs(a_run(80, steps_per_epoch=steps, pace=0.3), 40) for steps in (43, 3))
    usual, tiny = (examine_run(history).outlook for history in begun)
    assert tiny.epochs_to_plateau == pytest.approx(usual.epochs_to_plateau, rel=0.3)
    assert tiny.epochs_to_plateau % 4 == 0


def test_classic_rule_sees_every_epoch():
    history = a_run(30, steps_per_epoch=3)
    assert plateau_report(RunView(history))["last_losses"] == [one.train_loss for one in history.epochs[-5:]]


def test_answering_one_sidedly_at_the_beginning_of_a_long_run_is_no_collapse_while_the_loss_falls():
    """Numbers of a run of five scans for 834 epochs: a warm-up of 250 of them, all called foreground for 15."""
    losses = np.linspace(0.88, 0.76, 40)
    dice = np.concatenate([np.full(30, 0.141), np.linspace(0.16, 0.32, 10)])
    made = first_epochs(a_run(834, train_scans=20, foreground_fraction=0.067, steps_per_epoch=10), 40)
    numbers = iter(zip(losses, dice, strict=True))

    def one_sided(record):
        loss, score = next(numbers)
        signals = replace(record.signals, predicted_foreground=0.45, true_foreground=0.067)
        scores = {"val_dice": score, "val_precision": score / 2, "val_recall": 0.99}
        return {"train_loss": loss, "val_loss": loss, "signals": signals, **scores}

    begun = altered(made, one_sided)
    assert RunView(begun).dice_rises
    assert RunView(begun).shape is Shape.IMPROVING
    assert "collapse_to_foreground" not in [finding.code for finding in examine_run(begun).findings]
    late = replace(begun, epochs_planned=60)
    assert "collapse_to_foreground" in [finding.code for finding in examine_run(late).findings]


def test_progress_of_a_run_that_began_anew_counts_from_there():
    history = a_run(40)
    assert RunView(first_epochs(history, 10)).progress == 0.25
    later = replace(history, epochs=history.epochs[20:30])
    assert RunView(later).progress == 0.5
    assert RunView(replace(history, epochs=(), facts=facts())).progress == 0


@pytest.mark.parametrize("steps", [3, 43])
def test_epochs_of_another_loss_than_the_present_one_are_left_out(steps):
    made = a_run(30, steps_per_epoch=steps)  # with dice_bce at the end
    resumed = altered(made, lambda one: {"loss_components": {"focal": 0.2, "dice": 0.3}} if one.epoch <= 20 else {})
    view = RunView(resumed)
    assert [one.epoch for one in view.every] == list(range(21, 31))
    assert set(view.epochs[0].loss_components) == {"bce", "dice"}
    examine_run(resumed)
    assert plateau_report(view)["last_losses"] == [one.train_loss for one in made.epochs[-5:]]
