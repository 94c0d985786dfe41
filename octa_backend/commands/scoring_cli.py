"""What `octa evaluate` and `octa compare` can be told."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from octa_backend.commands.terminal import DataDir, OneModel, console
from octa_backend.settings import load_settings


class Split(StrEnum):
    """The scans to evaluate."""

    TEST = "test"
    VAL = "val"
    TRAIN = "train"
    ALL = "all"


class ComparedSplit(StrEnum):
    """The scans to compare models on."""

    TEST = "test"
    VAL = "val"
    ALL = "all"


EvaluatedSplit = Annotated[
    Split | None, typer.Option(help="Scans to score. Default: test, else val of the model's own zip, else all.")
]
Threshold = Annotated[float, typer.Option(min=0.001, max=0.999, help="Probability from which it is vessel.")]
TuneThreshold = Annotated[
    bool, typer.Option("--tune-threshold", help="Find the threshold of the highest mean Dice on validation scans.")
]
UseTunedThreshold = Annotated[bool, typer.Option("--use-tuned-threshold", help="Find it and score the scans with it.")]
Tta = Annotated[bool, typer.Option("--tta", help="Average over up to eight views of each scan: as many times as long.")]
PixelSizeUm = Annotated[
    list[float] | None,
    typer.Option(
        min=0, help="Side of a pixel in µm; once, or once per axis. Else volumes are in mm, pictures in pixels."
    ),
]
Tolerance = Annotated[
    float | None, typer.Option(min=0, help="Of the surface Dice, in µm, mm or pixels. Default: one pixel.")
]


def evaluate(  # noqa: PLR0913 - one parameter per option
    model: OneModel,
    data: Annotated[Path, typer.Argument(help="Zip of scans and masks.", exists=True, dir_okay=False)],
    *,
    split: EvaluatedSplit = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path("octa_evaluation"),
    threshold: Threshold = 0.5,
    tune_threshold: TuneThreshold = False,
    use_tuned_threshold: UseTunedThreshold = False,
    tta: Tta = False,
    pixel_size_um: PixelSizeUm = None,
    tolerance: Tolerance = None,
    data_dir: DataDir = None,
) -> None:
    """Score a model on a zip: overlap, distances, intervals and the worst scans, as table, HTML and JSON."""
    from octa_backend.commands import evaluate as evaluate_command  # noqa: PLC0415 - imports torch
    from octa_backend.service.evaluation_run import EvaluationOptions  # noqa: PLC0415 - imports torch

    options = EvaluationOptions(
        split=split.value if split else None,
        threshold=threshold,
        pixel_size_um=tuple(pixel_size_um or ()),
        tolerance=tolerance,
        tune_threshold=tune_threshold,
        use_tuned_threshold=use_tuned_threshold,
    )
    evaluate_command.evaluate(console, load_settings(data_dir=data_dir), model, data, out, options, tta=tta)


def compare(
    models: Annotated[list[str], typer.Argument(help="Models' folders, or ids of models in the data folder.")],
    *,
    data: Annotated[Path, typer.Option(help="Zip of scans and masks.", exists=True, dir_okay=False)],
    split: Annotated[ComparedSplit, typer.Option(help="Scans to score.")] = ComparedSplit.TEST,
    csv: Annotated[Path | None, typer.Option(help="CSV file to write.", dir_okay=False)] = None,
    data_dir: DataDir = None,
) -> None:
    """Score several models on the same scans of a zip, side by side."""
    from octa_backend.commands import compare as compare_command  # noqa: PLC0415 - imports torch

    compare_command.compare(console, load_settings(data_dir=data_dir), models, data, split.value, csv)
