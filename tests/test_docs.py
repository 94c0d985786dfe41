"""The documents are complete: every route, setting, field, error, finding and command stands in them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from octa_backend.app import create_app
from octa_backend.cli import app as cli
from octa_backend.controller.predict_forms import PredictForm
from octa_backend.controller.problems import STATUS, name_of
from octa_backend.diagnosis.doctor import CHECKS, RunState
from octa_backend.diagnosis.messages import MESSAGES
from octa_backend.inference.measurements import QUANTITIES
from octa_backend.models.registry import NETWORKS
from octa_backend.settings import PREFIX, Settings
from octa_backend.training.augmentation_options import PRESETS, Augmentation
from octa_backend.training.config import TrainConfig
from octa_backend.training.log_lines import HINTS

ROOT = Path(__file__).parents[1]


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def routes() -> list[tuple[str, str]]:
    paths = create_app(Settings()).openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_stands_in_the_api_document(method: str, path: str) -> None:
    assert f"`{method} {path}`" in read("docs/api.md")


def test_the_api_document_names_no_route_that_is_not_there() -> None:
    named = re.findall(r"^\| `([A-Z]+) (/[^`]*)` \|", read("docs/api.md"), flags=re.MULTILINE)
    assert set(named) == set(routes())


@pytest.mark.parametrize("name", QUANTITIES)
def test_every_measurement_stands_in_the_api_document(name: str) -> None:
    assert f"`{name}`" in read("docs/api.md").partition("## Measurements")[2]


@pytest.mark.parametrize("name", PredictForm.model_fields)
def test_every_field_of_a_prediction_stands_in_the_api_document(name: str) -> None:
    assert re.search(rf"^\|.*`{name}`.* \|", read("docs/api.md").partition("## A prediction")[2], flags=re.MULTILINE)


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_stands_in_the_operations_document(name: str) -> None:
    assert f"`{PREFIX}{name.upper()}`" in read("docs/operations.md")


@pytest.mark.parametrize("name", TrainConfig.model_fields)
def test_every_config_field_stands_in_the_training_document_with_its_default(name: str) -> None:
    field = TrainConfig.model_fields[name]
    default = "null" if field.default is None else field.default
    assert f"| `{name}` | `{default}` | {field.description} |" in read("docs/training.md")


@pytest.mark.parametrize("name", Augmentation.model_fields)
def test_every_number_of_augmentation_stands_in_the_training_document_with_its_presets(name: str) -> None:
    values = " | ".join(f"{getattr(preset, name):g}" for preset in PRESETS.values())
    meaning = Augmentation.model_fields[name].description
    assert f"| `{name}` | {values} | {meaning} |" in read("docs/training.md")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_stands_in_the_training_document(name: str) -> None:
    assert f"| `{name}` |" in read("docs/training.md")


@pytest.mark.parametrize("kind", STATUS)
def test_every_error_stands_in_the_api_document(kind: type) -> None:
    assert f"| `{name_of(kind)}` | {STATUS[kind]} | {kind.title()} |" in read("docs/api.md")


@pytest.mark.parametrize("code", MESSAGES)
def test_every_finding_stands_in_the_diagnosis_document(code: str) -> None:
    assert f"| `{code}` |" in read("docs/diagnosis.md")


def test_the_doctors_findings_stand_in_the_order_of_the_verdict() -> None:
    section = read("docs/diagnosis.md").split("### The training doctor")[1].split("\n## ")[0]
    codes = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert codes == [*(check.code for check in CHECKS), *(state for state in RunState if state is not RunState.FAULT)]


@pytest.mark.parametrize("verdict", HINTS)
def test_every_hint_of_the_log_stands_in_the_diagnosis_document(verdict: str) -> None:
    longest = max(re.split(r"\{\w+\}", HINTS[verdict].en), key=len)
    assert longest in read("docs/diagnosis.md")


@pytest.mark.parametrize("command", [command.name or command.callback.__name__ for command in cli.registered_commands])
def test_every_command_stands_in_the_operations_document(command: str) -> None:
    assert f"`octa {command}" in read("docs/operations.md")


def test_every_dependency_has_its_reason() -> None:
    section = read("docs/architecture.md").partition("## Dependencies")[2]
    listed = read("pyproject.toml").partition("dependencies = [")[2].partition("]")[0]
    for package in re.findall(r'"([a-z-]+)[>=]', listed):
        assert package in section


def test_every_make_verb_of_the_readme_exists() -> None:
    verbs = set(re.findall(r"`?make ([a-z]+)", read("README.md")))
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))
    assert {"demo", "test", "check", "fix", "bench"} <= verbs <= targets


def test_links_between_documents_lead_somewhere() -> None:
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text("utf-8")):
            assert (path.parent / link).exists(), f"{path.name} → {link}"


def test_both_readmes_say_the_same():
    english, chinese = read("README.md"), read("README.zh-CN.md")
    for what in (
        r"^## ",
        r"\]\((?!README)[^)]+\)",
        r"\b(?:octa|make) [a-z]+\b",
        r"^curl",
        r"--[a-z][a-z-]+",
        r"Accept[^\"`]+",
    ):
        found = [sorted(re.findall(what, text, re.MULTILINE)) for text in (english, chinese)]
        assert (set(found[0]), what) == (set(found[1]), what)
        if what.startswith("^"):
            assert (len(found[0]), what) == (len(found[1]), what)


@pytest.mark.parametrize("name", ["api", "training", "diagnosis", "operations", "architecture"])
def test_every_row_of_a_table_has_as_many_cells_as_its_heading(name):
    wrong, cells = [], 0
    for line in read(f"docs/{name}.md").splitlines():
        found = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0
        if found and cells and found != cells:
            wrong.append(line)
        cells = (cells or found) if found else 0
    assert wrong == []
