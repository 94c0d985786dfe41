"""What a start asks for, out of what a client sent: form fields, one JSON field `config`, or a JSON body."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from octa_backend.controller.context import get_context
from octa_backend.controller.forms import received_form
from octa_backend.controller.json_bodies import MAX_BODY_BYTES, small_body
from octa_backend.errors import InvalidConfig, InvalidRequest
from octa_backend.service import train_service
from octa_backend.service.start_service import StartOptions
from octa_backend.training.config import TrainConfig

_KINDS: Mapping[str, frozenset[str]] = {
    name: frozenset(kind.get("type", "") for kind in field.get("anyOf", (field,)))
    for name, field in TrainConfig.model_json_schema()["properties"].items()
}
"""Of each field of a configuration the types that JSON has for its values."""

NULLABLE = frozenset(name for name, kinds in _KINDS.items() if "null" in kinds)
"""Fields in which an empty text means null."""

LISTS = frozenset(name for name, kinds in _KINDS.items() if "array" in kinds)
"""Fields that may come several times, as clients send arrays, or once with commas."""

LEFT_OPEN = frozenset({"config", *TrainConfig.model_fields, *StartOptions.model_fields}) - NULLABLE
"""Fields that a page's form sends empty where nobody filled them in; they have their default then."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What to compute, and what to do with faulty data."""

    config: TrainConfig
    options: StartOptions


def start_from_fields(fields: Mapping[str, str]) -> StartRequest:
    """Single fields, or the configuration as JSON in the field `config`; beside it only fields of `StartOptions`.

    Raises:
        InvalidConfig: a name is unknown, a value out of range, or both ways are used at once.
    """
    given = {name: _value(text) for name, text in fields.items() if text.strip() or name not in LEFT_OPEN}
    options = {name: given.pop(name) for name in StartOptions.model_fields if name in given}
    if "config" not in given:
        return _request(given, options)
    if len(given) > 1:
        others = ", ".join(name for name in given if name != "config")
        raise InvalidConfig(
            f"send either the field 'config' or single fields, not both; besides 'config' came {others}"
        )
    return _request(_json_object(fields["config"]), options)


def _request(config: dict[str, Any], options: dict[str, Any]) -> StartRequest:
    try:
        wanted = StartOptions.model_validate({name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        faults = "; ".join(f"{e['loc'][0]}={e['input']!r}: {e['msg']}" for e in error.errors())
        raise InvalidConfig(faults) from error
    return StartRequest(train_service.read_config(config), wanted)


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Fields as a dict; those of `LISTS` that came several times with commas between them."""
    found: dict[str, str] = {}
    for name, text in pairs:
        found[name] = f"{found[name]},{text}" if name in LISTS and name in found else text
    return found


def _value(text: str) -> Any:
    """A form knows text only."""
    return None if text.strip() in ("", "null") else text.strip()


def _json_object(text: str | bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"the configuration is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidConfig(f'the configuration is a JSON object such as {{"epochs": 12}}, not {content!r}')
    return content


async def start_from_body(request: Request) -> StartRequest:
    """The body of a request that starts a training on an uploaded dataset; an empty body takes all defaults.

    Raises:
        InvalidConfig: a name is unknown or a value out of range.
        InvalidRequest: the body is neither a form nor JSON.
        UploadTooLarge: it is larger than a configuration can be.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        files = get_context(request).files
        async with received_form(request, files, MAX_BODY_BYTES, LISTS) as form:
            form.refuse_files_but(what="the address says which dataset it is; send the configuration alone")
            return start_from_fields(form.fields)
    body = await small_body(request)
    if not body:
        return StartRequest(TrainConfig(), StartOptions())
    if kind == "application/x-www-form-urlencoded":
        async with request.form() as fields:
            return start_from_fields(_joined((name, str(value)) for name, value in fields.multi_items()))
    if kind in ("application/json", ""):
        content = _json_object(body)
        options = {name: content.pop(name) for name in StartOptions.model_fields if name in content}
        return _request(content, options)
    raise InvalidRequest(f"send the configuration as a form or as application/json, not as {kind}")
