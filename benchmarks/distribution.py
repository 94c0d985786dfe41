"""Which scans a model is warned about: none of its own kind, all of other kinds. No network is trained.

    python benchmarks/distribution.py ../shared/data

The folder holds rossa.zip, fundus4.zip and nuclei.zip. The statistics are those of ROSSA's training scans, as they
stand in a model's card. The limits of `inference.distribution` are held against its test scans, as they are and spoilt,
and against scans of other kinds; then against the test scans again, with statistics of fewer training scans.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from octa_backend.data.scans import read_image
from octa_backend.inference.distribution import features_of, outliers, summarise

Scan = NDArray[Any]
FEWER = (5, 10, 20, 50)
SEEDS = 20
MAX_PIXELS = 2**24


def scans_of(path: Path) -> dict[str, Scan]:
    """The images of a zip by their stems."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.startswith("images/") and not name.endswith("/")]
        return {PurePosixPath(n).stem: read_image(io.BytesIO(archive.read(n)), n, MAX_PIXELS) for n in names}


def splits_of(path: Path) -> dict[str, str]:
    """The official split of each stem."""
    with zipfile.ZipFile(path) as archive:
        rows = csv.DictReader(io.StringIO(archive.read("splits.csv").decode()))
        return {row["stem"]: row["split"] for row in rows}


def levels(values: NDArray[np.float64]) -> Scan:
    """Greys of 8 bits."""
    return np.rint(values).clip(0, 255).astype(np.uint8)


def blurred(sigma: float) -> Callable[[Scan], Scan]:
    """Out of focus, by so many pixels."""
    return lambda scan: levels(gaussian_filter(scan.astype(np.float64), (0, sigma, sigma)))


def scaled(factor: float) -> Callable[[Scan], Scan]:
    """Darker or brighter."""
    return lambda scan: levels(scan * factor)


def noisy(scan: Scan) -> Scan:
    """With noise of 60 grey levels."""
    return levels(scan + np.random.default_rng(0).normal(0, 60, scan.shape))


CHANGES: Mapping[str, Callable[[Scan], Scan]] = {
    "as they are": lambda scan: scan,
    "mirrored": lambda scan: scan[..., ::-1],
    "a quarter of each": lambda scan: scan[:, :160, :160],
    "brightness × 1.1": scaled(1.1),
    "brightness × 0.9": scaled(0.9),
    "inverted": lambda scan: 255 - scan,
    "blurred, σ = 3 px": blurred(3),
    "noise, σ = 60": noisy,
    "brightness × 0.2": scaled(0.2),
}


def table(statistics: Mapping[str, Any], kinds: Mapping[str, Sequence[Scan]]) -> list[str]:
    """A row for each kind: how many are warned about, and which number is furthest out of range how often."""
    rows = ["| Scans | How many | Warned about | Furthest out of range |", "|---|---|---|---|"]
    for kind, scans in kinds.items():
        found = [outliers(features_of(scan), statistics) for scan in scans]
        furthest = Counter(out[0].feature for out in found if out)
        told = ", ".join(f"{name} {count}" for name, count in furthest.most_common(3))
        rows.append(f"| {kind} | {len(scans)} | {sum(map(bool, found)) / len(scans):.0%} | {told} |")
    return rows


def false_warnings(train: Sequence[Scan], test: Sequence[Scan]) -> list[str]:
    """A row for each number of training scans, drawn several times: the share of test scans that are warned about."""
    rows = ["| Training scans | Test scans warned about, mean | at most |", "|---|---|---|"]
    of_train, of_test = list(map(features_of, train)), list(map(features_of, test))
    for count in (*FEWER, len(train)):
        shares = []
        for seed in range(SEEDS):
            chosen = np.random.default_rng(seed).choice(len(train), count, replace=False)
            statistics = summarise(of_train[index] for index in chosen)
            shares.append(float(np.mean([bool(outliers(one, statistics)) for one in of_test])))
        rows.append(f"| {count} | {np.mean(shares):.1%} | {max(shares):.0%} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with rossa.zip, fundus4.zip and nuclei.zip")
    data = parser.parse_args().data
    rossa, splits = scans_of(data / "rossa.zip"), splits_of(data / "rossa.zip")
    train, test = ([scan for stem, scan in rossa.items() if splits[stem] == split] for split in ("train", "test"))
    start = time.perf_counter()
    statistics = summarise(map(features_of, train))
    milliseconds = (time.perf_counter() - start) / len(train) * 1000
    kinds = {f"ROSSA test, {name}": list(map(change, test)) for name, change in CHANGES.items()}
    others = {name: list(scans_of(data / f"{name}.zip").values()) for name in ("fundus4", "nuclei")}
    print("\n".join(table(statistics, {"ROSSA train": train, **kinds, **others})), end="\n\n")
    print("\n".join(false_warnings(train, test)), end="\n\n")
    print(f"{milliseconds:.1f} ms for a scan")


if __name__ == "__main__":
    main()
