from __future__ import annotations

import pytest
import torch

from octa_backend.models import registry
from octa_backend.training.config import TrainConfig
from octa_backend.training.estimate import estimate

pytestmark = pytest.mark.usefixtures("tiny_registry")


def sized(batch_size=1, shape=(32, 32), channels=1, classes=2, **options):
    usual = {"model": "normless", "optimizer": "adam", "precision": "fp32"}
    return estimate(TrainConfig(**{**usual, **options}), channels, classes, (batch_size, *shape))


def test_memory_is_that_of_weights_and_of_what_the_backward_pass_needs():
    # Normless: convolutions of 1, 4, 4, 4 and 1 channels with 3x3 weights and biases; each keeps its input, and each
    # rectifier its output, which is the next input.
    parameters = (9 + 1) * 4 + 2 * (4 * 9 + 1) * 4 + (4 * 9 + 1)
    kept = 32 * 32 * (1 + 3 * 4)
    found = sized()
    assert found.parameters == parameters
    assert found.memory_mib == pytest.approx(4 * (5 * parameters + kept) / 2**20, abs=0.06)


def test_parameters_are_those_of_the_network():
    network = registry.build("unet", 3, 4)
    assert sized(model="unet", channels=3, classes=4).parameters == sum(w.numel() for w in network.parameters())


def test_memory_grows_with_batch_and_patch_and_shrinks_with_half_precision():
    usual = sized(batch_size=2, shape=(64, 64), model="small_unet").memory_mib
    assert sized(batch_size=4, shape=(64, 64), model="small_unet").memory_mib > 1.8 * usual
    assert sized(batch_size=2, shape=(128, 64), model="small_unet").memory_mib > 1.8 * usual
    assert sized(batch_size=2, shape=(64, 64), model="small_unet", precision="bf16").memory_mib < 0.6 * usual


def test_sgd_keeps_one_moment_less_than_adam():
    adam, sgd = (sized(model="unet", optimizer=name) for name in ("adam", "sgd"))
    assert adam.memory_mib - sgd.memory_mib == pytest.approx(4 * adam.parameters / 2**20, abs=0.2)


def test_nothing_is_drawn_from_the_run_s_random_numbers():
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    sized(shape=(48, 48), model="small_unet")
    assert torch.equal(torch.rand(1), expected)
