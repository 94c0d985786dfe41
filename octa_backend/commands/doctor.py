"""`octa doctor`: what the training doctor says of a job, as a letter."""

from __future__ import annotations

from rich.console import Console
from rich.markdown import Markdown

from octa_backend.commands.jobs import reading
from octa_backend.service.run_doctor import examine_job
from octa_backend.settings import Settings


def doctor(console: Console, settings: Settings, job_id: str) -> None:
    """Print the letter: laid out on a terminal, as Markdown where the output goes elsewhere.

    Raises:
        OctaError: there is no database, no such job, or nothing to judge it by yet.
    """
    with reading(settings) as session:
        letter = examine_job(session, job_id).letter(settings.language)
    if console.is_terminal:
        console.print(Markdown(letter))
    else:
        console.print(letter, markup=False, highlight=False, soft_wrap=True, end="")
