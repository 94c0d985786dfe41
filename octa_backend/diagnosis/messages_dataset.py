"""The sentences of what the dataset's checks find, and the titles of their remedies."""

from __future__ import annotations

from collections.abc import Mapping

from octa_backend.diagnosis.text import Text

DATASET_MESSAGES: Mapping[str, Text] = {
    # --- encoding ---
    "masks_not_binary": Text(
        "{count} masks have up to {unique_values} unique values ({expected} expected), for example {example}; they "
        "were smoothed, saved as JPEG, or are no masks: save masks as PNG with 0 for background and 255 (or a class "
        "number up to 32) for what is to be found",
        "{count} 个掩码包含 {unique_values} 个唯一值 (期望 {expected} 个)，例如 {example}；可能经过平滑、"
        "被存为 JPEG，或者并不是掩码：请将掩码保存为 PNG，0 表示背景，255（或不超过 32 的类别编号）表示目标",
    ),
    "masks_grey_levels": Text(
        "{count} masks have {level_count} grey levels that look like classes, for example {example}; class numbers go "
        "up to 32: save them as {table}; or, where one thing alone is meant, cut them at a threshold (binarize_masks)",
        "{count} 个掩码包含 {level_count} 个灰度级，看起来是类别，例如 {example}；类别编号最大为 32："
        "请改存为 {table}；如果只有一种目标，请用阈值二值化（binarize_masks）",
    ),
    "masks_coloured": Text(
        "{count} masks are coloured, with up to {colour_count} colours, for example {example}; a mask holds one number "
        "per pixel: 0 for background and 255 (or a class number) for what is to be found",
        "{count} 个掩码是彩色的，最多有 {colour_count} 种颜色，例如 {example}；"
        "掩码的每个像素应为一个数：0 表示背景，255（或类别编号）表示目标",
    ),
    "masks_inverted": Text(
        "{count} of {total} masks seem to have foreground and background exchanged, for example {example}; what is to "
        "be found is 255 (or 1), background is 0",
        "{total} 个掩码中有 {count} 个的前景与背景似乎颠倒，例如 {example}；目标应为 255（或 1），背景应为 0",
    ),
    "range_compressed": Text(
        "{count} images use less than a tenth of their range, for example {example}; a few extreme pixels take the "
        "contrast of all others, because images are stretched from their least to their greatest value: clip them",
        "{count} 个图像只用到其取值范围的不到十分之一，例如 {example}；图像按最小值到最大值拉伸，"
        "少数极端像素会压低其余像素的对比度：请截断这些极端值",
    ),
    "depths_mixed": Text(
        "{count} of {total} images are deeper than 8 bit, for example {example}; 8-bit images are divided by 255, "
        "deeper ones stretched to their range, so they will differ in brightness: export all in one depth",
        "{total} 个图像中有 {count} 个的位深超过 8 位，例如 {example}；8 位图像除以 255，更深的图像按自身范围拉伸，"
        "亮度会不一致：请以同一位深导出全部图像",
    ),
    "alpha_varies": Text(
        "{count} images have a transparency that varies, for example {example}; it is not read: if it carries "
        "something that matters, put it into the colours",
        "{count} 个图像带有变化的透明通道，例如 {example}；透明通道不会被读取：如其中含有重要信息，请写入颜色通道",
    ),
    "alpha_constant": Text(
        "{count} images have a transparency channel that carries nothing, for example {example}; it is not read",
        "{count} 个图像带有不含信息的透明通道，例如 {example}；透明通道不会被读取",
    ),
    # --- content ---
    "masks_full": Text(
        "{count} masks are all foreground, for example {example}; nothing tells what is background there: draw them "
        "again or leave the scans out",
        "{count} 个掩码全部是前景，例如 {example}；无法从中得知什么是背景：请重新标注或去掉这些扫描图像",
    ),
    "foreground_scarce": Text(
        "mean foreground only {percent} % (<{threshold_percent} %); background outweighs it {ratio} to 1, so a network "
        "that finds nothing has a low loss: weigh the foreground",
        "平均前景占比仅 {percent} %（<{threshold_percent} %）；背景是前景的 {ratio} 倍，"
        "什么都不检出的网络也会有很低的损失：请提高前景的权重",
    ),
    "class_missing_in_split": Text(
        "{class_count} classes are missing in a split, for example {example}; what is not in train cannot be learnt, "
        "what is not in val or test is not measured",
        "有 {class_count} 个类别在某个划分中缺失，例如 {example}；训练集中没有的无法学习，"
        "验证集或测试集中没有的无法评估",
    ),
    "void_class": Text(
        "the masks have class numbers and {value}, on {percent} % of the pixels in {count} masks; it is class {class}, "
        "and if it marks what graders could not tell, it should not be learnt",
        "掩码中除类别编号外还有 {value}，出现在 {count} 个掩码中，占像素的 {percent} %；它是类别 {class}，"
        "如果它标记的是无法判断的区域，就不应参与学习",
    ),
    "class_rare": Text(
        "{class_count} classes are in fewer than {threshold} scans, for example {example}; add scans with them, or "
        "weigh the Dice loss more, which counts all classes alike",
        "有 {class_count} 个类别出现在不到 {threshold} 个扫描图像中，例如 {example}；"
        "请增加含有这些类别的扫描图像，或提高 Dice 损失的权重（它对各类别一视同仁）",
    ),
    "mask_misaligned": Text(
        "{count} masks would fit their images clearly better if they were shifted, by up to {furthest_pixels} pixels, "
        "for example {example} (rows, columns); export both from the same scan",
        "{count} 个掩码平移后与图像明显更吻合，最多平移 {furthest_pixels} 像素，例如 {example}（行、列）；"
        "请从同一扫描导出二者",
    ),
    "mask_unrelated": Text(
        "{count} of {total} masks have nothing to do with their images, neither with edges nor with brightness, for "
        "example {example}; look whether they belong to other scans",
        "{total} 个掩码中有 {count} 个与其图像的边缘和亮度都不相关，例如 {example}；请检查它们是否属于其他扫描图像",
    ),
    "scans_blank": Text(
        "{count} images show nothing, for example {example}; their grey levels are all alike (usual range: {usual})",
        "{count} 个图像没有内容，例如 {example}；其灰度几乎相同（通常的范围：{usual}）",
    ),
    "scans_dark": Text(
        "{count} images are dark, for example {example} mean brightness (usual: {usual}); export them with the "
        "exposure of the others",
        "{count} 个图像过暗，例如 {example}（平均亮度，通常为 {usual}）；请以与其他图像相同的曝光导出",
    ),
    "scans_overexposed": Text(
        "{count} images are overexposed, for example {example} of their values are white (usual: {usual}); what is "
        "white has no structure",
        "{count} 个图像过曝，例如 {example} 的像素为白色（通常为 {usual}）；白色区域没有结构信息",
    ),
    "scans_blurred": Text(
        "{count} images are blurred, for example {example} sharpness (usual: {usual}); thin structures are lost there",
        "{count} 个图像模糊，例如 {example}（清晰度，通常为 {usual}）；细小结构已丢失",
    ),
    "scans_low_information": Text(
        "{count} images have few grey levels, for example {example} (usual: {usual}); see whether they are masks, or "
        "were saved with too few colours",
        "{count} 个图像的灰度级过少，例如 {example}（通常为 {usual}）；请检查它们是否其实是掩码，或保存时颜色数过少",
    ),
    "sizes_vary": Text(
        "images have {size_count} sizes, commonest {common}; {extreme} are more than three times as long as wide. "
        "Training cuts patches of one size",
        "图像有 {size_count} 种尺寸，最常见的是 {common}；{extreme} 个的长宽比超过三倍。训练时会裁剪为统一大小的图块",
    ),
    "few_scans": Text(
        "there are only {scan_count} scans (<{threshold}); a smaller network generalises better from few",
        "只有 {scan_count} 个扫描图像（<{threshold}）；数据较少时，较小的网络泛化更好",
    ),
    # --- leakage ---
    "duplicates_within_split": Text(
        "{count} images are there again, exactly or nearly, for example {example}; they count double",
        "{count} 个图像（完全或近似）重复出现，例如 {example}；它们会被重复计入",
    ),
    "duplicates_two_masks": Text(
        "{count} images are there again with a clearly different mask, for example {example}; keep the right one",
        "{count} 个图像重复出现，但掩码明显不同，例如 {example}；请保留正确的那个",
    ),
    "duplicates_across_splits": Text(
        "{count} images are in both training and validation, exactly or nearly, for example {example}; the validation "
        "would measure memory: keep each in one split",
        "{count} 个图像（完全或近似）同时出现在训练集和验证集中，例如 {example}；"
        "验证结果将只反映记忆：每个图像请只保留在一个划分中",
    ),
    "duplicates_before_split": Text(
        "{count} images are there again, exactly or nearly, for example {example}; validation scans will be drawn from "
        "them, so that copies come into training and validation, which would measure memory: keep one of each",
        "{count} 个图像（完全或近似）重复出现，例如 {example}；验证集将从中抽取，重复图像会同时进入训练集和验证集，"
        "验证结果将只反映记忆：每个图像请只保留一个",
    ),
    "test_overlap": Text(
        "{count} images of the test are in training or validation, too, exactly or nearly, for example {example}; the "
        "test would measure memory: keep each in one split",
        "{count} 个图像（完全或近似）与测试集重复，例如 {example}；测试结果将只反映记忆：每个图像请只保留在一个划分中",
    ),
    "patient_across_splits": Text(
        "{patient_count} patients are in more than one split with {count} scans, for example {example}; both eyes of a "
        "patient are alike: keep each patient in one split",
        "{patient_count} 位患者的 {count} 个扫描图像分布在多个划分中，例如 {example}；"
        "同一患者的双眼相似：请将每位患者放在同一个划分中",
    ),
}

