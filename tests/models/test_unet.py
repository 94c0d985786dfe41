from __future__ import annotations

import pytest
import torch

from octa_backend.models.base import pad_to_multiple
from octa_backend.models.unet import (
    AttentionBlock,
    ChannelAttention,
    SimpleTransformerEncoder,
    UNet,
    UNet_Transformer,
)
from octa_backend.training.events import GRADIENT_GROUPS

GROUPS = ("encoder_conv1", "encoder_last", "decoder_first", "decoder_output")


def parameters(network_class, **options):
    with torch.device("meta"):  # counts without filling 31 million numbers
        return sum(p.numel() for p in network_class(**options).parameters())


def small_transformer(in_channels=1, out_channels=1):
    return UNet_Transformer(in_channels, out_channels, features=(8, 16))


def small_unet(in_channels=1, out_channels=1):
    return UNet(in_channels, out_channels, features=(4, 8, 16))


def test_unet_transformer_has_31_4_million_parameters():
    assert parameters(UNet_Transformer, in_channels=3) == pytest.approx(31.4e6, abs=0.05e6)


def test_unet_has_8_5_million_parameters():
    assert parameters(UNet, in_channels=3) == pytest.approx(8.5e6, abs=0.1e6)


def test_unet_transformer_without_arguments_takes_rgb_and_gives_one_channel():
    with torch.device("meta"):
        network = UNet_Transformer()
    assert network.encoder[0][0].in_channels == 3
    assert network.head.out_channels == 1


@pytest.mark.parametrize("network_class", [UNet, UNet_Transformer])
@torch.inference_mode()
def test_full_networks_give_logits_of_the_scans_size(network_class):
    network = network_class(in_channels=3, out_channels=1).eval()
    assert network(torch.rand(1, 3, 32, 48)).shape == (1, 1, 32, 48)


@pytest.mark.parametrize("make", [small_unet, small_transformer])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 31), (33, 50), (5, 7), (1, 1)])
@torch.inference_mode()
def test_logits_have_the_size_of_the_input_whatever_it_is(make, height, width):
    assert make().eval()(torch.rand(2, 1, height, width)).shape == (2, 1, height, width)


@pytest.mark.parametrize("make", [small_unet, small_transformer])
@pytest.mark.parametrize(("channels", "classes"), [(1, 1), (3, 1), (1, 4), (3, 4)])
@torch.inference_mode()
def test_channels_in_and_classes_out_are_as_asked(make, channels, classes):
    logits = make(channels, classes).eval()(torch.rand(1, channels, 18, 21))
    assert logits.shape == (1, classes, 18, 21)


