"""Regions learned from end to end: a training on pictures and one on volumes, their cards, scores and predictions."""

from __future__ import annotations

import numpy as np
import pytest

from octa_backend.inference.model_folder import read_card
from octa_backend.inference.volume_predictor import open_volume_predictor
from octa_backend.service import experiment
from octa_backend.service.evaluation_data import EvaluatedZip
from octa_backend.service.evaluation_model import open_model
from octa_backend.service.evaluation_run import EvaluationOptions, design_evaluation
from octa_backend.service.predict_service import load_predictor
from tests.fakes import zip_bytes
from tests.service.test_several_classes import coloured_zip, play
from tests.tiny import SLOW_CPU, one_thread, tiny_networks
from tests.volumes import ball, nifti

NESTED = {"all": [1, 2, 3], "two": [2, 3], "core": [3]}


@pytest.fixture(scope="module", autouse=True)
def _networks():
    with tiny_networks(), one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "probe", lambda device: SLOW_CPU)
        yield


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return play(tmp_path_factory.mktemp("story"), coloured_zip(), target="regions", regions=NESTED)


def test_pictures_learn_regions_and_are_scored_by_class_and_by_region(story):
    plan = story.training.run.plan
    assert (plan.config.loss, plan.config.pos_weight) == ("dice_bce", None)
    assert (plan.out_channels, plan.region_order) == (3, (1, 2, 3))
    assert [set(epoch.loss_components) for epoch in story.epochs] == [{"bce", "dice"}] * len(story.epochs)
    assert all(found["dice"] > 0.6 for found in story.epochs[-1].per_class)
    data = EvaluatedZip(story.training.run.data.store, "scans.zip", story.training.source.sha256)
    model = open_model(story.result.model, "cpu")
    report = design_evaluation(model, data, EvaluationOptions(split="val")).run(lambda _: None).report
    best = max(story.epochs, key=lambda epoch: epoch.val_dice)
    for summary, found in zip(report.class_summaries, best.per_class, strict=True):
        assert summary["dice"].mean == pytest.approx(found["dice"], abs=1e-4)
    assert set(report.region_summaries) == set(NESTED)


def test_the_published_model_answers_with_classes(story):
    card = read_card(story.result.model)
    assert (card["classes"], card["region_order"]) == (4, [1, 2, 3])
    predictor = load_predictor(story.result.model, "cpu", "torch")
    image, target = story.training.run.data.store.image(0), story.training.run.data.store.mask(0)
    assert (predictor.predict(image).mask == target).mean() > 0.9
    shares = predictor.probabilities(image)
    assert shares.shape == (4, *target.shape)
    np.testing.assert_allclose(shares.sum(0).numpy(), 1, atol=1e-5)


def test_volumes_learn_regions_in_one_epoch_and_predict(tmp_path):
    files = {}
    for number in range(3):
        mask = 2 * ball(radius=6.5)
        mask[ball(radius=5.0) > 0], mask[ball(radius=3.0) > 0] = 1, 4
        noise = np.random.default_rng(number).random(mask.shape)
        files[f"imagesTr/c{number}.nii.gz"] = nifti((10 + 40 * mask + 10 * noise).astype(np.float32))
        files[f"labelsTr/c{number}.nii.gz"] = nifti(mask)
    options = {"model": "tiny_unet", "epochs": 1, "target": "regions", "regions": "brats"}
    story = play(tmp_path, zip_bytes(files), **options)
    assert story.training.run.plan.region_order == (2, 1, 3)
    assert read_card(story.result.model)["region_order"] == [2, 1, 3]
    image = story.training.run.data.store.image(0)
    found = open_volume_predictor(story.result.model, "cpu", "torch").probabilities(image)
    assert found.shape == (4, *image.shape[1:])
