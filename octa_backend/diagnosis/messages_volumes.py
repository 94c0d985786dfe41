"""The sentences of what the checks of volumes find."""

from __future__ import annotations

from collections.abc import Mapping

from octa_backend.diagnosis.text import Text

VOLUME_MESSAGES: Mapping[str, Text] = {
    # --- taking in volumes: what does not fit ---
    "volume_unreadable": Text(
        "{count} volumes cannot be read, for example {example}; save and pack them again as NIfTI (.nii.gz) or as TIFF "
        "stacks",
        "{count} 个体数据无法读取，例如 {example}；请重新保存为 NIfTI（.nii.gz）或 TIFF 堆栈后再打包",
    ),
    "volume_single_slice": Text(
        "{count} files are a single slice, for example {example}",
        "{count} 个文件只有一个切片，例如 {example}；请作为二维图像（PNG 或 TIFF）上传",
    ),
    "volume_fourth_axis": Text(
        "{count} files have a fourth axis, for example {example}",
        "{count} 个文件带有第四个维度，例如 {example}；请每个文件只保存一个体数据",
    ),
    "volume_too_small": Text(
        "{count} volumes are too small, for example {example}",
        "{count} 个体数据过小，例如 {example}；较长的两边各至少需要 16 个体素",
    ),
    "volume_too_large": Text(
        "{count} volumes have too many voxels, for example {example}; cut them into parts or make them coarser",
        "{count} 个体数据的体素过多，例如 {example}；请裁剪或降低分辨率",
    ),
    "volume_mask_fractions": Text(
        "{count} masks hold fractions, for example {example}; they were probably interpolated when they were resampled:"
        " use the nearest neighbour for masks",
        "{count} 个掩码包含小数，例如 {example}；可能是重采样时做了插值：掩码请使用最近邻重采样",
    ),
    "volume_mask_values": Text(
        "{count} masks hold values that are no class numbers, for example {example}; they lie in 0 to 65535, and "
        "background is 0",
        "{count} 个掩码中的值不是类别编号，例如 {example}；取值应在 0 到 65535 之间，背景为 0",
    ),
    "volume_masks_unclear": Text(
        "the values of the {count} masks make no sense as classes, for example {example}; 0 is background, and classes "
        "are numbers up to 32",
        "{count} 个掩码的值无法作为类别理解，例如 {example}；0 表示背景，类别编号不超过 32",
    ),
    "volume_shapes_differ": Text(
        "{count} files differ in size from the image of their case, for example {example} (slices×rows×columns, after "
        "both were turned to one orientation); export all files of a case from one grid",
        "{count} 个文件与同一病例图像的尺寸不同，例如 {example}（切片×行×列，已统一方向）；"
        "请从同一网格导出同一病例的所有文件",
    ),
    "volume_affines_differ": Text(
        "{count} files lie elsewhere in space than the image of their case, for example {example}; their affine "
        "matrices must agree: export them from one grid, or copy the image's header",
        "{count} 个文件与同一病例图像的空间位置不同，例如 {example}；"
        "仿射矩阵必须一致：请从同一网格导出，或复制图像的头信息",
    ),
    "modalities_differ": Text(
        "{count} cases have other images than most, for example {example}; every case needs the same modalities",
        "{count} 个病例的图像与多数病例不同，例如 {example}；每个病例需要相同的模态",
    ),
    # --- taking in volumes: what is good to know ---
    "dataset_json_not_understood": Text(
        "the names in {count} dataset.json cannot be used: {example}; channel_names (or modality) and labels are "
        "expected, each a number and a name",
        "无法使用 {count} 个 dataset.json 中的名称：{example}；"
        "应包含 channel_names（或 modality）和 labels，各为编号与名称",
    ),
    "volumes_unlabelled": Text(
        "{count} cases of a test or validation folder have no masks and were left out, for example {example}",
        "测试或验证文件夹中有 {count} 个病例没有掩码，已略过，例如 {example}",
    ),
    # --- content ---
    "volume_constant": Text(
        "{count} volumes hold one value only, for example {example}; there is nothing to see in them",
        "{count} 个体数据只有一个值，例如 {example}；其中没有内容",
    ),
    "volume_field_cut": Text(
        "in {count} volumes the field of view ends within what is marked, for example {example}; planes beyond it hold "
        "only 0",
        "{count} 个体数据的视野在标注区域内就结束了，例如 {example}；其外的平面全部为 0",
    ),
    "volume_planes_constant": Text(
        "{count} volumes have planes of one value among the others, for example {example}; slices may have been lost",
        "{count} 个体数据中夹有只含单一值的平面，例如 {example}；可能丢失了切片",
    ),
    "spacing_outliers": Text(
        "{count} of {total} volumes have voxels of another size than most, for example {example}; usual: {usual} mm "
        "(slices, rows, columns). The network sees voxels, not millimetres: bring them to one size",
        "{total} 个体数据中有 {count} 个的体素大小与多数不同，例如 {example}；通常为 {usual} 毫米（切片、行、列）。"
        "网络看到的是体素而不是毫米：请统一体素大小",
    ),
    "intensities_wild": Text(
        "the intensities of the volumes differ by a factor of {ratio}, for example {example} (median of what is not 0);"
        " each volume is normalised by itself (normalisation=zscore_nonzero, the default for volumes), and unit scaling"
        " would not do",
        "体数据的强度相差 {ratio} 倍，例如 {example}（非零值的中位数）；每个体数据单独归一化"
        "（normalisation=zscore_nonzero，体数据的默认值），仅做单位缩放是不够的",
    ),
}
