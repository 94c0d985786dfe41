from __future__ import annotations

from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from octa_backend.commands.options import SWITCHES, with_config_options, with_one_value_each
from octa_backend.service.train_service import read_config


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


def test_null_is_none_at_all_and_what_is_left_out_is_not_there():
    seen: list[dict[str, Any]] = []
    app = typer.Typer()

    @app.command()
    @with_config_options
    def command(config: dict[str, Any]) -> None:
        seen.append(config)

    given = ["--pos-weight", "null", "--ignore-index", "null", "--pretrained", "null", "--epochs", "3"]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 0, result.output
    assert seen == [{"pos_weight": None, "ignore_index": None, "pretrained": None, "epochs": "3"}]
    assert read_config(seen[0]).pos_weight is None
