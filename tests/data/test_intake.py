from __future__ import annotations

import io
import re
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from octa_backend.data import file_findings, intake
from octa_backend.data.class_table import ClassLabel
from octa_backend.data.intake import examine, opened_archive, prepare
from octa_backend.data.limits import check_room
from octa_backend.data.masks import classes_of, shown_classes, values_of
from octa_backend.data.splits import assign_splits
from octa_backend.data.store import DatasetStore
from octa_backend.diagnosis.findings import Severity
from octa_backend.diagnosis.messages import MESSAGES, describe
from octa_backend.errors import (
    ArchiveTooLarge,
    InvalidArchive,
    InvalidDataset,
    OctaError,
    StorageFull,
    UnsafeArchive,
)
from octa_backend.storage.files import folder_written_aside
from tests.data.zips import (
    LIMITS,
    SIZE,
    colour,
    dataset,
    encoded,
    grey,
    raw_zip,
    square,
    take_in,
    with_images,
    with_masks,
    zip_of,
)

REAL_DATA = Path(__file__).parents[3] / "shared" / "data"


def refused(folder, files, limits=LIMITS):
    """The findings of a refused upload by code; nothing is left behind."""
    with pytest.raises(InvalidDataset) as raised:
        take_in(folder, files, limits)
    assert [path.name for path in folder.iterdir()] == ["upload.zip"]
    return {finding.code: finding for finding in raised.value.findings}


def errors_in(folder, files, limits=LIMITS):
    """The errors of an upload by code, whether or not a remedy could mend them."""
    with opened_archive(zip_of(folder / "upload.zip", files), limits) as source:
        return {finding.code: finding for finding in examine(source, limits).errors}


def codes(prepared):
    return {finding.code: finding for finding in prepared.findings}


# --- what is written ----------------------------------------------------------------------------------------------


def test_a_sound_archive_becomes_a_dataset_that_holds_the_same_pixels(tmp_path):
    prepared = take_in(tmp_path, dataset())
    manifest = prepared.manifest
    assert set(codes(prepared)) <= {"few_scans"}
    assert (manifest.spatial_dims, manifest.channels, manifest.classes, manifest.mask_values) == (2, 1, 2, (0, 255))
    assert manifest.foreground_fraction == pytest.approx(144 / 576)
    assert [scan.name for scan in manifest.scans] == ["1", "2", "3"]
    store = DatasetStore(tmp_path / "out")
    assert store.manifest == manifest
    for index, number in enumerate((1, 2, 3)):
        np.testing.assert_array_equal(store.image(index)[0], grey(number))
        np.testing.assert_array_equal(store.mask(index), square(1))


def test_the_target_holds_three_files_and_nothing_is_left_beside_it(tmp_path):
    take_in(tmp_path, dataset())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images.bin", "manifest.json", "masks.bin"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "upload.zip"]


