from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from octa_backend.diagnosis.run_history import TRIALS
from octa_backend.training import patch_growth
from octa_backend.training import start_checks as checking
from octa_backend.training.batches import TrainingData, training_batches
from octa_backend.training.ignored import IGNORED
from octa_backend.training.lr_finder import RangeTest
from octa_backend.training.network import build_network
from octa_backend.training.start_checks import divergence, start_checks, time_limit
from tests.tiny import Normless, SmallUNet, a_plan, synthetic_pairs, training_data, write_store
from tests.training.volumes import VolumeStore

pytestmark = pytest.mark.usefixtures("tiny_registry")


@pytest.fixture(autouse=True)
def _short_sweep(monkeypatch):
    """Most tests are about the batch: a range test costs many steps."""
    monkeypatch.setattr(checking, "FEWEST_SWEPT", math.inf)


def never():
    return False


def plan_for(data, **options):
    return a_plan(data, **{"model": "small_unet", "lr": 0.02, "batch_size": 2, **options})


def checked(network, data, plan, should_stop=never):
    """The checks with all the time they need, however busy the machine is."""
    return start_checks(network, data, plan, should_stop, seconds_limit=300)


class ZeroHead(SmallUNet):
    """Its head is switched off."""

    def forward(self, x):
        return 0 * super().forward(x)


class SaysBackground(SmallUNet):
    """Finds nothing, whatever it is taught."""

    def forward(self, x):
        return 0 * super().forward(x) - 1


class Blind(Normless):
    """Learns a map of logits by heart, whatever the scan shows."""

    def __init__(self):
        super().__init__()
        self.map = nn.Parameter(torch.zeros(2, 1, 32, 32))

    def forward(self, x):
        return self.map + 0 * super().forward(x)


# --- one batch ------------------------------------------------------------------------------------------------------


def test_network_that_can_learn_knows_one_batch_by_heart_and_needs_its_intensities(data):
    plan = plan_for(data)
    found = checked(build_network(plan), data, plan)
    assert found.overfit_dice >= 0.8
    assert 0 < found.overfit_steps < 100
    assert found.loss < found.initial_loss
    assert found.zeroed_input_loss > 1.05 * found.loss
    assert found.initial_loss == pytest.approx(found.expected_initial_loss, rel=0.5)
    assert (found.lr_found, found.lr_diverges) == (None, None)


def test_rate_of_the_trial_is_kept_with_it(data, monkeypatch):
    monkeypatch.setattr(checking, "OVERFIT_STEPS", 1)
    plan = plan_for(data, lr=0.003)
    assert checked(build_network(plan), data, plan).lr == 0.003


def test_rate_that_is_far_too_high_overfits_nothing(data, monkeypatch):
    monkeypatch.setattr(checking, "OVERFIT_STEPS", 30)
    plan = plan_for(data)
    plan = plan.model_copy(update={"config": plan.config.model_copy(update={"lr": 1e3})})
    found = checked(build_network(plan), data, plan)
    assert found.overfit_dice < 0.8
    assert found.overfit_steps == 30


def test_head_that_is_switched_off_overfits_nothing_and_begins_at_the_expected_loss(data, monkeypatch):
    monkeypatch.setattr(checking, "OVERFIT_STEPS", 3)
    plan = plan_for(data)
    found = checked(ZeroHead(1, 1), data, plan)
    assert found.overfit_dice < 0.8
    assert found.initial_loss == pytest.approx(found.expected_initial_loss)
    assert found.loss == found.zeroed_input_loss == pytest.approx(found.initial_loss)


def test_network_that_ignores_its_input_does_no_worse_without_it(data):
    plan = plan_for(data, lr=0.1)
    found = checked(Blind(), data, plan)
    assert found.overfit_dice >= 0.8
    assert found.zeroed_input_loss == pytest.approx(found.loss)


def test_a_patch_in_which_nothing_counts_is_not_known_by_heart(data, monkeypatch):
    """Two masks without foreground agree wholly; here there is nothing to agree on."""
    plan = plan_for(data)
    generator = torch.Generator().manual_seed(0)
    batch = next(iter(training_batches(data, plan, generator)))
    batch.mask[1] = IGNORED
    monkeypatch.setattr(checking, "_telling_batch", lambda *_: batch)
    assert checked(SaysBackground(1, 1), data, plan).overfit_dice == 0


def test_loss_that_is_not_finite_ends_the_trial(data):
    plan = plan_for(data, model="overflowing")
    found = checked(build_network(plan), data, plan)
    assert (found.initial_loss, found.loss, found.zeroed_input_loss) == (None, None, None)
    assert found.overfit_steps == 0


