from __future__ import annotations

import pytest

from octa_backend.diagnosis.messages import describe
from octa_backend.training.checkpoint import Best
from octa_backend.training.config import TrainConfig
from octa_backend.training.stopping import Limits


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


# --- patience -------------------------------------------------------------------------------------------------------


def test_run_ends_after_patience_epochs_without_a_better_dice():
    limits = Limits(TrainConfig(patience=3))
    assert [limits.out_of_patience(epoch, Best(2, 0.8)) is not None for epoch in (2, 3, 4, 5)] == [False] * 3 + [True]


def test_patience_is_judged_after_epochs_that_were_validated_alone():
    limits = Limits(TrainConfig(patience=3, val_freq=5))
    assert [epoch for epoch in range(1, 12) if limits.out_of_patience(epoch, Best(1, 0.8))] == [5, 10]


def test_finding_says_how_long_it_waited_and_which_epoch_was_the_best():
    finding = Limits(TrainConfig(patience=3)).out_of_patience(5, Best(2, 0.81234))
    assert finding.code == "stopped_early"
    assert finding.epoch == 5
    for language in ("en", "zh"):
        for word in ("3", "2", "0.8123"):
            assert word in describe(finding, language)["message"]


def test_without_patience_a_run_goes_on_for_ever():
    assert Limits(TrainConfig(patience=0)).out_of_patience(10_000, Best(1, 0.8)) is None


def test_before_the_first_validation_patience_does_not_count():
    assert Limits(TrainConfig(patience=1)).out_of_patience(0, None) is None


# --- minutes --------------------------------------------------------------------------------------------------------


def test_run_ends_when_its_minutes_are_over(clock):
    limits = Limits(TrainConfig(max_minutes=2), clock=clock)
    clock.seconds += 119
    assert limits.out_of_time(4, Best(1, 0.8)) is None
    clock.seconds += 1
    finding = limits.out_of_time(4, Best(1, 0.8))
    assert (finding.code, finding.epoch) == ("time_used_up", 4)
    assert "after 3 epochs" in describe(finding, "en")["message"]
    assert "第 3 轮" in describe(finding, "zh")["message"]


def test_first_epoch_is_finished_however_long_it_takes(clock):
    limits = Limits(TrainConfig(max_minutes=1), clock=clock)
    clock.seconds += 3600
    assert limits.out_of_time(1, None) is None


def test_minutes_are_nearly_over_when_two_more_epochs_may_not_fit(clock):
    limits = Limits(TrainConfig(max_minutes=1), clock=clock)
    begun = limits.elapsed()
    clock.seconds += 10
    assert not limits.is_nearly_over(begun)
    clock.seconds += 10
    assert limits.is_nearly_over(begun)
    assert not Limits(TrainConfig(), clock=clock).is_nearly_over(0.0)


def test_without_a_limit_time_does_not_matter(clock):
    limits = Limits(TrainConfig(), clock=clock)
    clock.seconds += 1e9
    assert limits.out_of_time(9, Best(1, 0.8)) is None


# --- over several attempts ------------------------------------------------------------------------------------------

CONFIG = TrainConfig(patience=2, max_minutes=2, epochs=10)


def resumed(clock, config=CONFIG):
    """The limits of a second attempt, one minute and three epochs after the start of the first."""
    first = Limits(CONFIG, clock=clock)
    clock.seconds += 60
    state = first.state_dict()
    clock.seconds += 1e6
    second = Limits(config, clock=clock)
    second.load_state_dict(state, epoch=3)
    return second


def test_next_attempt_counts_on(clock):
    limits = resumed(clock)
    assert limits.out_of_patience(3, Best(1, 0.8)) is not None
    assert limits.out_of_time(4, Best(1, 0.8)) is None
    clock.seconds += 60
    assert limits.out_of_time(4, Best(1, 0.8)) is not None


@pytest.mark.parametrize("change", [{"epochs": 20}, {"lr": 0.5}])
def test_run_that_is_resumed_to_do_more_counts_anew(clock, change):
    limits = resumed(clock, CONFIG.model_copy(update=change))
    assert limits.out_of_patience(3, Best(1, 0.8)) is None
    assert limits.out_of_patience(5, Best(1, 0.8)) is not None
    clock.seconds += 119
    assert limits.out_of_time(4, Best(1, 0.8)) is None


def test_third_attempt_counts_from_where_the_second_began_anew(clock):
    config = CONFIG.model_copy(update={"epochs": 20})
    third = Limits(config, clock=clock)
    third.load_state_dict(resumed(clock, config).state_dict(), epoch=4)
    assert third.out_of_patience(4, Best(1, 0.8)) is None
    assert third.out_of_patience(5, Best(1, 0.8)) is not None