def test_a_target_that_exists_is_not_touched(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        take_in(tmp_path, dataset())
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_is_left_behind_when_the_process_is_interrupted(tmp_path):
    def write_and_be_interrupted():
        with folder_written_aside(tmp_path / "out") as folder:
            (folder / "images.bin").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_and_be_interrupted()
    assert list(tmp_path.iterdir()) == []


def test_scans_of_different_sizes_and_depths_are_kept_as_they_are(tmp_path):
    files = {
        "images/1.png": encoded(grey(height=30, width=40)),
        "masks/1.png": encoded(square(height=30, width=40)),
        "images/2.png": encoded(grey().astype(np.uint16) * 99),
        "masks/2.png": encoded(square()),
    }
    scans = take_in(tmp_path, files).manifest.scans
    assert [(scan.shape, scan.dtype) for scan in scans] == [((30, 40), "uint8"), ((24, 24), "uint16")]


@pytest.mark.parametrize("width", [1500, 4000])
def test_a_very_elongated_scan_is_taken_in_with_the_others(tmp_path, width):
    files = dataset() | {
        "images/9.png": encoded(grey(height=16, width=width)),
        "masks/9.png": encoded(square(height=16, width=width)),
    }
    assert [scan.shape for scan in take_in(tmp_path, files).manifest.scans][-1] == (16, width)


def test_patients_and_official_splits_stand_in_the_manifest(tmp_path):
    files = dataset() | {"splits.csv": b"stem,split\n1,train\n2,val\n3,test\n"}
    assert [scan.split for scan in take_in(tmp_path, files).manifest.scans] == ["train", "val", "test"]


def test_split_folders_stand_in_the_manifest_and_keep_equal_stems_apart(tmp_path):
    files = {}
    for split in ("train", "test"):
        files |= {f"d/{split}/images/01_OD.png": encoded(grey()), f"d/{split}/masks/01_OD.png": encoded(square())}
    scans = take_in(tmp_path, files).manifest.scans
    assert [(s.name, s.split, s.patient) for s in scans] == [
        ("test/01_OD", "test", "01"),
        ("train/01_OD", "train", "01"),
    ]


# --- conversions that are told ------------------------------------------------------------------------------------


def test_grey_scans_among_coloured_ones_become_rgb_and_it_is_told(tmp_path):
    prepared = take_in(tmp_path, with_images(encoded(grey()), encoded(colour())))
    assert prepared.manifest.channels == 3
    found = codes(prepared)["channels_mixed"]
    assert (found.severity, found.scans) == (Severity.INFO, ("images/0.png",))
    assert all((channel == grey()).all() for channel in DatasetStore(tmp_path / "out").image(0))


def test_alpha_is_dropped_and_it_is_told(tmp_path):
    image = encoded(Image.fromarray(colour()).convert("RGBA"))
    prepared = take_in(tmp_path, with_images(image, image))
    assert prepared.manifest.channels == 3
    assert codes(prepared)["alpha_constant"].evidence["count"] == 2


def test_ignored_files_are_told(tmp_path):
    prepared = take_in(tmp_path, dataset() | {"README.txt": b"hello", "notes/a.csv": b"1"})
    assert codes(prepared)["files_ignored"].scans == ("README.txt", "notes/a.csv")


def test_junk_of_operating_systems_is_not_worth_a_word(tmp_path):
    junk = {"__MACOSX/images/._1.png": b"junk", "images/.DS_Store": b"junk", "masks/Thumbs.db": b"junk"}
    assert set(codes(take_in(tmp_path, dataset() | junk))) == {"few_scans"}


# --- what masks mean ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("masks", "values"),
    [
        ([square(255)] * 2, (0, 255)),
        ([square(1)] * 2, (0, 1)),
        ([square(17)] * 2, (0, 17)),
        ([square(200)] * 2, (0, 200)),
        ([square(65535, np.uint16)] * 2, (0, 65535)),
        ([square(1), square(255)], (0, 255)),
        ([square(255), square(65535, np.uint16)], (0, 65535)),
        ([Image.fromarray(square()).convert("1")] * 2, (0, 1)),
        ([Image.fromarray(square()).convert("1"), square()], (0, 255)),
        ([Image.fromarray(square()).convert("RGBA"), square()], (0, 255)),
    ],
)
def test_masks_of_two_values_are_background_and_foreground(tmp_path, masks, values):
    manifest = take_in(tmp_path, with_masks(*map(encoded, masks))).manifest
    assert (manifest.classes, manifest.mask_values) == (2, values)
    store = DatasetStore(tmp_path / "out")
    for index in (0, 1):
        np.testing.assert_array_equal(store.mask(index), square(1))


@pytest.mark.parametrize(
    ("stored", "values"),
    [((1, 2), (0, 1, 2)), ((3, 31), (0, 3, 31)), ((1, 32), (0, 1, 32)), (range(1, 32), tuple(range(32)))],
)
def test_class_numbers_with_or_without_gaps_are_classes(tmp_path, stored, values):
    def mask(dtype):
        picture = np.zeros((SIZE * 2, SIZE), dtype)
        for row, value in enumerate(stored):
            picture[row] = value
        return encoded(picture)

    files = {f"images/{n}.png": encoded(grey(height=SIZE * 2)) for n in (0, 1)}
    files |= {"masks/0.png": mask(np.uint8), "masks/1.png": mask(np.uint16)}
    manifest = take_in(tmp_path, files).manifest
    assert (manifest.classes, manifest.mask_values) == (len(values), values)
    found = DatasetStore(tmp_path / "out").mask(1)
    assert [found[row, 0] for row in range(len(stored))] == list(range(1, len(values)))


