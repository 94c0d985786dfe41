import json
import tracemalloc
import zipfile

import numpy as np
import pytest

from octa_backend.data.intake import examine, opened_archive, prepare
from octa_backend.data.limits import IntakeLimits
from octa_backend.data.store import DatasetStore
from octa_backend.data.volume_files import read_volume
from octa_backend.data.volume_geometry import restore
from octa_backend.errors import ArchiveTooLarge, InvalidDataset
from tests.data.zips import encoded, grey, square
from tests.volumes import SHAPE, affine_of, ball, case, msd_files, nifti, stack, with_header, zip_of

LIMITS = IntakeLimits(
    max_files=1000,
    max_unpacked_bytes=256 * 2**20,
    max_ratio=1e6,
    max_scan_pixels=1_000_000,
    max_scan_voxels=1_000_000,
)
IMAGE, MASK = "imagesTr/case_001.nii.gz", "labelsTr/case_001.nii.gz"


def prepared(tmp_path, files, limits=LIMITS):
    return prepare(zip_of(tmp_path / "data.zip", files), tmp_path / "out", limits)


def findings(tmp_path, files):
    with opened_archive(zip_of(tmp_path / "data.zip", files), LIMITS) as archive:
        return {finding.code: finding for finding in examine(archive, LIMITS).findings}


def test_volumes_are_cropped_to_their_content_and_can_be_brought_back(tmp_path):
    files = msd_files(3)
    image, mask = case(1)
    for path, values in ((IMAGE, image), (MASK, mask)):
        files[path] = nifti(values[::-1, ::-1], affine_of("LPS", (0.5, 0.7, 2)))
    found = prepared(tmp_path, files)
    manifest = found.manifest
    assert (manifest.spatial_dims, manifest.channels, manifest.classes, manifest.mask_values) == (3, 1, 2, (0, 1))
    store = DatasetStore(tmp_path / "out")
    assert store.manifest == manifest
    entry = store.manifest.scans[1]
    assert (entry.name, entry.split, entry.dtype, entry.shape) == ("case_001", "train", "float32", (16, 18, 18))
    assert entry.spacing_mm == (2, 0.7, 0.5)
    assert entry.geometry.orientation == "LPS"
    np.testing.assert_array_equal(store.mask(1), mask.transpose(2, 1, 0)[:, :, 1:-1])
    np.testing.assert_array_equal(restore(store.mask(1), entry.geometry), mask[::-1, ::-1])


def test_a_mask_outside_of_the_content_is_not_cut(tmp_path):
    files = msd_files(2)
    image, mask = case()
    image[:10] = 0
    files["imagesTr/case_000.nii.gz"] = nifti(image)
    found = prepared(tmp_path, files)
    assert DatasetStore(tmp_path / "out").mask(0).sum() == mask.sum()
    assert "volume_field_cut" in [finding.code for finding in found.findings]


def test_labels_with_gaps_become_classes(tmp_path):
    files = msd_files(2)
    for number in range(2):
        mask = ball() * np.float32(4)
        mask[10, 9, 8], mask[10, 9, 9] = 1, 2
        files[f"labelsTr/case_{number:03d}.nii.gz"] = nifti(mask)
    manifest = prepared(tmp_path, files).manifest
    assert (manifest.classes, manifest.mask_values) == (4, (0, 1, 2, 4))
    assert set(np.unique(DatasetStore(tmp_path / "out").mask(0))) == {0, 1, 2, 3}


def test_modalities_are_channels_with_their_names(tmp_path):
    files = {}
    for number in range(2):
        image, mask = case(number)
        for place, what in enumerate(("t2f", "t1n", "t1c", "t2w")):
            files[f"C{number}/C{number}-{what}.nii.gz"] = nifti(image * (place + 1))
        files[f"C{number}/C{number}-seg.nii.gz"] = nifti(mask)
    manifest = prepared(tmp_path, files).manifest
    assert (manifest.channels, manifest.modalities) == (4, ("flair", "t1", "t1ce", "t2"))
    image = DatasetStore(tmp_path / "out").image(0)
    np.testing.assert_allclose(image[3], 4 * image[0])


def test_a_fourth_axis_of_the_decathlon_is_channels_named_by_its_json(tmp_path):
    files = {
        "dataset.json": json.dumps({"modality": {"0": "A", "1": "B"}, "labels": {"0": "bg", "1": "tumour"}}).encode()
    }
    for number in range(2):
        image, mask = case(number)
        files[f"imagesTr/c{number}.nii.gz"] = nifti(np.stack([image, 2 * image], axis=-1))
        files[f"labelsTr/c{number}.nii.gz"] = nifti(mask)
    manifest = prepared(tmp_path, files).manifest
    assert (manifest.channels, manifest.modalities) == (2, ("A", "B"))
    assert manifest.labels[1].name == "tumour"


