"""How good the default plan becomes, and how soon, against a plain recipe; and what each network reaches.

Every training runs in a process of its own, as `octa train` would run it, once per seed. The plain recipe
(`plain_recipe.py`) trains the same network on the same scans. The best epoch is chosen on the validation scans; the
official test scans are scored once, at the end. Seconds of training leave validation out, on both sides; so do
processor seconds, which can be compared where others use the machine, too.

    python benchmarks/accuracy.py --results FILE [--data ZIP] [--seeds 42 43 44] [--epochs 50] [--set NAME=VALUE …]
        [--plain-seeds 42] [--plain-minutes 60] [--networks all | NAME …] [--network-epochs 8] [--table] [--curves]

A zip without a split of its own gets test scans with `--hold-out 5`, those of every fifth patient. A list without
values leaves its part out: `--seeds --plain-seeds --networks all` trains the networks alone.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from measuring import (
    MISSING,
    Numbers,
    Record,
    Results,
    answer_order,
    by_machine,
    end,
    networks_for_pictures,
    number,
    opened_results,
    parser,
    spread,
    table,
)
from training_runs import add_data, checked_config, describe_run, measure_trainings, open_ordered, settings_of, train

TARGETS = (0.80, 0.85)
"""Validation Dice whose time is told."""

CLOCKS = ("training_seconds", "processor_seconds")
"""Fields of an epoch that count up; the second one is missing on CUDA and in records of earlier versions."""

NAMING = ("model", "loss", "epochs", "seed")
SHARED = ("model", "epochs", "seed", "val_fraction")
"""Fields that the plain recipe looks at, too."""


# --- measuring, in a process of its own -----------------------------------------------------------------------------


def measure(order: Numbers) -> Numbers:
    """One training, ours or plain."""
    training = open_ordered(order, tested=True)
    if order["job"]["way"] == "ours":
        return describe_run(training, train(training), order["device"])
    from plain_recipe import train_plainly

    run = training.run
    config = {**order["job"]["config"], "model": run.plan.config.model}
    return train_plainly(run.data.store, run.splits, config, order["job"]["minutes"], order["device"])


def jobs(arguments: argparse.Namespace, about: Numbers) -> list[Numbers]:
    """What the command line asks for, seed by seed, then network by network."""
    options = settings_of(arguments.set)
    usual = {**options, "epochs": arguments.epochs}
    wanted: list[Numbers] = []
    for seed in dict.fromkeys([*arguments.seeds, *arguments.plain_seeds]):
        config = checked_config({**usual, "seed": seed})
        if seed in arguments.seeds:
            wanted.append({"way": "ours", **about, "config": config})
        if seed in arguments.plain_seeds:
            plain = {name: config[name] for name in SHARED if name in config}
            wanted.append({"way": "plain", **about, "config": plain, "minutes": arguments.plain_minutes})
    for name in networks_for_pictures() if arguments.networks == ["all"] else arguments.networks:
        config = checked_config({**options, "epochs": arguments.network_epochs, "model": name})
        wanted.append({"way": "ours", **about, "config": config})
    return wanted


# --- tables ---------------------------------------------------------------------------------------------------------


def runs_table(records: Sequence[Record]) -> str:
    """A row for each configuration, over its seeds."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        config = {name: value for name, value in record.job["config"].items() if name != "seed"}
        about = {**record.job, "config": config, "network": record.found["network"]}
        groups[json.dumps(about, sort_keys=True)].append(record)
    headings = ["Data", "Way", "Network", "Parameters", "Options", "Epochs", "Seeds", "Precision", "Patch"]
    headings += ["Test Dice", "between scans", "Validation Dice", "Samples/s", "Prediction, ms", "Peak, MiB", "Minutes"]
    return table(headings, [_run_row(group) for group in groups.values()])


def _run_row(group: Sequence[Record]) -> list[str]:
    job, found = group[0].job, [record.found for record in group]
    config = job["config"]
    options = ", ".join(f"{name}={value}" for name, value in config.items() if name not in NAMING)
    tests = [one["test"] for one in found if one["test"] is not None]
    done = sorted({len(one["history"]) for one in found})
    return [
        Path(job["data"]).stem,
        job["way"],
        f"`{found[0]['network']}`",
        f"{found[0]['parameters'] / 1e6:.2f} M",
        options or MISSING,
        "–".join(map(str, dict.fromkeys((done[0], done[-1])))),
        " ".join(str(record.job["config"]["seed"]) for record in group),
        found[0]["precision"],
        found[0]["patch"],
        spread([test["dice"] for test in tests]),
        f"± {fmean(test['dice_std'] for test in tests):.3f}" if tests else MISSING,
        spread([one["val_dice"] for one in found]),
        spread([one["samples_per_second"] for one in found], 2),
        spread([one["prediction_ms"] for one in found], 0),
        f"{max(one['peak_mib'] for one in found):.0f}",
        number(fmean(one["history"][-1]["training_seconds"] for one in found) / 60, 1),
    ]