def test_classes_are_decided_over_all_masks_together(tmp_path):
    assert take_in(tmp_path, with_masks(encoded(square(1)), encoded(square(2)))).manifest.classes == 3


def numbered(*values):
    """A mask of rows of these values on background."""
    picture = np.zeros((SIZE * 2, SIZE), np.uint8)
    for row, value in enumerate(values):
        picture[4 * row : 4 * row + 4] = value
    return encoded(picture)


def test_255_beside_class_numbers_is_the_last_class_and_a_remedy_ignores_it(tmp_path):
    pictures = {f"images/{n}.png": encoded(np.full((SIZE * 2, SIZE), 90 + n, np.uint8)) for n in (1, 2)}
    masks = {"masks/1.png": numbered(1, 2, 255), "masks/2.png": numbered(2, 1)}
    prepared = take_in(tmp_path, pictures | masks)
    assert prepared.manifest.mask_values == (0, 1, 2, 255)
    (found,) = [finding for finding in prepared.findings if finding.code == "void_class"]
    assert (found.evidence["class"], found.scans, found.remedy.changes) == (3, ("1",), {"ignore_index": 3})


@pytest.mark.parametrize(
    ("masks", "values"),
    [
        ([(1, 255), (1, 255)], (0, 1, 255)),
        ([(255,), (255,), (1, 255)], ()),  # one mask of three: a fault, and no class
        ([(2, 255), (2, 255)], ()),  # numbers begin with 1
        ([(1, 33, 255)] * 2, ()),
    ],
)
def test_255_is_a_class_only_where_most_masks_number_classes_from_1_on(masks, values):
    found = {f"{n}.png": values_of(np.array([[0, *mask]], np.uint8)) for n, mask in enumerate(masks)}
    assert classes_of(found) == (values, [])


@pytest.mark.parametrize(
    ("values", "mask_values", "shown"),
    [
        ([0, 255], (0, 255), [0, 1]),
        ([0, 1], (0, 255), [0, 1]),  # 0/1 and 0/255 may be mixed
        ([0, 2, 255], (0, 1, 2, 255), [0, 2, 3]),
        ([0, 7], (0, 2, 7), [0, 2]),
        ([0, 3], (0, 1, 2), [0, 1]),  # no class of the dataset
        ([0, 3], (), [0, 3]),
        ([0, 3, 255], (), [0, 1, 1]),
        (list(range(40)), (), [0] + [1] * 39),
    ],
)
def test_a_mask_is_shown_in_class_numbers_or_as_foreground_where_it_has_none(values, mask_values, shown):
    assert shown_classes(np.array([values], np.uint16), mask_values).tolist() == [shown]


def test_names_and_colours_of_classes_stand_in_the_manifest(tmp_path):
    table = b"value,name,colour\n0,background,\n2,vein,#0A84FF\n9,unused,\n"
    pictures = {f"images/{n}.png": encoded(np.full((SIZE * 2, SIZE), 90 + n, np.uint8)) for n in (1, 2)}
    masks = {f"masks/{n}.png": numbered(1, 2) for n in (1, 2)}
    prepared = take_in(tmp_path, pictures | masks | {"classes.csv": table})
    labels = (ClassLabel("background"), ClassLabel("class 1"), ClassLabel("vein", "#0a84ff"))
    assert prepared.manifest.labels == labels
    assert DatasetStore(tmp_path / "out").manifest.labels == labels
    assert not {"files_ignored", "classes_not_understood"} & set(codes(prepared))


