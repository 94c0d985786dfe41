from __future__ import annotations

import re
from dataclasses import replace

import pytest

from octa_backend.diagnosis.run_history import TRIALS, StartChecks
from octa_backend.diagnosis.start_words import REASONS, START_WORDS, TRIAL_NAMES, start_lines

CHINESE = re.compile(r"[\u4e00-\u9fff]")

ALL = StartChecks(
    lr=1e-3,
    initial_loss=0.71234,
    expected_initial_loss=0.6931,
    overfit_dice=0.85,
    overfit_steps=40,
    loss=0.3,
    zeroed_input_loss=0.9,
    lr_found=2e-3,
    lr_diverges=0.1,
)


def lines(language="en", **changes):
    return list(start_lines(replace(ALL, **changes), language))


def test_each_trial_has_its_line():
    assert lines() == [
        "initial loss 0.7123 (expected 0.6931)",
        "one batch by heart: Dice 0.8500 after 40 steps at lr 0.001",
        "loss on that batch 0.3000, with all intensities zeroed 0.9000",
        "range test: suggests lr 0.002, diverges from 0.1 on; the chosen lr 0.001 is within the sound range, "
        "0.00025 to 0.016",
    ]


@pytest.mark.parametrize(
    ("lr", "diverges", "phrase"),
    [
        (1e-4, 0.1, "the chosen lr 0.0001 is below the sound range"),
        (0.02, 0.1, "the chosen lr 0.02 is above the sound range, 0.00025 to 0.016"),
        (0.015, 0.02, "the chosen lr 0.015 is above the sound range, 0.00025 to 0.014"),
        (1e-3, None, "diverges nowhere"),
    ],
)
def test_rate_lies_within_below_or_above_what_the_range_test_found(lr, diverges, phrase):
    assert phrase in lines(lr=lr, lr_diverges=diverges)[-1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"expected_initial_loss": None}, "initial loss 0.7123 (this loss has no expected value)"),
        ({"initial_loss": None}, "the initial loss is not finite"),
        ({"lr_found": None}, "range test: the loss fell at no rate"),
        ({"not_tried": {"rates": "time"}}, "range test not tried: the time did not suffice"),
        (
            {"not_tried": {"overfit": "no_batch"}},
            "one batch by heart not tried: no batch has both foreground and background",
        ),
        ({"not_tried": {"initial_loss": "memory"}}, "initial loss not tried: the device's memory did not suffice"),
    ],
)
def test_what_is_missing_is_explained(changes, expected):
    assert expected in lines(**changes)


def test_nothing_is_said_where_nothing_was_to_be_tried():
    assert list(start_lines(StartChecks(), "en")) == []


def test_words_are_there_in_both_languages():
    assert set(TRIAL_NAMES) == set(TRIALS)
    for text in (*START_WORDS.values(), *TRIAL_NAMES.values(), *REASONS.values()):
        assert CHINESE.search(text.zh)
        assert not CHINESE.search(text.en)
        assert set(re.findall(r"{\w+}", text.en)) == set(re.findall(r"{\w+}", text.zh))
    assert len(lines("zh")) == len(lines("en"))
