"""Datasets of volumes over HTTP."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.fakes import zip_bytes
from tests.volumes import SHAPE, affine_of, case, msd_files, nifti

IMAGE = "imagesTr/case_001.nii.gz"


def test_volumes_are_taken_in_diagnosed_and_shown(api):
    answer = api.upload(zip_bytes(msd_files(3)))
    assert answer.status_code == 201, answer.text
    found = answer.json()
    assert (found["scans"], found["channels"], found["classes"], found["spatial_dims"]) == (3, 1, 2, 3)
    assert found["splits"] == {"train": 3}
    assert found["findings"] == []
    assert api.get(f"/datasets/{found['file_id']}/diagnosis").json()["verdict"] == "clean"
    with Image.open(io.BytesIO(api.get(f"/datasets/{found['file_id']}/preview.png").content)) as sheet:
        assert sheet.format == "PNG"
        assert np.asarray(sheet).std() > 0


def test_voxels_are_resampled_by_a_repair(api):
    files = msd_files(3)
    for path, values in zip((IMAGE, IMAGE.replace("images", "labels")), case(1), strict=True):
        files[path] = nifti(values, affine_of(spacing=(1, 1, 3)))
    dataset = api.upload(zip_bytes(files)).json()
    assert [finding["code"] for finding in dataset["findings"]] == ["spacing_outliers"]
    answer = api.post(f"/datasets/{dataset['file_id']}/repair", json={"remedies": ["resample_spacing"]})
    assert answer.status_code == 201, answer.text
    assert answer.json()["findings"] == []
    assert answer.json()["repairs"][0]["steps"][0]["scan"] == "case_001"


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (nifti(case()[0])[:-50], "volume_unreadable"),
        (nifti(case()[0])[:60], "volume_unreadable"),
        (nifti(case()[0], zipped=False)[:352], "volume_unreadable"),
        (b"", "volume_unreadable"),
        (b"text", "volume_unreadable"),
        (nifti(np.zeros((*SHAPE, 20), np.uint8)), "volume_fourth_axis"),
        (nifti(np.full(SHAPE, np.nan, np.float32)), "values_not_finite"),
        (nifti(np.zeros((20, 20, 1), np.uint8)), "volume_single_slice"),
        (nifti(case()[0], affine_of("RAS", (1, 1, 2))), "volume_affines_differ"),
        (nifti(case(shape=(20, 18, 20))[0]), "volume_shapes_differ"),
    ],
)
def test_a_bad_volume_is_an_error_that_names_it_in_both_languages(api, content, code):
    files = msd_files(2) | {IMAGE: content}
    for language in ("en", "zh"):
        answer = api.post(
            "/datasets", files={"file": ("v.zip", zip_bytes(files))}, headers={"Accept-Language": language}
        )
        assert answer.status_code == 422, answer.text
        assert code in [finding["code"] for finding in answer.json()["findings"]]
        assert "case_001" in answer.json()["findings"][0]["message"]
    assert api.traces()["rows"]["datasets"] == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (nifti(case()[1])[:-50], "volume_unreadable"),
        (nifti(np.zeros((*SHAPE, 2), np.uint8)), "volume_fourth_axis"),
        (nifti(np.full(SHAPE, np.nan, np.float32)), "values_not_finite"),
        (nifti(case()[1] + np.float32(0.5)), "volume_mask_fractions"),
        (nifti(case(shape=(20, 18, 20))[1]), "volume_shapes_differ"),
        (nifti(case()[1], affine_of("RAS", (1, 1, 2))), "volume_affines_differ"),
    ],
)
def test_a_bad_mask_of_a_volume_is_an_error_that_names_it(api, content, code):
    answer = api.upload(zip_bytes(msd_files(2) | {IMAGE.replace("images", "labels"): content}))
    assert answer.status_code == 422, answer.text
    told = {finding["code"]: finding["message"] for finding in answer.json()["findings"]}
    assert "case_001" in told[code]
    assert api.traces()["rows"]["datasets"] == 0


def test_thin_slices_and_narrow_pixels_are_taken_as_they_are(api):
    shape, affine = (40, 40, 4), affine_of("RAS", (0.1, 0.1, 5))
    files = {}
    for number in range(3):
        image, mask = case(number, shape=shape)
        files |= {f"imagesTr/{number}.nii.gz": nifti(image, affine), f"labelsTr/{number}.nii.gz": nifti(mask, affine)}
    answer = api.upload(zip_bytes(files))
    assert answer.status_code == 201, answer.text
    assert not [finding for finding in answer.json()["findings"] if finding["severity"] == "error"]


def test_a_job_on_volumes_leaves_their_normalisation_to_the_plan(api):
    file_id = api.upload(zip_bytes(msd_files(3))).json()["file_id"]
    job = api.start(file_id)
    assert api.get(f"/train/jobs/{job}").json()["config"]["normalisation"] == "auto"
    job = api.start(file_id, normalisation="unit")
    assert api.get(f"/train/jobs/{job}").json()["config"]["normalisation"] == "unit"
