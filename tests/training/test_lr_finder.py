from __future__ import annotations

import pytest
import torch

from octa_backend.training.lr_finder import HIGHEST, LOWEST, evaluate_sweep, range_test, sweep
from octa_backend.training.network import build_network
from tests.tiny import Normless, a_plan

pytestmark = pytest.mark.usefixtures("tiny_registry")


def never():
    return False


class Loud(Normless):
    """Its loss is far off as soon as its weights are."""

    def forward(self, x):
        return 100 * super().forward(x)


def plan_for(data, **options):
    return a_plan(data, **{"model": "normless", "optimizer": "sgd", "augmentation": "none", "batch_size": 4, **options})


# --- the curve ------------------------------------------------------------------------------------------------------


def test_rates_rise_from_end_to_end_by_the_same_factor():
    rates = sweep(7)
    assert rates == pytest.approx([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1])
    assert (sweep(100)[0], sweep(100)[-1]) == pytest.approx((LOWEST, HIGHEST))


def test_losses_are_averaged_with_five_neighbours_on_either_side():
    losses = [0.0] * 10 + [11.0] + [0.0] * 10
    smoothed = evaluate_sweep(sweep(21), losses).smoothed
    assert smoothed[4:17] == pytest.approx([0.0] + [1.0] * 11 + [0.0])


def test_ends_are_averaged_with_the_neighbours_there_are():
    smoothed = evaluate_sweep(sweep(12), [float(i) for i in range(12)]).smoothed
    assert smoothed[0] == pytest.approx(2.5)
    assert smoothed[-1] == pytest.approx(8.5)
    assert smoothed[6] == pytest.approx(6.0)


def test_suggestion_is_a_tenth_of_the_rate_at_the_least_loss_to_two_digits():
    rates = [1e-6 * 10 ** (i / 10) for i in range(61)]
    losses = [1 - 0.5 * max(0.0, 1 - abs(i - 40) / 20) for i in range(61)]  # a valley at 1e-2
    assert evaluate_sweep(rates, losses).suggestion == pytest.approx(1e-3)
    losses = [1 - 0.5 * max(0.0, 1 - abs(i - 33) / 20) for i in range(61)]  # at 1.995e-3
    assert evaluate_sweep(rates, losses).suggestion == 2.0e-4


@pytest.mark.parametrize(
    "losses", [[], [0.5], [0.5] * 50, [0.5 + i / 100 for i in range(50)], [0.5 - i / 10_000 for i in range(50)]]
)
def test_loss_that_does_not_fall_suggests_nothing(losses):
    assert evaluate_sweep(sweep(50)[: len(losses)], losses).suggestion is None


# --- the sweep ------------------------------------------------------------------------------------------------------


def test_sweep_finds_a_rate_and_leaves_the_network_alone(data):
    plan = plan_for(data)
    network = build_network(plan)
    found = range_test(network, data, plan, never, steps=30)
    assert 20 <= len(found.rates) == len(found.losses) == len(found.smoothed) <= 30
    assert found.losses[0] == pytest.approx(found.losses[3], rel=0.2)
    assert LOWEST < found.suggestion < HIGHEST
    assert network.training
    for one, other in zip(network.parameters(), build_network(plan).parameters(), strict=True):
        assert torch.equal(one, other)
        assert one.grad is None


def test_equal_seeds_give_equal_sweeps(data):
    plan = plan_for(data, model="forgetful", augmentation="standard")
    one, other = (range_test(build_network(plan), data, plan, never, steps=5) for _ in range(2))
    assert one == other
    different = plan_for(data, model="forgetful", augmentation="standard", seed=7)
    assert range_test(build_network(different), data, different, never, steps=5) != one


def test_sweep_ends_where_the_loss_explodes(data):
    plan = plan_for(data, optimizer="adam", loss="bce")
    found = range_test(Loud(), data, plan, never, steps=30)
    assert len(found.losses) < 30
    assert found.losses[-1] > 4 * min(found.losses)


def test_sweep_ends_where_the_loss_is_not_finite(data):
    plan = plan_for(data, model="overflowing")
    found = range_test(build_network(plan), data, plan, never, steps=5)
    assert (found.losses, found.suggestion) == ((), None)


def test_sweep_stops_when_asked_to(data):
    plan = plan_for(data)
    answers = iter([False, False, True])
    assert range_test(build_network(plan), data, plan, lambda: next(answers), steps=30) is None
    assert list(answers) == []
