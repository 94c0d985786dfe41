"""Networks of MONAI, in 2-D and 3-D. Importing this module imports MONAI, which takes seconds.

Shapes: B scans, C channels, K output channels, *spatial: H x W pixels or D x H x W voxels.
Arguments of each class: `in_channels`; `out_channels`, 1 for binary masks or K for K classes; `spatial_dims`, 2 or 3;
and what sets its size, with what the registry builds as default.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from octa_backend.models.base import EncoderDecoder, GroupModules, PaddedNetwork
from octa_backend.models.network_shape import NetworkShape

with warnings.catch_warnings():  # what MONAI calls is for MONAI to keep up to date
    warnings.simplefilter("ignore", DeprecationWarning)
    warnings.simplefilter("ignore", FutureWarning)
    from monai.networks.nets import AttentionUnet as _AttentionUnet
    from monai.networks.nets import DynUNet as _DynUNet
    from monai.networks.nets import SegResNet as _SegResNet
    from monai.networks.nets import SwinUNETR as _SwinUNETR
    from monai.networks.nets import UNet as _UNet

FILTERS = {2: (32, 64, 128, 256, 512), 3: (32, 64, 128, 256, 320)}
"""nnU-Net's channels of five levels, by the number of spatial axes."""


class _MonaiNetwork(PaddedNetwork):
    """A wrapped network of MONAI."""

    network: Any  # of MONAI; an nn.Module

    def levels(self, x: Tensor) -> list[Tensor]:
        """Logits of (B, C, *spatial), of its size."""
        return [self.network(x)]


class MonaiUNet(_MonaiNetwork):
    """Residual U-Net with strided convolutions; its finest features are at half the scan's resolution.

    BatchNorm, not MONAI's default InstanceNorm: the last level normalises what becomes the logits, and per scan that
    would take away how much foreground a scan has.

    Source: E. Kerfoot et al., Left-Ventricle Quantification Using Residual U-Net, STACOM 2018.
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        spatial_dims: int = 2,
        channels: Sequence[int] = (16, 32, 64, 128, 256),
    ) -> None:
        super().__init__()
        strides = (2,) * (len(channels) - 1)
        self.network = _UNet(spatial_dims, in_channels, out_channels, channels, strides, num_res_units=2, norm="batch")
        self.multiple = 2 ** len(strides)

    def group_modules(self) -> GroupModules:
        """Each level is a sequence: down, a skip around the next level, up."""
        outer = inner = self.network.model
        while isinstance(inner[1].submodule, nn.Sequential):
            inner = inner[1].submodule
        return outer[0], inner[1].submodule, inner[2], outer[2]


class AttentionUnet(_MonaiNetwork):
    """U-Net with attention gates on its skips.

    Source: O. Oktay et al., Attention U-Net, 2018 (arXiv:1804.03999).
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        spatial_dims: int = 2,
        channels: Sequence[int] = (32, 64, 128, 256, 512),
    ) -> None:
        super().__init__()
        strides = (2,) * (len(channels) - 1)
        self.network = _AttentionUnet(spatial_dims, in_channels, out_channels, channels, strides)
        self.multiple = 2 ** len(strides)

    def group_modules(self) -> GroupModules:
        """Each level holds gate, upsampling, merging, and the sequence of its encoder level and the next level."""
        first, level, output = self.network.model
        while isinstance(level.submodule, nn.Sequential):
            level = level.submodule[1]
        return first, level.submodule, nn.ModuleList((level.attention, level.upconv, level.merge)), output


class DynUNet(EncoderDecoder):
    """nnU-Net's network, with residual blocks or without: InstanceNorm, leaky ReLU, strided convolutions.

    MONAI's own forward is not used: it holds each weight under two names, keeps tensors of the last step in the
    module, and stacks the levels.

    Args:
        in_channels: of the scans.
        out_channels: 1 for binary masks, K for K classes.
        spatial_dims: 2 or 3.
        deep_supervision: in training mode, give logits of the decoder levels too, but for the first.
        residual: whether the encoder's levels are residual blocks.
        shape: kernels, strides and channels of the levels, at least 3; None is five levels of nnU-Net's 32 channels
            doubled per level, in 3-D at most 320, of which each halves every axis.

    Source: F. Isensee et al., nnU-Net, Nature Methods 18, 2021 (arXiv:1809.10486).
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        spatial_dims: int = 2,
        deep_supervision: bool = False,
        residual: bool = True,
        shape: NetworkShape | None = None,
    ) -> None:
        super().__init__()
        shape = shape or NetworkShape.even(spatial_dims, FILTERS[spatial_dims])
        supervised = len(shape.filters) - 3
        source = _DynUNet(
            spatial_dims,
            in_channels,
            out_channels,
            kernel_size=shape.kernels,
            strides=shape.strides,
            upsample_kernel_size=shape.strides[1:],
            filters=shape.filters,
            res_block=residual,
            deep_supervision=deep_supervision and supervised > 0,
            deep_supr_num=max(1, supervised),
        )
        self.encoder = nn.ModuleList((source.input_block, *source.downsamples, source.bottleneck))
        self.decoder = source.upsamples
        self.head = source.output_block
        self.auxiliary = source.deep_supervision_heads if deep_supervision and supervised > 0 else nn.ModuleList()
        self.deep_supervision = deep_supervision
        self.multiple = shape.multiple

    def levels(self, x: Tensor) -> list[Tensor]:
        """Logits of (B, C, *spatial), finest first; sides are multiples of `multiple`."""
        skips: list[Tensor] = []
        for level in self.encoder:
            x = self.run(level, x)
            skips.append(x)
        x = skips.pop()
        decoded = []
        for level in self.decoder:
            x = self.run(level, x, skips.pop())
            decoded.append(x)
        return self.classify(decoded)


class SegResNet(_MonaiNetwork):
    """Residual encoder-decoder with GroupNorm, so that small batches cost nothing.

    Source: A. Myronenko, 3D MRI brain tumor segmentation using autoencoder regularization, 2018 (arXiv:1810.11654);
    without the autoencoder.
    """

    def __init__(
        self, in_channels: int = 3, out_channels: int = 1, spatial_dims: int = 2, init_filters: int = 32
    ) -> None:
        super().__init__()
        self.network = _SegResNet(spatial_dims, init_filters, in_channels, out_channels)
        self.multiple = 2 ** (len(self.network.down_layers) - 1)

    def group_modules(self) -> GroupModules:
        """The first decoder level is its upsampling and its residual blocks."""
        net = self.network
        return net.convInit, net.down_layers[-1], nn.ModuleList((net.up_samples[0], net.up_layers[0])), net.conv_final


class SwinUNETR(_MonaiNetwork):
    """U-Net on a Swin transformer: attention in windows of 7 that shift from layer to layer.

    Source: A. Hatamizadeh et al., Swin UNETR, 2022 (arXiv:2201.01266).
    """

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        spatial_dims: int = 2,
        feature_size: int = 24,
        depths: Sequence[int] = (2, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.network = _SwinUNETR(
            in_channels, out_channels, feature_size=feature_size, depths=depths, spatial_dims=spatial_dims
        )
        self.multiple = 32

    def group_modules(self) -> GroupModules:
        """The encoder is the transformer: the embedding of its patches first, its fourth stage last."""
        net = self.network
        return net.swinViT.patch_embed, net.swinViT.layers4, net.decoder5, net.out
