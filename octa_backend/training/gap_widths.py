"""How wide the gap between objects is in which each pixel of a scan lies: computed once per scan, and kept.

The original U-Net's loss looks at it. Finding the objects of a scan takes longer than a training step on a GPU, so the
widths lie beside the prepared scans for all epochs, and all trainings, and go along with the mask through patches and
augmentation. They stay those of the whole scan as it was uploaded: a patch knows of objects beyond its edge, and a scan
that is shown 10 % larger weighs its gaps as before.

Shapes: *spatial: H x W pixels or D x H x W voxels.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from octa_backend.data.store import DatasetStore
from octa_backend.storage.files import write_aside
from octa_backend.training.distance_maps import gap_widths
from octa_backend.training.ignored import without_ignored

FOLDER = "gap-widths"
"""Below the prepared dataset."""

FAR = 60000.0
"""Pixels; stands for infinitely far, so that widths can be resampled. The largest float16 is 65504."""


def kept_gap_widths(store: DatasetStore, index: int, ignore_index: int | None) -> NDArray[np.float16]:
    """Gap widths of one scan, see `distance_maps.gap_widths`; computed where no training has done so before.

    Args:
        store: the dataset.
        index: of the scan.
        ignore_index: the class of the dataset that counts as background here, or None.

    Returns:
        float16 (*spatial), pixels, at most `FAR`: a read-only view of the file.
    """
    name = str(index) if ignore_index is None else f"{index}-without-{ignore_index}"
    path = store.folder / FOLDER / f"{name}.npy"
    if not path.exists():
        mask = torch.from_numpy(without_ignored(store.mask(index), ignore_index).astype(np.int64))
        widths = gap_widths(mask[None])[0].clamp(max=FAR).numpy().astype(np.float16)
        path.parent.mkdir(exist_ok=True)
        content = io.BytesIO()
        np.save(content, widths)
        _keep(path, content.getvalue())
    found: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return found


def _keep(path: Path, content: bytes) -> None:
    try:
        write_aside(path, content)
    except PermissionError:  # Windows replaces no file that somebody reads: another training was quicker
        if not path.exists():
            raise
