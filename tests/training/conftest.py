from __future__ import annotations

import pytest
import torch

from tests.tiny import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