def test_names_of_classes_that_cannot_be_read_are_told_and_left_out(tmp_path):
    prepared = take_in(tmp_path, dataset() | {"classes.csv": b"value,name\n1,vessel\none,two\n"})
    assert prepared.manifest.labels == ()
    (found,) = [finding for finding in prepared.findings if finding.code == "classes_not_understood"]
    assert "line 3" in found.evidence["example"]


def test_some_empty_masks_are_a_warning(tmp_path):
    prepared = take_in(tmp_path, with_masks(encoded(square()), encoded(square(0))))
    found = codes(prepared)["masks_empty_some"]
    assert (found.severity, found.scans) == (Severity.WARNING, ("masks/1.png",))
    assert prepared.manifest.mask_values == (0, 255)
    assert prepared.manifest.foreground_fraction == pytest.approx(0.125)


def test_grey_masks_are_refused_with_the_number_of_values(tmp_path):
    found = errors_in(tmp_path, with_masks(encoded(grey()), encoded(square())))["masks_not_binary"]
    assert found.evidence["unique_values"] == len(np.unique(grey()))
    assert found.scans == ("0",)


def test_jpeg_masks_are_refused(tmp_path):
    mask = encoded(square(), "JPEG", quality=75)
    assert errors_in(tmp_path, with_masks(mask, mask, ending="jpg"))["masks_not_binary"].evidence["count"] == 2


def test_anti_aliased_masks_are_refused(tmp_path):
    soft = square()
    soft[4], soft[5] = 128, 190
    assert "masks_not_binary" in errors_in(tmp_path, with_masks(encoded(soft), encoded(square())))


def test_two_valued_masks_that_do_not_agree_are_refused(tmp_path):
    found = errors_in(tmp_path, with_masks(encoded(square(100)), encoded(square(200))))["masks_not_binary"]
    assert found.evidence["files"] == {"0": "2: 0, 100", "1": "2: 0, 200"}


@pytest.mark.parametrize("value", [-1, 70_000])
def test_mask_values_that_no_mask_has_are_refused(tmp_path, value):
    mask = encoded(square(value, np.int32), "TIFF")
    assert "masks_not_binary" in errors_in(tmp_path, with_masks(mask, mask, ending="tif"))


def test_coloured_masks_are_refused_with_their_colours(tmp_path):
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    picture[:9] = (255, 0, 0)
    found = errors_in(tmp_path, with_masks(encoded(picture), encoded(square())))["masks_coloured"]
    assert found.evidence["colours"] == ["#000000", "#ff0000"]
    assert found.evidence["files"] == {"0": "2: #000000, #ff0000"}


def test_masks_that_are_all_empty_are_refused(tmp_path):
    assert refused(tmp_path, with_masks(*[encoded(square(0))] * 3))["masks_all_empty"].evidence["count"] == 3


def test_nothing_is_said_about_all_masks_where_some_cannot_be_looked_at(tmp_path):
    files = with_masks(encoded(square(0)), encoded(square(0)), encoded(colour()))
    assert set(errors_in(tmp_path, files)) == {"masks_coloured"}


def test_more_classes_than_32_are_refused(tmp_path):
    picture = np.zeros((SIZE * 2, SIZE), np.uint8)
    picture[:33] = np.arange(33)[:, np.newaxis]
    files = {f"{kind}/{n}.png": encoded(picture) for kind in ("images", "masks") for n in (0, 1)}
    assert errors_in(tmp_path, files)["masks_not_binary"].evidence["unique_values"] == 33


def test_masks_that_are_all_foreground_are_refused(tmp_path):
    full = encoded(np.full((SIZE, SIZE), 255, np.uint8))
    assert "masks_all_foreground" in refused(tmp_path, with_masks(full, full))


# --- what does not fit --------------------------------------------------------------------------------------------


def test_sizes_that_differ_are_told_in_words(tmp_path):
    files = dataset() | {"masks/2.png": encoded(square(height=30, width=28))}
    message = describe(errors_in(tmp_path, files)["sizes_differ"], "en")["message"]
    assert "mask masks/2.png is 28×30 but image images/2.png is 24×24" in message


