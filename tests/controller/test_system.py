from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta

import pytest

from octa_backend.service.metrics import Metrics
from octa_backend.storage.files import Files
from octa_backend.storage.tables import Job, JobState, Model
from tests.data.zips import dataset
from tests.fakes import Api, zip_bytes

START = """
import asyncio, sys
from octa_backend.app import create_app
from octa_backend.settings import Settings

async def live():
    app = create_app(Settings(data_dir=sys.argv[1]))
    async with app.router.lifespan_context(app):
        assert app.state.context.database.is_ready()
    app.openapi()

asyncio.run(live())
heavy = {"torch", "torchvision", "safetensors", "tensorboard", "skimage", "monai", "openvino", "onnx"}
print(sorted(heavy & set(sys.modules)))
"""
COMPARE = """
import sys
import octa_backend.service.comparison_run
print("torch" in sys.modules, "monai" in sys.modules)
"""


def test_the_process_answers_with_the_time(api):
    answer = api.get("/health").json()
    assert answer["status"] == "ok"
    assert abs(datetime.fromisoformat(answer["time"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_server_that_can_work_is_ready(api):
    answer = api.get("/ready")
    expected = {"ready": True, "database": True, "disk": True, "supervisor": True, "models": True}
    assert (answer.status_code, answer.json()) == (200, expected)


def test_a_server_with_a_full_disk_is_not_ready(api, monkeypatch):
    monkeypatch.setattr(Files, "free_bytes", lambda self: 2**20)
    answer = api.get("/ready")
    assert (answer.status_code, answer.json()["disk"], answer.json()["ready"]) == (503, False, False)


def test_a_server_whose_supervisor_ended_is_not_ready(api):
    api.parts.supervisor.close()
    answer = api.get("/ready")
    assert (answer.status_code, answer.json()["supervisor"], answer.json()["ready"]) == (503, False, False)


def test_a_server_that_still_loads_its_models_is_not_ready(api, monkeypatch):
    monkeypatch.setattr(api.parts.predictions, "_warming", [Future()])
    answer = api.get("/ready")
    assert (answer.status_code, answer.json()["models"], answer.json()["ready"]) == (503, False, False)


def test_a_server_whose_database_is_broken_is_not_ready(api):
    api.parts.database.close()
    (api.parts.files.root / "octa.sqlite3").write_bytes(b"not a database, whatever it was before" * 100)
    answer = api.get("/ready")
    assert answer.status_code == 503
    assert (answer.json()["database"], answer.json()["ready"]) == (False, False)


def samples(api):
    """The numbers of `/metrics`, by name and labels."""
    lines = api.get("/metrics").text.splitlines()
    return {name: int(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_metrics_are_in_the_text_format_of_prometheus(api):
    answer = api.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.text.startswith("# HELP octa_jobs Trainings, by state.\n# TYPE octa_jobs gauge\n")
    assert answer.text.endswith("\n")
    number = r'octa_[a-z_]+(\{state="[a-z]+"\})? [0-9]+'
    comment = r"# (HELP octa_[a-z_]+ .+|TYPE octa_[a-z_]+ gauge)"
    assert all(re.fullmatch(f"{number}|{comment}", line) for line in answer.text.splitlines())
    names = [line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE")]
    assert names == [f"octa_{field.name}" for field in dataclasses.fields(Metrics)]


def test_metrics_count_what_is_there(api, file_id):
    empty = samples(api)
    assert empty['octa_jobs{state="queued"}'] == empty['octa_prediction_jobs{state="failed"}'] == 0
    api.start(file_id)
    running = api.start(file_id)
    with api.parts.database.writing() as session:
        session.get(Job, running).move_to(JobState.RUNNING)
        session.add(Model(id="m", card={}))
    found = samples(api)
    assert (found['octa_jobs{state="queued"}'], found['octa_jobs{state="running"}']) == (1, 1)
    assert (found["octa_datasets"], found["octa_models"], found["octa_predictions"]) == (1, 1, 0)
    assert (found["octa_loaded_models"], found["octa_loaded_models_bytes"]) == (0, 0)
    assert found["octa_free_bytes"] > 0


def test_the_version_names_what_decides_results(api):
    answer = api.get("/version").json()
    assert {"torch", "torchvision", "numpy", "pillow"} <= set(answer["packages"])
    assert answer["python"].startswith("3.")
    assert answer["version"]


def test_a_server_on_a_new_folder_makes_what_it_needs(settings):
    with Api(settings) as api:
        assert api.get("/ready").json()["ready"]
        assert api.traces()["uploads"] == []
    assert not (settings.data_dir / "server.json").exists()


def test_a_server_that_starts_clears_half_written_uploads(settings, files):
    files.new_upload().write_bytes(b"half")
    with Api(settings) as api:
        assert api.traces()["uploads"] == []


def test_a_restarted_server_has_its_datasets_and_jobs_again(settings, database, tmp_path):

    with Api(settings) as first:
        job_id = first.start(first.upload(zip_bytes(dataset())).json()["file_id"])
    with Api(settings) as second:
        assert second.get(f"/train/progress/{job_id}").json()["state"] == "queued"
        second.tick()
        assert second.launcher.jobs == [job_id]


@pytest.mark.timeout(120)
def test_the_server_starts_without_torch(tmp_path):
    found = subprocess.run(
        [sys.executable, "-c", START, str(tmp_path / "data")], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_comparing_models_does_not_wait_for_monai():
    found = subprocess.run([sys.executable, "-c", COMPARE], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False"]
