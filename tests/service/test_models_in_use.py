from __future__ import annotations

import pytest

from octa_backend.errors import ModelInUse
from octa_backend.service.models_in_use import ModelsInUse


def test_a_model_is_in_use_until_its_last_user_is_done():
    in_use = ModelsInUse()
    with in_use.using(["m1"], "a prediction"):
        with (
            in_use.using(["m1"], "a prediction"),
            in_use.using(["m2"], "comparison c1"),
            pytest.raises(ModelInUse, match="m2 is at work for comparison c1"),
        ):
            in_use.require_idle("m2")
        in_use.require_idle("m2")
        with pytest.raises(ModelInUse, match="m1 is at work for a prediction; wait"):
            in_use.require_idle("m1")
    in_use.require_idle("m1")


def test_a_user_that_fails_lets_go():
    in_use = ModelsInUse()
    with pytest.raises(ValueError, match="broken"), in_use.using(["m1"], "a prediction"):
        raise ValueError("broken")
    in_use.require_idle("m1")
