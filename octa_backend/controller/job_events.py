"""A job as Server-Sent Events. An event's id is where the client stands: `epoch-finding-version`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Header
from fastapi.sse import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from octa_backend.controller.context import Reading
from octa_backend.controller.epoch_schemas import EpochOut
from octa_backend.controller.job_schemas import ProgressOut
from octa_backend.controller.schemas import findings_out
from octa_backend.diagnosis.text import Language
from octa_backend.errors import InvalidCursor, JobNotFound
from octa_backend.service import train_service
from octa_backend.service.paging import whole
from octa_backend.storage.database import Database
from octa_backend.storage.tables import JobState

POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """How far a client has read: the last epoch, the last finding's row, and the last state it saw."""

    job_id: str
    epoch: int = 0
    finding: int = 0
    state: str = ""

    @property
    def event_id(self) -> str:
        """The place as an event's id."""
        return f"{self.epoch}-{self.finding}-{self.state}"


def start_at(job_id: str, db: Reading, last_event_id: Annotated[str | None, Header()] = None) -> Place:
    """Where a client begins; checked before the stream opens, so that a wrong id is a problem document."""
    train_service.get(db, job_id)
    if last_event_id is None:
        return Place(job_id)
    try:
        epoch, finding, state = last_event_id.split("-")
        return Place(job_id, whole(int(epoch)), whole(int(finding)), state)
    except ValueError as error:
        raise InvalidCursor(f"{last_event_id!r} is not the id of an event of this server") from error


Start = Annotated[Place, Depends(start_at)]


async def follow(database: Database, place: Place, language: Language) -> AsyncIterator[ServerSentEvent]:
    """Yield what is new until the job is over, or deleted."""
    while True:
        try:
            events, place, over = await run_in_threadpool(_news, database, place, language)
        except JobNotFound:
            return
        for event in events:
            yield event
        if over:
            return
        await asyncio.sleep(POLL_SECONDS)


def _news(database: Database, place: Place, language: Language) -> tuple[list[ServerSentEvent], Place, bool]:
    with database.reading() as session:
        found = train_service.progress(session, place.job_id, since_epoch=place.epoch)
        fresh = train_service.findings(session, place.job_id, after=place.finding)
    if found.job.epoch < place.epoch:  # a run that went back to its last checkpoint computes the next epochs anew
        place = replace(place, epoch=found.job.epoch)
    events = []
    for report in found.epochs_since:
        place = replace(place, epoch=report.epoch)
        events.append(ServerSentEvent(event="epoch", id=place.event_id, data=EpochOut.of(report, found.job)))
    for row in fresh:
        place = replace(place, finding=row.id)
        shown = findings_out([row.finding], language)[0]
        events.append(ServerSentEvent(event="finding", id=place.event_id, data=shown))
    caught_up = len(found.epochs_since) < train_service.MAX_EPOCHS_SINCE
    state = JobState(found.job.state)
    if caught_up and state != place.state:
        place = replace(place, state=state.value)
        answer = ProgressOut.of(replace(found, epochs_since=()), language)
        events.append(ServerSentEvent(event="state", id=place.event_id, data=answer))
    return events, place, caught_up and state.is_final
