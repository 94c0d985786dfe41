from __future__ import annotations

import base64
import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from octa_backend.errors import StorageFull
from octa_backend.service import prediction_history
from octa_backend.storage.files import Files
from octa_backend.storage.prediction_tables import KeptPrediction
from tests.data.zips import encoded, grey
from tests.predicting import predict, predicting_api, publish


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    with predicting_api(folder, max_predict_files=3, predictions_kept=5) as api:
        publish(api, folder, "old", "new")
        yield api


@pytest.fixture
def predicting(server):
    """The server without predictions."""
    server.delete("/predictions?before=2999-01-01")
    assert server.traces()["predictions"] == []
    return server


def kept(api, **query):
    return [row["prediction_id"] for row in api.get("/predictions", params=query).json()["items"]]


def test_a_prediction_is_kept_as_it_was_answered(predicting):
    scan = encoded(grey(1, height=37, width=50))
    answer = predict(predicting, scan, pixel_size_um="12", measure_picture="true").json()
    assert answer["prediction_url"] == f"/predictions/{answer['prediction_id']}"
    whole = predicting.get(answer["prediction_url"], params={"pictures": "true"}).json()
    assert whole.pop("sha256") == hashlib.sha256(scan).hexdigest()
    assert whole.pop("prediction_job_id") is None
    assert whole.pop("created_at")
    urls = whole.pop("pictures")
    assert whole.pop("probability_png") is not None  # the history draws it where the answer did not
    assert whole == {name: value for name, value in answer.items() if name != "probability_png"}
    assert sorted(urls) == ["mask", "measurement", "overlay", "probability", "scan"]
    plain = predicting.get(answer["prediction_url"]).json()
    assert (plain["mask_png"], plain["overlay_png"], plain["measurement_png"]) == (None, None, None)
    assert plain["measurements"] == answer["measurements"]
    for name in ("mask", "overlay", "measurement"):
        picture = predicting.get(urls[name])
        assert picture.headers["content-type"] == "image/png"
        assert picture.content == base64.b64decode(answer[f"{name}_png"])


def test_the_probability_and_the_scan_are_kept_as_pictures(predicting):
    image = grey(1, height=37, width=50)
    answer = predict(predicting, encoded(image)).json()
    found = {
        name: np.asarray(Image.open(io.BytesIO(predicting.get(f"{answer['prediction_url']}/{name}.png").content)))
        for name in ("probability", "scan", "mask")
    }
    wanted = predicting.parts.predictions.predictor("new").predict(image[None]).probability
    assert np.abs(found["probability"] / 255 - wanted).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_array_equal(found["scan"], image)
    decided = found["probability"] != 128  # 0.5 itself is rounded
    np.testing.assert_array_equal((found["mask"] > 0)[decided], (found["probability"] >= 128)[decided])


def test_every_picture_that_a_kept_prediction_names_is_served(predicting):
    files = {"file": ("s.png", encoded(grey(1))), "mask": ("m.png", encoded((grey(2) > 127).astype(np.uint8) * 255))}
    asked = {"probability": "true", "confidence_map": "true", "measure_picture": "true", "pixel_size_um": "12"}
    answer = predicting.post("/predict", files=files, data=asked).json()
    urls = predicting.get(answer["prediction_url"]).json()["pictures"]
    drawn = {name.removesuffix("_png") for name, value in answer.items() if name.endswith("_png") and value}
    assert drawn >= {"confidence", "difference"}
    assert set(urls) == {*drawn, "scan"}
    for name, url in urls.items():
        picture = predicting.get(url)
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png"), picture.text
        if name in drawn:
            assert picture.content == base64.b64decode(answer[f"{name}_png"])
    unasked = predict(predicting, encoded(grey(1))).json()["prediction_url"]
    assert {predicting.get(f"{unasked}/{name}.png").status_code for name in ("confidence", "difference")} == {404}


def test_a_large_scan_is_thinned_out_for_its_preview(predicting):
    url = predict(predicting, encoded(grey(1, height=20, width=1100)), measure="false").json()["prediction_url"]
    preview = Image.open(io.BytesIO(predicting.get(f"{url}/scan.png").content))
    assert preview.size == (367, 7)


