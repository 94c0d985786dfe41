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
    "labels_not_judged": Text(
        "The model agrees too little with the masks to review them: its median Dice is {median_dice}, and from "
        "{least_dice} on it can be relied upon. Train longer or with other options, and look at the findings about "
        "the masks.",
        "模型与掩码的一致程度过低，无法用来复查：Dice 中位数为 {median_dice}，达到 {least_dice} 才可靠。"
        "请延长训练或更换训练选项，并查看有关掩码的检查结果。",
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
    "masks_beside": Text(
        "Practically all masks lie a little to the same side of what they show: {columns} pixels to the right and "
        "{rows} pixels down (negative: left, up), in the mean of {scans} scans. The network learns that, so the plan "
        "leaves out mirrored and turned scans, in which they would lie on the other side. Resizing and other pixel "
        "grids bring such an offset about; where exact places matter, export the masks on the scans' own grid.",
        "几乎所有掩码都向同一侧略微偏离其对应的结构：{scans} 个扫描平均向右 {columns} 像素、向下 {rows} 像素"
        "（负值为向左、向上）。网络会学到这一偏移，因此训练方案不使用镜像和旋转的扫描，否则掩码会落在另一侧。"
        "缩放或像素网格不一致会造成这种偏移；若位置精度重要，请按扫描自身的网格重新导出掩码。",
    ),
    "pretrained_taken": Text(
        "All {total} parameters begin as those of {source} (pretrained).",
        "全部 {total} 个参数均取自 {source}（pretrained）。",
    ),
    "pretrained_partly_taken": Text(
        "{taken} of {total} parameters begin as those of {source} (pretrained); {count} begin fresh, because there "
        "they have another size (≠) or are missing (∅): {example}.",
        "{total} 个参数中有 {taken} 个取自 {source}（pretrained）；其余 {count} 个重新初始化，"
        "因为其尺寸不同（≠）或来源中不存在（∅）：{example}。",
    ),
    "stopped_early": Text(
        "The validation Dice has not risen for {patience} epochs (patience), so the training ended; the best epoch is "
        "{best_epoch} with {best_val_dice}. It goes on with more epochs or another lr.",
        "验证 Dice 已连续 {patience} 轮没有提高（patience），训练提前结束；最佳轮次为第 {best_epoch} 轮，"
        "Dice 为 {best_val_dice}。增加 epochs 或更换 lr 后可继续训练。",
    ),
    "time_used_up": Text(
        "{max_minutes} minutes are over (max_minutes), so the training ended after {epochs} epochs. It goes on with "
        "more epochs or another lr.",
        "已用完 {max_minutes} 分钟（max_minutes），训练在第 {epochs} 轮后结束。增加 epochs 或更换 lr 后可继续训练。",
    ),
    "out_of_memory": Text(
        "{scans} scans at once do not fit into the memory of {device}; from now on it computes {halved} at once and "
        "averages their gradients, so that a step sees as many as before.",
        "{device} 的内存无法同时容纳 {scans} 个扫描；此后每次只计算 {halved} 个并对梯度取平均，"
        "每一步所用的扫描数不变。",
    ),
    "not_compiled": Text(
        "The network could not be compiled on {device} ({cause}), so it trains uncompiled: the results are the same, "
        "only slower. Set compile=off, or install what is missing (on a CPU a C++ compiler).",
        "网络无法在 {device} 上编译（{cause}），因此以未编译的方式训练：结果相同，只是较慢。"
        "请设置 compile=off，或安装缺少的组件（CPU 上需要 C++ 编译器）。",
    ),
    "went_back": Text(
        "The loss became NaN or infinite, so the run went back to the checkpoint of epoch {after} (0: to its first "
        "weights) and goes on with half the learning rate: {changes} (time {number} of at most {most}).",
        "损失变为 NaN 或无穷大，训练已退回到第 {after} 轮的检查点（0 表示初始权重），并以一半的学习率继续：{changes}"
        "（第 {number} 次，最多 {most} 次）。",
    ),
    "treated_further": Text(
        "The run took the remedy {remedy} against {cause} by itself (auto_heal, {number} of at most {most}): "
        "{changes}. It goes on from the weights of epoch {after} until epoch {epochs}.",
        "训练已针对 {cause} 自动采用处置 {remedy}（auto_heal，第 {number} 次，最多 {most} 次）：{changes}。"
        "从第 {after} 轮的权重继续训练到第 {epochs} 轮。",
    ),
    "treated_anew": Text(
        "The run took the remedy {remedy} against {cause} by itself (auto_heal, {number} of at most {most}): "
        "{changes}. It begins anew after epoch {after} and ends with epoch {epochs}; "
        "the best epoch of all counts.",
        "训练已针对 {cause} 自动采用处置 {remedy}（auto_heal，第 {number} 次，最多 {most} 次）：{changes}。"
        "第 {after} 轮之后重新开始，到第 {epochs} 轮结束；最终取所有轮次中最好的一轮。",
    ),
}
