"""Exports as they lie on disk, without an export."""

from __future__ import annotations

from octa_backend.inference.export_record import ExportRecord, export_folder, find_export


def a_record(folder, wanted="openvino", **changes):
    facts = {
        "opset": None,
        "network": "small_unet",
        "channels": 1,
        "classes": 2,
        "normalisation": "unit",
        "multiple": 4,
        "smallest_side": 8,
        "checked_on": "synthetic",
        "agreement": {"fp32": 1.0},
        "versions": {"torch": "1"},
    }
    return ExportRecord(folder=folder, format=wanted, **{**facts, **changes})


def keep(record):
    record.folder.mkdir(parents=True)
    (record.folder / "export.json").write_text(record.to_json(), "utf-8")
    return record


class FakeExporter:
    """Makes an export of one line at once."""

    def __init__(self):
        self.made = []

    def ensure(self, model, wanted):
        found = find_export(model, wanted)
        if found is None:
            self.made.append(model.name)
            found = keep(a_record(export_folder(model, wanted), wanted))
            found.graph.write_text(f"graph of {model.name}", "utf-8")
        return found
