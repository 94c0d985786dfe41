"""`octa predict`: masks and overlays of scans on disk."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import track

from octa_backend.commands.model_argument import find_model
from octa_backend.data.normalise import to_unit
from octa_backend.data.scans import read_image
from octa_backend.inference import pictures
from octa_backend.service.predict_service import load_predictor
from octa_backend.settings import Settings


def predict(
    console: Console, settings: Settings, model: str, images: list[Path], out: Path, threshold: float, tta: bool
) -> None:
    """Segment each scan and write its mask and overlay.

    Raises:
        ModelNotFound: there is no such folder, and no model with this id in the data folder.
        UnreadableScan, ScanTooLarge: a file is no image, or has too many pixels.
    """
    predictor = load_predictor(find_model(settings, model), settings.device, settings.engine)
    out.mkdir(parents=True, exist_ok=True)
    for path in track(images, "predicting", console=console):
        image = read_image(path, path.name, settings.max_scan_pixels)
        found = predictor.predict(image, threshold=threshold, tta=tta)
        mask = pictures.mask_picture(found.mask, predictor.classes)
        (out / f"{path.stem}_mask.png").write_bytes(pictures.png(mask))
        overlay = pictures.overlay(to_unit(image), found.mask, predictor.classes, predictor.colours)
        (out / f"{path.stem}_overlay.png").write_bytes(pictures.png(overlay))
        console.print(f"{path.name}: foreground {found.foreground_fraction:.1%}, {found.seconds:.2f} s", markup=False)
    console.print(f"masks and overlays are in {out}", markup=False)
