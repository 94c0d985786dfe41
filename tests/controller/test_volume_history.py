from __future__ import annotations

import base64
import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from octa_backend.inference.volume_distribution import summarise_volumes, volume_features
from tests.volume_server import CARDS, classes, predict, publish, volume, volume_api
from tests.volumes import SHAPE, affine_of

PLANES = ("axial", "coronal", "sagittal")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with volume_api(tmp_path_factory.mktemp("history"), predictions_kept=3) as api:
        yield api


@pytest.fixture
def predicting(server):
    """The server without predictions."""
    server.delete("/predictions?before=2999-01-01")
    return server


def test_a_volume_is_kept_as_it_was_answered(predicting):
    sent = volume(classes(), affine_of("LPS", (1, 1, 2)))
    answer = predict(predicting, {"case.nii.gz": sent}, probability="true").json()
    assert answer["prediction_url"] == f"/predictions/{answer['prediction_id']}"
    whole = predicting.get(answer["prediction_url"], params={"pictures": "true"}).json()
    assert whole.pop("sha256") == hashlib.sha256(sent).hexdigest()
    assert whole.pop("prediction_job_id") is None
    assert whole.pop("created_at")
    pictures, volumes = whole.pop("pictures"), whole.pop("volumes")
    assert whole == answer
    assert sorted(pictures) == sorted([*PLANES, *(f"{plane}_projection" for plane in PLANES)])
    for drawn in answer["overlays"]:
        for field, name in (("slice_png", drawn["plane"]), ("projection_png", f"{drawn['plane']}_projection")):
            found = predicting.get(pictures[name])
            assert found.headers["content-type"] == "image/png"
            assert found.content == base64.b64decode(drawn[field])
            assert Image.open(io.BytesIO(found.content)).mode == "RGB"
    for name in ("mask", "probability"):
        found = predicting.get(volumes[name])
        assert found.headers["content-type"] == "application/gzip"
        assert found.content == base64.b64decode(answer[f"{name}_nii_gz"])
    plain = predicting.get(answer["prediction_url"]).json()
    assert (plain["mask_nii_gz"], plain["probability_nii_gz"], plain["overlays"][0]["slice_png"]) == (None, None, None)
    assert (plain["classes"], plain["overlays"][0]["index"]) == (answer["classes"], answer["overlays"][0]["index"])


def test_the_list_shows_sides_and_the_first_file_of_a_case(predicting):
    files = {f"p_000{at}.nii.gz": volume(classes(at)) for at in (1, 0)}
    answer = predict(predicting, files, model_id="two").json()
    (row,) = predicting.get("/predictions?model_id=two").json()["items"]
    assert (row["width"], row["height"], row["depth"]) == SHAPE
    assert (row["file"], row["prediction_url"]) == ("p_0000.nii.gz", answer["prediction_url"])
    assert (row["foreground_fraction"], row["confidence"]) == (answer["foreground_fraction"], answer["confidence"])
    digests = "".join(hashlib.sha256(files[name]).hexdigest() for name in sorted(files))
    assert row["sha256"] == hashlib.sha256(digests.encode()).hexdigest()


def test_what_was_not_made_is_not_found(predicting):
    url = predict(predicting, {"case.nii.gz": volume(classes())}).json()["prediction_url"]
    for name in ("probability.nii.gz", "overlay.png"):
        answer = predicting.get(f"{url}/{name}")
        assert (answer.status_code, f"has no {'volume' if 'nii' in name else 'picture'} {name}" in answer.text) == (
            404,
            True,
        )
    assert predicting.get(f"{url}/answer.nii.gz").status_code == 422
    assert "volumes" in predicting.get(url).json()


def test_a_volume_is_deleted_with_its_files_and_the_oldest_leave(predicting):
    ids = [predict(predicting, {"c.nii.gz": volume(classes(seed))}).json()["prediction_id"] for seed in range(4)]
    assert [row["prediction_id"] for row in predicting.get("/predictions").json()["items"]] == ids[:0:-1]
    assert sorted(predicting.traces()["predictions"]) == sorted(ids[1:])
    assert predicting.delete(f"/predictions/{ids[1]}").status_code == 204
    assert predicting.get(f"/predictions/{ids[1]}/mask.nii.gz").status_code == 404
    assert predicting.delete("/predictions?model_id=one").json() == {"deleted": 2}
    assert predicting.traces()["predictions"] == []


def test_a_volume_that_is_not_to_be_kept_leaves_no_trace(predicting):
    before = predicting.traces()
    answer = predict(predicting, {"case.nii.gz": volume(classes())}, keep="false").json()
    assert answer["prediction_url"] is None
    assert predict(predicting, {"case.nii.gz": b"no volume"}).status_code == 422
    assert predicting.traces() == before


def test_a_volume_unlike_those_of_the_training_is_warned_about_in_both_languages(predicting, tmp_path):
    parts = (classes(seed)[2:-3, 1:-2, 3:-1].T[None] * np.uint8(85) for seed in range(6))
    seen = [volume_features(part, "unit", (1, 1, 1)) for part in parts]
    publish(predicting, tmp_path, {"known": {**CARDS["one"], "scan_statistics": summarise_volumes(seen, 1, "unit")}})
    like = predict(predicting, {"c.nii.gz": volume(classes(50))}, model_id="known").json()
    assert like["warnings"] == []
    sent = {"c.nii.gz": volume(classes(50), affine_of("RAS", (10, 10, 10)))}
    (warning,) = predict(predicting, sent, model_id="known").json()["warnings"]
    assert (warning["code"], warning["model_id"]) == ("out_of_distribution", "known")
    assert "voxel size out of the range" in warning["message"]
    assert warning["evidence"]["spacing"]["value"] == pytest.approx(np.log2(10))
    (chinese,) = predict(predicting, sent, model_id="known", headers={"accept-language": "zh"}).json()["warnings"]
    assert "体素尺寸" in chinese["message"]
    assert predict(predicting, sent).json()["warnings"] == []  # its card does not say what it was trained on


def test_the_stored_answer_holds_no_files(predicting):
    found = predict(predicting, {"case.nii.gz": volume(classes())}).json()
    text = (predicting.parts.files.prediction(found["prediction_id"]) / "answer.json").read_text("utf-8")
    stored = json.loads(text)
    assert stored["mask_nii_gz"] is None
    assert all(one["slice_png"] is one["projection_png"] is None for one in stored["overlays"])
    assert len(text) < 3000
    assert CARDS["one"]["classes"] == len(stored["classes"]) + 1
    assert np.isclose(stored["classes"][0]["ml"], stored["classes"][0]["voxels"] / 1000)
