from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from octa_backend.service import process as process_module
from octa_backend.service.process import MALLOC_SETTINGS, MALLOPT_SETTINGS, ProcessMark, detached, worker_environment


@pytest.fixture
def child():
    """A process that does nothing until its standard input is closed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, **detached()) as process:
        yield process
        process.kill()


def test_this_process_is_alive():
    assert ProcessMark.of_self().pid == os.getpid()
    assert ProcessMark.of_self().is_alive()


def test_a_process_is_alive_until_it_is_killed_and_may_be_killed_twice(child):
    mark = ProcessMark.of(child.pid)
    assert mark.is_alive()
    mark.kill()
    assert not mark.is_alive()
    mark.kill()


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="Windows has no zombies")
def test_a_process_that_ended_but_was_not_collected_is_not_alive(child):
    mark = ProcessMark.of(child.pid)
    child.stdin.close()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # over, and still a zombie
    assert not mark.is_alive()


def test_another_process_under_the_same_id_is_not_meant_and_not_killed(child):
    mark = ProcessMark.of(child.pid)
    created = psutil.Process(child.pid).create_time()
    for other in (replace(mark, started=mark.started - 60), ProcessMark(mark.pid, created - 60)):
        assert not other.is_alive()
        other.kill()
    assert mark.is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="boots are Linux's")
def test_a_process_under_the_same_id_of_an_earlier_boot_is_not_meant(child):
    assert not replace(ProcessMark.of(child.pid), boot="the one before").is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere start times move with the clock")
@pytest.mark.parametrize("seconds", [-3600, 3, 3600])
def test_a_clock_that_is_set_makes_no_process_another_one(child, monkeypatch, seconds):
    mark, told = ProcessMark.of(child.pid), psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: told(process) + seconds)
    assert mark.is_alive()
    assert ProcessMark.of(child.pid) == mark


@pytest.mark.parametrize("boots", [True, False])
def test_a_mark_that_an_earlier_version_or_another_system_wrote_is_understood(child, monkeypatch, tmp_path, boots):
    if not boots:
        monkeypatch.setattr(process_module, "BOOT_ID", tmp_path / "none")
        assert ProcessMark.of(child.pid).boot is None
        assert ProcessMark.of(child.pid).is_alive()
    earlier = ProcessMark(child.pid, psutil.Process(child.pid).create_time())
    assert earlier.is_alive()
    earlier.kill()
    assert not earlier.is_alive()


def test_an_id_that_no_process_has_is_not_alive():
    assert not ProcessMark(2**22 + 1, 1.0).is_alive()


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's settings")
def test_a_worker_gets_the_malloc_settings_and_what_the_user_has_set_stays():
    given = {"PATH": "/bin", "MALLOC_TOP_PAD_": "1"}
    found = worker_environment(given)
    assert found["MALLOC_MMAP_MAX_"] == MALLOC_SETTINGS["MALLOC_MMAP_MAX_"] == "0"
    assert (found["MALLOC_TOP_PAD_"], found["PATH"], found["PYTHONUNBUFFERED"]) == ("1", "/bin", "1")
    assert given == {"PATH": "/bin", "MALLOC_TOP_PAD_": "1"}


def test_a_worker_may_be_asked_for_deterministic_algorithms_on_cuda():
    assert worker_environment({})["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert worker_environment({"CUBLAS_WORKSPACE_CONFIG": ":16:8"})["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.skipif(sys.platform == "win32", reason="niceness")
def test_a_worker_yields_to_others_and_never_raises_its_priority():
    code = (
        "import os\nfrom octa_backend.service.process import lower_priority\n"
        "start = os.nice(0)\nlower_priority(0)\nassert os.nice(0) == start\n"
        "lower_priority(19)\nassert os.nice(0) == 19\nlower_priority(1)\nassert os.nice(0) == 19\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, **detached())  # its niceness is its session's too


KEPT = """
import resource
from octa_backend.service.process import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        bytearray(2**27)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults(), keep_freed_memory(), faults() and faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are of glibc")
def test_freed_memory_is_kept_and_not_mapped_anew():
    answer = _in_a_process(KEPT, {})
    plain, holds, kept = answer.split()
    assert holds == "True"
    assert int(kept) < int(plain) / 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are of glibc")
def test_malloc_settings_of_the_user_stay():
    plain, _, kept = _in_a_process(KEPT, {"MALLOC_MMAP_MAX_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072"}).split()
    assert int(kept) > int(plain) / 2


def _in_a_process(program, given):
    environment = {name: value for name, value in os.environ.items() if name not in MALLOPT_SETTINGS} | given
    return subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    ).stdout
