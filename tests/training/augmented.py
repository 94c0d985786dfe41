"""Augmentation without planes that go along."""

from __future__ import annotations

from octa_backend.training import augmentation
from octa_backend.training.augmentation_options import STANDARD


def augment(image, mask, generator, options=STANDARD):
    """An image and its mask, augmented."""
    found = augmentation.augment(image, mask, None, generator, options)
    return found.image, found.mask
