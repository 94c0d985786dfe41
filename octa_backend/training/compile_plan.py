"""What a plan decides about compiling: whether a run is long enough to earn back the wait."""

from __future__ import annotations

from octa_backend.data.store import Manifest
from octa_backend.training.config import TrainConfig
from octa_backend.training.loss_plan import Decide
from octa_backend.training.precision import Hardware

ON_CPU = "on a CPU it was measured: 2.8 instead of 2.7 scans per second, after a wait of 77 to 96 seconds"

LONG_RUN = 50_000
"""Patches that a run on a GPU must see. The default network takes some 20 ms for one, so that a tenth of that earns
back a wait of 90 seconds. The tenth is an assumption: compiling was not measured on a GPU."""


def resolve_compile(
    config: TrainConfig, manifest: Manifest, hardware: Hardware, patches_per_scan: int, decide: Decide
) -> str:
    """`on` or `off`: as it was asked for, else as a reason says."""
    if config.compile != "auto":
        return config.compile
    if not hardware.device.startswith("cuda"):
        return str(decide("compile", "off", ON_CPU))
    scans = sum(scan.split in (None, "train") for scan in manifest.scans)
    patches = config.epochs * scans * patches_per_scan
    if patches < LONG_RUN:
        return str(decide("compile", "off", f"{patches} patches are too few to earn back the wait ({LONG_RUN} do)"))
    return str(decide("compile", "on", f"{patches} patches earn back a wait of a minute or two ({LONG_RUN} do)"))
