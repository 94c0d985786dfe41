"""The exports of a model on disk: where each lies, and what is known of it. Imports neither torch nor OpenVINO.

An export is a folder `exports/FORMAT-VERSIONS` of the model's folder with the graph and `export.json`; it appears whole
or not at all and never changes. A format that the model cannot be exported in leaves `FORMAT-VERSIONS.failed.json`.
Other versions of the libraries make an export of their own, which is checked anew.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from octa_backend.storage.files import write_aside

if TYPE_CHECKING:
    from octa_backend.models.base import PerAxis

ExportFormat = Literal["onnx", "openvino", "openvino-int8", "torch"]
FORMATS: tuple[ExportFormat, ...] = get_args(ExportFormat)

EXPORTS_FOLDER, RECORD_FILE = "exports", "export.json"
GRAPH_FILES: dict[ExportFormat, str] = {
    "onnx": "model.onnx",
    "openvino": "model.xml",
    "openvino-int8": "model.xml",
    "torch": "model.pt2",
}
LIBRARIES: dict[ExportFormat, tuple[str, ...]] = {
    "onnx": ("torch", "onnx"),
    "openvino": ("torch", "openvino"),
    "openvino-int8": ("torch", "openvino", "nncf"),
    "torch": ("torch",),
}
"""What decides an export's graph."""

SAME_MASK = 0.999
"""Share of pixels that must have torch's class, for a graph in floating point to be used."""
SAME_MASK_INT8 = 0.99
"""The same for 8-bit integers: they round, and whoever asks for them accepts that."""


@dataclass(frozen=True, slots=True)
class ExportRecord:
    """What is known of an export.

    Attributes:
        folder: where it lies.
        format: of the graph.
        opset: of ONNX; None for other formats.
        network: its name.
        channels, classes: of scans, and of masks with background.
        normalisation: of scans in 0..1, before they come to the graph.
        multiple: sides of the graph's input are multiples of this, pixels, one number or one for each axis; the border
            is repeated, the logits cropped.
        smallest_side: of the graph's input, pixels, likewise.
        checked_on: whose scans it was compared with torch on: "validation" or "synthetic".
        agreement: share of pixels with torch's class on these scans, by arithmetic.
        versions: of the libraries that made it.
    """

    folder: Path
    format: ExportFormat
    opset: int | None
    network: str
    channels: int
    classes: int
    normalisation: str
    multiple: PerAxis
    smallest_side: PerAxis
    checked_on: str
    agreement: dict[str, float]
    versions: dict[str, str]

    @property
    def graph(self) -> Path:
        """The file to load."""
        return self.folder / GRAPH_FILES[self.format]

    def agrees(self, arithmetic: str) -> bool:
        """Whether the graph gave torch's masks in this arithmetic."""
        return self.agreement.get(arithmetic, 0.0) >= least_agreement(self.format)

    def to_json(self) -> str:
        """The record as the text of `export.json`; the folder is where that lies."""
        facts = asdict(self)
        del facts["folder"]
        return json.dumps({"input": "scan", "output": "logits", **facts}, indent=1)

    @classmethod
    def read(cls, folder: Path) -> ExportRecord:
        """Read what `to_json` wrote."""
        facts: dict[str, Any] = json.loads((folder / RECORD_FILE).read_text("utf-8"))
        del facts["input"], facts["output"]
        return cls(folder=folder, **facts)


def least_agreement(wanted: ExportFormat) -> float:
    """The share of pixels with torch's class from which an export is handed out and used."""
    return SAME_MASK_INT8 if wanted == "openvino-int8" else SAME_MASK


def library_versions(wanted: ExportFormat) -> dict[str, str]:
    """The versions here of what decides an export's graph; "none" where a library is not installed."""
    return {name: _version(name) for name in LIBRARIES[wanted]}


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def export_folder(model: Path, wanted: ExportFormat) -> Path:
    """Where the export of a model in a format lies, as these versions of the libraries make it."""
    versions = "-".join(f"{name}-{version}" for name, version in library_versions(wanted).items())
    return model / EXPORTS_FOLDER / f"{wanted}-{versions}"


def find_export(model: Path, wanted: ExportFormat) -> ExportRecord | None:
    """The export of a model, or None where it was not made."""
    folder = export_folder(model, wanted)
    return ExportRecord.read(folder) if (folder / RECORD_FILE).is_file() else None


def _failure_file(model: Path, wanted: ExportFormat) -> Path:
    folder = export_folder(model, wanted)
    return folder.with_name(f"{folder.name}.failed.json")


def find_failure(model: Path, wanted: ExportFormat) -> str | None:
    """Why a model cannot be exported in a format, or None where that is not known."""
    path = _failure_file(model, wanted)
    return str(json.loads(path.read_text("utf-8"))["reason"]) if path.is_file() else None


def note_failure(model: Path, wanted: ExportFormat, reason: str) -> None:
    """Keep why a model cannot be exported, so that it is not tried again at each load."""
    path = _failure_file(model, wanted)
    path.parent.mkdir(exist_ok=True)
    write_aside(path, json.dumps({"reason": reason}, ensure_ascii=False).encode())
