"""What `octa jobs`, `octa doctor` and `octa demo` can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from octa_backend.commands.terminal import DataDir, Language, console
from octa_backend.settings import load_settings


def jobs(
    url: Annotated[str | None, typer.Option(help="A running server, for example http://127.0.0.1:8000.")] = None,
    api_key: Annotated[str | None, typer.Option(help="The server's key, where it wants one.")] = None,
    data_dir: DataDir = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 20,
) -> None:
    """Show the jobs of a running server, or of the data folder."""
    from octa_backend.commands import jobs as jobs_command  # noqa: PLC0415

    if url:
        rows = jobs_command.from_server(url, api_key, limit)
    else:
        rows = jobs_command.from_folder(load_settings(data_dir=data_dir), limit)
    console.print(jobs_command.table(rows))


def doctor(
    job: Annotated[str, typer.Argument(help="Id of a job in the data folder.")],
    lang: Language = None,
    data_dir: DataDir = None,
) -> None:
    """Tell the whole story of a training as a physician's letter: history, evidence, verdict, remedy."""
    from octa_backend.commands import doctor as doctor_command  # noqa: PLC0415

    doctor_command.doctor(console, load_settings(data_dir=data_dir, language=lang), job)


def demo(
    data: Annotated[Path | None, typer.Option(help="A zip of your own.", exists=True, dir_okay=False)] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything that is made.")] = Path("demo_out"),
    epochs: Annotated[int, typer.Option(min=1, help="Epochs to train.")] = 6,
    model: Annotated[str, typer.Option(help="Network to train.")] = "unet_transformer",
) -> None:
    """Show the whole story over HTTP: upload, train, watch, predict an unseen scan."""
    from octa_backend.commands import demo as demo_command  # noqa: PLC0415

    demo_command.demo(console, data, out, epochs, model)
