"""What the results of a prediction job of volumes hold."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from octa_backend.data.scan_files import distinct
from octa_backend.errors import PredictionNotFound
from octa_backend.inference.measurement_table import Row
from octa_backend.service import prediction_history
from octa_backend.service.answer_files import PICTURE, VOLUME
from octa_backend.service.results_zip import ResultsZip
from octa_backend.storage.prediction_tables import KeptPrediction

VOLUMES = {"masks": "mask", "probabilities": "probability", "confidence": "confidence"}
"""Folder of the zip -> volume of a prediction; the last two where they were asked for."""

CASE_COLUMNS = (
    "case", "files", "width", "height", "depth", "threshold", "foreground_fraction", "confidence_mean",
    "uncertain_fraction",
)  # fmt: skip
"""Of `scans.csv`, before the ml of each class."""

CLASS_COLUMNS = ("case", "class", "value", "name", "voxels", "ml")
"""Of `measurements.csv`: a row for each case and class; no ml where a file does not know how large its voxels are."""

CONTENTS = """\
masks/            with the affine, shape and orientation of each case's (first) file, and the dataset's values
overlays/         slice and projection of each plane, with each foreground class tinted
probabilities/    of each class (where they were asked for)
confidence/       probability of the class chosen (where it was asked for)
scans.csv         a row for each case: its files, size, share of foreground, confidence, and the ml of each class
measurements.csv  a row for each case and class: voxels and ml
errors.csv        cases that could not be predicted, and why (where there are some)"""

_log = logging.getLogger(__name__)


def add_volumes(results: ResultsZip) -> Iterator[None]:
    """Write files and tables; a step for each of them or for each row. Of each case a few numbers stay in memory."""
    taken: set[str] = set()
    cases: list[Row] = []
    classes: list[Row] = []
    heads: Row = ()
    for row in results.predictions():
        try:
            body = prediction_history.read_answer(results.files, row.id, with_pictures=False)
        except PredictionNotFound:
            _log.info("prediction %s was deleted while its results were downloaded", row.id)
            continue
        folder = row.file.rpartition("/")[0]
        name = distinct(f"{folder}/{body['case']}" if folder else body["case"], taken)
        taken.add(name.casefold())
        yield from _add_files(results, row, name)
        heads = tuple(f"{one['name']} [ml]" for one in body["classes"])
        cases.append((*_facts(name, row, body), *(one["ml"] for one in body["classes"])))
        classes += [(name, *(one[column] for column in CLASS_COLUMNS[1:])) for one in body["classes"]]
    if cases:
        yield from results.add_table("scans.csv", [(*CASE_COLUMNS, *heads), *cases])
        yield from results.add_table("measurements.csv", [CLASS_COLUMNS, *classes])


def _add_files(results: ResultsZip, row: KeptPrediction, name: str) -> Iterator[None]:
    kept = results.files.prediction(row.id)
    for folder, volume in VOLUMES.items():
        if results.add_packed(f"{folder}/{name}{VOLUME}", kept / f"{volume}{VOLUME}"):
            yield
    for picture in prediction_history.picture_names(results.files, row.id):
        if results.add_packed(f"overlays/{name}_{picture}{PICTURE}", kept / f"{picture}{PICTURE}"):
            yield


def _facts(name: str, row: KeptPrediction, body: Mapping[str, Any]) -> Row:
    sides = row.width, row.height, row.depth
    confidence = row.confidence["mean"], row.confidence["uncertain_fraction"]
    return name, ", ".join(body["files"]), *sides, row.threshold, row.foreground_fraction, *confidence
