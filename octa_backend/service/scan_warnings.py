"""Warnings about a scan that is to be segmented, beside its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.diagnosis.messages_prediction import FEATURE_NAMES, OF_CHANNEL, PREDICTION_MESSAGES
from octa_backend.diagnosis.text import Language, render
from octa_backend.inference.distribution import Outlier, features_of, outliers
from octa_backend.inference.ensemble import Together
from octa_backend.inference.volume_distribution import volume_features
from octa_backend.inference.volume_predictor import VolumePredictor

OUT_OF_DISTRIBUTION = "out_of_distribution"


def scan_warnings(models: Together, image: NDArray[np.generic], language: Language) -> list[dict[str, Any]]:
    """One warning for each model whose training scans the scan, (C, H, W) as decoded, is unlike.

    A model whose card does not say what its training scans were like is silent.
    """
    known = {name: model.scan_statistics for name, model in models.models.items() if model.scan_statistics}
    if not known:
        return []
    features = features_of(image)
    found = {name: outliers(features, statistics) for name, statistics in known.items()}
    return [_warning(name, out, language) for name, out in found.items() if out]


def volume_warnings(
    models: Mapping[str, VolumePredictor],
    seen: Mapping[str, NDArray[np.generic]],
    spacing_mm: Sequence[float],
    language: Language,
) -> list[dict[str, Any]]:
    """The same of a volume.

    Args:
        models: by their names.
        seen: for each of them the volume, (C, D, H, W), cropped and with the voxels that it sees.
        spacing_mm: of the file's own voxels; nothing where it knows none.
        language: of the warnings.
    """
    found = {
        name: outliers(volume_features(seen[name], model.normalisation, spacing_mm), model.scan_statistics)
        for name, model in models.items()
        if model.scan_statistics
    }
    return [_warning(name, out, language) for name, out in found.items() if out]


def _feature_name(feature: str, language: Language) -> str:
    """In words; of one channel of several with its number ("low_0001")."""
    name, _, channel = feature.rpartition("_")
    if not name:
        return render(FEATURE_NAMES[feature], {}, language)
    return render(OF_CHANNEL, {"feature": render(FEATURE_NAMES[name], {}, language), "channel": channel}, language)


def _warning(model: str, out: list[Outlier], language: Language) -> dict[str, Any]:
    separator = "、" if language == "zh" else ", "
    names = separator.join(_feature_name(one.feature, language) for one in out)
    message = PREDICTION_MESSAGES[OUT_OF_DISTRIBUTION]
    return {
        "code": OUT_OF_DISTRIBUTION,
        "model_id": model,
        "message": render(message, {"model": model, "features": names}, language),
        "evidence": {one.feature: {"value": one.value, "low": one.low, "high": one.high} for one in out},
    }
