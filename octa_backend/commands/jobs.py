"""`octa jobs`: a table of jobs, from a running server or from a data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import httpx
from rich.table import Table
from sqlalchemy.orm import Session

from octa_backend.commands.http_client import client
from octa_backend.controller.job_schemas import JobOut
from octa_backend.errors import OctaError, ServerUnreachable
from octa_backend.service import train_service
from octa_backend.settings import Settings
from octa_backend.storage.database import Database

Row = dict[str, Any]


def from_server(url: str, api_key: str | None, limit: int) -> list[Row]:
    """The newest jobs of a running server.

    Raises:
        ServerUnreachable: it does not answer, or refuses, is another program, or the address is none.
    """
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    try:
        with client(headers=headers, timeout=10) as server:
            answer = server.get(f"{url.rstrip('/')}/train/jobs", params={"limit": limit})
        answer.raise_for_status()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerUnreachable(f"{url}: {error}") from error
    try:
        items: list[Row] = answer.json()["items"]
    except (ValueError, KeyError, TypeError) as error:
        raise ServerUnreachable(f"{url}: what answers there is another program: {answer.text[:80]!r}") from error
    return items


def from_folder(settings: Settings, limit: int) -> list[Row]:
    """The newest jobs of a data folder, whether or not a server runs on it.

    Raises:
        OctaError: there is no database.
    """
    with reading(settings) as session:
        page = train_service.list_jobs(session, None, limit, None)
        return [JobOut.of(job).model_dump(mode="json") for job in page.rows]


@contextmanager
def reading(settings: Settings) -> Iterator[Session]:
    """A session for reading the database of a data folder, which is closed again after it.

    Raises:
        OctaError: there is none.
        DatabaseUnusable: as `Database.require_current`.
    """
    if not settings.has_database:
        raise OctaError(f"{settings.data_dir} holds no database; give --data-dir, or --url of a running server")
    with closing(Database(settings.effective_database_url)) as database:
        database.require_current()
        with database.reading() as session:
            yield session


def table(rows: list[Row]) -> Table:
    """The jobs as a table."""
    shown = Table("job", "state", "network", "epoch", "best Dice", "test Dice", "model", "created")
    for row in rows:
        best, test = row["best"], row["test"]
        shown.add_row(
            row["job_id"],
            row["state"],
            row["model"] or "–",
            f"{row['epoch']}/{row['epochs'] or '–'}",
            f"{best['val_dice']:.4f}" if best else "–",
            f"{test['dice']:.4f}" if test else "–",
            row["model_id"] or "–",
            row["created_at"][:19].replace("T", " "),
        )
    return shown
