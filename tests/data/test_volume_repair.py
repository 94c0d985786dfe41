import zipfile
from dataclasses import replace

import numpy as np
import pytest

from octa_backend.data.intake import examine, opened_archive, prepare
from octa_backend.data.store import Manifest
from octa_backend.data.volume_repair import write_repaired_volumes
from octa_backend.diagnosis.remedies import plan_repair
from octa_backend.errors import InvalidDataset, RemedyNotApplicable
from tests.data.test_volume_intake import IMAGE, LIMITS, MASK
from tests.volumes import SHAPE, affine_of, ball, case, msd_files, nifti, zip_of


def repaired(tmp_path, files, *remedies, allowed=LIMITS):
    """The steps that were done, the new zip's findings by code, and its manifest."""
    target = tmp_path / "repaired.zip"
    with opened_archive(zip_of(tmp_path / "data.zip", files), LIMITS) as archive:
        steps = plan_repair(examine(archive, LIMITS), remedies)
        done = write_repaired_volumes(archive, steps, target, allowed)
    found = prepare(target, tmp_path / "out", LIMITS)
    return done, {finding.code for finding in found.findings}, found.manifest


def content(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_cases_with_faults_and_pictures_are_left_out_and_the_others_keep_their_bytes(tmp_path):
    files = msd_files(4) | {
        IMAGE: b"text",
        "imagesTr/p.png": b"x",
        "labelsTr/case_002.nii.gz": nifti(ball((20, 18, 17))),
    }
    done, codes, manifest = repaired(tmp_path, files, "drop_unusable")
    assert {step.scan: step.details["reason"] for step in done} == {
        "case_001": "volume_unreadable",
        "case_002": "volume_shapes_differ",
        "imagesTr/p.png": "volumes_and_pictures_mixed",
    }
    assert next(step for step in done if step.scan == "case_001").details["files"] == [IMAGE, MASK]
    assert codes == set()
    assert [scan.name for scan in manifest.scans] == ["case_000", "case_003"]
    assert content(tmp_path / "repaired.zip")["images/case_000.nii.gz"] == files["imagesTr/case_000.nii.gz"]


def test_duplicates_are_dropped(tmp_path):
    files = msd_files(3)
    files[IMAGE] = files["imagesTr/case_000.nii.gz"]
    done, codes, manifest = repaired(tmp_path, files, "drop_duplicates")
    assert [(step.scan, step.details["same_as"]) for step in done] == [("case_001", "case_000")]
    assert len(manifest.scans) == 2
    assert not {"duplicates_within_split", "duplicates_before_split"} & set(codes)


def test_voxels_come_to_the_usual_size_and_modalities_keep_their_names(tmp_path):
    files = {}
    for number in range(3):
        affine = affine_of("LPS", (1, 1, 4 if number == 2 else 2))
        image, mask = case(number)
        for place, what in enumerate(("flair", "t1")):
            files[f"C{number}/C{number}_{what}.nii.gz"] = nifti(image + place, affine)
        files[f"C{number}/C{number}_seg.nii.gz"] = nifti(mask, affine)
    done, codes, manifest = repaired(tmp_path, files, "resample_spacing")
    assert [(step.scan, step.details["before"], step.details["shape"]) for step in done] == [
        ("C2", [4, 1, 1], [32, 18, 20])
    ]
    assert [scan.spacing_mm for scan in manifest.scans] == [(2, 1, 1)] * 3
    assert manifest.modalities == ("flair", "t1")
    assert manifest.common_spacing_mm == (2, 1, 1)
    assert "spacing_outliers" not in codes


def test_only_a_resampled_dataset_says_a_size_and_later_repairs_keep_it(tmp_path):
    files = msd_files(4)
    files[IMAGE], files[MASK] = (nifti(values, affine_of(spacing=(1, 1, 3))) for values in case(1))
    files["imagesTr/case_003.nii.gz"] = files["imagesTr/case_002.nii.gz"]
    for name in ("plain", "first", "second"):
        (tmp_path / name).mkdir()
    assert repaired(tmp_path / "plain", files, "drop_duplicates")[2].common_spacing_mm == ()
    assert repaired(tmp_path / "first", files, "resample_spacing")[2].common_spacing_mm == (1, 1, 1)
    _, _, manifest = repaired(tmp_path / "second", content(tmp_path / "first" / "repaired.zip"), "drop_duplicates")
    assert len(manifest.scans) == 3
    assert manifest.common_spacing_mm == (1, 1, 1)
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_same_repair_gives_the_same_bytes(tmp_path):
    files = msd_files(3)
    files[IMAGE], files[MASK] = (nifti(values, affine_of(spacing=(1, 1, 3))) for values in case(1))
    written = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        repaired(folder, files, "resample_spacing")
        written.append((folder / "repaired.zip").read_bytes())
    assert written[0] == written[1]


def test_patients_come_into_one_split(tmp_path):
    files = {"splits.csv": b"stem,split\np1_a,train\np1_b,val\np1_c,train\np2_a,val\np3_a,train\n"}
    for number, name in enumerate(("p1_a", "p1_b", "p1_c", "p2_a", "p3_a")):
        image, mask = case(number)
        files |= {f"images/{name}.nii.gz": nifti(image), f"masks/{name}.nii.gz": nifti(mask)}
    done, codes, manifest = repaired(tmp_path, files, "regroup_splits")
    assert [(step.scan, step.details["split"]) for step in done] == [("p1_b", "train")]
    assert "patient_across_splits" not in codes
    assert [scan.split for scan in manifest.scans] == ["train", "train", "train", "val", "train"]


def test_a_repair_that_leaves_nothing_is_refused(tmp_path):
    files = dict.fromkeys(msd_files(2), b"text")
    with pytest.raises(InvalidDataset, match="all 2 cases would be left out"):
        repaired(tmp_path, files, "drop_unusable")
    assert not (tmp_path / "repaired.zip").exists()


def test_a_volume_of_one_value_is_left_out(tmp_path):
    files = msd_files(3) | {IMAGE: nifti(np.full(SHAPE, 7, np.uint8))}
    done, _, manifest = repaired(tmp_path, files, "drop_unusable")
    assert [(step.scan, step.details["reason"]) for step in done] == [("case_001", "volume_constant")]
    assert len(manifest.scans) == 2


MICROMETRES = 3
"""`xyzt_units` of a NIfTI file."""


def test_volumes_in_micrometres_keep_their_size_where_channels_become_files(tmp_path):
    affine, files = affine_of("LPS", (10, 10, 20)), {}
    for number in range(3):
        image, mask = case(number % 2)
        channels = np.stack([image, image + 1], axis=-1)
        files[f"imagesTr/p{number}.nii.gz"] = nifti(channels, affine, xyzt_units=MICROMETRES)
        files[f"labelsTr/p{number}.nii.gz"] = nifti(mask, affine, xyzt_units=MICROMETRES)
    done, _, manifest = repaired(tmp_path, files, "drop_duplicates")
    assert [step.scan for step in done] == ["p2"]
    assert [(scan.shape, scan.spacing_mm) for scan in manifest.scans] == [((16, 18, 20), (0.02, 0.01, 0.01))] * 2


def test_volumes_in_micrometres_are_resampled_once(tmp_path):
    files = {}
    for number in range(3):
        affine = affine_of("LPS", (10, 10, 40 if number == 2 else 20))
        for folder, values in zip(("imagesTr", "labelsTr"), case(number), strict=True):
            files[f"{folder}/p{number}.nii.gz"] = nifti(values, affine, xyzt_units=MICROMETRES)
    done, codes, manifest = repaired(tmp_path, files, "resample_spacing")
    assert [(step.scan, step.details["shape"]) for step in done] == [("p2", [32, 18, 20])]
    assert [scan.spacing_mm for scan in manifest.scans] == [(0.02, 0.01, 0.01)] * 3
    assert "spacing_outliers" not in codes


@pytest.mark.parametrize(
    ("usual", "odd", "words"),
    [
        (0.01, 1, r"to 1600×1800×2000 voxels, at most 1,000,000 are allowed: its file says that a voxel has 1×1×1 mm"),
        (1, 0.01, "to 1×1×1 voxels, the two longer sides need at least 16 each"),
    ],
)
def test_voxels_that_would_be_too_many_or_too_few_are_refused_before_they_are_made(tmp_path, usual, odd, words):
    files = msd_files(3)
    for number, side in enumerate((usual, odd, usual)):
        for folder, values in zip(("imagesTr", "labelsTr"), case(number), strict=True):
            files[f"{folder}/case_{number:03d}.nii.gz"] = nifti(values, affine_of(spacing=(side, side, side)))
    with pytest.raises(RemedyNotApplicable, match=f"{IMAGE} from 16×18×20 {words}"):
        repaired(tmp_path, files, "resample_spacing")
    assert [path.name for path in tmp_path.iterdir()] == ["data.zip"]


def test_all_channels_together_may_have_as_many_voxels_as_one_upload(tmp_path):
    files = {}
    for number in range(3):
        affine = affine_of(spacing=(1, 1, 2 if number == 2 else 1))
        image, mask = case(number)
        files[f"imagesTr/p{number}_0000.nii.gz"] = nifti(image, affine)
        files[f"imagesTr/p{number}_0001.nii.gz"] = nifti(image + 1, affine)
        files[f"labelsTr/p{number}.nii.gz"] = nifti(mask, affine)
    allowed = replace(LIMITS, max_scan_voxels=2 * 32 * 18 * 20)
    assert repaired(tmp_path, files, "resample_spacing", allowed=allowed)[2].channels == 2
    allowed = replace(LIMITS, max_scan_voxels=2 * 32 * 18 * 20 - 1)
    with pytest.raises(RemedyNotApplicable, match="voxels of 2 channels, at most 23,039 are allowed"):
        repaired(tmp_path, files, "resample_spacing", allowed=allowed)
