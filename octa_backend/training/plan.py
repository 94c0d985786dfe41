"""The plan: a `TrainConfig` whose `auto` values are resolved for one dataset on one device, each with its reason."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from octa_backend.data.store import Manifest
from octa_backend.training.config import TrainConfig
from octa_backend.training.precision import Hardware

FAST_PATCH = 512
SLOW_PATCH = 256
MIN_PATCH = 32
"""Smaller scans are mirrored up to it: four halvings must leave more than one pixel for the batch's statistics."""
SCANS_PER_PATCH = 4
"""A patch may stand for so many times its own area per epoch; larger scans give several patches."""


class Reason(BaseModel):
    """Why a field has the value it has."""

    model_config = ConfigDict(frozen=True)

    field: str
    value: Any
    reason: str


class Plan(BaseModel):
    """What a run computes: enough, with the dataset, to do it again.

    Attributes:
        config: with no `auto` left.
        device: as torch names it.
        channels_last: memory layout of the network and its batches.
        channels: of the scans.
        classes: with background; 2 is binary.
        patch_shape: (H, W) of a training sample, multiples of 16.
        patches_per_scan: training samples cut from each scan per epoch.
    """

    model_config = ConfigDict(frozen=True)

    config: TrainConfig
    device: str
    channels_last: bool
    channels: int
    classes: int
    patch_shape: tuple[int, int]
    patches_per_scan: int
    reasons: tuple[Reason, ...]

    @property
    def out_channels(self) -> int:
        """Channels of the logits: one for binary masks, else one per class."""
        return 1 if self.classes == 2 else self.classes

    def with_config(self, config: TrainConfig) -> Plan:
        """The same plan for a config that was changed on resuming; what is still `auto` in it stays as resolved."""
        still_open = {name for name in TrainConfig.model_fields if getattr(config, name) == "auto"} | {"loss"}
        kept = {name: getattr(self.config, name) for name in still_open}
        return self.model_copy(update={"config": config.model_copy(update=kept)})


def make_plan(config: TrainConfig, manifest: Manifest, hardware: Hardware) -> Plan:
    """Resolve what the config leaves open. What the user set wins."""
    reasons: list[Reason] = []

    def decide(field: str, value: Any, reason: str) -> Any:
        reasons.append(Reason(field=field, value=value, reason=reason))
        return value

    chosen: dict[str, Any] = {}
    if config.loss == "dice_bce" and manifest.classes > 2:
        why = f"the masks have {manifest.classes} classes, which need a softmax; bce_weight weighs its cross-entropy"
        chosen["loss"] = decide("loss", "dice_ce", why)
    if config.loss == "dice_ce" and manifest.classes == 2:
        why = "the masks are binary, so one sigmoid does; bce_weight weighs its cross-entropy"
        chosen["loss"] = decide("loss", "dice_bce", why)
    if config.precision == "auto":
        chosen["precision"] = decide("precision", *_choose_precision(hardware))
    bf16 = chosen.get("precision", config.precision) == "bf16"
    if config.patch_size == "auto":
        chosen["patch_size"] = decide("patch_size", *_choose_patch_size(hardware, bf16))
    resolved = config.model_copy(update=chosen)
    assert isinstance(resolved.patch_size, int)
    shape = _patch_shape(manifest, resolved.patch_size)
    patches = _patches_per_scan(manifest, shape)
    channels_last = bf16 or hardware.channels_last
    layout = "with bf16" if bf16 else "measured on this device"
    decide("channels_last", channels_last, f"the faster memory layout {layout}")
    return Plan(
        config=resolved,
        device=hardware.device,
        channels_last=channels_last,
        channels=manifest.channels,
        classes=manifest.classes,
        patch_shape=shape,
        patches_per_scan=decide(
            "patches_per_scan", patches, f"patches of {shape[0]}x{shape[1]} cut from each scan per epoch"
        ),
        reasons=tuple(reasons),
    )


def _choose_precision(hardware: Hardware) -> tuple[str, str]:
    if hardware.device.startswith("cuda"):
        return ("bf16", "this GPU computes in bf16") if hardware.bf16_pays else ("fp32", "this GPU has no bf16")
    figure = f"a bf16 step is {hardware.bf16_speedup:g} times as fast as an fp32 step here, as measured"
    return ("bf16" if hardware.bf16_pays else "fp32"), figure


def _choose_patch_size(hardware: Hardware, bf16: bool) -> tuple[int, str]:
    if bf16 or hardware.device.startswith("cuda"):
        return FAST_PATCH, f"scans up to {FAST_PATCH} pixels are trained whole on this device"
    return SLOW_PATCH, (
        f"without fast bf16 an epoch of whole scans takes long; a new {SLOW_PATCH}-pixel square of each scan per epoch "
        "shows enough of it"
    )


def _patch_shape(manifest: Manifest, patch_size: int) -> tuple[int, int]:
    """The largest scan's sides, at most `patch_size`, at least `MIN_PATCH`, rounded up to multiples of 16."""
    largest = [max(scan.shape[axis] for scan in manifest.scans) for axis in (0, 1)]
    height, width = (-(-max(MIN_PATCH, min(side, patch_size)) // 16) * 16 for side in largest)
    return height, width


def _patches_per_scan(manifest: Manifest, shape: tuple[int, int]) -> int:
    area = sum(scan.shape[0] * scan.shape[1] for scan in manifest.scans) / len(manifest.scans)
    return max(1, round(area / (SCANS_PER_PATCH * shape[0] * shape[1])))
