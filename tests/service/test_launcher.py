from __future__ import annotations

import sys

import psutil
import pytest
from pydantic import ValidationError

from octa_backend.service import attempt_service, train_service
from octa_backend.service.launcher import Launcher, LocalLauncher, WorkerOrder
from octa_backend.service.process import ProcessMark
from octa_backend.settings import Settings
from octa_backend.storage.tables import JobState
from tests.fakes import FakeLauncher, HandSupervisor, a_job, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for a worker is a shell script")


@pytest.fixture
def order(settings):
    return WorkerOrder.of(settings, "j1", "a1")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Have `launcher.start` run this shell script in place of a Python with a worker."""

    def write(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(path))

    return write


def test_an_order_survives_its_journey_and_knows_no_other_fields(settings, order):
    assert WorkerOrder.model_validate_json(order.model_dump_json()) == order
    assert (order.device, order.heartbeat_seconds, order.niceness) == ("auto", 2.0, 10)
    with pytest.raises(ValidationError):
        WorkerOrder(**order.model_dump(), secret="x")


def test_an_order_carries_the_language_of_the_settings():
    assert WorkerOrder.of(Settings(), "j", "a").language == "en"
    assert WorkerOrder.of(Settings(language="zh"), "j", "a").language == "zh"


def test_an_order_names_the_data_folder_in_full():
    assert WorkerOrder.of(Settings(), "j", "a").data_dir.startswith("/")


def test_a_worker_gets_its_order_by_standard_input_and_writes_to_the_end_of_the_log(files, order, stand_in):
    stand_in('echo "args: $*"; cat; echo oops >&2; exit 3')
    files.job("j1").mkdir(parents=True)
    files.job_log("j1").write_text("first attempt\n")
    launcher = LocalLauncher(files)
    mark = launcher.start(order)
    wait_for("the end of the process", lambda: not launcher.is_alive(mark))
    assert launcher.exit_code(mark) == 3
    lines = files.job_log("j1").read_text().splitlines()
    assert lines[:2] == ["first attempt", "args: -m octa_backend.service.worker"]
    assert WorkerOrder.model_validate_json(lines[2]) == order
    assert lines[3] == "oops"


def test_a_worker_is_stopped_with_all_speed(files, order, stand_in):
    stand_in("exec sleep 600")
    launcher = LocalLauncher(files)
    mark = launcher.start(order)
    assert launcher.is_alive(mark)
    assert launcher.exit_code(mark) is None
    launcher.stop(mark)
    assert not launcher.is_alive(mark)
    assert launcher.exit_code(mark) == -9


def test_a_worker_of_an_earlier_server_is_watched_and_stopped_too(files, order, stand_in):
    stand_in("exec sleep 600")
    earlier, later = LocalLauncher(files), LocalLauncher(files)
    mark = earlier.start(order)
    assert later.is_alive(mark)
    later.stop(mark)
    assert not later.is_alive(mark)
    assert later.exit_code(mark) is None
    assert not earlier.is_alive(mark)


def test_a_worker_that_finished_does_not_stay_as_a_zombie(settings, files, database, stand_in):
    stand_in("cat > /dev/null")
    launcher = LocalLauncher(files)
    supervisor = HandSupervisor(settings, files, database, launcher)
    with database.writing() as session:
        job_id = a_job(session).id
    supervisor.tick()
    with database.writing() as session:
        [attempt] = train_service.attempts(session, job_id)
        attempt_service.end(session, attempt.id, "finished").move_to(JobState.SUCCEEDED)

    def is_gone() -> bool:
        supervisor.tick()
        return not psutil.pid_exists(attempt.pid)

    try:
        wait_for("the worker to be collected", is_gone, seconds=3)
    finally:
        launcher.is_alive(ProcessMark(attempt.pid, attempt.process_started))  # collects it


def test_a_program_that_is_not_there_is_an_error_of_the_system(files, order, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(OSError, match="No such file"):
        LocalLauncher(files).start(order)


def test_the_fake_has_the_launchers_shape(files):
    fakes: list[Launcher] = [FakeLauncher(), LocalLauncher(files)]
    for name in ("start", "is_alive", "stop", "exit_code"):
        assert all(callable(getattr(fake, name)) for fake in fakes)
