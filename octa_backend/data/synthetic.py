"""Synthetic en-face OCTA scans with exact vessel masks: demos, tests and benchmarks need no patient's data.

Anatomy first, pixels second: vessels grow as curves in micrometres, the same for every image size, then are drawn.
A point or a direction is a complex number, x to the right and y down, (0, 0) the top left corner of the field.
"""

from __future__ import annotations

import cmath
import io
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from octa_backend.storage.files import move, remove

SMALLEST_SIZE = 32
FIELD_UM = 6000.0  # side of the scanned square: the usual 6 x 6 mm macular scan
MIDDLE = complex(FIELD_UM / 2, FIELD_UM / 2)
STEP_UM = 50.0  # one step of a growing vessel
CELL_UM = 100.0  # cell of the occupancy grid that keeps vessels apart
PROBE_UM = 260.0  # how far ahead a growing tip looks for another vessel
SHORTEST_UM = 400.0  # a shorter twig is dropped
FINEST_UM = 24.0  # the thinnest calibre that is grown; below it there is only capillary texture
ALWAYS_DRAWN_UM = 65.0  # arcades stay visible however small the image, so that no mask is empty
THICKEST_UM = 160.0  # a major vein of the arcades
MARKED_SHARE = (0.105, 0.165)  # drawn vessel area a grader marks; junctions overlap, so masks end a little lower
FAINT_SHARE = 0.025  # area of the visible twigs that graders leave out
MOST_ATTEMPTS = 600  # buds that are tried before a crowded field counts as full
CAPILLARIES = 7000  # strands of background texture
GRAIN = 0.85  # spread of the speckle before it is softened, relative to the background
SUPERSAMPLING = 4  # curves are drawn this much larger, then averaged down
REFERENCE_SIZE = 320  # pixels, the size at which blur and strands are given

Plane = NDArray[np.float32]
Cells = set[tuple[int, int]]  # cells of the field that hold a vessel


@dataclass(frozen=True, slots=True)
class SyntheticScan:
    """An image, uint8 (H, W), and the vessels drawn in it, bool (H, W)."""

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fovea:
    """The centre of sight and its irregular avascular zone (FAZ)."""

    centre: complex
    radius_um: float
    waves: tuple[complex, ...]  # Fourier terms 1, 2, ... of the outline, relative to the radius

    def relative_distance(self, x_um: Plane, y_um: Plane) -> Plane:
        """Distance from the centre as a share of the FAZ outline in that direction; 1 is the outline."""
        offset = (x_um - self.centre.real) + 1j * (y_um - self.centre.imag)
        turn = offset / np.maximum(np.abs(offset), 1e-6)
        outline = 1 + sum((wave * turn**k).real for k, wave in enumerate(self.waves, start=1))
        return (np.abs(offset) / (self.radius_um * outline)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Bud:
    """Where a vessel starts to grow; `pull` is how strongly it turns to the fovea at each step."""

    position: complex
    heading: complex
    calibre_um: float
    reach_um: float
    pull: float
    wander: float = 0.17  # radians per step away from the course; the vessel finds back to it


@dataclass(frozen=True, slots=True)
class Vessel:
    """A grown vessel; `marked` ones stand in the mask."""

    path: list[complex]
    calibre_um: float
    marked: bool


def make_scan(size: int, rng: np.random.Generator) -> SyntheticScan:
    """Draw one scan of `size` x `size` pixels, at least 32; the same state of `rng` gives the same scan."""
    if size < SMALLEST_SIZE:
        raise ValueError(f"size is {size}, but a synthetic scan needs at least {SMALLEST_SIZE} pixels per side")
    fovea = _make_fovea(rng)
    vessels, mask = _draw(_grow_tree(fovea, rng), size)
    light = _speckled(vessels, _background(fovea, vessels, size, rng), rng)
    return SyntheticScan(image=_expose(light, rng), mask=mask)


def write_zip(path: Path, count: int, *, size: int = REFERENCE_SIZE, seed: int = 0) -> None:
    """Write `count` scans as `images/001_OD.png`, `masks/001_OD.png`, ..., two eyes per patient.

    Scan i depends on (seed, i) only, so a larger archive extends a smaller one; the same call gives the same bytes.
    The archive appears at `path` complete or not at all.
    """
    if count < 1:
        raise ValueError(f"count is {count}, but an archive needs at least 1 scan")
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with zipfile.ZipFile(part, "x") as archive:
            for index in range(count):
                scan = make_scan(size, np.random.default_rng([seed, index]))
                name = f"{index // 2 + 1:03d}_{('OD', 'OS')[index % 2]}.png"
                _add_png(archive, f"images/{name}", scan.image)
                _add_png(archive, f"masks/{name}", scan.mask.astype(np.uint8) * 255)
        move(part, path)
    finally:
        remove(part)


def _add_png(archive: zipfile.ZipFile, name: str, pixels: NDArray[np.uint8]) -> None:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))  # the clock must not reach the bytes
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    archive.writestr(entry, buffer.getvalue())


