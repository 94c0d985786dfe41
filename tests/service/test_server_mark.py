from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace

import psutil
import pytest

from octa_backend.errors import DataFolderInUse
from octa_backend.service.process import ProcessMark
from octa_backend.service.server_mark import only_server


def test_the_folder_is_marked_while_it_is_served_and_free_afterwards(files):
    path = files.root / "server.json"
    with only_server(files):
        assert ProcessMark(**json.loads(path.read_text())) == ProcessMark.of_self()
    assert not path.exists()


def test_the_mark_goes_when_the_server_breaks_off(files):
    with pytest.raises(RuntimeError), only_server(files):
        raise RuntimeError
    assert not (files.root / "server.json").exists()


def test_a_folder_that_a_living_server_holds_is_refused_and_its_mark_stays(files):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        mark = json.dumps(asdict(ProcessMark.of(other.pid)))
        (files.root / "server.json").write_text(mark)
        words = f"process {other.pid} already serves .*; stop it, or set OCTA_DATA_DIR"
        with pytest.raises(DataFolderInUse, match=words), only_server(files):
            pass
        assert (files.root / "server.json").read_text() == mark
        other.communicate(b"\n")
    with only_server(files):  # its mark is there, it is not
        pass


def test_a_server_of_an_earlier_version_holds_its_folder(files):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        mark = {"pid": other.pid, "started": psutil.Process(other.pid).create_time()}
        (files.root / "server.json").write_text(json.dumps(mark))
        with pytest.raises(DataFolderInUse, match="already serves"), only_server(files):
            pass
        other.communicate(b"\n")


def test_a_mark_of_a_process_whose_id_is_in_use_again_does_not_count(files):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        mark = ProcessMark.of(other.pid)
        mark = replace(mark, started=mark.started - 3600)
        (files.root / "server.json").write_text(json.dumps(asdict(mark)))
        with only_server(files):
            pass
        other.communicate(b"\n")


@pytest.mark.parametrize("left", ["", "[]", '{"pid": 1}', "{"])
def test_a_mark_that_cannot_be_read_is_named(files, left):
    (files.root / "server.json").write_text(left)
    with (
        pytest.raises(DataFolderInUse, match=r"server\.json does not say .*; delete it if none does"),
        only_server(files),
    ):
        pass
    assert (files.root / "server.json").read_text() == left
