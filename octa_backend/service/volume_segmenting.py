"""One case of a volume segmented as it was asked for, its mask on the file's own grid; imports torch.

Shapes: C channels, D x H x W voxels of our convention, X x Y x Z of the file, K classes with background.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.nifti import nifti_gz
from octa_backend.data.volume_case import Case, CaseImage, Opened, content_of, read_case
from octa_backend.data.volume_geometry import VolumeGeometry, restore
from octa_backend.data.volume_measuring import cut_out
from octa_backend.errors import ScanDoesNotFit
from octa_backend.inference.ensemble import Together
from octa_backend.inference.thresholds import Threshold, settle
from octa_backend.inference.volume_predictor import VolumePrediction, VolumePredictor, predict_volume
from octa_backend.service.predict_service import PredictOptions
from octa_backend.service.scan_warnings import volume_warnings
from octa_backend.service.volume_options import refuse_options_of_pictures
from octa_backend.training.ignored import dataset_class

LEAST_MASK_DTYPE = np.uint8
PROBABILITY_SLOPE = 1 / 255
"""Probabilities are stored in 8 bits: NIfTI has no float16."""


@dataclass(frozen=True, slots=True)
class SegmentedVolume:
    """One case's answer.

    Attributes:
        case: its files.
        image: what they hold.
        found: mask and probabilities of the part that is not empty.
        mask: uint8, (D, H, W), class indices of the dataset, of the whole volume.
        geometry: of that part.
        threshold: from which a voxel is foreground.
        warnings: see `volume_warnings`.
    """

    case: Case
    image: CaseImage
    found: VolumePrediction
    mask: NDArray[np.uint8]
    geometry: VolumeGeometry
    threshold: Threshold
    warnings: list[dict[str, Any]]

    @property
    def voxel_ml(self) -> float | None:
        """Volume of a voxel; None of a file that does not know."""
        if not self.image.header.orientation:
            return None
        return math.prod(self.image.volume.spacing_mm) / 1000

    @property
    def foreground_fraction(self) -> float:
        """Share of the voxels that are not background."""
        return float(np.count_nonzero(self.mask) / self.mask.size)


def volume_predictors(models: Together) -> dict[str, VolumePredictor]:
    """The models by name.

    Raises:
        ScanDoesNotFit: they were trained on pictures, or on different modalities.
    """
    found = {name: model for name, model in models.models.items() if isinstance(model, VolumePredictor)}
    if len(found) < len(models.models):
        raise ScanDoesNotFit("a volume came, but the model was trained on pictures; send a picture")
    if len(different := {model.modalities for model in found.values()}) > 1:
        told = "; ".join(sorted(one.listed for one in different))
        raise ScanDoesNotFit(f"the models were trained on different modalities: {told}; ask them one by one")
    return found


def segment_case(
    models: Together, case: Case, opened: Opened, options: PredictOptions, max_voxels: int
) -> SegmentedVolume:
    """Segment one case: as in training it is cropped to what is not 0, and its intensities are normalised.

    Raises:
        UnreadableScan, ScanTooLarge, ScanDoesNotFit: see `read_case` and `volume_predictors`.
        InvalidOptions: see `refuse_options_of_pictures`; or the threshold is for models of two classes.
        NoTunedThreshold: a model has none.
    """
    refuse_options_of_pictures(options)
    predictors = list(volume_predictors(models).values())
    binary = models.classes - (models.ignore_index is not None) == 2
    tuned = [model.tuned_threshold for model in predictors]
    threshold = settle(options.threshold, np.zeros(0, np.float32), binary, tuned)
    image = read_case(case, opened, predictors[0].modalities, max_voxels)
    box = content_of(image.values)
    part = image.values if box is None else cut_out(image.values, box)
    geometry = image.volume.geometry if box is None else image.volume.geometry.cropped(box)
    found = predict_volume(
        predictors, part, threshold.value, tta=options.tta, with_probability=options.with_probability
    )
    mask = found.mask
    if box is not None:
        mask = np.zeros(image.values.shape[1:], np.uint8)
        cut_out(mask, box)[...] = found.mask
    spacing_mm = image.volume.spacing_mm if image.header.orientation else None
    warnings = volume_warnings(volume_predictors(models), part, spacing_mm, options.language)
    return SegmentedVolume(case, image, found, mask, geometry, threshold, warnings)


def classes_found(models: Together, segmented: SegmentedVolume) -> list[dict[str, Any]]:
    """Each foreground class of the dataset, with the value it has in the mask's file, and how much of it was found."""
    names = [label.name for label in models.labels] or [f"class {index}" for index in range(models.classes)]
    voxels = np.bincount(segmented.mask.reshape(-1), minlength=models.classes)
    values, voxel_ml = label_values(models), segmented.voxel_ml
    return [
        {
            "class": index,
            "value": int(values[index]),
            "name": names[index],
            "colour": models.colours[index - 1],
            "voxels": int(voxels[index]),
            "ml": None if voxel_ml is None else millilitres(int(voxels[index]), voxel_ml),
        }
        for index in range(1, models.classes)
    ]


def millilitres(voxels: int, voxel_ml: float) -> float:
    """The volume of so many voxels, to nine digits: what headers hold, without the dust of binary fractions."""
    return float(f"{voxels * voxel_ml:.9g}")


def label_values(models: Together) -> NDArray[np.integer]:
    """The value of class 0, 1, … in masks: the dataset's own, or the class numbers where the model does not know."""
    values = np.asarray(models.mask_values or range(models.classes))
    return values.astype(LEAST_MASK_DTYPE if values.max() <= np.iinfo(LEAST_MASK_DTYPE).max else np.uint16)


def mask_file(models: Together, segmented: SegmentedVolume) -> bytes:
    """The mask as .nii.gz, with the affine, the shape and the orientation of the case's (first) file."""
    geometry = segmented.image.volume.geometry
    return _file(label_values(models)[restore(segmented.mask, geometry)], segmented)


def probability_file(segmented: SegmentedVolume) -> bytes | None:
    """The probability of each class of the network as .nii.gz (X, Y, Z, K), in 8 bits with a slope; None where there
    is none. What was not looked at is background."""
    shares = segmented.found.probability
    if shares is None:
        return None
    restored = [restore(share, segmented.geometry, fill=0 if index else 255) for index, share in enumerate(shares)]
    return _file(np.stack(restored, axis=-1), segmented, PROBABILITY_SLOPE)


def network_class_numbers(models: Together) -> list[int]:
    """What the volumes of `probability_file` are, in order: classes of the dataset."""
    count = models.classes - (models.ignore_index is not None)
    return [dataset_class(index, models.ignore_index) for index in range(count)]


def _file(values: NDArray[Any], segmented: SegmentedVolume, slope: float | None = None) -> bytes:
    """In the file's own axes; those of a TIFF stack, which knows none, become x, y, z as a NIfTI file has them."""
    header = segmented.image.header
    if not header.orientation:
        values = values.transpose(2, 1, 0, *range(3, values.ndim))
    return nifti_gz(values, header.affine, header.unit_mm, slope)
