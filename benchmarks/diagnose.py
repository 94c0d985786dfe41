"""What the data checks cost: `examine` on a zip against a plain loop that opens and decodes every file of it once.

Both read the same zip in one process, in turn; medians. The plain loop is single-threaded Pillow; ours decodes,
measures and judges. Then, on synthetic scans, seconds per scan and growth of peak memory from 100 to 2,000 scans,
each count in a process of its own.

    python benchmarks/diagnose.py [--data ZIP …] [--rounds 5] [--counts 100 500 1000 2000] [--size 320]
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

ROSSA = Path(__file__).parents[2] / "shared" / "data" / "rossa.zip"
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif")
SYNTHETIC_SCANS = 200
DRAWN = 24
"""Scans that are drawn afresh; the others are turned, shifted and exposed otherwise, because drawing is slow."""


def plain(path: Path) -> int:
    """Open and decode every picture once; returns how many."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.lower().endswith(PICTURES)]
        for name in names:
            with Image.open(io.BytesIO(archive.read(name))) as image:
                image.load()
    return len(names)


def ours(path: Path) -> int:
    """All checks; returns how many pictures they read."""
    from octa_backend.data.intake import examine, opened_archive
    from octa_backend.service.dataset_service import limits
    from octa_backend.settings import Settings

    allowed = limits(Settings())
    with opened_archive(path, allowed) as source:
        return 2 * len(examine(source, allowed).statistics)


def seconds(way: Callable[[Path], int], path: Path) -> tuple[float, float]:
    """Seconds on the clock, and of all processors together."""
    start, used = time.perf_counter(), time.process_time()
    way(path)
    return time.perf_counter() - start, time.process_time() - used


def compare(path: Path, rounds: int) -> None:
    """Time both in turn, after each has read the zip once."""
    pictures, read = plain(path), ours(path)
    times: dict[str, list[tuple[float, float]]] = {"plain": [], "ours": []}
    for turn in range(1, rounds + 1):
        times["plain"].append(seconds(plain, path))
        times["ours"].append(seconds(ours, path))
        print(f"round {turn}  plain {times['plain'][-1][0]:.2f} s  ours {times['ours'][-1][0]:.2f} s", flush=True)
    (loop, loop_cpu), (checks, checks_cpu) = (
        [median(numbers) for numbers in zip(*found, strict=True)] for found in times.values()
    )
    print(f"\n{path.name}: {pictures} pictures, of which the checks measured {read}")
    print("| way | seconds | CPU seconds | per scan |\n|---|---|---|---|")
    print(f"| plain Pillow loop, one thread | {loop:.2f} | {loop_cpu:.2f} | {2000 * loop / pictures:.1f} ms |")
    print(f"| all checks, {cores()} cores | {checks:.2f} | {checks_cpu:.2f} | {2000 * checks / pictures:.1f} ms |")
    print(f"\nratio {checks / loop:.2f}, of CPU seconds {checks_cpu / loop_cpu:.2f}\n", flush=True)


def cores() -> int:
    from octa_backend.data.processors import processors

    return processors()


# --- synthetic scans ------------------------------------------------------------------------------------------------


def variations(count: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """PNG files of an image and its mask, no two alike."""
    from octa_backend.data.synthetic import make_scan

    drawn = [make_scan(size, np.random.default_rng([0, index])) for index in range(min(count, DRAWN))]
    for index in range(count):
        rng = np.random.default_rng([1, index])
        scan = drawn[index % len(drawn)]
        turns, flip, shift = int(rng.integers(4)), bool(rng.integers(2)), rng.integers(0, size, 2)
        pair = [np.roll(np.rot90(picture, turns), shift, (0, 1)) for picture in (scan.image, scan.mask)]
        image, mask = (picture[:, ::-1] if flip else picture for picture in pair)
        light = image * rng.uniform(0.8, 1.0) + rng.normal(0, 2, image.shape)
        yield encoded(np.clip(light, 0, 255).astype(np.uint8)), encoded(mask.astype(np.uint8) * np.uint8(255))


def encoded(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(file, "png")
    return file.getvalue()


def write_zips(folder: Path, counts: list[int], size: int) -> dict[int, Path]:
    """A zip per count; a smaller one holds the first scans of a larger one."""
    paths = {count: folder / f"{count}.zip" for count in sorted(counts)}
    archives = {count: zipfile.ZipFile(path, "w") for count, path in paths.items()}
    for index, (image, mask) in enumerate(variations(max(counts), size)):
        for count, archive in archives.items():
            if index < count:
                archive.writestr(f"images/{index:05d}.png", image)
                archive.writestr(f"masks/{index:05d}.png", mask)
    for archive in archives.values():
        archive.close()
    return paths


# --- growth ---------------------------------------------------------------------------------------------------------


def peak_mib() -> float:
    """Most memory that this process has held so far (Linux)."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def measure(warm_up: Path, path: Path) -> dict[str, float]:
    """Seconds and growth of peak memory over that of a small zip, in this process."""
    ours(warm_up)
    before = peak_mib()
    taken, _ = seconds(ours, path)
    return {"seconds": taken, "growth_mib": peak_mib() - before}


def growth(counts: list[int], size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = write_zips(Path(folder), [*counts, 8], size)
        print(f"synthetic scans of {size}×{size}")
        print("| scans | seconds | ms per scan | peak memory grows by |\n|---|---|---|---|")
        for count in sorted(counts):
            command = [sys.executable, __file__, "--measure", str(paths[8]), str(paths[count])]
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            if answer.returncode:
                raise SystemExit(answer.stderr)
            found = json.loads(answer.stdout.splitlines()[-1])
            per_scan = 1000 * found["seconds"] / count
            print(
                f"| {count:,} | {found['seconds']:.2f} | {per_scan:.1f} | {found['growth_mib']:.0f} MiB |", flush=True
            )


def main() -> None:
    if "--measure" in sys.argv:
        print(json.dumps(measure(Path(sys.argv[2]), Path(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", help="zips (default: rossa.zip where it is, else synthetic)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counts", type=int, nargs="*", default=[100, 500, 1000, 2000])
    parser.add_argument("--size", type=int, default=320)
    arguments = parser.parse_args()
    for path in arguments.data or ([ROSSA] if ROSSA.exists() else []):
        compare(path, arguments.rounds)
    if not arguments.data and not ROSSA.exists():
        with tempfile.TemporaryDirectory() as folder:
            count = SYNTHETIC_SCANS
            compare(write_zips(Path(folder), [count], arguments.size)[count], arguments.rounds)
    if arguments.counts:
        growth(arguments.counts, arguments.size)


if __name__ == "__main__":
    main()
