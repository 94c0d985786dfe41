"""`POST /predict` where a model of volumes answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import Request, Response

from octa_backend import errors
from octa_backend.controller.context import Context
from octa_backend.controller.forms import Form
from octa_backend.controller.prediction_schemas import prediction_url
from octa_backend.controller.preferences import in_place_of_json
from octa_backend.inference.model_folder import spatial_dims
from octa_backend.service import prediction_history
from octa_backend.service.predict_service import ImageFile, PredictOptions
from octa_backend.service.prediction_history import Scanned
from octa_backend.service.volume_prediction import predict_volume, refuse_volumes
from octa_backend.storage.tables import Model
from octa_backend.storage.uploads import Upload

MASK_ALONE = ("application/gzip", "application/octet-stream")
"""`Accept` that asks for the mask's file."""


def are_volumetric(models: Sequence[Model], form: Form) -> bool:
    """Whether the first of the models was trained on volumes; if not, no volume may have come.

    Raises:
        ScanDoesNotFit: one came.
    """
    if spatial_dims(models[0].card) == 3:
        return True
    refuse_volumes(image_files(form.uploads.get("file", ())), models[0].id)
    return False


def predict_one_case(
    parts: Context,
    model_ids: Sequence[str],
    uploads: Sequence[Upload],
    masks: Sequence[Upload],
    options: PredictOptions,
    is_kept: bool,
) -> Scanned:
    """Segment the case that came, see `predict_volume`, and keep the prediction."""
    scans, known = image_files(uploads), image_files(masks)
    with parts.predictions.in_use.using(model_ids, "a prediction"):
        found = predict_volume(parts.predictions, parts.settings, model_ids, scans, options, known)
    if is_kept:
        prediction_history.keep(parts.database, parts.files, [found], parts.settings.predictions_kept)
    return found


def require_acceptable(request: Request, cases: int) -> None:
    """Refuse a wish for the mask's file alone where several cases came.

    Raises:
        InvalidRequest: they did.
    """
    kind = _mask_alone(request)
    if kind is not None and cases != 1:
        raise errors.InvalidRequest(f"Accept: {kind} answers one case; {cases} came")


def volume_response(request: Request, case: Scanned, *, is_kept: bool) -> Any:
    """The body, or the mask's file alone where that is asked for."""
    kind = _mask_alone(request)
    if kind is not None:
        return Response(case.answer.mask_file, media_type=kind)
    return {**case.answer.body, "prediction_url": prediction_url(case.prediction_id) if is_kept else None}


def _mask_alone(request: Request) -> str | None:
    return in_place_of_json(request.headers.get("accept", ""), MASK_ALONE)


def image_files(uploads: Iterable[Upload]) -> list[ImageFile]:
    """Uploads as the service takes them."""
    return [ImageFile(one.path, one.name) for one in uploads]
