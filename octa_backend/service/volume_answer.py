"""One case's answer, as the API shows it; imports torch."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from octa_backend.data.volume_case import Case, Opened
from octa_backend.data.volume_files import Source
from octa_backend.inference.ensemble import Together
from octa_backend.inference.pictures import png
from octa_backend.inference.volume_overlays import PlaneOverlay, plane_overlays
from octa_backend.service import volume_segmenting as segmenting
from octa_backend.service.predict_service import NOTICE, Answer, ImageFile, PredictOptions
from octa_backend.service.prediction_history import Scanned
from octa_backend.service.volume_evaluation import compared
from octa_backend.service.volume_segmenting import SegmentedVolume
from octa_backend.storage.tables import new_id

BLOCK_BYTES = 2**20
"""A file is read in pieces of so many bytes."""


def predict_case(
    models: Together,
    case: Case,
    opened: Opened,
    options: PredictOptions,
    max_voxels: int,
    known: ImageFile | None = None,
) -> Scanned:
    """Segment one case, and tell what was asked for.

    Args:
        models: of volumes.
        case, opened: its files.
        options: how.
        max_voxels: the most to decode, of all channels together.
        known: the mask that it should have, with which the predicted one is compared.

    Raises:
        MaskDoesNotFit: the known mask has other values than the models' classes.
        Others as `volume_segmenting.segment_case`.
    """
    segmented = segmenting.segment_case(models, case, opened, options, max_voxels)
    evaluation = None if known is None else compared(models, segmented, known, max_voxels)
    return Scanned(_answer(models, segmented, evaluation), _sha256(case.files, opened))


def _answer(models: Together, segmented: SegmentedVolume, evaluation: dict[str, Any] | None) -> Answer:
    mask_nii_gz = segmenting.mask_file(models, segmented)
    probability, confidence = segmenting.probability_file(segmented), segmenting.confidence_file(segmented)
    header, found = segmented.image.header, segmented.found
    overlays = plane_overlays(
        segmented.image.values, segmented.mask, segmented.image.volume.spacing_mm, models.classes, models.colours
    )
    geometry = segmented.image.volume.geometry
    body = {
        "prediction_id": new_id(),
        "model_id": ",".join(models.models),
        "model_ids": list(models.models),
        "case": segmented.case.name,
        "files": list(segmented.case.files),
        "shape": list(geometry.original_shape if header.orientation else geometry.original_shape[::-1]),
        "spacing_mm": list(header.spacing_mm) if header.orientation else None,
        "orientation": header.orientation or None,
        "network_spacing_mm": [None if seen is None else list(seen) for seen in segmented.seen_mm],
        "threshold": segmented.threshold.value,
        "threshold_source": segmented.threshold.source,
        "foreground_fraction": segmented.foreground_fraction,
        "classes": segmenting.classes_found(models, segmented),
        "mask_nii_gz": _text(mask_nii_gz),
        "probability_nii_gz": None if probability is None else _text(probability),
        "probability_classes": None if probability is None else segmenting.network_class_numbers(models),
        "confidence_nii_gz": None if confidence is None else _text(confidence),
        "overlays": [_overlay(one) for one in overlays],
        "confidence": {"mean": found.confidence, "uncertain_fraction": found.uncertain_fraction},
        "measurements": {},
        "evaluation": evaluation,
        "warnings": segmented.warnings,
        "seconds": found.seconds,
        "engine": models.engine,
        "notice": NOTICE,
    }
    return Answer(body, mask_nii_gz)


def _overlay(drawn: PlaneOverlay) -> dict[str, Any]:
    return {
        "plane": drawn.plane,
        "index": drawn.index,
        "slice_png": _text(png(drawn.slice)),
        "projection_png": _text(png(drawn.projection)),
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _sha256(files: Sequence[str], opened: Opened) -> str:
    """Of the one file, or of the SHA-256s of several one after the other."""
    digests = [_digest(opened(file)) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _digest(content: Source) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    if isinstance(content, Path):
        with content.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    content.seek(0)
    digest = hashlib.sha256()
    while block := content.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()
