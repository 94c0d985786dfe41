"""Small volumes as files, for tests of what reads them."""

from __future__ import annotations

import gzip
import io
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import from_matvec
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform
from PIL import Image

SHAPE = (20, 18, 16)  # X, Y, Z


def affine_of(orientation="RAS", spacing=(1.0, 1.0, 1.0), shape=SHAPE, tilt_degrees=0.0):
    """The affine of a volume whose axes point so; `shape` in the file's order."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    canonical = np.diag([*spacing, 1.0])
    angle = np.deg2rad(tilt_degrees)
    tilted = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    order = np.argsort(axcodes2ornt(orientation)[:, 0])
    of_canonical = np.asarray(shape)[order]
    return from_matvec(tilted) @ canonical @ inv_ornt_aff(turn, of_canonical)


def nifti(values, affine=None, *, zipped=True, **header):
    """A NIfTI file; `header` sets its fields."""
    image = nib.Nifti1Image(values, affine_of() if affine is None else affine)
    for field, value in header.items():
        image.header[field] = value
    content = image.to_bytes()
    return gzip.compress(content, mtime=0) if zipped else content


def with_header(content, **fields):
    """A plain NIfTI file with header fields overwritten, whatever they do to it."""
    header = nib.Nifti1Header(content[:348], check=False)
    for field, value in fields.items():
        header[field] = value
    return header.binaryblock + content[348:]


def stack(values_DHW, **options):
    """A TIFF of several pages."""
    pages = [Image.fromarray(page) for page in values_DHW]
    file = io.BytesIO()
    pages[0].save(file, format="TIFF", save_all=True, append_images=pages[1:], **options)
    return file.getvalue()


def ball(shape=SHAPE, radius=5.0, centre=None):
    """A ball of ones, uint8."""
    middle = [length / 2 for length in shape] if centre is None else centre
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    distance = sum((axis - at) ** 2 for axis, at in zip(grid, middle, strict=True))
    return (distance < radius**2).astype(np.uint8)


def case(seed=0, shape=SHAPE, radius=5.0, dtype=np.float32, scale=100.0):
    """An image in which the ball is brighter, zero at its faces; and the ball. In a file's order."""
    mask = ball(shape, radius)
    noise = np.random.default_rng(seed).random(shape)
    image = (scale * (0.2 + mask + 0.3 * noise)).astype(dtype)
    image[0] = image[-1] = 0
    return image, mask


def msd_files(count=4, seed=0, **options):
    """The files of a dataset in the layout of the Medical Segmentation Decathlon."""
    files = {}
    for number in range(count):
        image, mask = case(seed + number, **options)
        files[f"imagesTr/case_{number:03d}.nii.gz"] = nifti(image)
        files[f"labelsTr/case_{number:03d}.nii.gz"] = nifti(mask)
    return files


def zip_of(path: Path, files) -> Path:
    """A zip with these files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path
