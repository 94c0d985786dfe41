"""A model as one zip for somebody else: weights, card, checked graphs, and a script that needs little to run them."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import octa_backend.inference.standalone
from octa_backend.errors import ExportFailed
from octa_backend.inference.export_record import ExportFormat
from octa_backend.inference.model_card import CARD_FORMAT, ModelCard
from octa_backend.inference.model_folder import CARD_FILE, WEIGHTS_FILE, member_folders, read_card, spatial_dims
from octa_backend.service.card_text import card_text
from octa_backend.service.exporter import Exporter

MEMBERS_FOLDER = "members"
GRAPHS: tuple[ExportFormat, ...] = ("onnx", "openvino")
SCRIPT_FILE = "predict.py"

README = """# {title}

Research use only. 仅供科研使用。

`card.md` says what this model is and how good it is; `card.json` says the same to programs.

{how}

With the program that made it, everything else works, too: `octa import {archive}`, or send the zip to
`POST /models/import`. The graphs are not taken from the zip then, but made anew from the weights.

{graphs}
"""

HOW = """Segment a scan (PNG, JPEG, TIFF, BMP or GIF):

```
pip install -r requirements.txt
python predict.py SCAN.png --out MASK.png
```

The mask has the scan's size and holds 0 and 255, or class numbers with more than two classes. `--threshold 0.5` says
from which probability a pixel is foreground."""

NO_SCRIPT = "There is no ONNX graph of this model, so there is no script here that runs it alone."

OF_VOLUMES = """This is a model of volumes: there is no script here that runs it alone. Import it as below; then
`octa predict MODEL CASE.nii.gz --out masks`, or `POST /predict` of the server, resamples and crops a case, normalises
it and puts the answer together from parts. A program that runs the graph itself has to do that, as `card.json` says."""


@dataclass(frozen=True, slots=True)
class Graphs:
    """Exported graphs: their files by name in the zip, and why a format is not there."""

    files: Mapping[str, Path]
    missing: Mapping[ExportFormat, str]


def write_package(exporter: Exporter, model: Path, card: Mapping[str, Any], target: Path) -> None:
    """Write the zip.

    Args:
        exporter: makes the graphs that are not there yet, and compares them with torch.
        model: the model's folder.
        card: its card, with what people say of it.
        target: the file to write; whoever calls removes it where this fails.

    Raises:
        IncompatibleCheckpoint: the weights of the model, or of a member, are not there.
    """
    folders = {_inside(model, folder): folder for folder in member_folders(model, card)}
    graphs = _graphs(exporter, folders)
    whole = {"format": CARD_FORMAT, **card}
    texts = {
        CARD_FILE: _json(whole),
        "card.md": card_text(ModelCard.model_validate(whole)),
        "README.md": _readme(model.name, card, graphs),
    }
    for inside, folder in folders.items():
        if inside:
            texts[f"{inside}{CARD_FILE}"] = _json({"format": CARD_FORMAT, **read_card(folder)})
    files = {f"{inside}{WEIGHTS_FILE}": folder / WEIGHTS_FILE for inside, folder in folders.items()}
    if _how(card, graphs) is HOW:
        scripts = Path(octa_backend.inference.standalone.__file__).parent
        files |= {name: scripts / name for name in (SCRIPT_FILE, "requirements.txt")}
    with zipfile.ZipFile(target, "w") as archive:  # weights do not shrink: stored, not compressed
        for name, text in texts.items():
            archive.writestr(name, text)
        for name, path in {**files, **graphs.files}.items():
            archive.write(path, name)


def _inside(model: Path, folder: Path) -> str:
    """The folder of a network in the zip: the top, or one for each member of an ensemble."""
    return "" if folder == model else f"{MEMBERS_FOLDER}/{folder.name}/"


def _graphs(exporter: Exporter, folders: Mapping[str, Path]) -> Graphs:
    """Every graph that can be made; of an ensemble, of all members or of none."""
    files: dict[str, Path] = {}
    missing: dict[ExportFormat, str] = {}
    for wanted in GRAPHS:
        try:
            records = {inside: exporter.ensure(folder, wanted) for inside, folder in folders.items()}
        except ExportFailed as error:
            missing[wanted] = error.message
            continue
        for inside, record in records.items():
            files |= {f"{inside}{wanted}/{path.name}": path for path in sorted(record.folder.iterdir())}
    return Graphs(files, missing)


def _readme(name: str, card: Mapping[str, Any], graphs: Graphs) -> str:
    told = [f"- `{wanted}/`: checked, its masks are torch's (see `export.json`)" for wanted in GRAPHS]
    told = [
        f"- no `{wanted}`: {graphs.missing[wanted]}" if wanted in graphs.missing else line
        for wanted, line in zip(GRAPHS, told, strict=True)
    ]
    return README.format(
        title=" ".join((card.get("name") or name).split()),
        how=_how(card, graphs),
        archive=f"{name}.zip",
        graphs="\n".join(told),
    )


def _how(card: Mapping[str, Any], graphs: Graphs) -> str:
    """How the model is run without the program that made it."""
    if spatial_dims(card) == 3:
        return OF_VOLUMES
    return NO_SCRIPT if "onnx" in graphs.missing else HOW


def _json(card: Mapping[str, Any]) -> str:
    return json.dumps(card, ensure_ascii=False, indent=1)
