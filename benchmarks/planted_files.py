"""Faults of files: small zips with real encoded images, one fault each."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from planting import Scan, binary

from octa_backend.diagnosis.findings import Finding

Files = dict[str, bytes]
Change = Callable[[Files, Scan, np.random.Generator], None]


@dataclass(frozen=True)
class FileFault:
    """One kind of fault, planted in two scans of a zip; `names` says what the finding names: scans or their files.

    `as_colour`: all images are saved in colour first. `explained_by`: what the finding says that masks came to their
    size by, else it does not count.
    """

    code: str
    label: str
    change: Change
    names: str = "scan"
    runs: int = 5
    as_colour: bool = False
    explained_by: str = ""

    def found_in(self, findings: Sequence[Finding]) -> list[Finding]:
        """Those that notice this fault, and explain it as they should."""
        wanted = {self.explained_by} if self.explained_by else None
        return [
            finding
            for finding in findings
            if finding.code == self.code and wanted in (None, set(finding.evidence.get("explained_by", ())))
        ]

    def write(self, path: Path, scans: Sequence[Scan], rng: np.random.Generator) -> frozenset[str]:
        """Write the zip; returns the names that the finding should give."""
        files: Files = {}
        for scan in scans:
            files[image_of(scan)] = png(picture(scan).convert("RGB") if self.as_colour else picture(scan))
            files[mask_of(scan)] = png(Image.fromarray(binary(scan)))
        chosen = [scans[int(at)] for at in rng.choice(len(scans), min(2, len(scans) - 1), replace=False)]
        for scan in chosen:
            self.change(files, scan, rng)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        named: dict[str, Callable[[Scan], str]] = {"scan": lambda s: s.name, "image": image_of, "mask": mask_of}
        return frozenset(named[self.names](scan) for scan in chosen)


def image_of(scan: Scan) -> str:
    return f"images/{scan.name}.png"


def mask_of(scan: Scan) -> str:
    return f"masks/{scan.name}.png"


def picture(scan: Scan) -> Image.Image:
    return Image.fromarray(scan.image[0] if len(scan.image) == 1 else scan.image.transpose(1, 2, 0))


def png(image: Image.Image) -> bytes:
    return encoded(image, "PNG")


def encoded(image: Image.Image, kind: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def cut_image(files: Files, scan: Scan, rng: np.random.Generator) -> None:
    content = files[image_of(scan)]
    files[image_of(scan)] = content[: int(len(content) * rng.uniform(0.1, 0.8))]


def text_for_mask(files: Files, scan: Scan, _: np.random.Generator) -> None:
    files[mask_of(scan)] = b"not a picture"


def without_mask(files: Files, scan: Scan, _: np.random.Generator) -> None:
    del files[mask_of(scan)]


def without_image(files: Files, scan: Scan, _: np.random.Generator) -> None:
    del files[image_of(scan)]


def enlarged_mask(files: Files, scan: Scan, rng: np.random.Generator) -> None:
    mask = Image.fromarray(binary(scan))
    factor = float(rng.choice([0.5, 2]))
    files[mask_of(scan)] = png(mask.resize([round(factor * side) for side in mask.size], Image.Resampling.NEAREST))


def turned_mask(files: Files, scan: Scan, rng: np.random.Generator) -> None:
    """The mask of a scan that is not square, with rows and columns exchanged or after a quarter turn."""
    image, mask = lower_part(scan)
    how = (Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270)[int(rng.integers(3))]
    files[image_of(scan)], files[mask_of(scan)] = png(image), png(mask.transpose(how))


def cut_mask(files: Files, scan: Scan, _: np.random.Generator) -> None:
    """The mask of a strip of the scan: neither scaling nor a turn brings it onto its image."""
    height, width = scan.inside.shape
    files[mask_of(scan)] = png(Image.fromarray(binary(scan)).crop((0, 0, width, height // 4)))


def lower_part(scan: Scan) -> tuple[Image.Image, Image.Image]:
    """Image and mask, three quarters as high as wide at most."""
    height, width = scan.inside.shape
    box = (0, max(0, height - 3 * width // 4), width, height)
    return picture(scan).crop(box), Image.fromarray(binary(scan)).crop(box)


def jpeg_mask(files: Files, scan: Scan, rng: np.random.Generator) -> None:
    """A JPEG under the name of a PNG: formats are told by content."""
    files[mask_of(scan)] = encoded(Image.fromarray(binary(scan)), "JPEG", quality=int(rng.integers(40, 95)))


def red_mask(files: Files, scan: Scan, _: np.random.Generator) -> None:
    """Foreground in dark red."""
    red = Image.composite(
        Image.new("RGB", scan.inside.shape[::-1], "#c02020"),
        Image.new("RGB", scan.inside.shape[::-1], "#000000"),
        Image.fromarray(binary(scan)),
    )
    files[mask_of(scan)] = png(red)


def image_with_alpha(files: Files, scan: Scan, _: np.random.Generator) -> None:
    image = picture(scan).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    files[image_of(scan)] = png(image)


def empty_mask(files: Files, scan: Scan, _: np.random.Generator) -> None:
    files[mask_of(scan)] = png(Image.fromarray(np.zeros_like(binary(scan))))


def grey_image(files: Files, scan: Scan, _: np.random.Generator) -> None:
    files[image_of(scan)] = png(picture(scan).convert("L"))


def nan_image(files: Files, scan: Scan, rng: np.random.Generator) -> None:
    """Real numbers in a TIFF, some of which are none."""
    values = np.array(picture(scan).convert("F"))
    values.ravel()[rng.integers(values.size, size=int(rng.integers(1, 20)))] = np.nan
    files[image_of(scan)] = encoded(Image.fromarray(values), "TIFF")


FILE_FAULTS = (
    FileFault("masks_empty_some", "empty", empty_mask, "mask"),
    FileFault("channels_mixed", "grey among colour", grey_image, "image", as_colour=True),
    FileFault("values_not_finite", "NaN", nan_image, "image"),
    FileFault("scan_unreadable", "image cut off", cut_image, "image"),
    FileFault("scan_unreadable", "mask is text", text_for_mask, "mask"),
    FileFault("images_without_mask", "mask left out", without_mask, "image"),
    FileFault("masks_without_image", "image left out", without_image, "mask"),
    FileFault("sizes_differ", "mask scaled", enlarged_mask, "mask", explained_by="scale"),
    FileFault("sizes_differ", "mask turned", turned_mask, "mask", explained_by="turn"),
    FileFault("sizes_differ", "mask cut", cut_mask, "mask", explained_by="nothing"),
    FileFault("masks_not_binary", "JPEG", jpeg_mask),
    FileFault("masks_coloured", "RGB", red_mask),
    FileFault("alpha_varies", "RGBA", image_with_alpha),
)