def test_batch_holds_foreground_where_there_is_any(tmp_path):
    pairs = synthetic_pairs(3)
    pairs[1] = pairs[1][0], np.zeros_like(pairs[1][1])
    sparse = training_data(write_store(tmp_path / "sparse", [pairs[1], pairs[0], pairs[2]]))
    plan = plan_for(sparse, batch_size=1)
    assert checked(build_network(plan), sparse, plan).overfit_dice is not None
    empty = training_data(write_store(tmp_path / "empty", [pairs[1], pairs[1], pairs[2]]))
    left_out = dict.fromkeys(TRIALS, "no_batch")
    assert checked(build_network(plan), empty, plan) == checking.StartChecks(not_tried=left_out)


# --- the first loss -------------------------------------------------------------------------------------------------


def expected(data, **options):
    """The expected first loss, and the foreground's share and number of pixels per scan of the batch."""
    plan = plan_for(data, **options)
    found = checked(ZeroHead(1, 1), data, plan, itertools.chain([False], itertools.repeat(True)).__next__)
    plain = plan_for(data, augmentation="none", foreground_oversampling=1.0)
    mask = next(training_batches(data, plain, torch.Generator().manual_seed(42))).mask
    return found.expected_initial_loss, mask.float().mean().item(), mask.flatten(1).sum(1).tolist()


def test_expected_cross_entropy_is_ln_2_weighted(data):
    assert expected(data, loss="bce")[0] == pytest.approx(math.log(2))
    loss, share, _ = expected(data, loss="bce", pos_weight=3)
    assert loss == pytest.approx(math.log(2) * (1 + 2 * share))


def test_expected_dice_loss_follows_from_the_share_of_foreground(data):
    loss, _, pixels = expected(data, loss="dice")
    assert loss == pytest.approx(sum(1 - (n + 1) / (512 + n + 1) for n in pixels) / 2)


def test_expected_loss_is_the_weighted_sum(data):
    loss = expected(data, bce_weight=0.3, dice_weight=0.7)[0]
    assert loss == pytest.approx(0.3 * math.log(2) + 0.7 * expected(data, loss="dice")[0])


def test_expected_cross_entropy_of_three_classes_is_ln_3(tmp_path):
    pairs = [(image, mask + (np.arange(32) > 16) * mask) for image, mask in synthetic_pairs(3)]
    several = training_data(write_store(tmp_path, [(i, m.astype(np.uint8)) for i, m in pairs], (0, 1, 2)))
    plan = plan_for(several, loss="ce")
    found = checked(ZeroHead(1, 3), several, plan, itertools.chain([False], itertools.repeat(True)).__next__)
    assert found.expected_initial_loss == found.initial_loss == pytest.approx(math.log(3))


def test_loss_without_a_value_for_undecided_networks_expects_none(data):
    assert expected(data, loss="cldice")[0] is None


# --- rates ----------------------------------------------------------------------------------------------------------


def test_rates_are_those_of_a_range_test(data, monkeypatch):
    monkeypatch.setattr(checking, "FEWEST_SWEPT", 50)
    plan = plan_for(data, model="normless", optimizer="sgd", augmentation="none", lr=0.1)
    found = checked(build_network(plan), data, plan)
    assert 1e-6 < found.lr_found < 1


@pytest.mark.parametrize(("steps", "first"), [(0, "rates"), (1e9, "overfit")])
def test_rates_come_first_where_there_is_time_for_both(data, monkeypatch, steps, first):
    monkeypatch.setattr(checking, "STEPS_FOR_BOTH", steps)
    tried = []
    monkeypatch.setattr(checking, "_sweep_rates", lambda *given: tried.append("rates") or given[-2])
    monkeypatch.setattr(checking, "_overfit_batch", lambda *given: tried.append("overfit") or given[-2])
    plan = plan_for(data)
    checked(build_network(plan), data, plan)
    assert sorted(tried) == ["overfit", "rates"]
    assert tried[0] == first


def test_divergence_is_the_least_rate_from_which_the_loss_is_worse_than_untrained():
    rates = (1e-4, 1e-3, 1e-2, 0.1, 1.0)
    assert divergence(RangeTest(rates, (), (0.9, 0.5, 0.6, 0.95, 1.2), 1e-4)) == 0.1
    assert divergence(RangeTest(rates, (), (0.9, 0.5, 0.6, 0.7, 0.8), 1e-4)) is None
    assert divergence(RangeTest(rates[:4], (), (0.9, 0.5, 0.6, 0.7), 1e-4)) == 0.1  # it ended early
    assert divergence(RangeTest(rates, (), (0.9, 0.9, 0.9, 0.95, 1.2), None)) is None


# --- limits ---------------------------------------------------------------------------------------------------------


