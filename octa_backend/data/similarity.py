"""Which images of a dataset show the same: found among thumbnails, fast enough for tens of thousands.

Images may have been recompressed, resized, made brighter or noisier, shifted by a few pixels, or mirrored. First coarse
thumbnails of all pairs are correlated by matrix products; the few that correlate are compared finely, shift by shift.
"""

# Shapes: N images, P pairs, S x S cells of a thumbnail, F x G frequencies of its real Fourier transform, D of a shift.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from octa_backend.data.details import band, evened_details, filtered

COARSE_CORRELATION = 0.5
"""Pairs below it in the first pass are not compared finely. Images shifted by 6 of 320 pixels correlate with 0.46 to
0.85 there, those of different eyes with less than 0.48 in 99 % of pairs (both measured on ROSSA)."""

MOST_CANDIDATES = 100_000
"""So many pairs are compared finely, those that correlate most; it bounds time and memory for sets of look-alikes."""

FARTHEST_SHIFT, SHIFT_STEP = 1.5, 0.25
"""Cells (a 32nd of a side) by which images may be shifted against each other, and how finely that is tried."""

LEAST_LIKENESS = 0.74
"""Likeness from which two images show the same. At any shift or mirroring, different eyes of ROSSA reach 0.57, nuclei
0.28 and parts of fundus photographs 0.72; copies that were recompressed, resized, noisy or shifted by up to 6 pixels
have 0.74 to 1.00."""

OWN_SHARE = 0.65
"""Of what the images of a set do not have in common anyway, so much must agree: fundus photographs are alike (0.77) by
the round border of the picture alone, different eyes up to 0.87, so copies among them need 0.92 (they have 0.97)."""

MOST_IN_COMMON, MOST_IN_COMMON_OF_FEW, FEW_PAIRS = 0.95, 0.8, 15
"""The likeness that a set's images have anyway is taken for at most the first number; in a set of fewer pairs, which
may well consist of copies, for at most the second."""

_COARSE_SIGMA, _LOCAL_SIGMA = 2.0, 3.0
_FINE_BAND = (0.5, 3.0)
_COARSE_BAND = (0.0, 1.0)
_BLOCK = 512
_SAMPLED_PAIRS = 250
_FLIPS = ("none", "left_right", "up_down", "both")


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two images that show the same.

    Attributes:
        first, second: their indices, first < second.
        value: correlation of their band-passed thumbnails at the best shift, at most about 1.
        flip: how the second is mirrored: "none", "left_right", "up_down" or "both".
        shifted: whether they fit best with a shift of half a cell or more.
    """

    first: int
    second: int
    value: float
    flip: str
    shifted: bool


def look_alikes(thumbnails_NSS: NDArray[np.uint8]) -> list[Likeness]:
    """Find the pairs of images that show the same.

    Args:
        thumbnails_NSS: area means of the grey images; S is even. Constant ones are like no other.

    Returns:
        Each pair at most once, by indices, with the mirroring under which it fits best.
    """
    if len(thumbnails_NSS) < 2:
        return []
    threshold = _threshold(thumbnails_NSS)
    best: dict[tuple[int, int], Likeness] = {}
    for flip in _FLIPS:
        firsts, seconds = _candidates(thumbnails_NSS, flip)
        mirrored_NSS = flipped(thumbnails_NSS, flip)
        for at in range(0, len(firsts), _BLOCK):
            part = slice(at, at + _BLOCK)
            values, shifted = _compare(thumbnails_NSS, firsts[part], mirrored_NSS, seconds[part])
            for i, j, value, far in zip(firsts[part], seconds[part], values, shifted, strict=True):
                if value >= threshold and ((i, j) not in best or value > best[i, j].value):
                    best[i, j] = Likeness(int(i), int(j), float(value), flip, bool(far))
    return [best[pair] for pair in sorted(best)]


def flipped(planes_NSS: NDArray[Any], flip: str) -> NDArray[Any]:
    """Mirror planes; "both" is a half turn."""
    rows = -1 if flip in ("up_down", "both") else 1
    columns = -1 if flip in ("left_right", "both") else 1
    return planes_NSS[..., ::rows, ::columns]


def _threshold(thumbnails_NSS: NDArray[np.uint8]) -> float:
    """The likeness that copies need in this set."""
    count = len(thumbnails_NSS)
    if count * (count - 1) // 2 <= _SAMPLED_PAIRS:
        firsts, seconds = np.triu_indices(count, 1)
    else:
        firsts, steps = np.random.default_rng(0).integers((0, 1), count, (_SAMPLED_PAIRS, 2)).T
        seconds = (firsts + steps) % count
    blocks = [slice(at, at + _BLOCK) for at in range(0, len(firsts), _BLOCK)]
    values = [_compare(thumbnails_NSS, firsts[at], thumbnails_NSS, seconds[at])[0] for at in blocks]
    most = MOST_IN_COMMON if len(firsts) >= FEW_PAIRS else MOST_IN_COMMON_OF_FEW
    in_common = min(most, max(0.0, float(np.median(np.concatenate(values)))))
    return max(LEAST_LIKENESS, in_common + OWN_SHARE * (1 - in_common))


# --- all pairs, coarsely ------------------------------------------------------------------------------------------


def _candidates(thumbnails_NSS: NDArray[np.uint8], flip: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs first < second that correlate in the first pass: the `MOST_CANDIDATES` best."""
    plain_ND, mirrored_ND = _coarse(thumbnails_NSS), _coarse(flipped(thumbnails_NSS, flip))
    found: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]] = []
    threshold, kept = COARSE_CORRELATION, 0
    for firsts, seconds, values in _blocks(plain_ND, mirrored_ND):
        above = values >= threshold
        found.append((firsts[above], seconds[above], values[above]))
        kept += int(above.sum())
        if kept > 2 * MOST_CANDIDATES:
            found = [_best_of(found)]
            threshold, kept = float(found[0][2].min()), len(found[0][0])
    firsts, seconds, _ = _best_of(found)
    return firsts, seconds


