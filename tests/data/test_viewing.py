from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from octa_backend.data import viewing
from octa_backend.data.pairing import Pair
from octa_backend.data.scan_header import Header
from octa_backend.data.survey import Survey
from octa_backend.data.viewing import threads, view_all

MAX_PIXELS = 10_000


def png(value: int, side: int = 16) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((side, side), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


class Files:
    """Files in memory."""

    def __init__(self, **files: bytes) -> None:
        self.files, self.members, self.duplicates = files, {}, {}

    def read(self, name: str, max_bytes: int) -> bytes:
        return self.files[name]


def surveyed(sides: list[int]) -> Survey:
    """Pairs i0 and m0, i1 and m1, … of square greys."""
    pairs = [Pair(f"s{number}", f"i{number}", f"m{number}", None) for number in range(len(sides))]
    headers = {
        f"{kind}{number}": Header(side, side, "L", "PNG", 1) for kind in "im" for number, side in enumerate(sides)
    }
    return Survey(pairs, headers)


def lengths(survey: Survey) -> list[int]:
    return [len(batch) for batch in viewing._batches(survey)]


def test_batches_have_a_number_of_scans_and_of_bytes_at_most(monkeypatch):
    monkeypatch.setattr(viewing, "BATCH_SCANS", 3)
    monkeypatch.setattr(viewing, "BATCH_BYTES", 2 * 2 * 32 * 32)
    assert lengths(surveyed([16] * 7)) == [3, 3, 1]
    assert lengths(surveyed([32] * 3)) == [2, 1]
    assert lengths(surveyed([100, 16, 100, 100])) == [1, 1, 1, 1]
    assert lengths(surveyed([])) == []


@pytest.mark.parametrize("batch_scans", [1, 2, 50])
def test_scans_are_viewed_in_order_however_large_the_batches(batch_scans, monkeypatch):
    monkeypatch.setattr(viewing, "BATCH_SCANS", batch_scans)
    sides = [16, 20, 16, 24, 16]
    files = {f"i{number}": png(10 * number + 5, side) for number, side in enumerate(sides)}
    files |= {f"m{number}": png(0, side) for number, side in enumerate(sides)}
    files["i2"] = files["m3"] = b"no picture"
    with threads() as executor:
        views = list(view_all(Files(**files), surveyed(sides), MAX_PIXELS, executor))
    assert [view.pair.name for view in views] == ["s0", "s1", "s2", "s3", "s4"]
    assert [[fault.file for fault in view.faults] for view in views] == [[], [], ["i2"], ["m3"], []]
    seen = {view.pair.name: view.scan for view in views if view.scan is not None}
    assert {name: (scan.statistics.name, scan.statistics.of_image.low) for name, scan in seen.items()} == {
        "s0": ("s0", 5), "s1": ("s1", 15), "s4": ("s4", 45)
    }  # fmt: skip
    assert {name: scan.image.values.shape for name, scan in seen.items()} == {
        "s0": (1, 16, 16), "s1": (1, 20, 20), "s4": (1, 16, 16)
    }  # fmt: skip
