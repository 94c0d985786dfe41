"""Masks against a published model, on the server's datasets and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from octa_backend.cli import app
from octa_backend.errors import ModelDoesNotFit
from octa_backend.inference.label_review import Labelled
from octa_backend.service.diagnosis_service import judge_labels, review_labels
from octa_backend.service.predict_service import load_predictor
from tests.data.zips import encoded, zip_of
from tests.fakes import a_dataset
from tests.published import publish
from tests.tiny import one_thread, tiny_networks, write_store

SCANS, SIDE, BAD = 8, 32, 5
VOID_ROWS = slice(24, None)


@pytest.fixture(scope="module", autouse=True)
def _networks():
    with tiny_networks(), one_thread():
        yield


def scans(void: int):
    """Scans that are bright on the left, where their masks have 1, and all have a void class below.

    The mask of scan `BAD` lacks the upper half of its foreground.
    """
    made = []
    for number in range(SCANS):
        image, mask = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        image[:, : SIDE // 2], mask[:, : SIDE // 2] = 255, 1
        if number == BAD:
            mask[: SIDE // 2] = 0
        mask[VOID_ROWS] = void
        made.append((image, mask))
    return made


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that calls bright pixels foreground and was trained without class 2."""
    folder = tmp_path_factory.mktemp("model")
    store = write_store(folder / "data", [(image[None], mask) for image, mask in scans(2)], (0, 1, 2))
    return publish(folder / "bright", store, "f" * 64, ignore_index=2)


def test_the_class_that_the_model_ignores_does_not_count(model, files, database):
    with database.writing() as session:
        dataset = a_dataset(session)
        write_store(files.dataset(dataset.id), [(image[None], mask) for image, mask in scans(255)], (0, 1, 255))
        labels = review_labels(files, dataset, load_predictor(model, "cpu"))
    worst, *others = labels.reviews
    # 24 of 32 rows count; of 16 pixels in each, the bad mask lacks those of 16 rows
    assert (worst.scan, worst.missed_fraction, worst.extra_fraction) == (f"s{BAD}", pytest.approx(16 / 24), 0)
    assert [one.disagreement for one in others] == [0] * (SCANS - 1)
    (finding,) = labels.findings
    assert (finding.code, finding.scans) == ("labels_suspicious", (f"s{BAD}",))


def test_the_command_line_leaves_the_ignored_class_out_as_well(model, tmp_path):
    archive = zip_of(
        tmp_path / "scans.zip",
        {
            f"{folder}/{number}.png": encoded(pixels)
            for number, pair in enumerate(scans(255))
            for folder, pixels in zip(("images", "masks"), pair, strict=True)
        },
    )
    result = CliRunner().invoke(app, ["diagnose", str(archive), "--model", str(model), "--json"])
    reviews = json.loads(result.stdout)["label_review"]
    assert (reviews[0]["scan"], reviews[0]["missed_fraction"]) == (str(BAD), pytest.approx(16 / 24))
    assert {one["disagreement"] for one in reviews[1:]} == {0}


def test_masks_without_the_ignored_class_are_looked_at_whole(model):
    image, mask = scans(0)[0]
    (found,) = judge_labels(load_predictor(model, "cpu"), [Labelled("a", image[None], mask)], classes=2).reviews
    assert found.missed_fraction == pytest.approx(8 / 32)  # of the bright columns the lower 8 of 32 rows


def test_a_model_that_ignores_a_class_wants_masks_with_its_classes(model):
    with pytest.raises(ModelDoesNotFit, match="have 4 classes with background, but the model has 3, of which class 2"):
        judge_labels(load_predictor(model, "cpu"), [], classes=4)


def test_a_model_that_ignores_nothing_takes_any_classes_as_foreground(tmp_path):
    image, mask = scans(2)[0]
    store = write_store(tmp_path / "data", [(image[None], (mask == 1).astype(np.uint8))] * 2)
    predictor = load_predictor(publish(tmp_path / "bright", store, "f" * 64), "cpu")
    (found,) = judge_labels(predictor, [Labelled("a", image[None], mask)], classes=3).reviews
    assert found.extra_fraction == pytest.approx(8 * 16 / (32 * 16 + 8 * 16))  # the dark part of the void class
