from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from octa_backend.training.evaluation import evaluate
from octa_backend.training.losses import make_loss
from tests.tiny import a_plan, training_data, write_store


class Threshold(nn.Module):
    """Calls every pixel above 0.5 foreground, and is sure of it; remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append((x.shape, torch.is_autocast_enabled("cpu")))
        return (x - 0.5).sign() * 50


def scan(*, bright, true, height=20, width=30):
    """Rows up to `bright` look like vessels, rows up to `true` are."""
    image, mask = np.zeros((1, height, width), np.uint8), np.zeros((height, width), np.uint8)
    image[:, :bright], mask[:true] = 255, 1
    return image, mask


@pytest.fixture
def data(tmp_path):
    pairs = [scan(bright=4, true=4), scan(bright=4, true=8), scan(bright=0, true=0, height=17, width=40)]
    return training_data(write_store(tmp_path, pairs))


def run(data, indices, should_stop=lambda: False, **options):
    plan = a_plan(data, **options)
    network = Threshold()
    return evaluate(network, data, plan, make_loss(plan.config), indices, should_stop), network


def test_each_scan_is_scored_by_name_in_the_order_asked_for(data):
    results, _ = run(data, (2, 0, 1))
    assert [result.name for result in results] == ["s2", "s0", "s1"]
    assert [result.score.dice for result in results] == pytest.approx([1, 1, 2 * 4 / (4 + 8)])
    assert [result.score.recall for result in results] == pytest.approx([1, 1, 0.5])


def test_loss_is_the_trainings_by_hand(data):
    results, _ = run(data, (1,), bce_weight=0.3, dice_weight=0.7)
    # 120 of 600 pixels are missed at a cost of 50 each; 120 are hit, 120 are found, 240 are true
    assert results[0].loss == pytest.approx(0.3 * 50 * 120 / 600 + 0.7 * (1 - 241 / 361), rel=1e-5)


def test_scans_are_seen_whole_one_at_a_time(data):
    _, network = run(data, (0, 2), patch_size=32)
    assert [shape for shape, _ in network.seen] == [(1, 1, 20, 30), (1, 1, 17, 40)]


@pytest.mark.parametrize(("precision", "enabled"), [("fp32", False), ("bf16", True)])
def test_arithmetic_is_the_plans(data, precision, enabled):
    results, network = run(data, (0,), precision=precision)
    assert [autocast for _, autocast in network.seen] == [enabled]
    assert math.isfinite(results[0].loss)


def test_it_stops_between_scans_when_asked(data):
    answers = iter([False, True])
    results, network = run(data, (0, 1, 2), should_stop=lambda: next(answers))
    assert results is None
    assert len(network.seen) == 1


def test_no_scans_give_no_results(data):
    assert run(data, ())[0] == []


@pytest.mark.parametrize(("normalisation", "bright"), [("unit", 1.0), ("zscore", 2.0), ("percentile", 1.0)])
def test_scans_are_normalised_as_in_training(data, normalisation, bright):
    class Recorder(nn.Module):
        def forward(self, x):
            self.brightest = float(x.max())
            return x

    plan = a_plan(data, normalisation=normalisation)
    network = Recorder()
    evaluate(network, data, plan, make_loss(plan.config), (0,), lambda: False)
    # a fifth of the pixels is 1, the rest 0: mean 1/5, deviation 2/5
    assert network.brightest == pytest.approx(bright)
