from __future__ import annotations

import itertools

import pytest
import torch

from octa_backend.inference.graph import GraphNetwork, multiple_of
from octa_backend.models import registry
from octa_backend.models.regions import answering, class_logits

WHOLE, CORE, ENHANCING = 2, 1, 3
ORDER = (WHOLE, CORE, ENHANCING)


def overwritten(logits):
    """The labels when regions are drawn one over the other, the largest first."""
    found = torch.zeros_like(logits[:, 0], dtype=torch.long)
    for channel, number in enumerate(ORDER):
        found[logits[:, channel] > 0] = number
    return found


@pytest.mark.parametrize("spatial", [(6, 5), (4, 3, 5)])
def test_the_likeliest_class_is_that_of_the_last_region_found(spatial):
    logits = 3 * torch.randn(2, 3, *spatial, generator=torch.Generator().manual_seed(0))
    found = class_logits(logits, ORDER)
    assert found.shape == (2, 4, *spatial)
    assert torch.equal(found.argmax(1), overwritten(logits))


def test_every_combination_of_regions_has_its_label():
    wanted = {(0, 0, 0): 0, (1, 0, 0): WHOLE, (1, 1, 0): CORE, (0, 1, 0): CORE}
    for found in itertools.product((0, 1), repeat=3):
        logits = torch.tensor([5.0 if there else -5.0 for there in found]).reshape(1, 3, 1, 1)
        assert class_logits(logits, ORDER).argmax(1).item() == wanted.get(found, ENHANCING)


def test_logits_add_up_along_the_order():
    # Nested regions: a softmax of 0, 2, 2 + 1 and 2 + 1 - 4.
    found = class_logits(torch.tensor([2.0, 1.0, -4.0]).reshape(1, 3, 1, 1), ORDER).flatten()
    assert found.tolist() == pytest.approx([0.0, 3.0, 2.0, -1.0])
    # The core is found where the whole is not: its logit counts for both.
    found = class_logits(torch.tensor([-1.0, 1.0, -4.0]).reshape(1, 3, 1, 1), ORDER).flatten()
    assert found.tolist() == pytest.approx([0.0, 2.0, 1.0, -2.0])


def test_of_one_region_it_is_the_sigmoid_and_of_classes_nothing_changes():
    logits = torch.randn(1, 1, 4, 4)
    torch.testing.assert_close(class_logits(logits, (1,)).softmax(1)[:, 1:], logits.sigmoid())
    assert class_logits(logits, ()) is logits


def test_a_network_of_regions_answers_with_classes_in_a_graph_as_well():
    torch.manual_seed(0)
    network = registry.build("tiny_unet", 1, registry.out_channels(4, of_regions=True)).eval()
    assert answering(network, ()) is network
    wrapped = answering(network, ORDER)
    assert multiple_of(wrapped) == multiple_of(network)
    scan = torch.rand(1, 1, 32, 32)
    with torch.inference_mode():
        wanted = class_logits(network(scan), ORDER)
        torch.testing.assert_close(wrapped(scan), wanted)
        torch.testing.assert_close(GraphNetwork(wrapped)(scan), wanted)
