from __future__ import annotations

from tests.training.conftest import _one_thread, _seed  # noqa: F401 - the same for networks
