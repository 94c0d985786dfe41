"""The scan that `octa demo` has predicted: as files for `POST /predict`, and what is kept of the answer."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from octa_backend.data.nifti import nifti_gz
from octa_backend.data.normalise import to_unit
from octa_backend.data.store import DatasetStore

Sent = Mapping[str, tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Unseen:
    """A scan that took no part in the training, and the mask that a perfect answer would have."""

    name: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]

    def files(self) -> Sent:
        """The scan as a PNG."""
        scan = io.BytesIO()
        Image.fromarray(self.image).save(scan, "png")
        return {"file": ("scan.png", scan.getvalue())}

    def dice(self, answer: Mapping[str, Any]) -> float:
        """Of the predicted foreground."""
        with Image.open(io.BytesIO(base64.b64decode(answer["mask_png"]))) as picture:
            found = np.asarray(picture) > 0
        return float(2 * (found & self.mask).sum() / max(1, found.sum() + self.mask.sum()))

    def written(self, answer: Mapping[str, Any], out: Path) -> dict[str, Path]:
        """Write scan, mask and overlay; returns where."""
        found = {name: base64.b64decode(answer[f"{name}_png"]) for name in ("mask", "overlay")}
        return _written({"scan": self.files()["file"][1], **found}, out, ".png")


@dataclass(frozen=True, slots=True)
class UnseenVolume:
    """The same of a volume; with its mask beside it the server says how well the two agree.

    Attributes:
        name: what it is called.
        image: NIfTI, all modalities on the fourth axis.
        mask: NIfTI, with the dataset's own values.
    """

    name: str
    image: bytes
    mask: bytes

    def files(self) -> Sent:
        """The volume and its mask."""
        return {"file": ("scan.nii.gz", self.image), "mask": ("known.nii.gz", self.mask)}

    def dice(self, answer: Mapping[str, Any]) -> float:
        """Mean over the classes."""
        return float(answer["evaluation"]["mean"]["dice"])

    def written(self, answer: Mapping[str, Any], out: Path) -> dict[str, Path]:
        """Write scan and mask, and how they look across the axial plane; returns where."""
        axial = next(one for one in answer["overlays"] if one["plane"] == "axial")
        volumes = {"scan": self.image, "mask": base64.b64decode(answer["mask_nii_gz"])}
        drawn = _written({"overlay": base64.b64decode(axial["slice_png"])}, out, ".png")
        return {**_written(volumes, out, ".nii.gz"), **drawn}


def _written(contents: Mapping[str, bytes], out: Path, ending: str) -> dict[str, Path]:
    paths = {name: out / f"{name}{ending}" for name in contents}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    return paths


def held_out(store: DatasetStore, scan: str, split: str) -> Unseen | UnseenVolume:
    """A scan of a dataset, by its name."""
    index = [entry.name for entry in store.manifest.scans].index(scan)
    name = f"scan {scan} of the {split} split"
    if store.manifest.spatial_dims == 3:
        return _volume(store, index, name)
    image = np.rint(to_unit(store.image(index)) * 255).astype(np.uint8)
    shown = image[0] if image.shape[0] == 1 else np.moveaxis(image, 0, -1)
    return Unseen(name, shown, store.mask(index) > 0)


def _volume(store: DatasetStore, index: int, name: str) -> UnseenVolume:
    depth, height, width = store.manifest.scans[index].spacing_mm
    affine = np.diag([width, height, depth, 1.0])
    image_CDHW = np.asarray(store.image(index))
    image_CDHW = image_CDHW.astype(image_CDHW.dtype.newbyteorder("="))
    image_XYZC = image_CDHW.transpose(3, 2, 1, 0)
    values = np.asarray(store.manifest.mask_values, np.uint8)
    mask_XYZ = values[store.mask(index)].transpose(2, 1, 0)
    whole = image_XYZC[..., 0] if image_XYZC.shape[-1] == 1 else image_XYZC
    return UnseenVolume(name, nifti_gz(whole, affine), nifti_gz(mask_XYZ, affine))
