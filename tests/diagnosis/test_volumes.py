from collections import Counter

import numpy as np
import pytest

from octa_backend.data.volume_measuring import measure_image, measure_mask
from octa_backend.data.volume_statistics import VolumeStatistics
from octa_backend.diagnosis.messages import MESSAGES, describe
from octa_backend.diagnosis.messages_volumes import VOLUME_MESSAGES
from octa_backend.diagnosis.volumes import VOLUME_CHECKS, examine_volumes
from tests.volumes import case


def volume(name, image=None, mask=None, spacing=(1.0, 1.0, 1.0), split=None, patient=None):
    drawn_image, drawn_mask = case(sum(name.encode()))
    image = drawn_image if image is None else image
    mask = drawn_mask if mask is None else mask
    of_image = measure_image(image.T[None], spacing)
    of_mask = measure_mask(np.ascontiguousarray(mask.T), of_image.content)
    return VolumeStatistics(name, f"{name}.nii", f"{name}_seg.nii", patient, split, of_image, of_mask)


def found(*volumes, values=(0, 1)):
    return {finding.code: finding for finding in examine_volumes(volumes, values)}


SOUND = [volume(name) for name in "abcd"]


def test_sound_volumes_have_no_finding():
    assert found(*SOUND) == {}


def test_intensities_of_wild_scale_are_told_with_their_ratio():
    wild = found(*SOUND, volume("w", 1e4 * case()[0]))["intensities_wild"]
    assert "w (" in wild.evidence["example"] or "w" in wild.scans
    assert float(wild.evidence["ratio"].replace(",", "")) == pytest.approx(1e4, rel=0.05)


def test_voxels_of_another_size_are_outliers():
    odd = found(*SOUND, volume("w", spacing=(3.0, 1.0, 1.0)))["spacing_outliers"]
    assert odd.scans == ("w",)
    assert (odd.remedy.code, odd.evidence["usual"]) == ("resample_spacing", "1×1×1")
    assert "spacing_outliers" not in found(*SOUND, volume("w", spacing=(1.2, 1.0, 1.0)))


def test_a_field_of_view_that_ends_within_a_structure_is_told_with_its_end():
    image, mask = case()
    image[:10] = 0
    assert found(*SOUND, volume("w", image, mask))["volume_field_cut"].evidence["example"] == "w (first columns)"


def test_constant_volumes_and_planes_are_told():
    image, mask = case()
    image[8] = 0
    assert found(*SOUND, volume("w", image, mask))["volume_planes_constant"].evidence["example"] == "w (1 columns)"
    assert found(*SOUND, volume("w", np.full_like(image, 3), mask))["volume_constant"].scans == ("w",)


def test_a_class_in_few_cases_is_rare():
    mask = case()[1]
    mask[10, 9, 8] = 2
    assert "class_rare" in found(*SOUND, volume("w", mask=mask), values=(0, 1, 2))


def test_equal_voxels_and_patients_across_splits_are_leakage():
    image, mask = case(5)
    twice = [volume("a", image, mask, split="train", patient="1"), volume("b", image, mask, split="val", patient="1")]
    assert set(found(*twice)) == {"duplicates_across_splits", "patient_across_splits"}


def test_equal_voxels_among_which_validation_cases_are_drawn_are_a_warning():
    image, mask = case(5)
    twice = found(*SOUND, volume("w", image, mask), volume("x", image, mask))
    assert {code: one.severity.value for code, one in twice.items()} == {"duplicates_before_split": "warning"}


def test_every_finding_about_volumes_belongs_to_one_check_and_can_be_said():
    codes = Counter(code for check in VOLUME_CHECKS for code in check.codes)
    assert set(codes.values()) == {1}
    assert set(VOLUME_MESSAGES) <= set(codes) <= set(MESSAGES)
    image = case()[0]
    for finding in found(*SOUND, volume("w", 1e4 * image, spacing=(9.0, 1.0, 1.0))).values():
        assert describe(finding, "en")["message"] != describe(finding, "zh")["message"]
