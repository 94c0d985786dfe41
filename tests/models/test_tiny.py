from __future__ import annotations

import pytest
import torch

from octa_backend.models.tiny import WNet
from tests.tiny import one_thread


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 1), (3, 9)])
def test_the_tiny_network_has_under_100_000_parameters(channels, classes):
    with torch.device("meta"):
        assert sum(p.numel() for p in WNet(channels, classes).parameters()) < 100_000


@torch.inference_mode()
def test_the_second_u_net_sees_the_scan_beside_the_logits_of_the_first():
    torch.manual_seed(0)
    network = WNet(2, 3).eval()
    x = torch.rand(1, 2, 16, 20)
    expected = network.second(torch.cat((x, network.first(x)), dim=1))
    torch.testing.assert_close(network(x), expected)


def test_the_gradient_groups_are_the_ends_of_the_whole_chain():
    network = WNet(1, 1)
    groups = network.gradient_groups()
    assert groups["encoder_conv1"][0] is next(network.first.parameters())
    assert groups["decoder_output"][-1] is network.second.head.bias
