"""Every field of `TrainConfig` as an option of the command line, so that there is one list of fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from octa_backend.training.config import TrainConfig


def with_config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose first parameter is `config` an option per field; it gets those that were set, as text."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "config"]
    options = [_option(name) for name in TrainConfig.model_fields]

    def run(**given: Any) -> None:
        config = {name: given.pop(name) for name in TrainConfig.model_fields}
        command({name: value for name, value in config.items() if value is not None}, **given)

    parameters = [*own, *options]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _option(name: str) -> inspect.Parameter:
    field = TrainConfig.model_fields[name]
    shown = "none" if field.default is None else str(field.default)
    option = typer.Option(f"--{name.replace('_', '-')}", help=f"{field.description} (default: {shown})")
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=Annotated[str | None, option])
