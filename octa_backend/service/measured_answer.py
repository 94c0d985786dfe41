"""What an answer says of a mask's measurements."""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.normalise import to_unit
from octa_backend.diagnosis.text import Language
from octa_backend.inference import pictures
from octa_backend.inference.measurement import shown
from octa_backend.inference.measurement_picture import measurement_picture
from octa_backend.inference.measurements import measure
from octa_backend.inference.scale import MeasureOptions
from octa_backend.inference.segment_measurements import SegmentMeasurements, segment_measurements


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """What an answer holds beside the measurements: each segment, a picture, and in which language reasons are."""

    segments: bool = False
    picture: bool = False
    language: Language = "en"


def measured_answer(
    image: NDArray[np.generic], mask: NDArray[np.uint8], classes: int, options: MeasureOptions, answer: AnswerOptions
) -> dict[str, Any]:
    """The fields of an answer that tell of measurements.

    Args:
        image: (C, H, W) as decoded.
        mask: (H, W), class indices.
        classes: of the model, with background.
        options: what is measured, and in which units.
        answer: what is told.
    """
    start = time.perf_counter()
    measured = measure(mask, classes, options)
    seconds = time.perf_counter() - start
    segments, picture = None, None
    if answer.segments:
        segments = [_segment(one, answer.language) for one in segment_measurements(measured)]
    if answer.picture:
        drawn = pictures.png(measurement_picture(to_unit(image), measured))
        picture = base64.b64encode(drawn).decode()
    return {
        "measurements": {name: shown(value, answer.language) for name, value in measured.values.items()},
        "measuring_seconds": seconds,
        "segments": segments,
        "measurement_png": picture,
    }


def nothing_measured() -> dict[str, Any]:
    """The same fields where no measurements were asked for."""
    return {"measurements": {}, "measuring_seconds": None, "segments": None, "measurement_png": None}


def _segment(segment: SegmentMeasurements, language: Language) -> dict[str, Any]:
    names = ("length", "arc_chord", "curvature", "density")
    numbers = {name: shown(getattr(segment, name), language) for name in names}
    return {"start": segment.start, "end": segment.end, **numbers}
