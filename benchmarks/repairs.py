"""What repairs are worth: plant a fault, repair it over REST, train, and compare with the clean set.

Each remedy gets a dataset with the fault that it mends. The faulty set is uploaded, the repaired set is made by
`POST /datasets/{file_id}/repair`, checked for the finding, and trained on; so is the clean set, with several seeds, to
know how much of a difference is chance. Every model is scored on the same scans, which are in no dataset, through
`POST /predict`.

    python benchmarks/repairs.py [--scans 32] [--size 64] [--epochs 10]
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import httpx
import numpy as np
from PIL import Image
from serve import server

from octa_backend.data.synthetic import make_scan

HELD_OUT = 12
CLEAN_SEEDS = (42, 43, 44)
PATIENCE_SECONDS = 3600


@dataclass
class Scan:
    """A scan as it goes into a zip: its stem, its two pictures (or a broken file in place of the image), its split."""

    stem: str
    image: Image.Image
    mask: Image.Image
    split: str
    raw_image: bytes | None = None


@dataclass
class Fault:
    """What is planted, the finding that should notice it, and the remedy that should mend it."""

    remedy: str
    finding: str
    plant: Callable[[list[Scan]], list[Scan]]


def clean(count: int, size: int) -> list[Scan]:
    scans = []
    for number in range(count):
        made = make_scan(size, np.random.default_rng([11, number]))
        mask = Image.fromarray(made.mask.astype(np.uint8) * 255)
        split = "val" if number % 5 == 0 else "train"
        scans.append(Scan(f"p{number:03d}_OD", Image.fromarray(made.image), mask, split))
    return scans


def smoothed(scans: list[Scan]) -> list[Scan]:
    for scan in scans:
        buffer = io.BytesIO()
        scan.mask.save(buffer, "JPEG", quality=70)
        scan.mask = Image.open(io.BytesIO(buffer.getvalue()))
        scan.mask.load()
    return scans


def coloured(scans: list[Scan]) -> list[Scan]:
    for scan in scans:
        red = Image.new("RGB", scan.mask.size, "#ff0000")
        scan.mask = Image.composite(red, Image.new("RGB", scan.mask.size, "#000080"), scan.mask)
    return scans


def inverted(scans: list[Scan]) -> list[Scan]:
    for scan in scans[::3]:
        scan.mask = scan.mask.point(lambda value: 255 - value)
    return scans


def enlarged(scans: list[Scan]) -> list[Scan]:
    for scan in scans:
        scan.mask = scan.mask.resize([2 * side for side in scan.mask.size], Image.Resampling.NEAREST)
    return scans


def unusable(scans: list[Scan]) -> list[Scan]:
    blank = Image.new("L", scans[0].image.size, 12)
    broken = [Scan(f"x{n:03d}_OD", blank, scans[n].mask, "train", raw_image=b"lost on the way") for n in range(4)]
    return [*scans, *broken, Scan("y001_OD", blank, scans[0].mask, "train")]


def duplicated(scans: list[Scan]) -> list[Scan]:
    """Validation scans that are among the training scans, too, saved as JPEG."""
    copies = []
    for scan in scans[::5]:
        buffer = io.BytesIO()
        scan.image.save(buffer, "JPEG", quality=90)
        copies.append(Scan(f"z{scan.stem}", Image.open(io.BytesIO(buffer.getvalue())), scan.mask, "train"))
    return [*scans, *copies]


def torn_patients(scans: list[Scan]) -> list[Scan]:
    """Two eyes of a patient, one to learn from and one to validate on."""
    for number, scan in enumerate(scans):
        scan.stem = f"p{number // 2:03d}_{'OD' if number % 2 else 'OS'}"
    return scans


def with_alpha(scans: list[Scan]) -> list[Scan]:
    for scan in scans:
        alpha = Image.linear_gradient("L").resize(scan.image.size)
        scan.image = scan.image.convert("LA")
        scan.image.putalpha(alpha)
    return scans


FAULTS = (
    Fault("binarize_masks", "masks_not_binary", smoothed),
    Fault("map_colours", "masks_coloured", coloured),
    Fault("invert_masks", "masks_inverted", inverted),
    Fault("resize_masks", "sizes_differ", enlarged),
    Fault("drop_unusable", "scan_unreadable", unusable),
    Fault("drop_duplicates", "duplicates_across_splits", duplicated),
    Fault("regroup_splits", "patient_across_splits", torn_patients),
    Fault("drop_alpha", "alpha_varies", with_alpha),
)


def zipped(scans: list[Scan]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for scan in scans:
            archive.writestr(f"images/{scan.stem}.png", scan.raw_image or png(scan.image))
            archive.writestr(f"masks/{scan.stem}.png", png(scan.mask))
        rows = "".join(f"{scan.stem},{scan.split}\n" for scan in scans)
        archive.writestr("splits.csv", f"stem,split\n{rows}")
    return buffer.getvalue()


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def upload(client: httpx.Client, scans: list[Scan]) -> dict[str, Any]:
    answer = client.post("/datasets", files={"file": ("scans.zip", zipped(scans))})
    answer.raise_for_status()
    dataset: dict[str, Any] = answer.json()
    return dataset


def codes(dataset: dict[str, Any]) -> set[str]:
    return {finding["code"] for finding in dataset["findings"]}


def train(client: httpx.Client, file_id: str, config: dict[str, Any]) -> str:
    """Train to the end; returns the model's id."""
    answer = client.post(f"/train/start-with-file/{file_id}", json=config)
    answer.raise_for_status()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        progress = client.get(answer.json()["progress_url"]).json()
        if progress["finished_at"] is not None:
            if progress["state"] != "succeeded":
                raise RuntimeError(progress["error"])
            return str(progress["model_id"])
        time.sleep(0.5)
    raise TimeoutError(f"the training took longer than {PATIENCE_SECONDS} s")


