from __future__ import annotations

import math

import pytest

from octa_backend.training.config import TrainConfig
from octa_backend.training.schedules import Plateau, Schedule, learning_rate


def rates(steps=1, **options):
    config = TrainConfig(**{"lr": 0.01, **options})
    return [learning_rate(config, e, s, steps) for e in range(1, config.epochs + 1) for s in range(1, steps + 1)]


def test_constant_rate_stays():
    assert rates(scheduler="constant", epochs=3, steps=2) == [0.01] * 6


def test_step_schedule_falls_by_gamma_every_step_size_epochs():
    found = rates(scheduler="step", step_size=2, gamma=0.5, epochs=5)
    assert found == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])


def test_step_schedule_does_not_move_within_an_epoch():
    assert rates(scheduler="step", step_size=1, gamma=0.5, epochs=2, steps=3) == pytest.approx([0.01] * 3 + [0.005] * 3)


def test_exponential_schedule_falls_by_gamma_each_epoch():
    assert rates(scheduler="exponential", gamma=0.5, epochs=4) == pytest.approx([0.01, 0.005, 0.0025, 0.00125])


def test_exponential_schedule_does_not_move_within_an_epoch():
    assert rates(scheduler="exponential", gamma=0.5, epochs=2, steps=2) == pytest.approx([0.01] * 2 + [0.005] * 2)


def test_cosine_falls_from_the_start_to_nearly_zero():
    quarter = (1 + math.sqrt(0.5)) / 2
    found = rates(scheduler="cosine", epochs=4)
    assert found == pytest.approx([0.01, 0.01 * quarter, 0.005, 0.01 * (1 - quarter)])


def test_cosine_moves_with_every_step():
    assert rates(scheduler="cosine", epochs=2, steps=2) == pytest.approx(rates(scheduler="cosine", epochs=4))


def test_polynomial_with_power_1_is_a_straight_line():
    assert rates(scheduler="poly", power=1, epochs=4) == pytest.approx([0.01, 0.0075, 0.005, 0.0025])


def test_polynomial_bends_with_its_power():
    assert rates(scheduler="poly", power=2, epochs=2, steps=2) == pytest.approx([0.01, 0.005625, 0.0025, 0.000625])


def test_onecycle_starts_at_a_25th_peaks_after_30_percent_and_ends_near_nothing():
    found = rates(scheduler="onecycle", epochs=20)
    assert found[0] == pytest.approx(0.01 / 25)
    assert found[3] == pytest.approx(0.01 * (1 + 1 / 25) / 2)  # 15 %: half way up the cosine
    assert found[6] == pytest.approx(0.01)
    assert found[13] == pytest.approx(0.01 * (1 + 1 / 25 * 1e-4) / 2)  # 65 %: half way down
    assert found[19] < found[0]
    assert found == sorted(found[:7]) + sorted(found[7:], reverse=True)


def test_onecycle_of_a_long_run_peaks_after_100_steps():
    found = rates(scheduler="onecycle", epochs=50, steps=40)
    assert found[0] == pytest.approx(0.01 / 25)
    assert found[50] == pytest.approx(0.01 * (1 + 1 / 25) / 2)
    assert found[100] == pytest.approx(0.01)
    assert found[1050] == pytest.approx(0.01 * (1 + 1 / 25 * 1e-4) / 2)
    assert found == sorted(found[:101]) + sorted(found[101:], reverse=True)


# --- warm-up --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduler", ["constant", "step", "exponential", "cosine", "poly", "plateau", "onecycle"])
def test_warm_up_rises_in_a_line_to_the_peak_at_which_the_schedule_begins(scheduler):
    found = rates(scheduler=scheduler, warmup_epochs=2, epochs=6, steps=2)
    assert found[:5] == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01])
    assert max(found) == pytest.approx(0.01)


def test_after_the_warm_up_the_schedule_runs_over_the_epochs_that_are_left():
    for scheduler in ("step", "exponential", "cosine", "poly"):
        options = {"scheduler": scheduler, "step_size": 1, "gamma": 0.5}
        warmed = rates(**options, warmup_epochs=3, epochs=7, steps=2)
        assert warmed[6:] == pytest.approx(rates(**options, epochs=4, steps=2))


def test_onecycle_after_a_warm_up_is_its_way_down():
    found = rates(scheduler="onecycle", warmup_epochs=1, epochs=5)
    low = 1 / 25 * 1e-4
    assert found[1:] == pytest.approx(
        [0.01 * (low + (1 - low) * (1 + math.cos(math.pi * k / 4)) / 2) for k in range(4)]
    )


# --- plateau --------------------------------------------------------------------------------------------------------


def factors(dices, patience=2, gamma=0.5):
    plateau = Plateau(patience, gamma)
    found = []
    for epoch, dice in enumerate(dices, start=1):
        plateau.see(epoch, dice)
        found.append(plateau.factor)
    return found


def test_plateau_lowers_the_rate_after_patience_epochs_without_a_better_dice():
    assert factors([0.5, 0.6, 0.6, 0.5, 0.5]) == [1, 1, 1, 0.5, 0.5]


def test_plateau_lowers_the_rate_again_after_as_many_more():
    assert factors([0.6, 0.5, 0.5, 0.5, 0.5]) == [1, 1, 0.5, 0.5, 0.25]


def test_plateau_begins_to_count_anew_with_a_better_dice():
    assert factors([0.5, 0.5, 0.6, 0.6, 0.6]) == [1, 1, 1, 1, 0.5]


def test_plateau_takes_a_rise_of_less_than_the_threshold_for_none():
    assert factors([0.5, 0.50005, 0.50008]) == [1, 1, 0.5]
    assert factors([0.5, 0.5002, 0.5004]) == [1, 1, 1]


def test_plateau_counts_epochs_not_validations():
    plateau = Plateau(patience=4, gamma=0.5)
    for epoch in (1, 3, 5):
        plateau.see(epoch, 0.5)
    assert plateau.factor == 0.5


def test_schedule_puts_the_factor_of_a_plateau_on_the_rate():
    schedule = Schedule(TrainConfig(scheduler="plateau", lr=0.01, gamma=0.1, plateau_patience=1, epochs=5))
    schedule.see(1, 0.5)
    assert schedule.rate(2, 1, 1) == 0.01
    schedule.see(2, 0.5)
    assert schedule.rate(3, 1, 1) == pytest.approx(0.001)


def test_other_schedules_do_not_look_at_the_dice():
    schedule = Schedule(TrainConfig(scheduler="constant", lr=0.01, plateau_patience=1, epochs=5))
    schedule.see(1, 0.5)
    schedule.see(2, 0.5)
    assert schedule.rate(3, 1, 1) == 0.01


def test_plateau_goes_on_from_its_state():
    config = TrainConfig(scheduler="plateau", lr=0.01, gamma=0.5, plateau_patience=2, epochs=9)
    one, other = Schedule(config), Schedule(config)
    for epoch, dice in enumerate((0.5, 0.5, 0.5, 0.5), start=1):
        one.see(epoch, dice)
    other.load_state_dict(one.state_dict())
    for schedule in (one, other):
        schedule.see(5, 0.5)
        assert schedule.rate(6, 1, 1) == pytest.approx(0.0025)
