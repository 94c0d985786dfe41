"""Which runs are trained, and that none is trained twice."""

from __future__ import annotations

from concurrent.futures import Future

import doctor
import pytest
from doctor import Measurement, first_jobs, healing_jobs
from judged_runs import Runs
from measuring import Results

from octa_backend.errors import InvalidDataset
from tests.benchmarks.judged import a_job, a_run

HERE = "this machine"


class Inline:
    """A pool that works at once, in this process."""

    def submit(self, work, *arguments):
        done = Future()
        done.set_result(work(*arguments))
        return done


@pytest.fixture
def trained(monkeypatch):
    """The cases that were trained, in their order; `masks_grey` cannot be."""
    cases = []

    def record(job, _kept):
        cases.append(job["case"])
        if job["case"] == "masks_grey":
            raise InvalidDataset("nothing would be left", ())
        return {"dice": 0.5, "seconds": 1.0}

    monkeypatch.setattr(doctor, "record", record)
    return cases


def measurement(folder):
    return Measurement(Results(folder / "runs.jsonl"), HERE, Inline(), folder / "weights")


def test_a_repeated_command_trains_nothing_again(tmp_path, trained) -> None:
    jobs = [a_job("clean"), a_job("lr_x30")]
    made = sorted((made.job for made in measurement(tmp_path).measure(jobs)), key=lambda job: job["case"])
    assert made == jobs  # in whatever order they ended
    assert measurement(tmp_path).measure(jobs) == []
    assert trained == ["clean", "lr_x30"]


def test_a_run_that_fails_is_named_and_keeps_no_other_from_being_trained(tmp_path, trained) -> None:
    working = measurement(tmp_path)
    jobs = [a_job("masks_grey"), a_job("clean")]
    assert [made.job["case"] for made in working.measure(jobs)] == ["clean"]
    assert working.failed == [a_job("masks_grey")]
    assert working.measure(jobs) == []
    assert trained == ["masks_grey", "clean"]


def test_clean_runs_are_trained_for_every_seed_and_other_healthy_ones_once() -> None:
    jobs = first_jobs(["lr_/100", "healthy_6"], ["drawn"], [0, 1, 2])
    assert [(job["case"], job["seed"]) for job in jobs] == [
        *(("clean", 0), ("lr_/100", 0)),
        *(("clean", 1), ("lr_/100", 1), ("healthy_6", 1)),
        *(("clean", 2), ("lr_/100", 2)),
    ]


def test_remedies_are_applied_to_the_runs_asked_for_alone() -> None:
    faulty = [a_run(case, dice=0.4, remedy="raise_lr") for case in ("lr_/100", "lr_/1000")]
    runs = Runs([a_run("clean"), *faulty])
    assert healing_jobs(runs, [a_job("lr_/100")]) == [a_job("lr_/100", "raise_lr")]
