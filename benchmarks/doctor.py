"""How often the training doctor names the right cause, how soon, and what its remedies are worth: real small trainings.

Faults are planted in scans, configuration and network (`planted_training.py`); each is trained with several seeds, on
drawn scans and on scaled-down real ones, beside healthy runs of many kinds. Then the doctor's remedies are applied
(`healing.py`). Every run is kept as a line of JSON, so that a measurement that was broken off goes on with the same
command, and tables can be made again when thresholds or the doctor have changed: `--table` trains nothing. Thresholds
may be tuned on seed 0; the others are reported apart.

    python benchmarks/doctor.py --results runs.jsonl [--seeds 0 1 2] [--data rossa drawn] [--cases lr_x30 …]
        [--epochs N] [--workers 2] [--no-healing] [--table]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import torch
from doctor_tables import aims_table, fault_table, healthy_table, precision_table
from healing import auto_jobs, harm_table, healing_table, next_job, treatments
from judged_runs import Runs, judged
from measuring import Numbers, Record, Results, end, machine, revision, say
from planted_training import CASES, COMPARED, FAULTS
from recorded_runs import record
from training_sets import SIDES, available, rossa_zip

from octa_backend.errors import OctaError

SEEDS = (0, 1, 2)
HEALTHY_SEED = 1
"""Healthy cases that no fault is compared with are run once on each set: their variety counts, not their repetition."""


def first_jobs(
    cases: Sequence[str], sets: Sequence[str], seeds: Sequence[int], epochs: int | None = None
) -> list[Numbers]:
    """The runs without remedies, seed by seed, so that a measurement that is broken off has whole tables."""
    wanted = [*dict.fromkeys(CASES[case].clean for case in cases if case in FAULTS), *cases]
    return [
        {"case": case, "data": data, "seed": seed, "epochs": epochs, "remedies": []}
        for seed in seeds
        for data in sets
        for case in dict.fromkeys(wanted)
        if case in FAULTS or case in COMPARED or seed == HEALTHY_SEED
    ]


def healing_jobs(runs: Runs, asked: Sequence[Numbers]) -> list[Numbers]:
    """The children that recorded runs should get next, where those are asked for."""
    found = [treatment for treatment in treatments(runs) if treatment.runs[0].job in asked]
    return [job for treatment in found if (job := next_job(treatment)) is not None]


def self_healing_jobs(runs: Runs, asked: Sequence[Numbers]) -> list[Numbers]:
    """The same runs once more with `auto_heal`, where those are asked for."""
    return [job for job in auto_jobs(runs) if {**job, "remedies": []} in asked]


def attempt(job: Numbers, kept: Path) -> Numbers | str:
    """Train a job: what is found, or why nothing came of it. Not every error survives the way between processes."""
    try:
        return record(job, kept)
    except OctaError as error:
        return error.message


class Measurement:
    """Trains in processes beside this one what is not known yet, and notes it."""

    def __init__(self, results: Results, where: str, pool: ProcessPoolExecutor, kept: Path) -> None:
        self.results = results
        self.failed: list[Numbers] = []
        self._where, self._pool, self._kept = where, pool, kept

    def measure(self, jobs: Sequence[Numbers]) -> list[Record]:
        """Train those of the jobs that are neither known nor failed before; the new records."""
        known = [*(record.job for record in self.results.records if record.machine == self._where), *self.failed]
        running = {self._pool.submit(attempt, job, self._kept): job for job in jobs if job not in known}
        ended = ((running[done], done.result()) for done in as_completed(running))
        return [made for job, found in ended if (made := self._noted(job, found)) is not None]

    def _noted(self, job: Numbers, found: Numbers | str) -> Record | None:
        if isinstance(found, str):
            say(f"{_name(job)} failed: {found}")
            self.failed.append(job)
            return None
        made = Record(job, self._where, revision(), found)
        self.results.note(made)
        say(f"{_name(job)}: Dice {found['dice']:.3f} in {found['seconds']:.0f} s")
        return made


def _name(job: Numbers) -> str:
    return " ".join([job["case"], job["data"], str(job["seed"]), *(remedy["code"] for remedy in job["remedies"])])


def measure_all(arguments: argparse.Namespace, results: Results, where: str) -> list[Numbers]:
    """Train what the command line asks for, then remedy after remedy; returns what failed."""
    kept = arguments.results.with_name(f"{arguments.results.name}.weights")
    with ProcessPoolExecutor(arguments.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        measurement = Measurement(results, where, pool, kept)
        asked = first_jobs(arguments.cases, arguments.data, arguments.seeds, arguments.epochs)
        measurement.measure(asked)
        runs = Runs(judged(known) for known in results.records if known.machine == where)
        for next_jobs in () if arguments.no_healing else (healing_jobs, self_healing_jobs):
            while made := measurement.measure(next_jobs(runs, asked)):
                for one in made:
                    runs.add(judged(one))
    return measurement.failed


def show(results: Results) -> None:
    """Print all tables."""
    runs = Runs(map(judged, results.records))
    for made in (aims_table, fault_table, healthy_table, precision_table, healing_table, harm_table):
        print(f"{made(runs)}\n")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--results", type=Path, required=True, help="keep results there, and skip what is there")
    options.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    options.add_argument("--data", nargs="+", default=list(SIDES), choices=SIDES)
    options.add_argument("--cases", nargs="+", default=list(CASES), choices=CASES)
    options.add_argument("--epochs", type=int, help="of every run; to see that all works, as cases have their own")
    options.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    options.add_argument("--no-healing", action="store_true", help="apply no remedies")
    options.add_argument("--table", action="store_true", help="print the tables of --results and train nothing")
    arguments = options.parse_args()
    results = Results(arguments.results)
    failed: list[Numbers] = []
    if not arguments.table:
        if missing := set(arguments.data) - set(available()):
            say(f"{', '.join(missing)} left out: {rossa_zip()} is not there")
            arguments.data = [name for name in arguments.data if name not in missing]
        failed = measure_all(arguments, results, machine("cpu"))
    show(results)
    end([_name(job) for job in failed])


if __name__ == "__main__":
    main()
