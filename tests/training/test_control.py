"""When a run validates, saves, stops early, and how it gets by with less memory."""

from __future__ import annotations

import pytest
import torch

from octa_backend.errors import InvalidConfig
from octa_backend.training import trainer
from octa_backend.training.checkpoint import Best, Checkpoints
from octa_backend.training.evaluation import Evaluated
from octa_backend.training.metrics import ScanScore
from octa_backend.training.trainer import Outcome
from tests.tiny import Normless
from tests.training.runs import Stopper, epochs, findings, numbers, steps, train

pytestmark = pytest.mark.usefixtures("tiny_registry")


@pytest.fixture
def graded(monkeypatch):
    """Give the validations these Dices, in order; returns the list of what is left."""

    def grade(*dices):
        left = list(dices)

        def evaluate(*_):
            dice = left.pop(0)
            return [Evaluated("s", 1 - dice, ScanScore(dice, dice / 2, dice / 3, dice / 4))]

        monkeypatch.setattr(trainer, "evaluate", evaluate)
        return left

    return grade


def quick(folder, data, **options):
    return train(folder, data, **{"model": "normless", "epochs": 6, "batch_size": 4, **options})


def folders(path):
    return sorted(entry.name for entry in path.iterdir())


# --- validation -----------------------------------------------------------------------------------------------------


def test_first_every_nth_and_last_epoch_are_validated(tmp_path, data, graded):
    left = graded(0.1, 0.2, 0.3, 0.4, 0.9)
    events, outcome = quick(tmp_path, data, epochs=7, val_freq=3)
    assert [event.val_dice for event in epochs(events)] == [0.1, 0.1, 0.2, 0.2, 0.2, 0.3, 0.4]
    assert left == [0.9]
    assert outcome.best == Best(7, 0.4)


def test_epoch_that_is_not_validated_repeats_the_numbers_of_the_last_that_was(tmp_path, data, graded):
    graded(0.6, 0.9)
    events, _ = quick(tmp_path, data, epochs=3, val_freq=3)
    first, second, third = epochs(events)
    for name in ("val_loss", "val_dice", "val_iou", "val_precision", "val_recall"):
        assert getattr(second, name) == getattr(first, name) != getattr(third, name)
    assert second.train_loss != first.train_loss


def test_epoch_that_is_not_validated_is_never_the_best(tmp_path, data, graded):
    graded(0.6, 0.5)
    _, outcome = quick(tmp_path, data, epochs=3, val_freq=3)
    assert outcome.best == Best(1, 0.6)
    assert folders(tmp_path) == ["best-00001", "index.json", "last-00003"]


def test_plateau_looks_at_validated_epochs_only(tmp_path, data, graded):
    graded(0.5, 0.5, 0.5, 0.5)
    options = {"scheduler": "plateau", "plateau_patience": 2, "gamma": 0.1, "lr": 0.01}
    events, _ = quick(tmp_path, data, val_freq=2, **options)
    rates = [event.lr for event in epochs(events)]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.01, 0.001, 0.001])  # epochs 1, 2, 4 and 6 are validated


# --- stopping early -------------------------------------------------------------------------------------------------


def test_run_ends_early_after_patience_epochs_without_a_better_dice(tmp_path, data, graded):
    left = graded(0.5, 0.6, 0.6, 0.4, 0.9)
    events, outcome = quick(tmp_path, data, patience=2)
    assert [event.epoch for event in epochs(events)] == [1, 2, 3, 4]
    assert left == [0.9]
    assert (outcome.finished, outcome.best) == (True, Best(2, 0.6))
    assert outcome.ended_early.code == "stopped_early"
    assert findings(events) == [outcome.ended_early]


def test_without_patience_all_epochs_are_done(tmp_path, data, graded):
    graded(*[0.9, 0.1, 0.1, 0.1, 0.1, 0.1])
    events, outcome = quick(tmp_path, data)
    assert len(epochs(events)) == 6
    assert outcome == Outcome(finished=True, best=Best(1, 0.9), ended_early=None)


def test_patience_that_is_used_up_in_the_last_epoch_does_not_end_early(tmp_path, data, graded):
    graded(0.9, 0.1, 0.1)
    events, outcome = quick(tmp_path, data, epochs=3, patience=2)
    assert (findings(events), outcome.ended_early) == ([], None)


