from __future__ import annotations

import json
import zipfile

import pytest
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.data.synthetic import write_zip
from octa_backend.service import experiment, plan_preview
from octa_backend.training.config import TrainConfig
from tests.tiny import SLOW_CPU, one_thread


@pytest.fixture
def octa(tmp_path, monkeypatch):
    """Run `octa plan` on four synthetic scans."""
    for module in (experiment, plan_preview):
        monkeypatch.setattr(module, "probe", lambda device: SLOW_CPU)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_zip(tmp_path / "scans.zip", 4, size=32, seed=1)

    def run(*arguments, scans=("scans.zip",), charset="utf-8"):
        with one_thread():
            return CliRunner(charset=charset).invoke(app, ["plan", *scans, "--device", "cpu", *arguments])

    return run


def test_plan_is_shown_as_tables_and_nothing_is_left_behind(octa, tmp_path):
    result = octa("--model", "tiny_unet", "--epochs", "7")
    assert result.exit_code == 0, (result.output, result.exception)
    for phrase in ("4 (2 train, 2 validate, 0 test)", "32×32", "tiny_unet", "as you set it", "0.07 M", "MiB"):
        assert phrase in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["scans.zip"]


def test_plan_as_json_holds_fingerprint_fields_estimate_and_plan(octa):
    found = json.loads(octa("--model", "tiny_unet", "--json").output)
    assert set(found) == {"fingerprint", "fields", "estimate", "plan", "findings"}
    assert found["fingerprint"]["training_scans"] == 2
    assert {"field", "value", "why"} == set(found["fields"][0])
    assert set(found["estimate"]) == {"parameters", "memory_mib", "steps_per_epoch", "seconds_per_epoch"}
    assert found["plan"]["config"]["epochs"] == 200


def test_json_is_whole_where_the_encoding_lacks_letters(octa, monkeypatch):
    monkeypatch.setenv("OCTA_LANGUAGE", "zh")
    found = json.loads(octa("--model", "tiny_unet", "--json", charset="ascii").output)
    assert any(not finding["message"].isascii() for finding in found["findings"])


def test_a_folder_has_the_plan_of_its_zip(octa, tmp_path):
    with zipfile.ZipFile(tmp_path / "scans.zip") as archive:
        archive.extractall(tmp_path / "scans")
    asked = ("--model", "tiny_unet", "--json")
    found = [json.loads(octa(*asked, scans=scans).output) for scans in (("scans.zip",), ("--data-dir", "scans"))]
    assert found[0]["plan"] == found[1]["plan"]


@pytest.mark.parametrize(
    ("scans", "phrase"),
    [
        ((), "name the scans: octa plan DATA.zip, or octa plan --data-dir FOLDER"),
        (("scans.zip", "--data-dir", "."), "the scans are named twice"),
    ],
)
def test_scans_are_named_once(octa, scans, phrase):
    result = octa(scans=scans)
    assert result.exit_code == 2
    assert phrase in " ".join(result.output.split())


def test_every_field_of_the_configuration_is_an_option(octa):
    output = octa("--help").output
    for name in TrainConfig.model_fields:
        assert f"--{name.replace('_', '-')}" in output


def test_misspelt_value_is_refused_in_words(octa):
    result = octa("--model", "resnet")
    assert result.exit_code == 2
    assert "no network is called 'resnet'" in " ".join(result.output.split())
