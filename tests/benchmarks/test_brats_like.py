"""What `brats_like.py` draws, what it checks of a mask, and what its tables say."""

from __future__ import annotations

import base64
import gzip
import zipfile

import nibabel as nib
import numpy as np
import pytest
from brats_like import (
    GREYS,
    SERVER,
    VALUES,
    WORKER,
    affine_of,
    case_files,
    dice_table,
    faults_of,
    phase_table,
    write_zip,
)

from octa_backend.data.nifti import nifti_gz
from octa_backend.data.volume_layouts import find_volume_layout
from tests.benchmarks.records import cells

SHAPE = (24, 24, 16)


def opened(content):
    return nib.nifti1.Nifti1Image.from_bytes(gzip.decompress(content))


def test_a_case_has_four_modalities_and_nested_labels_that_lie_as_in_brats() -> None:
    images = {name.rpartition("_")[2]: opened(content) for name, content in case_files("case", SHAPE, 1).items()}
    labels = np.asarray(images.pop("seg.nii.gz").dataobj)
    assert list(images) == [f"{name}.nii.gz" for name in GREYS]
    assert np.unique(labels).tolist() == list(VALUES)
    for image in images.values():
        assert (image.shape, image.get_data_dtype()) == (SHAPE, np.float32)
        assert nib.orientations.aff2axcodes(image.affine) == ("L", "P", "S")
        values = np.asarray(image.dataobj)
        assert values[0, 0, 0] == 0
        assert (values[labels > 0] > 0).all()


def test_the_zip_is_understood_as_cases_without_a_split(tmp_path) -> None:
    write_zip(tmp_path / "scans.zip", SHAPE, cases=2)
    with zipfile.ZipFile(tmp_path / "scans.zip") as archive:
        layout = find_volume_layout(archive.namelist())
    assert [(pair.name, pair.split) for pair in layout.pairs] == [("BraTS_001", None), ("BraTS_002", None)]
    assert layout.modalities == tuple(GREYS)
    assert layout.faults == ()


def answer(values, affine):
    return {"mask_nii_gz": base64.b64encode(nifti_gz(values, affine)).decode()}


@pytest.mark.parametrize(
    ("values", "affine", "fault"),
    [
        (np.zeros((24, 24, 8), np.uint8), affine_of(SHAPE), "the scan is (24, 24, 16)"),
        (np.zeros(SHAPE, np.uint8), np.eye(4), "the mask's affine"),
        (np.full(SHAPE, 3, np.uint8), affine_of(SHAPE), "the mask has [3]"),
    ],
)
def test_a_mask_that_does_not_fit_its_scan_is_a_fault(values, affine, fault) -> None:
    files = {"case_t1.nii.gz": nifti_gz(np.zeros(SHAPE, np.float32), affine_of(SHAPE))}
    (found,) = faults_of(answer(values, affine), files)
    assert fault in found
    assert faults_of(answer(np.full(SHAPE, 4, np.uint8), affine_of(SHAPE)), files) == []


def test_tables_show_seconds_peaks_and_dice() -> None:
    shown = phase_table({"intake": 3.2, "training": 60.0}, {("intake", SERVER): 700.4, ("training", WORKER): 900.0})
    assert list(cells(shown, 0).values()) == ["intake", "3", "700", "–"]
    assert list(cells(shown, 1).values()) == ["training", "60", "–", "900"]
    report = {
        "class_summaries": [{"dice": {"mean": 0.5}}, {"dice": {"mean": 0.25}}, {"dice": None}],
        "region_summaries": {"WT": {"dice": {"mean": 0.75}}},
    }
    shown = dice_table(report)
    assert [list(cells(shown, row).values()) for row in range(4)] == [
        ["1", "0.500"], ["2", "0.250"], ["4", "–"], ["WT", "0.750"],
    ]  # fmt: skip