def seconds_to(history: Sequence[Numbers], target: float, clock: str = CLOCKS[0]) -> float | None:
    """Seconds of training until an epoch validates with at least `target`; None where none does or no clock ran."""
    return next((epoch.get(clock) for epoch in history if epoch["val_dice"] >= target), None)


def targets_table(records: Sequence[Record]) -> str:
    """Time to each target of every run that has a plain one of the same data, network and seed beside it."""
    pairs = [(record, _plain_of(record, records)) for record in records if record.job["way"] == "ours"]
    rows = [
        [*_naming(ours), *_target_cells(ours.found["history"], plain.found["history"], target)]
        for ours, plain in pairs
        if plain is not None
        for target in TARGETS
    ]
    headings = ["Data", "Network", "Epochs", "Seed", "Validation Dice", "Ours, s", "Plain, s", "Plain / ours"]
    headings += ["Ours, processor s", "Plain, processor s", "Plain / ours, processor"]
    return table(headings, rows)


def _target_cells(ours: Sequence[Numbers], plain: Sequence[Numbers], target: float) -> list[str]:
    return [f"{target:.2f}", *(cell for clock in CLOCKS for cell in _clock_cells(ours, plain, target, clock))]


def _clock_cells(ours: Sequence[Numbers], plain: Sequence[Numbers], target: float, clock: str) -> list[str]:
    """Seconds of ours and of the plain run by one clock, and their ratio, or what is known of it."""
    fast, slow, trained = seconds_to(ours, target, clock), seconds_to(plain, target, clock), plain[-1].get(clock)
    if trained is None:
        return [number(fast, 0), MISSING, MISSING]
    waited = f"not reached within {trained / 60:.1f} min"
    ratio = MISSING if fast is None else f"> {trained / fast:.1f}" if slow is None else f"{slow / fast:.1f}"
    return [number(fast, 0), waited if slow is None else number(slow, 0), ratio]


def _naming(record: Record) -> list[str]:
    config = record.job["config"]
    return [Path(record.job["data"]).stem, f"`{record.found['network']}`", str(config["epochs"]), str(config["seed"])]


def _plain_of(record: Record, records: Sequence[Record]) -> Record | None:
    """The plain run to compare with: of several, the one that trained longest."""
    fitting = [other for other in records if other.job["way"] == "plain" and _comparable(other) == _comparable(record)]
    return max(fitting, key=lambda other: other.found["history"][-1]["training_seconds"], default=None)


def _comparable(record: Record) -> Numbers:
    about = {name: value for name, value in record.job.items() if name not in ("way", "config", "minutes")}
    shared = {name: record.job["config"].get(name) for name in ("seed", "val_fraction")}
    return {**about, **shared, "network": record.found["network"]}


def curves(records: Sequence[Record]) -> str:
    """The validation Dice of every epoch with the seconds of training up to its end, by both clocks."""
    rows = [
        [record.job["way"], *_naming(record), *_epoch_cells(epoch)]
        for record in records
        for epoch in record.found["history"]
    ]
    headings = ["Way", "Data", "Network", "Epochs", "Seed", "Epoch", "Training, s", "Processor, s", "Validation Dice"]
    return table(headings, rows)


def _epoch_cells(epoch: Numbers) -> list[str]:
    seconds = [number(epoch.get(clock), 1) for clock in CLOCKS]
    return [str(epoch["epoch"]), *seconds, number(epoch["val_dice"], 4)]


def show(results: Results, with_curves: bool) -> None:
    """Print all tables, machine by machine."""
    for where, records in by_machine(results.records).items():
        print(f"\n{where}\n\n{runs_table(records)}\n\n{targets_table(records)}")
        if with_curves:
            print(f"\n{curves(records)}")


def main() -> None:
    if answer_order(measure):
        return
    options = parser(__doc__)
    add_data(options)
    options.add_argument("--seeds", type=int, nargs="*", default=[42, 43, 44])
    options.add_argument("--epochs", type=int, default=50)
    options.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="fields of the configuration")
    options.add_argument("--plain-seeds", type=int, nargs="*", default=[42])
    options.add_argument("--plain-minutes", type=float, default=60.0, help="the plain recipe gives up after so many")
    options.add_argument("--networks", nargs="*", default=[], help="all, or names")
    options.add_argument("--network-epochs", type=int, default=8)
    options.add_argument("--curves", action="store_true", help="print every epoch, too")
    arguments = options.parse_args()
    results = opened_results(options, arguments)
    failed = measure_trainings(__file__, arguments, results, jobs)
    show(results, arguments.curves)
    end(failed)


if __name__ == "__main__":
    main()
