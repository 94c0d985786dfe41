"""Records of measurements as the benchmarks note them."""

from __future__ import annotations

from measuring import Record


def record(job, found, machine="a machine, 2 cores", revision="0123456789abcdef"):
    return Record(job, machine, revision, found)


def history(*epochs):
    """Epochs as (seconds of training up to its end, validation Dice, and where they are known processor seconds)."""
    names = ("training_seconds", "val_dice", "processor_seconds")
    return [{"epoch": n, **dict(zip(names, epoch, strict=False))} for n, epoch in enumerate(epochs, start=1)]


def trained(way="ours", seed=42, dice=0.9, epochs=((60.0, 0.7), (120.0, 0.82), (180.0, 0.9)), model="unet", **config):
    """A finished training of `accuracy.py`, whose plan chose the network."""
    job = {"way": way, "data": "rossa.zip", "sha256": "ab", "hold_out": 0}
    job["config"] = {"model": "auto", "epochs": 3, "seed": seed, **config}
    found = {
        "network": model,
        "parameters": 8_459_489,
        "precision": "fp32",
        "patch": "256×256",
        "scans": [85, 15, 100],
        "history": history(*epochs),
        "best_epoch": len(epochs),
        "val_dice": epochs[-1][1],
        "test": {"dice": dice, "dice_std": 0.03, "scans": 100},
        "samples_per_second": 1.5,
        "prediction_ms": 40.0,
        "peak_mib": 900.0,
    }
    return record(job, found)


def cells(table, row):
    """The cells of a row of a Markdown table by heading; row 0 is the first below the headings."""
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]
    return dict(zip(lines[0], lines[2 + row], strict=True))
