"""Remedies of volumes: what each changes, case by case, decided from statistics before a file is touched."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from octa_backend.data.examination import Examination
from octa_backend.data.file_findings import MENDABLE
from octa_backend.data.resampling import same_spacing
from octa_backend.data.volume_statistics import VolumeStatistics
from octa_backend.diagnosis.leakage import split_of
from octa_backend.diagnosis.regrouping import regrouped
from octa_backend.diagnosis.steps import Step
from octa_backend.diagnosis.volumes import Volumes, constant, copies_of, usual_spacing


def plan_volume_repair(examination: Examination, codes: Sequence[str]) -> tuple[Step, ...]:
    """Decide what remedies change, in their order; those of pictures change nothing.

    What one remedy leaves out the following ones neither change nor compare with.
    """
    steps: list[Step] = []
    volumes: Sequence[VolumeStatistics] = examination.volumes
    for code in codes:
        if code == "drop_unusable":
            planned = _drop_unusable(examination)
        elif code in _PLANS:
            planned = _PLANS[code](volumes)
        else:
            continue
        steps += planned
        if code in ("drop_unusable", "drop_duplicates"):
            dropped = {step.scan for step in planned}
            volumes = [volume for volume in volumes if volume.name not in dropped]
    return tuple(steps)


def _drop_unusable(examination: Examination) -> list[Step]:
    """Files that cannot be read or do not fit their case, cases that lack something, and volumes of one value."""
    case_of = {path: pair.name for pair in examination.pairs for path in (*pair.images, pair.mask)}
    reasons: dict[str, str] = {}
    for fault in examination.faults:
        if MENDABLE.get(fault.code) == "drop_unusable":
            reasons.setdefault(case_of.get(fault.file, fault.file), fault.code)
    for volume in constant(examination.volumes):
        reasons.setdefault(volume.name, "volume_constant")
    return [Step("drop_unusable", name, {"reason": reason}) for name, reason in reasons.items()]


def _drop_duplicates(volumes: Volumes) -> list[Step]:
    return [
        Step("drop_duplicates", volume.name, {"same_as": those.scans[0].name})
        for those in copies_of(volumes)
        for volume in those.scans[1:]
    ]


def _resample_spacing(volumes: Volumes) -> list[Step]:
    """Every volume whose voxels are not of the usual size."""
    if not volumes:
        return []
    usual = usual_spacing(volumes)
    return [
        Step("resample_spacing", volume.name, {"spacing_mm": list(usual)})
        for volume in volumes
        if not same_spacing(volume.of_image.spacing_mm, usual)
    ]


def _regroup_splits(volumes: Volumes) -> list[Step]:
    moves = regrouped(volumes)
    return [
        Step("regroup_splits", volume.name, {"split": moves[volume.name], "before": split_of(volume)})
        for volume in volumes
        if volume.name in moves
    ]


_PLANS: Mapping[str, Callable[[Volumes], list[Step]]] = {
    "drop_duplicates": _drop_duplicates,
    "resample_spacing": _resample_spacing,
    "regroup_splits": _regroup_splits,
}
