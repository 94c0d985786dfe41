"""Errors become answers here, and only here: RFC 9457 problem documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from octa_backend import errors
from octa_backend.controller.language import language_of
from octa_backend.controller.schemas import FindingOut
from octa_backend.controller.sent_headers import CHALLENGE, RETRY_AFTER
from octa_backend.diagnosis.messages import describe

MEDIA_TYPE = "application/problem+json"

MAX_DETAIL = 4000
"""Letters; what a client sent is told back to it, but not by the megabyte."""

STATUS: Mapping[type[errors.OctaError], int] = {
    errors.InvalidSettings: 500,
    errors.DataFolderInUse: 500,
    errors.DatabaseUnusable: 500,
    errors.UploadTooLarge: 413,
    errors.StorageFull: 507,
    errors.InvalidRequest: 400,
    errors.InvalidArchive: 422,
    errors.UnsafeArchive: 422,
    errors.ArchiveTooLarge: 413,
    errors.InvalidDataset: 422,
    errors.RemedyNotApplicable: 422,
    errors.DatasetNotFound: 404,
    errors.DatasetInUse: 409,
    errors.UnreadableScan: 422,
    errors.ScanTooLarge: 413,
    errors.InvalidScale: 422,
    errors.InvalidConfig: 422,
    errors.UnknownNetwork: 422,
    errors.JobNotFound: 404,
    errors.IllegalJobState: 409,
    errors.NoReportYet: 409,
    errors.NoDiagnosisYet: 409,
    errors.TrainingDiverged: 500,
    errors.IncompatibleCheckpoint: 500,
    errors.DeviceUnavailable: 500,
    errors.ModelNotFound: 404,
    errors.NoModelYet: 409,
    errors.ModelDoesNotFit: 422,
    errors.ModelsDiffer: 422,
    errors.InvalidOptions: 422,
    errors.NoTunedThreshold: 409,
    errors.ScanDoesNotFit: 422,
    errors.MaskDoesNotFit: 422,
    errors.ModelInUse: 409,
    errors.PredictionNotFound: 404,
    errors.PredictionJobNotFound: 404,
    errors.InvalidModel: 422,
    errors.ComparisonNotFound: 404,
    errors.NoTableYet: 409,
    errors.ExportFailed: 422,
    errors.TooManyPredictions: 503,
    errors.ServerUnreachable: 502,
    errors.InvalidCursor: 422,
    errors.ForeignPage: 403,
    errors.NotAuthenticated: 401,
}
"""The HTTP status of every expected error; a test walks all subclasses."""


SENT: Mapping[type[errors.OctaError], dict[str, Any]] = {
    errors.NotAuthenticated: CHALLENGE,
    errors.TooManyPredictions: RETRY_AFTER,
}
"""The headers that are sent with an error, see `_headers`, as the OpenAPI document names them."""


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    type: str = Field(examples=["urn:octa:dataset-not-found"])
    """Stable name of the kind of problem."""

    title: str = Field(examples=["No dataset has this id."])
    """The kind of problem in words."""

    status: int = Field(examples=[404])
    """The HTTP status."""

    detail: str = Field(examples=["no dataset has the id 'abc'"])
    """What was wrong this time, and what would be right."""

    findings: list[FindingOut] | None = None
    """Where data is at fault: what the checks noticed, with file names."""


def name_of(kind: type[errors.OctaError]) -> str:
    """`DatasetNotFound` becomes `urn:octa:dataset-not-found`."""
    words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__)
    return f"urn:octa:{words.lstrip('-')}"


def problems(*kinds: type[errors.OctaError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route: the problem documents it can answer."""
    by_status: dict[int, list[type[errors.OctaError]]] = {}
    for kind in kinds:
        by_status.setdefault(STATUS[kind], []).append(kind)
    return {
        status: {
            "model": Problem,
            "description": " ".join(kind.title() for kind in found),
            "content": {MEDIA_TYPE: {"examples": {kind.__name__: {"value": _example(kind)} for kind in found}}},
            **({"headers": sent} if (sent := _sent_with(found)) else {}),
        }
        for status, found in by_status.items()
    }


def _sent_with(kinds: Iterable[type[errors.OctaError]]) -> dict[str, Any]:
    return {name: header for kind in kinds for name, header in SENT.get(kind, {}).items()}


def _example(kind: type[errors.OctaError]) -> dict[str, Any]:
    return {"type": name_of(kind), "title": kind.title(), "status": STATUS[kind], "detail": "…"}


def _answer(status: int, content: dict[str, Any], headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(content, status, headers, media_type=MEDIA_TYPE)


def _document(kind: type[errors.OctaError], status: int, detail: str) -> dict[str, Any]:
    return {"type": name_of(kind), "title": kind.title(), "status": status, "detail": _shortened(detail)}


def _plain(status: int, detail: str) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    return {"type": "about:blank", "title": title, "status": status, "detail": _shortened(detail)}


def _shortened(detail: str) -> str:
    if len(detail) <= MAX_DETAIL:
        return detail
    return f"{detail[: MAX_DETAIL // 2]} … {detail[-MAX_DETAIL // 2 :]}"


def mistake() -> JSONResponse:
    """The answer to an error that nobody expected."""
    return _answer(500, _plain(500, "the server made a mistake; its log says more"))


def describe_in_openapi(document: dict[str, Any]) -> None:
    """Say in an OpenAPI document what is really sent: every error is a problem document of its own media type."""
    schema = {"$ref": "#/components/schemas/Problem"}
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for methods in document["paths"].values():
        for operation in methods.values():
            _describe_stream(operation["responses"])
            for status, response in operation["responses"].items():
                if status >= "400" and "Ready" not in str(response):
                    examples = response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
                    response["content"] = {MEDIA_TYPE: {"schema": schema, "examples": examples}}


def _describe_stream(responses: dict[str, Any]) -> None:
    """FastAPI describes the events of a stream one by one, as OpenAPI 3.2 can; the document is one of 3.1."""
    stream = responses.get("200", {}).get("content", {}).get("text/event-stream", {})
    if stream.pop("itemSchema", None) is not None:
        stream["schema"] = {"type": "string"}


def _headers(error: errors.OctaError) -> dict[str, str] | None:
    """What HTTP wants beside the document: how to authenticate, or when to come back."""
    if isinstance(error, errors.NotAuthenticated):
        return {"WWW-Authenticate": "Bearer"}
    if isinstance(error, errors.TooManyPredictions):
        return {"Retry-After": str(error.retry_after_seconds)}
    return None


def install(app: FastAPI) -> None:
    """Have every error that is expected answered as a problem document; for the others see `server_mistakes`."""

    @app.exception_handler(errors.OctaError)
    def expected(request: Request, error: errors.OctaError) -> JSONResponse:
        status = STATUS[type(error)]
        content = _document(type(error), status, error.message)
        if isinstance(error, errors.InvalidDataset):
            language = language_of(request)
            content["findings"] = [describe(finding, language) for finding in error.findings]
        return _answer(status, content, _headers(error))

    @app.exception_handler(RequestValidationError)
    def invalid_request(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = "; ".join(f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors())
        return _answer(422, _document(errors.InvalidRequest, 422, faults))

    @app.exception_handler(HTTPException)
    def http_error(_: Request, error: HTTPException) -> JSONResponse:
        return _answer(error.status_code, _plain(error.status_code, str(error.detail)), error.headers)
