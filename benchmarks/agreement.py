"""Whether the engines give one model's masks: Dice between each two of them on scans, nothing against labels.

    python benchmarks/agreement.py MODEL_FOLDER DATASET_FOLDER [--split test] [--scans 50]

The dataset is a prepared one of a data folder. Masks of graders are never read, so a test split stays untouched.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.store import DatasetStore
from octa_backend.inference.model_folder import read_card
from octa_backend.inference.predictor import Predictor
from octa_backend.service.exporter import Exporter

Mask = NDArray[np.bool_]


def predictors(model: Path) -> dict[str, Predictor]:
    """The model with each engine, by its name."""
    from octa_backend.inference.export_formats import checked_arithmetic, load_graph
    from octa_backend.inference.torch_engine import TorchEngine, load_network

    found = [Predictor(model, [TorchEngine(load_network(model, read_card(model)))])]
    for wanted in ("openvino", "onnx", "torch"):
        record = Exporter().ensure(model, wanted)
        found += [Predictor(model, [load_graph(record, name)]) for name in checked_arithmetic(wanted)]
    return {predictor.engine: predictor for predictor in found}


def images(dataset: Path, names: list[str]) -> Iterator[NDArray[np.generic]]:
    """Of the scans with these names, as decoded."""
    store = DatasetStore(dataset)
    return (store.image(at) for at, scan in enumerate(store.manifest.scans) if scan.name in names)


def dice(one: Mask, other: Mask) -> float:
    """Overlap of two masks; two empty ones agree."""
    area = int(one.sum() + other.sum())
    return 2 * int((one & other).sum()) / area if area else 1.0


def compare(
    masks_of: Mapping[str, Callable[[NDArray[np.generic]], Mask]], scans: Iterator[NDArray[np.generic]]
) -> None:
    """Print the mean and the smallest Dice of each two engines."""
    pairs: dict[tuple[str, str], list[float]] = {pair: [] for pair in itertools.combinations(masks_of, 2)}
    for image in scans:
        masks = {name: mask_of(image) for name, mask_of in masks_of.items()}
        for pair, found in pairs.items():
            found.append(dice(masks[pair[0]], masks[pair[1]]))
    print("| one | other | scans | mean Dice | smallest |\n|---|---|---|---|---|")
    for (one, other), found in pairs.items():
        print(f"| {one} | {other} | {len(found)} | {fmean(found):.6f} | {min(found):.6f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument("--scans", type=int, default=50)
    arguments = parser.parse_args()
    model = arguments.model.absolute()
    names = read_card(model)["splits"][arguments.split][: arguments.scans]
    opened = predictors(model)
    masks_of = {name: lambda image, one=one: one.predict(image).mask > 0 for name, one in opened.items()}
    compare(masks_of, images(arguments.dataset, names))


if __name__ == "__main__":
    main()
