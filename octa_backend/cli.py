"""The `octa` command and what it can be told. Parse, one call, show."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from octa_backend.commands.options import ConfigCommand, with_config_options
from octa_backend.errors import InvalidDataset, OctaError
from octa_backend.settings import Settings, load_settings

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Train and use segmentation networks for eye scans.",
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},  # --batch_size is --batch-size
)
console = Console()
errors = Console(stderr=True)

DataDir = Annotated[Path | None, typer.Option(help="Folder of database, datasets, jobs and models.")]
ScanZip = Annotated[
    Path | None, typer.Argument(help="Zip of scans and masks.", exists=True, dir_okay=False, show_default=False)
]
ScanFolder = Annotated[
    Path | None,
    typer.Option(help="Folder with images/ and masks/, in place of the zip.", exists=True, file_okay=False),
]


def _fail(error: OctaError) -> NoReturn:
    """Show an expected error in words, with its findings, and end with status 2."""
    errors.print(error.title(), style="bold red", end=" ")
    errors.print(error.message, soft_wrap=True, markup=False)
    if isinstance(error, InvalidDataset):
        from octa_backend.diagnosis.messages import describe  # noqa: PLC0415

        for finding in error.findings:
            errors.print(f"  ❌ {describe(finding, _settings().language)['message']}", soft_wrap=True, markup=False)
    raise typer.Exit(2)


def _settings(**given: Any) -> Settings:
    try:
        return load_settings(**given)
    except OctaError as error:
        _fail(error)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Serve the API; all settings come from OCTA_ variables, these options win."""
    import uvicorn  # noqa: PLC0415 - not needed by the other commands

    from octa_backend.app import create_app  # noqa: PLC0415

    settings = _settings(host=host, port=port, data_dir=data_dir)
    try:
        settings.check_binding()
    except OctaError as error:
        _fail(error)
    table = Table("setting", "value", title="OCTA backend", title_justify="left")
    for name, value in settings.without_secrets().items():
        table.add_row(name, str(value))
    console.print(table)
    uvicorn.run(create_app(settings), host=settings.host, port=settings.port, log_level="info")


@app.command(cls=ConfigCommand)
@with_config_options
def train(  # noqa: PLR0913 - one parameter per option
    config: dict[str, Any],
    data: ScanZip = None,
    *,
    data_dir: ScanFolder = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "--output-dir", help="Folder for checkpoints and model (default: octa_train)."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the training in this folder: OUT, OUT/latest, or its last checkpoint."),
    ] = None,
    test_only: Annotated[
        bool, typer.Option("--test-only", help="Score the model in --out on the test split, train nothing.")
    ] = False,
    focal_loss: Annotated[bool, typer.Option("--focal-loss", help="The same as --loss focal_dice.")] = False,
    loss_weights: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="A B", help="Weights of the loss's two components, in their order: BCE (or focal), Dice."),
    ] = None,
    amp: Annotated[bool, typer.Option("--amp", help="Compute in bf16 or fp16, as the device has it.")] = False,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Try learning rates, print a table and a suggestion, train nothing.")
    ] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Apply the safe remedies that the checks propose.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Train although the checks find errors.")] = False,
) -> None:
    """Train on a zip or a folder without a server. Run it again to go on where it stopped; Ctrl-C keeps the best model.

    Names of options may be spelt with underscores.
    """
    from octa_backend.commands import train as train_command  # noqa: PLC0415 - imports torch
    from octa_backend.commands.script_options import ScriptOptions  # noqa: PLC0415 - imports torch
    from octa_backend.service.start_service import StartOptions  # noqa: PLC0415

    try:
        wishes = train_command.Wishes(
            data=_scans(data, data_dir),
            out=out,
            resume=resume,
            values=config,
            script=ScriptOptions(focal_loss, loss_weights, amp),
            options=StartOptions(repair="auto" if repair else "none", force=force),
        )
        _refuse_contradictions(wishes.data, resume, test_only=test_only, find_lr=find_lr)
        command = train_command.score if test_only else train_command.find_lr if find_lr else train_command.train
        command(console, wishes, _settings(device=device))
    except OctaError as error:
        _fail(error)


def _scans(data: Path | None, data_dir: Path | None) -> Path | None:
    """The zip or the folder that was named, or None.

    Raises:
        OctaError: both were.
    """
    if data is not None and data_dir is not None:
        raise OctaError("the scans are named twice, as a zip and by --data-dir; leave one of them out")
    return data_dir if data is None else data


