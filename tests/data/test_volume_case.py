from __future__ import annotations

import gzip

import numpy as np
import pytest

from octa_backend.data.volume_case import Channels, content_of, find_cases, read_case, volumes_among
from octa_backend.errors import ScanDoesNotFit, ScanTooLarge, UnreadableScan
from tests.volumes import SHAPE, affine_of, case, nifti, stack

BRATS = Channels(4, ("flair", "t1", "t1ce", "t2"))
ONE = Channels(1)


def files_of(names, channels):
    return [(one.name, one.files) for one in find_cases(names, channels)]


def test_a_model_of_one_channel_takes_each_file_as_a_case():
    assert files_of(["b.nii", "a_0000.nii.gz"], ONE) == [("a", ("a_0000.nii.gz",)), ("b", ("b.nii",))]


def test_numbers_are_put_in_order():
    names = ["x_0001.nii.gz", "y_0000.nii.gz", "y_0001.nii.gz", "x_0000.nii.gz"]
    expected = [("x", ("x_0000.nii.gz", "x_0001.nii.gz")), ("y", ("y_0000.nii.gz", "y_0001.nii.gz"))]
    assert files_of(names, Channels(2)) == expected


def test_numbers_may_count_the_cases_of_a_model_of_one_channel():
    names = ["eye_0000.nii", "eye_0001.nii"]
    assert files_of(names, ONE) == [("eye", ("eye_0000.nii",)), ("eye_0001", ("eye_0001.nii",))]


def test_a_folder_may_name_the_case():
    names = ["q/t1.nii.gz", "p/t1.nii.gz", "p/flair.nii.gz", "q/flair.nii.gz"]
    two = Channels(2, ("flair", "t1"))
    assert files_of(names, two) == [("p", (names[2], names[1])), ("q", (names[3], names[0]))]
    assert files_of(["p/0000.nii", "q/0000.nii"], ONE) == [("p", ("p/0000.nii",)), ("q", ("q/0000.nii",))]
    assert files_of(["p/flair.nii"], Channels(1, ("flair",))) == [("p", ("p/flair.nii",))]


def test_the_same_name_in_two_folders_is_two_cases():
    names = [f"{folder}/c_000{at}.nii" for folder in "ab" for at in (0, 1)]
    assert files_of(names, Channels(2)) == [("c", tuple(names[:2])), ("c", tuple(names[2:]))]


def test_the_cards_names_decide_the_order_of_modalities():
    names = [f"BraTS-01-{end}.nii.gz" for end in ("t1c", "t1n", "t2f", "t2w")]
    assert files_of(names, BRATS) == [("BraTS-01", tuple(names[at] for at in (2, 1, 0, 3)))]
    turned = Channels(4, ("T2", "T1ce", "T1", "FLAIR"))
    assert files_of(names, turned) == [("BraTS-01", tuple(names[at] for at in (3, 0, 1, 2)))]


@pytest.mark.parametrize(
    ("names", "channels", "words"),
    [
        (["c_flair.nii", "c_t1.nii", "c_t2.nii"], BRATS, "lacks 0002 (t1ce)"),
        (["c_0000.nii"], Channels(2), "lacks 0001"),
        (["c_0000.nii", "c_0001.nii", "c_0002.nii"], Channels(2), "one modality too many"),
        (["c_flair.nii", "c_t1.nii"], Channels(2), "no such modality"),
        (["c_t1.nii", "c_t1n.nii"], BRATS, "same modality"),
        (["photo.png"], ONE, "photo.png is no volume"),
        (["c.nii", "c.nii"], ONE, "two files are called c.nii"),
        (["p/c_t1.nii", "p/c_flair.nii"], ONE, "p/c_t1.nii and p/c_flair.nii are two modalities of case c"),
        (["a_0000.nii", "a_0001.nii", "b.nii"], Channels(2), "b.nii names no modality, but a_0000.nii does"),
        (["p/0000.nii", "q/0001.nii"], Channels(2), "case p lacks 0001; p/0000.nii came"),
    ],
)
def test_wrong_modalities_are_named(names, channels, words):
    with pytest.raises(ScanDoesNotFit) as caught:
        find_cases(names, channels)
    assert words in caught.value.message


def test_masks_among_the_files_are_no_cases():
    paths = ["c/x-t1n.nii.gz", "c/x-seg.nii.gz", "labelsTr/x.nii.gz", "readme.txt", "preview.tif"]
    assert volumes_among(paths) == ["c/x-t1n.nii.gz"]
    assert volumes_among(["a.tif", "a_mask.tif"]) == ["a.tif"]


