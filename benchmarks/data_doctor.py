"""How well the checks of a dataset find planted faults, and what they say of clean ones.

Faults are planted in copies of real datasets, decoded once; only the scans that a fault changes are measured again.
Faults of files go through small zips and the whole intake; for label errors a small network is trained on each copy.
Recall is the share of planted scans that the right finding names (of the whole dataset: the share of runs in which it
is there), false alarms are other scans that it names. Other findings are errors and warnings that come with the fault,
with the number of runs; some of them are true.

    python benchmarks/data_doctor.py [--data ../shared/data] [--sets rossa …] [--scans 40] [--only CODE …]
        [--markdown OUT]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from label_rows import CODE as LABEL_CODE
from label_rows import clean_label_table, label_rows
from planted_faults import FAULTS
from planted_files import FILE_FAULTS, FileFault
from planting import Fault, Planted, Scan
from scoring import Row, Score, rate, table

from octa_backend.data.archive import Archive
from octa_backend.data.intake import examine as examine_source
from octa_backend.data.intake import opened_archive
from octa_backend.data.layouts import find_layout
from octa_backend.data.limits import IntakeLimits
from octa_backend.data.masks import classes_of
from octa_backend.data.measuring import measure_image, measure_mask
from octa_backend.data.pairing import Pair
from octa_backend.data.patients import patients_of
from octa_backend.data.scans import MaskPixels, decode_image, decode_mask
from octa_backend.data.statistics import ScanStatistics
from octa_backend.data.survey import opened
from octa_backend.data.synthetic import make_scan
from octa_backend.diagnosis.dataset import examine
from octa_backend.diagnosis.findings import Finding, Severity

LIMITS = IntakeLimits(max_files=100_000, max_unpacked_bytes=2**35, max_ratio=1e6, max_scan_pixels=2**26)
SETS = ("rossa", "nuclei", "fundus4", "synthetic")
SYNTHETIC_SCANS = 60
FILE_SCANS = 12
"""So many scans go into the zips with faults of files."""


@dataclass
class Dataset:
    """A sound dataset: its scans, and their statistics."""

    name: str
    scans: list[Scan]
    measured: dict[int, ScanStatistics] = field(default_factory=dict)
    whole: Dataset | None = None  # keeps the arrays whose identities `measured` knows

    def statistics(self, scans: Sequence[Scan]) -> list[ScanStatistics]:
        """Of these scans; those that are this dataset's own, with another name or split, are not measured again."""
        return [self._statistics_of(scan) for scan in scans]

    def _statistics_of(self, scan: Scan) -> ScanStatistics:
        known = self.measured.get(id(scan.image)), self.measured.get(id(scan.mask))
        if known[0] is not None and known[0] is known[1]:
            of_image, of_mask = known[0].of_image, known[0].of_mask
        elif known[0] is not None:
            of_image, of_mask = known[0].of_image, measure_mask(scan.mask, scan.image)
        else:
            of_image, of_mask = measure_image(scan.image, scan.alpha), measure_mask(scan.mask, scan.image)
        of_image = replace(of_image, alpha=scan.alpha)
        return ScanStatistics(scan.name, scan.name, scan.name, scan.patient, scan.split, of_image, of_mask)

    def part(self, most: int) -> Dataset:
        """At most so many of the scans, evenly chosen."""
        return Dataset(self.name, self.scans[:: max(1, -(-len(self.scans) // most))], self.measured, self)

    def remember(self) -> None:
        """Measure the dataset's own scans."""
        for scan in self.scans:
            statistics = self._statistics_of(scan)
            self.measured[id(scan.image)] = self.measured[id(scan.mask)] = statistics


def load(name: str, folder: Path) -> Dataset:
    """A dataset; synthetic scans where the zip is absent."""
    path = folder / f"{name}.zip"
    if path.exists():
        with opened_archive(path, LIMITS) as archive:
            pairs = find_layout(archive.members).pairs
            patients = patients_of(pair.name for pair in pairs)
            scans = [read(archive, pair, patients[pair.name]) for pair in pairs]
    else:
        scans = [drawn(number) for number in range(SYNTHETIC_SCANS)]
    dataset = Dataset(name, scans)
    dataset.remember()
    return dataset


def read(archive: Archive, pair: Pair, patient: str | None) -> Scan:
    pixels = LIMITS.max_scan_pixels
    decoded = decode_image(opened(archive, pair.image, pixels), pair.image, pixels)
    labels = decode_mask(opened(archive, pair.mask, pixels), pair.mask, pixels)
    return Scan(pair.name, decoded.values, labels, decoded.alpha, patient)


def drawn(number: int) -> Scan:
    made = make_scan(320, np.random.default_rng([5, number]))
    return Scan(f"s{number:03d}", made.image[None], MaskPixels(made.mask.astype(np.uint8) * np.uint8(255)))


def judge(dataset: Dataset, scans: Sequence[Scan]) -> list[Finding]:
    statistics = dataset.statistics(scans)
    plain = {scan.name: scan.of_mask.values for scan in statistics if not scan.of_mask.colours}
    mask_values, _ = classes_of(plain) if plain else ((), [])
    return examine(statistics, mask_values)


def run(dataset: Dataset, fault: Fault, verbose: bool = False) -> Score:
    """All levels of a fault, each planted with its own seed."""
    score = Score()
    usual = {finding.code for finding in judge(dataset, [_plain(scan) for scan in dataset.scans])}
    for seed, level in enumerate(fault.levels):
        rng = np.random.default_rng([seed, len(fault.code), len(fault.label)])
        planted = fault.plant([_plain(scan) for scan in dataset.scans], level, rng)
        if planted is not None:
            findings = judge(dataset, planted.scans)
            one = rate(planted, [finding for finding in findings if finding.code in (fault.code, fault.also)])
            one.others.update(
                finding.code
                for finding in findings
                if finding.severity is not Severity.INFO and finding.code not in (fault.code, fault.also, *usual)
            )
            score.add(one)
            if verbose and (one.found < one.planted or one.false):
                print(f"   {dataset.name} {fault.code} {fault.label} {level}: {one}")
    return score


def _plain(scan: Scan) -> Scan:
    """Without patient and alpha: the faults of patients and alpha bring their own."""
    return Scan(scan.name, scan.image, scan.mask)


def run_files(dataset: Dataset, fault: FileFault) -> Score:
    """A fault of files: a small zip with it, through the whole intake."""
    score = Score()
    scans = dataset.scans[:FILE_SCANS]
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(fault.runs):
            path = Path(folder) / f"{seed}.zip"
            expected = fault.write(path, scans, np.random.default_rng(seed))
            with opened_archive(path, LIMITS) as source:
                findings = examine_source(source, LIMITS).findings
            score.add(rate(Planted([], expected), fault.found_in(findings)))
    return score


def clean(dataset: Dataset) -> list[Finding]:
    return judge(dataset, dataset.scans)


# --- tables -------------------------------------------------------------------------------------------------------


def rows(datasets: Sequence[Dataset], only: Sequence[str], verbose: bool) -> Iterator[Row]:
    for fault in FAULTS:
        if not only or fault.code in only:
            yield fault.code, fault.label, {dataset.name: run(dataset, fault, verbose) for dataset in datasets}
    for file_fault in FILE_FAULTS:
        if not only or file_fault.code in only:
            scores = {dataset.name: run_files(dataset, file_fault) for dataset in datasets}
            yield file_fault.code, f"{file_fault.label} (zip)", scores
    if not only or LABEL_CODE in only:
        yield from label_rows({dataset.name: dataset.scans for dataset in datasets})


def clean_table(datasets: Sequence[Dataset]) -> list[str]:
    lines = ["| Clean set | scans | errors | warnings | infos |", "|---|---|---|---|---|"]
    for dataset in datasets:
        by_severity: dict[Severity, list[str]] = defaultdict(list)
        for finding in clean(dataset):
            count = finding.evidence.get("count")
            by_severity[finding.severity].append(f"`{finding.code}`" + (f" ({count})" if count else ""))
        cells = " | ".join(", ".join(by_severity[severity]) or "none" for severity in Severity)
        lines.append(f"| {dataset.name} | {len(dataset.scans)} | {cells} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--scans", type=int, default=40, help="plant in at most so many scans of each set")
    parser.add_argument("--only", nargs="+", default=[], help="these findings only")
    parser.add_argument("--verbose", action="store_true", help="say what was missed, and false alarms")
    parser.add_argument("--markdown", type=Path, help="write the tables there, too")
    arguments = parser.parse_args()
    start = time.perf_counter()
    datasets = [load(name, arguments.data) for name in arguments.sets]
    tables = [told(clean_table(datasets))]
    datasets = [dataset.part(arguments.scans) for dataset in datasets]
    found = list(rows(datasets, arguments.only, arguments.verbose))
    tables.append(told(table(found, arguments.sets)))
    if not arguments.only or LABEL_CODE in arguments.only:
        tables.append(told(clean_label_table({dataset.name: dataset.scans for dataset in datasets})))
    print(f"{time.perf_counter() - start:.0f} s")
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(tables), encoding="utf-8")


def told(lines: Sequence[str]) -> str:
    """A table as text, after it was printed."""
    text = "\n".join(lines) + "\n"
    print(text, flush=True)
    return text


if __name__ == "__main__":
    main()
