"""Segment a scan with the model in this folder: python predict.py SCAN.png --out MASK.png

Needs numpy, Pillow and onnxruntime alone. Computes what the program does that the model comes from, step by step:
intensities to 0..1, the model's channels, normalisation, tiles of a large scan blended with Gaussian weights, a
repeated border up to the sides that the graph takes, probabilities (of an ensemble their mean), a mask. Research use
only.

Shapes: C channels, K output channels, H x W pixels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
SMALLEST_SIDE = 16  # pixels
GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
NORMALISATIONS = ("unit", "zscore", "percentile", "zscore_nonzero")
PERCENTILES = (1.0, 99.0)
NONZERO_PERCENTILES = (0.5, 99.5)
PHOTOMETRIC_INTERPRETATION = 262  # TIFF tag; 0 says that 0 is white
TILE, STEP, OVERLAP, SIGMA, SMALLEST_WEIGHT = 1024, 32, 0.25, 0.125, 1e-4

Array = np.ndarray[Any, Any]


class Network:
    """One ONNX graph and what it expects."""

    def __init__(self, folder: Path) -> None:
        facts = json.loads((folder / "export.json").read_text("utf-8"))
        self.channels: int = facts["channels"]
        self.normalisation: str = facts["normalisation"]
        if self.normalisation not in NORMALISATIONS:
            raise SystemExit(
                f"{folder / 'export.json'} has the normalisation {self.normalisation!r}; this script knows "
                f"{', '.join(NORMALISATIONS)}"
            )
        self._multiple: int = facts["multiple"]
        self._smallest: int = facts["smallest_side"]
        self._session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])

    def logits(self, scan_CHW: Array) -> Array:
        """Logits (K, H, W) of a normalised scan of any size."""
        height, width = scan_CHW.shape[1:]
        if max(height, width) <= TILE:
            return self._whole(scan_CHW)
        size = even_side(height), even_side(width)
        weight_HW = gaussian(size)
        total: Array | None = None
        weights = np.zeros((height, width), np.float32)
        for top, left in itertools.product(tile_starts(height, size[0]), tile_starts(width, size[1])):
            window = slice(top, top + size[0]), slice(left, left + size[1])
            tile_KHW = self._whole(scan_CHW[(slice(None), *window)])
            if total is None:
                total = np.zeros((tile_KHW.shape[0], height, width), np.float32)
            total[(slice(None), *window)] += tile_KHW * weight_HW
            weights[window] += weight_HW
        assert total is not None
        return np.asarray(total / weights)

    def _whole(self, scan_CHW: Array) -> Array:
        """The same for a scan that is computed at once: its border is repeated up to the sides that the graph takes."""
        height, width = scan_CHW.shape[1:]
        below, right = (
            max(self._smallest, -(-side // self._multiple) * self._multiple) - side for side in (height, width)
        )
        padded_CHW = np.pad(scan_CHW, ((0, 0), (0, below), (0, right)), mode="edge")
        logits_1KHW = self._session.run(None, {"scan": padded_CHW[None].astype(np.float32)})[0]
        return np.asarray(logits_1KHW)[0, :, :height, :width]


def even_side(length: int) -> int:
    """The smallest side, a multiple of STEP, with which an axis needs no more tiles than with TILE."""
    count = len(tile_starts(length, TILE))
    return min(length, TILE, math.ceil(length / (count - (count - 1) * OVERLAP) / STEP) * STEP)


def tile_starts(length: int, tile: int) -> list[int]:
    """Where tiles start along one axis: evenly spread, from edge to edge."""
    if length <= tile:
        return [0]
    step = max(1, int(tile * (1 - OVERLAP)))
    count = -(-(length - tile) // step) + 1
    return [round(i * (length - tile) / (count - 1)) for i in range(count)]


def gaussian(size: tuple[int, int]) -> Array:
    """The weights (H, W) of a tile's pixels: 1 in the middle, less towards the edges."""
    rows, columns = (np.exp(-((np.arange(n) - (n - 1) / 2) ** 2) / (2 * (SIGMA * n) ** 2)) for n in size)
    return np.maximum(np.outer(rows, columns), SMALLEST_WEIGHT).astype(np.float32)


def read_scan(path: Path) -> Array:
    """A scan (C, H, W) with 1 or 3 channels: uint8, uint16 or float32."""
    with Image.open(path, formats=FORMATS) as opened:
        if opened.format not in ("JPEG", "MPO") and getattr(opened, "n_frames", 1) > 1:
            raise SystemExit(f"{path} has several frames; give one scan per file")
        if min(opened.size) < SMALLEST_SIDE:
            raise SystemExit(f"{path} is {opened.width}×{opened.height}; both sides need {SMALLEST_SIDE} pixels")
        opened.load()
        counts_from_white = getattr(opened, "tag_v2", {}).get(PHOTOMETRIC_INTERPRETATION) == 0
        image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16"):
        values_HW = np.asarray(image).astype(np.uint16)
        return (np.uint16(65535) - values_HW if counts_from_white else values_HW)[None]
    if image.mode in ("I", "F"):
        numbers_HW = np.asarray(image)
        if not np.isfinite(numbers_HW).all():
            raise SystemExit(f"{path} holds values that are not finite")
        return numbers_HW.astype(np.float32)[None]
    if image.mode in ("1", "L", "LA", "La"):
        return np.asarray(image.convert("L"))[None]
    image.info.pop("transparency", None)
    rgb = (image.convert("RGBA") if image.mode == "RGBa" else image).convert("RGB")
    return np.asarray(rgb).transpose(2, 0, 1)


