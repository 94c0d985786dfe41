"""Every field of `TrainConfig` as an option of the command line, so that there is one list of fields."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from octa_backend.training.config import TrainConfig

SWITCHES = tuple(name for name, field in TrainConfig.model_fields.items() if field.annotation is bool)
"""Fields that are true or false: their options may stand alone, as training scripts have them."""
TRUTHS = ("true", "false", "yes", "no", "on", "off", "1", "0")

LISTS = ("target_shape",)
"""Fields of several numbers, whose options may take them one by one: `--target-shape 96 96 96`."""

NULL = "null"
"""What an option is given to have none, as in forms."""


class ConfigCommand(TyperCommand):
    """A command with an option per field, in whichever of the two ways each is written."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments once each option has one value."""
        return super().parse_args(ctx, with_one_value_each(args))


def with_one_value_each(arguments: Sequence[str]) -> list[str]:
    """Arguments in which a switch that stands alone is `true`, and the numbers of a list are one text."""
    written: list[str] = []
    rest = list(arguments)
    while rest:
        written.append(rest.pop(0))
        field = written[-1].removeprefix("--").replace("-", "_") if written[-1].startswith("--") else ""
        if field in SWITCHES and (not rest or rest[0].lower() not in TRUTHS):
            written.append("true")
        numbers = list(takewhile(str.isdecimal, rest)) if field in LISTS else []
        if len(numbers) > 1:
            written.append(",".join(numbers))
            rest = rest[len(numbers) :]
    return written


def with_config_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command whose first parameter is `config` an option per field; it gets those set, as text or None."""
    signature = inspect.signature(command, eval_str=True)
    own = [parameter for name, parameter in signature.parameters.items() if name != "config"]
    options = [_option(name) for name in TrainConfig.model_fields]

    def run(**given: Any) -> None:
        config = {name: given.pop(name) for name in TrainConfig.model_fields}
        command({name: _meant(value) for name, value in config.items() if value is not None}, **given)

    parameters = [*own, *options]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    return run


def _meant(text: str) -> str | None:
    return None if text == NULL else text


def _option(name: str) -> inspect.Parameter:
    field = TrainConfig.model_fields[name]
    shown = NULL if field.default is None else str(field.default)
    option = typer.Option(f"--{name.replace('_', '-')}", help=f"{field.description} (default: {shown})")
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=None, annotation=Annotated[str | None, option])
