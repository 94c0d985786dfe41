"""What all commands share: where they write, the settings, and how an expected error ends one."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from octa_backend.errors import InvalidDataset, OctaError
from octa_backend.settings import load_settings

console = Console()
errors = Console(stderr=True)

DataDir = Annotated[Path | None, typer.Option(help="Folder of database, datasets, jobs and models.")]
OneModel = Annotated[str, typer.Argument(help="A model's folder, or the id of a model in the data folder.")]
Language = Annotated[str | None, typer.Option(metavar="en|zh", help="Language (default: OCTA_LANGUAGE).")]


def lacks_letters(console: Console) -> bool:
    """Whether JSON needs escapes: Windows writes to files and consoles in an encoding of few letters."""
    return not console.encoding.startswith("utf")


def with_errors_in_words(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that shows an expected error in words, with its findings, and ends with status 2."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except OctaError as error:
            _show(error)
            raise typer.Exit(2) from error

    return run


def _show(error: OctaError) -> None:
    errors.print(error.title(), style="bold red", end=" ")
    errors.print(error.message, soft_wrap=True, markup=False)
    if isinstance(error, InvalidDataset):
        _show_findings(error)


@with_errors_in_words  # a setting may be wrong, too
def _show_findings(error: InvalidDataset) -> None:
    from octa_backend.diagnosis.messages import describe  # noqa: PLC0415 - not needed where all goes well
    from octa_backend.diagnosis.report import Mark, glyphs_for  # noqa: PLC0415

    language = load_settings().language
    glyphs = glyphs_for(errors.encoding)
    for finding in error.findings:
        message = describe(finding, language)["message"]
        errors.print(f"  {glyphs[Mark(finding.severity)]} {message}", soft_wrap=True, markup=False)
