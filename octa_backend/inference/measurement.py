"""One measured number with its unit, or why there is none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from octa_backend.diagnosis.text import Language, Text, render

REASONS: Mapping[str, Text] = {
    "no_vessel": Text("The mask has no vessel pixel.", "掩码中没有血管像素。"),
    "no_background": Text(
        "Every pixel of the mask is vessel, so no vessel has an edge.", "掩码的所有像素都是血管，血管没有边缘。"
    ),
    "no_such_class": Text(
        "The model has no foreground class with the number vessel_class.", "模型没有编号为 vessel_class 的前景类别。"
    ),
    "too_small": Text(
        "The scan is too small for boxes of at least four sizes (24 pixels a side are needed).",
        "扫描太小，无法使用至少四种尺寸的盒子（每边至少需要 24 像素）。",
    ),
    "no_centre_line": Text("The centre line has no length.", "血管中心线没有长度。"),
    "no_long_segment": Text(
        "No vessel segment with two ends is at least 10 pixels long.", "没有长度达到 10 像素且具有两端的血管段。"
    ),
    "no_avascular_region": Text(
        "There is no vessel-free region around the centre of the scan.", "扫描中心周围没有无血管区域。"
    ),
    "avascular_at_border": Text(
        "The vessel-free region around the centre reaches the border of the scan, so it has no closed outline.",
        "中心周围的无血管区域延伸到扫描边缘，没有闭合的轮廓。",
    ),
    "no_scale": Text(
        "The zones are defined in millimetres; give pixel_size_um or field_of_view_mm.",
        "分区以毫米定义；请提供 pixel_size_um 或 field_of_view_mm。",
    ),
    "zone_outside": Text(
        "More than a quarter of the zone lies outside the scan.", "该分区有超过四分之一位于扫描之外。"
    ),
}
"""Why something could not be measured."""


class NotMeasurable(Exception):
    """This mask has no such number; `reason` is a key of `REASONS`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Measurement:
    """A number or a reason, never both and never neither.

    Attributes:
        value: finite, or None where it could not be measured.
        unit: as it is written, such as "mm²"; "1" for ratios and counts.
        reason: a key of `REASONS` where there is no value.
    """

    value: float | None
    unit: str
    reason: str | None = None

    def __post_init__(self) -> None:
        if (self.value is None) != (self.reason in REASONS):
            raise ValueError(f"either a value or a known reason is needed, not {self.value!r} and {self.reason!r}")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"{self.value!r} is not a measured number; give a reason instead")


def shown(measurement: Measurement, language: Language) -> dict[str, Any]:
    """The measurement as the API shows it, with its reason as a sentence."""
    reason = None if measurement.reason is None else render(REASONS[measurement.reason], {}, language)
    return {"value": measurement.value, "unit": measurement.unit, "reason": reason}