def _make_fovea(rng: np.random.Generator) -> Fovea:
    waves = tuple(cmath.rect(rng.uniform(0.02, 0.16) / k**0.5, rng.uniform(0, cmath.tau)) for k in range(1, 6))
    return Fovea(MIDDLE + complex(*rng.uniform(-150, 150, 2)), radius_um=rng.uniform(230, 340), waves=waves)


def _grow_tree(fovea: Fovea, rng: np.random.Generator) -> list[Vessel]:
    """Grow the thickest buds first until the marked area is reached, then some twigs that no grader marks."""
    vessels, taken, buds = list[Vessel](), Cells(), list(_trunks(fovea, rng))
    budget_um2 = rng.uniform(*MARKED_SHARE) * FIELD_UM**2
    for _ in range(MOST_ATTEMPTS):
        buds.sort(key=lambda bud: bud.calibre_um)
        bud = buds.pop() if buds else _side_entry(rng.uniform(0, 4), fovea, rng)
        path = _grow(bud, fovea, taken, rng)
        if len(path) * STEP_UM < SHORTEST_UM:
            continue
        vessels.append(Vessel(path, bud.calibre_um, marked=budget_um2 > 0))
        taken.update((x + dx, y + dy) for x, y in map(_cell, path) for dx in (-1, 0, 1) for dy in (-1, 0, 1))
        buds.extend(_side_buds(vessels[-1], fovea, rng))
        budget_um2 -= bud.calibre_um * len(path) * STEP_UM
        if budget_um2 < -FAINT_SHARE * FIELD_UM**2:
            break
    return vessels


def _trunks(fovea: Fovea, rng: np.random.Generator) -> Iterator[Bud]:
    """The arcades that pass above and below the fovea, and the vessels that come straight to it."""
    nasal = rng.choice([-1, 1])  # the side of the optic disc, from where the arcades come
    for side in (-1, 1):
        near = rng.uniform(1300, 2100)
        for height in (near, near + rng.uniform(650, 1900)):  # the farther one may lie outside the field
            start = MIDDLE + complex(nasal * (FIELD_UM / 2 + STEP_UM), side * height)
            heading = -nasal * cmath.rect(1, rng.normal(0.05, 0.2) * -side * nasal)
            calibre = 70 + (THICKEST_UM - 70) * rng.random() ** 1.8
            yield Bud(start, heading, calibre, reach_um=8000, pull=rng.uniform(-0.006, 0.002), wander=0.06)
    entries = rng.integers(8, 14)
    yield from (_side_entry((entry + rng.uniform(0, 0.8)) * 4 / entries, fovea, rng) for entry in range(entries))


def _side_entry(along: float, fovea: Fovea, rng: np.random.Generator) -> Bud:
    """A vessel that enters over an edge and heads for the fovea; `along` runs in 0..4 around the field."""
    edge, share = divmod(along, 1)
    start = MIDDLE + 1j**edge * complex((share - 0.5) * FIELD_UM, -FIELD_UM / 2 - STEP_UM)
    heading = _unit(fovea.centre - start) * cmath.rect(1, rng.normal(0, 0.35))
    return Bud(start, heading, rng.uniform(30, 64), rng.uniform(1200, 3000), rng.uniform(0.01, 0.05))


