"""The sentences of the training doctor, and the titles of its remedies."""

from __future__ import annotations

from collections.abc import Mapping

from octa_backend.diagnosis.text import Text

DOCTOR_MESSAGES: Mapping[str, Text] = {
    # --- causes, in the order of the verdict ---
    "data_at_fault": Text(
        "The run does badly, and the checks of the data found what may explain it: {findings}. Look at the data before "
        "the settings: where it is an error, no setting of the training helps, so repair it first.",
        "训练效果差，数据检查已发现可能的原因：{findings}。请先检查数据，再调整训练设置；"
        "其中的错误（error）无法靠训练设置弥补，请先修复。",
    ),
    "input_ignored": Text(
        "A copy of the network did as well on a batch of which all intensities were set to 0 (loss {zeroed_input_loss} "
        "instead of {loss}): it does not look at the images. See whether the images show anything after normalisation.",
        "将一个批次的全部灰度置零后，网络副本的表现几乎不变（损失为 {zeroed_input_loss}，原为 {loss}）："
        "网络没有利用图像。请检查归一化之后图像是否仍有内容。",
    ),
    "one_batch_not_learnt": Text(
        "A copy of the network could not learn a single batch by heart: "
        "Dice {overfit_dice} after {overfit_steps} steps "
        "on it alone. A working set-up always can; look at masks, loss and learning rate before training on.",
        "网络副本连一个批次都无法记住：只在该批次上训练 {overfit_steps} 步后 Dice 仅为 {overfit_dice}。"
        "正常的设置总能做到；请先检查掩码、损失函数和学习率。",
    ),
    "loss_not_finite": Text(
        "{what} became NaN or infinite in epoch {epoch} at lr {lr}; the "
        "last finished epoch is kept. Usual causes: steps "
        "that are too large, half precision, or a scan that holds NaN.",
        "第 {epoch} 轮中 {what} 变为 NaN 或无穷大（学习率 {lr}）；此前完成的轮次已保留。"
        "常见原因：步长过大、半精度溢出，或扫描图像中含有 NaN。",
    ),
    "gradients_exploding": Text(
        "The gradient of {group} has a norm of {norm} (over {threshold}): single steps throw the weights far off.",
        "{group} 的梯度范数为 {norm}（超过 {threshold}）：单个训练步就会把权重推得过远（梯度爆炸）。",
    ),
    "layers_frozen": Text(
        "{count} parts of the network do not learn, their weights stand still while the others move: {names}.",
        "网络有 {count} 个部分没有在学习，其权重不变而其他部分在更新：{names}。",
    ),
    "channels_dead": Text(
        "{percent} % of all channels give 0 for every scan, in {layer} {layer_percent} %: dead channels learn nothing "
        "any more, mostly after steps that were too large early on.",
        "全部通道中有 {percent} % 对所有扫描图像都输出 0，在 {layer} 中为 {layer_percent} %：死通道不再学习，"
        "多因训练初期步长过大。",
    ),
    "gradients_vanishing": Text(
        "Hardly any gradient reaches {group}: its norm is {norm} there and {output_norm} at the output, {ratio} times "
        "as much. Those layers cannot adapt to your images.",
        "梯度几乎传不到 {group}：那里的范数为 {norm}，输出端为 {output_norm}，相差 {ratio} 倍（梯度消失）。"
        "这些层无法适应您的图像。",
    ),
    "lr_decayed_early": Text(
        "The schedule {scheduler} brought the learning rate from {peak_lr} "
        "down to {lr}; since epoch {epoch} of {epochs} "
        "it has been too small to change anything, and the loss has stood still.",
        "学习率调度 {scheduler} 已将学习率从 {peak_lr} 降到 {lr}；自第 {epoch} 轮（共 {epochs} 轮）起"
        "学习率已小到不起作用，损失停滞不动。",
    ),
    "lr_too_low": Text(
        "The learning rate {lr} is too low: the loss has fallen by {drop_percent} % so far, in steps that hardly move "
        "the weights.",
        "学习率 {lr} 过低：到目前为止损失只下降了 {drop_percent} %，每一步几乎不改变权重。",
    ),
    "lr_too_high": Text(
        "The learning rate {lr} is too high: weights are thrown rather "
        "than moved. The loss swings by {noise_percent} % "
        "from epoch to epoch and is {above_best_percent} % above its best.",
        "学习率 {lr} 过高：权重更新幅度过大。损失在各轮之间波动 {noise_percent} %，比最低值高 {above_best_percent} %。",
    ),
    "masks_unpredictable": Text(
        "After {epochs} epochs the best validation Dice is {best_dice}, where calling everything foreground gives "
        "{trivial_dice}; the steps are of a sensible size. Nothing in the images seems to predict the masks: see "
        "whether each mask belongs to its image.",
        "{epochs} 轮之后，最好的验证 Dice 为 {best_dice}，而把全部像素判为前景也有 {trivial_dice}；训练步长是合理的。"
        "图像中似乎没有任何内容能预测掩码：请检查每个掩码是否属于对应的图像。",
    ),
    "collapse_to_background": Text(
        "The network calls far too little foreground (recall {recall}): "
        "where foreground counts little, finding nothing "
        "is the cheapest answer. {true_percent} % of the pixels are foreground.",
        "网络判出的前景远远不足（召回率 {recall}）：当前景权重很小时，什么都不检出是代价最低的答案。"
        "实际前景占像素的 {true_percent} %。",
    ),
    "collapse_to_foreground": Text(
        "The network calls far too much foreground (precision {precision}); {true_percent} % of the pixels are. Missed "
        "foreground costs so much that false foreground does not matter.",
        "网络判出的前景过多（精确率 {precision}）；实际前景占像素的 "
        "{true_percent} %。漏检的代价过大，误检几乎不受惩罚。",
    ),
    "loss_weights_wrong": Text(
        "The loss stands still because its parts are out of balance: {component} stays at {value} while the other part "
        "decides. Weigh the parts otherwise.",
        "损失停滞是因为各组成部分失衡：{component} 停留在 {value}，训练由另一部分主导。请调整各部分的权重。",
    ),
    "batch_too_noisy": Text(
        "A step sees {scans} scans, but the gradients differ so much from scan to scan that about {noise_scale} would "
        "be needed for a clear direction: steps are mostly chance.",
        "每步只看 {scans} 个扫描图像，但各扫描的梯度差异很大，约需 "
        "{noise_scale} 个才能得到明确的方向：训练步主要是随机的。",
    ),
    "overfitting": Text(
        "The network learns the training scans by heart: the validation loss has not got better since epoch "
        "{best_epoch}, while the training loss went on falling (now {train_loss}, against {val_loss}).",
        "网络在死记训练图像（过拟合）：验证损失自第 {best_epoch} 轮以来没有改善，"
        "而训练损失仍在下降（目前为 {train_loss}，验证损失为 {val_loss}）。",
    ),
    "network_too_large": Text(
        "{parameters_million} million parameters are many for {scans} training scans: the validation loss is {gap} "
        "times the training loss.",
        "对 {scans} 个训练图像来说，{parameters_million} 百万个参数过多：验证损失是训练损失的 {gap} 倍。",
    ),
    "train_scans_few": Text(
        "Only {scans} scans train, in {steps} steps altogether: what the network learns from them may not hold for "
        "others. More scans help most; until then train longer, and augment more.",
        "仅有 {scans} 个训练图像，总共 {steps} 个训练步：从中学到的内容未必适用于其他图像。"
        "增加图像最有效；在此之前请延长训练并加强数据增强。",
    ),
    "labels_noisy": Text(
        "The training loss stands still at {train_loss}, the validation loss is about the same ({val_loss}), and the "
        "settings are sound: the masks seem to contradict each other. Look them through, or let octa diagnose --model "
        "rank them.",
        "训练损失停在 {train_loss}，验证损失相近（{val_loss}），而各项设置正常：掩码之间似乎互相矛盾。"
        "请复查掩码，或用 octa diagnose --model 排序。",
    ),
    "initial_loss_off": Text(
        "Before the first step the loss is {initial_loss}, where a network that is undecided everywhere has "
        "{expected_initial_loss}: it begins sure of wrong answers and has to unlearn them first. Look for extreme "
        "intensities after normalisation, and at how the last layer is initialised.",
        "第一步之前的损失为 {initial_loss}，而对各处都没有倾向的网络应为 {expected_initial_loss}："
        "网络一开始就确信错误的答案，必须先纠正。请检查归一化之后是否有极端灰度，以及最后一层的初始化。",
    ),
    "data_loading_slow": Text(
        "{percent} % of the time the training waits for data: it learns as well as otherwise, but slower. Put the data "
        "on a faster disk, or take less augmentation.",
        "训练有 {percent} % 的时间在等待数据：学习效果不受影响，但速度变慢。请将数据放到更快的磁盘，或减少数据增强。",
    ),
    # --- a run without a fault ---
    "too_early": Text(
        "Too early to judge: {epochs} epochs are done, {awaited} are needed for a trend.",
        "现在判断为时过早：已完成 {epochs} 轮，至少需要 {awaited} 轮才能看出趋势。",
    ),
    "still_learning": Text(
        "The training is healthy: after {epochs} epochs the loss still falls; the best validation Dice is {best_dice}.",
        "训练正常：{epochs} 轮之后损失仍在下降；最好的验证 Dice 为 {best_dice}。",
    ),
    "converged": Text(
        "The training is done, not stuck: the loss came far down and "
        "stands still, with a validation Dice of {best_dice} "
        "after {epochs} epochs.",
        "训练已收敛，并非停滞：损失已大幅下降并趋于平稳，{epochs} 轮后验证 Dice 为 {best_dice}。",
    ),
    "stuck_unexplained": Text(
        "The loss does not get better ({shape}) and the validation Dice is {best_dice} at best after {epochs} epochs, "
        "but none of the known causes fits well enough to be named.",
        "损失不再改善（{shape}），{epochs} 轮之后验证 Dice 最高只有 {best_dice}，但没有一种已知原因足以解释。",
    ),
}

