from __future__ import annotations

import pytest

from octa_backend.service.remaining_time import seconds_left
from octa_backend.storage.tables import EpochReport, Job, JobState


def job(growth=None, state=JobState.RUNNING, epochs=9):
    config = {"epochs": epochs} if growth is None else {"epochs": epochs, "patch_growth": growth}
    facts = {"spacing_mm": [], "training_scans": 5}
    plan = {"config": config, "patch_shape": [256, 256], "patches_per_scan": 2, "fingerprint": facts}
    return Job(state=state, config={"epochs": "auto"}, plan=plan)


@pytest.mark.parametrize(
    ("growth", "epoch", "seconds"),
    [
        (None, 4, 15.0),  # a plan of an earlier version
        ("off", 4, 15.0),
        ("on", 1, 2 * (9 / 4 + 7 * 4) + 1 * 8),
        ("on", 2, 2 * 7 * 16 / 9 + 1 * 7),
        ("on", 7, 6.0),
        ("on", 9, 0.0),
    ],
)
def test_time_that_is_left_follows_the_patches_of_the_epochs_to_come(growth, epoch, seconds):
    latest = EpochReport(epoch=epoch, seconds=3.0, scans_per_second=5.0)  # 2 s of 10 samples, and validation
    assert seconds_left(job(growth), latest) == pytest.approx(seconds, abs=0.05)


def test_time_is_not_known_before_the_first_epoch_and_of_jobs_that_do_not_run():
    latest = EpochReport(epoch=1, seconds=3.0, scans_per_second=5.0)
    assert seconds_left(job("on"), None) is None
    assert seconds_left(job("on", JobState.SUCCEEDED), latest) is None
    assert seconds_left(Job(state=JobState.RUNNING, config={"epochs": "auto"}, plan=None), latest) is None
