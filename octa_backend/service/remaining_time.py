"""How long a running job will still take."""

from __future__ import annotations

from octa_backend.storage.tables import EpochReport, Job, JobState
from octa_backend.training.patch_growth import PatchGrowth


def seconds_left(job: Job, latest: EpochReport | None) -> float | None:
    """Seconds until the last epoch, from the latest one's time and patches; None while that is not known.

    Where patches grow, the steps of an epoch are taken to last the longer the more pixels its patches have; validation,
    which is part of an epoch's time, does not grow with them.

    Args:
        job: not the parent of a cross-validation, which has no epochs of its own.
        latest: its last epoch.
    """
    epochs: int | None = job.planned("epochs")
    if job.state != JobState.RUNNING or latest is None or epochs is None:
        return None
    left, plan = epochs - latest.epoch, job.plan
    if plan is None or plan["config"].get("patch_growth") != "on":
        return round(left * latest.seconds, 1)
    growth = PatchGrowth.to(tuple(plan["patch_shape"]), plan["fingerprint"]["spacing_mm"], epochs)
    samples: int = plan["fingerprint"]["training_scans"] * plan["patches_per_scan"]
    trained = min(latest.seconds, samples / latest.scans_per_second)
    return round(trained * growth.work_after(latest.epoch) + (latest.seconds - trained) * left, 1)
