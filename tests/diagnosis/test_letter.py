from __future__ import annotations

import re

import pytest

from octa_backend.diagnosis.curves import Shape
from octa_backend.diagnosis.doctor import CHECKS, examine_run
from octa_backend.diagnosis.letter import ROWS, write_letter
from octa_backend.diagnosis.letter_words import CAUSES, SHAPES, WORDS
from tests.diagnosis import histories
from tests.diagnosis.histories import first_epochs, healthy, planted

CHINESE = re.compile(r"[\u4e00-\u9fff]")


def letter(history, language="en"):
    return write_letter(history, examine_run(history), "job 7", language)


def test_letter_tells_the_whole_story():
    history, _ = planted(histories.lr_too_low, 5)
    text = letter(history)
    assert text.startswith("# Training report: job 7\n\n## The run\n\nunet_transformer (31.4 million parameters)")
    headings = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert headings[:5] == ["The run", "History", "Verdict", "Remedy", "Evidence"]
    assert "Ruled out" in headings
    assert "is too low" in text
    assert re.search(r"- raise the learning rate to \S+ \(`raise_lr`: `lr=\S+`\)\n- The run goes on from its", text)
    assert f"| {history.epochs[-1].epoch} | " in text
    assert "- vanishing gradients (`gradients_vanishing`)" in text


@pytest.mark.parametrize("fault", histories.FAULTS)
def test_letter_of_every_fault_is_written_in_both_languages(fault):
    history, _ = planted(fault, 5)
    english, chinese = letter(history), letter(history, "zh")
    assert not CHINESE.search(english)
    assert chinese.count("\n## ") == english.count("\n## ")
    assert all(CHINESE.search(line) for line in chinese.splitlines() if line.startswith("#"))
    assert "{" not in english + chinese


def test_letter_of_a_run_without_epochs_has_no_history():
    text = letter(first_epochs(healthy(0), 0))
    assert "## History" not in text
    assert "Too early to judge: 0 epochs" in text


def test_letter_tells_what_was_tried_before_the_first_step_even_without_epochs():
    tried = {"lr": 1e-3, "initial_loss": 0.71, "expected_initial_loss": 0.69, "overfit_dice": 0.85, "overfit_steps": 40}
    history = histories.with_start(first_epochs(healthy(0), 0), **tried, not_tried={"rates": "time"})
    assert (
        "## History\n\n- initial loss 0.7100 (expected 0.6900)\n"
        "- one batch by heart: Dice 0.8500 after 40 steps at lr 0.001\n"
        "- range test not tried: the time did not suffice\n"
    ) in letter(history)
    assert "- 初始损失 0.7100（理论值 0.6900）" in letter(history, "zh")
    with_epochs = letter(histories.with_start(healthy(0), **tried))
    assert with_epochs.index("- initial loss") < with_epochs.index("| Epoch |")


def test_table_of_a_long_run_has_its_first_and_last_epoch():
    history = next(run for run in map(healthy, range(50)) if len(run.epochs) == 100)
    rows = re.findall(r"^\| (\d+) \|", letter(history), flags=re.MULTILINE)
    assert (rows[0], rows[-1], len(rows)) == ("1", "100", ROWS)


def test_words_are_there_in_both_languages():
    assert set(CAUSES) == {check.code for check in CHECKS}
    assert set(SHAPES) == {shape.value for shape in Shape}
    for text in (*WORDS.values(), *CAUSES.values(), *SHAPES.values()):
        assert CHINESE.search(text.zh)
        assert not CHINESE.search(text.en)
        assert (
            re.findall(r"{\w+}", text.en)
            and sorted(re.findall(r"{\w+}", text.en)) == sorted(re.findall(r"{\w+}", text.zh))
        ) or "{" not in text.en + text.zh
