from __future__ import annotations

import csv
import io
import threading
import zipfile
from functools import partial

import numpy as np
import pytest
from PIL import Image
from sqlalchemy.exc import OperationalError

from octa_backend.errors import StorageFull
from octa_backend.service import prediction_history, prediction_job_service, prediction_results
from octa_backend.service.prediction_runner import PredictionRunner
from octa_backend.storage.files import Files
from tests.data.zips import encoded, grey, raw_zip
from tests.fakes import HandRunner, wait_for, zip_bytes
from tests.predicting import end_prediction_jobs, predict, predicting_api, publish

SCANS = {
    "left/1.png": encoded(grey(1)),
    "right/1.png": encoded(grey(2, height=20, width=30)),
    "right/1.tif": encoded(grey(3), "TIFF"),
    "right/notes.txt": b"no image",
    "broken.png": b"no image either",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    with predicting_api(folder, max_predict_files=3, predictions_kept=2, max_files=50, max_predict_mib=1) as api:
        publish(api, folder, "m")
        yield api


@pytest.fixture
def predicting(server):
    """The server without prediction jobs."""
    end_prediction_jobs(server)
    server.delete("/predictions?before=2999-01-01")
    return server


def send(api, content, name="scans.zip", **fields):
    return api.upload(content, "/predict", name, **fields)


def start(api, files=SCANS, **fields):
    """Queue a zip; return the address of its job."""
    answer = send(api, zip_bytes(files), **fields)
    assert answer.status_code == 202, answer.text
    return answer.json()["progress_url"]


def work(api):
    assert api.parts.prediction_runner.work()


def results(api, url):
    answer = api.get(f"{url}/results.zip")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip"), answer.text
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    return {name: archive.read(name) for name in archive.namelist()}


def table(content):
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_a_zip_becomes_a_job_and_its_results_a_zip(predicting):
    answer = send(predicting, zip_bytes(SCANS), pixel_size_um="12", threshold="0.4")
    started = answer.json()
    url = f"/predictions/jobs/{started['prediction_job_id']}"
    assert (answer.status_code, started["state"], started["total"], started["ignored"]) == (202, "queued", 4, 1)
    assert (started["progress_url"], answer.headers["location"]) == (url, url)
    waiting = predicting.get(url).json()
    assert (waiting["done"], waiting["percent"], waiting["eta_seconds"], waiting["results_url"]) == (0, 0.0, None, None)
    early = predicting.get(f"{url}/results.zip")
    assert (early.status_code, early.json()["type"]) == (409, "urn:octa:illegal-job-state")
    work(predicting)
    job = predicting.get(url).json()
    assert (job["state"], job["done"], job["failed"], job["percent"], job["error"]) == ("succeeded", 3, 1, 100.0, None)
    assert [failure["file"] for failure in job["failed_files"]] == ["broken.png"]
    assert job["results_url"] == f"{url}/results.zip"
    found = results(predicting, url)
    assert sorted(found) == [
        "README.txt",
        "errors.csv",
        *[f"masks/{name}.png" for name in ("left/1", "right/1.png", "right/1.tif")],
        "measurements.csv",
        *[f"overlays/{name}.png" for name in ("left/1", "right/1.png", "right/1.tif")],
        "scans.csv",
    ]
    mask = np.asarray(Image.open(io.BytesIO(found["masks/right/1.png.png"])))
    alone = predicting.parts.predictions.predictor("m").predict(grey(2, height=20, width=30)[None], threshold=0.4)
    np.testing.assert_array_equal(mask > 0, alone.mask > 0)
    assert Image.open(io.BytesIO(found["overlays/right/1.png.png"])).size == (30, 20)
    scans = table(found["scans.csv"])
    assert [row["scan"] for row in scans] == ["left/1.png", "right/1.png", "right/1.tif"]
    assert float(scans[1]["foreground_fraction"]) == alone.foreground_fraction
    measured = {(row["scan"], row["measurement"]): row for row in table(found["measurements.csv"])}
    assert measured["right/1.png", "skeleton_length"]["unit"] == "mm"
    assert scans[1]["skeleton_length [mm]"] == measured["right/1.png", "skeleton_length"]["value"]
    assert all(bool(row["value"]) != bool(row["reason"]) for row in measured.values())
    errors = table(found["errors.csv"])
    assert (len(errors), errors[0]["scan"]) == (1, "broken.png")
    assert "broken.png is not a PNG" in errors[0]["reason"]
    read_me = found["README.txt"].decode()
    for said in (
        "model      m",
        '"threshold": 0.4',
        '"pixel_size_um": 12.0',
        '"torch"',
        "predicted 3, failed 1; 1 other",
    ):
        assert said in read_me
    assert not (predicting.parts.files.prediction_job(started["prediction_job_id"]) / "source.zip").exists()


def test_the_predictions_of_a_job_stand_in_the_history_and_do_not_count_as_kept(predicting):
    url = start(predicting)
    work(predicting)
    job_id = url.rsplit("/", 1)[-1]
    for number in range(3):
        predict(predicting, encoded(grey(number)), measure="false")
    of_job = predicting.get("/predictions", params={"prediction_job_id": job_id}).json()["items"]
    assert {row["file"] for row in of_job} == {"left/1.png", "right/1.png", "right/1.tif"}
    assert len(predicting.get("/predictions").json()["items"]) == 3 + 2
    one = predicting.get(of_job[0]["prediction_url"]).json()
    assert (one["prediction_job_id"], one["file"]) == (job_id, of_job[0]["file"])
    assert predicting.delete(of_job[0]["prediction_url"]).status_code == 204
    assert len([name for name in results(predicting, url) if name.startswith("masks/")]) == 2


def test_options_of_the_request_travel_with_the_job(predicting):
    url = start(predicting, {"a.png": SCANS["left/1.png"]}, measure="false")
    drawn = start(predicting, {"a.png": SCANS["left/1.png"]}, measure_picture="true", tta="true")
    work(predicting)
    work(predicting)
    assert sorted(results(predicting, url)) == ["README.txt", "masks/a.png", "overlays/a.png", "scans.csv"]
    assert "measured/a.png" in results(predicting, drawn)
    assert not {"confidence/a.png", "probabilities/a.png"} & set(results(predicting, drawn))
    options = predicting.get(drawn).json()["options"]
    assert (options["tta"], options["with_picture"], options["language"]) == (True, True, "en")


def test_the_results_have_the_maps_that_were_asked_for(predicting):
    url = start(predicting, {"a.png": SCANS["left/1.png"]}, confidence_map="true", probability="true")
    work(predicting)
    found = results(predicting, url)
    sure = np.asarray(Image.open(io.BytesIO(found["confidence/a.png"])))
    probability = np.asarray(Image.open(io.BytesIO(found["probabilities/a.png"])))
    assert (sure.dtype, probability.dtype, sure.shape) == (np.uint8, np.uint16, probability.shape)
    likelier = np.maximum(probability, 65535 - probability) / 65535
    assert np.abs(sure / 255 - likelier).max() < 1 / 255
    for folder in ("confidence/", "probabilities/"):
        assert folder in found["README.txt"].decode()


def test_more_scans_than_are_answered_at_once_become_a_job(predicting):
    scan = encoded(grey(1))
    answer = predict(predicting, scan, scan, scan, scan)
    assert (answer.status_code, answer.json()["total"]) == (202, 4)
    work(predicting)
    assert predicting.get(answer.json()["progress_url"]).json()["name"] == "4 files"


def test_scans_of_one_name_get_a_number(predicting):
    files = [
        ("file", (name, encoded(grey(n)), "image/png")) for n, name in enumerate(["eye.png", "EYE.png", "x/eye.png"])
    ]
    answer = predicting.post("/predict", files=files, data={"batch": "true"})
    assert answer.status_code == 202, answer.text
    work(predicting)
    names = [name for name in results(predicting, answer.json()["progress_url"]) if name.startswith("masks/")]
    assert sorted(names) == ["masks/EYE_2.png", "masks/eye.png", "masks/eye_3.png"]


def test_chinese_names_of_an_older_windows_are_read(predicting):
    zipped = raw_zip(io.BytesIO(), [("左眼/一.png".encode("gbk"), encoded(grey(1)))])
    url = send(predicting, zipped.getvalue()).json()["progress_url"]
    work(predicting)
    assert "masks/左眼/一.png" in results(predicting, url)


@pytest.mark.parametrize(
    ("content", "name", "fields", "status", "kind", "said"),
    [
        (b"no zip", "scans.zip", {}, 422, "invalid-archive", "not a zip archive"),
        (zip_bytes({"../up.png": b"x"}), "scans.zip", {}, 422, "unsafe-archive", "a path out of the archive"),
        (zip_bytes({"a.png": b"x", "b.zip": b"x"}), "scans.zip", {}, 422, "unsafe-archive", "archive in the archive"),
        (zip_bytes({"notes.txt": b"x"}), "scans", {}, 422, "invalid-archive", "no image"),
        (zip_bytes({}), "s.zip", {}, 422, "invalid-archive", "the archive is empty; put the scans to segment"),
        (zip_bytes({f"{n}.png": b"x" for n in range(51)}), "s.zip", {}, 413, "archive-too-large", "50 are allowed"),
        (zip_bytes({"a.png": bytes(2**22)}), "s.zip", {}, 413, "archive-too-large", "compressed"),
        (zip_bytes(SCANS), "scans.zip", {"keep": "false"}, 400, "invalid-request", "leave keep=false out"),
        (zip_bytes(SCANS), "scans.zip", {"model_id": "x"}, 404, "model-not-found", "'x'"),
        (encoded(grey(1)), "scan", {"batch": "true"}, 400, "invalid-request", "'scan' is no name of an image"),
        (bytes(2**20 + 1), "scan.png", {}, 413, "upload-too-large", "larger than 1 MiB"),
    ],
)
def test_what_makes_no_job_is_refused_and_leaves_nothing(predicting, content, name, fields, status, kind, said):
    before = predicting.traces()
    answer = send(predicting, content, name, **fields)
    assert (answer.status_code, answer.json()["type"]) == (status, f"urn:octa:{kind}"), answer.text
    assert said in answer.json()["detail"]
    assert predicting.traces() == before


def test_a_zip_among_scans_is_refused(predicting):
    before = predicting.traces()
    files = [("file", ("a.png", encoded(grey(1)))), ("file", ("b.zip", zip_bytes(SCANS)))]
    answer = predicting.post("/predict", files=files)
    assert (answer.status_code, "b.zip is a zip among 2 files" in answer.json()["detail"]) == (400, True)
    assert predicting.traces() == before


def test_a_job_without_a_readable_scan_fails(predicting):
    url = start(predicting, {"a.png": b"x", "b.png": b"y"})
    work(predicting)
    job = predicting.get(url).json()
    assert (job["state"], job["done"], job["failed"]) == ("failed", 0, 2)
    assert "none of 2 scans could be predicted; a.png is not a PNG" in job["error"]
    assert sorted(results(predicting, url)) == ["README.txt", "errors.csv"]


def test_a_download_that_is_broken_off_leaves_nothing_open(predicting):
    url = start(predicting)
    work(predicting)
    for count in range(1, 200, 7):  # within pictures, and within each of the tables
        parts = predicting.parts
        pieces = prediction_results.results(parts.database, parts.files, url.rsplit("/", 1)[-1])
        for _ in range(count):
            next(pieces, None)
        pieces.close()
    assert predicting.delete(url).status_code == 204


def test_jobs_are_listed_in_pages_and_by_state(predicting):
    urls = [start(predicting) for _ in range(3)]
    work(predicting)
    page = predicting.get("/predictions/jobs?limit=2").json()
    rest = predicting.get("/predictions/jobs", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    listed = [f"/predictions/jobs/{job['prediction_job_id']}" for job in page["items"] + rest["items"]]
    assert (listed, rest["next_cursor"]) == (urls[::-1], None)
    done = predicting.get("/predictions/jobs?state=succeeded").json()["items"]
    assert [job["prediction_job_id"] for job in done] == [urls[0].rsplit("/", 1)[-1]]
    assert predicting.get("/predictions/jobs?cursor=x").status_code == 422


def test_a_waiting_job_is_cancelled_at_once(predicting):
    url = start(predicting)
    assert predicting.post(f"{url}/cancel").json()["state"] == "cancelled"
    assert not predicting.parts.prediction_runner.work()
    again = predicting.post(f"{url}/cancel")
    assert (again.status_code, again.json()["type"]) == (409, "urn:octa:illegal-job-state")


def after(count, do, monkeypatch):
    """Do something with the `count`-th prediction that is written."""
    real, seen = prediction_history.write, []

    def write(files, scan):
        real(files, scan)
        seen.append(scan)
        if len(seen) == count:
            do()

    monkeypatch.setattr(prediction_history, "write", write)


def test_a_running_job_is_cancelled_after_its_present_scan_and_keeps_what_it_has(predicting, monkeypatch):
    url = start(predicting)
    seen = []

    def cancel():
        seen.append(predicting.get(url).json())
        assert predicting.delete(url).status_code == 409
        assert predicting.post(f"{url}/cancel").json()["cancel_requested"]

    after(2, cancel, monkeypatch)
    work(predicting)
    assert (seen[0]["state"], seen[0]["done"], seen[0]["failed"], seen[0]["percent"]) == ("running", 1, 1, 50.0)
    assert seen[0]["eta_seconds"] >= 0
    job = predicting.get(url).json()
    assert (job["state"], job["done"], job["failed"], job["eta_seconds"]) == ("cancelled", 2, 1, None)
    assert len([name for name in results(predicting, url) if name.startswith("masks/")]) == 2


def test_predictions_of_a_running_job_are_not_deleted(predicting, monkeypatch):
    url = start(predicting)

    def delete():
        one = predicting.get("/predictions").json()["items"][0]["prediction_url"]
        answer = predicting.delete(one)
        assert (answer.status_code, answer.json()["type"]) == (409, "urn:octa:illegal-job-state")
        assert predicting.delete("/predictions?model_id=m").json() == {"deleted": 0}

    after(2, delete, monkeypatch)
    work(predicting)
    assert predicting.get(url).json()["done"] == 3
    assert predicting.delete("/predictions?model_id=m").json() == {"deleted": 3}


def test_a_job_is_deleted_with_its_predictions(predicting):
    before = predicting.traces()
    url = start(predicting)
    work(predicting)
    assert predicting.delete(url).status_code == 204
    assert predicting.traces() == before
    for gone in (url, f"{url}/results.zip"):
        answer = predicting.get(gone)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:octa:prediction-job-not-found")


def test_a_job_whose_model_was_deleted_says_so(predicting, tmp_path):
    publish(predicting, tmp_path, "short")
    url = start(predicting, model_id="short")
    assert predicting.delete("/models/short").status_code == 204
    work(predicting)
    job = predicting.get(url).json()
    assert (job["state"], job["done"]) == ("failed", 0)
    assert "model short was deleted" in job["error"]


def test_a_model_that_is_deleted_while_its_job_runs_ends_the_job(predicting, tmp_path, monkeypatch):
    publish(predicting, tmp_path, "short")
    url = start(predicting, model_id="short")
    after(1, lambda: predicting.delete("/models/short"), monkeypatch)
    work(predicting)
    job = predicting.get(url).json()
    assert (job["state"], job["done"], "model short was deleted" in job["error"]) == ("failed", 1, True)


def test_a_scan_without_enough_memory_does_not_stop_the_others(predicting, monkeypatch):
    url = start(predicting)
    real = predicting.parts.predictions.predict

    def short_of_memory(model_ids, scan, *given, **options):
        if scan.name == "right/1.png":
            raise RuntimeError("can't allocate memory")
        return real(model_ids, scan, *given, **options)

    monkeypatch.setattr(predicting.parts.predictions, "predict", short_of_memory)
    work(predicting)
    job = predicting.get(url).json()
    assert (job["state"], job["done"], job["failed"]) == ("succeeded", 2, 2)
    assert job["failed_files"][1] == {
        "file": "right/1.png",
        "reason": "it could not be computed: can't allocate memory",
    }


@pytest.mark.parametrize(
    ("error", "said"),
    [(StorageFull("the server's disk is full"), "the server's disk is full"), (ValueError("odd"), "ValueError: odd")],
)
def test_what_hinders_every_scan_ends_the_job(predicting, monkeypatch, error, said):
    url = start(predicting)

    def refuse(*_):
        raise error

    monkeypatch.setattr(prediction_history, "write", refuse)
    work(predicting)
    job = predicting.get(url).json()
    assert (job["state"], job["error"], job["done"]) == ("failed", said, 0)


class Killed(BaseException):
    """Ends a runner as a kill does: nothing of the program runs after it."""


def test_the_next_server_goes_on_where_one_was_killed_and_reports_each_scan_once(tmp_path, monkeypatch):
    names = [f"{number}.png" for number in range(5)]
    with predicting_api(tmp_path) as api:
        publish(api, tmp_path, "m")
        url = start(api, {name: encoded(grey(n)) for n, name in enumerate(names)})

        def kill():
            raise Killed

        with monkeypatch.context() as patch:
            after(3, kill, patch)  # files are there, the row is not
            with pytest.raises(Killed):
                work(api)
        assert api.get(url).json()["state"] == "running"
        assert len(api.traces()["predictions"]) == 3
    with predicting_api(tmp_path) as api:
        job = api.get(url).json()
        assert (job["state"], job["done"], len(api.traces()["predictions"])) == ("running", 2, 2)
        predicted = []
        real = api.parts.predictions.predict

        def noting(model_ids, scan, *given, **options):
            predicted.append(scan.name)
            return real(model_ids, scan, *given, **options)

        monkeypatch.setattr(api.parts.predictions, "predict", noting)
        work(api)
        assert predicted == names[2:]
        job = api.get(url).json()
        assert (job["state"], job["done"], job["failed"]) == ("succeeded", 5, 0)
        assert [row["scan"] for row in table(results(api, url)["scans.csv"])] == names
        assert len(api.traces()["predictions"]) == 5


def next_server(api):
    """The runner of a server that was started after the one of `api` was killed."""
    parts = api.parts
    return HandRunner(parts.settings, parts.files, parts.database, parts.predictions)


@pytest.fixture
def deadly(predicting, monkeypatch):
    """A job whose second scan ends every server, and the scans that were begun."""
    begun, real = [], predicting.parts.predictions.predict

    def predict_or_die(model_ids, scan, *given, **options):
        begun.append(scan.name)
        if scan.name == "b.png":
            raise Killed
        return real(model_ids, scan, *given, **options)

    url = start(predicting, {f"{name}.png": encoded(grey(n)) for n, name in enumerate("abc")})
    monkeypatch.setattr(predicting.parts.predictions, "predict", predict_or_die)
    return url, begun


def test_a_scan_over_which_two_servers_ended_fails_and_the_next_ones_are_predicted(predicting, deadly):
    url, begun = deadly
    for _ in range(2):
        with pytest.raises(Killed):
            next_server(predicting).work()
    assert predicting.get(url).json()["done"] == 1
    assert next_server(predicting).work()
    assert begun == ["a.png", "b.png", "b.png", "c.png"]
    job = predicting.get(url).json()
    assert (job["state"], job["done"], job["failed"]) == ("succeeded", 2, 1)
    [failure] = job["failed_files"]
    assert (failure["file"], failure["reason"]) == (
        "b.png",
        "the server ended 2 times while it computed this scan, most likely because the machine ran out of memory; "
        "it is not tried again",
    )


def test_a_server_that_is_stopped_on_purpose_and_then_killed_does_not_count(predicting, deadly):
    _, begun = deadly
    for _ in range(4):
        server = next_server(predicting)
        server.open()
        with pytest.raises(Killed):
            server.work()
        server.close()
    assert begun.count("b.png") == 4


def test_a_database_that_does_not_answer_does_not_count_as_a_server_that_ended(predicting, monkeypatch):
    url = start(predicting, {"a.png": encoded(grey(1))})
    runner, refuse = next_server(predicting), partial(raising, OperationalError("INSERT", {}, Exception("locked")))
    for _ in range(4):
        with monkeypatch.context() as patch:
            patch.setattr(prediction_history, "row_of", refuse)
            with pytest.raises(OperationalError):
                runner.work()
    assert runner.work()
    assert predicting.get(url).json()["state"] == "succeeded"


def raising(error, *_):
    raise error


def test_a_server_works_on_jobs_by_itself_and_stops_between_two_scans(tmp_path, monkeypatch):
    go_on, inside = threading.Event(), threading.Event()

    def wait():
        inside.set()
        assert go_on.wait(20)

    with predicting_api(tmp_path, runner=PredictionRunner) as api:
        publish(api, tmp_path, "m")
        with monkeypatch.context() as patch:
            after(1, wait, patch)
            url = start(api, {f"{number}.png": encoded(grey(number)) for number in range(3)})
            assert inside.wait(20)
            closing = threading.Thread(target=api.parts.prediction_runner.close)
            closing.start()
            wait_for("the closing", api.parts.prediction_runner._closing.is_set)
            go_on.set()
            closing.join()
        job = api.get(url).json()
        assert (job["state"], job["done"]) == ("running", 1)
    with predicting_api(tmp_path, runner=PredictionRunner) as api:
        wait_for("the job", lambda: api.get(url).json()["state"] == "succeeded")
        assert api.get(url).json()["done"] == 3


def test_a_job_whose_scans_were_removed_by_hand_fails(predicting):
    url = start(predicting)
    folder = Files.of(predicting.parts.settings).prediction_job(url.rsplit("/", 1)[-1])
    (folder / prediction_job_service.SOURCE_FILE).unlink()
    work(predicting)
    assert predicting.get(url).json()["state"] == "failed"
