"""A class whose pixels do not count: the network has no output for it, no loss and no metric looks at them.

Three numberings meet here. The dataset has classes 0 to K - 1, one of them ignored. The network has the other K - 1,
numbered without a gap. In masks that are compared with the network's answer, `IGNORED` stands for what does not count.

Shapes: *spatial: H x W pixels or D x H x W voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.store import Manifest
from octa_backend.errors import InvalidConfig, ModelDoesNotFit
from octa_backend.training.loss_plan import CountPixels

IGNORED = -1


def network_classes(mask: NDArray[np.uint8], ignore_index: int | None) -> NDArray[np.int64]:
    """Classes of the dataset (*spatial) as the network numbers them, `IGNORED` where they do not count."""
    found = mask.astype(np.int64)
    if ignore_index is not None:
        found -= mask > ignore_index
        found[mask == ignore_index] = IGNORED
    return found


def dataset_classes(mask: NDArray[np.uint8], ignore_index: int | None) -> NDArray[np.uint8]:
    """Classes that a network answered with (*spatial), as the dataset numbers them."""
    if ignore_index is None:
        return mask
    return mask + (mask >= ignore_index).view(np.uint8)


def dataset_class(index: int, ignore_index: int | None) -> int:
    """One class of a network, as the dataset numbers it."""
    return index + (ignore_index is not None and index >= ignore_index)


def without_ignored(mask: NDArray[np.uint8], ignore_index: int | None) -> NDArray[np.uint8]:
    """A mask of the dataset (*spatial) in which what does not count is background."""
    return mask if ignore_index is None else np.where(mask == ignore_index, np.uint8(0), mask)


def ignored_class(classes: int, of_model: int, ignore_index: int | None) -> int | None:
    """Which class of a dataset a model leaves out; None where the dataset has only those that the model answers with.

    Args:
        classes: of the dataset, with background.
        of_model: of the dataset that the model was trained on, with background and the ignored one.
        ignore_index: the class that was ignored there, or None.

    Raises:
        ModelDoesNotFit: the classes are others than the model's.
    """
    if classes == of_model:
        return ignore_index
    if classes == of_model - 1 == ignore_index:  # the class that it lacks is the last: all others have their numbers
        return None
    but_one = f", of which class {ignore_index} is ignored" if ignore_index is not None else ""
    raise ModelDoesNotFit(f"the masks have {classes} classes with background, but the model has {of_model}{but_one}")


def leave_out(
    ignore_index: int | None, manifest: Manifest, count_pixels: CountPixels | None
) -> tuple[Manifest, CountPixels | None]:
    """A dataset's manifest and pixel counts as the network sees them: without the ignored class.

    Args:
        ignore_index: class of the dataset, or None.
        manifest: of the dataset.
        count_pixels: counts the training scans' pixels per class; its answer gives the share of foreground.

    Raises:
        InvalidConfig: there is no such class, or fewer than two would be left, or no pixel; or masks are not at hand.
    """
    if ignore_index is None:
        return manifest, count_pixels
    if manifest.classes == 2 or ignore_index >= manifest.classes:
        raise InvalidConfig(_unfit(ignore_index, manifest))
    if count_pixels is None:
        raise InvalidConfig("ignore_index needs the masks, which are not at hand")

    @cache
    def counted() -> Sequence[int]:
        return _without(count_pixels(), ignore_index)

    pixels = counted()
    if not any(pixels):
        raise InvalidConfig(f"ignore_index={ignore_index} leaves out every pixel of the training masks")
    seen = replace(
        manifest,
        classes=manifest.classes - 1,
        mask_values=tuple(_without(manifest.mask_values, ignore_index)),
        foreground_fraction=sum(pixels[1:]) / sum(pixels),
    )
    return seen, counted


def _without(values: Sequence[int], index: int) -> Sequence[int]:
    return (*values[:index], *values[index + 1 :])


def _unfit(ignore_index: int, manifest: Manifest) -> str:
    classes = ", ".join(f"{index} (value {value} in the masks)" for index, value in enumerate(manifest.mask_values))
    if manifest.classes == 2:
        return f"ignore_index={ignore_index} would leave one class of {classes}; the masks need three or more"
    return f"ignore_index={ignore_index} is no class of the masks, which have {classes}; choose one from 1 on"