def _refuse_contradictions(data: Path | None, resume: Path | None, *, test_only: bool, find_lr: bool) -> None:
    """See that a training is told what to do, and told it once.

    Raises:
        OctaError: it is not.
    """
    if sum((test_only, find_lr, resume is not None)) > 1:
        raise OctaError("--resume, --test-only and --find-lr do different things; leave all but one of them out")
    if data is None and resume is None and not test_only:
        raise OctaError("name the scans: octa train DATA.zip, or octa train --data-dir FOLDER")


@app.command(cls=ConfigCommand)
@with_config_options
def plan(
    config: dict[str, Any],
    data: ScanZip = None,
    *,
    data_dir: ScanFolder = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Apply the safe remedies that the checks propose.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Plan although the checks find errors.")] = False,
) -> None:
    """Show what a training would compute and why, and what it takes; trains nothing and keeps nothing."""
    from octa_backend.commands import plan as plan_command  # noqa: PLC0415 - imports torch
    from octa_backend.service.start_service import StartOptions  # noqa: PLC0415

    options = StartOptions(repair="auto" if repair else "none", force=force)
    try:
        scans = _scans(data, data_dir)
        if scans is None:
            raise OctaError("name the scans: octa plan DATA.zip, or octa plan --data-dir FOLDER")
        plan_command.show_plan(console, scans, config, _settings(device=device), options, as_json=as_json)
    except OctaError as error:
        _fail(error)


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


@app.command()
def predict(  # noqa: PLR0913 - one parameter per option
    model: Annotated[str, typer.Argument(help="A model's folder, or the id of a model in the data folder.")],
    images: Annotated[list[Path], typer.Argument(help="Scans, folders or zips of scans.", exists=True)],
    *,
    out: Annotated[Path, typer.Option(help="Folder for masks and overlays.")] = Path("octa_predictions"),
    with_model: Annotated[
        list[str] | None, typer.Option(help="Another model that answers together with the first; may be repeated.")
    ] = None,
    threshold: Annotated[
        Any,
        typer.Option(
            parser=_threshold,
            metavar="NUMBER|tuned|auto",
            help="Probability from which it is vessel; tuned: the model's own; auto: Otsu's of each scan.",
        ),
    ] = "0.5",
    tta: Annotated[
        bool, typer.Option("--tta", help="Average over the eight flips and turns of each scan: eight times as long.")
    ] = False,
    min_object_px: Annotated[int | None, typer.Option(min=1, help="Remove objects of fewer pixels.")] = None,
    min_object_um2: Annotated[float | None, typer.Option(help="Remove objects of a smaller area in µm².")] = None,
    max_hole_px: Annotated[int | None, typer.Option(min=1, help="Fill holes of at most so many pixels.")] = None,
    max_hole_um2: Annotated[float | None, typer.Option(help="Fill holes of at most this area in µm².")] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(help="The known mask of each scan, in their order; repeated.", exists=True, dir_okay=False),
    ] = None,
    confidence_map: Annotated[
        bool, typer.Option("--confidence-map", help="Also write NAME_confidence.png: probability of the class chosen.")
    ] = False,
    probability: Annotated[
        bool, typer.Option("--probability", help="Also write NAME_probability.png: probability of vessel, 16 bits.")
    ] = False,
    measure: Annotated[bool, typer.Option(help="Measure the vessels and write measurements.csv.")] = True,
    pixel_size_um: Annotated[
        float | None, typer.Option(help="Side of a pixel in µm. Else measurements are in pixels.")
    ] = None,
    field_of_view_mm: Annotated[
        float | None, typer.Option(help="Width of the scans in mm, in place of --pixel-size-um.")
    ] = None,
    vessel_class: Annotated[int, typer.Option(min=1, help="Which class of the masks is vessel.")] = 1,
    measure_picture: Annotated[
        bool, typer.Option("--measure-picture", help="Also write NAME_measured.png: centre lines, branch points, FAZ.")
    ] = False,
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

    settings = _settings(data_dir=data_dir)
    if measure_picture and not measure:
        raise typer.BadParameter("--measure-picture draws what was measured; leave --no-measure out")
    try:
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
    except OctaError as error:
        _fail(error)


