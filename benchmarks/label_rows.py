"""How well a review of labels finds planted label errors, and what it says of labels as they are.

Every review is a training first. They run side by side, a process for each core with one thread each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from statistics import median

import torch
from planted_labels import MIXES, mislabelled
from planting import Scan
from reviewed_labels import reduced, reviewed
from scoring import Row, Score

from octa_backend.diagnosis.findings import Finding

CODE = "labels_suspicious"

FEWEST_SCANS = 20
"""Smaller sets are left out: a handful of scans neither trains a network nor shows how far masks usually disagree."""

SEEDS = range(5)
"""Of network, split and planted scans. Thresholds were chosen on seeds 100 and 101."""

Sets = Mapping[str, Sequence[Scan]]


def label_rows(sets: Sets) -> Iterator[Row]:
    """Every kind of label error, once with each seed on each set; kinds of one mix share their false alarms."""
    with side_by_side() as executor:
        running = {
            mix: {
                name: [executor.submit(review_planted, mix, scans, seed) for seed in SEEDS]
                for name, scans in usable(sets).items()
            }
            for mix in range(len(MIXES))
        }
        for mix, runs in running.items():
            scores = {name: [future.result() for future in futures] for name, futures in runs.items()}
            for error in MIXES[mix]:
                yield CODE, error.label, {name: total(error.label, scores.get(name, ())) for name in sets}


def clean_label_table(sets: Sets) -> list[str]:
    """What the review says of labels as they are: scans that it names, and in how many of the reviews."""
    lines = ["| Labels as they are | scans | median Dice | named, in how many reviews |", "|---|---|---|---|"]
    with side_by_side() as executor:
        running = {
            name: [executor.submit(review_clean, scans, seed) for seed in SEEDS] for name, scans in usable(sets).items()
        }
        for name, futures in running.items():
            dices, named = zip(*(future.result() for future in futures), strict=True)
            counts = Counter(scan for scans in named for scan in scans).most_common()
            cell = ", ".join(f"{scan} ({count} of {len(SEEDS)})" for scan, count in counts) or "none"
            lines.append(f"| {name} | {len(sets[name])} | {min(dices):.2f} to {max(dices):.2f} | {cell} |")
    return lines


def usable(sets: Sets) -> dict[str, list[Scan]]:
    """The sets that are large enough, their scans reduced."""
    return {name: [reduced(scan) for scan in scans] for name, scans in sets.items() if len(scans) >= FEWEST_SCANS}


def review_planted(mix: int, scans: Sequence[Scan], seed: int) -> dict[str, Score]:
    """How well each kind of error of one of the `MIXES` was found; a sound scan that was named counts for each."""
    copy = mislabelled(scans, MIXES[mix], seed)
    findings = reviewed(copy.scans, seed).findings
    named = scans_of(findings)
    false = len(named.difference(*copy.wrong.values()))
    others = Counter(finding.code for finding in findings if finding.code != CODE)
    return {
        label: Score(planted=len(wrong), found=len(named & wrong), false=false, others=others)
        for label, wrong in copy.wrong.items()
    }


def total(label: str, scores: Sequence[Mapping[str, Score]]) -> Score:
    found = Score()
    for score in scores:
        found.add(score[label])
    return found


def review_clean(scans: Sequence[Scan], seed: int) -> tuple[float, frozenset[str]]:
    """Median Dice of masks and network, and the scans that are named."""
    found = reviewed(scans, seed)
    return median(one.dice for one in found.reviews), scans_of(found.findings)


def scans_of(findings: Iterable[Finding]) -> frozenset[str]:
    """The scans whose labels are called suspicious."""
    return frozenset(scan for finding in findings if finding.code == CODE for scan in finding.scans)


@contextmanager
def side_by_side() -> Iterator[Executor]:
    context = get_context("spawn")  # a fork would inherit torch's threads
    with ProcessPoolExecutor(mp_context=context, initializer=torch.set_num_threads, initargs=(1,)) as executor:
        yield executor
