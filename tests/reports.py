"""Small evaluation reports for tests."""

from __future__ import annotations

from octa_backend.training.evaluation_report import ScanResult, Subject, make_report
from octa_backend.training.run_facts import RunFacts
from octa_backend.training.scan_metrics import METRICS, ClassMetrics, Scale, ScanMetrics


def metrics(value: float | None, **others) -> ClassMetrics:
    """All metrics equal, but for those given."""
    return ClassMetrics(**{**dict.fromkeys(METRICS, value), **others})


def scan(name: str, *classes: ClassMetrics | None, split: str | None = "test") -> ScanResult:
    """A scan whose overall score is its first class's."""
    return ScanResult(name, split, ScanMetrics(classes[0], classes), true_fraction=0.25, found_fraction=0.5)


def subject(**changes) -> Subject:
    facts = {
        "model": "model-e3",
        "network": "unet",
        "dataset": "scans.zip",
        "sha256": "ab" * 32,
        "split": "test",
        "classes": 2,
        "threshold": 0.5,
        "scale": Scale((1.0, 1.0), 1.0, "px"),
        "device": "cpu",
        "precision": "fp32",
        "created_at": "2025-01-02T03:04:05+00:00",
        "versions": {"torch": "2.0", "git_revision": None},
    }
    return Subject(**{**facts, **changes})


def epoch(number: int, **changes) -> dict:
    """An epoch of a training's history."""
    numbers = {"train_loss": 1 / number, "val_loss": 1.5 / number, "val_dice": 1 - 1 / number, "lr": 0.001}
    return {"epoch": number, **numbers, **changes}


def run_facts() -> RunFacts:
    """How a training of twelve epochs was computed."""
    return RunFacts(
        config={"batch_size": 2, "pos_weight": None},
        reasons=({"field": "lr", "value": 0.01, "reason": "found by <trial>"},),
        patch_shape=(64, 64),
        epochs=12,
        best_epoch=9,
        seconds_per_epoch=7.5,
        seconds_per_batch=0.25,
        scans_per_second=8.0,
        peak_memory_mb=1024.0,
    )


def report(*scans: ScanResult, **changes):
    """A report of two scans, or of those given."""
    about = changes.pop("about", subject())
    return make_report(about, scans or (scan("a", metrics(0.5)), scan("b", metrics(1.0))), **changes)
