"""Predictions of volumes, as the API shows them; imports torch only with the first one."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from octa_backend.data.intake import opened_archive
from octa_backend.data.survey import opened
from octa_backend.data.volume_case import Case, Opened, find_cases, volumes_among
from octa_backend.data.volume_files import is_nifti
from octa_backend.errors import InvalidArchive, InvalidOptions, ScanDoesNotFit
from octa_backend.service.dataset_service import limits
from octa_backend.service.predict_service import ImageFile, PredictOptions, PredictService
from octa_backend.settings import Settings
from octa_backend.storage.tables import new_id

if TYPE_CHECKING:  # torch is imported with the first prediction, not with the server
    from octa_backend.inference.ensemble import Together
    from octa_backend.inference.volume_overlays import PlaneOverlay

NOTICE = "research use only"


@dataclass(frozen=True, slots=True)
class VolumeAnswer:
    """One case's prediction, as the API shows it, and its mask's file."""

    body: dict[str, Any]
    mask_nii_gz: bytes


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """Cases, and how their files are opened."""

    cases: tuple[Case, ...]
    opened: Opened


def refuse_volumes(scans: Sequence[ImageFile], model: str) -> None:
    """Refuse volumes where a model of pictures is to answer.

    Raises:
        ScanDoesNotFit: a scan is one, by its name.
    """
    for scan in scans:
        if is_nifti(scan.name):
            raise ScanDoesNotFit(
                f"{scan.name} is a volume, but model {model} was trained on pictures; send a picture, or name a model "
                "that was trained on volumes"
            )


def predict_volumes(
    service: PredictService,
    settings: Settings,
    model_ids: Sequence[str],
    scans: Sequence[ImageFile],
    options: PredictOptions,
    masks: Sequence[ImageFile] = (),
) -> list[VolumeAnswer]:
    """Segment the cases that files belong to, with one model or several.

    Args:
        service: has the models.
        settings: how large a volume may be.
        model_ids: at least one, of models of volumes.
        scans: volumes, several of one case where the models have several modalities; or one zip with one case.
        options: how.
        masks: the known mask of each case, in the order of the answers, or none.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: the zip is refused, or holds another number of cases.
        InvalidOptions: an option is for pictures alone, or there is not one mask for each case.
        MaskDoesNotFit: a known mask has other values than the models' classes.
        Others as `volume_segmenting.segment_case`.
    """
    from octa_backend.service import volume_evaluation, volume_segmenting  # noqa: PLC0415 - imports torch

    models = service.together(model_ids)
    channels = next(iter(volume_segmenting.volume_predictors(models).values())).modalities
    with ExitStack() as stack:
        if len(scans) == 1 and scans[0].name.lower().endswith(".zip"):
            zipped = scans[0].content
            assert isinstance(zipped, Path), "a zip comes as an upload"
            archive = stack.enter_context(opened_archive(zipped, limits(settings)))
            files = CaseFiles(
                tuple(find_cases(volumes_among(archive.members), channels)),
                lambda name: opened(archive, name, settings.max_scan_voxels),
            )
            _require_one(files.cases, scans[0].name)
        else:
            files = _of_scans(scans, find_cases([scan.name for scan in scans], channels))
        if masks and len(masks) != len(files.cases):
            raise InvalidOptions(
                f"{len(masks)} masks came for {len(files.cases)} cases; send one mask for each case, in their order"
            )
        answers = []
        for at, case in enumerate(files.cases):
            most = settings.max_scan_voxels
            segmented = volume_segmenting.segment_case(models, case, files.opened, options, most)
            compared = volume_evaluation.compared(models, segmented, masks[at], most) if masks else None
            answers.append(_answer(models, segmented, compared))
    return answers


def _of_scans(scans: Sequence[ImageFile], cases: Sequence[Case]) -> CaseFiles:
    contents: dict[str, Path | BinaryIO] = {}
    for scan in scans:
        if scan.name in contents:
            raise ScanDoesNotFit(f"two files are called {scan.name}; give each its own name")
        contents[scan.name] = scan.content
    # In the order in which their first files came.
    order = {scan.name: at for at, scan in enumerate(scans)}
    ordered = sorted(cases, key=lambda case: min(order[file] for file in case.files))
    return CaseFiles(tuple(ordered), contents.__getitem__)


def _require_one(cases: Sequence[Case], name: str) -> None:
    if len(cases) != 1:
        raise InvalidArchive(
            f"{name} holds {len(cases)} cases; send a zip of one case: its volumes as .nii.gz, one for each modality"
        )


def _answer(models: Together, segmented: Any, compared: dict[str, Any] | None) -> VolumeAnswer:
    from octa_backend.inference.volume_overlays import plane_overlays  # noqa: PLC0415 - imports torch
    from octa_backend.service import volume_segmenting as segmenting  # noqa: PLC0415

    mask_nii_gz = segmenting.mask_file(models, segmented)
    probability = segmenting.probability_file(segmented)
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
        "overlays": [_overlay(one) for one in overlays],
        "confidence": {"mean": found.confidence, "uncertain_fraction": found.uncertain_fraction},
        "measurements": {},
        "evaluation": compared,
        "seconds": found.seconds,
        "engine": models.engine,
        "notice": NOTICE,
    }
    return VolumeAnswer(body, mask_nii_gz)


def _overlay(drawn: PlaneOverlay) -> dict[str, Any]:
    from octa_backend.inference.pictures import png  # noqa: PLC0415 - imports torch

    return {
        "plane": drawn.plane,
        "index": drawn.index,
        "slice_png": _text(png(drawn.slice)),
        "projection_png": _text(png(drawn.projection)),
    }


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
