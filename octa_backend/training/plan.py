"""The plan: a `TrainConfig` whose `auto` values are resolved for one dataset on one device, each with its reason."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from octa_backend.data.store import Manifest
from octa_backend.errors import InvalidConfig
from octa_backend.training import patch_plan
from octa_backend.training.compile_plan import resolve_compile
from octa_backend.training.config import TrainConfig
from octa_backend.training.ignored import leave_out
from octa_backend.training.loss_plan import CountPixels, Decide, resolve_loss
from octa_backend.training.precision import Hardware

BELONGS_TO = {
    "momentum": ("optimizer", ("sgd",)),
    "nesterov": ("optimizer", ("sgd",)),
    "step_size": ("scheduler", ("step",)),
    "gamma": ("scheduler", ("step", "plateau", "exponential")),
    "power": ("scheduler", ("poly",)),
    "plateau_patience": ("scheduler", ("plateau",)),
}
"""Options that only some optimizers or schedules look at: the field that names them, and which they are."""


class Reason(BaseModel):
    """Why a field has the value it has."""

    model_config = ConfigDict(frozen=True)

    field: str
    value: Any
    reason: str


class Plan(BaseModel):
    """What a run computes: enough, with the dataset, to do it again.

    Attributes:
        config: with no `auto` left, but in options that the loss does not look at.
        device: as torch names it.
        channels_last: memory layout of the network and its batches.
        channels: of the scans.
        classes: of the network, with background; 2 is binary. Those of the dataset but for an ignored one.
        patch_shape: (H, W) or (D, H, W) of a training sample, multiples of 16.
        patches_per_scan: training samples cut from each scan per epoch.
    """

    model_config = ConfigDict(frozen=True)

    config: TrainConfig
    device: str
    channels_last: bool
    channels: int
    classes: int
    patch_shape: tuple[int, ...]
    patches_per_scan: int
    reasons: tuple[Reason, ...]

    @property
    def out_channels(self) -> int:
        """Channels of the logits: one for binary masks, else one per class."""
        return 1 if self.classes == 2 else self.classes

    @property
    def dataset_classes(self) -> int:
        """Classes of the dataset, with background and an ignored one."""
        return self.classes + (self.config.ignore_index is not None)

    @property
    def batch_size(self) -> int:
        """Scans (or patches) computed at once."""
        assert isinstance(self.config.batch_size, int), "complete_plan resolves it"
        return self.config.batch_size

    @property
    def scans_per_step(self) -> int:
        """Scans (or patches) whose gradients are averaged into one step."""
        return self.batch_size * self.config.accumulation_steps

    def decided(self, field: str, value: Any, reason: str) -> Plan:
        """The same plan with one more field of its config resolved."""
        config = self.config.model_copy(update={field: value})
        return self.model_copy(
            update={"config": config, "reasons": (*self.reasons, Reason(field=field, value=value, reason=reason))}
        )

    def with_rate_of(self, earlier: Plan) -> Plan:
        """The learning rate that an earlier attempt found, where this plan leaves it open: a run has one range test."""
        if self.config.lr != "auto" or earlier.config.lr == "auto":
            return self
        return self.decided("lr", earlier.config.lr, "found by an earlier attempt at this run")

    def with_config(self, config: TrainConfig) -> Plan:
        """The same plan for a config that was changed on resuming; what is still `auto` in it stays as resolved."""
        still_open = {name for name in TrainConfig.model_fields if getattr(config, name) == "auto"} | {"loss"}
        kept = {name: getattr(self.config, name) for name in still_open}
        return self.model_copy(update={"config": config.model_copy(update=kept)})


def make_plan(
    config: TrainConfig, manifest: Manifest, hardware: Hardware, count_pixels: CountPixels | None = None
) -> Plan:
    """Resolve what the config leaves open. What the user set wins.

    Args:
        config: as the user gave it.
        manifest: of the dataset.
        hardware: what the device does best.
        count_pixels: counts the training scans' pixels per class, for weights that are `auto`; see `resolve_loss`.

    Raises:
        InvalidConfig: a value does not fit the dataset.
    """
    reasons: list[Reason] = []

    def decide(field: str, value: Any, reason: str) -> Any:
        reasons.append(Reason(field=field, value=value, reason=reason))
        return value

    manifest, count_pixels = leave_out(config.ignore_index, manifest, count_pixels)
    chosen = resolve_loss(config, manifest, count_pixels, decide)
    _name_idle_options(config, decide)
    chosen["precision"] = _resolve_precision(config, hardware, decide)
    half = chosen["precision"] in ("bf16", "fp16")
    if config.patch_size == "auto":
        fast = half or hardware.device.startswith("cuda")
        chosen["patch_size"] = decide("patch_size", *patch_plan.choose_patch_size(manifest.spatial_dims, fast))
    resolved = config.model_copy(update=chosen)
    assert isinstance(resolved.patch_size, int)
    shape = patch_plan.patch_shape(manifest, resolved.patch_size)
    patches = patch_plan.patches_per_scan(manifest, shape)
    patch_plan.name_idle_options(config, manifest, shape, decide)
    if config.foreground_oversampling == "auto":
        share = decide("foreground_oversampling", *patch_plan.choose_oversampling(manifest, shape))
        resolved = resolved.model_copy(update={"foreground_oversampling": share})
    resolved = resolved.model_copy(update={"compile": resolve_compile(resolved, manifest, hardware, patches, decide)})
    channels_last = half or hardware.channels_last
    layout = f"with {resolved.precision}" if half else "measured on this device"
    decide("channels_last", channels_last, f"the faster memory layout {layout}")
    return Plan(
        config=resolved,
        device=hardware.device,
        channels_last=channels_last,
        channels=manifest.channels,
        classes=manifest.classes,
        patch_shape=shape,
        patches_per_scan=decide(
            "patches_per_scan", patches, f"patches of {'x'.join(map(str, shape))} cut from each scan per epoch"
        ),
        reasons=tuple(reasons),
    )


def _resolve_precision(config: TrainConfig, hardware: Hardware, decide: Decide) -> str:
    """The arithmetic that was asked for, if the device has it; else the faster one, as measured."""
    if config.precision == "fp16" and not hardware.device.startswith("cuda"):
        raise InvalidConfig(f"precision=fp16 needs a CUDA device; on {hardware.device} use bf16, fp32 or auto")
    if config.precision != "auto":
        return config.precision
    found: str = decide("precision", *_choose_precision(hardware))
    return found


def _name_idle_options(config: TrainConfig, decide: Decide) -> None:
    """Say which options were changed that the optimizer or the schedule does not look at."""
    for name, (field, users) in BELONGS_TO.items():
        value, named = getattr(config, name), getattr(config, field)
        if named not in users and value != TrainConfig.model_fields[name].default:
            decide(name, value, f"this has no effect on {field}={named}; it belongs to {', '.join(users)}")


def _choose_precision(hardware: Hardware) -> tuple[str, str]:
    if hardware.device.startswith("cuda"):
        return ("bf16", "this GPU computes in bf16") if hardware.bf16_pays else ("fp32", "this GPU has no bf16")
    figure = f"a bf16 step is {hardware.bf16_speedup:g} times as fast as an fp32 step here, as measured"
    return ("bf16" if hardware.bf16_pays else "fp32"), figure
