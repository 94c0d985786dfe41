from __future__ import annotations

import base64
import io
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from sqlalchemy import select

from octa_backend import errors
from octa_backend.inference import pictures
from octa_backend.inference.measurements import QUANTITIES
from octa_backend.models import registry
from octa_backend.service import measured_answer, model_service
from octa_backend.service.train_service import start
from octa_backend.settings import Settings
from octa_backend.storage.tables import Job
from octa_backend.training import precision
from octa_backend.training.checkpoint import save_weights
from octa_backend.training.config import TrainConfig
from tests.data.zips import colour, encoded, grey
from tests.exports import FakeExporter
from tests.fakes import Api, a_dataset
from tests.tiny import SLOW_CPU, one_thread


@pytest.fixture(scope="module")
def predicting(tmp_path_factory):
    """A server with two published models of random weights, `old` and `new`, and a job without one."""

    folder = tmp_path_factory.mktemp("predict")
    torch.manual_seed(0)
    save_weights(registry.build("unet", 1, 1), folder / "weights.safetensors")
    card = {"network": "unet", "channels": 1, "classes": 2}
    settings = Settings(data_dir=folder / "data", device="cpu", engine="torch", max_predict_files=3)
    with Api(settings) as api, pytest.MonkeyPatch.context() as patch, one_thread():
        patch.setattr(precision, "probe", lambda device: SLOW_CPU)  # measuring takes a second or more
        with api.parts.database.writing() as session:
            file_id = a_dataset(session).id
            jobs = [start(session, file_id, TrainConfig()) for _ in range(3)]
            for name, job in zip(("old", "new"), jobs, strict=False):
                model_service.write_model(api.parts.files.model(name), folder / "weights.safetensors", card)
                model_service.register(session, name, job, card)
        yield api


def predict(api, *scans, headers=None, **fields):
    files = [("file", (f"scan{n}.png", scan, "image/png")) for n, scan in enumerate(scans)]
    return api.post("/predict", files=files, data=fields, headers=headers or {})


