"""Regions as what a network learns: which classes each channel stands for, and which one it adds to the smaller ones.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from octa_backend.errors import InvalidConfig
from octa_backend.training.volume_options import region_classes

REGIONAL_LOSSES = ("dice_bce", "bce", "dice", "iou", "tversky", "focal_tversky", "cldice", "boundary")
"""Losses that look at each channel by itself; the others compare classes that exclude each other."""


def check_target(target: str, regions: Mapping[str, Sequence[int]] | None, loss: str) -> None:
    """See that there are regions where they are to be learned, and that the loss can compare them.

    Raises:
        ValueError: with what would be right.
    """
    if target == "classes":
        return
    if not regions:
        raise ValueError('target=regions needs regions, such as {"WT": [1, 2, 4], "TC": [1, 4], "ET": [4]}')
    if loss not in ("auto", *REGIONAL_LOSSES):
        raise ValueError(
            f"loss={loss} compares classes that exclude each other, and regions overlap; with target=regions take auto "
            f"or one of {', '.join(REGIONAL_LOSSES)}"
        )


@dataclass(frozen=True, slots=True)
class RegionTarget:
    """One channel of a network of regions.

    Attributes:
        name: of the region.
        classes: of the network, that make it up.
        adds: the one of them that no smaller region has.
    """

    name: str
    classes: tuple[int, ...]
    adds: int


def region_targets(regions: Mapping[str, Sequence[int]], mask_values: Sequence[int]) -> tuple[RegionTarget, ...]:
    """The channels that regions become, the largest first; of equally large ones in the order in which they were named.

    Args:
        regions: values of the masks by the region's name.
        mask_values: the value of class 0, 1, … of the network in the masks.

    Raises:
        InvalidConfig: the masks have no such value, or one foreground class only; or classes could not be told from the
            regions again, because regions overlap without being nested, or do not add one class each.
    """
    if len(mask_values) == 2:
        raise InvalidConfig("target=regions needs masks of several classes; of binary masks, leave it at classes")
    found = region_classes(regions, mask_values)
    ordered = sorted(found, key=lambda name: -len(found[name]))
    targets = []
    for at, name in enumerate(ordered):
        left = set(found[name])
        for smaller in ordered[at + 1 :]:
            common = set(found[name]) & set(found[smaller])
            if common and common != set(found[smaller]):
                raise InvalidConfig(
                    f"target=regions: the regions {name} and {smaller} overlap, but neither lies within the other, so "
                    "labels cannot be told from them; nest them, or use target=classes"
                )
            left -= common
        if len(left) != 1:
            raise InvalidConfig(_unfit(name, [mask_values[index] for index in sorted(left)]))
        targets.append(RegionTarget(name, found[name], left.pop()))
    if missing := [str(value) for index, value in enumerate(mask_values) if index and index not in _added(targets)]:
        raise InvalidConfig(
            f"target=regions: no region has the label {missing[0]} of the masks, so it would never be found; add it to "
            f"one ({', '.join(ordered)}), or use target=classes"
        )
    return tuple(targets)


def _added(targets: Sequence[RegionTarget]) -> set[int]:
    return {target.adds for target in targets}


def _unfit(name: str, values: Sequence[int]) -> str:
    if not values:
        return f"target=regions: the region {name} adds no label to the smaller ones within it; leave it out"
    listed = " and ".join(map(str, values))
    return (
        f"target=regions: the region {name} adds the labels {listed}, which no smaller region tells apart; give a "
        "region for each but one of them"
    )
