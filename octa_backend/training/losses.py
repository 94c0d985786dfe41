"""Losses. Each returns its total and its unweighted components by name.

Shapes: B scans, K classes, *spatial pixels or voxels. logits_B1: (B, 1, *spatial); logits_BK: (B, K, *spatial);
logits_BC: either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from octa_backend.models.registry import supervision_weights
from octa_backend.training.boundary_loss import boundary_loss
from octa_backend.training.cldice_loss import cldice_loss
from octa_backend.training.comparison import Comparison, compare
from octa_backend.training.config import TrainConfig
from octa_backend.training.distribution_losses import (
    binary_cross_entropy,
    cross_entropy,
    focal_loss,
    weight_map_cross_entropy,
    weighted_cross_entropy,
)
from octa_backend.training.loss_options import Denominator, LossName
from octa_backend.training.region_losses import (
    dice_loss,
    focal_tversky_loss,
    generalized_dice_loss,
    iou_loss,
    tversky_loss,
)
from octa_backend.training.region_targets import RegionTarget

Logits = Tensor | Sequence[Tensor]
"""Of one level (B, C, *spatial), or of several of the same shape, finest first (deep supervision)."""

Component = Callable[[Comparison], Tensor]
Recipe = dict[str, tuple[float, Component]]
"""The components of a loss by name, each with its weight."""


class LossResult(NamedTuple):
    """A loss and what it is made of: `total` is the weighted sum of `components`, each a float32 scalar."""

    total: Tensor
    components: dict[str, Tensor]


class Loss(nn.Module):
    """Weighted sum of components.

    Computed in float32 whatever the network computed in, so that it is stable under autocast.

    Args:
        recipe: what it is made of.

    Attributes:
        ignores: whether masks may hold `IGNORED`, whose pixels do not count.
        regions: the classes that each channel of logits stands for, where they are regions.
    """

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.weights = {name: weight for name, (weight, _) in recipe.items()}
        self.functions = {name: function for name, (_, function) in recipe.items()}
        self.ignores = False
        self.regions: tuple[tuple[int, ...], ...] = ()

    def forward(self, logits_BC: Logits, mask_B: Tensor, gap_B: Tensor | None = None) -> LossResult:
        """Compare logits (B, C, *spatial), or several of deep supervision, with class indices (B, *spatial), int64.

        Of several logits each component is the mean, weighted by `supervision_weights`. `gap_B` is what
        `unet_weight_map` looks at beside the mask, where it is known; see `Comparison`.

        Raises:
            ValueError: the shapes do not fit (broadcasting would hide a bug).
        """
        finest, *others = _levels(logits_BC)
        with torch.autocast(finest.device.type, enabled=False):
            comparison = compare(finest, mask_B, ignores=self.ignores, regions=self.regions, gap_B=gap_B)
            components = self._components(comparison)
            if others:
                levels = [components, *(self._components(comparison.beside(logits)) for logits in others)]
                components = {name: _supervised([level[name] for level in levels]) for name in components}
            total = torch.stack([self.weights[name] * value for name, value in components.items()]).sum()
            return LossResult(total, components)

    def _components(self, comparison: Comparison) -> dict[str, Tensor]:
        return {name: function(comparison) for name, function in self.functions.items()}


def _levels(logits_BC: Logits) -> Sequence[Tensor]:
    return [logits_BC] if isinstance(logits_BC, Tensor) else logits_BC


def _supervised(levels: Sequence[Tensor]) -> Tensor:
    """One number for a component of several levels, finest first."""
    weights = levels[0].new_tensor(supervision_weights(len(levels)))
    return (weights * torch.stack(list(levels))).sum()


def _dice_bce(bce_weight: float, dice_weight: float, pos_weight: float | None, dice_denominator: Denominator) -> Recipe:
    bce = partial(binary_cross_entropy, pos_weight=pos_weight)
    return {"bce": (bce_weight, bce), "dice": (dice_weight, partial(dice_loss, denominator=dice_denominator))}


class DiceBCELoss(Loss):
    """Weighted sum of binary cross-entropy and Dice loss (1 - soft Dice, mean over scans), for binary masks.

    Args:
        bce_weight: weight of the cross-entropy.
        dice_weight: weight of the Dice loss.
        pos_weight: weight of foreground pixels in the cross-entropy; None is 1.
        dice_denominator: of the soft Dice, see `soft_dice`.
    """

    def __init__(
        self,
        bce_weight: float = 0.5,
        dice_weight: float = 0.5,
        pos_weight: float | None = None,
        dice_denominator: Denominator = "plain",
    ) -> None:
        super().__init__(_dice_bce(bce_weight, dice_weight, pos_weight, dice_denominator))
        self.pos_weight = pos_weight

    def forward(self, logits_B1: Logits, target_B1: Tensor, gap_B: Tensor | None = None) -> LossResult:
        """Compare logits (B, 1, *spatial), or several, with a mask of 0 and 1 of the same shape; `gap_B` is not needed.

        Raises:
            ValueError: the shapes differ, or there is more than one channel.
        """
        for level in _levels(logits_B1):
            if level.shape != target_B1.shape:
                raise ValueError(f"logits are {tuple(level.shape)} but the mask is {tuple(target_B1.shape)}")
            if level.shape[1] != 1:
                raise ValueError(f"logits are {tuple(level.shape)}, but binary masks need one channel")
        return super().forward(logits_B1, target_B1[:, 0], gap_B)


class DiceCELoss(Loss):
    """Weighted sum of softmax cross-entropy and Dice loss (mean over scans and foreground classes).

    Args:
        ce_weight: weight of the cross-entropy.
        dice_weight: weight of the Dice loss.
        dice_denominator: of the soft Dice, see `soft_dice`.
    """

    def __init__(
        self, ce_weight: float = 0.5, dice_weight: float = 0.5, dice_denominator: Denominator = "plain"
    ) -> None:
        dice = partial(dice_loss, denominator=dice_denominator)
        super().__init__({"ce": (ce_weight, cross_entropy), "dice": (dice_weight, dice)})


def _dice(config: TrainConfig) -> Component:
    return partial(dice_loss, denominator=config.dice_denominator)


def _focal(config: TrainConfig) -> Component:
    return partial(focal_loss, alpha=config.focal_alpha, gamma=config.focal_gamma)


def _weight_map(config: TrainConfig) -> Component:
    return partial(
        weight_map_cross_entropy,
        class_weights=_class_weights(config),
        border_weight=config.border_weight,
        border_sigma=config.border_sigma,
    )


def _focal_tversky(config: TrainConfig) -> Component:
    alpha, beta = config.tversky_alpha, config.tversky_beta
    return partial(focal_tversky_loss, alpha=alpha, beta=beta, exponent=config.focal_tversky_exponent)


def _pos_weight(config: TrainConfig) -> float | None:
    assert config.pos_weight != "auto", "the plan resolves it"
    return config.pos_weight


def _class_weights(config: TrainConfig) -> tuple[float, ...]:
    assert config.class_weights != "auto", "the plan resolves it"
    return config.class_weights


RECIPES: Mapping[LossName, Callable[[TrainConfig], Recipe]] = {
    "bce": lambda c: {"bce": (1.0, partial(binary_cross_entropy, pos_weight=_pos_weight(c)))},
    "ce": lambda _: {"ce": (1.0, cross_entropy)},
    "weighted_ce": lambda c: {"weighted_ce": (1.0, partial(weighted_cross_entropy, class_weights=_class_weights(c)))},
    "unet_weight_map": lambda c: {"weight_map_ce": (1.0, _weight_map(c))},
    "dice": lambda c: {"dice": (1.0, _dice(c))},
    "generalized_dice": lambda _: {"generalized_dice": (1.0, generalized_dice_loss)},
    "iou": lambda _: {"iou": (1.0, iou_loss)},
    "focal": lambda c: {"focal": (1.0, _focal(c))},
    "focal_dice": lambda c: {"focal": (c.focal_weight, _focal(c)), "dice": (c.dice_weight, _dice(c))},
    "tversky": lambda c: {"tversky": (1.0, partial(tversky_loss, alpha=c.tversky_alpha, beta=c.tversky_beta))},
    "focal_tversky": lambda c: {"focal_tversky": (1.0, _focal_tversky(c))},
    "cldice": lambda c: {
        "dice": (1 - c.cldice_alpha, _dice(c)),
        "cldice": (c.cldice_alpha, partial(cldice_loss, iterations=c.cldice_iterations)),
    },
    "boundary": lambda c: {"dice": (c.dice_weight, _dice(c)), "boundary": (c.boundary_weight, boundary_loss)},
}
"""All losses but the two with a class of their own, `DiceBCELoss` and `DiceCELoss`."""


def make_loss(config: TrainConfig, regions: Sequence[RegionTarget] = ()) -> Loss:
    """The loss that a resolved config names.

    Args:
        config: of the plan.
        regions: what the channels of the logits stand for, where the network learns regions.
    """
    loss = _plain_loss(config, of_regions=bool(regions))
    loss.ignores = config.ignore_index is not None
    loss.regions = tuple(target.classes for target in regions)
    return loss


def _plain_loss(config: TrainConfig, *, of_regions: bool) -> Loss:
    assert config.loss != "auto", "make_plan resolves it"
    if config.loss == "dice_bce":
        numbers = (config.bce_weight, config.dice_weight, _pos_weight(config), config.dice_denominator)
        return Loss(_dice_bce(*numbers)) if of_regions else DiceBCELoss(*numbers)
    if config.loss == "dice_ce":
        return DiceCELoss(config.bce_weight, config.dice_weight, config.dice_denominator)
    return Loss(RECIPES[config.loss](config))


def compute_loss(loss: Loss, logits_BK: Logits, mask_B: Tensor, gap_B: Tensor | None = None) -> LossResult:
    """Compare logits (B, K, *spatial), or several, with classes (B, *spatial), whichever form the loss wants."""
    result: LossResult = loss(logits_BK, mask_B.unsqueeze(1) if isinstance(loss, DiceBCELoss) else mask_B, gap_B)
    return result
