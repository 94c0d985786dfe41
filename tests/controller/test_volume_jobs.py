from __future__ import annotations

import csv
import gzip
import io
import zipfile

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from octa_backend.service import prediction_history
from tests.data.zips import encoded, grey
from tests.fakes import zip_bytes
from tests.predicting import end_prediction_jobs
from tests.volume_models import volume_card
from tests.volume_server import CARDS, VALUES, classes, predict, volume, volume_api
from tests.volumes import SHAPE, affine_of, nifti, stack

PLANES = ("axial", "coronal", "sagittal")
ZIP = {
    "left/p.nii.gz": volume(classes(0), affine_of("LPS", (0.5, 1, 2))),
    "right/p.nii.gz": volume(classes(1)),
    "right/broken.nii.gz": b"no volume",
    "right/p_seg.nii.gz": b"a mask is left out",
    "notes.txt": b"no volume",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    cards = {**CARDS, "words": volume_card(channels=2, modalities=["flair", "t1"], normalisation="unit")}
    with volume_api(tmp_path_factory.mktemp("jobs"), cards, max_predict_files=2, max_scan_voxels=20_000) as api:
        yield api


@pytest.fixture
def predicting(server):
    """The server without prediction jobs."""
    end_prediction_jobs(server)
    return server


def start(api, files, total, **fields):
    """Queue a job; return its address."""
    answer = predict(api, files, **fields)
    assert answer.status_code == 202, answer.text
    assert (answer.json()["total"], answer.headers["location"]) == (total, answer.json()["progress_url"])
    return answer.json()["progress_url"]


def results(api, url):
    archive = zipfile.ZipFile(io.BytesIO(api.get(f"{url}/results.zip").content))
    assert archive.testzip() is None
    return {name: archive.read(name) for name in archive.namelist()}


def finished(api, url, state="succeeded"):
    assert api.parts.prediction_runner.work()
    job = api.get(url).json()
    assert (job["state"], job["percent"]) == (state, 100.0), job
    return job, results(api, url)


def opened(content):
    return nib.Nifti1Image.from_bytes(gzip.decompress(content))


def table(content):
    return list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))


def test_a_zip_of_several_cases_becomes_a_job_and_its_results_a_zip(predicting):
    url = start(predicting, {"cases.zip": zip_bytes(ZIP)}, 3, probability="true")
    waiting = predicting.get(url).json()
    assert (waiting["spatial_dims"], waiting["name"], waiting["ignored"]) == (3, "cases.zip", 2)
    job, found = finished(predicting, url)
    assert (job["done"], job["failed"], job["failed_files"][0]["file"]) == (2, 1, "right/broken.nii.gz")
    names = ("left/p", "right/p")
    assert sorted(found) == sorted(
        [
            *("README.txt", "errors.csv", "measurements.csv", "scans.csv"),
            *(f"{folder}/{name}.nii.gz" for folder in ("masks", "probabilities") for name in names),
            *(
                f"overlays/{name}_{plane}{after}.png"
                for name in names
                for plane in PLANES
                for after in ("", "_projection")
            ),
        ]
    )
    mask, sent = opened(found["masks/left/p.nii.gz"]), opened(ZIP["left/p.nii.gz"])
    np.testing.assert_array_equal(mask.affine, sent.affine)
    np.testing.assert_array_equal(np.asarray(mask.dataobj), np.take(VALUES, classes(0)))
    assert opened(found["probabilities/right/p.nii.gz"]).shape == (*SHAPE, 4)
    assert Image.open(io.BytesIO(found["overlays/left/p_axial.png"])).size[0] > 0
    rows = table(found["measurements.csv"])
    assert [(row["case"], row["class"], row["value"]) for row in rows] == [
        (name, str(index), str(VALUES[index])) for name in names for index in (1, 2, 3)
    ]
    core = int((classes(0) == 1).sum())
    assert (int(rows[0]["voxels"]), float(rows[0]["ml"]), rows[0]["name"]) == (core, pytest.approx(core / 1000), "core")
    scans = table(found["scans.csv"])
    assert [(row["case"], row["files"], row["depth"]) for row in scans] == [
        (name, f"{name}.nii.gz", str(SHAPE[2])) for name in names
    ]
    assert scans[0]["core [ml]"] == rows[0]["ml"]
    assert "right/broken.nii.gz" in table(found["errors.csv"])[0]["reason"]
    assert "the dataset's values" in found["README.txt"].decode()