def score(client: httpx.Client, model_id: str, held_out: list[Scan]) -> float:
    """Mean Dice over scans that no dataset holds."""
    dices = []
    for scan in held_out:
        files = {"file": (f"{scan.stem}.png", png(scan.image))}
        answer = client.post("/predict", files=files, data={"model_id": model_id}).json()
        found = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer["mask_png"])))) > 0
        true = np.asarray(scan.mask) > 0
        dices.append(2 * np.count_nonzero(found & true) / (np.count_nonzero(found) + np.count_nonzero(true)))
    return fmean(dices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=32)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", nargs="*", help="remedies to measure, default all")
    arguments = parser.parse_args()
    config = {"epochs": arguments.epochs, "model": "unet"}
    made = clean(arguments.scans + HELD_OUT, arguments.size)
    held_out = made[arguments.scans :]
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as url:
        client = httpx.Client(base_url=url, timeout=120)
        base = upload(client, clean(arguments.scans, arguments.size))
        clean_dice = [
            score(client, train(client, base["file_id"], {**config, "seed": seed}), held_out) for seed in CLEAN_SEEDS
        ]
        shown = ", ".join(f"{dice:.4f} (seed {seed})" for dice, seed in zip(clean_dice, CLEAN_SEEDS, strict=True))
        print(f"clean set: Dice {shown}; mean {fmean(clean_dice):.4f} ± {pstdev(clean_dice):.4f}", flush=True)
        print("\n| planted | remedy | finding before | after | Dice after repair | minus clean, same seed |")
        print("|---|---|---|---|---|---|")
        for fault in FAULTS:
            if arguments.only and fault.remedy not in arguments.only:
                continue
            faulty = upload(client, fault.plant(clean(arguments.scans, arguments.size)))
            wish = {"remedies": [fault.remedy]}
            answer = client.post(f"/datasets/{faulty['file_id']}/repair", json=wish)
            answer.raise_for_status()
            mended = answer.json()
            dice = score(client, train(client, mended["file_id"], {**config, "seed": CLEAN_SEEDS[0]}), held_out)
            before, after = (fault.finding in codes(dataset) for dataset in (faulty, mended))
            print(
                f"| {fault.plant.__name__} | `{fault.remedy}` | {fault.finding if before else 'missed'} | "
                f"{'still there' if after else 'gone'} | {dice:.4f} | {dice - clean_dice[0]:+.4f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
