"""The words of the evaluation's HTML report, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Words(NamedTuple):
    """One text in both languages."""

    en: str
    zh: str


HEADINGS: Mapping[str, Words] = {
    "title": Words("Evaluation", "评估报告"),
    "subject": Words("What was evaluated", "评估对象"),
    "notes": Words("To be known", "注意事项"),
    "summary": Words("Mean over scans", "各扫描的平均值"),
    "class": Words("Class", "类别"),
    "region": Words("Region: classes taken together", "区域（多个类别合并）"),
    "worst": Words("Scans with the lowest Dice", "Dice 最低的扫描"),
    "threshold": Words("Threshold tuned on validation scans", "在验证集上调整的阈值"),
    "curves": Words("Training", "训练过程"),
    "cost": Words("What the training took", "训练开销"),
    "plan": Words("What the plan decided, and why", "训练方案及其理由"),
    "scans": Words("Every scan", "全部扫描"),
}

COLUMNS: Mapping[str, Words] = {
    "metric": Words("metric", "指标"),
    "mean": Words("mean", "平均值"),
    "std": Words("standard deviation", "标准差"),
    "interval": Words("95 % interval", "95% 置信区间"),
    "defined": Words("scans", "扫描数"),
    "undefined": Words("undefined", "未定义"),
    "scan": Words("scan", "扫描"),
    "split": Words("split", "划分"),
    "true_fraction": Words("marked", "标注占比"),
    "found_fraction": Words("found", "预测占比"),
}

METRIC_NAMES: Mapping[str, Words] = {
    "dice": Words("Dice", "Dice 系数"),
    "iou": Words("IoU", "交并比"),
    "precision": Words("precision", "精确率"),
    "recall": Words("recall", "召回率"),
    "specificity": Words("specificity", "特异度"),
    "auc": Words("ROC AUC", "ROC 曲线下面积"),
    "hd95": Words("HD95", "95% 豪斯多夫距离"),
    "assd": Words("ASSD", "平均对称表面距离"),
    "surface_dice": Words("surface Dice", "表面 Dice"),
    "cldice": Words("clDice", "中心线 Dice"),
    "volume_error": Words("volume error, with its sign", "体积误差（带符号）"),
    "absolute_volume_error": Words("volume error", "体积误差（绝对值）"),
    "relative_volume_error": Words("volume error, share of the mask's volume", "相对体积误差"),
}

SUBJECT: Mapping[str, Words] = {
    "model": Words("model", "模型"),
    "network": Words("network", "网络"),
    "dataset": Words("dataset", "数据集"),
    "sha256": Words("SHA-256", "SHA-256"),
    "split": Words("split", "划分"),
    "classes": Words("classes with background", "类别数（含背景）"),
    "threshold": Words("threshold", "阈值"),
    "views": Words("views averaged (tta)", "取平均的视图数（tta）"),
    "spacing": Words("pixel size (of volumes the median)", "像素尺寸（体数据取中位数）"),
    "tolerance": Words("tolerance of the surface Dice", "表面 Dice 容差"),
    "device": Words("device", "设备"),
    "precision": Words("arithmetic", "运算精度"),
    "created_at": Words("made at", "生成时间"),
    "versions": Words("versions", "版本"),
}

COST: Mapping[str, Words] = {
    "epochs": Words("epochs", "轮次数"),
    "best_epoch": Words("best epoch, which was scored", "最佳轮次（用于评估）"),
    "seconds_per_epoch": Words("time per epoch with validation", "每轮时间（含验证）"),
    "seconds_per_batch": Words("time per batch", "每批时间"),
    "scans_per_second": Words("training samples per second", "每秒训练样本数"),
    "peak_memory_mb": Words("peak memory", "峰值内存"),
    "patch_shape": Words("size of a training sample", "训练样本尺寸"),
}

FOLDS: Mapping[str, Words] = {
    "title": Words("Cross-validation", "交叉验证"),
    "folds": Words("Folds", "各折"),
    "fold": Words("fold", "折"),
    "model": Words("model", "模型"),
    "epoch": Words("best epoch", "最佳轮次"),
    "dice": Words("mean Dice", "平均 Dice"),
    "spread": Words(
        "Over the folds the mean Dice is {mean} ± {std} (standard deviation), from {low} to {high}.",
        "各折平均 Dice 为 {mean} ± {std}（标准差），范围 {low} 至 {high}。",
    ),
    "out_of_fold": Words("Out of fold: each scan by the network that was not trained on it", "折外结果"),
    "test": Words("Test split, by the ensemble of all folds", "测试集（全部折的集成模型）"),
    "config": Words("Configuration", "训练配置"),
    "test_scans": Words("Every test scan", "测试集全部扫描"),
    "out_of_fold_scans": Words("Every scan, out of fold", "全部扫描（折外结果）"),
}

CURVE_NAMES: Mapping[str, Words] = {
    "loss": Words("loss", "损失"),
    "dice": Words("validation Dice", "验证集 Dice"),
    "lr": Words("learning rate", "学习率"),
    "threshold": Words("mean Dice over thresholds", "不同阈值下的平均 Dice"),
    "train": Words("training", "训练"),
    "val": Words("validation", "验证"),
    "epoch": Words("epoch", "轮次"),
}

LEGEND: Mapping[str, Words] = {
    "panels": Words(
        "left: the scan; middle: the grader's mask; right: the comparison", "左：扫描；中：人工标注；右：对比"
    ),
    "hit": Words("found and marked", "预测与标注一致"),
    "invented": Words("found, not marked", "预测有，标注无"),
    "missed": Words("marked, not found", "标注有，预测无"),
    "mixed_up": Words("found as another class", "类别错误"),
}

SENTENCES: Mapping[str, Words] = {
    "no_history": Words("The numbers of the training's epochs are not known here.", "此处没有训练过程的记录。"),
    "tuned": Words(
        "The highest mean Dice over {scans} validation scans is {dice} at {threshold}; at 0.5 it is {usual_dice}.",
        "{scans} 个验证扫描的平均 Dice 在阈值 {threshold} 时最高，为 {dice}；阈值 0.5 时为 {usual_dice}。",
    ),
    "notice": Words("Research use only.", "仅供研究使用。"),
}

NOTES: Mapping[str, Words] = {
    "no_test_split": Words(
        "The dataset has no test split, so the validation scans were scored.",
        "该数据集没有测试集，因此评估的是验证集扫描。",
    ),
    "out_of_fold": Words(
        "Out of fold, each scan was scored by the one network that was not trained on it, not by the ensemble.",
        "折外结果中，每个扫描由未用其训练的那个网络评估，而非集成模型。",
    ),
    "one_fold": Words(
        "One fold of a cross-validation: the scans that it left out of training were scored.",
        "交叉验证中的一折：评估的是该折训练时未使用的扫描。",
    ),
    "trained_on_these_scans": Words(
        "Scans are among these that the model was trained on: the numbers say little about new scans.",
        "其中包含模型训练时使用过的扫描：这些数值不能说明模型在新扫描上的效果。",
    ),
    "epoch_chosen_on_these_scans": Words(
        "Scans are among these on which the best epoch was chosen: the numbers are a little too good.",
        "其中包含用于选择最佳轮次的扫描：这些数值略微偏高。",
    ),
    "threshold_tuned_on_these_scans": Words(
        "The threshold was tuned on scans that are among these: the numbers are a little too good.",
        "阈值是在其中的扫描上调整的：这些数值略微偏高。",
    ),
    "other_dataset": Words(
        "The zip is not the one that the model was trained on; scans that are in both are not recognised.",
        "该压缩包不是模型训练所用的数据集；两者共有的扫描无法识别。",
    ),
}
