"""The product's own 2-D networks: `UNet_Transformer` (default) and `UNet` (small datasets).

Shapes: B scans, C channels, H x W pixels, K output channels (1 for binary, else one per class), N = H*W tokens.
Both take any H x W, padded inside to a multiple of 16.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from octa_backend.models.base import EncoderDecoder


def _double_convolution(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions, each with BatchNorm and ReLU; keeps H x W."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class AttentionBlock(nn.Module):
    """Gate a skip connection with one weight per pixel, computed from the decoder and the skip.

    Source: O. Oktay et al., Attention U-Net, 2018 (arXiv:1804.03999), additive gate.
    """

    def __init__(self, gate_channels: int, skip_channels: int, inner_channels: int) -> None:
        super().__init__()
        self.project_gate = nn.Sequential(
            nn.Conv2d(gate_channels, inner_channels, 1, bias=False), nn.BatchNorm2d(inner_channels)
        )
        self.project_skip = nn.Sequential(
            nn.Conv2d(skip_channels, inner_channels, 1, bias=False), nn.BatchNorm2d(inner_channels)
        )
        self.weigh = nn.Sequential(nn.Conv2d(inner_channels, 1, 1), nn.Sigmoid())

    def forward(self, g: Tensor, x: Tensor) -> Tensor:
        """Return `x` (B, skip_channels, H, W) times a weight in 0..1 per pixel; `g` is (B, gate_channels, H, W)."""
        weight_B1HW: Tensor = self.weigh(F.relu(self.project_gate(g) + self.project_skip(x)))
        return x * weight_B1HW


class ChannelAttention(nn.Module):
    """Weigh each channel by a bottleneck MLP on its mean and its maximum.

    Source: S. Woo et al., CBAM, 2018 (arXiv:1807.06521), channel part.
    """

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (B, C, H, W) times a weight in 0..1 per channel."""
        weight_BC11 = torch.sigmoid(self.mlp(x.mean((-2, -1), keepdim=True)) + self.mlp(x.amax((-2, -1), keepdim=True)))
        return x * weight_BC11


