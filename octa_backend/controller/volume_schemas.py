"""What the prediction of a volume answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from octa_backend.controller.model_schemas import Confidence, MeasurementOut, ScanWarningOut
from octa_backend.controller.schemas import Answer


class VolumeClassOut(BaseModel):
    """A foreground class of a volume's mask."""

    model_config = ConfigDict(serialize_by_alias=True, use_attribute_docstrings=True)

    index: int = Field(alias="class", examples=[3])
    value: int = Field(examples=[4])
    """That it has in the mask's file: the dataset's own."""
    name: str = Field(examples=["enhancing tumour"])
    colour: str = Field(examples=["#ff3b30"])
    voxels: int
    ml: float | None = Field(examples=[3.2])
    """Null for a file that does not know how large its voxels are."""


class PlaneOverlayOut(Answer):
    """Image and mask in one plane, as PNG in base64, with square pixels: head up, front up in the axial one."""

    plane: Literal["axial", "coronal", "sagittal"]
    index: int
    """Of the slice through the middle of what was found, counted from the feet, the back or the left."""
    slice_png: str
    projection_png: str
    """The brightest along the axis, and the highest class."""


class OverlapOut(Answer):
    """How far two masks agree, each number in 0..1; null where no voxel counts."""

    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None


class VolumeClassAgreementOut(BaseModel):
    """The same of one class; null where neither mask holds it."""

    model_config = ConfigDict(serialize_by_alias=True, use_attribute_docstrings=True)

    index: int = Field(alias="class", examples=[1])
    name: str
    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    volume_error_ml: float | None
    """Predicted less known."""


class VolumeEvaluationOut(Answer):
    """How far the predicted mask agrees with the one that was sent."""

    mask: str
    mean: OverlapOut
    """Over the classes that one of the masks holds."""
    classes: list[VolumeClassAgreementOut]


class VolumePredictionOut(Answer):
    """One case's prediction. Files are base64."""

    prediction_id: str
    model_id: str
    """Of several models their ids with commas between them."""
    model_ids: list[str]
    case: str
    files: list[str]
    """In the order of the model's modalities."""
    shape: tuple[int, int, int] = Field(examples=[(240, 240, 155)])
    """Of the mask and of the case's file, in the file's own axes."""
    spacing_mm: tuple[float, float, float] | None
    """Sides of a voxel from slice to slice, row to row, column to column (z, y, x of the patient)."""
    orientation: str | None = Field(examples=["LPS"])
    """Where the file's axes point; null for a file that does not know."""
    network_spacing_mm: list[tuple[float, float, float] | None]
    """For each model, the sides of the voxels that the case was resampled to for it; null where it saw the file's."""
    threshold: float
    threshold_source: Literal["fixed", "tuned", "auto"] | None
    """Null with several classes, where the threshold is not used."""
    foreground_fraction: float
    classes: list[VolumeClassOut]
    mask_nii_gz: str
    """With affine, shape and orientation of the (first) file, and the dataset's own values."""
    probability_nii_gz: str | None
    """With `probability=true`: (X, Y, Z, class), 8 bits with a slope of 1/255."""
    probability_classes: list[int] | None
    """Which classes these are."""
    confidence_nii_gz: str | None
    """With `confidence_map=true`: probability of the class chosen, 8 bits with a slope of 1/255."""
    overlays: list[PlaneOverlayOut]
    confidence: Confidence
    """Over the box of what is not 0."""
    measurements: dict[str, MeasurementOut]
    """Empty: what is measured of vessels is measured in pictures."""
    evaluation: VolumeEvaluationOut | None
    """Where a mask was sent."""
    warnings: list[ScanWarningOut]
    seconds: float
    engine: str = Field(examples=["openvino fp32"])
    notice: str
    prediction_url: str | None = Field(examples=["/predictions/81b2fb36743ca0c1"])
    """Where it is kept; null where it is not."""
