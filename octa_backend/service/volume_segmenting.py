"""One case of a volume segmented as it was asked for, its mask on the file's own grid; imports torch.

Shapes: C channels, D x H x W voxels of our convention, X x Y x Z of the file, K classes with background.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.nifti import nifti_gz
from octa_backend.data.volume_case import Case, CaseImage, Opened, content_of, read_case
from octa_backend.data.volume_geometry import Box, VolumeGeometry, restore
from octa_backend.data.volume_measuring import cut_out
from octa_backend.errors import ScanDoesNotFit
from octa_backend.inference.ensemble import Together
from octa_backend.inference.thresholds import Threshold, settle
from octa_backend.inference.volume_predictor import VolumePrediction, VolumePredictor, predict_views
from octa_backend.inference.volume_views import View, require_room, view_of
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
        seen_mm: for each model the sides of the voxels that it saw, (D, H, W); None where it saw the file's own.
        warnings: see `volume_warnings`.
    """

    case: Case
    image: CaseImage
    found: VolumePrediction
    mask: NDArray[np.uint8]
    geometry: VolumeGeometry
    threshold: Threshold
    seen_mm: tuple[tuple[float, ...] | None, ...]
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

    A model whose dataset was brought to voxels of one size sees the case with these; the answer is on the case's own.

    Raises:
        UnreadableScan, ScanTooLarge, ScanDoesNotFit: see `read_case`, `volume_predictors`, `require_room`; or a model
            wants voxels of one size and the file does not know how large its own are.
        InvalidOptions: see `refuse_options_of_pictures`; or the threshold is for models of two classes.
        NoTunedThreshold: a model has none.
    """
    refuse_options_of_pictures(options)
    predictors = list(volume_predictors(models).values())
    binary = models.classes - (models.ignore_index is not None) == 2
    tuned = [model.tuned_threshold for model in predictors]
    nothing_yet = np.zeros(1, np.float32)  # the probabilities of `auto` are looked at slab by slab
    threshold = settle(options.threshold, nothing_yet, binary, tuned)
    image = read_case(case, opened, predictors[0].modalities, max_voxels)
    box = content_of(image.values)
    geometry = image.volume.geometry if box is None else image.volume.geometry.cropped(box)
    views = _views(predictors, case, image, box or tuple((0, length) for length in image.header.shape), max_voxels)
    found = predict_views(
        predictors,
        views,
        None if threshold.source == "auto" else threshold.value,
        tta=options.tta,
        with_probability=options.with_probability,
        with_certainty=options.with_confidence,
    )
    threshold = replace(threshold, value=found.threshold)
    mask = found.mask
    if box is not None:
        mask = np.zeros(image.values.shape[1:], np.uint8)
        cut_out(mask, box)[...] = found.mask
    pairs = zip(predictors, views, strict=True)
    seen_mm = tuple(None if view.places is None else model.common_spacing_mm for model, view in pairs)
    spacing_mm = image.volume.spacing_mm if image.header.orientation else ()
    seen = {name: view.image for name, view in zip(models.models, views, strict=True)}
    warnings = volume_warnings(volume_predictors(models), seen, spacing_mm, options.language)
    return SegmentedVolume(case, image, found, mask, geometry, threshold, seen_mm, warnings)


def _views(models: Sequence[VolumePredictor], case: Case, image: CaseImage, box: Box, max_voxels: int) -> list[View]:
    """What each model sees of a case, resampled once for each size of voxels."""
    views: dict[tuple[float, ...], View] = {}
    name, spacing = case.files[0], image.volume.spacing_mm
    for wanted in {model.common_spacing_mm: None for model in models}:
        if wanted and not image.header.orientation:
            raise ScanDoesNotFit(
                f"{name} does not say how large its voxels are, but the model was trained on voxels of "
                f"{'×'.join(f'{side:g}' for side in wanted)} mm; send NIfTI"
            )
        require_room(name, image.values.shape, spacing, wanted, max_voxels)
        views[wanted] = view_of(image.values, box, spacing, wanted)
    return [views[model.common_spacing_mm] for model in models]


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


def confidence_file(segmented: SegmentedVolume) -> bytes | None:
    """The probability of the class chosen as .nii.gz, in 8 bits with a slope; None where there is none. It is 1 where
    nothing was looked at."""
    certainty = segmented.found.certainty
    if certainty is None:
        return None
    return _file(restore(certainty, segmented.geometry, fill=255), segmented, PROBABILITY_SLOPE)


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
