"""What is tried before a run's first step: when that is due, and how it is kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from octa_backend.diagnosis.run_history import StartChecks
from octa_backend.storage.files import write_aside
from octa_backend.training.events import Event, StartChecked

if TYPE_CHECKING:  # torch is imported in the worker and on the command line only
    from octa_backend.service.experiment import Experiment
    from octa_backend.training.evaluation import ShouldStop
    from octa_backend.training.initial_weights import InitialWeights
    from octa_backend.training.run import Emit

START_FILE = "start_checks.json"
"""Where a training without a server keeps it, beside its plan."""

_FIELDS = frozenset(field.name for field in fields(StartChecks))


def try_start(
    run: Experiment,
    initial: InitialWeights | None,
    *,
    last: int,
    earlier: StartChecks,
    should_stop: ShouldStop,
    emit: Emit,
) -> None:
    """Try the network that a run begins with and tell what came out; nothing where that is not due or not wanted.

    Args:
        run: what is computed.
        initial: weights that it begins with.
        last: the epoch after which it goes on, 0 at its beginning.
        earlier: what an earlier attempt found; it counts for the learning rate that it was tried at.
        should_stop: asked between steps. What was broken off is not told, so the next attempt tries again.
        emit: told once.

    Raises:
        ModelNotFound, IncompatibleCheckpoint: the initial weights are not there, or none of them fits.
    """
    config = run.plan.config
    if not config.start_checks or last > 0 or earlier.lr == config.lr or should_stop():
        return
    from octa_backend.training.complete import first_network  # noqa: PLC0415 - the server reads rows without torch
    from octa_backend.training.start_checks import start_checks  # noqa: PLC0415

    found = start_checks(first_network(run.plan, initial), run.data, run.plan, should_stop)
    if not should_stop():
        emit(StartChecked(found))


def start_of(kept: Mapping[str, Any] | None) -> StartChecks:
    """What `asdict` made of it, read back; of a run that tried nothing, nothing."""
    return StartChecks(**{name: kept[name] for name in kept.keys() & _FIELDS}) if kept else StartChecks()


def start_kept(emit: Emit, folder: Path) -> Emit:
    """An `emit` that also keeps what was tried in a training's folder."""

    def keep(event: Event) -> None:
        if isinstance(event, StartChecked):
            write_aside(folder / START_FILE, json.dumps(asdict(event.checks)).encode())
        emit(event)

    return keep


def read_start(folder: Path) -> StartChecks:
    """What `start_kept` kept; of the run that has a checkpoint there, for one without may begin otherwise."""
    path = folder / START_FILE
    return start_of(json.loads(path.read_text("utf-8")) if path.exists() else None)
