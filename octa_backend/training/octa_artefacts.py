"""What OCTA scanners and eyes do to scans: motion lines, shadows, saturation.

Shapes: B scans, C channels, *spatial pixels or voxels; S: along the first spatial axis, the slow scan, from row to row
of an en-face scan and from slice to slice of a volume.

Source:
    R. F. Spaide et al., Image artifacts in optical coherence tomography angiography, Retina 35(11), 2015. Definitions
    in Ophthalmology 128(10), 2021, doi:10.1016/j.ophtha.2021.03.036, Table 1, and Journal of Ophthalmic and Vision
    Research 16(2), 2021, doi:10.18502/jovr.v16i2.9091, Table 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from octa_backend.training.augmentation_options import Augmentation
from octa_backend.training.draws import chosen, uniform
from octa_backend.training.intensity import change_some, per_scan
from octa_backend.training.splines import control_shape, smooth_field

WIDEST_LINE = 3
"""Rows (slices): a saccade spoils few repeats of one line."""
EDGE = 3.0
"""How steep a shadow's edge is: from a tenth to nine tenths of its depth within 1.5 of its radius."""
RAGGED = 0.7
"""How far a shadow's outline strays from an ellipse at most, share of its radius."""


@dataclass(frozen=True, slots=True)
class Motion:
    """Where the eye moved.

    Attributes:
        shift: float32, (B, S), how far each row lies from its place along the rows, pixels.
        light: float32, (B, S), how near to white each row is brought, 0..1.
    """

    shift: Tensor
    light: Tensor


def draw_motion(count: int, side: int, options: Augmentation, generator: torch.Generator) -> Motion | None:
    """Lines at random rows; each part from one line to the next has a shift of its own, the first part none.

    Args:
        count: scans.
        side: rows of an en-face scan, slices of a volume.
        options: how often and how far.
        generator: of the CPU.

    Returns:
        None where no eye moved.
    """
    moved = chosen(count, options.motion_probability, generator)
    if not moved.any():
        return None
    shift_BS, light_BS = torch.zeros(count, side), torch.zeros(count, side)
    for scan in moved.nonzero().flatten().tolist():
        lines = int(torch.randint(1, options.motion_lines + 1, (), generator=generator))
        starts = torch.randint(side, (lines,), generator=generator).sort().values.tolist()
        widths = torch.randint(1, WIDEST_LINE + 1, (lines,), generator=generator).tolist()
        shifts = uniform(lines, -options.motion_shift, options.motion_shift, generator).tolist()
        lights = uniform(lines, 0.0, options.motion_brightness, generator).tolist()
        for start, width, shift, light in zip(starts, widths, shifts, lights, strict=True):
            shift_BS[scan, start:] = shift
            light_BS[scan, start : start + width] = light
    return Motion(shift_BS, light_BS)


def along_rows(motion: Motion, spatial: Sequence[int], device: torch.device) -> Tensor:
    """The shifts of the rows as shifts of pixels along x, y(, z): (B, *spatial, n)."""
    shifts = torch.zeros(motion.shift.shape[0], *spatial, len(spatial), device=device)
    shifts[..., 0] = motion.shift.to(device).view(-1, spatial[0], *[1] * (len(spatial) - 1))
    return shifts


def draw_lines(image_BC: Tensor, motion: Motion, generator: torch.Generator) -> Tensor:
    """Bring the rows of the lines nearer to white, speckled: tissue that moves is seen as flow everywhere."""
    where = motion.light.any(1).nonzero().flatten()
    lit = image_BC[where.to(image_BC.device)]
    speckle = torch.rand(lit.shape[0], 1, *lit.shape[2:], generator=generator).to(lit.device)
    light = motion.light[where].to(lit.device).view(-1, 1, lit.shape[2], *[1] * (lit.ndim - 3))
    lit = lit + light * (0.5 + 0.5 * speckle) * (1 - lit)
    return image_BC.index_copy(0, where.to(image_BC.device), lit)


def cast_shadows(image_BC: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Take a share of the signal from under some clouds."""

    def shaded(image: Tensor) -> Tensor:
        light = [_light(image.shape[2:], options, generator, image.device) for _ in range(image.shape[0])]
        return image * torch.stack(light)[:, None]

    return change_some(image_BC, options.shadow_probability, generator, shaded)


def _light(spatial: Sequence[int], options: Augmentation, generator: torch.Generator, device: torch.device) -> Tensor:
    """What the shadows of one scan leave of its signal: (*spatial), 0..1."""
    light = torch.ones(tuple(spatial), device=device)
    for _ in range(int(torch.randint(1, options.shadow_count + 1, (), generator=generator))):
        depth, radius = (torch.rand(2, generator=generator) * 0.7 + 0.3).tolist()
        outline = _outline(spatial, radius * options.shadow_radius, generator, device)
        light = light * (1 - depth * options.shadow_depth * outline)
    return light


def _outline(spatial: Sequence[int], radius: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """1 within a ragged ellipse, falling softly to 0 around it: (*spatial)."""
    axes = len(spatial)
    centre, stretch = torch.rand(axes, generator=generator), torch.rand(axes, generator=generator) * 0.8 + 0.6
    distance = torch.zeros((), device=device)
    for axis, side in enumerate(spatial):
        place = (torch.arange(side, device=device) + 0.5) / side - centre[axis].item()
        distance = distance[..., None] + (place / (radius * stretch[axis].item())) ** 2
    spacing = max(4.0, radius * max(spatial) / 2)
    points = 2 * torch.rand(1, *control_shape(spatial, spacing), generator=generator) - 1
    ragged = smooth_field(points.to(device), spatial, spacing)[0]
    return torch.sigmoid(EDGE * (1 - distance.sqrt() + RAGGED * ragged))


def saturate(image_BC: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Multiply by a gain; what would be above white is white."""

    def exposed(image: Tensor) -> Tensor:
        gain = uniform(image.shape[0], 1.0, options.saturation_gain, generator)
        return (image * per_scan(gain, image)).clamp(max=1)

    return change_some(image_BC, options.saturation_probability, generator, exposed)
