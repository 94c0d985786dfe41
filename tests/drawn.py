"""Masks drawn by hand."""

from __future__ import annotations

import numpy as np


def drawn(*rows: str) -> np.ndarray:
    """A bool mask from rows of text: `#` is foreground."""
    return np.array([[mark == "#" for mark in row] for row in rows])