@pytest.mark.parametrize(
    ("height", "width", "explained_by", "remedy"),
    [(48, 48, "scale", "resize_masks"), (30, 24, "nothing", "drop_unusable")],
)
def test_it_is_told_whether_a_scale_explains_another_size(tmp_path, height, width, explained_by, remedy):
    finding = errors_in(tmp_path, dataset() | {"masks/2.png": encoded(square(height=height, width=width))})[
        "sizes_differ"
    ]
    assert finding.evidence["explained_by"] == {explained_by: 1}
    assert finding.remedy.code == remedy


def test_the_sizes_that_are_told_are_those_of_the_example(tmp_path):
    files = {"train/a.png": encoded(grey()), "train/a_mask.png": encoded(square(height=30))}
    files |= {"test/b.png": encoded(grey()), "test/b_mask.png": encoded(square(height=40))}
    evidence = errors_in(tmp_path, files)["sizes_differ"].evidence
    assert evidence["example"].startswith("test/b_mask.png")
    assert (evidence["mask"], evidence["mask_size"]) == ("test/b_mask.png", "24×40")


@pytest.mark.parametrize(
    ("changes", "code", "file", "found"),
    [
        ({"images/2.png": b"not an image"}, "scan_unreadable", "images/2.png", "not a PNG, JPEG"),
        ({"masks/2.png": b""}, "scan_unreadable", "masks/2.png", "not a PNG, JPEG"),
        ({"images/2.png": encoded(grey(height=9))}, "scan_too_small", "images/2.png", "24×9"),
        ({"images/2.png": encoded(grey(height=1001, width=1000))}, "scan_too_large", "images/2.png", "1000×1001, "),
        ({"images/4.png": encoded(grey())}, "images_without_mask", "images/4.png", ""),
        ({"masks/4.png": encoded(grey())}, "masks_without_image", "masks/4.png", ""),
        ({"images/2.jpg": encoded(grey(), "JPEG")}, "pairing_ambiguous", "images/2.jpg", "masks/2.png"),
        ({"masks/2.bmp": encoded(square(), "BMP")}, "pairing_ambiguous", "images/2.png", "masks/2.bmp, masks/2.png"),
        ({"images/4.nii.gz": b"x"}, "volumes_and_pictures_mixed", "images/4.nii.gz", ""),
        ({"images/4.mha": b"x"}, "volumes_not_supported", "images/4.mha", ""),
        ({"images/4.webp": b"x"}, "format_not_supported", "images/4.webp", ""),
        ({"splits.csv": b"stem,split\n1,exam\n"}, "splits_not_understood", "splits.csv, line 2", "1: 'exam'"),
        ({"splits.csv": b"stem,split\n1,test\n2,val\n3,test"}, "splits_without_train", "images/1.png", "test"),
    ],
)  # fmt: skip
def test_each_fault_is_found_with_its_file(tmp_path, changes, code, file, found):
    findings = errors_in(tmp_path, dataset() | changes)
    assert list(findings) == [code]
    assert findings[code].evidence["files"][file].startswith(found)


def test_several_frames_in_one_file_are_a_fault(tmp_path):
    frames = [Image.fromarray(grey(n)) for n in range(2)]
    image = encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    found = errors_in(tmp_path, with_images(image, image, ending="tif"))["scan_has_frames"]
    assert found.evidence["files"]["images/0.tif"] == "2 frames"


def test_pixels_that_were_cut_off_are_a_fault_though_the_header_is_sound(tmp_path):
    whole = encoded(grey(height=300, width=300), compress_level=0)
    files = with_images(encoded(grey()), encoded(grey())) | {
        "images/7.png": whole[:50_000],
        "masks/7.png": encoded(square(height=300, width=300)),
    }
    assert errors_in(tmp_path, files)["scan_unreadable"].scans == ("images/7.png",)