def test_stacks_are_taken_in_and_splits_honoured(tmp_path):
    files = {"splits.csv": b"stem,split\n0,train\n1,val\n"}
    for number in range(2):
        image, mask = case(number, dtype=np.uint8)
        files |= {f"images/{number}.tif": stack(image.T), f"masks/{number}.tif": stack(255 * mask.T)}
    manifest = prepared(tmp_path, files).manifest
    assert [scan.split for scan in manifest.scans] == ["train", "val"]
    assert (manifest.spatial_dims, manifest.mask_values) == (3, (0, 255))


@pytest.mark.parametrize("length", [0, 300, 5000])
@pytest.mark.parametrize("cut", ["images/0.tif", "masks/2.tif"])
def test_a_stack_that_was_cut_off_costs_its_case_alone(tmp_path, cut, length):
    files = {}
    for number in range(3):
        image, mask = case(number, dtype=np.uint8)
        files |= {f"images/{number}.tif": stack(image.T), f"masks/{number}.tif": stack(255 * mask.T)}
    files[cut] = files[cut][:length]
    found = prepared(tmp_path, files)
    assert [(finding.code, finding.severity) for finding in found.findings] == [("volume_unreadable", "error")]
    assert (found.manifest.spatial_dims, len(found.manifest.scans)) == (3, 2)


def test_a_table_divides_cases_of_a_folder_for_training(tmp_path):
    files = msd_files(3) | {"splits.csv": b"stem,split\ncase_000,train\ncase_001,test\n"}
    assert [scan.split for scan in prepared(tmp_path, files).manifest.scans] == ["train", "test", None]


def test_anisotropic_voxels_work(tmp_path):
    files = {}
    for number in range(2):
        image, mask = case(number, shape=(24, 24, 5), radius=2)
        for folder, values in (("images", image), ("masks", mask)):
            files[f"{folder}/{number}.nii.gz"] = nifti(values, affine_of(spacing=(0.1, 0.1, 5), shape=(24, 24, 5)))
    assert prepared(tmp_path, files).manifest.spacing_mm == (5, 0.1, 0.1)


def test_files_of_a_case_may_be_stored_in_different_orientations(tmp_path):
    files = msd_files(2)
    files["labelsTr/case_000.nii.gz"] = nifti(case()[1][::-1], affine_of("LAS"))
    manifest = prepared(tmp_path, files).manifest
    np.testing.assert_array_equal(DatasetStore(tmp_path / "out").mask(0), case()[1].transpose(2, 1, 0)[:, :, 1:-1])
    assert len(manifest.scans) == 2


def nan_image():
    image, _ = case()
    image[5, 5, 5] = np.nan
    return nifti(image)


def shifted():
    affine = affine_of()
    affine[0, 3] += 3
    return nifti(ball(), affine)


PLAIN = nifti(case()[0], zipped=False)
BAD = [
    ("truncated gzip", IMAGE, nifti(case()[0])[:-100], "volume_unreadable", "cut off or damaged"),
    ("header without data", IMAGE, PLAIN[:352], "volume_unreadable", "it holds 0"),
    ("header that lies", IMAGE, with_header(PLAIN, datatype=64, bitpix=64), "volume_unreadable", "cut off"),
    ("time points", IMAGE, nifti(np.zeros((*SHAPE, 30), np.uint8)), "volume_fourth_axis", "fourth axis of 30"),
    ("4-D mask", MASK, nifti(np.zeros((*SHAPE, 2), np.uint8)), "volume_fourth_axis", "fourth axis of 2"),
    ("NaN", IMAGE, nan_image(), "values_not_finite", "not finite"),
    ("mask of another shape", MASK, nifti(ball((20, 18, 17))), "volume_shapes_differ", "17×18×20"),
    ("one slice", IMAGE, nifti(np.zeros((20, 18, 1), np.uint8)), "volume_single_slice", "2-D picture"),
    ("affine mismatch", MASK, shifted(), "volume_affines_differ", "[[1 0 0 3] [0 1 0 0] [0 0 1 0]]"),
    ("text", IMAGE, b"I am a text", "volume_unreadable", "not a NIfTI file"),
    ("zero bytes", IMAGE, b"", "volume_unreadable", "empty (0 bytes)"),
    ("fractions", MASK, nifti(ball() * np.float32(0.5)), "volume_mask_fractions", "fractions"),
    ("negative labels", MASK, nifti(-ball().astype(np.int16)), "volume_mask_values", "-1 to 0"),
    ("too large", IMAGE, with_header(PLAIN, dim=[3, 900, 900, 900, 1, 1, 1, 1]), "volume_too_large", "900×900×900"),
    ("too small", IMAGE, nifti(np.zeros((8, 8, 8), np.uint8)), "volume_too_small", "16 voxels"),
]


