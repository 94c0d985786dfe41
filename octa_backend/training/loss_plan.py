"""What a plan decides about the loss: the one that fits the classes, and the weights that were left to the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from octa_backend.data.store import Manifest
from octa_backend.diagnosis.content import SCARCE_FOREGROUND, TOO_SCARCE_FOREGROUND
from octa_backend.errors import InvalidConfig
from octa_backend.training.class_balance import BOUNDS, foreground_weight, inverse_frequencies
from octa_backend.training.config import TrainConfig
from octa_backend.training.loss_options import OPTIONS, PARTNERS, USES, LossName

CountPixels = Callable[[], Sequence[int]]
"""Counts the training scans' pixels of each class, background first; called only where a weight needs it."""

Decide = Callable[[str, Any, str], Any]
"""Notes a field, its value and the reason; returns the value."""

NO_WEIGHT = (None, "none: one weight would be for all regions, and they differ in their share of the pixels")


def resolve_loss(
    config: TrainConfig, manifest: Manifest, count_pixels: CountPixels | None, decide: Decide
) -> dict[str, Any]:
    """The loss's fields that the plan sets.

    Args:
        config: as the user gave it.
        manifest: of the dataset.
        count_pixels: None where the masks are not at hand; binary ones are then weighed by the manifest's mean.
        decide: is told each decision.

    Raises:
        InvalidConfig: `class_weights` does not fit the classes, or the masks are needed and not at hand.
    """
    chosen: dict[str, Any] = {}
    loss = chosen["loss"] = _loss(config, manifest, decide)
    if "pos_weight" in USES[loss] and config.pos_weight == "auto":
        found = NO_WEIGHT if config.target == "regions" else _choose_pos_weight(loss, manifest, count_pixels)
        chosen["pos_weight"] = decide("pos_weight", *found)
    if "class_weights" in USES[loss]:
        if config.class_weights == "auto":
            pixels = _pixels(manifest, count_pixels)
            chosen["class_weights"] = inverse_frequencies(pixels)
            decide("class_weights", list(chosen["class_weights"]), _balance(pixels))
        elif len(config.class_weights) != manifest.classes:
            left = " and without the ignored one" if config.ignore_index is not None else ""
            raise InvalidConfig(
                f"class_weights has {len(config.class_weights)} weights, but the masks have {manifest.classes} classes "
                f"with background{left}; give one for each, background first"
            )
    _name_idle_options(config, loss, decide)
    return chosen


def with_closed_weight(config: TrainConfig) -> TrainConfig:
    """A resolved config whose loss was changed: what the former loss did not look at is open still, and stays out."""
    assert config.loss != "auto", "the plan resolves it"
    is_open = config.pos_weight == "auto" and "pos_weight" in USES[config.loss]
    return config.model_copy(update={"pos_weight": None}) if is_open else config


def _loss(config: TrainConfig, manifest: Manifest, decide: Decide) -> LossName:
    if config.target == "regions":
        if config.loss != "auto":
            return config.loss
        name: LossName = "dice_bce"
        decide("loss", name, "the default for regions: each is foreground of its own, for one sigmoid")
        return name
    if config.loss == "auto":
        chosen: LossName = decide("loss", *_choose_loss(manifest))
        return chosen
    return _fitting_loss(config, manifest, decide)


def _choose_loss(manifest: Manifest) -> tuple[LossName, str]:
    """The default loss, or its partner for several classes."""
    if manifest.classes > 2:
        return "dice_ce", f"the default for several classes: {manifest.classes} classes need a softmax"
    fraction = manifest.foreground_fraction
    return "dice_bce", (
        f"the default, for binary masks: its Dice part looks at the {fraction:.2%} of foreground alone, however few "
        "pixels that are"
    )


def _choose_pos_weight(
    loss: LossName, manifest: Manifest, count_pixels: CountPixels | None
) -> tuple[float | None, str]:
    """Background over foreground where the checks of the data call foreground scarce; else no weight.

    Nor beside a Dice part where it is so scarce that they call it an error: at 0.25 % of foreground, weights of 20 and
    100 lowered the Dice (docs/training.md).
    """
    fraction = manifest.foreground_fraction
    if fraction < TOO_SCARCE_FOREGROUND and "dice_weight" in USES[loss]:
        return None, (
            f"none, although only {fraction:.2%} of the pixels are foreground: below {TOO_SCARCE_FOREGROUND:.1%} the "
            "weight that evens this out costs more precision than it brings recall, and the Dice part does without"
        )
    if fraction >= SCARCE_FOREGROUND:
        return None, (
            f"none: {fraction:.2%} of the pixels are foreground, which is not scarce (below {SCARCE_FOREGROUND:.0%})"
        )
    pixels = _pixels(manifest, count_pixels)
    return foreground_weight(pixels), _balance(pixels)


def _fitting_loss(config: TrainConfig, manifest: Manifest, decide: Decide) -> LossName:
    """The loss itself, or its partner where it is for the other kind of masks."""
    assert config.loss != "auto", "it was given"
    classes = manifest.classes
    weighs = "; bce_weight weighs its cross-entropy" if "bce_weight" in USES[config.loss] else ""
    for binary, several in PARTNERS.items():
        if config.loss == binary and classes > 2:
            decide("loss", several, f"the masks have {classes} classes, which need a softmax{weighs}")
            return several
        if config.loss == several and classes == 2:
            decide("loss", binary, f"the masks are binary, so one sigmoid does{weighs}")
            return binary
    return config.loss


def _pixels(manifest: Manifest, count_pixels: CountPixels | None) -> Sequence[int]:
    if count_pixels is not None:
        return count_pixels()
    if manifest.classes > 2:
        raise InvalidConfig("class_weights=auto needs the masks, which are not at hand; give a weight for each class")
    total = sum(math.prod(scan.shape) for scan in manifest.scans)
    foreground = round(manifest.foreground_fraction * total)
    return total - foreground, foreground


def _balance(pixels: Sequence[int]) -> str:
    background, *others = (f"{count / sum(pixels):.2%}" for count in pixels)
    foreground = f"{others[0]} are foreground" if len(others) == 1 else f"{', '.join(others)} are of the other classes"
    limits = f"weights stay within {BOUNDS[0]:g} to {BOUNDS[1]:g}"
    return f"{background} of the training pixels are background, {foreground}; so weighed, all count alike ({limits})"


def _name_idle_options(config: TrainConfig, loss: LossName, decide: Decide) -> None:
    """Say which options were changed that the loss does not look at."""
    for name in OPTIONS:
        value = getattr(config, name)
        if name not in USES[loss] and value != TrainConfig.model_fields[name].default:
            users = ", ".join(user for user, options in USES.items() if name in options)
            decide(name, value, f"this has no effect on loss={loss}; it belongs to {users}")
