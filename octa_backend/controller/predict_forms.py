"""The form's fields of a prediction, and what they ask the service for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from octa_backend import errors
from octa_backend.controller.forms import Form
from octa_backend.diagnosis.text import Language
from octa_backend.faults import faults_in
from octa_backend.inference.clean_options import CleanOptions
from octa_backend.inference.scale import LARGEST_SIZE, LEAST_SIZE, MeasureOptions
from octa_backend.service.predict_service import PredictOptions
from octa_backend.storage.uploads import Upload

SIZE_FIELDS = set(LEAST_SIZE)
MEASURE_FIELDS = SIZE_FIELDS | {"vessel_class", "measure_segments", "measure_picture"}

LISTS = ("model_id",)
"""Fields that may come several times."""

MAX_MODELS = 16
"""More than that answer together hardly better, and each takes its time and memory."""


def _size(name: str) -> Any:
    return Field(default=None, ge=LEAST_SIZE[name], le=LARGEST_SIZE[name])


class PredictForm(BaseModel):
    """The form's fields beside its files."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model_id: str | None = None
    """Which model answers; the default model where neither this nor `job_id` is given. Several, with commas between
    them or as several fields of this name, answer together: the mean of their probabilities."""

    job_id: str | None = None
    """The newest model of this job."""

    threshold: Annotated[float, Field(gt=0, lt=1)] | Literal["tuned", "auto"] = 0.5
    """Probability from which a pixel is foreground (binary models): a number, `tuned` for the one that was tuned on the
    model's validation scans, or `auto` for Otsu's of each scan."""

    tta: bool = False
    """Average over the eight flips and right-angle turns of the scan: at times a little better, eight times as long. A
    model whose masks lie beside what they show is averaged over those alone that keep them on their side."""

    min_object_px: int | None = Field(default=None, ge=1)
    """Objects of the mask of fewer pixels are removed."""

    min_object_um2: float | None = Field(default=None, gt=0)
    """Objects of a smaller area in µm² are removed, in place of `min_object_px`."""

    max_hole_px: int | None = Field(default=None, ge=1)
    """Holes of the mask of at most so many pixels are filled."""

    max_hole_um2: float | None = Field(default=None, gt=0)
    """Holes of at most this area in µm² are filled, in place of `max_hole_px`."""

    confidence_map: bool = False
    """Also draw the probability of the class chosen."""

    probability: bool = False
    """Also draw the probability of foreground, in 16 bits."""

    measure: bool = True
    """Measure the vessels of the mask."""

    pixel_size_um: float | None = _size("pixel_size_um")
    """Side of a pixel in µm; measurements are in µm and mm then, else in pixels."""

    field_of_view_mm: float | None = _size("field_of_view_mm")
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

    def model_ids(self) -> list[str]:
        """The models that are named.

        Raises:
            InvalidRequest: too many, one twice, or an empty name.
        """
        if self.model_id is None:
            return []
        ids = [one.strip() for one in self.model_id.split(",")]
        if not all(ids) or len(set(ids)) < len(ids) or len(ids) > MAX_MODELS:
            raise errors.InvalidRequest(
                f"model_id={self.model_id!r}: name 1 to {MAX_MODELS} different models, with commas between them"
            )
        return ids

    def options(self, language: Language) -> PredictOptions:
        """What the service does.

        Raises:
            InvalidRequest: something is to be measured in some way, but nothing is to be measured.
            InvalidScale: both sizes are given, or none where an area in µm² needs one.
            InvalidOptions: a limit is given in two units.
        """
        sizes = MeasureOptions(self.pixel_size_um, self.field_of_view_mm, self.vessel_class)
        cleaning = CleanOptions(self.min_object_px, self.min_object_um2, self.max_hole_px, self.max_hole_um2, sizes)
        if not self.measure and (idle := sorted(self.model_fields_set & self._idle_without_measuring())):
            raise errors.InvalidRequest(f"with measure=false nothing is measured; leave out {', '.join(idle)}")
        return PredictOptions(
            threshold=self.threshold,
            tta=self.tta,
            measuring=sizes if self.measure else None,
            with_segments=self.measure_segments,
            with_picture=self.measure_picture,
            language=language,
            cleaning=cleaning if cleaning.asks_for_something else None,
            with_confidence=self.confidence_map,
            with_probability=self.probability,
        )

    def _idle_without_measuring(self) -> set[str]:
        in_um2 = self.min_object_um2 is not None or self.max_hole_um2 is not None
        return MEASURE_FIELDS - SIZE_FIELDS if in_um2 else MEASURE_FIELDS


FILE_FIELD = {
    "oneOf": [
        {"type": "string", "format": "binary"},
        {"type": "array", "items": {"type": "string", "format": "binary"}},
    ],
    "description": "one scan, several under the same name, or a zip of scans",
}
MASK_FIELD = {
    **FILE_FIELD,
    "description": "the known mask of each scan, in their order; the predicted one is compared with it",
}
PROPERTIES: dict[str, Any] = {"file": FILE_FIELD, "mask": MASK_FIELD, **PredictForm.model_json_schema()["properties"]}


def read_predict_form(fields: Mapping[str, str]) -> PredictForm:
    """The fields as they came.

    Raises:
        InvalidRequest: one is unknown, or has a value that it cannot have.
    """
    try:
        return PredictForm.model_validate(fields)
    except ValidationError as error:
        raise errors.InvalidRequest(faults_in(error, PredictForm, is_flat=True)) from error


def scans_and_masks(form: Form, most: int) -> tuple[list[Upload], list[Upload]]:
    """The scans that came, and the known mask of each where masks came too.

    Args:
        form: has the files.
        most: scans that are answered at once, for the message.

    Raises:
        InvalidRequest: no scan came.
        InvalidOptions: masks came, but not one for each scan.
    """
    scans, masks = form.uploads.get("file", []), form.uploads.get("mask", [])
    if not scans:
        raise errors.InvalidRequest(
            f"send 1 to {most} scans as the form's field 'file'; 0 came. More of them, or a zip of scans, become a "
            "prediction job"
        )
    if masks and len(masks) != len(scans):
        raise errors.InvalidOptions(
            f"{len(masks)} masks came for {len(scans)} scans; send one mask for each scan, in the order of the scans"
        )
    return scans, masks