def picture(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def jobs(api):

    with api.parts.database.reading() as session:
        return session.scalars(select(Job.id).order_by(Job.queued_at)).all()


def test_a_scan_is_answered_with_mask_overlay_and_measurements_at_its_own_size(predicting):
    answer = predict(predicting, encoded(grey(1, height=37, width=50)))
    assert answer.status_code == 200
    found = answer.json()
    assert (found["model_id"], found["file"], found["width"], found["height"]) == ("new", "scan0.png", 50, 37)
    assert (found["threshold"], found["notice"]) == (0.5, "research use only")
    mask, overlay = picture(found["mask_png"]), picture(found["overlay_png"])
    assert (mask.shape, overlay.shape) == ((37, 50), (37, 50, 3))
    assert set(np.unique(mask)) <= {0, 255}
    assert found["foreground_fraction"] == pytest.approx((mask > 0).mean())
    density = {"value": found["foreground_fraction"], "unit": "1", "reason": None}
    assert found["measurements"]["vessel_area_density"] == density
    assert found["measuring_seconds"] > 0
    assert (found["segments"], found["measurement_png"]) == (None, None)
    assert 0.5 <= found["confidence"]["mean"] <= 1
    assert found["seconds"] > 0
    assert predicting.traces()["uploads"] == []


def units(found):
    names = ("vessel_area_density", "skeleton_length", "calibre_mean", "faz_area", "branch_point_density")
    return [found["measurements"][name]["unit"] for name in names]


def test_a_scale_gives_micrometres_and_millimetres(predicting):
    image = grey(1, height=37, width=50)
    half = np.median(predicting.parts.predictions.predictor("new").predict(image[None]).probability)
    plain, sized, viewed = (
        predict(predicting, encoded(image), threshold=str(half), **fields).json()
        for fields in ({}, {"pixel_size_um": "12"}, {"field_of_view_mm": "0.6"})
    )
    assert list(plain["measurements"]) == list(QUANTITIES)
    assert units(plain) == ["1", "px", "px", "px²", "1/px²"]
    assert units(sized) == ["1", "mm", "µm", "mm²", "1/mm²"]
    assert sized["measurements"] == viewed["measurements"]  # 0.6 mm are 50 pixels of 12 µm
    length = plain["measurements"]["skeleton_length"]["value"]
    assert sized["measurements"]["skeleton_length"]["value"] == pytest.approx(length * 0.012)


def test_both_a_pixel_size_and_a_field_of_view_are_refused(predicting):
    answer = predict(predicting, encoded(grey(1)), pixel_size_um="12", field_of_view_mm="3")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:octa:invalid-scale")
    assert "send one of them" in answer.json()["detail"]


@pytest.mark.parametrize(
    "fields",
    [
        {"pixel_size_um": "0"},
        {"pixel_size_um": "1e-300"},
        {"pixel_size_um": "1e-200", "min_object_um2": "1"},
        {"field_of_view_mm": "-3"},
        {"field_of_view_mm": "1e-300"},
        {"vessel_class": "0"},
    ],
)
def test_what_is_no_size_and_no_class_is_refused(predicting, fields):
    answer = predict(predicting, encoded(grey(1)), **fields)
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:octa:invalid-request")
    assert next(iter(fields)) in answer.json()["detail"]


@pytest.mark.parametrize(
    "fields", [{"pixel_size_um": "0.0001"}, {"field_of_view_mm": "0.001"}, {"pixel_size_um": "1000"}]
)
@pytest.mark.parametrize("area", ["1e-300", "1e300"])
def test_the_least_and_the_largest_size_of_a_pixel_can_be_reckoned_with(predicting, fields, area):
    answer = predict(predicting, encoded(grey(1)), min_object_um2=area, max_hole_um2=area, **fields)
    assert answer.status_code == 200, answer.text


def test_what_cannot_be_measured_is_null_with_a_reason_in_the_readers_language(predicting):
    scan = encoded(grey(1))
    english, chinese = (
        predict(predicting, scan, threshold="0.99", headers={"Accept-Language": language}).json()["measurements"]
        for language in ("en", "zh")
    )
    assert english["calibre_mean"] == {"value": None, "unit": "px", "reason": "The mask has no vessel pixel."}
    assert chinese["calibre_mean"]["reason"] == "掩码中没有血管像素。"
    assert english["vessel_area_density"]["value"] == 0.0
    other = predict(predicting, scan, vessel_class="2").json()["measurements"]
    assert {one["value"] for one in other.values()} == {None}
    assert "vessel_class" in other["faz_area"]["reason"]


def test_segments_and_a_picture_are_told_on_request(predicting):
    scan = encoded(grey(1, height=60, width=50))
    found = predict(predicting, scan, measure_segments="true", measure_picture="true").json()
    assert len(found["segments"]) == (found["measurements"]["tortuosity_segments"]["value"] or 0)
    assert picture(found["measurement_png"]).shape == (1200, 1000, 3)


def test_without_measuring_there_are_no_measurements(predicting):
    found = predict(predicting, encoded(grey(1)), measure="false").json()
    told = {name: found[name] for name in ("measurements", "measuring_seconds", "segments", "measurement_png")}
    assert told == {"measurements": {}, "measuring_seconds": None, "segments": None, "measurement_png": None}


def test_options_of_a_measurement_that_is_switched_off_are_refused(predicting):
    answer = predict(predicting, encoded(grey(1)), measure="false", measure_picture="true", pixel_size_um="12")
    assert answer.status_code == 400
    assert "leave out measure_picture, pixel_size_um" in answer.json()["detail"]


def test_inputs_of_a_page_that_were_left_open_are_as_if_they_were_not_there(predicting):
    names = (
        "model_id",
        "job_id",
        "threshold",
        "pixel_size_um",
        "field_of_view_mm",
        "min_object_px",
        "measure",
        "batch",
    )
    files = [("file", ("scan.png", encoded(grey(1)), "image/png")), ("mask", ("", b"", "application/octet-stream"))]
    answer = predicting.post("/predict", files=files, data=dict.fromkeys(names, ""))
    assert answer.status_code == 200, answer.text
    assert (answer.json()["threshold"], answer.json()["evaluation"]) == (0.5, None)


def test_several_scans_are_answered_in_their_order(predicting):
    answer = predict(predicting, encoded(grey(1)), encoded(grey(2, height=20)), encoded(colour(3)))
    found = answer.json()["predictions"]
    assert [one["file"] for one in found] == ["scan0.png", "scan1.png", "scan2.png"]
    assert [one["height"] for one in found] == [24, 20, 24]
    assert len({one["prediction_id"] for one in found}) == 3


def test_the_mask_alone_is_sent_where_a_png_is_asked_for(predicting):
    scan = encoded(grey(1))
    answer = predict(predicting, scan, headers={"Accept": "image/png"})
    assert answer.headers["content-type"] == "image/png"
    plain = predict(predicting, scan).json()
    assert answer.content == base64.b64decode(plain["mask_png"])
    several = predict(predicting, scan, scan, headers={"Accept": "image/png"})
    assert (several.status_code, several.json()["type"]) == (400, "urn:octa:invalid-request")


def test_nothing_but_the_mask_is_made_where_it_is_neither_shown_nor_kept(predicting, monkeypatch):
    scan = encoded(grey(1))
    shown = base64.b64decode(predict(predicting, scan).json()["mask_png"])
    drawn = []
    monkeypatch.setattr(pictures, "overlay", lambda *given: drawn.append(given) or np.zeros((24, 32, 3), np.uint8))
    monkeypatch.setattr(measured_answer, "measure", lambda *_: pytest.fail("nobody asked for measurements"))
    sent = {"headers": {"Accept": "image/png"}, "keep": "false"}
    assert (predict(predicting, scan, **sent).content, drawn) == (shown, [])
    assert predict(predicting, scan, **{**sent, "keep": "true", "measure": "false"}).content == shown
    assert len(drawn) == 1  # for the history


def test_the_threshold_and_the_flips_change_the_outcome(predicting):
    scan = encoded(grey(1))
    low, middle, high = (predict(predicting, scan, threshold=t).json() for t in ("0.01", "0.5", "0.99"))
    assert low["foreground_fraction"] == 1.0
    assert high["foreground_fraction"] == 0.0
    flipped = predict(predicting, scan, tta="true").json()
    assert flipped["confidence"] != middle["confidence"]


def test_a_model_is_chosen_by_its_id_or_by_its_job(predicting):
    scan = encoded(grey(1))
    first, second, _ = jobs(predicting)
    assert predict(predicting, scan, model_id="old").json()["model_id"] == "old"
    assert predict(predicting, scan, job_id=first).json()["model_id"] == "old"
    assert predict(predicting, scan, job_id=second).json()["model_id"] == "new"


def test_a_job_without_a_model_says_so(predicting):
    answer = predict(predicting, encoded(grey(1)), job_id=jobs(predicting)[2])
    assert (answer.status_code, answer.json()["type"]) == (409, "urn:octa:no-model-yet")


def test_the_same_scan_and_model_give_the_same_mask(predicting):
    scan = encoded(grey(5))
    one, again = (predict(predicting, scan).json() for _ in range(2))
    assert one["mask_png"] == again["mask_png"]


def test_an_ensemble_answers_with_the_mean_of_its_members(predicting):
    files, scan = predicting.parts.files, encoded(grey(1))
    torch.manual_seed(1)
    other = files.root / "other.safetensors"
    save_weights(registry.build("unet", 1, 1), other)
    card = {"network": "unet", "channels": 1, "classes": 2}
    together = {**card, "members": [{"model_id": name, "folder": name} for name in ("old", "other")]}
    model_service.write_model(files.model("other"), other, card)
    model_service.write_model(files.model("together"), None, together)
    with predicting.parts.database.writing() as session:
        job = session.get_one(Job, jobs(predicting)[0])
        model_service.register(session, "other", job, card)
        model_service.register(session, "together", job, together)
    old, new, mean = (predict(predicting, scan, model_id=name).json() for name in ("old", "other", "together"))
    assert mean["model_id"] == "together"
    probabilities = [
        predicting.parts.predictions.predictor(name).predict(grey(1)[None]).probability
        for name in ("old", "other", "together")
    ]
    np.testing.assert_allclose(probabilities[2], (probabilities[0] + probabilities[1]) / 2, atol=1e-5)
    assert mean["foreground_fraction"] == pytest.approx((probabilities[2] >= 0.5).mean())
    assert len({old["confidence"]["mean"], new["confidence"]["mean"], mean["confidence"]["mean"]}) == 3


def test_an_answer_says_what_computed_it(predicting):
    assert predict(predicting, encoded(grey(1))).json()["engine"] == "torch fp32"


def test_a_full_queue_is_answered_with_when_to_come_back(predicting, monkeypatch):
    scan, queue = encoded(grey(1)), predicting.parts.predictions.queue
    monkeypatch.setattr(queue, "_places", 1)
    with queue.place():
        refused = predict(predicting, scan)
        assert predicting.get("/health").status_code == 200
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:octa:too-many-predictions")
    assert int(refused.headers["retry-after"]) >= 1
    assert predict(predicting, scan).status_code == 200
    assert predicting.traces()["uploads"] == []


def test_the_event_loop_answers_while_predictions_are_computed(predicting, monkeypatch):
    inside, go_on = threading.Event(), threading.Event()

    def slow(*_, **_options):
        inside.set()
        assert go_on.wait(20)
        raise errors.UnreadableScan("enough")

    monkeypatch.setattr(predicting.parts.predictions, "predict", slow)
    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(predict, predicting, encoded(grey(1))) for _ in range(20)]
        assert inside.wait(20)
        assert predicting.get("/models/old").status_code == 200
        go_on.set()
        assert {future.result().status_code for future in waiting} == {422}


