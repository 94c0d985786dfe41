from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from octa_backend.data.layouts import find_layout


def pairs(*paths):
    return {pair.name: (pair.image, pair.mask, pair.split) for pair in find_layout(paths).pairs}


def faults(*paths):
    return {(fault.code, fault.file) for fault in find_layout(paths).faults}


def notes(*paths):
    return {(note.code, note.file) for note in find_layout(paths).notes}


IMAGE_FOLDERS = [
    *("images", "image", "imgs", "img", "Scans", "input", "inputs", "x", "original", "raw", "OCTA"),
    *("Original_Images", "train_images"),
]
MASK_FOLDERS = [
    *("masks", "mask", "labels", "label", "gt", "GT", "groundtruth", "Ground_Truth", "Ground truth", "manual"),
    *("annotations", "seg", "segmentation", "targets", "1st_manual", "y", "vessels", "vessel_masks", "octa_masks"),
    "mask-png",
]


@pytest.mark.parametrize("folder", IMAGE_FOLDERS)
def test_usual_image_folders_are_known(folder):
    assert pairs(f"{folder}/1.png", "masks/1.png")["1"][:2] == (f"{folder}/1.png", "masks/1.png")


@pytest.mark.parametrize("folder", MASK_FOLDERS)
def test_usual_mask_folders_are_known(folder):
    assert pairs("images/1.png", f"{folder}/1.png")["1"][:2] == ("images/1.png", f"{folder}/1.png")


@pytest.mark.parametrize("root", ["data", "My Scans", "octa_vessels/v2", "masks_project", "train"])
def test_folders_around_everything_do_not_matter(root):
    assert pairs(f"{root}/images/1.png", f"{root}/masks/1.png") == {
        "1": (f"{root}/images/1.png", f"{root}/masks/1.png", None)
    }


@pytest.mark.parametrize(
    ("train", "test"), [("train", "test"), ("Training", "Testing"), ("training_set", "test_set"), ("tRAIN", "TEST")]
)
def test_split_folders_above_and_below_are_official_splits(train, test):
    above = pairs(f"{train}/images/1.png", f"{train}/masks/1.png", f"{test}/images/2.png", f"{test}/masks/2.png")
    below = pairs(f"images/{train}/1.png", f"masks/{train}/1.png", f"images/{test}/2.png", f"masks/{test}/2.png")
    for found in (above, below):
        assert {name: pair[2] for name, pair in found.items()} == {"1": "train", "2": "test"}


@pytest.mark.parametrize("word", ["val", "valid", "Validation"])
def test_validation_folders_are_known(word):
    assert pairs("train/x/1.png", "train/y/1.png", f"{word}/x/2.png", f"{word}/y/2.png")["2"][2] == "val"


def test_split_words_inside_folder_names_are_known():
    found = pairs("imagesTr/a_0000.png", "labelsTr/a.png", "test_images/b.png", "test_masks/b.png")
    assert {name: pair[2] for name, pair in found.items()} == {"a_0000": "train", "b": "test"}


def test_the_same_stem_in_two_splits_makes_two_scans():
    assert set(pairs("train/1.png", "train/1_mask.png", "test/1.png", "test/1_mask.png")) == {"train/1", "test/1"}


def test_the_same_stem_in_a_folder_per_patient_makes_a_scan_each():
    found = pairs("p1/image.png", "p1/mask.png", "p2/image.png", "p2/mask.png")
    assert found["p2/image"] == ("p2/image.png", "p2/mask.png", None)


@pytest.mark.parametrize(
    "mask",
    [
        *("x_mask", "x_masks", "x-label", "x.gt", "x_seg", "x_manual1", "x_1stHO", "x_manual", "x_vessel"),
        *("x_segmentation", "X_Mask", "mask_x", "gt-x"),
    ],
)
def test_masks_beside_their_images_are_told_by_a_word(mask):
    assert pairs("x.png", f"{mask}.png")["x"][1] == f"{mask}.png"


def test_numbered_images_and_masks_in_one_folder_are_paired():
    found = pairs("image1.png", "mask1.png", "image2.png", "mask2.png")
    assert found["image2"][1] == "mask2.png"


def test_mask_words_are_also_stripped_inside_a_mask_folder():
    assert pairs("images/ISIC_7.jpg", "masks/ISIC_7_segmentation.png")["ISIC_7"][1] == "masks/ISIC_7_segmentation.png"


def test_endings_and_case_may_differ():
    assert pairs("images/A1.TIF", "masks/a1.gif")["A1"] == ("images/A1.TIF", "masks/a1.gif", None)