def test_patience_survives_a_resume(tmp_path, data, graded):
    graded(0.9, 0.1, 0.1, 0.1)
    stopper = Stopper(lambda event: len(epochs([event])) and event.epoch == 2)
    quick(tmp_path, data, patience=3, emit=stopper.emit, should_stop=stopper.should_stop)
    events, outcome = quick(tmp_path, data, patience=3)
    assert [event.epoch for event in epochs(events)] == [2, 3, 4]
    assert outcome.ended_early.code == "stopped_early"


def test_run_that_ended_early_ends_at_once_when_it_is_resumed_unchanged(tmp_path, data, graded):
    graded(0.9, 0.1)
    _, expected = quick(tmp_path, data, patience=1)
    events, outcome = quick(tmp_path, data, patience=1)
    assert steps(events) == []
    assert outcome == expected


@pytest.mark.parametrize("change", [{"epochs": 8}, {"lr": 0.001}])
def test_run_that_ended_early_goes_on_with_more_epochs_or_another_rate(tmp_path, data, graded, change):
    graded(0.9, 0.1, 0.95, 0.2)
    quick(tmp_path, data, patience=1)
    events, outcome = quick(tmp_path, data, patience=1, **change)
    assert [event.epoch for event in epochs(events)] == [2, 3, 4]
    assert outcome.best == Best(3, 0.95)


def test_run_ends_when_its_minutes_are_over_but_not_before_its_first_epoch_is_done(tmp_path, data):
    events, outcome = quick(tmp_path, data, max_minutes=1e-6)
    assert [event.epoch for event in epochs(events)] == [1]
    assert [step.epoch for step in steps(events)] == [1]
    assert outcome.finished
    assert outcome.ended_early.code == "time_used_up"
    assert findings(events) == [outcome.ended_early]
    assert outcome.best.epoch == 1


def test_run_that_has_time_is_not_ended(tmp_path, data):
    events, outcome = quick(tmp_path, data, epochs=2, max_minutes=60)
    assert len(epochs(events)) == 2
    assert outcome.ended_early is None


def test_wish_to_stop_counts_more_than_the_end_of_the_time(tmp_path, data):
    stopper = Stopper(lambda event: len(epochs([event])))
    _, outcome = quick(tmp_path, data, max_minutes=1e-6, emit=stopper.emit, should_stop=stopper.should_stop)
    assert (outcome.finished, outcome.ended_early) == (False, None)


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_checkpoint_to_go_on_from_is_written_every_nth_epoch_and_at_the_end(tmp_path, data, graded):
    graded(0.1, 0.2, 0.3, 0.4, 0.5)
    written = []
    quick(tmp_path, data, epochs=5, save_freq=2, emit=lambda event: written.append(Checkpoints(tmp_path).index))
    assert [index.last for index in written[1::2]] == [0, 2, 2, 4, 5]
    assert [index.best.epoch for index in written[1::2]] == [1, 2, 3, 4, 5]


def test_run_that_ends_early_is_saved_where_it_ends(tmp_path, data, graded):
    graded(0.9, 0.1, 0.1)
    quick(tmp_path, data, patience=2, save_freq=5)
    assert Checkpoints(tmp_path).index.last == 3


def test_run_goes_on_from_the_last_epoch_that_was_saved(tmp_path, data):
    straight, expected = quick(tmp_path / "straight", data, save_freq=2)
    stopper = Stopper(lambda event: len(epochs([event])) and event.epoch == 3)
    options = {"emit": stopper.emit, "should_stop": stopper.should_stop}
    quick(tmp_path / "stopped", data, save_freq=2, **options)
    resumed, outcome = quick(tmp_path / "stopped", data, save_freq=2)
    assert [event.epoch for event in epochs(resumed)] == [2, 3, 4, 5, 6]
    assert [numbers(event) for event in resumed] == [numbers(event) for event in straight[3:]]
    assert outcome == expected


def test_run_that_was_stopped_before_its_first_checkpoint_begins_anew(tmp_path, data):
    straight, expected = quick(tmp_path / "straight", data, save_freq=4)
    stopper = Stopper(lambda event: len(epochs([event])) and event.epoch == 2)
    options = {"emit": stopper.emit, "should_stop": stopper.should_stop}
    quick(tmp_path / "stopped", data, save_freq=4, **options)
    resumed, outcome = quick(tmp_path / "stopped", data, save_freq=4)
    assert [numbers(event) for event in resumed] == [numbers(event) for event in straight]
    assert outcome == expected


