"""The whole story over HTTP: zip, train, watch, predict, cancel."""

from __future__ import annotations

import base64
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from octa_backend.data.synthetic import write_zip
from tests.acceptance.server import Server, wait_for

pytestmark = pytest.mark.acceptance

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"


def first_image(archive: Path) -> bytes:
    with zipfile.ZipFile(archive) as content:
        return content.read(next(name for name in content.namelist() if name.startswith("images/")))


def test_a_zip_goes_in_and_a_trained_model_answers(server: Server, archive: Path) -> None:
    job_id = server.start_job(archive, epochs=3, val_fraction=0.3)
    end = server.wait_for_end(job_id)

    assert end["state"] == "succeeded", end
    assert [report["epoch"] for report in end["epochs_since"]] == [1, 2, 3]
    for report in end["epochs_since"]:
        parts = report["loss_components"]
        assert report["train_loss"] == pytest.approx(0.5 * parts["bce"] + 0.5 * parts["dice"], abs=1e-12)
        assert set(report["gradient_norms"]) == {"encoder_conv1", "encoder_last", "decoder_first", "decoder_output"}
    log = server.client.get(f"/train/jobs/{job_id}/log").text
    assert "Epoch [3/3] | Train Loss: " in log
    assert "Epoch [3] Step 1 | encoder_conv1: " in log

    events = server.client.get(f"/train/jobs/{job_id}/events").text
    assert [line for line in events.splitlines() if line.startswith("event: epoch")] == ["event: epoch"] * 3
    assert events.rstrip().splitlines()[-3] == "event: state"

    scan = first_image(archive)
    answer = server.client.post("/predict", files={"file": ("scan.png", scan)}).json()
    assert (answer["width"], answer["height"], answer["model_id"]) == (32, 32, end["model_id"])
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask_png"]))))
    assert mask.shape == (32, 32)
    assert set(np.unique(mask)) <= {0, 255}
    assert answer["foreground_fraction"] == pytest.approx((mask > 0).mean())

    several = [("file", ("a.png", scan)), ("file", ("b.png", scan))]
    both = server.client.post("/predict", files=several, data={"job_id": job_id}).json()["predictions"]
    assert [one["mask_png"] for one in both] == [answer["mask_png"]] * 2
    png = server.client.post("/predict", files={"file": scan}, headers={"Accept": "image/png"})
    assert png.headers["content-type"] == "image/png"
    assert png.content == base64.b64decode(answer["mask_png"])


def test_an_official_test_split_is_scored_once_at_the_end(server: Server, archive: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.zip"
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(split, "w") as target:
        names = source.namelist()
        stems = sorted(Path(name).stem for name in names if name.startswith("images/"))
        for name in names:
            target.writestr(name, source.read(name))
        rows = [f"{stem},{'test' if i < 2 else 'train'}" for i, stem in enumerate(stems)]
        target.writestr("splits.csv", "stem,split\n" + "\n".join(rows))
    end = server.wait_for_end(server.start_job(split, epochs=1))
    assert end["state"] == "succeeded", end
    assert end["test"]["scans"] == 2
    assert 0 <= end["test"]["dice"] <= 1


def test_two_jobs_run_one_after_the_other(server: Server, archive: Path) -> None:
    first = server.start_job(archive, epochs=4)
    second = server.start_job(archive, epochs=1, seed=1)
    third = server.start_job(archive, epochs=1, seed=2)
    server.wait_for_epoch(first, 1)
    assert [server.progress(job)["queue_position"] for job in (first, second, third)] == [None, 1, 2]
    ends = [server.wait_for_end(job) for job in (first, second, third)]
    assert [end["state"] for end in ends] == ["succeeded"] * 3
    assert ends[0]["finished_at"] <= ends[1]["started_at"]
    assert ends[1]["finished_at"] <= ends[2]["started_at"]


def test_queued_and_running_jobs_are_cancelled_and_a_running_one_cannot_be_deleted(
    server: Server, archive: Path
) -> None:
    running = server.start_job(archive, epochs=500, scheduler="constant")
    queued = server.start_job(archive, epochs=1)
    server.wait_for_epoch(running, 1)

    refused = server.client.delete(f"/train/jobs/{running}")
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert server.client.post(f"/train/jobs/{queued}/cancel").json()["state"] == "cancelled"
    assert server.client.post(f"/train/jobs/{running}/cancel").json()["cancel_requested"] is True

    end = server.wait_for_end(running)
    assert end["state"] == "cancelled"
    assert end["model_id"] is not None
    assert server.client.post(f"/train/jobs/{running}/cancel").status_code == 409
    scan = first_image(archive)
    assert server.client.post("/predict", files={"file": scan}, data={"job_id": running}).status_code == 200

    resumed = server.client.post(f"/train/jobs/{running}/resume", json={"epochs": end["epoch"] + 1, "lr": 0.0001})
    assert resumed.status_code == 202
    again = server.wait_for_end(running)
    assert again["state"] == "succeeded"
    assert [report["epoch"] for report in again["epochs_since"]] == list(range(1, end["epoch"] + 2))
    assert again["latest"]["lr"] == pytest.approx(0.0001)

    assert server.client.delete(f"/train/jobs/{running}").status_code == 204
    assert not (server.data_dir / "jobs" / running).exists()
    assert server.client.get(f"/train/progress/{running}").status_code == 404


def test_ten_uploads_at_once_are_all_kept(server: Server, tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.zip" for seed in range(10)]
    for seed, path in enumerate(paths):
        write_zip(path, 2, size=32, seed=seed % 8)  # two of them come twice

    def upload(path: Path) -> str:
        answer = server.client.post("/datasets", files={"file": (path.name, path.read_bytes())})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["file_id"])

    with ThreadPoolExecutor(10) as pool:
        ids = list(pool.map(upload, paths))
    assert len(set(ids)) == 8
    assert ids[:2] == ids[8:]
    assert {item["file_id"] for item in server.client.get("/datasets").json()["items"]} == set(ids)
    assert list((server.data_dir / "uploads").iterdir()) == []


@pytest.mark.skipif(not (REAL_DATA / "rossa.zip").exists(), reason="the real scans are not on this machine")
def test_real_octa_scans_are_taken_in_with_their_official_split(server: Server) -> None:
    with (REAL_DATA / "rossa.zip").open("rb") as file:
        answer = server.client.post("/datasets", files={"file": ("rossa.zip", file)}).json()
    assert (answer["scans"], answer["channels"], answer["classes"]) == (200, 1, 2)
    assert answer["splits"] == {"train": 100, "test": 100}
    assert answer["foreground_fraction"] == pytest.approx(0.107, abs=0.002)


def test_a_failed_job_says_why_in_words(server: Server, archive: Path) -> None:
    job_id = server.start_job(archive, epochs=2)
    dataset = server.data_dir / "datasets" / server.progress(job_id)["file_id"]
    (dataset / "manifest.json").unlink()
    end = server.wait_for_end(job_id)
    assert end["state"] == "failed"
    assert "manifest.json" in end["error"]
    assert any("Traceback" in line or "Error" in line for line in end["log_tail"])
    wait_for("the server to answer on", lambda: server.client.get("/ready").json()["ready"])