def test_drive_as_it_is_distributed_is_understood():
    found = find_layout(
        [
            "DRIVE/training/images/21_training.tif",
            "DRIVE/training/1st_manual/21_manual1.gif",
            "DRIVE/training/mask/21_training_mask.gif",
            "DRIVE/test/images/01_test.tif",
            "DRIVE/test/1st_manual/01_manual1.gif",
            "DRIVE/test/2nd_manual/01_manual2.gif",
            "DRIVE/test/mask/01_test_mask.gif",
        ]
    )
    assert {(p.name, p.mask, p.split) for p in found.pairs} == {
        ("21_training", "DRIVE/training/1st_manual/21_manual1.gif", "train"),
        ("01_test", "DRIVE/test/1st_manual/01_manual1.gif", "test"),
    }
    assert not found.faults
    assert {note.code for note in found.notes} == {"masks_passed_over"}
    assert len(found.notes) == 3


def test_the_first_grader_is_taken_and_the_second_noted():
    paths = ("Image_01L.jpg", "Image_01L_1stHO.png", "Image_01L_2ndHO.png")
    assert pairs(*paths)["Image_01L"][1] == "Image_01L_1stHO.png"
    assert notes(*paths) == {("masks_passed_over", "Image_01L_2ndHO.png")}


@pytest.mark.parametrize("second", ["2nd_manual/1.png", "masks/1_manual2.png", "fov/1_mask.png", "masks/1_roi.png"])
def test_second_graders_and_fields_of_view_never_dispute_a_mask(second):
    folders = ("images/1.png", "masks/1.png")
    assert pairs(*folders, second)["1"][1] == "masks/1.png"
    assert notes(*folders, second) == {("masks_passed_over", second)}
    assert faults(*folders, second) == set()


def test_a_leading_number_pairs_where_only_one_image_and_one_mask_have_it():
    assert pairs("images/12_od.png", "masks/vessels_012_final.png")["12_od"][1] == "masks/vessels_012_final.png"
    assert faults("images/12_od.png", "images/12_os.png", "masks/12_final.png") == {
        ("images_without_mask", "images/12_od.png"),
        ("images_without_mask", "images/12_os.png"),
        ("masks_without_image", "masks/12_final.png"),
    }


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("3_OS", "3_OD"),
        ("3_left", "3_OD"),
        ("03L", "03R"),
        ("P07_visit1", "P07_visit2"),
        ("12_svc", "12_dvc"),
        ("12_superficial", "12_deep_mask"),
        ("12_macula", "12_disc"),
    ],
)
def test_a_leading_number_does_not_pair_what_else_the_names_tell_apart(image, mask):
    others = [f"{folder}/{name}.png" for folder in ("images", "masks") for name in ("1_x", "2_x")]
    paths = (*others, f"images/{image}.png", f"masks/{mask}.png")
    assert set(pairs(*paths)) == {"1_x", "2_x"}
    assert faults(*paths) == {
        ("images_without_mask", f"images/{image}.png"),
        ("masks_without_image", f"masks/{mask}.png"),
    }


@pytest.mark.parametrize("word", ["OD", "svc", "v1"])
def test_masks_that_are_all_of_other_eyes_layers_or_visits_are_not_paired(word):
    other = {"OD": "OS", "svc": "dvc", "v1": "v2"}[word]
    assert pairs(*(f"images/{n}_{word}.png" for n in (1, 2)), *(f"masks/{n}_{other}.png" for n in (1, 2))) == {}


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("IMG_{:03}", "{:03}_mask"),
        ("IMG_{}", "label{:03}"),
        ("photo{}", "drawing{:02}"),
        ("IMG_{}_OD", "drawing-{:03}-right"),
        ("{}_svc", "superficial_{}_vessel_final"),
        ("{}_visit01", "tracing_{}_visit1"),
        ("volume-{}", "segmentation-{}"),
    ],
)
def test_names_that_differ_in_one_way_are_paired_by_their_number(image, mask):
    numbers = (1, 2, 10)
    paths = [f"images/{image.format(n)}.png" for n in numbers] + [f"masks/{mask.format(n)}.png" for n in numbers]
    assert {pair[:2] for pair in pairs(*paths).values()} == {
        (f"images/{image.format(n)}.png", f"masks/{mask.format(n)}.png") for n in numbers
    }
    assert faults(*paths) == set()


def test_a_word_that_only_the_image_has_does_not_speak_against_its_mask():
    found = pairs("images/001_normal.png", "images/002_DR_OD.png", "masks/1.png", "masks/2_vessels.png", "masks/3.png")
    assert {name: mask for name, (_, mask, _) in found.items()} == {
        "001_normal": "masks/1.png",
        "002_DR_OD": "masks/2_vessels.png",
    }


