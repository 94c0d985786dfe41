"""`WNet`: two small U-Nets in a row, for laptops; under 100 000 parameters in 2-D.

Source: A. Galdran et al., State-of-the-art retinal vessel segmentation with minimalistic models, Scientific
Reports 12, 2022 (arXiv:2009.01907): three scales of 8, 16 and 32 channels, residual blocks, a convolution on each
skip, and a second U-Net that sees the scan beside the first one's logits.

Shapes: B scans, C channels, *spatial: H x W pixels or D x H x W voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from octa_backend.models.base import GroupModules, PaddedNetwork

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_UPSAMPLING = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_POOLING = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def _convolution(dims: int, in_channels: int, out_channels: int) -> nn.Sequential:
    """A convolution of side 3 with BatchNorm and ReLU; keeps the size."""
    return nn.Sequential(
        _CONVOLUTION[dims](in_channels, out_channels, 3, padding=1, bias=False),
        _NORM[dims](out_channels),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """Two convolutions beside a 1x1 shortcut; keeps the size."""

    def __init__(self, dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolve = nn.Sequential(
            _convolution(dims, in_channels, out_channels), _convolution(dims, out_channels, out_channels)
        )
        self.shortcut = nn.Sequential(
            _CONVOLUTION[dims](in_channels, out_channels, 1, bias=False), _NORM[dims](out_channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, *spatial) to (B, out_channels, *spatial)."""
        added: Tensor = self.convolve(x) + self.shortcut(x)
        return added


class _Up(nn.Module):
    """One decoder level: double the size, concatenate the convolved skip, residual block."""

    def __init__(self, dims: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = _UPSAMPLING[dims](in_channels, out_channels, 2, stride=2)
        self.bridge = _convolution(dims, out_channels, out_channels)
        self.convolve = _Residual(dims, 2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """From (B, in_channels, *spatial) and a skip (B, out_channels, twice each side) to the skip's shape."""
        convolved: Tensor = self.convolve(torch.cat((self.up(x), self.bridge(skip)), dim=1))
        return convolved


class _MiniUNet(nn.Module):
    """One of the two U-Nets: sides are multiples of 2 ** (len(features) - 1)."""

    def __init__(self, dims: int, in_channels: int, out_channels: int, features: Sequence[int]) -> None:
        super().__init__()
        inputs = (in_channels, *features[:-1])
        self.encoder = nn.ModuleList(_Residual(dims, i, f) for i, f in zip(inputs, features, strict=True))
        self.pool = _POOLING[dims](2)
        pairs = list(zip(features[1:], features[:-1], strict=True))[::-1]
        self.decoder = nn.ModuleList(_Up(dims, deep, skip) for deep, skip in pairs)
        self.head = _CONVOLUTION[dims](features[0], out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, out_channels, *spatial) of (B, in_channels, *spatial)."""
        skips: list[Tensor] = []
        for depth, level in enumerate(self.encoder):
            x = level(x if depth == 0 else self.pool(x))
            skips.append(x)
        x = skips.pop()
        for level in self.decoder:
            x = level(x, skips.pop())
        logits: Tensor = self.head(x)
        return logits


class WNet(PaddedNetwork):
    """Two small U-Nets; the second corrects the first, whose logits it sees beside the scan.

    Args:
        in_channels: of the scans.
        out_channels: 1 for binary masks, K for K classes.
        spatial_dims: 2 or 3.
        features: channels of each U-Net's levels.
        deep_supervision: in training mode, give the second U-Net's logits and then the first's. (The paper's own
            training does so, with equal weights.)
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        spatial_dims: int = 2,
        features: Sequence[int] = (8, 16, 32),
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        self.first = _MiniUNet(spatial_dims, in_channels, out_channels, features)
        self.second = _MiniUNet(spatial_dims, in_channels + out_channels, out_channels, features)
        self.deep_supervision = deep_supervision
        self.multiple = 2 ** (len(features) - 1)

    def levels(self, x: Tensor) -> list[Tensor]:
        """The second U-Net's logits, and the first's where deep supervision asks for them."""
        first = self.first(x)
        second = self.second(torch.cat((x, first), dim=1))
        return [second, first] if self.gives_levels else [second]

    def group_modules(self) -> GroupModules:
        """The first U-Net's encoder and the second one's decoder: the ends of the whole chain."""
        return self.first.encoder[0], self.first.encoder[-1], self.second.decoder[0], self.second.head
