from __future__ import annotations

import ast
import re
import string
from pathlib import Path

import pytest

import octa_backend
from octa_backend.diagnosis import messages
from octa_backend.diagnosis.findings import Finding, Remedy, Severity, finding_about_files
from octa_backend.diagnosis.messages import MESSAGES, REMEDY_TITLES, Text, describe, render
from octa_backend.diagnosis.training import split_findings

CHINESE = re.compile(r"[\u4e00-\u9fff]")
TEXTS = {**MESSAGES, **REMEDY_TITLES}


def first_arguments(*names):
    """The constant that each call of these names in the package has as its first argument."""
    found = set()
    for path in Path(octa_backend.__file__).parent.rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in names:
                given = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "code")]
                found |= {arg.value for arg in given if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return found


def placeholders(sentence):
    return {field for _, field, _, _ in string.Formatter().parse(sentence) if field is not None}


def test_every_finding_of_the_package_has_its_text():
    codes = first_arguments("Finding", "finding_about_files", "Fault")
    assert {"few_validation_scans", "masks_not_binary"} <= codes
    assert codes - set(MESSAGES) == set()


def test_every_remedy_of_the_package_has_its_title():
    assert first_arguments("Remedy") - set(REMEDY_TITLES) == set()


@pytest.mark.parametrize("code", TEXTS)
def test_text_is_there_in_both_languages_with_the_same_placeholders(code):
    text = TEXTS[code]
    assert text.en
    assert not CHINESE.search(text.en)
    assert CHINESE.search(text.zh)
    assert placeholders(text.en) == placeholders(text.zh)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("code", MESSAGES)
def test_every_finding_is_described_in_both_languages(code, language):
    evidence = {name: f"<{name}>" for name in placeholders(MESSAGES[code].en)}
    described = describe(Finding(code, Severity.WARNING, evidence, ("12",), epoch=4), language)
    assert bool(CHINESE.search(described["message"])) == (language == "zh")
    assert all(value in described["message"] for value in evidence.values())
    assert "{" not in described["message"]
    assert {name: value for name, value in described.items() if name != "message"} == {
        "code": code,
        "severity": "warning",
        "epoch": 4,
        "evidence": evidence,
        "scans": ["12"],
        "remedy": None,
    }


def test_findings_about_the_split_have_all_that_their_sentences_need():
    (few,) = split_findings(20, 3, shared=False)
    assert "Only 3 scans are left for validation (20 for training)" in describe(few, "en")["message"]
    assert "验证集只有 3 个扫描" in describe(few, "zh")["message"]
    (shared,) = split_findings(1, 1, shared=True)
    assert "only one scan" in describe(shared, "en")["message"]


def test_finding_about_files_has_all_that_its_sentence_needs():
    found = finding_about_files("images_without_mask", Severity.ERROR, {"7.png": ""})
    assert describe(found, "en")["message"].startswith("1 images have no mask, for example 7.png;")
    assert describe(found, "zh")["message"].startswith("1 个图像没有掩码，例如 7.png；")


def test_remedy_is_described_with_its_title_and_changes(monkeypatch):
    monkeypatch.setattr(messages, "REMEDY_TITLES", {"lower_lr": Text("Train with lr {lr}", "将学习率设为 {lr}")})
    found = Finding("images_not_found", Severity.ERROR, remedy=Remedy("lower_lr", {"lr": 0.001}))
    remedy = {"code": "lower_lr", "changes": {"lr": 0.001}}
    assert describe(found, "en")["remedy"] == {**remedy, "title": "Train with lr 0.001"}
    assert describe(found, "zh")["remedy"] == {**remedy, "title": "将学习率设为 0.001"}


def test_remedy_of_a_run_says_where_to_go_on_from():
    found = Finding("images_not_found", Severity.ERROR, remedy=Remedy("lower_lr", {"lr": 0.001}, from_checkpoint=True))
    assert describe(found, "en")["remedy"]["from_checkpoint"] is True


def test_placeholders_are_filled_from_the_evidence():
    text = Text("{count} of {total}", "{total} 中的 {count}")
    assert render(text, {"count": 2, "total": 5, "more": 1}, "en") == "2 of 5"
    assert render(text, {"count": 2, "total": 5}, "zh") == "5 中的 2"
