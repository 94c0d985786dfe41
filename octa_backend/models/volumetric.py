"""The product's own network for volumes: `UNet_Transformer` in three dimensions, with fewer features.

Shapes: B scans, C channels, D x H x W voxels, K output channels (1 for binary, else one per class).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octa_backend.models.base import EncoderDecoder
from octa_backend.models.network_shape import NetworkShape
from octa_backend.models.unet import SimpleTransformerEncoder

FEATURES = (16, 32, 64, 128, 256)
"""Channels of the encoder levels and, last, of the bottleneck: a quarter of the 2-D network's."""

Sides = tuple[int, ...]


def _double_convolution(in_channels: int, out_channels: int, kernel: Sides) -> nn.Sequential:
    """Two convolutions, each with InstanceNorm and ReLU; keeps D x H x W.

    InstanceNorm in place of the 2-D network's BatchNorm: batches of volumes hold one or two.
    """
    padding = tuple(side // 2 for side in kernel)
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers += [
            nn.Conv3d(channels, out_channels, kernel, padding=padding, bias=False),  # type: ignore[arg-type]
            nn.InstanceNorm3d(out_channels, affine=True),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class _Gate(nn.Module):
    """Gate a skip connection with one weight per voxel, computed from the decoder and the skip.

    Source: O. Oktay et al., Attention U-Net, 2018 (arXiv:1804.03999), additive gate.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        inner = max(1, features // 2)
        self.project_gate = nn.Sequential(nn.Conv3d(features, inner, 1, bias=False), nn.InstanceNorm3d(inner))
        self.project_skip = nn.Sequential(nn.Conv3d(features, inner, 1, bias=False), nn.InstanceNorm3d(inner))
        self.weigh = nn.Sequential(nn.Conv3d(inner, 1, 1), nn.Sigmoid())

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """The skip, weighed voxel by voxel; both are (B, features, D, H, W)."""
        gated: Tensor = skip * self.weigh(F.relu(self.project_gate(x) + self.project_skip(skip)))
        return gated


class _GatedUp(nn.Module):
    """One decoder level: upsample, gate the skip, concatenate, double convolution."""

    def __init__(self, deep: int, features: int, kernel: Sides, stride: Sides) -> None:
        super().__init__()
        self.up = nn.ConvTranspose3d(deep, features, stride, stride=stride)  # type: ignore[arg-type]
        self.gate = _Gate(features)
        self.convolve = _double_convolution(2 * features, features, kernel)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """From (B, deep, D, H, W) and a skip (B, features, *spatial), `stride` times as long, to the skip's shape."""
        x = self.up(x)
        convolved: Tensor = self.convolve(torch.cat((self.gate(x, skip), x), dim=1))
        return convolved


class VolumetricUNetTransformer(EncoderDecoder):
    """U-Net with attention-gated skips and a transformer layer in the bottleneck, for volumes; 3.9 M parameters.

    Args:
        in_channels: of the scans.
        out_channels: 1 for binary masks (sigmoid), K for K classes (softmax).
        spatial_dims: 3.
        deep_supervision: in training mode, give logits of the decoder levels too, but for the first.
        shape: kernels, strides and channels of the levels; the last are those of the bottleneck, divisible by 8. None
            halves every axis between the `FEATURES`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        spatial_dims: int = 3,
        deep_supervision: bool = False,
        shape: NetworkShape | None = None,
    ) -> None:
        super().__init__()
        shape = shape or NetworkShape.even(spatial_dims, FEATURES)
        *features, deep = shape.filters
        inputs = (in_channels, *features[:-1])
        self.encoder = nn.ModuleList(map(_double_convolution, inputs, features, shape.kernels[:-1]))
        self.bottleneck = nn.Sequential(
            nn.Conv3d(features[-1], deep, 1), SimpleTransformerEncoder(deep), nn.Conv3d(deep, deep, 1)
        )
        levels = zip(shape.filters[1:], features, shape.kernels, shape.strides[1:], strict=False)
        self.decoder = nn.ModuleList(_GatedUp(*level) for level in reversed(list(levels)))
        self.head = nn.Conv3d(features[0], out_channels, 1)
        supervised: Sequence[int] = features[1:-1] if deep_supervision else ()
        self.auxiliary = nn.ModuleList(nn.Conv3d(count, out_channels, 1) for count in supervised)
        self.deep_supervision = deep_supervision
        self.multiple = shape.multiple
        self._strides = shape.strides[1:]

    def levels(self, x: Tensor) -> list[Tensor]:
        """Logits of (B, in_channels, D, H, W), finest first; sides are multiples of `multiple`."""
        skips = []
        for level, stride in zip(self.encoder, self._strides, strict=True):
            skips.append(self.run(level, x))
            x = F.max_pool3d(skips[-1], stride)
        x = self.run(self.bottleneck, x)
        decoded = []
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = self.run(level, x, skip)
            decoded.append(x)
        return self.classify(decoded)
