"""How often the training doctor names the right cause: tiny networks trained for real, with planted faults.

Every run is kept as a line of JSON (its numbers, epoch by epoch), so a table can be made again with other thresholds,
and a measurement that was broken off goes on where it was. Thresholds were tuned on the seeds below `FIRST_HELD_OUT`;
the table reports the others apart.

    python benchmarks/doctor.py --results runs.jsonl [--seeds 3] [--faults lr_too_high …] [--threads 1]
    python benchmarks/doctor.py --results runs.jsonl --table
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from recorded_runs import Pairs, record
from torch import nn

from octa_backend.data.synthetic import make_scan
from octa_backend.diagnosis.doctor import Diagnosis, State, examine_run
from octa_backend.diagnosis.findings import Severity
from octa_backend.diagnosis.run_history import RunHistory
from octa_backend.training.config import TrainConfig

SIZE, TRAIN, VAL = 64, 24, 6
FIRST_HELD_OUT = 2
"""Seeds from here on were not looked at while thresholds were chosen."""

USUAL: Mapping[str, Any] = {"model": "tiny_unet", "epochs": 12, "lr": 0.01, "batch_size": 2, "patch_size": SIZE}


@dataclass(frozen=True)
class Case:
    """A planted fault: the codes that would be right, and what makes it: options, scans, network."""

    expected: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    scans: Callable[[Pairs, np.random.Generator], Pairs] = lambda pairs, _: pairs
    network: Callable[[nn.Module], None] = lambda _: None


@cache
def vessels(seed: int) -> tuple[Any, ...]:
    made = [make_scan(SIZE, np.random.default_rng([seed, index])) for index in range(TRAIN + VAL)]
    return tuple((scan.image, scan.mask.astype(np.uint8)) for scan in made)


@cache
def discs(seed: int) -> tuple[Any, ...]:
    """Bright noisy discs on a dark ground, a few per scan."""
    pairs = []
    for index in range(TRAIN + VAL):
        rng = np.random.default_rng([1, seed, index])
        y, x = np.mgrid[:SIZE, :SIZE]
        mask = np.zeros((SIZE, SIZE), np.uint8)
        for _ in range(int(rng.integers(2, 6))):
            mask[(y - rng.uniform(0, SIZE)) ** 2 + (x - rng.uniform(0, SIZE)) ** 2 < rng.uniform(4, 9) ** 2] = 1
        image = 90 + 50 * mask + rng.normal(0, 30, mask.shape)
        pairs.append((np.clip(image, 0, 255).astype(np.uint8), mask))
    return tuple(pairs)


DATASETS: Mapping[str, Callable[[int], tuple[Any, ...]]] = {"vessels": vessels, "discs": discs}


def exchanged(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """Each image has the mask of another."""
    shift = int(rng.integers(1, len(pairs)))
    return [(image, pairs[(at + shift) % len(pairs)][1]) for at, (image, _) in enumerate(pairs)]


def inverted(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """A random half of the masks have foreground and background exchanged."""
    return [(image, 1 - mask if rng.random() < 0.5 else mask) for image, mask in pairs]


def blanked(pairs: Pairs, _: np.random.Generator) -> Pairs:
    return [(np.full_like(image, 100), mask) for image, mask in pairs]


def careless(pairs: Pairs, rng: np.random.Generator) -> Pairs:
    """Squares of a quarter of the picture are left unmarked, or marked at random, in every mask."""
    noisy = []
    for image, mask in pairs:
        changed = mask.copy()
        for _ in range(2):
            top, left = rng.integers(0, SIZE // 2, 2)
            square = (slice(top, top + SIZE // 2), slice(left, left + SIZE // 2))
            changed[square] = 0 if rng.random() < 0.5 else rng.random((SIZE // 2, SIZE // 2)) < mask.mean() * 2
        noisy.append((image, changed))
    return noisy


def few(pairs: Pairs, _: np.random.Generator) -> Pairs:
    """Three scans to train on."""
    return pairs[:3] + pairs[-VAL:]


def frozen(network: nn.Module) -> None:
    """The groups of the encoder do not learn."""
    groups = network.gradient_groups()  # type: ignore[operator]
    for name in ("encoder_conv1", "encoder_last"):
        for parameter in groups[name]:
            parameter.requires_grad_(False)


def blocked(network: nn.Module) -> None:
    """Hardly any gradient reaches the encoder."""
    groups = network.gradient_groups()  # type: ignore[operator]
    for name in ("encoder_conv1", "encoder_last"):
        for parameter in groups[name]:
            parameter.register_hook(lambda gradient: gradient * 1e-6)


DATA = ("data_at_fault", "labels_noisy", "one_batch_not_learnt", "masks_unpredictable", "input_ignored")
CASES: Mapping[str, Case] = {
    "healthy": Case(()),
    "healthy_constant": Case((), {"scheduler": "constant", "lr": 0.003}),
    "healthy_cosine_bce": Case((), {"scheduler": "cosine", "loss": "bce"}),
    "healthy_small_lr": Case((), {"lr": 0.002}),
    "healthy_long": Case((), {"epochs": 30}),
    "lr_too_high": Case(("lr_too_high", "loss_not_finite", "gradients_exploding"), {"lr": 1.0}),
    "lr_too_high_sgd": Case(
        ("lr_too_high", "loss_not_finite", "gradients_exploding"), {"lr": 1.0, "optimizer": "sgd", "momentum": 0.99}
    ),
    "lr_too_low": Case(("lr_too_low",), {"lr": 1e-5}),
    "lr_too_low_constant": Case(("lr_too_low",), {"lr": 2e-5, "scheduler": "constant"}),
    "lr_decayed": Case(("lr_decayed_early",), {"scheduler": "exponential", "gamma": 0.2, "lr": 0.003}),
    "frozen": Case(("layers_frozen", "gradients_vanishing"), network=frozen),
    "vanishing": Case(("layers_frozen", "gradients_vanishing"), network=blocked),
    "background": Case(("collapse_to_background", "loss_weights_wrong"), {"loss": "bce", "pos_weight": 0.01}),
    "foreground": Case(("collapse_to_foreground", "loss_weights_wrong"), {"loss": "bce", "pos_weight": 100.0}),
    "weights": Case(
        ("loss_weights_wrong", "collapse_to_background"), {"bce_weight": 0.99, "dice_weight": 0.01, "pos_weight": 0.05}
    ),
    "exchanged": Case(DATA, scans=exchanged),
    "inverted": Case(DATA, scans=inverted),
    "blank": Case(DATA, scans=blanked),
    "careless": Case(DATA, scans=careless),
    "overfitting": Case(
        ("overfitting", "network_too_large"), {"epochs": 60, "augmentation": "none", "val_freq": 3}, scans=few
    ),
}


def train_all(arguments: argparse.Namespace) -> None:
    """Run what is not among the results yet."""
    done = {(line["case"], line["data"], line["seed"]) for line in results(arguments.results)}
    for seed in range(arguments.seeds):
        for data in arguments.data:
            for name in arguments.faults:
                if (name, data, seed) not in done:
                    keep(arguments.results, name, data, seed)


def keep(path: Path, name: str, data: str, seed: int) -> None:
    case, start = CASES[name], time.perf_counter()
    pairs = case.scans(list(DATASETS[data](seed)), np.random.default_rng([2, seed]))
    history = record(pairs, VAL, TrainConfig(**{**USUAL, "seed": seed, **case.options}), case.network)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"case": name, "data": data, "seed": seed, "history": asdict(history)}) + "\n")
    last = history.epochs[-1] if history.epochs else None
    print(f"{name} {data} {seed}: {time.perf_counter() - start:.0f} s, {last and round(last.val_dice, 3)}", flush=True)


def table(lines: list[dict[str, Any]]) -> str:
    """Per case: how many runs the right cause was named for, by tuned and held-out seeds, and what was said instead."""
    rows = ["| Case | Tuned on | Held out | Said instead |", "|---|---|---|---|"]
    for name, case in CASES.items():
        judged = [(line["seed"], verdicts(line["history"])) for line in lines if line["case"] == name]
        right = {seed >= FIRST_HELD_OUT: Counter[bool]() for seed in (0, FIRST_HELD_OUT)}
        missed: Counter[str] = Counter()
        for seed, told in judged:
            is_right = bool(told) and told[0] in case.expected if case.expected else not told
            right[seed >= FIRST_HELD_OUT][is_right] += 1
            if not is_right:
                missed[told[0] if told else "no fault"] += 1
        shares = " | ".join(f"{found[True]} of {found.total()}" for found in (right[False], right[True]))
        rows.append(f"| {name} | {shares} | {', '.join(f'{code} {n}' for code, n in missed.items()) or '–'} |")
    return "\n".join(rows)


def verdicts(history: Mapping[str, Any]) -> list[str]:
    """The codes that are said of a run, the verdict first; none where nothing is wrong."""
    found = examine_run(TypeAdapter(RunHistory).validate_python(history))
    return [one.code for one in found.findings if one.severity is not Severity.INFO] if is_fault(found) else []


def is_fault(found: Diagnosis) -> bool:
    return found.state in (State.FAULT, State.STUCK_UNEXPLAINED)


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--faults", nargs="*", default=list(CASES), choices=CASES)
    parser.add_argument("--data", nargs="*", default=list(DATASETS), choices=DATASETS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.table:
        print(table(results(arguments.results)))
    else:
        train_all(arguments)


if __name__ == "__main__":
    main()
