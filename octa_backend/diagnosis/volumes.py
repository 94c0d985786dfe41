"""Checks of volumes: from the numbers of each to findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from octa_backend.data.similarity import Likeness
from octa_backend.data.volume_statistics import VolumeStatistics
from octa_backend.diagnosis.checks import Check
from octa_backend.diagnosis.content import missing_in_split, rare_classes
from octa_backend.diagnosis.findings import Finding, Remedy, Severity, finding_about_files
from octa_backend.diagnosis.leakage import Copies, copies_found, group, patients_found
from octa_backend.diagnosis.text import Text

Volumes = Sequence[VolumeStatistics]

WILD_RATIO = 100.0
"""Medians of two volumes that differ by more were not brought to one scale."""

SPACING_RATIO = 1.5
"""Voxels whose side differs from the usual one by more look unlike to a network: half as many fit into a structure."""

CUT_SHARE = 0.25
"""A structure that has so much of its widest plane in the outermost plane of the image goes on beyond it."""

_AXES = ("slices", "rows", "columns")
_ENDS = ("first", "last")

VOLUME_CHECKS = (
    Check(
        "files",
        ("masks_not_found", "images_not_found", "images_without_mask", "masks_without_image", "pairing_ambiguous"),
        Text("every case has one mask", "每个病例都有唯一对应的掩码"),
    ),
    Check("files", ("modalities_differ",), Text("every case has the same modalities", "每个病例的模态一致")),
    Check(
        "files",
        (
            *("volume_unreadable", "values_not_finite", "volume_too_large", "volume_too_small"),
            *("volume_single_slice", "volume_fourth_axis"),
        ),
        Text("all files can be read", "所有文件均可读取"),
    ),
    Check(
        "files",
        (
            *("volumes_and_pictures_mixed", "volumes_not_supported", "format_not_supported", "volumes_unlabelled"),
            *("files_ignored", "masks_passed_over", "duplicate_names"),
        ),
        Text("no files are left over", "没有多余的文件"),
    ),
    Check(
        "files",
        ("volume_shapes_differ", "volume_affines_differ"),
        Text("the files of a case lie in one place", "同一病例的文件空间位置一致"),
    ),
    Check("files", ("too_few_scans",), Text("there is more than one case", "病例不止一个")),
    Check(
        "files",
        ("splits_not_understood", "splits_without_train", "splits_rows_unknown", "scans_without_split"),
        Text("the official split, if there is one, fits the cases", "官方划分（如有）与病例相符"),
    ),
    Check(
        "files",
        ("classes_not_understood", "dataset_json_not_understood"),
        Text("the names of classes and channels, if there are any, can be read", "类别与通道名称（如有）可以读取"),
    ),
    Check(
        "encoding",
        ("volume_mask_fractions", "volume_mask_values", "volume_masks_unclear"),
        Text("masks hold class numbers", "掩码包含类别编号"),
    ),
    Check("encoding", ("intensities_wild",), Text("intensities have one scale", "强度尺度一致")),
    Check("encoding", ("spacing_outliers",), Text("voxels have about one size", "体素大小基本一致")),
    Check(
        "content",
        ("masks_all_empty", "masks_empty_some", "masks_all_foreground"),
        Text("every mask has foreground and background", "每个掩码都有前景和背景"),
    ),
    Check(
        "content",
        ("class_missing_in_split", "class_rare"),
        Text("every class is there often enough", "每个类别都足够常见"),
    ),
    Check(
        "content",
        ("volume_constant", "volume_field_cut", "volume_planes_constant"),
        Text("volumes are whole", "体数据完整"),
    ),
    Check("leakage", ("test_overlap",), Text("no test case is used for training", "没有测试病例用于训练")),
    Check(
        "leakage",
        ("duplicates_across_splits", "duplicates_before_split"),
        Text("no case is in both training and validation", "训练集与验证集没有重复的病例"),
    ),
    Check("leakage", ("patient_across_splits",), Text("no patient is in two splits", "没有患者跨越不同的划分")),
    Check("leakage", ("duplicates_within_split",), Text("no case is there twice", "没有重复的病例")),
)
"""In the order in which they are reported. Every code of a finding about volumes belongs to exactly one of them."""


def examine_volumes(volumes: Volumes, mask_values: Sequence[int]) -> list[Finding]:
    """Judge the cases of a dataset together.

    Args:
        volumes: every case that could be decoded.
        mask_values: the value of class 0, 1, … in the masks; empty where their values make no sense together.
    """
    if not volumes:
        return []
    return [
        *_intensities(volumes),
        *_spacing(volumes),
        *_constant(volumes),
        *_cut_off(volumes),
        *_constant_planes(volumes),
        *_classes(volumes, mask_values),
        *copies_found(copies_of(volumes), volumes),
        *patients_found(volumes),
    ]


def copies_of(volumes: Volumes) -> list[Copies]:
    """Cases with the same voxels, by groups; constant volumes are all alike and say nothing."""
    first_with: dict[str, int] = {}
    pairs = []
    for index, volume in enumerate(volumes):
        if _is_constant(volume):
            continue
        first = first_with.setdefault(volume.of_image.digest, index)
        if first != index:
            pairs.append(Likeness(first, index, 1.0, "none", shifted=False))
    return group(volumes, pairs)


def usual_spacing(volumes: Volumes) -> tuple[float, ...]:
    """The median side of a voxel for D, H and W, mm."""
    sides = zip(*(volume.of_image.spacing_mm for volume in volumes), strict=True)
    return tuple(float(f"{median(those):.6g}") for those in sides)


def unusual_spacing(volumes: Volumes) -> list[VolumeStatistics]:
    """Volumes with a voxel's side that differs from the usual one by more than `SPACING_RATIO`."""
    usual = usual_spacing(volumes)
    return [volume for volume in volumes if _is_unusual(volume.of_image.spacing_mm, usual)]


