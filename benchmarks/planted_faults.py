"""The faults that `data_doctor` plants in memory: each changes a few scans, and says which finding should notice it."""

from __future__ import annotations

from planted_images import (
    blank,
    blurred,
    dark,
    deep,
    few,
    few_greys,
    hot_pixels,
    overexposed,
    some_resized,
    with_alpha,
)
from planted_leaks import HOW_COPIED, copied_into, copied_with_other_mask, copied_within, torn_patients
from planted_masks import (
    classes_coloured,
    coloured,
    exchanged,
    full,
    grey_picture,
    inverted,
    missing_class,
    rare_class,
    scarce,
    shifted,
    smoothed,
    some_inverted,
    turned,
)
from planting import Fault, in_all, in_some

FAULTS = (
    Fault("masks_not_binary", "JPEG", ("jpeg 30", "jpeg 60", "jpeg 75", "jpeg 90", "jpeg 95"), in_some(smoothed)),
    Fault(
        "masks_not_binary", "smoothed", ("blur 0.5", "blur 1", "blur 2", "resize 0.5", "resize 2"), in_some(smoothed)
    ),
    Fault("masks_not_binary", "image as mask", (1, 2, 3, 4, 5), in_some(grey_picture)),
    Fault(
        "masks_coloured",
        "two colours",
        ("#000000 #ff0000", "#000080 #ff0000", "#ffffff #00aa00", "#000000 #ffff00 smooth", "#000000 #ff0000 jpeg"),
        in_some(coloured),
    ),
    Fault("masks_coloured", "three colours", ("#ff0000 #00ff00", "#ff0000 #ffff00") * 3, in_some(classes_coloured)),
    Fault("masks_inverted", "some", (0.05, 0.1, 0.2, 0.3, 0.4), some_inverted),
    Fault("masks_inverted", "all", (1, 2, 3, 4, 5), in_all(inverted)),
    Fault("range_compressed", "hot pixels", (1, 3, 10, 30, 100), in_all(hot_pixels)),
    Fault("depths_mixed", "some deeper", (10, 12, 14, 16, 16), in_some(deep)),
    Fault("alpha_varies", "alpha", ("varies",) * 5, in_some(with_alpha)),
    Fault("alpha_constant", "alpha", ("constant",) * 5, in_some(with_alpha)),
    Fault("masks_full", "all foreground", (1, 2, 3, 4, 5), in_some(full)),
    Fault("foreground_scarce", "1.9 to 0.1 %", (0.019, 0.015, 0.01, 0.004, 0.001), in_all(scarce)),
    Fault("class_missing_in_split", "of two", ("val", "test", "train", "val", "test"), missing_class),
    Fault("class_rare", "1 or 2 scans", (1, 1, 2, 2, 2), rare_class),
    Fault("mask_misaligned", "4 to 20 pixels", (4, 6, 8, 12, 20), in_some(shifted)),
    Fault("mask_unrelated", "exchanged", (1, 2, 3, 4, 5), exchanged),
    Fault("mask_unrelated", "all exchanged", ("all",) * 5, exchanged),
    Fault("mask_unrelated", "mirrored", ("up_down", "left_right", "both", "up_down", "left_right"), in_some(turned)),
    Fault("scans_blank", "with noise", (0.0, 0.5, 1.0, 2.0, 4.0), in_some(blank)),
    Fault("scans_dark", "times 0.02 to 0.15", (0.02, 0.05, 0.08, 0.12, 0.15), in_some(dark), "scans_blank"),
    Fault("scans_overexposed", "25 to 70 % white", (0.25, 0.3, 0.4, 0.55, 0.7), in_some(overexposed)),
    Fault("scans_blurred", "Gaussian 2 to 8", (2, 3, 4, 6, 8), in_some(blurred)),
    Fault("scans_low_information", "2 to 4 levels", (0, 2, 2, 3, 4), in_some(few_greys)),
    Fault("few_scans", "3 to 49", (3, 10, 20, 35, 49), few),
    Fault("sizes_vary", "some resized", (0.5, 0.7, 0.9, 1.2, 1.5), some_resized),
    Fault("duplicates_before_split", "copies", HOW_COPIED, copied_within),
    Fault(
        "duplicates_two_masks", "copies", ("exact", "jpeg 75", "bright 30", "noise 8", "exact"), copied_with_other_mask
    ),
    Fault("duplicates_across_splits", "train in val", HOW_COPIED, copied_into("train", "val")),
    Fault("test_overlap", "test in train", HOW_COPIED, copied_into("test", "train")),
    Fault("test_overlap", "val in test", HOW_COPIED, copied_into("val", "test")),
    Fault("patient_across_splits", "torn", (0.05, 0.1, 0.3, 0.6, 1.0), torn_patients),
)
"""Every check of values, pixels, names and splits. Those of files are planted in zips: see `data_doctor`."""
