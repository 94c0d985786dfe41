"""The prepared dataset on disk: scans decoded once, read back as memory maps.

A folder with three files: `images.bin` and `masks.bin` hold raw little-endian C-order arrays one after the other, each
starting at a multiple of 64 bytes; `manifest.json` says what lies where. Masks are kept as uint16 with the values their
files had; the class numbers are looked up on reading, because only the last mask shows which values the dataset has.
"""

# Shapes: C channels, *spatial: H x W pixels or D x H x W voxels, K classes.
# image_C: as decoded (uint8, uint16 or float32); mask: stored values.

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from octa_backend.data.class_table import ClassLabel, Labels, in_order
from octa_backend.data.masks import class_of_value
from octa_backend.data.volume_geometry import VolumeGeometry

IMAGES_FILE = "images.bin"
MASKS_FILE = "masks.bin"
MANIFEST_FILE = "manifest.json"
FORMAT = 1

IMAGE_DTYPES = ("uint8", "uint16", "float32")
MASK_DTYPE = np.dtype("<u2")
ALIGNMENT_BYTES = 64
"""Every array starts at a multiple of this, so that any dtype can be viewed in place."""


@dataclass(frozen=True, slots=True)
class ScanEntry:
    """Where one scan lies in the prepared dataset, and what its name says about it.

    Attributes:
        name: stem of the image's file, unique in the dataset; with its split folder in front where stems repeat.
        patient: the patient the name shows, or None.
        split: "train", "val" or "test" where the dataset has an official split, else None.
        shape: (H, W) in pixels, or (D, H, W) in voxels.
        dtype: "uint8", "uint16" or "float32".
        image_offset: byte in `images.bin` where its (C, *spatial) array starts.
        mask_offset: byte in `masks.bin` where its (*spatial) array starts.
        spacing_mm: sides of a voxel, (D, H, W); empty for pictures.
        geometry: how a volume came from its file; None for pictures.
    """

    name: str
    patient: str | None
    split: str | None
    shape: tuple[int, ...]
    dtype: str
    image_offset: int
    mask_offset: int
    spacing_mm: tuple[float, ...] = ()
    geometry: VolumeGeometry | None = None

    @property
    def known_spacing_mm(self) -> tuple[float, ...]:
        """Sides of a voxel, (D, H, W); empty for pictures, and where a volume's file knows of none: those are 1."""
        return () if self.geometry is not None and not self.geometry.orientation else self.spacing_mm

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ScanEntry:
        """Read what `dataclasses.asdict` made."""
        geometry = facts.get("geometry")
        return cls(
            **{
                **facts,
                "shape": tuple(facts["shape"]),
                "spacing_mm": tuple(facts.get("spacing_mm", ())),
                "geometry": None if geometry is None else VolumeGeometry.from_json(geometry),
            }
        )


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a prepared dataset holds.

    Attributes:
        spatial_dims: 2 for pictures, 3 for volumes.
        channels: of every image: 1 or 3, of volumes the number of modalities.
        classes: 2 for foreground and background, else the number of classes including background.
        mask_values: the value that class i has in the mask files. With two classes every value but 0 is foreground.
        foreground_fraction: share of pixels that are not background, mean over scans, 0..1.
        scans: in the order of their names.
        labels: name and colour of class 0, 1, …; empty where the upload says nothing about them.
        modalities: what the channels of volumes are called; empty where the upload does not say.
        common_spacing_mm: (D, H, W), of the voxels that `resample_spacing` brought the volumes to; empty where it was
            not applied.
    """

    spatial_dims: int
    channels: int
    classes: int
    mask_values: tuple[int, ...]
    foreground_fraction: float
    scans: tuple[ScanEntry, ...]
    labels: tuple[ClassLabel, ...] = ()
    modalities: tuple[str, ...] = ()
    common_spacing_mm: tuple[float, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """The usual sides of a voxel, (D, H, W): the median over scans of each; empty for pictures."""
        return tuple(float(np.median(sides)) for sides in zip(*(scan.spacing_mm for scan in self.scans), strict=True))

    def to_json(self) -> str:
        """The manifest as the text of `manifest.json`."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read what `to_json` wrote.

        Raises:
            ValueError: the text is of another format.
        """
        facts: dict[str, Any] = json.loads(text)
        if (found := facts.pop("format", None)) != FORMAT:
            raise ValueError(f"the manifest has format {found}, this version reads format {FORMAT}")
        entries = tuple(ScanEntry.from_json(entry) for entry in facts.pop("scans"))
        labels = tuple(ClassLabel(**label) for label in facts.pop("labels", ()))
        plain = {name: tuple(facts.pop(name, ())) for name in ("mask_values", "modalities", "common_spacing_mm")}
        return cls(**{**facts, **plain, "scans": entries, "labels": labels})


class StoreWriter:
    """Writes a prepared dataset scan by scan; holds no pixels. A context manager, or `finish` and `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries: list[ScanEntry] = []
        self._foreground: list[float] = []
        self._channels = 0
        self._spatial_dims = 2
        self._images: BinaryIO = (folder / IMAGES_FILE).open("xb")
        self._masks: BinaryIO = (folder / MASKS_FILE).open("xb")

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self,
        name: str,
        patient: str | None,
        split: str | None,
        image_C: NDArray[Any],
        mask: NDArray[Any],
        *,
        spacing_mm: tuple[float, ...] = (),
        geometry: VolumeGeometry | None = None,
    ) -> ScanEntry:
        """Append one scan.

        Args:
            name: unique in the dataset.
            patient: the patient, or None.
            split: "train", "val", "test" or None.
            image_C: (C, *spatial), uint8, uint16 or float32, as many channels and axes as the scans before it.
            mask: (*spatial), whole numbers in 0..65535; 0 is background.
            spacing_mm: of a volume.
            geometry: of a volume.

        Raises:
            ValueError: a dtype, a shape or a mask value that this store cannot hold.
        """
        self._check(name, image_C, mask)
        entry = ScanEntry(
            name=name,
            patient=patient,
            split=split,
            shape=tuple(mask.shape),
            dtype=image_C.dtype.name,
            image_offset=_append(self._images, image_C, image_C.dtype.newbyteorder("<")),
            mask_offset=_append(self._masks, mask, MASK_DTYPE),
            spacing_mm=spacing_mm,
            geometry=geometry,
        )
        self._spatial_dims = mask.ndim
        self._channels = image_C.shape[0]
        self._entries.append(entry)
        self._foreground.append(np.count_nonzero(mask) / mask.size)
        return entry

    def finish(
        self,
        mask_values: Sequence[int],
        labels: Labels | None = None,
        modalities: Sequence[str] = (),
        common_spacing_mm: Sequence[float] = (),
    ) -> Manifest:
        """Write `manifest.json` and close the files.

        Args:
            mask_values: the value of class 0, 1, … in the masks that were added.
            labels: what values are called, where that is known; other values may be among them.
            modalities: what the channels are called, where that is known.
            common_spacing_mm: see `Manifest`.

        Raises:
            ValueError: no scan was added.
        """
        if not self._entries:
            raise ValueError("a prepared dataset needs at least one scan")
        manifest = Manifest(
            spatial_dims=self._spatial_dims,
            channels=self._channels,
            classes=len(mask_values),
            mask_values=tuple(mask_values),
            foreground_fraction=float(np.mean(self._foreground)),
            scans=tuple(self._entries),
            labels=in_order(labels or {}, mask_values),
            modalities=tuple(modalities),
            common_spacing_mm=tuple(common_spacing_mm),
        )
        self.close()
        (self._folder / MANIFEST_FILE).write_text(manifest.to_json(), encoding="utf-8")
        return manifest

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        self._images.close()
        self._masks.close()

    def _check(self, name: str, image_C: NDArray[Any], mask: NDArray[Any]) -> None:
        if image_C.dtype.name not in IMAGE_DTYPES:
            raise ValueError(f"{name}: dtype {image_C.dtype} is none of {', '.join(IMAGE_DTYPES)}")
        if mask.ndim not in (2, 3) or image_C.shape[1:] != mask.shape:
            raise ValueError(
                f"{name}: image {image_C.shape} and mask {mask.shape} are not (C, H, W) and (H, W), "
                "nor (C, D, H, W) and (D, H, W)"
            )
        if self._entries and mask.ndim != self._spatial_dims:
            raise ValueError(f"{name}: {mask.ndim} axes, the scans before it have {self._spatial_dims}")
        if self._entries and image_C.shape[0] != self._channels:
            raise ValueError(f"{name}: {image_C.shape[0]} channels, the scans before it have {self._channels}")
        if mask.size == 0 or mask.min() < 0 or mask.max() > np.iinfo(MASK_DTYPE).max:
            raise ValueError(f"{name}: mask values lie outside 0..{np.iinfo(MASK_DTYPE).max}")


class DatasetStore:
    """Reads a prepared dataset. Scans stay on disk until looked at; a pickled store carries only its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.manifest = Manifest.from_json((folder / MANIFEST_FILE).read_text(encoding="utf-8"))
        self._images = np.memmap(folder / IMAGES_FILE, dtype=np.uint8, mode="r").view(np.ndarray)
        self._masks = np.memmap(folder / MASKS_FILE, dtype=np.uint8, mode="r").view(np.ndarray)
        self._class_of_value = class_of_value(self.manifest.mask_values)

    def __reduce__(self) -> tuple[type[DatasetStore], tuple[Path]]:
        return DatasetStore, (self._folder,)

    def __len__(self) -> int:
        return len(self.manifest.scans)

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._folder

    def image(self, index: int) -> NDArray[Any]:
        """The image of scan `index`, (C, *spatial), as decoded: a read-only view of the file."""
        entry = self.manifest.scans[index]
        dtype = np.dtype(entry.dtype).newbyteorder("<")
        return _view(self._images, entry.image_offset, dtype, (self.manifest.channels, *entry.shape))

    def mask(self, index: int) -> NDArray[np.uint8]:
        """The mask of scan `index`, uint8 (*spatial), class numbers 0..K-1: a new array."""
        entry = self.manifest.scans[index]
        return np.take(self._class_of_value, _view(self._masks, entry.mask_offset, MASK_DTYPE, entry.shape))


def _append(file: BinaryIO, array: NDArray[Any], dtype: np.dtype[Any]) -> int:
    offset = -(-file.tell() // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    file.write(bytes(offset - file.tell()))
    file.write(np.ascontiguousarray(array, dtype=dtype).data)
    return offset


def _view(data: NDArray[np.uint8], offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    length = dtype.itemsize * int(np.prod(shape))
    return data[offset : offset + length].view(dtype).reshape(shape)
