"""Shapes of what the server tells of itself."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import Field

from octa_backend.controller.schemas import Answer


class Health(Answer):
    """The process answers."""

    status: str = Field(default="ok", examples=["ok"])
    time: datetime = Field(default_factory=lambda: datetime.now(UTC))


class Ready(Answer):
    """Whether the server can do its work, part by part."""

    ready: bool
    database: bool
    disk: bool
    supervisor: bool
    models: bool


class Version(Answer):
    """What runs here."""

    version: str
    git_revision: str | None
    python: str
    packages: dict[str, str | None]
