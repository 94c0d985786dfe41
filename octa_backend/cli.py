"""The `octa` command: the list of its commands. What each can be told is in `commands/*_cli.py`."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperGroup

from octa_backend.commands import jobs_cli, prediction_cli, scans_cli, scoring_cli, shelf_cli, training_cli
from octa_backend.commands.options import ConfigCommand
from octa_backend.commands.terminal import DataDir, console, with_errors_in_words
from octa_backend.settings import load_settings

SHUTDOWN_SECONDS = 3
"""How long open answers may go on when the server is to end; those that follow a job would for hours."""


class Commands(TyperGroup):
    """The commands; a question mark stands for what the console's encoding cannot show (cp936 has no ²)."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Run one of them."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        return super().main(*arguments, **options)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    help="Train and use segmentation networks for eye scans.",
    context_settings={"token_normalize_func": lambda name: name.replace("_", "-")},  # --batch_size is --batch-size
)


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Serve the API; all settings come from OCTA_ variables, these options win."""
    import uvicorn  # noqa: PLC0415 - not needed by the other commands

    from octa_backend.app import check_start, create_app  # noqa: PLC0415

    settings = load_settings(host=host, port=port, data_dir=data_dir)
    settings.check_binding()
    table = Table("setting", "value", title="OCTA backend", title_justify="left")
    for name, value in settings.without_secrets().items():
        table.add_row(name, str(value))
    console.print(table)
    check_start(settings)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="info",
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


app.command()(with_errors_in_words(serve))
app.command(cls=ConfigCommand)(with_errors_in_words(training_cli.train))
app.command(cls=ConfigCommand)(with_errors_in_words(training_cli.plan))
app.command()(with_errors_in_words(prediction_cli.predict))
app.command()(with_errors_in_words(shelf_cli.export))
app.command()(with_errors_in_words(scoring_cli.evaluate))
app.command()(with_errors_in_words(scoring_cli.compare))
app.command("import")(with_errors_in_words(shelf_cli.import_model))
app.command()(with_errors_in_words(jobs_cli.doctor))
app.command()(with_errors_in_words(scans_cli.diagnose))
app.command()(with_errors_in_words(jobs_cli.jobs))
app.command()(with_errors_in_words(scans_cli.synth))
app.command()(with_errors_in_words(jobs_cli.demo))


def main() -> None:
    """The `octa` command."""
    app()


if __name__ == "__main__":
    sys.exit(app())