def test_a_damaged_member_is_a_fault_of_that_file_alone(tmp_path):
    path = zip_of(tmp_path / "upload.zip", {})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in dataset().items():
            archive.writestr(name, data)
        offset = archive.getinfo("images/2.png").header_offset + 30 + len("images/2.png") + 60
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)
    prepared = prepare(path, tmp_path / "out", LIMITS)
    assert codes(prepared)["scan_unreadable"].scans == ("images/2.png",)
    assert [scan.name for scan in prepared.manifest.scans] == ["1", "3"]


def test_names_that_are_twice_in_the_archive_are_a_fault(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = zip_of(tmp_path / "upload.zip", [*dataset().items(), ("images/1.png", encoded(grey()))])
    with pytest.raises(InvalidDataset) as raised:
        prepare(path, tmp_path / "out", LIMITS)
    assert [(f.code, f.scans) for f in raised.value.findings[:1]] == [("duplicate_names", ("images/1.png",))]


def test_one_scan_is_too_few(tmp_path):
    assert "too_few_scans" in refused(tmp_path, with_images(encoded(grey())))


def test_images_without_any_masks_are_told_what_is_understood(tmp_path):
    with pytest.raises(InvalidDataset, match=r"no masks were found beside 2 images.*masks/ beside images/"):
        take_in(tmp_path, {"a/1.png": encoded(grey()), "a/2.png": encoded(grey())})


def test_faults_of_every_kind_and_file_are_told_at_once(tmp_path):
    files = dataset() | {
        "images/4.png": b"text",
        "masks/4.png": encoded(square()),
        "images/5.png": encoded(grey()),
        "masks/6.png": encoded(square()),
        "images/7.png": encoded(grey()),
        "masks/7.png": encoded(grey()),
        "images/8.png": encoded(grey(height=40)),
        "masks/8.png": encoded(square()),
        "images/9.png": encoded(grey()),
        "masks/9.png": encoded(colour()),
        "images/orphan.png": b"text",
        "volume.nii": b"x",
        "README": b"x",
    }
    findings = errors_in(tmp_path, files)
    assert {code: finding.evidence["count"] for code, finding in findings.items()} == {
        "volumes_and_pictures_mixed": 1,
        "images_without_mask": 2,
        "masks_without_image": 1,
        "scan_unreadable": 2,
        "sizes_differ": 1,
        "masks_not_binary": 1,
        "masks_coloured": 1,
    }


def test_a_thousand_faults_name_the_first_20_files_and_count_the_rest(tmp_path):
    files = {f"images/{n:04}.png": b"x" for n in range(300)} | {f"masks/{n:04}.png": b"x" for n in range(300)}
    finding = refused(tmp_path, files)["scan_unreadable"]
    assert finding.evidence["count"] == 600
    assert finding.scans == tuple(f"images/{n:04}.png" for n in range(20))


def test_faults_come_before_notes(tmp_path):
    found = list(codes(take_in(tmp_path, dataset() | {"README": b"x", "images/4.png": encoded(grey())})))
    assert found[0] == "images_without_mask"
    assert found.index("files_ignored") > 0


# --- what is kept although it is faulty ---------------------------------------------------------------------------


def test_scans_that_cannot_be_read_are_left_out_of_what_is_kept(tmp_path):
    prepared = take_in(tmp_path, dataset() | {"images/2.png": b"text"})
    assert [scan.name for scan in prepared.manifest.scans] == ["1", "3"]


def test_masks_of_many_values_are_kept_as_foreground_wherever_they_are_not_0(tmp_path):
    soft = square(200)
    soft[4, 4:16] = 90
    take_in(tmp_path, with_masks(encoded(soft), encoded(soft)))
    assert (DatasetStore(tmp_path / "out").mask(0) == (soft > 0)).all()


def test_coloured_masks_are_kept_as_foreground_wherever_they_are_not_black(tmp_path):
    picture = np.zeros((SIZE, SIZE, 3), np.uint8)
    picture[:9] = (0, 30, 0)
    take_in(tmp_path, with_masks(encoded(picture), encoded(square())))
    assert (DatasetStore(tmp_path / "out").mask(0) == picture.any(axis=2)).all()


def test_masks_of_another_size_are_kept_stretched_to_their_image(tmp_path):
    doubled = np.kron(square(), np.ones((2, 2), np.uint8))
    take_in(tmp_path, with_masks(encoded(doubled), encoded(square())))
    assert (DatasetStore(tmp_path / "out").mask(0) == (square() > 0)).all()


def test_a_dataset_of_which_one_scan_is_left_is_refused(tmp_path):
    assert "scan_unreadable" in refused(tmp_path, dataset() | {"images/2.png": b"text", "images/3.png": b"text"})


def test_a_split_that_does_not_match_the_scans_is_a_warning(tmp_path):
    files = dataset() | {"splits.csv": b"stem,split\n1,train\n2,test\n8,test\n"}
    found = codes(take_in(tmp_path, files))
    assert found["splits_rows_unknown"].scans == ("8",)
    assert found["scans_without_split"].scans == ("3",)
    assert {finding.severity for finding in found.values()} == {Severity.WARNING}


# --- limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({}, InvalidArchive),
        ({"../x.png": b""}, UnsafeArchive),
        ({f"{n}.txt": b"" for n in range(1001)}, ArchiveTooLarge),
    ],
)
def test_archives_that_are_refused_write_nothing(tmp_path, data, error):
    with pytest.raises(error):
        take_in(tmp_path, data)
    assert [path.name for path in tmp_path.iterdir()] == ["upload.zip"]


