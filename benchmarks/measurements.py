"""Do measurements of predicted masks agree with those of the graders' masks? And what do they cost?

Every scan of a split is segmented by a model and measured twice, on the grader's mask and on the prediction. Prints
correlation, bias and limits of agreement, and draws them.

    python benchmarks/measurements.py --model FOLDER --data ZIP [--split test] [--field-of-view-mm MM]
        [--plot FILE.png] [--results FILE] [--table]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from bland_altman import Agreement, compare, drawn
from measuring import (
    MISSING,
    Numbers,
    Record,
    Results,
    by_machine,
    device_of,
    end,
    machine,
    number,
    opened_results,
    parser,
    say,
    table,
)

if TYPE_CHECKING:
    from octa_backend.data.store import DatasetStore
    from octa_backend.inference.predictor import Predictor
    from octa_backend.inference.scale import MeasureOptions

DRAWN = (
    "vessel_area_density",
    "skeleton_length_density",
    "calibre_mean",
    "calibre_global",
    "branch_point_density",
    "end_point_density",
    "fractal_dimension",
    "skeleton_fractal_dimension",
    "tortuosity_arc_chord_median",
    "tortuosity_curvature_median",
    "faz_area",
    "faz_acircularity",
)
"""The measurements of the picture; the table has all but the zones."""


def measure(job: Numbers, folder: Path) -> Numbers:
    """Segment and measure the scans of a split; `folder` takes the prepared dataset."""
    from octa_backend.data.intake import prepare
    from octa_backend.data.store import DatasetStore
    from octa_backend.inference.scale import MeasureOptions
    from octa_backend.service.dataset_service import limits
    from octa_backend.service.predict_service import load_predictor
    from octa_backend.settings import Settings

    prepare(Path(job["data"]), folder / "dataset", limits(Settings()))
    store = DatasetStore(folder / "dataset")
    predictor = load_predictor(Path(job["model"]), job["device"])
    indices = _split(store, job)
    predictor.predict(store.image(indices[0]))  # the first one is slower
    options = MeasureOptions(field_of_view_mm=job["field_of_view_mm"])
    found = [_compared(store, index, predictor, options) for index in indices]
    return {
        "pairs": {name: [scan["values"][name] for scan in found] for name in found[0]["values"]},
        "units": found[0]["units"],
        "dice": fmean(scan["dice"] for scan in found),
        "network_ms": median(scan["network_ms"] for scan in found),
        "measuring_ms": median(scan["measuring_ms"] for scan in found),
    }


def _split(store: DatasetStore, job: Numbers) -> Sequence[int]:
    from octa_backend.inference.model_folder import CARD_FILE
    from octa_backend.service.evaluation_data import EvaluatedZip, divide

    card = json.loads((Path(job["model"]) / CARD_FILE).read_text("utf-8"))
    _, indices = divide(EvaluatedZip(store, Path(job["data"]).name, job["sha256"]), card).choose(job["split"])
    return indices


def _compared(store: DatasetStore, index: int, predictor: Predictor, options: MeasureOptions) -> Numbers:
    """One scan: each measurement as a pair of the grader's mask and the prediction."""
    from octa_backend.inference import measurements

    found = predictor.predict(store.image(index))
    target = store.mask(index)
    start = time.perf_counter()
    predicted = measurements.measure(found.mask, predictor.classes, options).values
    seconds = time.perf_counter() - start
    graded = measurements.measure(target, predictor.classes, options).values
    both = float(((found.mask > 0) & (target > 0)).sum())
    say(f"scan {index}")
    return {
        "values": {name: (graded[name].value, value.value) for name, value in predicted.items()},
        "units": {name: value.unit for name, value in predicted.items()},
        "dice": 2 * both / max(1, (found.mask > 0).sum() + (target > 0).sum()),
        "network_ms": 1000 * found.seconds,
        "measuring_ms": 1000 * seconds,
    }


def agreement_table(found: Numbers) -> str:
    """Every measurement but those of zones, of the graders' masks and of the predictions."""
    names = [name for name in found["pairs"] if not name.startswith(("etdrs", "quadrant"))]
    headings = ["Measurement", "Unit", "Scans", "Not measured", "Mean of masks", "r", "Bias", "Limits of agreement"]
    return table(headings, [_row(name, found) for name in names])


def _row(name: str, found: Numbers) -> list[str]:
    pairs, start = found["pairs"][name], [f"`{name}`", found["units"][name]]
    agreement = compare(pairs)
    if agreement is None:
        known = sum(None not in pair for pair in pairs)
        return [*start, str(known), str(len(pairs) - known), *[MISSING] * 4]
    low, high = agreement.limits
    return [
        *start,
        str(len(agreement.first)),
        str(agreement.left_out),
        f"{agreement.first.mean():.4g}",
        number(agreement.correlation, 3),
        f"{agreement.bias:.3g}",
        f"{low:.3g} … {high:.3g}",
    ]


def panels(found: Numbers) -> dict[str, Agreement]:
    """What is drawn, under its title; measurements that too few scans have are left out."""
    known = {name: compare(found["pairs"][name]) for name in DRAWN}
    plain = str.maketrans({"²": "^2", "µ": "u"})  # Pillow's own font has neither sign
    titles = {name: f"{name}, {found['units'][name]}".translate(plain) for name in known}
    return {titles[name]: pair for name, pair in known.items() if pair is not None}


def show(records: Sequence[Record], plot: Path | None) -> None:
    for where, group in by_machine(records).items():
        for record in group:
            job, found = record.job, record.found
            times = f"network {found['network_ms']:.0f} ms, measuring {found['measuring_ms']:.0f} ms per scan"
            about = f"{Path(job['model']).name} on {job['split']} of {Path(job['data']).name}"
            print(f"\n{where}\n\n{about}: mean Dice {found['dice']:.3f}, {times}\n\n{agreement_table(found)}")
            if plot:
                drawn(panels(found)).save(plot)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model", type=Path, help="folder of a published model")
    options.add_argument("--data", type=Path, help="zip of scans and masks")
    options.add_argument("--split", choices=["train", "val", "test", "all"], default="test")
    options.add_argument("--field-of-view-mm", type=float, help="width of the scans; without it: pixels")
    options.add_argument("--plot", type=Path, help="draw the limits of agreement here, as PNG")
    arguments = options.parse_args()
    results = opened_results(options, arguments)
    failed = [] if arguments.table else _measured(options, arguments, results)
    show(results.records, arguments.plot)
    end(failed)


def _measured(options: argparse.ArgumentParser, arguments: argparse.Namespace, results: Results) -> list[str]:
    if not (arguments.model and arguments.data):
        options.error("name a --model and its --data, or --table with --results")
    device = device_of(arguments.device)
    with arguments.data.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    job = {
        "model": str(arguments.model),
        "data": str(arguments.data),
        "sha256": digest,
        "split": arguments.split,
        "field_of_view_mm": arguments.field_of_view_mm,
        "device": device,
    }
    return results.measure_all([job], machine(device), measure)


if __name__ == "__main__":
    main()
