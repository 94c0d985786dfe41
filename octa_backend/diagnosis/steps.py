"""What a step of a repair is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one scan.

    Attributes:
        remedy: a code of `DATASET_REMEDIES`.
        scan: the scan's name; for a file without partner its path.
        details: JSON-serialisable facts that say exactly what is done:
            drop_unusable: {"reason": finding code}
            drop_duplicates: {"same_as": scan name}
            map_colours: {"colours": {"#rrggbb": mask value, …}}: every pixel takes the value of the nearest colour
            binarize_masks: {"threshold": t}: values above t (in the mask's own values) become 255, others 0
            invert_masks: {}: 0 becomes 255, everything else 0
            resize_masks: {"size": "W×H", "turn": "none" | "transpose" | "rotate_90" | "rotate_270"}: turned, then
                brought to the image's size by nearest neighbour; "transpose" stands for whichever of the last three
                fits the image best
            drop_alpha: {}: the image is saved without its alpha channel
            resample_spacing: {"spacing_mm": [D, H, W]}: of a volume, that its voxels shall have
            regroup_splits: {"split": "train" | "val" | "test", "before": …}
    """

    remedy: str
    scan: str
    details: Mapping[str, Any]