class SimpleTransformerEncoder(nn.Module):
    """One pre-norm transformer layer over all pixels of a feature map: self-attention, then an MLP, both residual.

    It carries no position code, so it takes any H x W; the convolutions around it know where they are.
    Memory of the attention grows with (H*W)^2 only where no fused kernel exists.

    Source: R. Xiong et al., On Layer Normalization in the Transformer Architecture, 2020 (pre-norm).
    """

    def __init__(self, channels: int, heads: int = 8, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, mlp_ratio * channels), nn.GELU(), nn.Linear(mlp_ratio * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Mix the pixels of `x` (B, C, H, W), or the voxels of (B, C, D, H, W); the shape stays."""
        tokens_BNC = x.flatten(2).transpose(1, 2)
        normed = self.norm_attention(tokens_BNC)
        tokens_BNC = tokens_BNC + self.attention(normed, normed, normed, need_weights=False)[0]
        tokens_BNC = tokens_BNC + self.mlp(self.norm_mlp(tokens_BNC))
        mixed: Tensor = tokens_BNC.transpose(1, 2).unflatten(2, x.shape[2:])
        return mixed


def _auxiliary_heads(channels: Sequence[int], out_channels: int) -> nn.ModuleList:
    """1x1 convolutions that make logits of decoder levels with these channels."""
    return nn.ModuleList(nn.Conv2d(count, out_channels, 1) for count in channels)


class _GatedUp(nn.Module):
    """One decoder level of `UNet_Transformer`: upsample, gate the skip, concatenate, double convolution."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(2 * features, features, 2, stride=2)
        self.gate = AttentionBlock(features, features, features // 2)
        self.convolve = _double_convolution(2 * features, features)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """From (B, 2 * features, H, W) and a skip (B, features, 2H, 2W) to (B, features, 2H, 2W)."""
        x = self.up(x)
        convolved: Tensor = self.convolve(torch.cat((self.gate(x, skip), x), dim=1))
        return convolved


class UNet_Transformer(EncoderDecoder):  # noqa: N801 - the name is the product's contract
    """U-Net with attention-gated skips and a transformer layer in the bottleneck; 31.4 M parameters by default.

    Args:
        in_channels: 1 (grey) or 3 (RGB), or any other count.
        out_channels: 1 for binary masks (sigmoid), K for K classes (softmax).
        features: channels of the encoder levels; H and W are halved after each of them.
        deep_supervision: in training mode, give logits of the decoder levels too, but for the first.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        features: Sequence[int] = (64, 128, 256, 512),
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        inputs = (in_channels, *features[:-1])
        self.encoder = nn.ModuleList(_double_convolution(i, f) for i, f in zip(inputs, features, strict=True))
        deep = 2 * features[-1]
        self.bottleneck = nn.Sequential(
            nn.Conv2d(features[-1], deep, 1), SimpleTransformerEncoder(deep), nn.Conv2d(deep, deep, 1)
        )
        self.decoder = nn.ModuleList(_GatedUp(f) for f in reversed(features))
        self.head = nn.Conv2d(features[0], out_channels, 1)
        self.auxiliary = _auxiliary_heads(features[1:-1] if deep_supervision else (), out_channels)
        self.deep_supervision = deep_supervision
        self.multiple = 2 ** len(features)

    def levels(self, x: Tensor) -> list[Tensor]:
        """Logits of (B, in_channels, H, W), finest first; H and W are multiples of `multiple`."""
        skips = []
        for level in self.encoder:
            skips.append(self.run(level, x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.run(self.bottleneck, x)
        decoded = []
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = self.run(level, x, skip)
            decoded.append(x)
        return self.classify(decoded)


class _ResidualConvolution(nn.Module):
    """Double 3x3 convolution with a 1x1 shortcut around it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.convolve = _double_convolution(in_channels, out_channels)[:-1]
        self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """From (B, in_channels, H, W) to (B, out_channels, H, W), nowhere below zero."""
        return F.relu(self.convolve(x) + self.shortcut(x))


class UNet(EncoderDecoder):
    """Residual U-Net with channel attention on its skips and bilinear upsampling; about 8.5 M parameters.

    The network for small datasets: fewer parameters and no transformer to feed. Arguments as in `UNet_Transformer`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        features: Sequence[int] = (32, 64, 128, 256, 512),
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        inputs = (in_channels, *features[:-1])
        self.encoder = nn.ModuleList(_ResidualConvolution(i, f) for i, f in zip(inputs, features, strict=True))
        self.attend = nn.ModuleList(ChannelAttention(f) for f in features)
        pairs = list(zip(features[1:], features[:-1], strict=True))[::-1]
        self.decoder = nn.ModuleList(_ResidualConvolution(deep + skip, skip) for deep, skip in pairs)
        self.head = nn.Conv2d(features[0], out_channels, 1)
        self.auxiliary = _auxiliary_heads(features[1:-2] if deep_supervision else (), out_channels)
        self.deep_supervision = deep_supervision
        self.multiple = 2 ** (len(features) - 1)

    def levels(self, x: Tensor) -> list[Tensor]:
        """Logits of (B, in_channels, H, W), finest first; H and W are multiples of `multiple`."""
        skips: list[Tensor] = []
        for depth, (level, attend) in enumerate(zip(self.encoder, self.attend, strict=True)):
            x = self.run(level, x if depth == 0 else F.max_pool2d(x, 2))
            skips.append(attend(x))
        x = skips.pop()
        decoded = []
        for level in self.decoder:
            skip = skips.pop()
            x = F.interpolate(x, size=skip.shape[-2:], mode="bilinear", align_corners=False)
            x = self.run(level, torch.cat((skip, x), dim=1))
            decoded.append(x)
        return self.classify(decoded)
