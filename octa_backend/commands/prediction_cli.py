"""What `octa predict` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from octa_backend.commands.terminal import DataDir, OneModel, console
from octa_backend.settings import load_settings


def _threshold(text: str) -> float | str:
    """A probability, or a word."""
    if text in ("tuned", "auto"):
        return text
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise typer.BadParameter(f"{text!r} is neither a number between 0 and 1 nor 'tuned' or 'auto'")
    return value


Images = Annotated[list[Path], typer.Argument(help="Scans, folders or zips of scans.", exists=True)]
Out = Annotated[Path, typer.Option(help="Folder for masks and overlays.")]
WithModel = Annotated[
    list[str] | None, typer.Option(help="Another model that answers together with the first; may be repeated.")
]
Threshold = Annotated[
    Any,
    typer.Option(
        parser=_threshold,
        metavar="NUMBER|tuned|auto",
        help="Probability from which it is vessel; tuned: the model's own; auto: Otsu's of each scan.",
    ),
]
Tta = Annotated[
    bool, typer.Option("--tta", help="Average over up to eight flips and turns of each scan: as many times as long.")
]
MinObjectPx = Annotated[int | None, typer.Option(min=1, help="Remove objects of fewer pixels.")]
MinObjectUm2 = Annotated[float | None, typer.Option(help="Remove objects of a smaller area in µm².")]
MaxHolePx = Annotated[int | None, typer.Option(min=1, help="Fill holes of at most so many pixels.")]
MaxHoleUm2 = Annotated[float | None, typer.Option(help="Fill holes of at most this area in µm².")]
Mask = Annotated[
    list[Path] | None,
    typer.Option(help="The known mask of each scan, in their order; repeated.", exists=True, dir_okay=False),
]
ConfidenceMap = Annotated[
    bool, typer.Option("--confidence-map", help="Also write NAME_confidence.png: probability of the class chosen.")
]
Probability = Annotated[
    bool, typer.Option("--probability", help="Also write NAME_probability.png: probability of vessel, 16 bits.")
]
Measure = Annotated[bool, typer.Option(help="Measure the vessels and write measurements.csv.")]
PixelSizeUm = Annotated[float | None, typer.Option(help="Side of a pixel in µm. Else measurements are in pixels.")]
FieldOfViewMm = Annotated[float | None, typer.Option(help="Width of the scans in mm, in place of --pixel-size-um.")]
VesselClass = Annotated[int, typer.Option(min=1, help="Which class of the masks is vessel.")]
MeasurePicture = Annotated[
    bool, typer.Option("--measure-picture", help="Also write NAME_measured.png: centre lines, branch points, FAZ.")
]


def predict(  # noqa: PLR0913 - one parameter per option
    model: OneModel,
    images: Images,
    *,
    out: Out = Path("octa_predictions"),
    with_model: WithModel = None,
    threshold: Threshold = "0.5",
    tta: Tta = False,
    min_object_px: MinObjectPx = None,
    min_object_um2: MinObjectUm2 = None,
    max_hole_px: MaxHolePx = None,
    max_hole_um2: MaxHoleUm2 = None,
    mask: Mask = None,
    confidence_map: ConfidenceMap = False,
    probability: Probability = False,
    measure: Measure = True,
    pixel_size_um: PixelSizeUm = None,
    field_of_view_mm: FieldOfViewMm = None,
    vessel_class: VesselClass = 1,
    measure_picture: MeasurePicture = False,
    data_dir: DataDir = None,
) -> None:
    """Segment scans: writes NAME_mask.png and NAME_overlay.png for each, and what was measured of all.

    With known masks also NAME_difference.png (green right, red missed, blue invented) and evaluation.csv.
    Those of folders and zips keep the folders they lie in; one that cannot be read does not stop the others.
    Of volumes: NAME.nii.gz for each case, and volumes.csv with the ml of each class.
    """
    from octa_backend.commands import predict as predict_command  # noqa: PLC0415 - imports torch
    from octa_backend.inference.clean_options import CleanOptions  # noqa: PLC0415
    from octa_backend.inference.scale import MeasureOptions  # noqa: PLC0415
    from octa_backend.service.predict_service import PredictOptions  # noqa: PLC0415

    settings = load_settings(data_dir=data_dir)
    if measure_picture and not measure:
        raise typer.BadParameter("--measure-picture draws what was measured; leave --no-measure out")
    sizes = MeasureOptions(pixel_size_um, field_of_view_mm, vessel_class)
    cleaning = CleanOptions(min_object_px, min_object_um2, max_hole_px, max_hole_um2, sizes)
    options = PredictOptions(
        threshold=threshold,
        tta=tta,
        measuring=sizes if measure else None,
        with_picture=measure_picture,
        language=settings.language,
        cleaning=cleaning if cleaning.asks_for_something else None,
        with_confidence=confidence_map,
        with_probability=probability,
    )
    models = [model, *(with_model or [])]
    predict_command.predict(console, settings, models, images, mask or [], out, options)
