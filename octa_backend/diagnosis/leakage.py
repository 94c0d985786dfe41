"""Checks of what the splits share: the same image twice, and eyes of one patient, on both sides of a split."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from octa_backend.data.patients import by_patient
from octa_backend.data.similarity import Likeness, flipped, look_alikes
from octa_backend.data.statistics import KnownScan, ScanStatistics
from octa_backend.data.stems import told_by
from octa_backend.diagnosis.exposure import is_blank
from octa_backend.diagnosis.findings import MAX_SCANS, Finding, Remedy, Severity, finding_about_files

Scans = Sequence[ScanStatistics]
Known = Sequence[KnownScan]

DIFFERENT_MASKS = 0.27
"""Two masks of one image are clearly different if, cell by cell of 16 x 16, so much of their foreground does not
agree. Masks of different scans differ by 0.31 to 1.0, a mask and the same one drawn a pixel thicker or thinner by up to
0.22."""

KEPT_FIRST = ("test", "val", "train")
"""Of copies in several splits the one in the earlier of these is kept: the test stays what it was."""


@dataclass(frozen=True, slots=True)
class Copies:
    """Scans that show the same image, the one to keep first.

    Attributes:
        scans: in the order of `KEPT_FIRST`, then by name.
        exact: whether all have the same pixels.
    """

    scans: tuple[KnownScan, ...]
    exact: bool

    @property
    def splits(self) -> set[str]:
        """The splits they are in."""
        return {split_of(scan) for scan in self.scans}


def split_of(scan: KnownScan) -> str:
    """The split that a scan is used in: scans that an official split leaves out train."""
    return scan.split or "train"


def examine_leakage(scans: Scans) -> list[Finding]:
    """All findings about leakage."""
    pairs = same_images(scans)
    return [*copies_found(group(scans, pairs), scans), *_two_masks(scans, pairs), *patients_found(scans)]


def copies_found(groups: Sequence[Copies], scans: Known) -> list[Finding]:
    """Findings about scans that are there several times, among all scans."""
    return [
        *_across(groups, "duplicates_across_splits", {"train", "val"}),
        *_across(groups, "test_overlap", set(KEPT_FIRST)),
        *_within(groups, scans),
    ]


# --- copies -------------------------------------------------------------------------------------------------------


def copies(scans: Scans) -> list[Copies]:
    """Scans that show the same image, exactly or nearly, by groups."""
    return group(scans, same_images(scans))


def same_images(scans: Scans) -> list[Likeness]:
    """Pairs of scans with equal pixels, or that look alike; blank scans are left out. Equal ones have likeness 1."""
    shown = [index for index, scan in enumerate(scans) if not is_blank(scan)]
    if len(shown) < 2:
        return []
    first_with: dict[str, int] = {}
    pairs, different = [], []
    for index in shown:
        first = first_with.setdefault(scans[index].of_image.digest, index)
        if first != index:
            pairs.append(Likeness(first, index, 1.0, "none", shifted=False))
        else:
            different.append(index)
    thumbnails = np.stack([scans[index].of_image.thumbnail for index in different])
    for found in look_alikes(thumbnails):
        first, second = different[found.first], different[found.second]
        pairs.append(Likeness(first, second, found.value, found.flip, found.shifted))
    return pairs


def group(scans: Known, pairs: Iterable[Likeness]) -> list[Copies]:
    """Join pairs that share a scan."""
    leader = list(range(len(scans)))

    def lead(index: int) -> int:
        while leader[index] != index:
            leader[index] = leader[leader[index]]
            index = leader[index]
        return index

    for pair in pairs:
        first, second = sorted((lead(pair.first), lead(pair.second)))
        leader[second] = first
    members: dict[int, list[KnownScan]] = defaultdict(list)
    for index, scan in enumerate(scans):
        members[lead(index)].append(scan)
    return [_as_copies(those) for those in members.values() if len(those) > 1]


def _as_copies(scans: Known) -> Copies:
    kept_first = sorted(scans, key=lambda scan: (KEPT_FIRST.index(split_of(scan)), scan.name))
    return Copies(tuple(kept_first), exact=len({scan.of_image.digest for scan in scans}) == 1)


def _across(groups: Sequence[Copies], code: str, splits: set[str]) -> list[Finding]:
    """Copies in more than one of these splits."""
    details: dict[str, str] = {}
    torn = exact = 0
    for those in groups:
        first, *others = [scan for scan in those.scans if split_of(scan) in splits] or those.scans[:1]
        elsewhere = [scan for scan in others if split_of(scan) != split_of(first)]
        if not elsewhere or (code == "test_overlap" and split_of(first) != "test"):
            continue
        details |= {scan.name: f"{split_of(scan)}, as {first.name} ({split_of(first)})" for scan in elsewhere}
        torn, exact = torn + 1, exact + those.exact
    if not details:
        return []
    remedy = Remedy("drop_duplicates")
    return [finding_about_files(code, Severity.ERROR, details, remedy, groups=torn, exact=exact)]


def _within(groups: Sequence[Copies], scans: Known) -> list[Finding]:
    """Copies in one split: a leak where validation scans are drawn among them, else they count double."""
    whole = _drawn_whole(scans)
    inside = [Copies(part, those.exact) for those in groups for part in _by_split(those.scans) if len(part) > 1]
    torn = [those for those in inside if _can_be_torn(those.scans, whole)]
    return [
        *_again("duplicates_before_split", Severity.WARNING, torn),
        *_again("duplicates_within_split", Severity.INFO, [those for those in inside if those not in torn]),
    ]


def _by_split(scans: Sequence[KnownScan]) -> list[tuple[KnownScan, ...]]:
    return [tuple(scan for scan in scans if split_of(scan) == split) for split in KEPT_FIRST]


def _drawn_whole(scans: Known) -> dict[str, int]:
    """Scan -> number of the scans that come into training or validation together with it.

    Empty where validation scans are not drawn: the official split has them.
    """
    if any(split_of(scan) == "val" for scan in scans):
        return {}
    train = [index for index, scan in enumerate(scans) if split_of(scan) == "train"]
    return {scans[index].name: number for number, those in enumerate(by_patient(train, scans)) for index in those}


def _can_be_torn(scans: Sequence[KnownScan], whole: Mapping[str, int]) -> bool:
    """Whether some of these can be drawn apart. Layers of one eye look alike, but are no copies of each other."""
    of_layers: dict[frozenset[str], set[int]] = defaultdict(set)
    for scan in scans:
        if scan.name in whole:
            of_layers[told_by(scan.name).layers].add(whole[scan.name])
    return any(len(drawn) > 1 for drawn in of_layers.values())


def _again(code: str, severity: Severity, groups: Sequence[Copies]) -> list[Finding]:
    details = {scan.name: f"as {those.scans[0].name}" for those in groups for scan in those.scans[1:]}
    if not details:
        return []
    exact = sum(those.exact for those in groups)
    remedy = Remedy("drop_duplicates")
    return [finding_about_files(code, severity, details, remedy, groups=len(groups), exact=exact)]


def _two_masks(scans: Scans, pairs: Iterable[Likeness]) -> list[Finding]:
    details = {}
    for pair in pairs:
        first, second = scans[pair.first], scans[pair.second]
        difference = 0.0 if pair.shifted else _difference(first, second, pair.flip)
        if difference > DIFFERENT_MASKS:
            details[second.name] = f"{difference:.0%} unlike {first.name}"
    if not details:
        return []
    return [finding_about_files("duplicates_two_masks", Severity.WARNING, details, threshold=DIFFERENT_MASKS)]


def _difference(first: ScanStatistics, second: ScanStatistics, flip: str) -> float:
    """Share of the foreground of two masks that does not agree, 0..1, by their thumbnails."""
    if first.of_mask.digest == second.of_mask.digest and flip == "none":
        return 0.0
    one, other = (scan.of_mask.thumbnail.astype(np.int32) for scan in (first, second))
    return float(np.abs(one - flipped(other, flip)).sum() / max(1, one.sum() + other.sum()))


# --- patients -----------------------------------------------------------------------------------------------------


def torn_patients(scans: Known) -> Mapping[str, list[KnownScan]]:
    """Patient -> all scans, of the patients that are in more than one split."""
    of_patient: dict[str, list[KnownScan]] = defaultdict(list)
    for scan in scans:
        if scan.patient is not None:
            of_patient[scan.patient].append(scan)
    return {patient: those for patient, those in of_patient.items() if len({split_of(scan) for scan in those}) > 1}


def patients_found(scans: Known) -> list[Finding]:
    """Patients in more than one split."""
    torn = torn_patients(scans)
    if not torn:
        return []
    details = {scan.name: split_of(scan) for those in torn.values() for scan in those}
    return [
        finding_about_files(
            "patient_across_splits",
            Severity.ERROR,
            details,
            Remedy("regroup_splits"),
            patients=sorted(torn)[:MAX_SCANS],
            patient_count=len(torn),
        )
    ]
