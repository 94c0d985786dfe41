from __future__ import annotations

import pytest
import torch

from tests.tiny import one_thread, synthetic_pairs, tiny_networks, training_data, write_store


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def tiny_registry():
    """Tests that use it find the tiny networks by name, as if they were the product's."""
    with tiny_networks():
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four grey 32 x 32 scans to train on, one to validate: two steps an epoch."""
    return training_data(write_store(tmp_path_factory.mktemp("data"), synthetic_pairs(5)))
