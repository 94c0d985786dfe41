from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from octa_backend.data.intake import examine, opened_archive, read_pair
from octa_backend.data.limits import IntakeLimits
from octa_backend.data.repair import write_repaired
from octa_backend.data.scans import decode_mask, read_mask
from octa_backend.diagnosis.remedies import plan_repair
from octa_backend.diagnosis.steps import Step
from octa_backend.errors import UnreadableScan
from tests.data.zips import encoded, grey, zip_of

BLACK, RED, GREEN, WHITE = (0, 0, 0), (255, 0, 0), (0, 255, 0), (255, 255, 255)
VOC = (BLACK, (128, 0, 0), (0, 128, 0), (128, 128, 0))
SIDE = 24
LIMITS = IntakeLimits(max_files=100, max_unpacked_bytes=2**26, max_ratio=1000, max_scan_pixels=SIDE * SIDE)


def classes(*present):
    """Class numbers: background, and a bar of each class that is there; lower numbers have longer ones."""
    drawn = np.zeros((SIDE, SIDE), np.uint8)
    for number in present:
        drawn[4 * number : 4 * number + 4, 2 : 24 // number] = number
    return drawn


def indexed(indices, *palette, **options):
    """A PNG with a palette."""
    image = Image.frombytes("P", indices.shape[::-1], np.ascontiguousarray(indices).tobytes())
    image.putpalette([channel for colour in palette for channel in colour])
    return encoded(image, **options)


def ordered(numbers, *order):
    """Class numbers as a program saves them that puts the colours of classes 0, 1, … in an order of its own."""
    colours = (BLACK, RED, GREEN)
    return indexed(np.array([order.index(n) for n in range(3)], np.uint8)[numbers], *(colours[n] for n in order))


def painted(numbers):
    return encoded(np.array([BLACK, RED, GREEN], np.uint8)[numbers])


def dataset(*masks):
    files = {f"masks/{number}.png": mask for number, mask in enumerate(masks)}
    return files | {f"images/{number}.png": encoded(grey(number)) for number in range(len(masks))}


def examined(folder, *masks):
    with opened_archive(zip_of(folder / "old.zip", dataset(*masks)), LIMITS) as source:
        return examine(source, LIMITS)


def repaired(folder, *masks, steps=None):
    """The masks after their colours were mapped, or after other steps; what is no grey picture as (H, W, 3)."""
    with opened_archive(zip_of(folder / "old.zip", dataset(*masks)), LIMITS) as source:
        found = examine(source, LIMITS)
        steps = plan_repair(found, ["map_colours"]) if steps is None else steps
        write_repaired(source, found.pairs, steps, folder / "new.zip", LIMITS.max_scan_pixels)
    with opened_archive(folder / "new.zip", LIMITS) as source:
        names = sorted(name for name in source.members if name.startswith("masks/"))
        return [np.asarray(Image.open(io.BytesIO(source.read(name, 10**6)))) for name in names]


def decoded(content, **options):
    return decode_mask(io.BytesIO(content), "m.png", SIDE * SIDE, **options)


# --- one file ---------------------------------------------------------------------------------------------------------


def test_a_mask_whose_background_has_another_index_than_0_is_coloured():
    mask = decoded(ordered(classes(1, 2), 2, 1, 0))
    assert mask.values is None
    np.testing.assert_array_equal(mask.rgb, np.array([BLACK, RED, GREEN], np.uint8)[classes(1, 2)])


def test_a_single_mask_of_that_kind_is_refused_and_not_read_as_its_opposite():
    content = indexed(1 - classes(1), RED, BLACK)
    with pytest.raises(UnreadableScan, match=r"mask m\.png has 2 colours"):
        read_mask(io.BytesIO(content), "m.png", SIDE * SIDE)


def test_a_transparent_entry_is_background():
    first = indexed(classes(1, 2), GREEN, RED, BLACK, transparency=0)
    np.testing.assert_array_equal(decoded(first).values, classes(1, 2))
    last = indexed(2 - classes(1, 2), BLACK, RED, GREEN, transparency=b"\xff\xff\x00")
    np.testing.assert_array_equal(decoded(last).values, 2 - classes(1, 2))  # black first: the order is told
    other = decoded(indexed(2 - classes(1, 2), WHITE, RED, GREEN, transparency=b"\xff\xff\x00"))
    np.testing.assert_array_equal(other.rgb, np.array([BLACK, RED, WHITE], np.uint8)[classes(1, 2)])


@pytest.mark.parametrize(
    ("numbers", "palette"),
    [
        (classes(1, 2), VOC),
        (classes(1, 2), (WHITE, RED, GREEN, BLACK)),  # black is there, but not used
        (classes(1, 2), (RED, GREEN, WHITE)),  # no background that is known
        (np.where(classes(2), 255, classes(1)).astype(np.uint8), (GREEN, RED, *[WHITE] * 253, BLACK)),  # void
    ],
    ids=["VOC", "black unused", "no black", "black void"],
)
def test_other_palettes_are_read_by_index(numbers, palette):
    np.testing.assert_array_equal(decoded(indexed(numbers, *palette)).values, numbers)


# --- all files --------------------------------------------------------------------------------------------------------


def test_one_palette_for_all_masks_has_class_numbers_though_some_files_cut_it_off(tmp_path):
    found = examined(
        tmp_path, indexed(classes(1, 2, 3), *VOC), indexed(classes(2), *VOC[:3]), indexed(classes(1), *VOC)
    )
    assert found.mask_values == (0, 1, 2, 3)
    assert not any(pair.mask_by_colour for pair in found.pairs)


def test_entries_that_no_mask_uses_may_differ(tmp_path):
    found = examined(tmp_path, indexed(classes(1), BLACK, RED, WHITE), indexed(classes(1), BLACK, RED, GREEN))
    assert found.mask_values == (0, 1)


@pytest.mark.parametrize(
    "masks",
    [
        (ordered(classes(1, 2), 2, 1, 0), ordered(classes(1), 1, 0, 2), ordered(classes(1, 2), 0, 1, 2)),
        (ordered(classes(1, 2), 0, 1, 2), ordered(classes(2), 0, 2, 1), ordered(classes(1, 2), 0, 2, 1)),
        (ordered(classes(1, 2), 0, 1, 2), painted(classes(1, 2)), ordered(classes(2), 0, 1, 2)),
    ],
    ids=["black last", "black first", "beside colours"],
)
def test_palettes_of_any_order_are_mapped_by_what_they_show(tmp_path, masks):
    found = examined(tmp_path, *masks)
    assert {"masks_coloured"} == {one.code for one in found.errors}
    for content, after in zip(masks, repaired(tmp_path, *masks), strict=True):
        shown = decoded(content, by_colour=True)
        colours = shown.rgb if shown.rgb is not None else np.zeros((SIDE, SIDE, 3), np.uint8)
        expected = np.where(colours[..., 0] > 0, 1, np.where(colours[..., 1] > 0, 2, 0))
        np.testing.assert_array_equal(after, expected)


def test_a_mask_without_background_is_read_like_the_others(tmp_path):
    full = ordered(np.where(classes(1), 1, 2).astype(np.uint8), 2, 1, 0)
    assert decoded(full).values is not None
    found = examined(tmp_path, ordered(classes(1, 2), 2, 1, 0), full, ordered(classes(1, 2), 2, 1, 0))
    assert all(scan.of_mask.colours for scan in found.statistics)


def test_grey_pictures_among_palette_masks_leave_these_alone(tmp_path):
    plain = Image.fromarray(classes(1, 2)).convert("RGB")
    found = examined(tmp_path, indexed(classes(1, 2), *VOC), encoded(plain), indexed(classes(1), *VOC))
    assert found.mask_values == (0, 1, 2)


def test_a_damaged_mask_keeps_no_other_from_being_judged(tmp_path):
    damaged = ordered(classes(1, 2), 2, 1, 0)[:90]
    found = examined(tmp_path, damaged, *[ordered(classes(1, 2), 2, 1, 0)] * 2)
    assert {"masks_coloured", "scan_unreadable"} == {one.code for one in found.errors}


def test_other_repairs_keep_the_colours(tmp_path):
    masks = [ordered(classes(1, 2), 0, 1, 2), ordered(classes(1, 2), 0, 2, 1)]
    step = Step("resize_masks", "1", {"size": f"{SIDE}×{SIDE}", "turn": "rotate_90"})
    _, turned = repaired(tmp_path, *masks, steps=[step])
    np.testing.assert_array_equal(turned, np.rot90(np.array([BLACK, RED, GREEN], np.uint8)[classes(1, 2)]))


def test_previews_show_what_the_colours_show(tmp_path):
    masks = [ordered(classes(1), 1, 0, 2), ordered(classes(1), 1, 0, 2)]
    with opened_archive(zip_of(tmp_path / "old.zip", dataset(*masks)), LIMITS) as source:
        found = examine(source, LIMITS)
        _, shown = read_pair(source, found.pairs[0], LIMITS, found.mask_values)
    np.testing.assert_array_equal(shown, classes(1))
