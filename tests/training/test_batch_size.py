from __future__ import annotations

import pytest

from octa_backend.training import batch_size
from octa_backend.training.batch_size import choose_batch_size, fits, largest_that_fits
from octa_backend.training.precision import Hardware
from tests.tiny import a_plan, synthetic_pairs, training_data, write_store

GPU = Hardware("cuda:0", bf16_speedup=2.0, channels_last=True)


pytestmark = pytest.mark.usefixtures("tiny_registry")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_data(write_store(tmp_path_factory.mktemp("data"), synthetic_pairs(3)))


@pytest.mark.parametrize(
    ("memory", "limit", "expected"), [(100, 16, 16), (100, 15, 8), (5, 16, 4), (4, 16, 4), (1, 16, 1), (0, 16, 1)]
)
def test_largest_power_of_two_that_fits_is_found(memory, limit, expected):
    assert largest_that_fits(lambda count: count <= memory, limit) == expected


def test_no_more_is_tried_than_it_takes():
    tried = []
    largest_that_fits(lambda count: tried.append(count) or count <= 4, limit=64)
    assert tried == [2, 4, 8]


@pytest.mark.parametrize(("count", "expected"), [(1, True), (2, True), (3, False), (4, False)])
def test_trial_tells_whether_a_step_fits_into_the_memory(data, count, expected):
    assert fits(a_plan(data, model="hungry", batch_size="auto", lr="auto"), count) is expected


@pytest.mark.parametrize(
    ("samples", "accumulation_steps", "expected"), [(1000, 1, 16), (85, 1, 8), (85, 2, 4), (39, 1, 2), (5, 1, 1)]
)
def test_on_a_gpu_it_is_what_fits_and_leaves_enough_steps(data, monkeypatch, samples, accumulation_steps, expected):
    monkeypatch.setattr(batch_size, "fits", lambda plan, count: True)
    monkeypatch.setattr(batch_size.torch.cuda, "reset_peak_memory_stats", lambda device: None)
    plan = a_plan(data, GPU, batch_size="auto", accumulation_steps=accumulation_steps)
    size, reason = choose_batch_size(plan, samples)
    assert size == expected
    assert f"{samples} patches" in reason
