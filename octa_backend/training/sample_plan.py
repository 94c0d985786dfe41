"""What a plan decides about a training sample: the patch of a picture or the part of a volume, and its growth."""

from __future__ import annotations

from octa_backend.models import registry
from octa_backend.training import patch_growth, patch_plan
from octa_backend.training.memory_plan import Ground, recomputing
from octa_backend.training.plan_draft import Draft
from octa_backend.training.precision import is_half
from octa_backend.training.volume_options import patch_size_of
from octa_backend.training.volume_plan import Shape, choose_target_shape, take_target_shape

CUBE = "a cube of patch_size within the largest scan, with sides that the network can halve"


def settle_sample(draft: Draft, ground: Ground) -> Shape:
    """Settle `patch_size` and `target_shape`; the shape of a sample."""
    fast = _is_fast(draft, ground)
    if ground.manifest.spatial_dims == 2:
        draft.take({"target_shape": None})
        return _settle_patch(draft, ground, fast)
    wanted = draft.config.target_shape
    if isinstance(wanted, tuple):
        shape = take_target_shape(wanted, ground.manifest, ground.facts.spacing_mm)
        rounded = f"{wanted} within the largest scan, with sides that the network can halve"
        return _taken(draft, shape, "as you set it" if shape == wanted else rounded)
    if draft.config.patch_size != "auto":
        cube = (draft.config.patch_size,) * 3
        return _taken(draft, take_target_shape(cube, ground.manifest, ground.facts.spacing_mm), CUBE)
    return _taken(draft, *_choose_target_shape(draft, ground, fast))


def settle_growth(draft: Draft, ground: Ground, shape: Shape) -> Shape:
    """Settle `patch_growth`, once the shape of a sample is known; the shape of the smallest ones."""
    epochs = patch_growth.FEWEST_EPOCHS if draft.config.epochs == "auto" else draft.config.epochs
    growth = patch_growth.PatchGrowth.to(shape, ground.facts.spacing_mm, epochs)
    if draft.config.patch_growth == "on":
        draft.note("patch_growth", "on", patch_growth.in_words(growth))
    draft.settle("patch_growth", lambda: patch_growth.choose_growth(growth, _is_fast(draft, ground)))
    return growth.stages()[0] if draft.config.patch_growth == "on" else shape


def _is_fast(draft: Draft, ground: Ground) -> bool:
    """Whether the device is a GPU or computes quickly in half precision."""
    return is_half(draft.config.precision) or ground.hardware.on_gpu


def _settle_patch(draft: Draft, ground: Ground, fast: bool) -> Shape:
    def fits(size: int) -> bool:
        return ground.holds(draft.config, patch_plan.patch_shape(ground.manifest, size))

    draft.settle("patch_size", lambda: patch_plan.choose_patch_size(fast, fits))
    assert isinstance(draft.config.patch_size, int)
    return patch_plan.patch_shape(ground.manifest, draft.config.patch_size)


def _choose_target_shape(draft: Draft, ground: Ground, fast: bool) -> tuple[Shape, str]:
    config = draft.config
    able = registry.NETWORKS[config.model].recomputes and config.activation_checkpointing == "auto"

    def fits(shape: Shape) -> bool:
        return ground.holds(config, shape) or (able and ground.holds(recomputing(config, "on"), shape))

    return choose_target_shape(ground.facts.median, ground.facts.spacing_mm, fast, fits)


def _taken(draft: Draft, shape: Shape, why: str) -> Shape:
    """Note the shape of a sample of volumes."""
    draft.note("target_shape", list(shape), why)
    longest = draft.note("patch_size", patch_size_of(shape), "the longest side of target_shape, which counts")
    draft.take({"target_shape": shape, "patch_size": longest})
    return shape