def test_predictions_are_listed_newest_first_in_pages_and_by_model(predicting):
    first = predict(predicting, encoded(grey(1)), model_id="old").json()
    others = predict(predicting, encoded(grey(2)), encoded(grey(3))).json()["predictions"]
    ids = [one["prediction_id"] for one in [first, *others]]
    page = predicting.get("/predictions?limit=2").json()
    rest = predicting.get("/predictions", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    listed = page["items"] + rest["items"]
    assert {row["prediction_id"] for row in page["items"]} == set(ids[1:])
    assert (rest["next_cursor"], len(listed), listed[-1]["prediction_id"]) == (None, 3, ids[0])
    assert kept(predicting, model_id="old") == ids[:1]
    shown = listed[-1]
    for name in ("file", "model_id", "width", "height", "threshold", "foreground_fraction", "confidence"):
        assert shown[name] == first[name]
    assert kept(predicting, prediction_job_id="none") == []
    wrong = predicting.get("/predictions?cursor=nonsense")
    assert (wrong.status_code, wrong.json()["type"]) == (422, "urn:octa:invalid-cursor")


def test_a_prediction_that_is_not_to_be_kept_leaves_no_trace(predicting):
    before = predicting.traces()
    answer = predict(predicting, encoded(grey(1)), keep="false").json()
    assert answer["prediction_url"] is None
    assert predicting.traces() == before
    assert predicting.get(f"/predictions/{answer['prediction_id']}").status_code == 404


def test_a_request_with_a_scan_that_cannot_be_read_keeps_none_of_its_predictions(predicting):
    before = predicting.traces()
    assert predict(predicting, encoded(grey(1)), b"no image").status_code == 422
    assert predicting.traces() == before


def test_a_full_disk_keeps_none_of_a_requests_predictions(predicting, monkeypatch):
    before, real, calls = predicting.traces(), prediction_history.write, []

    def full_at_the_second(files, scan):
        calls.append(scan)
        if len(calls) == 2:
            raise StorageFull("the server's disk is full")
        real(files, scan)

    monkeypatch.setattr(prediction_history, "write", full_at_the_second)
    answer = predict(predicting, encoded(grey(1)), encoded(grey(2)))
    assert (answer.status_code, answer.json()["type"]) == (507, "urn:octa:storage-full")
    assert predicting.traces() == before


def test_the_oldest_predictions_leave(predicting):
    ids = [predict(predicting, encoded(grey(n)), measure="false").json()["prediction_id"] for n in range(7)]
    assert kept(predicting) == ids[:1:-1]
    assert sorted(predicting.traces()["predictions"]) == sorted(ids[2:])


def test_a_prediction_is_deleted_with_its_pictures(predicting):
    url = predict(predicting, encoded(grey(1))).json()["prediction_url"]
    assert predicting.delete(url).status_code == 204
    assert predicting.traces()["predictions"] == []
    for gone in (url, f"{url}/mask.png"):
        answer = predicting.get(gone)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:octa:prediction-not-found")
    assert predicting.delete(url).status_code == 404


def test_a_picture_that_was_not_made_is_not_found(predicting):
    url = predict(predicting, encoded(grey(1))).json()["prediction_url"]
    answer = predicting.get(f"{url}/measurement.png")
    assert (answer.status_code, "has no picture measurement.png" in answer.json()["detail"]) == (404, True)
    assert predicting.get(f"{url}/answer.png").status_code == 422


def test_many_predictions_are_deleted_by_model_or_by_time(predicting):
    predict(predicting, encoded(grey(1)), model_id="old")
    new = predict(predicting, encoded(grey(2))).json()["prediction_id"]
    assert predicting.delete("/predictions?before=2020-01-01T00:00:00Z").json() == {"deleted": 0}
    assert predicting.delete("/predictions?model_id=old&before=2020-01-01").json() == {"deleted": 0}
    assert predicting.delete("/predictions?model_id=old").json() == {"deleted": 1}
    assert kept(predicting) == [new]
    assert predicting.traces()["predictions"] == [new]
    answer = predicting.delete("/predictions")
    assert (answer.status_code, "say which predictions" in answer.json()["detail"]) == (400, True)
    assert kept(predicting) == [new]


@pytest.mark.parametrize("before", ["9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00%2B14:00"])
def test_a_time_that_is_none_in_utc_is_refused(predicting, before):
    answer = predicting.delete(f"/predictions?before={before}")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-request")
    assert "query.before: Value error, in UTC this is" in answer.json()["detail"]


def test_predictions_outlive_their_model(predicting, tmp_path):
    publish(predicting, tmp_path, "short")
    url = predict(predicting, encoded(grey(1)), model_id="short").json()["prediction_url"]
    assert predicting.delete("/models/short").status_code == 204
    assert predicting.get(url).json()["model_id"] == "short"


def test_with_nothing_to_keep_no_history_is_kept(tmp_path):
    with predicting_api(tmp_path, predictions_kept=0) as api:
        publish(api, tmp_path, "m")
        before = api.traces()
        assert predict(api, encoded(grey(1))).json()["prediction_url"] is None
        assert api.traces() == before


def test_a_start_removes_what_a_kill_left_and_what_is_more_than_is_kept_now(tmp_path):
    with predicting_api(tmp_path) as api:
        publish(api, tmp_path, "m")
        ids = [predict(api, encoded(grey(n)), measure="false").json()["prediction_id"] for n in range(3)]
    files = Files(tmp_path / "data")
    (files.prediction("killed") / "mask.png").parent.mkdir()
    files.prediction_job("killed").mkdir()
    (files.predictions / ".x.12345678.part").mkdir()
    with predicting_api(tmp_path, predictions_kept=2) as api:
        assert kept(api) == ids[:0:-1]
        traces = api.traces()
        assert (sorted(traces["predictions"]), traces["prediction_jobs"]) == (sorted(ids[1:]), [])


def test_an_answer_of_an_earlier_version_with_fewer_fields_is_shown_as_it_is(predicting):
    found = predict(predicting, encoded(grey(1))).json()
    path = predicting.parts.files.prediction(found["prediction_id"]) / "answer.json"
    path.write_text(json.dumps({"file": "scan0.png", "mask_png": None}), "utf-8")
    shown = predicting.get(found["prediction_url"]).json()
    assert (shown["file"], "engine" in shown, shown["prediction_id"]) == ("scan0.png", False, found["prediction_id"])


def test_an_answer_that_was_removed_by_hand_is_not_found(predicting):
    found = predict(predicting, encoded(grey(1))).json()
    (predicting.parts.files.prediction(found["prediction_id"]) / "answer.json").unlink()
    assert predicting.get(found["prediction_url"]).status_code == 404


def test_the_row_holds_measurements_and_the_file_no_pictures(predicting):
    found = predict(predicting, encoded(grey(1))).json()
    with predicting.parts.database.reading() as session:
        row = session.get_one(KeptPrediction, found["prediction_id"])
        assert (row.measurements, row.confidence, row.warnings) == (found["measurements"], found["confidence"], [])
    text = (predicting.parts.files.prediction(found["prediction_id"]) / "answer.json").read_text("utf-8")
    assert json.loads(text)["mask_png"] is None
