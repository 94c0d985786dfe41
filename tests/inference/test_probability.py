from __future__ import annotations

import math

import pytest
import torch

from octa_backend.inference.probability import class_probabilities, predicted_classes

# One row of pixels with probability 1/4, 1/2 and 3/4.
BINARY = torch.tensor([-math.log(3), 0.0, math.log(3)]).view(1, 1, 1, 3)
# Two pixels: softmax of ln (1, 2, 5) is 1/8, 2/8, 5/8; of ln (6, 1, 1) is 6/8, 1/8, 1/8.
CLASSES = torch.tensor([[1.0, 6.0], [2.0, 1.0], [5.0, 1.0]]).log().view(1, 3, 1, 2)


def test_one_channel_is_a_sigmoid():
    background, foreground = class_probabilities(BINARY)[0]
    assert foreground[0].tolist() == pytest.approx([0.25, 0.5, 0.75])
    assert background[0].tolist() == pytest.approx([0.75, 0.5, 0.25])


def test_several_channels_are_a_softmax():
    assert class_probabilities(CLASSES)[0, 0, 0].tolist() == pytest.approx([1 / 8, 6 / 8])
    assert class_probabilities(CLASSES)[0, :, 0].sum(0).tolist() == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("threshold", "expected"), [(0.5, [0, 1, 1]), (0.6, [0, 0, 1]), (0.1, [1, 1, 1]), (0.9, [0, 0, 0])]
)
def test_pixel_is_foreground_from_the_threshold_on(threshold, expected):
    found = predicted_classes(BINARY, threshold)
    assert found.dtype == torch.int64
    assert found.tolist() == [[expected]]


def test_of_several_classes_the_likeliest_wins():
    assert predicted_classes(CLASSES).tolist() == [[[2, 0]]]
    assert torch.equal(predicted_classes(CLASSES, threshold=0.99), predicted_classes(CLASSES))


@pytest.mark.parametrize("channels", [1, 3])
def test_volumes_keep_their_shape(channels):
    logits = torch.randn(2, channels, 3, 4, 5)
    assert class_probabilities(logits).shape == (2, max(2, channels), 3, 4, 5)
    assert predicted_classes(logits).shape == (2, 3, 4, 5)