def _side_buds(vessel: Vessel, fovea: Fovea, rng: np.random.Generator) -> Iterator[Bud]:
    """Branches along a vessel: thinner, on both sides, more of them and longer toward the fovea."""
    at = rng.integers(4, 10)
    while at < len(vessel.path) - 2:
        here, along = vessel.path[at], _unit(vessel.path[at + 1] - vessel.path[at - 1])
        inner_side = 1 if (along.conjugate() * (fovea.centre - here)).imag > 0 else -1
        inward = rng.random() < 0.6
        calibre = min(vessel.calibre_um * rng.uniform(0.62, 0.92), rng.uniform(26, 54))
        spread = rng.uniform(0.7, 1.3) if vessel.calibre_um > 70 else rng.uniform(0.5, 0.95)
        heading = along * cmath.rect(1, spread * (inner_side if inward else -inner_side))
        reach = rng.uniform(25, 70) * calibre * (1.2 if inward else 0.8)
        if calibre > FINEST_UM:
            yield Bud(here, heading, calibre, reach, rng.uniform(0.01, 0.06) if inward else 0.0)
        at += rng.integers(5, 15)


def _grow(bud: Bud, fovea: Fovea, taken: Cells, rng: np.random.Generator) -> list[complex]:
    """Walk from the bud, gently tortuous, around other vessels, until blocked, out of the field or at the FAZ."""
    point, course, sway, path = bud.position, bud.heading, 0.0, [bud.position]
    halt_um = fovea.radius_um + rng.uniform(150, 800)
    arc = rng.normal(0, 0.07 * bud.wander)  # a slight constant bend of the whole vessel
    crosses = bud.calibre_um > 70 or rng.random() < 0.05  # arterioles and venules pass over each other
    for step in range(int(bud.reach_um / STEP_UM)):
        course *= cmath.rect(1, arc + bud.pull * (course.conjugate() * _unit(fovea.centre - point)).imag)
        free = course if step <= 2 or crosses else _free_course(point, course, taken)
        if free is None:
            break
        course = free
        sway = 0.8 * sway + rng.normal(0, bud.wander)
        point += STEP_UM * course * cmath.rect(1, sway)
        path.append(point)
        off = point - MIDDLE
        if abs(point - fovea.centre) < halt_um or max(abs(off.real), abs(off.imag)) > FIELD_UM / 2 + 2 * STEP_UM:
            break
    return path


def _free_course(point: complex, course: complex, taken: Cells) -> complex | None:
    """The course, turned a little where a vessel lies ahead; None where there is no way."""
    turned = (course * cmath.rect(1, angle) for angle in (0.0, 0.2, -0.2, 0.45, -0.45))
    return next((way for way in turned if _cell(point + PROBE_UM * way) not in taken), None)


