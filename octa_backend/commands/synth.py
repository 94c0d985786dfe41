"""`octa synth`: synthetic scans, and a picture of the first of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from octa_backend.data.normalise import to_unit
from octa_backend.data.synthetic import make_scan, write_zip

SHEET_SCANS = 4


def synth(console: Console, out: Path, count: int, size: int, seed: int, sheet: Path | None) -> None:
    """Write the zip, and the contact sheet where one is wanted."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write_zip(out, count, size=size, seed=seed)
    console.print(f"{count} scans of {size}×{size} in {out}", soft_wrap=True)
    if sheet is not None:
        from octa_backend.inference import pictures  # noqa: PLC0415 - imports torch

        scans = [make_scan(size, np.random.default_rng([seed, i])) for i in range(min(count, SHEET_SCANS))]
        pairs = [(to_unit(scan.image[None]), scan.mask.astype(np.uint8)) for scan in scans]
        sheet.parent.mkdir(parents=True, exist_ok=True)
        sheet.write_bytes(pictures.png(pictures.contact_sheet(pairs, classes=2)))
        console.print(f"contact sheet in {sheet}", soft_wrap=True)