def test_several_volumes_become_a_job_whose_predictions_stand_in_the_history(predicting):
    files = {f"{name}.nii.gz": volume(classes(seed)) for seed, name in enumerate("cab")}
    url = start(predicting, files, 3)
    job, found = finished(predicting, url)
    assert (job["name"], job["done"]) == ("3 files", 3)
    for seed, name in enumerate("cab"):
        np.testing.assert_array_equal(
            np.asarray(opened(found[f"masks/{name}.nii.gz"]).dataobj), np.take(VALUES, classes(seed))
        )
    kept = predicting.get("/predictions", params={"prediction_job_id": job["prediction_job_id"]}).json()["items"]
    assert [row["file"] for row in kept] == ["c.nii.gz", "b.nii.gz", "a.nii.gz"]
    assert predicting.get(f"{kept[0]['prediction_url']}/mask.nii.gz").content == found["masks/c.nii.gz"]
    assert predicting.delete(url).status_code == 204
    assert predicting.get(kept[0]["prediction_url"]).status_code == 404


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("two", [f"{case}_000{at}.nii.gz" for case in "pq" for at in (1, 0)]),
        ("two", [f"{case}/{case}_000{at}.nii.gz" for case in "pq" for at in (0, 1)]),
        ("words", [f"{case}/{word}.nii.gz" for case in "pq" for word in ("t1", "flair")]),
    ],
)
def test_cases_of_several_modalities(predicting, model, names):
    """The classes are in the first modality; the other one is empty."""
    filled = {name: name.endswith(("0000.nii.gz", "flair.nii.gz")) for name in names}
    files = {name: volume(classes() * np.uint8(filled[name])) for name in names}
    in_zip = {"cases.zip": zip_bytes(files)}
    masks = []
    for sent in (files, in_zip):
        _, found = finished(predicting, start(predicting, sent, 2, model_id=model))
        masks += [np.asarray(opened(found[name]).dataobj) for name in sorted(found) if name.startswith("masks/")]
        folders = "/" in names[0]
        assert f"masks/{'p/p' if folders else 'p'}.nii.gz" in found
    assert len(masks) == 4
    assert all(np.array_equal(mask, classes() >= 2) for mask in masks)
    alone = predict(predicting, {name: files[name] for name in names if "p" in name}, model_id=model)
    assert (alone.status_code, alone.json()["case"]) == (200, "p")


def test_one_case_becomes_a_job_where_that_is_asked_for(predicting):
    _, found = finished(predicting, start(predicting, {"c.tif": stack(classes() * np.uint8(85))}, 1, batch="true"))
    assert table(found["measurements.csv"])[0]["ml"] == ""


@pytest.mark.parametrize(
    ("files", "fields", "status", "said"),
    [
        (["p_0000.nii.gz", "p_0001.nii.gz", "q.nii.gz"], {}, 422, "q.nii.gz names no modality, but p_0000.nii.gz does"),
        (["p_0000.nii.gz", "q_0000.nii.gz", "q_0001.nii.gz"], {}, 422, "case p lacks 0001; p_0000.nii.gz came"),
        (["p_0000.nii.gz", "p_0001.nii.gz", "x.zip"], {}, 422, "x.zip is a zip and came with p_0000.nii.gz"),
        (["x.zip", "y.zip"], {}, 422, "y.zip is a zip and came with x.zip"),
        (["p_0000.nii.gz", "p_0001.nii.gz", "photo.png"], {}, 422, "photo.png is no volume"),
        (["p_0000.nii.gz", "p_0000.nii.gz"], {}, 422, "two files are called p_0000.nii.gz"),
        (["a.nii.gz", "b.nii.gz"], {"keep": "false"}, 400, "send one case without batch=true"),
        (["a.nii.gz", "b.nii.gz"], {"min_object_px": "3"}, 422, "for a volume there is no min_object_px"),
        (["a.nii.gz", "b.nii.gz"], {"model_id": "one,two"}, 422, "different modalities"),
        (["../a.nii.gz", "b.nii.gz"], {"model_id": "one"}, 422, "a path out of the archive"),
    ],
)
def test_what_makes_no_job_is_refused_naming_the_files_and_leaves_nothing(predicting, files, fields, status, said):
    before = predicting.traces()
    contents = {"x.zip": zip_bytes(ZIP), "y.zip": zip_bytes(ZIP), "photo.png": encoded(grey())}
    sent = [("file", (name, contents.get(name, volume(classes())))) for name in files]
    answer = predicting.post("/predict", files=sent, data={"model_id": "two", **fields})
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert predicting.traces() == before


