"""The sentences of what is noticed about a scan that a model is to segment."""

from __future__ import annotations

from collections.abc import Mapping

from octa_backend.diagnosis.text import Text

PREDICTION_MESSAGES: Mapping[str, Text] = {
    "out_of_distribution": Text(
        "The scan is unlike those that model {model} was trained on: {features} out of the range that these have. The "
        "mask may be wrong however sure the model is; look at it.",
        "该扫描与模型 {model} 的训练扫描不同：{features}超出了训练扫描的范围。"
        "无论模型多么确信，掩码都可能有误，请仔细查看。",
    ),
}

FEATURE_NAMES: Mapping[str, Text] = {
    "mean": Text("mean brightness", "平均亮度"),
    "deviation": Text("contrast", "对比度"),
    "low": Text("the dark end", "暗端"),
    "high": Text("the bright end", "亮端"),
    "skewness": Text("skewness of the greys", "灰度偏度"),
    "sharpness": Text("sharpness", "清晰度"),
    "entropy": Text("entropy of the greys", "灰度熵"),
    "colour": Text("colourfulness", "色彩"),
    "size": Text("size", "尺寸"),
    "middle": Text("the middle of the intensities", "强度中位数"),
    "empty": Text("share of empty space", "空白区域比例"),
    "spacing": Text("voxel size", "体素尺寸"),
    "anisotropy": Text("shape of the voxels", "体素形状"),
}
"""Of the numbers of `inference.distribution` and `inference.volume_distribution`."""

OF_CHANNEL = Text("{feature} of channel {channel}", "通道 {channel} 的{feature}")
