"""Which loss when: the same small training with each loss, and what it reaches on the validation scans.

Every loss has the same network, patches, epochs and seeds, and its own defaults; the best epoch is chosen by Dice.
The test scans are not looked at. On binary masks `dice_ce` and `ce` become `dice_bce` and `bce`; they are left out.

    python benchmarks/losses.py --results FILE [--data ZIP] [--losses NAME …] [--model tiny_unet] [--epochs 12]
        [--patch-size 192] [--seeds 42] [--set NAME=VALUE …] [--table]
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import get_args

from measuring import (
    MISSING,
    Numbers,
    Record,
    Results,
    answer_order,
    by_machine,
    end,
    number,
    opened_results,
    parser,
    spread,
    table,
)
from training_runs import add_data, checked_config, history, measure_trainings, open_ordered, settings_of, train

SHOWN = {"dice": "Dice", "cldice": "clDice", "precision": "Precision", "recall": "Recall", "hd95": "HD95, px"}


def measure(order: Numbers) -> Numbers:
    """Train with one loss and score the validation scans; a loss that becomes NaN is a result, too."""
    from octa_backend.errors import TrainingDiverged

    training = open_ordered(order, tested=False)
    try:
        result = train(training)
    except TrainingDiverged as error:
        return {"diverged": error.message}
    assert result.model is not None
    from octa_backend.service.evaluation_data import EvaluatedZip
    from octa_backend.service.evaluation_model import open_model
    from octa_backend.service.evaluation_run import EvaluationOptions, design_evaluation

    zipped = EvaluatedZip(training.run.data.store, training.source.name, training.source.sha256)
    model = open_model(result.model, order["device"])
    report = design_evaluation(model, zipped, EvaluationOptions(split="val")).run(lambda _: None).report
    scores = {name: report.summary[name] for name in SHOWN}
    return {
        "scores": {name: score.mean if score else None for name, score in scores.items()},
        "undefined": {name: score.undefined if score else len(report.scans) for name, score in scores.items()},
        "scans": len(report.scans),
        "seconds_per_epoch": fmean(_gaps([epoch["training_seconds"] for epoch in history(training)])),
    }


def _gaps(times: Sequence[float]) -> list[float]:
    return [after - before for before, after in zip((0.0, *times), times, strict=False)]


def usual_losses() -> list[str]:
    """All but those for several classes alone, which binary masks turn into their partners."""
    from octa_backend.training.loss_options import PARTNERS, LossName

    return [name for name in get_args(LossName) if name not in PARTNERS.values()]


def jobs(arguments: argparse.Namespace, about: Numbers) -> list[Numbers]:
    """Seed by seed, so that a run that is broken off has whole tables."""
    options = {**settings_of(arguments.set), "model": arguments.model, "epochs": arguments.epochs}
    return [
        {**about, "config": checked_config({**options, "patch_size": arguments.patch_size, "loss": loss, "seed": seed})}
        for seed in arguments.seeds
        for loss in arguments.losses or usual_losses()
    ]


def loss_tables(records: Sequence[Record]) -> str:
    """A table for each budget; the best Dice first, what diverged last."""
    budgets: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        config = {name: value for name, value in record.job["config"].items() if name not in ("loss", "seed")}
        budgets[json.dumps({**record.job, "config": config}, sort_keys=True)][record.job["config"]["loss"]].append(
            record
        )
    return "\n\n".join(_budget_table(json.loads(budget), losses) for budget, losses in budgets.items())


def _budget_table(budget: Numbers, losses: dict[str, list[Record]]) -> str:
    options = ", ".join(f"{name}={value}" for name, value in budget["config"].items())
    ranked = sorted(losses.items(), key=lambda item: -_mean_dice(item[1]))
    lines = table(["Loss", "Seeds", *SHOWN.values(), "s per epoch"], [_row(loss, group) for loss, group in ranked])
    return f"{Path(budget['data']).stem}: {options}\n\n{lines}"


def _mean_dice(group: Sequence[Record]) -> float:
    return fmean(record.found["scores"]["dice"] if "scores" in record.found else -1.0 for record in group)


def _row(loss: str, group: Sequence[Record]) -> list[str]:
    finished = [record.found for record in group if "scores" in record.found]
    seeds = " ".join(
        str(record.job["config"]["seed"]) + ("" if "scores" in record.found else " (diverged)") for record in group
    )
    return [
        f"`{loss}`",
        seeds,
        *(_score_cell(name, finished) for name in SHOWN),
        number(fmean(found["seconds_per_epoch"] for found in finished), 1) if finished else MISSING,
    ]


def _score_cell(name: str, finished: Sequence[Numbers]) -> str:
    """Mean over seeds; how many scans it leaves out, where a distance is not defined."""
    shown = spread([found["scores"][name] for found in finished], 2 if name == "hd95" else 4)
    left_out, scans = (
        sum(counts) for counts in ([f["undefined"][name] for f in finished], [f["scans"] for f in finished])
    )
    return f"{shown} ({left_out} of {scans} scans undefined)" if left_out else shown


def show(results: Results) -> None:
    for where, records in by_machine(results.records).items():
        print(f"\n{where}\n\n{loss_tables(records)}")


def main() -> None:
    if answer_order(measure):
        return
    options = parser(__doc__)
    add_data(options)
    options.add_argument("--losses", nargs="*", default=[], help="default: all for binary masks")
    options.add_argument("--model", default="tiny_unet")
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--patch-size", type=int, default=192)
    options.add_argument("--seeds", type=int, nargs="+", default=[42])
    options.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="fields of the configuration")
    arguments = options.parse_args()
    results = opened_results(options, arguments)
    failed = measure_trainings(__file__, arguments, results, jobs)
    show(results)
    end(failed)


if __name__ == "__main__":
    main()
