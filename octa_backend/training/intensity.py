"""Brightness, contrast, gamma, noise and blur of some scans of a batch, in 0..1.

Shapes: B scans, b of them chosen, C channels, *spatial pixels or voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from octa_backend.training.augmentation_options import Augmentation
from octa_backend.training.draws import chosen, sometimes, uniform

Change = Callable[[Tensor], Tensor]
"""Maps scans (b, C, *spatial) to scans."""


def change_some(image_BC: Tensor, probability: float, generator: torch.Generator, change: Change) -> Tensor:
    """`change` for the scans that are chosen; the batch itself where none is."""
    some = chosen(image_BC.shape[0], probability, generator)
    if not some.any():
        return image_BC
    where = some.nonzero().flatten().to(image_BC.device)
    return image_BC.index_copy(0, where, change(image_BC[where]))


def per_scan(values_B: Tensor, image_BC: Tensor) -> Tensor:
    """A number per scan, as wide as the scans: (B, 1, ...), on their device."""
    return values_B.to(image_BC.device).view(-1, *[1] * (image_BC.ndim - 1))


def blur(image_BC: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Gaussian blur, axis by axis; what lies outside repeats the edge."""

    def blurred(image: Tensor) -> Tensor:
        sigma = uniform(image.shape[0], options.blur_min, options.blur_max, generator)
        return gaussian_blur(image, sigma)

    return change_some(image_BC, options.blur_probability, generator, blurred)


def gaussian_blur(image_BC: Tensor, sigma_B: Tensor) -> Tensor:
    """Each scan convolved with exp(-x² / 2σ²), cut off at 3σ, along every spatial axis.

    Args:
        image_BC: (B, C, *spatial).
        sigma_B: σ of each scan, pixels, above 0, on the CPU.
    """
    radius = max(1, math.ceil(3 * float(sigma_B.max())))
    offset = torch.arange(-radius, radius + 1)
    weights_BO = torch.exp(-(offset**2) / (2 * sigma_B[:, None] ** 2)) * (offset.abs() <= 3 * sigma_B[:, None])
    weights_BO = weights_BO / weights_BO.sum(1, keepdim=True)
    for axis in range(2, image_BC.ndim):
        side = image_BC.shape[axis]
        inside = torch.arange(-radius, side + radius, device=image_BC.device).clamp(0, side - 1)
        padded = image_BC.index_select(axis, inside)
        image_BC = torch.stack(
            [per_scan(weights_BO[:, i], image_BC) * padded.narrow(axis, i, side) for i in range(2 * radius + 1)]
        ).sum(0)
    return image_BC


def add_noise(image_BC: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Gaussian noise of a standard deviation drawn for each scan; values stay in 0..1."""

    def noisy(image: Tensor) -> Tensor:
        sigma = uniform(image.shape[0], 0.0, options.noise_max, generator)
        noise = torch.randn(image.shape, generator=generator).to(image.device)
        return (image + per_scan(sigma, image) * noise).clamp(0, 1)

    return change_some(image_BC, options.noise_probability, generator, noisy)


def change_brightness_and_contrast(image_BC: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """(v - mean) · contrast + mean + brightness, cut off at 0 and 1; the mean is the scan's own."""
    count = image_BC.shape[0]
    bounds = (options.contrast_min, options.contrast_max)
    contrast = sometimes(count, options.contrast_probability, bounds, 1.0, generator)
    bounds = (-options.brightness_shift, options.brightness_shift)
    brightness = sometimes(count, options.brightness_probability, bounds, 0.0, generator)
    factor, shift = per_scan(contrast, image_BC), per_scan(brightness, image_BC)
    mean = image_BC.mean(tuple(range(1, image_BC.ndim)), keepdim=True)
    return ((image_BC - mean) * factor + mean + shift).clamp(0, 1)


def change_gamma(image_BC: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """v to the power of a gamma drawn for each scan; black stays black and white white."""

    def curved(image: Tensor) -> Tensor:
        gamma = uniform(image.shape[0], options.gamma_min, options.gamma_max, generator)
        return image.pow(per_scan(gamma, image))

    return change_some(image_BC, options.gamma_probability, generator, curved)