class ExportChoice(StrEnum):
    """The formats of an export."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    OPENVINO_INT8 = "openvino-int8"
    TORCH = "torch"


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A model's folder, or the id of a model in the data folder.")],
    wanted: Annotated[ExportChoice, typer.Option("--format", help="Of the graph.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.", file_okay=False)] = Path("octa_export"),
    data_dir: DataDir = None,
) -> None:
    """Write a model for other programs: its graph, what the graph expects (export.json), and the card."""
    from octa_backend.commands import export as export_command  # noqa: PLC0415

    try:
        export_command.export(console, _settings(data_dir=data_dir), model, wanted.value, out)
    except OctaError as error:
        _fail(error)


class Split(StrEnum):
    """The scans to evaluate."""

    TEST = "test"
    VAL = "val"
    TRAIN = "train"
    ALL = "all"


@app.command()
def evaluate(  # noqa: PLR0913 - one parameter per option
    model: Annotated[str, typer.Argument(help="A model's folder, or the id of a model in the data folder.")],
    data: Annotated[Path, typer.Argument(help="Zip of scans and masks.", exists=True, dir_okay=False)],
    *,
    split: Annotated[
        Split | None, typer.Option(help="Scans to score. Default: test, else val of the model's own zip, else all.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for report.html and report.json.")] = Path("octa_evaluation"),
    threshold: Annotated[float, typer.Option(min=0.001, max=0.999, help="Probability from which it is vessel.")] = 0.5,
    tune_threshold: Annotated[
        bool, typer.Option("--tune-threshold", help="Find the threshold of the highest mean Dice on validation scans.")
    ] = False,
    use_tuned_threshold: Annotated[
        bool, typer.Option("--use-tuned-threshold", help="Find it and score the scans with it.")
    ] = False,
    pixel_size_um: Annotated[
        list[float] | None,
        typer.Option(
            min=0, help="Side of a pixel in µm; once, or once per axis. Else volumes are in mm, pictures in pixels."
        ),
    ] = None,
    tolerance: Annotated[
        float | None, typer.Option(min=0, help="Of the surface Dice, in µm, mm or pixels. Default: one pixel.")
    ] = None,
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
    try:
        evaluate_command.evaluate(console, _settings(data_dir=data_dir), model, data, out, options)
    except OctaError as error:
        _fail(error)


class ComparedSplit(StrEnum):
    """The scans to compare models on."""

    TEST = "test"
    VAL = "val"
    ALL = "all"


@app.command()
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

    try:
        compare_command.compare(console, _settings(data_dir=data_dir), models, data, split.value, csv)
    except OctaError as error:
        _fail(error)


@app.command("import")
def import_model(  # noqa: PLR0913 - one parameter per option
    file: Annotated[
        Path,
        typer.Argument(help="A package (.zip), or weights (.safetensors, .pt, .pth).", exists=True, dir_okay=False),
    ],
    *,
    network: Annotated[str | None, typer.Option(help="Of weights: the network that they are of.")] = None,
    channels: Annotated[int | None, typer.Option(help="Of weights: channels of the scans, 1 for grey.")] = None,
    classes: Annotated[
        int | None, typer.Option(help="Of weights: classes of the masks with background. Default: 2.")
    ] = None,
    normalisation: Annotated[
        str | None, typer.Option(help="Of weights: unit, zscore or percentile. Default: unit.")
    ] = None,
    ignore_index: Annotated[
        int | None, typer.Option(help="Of weights: class of their dataset that was ignored.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the model is called.")] = None,
    notes: Annotated[str | None, typer.Option(help="What else is to be said of it.")] = None,
    licence: Annotated[str | None, typer.Option(help="Under which it may be used.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Put a model from elsewhere on the shelf of the data folder."""
    from octa_backend.commands import import_model as import_command  # noqa: PLC0415
    from octa_backend.service.import_wish import read_wish  # noqa: PLC0415

    said = {"network": network, "channels": channels, "classes": classes, "normalisation": normalisation}
    said |= {"ignore_index": ignore_index, "name": name, "notes": notes, "licence": licence}
    try:
        import_command.import_model(console, _settings(data_dir=data_dir), file, read_wish(said))
    except OctaError as error:
        _fail(error)


@app.command()
def doctor(
    job: Annotated[str, typer.Argument(help="Id of a job in the data folder.")],
    lang: Annotated[str | None, typer.Option(metavar="en|zh", help="Language (default: OCTA_LANGUAGE).")] = None,
    data_dir: DataDir = None,
) -> None:
    """Tell the whole story of a training as a physician's letter: history, evidence, verdict, remedy."""
    from octa_backend.commands import doctor as doctor_command  # noqa: PLC0415

    try:
        doctor_command.doctor(console, _settings(data_dir=data_dir, language=lang), job)
    except OctaError as error:
        _fail(error)