def test_pictures_that_decode_to_more_than_allowed_are_refused_before_they_are_decoded(tmp_path):
    image, mask = encoded(np.zeros((900, 900), np.uint8)), encoded(square(height=900, width=900))
    with pytest.raises(ArchiveTooLarge, match=r"decode to 9\.3 MiB, 9\.0 MiB are allowed"):
        take_in(tmp_path, with_images(*[image] * 4, mask=mask), replace(LIMITS, max_unpacked_bytes=9 * 2**20))
    assert [path.name for path in tmp_path.iterdir()] == ["upload.zip"]


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(StorageFull, match=r"the disk has .* MiB left"):
        check_room(tmp_path, 2**60, 2**61)


# --- texts --------------------------------------------------------------------------------------------------------


def test_every_finding_reads_well_in_both_languages(tmp_path):
    files = dataset() | {
        "images/5{x}.png": encoded(grey()),
        "masks/2.png": encoded(square(height=30)),
        "masks/3.png": encoded(grey()),
    }
    for finding in errors_in(tmp_path, files).values():
        for language in ("en", "zh"):
            message = describe(finding, language)["message"]
            assert message
            assert finding.scans[0] in message
        assert describe(finding, "zh")["message"] != describe(finding, "en")["message"]


def test_every_code_of_the_intake_has_a_text():
    sources = [path.read_text() for path in Path(intake.__file__).parent.glob("*.py")]
    written = {
        code for source in sources for code in re.findall(r"""Fault\("(\w+)"|return "(\w+_\w+)", f?["h]""", source)
    }
    mentioned = {code for pair in written for code in pair if code}
    assert len(mentioned) > 20
    assert mentioned | {*file_findings.WARNINGS, *file_findings.INFOS, *file_findings.MENDABLE} <= set(MESSAGES)


# --- anything at all ----------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.sampled_from(
        [
            *(
                "images/1.png",
                "masks/1.png",
                "images/2.png",
                "masks/2.png",
                "1.png",
                "1_mask.png",
                "images/",
                "x.nii.gz",
            ),
            *("train/1.tif", "test/1.gif", "images/3.jpg", "masks/3.bmp", "splits.csv", "a.zip", "__MACOSX/1.png"),
            *("../x.png", "/abs.png", "a\\..\\b.png", "C:\\x.png", "", "/", "a\0.png"),
        ]
    ).map(str.encode),
    st.text(max_size=30).map(lambda name: name.encode("utf-8", "replace")),
    st.binary(max_size=20),
)
CONTENTS = st.one_of(
    st.sampled_from([encoded(grey()), encoded(square()), encoded(colour(), "JPEG"), encoded(grey())[:200], b""]),
    st.sampled_from([b"stem,split\n1,train\n2,test\n", b"stem,split\n1,train\n"]),
    st.binary(max_size=80),
)


