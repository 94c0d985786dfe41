"""Band-passed images with even contrast: structures, without noise, lighting, or the strength of single edges."""

# Shapes: P planes, H x W pixels or cells, F x G frequencies of their real Fourier transform.

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

LOCAL_CONTRAST = 0.1
"""Details are divided by the contrast around them plus this share of the whole plane's, so that a strong border does
not outweigh what is inside, and noise on black is not raised."""


def evened_details(planes_HW: NDArray[Any], coarse_sigma: float, local_sigma: float) -> NDArray[np.float32]:
    """Details in even contrast.

    Args:
        planes_HW: (..., H, W).
        coarse_sigma: cells; what a Gaussian of this width keeps is lighting, the rest are details.
        local_sigma: cells; the width of the Gaussian over which contrast is measured.

    Returns:
        float32, of the same shape; 0 for constant planes.

    Source:
        K. Jarrett et al., What is the best multi-stage architecture for object recognition?, ICCV 2009 (local contrast
        normalisation).
    """
    height, width = planes_HW.shape[-2:]
    details_HW = filtered(planes_HW, band(height, width, 0.0, coarse_sigma))
    energy_HW = details_HW**2
    whole = np.sqrt(energy_HW.mean(axis=(-2, -1), keepdims=True))
    around_HW = np.sqrt(np.maximum(filtered(energy_HW, gaussian(height, width, local_sigma)), 0))
    around_HW += np.float32(LOCAL_CONTRAST) * whole
    details_HW /= np.maximum(around_HW, np.float32(1e-3))
    return details_HW


def filtered(planes_HW: NDArray[Any], transfer_FG: NDArray[np.float32]) -> NDArray[np.float32]:
    """Planes (..., H, W) after a filter with this transfer function; their borders are joined."""
    spectrum = fft.rfft2(planes_HW.astype(np.float32, copy=False))
    spectrum *= transfer_FG
    result: NDArray[np.float32] = fft.irfft2(spectrum, s=planes_HW.shape[-2:], overwrite_x=True)
    return result


@lru_cache(maxsize=32)
def band(height: int, width: int, fine_sigma: float, coarse_sigma: float) -> NDArray[np.float32]:
    """Transfer function of a difference of Gaussians, (F, G); nothing passes at frequency 0."""
    return gaussian(height, width, fine_sigma) - gaussian(height, width, coarse_sigma)


@lru_cache(maxsize=32)
def gaussian(height: int, width: int, sigma: float) -> NDArray[np.float32]:
    """Transfer function of a Gaussian of `sigma` cells, (F, G); 0 lets all pass."""
    squared = np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width) ** 2
    transfer_FG: NDArray[np.float32] = np.exp(-2 * np.pi**2 * sigma**2 * squared).astype(np.float32)
    return transfer_FG
