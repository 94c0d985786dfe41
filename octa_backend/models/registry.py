"""The networks by name. API, CLI, configs and checkpoints name a network by a key of `NETWORKS`.

Names are known without importing torch; a network's module is imported when it is built.

What every network keeps to, which `SegmentationNetwork` puts into types:

- It maps scans (B, C, *spatial) of any size to logits (B, K, *spatial) of the same size; *spatial is (H, W) or
  (D, H, W). It pads inside to what it needs and crops back.
- A batch of one scan can be trained.
- `gradient_groups()` gives four groups of parameters, none of them empty, none sharing a parameter.
- Every weight stands once in its `state_dict()`.
- A network that `follows_voxels` takes its kernels, strides and channels from a `NetworkShape`, which is kept with its
  weights: they fit a network of the same shape only.
- Deep supervision (`build(..., deep_supervision=True)`): in training mode the network returns a *list* of logits, all
  of the input's size, finest first. The loss is the sum over the list of each one's loss times its weight from
  `supervision_weights`. In evaluation mode the network returns the finest alone, as a tensor. Weights trained so also
  load into the same network built without.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from octa_backend.errors import InvalidConfig, UnknownNetwork
from octa_backend.models.network_shape import NetworkShape

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """Where a network's class is, and what to say of it.

    Attributes:
        module: imported when the network is built.
        class_name: in that module.
        summary: for the documents.
        parameters: of the 2-D form with three input channels and one output channel; None: not counted.
        parameters_3d: the same in 3-D; None: the network has no 3-D form.
        deep_supervision: whether it can be built with deep supervision.
        volumetric: module and class of the 3-D form, where that is a class of its own.
        follows_voxels: whether its 3-D form takes a `NetworkShape`.
        residual: whether it can be built without residual blocks as well as with them.
        recomputes: whether it can compute activations twice to save memory, see `base.EncoderDecoder`.
    """

    module: str
    class_name: str
    summary: str
    parameters: int | None = None
    parameters_3d: int | None = None
    deep_supervision: bool = False
    volumetric: tuple[str, str] | None = None
    follows_voxels: bool = False
    residual: bool = False
    recomputes: bool = False

    @property
    def dimensions(self) -> tuple[int, ...]:
        """Of what number of axes it takes scans; one that was not counted is for 2-D."""
        flat = (2,) if self.parameters is not None or self.parameters_3d is None else ()
        return flat + ((3,) if self.parameters_3d is not None else ())


_UNET = "octa_backend.models.unet"
_TINY = "octa_backend.models.tiny"
_MONAI = "octa_backend.models.monai_networks"
_TORCHVISION = "octa_backend.models.torchvision_networks"

NETWORKS: Mapping[str, NetworkEntry] = {
    "unet_transformer": NetworkEntry(
        _UNET,
        "UNet_Transformer",
        "gated skips, transformer bottleneck",
        31_399_461,
        3_902_477,
        deep_supervision=True,
        volumetric=("octa_backend.models.volumetric", "VolumetricUNetTransformer"),
        follows_voxels=True,
        recomputes=True,
    ),
    "unet": NetworkEntry(
        _UNET,
        "UNet",
        "residual, channel attention; for small datasets",
        8_459_489,
        deep_supervision=True,
        recomputes=True,
    ),
    "tiny_unet": NetworkEntry(
        _TINY, "WNet", "two small U-Nets in a row; for laptops", 68_114, 191_746, deep_supervision=True
    ),
    "monai_unet": NetworkEntry(_MONAI, "MonaiUNet", "MONAI's residual U-Net; small and quick", 1_627_854, 4_809_696),
    "attention_unet": NetworkEntry(
        _MONAI, "AttentionUnet", "MONAI's U-Net with attention gates", 7_940_321, 23_627_681
    ),
    "dynunet": NetworkEntry(
        _MONAI,
        "DynUNet",
        "nnU-Net's network with residual blocks",
        7_938_721,
        16_671_969,
        deep_supervision=True,
        follows_voxels=True,
        residual=True,
        recomputes=True,
    ),
    "unet3d": NetworkEntry(
        _MONAI,
        "DynUNet",
        "dynunet under the name that scripts for volumes know; the choice for volumes",
        parameters_3d=16_671_969,
        deep_supervision=True,
        follows_voxels=True,
        residual=True,
        recomputes=True,
    ),
    "segresnet": NetworkEntry(
        _MONAI, "SegResNet", "residual, GroupNorm; indifferent to the batch size", 6_299_073, 18_797_697
    ),
    "swin_unetr": NetworkEntry(_MONAI, "SwinUNETR", "U-Net on a Swin transformer", 6_302_875, 15_704_707),
    "lraspp_mobilenet_v3_large": NetworkEntry(
        _TORCHVISION, "LrasppMobileNetV3", "MobileNetV3 with a light head; for large structures", 3_218_138
    ),
    "deeplabv3_resnet50": NetworkEntry(
        _TORCHVISION, "DeepLabV3ResNet50", "ResNet-50 with dilated context; for large structures", 39_633_729
    ),
}


class SegmentationNetwork(Protocol):
    """What the engine asks of a network beside being an `nn.Module`; the module's text says it in full."""

    def __call__(self, x: Tensor) -> Tensor | list[Tensor]:
        """Map (B, C, *spatial) to logits (B, K, *spatial), or to several with deep supervision in training mode."""

    def gradient_groups(self) -> dict[str, list[nn.Parameter]]:
        """`encoder_conv1`, `encoder_last`, `decoder_first` and `decoder_output`."""