def test_images_without_mask_and_masks_without_image_are_faults():
    assert faults("images/1.png", "images/2.png", "masks/2.png", "masks/3.png") == {
        ("images_without_mask", "images/1.png"),
        ("masks_without_image", "masks/3.png"),
    }


def test_an_orphan_mask_in_a_flat_folder_is_a_fault():
    assert faults("1.png", "1_mask.png", "2_mask.png") == {("masks_without_image", "2_mask.png")}


def test_two_images_for_one_mask_are_a_fault_that_names_both():
    assert faults("images/1.png", "images/1.jpg", "masks/1.png") == {
        ("pairing_ambiguous", "images/1.jpg"),
        ("pairing_ambiguous", "images/1.png"),
    }


def test_two_masks_for_one_image_are_a_fault_that_names_both():
    found = find_layout(["images/1.png", "masks/1.png", "masks/1_mask.png"]).faults
    assert [(f.code, f.file, f.found) for f in found] == [
        ("pairing_ambiguous", "images/1.png", "masks/1.png, masks/1_mask.png")
    ]


def test_a_mask_of_another_split_is_not_taken():
    assert faults("train/images/1.png", "train/masks/9.png", "test/images/8.png", "test/masks/1.png") == {
        ("images_without_mask", "train/images/1.png"),
        ("images_without_mask", "test/images/8.png"),
        ("masks_without_image", "train/masks/9.png"),
        ("masks_without_image", "test/masks/1.png"),
    }


@pytest.mark.parametrize("paths", [["images/1.png", "images/2.png"], ["1.png", "2.png"], ["a/1.png", "b/1.png"]])
def test_images_alone_have_no_masks(paths):
    assert faults(*paths) == {("masks_not_found", path) for path in paths}


def test_masks_alone_have_no_images():
    assert faults("masks/1.png", "masks/2.png") == {("images_not_found", f"masks/{n}.png") for n in (1, 2)}


def test_an_archive_of_other_files_has_no_images():
    assert faults("readme.txt") == {("images_not_found", "")}


def test_other_files_are_noted_and_do_not_harm():
    paths = ("images/1.png", "masks/1.png", "README.md", "masks/list.csv", "overview.png")
    assert faults(*paths) == set()
    assert notes(*paths) == {("files_ignored", path) for path in paths[2:]}


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ("nii", "volumes_and_pictures_mixed"),
        ("NII.GZ", "volumes_and_pictures_mixed"),
        ("mha", "volumes_not_supported"),
        ("dcm", "volumes_not_supported"),
    ],
)
def test_volumes_among_pictures_are_faults(ending, code):
    assert faults("images/0.png", "masks/0.png", f"images/1.{ending}", f"masks/1.{ending}") == {
        (code, f"images/1.{ending}"),
        (code, f"masks/1.{ending}"),
    }


@pytest.mark.parametrize("ending", ["webp", "npy", "mat", "pgm"])
def test_image_kinds_that_are_not_read_are_faults_not_ignored(ending):
    assert ("format_not_supported", f"images/1.{ending}") in faults(f"images/1.{ending}", "masks/1.png")


def test_the_table_of_splits_is_found_anywhere_and_only_one_is_allowed():
    assert find_layout(["d/images/1.png", "d/masks/1.png", "d/Splits.csv"]).splits_file == "d/Splits.csv"
    assert faults("images/1.png", "masks/1.png", "a/splits.csv", "b/split.csv") == {
        ("splits_not_understood", "b/split.csv")
    }


PATH_PARTS = st.sampled_from(
    [
        *("images", "masks", "train", "test", "x", "y", "1", "2", "1_mask"),
        *("01_manual1", "image", "mask", "1_test", "2nd_manual"),
    ]
)
PATHS = st.builds(
    lambda parts, ending: "/".join(parts) + ending,
    st.lists(PATH_PARTS, min_size=1, max_size=4),
    st.sampled_from([".png", ".PNG", ".gif", ".txt", "", ".nii"]),
)


@given(st.sets(PATHS, min_size=1, max_size=12))
def test_every_file_is_accounted_for_and_no_name_or_file_is_used_twice(paths):
    found = find_layout(paths)
    used = [path for pair in found.pairs for path in (pair.image, pair.mask)]
    assert len(used) == len(set(used))
    assert len({pair.name.casefold() for pair in found.pairs}) == len(found.pairs)
    accounted = {*used, *(item.file for item in (*found.faults, *found.notes))}
    accounted |= {mask for fault in found.faults for mask in fault.found.split(", ")}
    assert paths <= accounted
