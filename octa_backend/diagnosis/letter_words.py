"""The words of the doctor's letter, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping

from octa_backend.diagnosis.text import Text

WORDS: Mapping[str, Text] = {
    "title": Text("Training report: {name}", "训练诊断报告：{name}"),
    "run": Text("The run", "训练概况"),
    "facts": Text(
        "{model} ({parameters} million parameters) with {loss}, {optimizer} at lr {lr}, schedule {scheduler}; "
        "{train} training and {val} validation scans, {foreground} % foreground; {done} of {planned} epochs are done.",
        "{model}（{parameters} 百万参数），损失函数 {loss}，优化器 {optimizer}，学习率 {lr}，调度 {scheduler}；"
        "训练图像 {train} 个，验证图像 {val} 个，前景占 {foreground} %；已完成 {done} 轮（计划 {planned} 轮）。",
    ),
    "history": Text("History", "病程"),
    "columns": Text(
        "| Epoch | lr | Train loss | Validation loss | Validation Dice |",
        "| 轮次 | 学习率 | 训练损失 | 验证损失 | 验证 Dice |",
    ),
    "best": Text("The best validation Dice is {dice}, in epoch {epoch}.", "验证 Dice 最高为 {dice}（第 {epoch} 轮）。"),
    "verdict": Text("Verdict", "诊断"),
    "sure": Text("Confidence: {percent} %.", "置信度：{percent} %。"),
    "remedy": Text("Remedy", "处方"),
    "goes_on": Text("The run goes on from its last checkpoint.", "从最近的检查点继续训练。"),
    "begins_anew": Text("The training begins anew.", "需要从头重新训练。"),
    "by_hand": Text("No setting helps here; it needs your eyes.", "没有可自动更改的设置，需要人工检查。"),
    "nothing": Text("None is needed.", "无需处理。"),
    "evidence": Text("Evidence", "依据"),
    "shape": Text(
        "The training loss at the end: {shape}. Its last values are {losses}; variance {variance}, improvement "
        "{improvement}. The classic rule (variance below 1e-6 and improvement below 1e-4) calls it {classic}.",
        "训练损失末段：{shape}。最近的值为 {losses}；方差 {variance}，改善 {improvement}。"
        "经典规则（方差小于 1e-6 且改善小于 1e-4）的结论：{classic}。",
    ),
    "plateau": Text("a plateau", "平台期"),
    "no_plateau": Text("no plateau", "非平台期"),
    "outlook": Text(
        "If it goes on like this, the epochs that are left bring the loss down by another {gain}, towards {limit}.",
        "照此趋势，剩余轮次还能使损失再下降 {gain}，趋近于 {limit}。",
    ),
    "resembles": Text(
        "Among known pictures it resembles `{row}` most (distance {distance}, 0 is the same).",
        "在已知情形中最接近 `{row}`（距离 {distance}，0 表示相同）。",
    ),
    "others": Text("What else was noticed", "其他发现"),
    "ruled_out": Text("Ruled out", "已排除"),
    "doubtful": Text("Neither likely nor ruled out", "尚不能确定"),
    "not_judged": Text("Could not be judged from what was kept", "因缺少数据而无法判断"),
}

SHAPES: Mapping[str, Text] = {
    "unclear": Text("too short to tell", "轮次太少，无法判断"),
    "improving": Text("still falling", "仍在下降"),
    "flat": Text("flat", "平稳"),
    "rising": Text("rising", "上升"),
    "oscillating": Text("oscillating", "振荡"),
}

CAUSES: Mapping[str, Text] = {
    "data_at_fault": Text("faults of the data that the checks know", "数据检查已知的数据问题"),
    "input_ignored": Text("input that the network does not look at", "网络不利用输入图像"),
    "one_batch_not_learnt": Text("a set-up that cannot learn one batch", "连一个批次都学不会的设置"),
    "loss_not_finite": Text("NaN or infinite numbers", "NaN 或无穷大"),
    "gradients_exploding": Text("exploding gradients", "梯度爆炸"),
    "layers_frozen": Text("frozen layers", "被冻结的层"),
    "channels_dead": Text("dead channels", "死通道"),
    "gradients_vanishing": Text("vanishing gradients", "梯度消失"),
    "lr_decayed_early": Text("a learning rate that decayed too early", "学习率过早衰减"),
    "lr_too_low": Text("a learning rate that is too low", "学习率过低"),
    "lr_too_high": Text("a learning rate that is too high", "学习率过高"),
    "masks_unpredictable": Text("masks that do not follow from the images", "掩码与图像无关"),
    "collapse_to_background": Text("collapse to background", "坍缩为全背景"),
    "collapse_to_foreground": Text("collapse to foreground", "坍缩为全前景"),
    "loss_weights_wrong": Text("wrong weights in the loss", "损失权重失衡"),
    "batch_too_noisy": Text("a batch that is too small", "批次过小"),
    "network_too_large": Text("a network too large for the data", "网络相对数据过大"),
    "overfitting": Text("overfitting", "过拟合"),
    "train_scans_few": Text("too few training scans", "训练图像过少"),
    "labels_noisy": Text("contradicting masks", "掩码互相矛盾"),
    "initial_loss_off": Text("a first loss far from what theory says", "初始损失偏离理论值"),
    "data_loading_slow": Text("slow data loading", "数据加载过慢"),
}
