from __future__ import annotations

import hashlib
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from octa_backend.data.archive import Archive
from octa_backend.data.folder import Folder
from octa_backend.data.layouts import find_layout
from octa_backend.data.repair import write_repaired
from octa_backend.data.scans import read_image, read_mask
from octa_backend.data.splits import apply_split_table, read_split_table
from octa_backend.diagnosis.remedies import Step
from octa_backend.errors import InvalidDataset, ScanTooLarge, UnreadableScan
from tests.data.zips import SIZE, colour, dataset, encoded, grey, square, with_images, with_masks, zip_of

MAX_PIXELS = 1_000_000
COLOURS = {"#000000": 0, "#ff0000": 1, "#00ff00": 2}


def opened(path):
    return Archive(path, max_files=1000, max_unpacked_bytes=64 * 2**20, max_ratio=200)


def scans_of(source):
    """The scans with their splits, as an upload shows them."""
    layout = find_layout(source.members)
    if layout.splits_file is None:
        return list(layout.pairs)
    rows, faults = read_split_table(source.read(layout.splits_file, 2**20), layout.splits_file)
    assert not faults
    return apply_split_table(layout.pairs, rows, layout.splits_file)[0]


def repaired(folder, files, *steps, max_pixels=MAX_PIXELS):
    """The steps that changed something, and the files of the new zip."""
    with opened(zip_of(folder / "old.zip", files)) as source:
        done = write_repaired(source, scans_of(source), steps, folder / "new.zip", max_pixels)
    with zipfile.ZipFile(folder / "new.zip") as archive:
        return done, {info.filename: archive.read(info) for info in archive.infolist()}


