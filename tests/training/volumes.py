"""Volumes as a dataset store holds scans, in memory."""

from __future__ import annotations

import numpy as np

from octa_backend.data.store import Manifest, ScanEntry


class VolumeStore:
    """Noise volumes of two sizes with their bright voxels as masks: what training asks of a `DatasetStore`."""

    def __init__(self, shapes=((20, 40, 48), (24, 36, 36)), dtype=np.uint8, channels=1):
        random = np.random.default_rng(0)
        self.images = [random.integers(0, 256, (channels, *shape)).astype(dtype) for shape in shapes]
        entries = tuple(ScanEntry(f"v{i}", None, None, shape, "uint8", 0, 0) for i, shape in enumerate(shapes))
        self.manifest = Manifest(3, channels, 2, (0, 1), 0.1, entries)

    def image(self, index):
        return self.images[index]

    def mask(self, index):
        return (self.images[index][0] > 200).astype(np.uint8)
