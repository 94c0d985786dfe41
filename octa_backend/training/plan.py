"""The plan: a `TrainConfig` whose `auto` values are resolved for one dataset on one device, each with its reason."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict

from octa_backend.data.normalise import Normalisation
from octa_backend.data.splits import Splits, assign_splits
from octa_backend.data.store import Manifest
from octa_backend.errors import InvalidConfig
from octa_backend.models import registry
from octa_backend.models.network_shape import NetworkShape
from octa_backend.training import patch_plan, plan_choices
from octa_backend.training.config import TrainConfig
from octa_backend.training.estimate import Estimate, estimate
from octa_backend.training.fingerprint import Fingerprint, MeasureGreys
from octa_backend.training.idle_options import name_idle_options
from octa_backend.training.ignored import leave_out
from octa_backend.training.loss_plan import CountPixels, resolve_loss
from octa_backend.training.mask_offset import MeasureOffset
from octa_backend.training.memory_plan import Ground, settle_recomputing
from octa_backend.training.mirroring import leave_out_mirroring, without_mirroring
from octa_backend.training.network_plan import in_words
from octa_backend.training.patch_growth import PatchGrowth
from octa_backend.training.plan_draft import Draft, Reason
from octa_backend.training.precision import Hardware
from octa_backend.training.region_targets import RegionTarget, region_targets
from octa_backend.training.sample_plan import settle_growth, settle_sample
from octa_backend.training.treatment import Treatment, begun_after
from octa_backend.training.volume_options import region_classes
from octa_backend.training.volume_plan import leave_out_artefacts, refuse_for_pictures, without_artefacts

OF_THE_DEVICE = (
    "precision",
    "patch_size",
    "patch_growth",
    "target_shape",
    "activation_checkpointing",
    "foreground_oversampling",
    "batch_size",
)
"""Fields that another device may need otherwise; all others stay as they were found for a run."""

FITTED = {"loss", "patch_size", "target_shape"}
"""Fields that a plan may settle otherwise than they were given: the loss to the classes, the sides to the network."""


class Plan(BaseModel):
    """What a run computes: enough, with the dataset, to do it again.

    Attributes:
        config: with no `auto` left, but in options that the loss does not look at.
        device: as torch names it.
        channels_last: memory layout of the network and its batches.
        channels: of the scans.
        classes: of the network, with background; 2 is binary. Those of the dataset but for an ignored one.
        patch_shape: (H, W) or (D, H, W) of a training sample, with sides that the network can halve; where patches
            grow, of the largest ones, see `in_epoch`.
        patches_per_scan: training samples cut from each scan per epoch.
        reasons: of every field that was left open, and of what follows from the data.
        fingerprint: what was seen of the dataset; None in plans of earlier versions.
        estimate: what the training asks of its device; None until the plan is complete.
        treatments: what the run was given on its way; they are part of the config already.
        network_shape: of a network that follows the voxels; None: the network's own, as in plans of earlier versions.
        mask_values: the value of each class of the network in the masks; empty in plans of earlier versions.
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
    network_shape: NetworkShape | None = None
    mask_values: tuple[int, ...] = ()

    @property
    def regions(self) -> dict[str, tuple[int, ...]]:
        """Classes of the network of each region that is scored."""
        return region_classes(self.config.regions or {}, self.mask_values)

    @property
    def region_targets(self) -> tuple[RegionTarget, ...]:
        """What the channels of the network's logits stand for where it learns regions; else nothing."""
        if self.config.target == "classes":
            return ()
        return region_targets(self.config.regions or {}, self.mask_values)

    @property
    def region_order(self) -> tuple[int, ...]:
        """The class that each of these channels adds, see `models.regions.class_logits`."""
        return tuple(target.adds for target in self.region_targets)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Median sides of the scans' voxels along each axis, mm; empty where they are not known."""
        return self.fingerprint.spacing_mm if self.fingerprint is not None else ()

    @property
    def out_channels(self) -> int:
        """Channels of the logits: one for binary masks, else one per class, or per region that is learned."""
        return registry.out_channels(self.classes, of_regions=self.config.target == "regions")

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
    def growth(self) -> PatchGrowth:
        """The patches of each epoch."""
        if self.config.patch_growth == "on":
            return PatchGrowth.to(self.patch_shape, self.spacing, self.epochs)
        return PatchGrowth.none(self.patch_shape, self.epochs)

    def in_epoch(self, epoch: int) -> Plan:
        """The same plan with the patches of one epoch, counted from 1."""
        return self.model_copy(update={"patch_shape": self.growth.shape_in(epoch)})

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
        sample = (self.batch_size, *self.patch_shape)
        found = estimate(self.config, self.channels, self.classes, sample, self.network_shape)
        return self.model_copy(update={"estimate": found})

    def with_epochs(self) -> Plan:
        """The number of epochs, where it is open and the batch size is known."""
        if self.config.epochs != "auto" or self.config.batch_size == "auto":
            return self
        assert self.fingerprint is not None, "make_plan takes it"
        steps, warmup = self.steps(self.fingerprint.training_scans), self.config.warmup_epochs
        slow_volumes = self.fingerprint.spatial_dims == 3 and self.device == "cpu"
        choose = plan_choices.choose_volume_epochs if slow_volumes else plan_choices.choose_epochs
        return self.decided("epochs", *choose(steps, warmup))

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
        still_open = {name for name in TrainConfig.model_fields if getattr(config, name) == "auto"}
        kept = {name: self._untreated(name) for name in still_open | FITTED}
        now = self.suited(config.model_copy(update=kept))
        valid = [one for one in self.reasons if one.field in kept or getattr(now, one.field, one.value) == one.value]
        return self.model_copy(update={"config": now, "reasons": tuple(valid), "treatments": ()}).checked()

    def _untreated(self, name: str) -> Any:
        """A field as it was before treatments changed it."""
        value = getattr(self.config, name)
        for treatment in reversed(self.treatments):
            before, after = treatment.changes.get(name, (None, None))
            if name in treatment.changes and value == after:
                value = before
        return value

    def suited(self, config: TrainConfig) -> TrainConfig:
        """A changed config as this plan's scans need it: augmented neither with artefacts that volumes do not have, nor
        with views in which masks would lie on the other side."""
        if len(self.patch_shape) == 3:
            overrides = without_artefacts(config)
        else:
            overrides = without_mirroring(config, self.fingerprint.mask_offset if self.fingerprint else None)
        return config.model_copy(update={"augmentation_overrides": overrides}) if overrides else config

    def checked(self) -> Plan:
        """The same plan.

        Raises:
            InvalidConfig: a region has a value that the masks do not have, or regions cannot be learned.
        """
        region_classes(self.config.regions or {}, self.mask_values)
        assert len(self.region_targets) in (0, self.out_channels)
        return self

    def found_for(self, config: TrainConfig) -> dict[str, Any]:
        """What this plan found for open fields of a config that do not depend on the device, by field."""
        names = (name for name in TrainConfig.model_fields if name not in OF_THE_DEVICE)
        found = {name: self._untreated(name) for name in names if getattr(config, name) == "auto"}
        return {name: value for name, value in found.items() if value != "auto"}

    def with_reasons_of(self, earlier: Plan, fields: Collection[str]) -> Plan:
        """The same plan with another one's reasons for fields that it found."""
        carried = [one for one in earlier.reasons if one.field in fields]
        own = [one for one in self.reasons if one.field not in fields]
        return self.model_copy(update={"reasons": (*carried, *own)})


