"""Options that training scripts commonly have, said in fields of the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from octa_backend.errors import InvalidConfig
from octa_backend.training.config import TrainConfig
from octa_backend.training.precision import Hardware, pick_device, probe

FOCAL_LOSSES = ("focal_dice", "focal")
"""What `--focal-loss` may mean; the first one where `--loss` says nothing."""

WEIGHTS: Mapping[str, tuple[str, str]] = {
    "dice_bce": ("bce_weight", "dice_weight"),
    "dice_ce": ("bce_weight", "dice_weight"),
    "focal_dice": ("focal_weight", "dice_weight"),
    "boundary": ("dice_weight", "boundary_weight"),
}
"""The fields that weigh the two components of a loss, in the order in which the loss has its components."""


OF_AUTO = "dice_bce"
"""What `loss=auto` becomes, or `dice_ce`, which has the same two fields."""


@dataclass(frozen=True, slots=True)
class ScriptOptions:
    """What was given: `--focal-loss`, `--loss-weights A B` and `--amp`."""

    focal_loss: bool = False
    loss_weights: tuple[float, float] | None = None
    amp: bool = False


def in_fields(given: ScriptOptions, values: Mapping[str, Any], kept: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The user's fields with those that the script options stand for.

    Args:
        given: the script options.
        values: fields given beside them.
        kept: fields of the training that goes on.
        device: the `device` setting; it is measured for `--amp` alone.

    Raises:
        InvalidConfig: two options contradict each other.
        DeviceUnavailable: there is no such device.
    """
    fields = dict(values)
    if given.focal_loss:
        fields["loss"] = _focal(values.get("loss"))
    if given.loss_weights is not None:
        default = TrainConfig.model_fields["loss"].default
        weights = _weights(fields.get("loss", kept.get("loss", default)), given.loss_weights)
        _refuse_double("--loss-weights", weights, values)
        fields |= weights
    if given.amp:
        fields.setdefault("precision", amp_precision(probe(pick_device(device))))
        if fields["precision"] == "fp32":
            raise InvalidConfig("--amp computes in 16 bits and --precision fp32 does not; leave one of them out")
    return fields


def amp_precision(hardware: Hardware) -> str:
    """`fp16` on a GPU without bf16; `auto` elsewhere, which is bf16 where that pays, as measured."""
    return "fp16" if hardware.device.startswith("cuda") and not hardware.bf16_pays else "auto"


def _focal(loss: str | None) -> str:
    if loss in (None, "auto"):
        return FOCAL_LOSSES[0]
    if loss not in FOCAL_LOSSES:
        raise InvalidConfig(
            f"--focal-loss and --loss {loss} contradict each other; --focal-loss alone is --loss {FOCAL_LOSSES[0]}"
        )
    return loss


def _weights(loss: str, weights: tuple[float, float]) -> dict[str, float]:
    first, second = weights
    loss = OF_AUTO if loss == "auto" else loss
    if loss in WEIGHTS:
        return dict(zip(WEIGHTS[loss], weights, strict=True))
    if loss == "cldice":
        if abs(first + second - 1) > 1e-6:
            raise InvalidConfig(
                f"--loss-weights {first:g} {second:g}: the weights of Dice and clDice in loss=cldice add up to 1, as "
                "0.7 0.3 do"
            )
        return {"cldice_alpha": second}
    raise InvalidConfig(
        f"--loss-weights needs a loss of two components: {', '.join((*WEIGHTS, 'cldice'))}; loss={loss} has one"
    )


def _refuse_double(option: str, fields: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    double = [name for name in fields if name in values]
    if double:
        named = " and ".join(f"--{name.replace('_', '-')}" for name in double)
        raise InvalidConfig(f"{option} and {named} set the same; leave one of them out")