def _blocks(
    plain_ND: NDArray[np.float32], mirrored_ND: NDArray[np.float32]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]]:
    for start in range(0, len(plain_ND), _BLOCK):
        correlation = plain_ND[start : start + _BLOCK] @ mirrored_ND[start:].T
        rows, columns = np.nonzero(correlation >= COARSE_CORRELATION)
        upper = columns > rows
        rows, columns = rows[upper], columns[upper]
        yield rows + start, columns + start, correlation[rows, columns]


def _best_of(
    found: list[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    firsts, seconds, values = (np.concatenate([part[at] for part in found]) for at in range(3))
    if len(values) > MOST_CANDIDATES:
        best = np.sort(np.argpartition(-values, MOST_CANDIDATES)[:MOST_CANDIDATES])
        firsts, seconds, values = firsts[best], seconds[best], values[best]
    return firsts, seconds, values


def _coarse(thumbnails_NSS: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Band-passed 2 x 2 means as unit vectors, (N, S * S / 4)."""
    count, side = len(thumbnails_NSS), thumbnails_NSS.shape[1] // 2
    found_ND = np.empty((count, side * side), np.float32)
    for start in range(0, count, _BLOCK):
        block = thumbnails_NSS[start : start + _BLOCK].astype(np.float32)
        small = block.reshape(-1, side, 2, side, 2).mean(axis=(2, 4))
        passed = filtered(small, band(side, side, *_COARSE_BAND))
        vectors = passed.reshape(len(block), -1)
        found_ND[start : start + _BLOCK] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-3)
    return found_ND


# --- pairs, finely ------------------------------------------------------------------------------------------------


def _compare(
    a_NSS: NDArray[np.uint8], at_a: NDArray[np.intp], b_NSS: NDArray[np.uint8], at_b: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Likeness of pairs of thumbnails at the best shift, (P,), and whether that shift is half a cell or more."""
    a_PFG, b_PFG = _spectra_of(a_NSS, at_a), _spectra_of(b_NSS, at_b)
    rows_DF, columns_GD, shifts = _shifts(a_PFG.shape[1])
    cross_PFG = a_PFG * b_PFG.conj()
    values_PDD = (rows_DF @ cross_PFG @ columns_GD).real
    best = values_PDD.reshape(len(values_PDD), -1).argmax(axis=1)
    row, column = np.divmod(best, len(shifts))
    far = np.maximum(np.abs(shifts[row]), np.abs(shifts[column])) >= 0.5
    return values_PDD[np.arange(len(best)), row, column], far


def _spectra_of(thumbnails_NSS: NDArray[np.uint8], indices_P: NDArray[np.intp]) -> NDArray[np.complex64]:
    """Of the thumbnails at these indices, each computed once."""
    different, places_P = np.unique(indices_P, return_inverse=True)
    found_PFG: NDArray[np.complex64] = _spectrum(thumbnails_NSS[different])[places_P]
    return found_PFG


def _spectrum(thumbnails_PSS: NDArray[np.uint8]) -> NDArray[np.complex64]:
    """Of the details in even contrast, scaled so that a thumbnail is like itself by 1; 0 for a constant one."""
    side = thumbnails_PSS.shape[1]
    even_PSS = evened_details(thumbnails_PSS, _COARSE_SIGMA, _LOCAL_SIGMA)
    spectrum_PFG = fft.rfft2(even_PSS) * band(side, side, *_FINE_BAND)
    energy_P = ((np.abs(spectrum_PFG) ** 2) @ _multiplicity(side)).sum(axis=1)
    scaled_PFG: NDArray[np.complex64] = spectrum_PFG / np.maximum(np.sqrt(energy_P), np.float32(1e-3))[:, None, None]
    return scaled_PFG


@lru_cache(maxsize=4)
def _shifts(side: int) -> tuple[NDArray[np.complex64], NDArray[np.complex64], NDArray[np.float64]]:
    """Factors (D, F) and (G, D) that evaluate a cross spectrum at each shift, and the shifts in cells."""
    shifts = np.arange(-FARTHEST_SHIFT, FARTHEST_SHIFT + SHIFT_STEP / 2, SHIFT_STEP)
    rows_DF = np.exp(2j * np.pi * np.outer(shifts, np.fft.fftfreq(side)))
    columns_GD = np.exp(2j * np.pi * np.outer(np.fft.rfftfreq(side), shifts)) * _multiplicity(side)[:, None]
    return rows_DF.astype(np.complex64), columns_GD.astype(np.complex64), shifts


def _multiplicity(side: int) -> NDArray[np.float32]:
    """How often each column of a real transform stands in the whole one."""
    return np.array([1, *[2] * (side // 2 - 1), 1], dtype=np.float32)