def check_name(name: str) -> str:
    """Return `name` if a network has it, else raise `UnknownNetwork` that lists the names there are."""
    if name not in NETWORKS:
        known = ", ".join(NETWORKS)
        raise UnknownNetwork(f"no network is called {name!r}; choose one of: {known}")
    return name


def check_form(
    name: str, spatial_dims: int | None = None, *, deep_supervision: bool = False, recomputes: bool = False
) -> None:
    """Refuse a form that a network does not have, without importing the network.

    Args:
        name: a key of `NETWORKS`.
        spatial_dims: 2 or 3; None where that is not known yet.
        deep_supervision: whether that is wanted.
        recomputes: whether it is to compute activations twice.

    Raises:
        UnknownNetwork: no network has this name.
        InvalidConfig: the network is not for scans of so many axes, has no deep supervision or cannot compute
            activations twice; the message names the networks that are, have or can.
    """
    entry = NETWORKS[check_name(name)]
    if spatial_dims not in (2, 3, None):
        raise InvalidConfig(f"networks are for scans of 2 or 3 axes, not {spatial_dims}")
    if spatial_dims == 3 and 3 not in entry.dimensions:
        volumetric = _those(lambda other: 3 in other.dimensions)
        raise InvalidConfig(f"the network {name!r} is for 2-D scans alone; for volumes choose one of: {volumetric}")
    if spatial_dims == 2 and 2 not in entry.dimensions:
        flat = _those(lambda other: 2 in other.dimensions)
        raise InvalidConfig(f"the network {name!r} is for volumes alone; for 2-D scans choose one of: {flat}")
    if deep_supervision and not entry.deep_supervision:
        able = _those(lambda other: other.deep_supervision)
        raise InvalidConfig(f"the network {name!r} has no deep supervision; switch it off, or choose one of: {able}")
    if recomputes and not entry.recomputes:
        able = _those(lambda other: other.recomputes)
        raise InvalidConfig(
            f"the network {name!r} has no levels that can be computed twice; leave activation_checkpointing at auto or "
            f"off, or choose one of: {able}"
        )


def _those(fits: Callable[[NetworkEntry], bool]) -> str:
    return ", ".join(name for name, entry in NETWORKS.items() if fits(entry))


def out_channels(classes: int, *, of_regions: bool = False) -> int:
    """Channels of the logits: one for binary masks, else one per class with background, or one per region.

    Regions are as many as classes without background: each adds one.
    """
    return 1 if classes == 2 else classes - of_regions


def build(
    name: str,
    in_channels: int,
    out_channels: int,
    spatial_dims: int = 2,
    deep_supervision: bool = False,
    *,
    residual: bool = True,
    shape: NetworkShape | None = None,
) -> nn.Module:
    """Make a freshly initialised network.

    Args:
        name: a key of `NETWORKS`.
        in_channels: channels of the scans.
        out_channels: 1 for binary masks, else the number of classes.
        spatial_dims: 2 for scans of (H, W), 3 for volumes of (D, H, W).
        deep_supervision: whether training mode gives a list of logits.
        residual: whether it has residual blocks; networks that always or never have them do not look at it.
        shape: of the levels; None is the network's own. Networks that do not follow voxels do not look at it.

    Raises:
        UnknownNetwork: no network has this name.
        InvalidConfig: the network does not have this form.
    """
    check_form(name, spatial_dims, deep_supervision=deep_supervision)
    entry = NETWORKS[name]
    own = entry.volumetric if spatial_dims == 3 and entry.volumetric else (entry.module, entry.class_name)
    network_class = getattr(importlib.import_module(own[0]), own[1])
    # A network without a form has no argument for it: only what differs from the plain form is passed.
    asked: dict[str, Any] = {"spatial_dims": spatial_dims} if spatial_dims != 2 else {}
    if deep_supervision:
        asked["deep_supervision"] = True
    if entry.residual and not residual:
        asked["residual"] = False
    if entry.follows_voxels and shape is not None:
        asked["shape"] = shape
    return cast("nn.Module", network_class(in_channels=in_channels, out_channels=out_channels, **asked))


def supervision_weights(levels: int) -> tuple[float, ...]:
    """Weights of the losses of `levels` logits under deep supervision, finest first.

    1, 1/2, 1/4, … divided by their sum, so that the loss keeps its scale: (4/7, 2/7, 1/7) for three.

    Source: F. Isensee et al., nnU-Net, Nature Methods 18, 2021 (arXiv:1809.10486).
    """
    halved = [0.5**level for level in range(levels)]
    return tuple(weight / sum(halved) for weight in halved)
