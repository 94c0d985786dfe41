"""`octa synth`: synthetic scans, and a picture of the first of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.console import Console

from octa_backend.data.normalise import to_unit
from octa_backend.data.slices import three_slices
from octa_backend.data.synthetic import make_scan, write_zip
from octa_backend.data.synthetic_volumes import make_volume, write_volume_zip
from octa_backend.storage.outputs import keep_apart, output_file

SHEET_SCANS = 4


def synth(console: Console, out: Path, count: int, size: int, seed: int, sheet: Path | None) -> None:
    """Write the zip, and the contact sheet where one is wanted.

    Raises:
        OctaError: they cannot be written there.
    """
    _check_outputs(out, sheet)
    write_zip(out, count, size=size, seed=seed)
    console.print(f"{count} scans of {size}×{size} in {out}", soft_wrap=True)
    if sheet is not None:
        from octa_backend.inference import pictures  # noqa: PLC0415 - imports torch

        scans = [make_scan(size, np.random.default_rng([seed, i])) for i in range(min(count, SHEET_SCANS))]
        pairs = [(to_unit(scan.image[None]), scan.mask.astype(np.uint8)) for scan in scans]
        sheet.write_bytes(pictures.png(pictures.contact_sheet(pairs, classes=2)))
        console.print(f"contact sheet in {sheet}", soft_wrap=True)


def _check_outputs(out: Path, sheet: Path | None) -> None:
    keep_apart(sheet, out, "the zip of scans, too")
    for path in (out, sheet):
        if path is not None:
            output_file(path)


def synth_volumes(
    console: Console, out: Path, count: int, size: int, seed: int, slice_thickness: int, sheet: Path | None
) -> None:
    """As `synth`, with volumes; the sheet shows three slices of each."""
    _check_outputs(out, sheet)
    write_volume_zip(out, count, size=size, seed=seed, slice_thickness=slice_thickness)
    console.print(f"{count} volumes of {size // slice_thickness}×{size}×{size} in {out}", soft_wrap=True)
    if sheet is not None:
        from octa_backend.inference import pictures  # noqa: PLC0415 - imports torch

        rngs = (np.random.default_rng([seed, index]) for index in range(min(count, SHEET_SCANS)))
        drawn = [make_volume(size, rng, slice_thickness) for rng in rngs]
        spacing = (float(slice_thickness), 1.0, 1.0)
        pairs = [three_slices(volume.image[None], volume.mask.astype(np.uint8), spacing) for volume in drawn]
        sheet.write_bytes(pictures.png(pictures.contact_sheet(pairs, classes=2)))
        console.print(f"contact sheet in {sheet}", soft_wrap=True)