def _cell(point: complex) -> tuple[int, int]:
    return int(point.real // CELL_UM), int(point.imag // CELL_UM)


def _unit(vector: complex) -> complex:
    return vector / max(abs(vector), 1e-9)


def _draw(vessels: list[Vessel], size: int) -> tuple[Plane, NDArray[np.bool_]]:
    """Brightness of the vessels in 0..1, and the exact mask: pixels at least half covered by a marked vessel."""
    side, scale = size * SUPERSAMPLING, size * SUPERSAMPLING / FIELD_UM
    light, marked = Image.new("L", (side, side)), Image.new("L", (side, side))
    light_pen, marked_pen = ImageDraw.Draw(light), ImageDraw.Draw(marked)
    finest_um = min(0.6 * FIELD_UM / size, ALWAYS_DRAWN_UM)  # what fills less of a pixel is not seen, nor marked
    seen = [vessel for vessel in vessels if vessel.calibre_um >= finest_um]
    for vessel in sorted(seen, key=lambda vessel: vessel.calibre_um):
        tone = (0.6 if vessel.marked else 0.36) + 0.0048 * (vessel.calibre_um - 24)
        for begin in range(0, len(vessel.path) - 1, 8):
            points = [(p.real * scale, p.imag * scale) for p in vessel.path[begin : begin + 10]]
            taper = 1 - 0.3 * begin / len(vessel.path)
            level = int(255 * min(0.97, tone * taper**0.7))
            width = round(max(vessel.calibre_um * taper * scale, 1.3 * SUPERSAMPLING))
            light_pen.line(points, fill=level, width=width, joint="curve")
            if vessel.marked:
                marked_pen.line(points, fill=255, width=width, joint="curve")
    soft = light.reduce(SUPERSAMPLING).filter(ImageFilter.GaussianBlur(0.5 * size / REFERENCE_SIZE))
    return _plane(soft), np.asarray(marked.reduce(SUPERSAMPLING)) >= 128


def _background(fovea: Fovea, vessels: Plane, size: int, rng: np.random.Generator) -> Plane:
    """Capillary texture under uneven light: dim in the FAZ, darker beside thick vessels."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) * np.float32(FIELD_UM / size)
    relative = fovea.relative_distance(*np.meshgrid(axis, axis))
    faz = 1 - 0.88 / (1 + np.exp(np.minimum((relative - 1.05) * 12, 60)))
    macula = 1 - 0.3 * np.exp(-((relative / 3.5) ** 2))
    shade = np.exp(0.27 * _cloud(size, 3, rng) + 0.12 * _cloud(size, 7, rng))
    thick = Image.fromarray((vessels * 255).astype(np.uint8))
    halo = 1 - 0.5 * _plane(thick.filter(ImageFilter.GaussianBlur(5 * size / REFERENCE_SIZE)))
    strands = _capillaries(fovea, size, rng)
    light: Plane = strands / strands.mean() * faz * macula * shade * halo
    return light


def _cloud(size: int, cells: int, rng: np.random.Generator) -> Plane:
    """A smooth random field of about unit spread."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.float32)


def _capillaries(fovea: Fovea, size: int, rng: np.random.Generator) -> Plane:
    """Short crossing strands, most of them on their way to the fovea."""
    side = 2 * size
    pen = ImageDraw.Draw(image := Image.new("L", (side, side), 100))
    count = int(CAPILLARIES * min(1.0, size / REFERENCE_SIZE))
    start = rng.uniform(0, side, count) + 1j * rng.uniform(0, side, count)
    angle = np.angle(fovea.centre * side / FIELD_UM - start) + rng.normal(0, 0.7, count)
    end = start + rng.uniform(0.008, 0.022, count) * side * np.exp(1j * angle)
    lines = np.stack([start.real, start.imag, end.real, end.imag], axis=1)
    width = max(1, round(1.6 * size / REFERENCE_SIZE))
    for line, level in zip(lines.tolist(), rng.integers(50, 215, count).tolist(), strict=True):
        pen.line(line, fill=level, width=width)
    return _plane(image.reduce(2))


def _speckled(vessels: Plane, background: Plane, rng: np.random.Generator) -> Plane:
    """Lay vessels over the background and speckle both; 1 is white."""
    noise = rng.standard_normal(background.shape, dtype=np.float32)
    for axis, side in ((0, 0.17), (1, 0.2)):  # a little smoother along rows, in which the beam moves
        noise = (1 - 2 * side) * noise + side * (np.roll(noise, 1, axis) + np.roll(noise, -1, axis))
    back = 0.245 * background * np.maximum(1 + GRAIN * noise, 0)
    light: Plane = back * (1 - vessels) + vessels * (1 + 0.14 * noise)
    return light


def _expose(light: Plane, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Row gains with a few motion lines, then the gain of the device."""
    gain = 1 + 0.01 * rng.standard_normal(len(light))
    for start in rng.integers(0, len(light), rng.integers(2, 8)):
        gain[start : start + rng.integers(1, 4)] *= rng.uniform(0.8, 1.2)
    exposure, black = (rng.uniform(1.4, 1.65), 0.05) if rng.random() < 0.3 else (rng.uniform(0.9, 1.1), 0.0)
    return np.clip(255 * exposure * (light - black) * gain[:, None], 0, 255).astype(np.uint8)


def _plane(image: Image.Image) -> Plane:
    return (np.asarray(image) / 255).astype(np.float32)
