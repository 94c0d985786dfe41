from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from octa_backend.data.normalise import normalise, to_unit
from octa_backend.errors import IncompatibleCheckpoint, UnknownNetwork
from octa_backend.inference.channels import match_channels
from octa_backend.inference.predictor import Predictor
from octa_backend.inference.torch_engine import TorchEngine, load_network
from octa_backend.training.checkpoint import save_weights
from tests.tiny import Pointwise, SmallUNet, one_thread, tiny_networks


@pytest.fixture(scope="module", autouse=True)
def _networks():
    with tiny_networks(), one_thread():
        yield


def write_model(folder, name, network, channels, classes, **more):
    folder.mkdir(exist_ok=True)
    save_weights(network, folder / "weights.safetensors")
    card = {"network": name, "channels": channels, "classes": classes, **more}
    (folder / "card.json").write_text(json.dumps(card), "utf-8")
    return folder


def opened(folder, precision="fp32"):
    """The model in a folder, computed with plain torch."""
    card = json.loads((folder / "card.json").read_text("utf-8"))
    return Predictor(folder, [TorchEngine(load_network(folder, card), "cpu", precision)])


def pointwise(folder, weights, bias, classes=2, precision="fp32"):
    """A model with one 1x1 convolution: `weights` per class and channel, `bias` per class."""
    network = Pointwise(len(weights[0]), len(weights))
    with torch.no_grad():
        network.mix.weight.copy_(torch.tensor(weights)[..., None, None])
        network.mix.bias.copy_(torch.tensor(bias))
    return opened(write_model(folder, "pointwise", network, len(weights[0]), classes), precision)


def small_unet(folder, channels=1, classes=2, precision="fp32"):
    torch.manual_seed(0)
    network = SmallUNet(channels, 1 if classes == 2 else classes)
    return opened(write_model(folder, "small_unet", network, channels, classes), precision)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def steep(tmp_path):
    """Probability 1/4, 1/2 and 3/4 for the grey levels 0, 0.5 and 1."""
    return pointwise(tmp_path, [[2 * math.log(3)]], [-math.log(3)])


LEVELS = np.array([[[0.0, 0.5, 1.0, 1.0]]], np.float32)


def test_mask_probability_and_confidence_by_hand(steep):
    found = steep.predict(LEVELS)
    assert found.probability[0].tolist() == pytest.approx([0.25, 0.5, 0.75, 0.75])
    assert found.mask.tolist() == [[0, 1, 1, 1]]
    assert found.certainty[0].tolist() == pytest.approx([0.75, 0.5, 0.75, 0.75])
    assert found.confidence == pytest.approx((0.75 + 0.5 + 0.75 + 0.75) / 4)
    assert found.foreground_fraction == 0.75
    assert found.seconds > 0


@pytest.mark.parametrize(("threshold", "expected"), [(0.2, [1, 1, 1, 1]), (0.6, [0, 0, 1, 1]), (0.9, [0, 0, 0, 0])])
def test_threshold_decides_the_mask_but_not_the_probability(steep, threshold, expected):
    found = steep.predict(LEVELS, threshold=threshold)
    assert found.mask.tolist() == [expected]
    assert found.probability[0].tolist() == pytest.approx([0.25, 0.5, 0.75, 0.75])
    assert found.foreground_fraction == sum(expected) / 4


def test_uncertain_are_the_pixels_between_a_quarter_and_three_quarters(tmp_path):
    model = pointwise(tmp_path, [[20.0]], [-10.0])
    assert model.predict(np.array([[[0.0, 0.48, 0.52, 1.0]]], np.float32)).uncertain_fraction == 0.5


def test_of_several_classes_the_likeliest_is_the_mask_and_all_but_background_the_probability(tmp_path):
    logits = np.log([[6.0, 1.0, 1.0], [1.0, 2.0, 5.0]])  # of a black and a white pixel
    model = pointwise(tmp_path, [[float(w)] for w in logits[1] - logits[0]], [float(b) for b in logits[0]], classes=3)
    found = model.predict(np.array([[[0.0, 1.0]]], np.float32), threshold=0.99)
    assert found.mask.tolist() == [[0, 2]]
    assert found.probability[0].tolist() == pytest.approx([2 / 8, 7 / 8], rel=1e-5)
    assert found.confidence == pytest.approx((6 / 8 + 5 / 8) / 2)


@pytest.mark.parametrize("shape", [(1, 32, 32), (1, 17, 45), (1, 1, 1), (1, 50, 33)])
@pytest.mark.parametrize("tta", [False, True])
def test_size_is_kept_and_probabilities_are_probabilities(tmp_path, shape, tta):
    found = small_unet(tmp_path).predict(noise(*shape), tta=tta)
    assert (found.mask.shape, found.mask.dtype) == (shape[1:], np.uint8)
    assert (found.probability.shape, found.probability.dtype) == (shape[1:], np.float32)
    assert found.probability.min() >= 0
    assert found.probability.max() <= 1
    assert 0.5 <= found.confidence <= 1
    assert 0 <= found.uncertain_fraction <= 1
    assert set(np.unique(found.mask)) <= {0, 1}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_scans_of_any_depth_are_taken(steep, dtype):
    image = np.array([[[0, 255]]]).astype(dtype)
    assert steep.predict(image).probability[0].tolist() == pytest.approx([0.25, 0.75])


