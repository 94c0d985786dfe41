"""`octa predict`: masks, overlays, measurements and evaluations of scans on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from octa_backend.commands.evaluation_table import EvaluationTable
from octa_backend.commands.measurement_table import MeasurementTable
from octa_backend.commands.model_argument import find_model
from octa_backend.commands.predict_volumes import predict_volumes
from octa_backend.data.normalise import to_unit
from octa_backend.data.scans import read_image
from octa_backend.errors import InvalidOptions
from octa_backend.inference import pictures
from octa_backend.inference.ensemble import Together
from octa_backend.inference.measurement_picture import measurement_picture
from octa_backend.inference.measurements import measure
from octa_backend.service import evaluated_answer
from octa_backend.service.predict_service import ImageFile, PredictOptions, load_predictor
from octa_backend.service.scan_warnings import scan_warnings
from octa_backend.service.segmenting import Segmented, read_known_mask, segment
from octa_backend.service.volume_prediction import refuse_volumes
from octa_backend.settings import Settings

MEASUREMENTS_FILE, EVALUATION_FILE = "measurements.csv", "evaluation.csv"

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

    Args:
        console: is told of each scan.
        settings: the device, the engine, and where models with an id are.
        models: folders or ids; several answer together.
        images: the scans.
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
        UnreadableScan, ScanTooLarge: a file is no image, or has too many pixels.
        ScanDoesNotFit: it is a picture and the models are of volumes, or the other way round.
    """
    folders = {model: find_model(settings, model) for model in models}
    if len({folder.resolve() for folder in folders.values()}) < len(models):
        raise InvalidOptions(f"a model is named twice: {', '.join(models)}; name each one once")
    opened = {name: load_predictor(folder, settings.device, settings.engine) for name, folder in folders.items()}
    together = Together(opened)
    if together.spatial_dims == 3:
        predict_volumes(console, settings, together, images, masks, out, options)
        return
    refuse_volumes([ImageFile(path, path.name) for path in images], models[0])
    if folder := next((path for path in images if path.is_dir()), None):
        raise InvalidOptions(f"{folder} is a folder; name the scans in it, or a model of volumes")
    if masks and len(masks) != len(images):
        raise InvalidOptions(f"{len(masks)} masks for {len(images)} scans; give a --mask for each scan, in their order")
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(console, together, options, settings.max_scan_pixels, MeasurementTable(options.language))
    pairs = list(zip(images, masks or repeat(None, len(images)), strict=True))
    for path, mask in track(pairs, "predicting", console=console):
        for kind, picture in run.predict(path, mask).items():
            (out / f"{path.stem}_{kind}.png").write_bytes(pictures.png(picture))
    console.print(f"masks and overlays are in {out}", markup=False)
    if options.measuring is not None:
        run.measurements.write(out / MEASUREMENTS_FILE)
        console.print(f"measurements are in {out / MEASUREMENTS_FILE}", markup=False)
    if masks:
        run.evaluations.write(out / EVALUATION_FILE)
        console.print(f"evaluations are in {out / EVALUATION_FILE}", markup=False)


@dataclass(frozen=True, slots=True)
class _Run:
    """The models and what was found so far."""

    console: Console
    models: Together
    options: PredictOptions
    max_pixels: int
    measurements: MeasurementTable
    evaluations: EvaluationTable = field(default_factory=EvaluationTable)

    def predict(self, path: Path, mask: Path | None) -> Pictures:
        """Segment one scan; its pictures by the end of their names."""
        image = read_image(path, path.name, self.max_pixels)
        target = self._target(path, mask, image) if mask else None
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
        if self.options.measuring is not None:
            measured = measure(found.mask, self.models.classes, self.options.measuring)
            self.measurements.add(path.name, measured.values)
            if self.options.with_picture:
                drawn["measured"] = measurement_picture(unit_CHW, measured)
        self._tell(path, image, segmented)
        if mask and target is not None:
            agreement = evaluated_answer.evaluated(self.models, found.mask, target)
            self.evaluations.add(path.name, evaluated_answer.told(self.models, mask.name, agreement))
            self.console.print(f"  Dice {agreement.mean.dice:.4f} with {mask.name}", markup=False)
            drawn["difference"] = evaluated_answer.drawn(self.models, unit_CHW, found.mask, target)
        return drawn

    def _target(self, path: Path, mask: Path, image: NDArray[Any]) -> NDArray[np.int64]:
        shape = (image.shape[1], image.shape[2])
        return read_known_mask(ImageFile(mask, mask.name), path.name, shape, self.models, self.max_pixels)

    def _tell(self, path: Path, image: NDArray[Any], segmented: Segmented) -> None:
        found, threshold, cleaned = segmented.found, segmented.threshold, segmented.cleaned
        line = f"{path.name}: foreground {found.foreground_fraction:.1%}, {found.seconds:.2f} s"
        if threshold.source in ("tuned", "auto"):
            line += f", threshold {threshold.value:.3f} ({threshold.source})"
        if cleaned is not None:
            line += f", {cleaned.objects_removed} objects removed, {cleaned.holes_filled} holes filled"
        self.console.print(line, markup=False)
        for warning in scan_warnings(self.models, image, self.options.language):
            self.console.print(f"  {warning['message']}", markup=False)
