"""`octa predict`: masks, overlays and measurements of scans on disk."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import track

from octa_backend.commands.measurement_table import MeasurementTable
from octa_backend.commands.model_argument import find_model
from octa_backend.data.normalise import to_unit
from octa_backend.data.scans import read_image
from octa_backend.inference import pictures
from octa_backend.inference.measurement_picture import measurement_picture
from octa_backend.inference.measurements import measure
from octa_backend.service.predict_service import PredictOptions, load_predictor
from octa_backend.settings import Settings

MEASUREMENTS_FILE = "measurements.csv"


def predict(
    console: Console, settings: Settings, model: str, images: list[Path], out: Path, options: PredictOptions
) -> None:
    """Segment each scan and write its mask and overlay; write the measurements of all into one table.

    Raises:
        ModelNotFound: there is no such folder, and no model with this id in the data folder.
        UnreadableScan, ScanTooLarge: a file is no image, or has too many pixels.
    """
    predictor = load_predictor(find_model(settings, model), settings.device, settings.engine)
    out.mkdir(parents=True, exist_ok=True)
    table = MeasurementTable(options.language)
    for path in track(images, "predicting", console=console):
        image = read_image(path, path.name, settings.max_scan_pixels)
        found = predictor.predict(image, threshold=options.threshold, tta=options.tta)
        unit_CHW = to_unit(image)
        overlay = pictures.overlay(unit_CHW, found.mask, predictor.classes, predictor.colours)
        drawn = {"mask": pictures.mask_picture(found.mask, predictor.classes), "overlay": overlay}
        if options.measuring is not None:
            measured = measure(found.mask, predictor.classes, options.measuring)
            table.add(path.name, measured.values)
            if options.with_picture:
                drawn["measured"] = measurement_picture(unit_CHW, measured)
        for kind, picture in drawn.items():
            (out / f"{path.stem}_{kind}.png").write_bytes(pictures.png(picture))
        console.print(f"{path.name}: foreground {found.foreground_fraction:.1%}, {found.seconds:.2f} s", markup=False)
    console.print(f"masks and overlays are in {out}", markup=False)
    if options.measuring is not None:
        table.write(out / MEASUREMENTS_FILE)
        console.print(f"measurements are in {out / MEASUREMENTS_FILE}", markup=False)
