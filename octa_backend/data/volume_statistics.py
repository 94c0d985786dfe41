"""What is known of every volume after the one pass over a dataset: the numbers that its checks judge."""

from __future__ import annotations

from dataclasses import dataclass

from octa_backend.data.masks import MaskValues
from octa_backend.data.volume_geometry import Box


@dataclass(frozen=True, slots=True)
class VolumeImageStatistics:
    """Numbers of one volume, over all its channels.

    Attributes:
        shape: (D, H, W) in voxels.
        channels: how many modalities.
        dtype: "uint8", "uint16" or "float32", as decoded.
        spacing_mm: (D, H, W); 1 each where the file knows none.
        digest: of the decoded voxels and their shape.
        low, high: least and greatest value, as decoded.
        typical: for each channel the median of what is not 0; 0 of an empty channel.
        content: the smallest box around what is not 0 in any channel; None where all is 0.
        constant_planes: for D, H and W, how many planes inside `content` hold one value only.
    """

    shape: tuple[int, ...]
    channels: int
    dtype: str
    spacing_mm: tuple[float, ...]
    digest: str
    low: float
    high: float
    typical: tuple[float, ...]
    content: Box | None
    constant_planes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class VolumeMaskStatistics:
    """Numbers of one mask; foreground is what is not 0.

    Attributes:
        digest: of the voxels and their shape.
        values: the different values.
        counts: (value, voxels) in rising order; empty where there are more than `masks.MAX_CLASSES` values.
        foreground_fraction: share of voxels that are foreground.
        content: the smallest box around the foreground; None of an empty mask.
        border_share: for D, H and W, and for both ends: foreground in the outermost plane of the image's content, as a
            share of the plane that has most. 0 of an empty mask or image.
    """

    digest: str
    values: MaskValues
    counts: tuple[tuple[int, int], ...]
    foreground_fraction: float
    content: Box | None
    border_share: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class VolumeStatistics:
    """One case: what its names say, and the numbers of its image and its mask.

    Attributes:
        name: unique in the dataset.
        image, mask: paths of the first image and of the mask.
        patient: the patient that the name shows, or None.
        split: "train", "val", "test", or None where the dataset has no official split.
    """

    name: str
    image: str
    mask: str
    patient: str | None
    split: str | None
    of_image: VolumeImageStatistics
    of_mask: VolumeMaskStatistics
