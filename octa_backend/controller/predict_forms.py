"""The form's fields of a prediction, and what they ask the service for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octa_backend import errors
from octa_backend.diagnosis.text import Language
from octa_backend.inference.scale import MeasureOptions
from octa_backend.service.predict_service import PredictOptions

MAX_PIXEL_SIZE_UM = 1000.0
MAX_FIELD_OF_VIEW_MM = 100.0
"""Wider than any eye: a value above was given in another unit."""

MEASURE_FIELDS = {"pixel_size_um", "field_of_view_mm", "vessel_class", "measure_segments", "measure_picture"}


class PredictForm(BaseModel):
    """The form's fields beside its files."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model_id: str | None = None
    """Which model answers; the newest one where neither this nor `job_id` is given."""

    job_id: str | None = None
    """The newest model of this job."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """Probability from which a pixel is foreground (binary models)."""

    tta: bool = False
    """Average over the four flips of the scan: a little better, four times as long."""

    measure: bool = True
    """Measure the vessels of the mask."""

    pixel_size_um: float | None = Field(default=None, gt=0, le=MAX_PIXEL_SIZE_UM)
    """Side of a pixel in µm; measurements are in µm and mm then, else in pixels."""

    field_of_view_mm: float | None = Field(default=None, gt=0, le=MAX_FIELD_OF_VIEW_MM)
    """Width of the scan in mm, in place of `pixel_size_um`."""

    vessel_class: int = Field(default=1, ge=1)
    """Which class of the mask is vessel."""

    measure_segments: bool = False
    """Also list the length and tortuosity of each vessel segment."""

    measure_picture: bool = False
    """Also draw centre lines, branch and end points and the foveal avascular zone onto the scan."""

    keep: bool = True
    """Keep the prediction in the history; `false` leaves no trace of it."""

    batch: bool = False
    """Predict in the background, as with a zip or more scans than are answered at once."""

    def options(self, language: Language) -> PredictOptions:
        """What the service does.

        Raises:
            InvalidRequest: something is to be measured in some way, but nothing is to be measured.
            InvalidScale: both sizes are given.
        """
        if not self.measure:
            if idle := sorted(self.model_fields_set & MEASURE_FIELDS):
                raise errors.InvalidRequest(f"with measure=false nothing is measured; leave out {', '.join(idle)}")
            return PredictOptions(self.threshold, self.tta)
        measuring = MeasureOptions(self.pixel_size_um, self.field_of_view_mm, self.vessel_class)
        return PredictOptions(
            self.threshold, self.tta, measuring, self.measure_segments, self.measure_picture, language
        )


FILE_FIELD = {
    "oneOf": [
        {"type": "string", "format": "binary"},
        {"type": "array", "items": {"type": "string", "format": "binary"}},
    ],
    "description": "one scan, several under the same name, or a zip of scans",
}
PROPERTIES: dict[str, Any] = {"file": FILE_FIELD, **PredictForm.model_json_schema()["properties"]}


def read_predict_form(fields: Mapping[str, str]) -> PredictForm:
    """The fields as they came.

    Raises:
        InvalidRequest: one is unknown, or has a value that it cannot have.
    """
    try:
        return PredictForm.model_validate(fields)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise errors.InvalidRequest(faults) from error
