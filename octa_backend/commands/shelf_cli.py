"""What `octa export` and `octa import` can be told."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from octa_backend.commands.terminal import DataDir, OneModel, console
from octa_backend.settings import load_settings


class ExportChoice(StrEnum):
    """The formats of an export."""

    ONNX = "onnx"
    OPENVINO = "openvino"
    OPENVINO_INT8 = "openvino-int8"
    TORCH = "torch"


def export(
    model: OneModel,
    wanted: Annotated[ExportChoice, typer.Option("--format", help="Of the graph.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.", file_okay=False)] = Path("octa_export"),
    data_dir: DataDir = None,
) -> None:
    """Write a model for other programs: its graph, what the graph expects (export.json), and the card."""
    from octa_backend.commands import export as export_command  # noqa: PLC0415

    export_command.export(console, load_settings(data_dir=data_dir), model, wanted.value, out)


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
        str | None, typer.Option(help="Of weights: unit, zscore, percentile or zscore_nonzero. Default: unit.")
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
    import_command.import_model(console, load_settings(data_dir=data_dir), file, read_wish(said))
