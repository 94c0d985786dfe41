"""Predictions of volumes, as the API shows them; imports torch only with the first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from octa_backend.data.archive import PREDICTED_WANTED
from octa_backend.data.intake import opened_archive
from octa_backend.data.scan_files import is_zip
from octa_backend.data.survey import opened
from octa_backend.data.volume_case import Case, Channels, Opened, cases_among, find_cases
from octa_backend.data.volume_files import is_nifti
from octa_backend.errors import InvalidOptions, ScanDoesNotFit
from octa_backend.service.dataset_service import limits
from octa_backend.service.predict_service import ImageFile, PredictOptions, PredictService
from octa_backend.service.prediction_history import Scanned
from octa_backend.settings import Settings
from octa_backend.storage.tables import Model


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


def predict_volume(
    service: PredictService,
    settings: Settings,
    model_ids: Sequence[str],
    scans: Sequence[ImageFile],
    options: PredictOptions,
    masks: Sequence[ImageFile] = (),
) -> Scanned:
    """Segment the one case that files belong to, with one model or several.

    Args:
        service: has the models.
        settings: how large a volume may be.
        model_ids: at least one, of models of volumes.
        scans: its volumes, several where the models have several modalities; or a zip of them.
        options: how.
        masks: its known mask, or none.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge, ScanDoesNotFit: see `opened_cases`.
        InvalidOptions: an option is for pictures alone, or there are several masks.
        Others as `volume_answer.predict_case`.
    """
    from octa_backend.service.volume_answer import predict_case  # noqa: PLC0415 - imports torch
    from octa_backend.service.volume_segmenting import volume_predictors  # noqa: PLC0415

    models = service.together(model_ids)
    channels = next(iter(volume_predictors(models).values())).modalities
    with opened_cases(scans, channels, settings) as files:
        [case] = files.cases
        if len(masks) > 1:
            raise InvalidOptions(f"{len(masks)} masks came for case {case.name}; send one")
        return predict_case(models, case, files.opened, options, settings.max_scan_voxels, *masks)


def channels_of(models: Sequence[Model]) -> Channels:
    """What models of volumes were trained on.

    Raises:
        ScanDoesNotFit: on different modalities.
    """
    found = {model.id: Channels(model.card["channels"], tuple(model.card.get("modalities", ()))) for model in models}
    if len(different := set(found.values())) > 1:
        told = "; ".join(sorted(one.listed for one in different))
        raise ScanDoesNotFit(f"the models were trained on different modalities: {told}; ask them one by one")
    return found[models[0].id]


@contextmanager
def opened_cases(scans: Sequence[ImageFile], channels: Channels, settings: Settings) -> Iterator[CaseFiles]:
    """The cases that files belong to, or those of the one zip.

    Raises:
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: the zip is refused, or holds no volume.
        ScanDoesNotFit: a zip came together with other files; or see `find_cases`.
    """
    zips = {
        scan.name: scan.content for scan in scans if isinstance(scan.content, Path) and is_zip(scan.content, scan.name)
    }
    if zips and len(scans) > 1:
        other = next((scan.name for scan in scans if scan.name not in zips), scans[0].name)
        raise ScanDoesNotFit(f"{[*zips][-1]} is a zip and came with {other}; send one zip alone, or volumes alone")
    if not zips:
        yield _of_scans(scans, find_cases([scan.name for scan in scans], channels))
        return
    ((name, path),) = zips.items()
    with opened_archive(path, limits(settings), PREDICTED_WANTED) as archive:
        reading = partial(opened, archive, max_pixels=settings.max_scan_voxels)
        yield CaseFiles(tuple(cases_among(archive, channels, name)), reading)


def _of_scans(scans: Sequence[ImageFile], cases: Sequence[Case]) -> CaseFiles:
    contents = {scan.name: scan.content for scan in scans}
    # In the order in which their first files came.
    order = {scan.name: at for at, scan in enumerate(scans)}
    ordered = sorted(cases, key=lambda case: min(order[file] for file in case.files))
    return CaseFiles(tuple(ordered), contents.__getitem__)
