"""`POST /predict`."""

from __future__ import annotations

from functools import partial
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from octa_backend import errors
from octa_backend.controller.context import Parts, Reader
from octa_backend.controller.dataset_controller import multipart
from octa_backend.controller.forms import received_form
from octa_backend.controller.model_schemas import PredictionOut, PredictionsOut
from octa_backend.controller.predict_forms import LISTS, PROPERTIES
from octa_backend.controller.predict_requests import kept_at, most_bytes, predict_all, read_request, start_job
from octa_backend.controller.prediction_schemas import StartedPredictionJob
from octa_backend.controller.preferences import in_place_of_json
from octa_backend.controller.problems import problems
from octa_backend.controller.schemas import files
from octa_backend.controller.sent_headers import LOCATION
from octa_backend.controller.volume_predictions import predict_one_case, require_acceptable, volume_response
from octa_backend.controller.volume_schemas import VolumePredictionOut

router = APIRouter(tags=["prediction"])


@router.post(
    "/predict",
    response_model=PredictionOut | PredictionsOut | VolumePredictionOut,
    summary="Segment one or more scans",
    responses={
        200: {"content": files("image/png", "application/gzip", "application/octet-stream")},
        202: {
            "model": StartedPredictionJob,
            "description": "The scans are predicted in the background.",
            "headers": LOCATION,
        },
        **problems(
            errors.InvalidRequest,
            errors.UnreadableScan,
            errors.ScanTooLarge,
            errors.InvalidScale,
            errors.InvalidOptions,
            errors.ScanDoesNotFit,
            errors.MaskDoesNotFit,
            errors.ModelsDiffer,
            errors.NoTunedThreshold,
            errors.UploadTooLarge,
            errors.ModelNotFound,
            errors.JobNotFound,
            errors.NoModelYet,
            errors.StorageFull,
            errors.TooManyPredictions,
            errors.InvalidArchive,
            errors.UnsafeArchive,
            errors.ArchiveTooLarge,
        ),
    },
    openapi_extra=multipart(PROPERTIES, ["file"]),
)
async def predict(request: Request, parts: Parts, language: Reader) -> Any:
    """Mask, overlay, confidence, measurements, warnings; with `Accept: image/png` and one scan, its mask alone.

    A zip, or more scans than are answered at once, or `batch=true` makes a prediction job: 202, and where to poll it.
    Of a model of volumes one case is answered at once, with `Accept: application/gzip` its mask alone; more are a job.
    """
    queue = parts.predictions.queue
    queue.require_place()
    async with received_form(request, parts.files, most_bytes(parts.settings), LISTS) as form:
        wanted = await run_in_threadpool(read_request, parts, form, language)
        if wanted.is_volumetric:
            require_acceptable(request, wanted.cases)
        if wanted.is_job:
            return await run_in_threadpool(start_job, parts, wanted)
        if wanted.is_volumetric:
            given = (wanted.model_ids, wanted.uploads, wanted.masks, wanted.options, wanted.is_kept)
            with queue.place():
                case = await to_thread.run_sync(predict_one_case, parts, *given, limiter=queue.threads)
            return volume_response(request, case, is_kept=wanted.is_kept)
        wants_png = in_place_of_json(request.headers.get("accept", ""), ["image/png"]) is not None
        if wants_png and len(wanted.uploads) != 1:
            raise errors.InvalidRequest(f"Accept: image/png answers one scan; {len(wanted.uploads)} came")
        with queue.place():
            answers = await to_thread.run_sync(
                partial(predict_all, parts, wanted, masks_alone=wants_png), limiter=queue.threads
            )
    if wants_png:
        return Response(answers[0].mask_file, media_type="image/png")
    bodies = [{**answer.body, "prediction_url": kept_at(wanted, answer)} for answer in answers]
    return bodies[0] if len(bodies) == 1 else {"predictions": bodies}