def test_grey_scan_on_a_colour_model_is_the_grey_in_all_channels(tmp_path):
    model = small_unet(tmp_path, channels=3)
    grey = noise(1, 20, 24)
    np.testing.assert_array_equal(
        model.predict(grey).probability, model.predict(np.repeat(grey, 3, axis=0)).probability
    )


def test_colour_scan_on_a_grey_model_is_its_luma(tmp_path):
    model = pointwise(tmp_path, [[1.0]], [0.0])
    pixels = np.eye(3, dtype=np.float32)[:, None, :]  # one red, one green and one blue pixel
    logits = np.log(found := model.predict(pixels).probability[0]) - np.log(1 - found)
    assert logits.tolist() == pytest.approx([0.299, 0.587, 0.114], abs=1e-5)


def test_channels_that_match_are_left_alone():
    image = np.random.default_rng(0).random((3, 4, 5), np.float32)
    assert match_channels(image, 3) is image
    white = match_channels(np.ones((3, 4, 5), np.float32), 1)
    assert (white.shape, white.dtype) == ((1, 4, 5), np.float32)
    np.testing.assert_allclose(white, 1)


def test_flips_and_turns_change_nothing_for_a_network_that_looks_at_one_pixel(steep):
    image = noise(1, 21, 34)
    np.testing.assert_allclose(
        steep.predict(image, tta=True).probability, steep.predict(image).probability, rtol=1e-5, atol=1e-6
    )


def test_views_are_averaged_over_the_eight_flips_and_turns_turned_back(tmp_path):
    model = small_unet(tmp_path)
    image = noise(1, 32, 48)
    views, back = [], []
    for flipped in (False, True):
        for turns in range(4):
            seen = np.rot90(image[..., ::-1] if flipped else image, turns, (1, 2))
            views.append(model.predict(seen.copy()).probability)
            upright = np.rot90(views[-1], -turns)
            back.append(upright[:, ::-1] if flipped else upright)
    found = model.predict(image, tta=True).probability
    np.testing.assert_allclose(found, np.mean(back, axis=0), rtol=1e-5, atol=1e-6)
    assert not np.allclose(found, views[0], atol=1e-5)


@pytest.mark.parametrize("turn", [lambda a: a[..., ::-1], lambda a: np.rot90(a, 1, (-2, -1))])
def test_scan_that_is_flipped_or_turned_gives_the_flipped_or_turned_answer_with_tta(tmp_path, turn):
    model = small_unet(tmp_path)
    image = noise(1, 32, 48)
    found = model.predict(turn(image).copy(), tta=True).probability
    np.testing.assert_allclose(found, turn(model.predict(image, tta=True).probability), rtol=1e-4, atol=1e-5)


def test_scan_given_as_a_view_is_taken(steep):
    image = noise(1, 8, 8)
    view = image[..., ::-1]
    np.testing.assert_array_equal(steep.predict(view).mask, steep.predict(view.copy()).mask)


def test_scan_is_not_changed(steep):
    image = np.random.default_rng(0).random((1, 8, 8), np.float32)
    before = image.copy()
    steep.predict(image, tta=True)
    np.testing.assert_array_equal(image, before)


def test_bf16_is_near_fp32(tmp_path):
    image = noise(1, 32, 32)
    exact = small_unet(tmp_path).predict(image).probability
    rounded = small_unet(tmp_path, precision="bf16").predict(image).probability
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, exact, atol=0.03)


def test_several_threads_get_the_answers_of_one(tmp_path):
    model = small_unet(tmp_path)
    images = [noise(1, 16, 16, seed=seed) for seed in range(6)]
    alone = [model.predict(image).probability for image in images]
    with ThreadPoolExecutor(3) as pool:
        together = [found.probability for found in pool.map(model.predict, images)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)  # a batch rounds a little otherwise


def test_weights_that_do_not_fit_the_card_are_refused(tmp_path):
    write_model(tmp_path, "small_unet", SmallUNet(3, 1), channels=1, classes=2)
    with pytest.raises(IncompatibleCheckpoint, match="does not fit"):
        opened(tmp_path)


def test_card_with_an_unknown_network_is_refused(tmp_path):
    write_model(tmp_path, "resnet", nn.Linear(1, 1), channels=1, classes=2)
    with pytest.raises(UnknownNetwork, match="resnet"):
        opened(tmp_path)


@pytest.mark.parametrize("how", ["unit", "zscore", "percentile"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_scan_is_normalised_as_the_card_says(tmp_path, how, dtype):
    network = Pointwise(1, 1)
    with torch.no_grad():
        network.mix.weight.fill_(1.0)
        network.mix.bias.zero_()
    folder = write_model(tmp_path, "pointwise", network, 1, 2, normalisation=how)
    image = noise(1, 20, 30).astype(dtype)
    found = opened(folder).predict(image).probability
    expected = 1 / (1 + np.exp(-normalise(to_unit(image), how)[0]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_card_without_normalisation_means_0_to_1(tmp_path):
    model = pointwise(tmp_path, [[1.0]], [0.0])
    image = noise(1, 8, 8)
    expected = 1 / (1 + np.exp(image[0] / -255))
    np.testing.assert_allclose(model.predict(image).probability, expected, atol=1e-6)
