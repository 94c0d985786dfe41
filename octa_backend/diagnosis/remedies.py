"""Remedies: what each changes, scan by scan, decided from statistics before a file is touched."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from octa_backend.data.examination import Examination
from octa_backend.data.file_findings import MENDABLE
from octa_backend.data.sizes import turn_between
from octa_backend.data.statistics import ScanStatistics
from octa_backend.diagnosis.colours import changes_greys, map_together
from octa_backend.diagnosis.content import full_masks
from octa_backend.diagnosis.encoding import (
    all_inverted,
    can_binarize,
    inverted_among_others,
    levels_as_classes,
    without_meaning,
)
from octa_backend.diagnosis.exposure import blank
from octa_backend.diagnosis.findings import Finding, Severity
from octa_backend.diagnosis.leakage import copies, split_of
from octa_backend.diagnosis.regrouping import regrouped
from octa_backend.diagnosis.steps import Step
from octa_backend.diagnosis.thresholds import thresholds
from octa_backend.diagnosis.volume_remedies import plan_volume_repair

DATASET_REMEDIES = (
    "drop_unusable",
    "drop_duplicates",
    "map_colours",
    "binarize_masks",
    "invert_masks",
    "resize_masks",
    "drop_alpha",
    "resample_spacing",
    "regroup_splits",
)
"""Remedies that make a new dataset, in the order in which they are applied."""

OF_VOLUMES = ("resample_spacing",)
"""Those that change nothing in pictures."""

OF_VALUES = ("binarize_masks", "invert_masks")
"""Those that judge masks by their values."""

CONFIG_REMEDIES = ("pos_weight", "model", "loss", "ignore_index")
"""Remedies that change a `TrainConfig`."""

UNSAFE = ("resample_spacing", "regroup_splits")
SAFE = (*(code for code in DATASET_REMEDIES if code not in UNSAFE), *CONFIG_REMEDIES)
"""Remedies that may be applied unasked. `regroup_splits` changes an official split and `resample_spacing` every voxel,
so they are none of them."""

SAFE_FOR_ERRORS = ("invert_masks",)
"""Safe ones that are safe only where their finding is an error: then it is sure."""


def is_safe(finding: Finding) -> bool:
    """Whether a repair applies the finding's remedy without being asked for it by name."""
    remedy, severity = finding.remedy, finding.severity
    if remedy is None or remedy.code not in SAFE or severity is Severity.INFO:
        return False
    if finding.code == "masks_not_binary" and finding.evidence.get("kind") == "grey":
        return False  # pictures in place of masks can be cut at a threshold, but hardly to what was meant
    if finding.code == "masks_grey_levels":
        return False  # whether they are classes, only those who drew them know
    return severity is Severity.ERROR or remedy.code not in SAFE_FOR_ERRORS


def plan_repair(examination: Examination, codes: Collection[str]) -> tuple[Step, ...]:
    """Decide what remedies change, in the order of `DATASET_REMEDIES`.

    What one remedy leaves out the following ones neither change nor compare with. Masks that get class numbers have
    other values then than those that were measured: what they still need is planned when they are examined again.

    Args:
        examination: the dataset as it was found.
        codes: remedies of datasets; those that have nothing to change give no step.

    Raises:
        ValueError: a code is no remedy of a dataset.
    """
    unknown = sorted(set(codes) - set(DATASET_REMEDIES))
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is no remedy of a dataset; there are {', '.join(DATASET_REMEDIES)}")
    if examination.spatial_dims == 3:
        return plan_volume_repair(examination, [code for code in DATASET_REMEDIES if code in codes])
    steps: list[Step] = []
    scans: Sequence[ScanStatistics] = examination.statistics
    mapped: set[str] = set()
    for code in DATASET_REMEDIES:
        if code not in codes or code in OF_VOLUMES:
            continue
        judged = _without(scans, mapped) if code in OF_VALUES else scans
        planned = _drop_unusable(examination) if code == "drop_unusable" else _PLANS[code](judged, examination)
        steps += planned
        if code in ("drop_unusable", "drop_duplicates"):
            scans = _without(scans, {step.scan for step in planned})
        elif code == "map_colours":
            mapped = {step.scan for step in planned}
    return tuple(steps)


def _without(scans: Sequence[ScanStatistics], names: Collection[str]) -> Sequence[ScanStatistics]:
    return [scan for scan in scans if scan.name not in names]


