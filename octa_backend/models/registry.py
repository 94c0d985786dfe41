"""The networks by name. API, CLI, configs and checkpoints name a network by a key of `NETWORKS`.

Names are known without importing torch; a network's module is imported when it is built.

What every network keeps to, which `SegmentationNetwork` puts into types:

- It maps scans (B, C, *spatial) of any size to logits (B, K, *spatial) of the same size; *spatial is (H, W) or
  (D, H, W). It pads inside to what it needs and crops back.
- A batch of one scan can be trained.
- `gradient_groups()` gives four groups of parameters, none of them empty, none sharing a parameter.
- Every weight stands once in its `state_dict()`.
- Deep supervision (`build(..., deep_supervision=True)`): in training mode the network returns a *list* of logits, all
  of the input's size, finest first. The loss is the sum over the list of each one's loss times its weight from
  `supervision_weights`. In evaluation mode the network returns the finest alone, as a tensor. Weights trained so also
  load into the same network built without.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from octa_backend.errors import InvalidConfig, UnknownNetwork

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
    """

    module: str
    class_name: str
    summary: str
    parameters: int | None = None
    parameters_3d: int | None = None
    deep_supervision: bool = False


_UNET = "octa_backend.models.unet"
_TINY = "octa_backend.models.tiny"
_MONAI = "octa_backend.models.monai_networks"
_TORCHVISION = "octa_backend.models.torchvision_networks"

NETWORKS: Mapping[str, NetworkEntry] = {
    "unet_transformer": NetworkEntry(
        _UNET, "UNet_Transformer", "gated skips, transformer bottleneck", 31_399_461, deep_supervision=True
    ),
    "unet": NetworkEntry(
        _UNET, "UNet", "residual, channel attention; for small datasets", 8_459_489, deep_supervision=True
    ),
    "tiny_unet": NetworkEntry(
        _TINY, "WNet", "two small U-Nets in a row; for laptops", 68_114, 191_746, deep_supervision=True
    ),
    "monai_unet": NetworkEntry(_MONAI, "MonaiUNet", "MONAI's residual U-Net; small and quick", 1_627_854, 4_809_696),
    "attention_unet": NetworkEntry(
        _MONAI, "AttentionUnet", "MONAI's U-Net with attention gates", 7_940_321, 23_627_681
    ),
    "dynunet": NetworkEntry(
        _MONAI, "DynUNet", "nnU-Net's network with residual blocks", 7_938_721, 16_671_969, deep_supervision=True
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


def check_form(name: str, spatial_dims: int = 2, deep_supervision: bool = False) -> None:
    """Refuse a form that a network does not have, without importing the network.

    Raises:
        UnknownNetwork: no network has this name.
        InvalidConfig: the network is not for scans of so many axes, or has no deep supervision; the message names
            the networks that are or have.
    """
    entry = NETWORKS[check_name(name)]
    if spatial_dims not in (2, 3):
        raise InvalidConfig(f"networks are for scans of 2 or 3 axes, not {spatial_dims}")
    if spatial_dims == 3 and entry.parameters_3d is None:
        volumetric = ", ".join(known for known, other in NETWORKS.items() if other.parameters_3d is not None)
        raise InvalidConfig(f"the network {name!r} is for 2-D scans alone; for volumes choose one of: {volumetric}")
    if deep_supervision and not entry.deep_supervision:
        able = ", ".join(known for known, other in NETWORKS.items() if other.deep_supervision)
        raise InvalidConfig(f"the network {name!r} has no deep supervision; switch it off, or choose one of: {able}")


def out_channels(classes: int) -> int:
    """Channels of the logits: one for binary masks, else one per class, with background."""
    return 1 if classes == 2 else classes


def build(
    name: str, in_channels: int, out_channels: int, spatial_dims: int = 2, deep_supervision: bool = False
) -> nn.Module:
    """Make a freshly initialised network.

    Args:
        name: a key of `NETWORKS`.
        in_channels: channels of the scans.
        out_channels: 1 for binary masks, else the number of classes.
        spatial_dims: 2 for scans of (H, W), 3 for volumes of (D, H, W).
        deep_supervision: whether training mode gives a list of logits.

    Raises:
        UnknownNetwork: no network has this name.
        InvalidConfig: the network does not have this form.
    """
    check_form(name, spatial_dims, deep_supervision)
    entry = NETWORKS[name]
    network_class = getattr(importlib.import_module(entry.module), entry.class_name)
    # A network without a form has no argument for it: only what differs from the plain form is passed.
    asked: dict[str, Any] = {"spatial_dims": spatial_dims} if spatial_dims != 2 else {}
    if deep_supervision:
        asked["deep_supervision"] = True
    return cast("nn.Module", network_class(in_channels=in_channels, out_channels=out_channels, **asked))


def supervision_weights(levels: int) -> tuple[float, ...]:
    """Weights of the losses of `levels` logits under deep supervision, finest first.

    1, 1/2, 1/4, … divided by their sum, so that the loss keeps its scale: (4/7, 2/7, 1/7) for three.

    Source: F. Isensee et al., nnU-Net, Nature Methods 18, 2021 (arXiv:1809.10486).
    """
    halved = [0.5**level for level in range(levels)]
    return tuple(weight / sum(halved) for weight in halved)
