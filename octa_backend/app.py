"""`create_app(settings)` wires the parts; nothing is created at import."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.security import HTTPBearer

from octa_backend import errors
from octa_backend.controller import (
    dataset_controller,
    model_controller,
    outcome_controller,
    predict_controller,
    prediction_controller,
    prediction_job_controller,
    problems,
    run_controller,
    shelf_controller,
    system_controller,
    train_controller,
    transfer_controller,
)
from octa_backend.controller.context import Context, identify
from octa_backend.controller.server_mistakes import ServerMistakes
from octa_backend.service import model_service, prediction_history
from octa_backend.service.comparison_service import Comparisons
from octa_backend.service.launcher import LocalLauncher
from octa_backend.service.predict_service import PredictService
from octa_backend.service.prediction_runner import PredictionRunner
from octa_backend.service.server_mark import only_server
from octa_backend.service.supervisor import Supervisor
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files

DESCRIPTION = """Upload a zip of scans and masks, train a segmentation network in the background, watch it, and segment
new scans. Errors are problem documents (RFC 9457). Research use only."""


def create_app(settings: Settings) -> FastAPI:
    """Make the app: routes, errors, CORS, and on start the database and the supervisor."""
    app = FastAPI(
        title="OCTA backend",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=_lifespan,
        # With keys, the document is a guarded route like the others; a browser could not send the key for its page.
        docs_url=None if settings.api_keys else "/docs",
        redoc_url=None if settings.api_keys else "/redoc",
        openapi_url=None if settings.api_keys else "/openapi.json",
    )
    app.state.settings = settings
    problems.install(app)
    app.add_middleware(ServerMistakes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Content-Disposition", "ETag", "Link", "Location", "Retry-After"],
        )
    app.include_router(system_controller.open_router)
    guards = [Depends(identify)]
    refused = problems.problems(errors.ForeignPage)
    if settings.api_keys:
        guards.append(Depends(HTTPBearer(auto_error=False)))  # checks nothing; it describes the key in OpenAPI
        refused = problems.problems(errors.NotAuthenticated)
    for controller in (
        dataset_controller,
        train_controller,
        run_controller,
        outcome_controller,
        predict_controller,
        prediction_job_controller,
        prediction_controller,
        shelf_controller,  # before model_controller, which would take "default" for an id
        transfer_controller,
        model_controller,
        system_controller,
    ):
        app.include_router(controller.router, dependencies=guards, responses=refused)
    _describe_problems(app)
    if settings.api_keys:
        app.add_api_route("/openapi.json", app.openapi, include_in_schema=False, dependencies=[Depends(identify)])
    return app


def _describe_problems(app: FastAPI) -> None:
    """Make the OpenAPI document once, with the problem documents in it."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            problems.describe_in_openapi(plain())
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


@contextmanager
def _held(settings: Settings) -> Iterator[tuple[Files, Database]]:
    """The data folder, for this server alone, and its database, brought up to date."""
    files = Files.of(settings)
    files.root.mkdir(parents=True, exist_ok=True)
    with only_server(files), closing(Database(settings.effective_database_url)) as database:
        files.prepare()
        database.migrate()
        yield files, database


def check_start(settings: Settings) -> None:
    """Refuse what the start would refuse, before a web server shows it as a traceback.

    Raises:
        DataFolderInUse: another server works on the data folder.
        DatabaseUnusable: the database does not answer, is none, or is of a newer program.
    """
    with _held(settings):
        pass


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the parts, serve, close them; running workers go on."""
    settings: Settings = app.state.settings
    with _held(settings) as (files, database):
        supervisor = Supervisor(settings, files, database, LocalLauncher(files))
        prediction_history.sweep(database, files, settings.predictions_kept)
        predictions = PredictService(settings, files)
        runner = PredictionRunner(settings, files, database, predictions)
        comparisons = Comparisons(settings, files, database, predictions.in_use)
        app.state.context = Context(settings, files, database, supervisor, predictions, runner, comparisons)
        comparisons.open()
        supervisor.open()
        runner.open()
        with database.reading() as session:
            predictions.warm(model_service.newest(session, settings.warm_models))
        try:
            yield
        finally:
            supervisor.close()
            runner.close()
            comparisons.close()
            predictions.close()
