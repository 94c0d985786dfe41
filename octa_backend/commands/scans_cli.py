"""What `octa diagnose` and `octa synth` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octa_backend.commands.terminal import DataDir, Language, console, errors
from octa_backend.errors import OctaError
from octa_backend.settings import load_settings

Sheet = Annotated[
    Path | None, typer.Option(dir_okay=False, help="PNG to write: image, mask and overlay, the worst scans first.")
]
Fix = Annotated[
    Path | None, typer.Option(dir_okay=False, help="Zip to write: the data after the remedies that are safe.")
]
Remedies = Annotated[
    list[str] | None, typer.Option(help="With --fix: exactly this remedy; may be given several times.")
]
LabelModel = Annotated[
    str | None, typer.Option(help="A model's folder, or its id in the data folder: also looks for label errors.")
]


def diagnose(
    path: Annotated[Path, typer.Argument(help="Zip or folder of scans and masks.", exists=True)],
    lang: Language = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    sheet: Sheet = None,
    fix: Fix = None,
    remedy: Remedies = None,
    model: LabelModel = None,
    data_dir: DataDir = None,
) -> None:
    """Check scans and masks: ends with status 0 where they are clean, 1 with warnings, 2 with errors."""
    from octa_backend.commands import diagnose as diagnose_command  # noqa: PLC0415 - decoding is not needed elsewhere

    wishes = diagnose_command.Wishes(as_json, sheet, fix, tuple(remedy or ()), model)
    settings = load_settings(language=lang, data_dir=data_dir)
    try:
        status = diagnose_command.diagnose(console, errors, path, settings, wishes)
    except OSError as error:
        raise OctaError(f"{error.filename or path}: {error.strerror or error}") from error
    raise typer.Exit(status)


SideLength = Annotated[
    int | None, typer.Option(min=24, max=1024, help="Side in pixels (320), of volumes in voxels (48).")
]
SliceThickness = Annotated[
    int, typer.Option(min=1, max=32, help="Of volumes: a slice is so many times as thick as a voxel is wide.")
]
FirstScans = Annotated[Path | None, typer.Option(help="PNG to write: image, mask and overlay of the first scans.")]


def synth(
    out: Annotated[Path, typer.Argument(help="The zip to write.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, max=100_000, help="How many scans.")] = 40,
    size: SideLength = None,
    volumes: Annotated[bool, typer.Option("--volumes", help="Volumes with vessel trees, as NIfTI.")] = False,
    slice_thickness: SliceThickness = 1,
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds give equal bytes.")] = 0,
    sheet: FirstScans = None,
) -> None:
    """Make a zip of synthetic OCTA scans, or of volumes, with exact vessel masks."""
    from octa_backend.commands import synth as synth_command  # noqa: PLC0415
    from octa_backend.data.synthetic import SMALLEST_SIZE  # noqa: PLC0415

    if volumes:
        synth_command.synth_volumes(console, out, count, size or 48, seed, slice_thickness, sheet)
    elif slice_thickness != 1:
        raise OctaError("--slice-thickness is one of volumes; add --volumes")
    elif size is not None and size < SMALLEST_SIZE:
        raise typer.BadParameter(f"--size {size}: a scan needs at least {SMALLEST_SIZE} pixels a side")
    else:
        synth_command.synth(console, out, count, size or 320, seed, sheet)