def constant(volumes: Volumes) -> list[VolumeStatistics]:
    """Volumes of one value."""
    return [volume for volume in volumes if _is_constant(volume)]


# --- intensities and voxels ---------------------------------------------------------------------------------------


def _intensities(volumes: Volumes) -> list[Finding]:
    """Compared channel by channel: modalities have scales of their own."""
    typical = {volume.name: volume.of_image.typical for volume in volumes}
    worst, details = 1.0, dict[str, str]()
    for channel in range(min(len(those) for those in typical.values())):
        of_channel = {name: abs(those[channel]) for name, those in typical.items() if those[channel] != 0}
        if len(of_channel) < 2:
            continue
        low, high = (choose(of_channel, key=lambda name: of_channel[name]) for choose in (min, max))
        if (ratio := of_channel[high] / of_channel[low]) > max(WILD_RATIO, worst):
            worst = ratio
            details = {name: f"{of_channel[name]:,.6g}" for name in (low, high)}
    if not details:
        return []
    found = finding_about_files("intensities_wild", Severity.INFO, details, ratio=f"{worst:,.0f}")
    return [found]


def _spacing(volumes: Volumes) -> list[Finding]:
    odd = unusual_spacing(volumes)
    if not odd:
        return []
    details = {volume.name: _in_mm(volume.of_image.spacing_mm) for volume in odd}
    usual = usual_spacing(volumes)
    return [
        finding_about_files(
            "spacing_outliers",
            Severity.WARNING,
            details,
            Remedy("resample_spacing"),
            total=len(volumes),
            usual=_in_mm(usual),
            usual_mm=list(usual),
        )
    ]


def _is_unusual(spacing: Sequence[float], usual: Sequence[float]) -> bool:
    ratios = (max(side / other, other / side) for side, other in zip(spacing, usual, strict=True))
    return max(ratios) > SPACING_RATIO


def _in_mm(spacing: Sequence[float]) -> str:
    return "×".join(f"{side:g}" for side in spacing)


# --- what is to be seen -------------------------------------------------------------------------------------------


def _is_constant(volume: VolumeStatistics) -> bool:
    return volume.of_image.low == volume.of_image.high


def _constant(volumes: Volumes) -> list[Finding]:
    details = {volume.name: f"{volume.of_image.low:g}" for volume in constant(volumes)}
    if not details:
        return []
    return [finding_about_files("volume_constant", Severity.WARNING, details, Remedy("drop_unusable"))]


def _cut_off(volumes: Volumes) -> list[Finding]:
    """Empty planes at an end of the volume, and a structure that reaches them."""
    details = {volume.name: ", ".join(ends) for volume in volumes if (ends := _cut_ends(volume))}
    if not details:
        return []
    return [finding_about_files("volume_field_cut", Severity.WARNING, details)]


def _cut_ends(volume: VolumeStatistics) -> list[str]:
    content = volume.of_image.content
    if content is None:
        return []
    ends = []
    for axis, (first, after) in enumerate(content):
        empty = (first > 0, after < volume.of_image.shape[axis])
        shares = volume.of_mask.border_share[axis]
        ends += [f"{_ENDS[end]} {_AXES[axis]}" for end in (0, 1) if empty[end] and shares[end] >= CUT_SHARE]
    return ends


def _constant_planes(volumes: Volumes) -> list[Finding]:
    details = {}
    for volume in volumes:
        planes = [
            f"{count} {axis}" for axis, count in zip(_AXES, volume.of_image.constant_planes, strict=True) if count
        ]
        if planes and not _is_constant(volume):
            details[volume.name] = ", ".join(planes)
    if not details:
        return []
    return [finding_about_files("volume_planes_constant", Severity.WARNING, details)]


def _classes(volumes: Volumes, mask_values: Sequence[int]) -> list[Finding]:
    """Classes that a split or nearly all cases lack."""
    if len(mask_values) < 2:
        return []
    binary = len(mask_values) == 2
    there: Mapping[int, list[VolumeStatistics]] = defaultdict(list, {value: [] for value in mask_values[1:]})
    for volume in volumes:
        for value in {mask_values[1] if binary else value for value, _ in volume.of_mask.counts if value != 0}:
            there[value].append(volume)
    return [*missing_in_split(volumes, there), *rare_classes(volumes, there)]
