"""The sentences of what is noticed file by file while an upload is taken in."""

from __future__ import annotations

from collections.abc import Mapping

from octa_backend.diagnosis.text import Text

FILE_MESSAGES: Mapping[str, Text] = {
    # --- taking in a dataset: what does not fit ---
    "masks_not_found": Text(
        "no masks were found beside {count} images, for example {example}; put them into a folder masks/ beside "
        "images/ under the same names, or beside their images as name_mask.png",
        "{count} 个图像旁边没有找到掩码，例如 {example}；请将掩码以相同文件名放入与 images/ 并列的 masks/ 文件夹，"
        "或命名为 name_mask.png 与图像放在一起",
    ),
    "images_not_found": Text(
        "no images were found; put PNG, JPEG, TIFF, BMP or GIF files into a folder images/ and their masks under the "
        "same names into a folder masks/ beside it",
        "没有找到图像；请将 PNG、JPEG、TIFF、BMP 或 GIF 文件放入 images/ 文件夹，"
        "并将同名掩码放入与之并列的 masks/ 文件夹",
    ),
    "images_without_mask": Text(
        "{count} images have no mask, for example {example}; add a mask of the same name or leave the image out",
        "{count} 个图像没有掩码，例如 {example}；请添加同名掩码或去掉该图像",
    ),
    "masks_without_image": Text(
        "{count} masks have no image, for example {example}; add an image of the same name or leave the mask out",
        "{count} 个掩码没有图像，例如 {example}；请添加同名图像或去掉该掩码",
    ),
    "pairing_ambiguous": Text(
        "{count} images cannot be paired with one mask, for example {example}; keep one image and one mask of a name",
        "{count} 个图像无法与唯一的掩码配对，例如 {example}；同一名称请只保留一个图像和一个掩码",
    ),
    "duplicate_names": Text(
        "{count} names are in the archive more than once, for example {example}; pack each file once",
        "压缩包中有 {count} 个重复的文件名，例如 {example}；每个文件请只打包一次",
    ),
    "volumes_not_supported": Text(
        "{count} files are volumes of a kind that is not read, for example {example}; save them as NIfTI (.nii.gz)",
        "{count} 个文件的体数据格式无法读取，例如 {example}；请另存为 NIfTI（.nii.gz）",
    ),
    "volumes_and_pictures_mixed": Text(
        "{count} files are pictures among volumes, or volumes among pictures, for example {example}; a dataset holds "
        "one kind: upload the others as a dataset of their own",
        "{count} 个文件是体数据中的二维图像，或二维图像中的体数据，例如 {example}；"
        "一个数据集只能是其中一种：请将另一种单独上传",
    ),
    "format_not_supported": Text(
        "{count} files are of a kind that is not read, for example {example}; save them as PNG or TIFF",
        "{count} 个文件的格式无法读取，例如 {example}；请另存为 PNG 或 TIFF",
    ),
    "scan_unreadable": Text(
        "{count} files cannot be read, for example {example}; save and pack them again as PNG or TIFF",
        "{count} 个文件无法读取，例如 {example}；请重新保存为 PNG 或 TIFF 后再打包",
    ),
    "values_not_finite": Text(
        "{count} files hold values that are no numbers (NaN or infinity), for example {example}; export them again "
        "without",
        "{count} 个文件包含非数值（NaN 或无穷大），例如 {example}；请重新导出，去除这些值",
    ),
    "scan_too_large": Text(
        "{count} images have too many pixels, for example {example}; cut them into parts or make them smaller",
        "{count} 个图像的像素过多，例如 {example}；请裁剪或缩小图像",
    ),
    "scan_too_small": Text(
        "{count} images are too small, for example {example}; both sides need at least 16 pixels",
        "{count} 个图像过小，例如 {example}；两边都至少需要 16 像素",
    ),
    "scan_has_frames": Text(
        "{count} files hold several images, for example {example}; send one scan per file",
        "{count} 个文件包含多帧图像，例如 {example}；每个文件请只包含一幅扫描图像",
    ),
    "sizes_differ": Text(
        "{count} masks differ in size from their images: mask {mask} is {mask_size} but image {image} is {image_size}; "
        "export both from the same scan",
        "{count} 个掩码与其图像尺寸不同：掩码 {mask} 为 {mask_size}，而图像 {image} 为 {image_size}；"
        "请从同一扫描导出二者",
    ),
    "too_few_scans": Text(
        "the archive holds one scan, {example}; training needs at least 2, each with its mask",
        "压缩包只有一个扫描图像 {example}；训练至少需要 2 个，且各有掩码",
    ),
    "splits_not_understood": Text(
        "the official split cannot be used, {count} entries are at fault, for example {example}; splits.csv needs a "
        "column stem with the images' names and a column split with train, val or test, once per scan",
        "无法使用官方划分，{count} 处有误，例如 {example}；splits.csv 需要 stem 列（图像名称）和 split 列"
        "（train、val 或 test），每个扫描图像一行",
    ),
    "splits_without_train": Text(
        "the official split keeps all {count} scans for validation and test, for example {example}; "
        "mark some of them as train",
        "官方划分将全部 {count} 个扫描图像都用于验证和测试，例如 {example}；请将其中一部分标为 train",
    ),
    "masks_all_empty": Text(
        "all {count} masks are empty, for example {example}; every pixel is 0, so there is nothing to learn",
        "全部 {count} 个掩码都是空的，例如 {example}；所有像素均为 0，没有可学习的内容",
    ),
    "masks_all_foreground": Text(
        "none of the {count} masks has background, for example {example}; background is 0",
        "全部 {count} 个掩码都没有背景，例如 {example}；背景的值应为 0",
    ),
    # --- taking in a dataset: what is good to know ---
    "classes_not_understood": Text(
        "the names of the classes cannot be used, {count} entries are at fault, for example {example}; classes.csv "
        "needs the columns value (of the masks), name and, if wanted, colour as #rrggbb, one row per value",
        "无法使用类别名称，{count} 处有误，例如 {example}；classes.csv 需要 value 列（掩码中的值）、name 列，"
        "以及可选的 colour 列（#rrggbb），每个值一行",
    ),
    "masks_empty_some": Text(
        "{count} masks are empty, for example {example}; keep them if there is nothing to find in those scans",
        "{count} 个掩码是空的，例如 {example}；如果这些扫描图像中确实没有目标，可以保留",
    ),
    "splits_rows_unknown": Text(
        "{count} rows of the official split name no scan of the archive, for example {example}",
        "官方划分中有 {count} 行不对应压缩包中的任何扫描图像，例如 {example}",
    ),
    "scans_without_split": Text(
        "{count} scans are not in the official split, for example {example}; they are used for training",
        "{count} 个扫描图像不在官方划分中，例如 {example}；它们将用于训练",
    ),
    "files_ignored": Text(
        "{count} files are neither image nor mask and were ignored, for example {example}",
        "{count} 个文件既不是图像也不是掩码，已忽略，例如 {example}",
    ),
    "masks_passed_over": Text(
        "{count} further masks (a second grader's, or a field of view) were ignored, for example {example}",
        "{count} 个额外的掩码（第二位标注者或视野掩码）已忽略，例如 {example}",
    ),
    "channels_mixed": Text(
        "{count} images are grey among coloured ones, for example {example}; all were made RGB",
        "{count} 个图像是灰度图而其余为彩色，例如 {example}；已全部转换为 RGB",
    ),
}
