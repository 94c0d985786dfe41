"""Predictions of volumes, as the API shows them; imports torch only with the first one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from octa_backend.data.intake import opened_archive
from octa_backend.data.survey import opened
from octa_backend.data.volume_case import Case, Opened, find_cases, volumes_among
from octa_backend.data.volume_files import is_nifti
from octa_backend.errors import InvalidArchive, InvalidOptions, ScanDoesNotFit
from octa_backend.service.dataset_service import limits
from octa_backend.service.predict_service import ImageFile, PredictOptions, PredictService
from octa_backend.service.prediction_history import Scanned
from octa_backend.settings import Settings


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
) -> list[Scanned]:
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
        Others as `volume_answer.predict_case`.
    """
    from octa_backend.service.volume_answer import predict_case  # noqa: PLC0415 - imports torch
    from octa_backend.service.volume_segmenting import volume_predictors  # noqa: PLC0415

    models = service.together(model_ids)
    channels = next(iter(volume_predictors(models).values())).modalities
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
        known = masks or [None] * len(files.cases)
        return [
            predict_case(models, case, files.opened, options, settings.max_scan_voxels, mask)
            for case, mask in zip(files.cases, known, strict=True)
        ]


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