def make_plan(
    config: TrainConfig,
    manifest: Manifest,
    hardware: Hardware,
    count_pixels: CountPixels | None = None,
    *,
    splits: Splits | None = None,
    measure_greys: MeasureGreys | None = None,
    measure_offset: MeasureOffset | None = None,
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
        measure_offset: of pictures, for what augmentation leaves out; see `leave_out_mirroring`.

    Raises:
        InvalidConfig: a value does not fit the dataset, or needs what is not at hand.
    """
    draft = Draft(config)
    if manifest.spatial_dims == 2:
        refuse_for_pictures(config)
    manifest, count_pixels = leave_out(config.ignore_index, manifest, count_pixels)
    splits = splits or assign_splits(manifest.scans, config.val_fraction, config.seed)
    facts = Fingerprint.of(manifest, splits, measure_offset)
    draft.settle("model", lambda: plan_choices.choose_model(facts))
    registry.check_form(draft.config.model, manifest.spatial_dims)
    draft.settle("optimizer", lambda: plan_choices.choose_optimizer(config))
    draft.settle("scheduler", lambda: plan_choices.choose_scheduler(draft.config.optimizer))
    _settle_augmentation(draft, facts)
    draft.settle("normalisation", lambda: plan_choices.choose_normalisation(facts, measure_greys))
    draft.take(resolve_loss(config, manifest, count_pixels, draft.note))
    name_idle_options(draft.config, draft.note)
    if config.precision == "fp16" and not hardware.on_gpu:
        raise InvalidConfig(f"precision=fp16 needs a CUDA device; on {hardware.device} use bf16, fp32 or auto")
    draft.settle("precision", lambda: plan_choices.choose_precision(hardware))
    if not hardware.on_gpu:
        draft.settle("batch_size", plan_choices.choose_batch_size_on_cpu)
    return _with_sample(draft, Ground(manifest, facts, hardware)).with_epochs().with_compile()


def _settle_augmentation(draft: Draft, facts: Fingerprint) -> None:
    """The preset, without what does not suit these scans; see `Plan.suited`."""
    draft.settle("augmentation", lambda: plan_choices.choose_augmentation(facts))
    if facts.spatial_dims == 3:
        leave_out_artefacts(draft)
    else:
        leave_out_mirroring(draft, facts.mask_offset)


_FOR_REGIONS = {
    "classes": "unions of what the softmax finds are scored beside the classes it learns",
    "regions": "each is learned by a sigmoid; the label of the smallest one found is the answer",
}


def _with_sample(draft: Draft, ground: Ground) -> Plan:
    """The plan, once what does not depend on the training sample is resolved."""
    manifest = ground.manifest
    shape = settle_sample(draft, ground)
    least = settle_growth(draft, ground, shape)
    settle_recomputing(draft, ground, shape)
    network = ground.network_shape(draft.config, shape)
    if network is not None:
        draft.note("network_shape", list(network.filters), in_words(network))
    if draft.config.regions:
        named = {name: list(values) for name, values in draft.config.regions.items()}
        draft.note("regions", named, _FOR_REGIONS[draft.config.target])
    patches = patch_plan.patches_per_scan(manifest, shape)
    patch_plan.name_idle_options(draft.config, manifest, least, draft.note)
    draft.settle("foreground_oversampling", lambda: patch_plan.choose_oversampling(manifest, least))
    layout = plan_choices.choose_layout(draft.config.precision, ground.hardware, manifest.spatial_dims)
    channels_last = draft.note("channels_last", *layout)
    draft.note("patches_per_scan", patches, f"patches of {'x'.join(map(str, shape))} cut from each scan per epoch")
    plan = Plan(
        config=draft.config,
        device=ground.hardware.device,
        channels_last=channels_last,
        channels=manifest.channels,
        classes=manifest.classes,
        patch_shape=shape,
        patches_per_scan=patches,
        reasons=tuple(draft.reasons),
        fingerprint=ground.facts,
        network_shape=network,
        mask_values=manifest.mask_values,
    )
    return plan.checked()
