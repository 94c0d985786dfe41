"""All checks of a dataset: from the statistics of its scans to findings. What passed is told too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from octa_backend.data.statistics import ScanStatistics
from octa_backend.diagnosis.checks import Check
from octa_backend.diagnosis.content import examine_content
from octa_backend.diagnosis.encoding import examine_encoding
from octa_backend.diagnosis.findings import Finding
from octa_backend.diagnosis.leakage import examine_leakage
from octa_backend.diagnosis.text import Text

CHECKS = (
    Check(
        "files",
        ("masks_not_found", "images_not_found", "images_without_mask", "masks_without_image", "pairing_ambiguous"),
        Text("every image has one mask", "每个图像都有唯一对应的掩码"),
    ),
    Check(
        "files",
        ("scan_unreadable", "values_not_finite", "scan_too_large", "scan_too_small", "scan_has_frames"),
        Text("all files can be read", "所有文件均可读取"),
    ),
    Check(
        "files",
        (
            *("volumes_not_supported", "volumes_and_pictures_mixed", "format_not_supported", "files_ignored"),
            *("masks_passed_over", "duplicate_names"),
        ),
        Text("no files are left over", "没有多余的文件"),
    ),
    Check("files", ("sizes_differ",), Text("masks have the size of their images", "掩码与图像尺寸一致")),
    Check("files", ("too_few_scans",), Text("there is more than one scan", "扫描图像不止一个")),
    Check(
        "files",
        ("splits_not_understood", "splits_without_train", "splits_rows_unknown", "scans_without_split"),
        Text("the official split, if there is one, fits the scans", "官方划分（如有）与扫描图像相符"),
    ),
    Check(
        "files",
        ("classes_not_understood",),
        Text("the names of the classes, if there are any, can be read", "类别名称（如有）可以读取"),
    ),
    Check("encoding", ("masks_not_binary", "masks_grey_levels"), Text("masks are binary", "掩码是二值图像")),
    Check("encoding", ("masks_coloured",), Text("masks have no colours", "掩码不含颜色")),
    Check("encoding", ("masks_inverted",), Text("foreground and background are not exchanged", "前景与背景没有颠倒")),
    Check("encoding", ("range_compressed",), Text("images use their range", "图像的取值范围得到充分利用")),
    Check("encoding", ("depths_mixed",), Text("images have one bit depth", "图像位深一致")),
    Check("encoding", ("channels_mixed",), Text("images are all grey or all coloured", "图像全部为灰度或全部为彩色")),
    Check("encoding", ("alpha_varies", "alpha_constant"), Text("images have no transparency", "图像没有透明通道")),
    Check(
        "content",
        ("masks_all_empty", "masks_empty_some", "masks_all_foreground", "masks_full"),
        Text("every mask has foreground and background", "每个掩码都有前景和背景"),
    ),
    Check("content", ("foreground_scarce",), Text("there is enough foreground", "前景占比足够")),
    Check(
        "content",
        ("void_class", "class_missing_in_split", "class_rare"),
        Text("every class is there often enough", "每个类别都足够常见"),
    ),
    Check("content", ("mask_misaligned",), Text("masks lie on their images", "掩码与图像对齐")),
    Check("content", ("mask_unrelated",), Text("masks belong to their images", "掩码与图像内容相关")),
    Check(
        "content",
        ("scans_blank", "scans_dark", "scans_overexposed", "scans_low_information"),
        Text("images are well exposed", "图像曝光正常"),
    ),
    Check("content", ("scans_blurred",), Text("images are sharp", "图像清晰")),
    Check("content", ("sizes_vary",), Text("images have one size", "图像尺寸一致")),
    Check("content", ("few_scans",), Text("there are enough scans", "扫描图像数量足够")),
    Check(
        "leakage",
        ("test_overlap",),
        Text("no test scan is used for training or validation", "没有测试图像用于训练或验证"),
    ),
    Check(
        "leakage",
        ("duplicates_across_splits", "duplicates_before_split"),
        Text("no scan is in both training and validation", "训练集与验证集没有重复的图像"),
    ),
    Check("leakage", ("patient_across_splits",), Text("no patient is in two splits", "没有患者跨越不同的划分")),
    Check("leakage", ("duplicates_within_split",), Text("no scan is there twice", "没有重复的图像")),
    Check("leakage", ("duplicates_two_masks",), Text("no image has two masks", "没有图像对应两个不同的掩码")),
)
"""In the order in which they are reported. Every code of a dataset's finding belongs to exactly one of them."""


LABEL_CHECK = Check(
    "labels",
    ("labels_suspicious", "labels_not_judged"),
    Text("masks agree with the model", "掩码与模型的预测一致"),
)
"""What is checked besides where a trained model is at hand."""


def checks_for(mask_values: Sequence[int]) -> tuple[Check, ...]:
    """`CHECKS`, with what is so of masks that number several classes."""
    if len(mask_values) <= 2:
        return CHECKS
    classes = Text(f"masks hold the numbers of {len(mask_values)} classes", f"掩码包含 {len(mask_values)} 个类别的编号")
    return tuple(replace(check, passed=classes) if "masks_not_binary" in check.codes else check for check in CHECKS)


def examine(scans: Sequence[ScanStatistics], mask_values: Sequence[int]) -> list[Finding]:
    """Judge the scans of a dataset together.

    Args:
        scans: every scan that could be decoded.
        mask_values: the value of class 0, 1, … in the masks; empty where their values make no sense together.
    """
    if not scans:
        return []
    return [
        *examine_encoding(scans, mask_values),
        *examine_content(scans, mask_values),
        *examine_leakage(scans),
    ]
