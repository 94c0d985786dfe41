from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from octa_backend.diagnosis.exposure import examine_exposure, faulty_images
from octa_backend.diagnosis.findings import Remedy, Severity
from tests.diagnosis.scans import by_code, drawn, image_with, measured, sound


def with_image(change, number=2, count=6):
    scans = sound(count)
    image, mask = drawn(number)
    scans[number] = measured(f"s{number:02d}", change(image), mask)
    return scans


def codes(scans):
    return {code: [scan.name for scan in those] for code, those in faulty_images(scans).items() if those}


def noise(level, spread):
    return lambda image: np.clip(np.random.default_rng(0).normal(level, spread, image.shape), 0, 255).astype(np.uint8)


def blurred(sigma):
    return lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def brightened(image):
    return np.clip(image * 5.0, 0, 255).astype(np.uint8)


def posterised(image):
    return image // 128 * np.uint8(127)


CHANGES = {
    "black": (np.zeros_like, "scans_blank"),
    "constant": (noise(90, 0), "scans_blank"),
    "a little noise": (noise(90, 1), "scans_blank"),
    "dark": (lambda image: image // 10, "scans_dark"),
    "overexposed": (brightened, "scans_overexposed"),
    "two levels": (posterised, "scans_low_information"),
    "blurred": (blurred(3), "scans_blurred"),
}


def test_sound_scans_have_no_finding():
    assert examine_exposure(sound(6)) == []


@pytest.mark.parametrize(("change", "code"), CHANGES.values(), ids=CHANGES)
def test_a_faulty_image_is_a_warning(change, code):
    found = by_code(examine_exposure(with_image(change)))
    assert (found[code].severity, found[code].scans) == (Severity.WARNING, ("s02",))


def test_only_blank_scans_are_left_out_by_a_remedy():
    assert by_code(examine_exposure(with_image(np.zeros_like)))["scans_blank"].remedy == Remedy("drop_unusable")
    assert by_code(examine_exposure(with_image(blurred(3))))["scans_blurred"].remedy is None


@pytest.mark.parametrize("change", [np.zeros_like, noise(90, 1), lambda image: image // 10, blurred(3)])
def test_a_scan_is_told_once(change):
    assert list(codes(with_image(change)).values()) == [["s02"]]


def test_dark_scans_are_not_told_to_have_few_grey_levels_too():
    assert codes(with_image(lambda image: image // 25)) == {"scans_dark": ["s02"]}


def test_what_was_found_is_told_beside_what_is_usual():
    (found,) = examine_exposure(with_image(lambda image: image // 10))
    assert found.evidence["files"]["s02"].endswith("%")
    assert float(found.evidence["usual"].rstrip("%")) > 5 * float(found.evidence["files"]["s02"].rstrip("%"))


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deeper_images_are_blank_only_where_they_are_constant(dtype):
    scans = [measured(f"{n}", drawn(n)[0].astype(dtype) * dtype(4), drawn(n)[1]) for n in range(3)]
    assert codes(scans) == {}
    flat = measured("flat", np.full((96, 96), 700, dtype), drawn(3)[1])
    assert codes([*scans, flat]) == {"scans_blank": ["flat"]}


@pytest.mark.parametrize(
    ("mean", "high", "is_dark"), [(0.05, 30, True), (0.05, 60, False), (0.2, 30, False), (0.2, 15, True)]
)
def test_dark_is_judged_by_mean_and_highest_values_against_the_others(mean, high, is_dark):
    scans = [image_with(scan, mean=0.3, robust_high=250.0) for scan in sound(6)]
    scans[0] = image_with(scans[0], mean=mean, robust_high=float(high))
    assert ("scans_dark" in codes(scans)) is is_dark


def test_white_backgrounds_are_not_overexposed():
    scans = [image_with(scan, bright_fraction=0.5) for scan in sound(6)]
    assert codes(scans) == {}
    scans = [image_with(scan, bright_fraction=0.21 if at == 0 else 0.02) for at, scan in enumerate(sound(6))]
    assert codes(scans) == {"scans_overexposed": ["s00"]}


@pytest.mark.parametrize(
    ("usual", "sharpness", "is_blurred"),
    [(2.0, 0.019, True), (2.0, 0.021, False), (0.1, 0.0054, True), (0.1, 0.0056, False), (0.0003, 0.0003, True)],
)
def test_blur_is_judged_against_the_others_and_in_itself(usual, sharpness, is_blurred):
    scans = [image_with(scan, sharpness=sharpness if at == 0 else usual) for at, scan in enumerate(sound(6))]
    assert ("s00" in codes(scans).get("scans_blurred", [])) is is_blurred