def prepare(image_CHW: Array, channels: int, normalisation: str) -> Array:
    """Bring a scan as decoded to what the graph takes: float32 (C, H, W)."""
    low, high = (0, 255) if image_CHW.dtype == np.uint8 else (image_CHW.min(), image_CHW.max())
    values = image_CHW.astype(np.float32)
    unit = (values - np.float32(low)) / (np.float32(high) - np.float32(low)) if high > low else np.zeros_like(values)
    if unit.shape[0] != channels:
        unit = (
            np.repeat(unit, channels, axis=0)
            if unit.shape[0] == 1
            else np.tensordot(np.asarray(GREY_WEIGHTS, np.float32), unit, axes=1)[None].astype(np.float32)
        )
    if normalisation == "percentile":
        black, white = np.percentile(unit, PERCENTILES)
        if white <= black:
            black, white = unit.min(), unit.max()
        return stretched(unit, float(black), float(white))
    if normalisation == "zscore":
        return standardised(unit, unit)
    if normalisation == "zscore_nonzero":
        return np.stack([without_empty_space(channel_HW) for channel_HW in unit])
    return unit


def stretched(values: Array, black: float, white: float) -> Array:
    """From black..white to 0..1; what lies outside is cut off, and values without contrast become 0."""
    if (black, white) == (0.0, 1.0):
        return values
    low, high = np.float32(black), np.float32(white)
    if high <= low:
        return np.zeros_like(values)
    return np.asarray(np.clip((values - low) / (high - low), np.float32(0), np.float32(1)))


def standardised(values: Array, like: Array) -> Array:
    """Less the mean of other values, over their deviation."""
    mean, deviation = like.mean(dtype=np.float64), like.std(dtype=np.float64) or 1.0
    return np.asarray((values - np.float32(mean)) / np.float32(deviation), np.float32)


def without_empty_space(channel_HW: Array) -> Array:
    """One channel, cut off and standardised by what lies above its least value."""
    inside = channel_HW[channel_HW > channel_HW.min()]
    if not inside.size:
        return np.zeros_like(channel_HW)
    black, white = np.percentile(inside, NONZERO_PERCENTILES)
    if white <= black:
        black, white = channel_HW.min(), inside.max()
    levels = float(black), float(white)
    return standardised(stretched(channel_HW, *levels), stretched(inside, *levels))


def probabilities(logits_KHW: Array) -> Array:
    """Probability of each class with background, (2, H, W) for one channel of logits, else (K, H, W)."""
    if logits_KHW.shape[0] == 1:
        foreground = 1 / (1 + np.exp(-logits_KHW.astype(np.float64)))
        return np.concatenate((1 - foreground, foreground))
    powers = np.exp(logits_KHW.astype(np.float64) - logits_KHW.max(axis=0, keepdims=True))
    return np.asarray(powers / powers.sum(axis=0, keepdims=True))


def mask_of(image_CHW: Array, networks: list[Network], threshold: float, ignore_index: int | None) -> Array:
    """The mask (H, W), uint8: 0 and 255, or class numbers of the dataset with more than two classes."""
    found = [
        probabilities(network.logits(prepare(image_CHW, network.channels, network.normalisation)))
        for network in networks
    ]
    mean_KHW = np.mean(found, axis=0)
    if mean_KHW.shape[0] == 2:
        mask = (mean_KHW[1] >= threshold).astype(np.uint8)
    else:
        mask = mean_KHW.argmax(axis=0).astype(np.uint8)
    if ignore_index is not None:
        mask += (mask >= ignore_index).view(np.uint8)
    several = mean_KHW.shape[0] + (ignore_index is not None) > 2
    return np.asarray(mask if several else mask * np.uint8(255))


def main() -> None:
    """Read the arguments, segment, write the mask."""
    parser = argparse.ArgumentParser(description="Segment a scan with the model in this folder. Research use only.")
    parser.add_argument("scan", type=Path, help="PNG, JPEG, TIFF, BMP or GIF")
    parser.add_argument("--out", type=Path, default=Path("mask.png"), help="PNG to write (default: mask.png)")
    parser.add_argument("--threshold", type=float, default=0.5, help="probability from which a pixel is foreground")
    given = parser.parse_args()
    if not 0 < given.threshold < 1:
        parser.error(f"--threshold is {given.threshold:g}; it lies between 0 and 1")
    folders = [HERE / "onnx"] if (HERE / "onnx").is_dir() else sorted(HERE.glob("members/*/onnx"))
    card = json.loads((HERE / "card.json").read_text("utf-8"))
    networks = [Network(folder) for folder in folders]
    mask = mask_of(read_scan(given.scan), networks, given.threshold, card.get("ignore_index"))
    Image.fromarray(mask).save(given.out, format="PNG")
    sys.stdout.write(f"{given.out}: {np.count_nonzero(mask) / mask.size:.1%} of the scan is foreground\n")


if __name__ == "__main__":
    main()
