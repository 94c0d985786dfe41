"""What a prediction job works on: the scans of its zip, or the cases of volumes in it, and how one is predicted."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from functools import partial
from typing import Protocol

from octa_backend.data.archive import Archive
from octa_backend.data.scan_files import count_ignored, read_scan, scan_names
from octa_backend.data.survey import opened
from octa_backend.data.volume_case import Case, Channels, cases_among
from octa_backend.service.predict_service import ImageFile, PredictOptions, PredictService
from octa_backend.service.prediction_history import Scanned
from octa_backend.settings import Settings


class JobScans(Protocol):
    """The scans of a job, always in the same order."""

    @property
    def names(self) -> Sequence[str]:
        """What each is called: its file, or the first of its case."""

    def predict(self, position: int, model_ids: Sequence[str], options: PredictOptions) -> Scanned:
        """Predict the one at this place.

        Raises:
            UnreadableScan, ScanTooLarge, ScanDoesNotFit: this scan cannot be predicted.
        """


class Pictures:
    """The pictures of a zip."""

    def __init__(self, archive: Archive, predictions: PredictService, settings: Settings) -> None:
        self.names: Sequence[str] = scan_names(archive)
        self._archive, self._predictions, self._max_pixels = archive, predictions, settings.max_scan_pixels

    def predict(self, position: int, model_ids: Sequence[str], options: PredictOptions) -> Scanned:
        """See `JobScans`."""
        name = self.names[position]
        data = read_scan(self._archive, name, self._max_pixels)
        answer = self._predictions.predict(model_ids, ImageFile(io.BytesIO(data), name), options, extent="kept")
        return Scanned(answer, hashlib.sha256(data).hexdigest())


class Cases:
    """The cases of volumes in a zip."""

    def __init__(
        self, archive: Archive, predictions: PredictService, settings: Settings, channels: Channels, name: str
    ) -> None:
        self._cases: Sequence[Case] = cases_among(archive, channels, name)
        self.names: Sequence[str] = [case.files[0] for case in self._cases]
        self._archive, self._predictions, self._max_voxels = archive, predictions, settings.max_scan_voxels

    def predict(self, position: int, model_ids: Sequence[str], options: PredictOptions) -> Scanned:
        """See `JobScans`."""
        from octa_backend.service.volume_answer import predict_case  # noqa: PLC0415 - imports torch

        reading = partial(opened, self._archive, max_pixels=self._max_voxels)
        with self._predictions.in_use.using(model_ids, "a prediction"):
            models = self._predictions.together(model_ids)
            return predict_case(models, self._cases[position], reading, options, self._max_voxels)


def count_scans(archive: Archive, channels: Channels | None, name: str) -> tuple[int, int]:
    """How many scans a zip has for a model, and how many of its files are left out.

    Args:
        archive: the zip.
        channels: of a model of volumes, or None.
        name: of the zip, for messages.

    Raises:
        InvalidArchive: there is none.
        ScanDoesNotFit: see `find_cases`.
    """
    if channels is None:
        scans = scan_names(archive)
        return len(scans), count_ignored(archive, scans)
    cases = cases_among(archive, channels, name)
    return len(cases), count_ignored(archive, [file for case in cases for file in case.files])