DOCTOR_REMEDY_TITLES: Mapping[str, Text] = {
    "lower_lr": Text("lower the learning rate to {lr}", "将学习率降到 {lr}"),
    "raise_lr": Text("raise the learning rate to {lr}", "将学习率提高到 {lr}"),
    "warm_up": Text(
        "let the learning rate rise to {lr} over {warmup_epochs} epochs", "用 {warmup_epochs} 轮将学习率逐渐升到 {lr}"
    ),
    "keep_lr_up": Text("let the learning rate fall with {scheduler}", "改用 {scheduler} 学习率调度"),
    "clip_gradients": Text("clip gradients at a norm of {gradient_clipping}", "将梯度范数裁剪到 {gradient_clipping}"),
    "full_precision": Text("compute in {precision}", "改用 {precision} 精度计算"),
    "accumulate": Text(
        "average {accumulation_steps} batches into a step", "每步对 {accumulation_steps} 个批次的梯度取平均"
    ),
    "unweigh_foreground": Text(
        "weigh foreground pixels {pos_weight} times only", "将前景像素的权重降为 {pos_weight} 倍"
    ),
    "another_loss": Text("take the loss {loss}", "改用损失函数 {loss}"),
    "augment_more": Text("change scans more at random: {augmentation}", "加强数据增强：{augmentation}"),
    "decay_weights": Text("decay weights by {weight_decay}", "将权重衰减设为 {weight_decay}"),
    "stop_early": Text(
        "end after {patience} epochs without a better validation", "验证连续 {patience} 轮没有提高时提前结束"
    ),
    "more_epochs": Text("train {epochs} epochs", "训练 {epochs} 轮"),
    "train_longer": Text(
        "train {epochs} epochs with strong augmentation, from the beginning", "使用强数据增强从头训练 {epochs} 轮"
    ),
}