@pytest.mark.parametrize(
    ("file", "content", "code", "words"), [case[1:] for case in BAD], ids=[case[0] for case in BAD]
)
def test_a_bad_file_is_named_and_its_case_left_out(tmp_path, file, content, code, words):
    found = prepared(tmp_path, msd_files(4) | {file: content})
    finding = next(finding for finding in found.findings if finding.code == code)
    assert finding.severity == "error"
    assert file in finding.evidence["files"]
    assert words in finding.evidence["example"]
    assert finding.remedy.code == "drop_unusable"
    assert [scan.name for scan in found.manifest.scans] == ["case_000", "case_002", "case_003"]


def test_both_affines_are_printed(tmp_path):
    example = findings(tmp_path, msd_files(3) | {MASK: shifted()})["volume_affines_differ"].evidence["example"]
    assert "[[1 0 0 3]" in example
    assert f"{IMAGE} [[1 0 0 0]" in example


def test_what_no_remedy_mends_is_refused_and_leaves_nothing(tmp_path):
    files = msd_files(2) | {IMAGE: b"text"}
    with pytest.raises(InvalidDataset, match="1 volumes cannot be read, for example imagesTr/case_001") as caught:
        prepared(tmp_path, files)
    assert not (tmp_path / "out").exists()
    assert caught.value.findings


def test_masks_that_are_pictures_are_refused(tmp_path):
    files = {
        name: nifti(case()[0].astype(np.uint8)) if "labels" in name else data for name, data in msd_files(2).items()
    }
    with pytest.raises(InvalidDataset, match="make no sense as classes"):
        prepared(tmp_path, files)


def test_empty_masks_are_told(tmp_path):
    assert "masks_empty_some" in findings(tmp_path, msd_files(3) | {MASK: nifti(np.zeros(SHAPE, np.uint8))})
    empty = {
        name: nifti(np.zeros(SHAPE, np.uint8)) if "labels" in name else data for name, data in msd_files(2).items()
    }
    with pytest.raises(InvalidDataset, match="all 2 masks are empty"):
        prepared(tmp_path, empty)


def test_pictures_and_volumes_together_are_an_error(tmp_path):
    mixed = msd_files(2) | {"imagesTr/p.png": encoded(grey()), "labelsTr/p.png": encoded(square())}
    found = findings(tmp_path, mixed)["volumes_and_pictures_mixed"]
    assert set(found.evidence["files"]) == {"imagesTr/p.png", "labelsTr/p.png"}


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    bomb = nifti(np.zeros((100, 100, 100), np.uint8))
    files = msd_files(3) | {IMAGE: bomb, MASK: bomb}
    with pytest.raises(ArchiveTooLarge, match="the scans decode to"):
        prepared(tmp_path, files, IntakeLimits(1000, 2**20, 1e6, 1_000_000, 10_000_000))


def test_memory_does_not_grow_with_the_number_of_cases(tmp_path):
    def peak(count):
        mask = ball((64, 64, 64), radius=12)
        image = mask.astype(np.float32)
        files = {}
        for number in range(count):
            image[30, 30, 30] = number
            files[f"imagesTr/{number}.nii.gz"] = nifti(image)
            files[f"labelsTr/{number}.nii.gz"] = nifti(mask)
        folder = tmp_path / str(count)
        folder.mkdir()
        path = zip_of(folder / "data.zip", files)
        del files
        tracemalloc.start()
        prepare(path, folder / "out", LIMITS)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    few, many = peak(6), peak(18)
    assert many - few < 12 * 64**3  # the twelve further images alone are four times as large


def test_the_original_file_is_what_the_geometry_describes(tmp_path):
    files = msd_files(2)
    prepared(tmp_path, files)
    with zipfile.ZipFile(tmp_path / "data.zip") as archive:
        original = read_volume(archive.read("imagesTr/case_000.nii.gz"), "case_000.nii.gz", 10**6)
    entry = DatasetStore(tmp_path / "out").manifest.scans[0]
    assert entry.geometry.canonical_shape == original.values.shape[1:]
    assert entry.geometry.crop_box == ((0, 16), (0, 18), (1, 19))
