"""Warnings about a scan that is to be segmented, beside its answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.diagnosis.messages_prediction import FEATURE_NAMES, PREDICTION_MESSAGES
from octa_backend.diagnosis.text import Language, render
from octa_backend.inference.distribution import Outlier, features_of, outliers
from octa_backend.inference.ensemble import Together

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


def _warning(model: str, out: list[Outlier], language: Language) -> dict[str, Any]:
    separator = "、" if language == "zh" else ", "
    names = separator.join(render(FEATURE_NAMES[one.feature], {}, language) for one in out)
    message = PREDICTION_MESSAGES[OUT_OF_DISTRIBUTION]
    return {
        "code": OUT_OF_DISTRIBUTION,
        "model_id": model,
        "message": render(message, {"model": model, "features": names}, language),
        "evidence": {one.feature: {"value": one.value, "low": one.low, "high": one.high} for one in out},
    }
