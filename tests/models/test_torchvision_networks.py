from __future__ import annotations

import pytest
import torch
from torch import nn

from octa_backend.models.torchvision_networks import DeepLabV3ResNet50, LrasppMobileNetV3

BOTH = pytest.mark.parametrize("network_class", [LrasppMobileNetV3, DeepLabV3ResNet50])


@BOTH
def test_nothing_is_downloaded(network_class, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a download was tried")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with torch.device("meta"):
        network_class(1, 1)


@BOTH
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_first_convolution_takes_the_channels_of_the_scans_and_keeps_its_shape(network_class, channels):
    with torch.device("meta"):
        found, original = (
            next(m for m in network_class(count, 1).modules() if isinstance(m, nn.Conv2d)) for count in (channels, 3)
        )
    assert found.in_channels == channels
    for name in ("out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias"):
        assert getattr(found, name) == getattr(original, name)


def test_the_pooled_branch_does_not_depend_on_the_batch():
    with torch.device("meta"):
        network = DeepLabV3ResNet50()
    pooled = network.network.classifier[0].convs[-1].to_empty(device="cpu").train()
    for p in pooled.parameters():
        nn.init.normal_(p, generator=torch.Generator().manual_seed(0))
    x = torch.rand(2, 2048, 2, 2)
    torch.testing.assert_close(pooled(x)[:1], pooled(x[:1]), rtol=1e-3, atol=1e-3)


def test_a_few_dozen_steps_suffice_for_the_statistics_that_validation_computes_with():
    torch.manual_seed(0)
    network, scans = LrasppMobileNetV3(1, 1), torch.rand(4, 1, 128, 128)
    with torch.no_grad():
        for _ in range(60):
            trained = network.train()(scans)
        validated = network.eval()(scans)
    # Not the same: each layer sees a little of the layers' first statistics before it. With 0.01 a step it is 0.05.
    assert torch.corrcoef(torch.stack((trained.flatten(), validated.flatten())))[0, 1] > 0.8
