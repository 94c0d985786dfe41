"""How long a running job will still take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from octa_backend.storage.tables import EpochReport, Job, JobState
from octa_backend.training.patch_growth import PatchGrowth


def seconds_left(job: Job, latest: EpochReport | None) -> float | None:
    """Seconds until the last epoch, from the latest one's time and patches; None while that is not known.

    An epoch is taken to last the longer the more pixels its patches have. Where patches grow that is too much at first,
    as validation, which is part of an epoch's time, does not grow with them.

    Args:
        job: not the parent of a cross-validation, which has no epochs of its own.
        latest: its last epoch.
    """
    epochs: int | None = job.planned("epochs")
    if job.state != JobState.RUNNING or latest is None or epochs is None:
        return None
    return round(_epochs_left(job.plan, latest.epoch, epochs) * latest.seconds, 1)


def _epochs_left(plan: Mapping[str, Any] | None, epoch: int, epochs: int) -> float:
    """Epochs after this one, counted in epochs of its size."""
    if plan is None or plan["config"].get("patch_growth") != "on":
        return epochs - epoch
    spacing = (plan["fingerprint"] or {}).get("spacing_mm", ())
    return PatchGrowth.to(tuple(plan["patch_shape"]), spacing, epochs).work_after(epoch)