@pytest.mark.parametrize("make", [small_unet, small_transformer])
@torch.inference_mode()
def test_logits_are_not_squashed(make):
    network = make().eval()
    x = torch.rand(1, 1, 16, 16)
    before = network(x)
    network.head.weight.mul_(1000)
    network.head.bias.mul_(1000).add_(50)
    torch.testing.assert_close(network(x), 1000 * before + 50, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("make", [small_unet, small_transformer])
@torch.inference_mode()
def test_in_evaluation_a_scan_does_not_depend_on_its_batch(make):
    network = make().eval()
    x = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(network(x)[1:2], network(x[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [small_unet, small_transformer])
def test_each_gradient_group_holds_parameters_that_the_gradient_reaches(make):
    network = make()
    network(torch.rand(2, 1, 16, 16)).square().mean().backward()
    groups = network.gradient_groups()
    assert tuple(groups) == GROUPS == GRADIENT_GROUPS
    for group in groups.values():
        assert group
        assert all(p.grad is not None for p in group)
        assert torch.nn.utils.get_total_norm([p.grad for p in group]) > 0


@pytest.mark.parametrize("make", [small_unet, small_transformer])
def test_every_parameter_takes_part_in_the_result(make):
    network = make()
    network(torch.rand(2, 1, 16, 16)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("network_class", "features"), [(UNet, (2, 2, 2, 2, 4)), (UNet_Transformer, (2, 4, 8, 16))])
def test_batch_of_one_scan_of_the_smallest_size_can_be_trained(network_class, features):
    # As many levels as the full networks have: 32 x 32 pixels are the smallest patch of a plan.
    network_class(1, 1, features).train()(torch.rand(1, 1, 32, 32)).mean().backward()


@pytest.mark.parametrize("network_class", [UNet, UNet_Transformer])
def test_gradient_groups_of_the_full_networks_do_not_overlap(network_class):
    with torch.device("meta"):
        groups = network_class().gradient_groups()
    members = [id(p) for group in groups.values() for p in group]
    assert len(members) == len(set(members))


@torch.inference_mode()
def test_padding_repeats_the_border_right_and_below():
    x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])[None, None]
    expected = [[1, 2, 3, 3], [4, 5, 6, 6], [7, 8, 9, 9], [7, 8, 9, 9]]
    assert pad_to_multiple(x, 2)[0, 0].tolist() == expected


@pytest.mark.parametrize(("size", "padded"), [((3, 4), (4, 8)), ((4, 5), (4, 8)), ((3, 4, 2), (4, 4, 8))])
def test_padding_leaves_two_cells_at_the_deepest_level(size, padded):
    assert pad_to_multiple(torch.rand(1, 1, *size), 4).shape[2:] == padded


def test_padding_of_a_volume_repeats_its_last_slice():
    x = torch.rand(1, 2, 3, 4, 4)
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 2, 4, 4, 8)
    assert torch.equal(padded[..., 3, :, :4], x[..., 2, :, :])


def test_padding_leaves_a_fitting_size_alone():
    x = torch.rand(1, 1, 4, 8)
    assert pad_to_multiple(x, 4) is x


@torch.inference_mode()
def test_attention_gate_only_ever_weakens_its_skip():
    gate = AttentionBlock(gate_channels=3, skip_channels=5, inner_channels=2)
    x = torch.randn(2, 5, 6, 4)
    gated = gate(torch.randn(2, 3, 6, 4), x)
    assert gated.shape == x.shape
    assert (gated.abs() <= x.abs()).all()
    assert (gated * x >= 0).all()


@torch.inference_mode()
def test_attention_gate_gives_one_weight_per_pixel():
    gate = AttentionBlock(gate_channels=3, skip_channels=5, inner_channels=2)
    x = torch.rand(2, 5, 6, 4) + 0.1
    weight = gate(torch.randn(2, 3, 6, 4), x) / x
    torch.testing.assert_close(weight, weight[:, :1].expand_as(weight))
    assert weight[:, 0].std() > 0


@torch.inference_mode()
def test_channel_attention_gives_one_weight_in_0_to_1_per_channel():
    x = torch.rand(2, 8, 5, 3) + 0.1
    weight = ChannelAttention(8)(x) / x
    assert weight.shape == (2, 8, 5, 3)
    torch.testing.assert_close(weight, weight[..., :1, :1].expand_as(weight))
    assert weight.min() > 0
    assert weight.max() < 1


@torch.inference_mode()
def test_channel_attention_works_with_fewer_channels_than_its_reduction():
    assert ChannelAttention(2)(torch.rand(1, 2, 3, 3)).shape == (1, 2, 3, 3)


@torch.inference_mode()
def test_transformer_layer_has_no_notion_of_where_a_pixel_is():
    layer = SimpleTransformerEncoder(16, heads=4).eval()
    x = torch.randn(2, 16, 3, 5)
    shuffle = torch.randperm(15)
    shuffled = x.flatten(2)[..., shuffle].unflatten(2, (3, 5))
    expected = layer(x).flatten(2)[..., shuffle].unflatten(2, (3, 5))
    torch.testing.assert_close(layer(shuffled), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_transformer_layer_lets_every_pixel_see_every_other():
    layer = SimpleTransformerEncoder(16, heads=4).eval()
    x = torch.randn(1, 16, 3, 5)
    changed = x.clone()
    changed[0, 0, 0, 0] += 5  # one channel of one pixel: the norm takes away what all its channels share
    assert ((layer(changed) - layer(x)).abs().amax(1) > 1e-4).all()
