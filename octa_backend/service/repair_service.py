"""Repairing datasets: which remedies are wanted, what they change, and the new dataset that comes of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from octa_backend.data.examination import Examination, Source
from octa_backend.data.intake import examine, opened_archive
from octa_backend.data.limits import IntakeLimits
from octa_backend.data.repair import write_repaired
from octa_backend.data.volume_repair import write_repaired_volumes
from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.remedies import (
    CONFIG_REMEDIES,
    DATASET_REMEDIES,
    is_safe,
    plan_repair,
)
from octa_backend.diagnosis.steps import Step
from octa_backend.errors import RemedyNotApplicable
from octa_backend.service import dataset_service
from octa_backend.service.dataset_service import SOURCE_FILE, Origin, checked, keep, limits
from octa_backend.settings import Settings
from octa_backend.storage.database import Database
from octa_backend.storage.files import Files, disk_full_explained, move, part_name, remove
from octa_backend.storage.tables import Dataset
from octa_backend.storage.uploads import Upload, measured_upload

Choose = Callable[[Examination], Sequence[str]]
"""Which remedies a dataset shall get."""

MAX_ROUNDS = 3

STEPS_SHOWN = 20
"""Changes that a summary shows of each remedy; `GET /datasets/{file_id}/repairs` has them all."""


def repair(database: Database, settings: Settings, file_id: str, remedies: Sequence[str]) -> Dataset:
    """Make a new dataset with these remedies applied; the old one stays.

    Returns:
        The dataset. Where one of the same content is there already, its row stays as it is, and what is returned tells
        of this repair.

    Raises:
        DatasetNotFound: there is no such dataset.
        RemedyNotApplicable: a remedy is unknown, is one of the training configuration, or changes nothing here.
        InvalidDataset: what is left is no dataset.
        StorageFull: the disk is full; nothing was kept.
    """
    _check(remedies)
    with database.reading() as session:
        dataset = dataset_service.get(session, file_id)
    source = Files.of(settings).dataset(file_id) / SOURCE_FILE
    examined: list[Examination] = []

    def wanted(examination: Examination) -> Sequence[str]:
        examined.append(examination)
        return [code for code in DATASET_REMEDIES if code in remedies]

    with repaired(settings, source, dataset.name, wanted) as made:
        _refuse_unchanged(remedies, made[1] if made else (), examined[0])
        assert made is not None
        upload, steps = made
        came = origin(file_id, steps)
        with checked(database, settings, upload) as candidate:
            kept = keep(database, settings, candidate, came)
    kept.parent_file_id, kept.repairs = came.file_id, list(came.summary)  # of no session any more: nothing is stored
    return kept


@contextmanager
def repaired(
    settings: Settings, source: Path, name: str, choose: Choose
) -> Iterator[tuple[Upload, tuple[Step, ...]] | None]:
    """A repaired copy of a zip as an upload, with the changes, or None where nothing changes.

    The copy is gone after the block unless somebody keeps it.
    """
    files = Files.of(settings)
    target = files.new_upload()
    try:
        files.require_free(source.stat().st_size)
        with disk_full_explained(files), opened_archive(source, limits(settings)) as archive:
            examination = examine(archive, limits(settings))
            steps = write_repaired_copy(archive, examination, choose, target, limits(settings))
        yield (measured_upload(target, _new_name(name)), steps) if steps else None
    finally:
        remove(target)


def write_repaired_copy(
    source: Source, examination: Examination, choose: Choose, target: Path, allowed: IntakeLimits
) -> tuple[Step, ...]:
    """Write a repaired zip; returns the changes, empty where there were none and nothing was written.

    One repair can bring another fault to light (a mask of another size may be inverted as well), so the outcome is
    examined and repaired again, at most `MAX_ROUNDS` times in all.

    Raises:
        UnreadableScan: a file that shall be kept cannot be read.
        InvalidDataset: no scan would be left.
    """
    done: list[Step] = []
    steps = plan_repair(examination, choose(examination))
    if steps:
        done += _write(source, examination, steps, target, allowed)
    for _ in range(MAX_ROUNDS - 1 if done else 0):
        aside = part_name(target)
        with opened_archive(target, allowed) as archive:
            examination = examine(archive, allowed)
            steps = plan_repair(examination, choose(examination))
            if not steps:
                break
            done += _write(archive, examination, steps, aside, allowed)
        move(aside, target)
    return tuple(done)


def _write(
    source: Source, examination: Examination, steps: Sequence[Step], target: Path, allowed: IntakeLimits
) -> tuple[Step, ...]:
    if examination.spatial_dims == 3:
        return write_repaired_volumes(source, steps, target, allowed)
    return write_repaired(source, examination.pairs, steps, target, allowed.max_scan_pixels)


def automatic(examination: Examination) -> list[str]:
    """The safe remedies that a dataset's findings propose."""
    return safe_remedies(examination.findings)


def origin(file_id: str, steps: Sequence[Step]) -> Origin:
    """Where a repaired dataset comes from, with the changes of each remedy."""
    by_remedy: dict[str, list[dict[str, Any]]] = defaultdict(list)
    rows = [{**asdict(step), "details": dict(step.details)} for step in steps]
    for row in rows:
        by_remedy[row["remedy"]].append(row)
    shown = [
        {"remedy": remedy, "changed": len(found), "steps": found[:STEPS_SHOWN]} for remedy, found in by_remedy.items()
    ]
    return Origin(file_id, rows, shown)


def safe_remedies(findings: Sequence[Finding]) -> list[str]:
    """The remedies of a dataset that errors and warnings propose, and that may be applied unasked."""
    wanted = {finding.remedy.code for finding in findings if finding.remedy is not None and is_safe(finding)}
    if "resize_masks" in wanted:
        wanted.add("drop_unusable")  # masks whose size nothing explains
    return [code for code in DATASET_REMEDIES if code in wanted]


def idle_remedies(remedies: Sequence[str], steps: Sequence[Step], before: Examination) -> list[str]:
    """Those without a step that would have none alone either: not those to which another one left nothing to do."""
    unused = [code for code in remedies if code not in {step.remedy for step in steps}]
    return [code for code in unused if not plan_repair(before, [code])]


def _check(remedies: Sequence[str]) -> None:
    for code in remedies:
        if code in CONFIG_REMEDIES:
            raise RemedyNotApplicable(
                f"{code} is a remedy of the training's configuration; send its changes with the start of the training"
            )
        if code not in DATASET_REMEDIES:
            raise RemedyNotApplicable(f"no remedy is called {code!r}; the remedies are {', '.join(DATASET_REMEDIES)}")


def _refuse_unchanged(remedies: Sequence[str], steps: Sequence[Step], before: Examination) -> None:
    idle = idle_remedies(remedies, steps, before)
    if idle or not remedies:
        named = ", ".join(idle) or "an empty list of remedies"
        raise RemedyNotApplicable(f"{named} changes nothing in this dataset; its findings name what would help")


def _new_name(name: str) -> str:
    stem = name.removesuffix(".zip")
    return f"{stem}.zip" if stem.endswith("-repaired") else f"{stem}-repaired.zip"
