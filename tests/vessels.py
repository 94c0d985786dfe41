"""Vessel masks of known shape."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree


def bar(width: float, *, length: float = 140, degrees: float = 0.0, side: int = 200) -> np.ndarray:
    """A straight bar near the middle of a square picture; 0 degrees lie along the rows.

    Its middle is at no special place of a pixel, so that its pixels are as many as its area.
    """
    angle = np.radians(degrees)
    down, right = np.mgrid[:side, :side] - side / 2 - 0.3
    along, across = right * np.cos(angle) + down * np.sin(angle), down * np.cos(angle) - right * np.sin(angle)
    return (np.abs(along) < length / 2) & (np.abs(across) < width / 2)


def exact_bar(width: int, *, length: int = 140, side: int = 200) -> np.ndarray:
    """A bar along the rows with exactly `width` times `length` pixels."""
    mask = np.zeros((side, side), bool)
    mask[side // 2 : side // 2 + width, 30 : 30 + length] = True
    return mask


def tube(points: np.ndarray, width: float, shape: tuple[int, int]) -> np.ndarray:
    """The pixels nearer than half of `width` to a dense curve of rows and columns, (N, 2)."""
    pixels = np.argwhere(np.ones(shape, bool))
    distance, _ = KDTree(points).query(pixels)
    return (distance < width / 2).reshape(shape)


def sine(amplitude: float, period: float, waves: int) -> np.ndarray:
    """A dense sine curve along the columns, (N, 2), from column 40 on."""
    columns = np.linspace(0, period * waves, 400 * waves)
    return np.stack((60 + amplitude * np.sin(2 * np.pi * columns / period), 40 + columns), axis=1)


def ellipse_ring(
    down: float, right: float, *, width: float = 4, side: int = 200, middle: tuple[float, float] | None = None
) -> np.ndarray:
    """A ring around an elliptic hole with these half axes."""
    row, column = middle or ((side - 1) / 2, (side - 1) / 2)
    y, x = np.mgrid[:side, :side].astype(float)
    hole = np.hypot((y - row) / down, (x - column) / right)
    return (hole >= 1) & (np.hypot((y - row) / (down + width), (x - column) / (right + width)) < 1)


def carpet(depth: int) -> np.ndarray:
    """Sierpinski's carpet, 3 ** depth pixels a side: its dimension is log 8 / log 3."""
    mask = np.ones((1, 1), bool)
    for _ in range(depth):
        hole = np.zeros_like(mask)
        mask = np.block([[mask, mask, mask], [mask, hole, mask], [mask, mask, mask]])
    return mask
