"""The process that makes one export, and ends: `python -m octa_backend.service.export_child MODEL FORMAT NICENESS`.

Tracing and converting load libraries that nothing else needs, take hundreds of MiB and hold Python's lock for seconds;
a server does none of that itself. Ends with status 0 where the export is there, else says why on the last line.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from octa_backend.errors import ExportFailed, OctaError
from octa_backend.inference.agreement import mask_agreement, with_other_shapes
from octa_backend.inference.check_scans import check_scans
from octa_backend.inference.export_formats import OPSET, TracedModel, checked_arithmetic, load_graph, write_graph
from octa_backend.inference.export_record import (
    RECORD_FILE,
    ExportFormat,
    ExportRecord,
    export_folder,
    find_export,
    least_agreement,
    library_versions,
)
from octa_backend.inference.graph import SMALLEST_CELLS, multiple_of, trace
from octa_backend.inference.model_folder import nearby_dataset, read_card, spatial_dims
from octa_backend.inference.quantisation import CALIBRATION_SCANS, require_nncf
from octa_backend.inference.torch_engine import TorchEngine, load_network
from octa_backend.service.process import lower_priority
from octa_backend.storage.files import folder_written_aside, sync_folder_files

CHECK_SCANS = 4


def make_export(model: Path, wanted: ExportFormat) -> None:
    """Export a model, load what was written and compare it with torch; only then does the export appear.

    Args:
        model: a folder with card and weights.
        wanted: the format.

    Raises:
        ExportFailed: its masks are not torch's, or the format needs a library that is not installed.
    """
    card, target = read_card(model), export_folder(model, wanted)
    target.parent.mkdir(exist_ok=True)
    try:
        with folder_written_aside(target) as aside:
            if wanted == "openvino-int8":
                require_nncf()
            traced = _traced(model, card)
            write_graph(traced, wanted, aside)
            record = _checked(_record(traced, card, wanted, aside), model, card)
            (aside / RECORD_FILE).write_text(record.to_json(), "utf-8")
            sync_folder_files(aside)
    except OSError:
        if find_export(model, wanted) is None:  # else another process was first, and its export is as good
            raise


def _traced(model: Path, card: Mapping[str, Any]) -> TracedModel:
    network = load_network(model, card)
    multiple = multiple_of(network)
    dataset = nearby_dataset(model, card)
    return TracedModel(
        trace(network, card["channels"], spatial_dims(card)),
        multiple,
        SMALLEST_CELLS * multiple if isinstance(multiple, int) else tuple(SMALLEST_CELLS * one for one in multiple),
        lambda: check_scans(card, dataset, "train", CALIBRATION_SCANS).scans,
    )


def _record(traced: TracedModel, card: Mapping[str, Any], wanted: ExportFormat, folder: Path) -> ExportRecord:
    return ExportRecord(
        folder=folder,
        format=wanted,
        opset=OPSET if wanted == "onnx" else None,
        network=card["network"],
        channels=card["channels"],
        classes=card["classes"],
        normalisation=card.get("normalisation", "unit"),
        multiple=traced.multiple,
        smallest_side=traced.smallest_side,
        checked_on="",
        agreement={},
        versions=library_versions(wanted),
    )


def _checked(record: ExportRecord, model: Path, card: Mapping[str, Any]) -> ExportRecord:
    """The record with the agreement in each arithmetic of this machine.

    Raises:
        ExportFailed: it is too small in all of them.
    """
    found = check_scans(card, nearby_dataset(model, card), "val", CHECK_SCANS)
    reference = TorchEngine(load_network(model, card), spatial_dims=spatial_dims(card))
    scans = with_other_shapes(found.scans)
    names = checked_arithmetic(record.format)
    agreement = {name: mask_agreement(load_graph(record, name), reference, scans) for name in names}
    record = replace(record, checked_on=found.source, agreement=agreement)
    if not any(record.agrees(name) for name in names):
        raise ExportFailed(
            f"as {record.format}, {max(agreement.values()):.4%} of the pixels of {len(found.scans)} {found.source} "
            f"scans have torch's class; {least_agreement(record.format):.1%} are needed"
        )
    return record


def main() -> int:
    """Make the export that the arguments name."""
    model, wanted, niceness = Path(sys.argv[1]), cast("ExportFormat", sys.argv[2]), int(sys.argv[3])
    lower_priority(niceness)
    try:
        make_export(model, wanted)
    except OctaError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
