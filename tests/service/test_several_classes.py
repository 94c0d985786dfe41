"""Several classes from end to end: coloured masks in a zip, a repair, a training, an evaluation and a prediction."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

from octa_backend.data.class_table import ClassLabel
from octa_backend.data.store import DatasetStore
from octa_backend.inference import pictures
from octa_backend.service.evaluation_data import EvaluatedZip
from octa_backend.service.evaluation_model import open_model
from octa_backend.service.evaluation_run import EvaluationOptions, design_evaluation
from octa_backend.service.local_dataset import open_dataset
from octa_backend.service.local_training import LocalResult, LocalTraining
from octa_backend.service.predict_service import load_predictor
from octa_backend.service.report_service import read_report
from octa_backend.service.start_service import StartOptions
from octa_backend.settings import Settings
from octa_backend.training.config import TrainConfig
from octa_backend.training.evaluation_html import to_html
from octa_backend.training.events import EpochFinished
from tests.fakes import zip_bytes
from tests.tiny import one_thread, tiny_networks


@pytest.fixture(scope="module", autouse=True)
def _networks():
    with tiny_networks(), one_thread():
        yield


SIDE = 32
RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
NAMES = b"value,name,colour\n1,artery,\n2,vein,#0a84ff\n"


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def coloured_zip(*more: tuple[str, bytes]) -> bytes:
    """Scans whose brightness tells a red, a blue and a green bar from black background; red has the most pixels."""
    rng = np.random.default_rng(5)
    files = dict(more)
    for number in range(8):
        classes = np.zeros((SIDE, SIDE), np.uint8)
        for label, height, column in zip((1, 2, 3), (20, 14, 8), rng.permutation(3), strict=True):
            top = rng.integers(SIDE - height + 1)  # elsewhere in each scan: copies would be dropped
            classes[top : top + height, 11 * column : 11 * column + 10] = label
        noise = rng.integers(0, 8, (SIDE, SIDE))
        files[f"images/s{number}.png"] = png((classes * 60 + 20 + noise).astype(np.uint8))
        files[f"masks/s{number}.png"] = png(np.array([(0, 0, 0), RED, BLUE, GREEN], np.uint8)[classes])
    return zip_bytes(files)


@dataclass(frozen=True)
class Story:
    training: LocalTraining
    result: LocalResult
    epochs: list[EpochFinished]


def play(folder, archive: bytes, **options) -> Story:
    path = folder / "scans.zip"
    path.write_bytes(archive)
    usual = {"model": "small_unet", "epochs": 16, "lr": 0.03, "augmentation": "light", "ema_decay": 0.5}
    config = TrainConfig(**{**usual, "start_checks": False, **options})
    settings = Settings(data_dir=folder / "data", device="cpu")
    training = open_dataset(path, folder / "out", config, settings, StartOptions(repair="auto")).training()
    events = []
    result = training.train(events.append, lambda: False)
    return Story(training, result, [event for event in events if isinstance(event, EpochFinished)])


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    return play(tmp_path_factory.mktemp("story"), coloured_zip(("classes.csv", NAMES)))


def predicted(story):
    image = story.training.run.data.store.image(0)
    predictor = load_predictor(story.result.model, "cpu", "torch")
    return predictor, predictor.predict(image)


def test_colours_become_classes_that_keep_names_and_colours(story):
    manifest = story.training.run.data.store.manifest
    assert (manifest.classes, manifest.mask_values) == (4, (0, 1, 2, 3))
    black, artery, vein, green = manifest.labels
    assert (artery, vein) == (ClassLabel("artery"), ClassLabel("vein", "#0a84ff"))
    assert (black, green) == (ClassLabel("#000000", "#000000"), ClassLabel("#00ff00", "#00ff00"))


def test_each_class_is_learnt_and_scored_in_every_epoch(story):
    assert story.training.run.plan.config.loss == "dice_ce"
    for epoch in story.epochs:
        assert [found["class"] for found in epoch.per_class] == [1, 2, 3]
    last = story.epochs[-1].per_class
    assert all(found["dice"] > 0.8 and found["iou"] > 0.65 for found in last)


def test_evaluation_sums_up_each_class(story):
    store = story.training.run.data.store
    data = EvaluatedZip(store, "scans.zip", story.training.source.sha256)
    model = open_model(story.result.model, "cpu")
    report = design_evaluation(model, data, EvaluationOptions(split="val")).run(lambda _: None).report
    assert len(report.class_summaries) == 3
    best = max(story.epochs, key=lambda epoch: epoch.val_dice)
    for summary, found in zip(report.class_summaries, best.per_class, strict=True):
        assert summary["dice"].mean == pytest.approx(found["dice"], abs=1e-6)


def test_prediction_has_class_indices_and_each_class_its_colour(story):
    predictor, found = predicted(story)
    target = story.training.run.data.store.mask(0)
    assert (found.mask == target).mean() > 0.9
    assert set(np.unique(found.mask)) == {0, 1, 2, 3}
    assert np.array_equal(pictures.mask_picture(found.mask, predictor.classes), found.mask)
    assert predictor.colours == [pictures.COLOURS[0], "#0a84ff", "#00ff00"]
    drawn = pictures.overlay(np.zeros((1, SIDE, SIDE), np.float32), found.mask, 4, predictor.colours)
    assert (drawn[found.mask == 3] == (0, 127, 0)).all()


@pytest.mark.parametrize("ignored", [1, 2])
def test_report_at_the_end_leaves_the_ignored_class_out_as_every_validation_did(tmp_path, ignored):
    story = play(tmp_path, coloured_zip(), ignore_index=ignored, epochs=6)
    best = max(story.epochs, key=lambda epoch: epoch.val_dice)
    assert best.val_dice > 0
    report = read_report(tmp_path / "out")
    assert report["subject"]["split"] == "val"
    assert report["summary"]["dice"]["mean"] == pytest.approx(best.val_dice, abs=1e-6)
    for summary, found in zip(report["class_summaries"], best.per_class, strict=True):
        assert summary["dice"]["mean"] == pytest.approx(found["dice"], abs=1e-6)


def test_ignored_class_is_neither_learnt_nor_answered_and_the_others_keep_their_numbers(tmp_path):
    story = play(tmp_path, coloured_zip(), ignore_index=2, epochs=12)
    assert [found["class"] for found in story.epochs[-1].per_class] == [1, 3]
    predictor, found = predicted(story)
    assert predictor.classes == 4
    assert set(np.unique(found.mask)) <= {0, 1, 3}
    counted = story.training.run.data.store.mask(0) != 2
    assert (found.mask == story.training.run.data.store.mask(0))[counted].mean() > 0.8
    store = DatasetStore(tmp_path / "out" / "dataset")
    run = design_evaluation(open_model(story.result.model, "cpu"), EvaluatedZip(store, "z", ""), EvaluationOptions())
    report = run.run(lambda _: None).report
    assert len(report.class_summaries) == 2
    assert report.subject.ignore_index == 2
    assert "Class (3)" in to_html(report, [])
    assert all(scan.true_fraction > 0 for scan in report.scans)
