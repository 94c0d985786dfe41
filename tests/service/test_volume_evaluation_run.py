"""The evaluation of models of volumes whose voxels have another size than those of the training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from octa_backend.data.intake import prepare
from octa_backend.data.normalise import to_unit
from octa_backend.data.store import DatasetStore
from octa_backend.errors import ModelDoesNotFit, OctaError
from octa_backend.inference.volume_views import interpolated, whole_view
from octa_backend.service.evaluation_data import EvaluatedZip
from octa_backend.service.evaluation_model import EvaluatedModel
from octa_backend.service.evaluation_run import EvaluationOptions, design_evaluation
from octa_backend.training.class_balance import class_pixels
from octa_backend.training.config import TrainConfig
from octa_backend.training.plan import make_plan
from tests.data.test_volume_intake import LIMITS
from tests.tiny import SLOW_CPU, one_thread
from tests.volume_models import Brightness
from tests.volumes import affine_of, ball, nifti, stack, zip_of

AFFINE = affine_of("LPS", (1, 1, 2))


@pytest.fixture(scope="module", autouse=True)
def _slowly():
    with one_thread():
        yield


def prepared(folder, ending=".nii.gz"):
    """Three bright balls of 2 mm slices, each brighter than the one before."""
    files = {}
    for number in range(3):
        mask = ball(radius=5 + number)
        for kind, values in (("images", mask * np.uint8(200 + number)), ("masks", mask)):
            content = nifti(values, AFFINE) if ending == ".nii.gz" else stack(np.ascontiguousarray(values.T))
            files[f"{kind}/{number}{ending}"] = content
    prepare(zip_of(folder / "scans.zip", files), folder / "data", LIMITS)
    return DatasetStore(folder / "data")


def model_of(store, **card):
    """Foreground is what is brighter than half."""
    config = TrainConfig(model="tiny_unet", normalisation="unit", precision="fp32", target_shape=(16, 16, 16))
    plan = make_plan(config, store.manifest, SLOW_CPU, lambda: class_pixels(store, range(len(store))))
    facts = {
        "spatial_dims": 3,
        "channels": 1,
        "dataset": {"sha256": "f" * 64},
        "splits": {"train": [], "val": [], "test": []},
        **card,
    }
    return EvaluatedModel("bright", facts, plan, (Brightness(),))


def test_scans_are_scored_on_their_own_voxels(tmp_path):
    store = prepared(tmp_path)
    plain, spaced = model_of(store), model_of(store, common_spacing_mm=[1.0, 1.0, 1.0])
    image, spacing = store.image(0), store.manifest.scans[0].spacing_mm
    assert spacing == (2, 1, 1)
    found = spaced.probabilities(image, spacing)
    assert found.shape == (2, *image.shape[1:])
    view = whole_view(image, spacing, (1, 1, 1))
    assert view.image.shape[1] == 2 * image.shape[1]
    seen = torch.sigmoid(40 * (torch.from_numpy(to_unit(view.image)) - 0.5))
    (expected,) = torch.cat(list(interpolated([seen], view.places)), dim=1).numpy()
    np.testing.assert_allclose(found[1], expected, atol=1e-5)
    assert np.abs(found - plain.probabilities(image, spacing)).max() > 1e-3
    data = EvaluatedZip(store, "scans.zip", "e" * 64)
    report = design_evaluation(spaced, data, EvaluationOptions()).run(lambda name: None).report
    assert report.subject.scale.unit == "mm"
    for scan, entry in zip(report.scans, store.manifest.scans, strict=True):
        assert scan.spacing == entry.spacing_mm
        assert 0.8 < scan.metrics.overall.dice <= 1
        voxels = scan.found_fraction * np.prod(entry.shape)
        more = voxels - scan.true_fraction * np.prod(entry.shape)
        assert scan.metrics.overall.volume_error == pytest.approx(more * 2 / 1000)


class Ramp(torch.nn.Module):
    """Logits that grow along every axis, whatever is there."""

    def forward(self, x_BC):
        steps = [torch.linspace(-1, 1, side) for side in x_BC.shape[2:]]
        return sum(torch.meshgrid(*steps, indexing="ij")).expand(len(x_BC), 1, *x_BC.shape[2:])


def test_with_tta_the_eight_flips_of_a_volume_are_averaged(tmp_path):
    store = prepared(tmp_path)
    plain = replace(model_of(store), networks=(Ramp(),))
    image = store.image(0)
    assert np.ptp(plain.probabilities(image)) > 0.5
    np.testing.assert_allclose(replace(plain, tta=True).probabilities(image), 0.5, atol=1e-6)


def test_scans_of_the_models_voxels_are_left_alone(tmp_path):
    store = prepared(tmp_path)
    image, spacing = store.image(1), store.manifest.scans[1].spacing_mm
    same = model_of(store, common_spacing_mm=[2.0, 1.0, 1.0]).probabilities(image, spacing)
    np.testing.assert_array_equal(same, model_of(store).probabilities(image))


def test_volumes_of_other_channels_are_not_evaluated(tmp_path):
    store = prepared(tmp_path)
    of_three = model_of(store, channels=3)
    with pytest.raises(ModelDoesNotFit, match="of 3 channels, but those of the dataset have 1 channel"):
        design_evaluation(of_three, EvaluatedZip(store, "scans.zip", "e" * 64), EvaluationOptions())


def test_stacks_that_do_not_know_their_voxels_are_measured_in_voxels_or_refused(tmp_path):
    store = prepared(tmp_path, ".tif")
    data = EvaluatedZip(store, "scans.zip", "e" * 64)
    run = design_evaluation(model_of(store), data, EvaluationOptions())
    assert (run.total, run.scale.unit, run.scale.voxel_ml) == (3, "px", None)
    assert [scan.spacing for scan in run.run(lambda _: None).report.scans] == [()] * 3
    with pytest.raises(OctaError, match=r"^0 does not say how large its voxels are, .* voxels of 3×1×1 mm"):
        design_evaluation(model_of(store, common_spacing_mm=[3.0, 1.0, 1.0]), data, EvaluationOptions())
