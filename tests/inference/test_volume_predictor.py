from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from octa_backend.data.normalise import to_unit
from octa_backend.errors import ScanDoesNotFit
from octa_backend.inference.predictor import Predictor
from octa_backend.inference.tiling import logit_slabs, predict_logits
from octa_backend.inference.volume_overlays import PLANES, plane_overlays
from octa_backend.inference.volume_predictor import open_volume_predictor, predict_volume
from tests.tiny import one_thread
from tests.volume_models import by_brightness, publish_volumes


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Random weights."""
    with one_thread():
        yield open_volume_predictor(publish_volumes(tmp_path_factory.mktemp("m") / "a"), "cpu", "torch")


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("shape", [(40, 20, 33), (16, 30, 16), (17, 8, 40), (90, 16, 16)])
def test_slabs_are_what_tiles_of_the_whole_give(shape):
    torch.manual_seed(0)
    network, x = torch.nn.Conv3d(1, 3, 3, padding=1), torch.rand(1, 1, *shape)
    with torch.inference_mode():
        slabs = list(logit_slabs(network, x, (16, 16, 16)))
        torch.testing.assert_close(torch.cat(slabs, dim=2), predict_logits(network, x, (16, 16, 16)))
    assert all(slab.shape[2] <= 16 for slab in slabs)


def test_tiles_give_the_whole(tmp_path):
    image = noise(1, 40, 20, 33)
    tiled, whole = by_brightness(tmp_path / "a"), by_brightness(tmp_path / "b", patch_shape=[64, 64, 64])
    found, expected = (predict_volume([one], image, 0.5, with_probability=True) for one in (tiled, whole))
    np.testing.assert_array_equal(found.mask, expected.mask)
    np.testing.assert_array_equal(found.mask, to_unit(image)[0] >= 0.5)
    assert np.abs(found.probability.astype(int) - expected.probability).max() <= 1
    assert found.confidence == pytest.approx(expected.confidence, abs=1e-5)


def test_a_volume_smaller_than_the_patch_is_computed(model):
    assert predict_volume([model], noise(1, 2, 17, 5), 0.5).mask.shape == (2, 17, 5)


def test_flips_are_averaged_and_change_nothing_for_a_network_without_a_direction(model, tmp_path):
    image = noise(1, 20, 18, 16)
    plain = by_brightness(tmp_path / "a")
    torch.testing.assert_close(plain.probabilities(image, tta=True), plain.probabilities(image))
    turned = model.probabilities(image[:, ::-1, :, ::-1].copy(), tta=True)
    torch.testing.assert_close(turned.flip(1, 3), model.probabilities(image, tta=True), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(model.probabilities(image), model.probabilities(image, tta=True))


def test_several_models_answer_with_their_mean(model, tmp_path):
    image = noise(1, 36, 18, 16)
    other = by_brightness(tmp_path / "a", patch_shape=[32, 32, 32])
    mean = (model.probabilities(image) + other.probabilities(image)) / 2
    found = predict_volume([model, other], image, 0.5)
    np.testing.assert_array_equal(found.mask, (1 - mean[0] >= 0.5).numpy())
    assert found.confidence == pytest.approx(float(mean.max(0).values.mean()), abs=1e-5)


def test_an_ignored_class_is_never_answered(tmp_path):
    model = by_brightness(tmp_path / "a", classes=3, ignore_index=1)
    assert set(np.unique(predict_volume([model], noise(1, 16, 16, 16), 0.5).mask)) == {0, 2, 3}


def test_a_model_of_pictures_is_refused(tmp_path):
    by_brightness(tmp_path / "a")
    with pytest.raises(ScanDoesNotFit, match="trained on pictures"):
        predict_volume([Predictor(tmp_path / "a", [])], noise(1, 16, 16, 16), 0.5)


def test_memory_does_not_grow_with_the_probabilities_of_a_deep_volume(tmp_path):
    """What torch holds is counted by the largest tensors that pass through `decide`; numpy's by tracemalloc."""
    classes, depth = 6, 640
    model = by_brightness(tmp_path / "a", classes=classes)
    image = noise(1, depth, 24, 24)
    slabs = [slab.shape for slab in model.slabs(image)]
    assert max(shape[1] for shape in slabs) <= 16
    assert sum(shape[1] for shape in slabs) == depth
    tracemalloc.start()
    predict_volume([model], image, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The image in 0..1, its normalised copy, and one in between; all probabilities would be six times the image.
    assert peak < 4 * 4 * image.size + 2**20


def test_overlays_show_the_middle_of_the_mask_and_the_projection():
    image, mask = noise(1, 20, 30, 40), np.zeros((20, 30, 40), np.uint8)
    mask[5, 6:9, 7:12] = 1
    drawn = plane_overlays(image, mask, (2.0, 1.0, 1.0), 2, ["#ff0000"])
    assert [one.plane for one in drawn] == list(PLANES)
    assert [one.index for one in drawn] == [5, 7, 9]
    assert [one.slice.shape for one in drawn] == [(30, 40, 3), (40, 40, 3), (40, 30, 3)]
    red = drawn[0].slice[..., 0].astype(int) - drawn[0].slice[..., 1]
    # Rows rise upwards: row 6 of the volume is row 23 of 30 in the picture.
    assert (red > 100).sum() == 15
    assert (red[21:24, 7:12] > 100).all()
    assert ((drawn[1].projection[..., 0].astype(int) - drawn[1].projection[..., 1]) > 100).sum() == 2 * 5
