"""`/health`, `/ready`, `/metrics`, `/version`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from octa_backend.controller.context import Parts, Reading
from octa_backend.controller.metrics_text import MetricsResponse, metrics_text
from octa_backend.controller.system_schemas import Health, Ready, Version
from octa_backend.service import metrics, model_service
from octa_backend.storage.files import RESERVE_BYTES

open_router = APIRouter(tags=["system"])
router = APIRouter(tags=["system"])


@open_router.get("/health", summary="Does the process answer?")
def health() -> Health:
    """Needs no key."""
    return Health()


@router.get("/ready", summary="Can it do its work?", responses={503: {"model": Ready, "description": "Not all of it."}})
def ready(parts: Parts, response: Response) -> Ready:
    """Database, disk, supervisor, and the models that are loaded at the start."""
    state = Ready(
        ready=False,
        database=parts.database.is_ready(),
        disk=parts.files.free_bytes() > RESERVE_BYTES,
        supervisor=parts.supervisor.is_alive,
        models=parts.predictions.is_warm,
    )
    state.ready = state.database and state.disk and state.supervisor and state.models
    response.status_code = 200 if state.ready else 503
    return state


@router.get("/metrics", summary="What does it hold and do?", response_class=MetricsResponse)
def show_metrics(db: Reading, parts: Parts) -> MetricsResponse:
    """Numbers for Prometheus: jobs by state, datasets, models, predictions, memory of models, free disk."""
    return MetricsResponse(metrics_text(metrics.gather(db, parts.files, parts.predictions)))


@router.get("/version", summary="What runs here?")
def version() -> Version:
    """Version, git revision and the packages that decide results."""
    found = model_service.versions()
    return Version(
        version=str(found.pop("octa-backend")),
        git_revision=found.pop("git_revision"),
        python=str(found.pop("python")),
        packages=found,
    )
