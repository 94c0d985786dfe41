from __future__ import annotations

import pytest

from octa_backend.training import complete
from octa_backend.training.batches import TrainingData
from octa_backend.training.complete import complete_plan
from octa_backend.training.config import TrainConfig
from octa_backend.training.lr_finder import evaluate_sweep, sweep
from tests.tiny import a_plan, synthetic_pairs, training_data, write_store
from tests.training.volumes import VolumeStore

pytestmark = pytest.mark.usefixtures("tiny_registry")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_data(write_store(tmp_path_factory.mktemp("data"), synthetic_pairs(3)))


def never():
    return False


def reason_for(plan, field):
    (found,) = [reason for reason in plan.reasons if reason.field == field]
    return found


def with_losses(monkeypatch, losses):
    found = evaluate_sweep(sweep(100)[: len(losses)], losses)
    monkeypatch.setattr(complete, "range_test", lambda *_: found)


def test_plan_is_sized_up_once_it_is_complete(data):
    plan = complete_plan(a_plan(data, model="normless"), data, never)
    assert plan.estimate.parameters == 10 * 4 + 2 * 37 * 4 + 37  # of four 3x3 convolutions with biases
    assert complete_plan(plan, data, never) is plan


def test_rate_is_found_by_a_range_test_and_its_reason_kept(data, monkeypatch):
    with_losses(monkeypatch, [1 - 0.5 * max(0.0, 1 - abs(i - 66) / 30) for i in range(100)])
    plan = complete_plan(a_plan(data, model="normless", lr="auto"), data, never)
    assert plan.config.lr == 1e-3  # the 67th of 100 rates is 1e-2
    reason = reason_for(plan, "lr")
    assert (reason.value, reason.reason) == (
        1e-3,
        "a tenth of 0.01, where the loss was least in a range test from 1e-06 to 1 over 100 steps",
    )


def test_where_the_loss_does_not_fall_the_default_is_taken_and_it_is_said(data, monkeypatch):
    with_losses(monkeypatch, [0.5] * 100)
    plan = complete_plan(a_plan(data, model="normless", lr="auto"), data, never)
    assert plan.config.lr == 1e-3
    assert "the default, because" in reason_for(plan, "lr").reason


def test_the_default_of_volumes_is_theirs(monkeypatch):
    volumes = TrainingData(VolumeStore(), train=(0,), val=(1,), test=())
    with_losses(monkeypatch, [0.5] * 100)
    plan = complete_plan(a_plan(volumes, model="tiny_unet", lr="auto", batch_size=2), volumes, never)
    assert plan.config.lr == TrainConfig().for_scans(3).lr == 3e-3


def test_real_range_test_gives_a_rate_that_can_be_trained_with(data):
    plan = complete_plan(a_plan(data, model="normless", lr="auto", batch_size="auto"), data, never)
    assert 0 < plan.config.lr <= 1
    assert plan.config.batch_size == 2
    assert reason_for(plan, "batch_size").value == 2
    assert complete_plan(plan, data, never) is plan


def test_asked_to_stop_it_leaves_the_rate_open_for_the_next_attempt(data):
    plan = complete_plan(a_plan(data, model="normless", lr="auto"), data, lambda: True)
    assert plan.config.lr == "auto"
