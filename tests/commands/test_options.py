from __future__ import annotations

import pytest

from octa_backend.commands.options import SWITCHES, with_one_value_each


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("--residual", "--residual true"),
        ("--residual scans.zip", "--residual true scans.zip"),
        ("--residual false scans.zip", "--residual false scans.zip"),
        ("--deep_supervision --epochs 3", "--deep_supervision true --epochs 3"),
        ("--deep-supervision=false --epochs 3", "--deep-supervision=false --epochs 3"),
        ("--target-shape 96 64 32 --amp", "--target-shape 96,64,32 --amp"),
        ("--target_shape 96,64,32 x.zip", "--target_shape 96,64,32 x.zip"),
        ("--target-shape auto", "--target-shape auto"),
        ("--epochs 3 --force", "--epochs 3 --force"),
    ],
)
def test_switches_may_stand_alone_and_lists_may_be_spaced(written, expected):
    assert with_one_value_each(written.split()) == expected.split()


def test_switches_are_the_fields_that_are_true_or_false():
    assert {"residual", "deep_supervision", "auto_heal", "start_checks", "tensorboard"} <= set(SWITCHES)
    assert "epochs" not in SWITCHES