@pytest.fixture
def exporting(predicting, monkeypatch):
    """The names of the models that were exported, by an exporter that writes a line instead of a graph."""
    exporter = FakeExporter()
    monkeypatch.setattr(predicting.parts.predictions.exporter, "ensure", exporter.ensure)
    return exporter.made


def test_a_model_is_downloaded_as_a_zip(predicting, exporting):
    answer = predicting.get("/models/old/export?format=onnx")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/zip")
    assert answer.headers["content-disposition"] == 'attachment; filename="old-onnx.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["card.json", "export.json", "model.onnx"]
    assert predicting.get("/models/old/export?format=onnx").content == answer.content
    assert exporting == ["old"]


def test_a_download_of_no_model_or_in_no_format_is_refused(predicting, exporting):
    assert predicting.get("/models/nope/export?format=onnx").status_code == 404
    for query in ("", "?format=tensorflow"):
        assert predicting.get(f"/models/old/export{query}").status_code == 422
    assert exporting == []


def test_a_model_that_cannot_be_exported_says_why(predicting, monkeypatch):
    def refuse(model, wanted):
        raise errors.ExportFailed("its graph depends on the scan's size")

    monkeypatch.setattr(predicting.parts.predictions.exporter, "ensure", refuse)
    answer = predicting.get("/models/old/export?format=torch")
    assert (answer.status_code, answer.json()["detail"]) == (422, "its graph depends on the scan's size")


@pytest.mark.parametrize("url", ["/models/old/export?format=openvino", "/models/old/download"])
def test_a_model_is_not_deleted_while_it_is_downloaded(predicting, monkeypatch, url):
    inside, go_on = threading.Event(), threading.Event()

    def slow(*given):
        inside.set()
        assert go_on.wait(20)
        raise errors.ExportFailed("enough")

    monkeypatch.setattr("octa_backend.service.export_service.export_archive", slow)
    monkeypatch.setattr("octa_backend.controller.transfer_controller.write_package", slow)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(predicting.get, url)
        assert inside.wait(20)
        refused = predicting.delete("/models/old")
        go_on.set()
        assert answer.result().status_code == 422
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:octa:model-in-use")
    assert "at work for a download" in refused.json()["detail"]
    predicting.parts.predictions.in_use.require_idle("old")
