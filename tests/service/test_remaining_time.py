from __future__ import annotations

import pytest

from octa_backend.service.remaining_time import seconds_left
from octa_backend.storage.tables import EpochReport, Job, JobState


def job(growth=None, state=JobState.RUNNING, epochs=9):
    config = {"epochs": epochs} if growth is None else {"epochs": epochs, "patch_growth": growth}
    plan = {"config": config, "patch_shape": [256, 256], "fingerprint": {"spacing_mm": []}}
    return Job(state=state, config={"epochs": "auto"}, plan=plan)


@pytest.mark.parametrize(
    ("growth", "epoch", "seconds"),
    [
        (None, 4, 15.0),  # a plan of an earlier version
        ("off", 4, 15.0),
        ("on", 1, 3 * (9 / 4 + 7 * 4)),
        ("on", 2, 3 * 7 * 16 / 9),
        ("on", 7, 6.0),
        ("on", 9, 0.0),
    ],
)
def test_time_that_is_left_follows_the_patches_of_the_epochs_to_come(growth, epoch, seconds):
    assert seconds_left(job(growth), EpochReport(epoch=epoch, seconds=3.0)) == pytest.approx(seconds, abs=0.05)


def test_time_is_not_known_before_the_first_epoch_and_of_jobs_that_do_not_run():
    latest = EpochReport(epoch=1, seconds=3.0)
    assert seconds_left(job("on"), None) is None
    assert seconds_left(job("on", JobState.SUCCEEDED), latest) is None
    assert seconds_left(Job(state=JobState.RUNNING, config={"epochs": "auto"}, plan=None), latest) is None
