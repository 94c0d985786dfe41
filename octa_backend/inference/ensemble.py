"""Several models that answer together: the mean of their probabilities.

Shapes: C channels, H x W pixels, K classes with background.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from octa_backend.errors import ModelsDiffer
from octa_backend.inference.predictor import Predictor


class Together:
    """One or more models as one. Each sees the scan in its own channels and normalisation, and counts the same.

    Args:
        models: by their names, at least one.

    Attributes:
        models: likewise.
        spatial_dims, ignore_index, classes, labels, colours, mask_values: the first model's, see `Predictor`.
        engine: what they compute with, for people.

    Raises:
        ModelsDiffer: they do not tell the same classes apart.
    """

    def __init__(self, models: Mapping[str, Predictor]) -> None:
        self.models = dict(models)
        first = next(iter(self.models.values()))
        self.ignore_index, self.classes, self.labels = first.ignore_index, first.classes, first.labels
        self.colours, self.mask_values = first.colours, first.mask_values
        self.spatial_dims = first.spatial_dims
        self.engine = ", ".join(dict.fromkeys(model.engine for model in self.models.values()))
        if not all(_agree(first, model) for model in self.models.values()):
            told = "; ".join(f"{name}: {_described(model)}" for name, model in self.models.items())
            raise ModelsDiffer(f"only models of the same classes can answer together, but these have {told}")

    def probabilities(self, image: NDArray[np.generic], *, tta: bool = False) -> Tensor:
        """Mean probability of each class with background, float32 (K, H, W); see `Predictor.probabilities`."""
        found = [model.probabilities(image, tta=tta) for model in self.models.values()]
        return torch.stack(found).mean(0) if len(found) > 1 else found[0]


def _agree(one: Predictor, other: Predictor) -> bool:
    """Whether both tell the same classes apart, by their names where both have some."""
    same_names = not (one.labels and other.labels) or _names(one) == _names(other)
    same_numbers = all(
        getattr(one, number) == getattr(other, number) for number in ("classes", "ignore_index", "spatial_dims")
    )
    return same_numbers and same_names


def _names(model: Predictor) -> list[str]:
    return [label.name for label in model.labels]


def _described(model: Predictor) -> str:
    listed = f" ({', '.join(_names(model))})" if model.labels else ""
    but_one = f", of which class {model.ignore_index} is ignored" if model.ignore_index is not None else ""
    kind = " of volumes" if model.spatial_dims == 3 else ""
    return f"{model.classes} classes{kind}{listed}{but_one}"
