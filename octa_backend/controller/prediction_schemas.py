"""What the routes of kept predictions and of prediction jobs answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import Field

from octa_backend.controller.model_schemas import Confidence, PredictionOut
from octa_backend.controller.schemas import Answer
from octa_backend.controller.volume_schemas import PlaneOverlayOut, VolumePredictionOut
from octa_backend.service import prediction_job_service
from octa_backend.service.answer_files import PICTURE, VOLUME
from octa_backend.storage.prediction_tables import KeptPrediction, PredictionFailure, PredictionJob
from octa_backend.storage.tables import JobState


def prediction_url(prediction_id: str) -> str:
    """Where a kept prediction is shown."""
    return f"/predictions/{prediction_id}"


def progress_url(prediction_job_id: str) -> str:
    """Where a prediction job is polled."""
    return f"/predictions/jobs/{prediction_job_id}"


class PredictionFacts(Answer):
    """A kept prediction in a list."""

    prediction_id: str = Field(examples=["81b2fb36743ca0c1"])
    prediction_job_id: str | None
    """The job that it was made by; null for one that was answered at once."""
    model_id: str
    file: str
    """Of a volume the first of its case."""
    sha256: str
    """Of the scan's file; of several files, of their SHA-256s one after the other."""
    width: int
    height: int
    depth: int | None
    """Null of a picture; sides of a volume are along its file's own axes."""
    threshold: float
    foreground_fraction: float
    confidence: Confidence
    created_at: datetime
    prediction_url: str = Field(examples=["/predictions/81b2fb36743ca0c1"])

    @classmethod
    def of(cls, row: KeptPrediction) -> PredictionFacts:
        """From a row."""
        own = {"prediction_id": row.id, "prediction_url": prediction_url(row.id)}
        return cls(**own, **{name: getattr(row, name) for name in cls.model_fields if name not in own})


class KeptPredictionOut(PredictionOut):
    """The answer of `POST /predict` as it was given, with the addresses of its pictures in place of the pictures."""

    mask_png: str | None  # type: ignore[assignment]
    """Null, unless asked for with `pictures=true`; so are the other pictures."""
    overlay_png: str | None  # type: ignore[assignment]
    prediction_job_id: str | None
    sha256: str
    created_at: datetime
    pictures: dict[str, str] = Field(examples=[{"mask": "/predictions/81b2fb36743ca0c1/mask.png"}])
    """Name → address: mask, overlay, probability, scan; where asked for, confidence, measurement, difference."""


class KeptPlaneOverlayOut(PlaneOverlayOut):
    """The pictures of a plane, which are null unless asked for."""

    slice_png: str | None  # type: ignore[assignment]
    projection_png: str | None  # type: ignore[assignment]


class KeptVolumePredictionOut(VolumePredictionOut):
    """The answer for a volume as it was given, with the addresses of its files in place of the files."""

    mask_nii_gz: str | None  # type: ignore[assignment]
    """Null, unless asked for with `pictures=true`; so are the other volumes and pictures."""
    overlays: list[KeptPlaneOverlayOut]  # type: ignore[assignment]
    prediction_job_id: str | None
    sha256: str
    created_at: datetime
    pictures: dict[str, str] = Field(examples=[{"axial": "/predictions/81b2fb36743ca0c1/axial.png"}])
    """Name → address: of each plane the slice and the projection."""
    volumes: dict[str, str] = Field(examples=[{"mask": "/predictions/81b2fb36743ca0c1/mask.nii.gz"}])
    """Name → address: mask, and probability and confidence where they were asked for."""


OF_PICTURES_ALONE = {"file", "width", "height", "depth"}
"""Facts that the answer for a volume tells as `files` and `shape`."""


def kept_prediction(
    row: KeptPrediction, body: dict[str, Any], pictures: Sequence[str], volumes: Sequence[str]
) -> dict[str, Any]:
    """A `KeptPredictionOut` of a row, the stored answer, and the names of its pictures; or a `KeptVolumePredictionOut`.

    The answer is shown as it was given, also where an earlier version of the server gave it with fewer fields.
    """
    facts = PredictionFacts.of(row)
    url = facts.prediction_url
    told = facts.model_dump(mode="json", exclude={"depth"} if row.depth is None else OF_PICTURES_ALONE)
    found = {**body, **told, "pictures": {name: f"{url}/{name}{PICTURE}" for name in pictures}}
    if row.depth is not None:
        found["volumes"] = {name: f"{url}/{name}{VOLUME}" for name in volumes}
    return found


class DeletedOut(Answer):
    """How many predictions were deleted."""

    deleted: int


class StartedPredictionJob(Answer):
    """A queued prediction job and where to poll it."""

    prediction_job_id: str = Field(examples=["9f86d081884c7d65"])
    state: JobState = Field(examples=["queued"])
    total: int
    ignored: int
    progress_url: str = Field(examples=["/predictions/jobs/9f86d081884c7d65"])

    @classmethod
    def of(cls, job: PredictionJob) -> StartedPredictionJob:
        """From a row."""
        facts = {"state": job.state, "total": job.total, "ignored": job.ignored}
        return cls(prediction_job_id=job.id, progress_url=progress_url(job.id), **facts)


class FailedScan(Answer):
    """A scan that could not be predicted."""

    file: str
    reason: str


class PredictionJobOut(Answer):
    """A prediction job, and how far it is."""

    prediction_job_id: str = Field(examples=["9f86d081884c7d65"])
    model_id: str
    spatial_dims: int
    """2, and 3 of volumes."""
    name: str = Field(examples=["scans.zip"])
    state: JobState = Field(examples=["running"])
    cancel_requested: bool
    total: int = Field(examples=[120])
    """Scans, or cases of volumes; `ignored` files beside them are no images, or there more than once."""
    ignored: int
    done: int = Field(examples=[30])
    """Scans that are predicted."""
    failed: int
    """Scans that could not be."""
    percent: float = Field(examples=[25.0])
    eta_seconds: float | None = Field(examples=[41.5])
    options: dict[str, Any]
    error: str | None
    results_url: str | None = Field(examples=["/predictions/jobs/9f86d081884c7d65/results.zip"])
    """Null until the job is over."""
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: PredictionJob) -> PredictionJobOut:
        """From a row."""
        return cls(**_job_columns(job))


class PredictionJobDetail(PredictionJobOut):
    """A prediction job with the first scans that failed; all of them stand in its results."""

    failed_files: list[FailedScan]

    @classmethod
    def of_rows(cls, job: PredictionJob, failures: Sequence[PredictionFailure]) -> PredictionJobDetail:
        """From rows."""
        return cls(**_job_columns(job), failed_files=[FailedScan.model_validate(row) for row in failures])


def _job_columns(job: PredictionJob) -> dict[str, Any]:
    names = (
        "model_id",
        "spatial_dims",
        "name",
        "state",
        "cancel_requested",
        "total",
        "ignored",
        "failed",
        "options",
        "error",
    )
    times = ("created_at", "started_at", "finished_at")
    return {
        **{name: getattr(job, name) for name in (*names, *times)},
        "prediction_job_id": job.id,
        "done": job.processed - job.failed,
        "percent": round(100 * job.processed / job.total, 2),
        "eta_seconds": prediction_job_service.eta_seconds(job),
        "results_url": f"{progress_url(job.id)}/results.zip" if JobState(job.state).is_final else None,
    }