def unpacked(folder, files):
    """The files in a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return Folder(folder, max_files=100)


def facts(done):
    (step,) = done
    return dict(step.details)


def mask_of(content):
    return read_mask(io.BytesIO(content), "mask", MAX_PIXELS)


def coloured_mask(height=SIZE, width=SIZE):
    """Black, with a red and a green square."""
    rgb = np.zeros((height, width, 3), dtype=np.uint8)
    rgb[2:6, 2:6] = (255, 0, 0)
    rgb[8:16, 8:16] = (0, 255, 0)
    return rgb


# --- what stays ---------------------------------------------------------------------------------------------------


def test_without_steps_every_file_keeps_its_bytes(tmp_path):
    done, files = repaired(tmp_path, dataset())
    assert done == ()
    assert files == dataset()


def test_files_keep_their_endings(tmp_path):
    picture, mask = encoded(grey(), "JPEG"), encoded(square(), "TIFF")
    _, files = repaired(tmp_path, {"data/Images/a.JPG": picture, "data/Labels/a.tif": mask, "data/notes.txt": b"x"})
    assert files == {"images/a.JPG": picture, "masks/a.tif": mask}


def test_steps_that_change_nothing_are_not_told_and_leave_the_bytes(tmp_path):
    steps = [
        Step("binarize_masks", "1", {"threshold": 127}),
        Step("resize_masks", "1", {"size": "24×24", "turn": "none"}),
        Step("map_colours", "2", {"colours": {"#000000": 0, "#ffffff": 255}}),
        Step("drop_alpha", "2", {}),
    ]
    done, files = repaired(tmp_path, dataset(), *steps)
    assert done == ()
    assert files == dataset()


# --- leaving out --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("remedy", ["drop_unusable", "drop_duplicates"])
def test_a_dropped_scan_is_left_out_with_both_files(tmp_path, remedy):
    done, files = repaired(tmp_path, dataset(), Step(remedy, "2", {"reason": "scans_blank"}))
    assert sorted(files) == ["images/1.png", "images/3.png", "masks/1.png", "masks/3.png"]
    assert facts(done) == {"reason": "scans_blank", "files": ["images/2.png", "masks/2.png"]}


def test_a_file_without_partner_is_left_out_and_told(tmp_path):
    step = Step("drop_unusable", "images/4.png", {"reason": "images_without_mask"})
    done, files = repaired(tmp_path, dataset() | {"images/4.png": encoded(grey())}, step)
    assert files == dataset()
    assert facts(done) == {"reason": "images_without_mask", "files": ["images/4.png"]}


def test_dropping_one_file_of_a_scan_drops_the_scan(tmp_path):
    done, files = repaired(tmp_path, dataset(), Step("drop_unusable", "masks/2.png", {"reason": "scan_unreadable"}))
    assert "images/2.png" not in files
    assert facts(done)["files"] == ["images/2.png", "masks/2.png"]


def test_a_dropped_scan_needs_no_other_step_and_may_be_unreadable(tmp_path):
    steps = [
        Step("invert_masks", "2", {}),
        Step("drop_unusable", "2", {"reason": "scan_unreadable"}),
        Step("drop_duplicates", "2", {"same_as": "1"}),
    ]
    done, files = repaired(tmp_path, dataset() | {"masks/2.png": b"broken"}, *steps)
    assert [step.remedy for step in done] == ["drop_unusable"]
    assert len(files) == 4


def test_leaving_out_every_scan_leaves_no_dataset(tmp_path):
    drops = [Step("drop_unusable", str(n), {"reason": "scans_blank"}) for n in (1, 2, 3)]
    with pytest.raises(InvalidDataset, match="all 3 scans would be left out"):
        repaired(tmp_path, dataset(), *drops)
    assert not (tmp_path / "new.zip").exists()


# --- masks --------------------------------------------------------------------------------------------------------


def test_a_coloured_mask_becomes_class_numbers(tmp_path):
    rgb = coloured_mask()
    rgb[0, 0], rgb[0, 1] = (200, 10, 0), (0, 90, 30)  # nearest: red; black
    done, files = repaired(tmp_path, with_masks(encoded(rgb)), Step("map_colours", "0", {"colours": COLOURS}))
    wanted = np.zeros((SIZE, SIZE), dtype=np.uint8)
    wanted[2:6, 2:6], wanted[8:16, 8:16], wanted[0, 0] = 1, 2, 1
    assert np.array_equal(mask_of(files["masks/0.png"]), wanted)
    assert facts(done) == {"colours": COLOURS, "colours_before": 5, "other_colours": 2, "nearest_pixels": 2}


def test_class_values_above_255_are_written_with_16_bits(tmp_path):
    step = Step("map_colours", "0", {"colours": {"#000000": 0, "#ff0000": 1000, "#00ff00": 2}})
    _, files = repaired(tmp_path, with_masks(encoded(coloured_mask())), step)
    with Image.open(io.BytesIO(files["masks/0.png"])) as image:
        assert image.mode == "I;16"
    assert np.unique(mask_of(files["masks/0.png"])).tolist() == [0, 2, 1000]


def test_a_smoothed_mask_is_binarized_and_written_as_8_bit_png(tmp_path):
    smoothed = square()
    smoothed[3, 4:16], smoothed[2, 4:16] = 128, 127
    done, files = repaired(
        tmp_path, with_masks(encoded(smoothed, "BMP"), ending="bmp"), Step("binarize_masks", "0", {"threshold": 127})
    )
    with Image.open(io.BytesIO(files["masks/0.png"])) as image:
        assert (image.format, image.mode) == ("PNG", "L")
    wanted = square()
    wanted[3, 4:16] = 255
    assert np.array_equal(mask_of(files["masks/0.png"]), wanted)
    # 12 + 12 pixels have changed; 13 rows of 12 are foreground now
    after = round(13 * 12 / SIZE**2, 6)
    assert facts(done) == {"threshold": 127, "pixels": 24, "values_before": 4, "foreground_after": after}
    assert "masks/0.bmp" not in files


def test_a_mask_is_inverted(tmp_path):
    done, files = repaired(tmp_path, dataset(), Step("invert_masks", "2", {}))
    assert np.array_equal(mask_of(files["masks/2.png"]), 255 - square())
    assert facts(done) == {"foreground_before": 0.25, "foreground_after": 0.75}
    assert {name: data for name, data in files.items() if name != "masks/2.png"} == {
        name: data for name, data in dataset().items() if name != "masks/2.png"
    }


def test_a_mask_of_half_the_size_is_brought_to_its_images_size(tmp_path):
    files = {"images/1.png": encoded(grey(0, 48, 40)), "masks/1.png": encoded(square(height=24, width=20))}
    done, new = repaired(tmp_path, files, Step("resize_masks", "1", {"size": "40×48", "turn": "none"}))
    assert np.array_equal(mask_of(new["masks/1.png"]), square(height=24, width=20).repeat(2, 0).repeat(2, 1))
    assert facts(done) == {"size": "40×48", "size_before": "20×24", "turn": "none"}
    assert new["images/1.png"] == files["images/1.png"]


@pytest.mark.parametrize("turned", [np.transpose, np.rot90, lambda mask: np.rot90(mask, 3)])
def test_swapped_sides_are_turned_back_the_way_that_fits_the_image_and_the_way_is_told(tmp_path, turned):
    mask = square(height=24, width=32)
    image = np.where(mask > 0, 180, 40).astype(np.uint8)
    files = {"images/1.png": encoded(image), "masks/1.png": encoded(np.ascontiguousarray(turned(mask)))}
    done, new = repaired(tmp_path, files, Step("resize_masks", "1", {"size": "32×24", "turn": "transpose"}))
    assert np.array_equal(mask_of(new["masks/1.png"]), mask)
    way = {"transpose": "transpose", "rot90": "rotate_270"}.get(getattr(turned, "__name__", ""), "rotate_90")
    assert facts(done) == {"size": "32×24", "size_before": "24×32", "turn": way}


def test_a_turn_that_is_known_is_made_as_planned(tmp_path):
    mask = np.random.default_rng(1).integers(0, 2, (32, 24), dtype=np.uint8) * 255
    files = {"images/1.png": encoded(grey(0, 24, 32)), "masks/1.png": encoded(mask)}
    done, new = repaired(tmp_path, files, Step("resize_masks", "1", {"size": "32×24", "turn": "rotate_90"}))
    assert np.array_equal(mask_of(new["masks/1.png"]), np.rot90(mask))
    assert facts(done)["turn"] == "rotate_90"


def test_the_size_wanted_is_that_of_the_image_as_it_is_shown(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {"images/1.jpg": encoded(grey(0, 24, 32), "JPEG", exif=exif), "masks/1.png": encoded(square())}
    done, new = repaired(tmp_path, files, Step("resize_masks", "1", {"size": "?", "turn": "none"}))
    assert mask_of(new["masks/1.png"]).shape == (32, 24)
    assert facts(done)["size"] == "24×32"


def test_a_coloured_mask_that_is_only_resized_stays_coloured(tmp_path):
    files = {"images/1.png": encoded(grey(0, 48, 48)), "masks/1.png": encoded(coloured_mask())}
    _, new = repaired(tmp_path, files, Step("resize_masks", "1", {"size": "48×48", "turn": "none"}))
    with Image.open(io.BytesIO(new["masks/1.png"])) as image:
        assert np.array_equal(np.asarray(image), coloured_mask().repeat(2, 0).repeat(2, 1))


# --- images -------------------------------------------------------------------------------------------------------


def with_alpha(values, alpha=255):
    channel = np.full(values.shape[:2], alpha, dtype=np.uint8)
    channel[0, 0] = 255
    return Image.fromarray(np.dstack([values, channel]))


@pytest.mark.parametrize(
    ("values", "before", "after"), [(colour(), "RGBA", "RGB"), (grey(), "LA", "L")], ids=["coloured", "grey"]
)
def test_an_image_with_alpha_is_saved_without_it_and_looks_the_same(tmp_path, values, before, after):
    files = with_images(encoded(with_alpha(values, 90), "TIFF"), encoded(grey()), ending="tif")
    done, new = repaired(tmp_path, files, Step("drop_alpha", "0", {}), Step("drop_alpha", "1", {}))
    with Image.open(io.BytesIO(new["images/0.png"])) as image:
        assert (image.format, image.mode) == ("PNG", after)
        assert np.array_equal(np.asarray(image), values)
    assert facts(done) == {"alpha": "varies", "mode_before": before, "mode": after}
    assert new["images/1.tif"] == files["images/1.tif"]
    assert new["masks/0.png"] == files["masks/0.png"]


def test_the_orientation_of_an_image_with_alpha_is_applied_once(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = encoded(with_alpha(colour()[:, :20]), exif=exif)
    before = read_image(io.BytesIO(picture), "image", MAX_PIXELS)
    assert before.shape == (3, 20, 24)
    done, new = repaired(tmp_path, with_images(picture), Step("drop_alpha", "0", {}))
    assert np.array_equal(read_image(io.BytesIO(new["images/0.png"]), "image", MAX_PIXELS), before)
    assert facts(done)["alpha"] == "constant"


# --- splits -------------------------------------------------------------------------------------------------------

OFFICIAL = b"stem,split\n1,train\n2,val\n3,test\n"


def test_official_splits_survive_and_a_scan_is_moved(tmp_path):
    step = Step("regroup_splits", "2", {"split": "train", "before": "?"})
    done, files = repaired(tmp_path, dataset() | {"splits.csv": OFFICIAL}, step)
    assert files == dataset() | {"splits.csv": b"stem,split\n1,train\n2,train\n3,test\n"}
    assert facts(done) == {"split": "train", "before": "val"}


def test_a_scan_that_is_moved_where_it_is_stays(tmp_path):
    done, files = repaired(
        tmp_path, dataset() | {"splits.csv": OFFICIAL}, Step("regroup_splits", "2", {"split": "val", "before": "val"})
    )
    assert done == ()
    assert files["splits.csv"] == OFFICIAL


def test_splits_of_folders_become_a_table_and_scans_without_one_train(tmp_path):
    pictures = {f"{part}images/{n}.png": encoded(grey(n)) for n, part in enumerate(["train/", "test/", ""])}
    masks = {name.replace("images", "masks"): encoded(square()) for name in pictures}
    _, files = repaired(tmp_path, pictures | masks)
    assert files["splits.csv"] == b"stem,split\n0,train\n1,test\n2,train\n"
    assert files["images/1.png"] == encoded(grey(1))


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="2 is to be moved to 'best'; splits are train, val and test"):
        repaired(tmp_path, dataset(), Step("regroup_splits", "2", {"split": "best"}))


# --- several steps ------------------------------------------------------------------------------------------------


def test_several_steps_of_one_scan_follow_each_other_in_the_order_given(tmp_path):
    rgb = coloured_mask()
    files = {"images/1.png": encoded(grey(0, 48, 48)), "masks/1.png": encoded(rgb)}
    steps = [
        Step("map_colours", "1", {"colours": COLOURS}),
        Step("binarize_masks", "1", {"threshold": 1}),  # green alone is above 1
        Step("invert_masks", "1", {}),
        Step("resize_masks", "1", {"size": "48×48", "turn": "none"}),
    ]
    done, new = repaired(tmp_path, files, *steps)
    wanted = np.full((SIZE, SIZE), 255, dtype=np.uint8)
    wanted[8:16, 8:16] = 0
    assert np.array_equal(mask_of(new["masks/1.png"]), wanted.repeat(2, 0).repeat(2, 1))
    assert [step.remedy for step in done] == [step.remedy for step in steps]

    steps[1], steps[2] = steps[2], steps[1]  # turned round first, 0 is above 1 and the classes are not
    _, new = repaired(tmp_path, files, *steps)
    other = np.full((SIZE, SIZE), 255, dtype=np.uint8)
    other[2:6, 2:6] = other[8:16, 8:16] = 0
    assert np.array_equal(mask_of(new["masks/1.png"]), other.repeat(2, 0).repeat(2, 1))


def test_image_mask_and_split_of_one_scan_are_changed_together(tmp_path):
    files = dataset() | {"images/2.png": encoded(with_alpha(colour())), "splits.csv": OFFICIAL}
    steps = [
        Step("drop_unusable", "3", {"reason": "scans_blank"}),
        Step("invert_masks", "2", {}),
        Step("drop_alpha", "2", {}),
        Step("regroup_splits", "2", {"split": "test", "before": "val"}),
    ]
    done, new = repaired(tmp_path, files, *steps)
    assert [(step.remedy, step.scan) for step in done] == [(step.remedy, step.scan) for step in steps]
    assert np.array_equal(mask_of(new["masks/2.png"]), 255 - square())
    assert np.array_equal(read_image(io.BytesIO(new["images/2.png"]), "", MAX_PIXELS), colour().transpose(2, 0, 1))
    assert new["splits.csv"] == b"stem,split\n1,train\n2,test\n"


# --- names --------------------------------------------------------------------------------------------------------


def with_folders(*folders, stem="scan"):
    """One scan of the same stem per folder."""
    files = {}
    for seed, folder in enumerate(folders):
        files[f"{folder}/images/{stem}.png"] = encoded(grey(seed))
        files[f"{folder}/masks/{stem}.png"] = encoded(square(seed + 1))
    return files


@pytest.mark.parametrize(
    "files",
    [
        dataset(),
        with_folders("p1", "p2", "p3"),
        with_folders("train", "val", "test"),
        with_folders("左眼", "右眼", stem="扫描 1"),
        with_folders("a/left", "b/left"),
        {"images/1.png": encoded(grey()), "masks/1.png": encoded(square())} | with_folders("a", "b"),
        {f"{n}_image.png": encoded(grey(n)) for n in (1, 2)} | {f"{n}_mask.png": encoded(square()) for n in (1, 2)},
    ],
    ids=["flat", "patients", "splits", "Chinese", "nested", "mixed", "beside"],
)
def test_the_new_zip_holds_the_same_scans_with_their_names_splits_and_files(tmp_path, files):
    _, new = repaired(tmp_path, files)
    with opened(tmp_path / "old.zip") as old_source, opened(tmp_path / "new.zip") as source:
        old, found = scans_of(old_source), scans_of(source)
    assert [(pair.name, pair.split) for pair in found] == [(pair.name, pair.split) for pair in old]
    assert [(new[pair.image], new[pair.mask]) for pair in found] == [
        (files[pair.image], files[pair.mask]) for pair in old
    ]


def test_of_scans_with_one_stem_the_last_one_left_keeps_its_folders_name(tmp_path):
    step = Step("drop_duplicates", "p1/scan", {"same_as": "p2/scan"})
    _, files = repaired(tmp_path, with_folders("p1", "p2"), step)
    assert sorted(files) == ["images/p2_scan.png", "masks/p2_scan.png"]


def test_chinese_names_are_marked_as_utf_8(tmp_path):
    repaired(tmp_path, with_folders("左眼", "右眼"))
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        assert [info.filename for info in archive.infolist()] == [
            *("images/右眼/scan.png", "masks/右眼/scan.png", "images/左眼/scan.png", "masks/左眼/scan.png")
        ]
        assert all(info.flag_bits & 0x800 for info in archive.infolist())


# --- the zip ------------------------------------------------------------------------------------------------------


def test_equal_input_and_steps_give_equal_bytes(tmp_path):
    files = dataset() | {"splits.csv": OFFICIAL, "masks/1.png": encoded(coloured_mask())}
    steps = [Step("map_colours", "1", {"colours": COLOURS}), Step("invert_masks", "3", {})]
    orders = [(files, 1), (dict(reversed(files.items())), -1)]
    digests = set()
    for entries, order in orders:
        with opened(zip_of(tmp_path / "old.zip", entries)) as source:
            write_repaired(source, scans_of(source)[::order], steps[::order], tmp_path / "new.zip", MAX_PIXELS)
        digests.add(hashlib.sha256((tmp_path / "new.zip").read_bytes()).hexdigest())
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert len(digests) == 1


def test_what_is_compressed_already_is_stored_and_the_rest_is_deflated(tmp_path):
    big = np.zeros((1100, 960), dtype=np.uint8)
    files = {
        "images/1.tif": encoded(square(), "TIFF"),
        "masks/1.png": encoded(square()),
        "images/2.jpg": encoded(grey(0, 1100, 960), "JPEG"),
        "masks/2.bmp": encoded(big, "BMP"),  # deflates to a thousandth: an upload like that is refused
    }
    with unpacked(tmp_path / "data", files) as source:
        write_repaired(source, scans_of(source), [], tmp_path / "new.zip", MAX_PIXELS)
    with zipfile.ZipFile(tmp_path / "new.zip") as archive:
        methods = {info.filename: info.compress_type for info in archive.infolist()}
    stored, deflated = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
    assert methods == {
        **{"images/1.tif": deflated, "masks/1.png": stored},
        **{"images/2.jpg": stored, "masks/2.bmp": stored},
    }
    with opened(tmp_path / "new.zip") as source:
        assert len(scans_of(source)) == 2


def test_an_older_file_is_replaced_and_nothing_else_is_left(tmp_path):
    (tmp_path / "new.zip").write_bytes(b"old")
    repaired(tmp_path, dataset())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.zip", "old.zip"]


def test_a_folder_is_repaired_into_a_zip(tmp_path):
    with unpacked(tmp_path / "data", dataset()) as source:
        write_repaired(source, scans_of(source), [Step("invert_masks", "1", {})], tmp_path / "new.zip", MAX_PIXELS)
    with opened(tmp_path / "new.zip") as source:
        assert [pair.name for pair in scans_of(source)] == ["1", "2", "3"]


# --- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        (Step("invert_masks", "7", {}), "invert_masks is planned for '7', but there is no such scan"),
        (Step("drop_unusable", "images/7.png", {"reason": "x"}), "'images/7.png', but there is no such scan"),
        (Step("invert_masks", "notes.txt", {}), "'notes.txt', but there is no such scan"),
        (Step("polish", "1", {}), "'polish' is no remedy of a dataset; there are drop_unusable, "),
        (Step("pos_weight", "1", {}), "'pos_weight' is no remedy of a dataset"),
        (Step("resize_masks", "1", {"size": "24×24", "turn": "over"}), r"resize_masks does not suit masks/1\.png: 'ov"),
    ],
)
def test_a_step_that_cannot_be_carried_out_is_refused_and_leaves_nothing(tmp_path, step, complaint):
    with pytest.raises(ValueError, match=complaint):
        repaired(tmp_path, dataset() | {"notes.txt": b"x"}, step)
    assert [path.name for path in tmp_path.iterdir()] == ["old.zip"]


def test_a_coloured_mask_is_not_binarized_by_guessing(tmp_path):
    with pytest.raises(ValueError, match=r"binarize_masks does not suit masks/0\.png: it has 3 colours; map them"):
        repaired(tmp_path, with_masks(encoded(coloured_mask())), Step("binarize_masks", "0", {"threshold": 127}))


def test_a_file_that_cannot_be_read_leaves_nothing_new_and_the_older_file(tmp_path):
    (tmp_path / "new.zip").write_bytes(b"old")
    with unpacked(tmp_path / "data", dataset()) as source:
        (tmp_path / "data" / "masks" / "3.png").unlink()
        with pytest.raises(UnreadableScan, match=r"masks/3\.png cannot be read"):
            write_repaired(source, scans_of(source), [], tmp_path / "new.zip", MAX_PIXELS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "new.zip"]
    assert (tmp_path / "new.zip").read_bytes() == b"old"


def test_a_mask_that_is_to_be_changed_and_is_no_image_leaves_nothing(tmp_path):
    with pytest.raises(UnreadableScan, match=r"masks/2\.png is not a PNG, JPEG, TIFF"):
        repaired(tmp_path, dataset() | {"masks/2.png": b"text"}, Step("invert_masks", "2", {}))
    assert [path.name for path in tmp_path.iterdir()] == ["old.zip"]


def test_a_mask_with_more_pixels_than_allowed_is_not_decoded(tmp_path):
    with pytest.raises(ScanTooLarge, match=r"masks/1\.png is 24×24, 500 pixels are allowed"):
        repaired(tmp_path, dataset(), Step("invert_masks", "1", {}), max_pixels=500)


def test_values_that_no_png_holds_are_not_cut_off(tmp_path):
    deep = Image.fromarray(square(70_000, np.int32))
    files = {"images/1.png": encoded(grey(0, 48, 48)), "masks/1.tif": encoded(deep, "TIFF")}
    step = Step("resize_masks", "1", {"size": "48×48", "turn": "none"})
    with pytest.raises(UnreadableScan, match="has values from 0 to 70000; a PNG holds 0 to 65,535: binarize it first"):
        repaired(tmp_path, files, step)
    _, new = repaired(tmp_path, files, Step("binarize_masks", "1", {"threshold": 1}), step)
    assert np.array_equal(mask_of(new["masks/1.png"]), square().repeat(2, 0).repeat(2, 1))
