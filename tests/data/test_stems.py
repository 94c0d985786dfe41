from __future__ import annotations

import pytest

from octa_backend.data.stems import Told, contradict, own_words, told_by


def test_a_stem_tells_eye_layer_numbers_and_words():
    assert told_by("IMG-007_OD_svc_Visit02") == Told(
        numbers=("2",), eyes=frozenset({"right"}), layers=frozenset({"superficial"}), words=("img", "visit")
    )
    assert told_by("") == Told((), frozenset(), frozenset(), ())


@pytest.mark.parametrize(("one", "other"), [("1_OD", "1_OS"), ("1_svc", "1_deep"), ("1_2", "1_3"), ("1L", "1-right")])
def test_other_eyes_layers_and_numbers_contradict(one, other):
    assert contradict(told_by(one), told_by(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("1_OD", "001right"), ("1_scp", "1_SVC"), ("1_02", "01-2"), ("1_OD", "1"), ("1_2", "1"), ("a", "b")],
)
def test_what_is_told_in_other_words_or_by_one_alone_does_not_contradict(one, other):
    assert not contradict(told_by(one), told_by(other))


def test_words_of_ones_own_are_those_that_the_other_lacks():
    assert own_words(told_by("scan a 7 a"), told_by("a drawn 7")) == (("a", "scan"), ("drawn",))
