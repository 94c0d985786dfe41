"""`octa predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from octa_backend.commands.evaluation_table import EvaluationTable
from octa_backend.commands.model_argument import find_model
from octa_backend.commands.predict_scans import GivenScan, given_scans
from octa_backend.commands.predict_volumes import predict_volumes
from octa_backend.data.normalise import to_unit
from octa_backend.data.scan_files import picture_names
from octa_backend.data.scans import read_image
from octa_backend.errors import InvalidOptions, ScanTooLarge, UnreadableScan
from octa_backend.inference import pictures
from octa_backend.inference.decision import Prediction
from octa_backend.inference.ensemble import Together
from octa_backend.inference.measurement_picture import measurement_picture
from octa_backend.inference.measurement_table import (
    COLUMNS,
    csv_line,
    measurement_rows,
    remove_table,
    shown_measurements,
    table_file,
)
from octa_backend.inference.measurements import measure
from octa_backend.service import evaluated_answer
from octa_backend.service.predict_service import ImageFile, PredictOptions, load_predictor
from octa_backend.service.results_zip import ERROR_COLUMNS
from octa_backend.service.scan_warnings import scan_warnings
from octa_backend.service.segmenting import Segmented, read_known_mask, segment
from octa_backend.service.volume_prediction import refuse_volumes
from octa_backend.settings import Settings
from octa_backend.storage.outputs import output_folder, spare_neighbours
from octa_backend.training.html_parts import shown

MEASUREMENTS_FILE, EVALUATION_FILE, ERRORS_FILE = "measurements.csv", "evaluation.csv", "errors.csv"

Pictures = dict[str, NDArray[np.uint8] | NDArray[np.uint16]]


def predict(
    console: Console,
    settings: Settings,
    models: Sequence[str],
    images: Sequence[Path],
    masks: Sequence[Path],
    out: Path,
    options: PredictOptions,
) -> None:
    """Segment each scan and write its pictures; write measurements and evaluations of all into one table each.

    Scans of folders and zips that cannot be read are told of in a table of their own, and the others are predicted.

    Args:
        console: is told of each scan.
        settings: the device, the engine, and where models with an id are.
        models: folders or ids; several answer together.
        images: scans, and folders or zips of scans.
        masks: the known mask of each scan, or none.
        out: gets the pictures and the tables.
        options: how.

    Raises:
        ModelNotFound: there is no such folder, and no model with this id in the data folder.
        ModelsDiffer: the models have different classes.
        InvalidOptions: masks are given, but not one for each scan; or a model twice; or the threshold is for models of
            two classes.
        NoTunedThreshold: a model has none.
        MaskDoesNotFit: a mask has another size than its scan, or other classes than the models.
        InvalidArchive, UnsafeArchive, ArchiveTooLarge: a folder or a zip does not fit, or holds no image.
        UnreadableScan, ScanTooLarge: a file that was named is no image, or has too many pixels; or all are.
        ScanDoesNotFit: it is a picture and the models are of volumes, or the other way round.
        OctaError: nothing can be written into `out`, or it would replace files beside the scans or the masks.
    """
    together = _opened(settings, models)
    if together.spatial_dims == 3:
        predict_volumes(console, settings, together, images, masks, out, options)
        return
    refuse_volumes([ImageFile(path, path.name) for path in images], models[0])
    with ExitStack() as stack:
        scans = given_scans(images, settings, stack)
        _check(scans, masks, out, options)
        output_folder(out)
        measured = options.measuring is not None
        table = stack.enter_context(table_file(out / MEASUREMENTS_FILE, COLUMNS)) if measured else None
        run = _Run(console, together, options, settings.max_scan_pixels, out, table)
        run.predict_all(scans, masks)
    run.conclude(with_evaluations=bool(masks))


def _check(scans: Sequence[GivenScan], masks: Sequence[Path], out: Path, options: PredictOptions) -> None:
    if masks and len(masks) != len(scans):
        raise InvalidOptions(f"{len(masks)} masks for {len(scans)} scans; give a --mask for each scan, in their order")
    files = [scan.file for scan in scans if scan.file is not None]
    spare_neighbours(_targets(out, scans, options, evaluated=bool(masks)), [*files, *masks])


def _targets(out: Path, scans: Sequence[GivenScan], options: PredictOptions, *, evaluated: bool) -> Iterator[Path]:
    """The files that are going to be written, but for the table of failures."""
    measured = options.measuring is not None
    wanted = {
        "mask": True,
        "overlay": True,
        "confidence": options.with_confidence,
        "probability": options.with_probability,
        "measured": measured and options.with_picture,
        "difference": evaluated,
    }
    for name in picture_names(scan.name for scan in scans).values():
        yield from (_picture_file(out / name, kind) for kind, is_wanted in wanted.items() if is_wanted)
    if measured:
        yield out / MEASUREMENTS_FILE
    if evaluated:
        yield out / EVALUATION_FILE


def _picture_file(target: Path, kind: str) -> Path:
    return target.with_name(f"{target.name}_{kind}.png")


def _opened(settings: Settings, models: Sequence[str]) -> Together:
    folders = {model: find_model(settings, model) for model in models}
    if len({folder.resolve() for folder in folders.values()}) < len(models):
        raise InvalidOptions(f"a model is named twice: {', '.join(models)}; name each one once")
    return Together({name: load_predictor(path, settings.device, settings.engine) for name, path in folders.items()})


@dataclass(frozen=True, slots=True)
class _Run:
    """The models, where the pictures go, and what was found so far."""

    console: Console
    models: Together
    options: PredictOptions
    max_pixels: int
    out: Path
    measurements: IO[str] | None
    evaluations: EvaluationTable = field(default_factory=EvaluationTable)
    failures: list[tuple[str, str]] = field(default_factory=list)

    def predict_all(self, scans: Sequence[GivenScan], masks: Sequence[Path]) -> None:
        """Write the pictures of each scan that can be read, and collect why others cannot.

        Raises:
            UnreadableScan, ScanTooLarge: of a scan that was named by itself; or none can be read.
        """
        names = picture_names(scan.name for scan in scans)
        pairs = list(zip(scans, masks or repeat(None, len(scans)), strict=True))
        for scan, mask in track(pairs, "predicting", console=self.console):
            try:
                self._write(self.out / names[scan.name], self._predict(scan, mask))
            except (UnreadableScan, ScanTooLarge) as error:
                if scan.alone:
                    raise
                self.failures.append((scan.name, error.message))
                self.console.print(f"{scan.name}: left out: {error.message}", markup=False)
        if len(self.failures) == len(scans):
            raise UnreadableScan(f"none of {len(scans)} scans could be read; {self.failures[0][1]}")

    def conclude(self, *, with_evaluations: bool) -> None:
        """Write the remaining tables, and say where all is."""
        self.console.print(f"masks and overlays are in {self.out}", markup=False)
        if self.measurements is not None:
            self.console.print(f"measurements are in {self.out / MEASUREMENTS_FILE}", markup=False)
        if with_evaluations:
            self.evaluations.write(self.out / EVALUATION_FILE)
            self.console.print(f"evaluations are in {self.out / EVALUATION_FILE}", markup=False)
        if not self.failures:
            remove_table(self.out / ERRORS_FILE, ERROR_COLUMNS)
        else:
            with table_file(self.out / ERRORS_FILE, ERROR_COLUMNS) as table:
                table.writelines(csv_line(row) for row in self.failures)
            said = f"{len(self.failures)} scans could not be read: {self.out / ERRORS_FILE} says why"
            self.console.print(said, markup=False)

    def _predict(self, scan: GivenScan, mask: Path | None) -> Pictures:
        """Segment one scan; its pictures by the end of their names."""
        image = read_image(scan.opened(), scan.name, self.max_pixels)
        target = self._target(scan, mask, image) if mask else None
        segmented = segment(self.models, image, self.options)
        unit_CHW, found = to_unit(image), segmented.found
        drawn: Pictures = {
            "mask": pictures.mask_picture(found.mask, self.models.classes),
            "overlay": pictures.overlay(unit_CHW, found.mask, self.models.classes, self.models.colours),
        }
        if self.options.with_confidence:
            drawn["confidence"] = pictures.grey_levels(found.certainty, np.uint8)
        if self.options.with_probability:
            drawn["probability"] = pictures.grey_levels(found.probability, np.uint16)
        self._measure(scan, unit_CHW, found, drawn)
        self._tell(scan, image, segmented)
        if mask and target is not None:
            agreement = evaluated_answer.evaluated(self.models, found.mask, target)
            self.evaluations.add(scan.name, evaluated_answer.told(self.models, mask.name, agreement))
            dice = agreement.mean.dice if agreement.mean is not None else None
            self.console.print(f"  Dice {shown('dice', dice)} with {mask.name}", markup=False)
            drawn["difference"] = evaluated_answer.drawn(self.models, unit_CHW, found.mask, target)
        return drawn

    def _measure(self, scan: GivenScan, unit_CHW: NDArray[np.float32], found: Prediction, drawn: Pictures) -> None:
        if self.options.measuring is None or self.measurements is None:
            return
        measured = measure(found.mask, self.models.classes, self.options.measuring)
        told = shown_measurements(measured.values, self.options.language)
        self.measurements.writelines(csv_line(row) for row in measurement_rows(scan.name, told))
        if self.options.with_picture:
            drawn["measured"] = measurement_picture(unit_CHW, measured)

    def _write(self, target: Path, drawn: Pictures) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        for kind, picture in drawn.items():
            _picture_file(target, kind).write_bytes(pictures.png(picture))

    def _target(self, scan: GivenScan, mask: Path, image: NDArray[Any]) -> NDArray[np.int64]:
        shape = (image.shape[1], image.shape[2])
        return read_known_mask(ImageFile(mask, mask.name), scan.name, shape, self.models, self.max_pixels)

    def _tell(self, scan: GivenScan, image: NDArray[Any], segmented: Segmented) -> None:
        found, threshold, cleaned = segmented.found, segmented.threshold, segmented.cleaned
        line = f"{scan.name}: foreground {found.foreground_fraction:.1%}, {found.seconds:.2f} s"
        if threshold.source in ("tuned", "auto"):
            line += f", threshold {threshold.value:.3f} ({threshold.source})"
        if cleaned is not None:
            line += f", {cleaned.objects_removed} objects removed, {cleaned.holes_filled} holes filled"
        self.console.print(line, markup=False)
        for warning in scan_warnings(self.models, image, self.options.language):
            self.console.print(f"  {warning['message']}", markup=False)