def test_so_many_of_the_latest_checkpoints_are_kept(tmp_path, data, graded):
    graded(0.9, 0.1, 0.1, 0.1, 0.1)
    quick(tmp_path, data, epochs=5, keep_last=3)
    assert folders(tmp_path) == ["best-00001", "index.json", "last-00003", "last-00004", "last-00005"]


# --- memory ---------------------------------------------------------------------------------------------------------


def test_when_memory_runs_out_the_run_goes_on_with_smaller_parts_and_says_so(tmp_path, data):
    plenty, expected = train(tmp_path / "plenty", data, model="normless", batch_size=4)
    events, outcome = train(tmp_path / "hungry", data, model="hungry", batch_size=4)
    (finding,) = findings(events)
    assert finding.code == "out_of_memory"
    assert (finding.evidence["scans"], finding.evidence["halved"], finding.epoch) == (4, 2, 1)
    assert [step.loss for step in steps(events)] == pytest.approx([step.loss for step in steps(plenty)], rel=1e-4)
    assert len(steps(events)) == 2
    assert outcome.finished
    assert outcome.best.val_dice == pytest.approx(expected.best.val_dice, abs=1e-3)


def test_resumed_run_does_not_run_out_of_memory_again(tmp_path, data):
    train(tmp_path, data, model="hungry", batch_size=4, epochs=1)
    events, _ = train(tmp_path, data, model="hungry", batch_size=4, epochs=2)
    assert findings(events) == []
    assert [step.epoch for step in steps(events)] == [2]


def test_run_for_which_no_scan_is_small_enough_ends_with_what_to_change(tmp_path, data):
    with pytest.raises(InvalidConfig, match="choose a smaller patch_size"):
        train(tmp_path, data, model="insatiable")


# --- accumulation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", ["none", "standard"])
def test_accumulated_run_is_the_run_with_the_larger_batch(tmp_path, data, augmentation):
    options = {"model": "normless", "augmentation": augmentation, "optimizer": "sgd", "lr": 0.1}
    whole, _ = train(tmp_path / "whole", data, batch_size=3, **options)
    parted, _ = train(tmp_path / "parted", data, batch_size=1, accumulation_steps=3, **options)
    assert [(s.epoch, s.step, s.steps) for s in steps(parted)] == [(1, 1, 2), (1, 2, 2), (2, 1, 2), (2, 2, 2)]
    for one, other in zip(steps(parted), steps(whole), strict=True):
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.gradient_norms == pytest.approx(other.gradient_norms, rel=1e-3)


# --- reproducing ----------------------------------------------------------------------------------------------------


def test_equal_seeds_give_equal_runs_of_a_network_that_draws_random_numbers(tmp_path, data):
    runs = []
    for number, state in enumerate((1, 2)):
        torch.manual_seed(state)
        runs.append([numbers(event) for event in quick(tmp_path / str(number), data, model="forgetful")[0]])
    assert runs[0] == runs[1]
    other = quick(tmp_path / "other", data, model="forgetful", seed=43)[0]
    assert runs[0] != [numbers(event) for event in other]


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_run_allows_deterministic_algorithms_only(tmp_path, data, monkeypatch, wanted):
    seen = set()
    forward = Normless.forward

    def noted(self, x):
        seen.add(torch.are_deterministic_algorithms_enabled())
        return forward(self, x)

    monkeypatch.setattr(Normless, "forward", noted)
    quick(tmp_path, data, epochs=1, deterministic=wanted)
    assert seen == {wanted}
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_run_is_the_same_twice(tmp_path, data):
    one, other = (train(tmp_path / name, data, deterministic=True)[0] for name in ("one", "other"))
    assert [numbers(event) for event in one] == [numbers(event) for event in other]


# --- a rate that is still open --------------------------------------------------------------------------------------


def test_run_that_was_stopped_during_the_range_test_computes_nothing(tmp_path, data):
    events, outcome = quick(tmp_path, data, lr="auto", should_stop=lambda: True)
    assert (events, outcome) == ([], Outcome(finished=False, best=None))
