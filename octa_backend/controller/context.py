"""What every controller needs: the wired parts, a transaction, and who is asking."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from octa_backend.controller.foreign_pages import refuse_foreign_pages
from octa_backend.controller.language import language_of
from octa_backend.diagnosis.text import Language
from octa_backend.errors import NotAuthenticated
from octa_backend.service.comparison_service import Comparisons
from octa_backend.service.predict_service import PredictService
from octa_backend.service.prediction_runner import PredictionRunner
from octa_backend.service.supervisor import Supervisor
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files


@dataclass(frozen=True, slots=True)
class Context:
    """The parts that `create_app` has wired."""

    settings: Settings
    files: Files
    database: Database
    supervisor: Supervisor
    predictions: PredictService
    prediction_runner: PredictionRunner
    comparisons: Comparisons


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is asking: the number of the API key, or `anonymous` where none is needed."""

    name: str


def get_context(request: Request) -> Context:
    """The app's parts."""
    context: Context = request.app.state.context
    return context


def identify(request: Request) -> Caller:
    """Check the API key, in constant time.

    Raises:
        NotAuthenticated: keys are set and none of them came.
        ForeignPage: none are set, and a browser may have been made to send this.
    """
    settings = get_context(request).settings
    keys = settings.api_keys
    if not keys:
        refuse_foreign_pages(request, settings)
        return Caller("anonymous")
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    for number, key in enumerate(keys, start=1):
        same = hmac.compare_digest(key.get_secret_value().encode(), given.strip().encode())
        if scheme.lower() == "bearer" and same:
            return Caller(f"key {number}")
    raise NotAuthenticated("send one of the server's keys as 'Authorization: Bearer KEY'")


def read_session(request: Request) -> Iterator[Session]:
    """A session for a route that reads."""
    with get_context(request).database.reading() as session:
        yield session


def write_session(request: Request) -> Iterator[Session]:
    """One transaction per request, committed before the answer is sent, so that the next request sees it."""
    with get_context(request).database.writing() as session:
        yield session


Parts = Annotated[Context, Depends(get_context)]
Reading = Annotated[Session, Depends(read_session, scope="function")]
Writing = Annotated[Session, Depends(write_session, scope="function")]
Reader = Annotated[Language, Depends(language_of)]
