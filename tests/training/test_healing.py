"""What a run does about a divergence, and about advice."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch

from octa_backend.diagnosis.findings import Finding, Remedy, Severity
from octa_backend.errors import TrainingDiverged
from octa_backend.training import healing, step, trainer
from octa_backend.training.checkpoint import Best, Checkpoints
from octa_backend.training.evaluation import Evaluated
from octa_backend.training.metrics import ScanScore
from octa_backend.training.stopping import Limits
from octa_backend.training.treatment import Treatment
from tests.tiny import a_plan
from tests.training.runs import Stopper, epochs, findings, numbers, steps, train, treatments

pytestmark = pytest.mark.usefixtures("tiny_registry")


OPTIONS = {"model": "normless", "epochs": 4, "scheduler": "constant", "lr": 0.01}


@pytest.fixture
def diverging(monkeypatch):
    """Let the loss become NaN wherever a condition holds for the learning rate and the number of steps so far."""

    def plant(condition):
        whole, count = step._require_finite, [0]

        def require(given):
            if "decoder_output" not in given:  # the components come first, once a step
                count[0] += 1
                if condition(plant.rate(), count[0]):
                    given = dict.fromkeys(given, float("nan"))
            whole(given)

        plain = step.Stepper.step
        rates = []

        def noted(self, batch, lr):
            rates.append(lr)
            return plain(self, batch, lr)

        plant.rate = lambda: rates[-1]
        monkeypatch.setattr(step.Stepper, "step", noted)
        monkeypatch.setattr(step, "_require_finite", require)

    return plant


def advice(code, cause="lr_too_low", from_checkpoint=True, **changes):
    return Finding(cause, Severity.WARNING, {"confidence": 0.9}, remedy=Remedy(code, changes, from_checkpoint))


def once_after(epoch, given):
    """Advice that is given after an epoch, by an `emit` that collects the events."""
    events, left = [], [given]

    def advise():
        told = epochs(events)
        return left.pop() if left and told and told[-1].epoch == epoch else None

    return events, advise


# --- a divergence ---------------------------------------------------------------------------------------------------


def test_run_that_diverges_goes_back_to_its_last_checkpoint_with_half_the_rate(tmp_path, data, diverging):
    diverging(lambda rate, count: rate > 0.006 and count == 6)  # the last step of epoch 3
    events, outcome = train(tmp_path, data, **OPTIONS)
    assert [epoch.epoch for epoch in epochs(events)] == [1, 2, 3, 4]
    assert {one.epoch: one.lr for one in steps(events)} == {1: 0.01, 2: 0.01, 3: 0.005, 4: 0.005}
    (told,) = treatments(events)
    assert (told.after, told.finding.code, told.finding.evidence["changes"]) == (2, "went_back", "lr 0.01 → 0.005")
    assert outcome.finished


def test_run_that_diverges_before_its_first_checkpoint_begins_anew(tmp_path, data, diverging):
    diverging(lambda rate, count: rate > 0.006 and count == 2)
    events, _ = train(tmp_path, data, **OPTIONS)
    half, _ = train(tmp_path / "half", data, **{**OPTIONS, "lr": 0.005})
    assert [numbers(epoch) for epoch in epochs(events)] == [numbers(epoch) for epoch in epochs(half)]


def test_run_that_still_diverges_after_three_times_ends_and_says_so(tmp_path, data, diverging):
    diverging(lambda _rate, count: count >= 5)
    events = []
    with pytest.raises(TrainingDiverged, match="bce"):
        train(tmp_path, data, emit=events.append, **OPTIONS)
    assert [told.finding.evidence["number"] for told in treatments(events)] == [1, 2, 3]
    assert findings(events)[-1].code == "loss_not_finite"
    assert findings(events)[-1].evidence["lr"] == 0.01 / 8
    assert Checkpoints(tmp_path).last == 2


def test_what_is_advised_after_three_times_is_done(tmp_path, data, diverging):
    diverging(lambda rate, count: rate > 0.001 and count >= 3)
    lower = advice("lower_lr", cause="loss_not_finite", lr=0.0009)
    events = []

    def advise():
        return lower if [one for one in findings(events) if one.code == "loss_not_finite"] else None

    train(tmp_path, data, emit=events.append, advise=advise, **OPTIONS)
    assert [told.finding.code for told in treatments(events)] == ["went_back"] * 3 + ["treated_further"]
    assert epochs(events)[-1].lr == 0.0009
    assert epochs(events)[-1].epoch == 5  # all four epochs again, after the first


# --- advice ---------------------------------------------------------------------------------------------------------


def test_remedy_goes_on_from_the_weights_and_has_all_epochs_again(tmp_path, data):
    events, advise = once_after(2, advice("raise_lr", lr=0.02))
    train(tmp_path, data, emit=events.append, advise=advise, **OPTIONS)
    straight, _ = train(tmp_path / "straight", data, **OPTIONS)
    assert [(one.epoch, one.lr) for one in epochs(events)] == [(1, 0.01), (2, 0.01)] + [(n, 0.02) for n in (3, 4, 5, 6)]
    third = next(one for one in steps(events) if one.epoch == 3)
    assert third.loss == next(one for one in steps(straight) if one.epoch == 3).loss  # the same weights


def test_schedule_begins_anew_with_a_remedy(tmp_path, data):
    options = {**OPTIONS, "scheduler": "cosine"}
    events, advise = once_after(2, advice("raise_lr", lr=0.02))
    train(tmp_path, data, emit=events.append, advise=advise, **options)
    other, _ = train(tmp_path / "other", data, **{**options, "lr": 0.02})
    assert [one.lr for one in steps(events)][4:] == [one.lr for one in steps(other)]


def test_remedy_that_begins_anew_is_a_run_of_its_own(tmp_path, data):
    events, advise = once_after(1, advice("loss", from_checkpoint=False, bce_weight=1.0, dice_weight=0.0))
    train(tmp_path, data, emit=events.append, advise=advise, **OPTIONS)
    alone, _ = train(tmp_path / "alone", data, **{**OPTIONS, "bce_weight": 1.0, "dice_weight": 0.0})
    assert [one.val_dice for one in epochs(events)][1:] == [one.val_dice for one in epochs(alone)]


def test_best_epoch_of_all_counts_and_keeps_its_plan(tmp_path, data, monkeypatch):
    dices = iter([0.5, 0.6, 0.1, 0.2, 0.3, 0.4])
    monkeypatch.setattr(trainer, "evaluate", lambda *_: [Evaluated("s", 0.5, ScanScore(next(dices), 0.5, 0.5, 0.5))])
    events, advise = once_after(2, advice("model", from_checkpoint=False, model="small_unet"))
    _, outcome = train(tmp_path, data, emit=events.append, advise=advise, **OPTIONS)
    assert outcome.best == Best(2, 0.6)
    assert Checkpoints(tmp_path).best_plan()["config"]["model"] == "normless"


def test_treated_run_that_is_stopped_goes_on_with_its_treatment(tmp_path, data):
    def run(folder, stop_at):
        events, advise = once_after(2, advice("raise_lr", lr=0.02))
        stopper = Stopper(lambda event: len(epochs([event])) and event.epoch == stop_at)

        def emit(event):
            events.append(event)
            stopper.emit(event)

        train(folder, data, emit=emit, advise=advise, should_stop=stopper.should_stop, **OPTIONS)
        return events

    straight = run(tmp_path / "straight", 0)
    run(tmp_path / "stopped", 4)
    resumed, outcome = train(tmp_path / "stopped", data, **OPTIONS)
    told = [numbers(one) for one in epochs(resumed)]
    assert told == [numbers(one) for one in epochs(straight) if one.epoch >= 4]
    assert outcome.finished


def test_treatment_is_told_again_where_its_first_epoch_was_not_reached(tmp_path, data):
    stopper = Stopper(lambda event: len(epochs([event])) and event.epoch == 2)
    train(tmp_path, data, emit=stopper.emit, should_stop=stopper.should_stop, **OPTIONS)
    half = Treatment(
        cause="loss_not_finite",
        remedy="half_lr",
        after=2,
        changes={"lr": (0.01, 0.005)},
        from_checkpoint=True,
        restarts=False,
    )
    Checkpoints(tmp_path).treat(half)  # and then its process was killed
    events, _ = train(tmp_path, data, **OPTIONS)
    assert [told.after for told in treatments(events)] == [2]
    assert [one.lr for one in epochs(events)] == [0.01, 0.005, 0.005]


def test_remedy_that_brings_its_own_epochs_has_so_many(tmp_path, data):
    events, advise = once_after(2, advice("train_longer", from_checkpoint=False, epochs=6))
    train(tmp_path, data, emit=events.append, advise=advise, **OPTIONS)
    assert [one.epoch for one in epochs(events)] == list(range(1, 9))


def test_no_more_than_three_remedies_are_taken(tmp_path, data):
    rates = itertools.count(2)
    events, _ = train(tmp_path, data, advise=lambda: advice("raise_lr", lr=next(rates) / 100), **OPTIONS)
    assert [told.finding.evidence["number"] for told in treatments(events)] == [1, 2, 3]
    assert epochs(events)[-1].lr == 0.04


def test_remedy_that_changes_nothing_is_not_taken(tmp_path, data):
    events, _ = train(tmp_path, data, advise=lambda: advice("raise_lr", lr=0.01), **OPTIONS)
    assert not treatments(events)
    assert len(epochs(events)) == 4


def test_run_that_diverges_right_after_it_began_anew_begins_anew_again(tmp_path, data, diverging):
    diverging(lambda rate, count: rate > 0.006 and count == 5)  # the first step of epoch 3
    events, advise = once_after(2, advice("loss", from_checkpoint=False, bce_weight=1.0, dice_weight=0.0))
    train(tmp_path, data, emit=events.append, advise=advise, **OPTIONS)
    assert [told.finding.code for told in treatments(events)] == ["treated_anew", "went_back"]
    alone, _ = train(tmp_path / "alone", data, **{**OPTIONS, "lr": 0.005, "bce_weight": 1.0, "dice_weight": 0.0})
    assert [one.train_loss for one in epochs(events)][2:] == [one.train_loss for one in epochs(alone)]


def test_run_that_diverges_right_after_it_took_another_network_keeps_that(tmp_path, data, diverging):
    diverging(lambda rate, count: rate > 0.006 and count == 5)
    events, advise = once_after(2, advice("model", from_checkpoint=False, model="small_unet"))
    _, outcome = train(tmp_path, data, emit=events.append, advise=advise, **OPTIONS)
    assert [one.epoch for one in epochs(events)] == list(range(1, 7))
    assert outcome.finished


@pytest.mark.parametrize("loss", ["focal_dice", "cldice", "dice"])
def test_loss_that_a_remedy_brings_has_no_open_weight(tmp_path, data, loss):
    events, advise = once_after(1, advice("another_loss", from_checkpoint=False, loss="dice_bce"))
    train(tmp_path, data, emit=events.append, advise=advise, **OPTIONS, loss=loss)
    (told,) = treatments(events)
    assert (told.plan["config"]["loss"], told.plan["config"]["pos_weight"]) == ("dice_bce", None)
    assert set(steps(events)[-1].loss_components) == {"bce", "dice"}


def test_fold_keeps_the_network_of_the_others(data):
    bigger, lower = advice("model", model="small_unet"), advice("lower_lr", lr=0.001)
    alone, fold = a_plan(data, **OPTIONS), a_plan(data, **OPTIONS, folds=2)
    assert healing.remedy_taken(alone, bigger, 2) is not None
    assert healing.remedy_taken(fold, bigger, 2) is None
    assert healing.remedy_taken(fold, lower, 2) is not None


# --- minutes --------------------------------------------------------------------------------------------------------


@pytest.fixture
def slow_steps(monkeypatch):
    """Steps of six seconds each, as `max_minutes` sees them; gives the seconds so far."""
    now = [0.0]
    plain = step.Stepper.step

    def slow(self, batch, lr):
        now[0] += 6
        return plain(self, batch, lr)

    monkeypatch.setattr(step.Stepper, "step", slow)
    monkeypatch.setattr(trainer, "Limits", partial(Limits, clock=lambda: now[0]))
    return now


@pytest.mark.parametrize("save_freq", [1, 1000])
def test_minutes_bound_a_run_with_all_its_treatments(tmp_path, data, slow_steps, save_freq):
    rates, events = [0.002, 0.003], []

    def advise():
        due = rates and epochs(events) and len(epochs(events)) % 2 == 0
        return advice("lower_lr", from_checkpoint=False, lr=rates.pop()) if due else None

    options = {**OPTIONS, "epochs": 100, "max_minutes": 1, "save_freq": save_freq}
    _, outcome = train(tmp_path, data, emit=events.append, advise=advise, **options)
    assert len(treatments(events)) == 2
    assert (outcome.ended_early.code, slow_steps[0]) == ("time_used_up", 60)


def test_run_validates_the_last_epochs_before_its_minutes_are_over(tmp_path, data, slow_steps, monkeypatch):
    whole, validated = trainer.evaluate, []
    monkeypatch.setattr(trainer, "evaluate", lambda *given: validated.append(1) or whole(*given))
    events, _ = train(tmp_path, data, **{**OPTIONS, "epochs": 100, "max_minutes": 1.1, "val_freq": 50})
    assert [one.epoch for one in epochs(events)] == [1, 2, 3, 4, 5]
    assert len(validated) == 3  # the first, and those after which two more did not fit


def test_run_whose_minutes_are_over_can_go_on_from_its_last_epoch(tmp_path, data, slow_steps):
    options = {**OPTIONS, "epochs": 100, "max_minutes": 1.1, "save_freq": 1000}
    events, outcome = train(tmp_path, data, **options)
    assert outcome.ended_early.code == "time_used_up"
    assert Checkpoints(tmp_path).last == epochs(events)[-1].epoch == 5


# --- plans ----------------------------------------------------------------------------------------------------------


def test_field_that_a_user_changed_since_keeps_the_users_value(data):
    plan = a_plan(data, **OPTIONS)
    half = healing.setback(plan, 2)
    assert healing.treated(plan, [half]).config.lr == 0.005
    other = plan.with_config(plan.config.model_copy(update={"lr": 0.003}))
    assert healing.treated(other, [half]).config.lr == 0.003


def set_back(plan, times):
    """Treatments of a run that went back so often, each from the plan with those before it."""
    found = []
    for last in range(1, times + 1):
        found.append(healing.setback(healing.treated(plan, found), last))
    return found


@pytest.mark.parametrize("lr", [0.005, 0.0025, 0.003])
def test_value_of_a_user_is_kept_also_where_a_treatment_led_to_it(data, lr):
    plan = a_plan(data, **OPTIONS)
    other = plan.with_config(plan.config.model_copy(update={"lr": lr}))
    assert healing.treated(other, set_back(plan, 3)).config.lr == lr


def test_value_of_a_user_is_treated_from_then_on(data):
    plan = a_plan(data, **OPTIONS)
    other = plan.with_config(plan.config.model_copy(update={"lr": 0.02}))
    earlier = set_back(plan, 1)
    half = healing.setback(healing.treated(other, earlier), 2)
    quarter = healing.setback(healing.treated(other, [*earlier, half]), 3)
    assert healing.treated(other, [*earlier, half, quarter]).config.lr == 0.005


def test_rate_that_was_found_is_treated_however_often_the_run_is_resumed(data):
    found = a_plan(data, **OPTIONS)
    open_config = found.config.model_copy(update={"lr": "auto"})
    first, second, third = set_back(found, 3)
    resumed = healing.treated(found.with_config(open_config), [first, second])
    again = healing.treated(resumed.with_config(open_config), [first, second, third])
    assert (resumed.config.lr, again.config.lr) == (0.0025, 0.00125)
    assert [one.value for one in again.reasons if one.field == "lr"] == [0.005, 0.0025, 0.00125]
    assert resumed.found_for(open_config)["lr"] == 0.01


def test_treatments_are_applied_once(data):
    plan = a_plan(data, **OPTIONS)
    once = healing.treated(plan, [healing.setback(plan, 2)])
    assert healing.treated(once, once.treatments) == once
    assert once.reasons[-1].reason == "treatment of loss_not_finite (half_lr) after epoch 2"


def test_resumed_plan_takes_its_treatments_again(data):
    plan = a_plan(data, **OPTIONS)
    once = healing.treated(plan, [healing.setback(plan, 2)])
    assert healing.treated(once.with_config(plan.config), once.treatments).config == once.config


def test_torch_goes_on_as_it_was(tmp_path, data):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    train(tmp_path, data, advise=lambda: advice("raise_lr", lr=0.02), **OPTIONS)
    assert torch.equal(before, torch.get_rng_state())
