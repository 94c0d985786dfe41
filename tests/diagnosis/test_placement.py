from __future__ import annotations

import numpy as np
import pytest

from octa_backend.diagnosis.findings import Severity
from octa_backend.diagnosis.placement import examine_placement, misaligned, unrelated
from tests.diagnosis.scans import by_code, drawn, mask_with, measured, sound


def with_mask(change, number=2, count=6):
    scans = sound(count)
    image, mask = drawn(number)
    scans[number] = measured(f"s{number:02d}", image, change(mask))
    return scans


def test_sound_scans_have_no_finding():
    assert examine_placement(sound(8)) == []


@pytest.mark.parametrize("moved", [(5, 0), (0, -6), (-7, 7)])
def test_a_shifted_mask_is_a_warning_that_tells_how_to_move_it(moved):
    found = by_code(examine_placement(with_mask(lambda mask: np.roll(mask, moved, (0, 1)))))["mask_misaligned"]
    assert (found.severity, found.scans, found.remedy) == (Severity.WARNING, ("s02",), None)
    assert found.evidence["files"] == {"s02": f"{-moved[0]:+d}, {-moved[1]:+d}"}
    assert found.evidence["shifts"] == {"s02": [-moved[0], -moved[1]]}
    assert found.evidence["furthest_pixels"] == round(float(np.hypot(*moved)), 1)


@pytest.mark.parametrize("moved", [(1, 0), (2, -2)])
def test_a_mask_off_by_up_to_3_pixels_is_not_told(moved):
    assert misaligned(with_mask(lambda mask: np.roll(mask, moved, (0, 1)))) == []


@pytest.mark.parametrize(
    ("agreement", "best", "shift", "expected"),
    [
        (7.0, 8.1, (4, 0), True),
        (7.0, 8.0, (4, 0), False),  # gains 14 %
        (2.0, 6.9, (4, 0), False),  # agrees with nothing much
        (-3.0, 9.0, (0, -4), True),
        (7.0, 9.0, (0, 3), False),
    ],
)
def test_misaligned_needs_a_far_shift_a_gain_and_agreement(agreement, best, shift, expected):
    scan = mask_with(sound(1)[0], edge_agreement=agreement, best_agreement=best, shift=shift)
    assert (misaligned([scan]) == [scan]) is expected


def test_the_mask_of_another_scan_is_a_warning():
    found = by_code(examine_placement(with_mask(lambda _: drawn(30)[1])))["mask_unrelated"]
    assert (found.severity, found.scans, found.evidence["total"]) == (Severity.WARNING, ("s02",), 6)
    assert found.evidence["files"]["s02"].startswith("AUC 0.")


def test_masks_that_are_all_exchanged_are_told():
    scans = [measured(f"s{n:02d}", drawn(n)[0], drawn(n + 20)[1]) for n in range(8)]
    assert len(unrelated(scans)) >= 6


def numbered(agreement, auc):
    return [
        mask_with(scan, edge_agreement=value, best_agreement=value + 1, auc=area)
        for scan, value, area in zip(sound(len(auc)), agreement, auc, strict=True)
    ]


@pytest.mark.parametrize(
    ("agreement", "auc", "count"),
    [
        ([20.0] * 5 + [1.0], [0.9] * 5 + [0.6], 1),
        ([20.0] * 5 + [1.0], [0.9] * 5 + [0.9], 0),  # related by intensity
        ([20.0] * 5 + [4.9], [0.9] * 5 + [0.6], 1),  # less than a quarter of the others
        ([20.0] * 5 + [5.1], [0.9] * 5 + [0.6], 0),
        ([1.0] * 6, [0.4] * 6, 0),  # no edges, but the same intensity everywhere
        ([1.0] * 6, [0.52, 0.48, 0.5, 0.51, 0.53, 0.7], 5),
    ],
)
def test_unrelated_is_judged_against_the_other_masks(agreement, auc, count):
    assert len(unrelated(numbered(agreement, auc))) == count


def test_tiny_nearly_empty_and_blank_scans_are_not_judged():
    stranger = numbered([20.0] * 5 + [1.0], [0.9] * 5 + [0.6])
    tiny = measured("tiny", drawn(0, 40)[0], drawn(1, 40)[1])
    empty = mask_with(stranger[-1], foreground_fraction=0.0009)
    blank = measured("blank", np.zeros((96, 96), np.uint8), drawn(1)[1])
    assert unrelated([*stranger[:5], tiny, empty, blank]) == []
