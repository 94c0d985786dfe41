from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.data.store import Manifest, ScanEntry
from octa_backend.training.augmentation_options import NONE
from octa_backend.training.evaluation_html import to_html
from octa_backend.training.evaluation_report import ScanResult, make_report, read_scans
from octa_backend.training.scan_metrics import Scale, measure_scan
from octa_backend.training.spacings import median_spacing, scale_of, scale_of_scan
from octa_backend.training.spatial import random_affine
from tests.reports import subject


def manifest(*spacings):
    entries = tuple(ScanEntry(f"s{i}", None, None, (4, 4, 4), "uint8", 0, 0, one) for i, one in enumerate(spacings))
    return Manifest(3, 1, 3, (0, 1, 2), 0.1, entries)


def test_lengths_are_in_mm_where_every_scan_says_how_large_its_voxels_are():
    known = manifest((1.0, 1.0, 1.0), (3.0, 1.0, 2.0), (2.0, 1.0, 1.0))
    scale = scale_of(known)
    assert scale == Scale((2.0, 1.0, 1.0), 2.0, "mm")
    assert scale_of_scan(scale, known.scans[1]) == Scale((3.0, 1.0, 2.0), 2.0, "mm")
    assert median_spacing(manifest((1.0, 1.0, 1.0), ()).scans) == ()
    assert scale_of(manifest((1.0, 1.0, 1.0), ())).unit == "px"


def test_a_size_that_was_given_wins_over_the_scans_own():
    known = manifest((1.0, 1.0, 1.0))
    scale = scale_of(known, (5.0,), 7.0)
    assert scale == Scale((5.0, 5.0, 5.0), 7.0, "µm")
    assert scale_of_scan(scale, known.scans[0]) == scale


def boxes():
    """Two boxes: 8 voxels of class 1 and 4 of class 2; the prediction makes the first one voxel shorter."""
    target = np.zeros((6, 6, 6), np.int64)
    target[1:3, 1:3, 1:3], target[4, 1:3, 1:3] = 1, 2
    predicted = target.copy()
    predicted[1, 1, 1] = 0
    return predicted, target, np.stack([predicted == index for index in range(3)]).astype(np.float32)


def test_volume_errors_are_in_ml_and_regions_are_scored_as_unions():
    predicted, target, probability = boxes()
    scale = Scale((10.0, 10.0, 5.0), 1.0, "mm")  # 0.5 ml a voxel
    found = measure_scan(predicted, target, probability, scale, {"all": (1, 2), "small": (2,)})
    first = found.classes[0]
    assert (first.volume_error, first.absolute_volume_error) == (-0.5, 0.5)
    assert first.relative_volume_error == pytest.approx(1 / 8)
    whole = found.regions["all"]
    assert whole.dice == pytest.approx(2 * 11 / 23)
    assert whole.relative_volume_error == pytest.approx(1 / 12)
    assert found.regions["small"].dice == 1.0


def test_volume_errors_need_a_spacing_and_three_axes():
    predicted, target, probability = boxes()
    in_voxels = measure_scan(predicted, target, probability, Scale((1.0,) * 3, 1.0, "px")).classes[0]
    assert (in_voxels.volume_error, in_voxels.relative_volume_error) == (None, pytest.approx(1 / 8))
    flat = measure_scan(predicted[1], target[1], probability[:, 1], Scale((1.0, 1.0), 1.0, "px")).classes[0]
    assert flat.relative_volume_error is None
    assert "volume_error" not in Scale((1.0, 1.0), 1.0, "px").metrics
    assert "volume_error" not in Scale((1.0,) * 3, 1.0, "px").metrics


def test_volume_errors_are_in_ml_whatever_unit_the_spacing_is_told_in():
    predicted, target, probability = boxes()
    scale = Scale.of(3, (10_000.0, 10_000.0, 5_000.0), None)
    found = measure_scan(predicted, target, probability, scale).classes[0]
    assert (found.volume_error, found.absolute_volume_error) == pytest.approx((-0.5, 0.5))
    assert {"volume_error", "absolute_volume_error"} < set(scale.metrics)
    assert "volume_error" not in Scale.of(2, (10_000.0,), None).metrics


def test_a_region_that_neither_mask_holds_is_not_scored():
    nothing = np.zeros((4, 4, 4), np.int64)
    probability = np.stack([nothing == index for index in range(3)]).astype(np.float32)
    found = measure_scan(nothing, nothing, probability, Scale((1.0,) * 3, 1.0, "mm"), {"all": (1, 2)})
    assert found.regions == {"all": None}


def test_the_report_has_a_table_per_region_and_reads_back_what_it_wrote():
    scale = Scale((1.0, 1.0, 1.0), 1.0, "mm")
    predicted, target, probability = boxes()
    metrics = measure_scan(predicted, target, probability, scale, {"<all>": (1, 2)})
    scan = ScanResult("v1", "test", metrics, 0.1, 0.1, (1.0, 1.0, 1.0))
    report = make_report(subject(classes=3, scale=scale), [scan])
    assert report.region_summaries["<all>"]["dice"].mean == pytest.approx(2 * 11 / 23)
    page = to_html(report, ())
    assert "Region" in page
    assert "&lt;all&gt;" in page
    assert "(ml)" in page
    assert read_scans(report.to_dict()) == [scan]


def test_what_is_turned_keeps_its_form_in_mm():
    options = NONE.model_copy(update={"rotation_probability": 1.0, "rotation_degrees": 90.0})
    generator = torch.Generator().manual_seed(0)
    matrix = random_affine(4, (8, 16, 16), options, generator, (1.0, 2.0, 1.0))[:, :, :3]
    sides = torch.tensor([16.0, 32.0, 8.0])  # mm along x, y, z
    in_mm = matrix * sides[:, None] / sides
    assert torch.allclose(in_mm @ in_mm.transpose(1, 2), torch.eye(3).expand(4, 3, 3), atol=1e-5)
    assert not torch.allclose(matrix @ matrix.transpose(1, 2), torch.eye(3).expand(4, 3, 3), atol=1e-2)


def test_quarter_turns_need_sides_of_equal_length():
    options = NONE.model_copy(update={"turn_probability": 1.0})
    long_rows = random_affine(64, (8, 16, 16), options, torch.Generator().manual_seed(0), (1.0, 2.0, 1.0))
    assert torch.allclose(long_rows[:, 0, 1], torch.zeros(64), atol=1e-5)
    even = random_affine(64, (8, 16, 16), options, torch.Generator().manual_seed(0), (2.0, 1.0, 1.0))
    assert even[:, 0, 1].abs().max() > 0.9


def test_slices_are_mirrored_along_z():
    options = NONE.model_copy(update={"flip_z_probability": 1.0})
    matrix = random_affine(2, (4, 6, 8), options, torch.Generator().manual_seed(0), (3.0, 1.0, 1.0))[:, :, :3]
    assert torch.allclose(matrix, torch.diag(torch.tensor([1.0, 1.0, -1.0])).expand(2, 3, 3), atol=1e-6)