def test_a_zip_with_a_case_that_lacks_a_modality_is_refused(predicting):
    files = {f"p_000{at}.nii.gz": volume(classes()) for at in (0, 1)}
    zipped = zip_bytes({**files, "q_0001.nii.gz": volume(classes())})
    answer = predict(predicting, {"x.zip": zipped}, model_id="two")
    assert (answer.status_code, "case q lacks 0000; q_0001.nii.gz came" in answer.json()["detail"]) == (422, True)


def test_a_job_compares_with_no_masks_and_answers_no_file(predicting):
    two = {"a.nii.gz": volume(classes()), "b.nii.gz": volume(classes())}
    with_masks = predict(predicting, two, masks=two)
    assert (with_masks.status_code, "compares with no masks" in with_masks.json()["detail"]) == (400, True)
    as_file = predict(predicting, two, headers={"accept": "application/gzip"})
    assert (as_file.status_code, "answers one case; 2 came" in as_file.json()["detail"]) == (400, True)


def test_a_job_without_a_readable_case_fails(predicting):
    url = start(predicting, {"a.nii.gz": b"x", "b.nii.gz": b"y"}, 2)
    job, found = finished(predicting, url, "failed")
    assert "none of 2 scans could be predicted; a.nii.gz" in job["error"]
    assert sorted(found) == ["README.txt", "errors.csv"]


class Killed(BaseException):
    """Ends a runner as a kill does: nothing of the program runs after it."""


def test_the_next_server_goes_on_with_the_case_at_which_one_was_killed(tmp_path, monkeypatch):
    files = {f"{number}_000{at}.nii.gz": volume(classes(number)) for number in range(3) for at in (0, 1)}
    real, written = prediction_history.write, []

    def write(folder, scan):
        real(folder, scan)
        written.append(scan.answer.body["case"])
        if len(written) == 2:  # files are there, the row is not
            raise Killed

    with volume_api(tmp_path) as api:
        url = start(api, files, 3, model_id="two")
        with monkeypatch.context() as patch:
            patch.setattr(prediction_history, "write", write)
            with pytest.raises(Killed):
                api.parts.prediction_runner.work()
        assert (api.get(url).json()["state"], len(api.traces()["predictions"])) == ("running", 2)
    with volume_api(tmp_path) as api:
        assert (api.get(url).json()["done"], len(api.traces()["predictions"])) == (1, 1)
        job, found = finished(api, url)
        assert (job["done"], job["failed"]) == (3, 0)
        assert [row["case"] for row in table(found["scans.csv"])] == ["0", "1", "2"]
        assert len(api.traces()["predictions"]) == 3


def test_a_case_too_large_to_be_answered_at_once_can_be_a_job(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 140, 140), dtype=np.uint8)
    with volume_api(tmp_path, max_predict_mib=1) as api:
        answer = predict(api, {"a.nii.gz": nifti(noise)})
        assert (answer.status_code, answer.json()["type"]) == (413, "urn:octa:upload-too-large")
        assert "1 MiB" in answer.json()["detail"]
        assert "batch=true" in answer.json()["detail"]
        assert predict(api, {"a.nii.gz": nifti(noise)}, batch="true").status_code == 202