REMEDY_TITLES: Mapping[str, Text] = {
    "drop_unusable": Text("leave out what cannot be used", "去掉无法使用的文件和扫描图像"),
    "drop_duplicates": Text(
        "keep one of each image: test before val before train", "重复图像只保留一个：依次优先测试集、验证集、训练集"
    ),
    "map_colours": Text("give each colour its class number", "将每种颜色映射为类别编号"),
    "binarize_masks": Text("cut the values at one threshold", "用统一阈值将掩码二值化"),
    "invert_masks": Text("exchange foreground and background", "交换前景与背景"),
    "resize_masks": Text("bring masks to the size of their images", "将掩码调整为图像的尺寸"),
    "resample_spacing": Text("bring voxels to one size", "将体素统一为同一大小"),
    "drop_alpha": Text("save images without transparency", "去除图像的透明通道"),
    "regroup_splits": Text("put each patient into one split", "将每位患者归入同一个划分"),
    "pos_weight": Text("weigh foreground pixels {pos_weight} times", "将前景像素的权重设为 {pos_weight} 倍"),
    "ignore_index": Text("leave out the pixels of class {ignore_index}", "不计入类别 {ignore_index} 的像素"),
    "model": Text("train the network {model}", "改用网络 {model}"),
    "loss": Text(
        "weigh Dice {dice_weight} and cross-entropy {bce_weight}",
        "Dice 权重设为 {dice_weight}，交叉熵权重设为 {bce_weight}",
    ),
}
