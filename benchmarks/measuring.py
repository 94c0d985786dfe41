"""What the benchmarks share: processes apart, results that are kept, facts of the machine, Markdown tables.

A result is a line of JSON in the file that `--results` names. What stands there is not measured again on the same
machine, so a benchmark that was broken off goes on with the same command; `--table` prints what there is.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from octa_backend.data.processors import processors
from octa_backend.errors import OctaError

MISSING = "–"

Numbers = dict[str, Any]
"""A job, or what was found: plain data that JSON can hold."""

Measure = Callable[[Numbers, Path], Numbers]
"""Measures a job in a folder."""


# --- processes apart ------------------------------------------------------------------------------------------------


def run_apart(script: str, order: Numbers, environment: Mapping[str, str]) -> Numbers:
    """Measure in a process of its own, so that memory settings, caches and peaks are its own.

    Args:
        script: the benchmark; its `main` asks `answer_order` first.
        order: what to measure.
        environment: of the process.

    Raises:
        MeasurementFailed: it came to no result.
    """
    command = [sys.executable, script, "--measure", json.dumps(order)]
    answer = subprocess.run(command, env=dict(environment), stdout=subprocess.PIPE, text=True, check=False)
    if answer.returncode:
        raise MeasurementFailed(json.dumps(order))
    found: Numbers = json.loads(answer.stdout.splitlines()[-1])
    return found


class MeasurementFailed(Exception):
    """The process that measured came to no result; it has said why."""


def answer_order(measure: Callable[[Numbers], Numbers]) -> bool:
    """In a process started by `run_apart`: measure what was ordered and print it. False in any other."""
    if sys.argv[1:2] != ["--measure"]:
        return False
    try:
        print(json.dumps(measure(json.loads(sys.argv[2]))))
    except OctaError as error:  # such as data that are refused: a sentence says it all
        raise SystemExit(error.message) from error
    return True


def say(text: str) -> None:
    """Show progress at once; the last line of the standard output is for the result."""
    print(text, file=sys.stderr, flush=True)


# --- results --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """One thing that was measured: what it was, where, with which revision of the program, and what was found."""

    job: Numbers
    machine: str
    revision: str | None
    found: Numbers


class Results:
    """The records of a file, in their order; without a file they are forgotten at the end."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.records = read_records(path) if path else []

    def measure_all(self, jobs: Sequence[Numbers], machine: str, measure: Measure) -> list[str]:
        """Measure and note what is not known yet; one that fails does not keep the others from it.

        Args:
            jobs: what to measure, each told from the others by its numbers.
            machine: see `machine`.
            measure: a job, in a folder which stays while the job is not finished, so that it can go on there.

        Returns:
            The jobs that failed.
        """
        failed = []
        for job in jobs:
            name = json.dumps(job)
            if any((record.job, record.machine) == (job, machine) for record in self.records):
                say(f"known: {name}")
                continue
            say(f"measuring {name}")
            try:
                with self._folder(name, machine) as folder:
                    found = measure(job, folder)
            except MeasurementFailed:
                failed.append(name)
            else:
                self.note(Record(job, machine, revision(), found))
        return failed

    def note(self, record: Record) -> None:
        """Keep one more record."""
        self.records.append(record)
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                # The line break comes first: what a killed process left half-written spoils no other line.
                file.write("\n" + json.dumps(asdict(record)))

    @contextmanager
    def _folder(self, job: str, machine: str) -> Iterator[Path]:
        if self._path is None:
            with tempfile.TemporaryDirectory() as made:
                yield Path(made)
            return
        name = hashlib.sha256(f"{machine} {job}".encode()).hexdigest()[:16]
        folder = self._path.with_name(f"{self._path.name}.unfinished") / name
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        shutil.rmtree(folder)
        if not any(folder.parent.iterdir()):
            folder.parent.rmdir()


def read_records(path: Path) -> list[Record]:
    """The records of a file; none where there is no file."""
    records = []
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            content = json.loads(line)
        except json.JSONDecodeError:
            continue
        records.append(Record(**content))
    return records


# --- the machine ----------------------------------------------------------------------------------------------------


def machine(device: str) -> str:
    """The processor, its cores, the GPU where `device` is one, and torch's version, in one line."""
    facts = [processor(), f"{processors()} cores"]
    if device.startswith("cuda"):
        import torch

        facts.append(torch.cuda.get_device_name(device))
    return ", ".join([*facts, f"torch {importlib.metadata.version('torch')}"])


def processor() -> str:
    """The processor's name."""
    facts = Path("/proc/cpuinfo")  # Linux alone; what `platform` says there is its architecture
    for line in facts.read_text("utf-8").splitlines() if facts.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def revision() -> str | None:
    """The revision of this program, None outside a checkout."""
    from octa_backend.service.model_service import git_revision

    return git_revision()


def synchronise(device: str) -> None:
    """Wait for what was given to a GPU, before a clock is read."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


# --- the command line -----------------------------------------------------------------------------------------------


def parser(text: str | None) -> argparse.ArgumentParser:
    """With the options that all of these benchmarks have."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--results", type=Path, help="keep results there, and skip what is there; without it: nowhere")
    made.add_argument("--table", action="store_true", help="print the tables of --results and measure nothing")
    made.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return made


def opened_results(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Results:
    if arguments.table and not (arguments.results and arguments.results.exists()):
        parser.error("--table prints what --results FILE holds; name a file that is there")
    return Results(arguments.results)


def end(failed: Sequence[str]) -> None:
    """End the program; not well where something failed."""
    if failed:
        sys.exit("\n".join(["these failed, see above; the same command tries them again:", *failed]))


def device_of(wanted: str) -> str:
    """The device that `--device` means."""
    from octa_backend.training.precision import pick_device

    return str(pick_device(wanted))


# --- tables ---------------------------------------------------------------------------------------------------------


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def by_machine(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records under a line that says where they were measured, and with which revisions."""
    machines = dict.fromkeys(record.machine for record in records)
    found = {}
    for name in machines:
        there = [record for record in records if record.machine == name]
        revisions = dict.fromkeys((record.revision or "unknown")[:12] for record in there)
        found[f"{name}; revision {', '.join(revisions)}"] = there
    return found


def number(value: float | None, digits: int) -> str:
    return MISSING if value is None else f"{value:.{digits}f}"


def spread(values: Sequence[float | None], digits: int = 4) -> str:
    """The mean of what there is, with the standard deviation where there are several."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return number(known[0] if known else None, digits)
    return f"{fmean(known):.{digits}f} ± {pstdev(known):.{digits}f}"


def networks_for_pictures() -> list[str]:
    """Names of the networks that have a form for scans of two axes."""
    from octa_backend.models.registry import NETWORKS

    return [name for name, entry in NETWORKS.items() if 2 in entry.dimensions]
