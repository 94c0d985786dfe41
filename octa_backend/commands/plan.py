"""`octa plan`: what a training on a zip or a folder of scans would compute, and why."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from octa_backend.commands.terminal import lacks_letters
from octa_backend.diagnosis.messages import describe
from octa_backend.service.plan_preview import Preview, preview
from octa_backend.service.start_service import StartOptions
from octa_backend.service.train_service import read_config
from octa_backend.settings import Settings
from octa_backend.training.fingerprint import Fingerprint


def show_plan(
    console: Console, data: Path, values: dict[str, Any], settings: Settings, options: StartOptions, *, as_json: bool
) -> None:
    """Plan a training and print it as tables, or as one JSON object."""
    config = read_config(values)
    if as_json:
        found = preview(data, config, settings, options)
        console.print_json(json.dumps(_facts(found, settings)), ensure_ascii=lacks_letters(console))
        return
    with console.status("checking the scans, measuring the device and one training step"):
        found = preview(data, config, settings, options)
    for finding in found.findings:
        console.print(f"  {finding.severity}: {describe(finding, settings.language)['message']}", markup=False)
    console.print(_dataset_table(found))
    console.print(_plan_table(found))
    console.print(_costs_table(found))


def _facts(found: Preview, settings: Settings) -> dict[str, Any]:
    plan = found.plan.model_dump(mode="json")
    return {
        "fingerprint": plan.pop("fingerprint"),
        "fields": [asdict(field) for field in found.fields],
        "estimate": {**plan.pop("estimate"), "steps_per_epoch": found.steps, "seconds_per_epoch": found.epoch_seconds},
        "plan": plan,
        "findings": [describe(finding, settings.language) for finding in found.findings],
    }


def _dataset_table(found: Preview) -> Table:
    facts = found.plan.fingerprint
    assert facts is not None, "make_plan takes it"
    table = Table(title="dataset", title_justify="left", show_header=False)
    for name, value in _words(facts):
        table.add_row(name, value)
    return table


def _words(facts: Fingerprint) -> list[tuple[str, str]]:
    divided = f"{facts.training_scans} train, {facts.validation_scans} validate, {facts.test_scans} test"
    sizes = ["×".join(map(str, shape)) for shape in (facts.smallest, facts.median, facts.largest)]
    one_size = facts.smallest == facts.largest
    return [
        ("scans", f"{facts.scans} ({divided})"),
        ("size", sizes[0] if one_size else f"{sizes[0]} to {sizes[2]}, median {sizes[1]}"),
        ("channels", str(facts.channels)),
        ("classes", f"{facts.classes}, with background"),
        ("foreground", f"{facts.foreground_fraction:.2%}"),
    ]


def _plan_table(found: Preview) -> Table:
    table = Table("field", "value", "why", title=f"plan for {found.plan.device}", title_justify="left")
    for field in found.fields:
        table.add_row(field.field, str(field.value), field.why)
    return table


def _costs_table(found: Preview) -> Table:
    estimate = found.plan.estimate
    assert estimate is not None, "the plan is settled"
    table = Table(title="estimate", title_justify="left", show_header=False)
    table.add_row("parameters", f"{estimate.parameters / 1e6:.2f} M")
    table.add_row("memory", f"{estimate.memory_mib:.0f} MiB, beside the program itself")
    table.add_row("steps per epoch", str(found.steps))
    table.add_row("seconds per epoch", _seconds(found.epoch_seconds))
    return table


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "not measured: the memory of this device would not hold a step"
    return f"{seconds:.1f}, training alone, in the mean over the run, from one measured step"
