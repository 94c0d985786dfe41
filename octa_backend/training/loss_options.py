"""The names of the losses, and which options of `TrainConfig` each looks at. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

LossName = Literal[
    "dice_bce",
    "dice_ce",
    "bce",
    "ce",
    "weighted_ce",
    "unet_weight_map",
    "dice",
    "generalized_dice",
    "iou",
    "focal",
    "focal_dice",
    "tversky",
    "focal_tversky",
    "cldice",
    "boundary",
]

Denominator = Literal["plain", "squared"]

USES: Mapping[LossName, tuple[str, ...]] = {
    "dice_bce": ("bce_weight", "dice_weight", "pos_weight", "dice_denominator"),
    "dice_ce": ("bce_weight", "dice_weight", "dice_denominator"),
    "bce": ("pos_weight",),
    "ce": (),
    "weighted_ce": ("class_weights",),
    "unet_weight_map": ("class_weights", "border_weight", "border_sigma"),
    "dice": ("dice_denominator",),
    "generalized_dice": (),
    "iou": (),
    "focal": ("focal_alpha", "focal_gamma"),
    "focal_dice": ("focal_weight", "dice_weight", "dice_denominator", "focal_alpha", "focal_gamma"),
    "tversky": ("tversky_alpha", "tversky_beta"),
    "focal_tversky": ("tversky_alpha", "tversky_beta", "focal_tversky_exponent"),
    "cldice": ("cldice_alpha", "cldice_iterations", "dice_denominator"),
    "boundary": ("dice_weight", "boundary_weight", "dice_denominator"),
}
"""The options that each loss looks at; it ignores the others."""

GAP_LOSSES: tuple[LossName, ...] = ("unet_weight_map",)
"""Losses that look at how wide the gaps between objects are."""

OPTIONS = tuple(dict.fromkeys(option for options in USES.values() for option in options))
"""All options of losses."""

NEEDED: Mapping[LossName, tuple[str, ...]] = {
    "dice_bce": ("bce_weight", "dice_weight"),
    "dice_ce": ("bce_weight", "dice_weight"),
    "focal_dice": ("focal_weight", "dice_weight"),
    "boundary": ("dice_weight",),  # the boundary loss alone ignores scans without foreground
}
"""The weights of which at least one must be above 0, or the loss has nothing to minimise."""

PARTNERS: Mapping[LossName, LossName] = {"dice_bce": "dice_ce", "bce": "ce"}
"""The losses for binary masks alone, each with its partner for several classes alone; all others take both."""


def _numbers_in_text(value: Any) -> Any:
    """Forms and the command line know text only: `1,2,5`, with or without brackets."""
    if not isinstance(value, str) or value == "auto":
        return value
    return value.strip().removeprefix("[").removesuffix("]").split(",")


def _some_class_counts(value: Any) -> Any:
    if value != "auto" and not any(value):
        raise ValueError("all class weights are 0; at least one must be above 0")
    return value


ClassWeights = Annotated[
    tuple[Annotated[float, Field(ge=0, le=10_000)], ...] | Literal["auto"],
    BeforeValidator(_numbers_in_text),
    AfterValidator(_some_class_counts),
]
"""A weight per class with background, or `auto`."""


def check_weights(loss: LossName, values: Mapping[str, Any]) -> None:
    """See that a loss has something to minimise.

    Raises:
        ValueError: all the weights that it needs are 0.
    """
    needed = NEEDED.get(loss, ())
    if needed and not any(values[name] for name in needed):
        if len(needed) == 1:
            raise ValueError(f"{needed[0]} is 0; loss={loss} needs it above 0")
        raise ValueError(f"{' and '.join(needed)} are both 0; at least one must be above 0")