def never_anything_but_a_refusal(folder, upload):
    outside = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    home = folder / "home"
    home.mkdir()
    try:
        (home / "upload.zip").write_bytes(upload)
        try:
            prepare(home / "upload.zip", home / "out", LIMITS)
        except OctaError:
            assert [path.name for path in home.iterdir()] == ["upload.zip"]
        else:
            assert sorted(path.name for path in home.iterdir()) == ["out", "upload.zip"]
            store = DatasetStore(home / "out")
            assert all(store.mask(n).max() < store.manifest.classes for n in range(len(store)))
    finally:
        for path in sorted(home.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        home.rmdir()
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == outside


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(NAMES, CONTENTS), max_size=8), st.sampled_from([0, 0, 0x800]))
def test_any_names_and_contents_give_a_dataset_or_a_refusal(tmp_path, files, flags):
    upload = io.BytesIO()
    raw_zip(upload, files, flags=flags)
    never_anything_but_a_refusal(tmp_path, upload.getvalue())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2500), st.binary(min_size=1, max_size=12), st.booleans())
def test_any_damage_to_a_sound_archive_gives_a_dataset_or_a_refusal(tmp_path, at, junk, from_the_end):
    upload = io.BytesIO()
    with zipfile.ZipFile(upload, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in dataset().items():
            archive.writestr(name, data)
    data = upload.getvalue()
    at = max(0, len(data) - at % 700 - 1) if from_the_end else at
    never_anything_but_a_refusal(tmp_path, data[:at] + junk + data[at + len(junk) :])


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_any_bytes_give_a_refusal(tmp_path, data):
    never_anything_but_a_refusal(tmp_path, data)


# --- real data ----------------------------------------------------------------------------------------------------


def real(name):
    path = REAL_DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    return path


GENEROUS = replace(LIMITS, max_unpacked_bytes=2**30, max_scan_pixels=64_000_000)


def test_rossa_is_200_pairs_with_the_official_split(tmp_path):
    prepared = prepare(real("rossa.zip"), tmp_path / "out", GENEROUS)
    manifest = prepared.manifest
    assert set(codes(prepared)) <= {"few_scans"}
    assert (len(manifest.scans), manifest.channels, manifest.classes, manifest.mask_values) == (200, 1, 2, (0, 255))
    assert manifest.foreground_fraction == pytest.approx(0.107, abs=0.0005)
    splits = assign_splits(manifest.scans, 0.2, 0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (80, 20, 100)


def test_fundus4_has_1_bit_masks_and_two_patients(tmp_path):
    prepared = prepare(real("fundus4.zip"), tmp_path / "out", GENEROUS)
    manifest = prepared.manifest
    assert set(codes(prepared)) <= {"few_scans"}
    assert (manifest.channels, manifest.classes, manifest.mask_values) == (3, 2, (0, 1))
    assert [scan.patient for scan in manifest.scans] == ["01", "01", "02", "02"]
    assert {scan.shape for scan in manifest.scans} == {(960, 999)}
    splits = assign_splits(manifest.scans, 0.2, 0)
    assert splits.grouped_by_patient
    assert (len(splits.train), len(splits.val)) == (2, 2)


def test_nuclei_are_rgba_of_many_sizes(tmp_path):
    prepared = prepare(real("nuclei.zip"), tmp_path / "out", GENEROUS)
    manifest = prepared.manifest
    assert (len(manifest.scans), manifest.channels, manifest.classes) == (67, 3, 2)
    assert len({scan.shape for scan in manifest.scans}) == 7
    assert manifest.foreground_fraction == pytest.approx(0.146, abs=0.0005)
    assert set(codes(prepared)) == {"alpha_constant", "sizes_vary"}
    assert codes(prepared)["alpha_constant"].evidence["count"] == 67