def test_what_time_does_not_suffice_for_stays_open(data):
    plan = plan_for(data)
    network = build_network(plan)
    left_out = dict.fromkeys(TRIALS, "time")
    assert start_checks(network, data, plan, never, seconds_limit=0) == checking.StartChecks(not_tried=left_out)
    answers = itertools.chain([False] * 3, itertools.repeat(True))
    found = checked(network, data, plan, answers.__next__)
    assert found.initial_loss is not None
    assert (found.overfit_dice, found.overfit_steps, found.loss) == (None, None, None)
    assert found.not_tried == {"overfit": "time", "rates": "time"}


def test_memory_that_does_not_suffice_ends_the_trials_but_not_the_run(data):
    plan = plan_for(data, model="insatiable")
    found = checked(build_network(plan), data, plan)
    assert found == checking.StartChecks(not_tried=dict.fromkeys(TRIALS, "memory"))


@pytest.mark.parametrize(
    ("device", "step_seconds", "options", "seconds"),
    [
        ("cpu", 0.1, {"epochs": 1}, 5),  # 2 steps
        ("cpu", 0.5, {"epochs": 100}, 5),  # 200 steps, 100 s
        ("cpu", 1.0, {"epochs": 100}, 10),
        ("cpu", 1.0, {"epochs": 100, "accumulation_steps": 2}, 10),  # half as many steps, each twice as long
        ("cpu", 1.0, {"epochs": 100, "batch_size": 1}, 20),  # 400 steps
        ("cpu", 1.0, {"epochs": 1000}, 20),
        ("cpu", 1.0, {"epochs": 1000, "max_minutes": 4.0}, 12),
        ("cuda", 1.0, {"epochs": 100, "accumulation_steps": 2}, 5),
    ],
)
def test_time_is_a_share_of_the_run_within_limits(data, device, step_seconds, options, seconds):
    plan = plan_for(data, **options).model_copy(update={"device": device})
    assert time_limit(plan, len(data.train), step_seconds) == pytest.approx(seconds)


def test_time_on_a_cpu_grows_with_the_pixels_of_a_patch(data, monkeypatch):
    monkeypatch.setattr(checking, "SIDES", {("cpu", 2): 16})
    assert time_limit(plan_for(data, epochs=100), len(data.train), 0.4) == pytest.approx(16)  # 200 steps, 4 * 0.4 s


def test_time_is_shorter_where_patches_grow(data, monkeypatch):
    monkeypatch.setattr(checking, "SIDES", {("cpu", 2): 16})
    monkeypatch.setattr(patch_growth.PatchGrowth, "mean_share", lambda self: 0.5)
    assert time_limit(plan_for(data, epochs=100), len(data.train), 0.4) == pytest.approx(8)


def test_a_short_run_is_checked_shortly(data, monkeypatch):
    allowed = []
    monkeypatch.setattr(checking, "time_limit", lambda *asked: allowed.append(asked) or 0)
    plan = plan_for(data, epochs=1)
    found = start_checks(build_network(plan), data, plan, never)
    [(of, scans, seconds)] = allowed
    assert (of, scans, seconds > 0) == (plan, 4, True)
    assert found.not_tried == {"overfit": "time", "rates": "time"}


@pytest.mark.parametrize("compiled", ["off", "on"])
def test_volumes_and_networks_that_are_to_be_compiled_are_tried(monkeypatch, compiled):
    monkeypatch.setattr(checking, "FEWEST_SWEPT", 1)
    volumes = TrainingData(VolumeStore(), train=(0,), val=(1,), test=())
    plan = plan_for(volumes, model="tiny_unet", batch_size=1, patch_size=32, augmentation="none", compile=compiled)
    assert len(plan.patch_shape) == 3
    answers = itertools.chain([False] * 8, itertools.repeat(True))
    found = checked(build_network(plan), volumes, plan, answers.__next__)
    assert found.initial_loss == pytest.approx(found.expected_initial_loss, rel=0.5)
    assert found.lr == 0.02


def test_large_patches_are_tried_small(data, monkeypatch):
    monkeypatch.setattr(checking, "SIDES", {("cpu", 2): 16})
    shapes = set()

    class Measuring(Normless):
        def forward(self, x):
            shapes.add(tuple(x.shape))
            return super().forward(x)

    plan = plan_for(data, batch_size=4)
    checked(Measuring(), data, plan, itertools.chain([False] * 3, itertools.repeat(True)).__next__)
    assert shapes == {(2, 1, 16, 16)}


def test_network_and_random_numbers_stay_as_they_are(data, monkeypatch):
    monkeypatch.setattr(checking, "OVERFIT_STEPS", 3)
    plan = plan_for(data, model="forgetful")
    network = build_network(plan)
    state = torch.get_rng_state()
    checked(network, data, plan)
    assert torch.equal(torch.get_rng_state(), state)
    for one, other in zip(network.parameters(), build_network(plan).parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.grad is None
