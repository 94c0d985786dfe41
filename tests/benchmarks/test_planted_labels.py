from __future__ import annotations

import numpy as np
import pytest
from planted_files import FILE_FAULTS
from planted_labels import MIXES, SPECK, exchanged, half_erased, mislabelled, specks, widened
from planting import Scan
from reviewed_labels import SIDE, reduced

from octa_backend.data.intake import examine, opened_archive
from octa_backend.data.scans import MaskPixels
from octa_backend.data.synthetic import make_scan
from tests.data.zips import LIMITS

RNG = np.random.default_rng


def scan(number: int = 0, size: int = 64) -> Scan:
    made = make_scan(size, RNG([9, number]))
    return Scan(f"s{number}", made.image[None], MaskPixels(made.mask.astype(np.uint8) * np.uint8(255)))


SCANS = [scan(number) for number in range(6)]


@pytest.mark.parametrize("errors", MIXES, ids=lambda errors: errors[0].label)
@pytest.mark.parametrize("seed", range(5))
def test_each_kind_of_label_error_is_in_other_scans_and_changes_their_masks_alone(errors, seed):
    copy = mislabelled(SCANS, errors, seed)
    named = [name for names in copy.wrong.values() for name in names]
    assert [len(names) for names in copy.wrong.values()] == [error.scans for error in errors]
    assert len(set(named)) == len(named)
    for before, after in zip(SCANS, copy.scans, strict=True):
        assert after.image is before.image
        assert (after.inside != before.inside).any() == (before.name in named)
        assert set(np.unique(after.values)) <= {0, 255}


def test_exchanged_masks_are_those_of_the_other_scan():
    first, second = exchanged(SCANS[:2], "", RNG(0))
    assert (first.inside == SCANS[1].inside).all()
    assert (second.inside == SCANS[0].inside).all()


def test_half_of_a_mask_is_erased_and_the_other_half_stays():
    changed = half_erased(SCANS[0], "left", RNG(0)).inside
    assert not changed[:, :32].any()
    assert (changed[:, 32:] == SCANS[0].inside[:, 32:]).all()


def test_specks_are_all_that_is_left():
    changed = specks(SCANS[0], 3, RNG(0)).inside
    assert SPECK**2 <= changed.sum() <= 3 * SPECK**2


def test_what_is_drawn_too_wide_covers_what_was_there():
    changed = widened(SCANS[0], 2, RNG(0)).inside
    assert changed[SCANS[0].inside].all()
    assert changed.sum() > SCANS[0].inside.sum()


def test_a_reduced_scan_is_the_middle_square():
    image = np.zeros((3, 224, 448), np.uint8)
    image[:, :, 112:224] = 200
    mask = np.zeros((224, 448), np.uint8)
    mask[:, 112:224] = 255
    found = reduced(Scan("wide", image, MaskPixels(mask)))
    assert (found.image.shape, found.inside.shape) == ((3, SIDE, SIDE), (SIDE, SIDE))
    assert (found.image[:, :, : SIDE // 2] == 200).all()
    assert (found.inside == (found.image[0] == 200)).all()


@pytest.mark.parametrize("fault", [one for one in FILE_FAULTS if one.explained_by], ids=lambda fault: fault.label)
@pytest.mark.parametrize("size", [64, 96])
def test_masks_of_another_size_are_noticed_and_explained(fault, size, tmp_path):
    expected = fault.write(tmp_path / "scans.zip", [scan(number, size) for number in range(4)], RNG(1))
    with opened_archive(tmp_path / "scans.zip", LIMITS) as source:
        findings = examine(source, LIMITS).findings
    (found,) = fault.found_in(findings)
    assert set(found.scans) == expected
