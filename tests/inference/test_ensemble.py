from __future__ import annotations

import math

import numpy as np
import pytest

from octa_backend.errors import ModelsDiffer
from octa_backend.inference.ensemble import Together
from tests.inference.test_predictor import noise, opened, pointwise, write_model
from tests.tiny import Pointwise, one_thread, tiny_networks


@pytest.fixture(scope="module", autouse=True)
def _networks():
    with tiny_networks(), one_thread():
        yield


def model(folder, channels, classes=2, **card):
    network = Pointwise(channels, 1 if classes == 2 else classes)
    return opened(write_model(folder, "pointwise", network, channels, classes, **card))


def test_models_of_other_channels_and_normalisation_answer_with_the_mean(tmp_path):
    grey = pointwise(tmp_path / "a", [[2 * math.log(3)]], [-math.log(3)])
    colour = model(tmp_path / "b", 3, normalisation="zscore")
    image = noise(1, 5, 7)
    found = Together({"a": grey, "b": colour}).probabilities(image)
    expected = (grey.probabilities(image) + colour.probabilities(image)) / 2
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.allclose(found, grey.probabilities(image), atol=1e-3)


def test_one_model_alone_answers_as_it_does(tmp_path):
    one = model(tmp_path / "a", 1, mask_values=[0, 255])
    alone = Together({"a": one})
    np.testing.assert_array_equal(alone.probabilities(noise(1, 5, 7)), one.probabilities(noise(1, 5, 7)))
    assert (alone.classes, alone.ignore_index, alone.engine, alone.mask_values) == (2, None, "torch fp32", (0, 255))


def test_models_of_different_classes_cannot_answer_together(tmp_path):
    labels = [[{"name": name} for name in names] for names in (("bg", "artery", "vein"), ("bg", "vein", "artery"))]
    two = model(tmp_path / "two", 1)
    three = [model(tmp_path / str(n), 1, 3, labels=one) for n, one in enumerate(labels)]
    unnamed, ignoring = model(tmp_path / "u", 1, 3), model(tmp_path / "i", 1, 2, ignore_index=1)
    with pytest.raises(ModelsDiffer, match=r"two: 2 classes; three: 3 classes \(bg, artery, vein\)"):
        Together({"two": two, "three": three[0]})
    with pytest.raises(ModelsDiffer, match=r"\(bg, artery, vein\); b: 3 classes \(bg, vein, artery\)"):
        Together({"a": three[0], "b": three[1]})
    with pytest.raises(ModelsDiffer, match="of which class 1 is ignored"):
        Together({"a": unnamed, "b": ignoring})
    assert Together({"a": three[0], "b": unnamed}).classes == 3
