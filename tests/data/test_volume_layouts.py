import pytest

from octa_backend.data.volume_layouts import find_volume_layout, may_hold_channels


def names(paths):
    return [(pair.name, pair.images, pair.split) for pair in find_volume_layout(paths).pairs]


def found(paths):
    layout = find_volume_layout(paths)
    return {(fault.code, fault.file) for fault in (*layout.faults, *layout.notes)}


def test_the_decathlons_folders_are_understood_and_unlabelled_tests_left_out():
    paths = [
        "Task/imagesTr/a_001.nii.gz",
        "Task/labelsTr/a_001.nii.gz",
        "Task/imagesTs/a_002.nii.gz",
        "Task/dataset.json",
    ]
    assert names(paths) == [("a_001", ("Task/imagesTr/a_001.nii.gz",), "train")]
    assert found(paths) == {("volumes_unlabelled", "Task/imagesTs/a_002.nii.gz")}
    assert find_volume_layout(paths).json_file == "Task/dataset.json"


def test_numbered_channels_belong_to_one_case_in_their_order():
    paths = [f"imagesTr/b_{case}_{channel}.nii.gz" for case in "12" for channel in ("0001", "0000")]
    paths += ["labelsTr/b_1.nii.gz", "labelsTr/b_2.nii.gz"]
    assert names(paths)[0] == ("b_1", ("imagesTr/b_1_0000.nii.gz", "imagesTr/b_1_0001.nii.gz"), "train")
    assert find_volume_layout(paths).modalities == ("0000", "0001")


def test_a_number_of_four_digits_that_names_a_mask_too_is_a_case():
    paths = [f"{folder}/case_{number:04d}.nii.gz" for folder in ("images", "masks") for number in (0, 1)]
    assert [name for name, _, _ in names(paths)] == ["case_0000", "case_0001"]
    assert find_volume_layout(paths).modalities == ()


@pytest.mark.parametrize(
    "suffixes", [("_flair", "_t1", "_t1ce", "_t2", "_seg"), ("-t2f", "-t1n", "-t1c", "-t2w", "-seg")]
)
def test_a_folder_per_case_with_its_modalities_is_understood(suffixes):
    paths = [f"BraTS/C{case}/C{case}{suffix}.nii.gz" for case in "12" for suffix in sorted(suffixes)]
    expected = tuple(f"BraTS/C1/C1{suffix}.nii.gz" for suffix in suffixes[:-1])
    assert names(paths)[0] == ("C1", expected, None)
    assert find_volume_layout(paths).modalities == ("flair", "t1", "t1ce", "t2")


@pytest.mark.parametrize("case", ["BraTS_00{}", "BraTS-GLI-0000{}-000", "BraTS20_case_00{}"])
def test_the_name_of_a_brats_case_is_no_split(case):
    paths = [f"{case.format(n)}/{case.format(n)}-{what}.nii.gz" for n in "12" for what in ("t1n", "t2w", "seg")]
    assert [split for _, _, split in names(paths)] == [None, None]


def test_a_case_with_other_modalities_than_most_is_a_fault():
    paths = [f"C{case}_{what}.nii" for case in "12" for what in ("t1", "t2", "seg")] + ["C3_t1.nii", "C3_seg.nii"]
    assert found(paths) == {("modalities_differ", "C3_t1.nii")}
    assert [name for name, _, _ in names(paths)] == ["C1", "C2"]


def test_folders_of_splits_and_words_in_names_work_as_for_pictures():
    paths = ["d/train/images/1.nii", "d/train/masks/1_seg.nii", "d/val/images/2.nii", "d/val/masks/2_mask.nii.gz"]
    assert [(name, split) for name, _, split in names(paths)] == [("1", "train"), ("2", "val")]
    assert [name for name, _, _ in names(["1.nii.gz", "1_mask.nii.gz"])] == ["1"]


def test_pictures_among_volumes_are_a_fault_and_others_are_ignored():
    paths = ["images/1.nii", "masks/1.nii", "images/2.png", "preview.png", "LICENSE"]
    assert found(paths) == {
        ("volumes_and_pictures_mixed", "images/2.png"),
        ("files_ignored", "preview.png"),
        ("files_ignored", "LICENSE"),
    }


def test_what_has_no_partner_and_what_is_not_read_is_told():
    paths = ["images/1.nii", "masks/1.nii", "images/2.nii", "masks/3.nii", "images/4.mha", "images/5.npy"]
    assert found(paths) == {
        ("images_without_mask", "images/2.nii"),
        ("masks_without_image", "masks/3.nii"),
        ("volumes_not_supported", "images/4.mha"),
        ("format_not_supported", "images/5.npy"),
    }
    assert found(["images/1.nii"]) == {("masks_not_found", "images/1.nii")}


def test_tiff_stacks_are_volumes_where_nothing_is_nifti():
    assert [name for name, _, _ in names(["images/1.tif", "masks/1.tiff"])] == ["1"]
    assert ("volumes_and_pictures_mixed", "images/1.tif") in found(["images/1.tif", "images/2.nii", "masks/2.nii"])


def test_a_fourth_axis_means_channels_in_the_decathlons_folders_only():
    assert may_hold_channels("Task01/imagesTr/a.nii.gz")
    assert not may_hold_channels("images/a.nii.gz")
