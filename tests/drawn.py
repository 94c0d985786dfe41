"""Masks drawn by hand."""

from __future__ import annotations

import numpy as np


def drawn(*rows: str) -> np.ndarray:
    """A bool mask from rows of text: `#` is foreground."""
    return np.array([[mark == "#" for mark in row] for row in rows])


def as_text(mask: np.ndarray) -> list[str]:
    """The rows that `drawn` would take."""
    return ["".join("#" if pixel else "." for pixel in row) for row in mask]
