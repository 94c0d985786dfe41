"""Networks of torchvision for 2-D scans, from fresh weights: nothing is ever downloaded.

They classify at an eighth of the scan's resolution and interpolate, so vessels of a pixel or two come out blurred.
Their first convolution is replaced where the scans have other than three channels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_resnet50, lraspp_mobilenet_v3_large

from octa_backend.models.base import GroupModules, PaddedNetwork

BATCH_NORM_MOMENTUM = 0.1
"""Share of a step's statistics in the running ones, torch's default. torchvision's MobileNet has 0.01, for runs of
100,000 steps: after a few hundred, what is validated found no vessel at all, though the training loss had fallen."""


def _with_channels(like: Any, in_channels: int) -> Any:
    """The convolution itself, or a fresh one like it, without bias, for another number of input channels."""
    if like.in_channels == in_channels:
        return like
    return nn.Conv2d(in_channels, like.out_channels, like.kernel_size, like.stride, like.padding, bias=False)


class _TorchvisionNetwork(PaddedNetwork):
    """A wrapped network of torchvision, which gives a dictionary of logits."""

    network: Any  # of torchvision; an nn.Module
    multiple = 16

    def levels(self, x: Tensor) -> list[Tensor]:
        """Logits of (B, C, H, W), which torchvision interpolates to H x W."""
        return [self.network(x)["out"]]


class LrasppMobileNetV3(_TorchvisionNetwork):
    """Lite R-ASPP on MobileNetV3-Large: few operations per pixel.

    Source: A. Howard et al., Searching for MobileNetV3, 2019 (arXiv:1905.02244).
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        self.network = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=out_channels)
        stem = self.network.backbone["0"]
        stem[0] = _with_channels(stem[0], in_channels)
        for module in self.network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = BATCH_NORM_MOMENTUM

    def group_modules(self) -> GroupModules:
        """The decoder is the head's own: the pooled branch's convolution, and the two classifiers."""
        levels, head = list(self.network.backbone.values()), self.network.classifier
        return levels[0], levels[-1], head.cbr, nn.ModuleList((head.low_classifier, head.high_classifier))


class DeepLabV3ResNet50(_TorchvisionNetwork):
    """DeepLabV3 on a ResNet-50: context at several dilations; for large structures rather than thin vessels.

    The branch that pools the whole scan gets a GroupNorm in place of its BatchNorm: it has one value per channel and
    scan, so a batch of one has no variance, and one of two is always normalised to plus and minus one.

    Source: L.-C. Chen et al., Rethinking Atrous Convolution, 2017 (arXiv:1706.05587).
    """

    def __init__(self, in_channels: int = 3, out_channels: int = 1) -> None:
        super().__init__()
        self.network = deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=out_channels, aux_loss=False)
        self.network.backbone["conv1"] = _with_channels(self.network.backbone["conv1"], in_channels)
        pooled = self.network.classifier[0].convs[-1]
        pooled[2] = nn.GroupNorm(32, pooled[2].num_features)

    def group_modules(self) -> GroupModules:
        """The decoder is the head: the pyramid of dilations first, the classifier last."""
        backbone, head = self.network.backbone, self.network.classifier
        return backbone["conv1"], backbone["layer4"], head[0], head[-1]