@app.command()
def diagnose(
    path: Annotated[Path, typer.Argument(help="Zip or folder of scans and masks.", exists=True)],
    lang: Annotated[str | None, typer.Option(metavar="en|zh", help="Language (default: OCTA_LANGUAGE).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    sheet: Annotated[
        Path | None, typer.Option(dir_okay=False, help="PNG to write: image, mask and overlay, the worst scans first.")
    ] = None,
    fix: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Zip to write: the data after the remedies that are safe.")
    ] = None,
    remedy: Annotated[
        list[str] | None, typer.Option(help="With --fix: exactly this remedy; may be given several times.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A model's folder, or its id in the data folder: also looks for label errors.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Check scans and masks: ends with status 0 where they are clean, 1 with warnings, 2 with errors."""
    from octa_backend.commands import diagnose as diagnose_command  # noqa: PLC0415 - decoding is not needed elsewhere

    wishes = diagnose_command.Wishes(as_json, sheet, fix, tuple(remedy or ()), model)
    try:
        settings = _settings(language=lang, data_dir=data_dir)
        status = diagnose_command.diagnose(console, errors, path, settings, wishes)
    except OctaError as error:
        _fail(error)
    except OSError as error:
        _fail(OctaError(f"{error.filename or path}: {error.strerror or error}"))
    raise typer.Exit(status)


@app.command()
def jobs(
    url: Annotated[str | None, typer.Option(help="A running server, for example http://127.0.0.1:8000.")] = None,
    api_key: Annotated[str | None, typer.Option(help="The server's key, where it wants one.")] = None,
    data_dir: DataDir = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 20,
) -> None:
    """Show the jobs of a running server, or of the data folder."""
    from octa_backend.commands import jobs as jobs_command  # noqa: PLC0415

    try:
        rows = (
            jobs_command.from_server(url, api_key, limit)
            if url
            else jobs_command.from_folder(_settings(data_dir=data_dir), limit)
        )
    except OctaError as error:
        _fail(error)
    console.print(jobs_command.table(rows))


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="The zip to write.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100_000, help="How many scans.")] = 40,
    size: Annotated[
        int | None, typer.Option(min=24, max=1024, help="Side in pixels (320), of volumes in voxels (48).")
    ] = None,
    volumes: Annotated[bool, typer.Option("--volumes", help="Volumes with vessel trees, as NIfTI.")] = False,
    slice_thickness: Annotated[
        int, typer.Option(min=1, max=32, help="Of volumes: a slice is so many times as thick as a voxel is wide.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal bytes.")] = 0,
    sheet: Annotated[
        Path | None, typer.Option(help="PNG to write: image, mask and overlay of the first scans.")
    ] = None,
) -> None:
    """Make a zip of synthetic OCTA scans, or of volumes, with exact vessel masks."""
    from octa_backend.commands import synth as synth_command  # noqa: PLC0415
    from octa_backend.data.synthetic import SMALLEST_SIZE  # noqa: PLC0415

    if volumes:
        synth_command.synth_volumes(console, out, count, size or 48, seed, slice_thickness, sheet)
    elif slice_thickness != 1:
        _fail(OctaError("--slice-thickness is one of volumes; add --volumes"))
    elif size is not None and size < SMALLEST_SIZE:
        raise typer.BadParameter(f"--size {size}: a scan needs at least {SMALLEST_SIZE} pixels a side")
    else:
        synth_command.synth(console, out, count, size or 320, seed, sheet)


@app.command()
def demo(
    data: Annotated[Path | None, typer.Option(help="A zip of your own.", exists=True, dir_okay=False)] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = Path("demo_out"),
    epochs: Annotated[int, typer.Option(min=1, help="Epochs to train.")] = 6,
    model: Annotated[str, typer.Option(help="Network to train.")] = "unet_transformer",
) -> None:
    """Show the whole story over HTTP: upload, train, watch, predict an unseen scan."""
    from octa_backend.commands import demo as demo_command  # noqa: PLC0415

    try:
        demo_command.demo(console, data, out, epochs, model)
    except OctaError as error:
        _fail(error)


def main() -> None:
    """The `octa` command."""
    app()


if __name__ == "__main__":
    sys.exit(app())
