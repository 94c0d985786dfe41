"""The sentences of what is noticed about a training."""

from __future__ import annotations

from collections.abc import Mapping

from octa_backend.diagnosis.text import Text

TRAINING_MESSAGES: Mapping[str, Text] = {
    "labels_suspicious": Text(
        "{count} masks contradict what the model is sure of in more than {threshold_percent} % of their foreground, "
        "most of all {worst} ({worst_percent} %); look at them again: they are likely label errors",
        "{count} 个掩码有超过 {threshold_percent} % 的前景与模型高置信度的预测相矛盾，"
        "最严重的是 {worst}（{worst_percent} %）；请重新检查，很可能是标注错误",
    ),
    "validation_is_training": Text(
        "There is only one scan, so it is trained and validated on the same one: its Dice says nothing about others.",
        "只有一个扫描，训练和验证用的是同一个：其 Dice 不能说明在其他扫描上的效果。",
    ),
    "few_validation_scans": Text(
        "Only {val} scans are left for validation ({train} for training); with fewer than {threshold} the choice of "
        "the best epoch is uncertain. Add scans, or raise val_fraction.",
        "验证集只有 {val} 个扫描（训练集 {train} 个）；少于 {threshold} 个时，最佳轮次的选择不可靠。"
        "请增加扫描，或调大 val_fraction。",
    ),
}