def read(content, name="c.nii.gz", channels=ONE, most=10**6):
    return read_case(find_cases([name], channels)[0], lambda _: content, channels, most)


def test_bad_files_are_told(subtests):
    image, _ = case()
    whole = nifti(image)
    hole = image.copy()
    hole[3, 3, 3] = np.nan
    bad = {
        "cut off": whole[: len(whole) // 2],
        "fourth axis": nifti(np.zeros((*SHAPE, 2), np.float32)),
        "not finite": nifti(hole),
        "not a NIfTI": gzip.compress(b"a text that is long enough to be taken for a header" * 20),
        "single slice": nifti(image[:, :, :1]),
        "empty": b"",
    }
    for words, content in bad.items():
        with subtests.test(words), pytest.raises(UnreadableScan, match=words):
            read(content)


def test_too_many_voxels_of_all_channels_together():
    content = nifti(case()[0])
    files = find_cases(["c_0000.nii.gz", "c_0001.nii.gz"], Channels(2))[0]
    with pytest.raises(ScanTooLarge, match="2 channels"):
        read_case(files, lambda _: content, Channels(2), int(np.prod(SHAPE)) + 1)


@pytest.mark.parametrize("moved", [affine_of(spacing=(1, 1, 2)), affine_of("LPS") @ np.diag([1, 1, 1.5, 1])])
def test_modalities_on_another_grid_are_refused(moved):
    contents = {"c_0000.nii.gz": nifti(case()[0]), "c_0001.nii.gz": nifti(case()[0], moved)}
    with pytest.raises(ScanDoesNotFit, match=r"c_0001.nii.gz lies elsewhere"):
        read_case(find_cases(list(contents), Channels(2))[0], contents.__getitem__, Channels(2), 10**6)


def test_places_are_compared_in_mm_whatever_the_files_units_are():
    files = find_cases(["c_0000.nii.gz", "c_0001.nii.gz"], Channels(2))[0]
    numbers = np.diag([1000, 1000, 1000, 1]) @ affine_of()
    for unit, is_one_place in ((3, True), (2, False)):  # micrometres, millimetres
        contents = {"c_0000.nii.gz": nifti(case()[0]), "c_0001.nii.gz": nifti(case()[0], numbers, xyzt_units=unit)}
        if is_one_place:
            read_case(files, contents.__getitem__, Channels(2), 10**6)
        else:
            with pytest.raises(ScanDoesNotFit, match="lies elsewhere"):
                read_case(files, contents.__getitem__, Channels(2), 10**6)


def test_modalities_of_another_size_are_refused():
    contents = {"c_0000.nii.gz": nifti(case()[0]), "c_0001.nii.gz": nifti(case(shape=(20, 18, 17))[0])}
    with pytest.raises(ScanDoesNotFit, match="one grid"):
        read_case(find_cases(list(contents), Channels(2))[0], contents.__getitem__, Channels(2), 10**6)


def test_a_fourth_axis_holds_the_channels_of_a_model_of_several():
    values = np.random.default_rng(0).random((*SHAPE, 2)).astype(np.float32)
    found = read(nifti(values), channels=Channels(2))
    np.testing.assert_array_equal(found.values[1], values[..., 1].transpose(2, 1, 0))
    with pytest.raises(ScanDoesNotFit, match="trained on 4: 0000"):
        read(nifti(values), channels=BRATS)


def test_modalities_become_channels():
    images = [case(seed)[0] for seed in (0, 1)]
    contents = {f"c_000{at}.nii.gz": nifti(image) for at, image in enumerate(images)}
    found = read_case(find_cases(list(contents), Channels(2))[0], contents.__getitem__, Channels(2), 10**6)
    np.testing.assert_array_equal(found.values, np.stack(images).transpose(0, 3, 2, 1))


def test_a_tiff_stack_is_a_case():
    values = np.random.default_rng(0).integers(0, 256, (4, 20, 24)).astype(np.uint8)
    np.testing.assert_array_equal(read(stack(values), "c.tif").values[0], values)


def test_content_is_what_is_not_0_in_one_of_the_channels():
    values = np.zeros((2, 6, 7, 8))
    assert content_of(values) is None
    values[0, 1, 2, 3] = values[1, 4, 2, 5] = 1
    assert content_of(values) == ((1, 5), (2, 3), (3, 6))
