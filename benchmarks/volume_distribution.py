"""Which volumes a model is warned about: none of its own kind, all of other kinds. No network is trained.

    python benchmarks/volume_distribution.py ../shared/data/hippocampus60.zip

The zip holds volumes of one modality. A third of them is held against the statistics of others, as they would stand in
a model's card, as they are and spoilt.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from octa_backend.data.normalise import Normalisation
from octa_backend.data.volume_case import Channels, content_of, find_cases, read_case, volumes_among
from octa_backend.data.volume_measuring import cut_out
from octa_backend.inference.distribution import outliers
from octa_backend.inference.volume_distribution import summarise_volumes, volume_features

ONE, MAX_VOXELS = Channels(1), 10**8
HOW: Normalisation = "zscore_nonzero"
COUNTS = (5, 10, 20, 40)

Volume = NDArray[Any]
Known = tuple[Volume, tuple[float, ...]]
"""A volume, (1, D, H, W), and the sides of its voxels."""

CHANGES: Mapping[str, Callable[[Volume], Volume]] = {
    "as they are": lambda image: image,
    "brightness × 2": lambda image: image.astype(np.float32) * 2,
    "inverted": lambda image: image.max() - image,
    "blurred, σ = 2 voxels": lambda image: gaussian_filter(image.astype(np.float32), (0, 2, 2, 2)),
    "flat, with noise": lambda image: np.random.default_rng(0).normal(500, 1, image.shape).astype(np.float32),
}


def volumes_of(path: Path) -> list[Known]:
    """The volumes of a zip, cropped to what is not 0."""
    found: list[Known] = []
    with zipfile.ZipFile(path) as archive:
        for case in find_cases(volumes_among(name for name in archive.namelist() if not name.endswith("/")), ONE):
            image = read_case(case, archive.read, ONE, MAX_VOXELS)
            box = content_of(image.values)
            values = image.values if box is None else cut_out(image.values, box)
            found.append((values, image.volume.spacing_mm))
    return found


def warned(
    tested: Sequence[Known], statistics: Mapping[str, Any], change: Callable[[Volume], Volume], longer: int
) -> int:
    """How many are warned about after a change, with voxels that are so many times as long."""
    features = (volume_features(change(image), HOW, [side * longer for side in sides]) for image, sides in tested)
    return sum(bool(outliers(one, statistics)) for one in features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="zip of volumes of one modality")
    volumes = volumes_of(parser.parse_args().data)
    shuffled = [volumes[at] for at in np.random.default_rng(0).permutation(len(volumes))]
    tested, trained = shuffled[-(len(volumes) // 3) :], shuffled[: -(len(volumes) // 3)]
    features = [volume_features(image, HOW, sides) for image, sides in trained]
    print(f"| Training volumes | {' | '.join(CHANGES)} | voxels 10 × as long |\n|{'---|' * (len(CHANGES) + 2)}")
    for count in (count for count in COUNTS if count <= len(trained)):
        statistics = summarise_volumes(features[:count], 1, HOW)
        found = [warned(tested, statistics, change, 1) for change in CHANGES.values()]
        found.append(warned(tested, statistics, CHANGES["as they are"], 10))
        print(f"| {count} | {' | '.join(f'{one} of {len(tested)}' for one in found)} |")


if __name__ == "__main__":
    main()
