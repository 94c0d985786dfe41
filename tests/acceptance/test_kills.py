"""Processes that are killed in the middle: afterwards every epoch is reported once, and the job ends well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.server import Server, wait_for

pytestmark = pytest.mark.acceptance

EPOCHS = 8


def assert_complete(server: Server, job_id: str, attempts: int) -> None:
    end = server.wait_for_end(job_id)
    assert end["state"] == "succeeded", end
    assert end["attempt"] == attempts
    assert [report["epoch"] for report in end["epochs_since"]] == list(range(1, EPOCHS + 1))
    steps = all_gradients(server, job_id)
    per_epoch = max(step["step"] for step in steps)
    expected = [(epoch, step) for epoch in range(1, EPOCHS + 1) for step in range(1, per_epoch + 1)]
    assert [(step["epoch"], step["step"]) for step in steps] == expected
    assert end["model_id"] is not None


def all_gradients(server: Server, job_id: str) -> list[dict[str, Any]]:
    answer = server.client.get(f"/train/jobs/{job_id}/gradients", params={"limit": 500}).json()
    assert answer["next_cursor"] is None
    items: list[dict[str, Any]] = answer["items"]
    return items


def test_a_killed_worker_is_resumed_from_its_last_epoch(server: Server, archive: Path) -> None:
    job_id = server.start_job(archive, epochs=EPOCHS)
    before = server.wait_for_epoch(job_id, 2)["epochs_since"]
    server.worker(job_id).kill()
    assert_complete(server, job_id, attempts=2)
    assert server.progress(job_id)["epochs_since"][: len(before)] == before
    endings = [a["ending"] for a in server.client.get(f"/train/jobs/{job_id}").json()["attempts"]]
    assert "killed" in endings[0]
    assert endings[1] == "finished"


def test_a_worker_survives_its_killed_server_and_is_adopted_by_the_next(server: Server, archive: Path) -> None:
    job_id = server.start_job(archive, epochs=EPOCHS)
    server.wait_for_epoch(job_id, 2)
    worker = server.worker(job_id)
    server.kill()
    assert worker.is_running()
    server.start()
    assert_complete(server, job_id, attempts=1)


def test_server_and_worker_are_both_killed_and_the_job_still_ends_well(server: Server, archive: Path) -> None:
    job_id = server.start_job(archive, epochs=EPOCHS)
    server.wait_for_epoch(job_id, 2)
    worker = server.worker(job_id)
    server.kill()
    worker.kill()
    server.start()
    assert_complete(server, job_id, attempts=2)


def test_a_worker_that_finishes_while_no_server_runs_publishes_its_model(server: Server, archive: Path) -> None:
    job_id = server.start_job(archive, epochs=EPOCHS)
    server.wait_for_epoch(job_id, 2)
    worker = server.worker(job_id)
    server.kill()
    wait_for("the worker's end", lambda: not worker.is_running())
    server.start()
    assert_complete(server, job_id, attempts=1)


def test_a_job_whose_workers_keep_dying_fails_with_words_and_its_last_log_lines(tmp_path: Path, archive: Path) -> None:
    server = Server(tmp_path / "data", max_attempts="2", heartbeat_seconds="0.5").start()
    try:
        job_id = server.start_job(archive, epochs=500)
        for attempt in (1, 2):
            wait_for(f"attempt {attempt}", lambda n=attempt: server.progress(job_id)["attempt"] == n)
            server.worker(job_id).kill()
        end = server.wait_for_end(job_id)
        assert end["state"] == "failed"
        assert "killed" in end["error"]
        assert "2 worker processes died" in end["error"]
        assert server.client.get("/ready").json()["ready"] is True
    finally:
        server.stop()


def test_a_second_server_on_the_same_folder_is_refused(server: Server) -> None:
    other = Server(server.data_dir)
    with pytest.raises(AssertionError, match="already serves"):
        other.start()
    assert server.client.get("/health").status_code == 200
