"""Small sets of scans to train planted runs on, written as the upload that a user would send, and taken in like one.

Every set has an official split, so the scans that validate stay the same whatever a repair leaves out.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from planted_files import encoded
from planting import Scan
from training_runs import DATA

from octa_backend.data.intake import TWO_CLASSES, examine, opened_archive, prepare, read_pair
from octa_backend.data.layouts import find_layout
from octa_backend.data.limits import IntakeLimits
from octa_backend.data.scans import MaskPixels
from octa_backend.data.splits import assign_splits
from octa_backend.data.store import DatasetStore
from octa_backend.data.synthetic import make_scan
from octa_backend.service.repair_service import Choose, write_repaired_copy
from octa_backend.service.run_doctor import severities_of
from octa_backend.training.batches import TrainingData

LIMITS = IntakeLimits(max_files=1000, max_unpacked_bytes=2**30, max_ratio=1e6, max_scan_pixels=2**22)

TRAIN, VAL = 24, 6
SIDES: Mapping[str, int] = {"rossa": 128, "drawn": 64}
"""Sets and the side of their scans in pixels: small enough that an epoch of `tiny_unet` takes about a second."""

MOSTLY_VESSEL = 0.5
"""Share of a scaled-down mask's pixel that vessels cover, from which it counts as vessel."""


@dataclass(frozen=True, slots=True)
class TakenIn:
    """A set as the product keeps it: its scans, divided, and the gravest severity of each finding about them."""

    data: TrainingData
    findings: Mapping[str, str]


def rossa_zip() -> Path:
    """Where the real scans are, if this machine has them."""
    return DATA / "rossa.zip"


def available() -> list[str]:
    """The sets that can be made here."""
    return [name for name in SIDES if name != "rossa" or rossa_zip().exists()]


@lru_cache(maxsize=4)
def sound_scans(name: str, seed: int) -> tuple[Scan, ...]:
    """`TRAIN` scans to learn from and `VAL` to validate on, others for each seed."""
    count, side = TRAIN + VAL, SIDES[name]
    made = _scaled(rossa_zip(), count, side, seed) if name == "rossa" else _drawn(count, side, seed)
    return tuple(replace(scan, split="train" if at < TRAIN else "val") for at, scan in enumerate(made))


def _drawn(count: int, side: int, seed: int) -> list[Scan]:
    drawn = [make_scan(side, np.random.default_rng([17, seed, number])) for number in range(count)]
    return [_scan(number, made.image, made.mask) for number, made in enumerate(drawn)]


def _scaled(path: Path, count: int, side: int, seed: int) -> list[Scan]:
    """So many scans of a zip, drawn at random, averaged down to `side` pixels."""
    with opened_archive(path, LIMITS) as archive:
        pairs = find_layout(archive.members).pairs
        chosen = np.random.default_rng([18, seed]).choice(len(pairs), count, replace=False)
        read = [read_pair(archive, pairs[int(at)], LIMITS, TWO_CLASSES) for at in chosen]
    return [
        _scan(number, _averaged(image[0], side), _averaged(255 * mask, side) > MOSTLY_VESSEL * 255)
        for number, (image, mask) in enumerate(read)
    ]


def _averaged(plane: NDArray[Any], side: int) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(plane.astype(np.uint8)).resize((side, side), Image.Resampling.BOX))


def _scan(number: int, image: NDArray[np.uint8], inside: NDArray[np.bool_]) -> Scan:
    return Scan(f"{number:03d}", image[None], MaskPixels(inside.astype(np.uint8) * np.uint8(255)))


# --- files ----------------------------------------------------------------------------------------------------------


def write_upload(path: Path, scans: Sequence[Scan]) -> None:
    """Write scans as a zip with an official split; images of real numbers become TIFF, all else PNG."""
    with zipfile.ZipFile(path, "w") as archive:
        for scan in scans:
            ending = "TIFF" if np.issubdtype(scan.image.dtype, np.floating) else "PNG"
            image = encoded(Image.fromarray(scan.image[0]), ending)
            archive.writestr(f"images/{scan.name}.{ending.lower()}", image)
            archive.writestr(f"masks/{scan.name}.png", encoded(Image.fromarray(scan.values), "PNG"))
        rows = "".join(f"{scan.name},{scan.split}\n" for scan in scans)
        archive.writestr("splits.csv", f"stem,split\n{rows}")


def take_in(upload: Path, folder: Path) -> TakenIn:
    """Check and prepare an upload in a new folder, and keep it whatever the checks say, as `force=true` does."""
    prepared = prepare(upload, folder, LIMITS)
    store = DatasetStore(folder)
    splits = assign_splits(store.manifest.scans, val_fraction=0.2, seed=0)
    return TakenIn(TrainingData(store, splits.train, splits.val, splits.test), severities_of(prepared.findings))


def write_repaired(upload: Path, choose: Choose, target: Path) -> bool:
    """Write the copy that the chosen remedies make of an upload; False, and no file, where they change nothing."""
    with opened_archive(upload, LIMITS) as archive:
        return bool(write_repaired_copy(archive, examine(archive, LIMITS), choose, target, LIMITS))
