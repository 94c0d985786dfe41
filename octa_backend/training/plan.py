"""The plan: a `TrainConfig` whose `auto` values are resolved for one dataset on one device, each with its reason."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pydantic import BaseModel, ConfigDict

from octa_backend.data.normalise import Normalisation
from octa_backend.data.splits import Splits, assign_splits
from octa_backend.data.store import Manifest
from octa_backend.errors import InvalidConfig
from octa_backend.models import registry
from octa_backend.training import patch_plan, plan_choices
from octa_backend.training.config import TrainConfig
from octa_backend.training.estimate import Estimate, estimate
from octa_backend.training.fingerprint import Fingerprint, MeasureGreys
from octa_backend.training.idle_options import name_idle_options
from octa_backend.training.ignored import leave_out
from octa_backend.training.loss_plan import CountPixels, resolve_loss
from octa_backend.training.precision import Hardware, is_half
from octa_backend.training.treatment import Treatment, begun_after

OF_THE_DEVICE = ("precision", "patch_size", "foreground_oversampling", "batch_size")
"""Fields that another device may need otherwise; all others stay as they were found for a run."""

MEMORY_SHARE = 0.8
"""Of a device's memory that a training may be estimated to take: the rest is for the program and for scratch space."""


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
        reasons: of every field that was left open, and of what follows from the data.
        fingerprint: what was seen of the dataset; None in plans of earlier versions.
        estimate: what the training asks of its device; None until the plan is complete.
        treatments: what the run was given on its way; they are part of the config already.
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
    fingerprint: Fingerprint | None = None
    estimate: Estimate | None = None
    treatments: tuple[Treatment, ...] = ()

    @property
    def out_channels(self) -> int:
        """Channels of the logits: one for binary masks, else one per class."""
        return registry.out_channels(self.classes)

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
    def epochs(self) -> int:
        """How often every training scan is seen."""
        assert isinstance(self.config.epochs, int), "complete_plan resolves it"
        return self.config.epochs

    @property
    def begun_after(self) -> int:
        """The epoch after which the learning rate's schedule began: 0, or where a treatment began it anew."""
        return begun_after(self.treatments)

    @property
    def normalisation(self) -> Normalisation:
        """What is done to intensities."""
        assert self.config.normalisation != "auto", "make_plan resolves it"
        return self.config.normalisation

    @property
    def scans_per_step(self) -> int:
        """Scans (or patches) whose gradients are averaged into one step."""
        return self.batch_size * self.config.accumulation_steps

    def steps(self, scans: int) -> int:
        """Optimizer steps of an epoch of so many training scans; the last one may see fewer."""
        return -(-scans * self.patches_per_scan // self.scans_per_step)

    def decided(self, field: str, value: Any, reason: str) -> Plan:
        """The same plan with one more field of its config resolved."""
        config = self.config.model_copy(update={field: value})
        return self.model_copy(
            update={"config": config, "reasons": (*self.reasons, Reason(field=field, value=value, reason=reason))}
        )

    def with_estimate(self) -> Plan:
        """The same plan with what it asks of its device; the batch size is known."""
        found = estimate(self.config, self.channels, self.classes, self.patch_shape, self.batch_size)
        return self.model_copy(update={"estimate": found})

    def with_epochs(self) -> Plan:
        """The number of epochs, where it is open and the batch size is known."""
        if self.config.epochs != "auto" or self.config.batch_size == "auto":
            return self
        assert self.fingerprint is not None, "make_plan takes it"
        scans = self.fingerprint.training_scans
        return self.decided("epochs", *plan_choices.choose_epochs(self.steps(scans), self.config.warmup_epochs))

    def with_compile(self) -> Plan:
        """Whether the network is compiled, where that is open and the number of epochs is known."""
        if self.config.compile != "auto" or self.config.epochs == "auto":
            return self
        assert self.fingerprint is not None, "make_plan takes it"
        patches = self.epochs * self.fingerprint.training_scans * self.patches_per_scan
        return self.decided("compile", *plan_choices.choose_compile(self.device, patches))

    def with_config(self, config: TrainConfig) -> Plan:
        """The same plan for a config that was changed on resuming; what is still `auto` in it stays as resolved.

        Treatments are taken out, see `healing.treated`.
        """
        still_open = {name for name in TrainConfig.model_fields if getattr(config, name) == "auto"} | {"loss"}
        kept = {name: getattr(self.config, name) for name in still_open}
        valid = [one for one in self.reasons if one.field in kept or getattr(config, one.field, one.value) == one.value]
        update = {"config": config.model_copy(update=kept), "reasons": tuple(valid), "treatments": ()}
        return self.model_copy(update=update)

    def found_for(self, config: TrainConfig) -> dict[str, Any]:
        """What this plan found for open fields of a config that do not depend on the device, by field."""
        names = (name for name in TrainConfig.model_fields if name not in OF_THE_DEVICE)
        found = {name: getattr(self.config, name) for name in names if getattr(config, name) == "auto"}
        return {name: value for name, value in found.items() if value != "auto"}

    def with_reasons_of(self, earlier: Plan, config: TrainConfig) -> Plan:
        """The same plan with an earlier one's reasons for what it `found_for` the config."""
        found = earlier.found_for(config)
        carried = [one for one in earlier.reasons if one.field in found]
        own = [one for one in self.reasons if one.field not in found]
        return self.model_copy(update={"reasons": (*carried, *own)})


def make_plan(
    config: TrainConfig,
    manifest: Manifest,
    hardware: Hardware,
    count_pixels: CountPixels | None = None,
    *,
    splits: Splits | None = None,
    measure_greys: MeasureGreys | None = None,
) -> Plan:
    """Resolve what the config leaves open. What the user set wins.

    On a GPU `batch_size` stays open, and `epochs` with it; `lr` does everywhere: see `complete_plan`.

    Args:
        config: as the user gave it.
        manifest: of the dataset.
        hardware: what the device does best.
        count_pixels: counts the training scans' pixels per class, for weights that are `auto`; see `resolve_loss`.
        splits: how the scans are divided; None: as `assign_splits` divides them.
        measure_greys: for `normalisation=auto`; see `choose_normalisation`.

    Raises:
        InvalidConfig: a value does not fit the dataset, or needs what is not at hand.
    """
    draft = _Draft(config)
    manifest, count_pixels = leave_out(config.ignore_index, manifest, count_pixels)
    facts = Fingerprint.of(manifest, splits or assign_splits(manifest.scans, config.val_fraction, config.seed))
    draft.settle("model", lambda: plan_choices.choose_model(facts))
    draft.settle("optimizer", lambda: plan_choices.choose_optimizer(config))
    draft.settle("scheduler", lambda: plan_choices.choose_scheduler(draft.config.optimizer))
    draft.settle("augmentation", lambda: plan_choices.choose_augmentation(facts))
    draft.settle("normalisation", lambda: plan_choices.choose_normalisation(facts, measure_greys))
    draft.take(resolve_loss(config, manifest, count_pixels, draft.note))
    name_idle_options(draft.config, draft.note)
    if config.precision == "fp16" and not hardware.on_gpu:
        raise InvalidConfig(f"precision=fp16 needs a CUDA device; on {hardware.device} use bf16, fp32 or auto")
    draft.settle("precision", lambda: plan_choices.choose_precision(hardware))
    if not hardware.on_gpu:
        draft.settle("batch_size", plan_choices.choose_batch_size_on_cpu)
    return _with_patches(draft, manifest, hardware, facts).with_epochs().with_compile()


class _Draft:
    """A config on its way to a plan, and why each of its fields is what it is."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.reasons: list[Reason] = []

    def note(self, field: str, value: Any, reason: str) -> Any:
        """Give a reason for a value; returns the value."""
        self.reasons.append(Reason(field=field, value=value, reason=reason))
        return value

    def take(self, chosen: dict[str, Any]) -> None:
        """Set fields."""
        self.config = self.config.model_copy(update=chosen)

    def settle(self, field: str, choose: Callable[[], tuple[Any, str]]) -> None:
        """Set one field if it was left open."""
        if getattr(self.config, field) == "auto":
            self.take({field: self.note(field, *choose())})


def _fits(draft: _Draft, manifest: Manifest, hardware: Hardware, patch_size: int) -> bool:
    """Whether a training on patches of this side fits into the device's memory; where it is not known, it does."""
    if hardware.memory_mib is None:
        return True
    shape = patch_plan.patch_shape(manifest, patch_size)
    batch_size = 1 if draft.config.batch_size == "auto" else draft.config.batch_size
    needed = estimate(draft.config, manifest.channels, manifest.classes, shape, batch_size)
    return needed.memory_mib <= MEMORY_SHARE * hardware.memory_mib


def _with_patches(draft: _Draft, manifest: Manifest, hardware: Hardware, facts: Fingerprint) -> Plan:
    """The plan, once what does not depend on the patches is resolved."""
    half = is_half(draft.config.precision)
    fast = half or hardware.on_gpu
    draft.settle(
        "patch_size",
        lambda: patch_plan.choose_patch_size(manifest.spatial_dims, fast, partial(_fits, draft, manifest, hardware)),
    )
    assert isinstance(draft.config.patch_size, int)
    shape = patch_plan.patch_shape(manifest, draft.config.patch_size)
    patches = patch_plan.patches_per_scan(manifest, shape)
    patch_plan.name_idle_options(draft.config, manifest, shape, draft.note)
    draft.settle("foreground_oversampling", lambda: patch_plan.choose_oversampling(manifest, shape))
    channels_last = half or hardware.channels_last
    layout = f"with {draft.config.precision}" if half else "measured on this device"
    draft.note("channels_last", channels_last, f"the faster memory layout {layout}")
    draft.note("patches_per_scan", patches, f"patches of {'x'.join(map(str, shape))} cut from each scan per epoch")
    return Plan(
        config=draft.config,
        device=hardware.device,
        channels_last=channels_last,
        channels=manifest.channels,
        classes=manifest.classes,
        patch_shape=shape,
        patches_per_scan=patches,
        reasons=tuple(draft.reasons),
        fingerprint=facts,
    )