def config_changes(findings: Iterable[Finding]) -> dict[str, Any]:
    """What the findings' remedies change in a `TrainConfig`; the gravest finding has the last word."""
    changes: dict[str, Any] = {}
    gravest_last = list(Severity)[::-1]
    for finding in sorted(findings, key=lambda finding: gravest_last.index(finding.severity)):
        if finding.remedy is not None and finding.remedy.code in CONFIG_REMEDIES:
            changes |= finding.remedy.changes
    return changes


# --- what is left out ---------------------------------------------------------------------------------------------


def _drop_unusable(examination: Examination) -> list[Step]:
    """Files that cannot be read or have no partner, and scans from which nothing can be learnt; each once."""
    scan_of = {path: pair.name for pair in examination.pairs for path in (pair.image, pair.mask)}
    scans, reasons = examination.statistics, dict[str, str]()
    for fault in examination.faults:
        if MENDABLE.get(fault.code) == "drop_unusable":
            reasons.setdefault(scan_of.get(fault.file, fault.file), fault.code)
    judged = {
        "scans_blank": blank(scans),
        "masks_full": full_masks(scans, examination.mask_values),
        "sizes_differ": [
            scan
            for scan in scans
            if _has_other_size(scan) and turn_between(scan.of_image.shape, scan.of_mask.shape) is None
        ],
    }
    for code, found in judged.items():
        for scan in found:
            reasons.setdefault(scan.name, code)
    return [Step("drop_unusable", name, {"reason": reason}) for name, reason in reasons.items()]


def _drop_duplicates(scans: Sequence[ScanStatistics], _: Examination) -> list[Step]:
    return [
        Step("drop_duplicates", scan.name, {"same_as": those.scans[0].name})
        for those in copies(scans)
        for scan in those.scans[1:]
    ]


# --- what is changed ----------------------------------------------------------------------------------------------


def _map_colours(scans: Sequence[ScanStatistics], examination: Examination) -> list[Step]:
    """The coloured masks, and those without a colour that show greys of the same map; or masks of grey levels."""
    colours = map_together([scan.of_mask for scan in scans])
    if not colours:
        colours = levels_as_classes(scans, examination.mask_values)
        scans = [scan for scan in scans if scan.of_mask.counts]
    if not colours:
        return []
    concerned = [scan for scan in scans if scan.of_mask.colours or changes_greys(scan.of_mask, colours)]
    return [Step("map_colours", scan.name, {"colours": colours}) for scan in concerned]


def _binarize_masks(scans: Sequence[ScanStatistics], examination: Examination) -> list[Step]:
    """The masks without meaning, and those of two values that are unlike the 255 which the others will have."""
    if not without_meaning(scans, examination.mask_values) or not can_binarize(scans):
        return []
    found = thresholds([scan for scan in scans if not scan.of_mask.colours])
    return [Step("binarize_masks", name, {"threshold": threshold}) for name, threshold in found.items()]


def _invert_masks(scans: Sequence[ScanStatistics], examination: Examination) -> list[Step]:
    values = examination.mask_values
    return [
        Step("invert_masks", scan.name, {})
        for scan in inverted_among_others(scans, values) or all_inverted(scans, values)
    ]


def _resize_masks(scans: Sequence[ScanStatistics], _: Examination) -> list[Step]:
    steps = []
    for scan in scans:
        if _has_other_size(scan) and (turn := _turn(scan)):
            height, width = scan.of_image.shape
            steps.append(Step("resize_masks", scan.name, {"size": f"{width}×{height}", "turn": turn}))
    return steps


def _has_other_size(scan: ScanStatistics) -> bool:
    return scan.of_image.shape != scan.of_mask.shape


def _turn(scan: ScanStatistics) -> str | None:
    return turn_between(scan.of_image.shape, scan.of_mask.shape)


def _drop_alpha(scans: Sequence[ScanStatistics], _: Examination) -> list[Step]:
    return [Step("drop_alpha", scan.name, {}) for scan in scans if scan.of_image.alpha != "none"]


def _regroup_splits(scans: Sequence[ScanStatistics], _: Examination) -> list[Step]:
    moves = regrouped(scans)
    return [
        Step("regroup_splits", scan.name, {"split": moves[scan.name], "before": split_of(scan)})
        for scan in scans
        if scan.name in moves
    ]


_PLANS: Mapping[str, Callable[[Sequence[ScanStatistics], Examination], list[Step]]] = {
    "drop_duplicates": _drop_duplicates,
    "map_colours": _map_colours,
    "binarize_masks": _binarize_masks,
    "invert_masks": _invert_masks,
    "resize_masks": _resize_masks,
    "drop_alpha": _drop_alpha,
    "regroup_splits": _regroup_splits,
}
