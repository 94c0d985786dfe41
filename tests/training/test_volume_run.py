"""A whole training on volumes: start checks, steps, signals, validation, pictures, going on, and short memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from octa_backend.data.splits import assign_splits
from octa_backend.data.store import DatasetStore, StoreWriter
from octa_backend.models import registry
from octa_backend.service.experiment import Experiment
from octa_backend.service.tensorboard_sink import _picture
from octa_backend.training import start_checks as checking
from octa_backend.training.augmentation_sheet import augmentation_sheet
from octa_backend.training.batches import TrainingData
from octa_backend.training.evaluation import whole_logits
from octa_backend.training.events import GRADIENT_GROUPS
from octa_backend.training.network import build_network
from octa_backend.training.start_checks import start_checks
from tests.tiny import a_plan, training_data
from tests.training.runs import Stopper, epochs, findings, numbers, steps, train

SPACING = (2.0, 1.0, 1.0)
MASK_VALUES = (0, 1, 2, 4)


def volume(number: int):
    """A ball with a core and a bright cap, in noise: float32 (1, D, H, W), and its mask of the values 0, 1, 2 and 4."""
    random = np.random.default_rng([3, number])
    z, y, x = np.indices((12, 24, 20)) - np.array([6, 12, 10]).reshape(3, 1, 1, 1)
    distance = np.sqrt((2 * z) ** 2 + y**2 + x**2)
    mask = np.zeros(distance.shape, np.uint16)
    mask[distance < 9], mask[distance < 6], mask[(distance < 6) & (y > 0)] = 2, 1, 4
    image = mask / 5 + random.normal(0, 0.05, mask.shape)
    return image.clip(0, 1).astype(np.float32)[None], mask


pytestmark = pytest.mark.usefixtures("tiny_registry")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> TrainingData:
    """Four volumes of three classes to train on, one to validate."""
    folder = tmp_path_factory.mktemp("volumes")
    with StoreWriter(folder) as writer:
        for number in range(5):
            writer.add(f"v{number}", None, None, *volume(number), spacing_mm=SPACING)
        writer.finish(MASK_VALUES)
    return training_data(DatasetStore(folder))


VOLUMES = {"model": "tiny_unet", "lr": 0.01, "regions": "brats", "augmentation": "strong"}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, data):
    return *train(tmp_path_factory.mktemp("run"), data, **VOLUMES), a_plan(data, **VOLUMES)


def test_a_store_keeps_volumes_with_their_spacing(data):
    assert data.store.manifest.spatial_dims == 3
    assert data.store.manifest.scans[0].spacing_mm == SPACING
    assert data.store.image(0).shape == (1, 12, 24, 20)
    assert data.store.mask(0).max() == 3


def test_two_epochs_on_volumes_are_told_like_any_others(whole_run):
    events, outcome, plan = whole_run
    assert outcome.finished
    assert plan.patch_shape == (12, 24, 20)
    assert len(steps(events)) == 4
    for epoch in epochs(events):
        assert tuple(epoch.gradient_norms) == GRADIENT_GROUPS
        assert all(norm > 0 for norm in epoch.gradient_norms.values())
        assert [found["class"] for found in epoch.per_class] == [1, 2, 3]
        assert epoch.signals["layer_ratios"]
        assert epoch.signals["true_foreground"] > 0
    assert epochs(events)[1].train_loss < epochs(events)[0].train_loss


def test_start_checks_try_a_volume(data, monkeypatch):
    monkeypatch.setattr(checking, "OVERFIT_STEPS", 3)
    plan = a_plan(data, **{**VOLUMES, "epochs": 2, "batch_size": 2})
    found = start_checks(build_network(plan), data, plan, lambda: False, seconds_limit=60)
    assert found.initial_loss == pytest.approx(found.expected_initial_loss, rel=0.5)
    assert found.overfit_steps == 3
    assert 0 <= found.overfit_dice <= 1
    assert found.lr_found is None or found.lr_found > 0


@pytest.mark.parametrize("stop_after", [1, 3])
def test_a_run_on_volumes_that_was_stopped_goes_on_as_if_it_never_had(tmp_path, data, whole_run, stop_after):
    stopper = Stopper(lambda event: len(steps(stopper.events)) >= stop_after)
    _, stopped = train(tmp_path, data, emit=stopper.emit, should_stop=stopper.should_stop, **VOLUMES)
    assert not stopped.finished
    events, outcome = train(tmp_path, data, **VOLUMES)
    assert outcome.best == whole_run[1].best
    assert numbers(epochs(events)[-1]) == numbers(epochs(whole_run[0])[-1])


def test_a_volume_network_that_memory_does_not_hold_computes_half_of_the_batch(tmp_path, data, monkeypatch):
    entry = registry.NETWORKS["hungry"]
    volumetric = type(entry)(entry.module, entry.class_name, entry.summary, parameters=1, parameters_3d=1)
    monkeypatch.setattr(registry, "NETWORKS", {**registry.NETWORKS, "hungry": volumetric})
    events, outcome = train(tmp_path, data, model="hungry", batch_size=4, epochs=1)
    assert outcome.finished
    (halved,) = findings(events)
    assert (halved.code, halved.evidence["halved"]) == ("out_of_memory", 2)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "options", [{"deep_supervision": True}, {"activation_checkpointing": "on"}, {"patch_growth": "on"}]
)
def test_unet3d_trains_on_volumes_and_is_laid_out_after_their_voxels(tmp_path, data, options):
    plan = a_plan(data, model="unet3d", **options)
    assert plan.network_shape.kernels[0] == (1, 3, 3)
    assert plan.network_shape.strides[1] == (1, 2, 2)
    events, outcome = train(tmp_path, data, model="unet3d", epochs=1, **options)
    assert outcome.finished
    assert all(norm > 0 for norm in epochs(events)[0].gradient_norms.values())


def test_pictures_of_volumes_are_drawn(data):
    plan = a_plan(data, **VOLUMES)
    assert augmentation_sheet(data, plan, count=2).shape[2] == 3
    run = Experiment(plan, data, assign_splits(data.store.manifest.scans, 0.2, 0))
    picture = _picture(run, build_network(plan).eval(), 4)
    assert picture.dtype == np.uint8
    assert picture.shape[2] == 3


def test_validation_of_volumes_larger_than_a_sample_is_put_together_from_tiles(data):
    plan = a_plan(data, model="tiny_unet", target_shape=(8, 16, 16))
    assert plan.patch_shape == (8, 16, 16)
    seen = []

    class Watching(torch.nn.Module):
        def forward(self, x):
            seen.append(tuple(x.shape[2:]))
            return x.repeat(1, plan.out_channels, 1, 1, 1)

    logits, mask = whole_logits(Watching(), data, plan, 4)
    assert set(seen) == {(8, 16, 16)}
    assert logits.shape == (1, 4, 12, 24, 20)
    assert mask.shape == (1, 12, 24, 20)
