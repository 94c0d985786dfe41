"""A run that is stopped and resumed is the run that was never stopped, to the last bit."""

from __future__ import annotations

import pytest
import torch

from octa_backend.errors import IncompatibleCheckpoint
from octa_backend.training.trainer import Checkpoints
from tests.training.runs import Stopper, epochs, numbers, steps, train

pytestmark = pytest.mark.usefixtures("tiny_registry")


SCHEDULES = {
    "onecycle": {},
    "step": {"step_size": 2},
    "plateau": {"plateau_patience": 2, "gamma": 0.5},
    "cosine": {},
    "exponential": {},
    "poly": {},
    "constant": {},
}

RUNS = {
    **{name: {"scheduler": name, **options} for name, options in SCHEDULES.items()},
    **{f"{name}, warm-up": {"scheduler": name, "warmup_epochs": 2} for name in ("onecycle", "cosine")},
    "batch norm": {"model": "small_unet"},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "sgd": {"optimizer": "sgd", "nesterov": True},
    "accumulation": {"batch_size": 1, "accumulation_steps": 3},
    "clipping": {"gradient_clipping": 0.1},
    "bf16": {"precision": "bf16"},
    "without average": {"ema_decay": 0},
    "dropout": {"model": "forgetful"},
    "little memory": {"model": "hungry", "batch_size": 4},
    "every second epoch validated": {"val_freq": 2},
    "patience": {"patience": 4},
    "deterministic": {"deterministic": True},
}


def quick(folder, data, **options):
    return train(folder, data, **{"model": "normless", **options})


def stopped_when(folder, data, condition, **options):
    stopper = Stopper(condition)
    quick(folder, data, emit=stopper.emit, should_stop=stopper.should_stop, **options)


@pytest.mark.parametrize("name", RUNS)
def test_run_that_is_stopped_after_epoch_3_has_the_same_epochs_4_to_6(tmp_path, data, name):
    options = {"epochs": 6, **RUNS[name]}
    straight, expected = quick(tmp_path / "straight", data, **options)
    stopped_when(tmp_path / "stopped", data, lambda event: len(epochs([event])) and event.epoch == 3, **options)
    resumed, outcome = quick(tmp_path / "stopped", data, **options)
    # The last finished epoch is told again; then all goes on as if nothing had happened.
    at = next(i for i, event in enumerate(straight) if len(epochs([event])) and event.epoch == 3)
    assert [numbers(event) for event in resumed] == [numbers(event) for event in straight[at:]]
    assert outcome == expected


def test_run_that_is_stopped_in_the_middle_of_an_epoch_begins_it_anew(tmp_path, data):
    options = {"epochs": 4, "scheduler": "plateau", "plateau_patience": 1, "model": "forgetful"}
    straight, _ = quick(tmp_path / "straight", data, **options)
    stopped_when(tmp_path / "stopped", data, lambda event: event.epoch == 3, **options)
    resumed, _ = quick(tmp_path / "stopped", data, **options)
    assert [numbers(event) for event in resumed] == [numbers(event) for event in straight[5:]]


def test_plateau_of_these_runs_lowers_the_rate_before_and_after_the_stop(tmp_path, data):
    events, _ = quick(tmp_path, data, epochs=6, scheduler="plateau", **SCHEDULES["plateau"])
    rates = [event.lr for event in epochs(events)]
    assert rates[0] > rates[3] > rates[5]


def test_resumed_run_takes_the_rate_and_the_epochs_that_are_new(tmp_path, data):
    quick(tmp_path, data, epochs=2, lr=0.01, scheduler="constant")
    events, outcome = quick(tmp_path, data, epochs=4, lr=0.002, scheduler="constant")
    assert {step.epoch: step.lr for step in steps(events)} == {3: 0.002, 4: 0.002}
    assert outcome.finished


def test_another_optimizer_takes_over_without_moments(tmp_path, data):
    quick(tmp_path, data, epochs=1, optimizer="sgd")
    events, outcome = quick(tmp_path, data, epochs=2, optimizer="adam")
    assert {step.epoch for step in steps(events)} == {2}
    assert outcome.finished


def test_weight_decay_and_momentum_can_be_changed_on_the_way(tmp_path, data):
    runs = []
    for name, change in (("same", {}), ("momentum", {"momentum": 0.1}), ("decay", {"weight_decay": 0.5})):
        quick(tmp_path / name, data, epochs=1, optimizer="sgd")
        events, _ = quick(tmp_path / name, data, epochs=2, optimizer="sgd", **change)
        runs.append([step.loss for step in steps(events)])
    assert runs[0] != runs[1]
    assert runs[0] != runs[2]


def test_checkpoint_that_lacks_something_is_refused_in_words(tmp_path, data):
    quick(tmp_path, data, epochs=1)
    path = Checkpoints(tmp_path).folder / "last-00001" / "state.pt"
    state = torch.load(path, weights_only=True)
    del state["schedule"]
    torch.save(state, path)
    with pytest.raises(IncompatibleCheckpoint, match="checkpoint of epoch 1 was written by another version"):
        quick(tmp_path, data, epochs=2)
