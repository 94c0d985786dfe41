"""`POST /predict` where a model of volumes answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fastapi import Request, Response

from octa_backend import errors
from octa_backend.controller.context import Context
from octa_backend.controller.forms import Form
from octa_backend.controller.prediction_schemas import prediction_url
from octa_backend.inference.model_folder import spatial_dims
from octa_backend.service import prediction_history
from octa_backend.service.predict_service import ImageFile, PredictOptions
from octa_backend.service.prediction_history import Scanned
from octa_backend.service.volume_prediction import predict_volumes, refuse_volumes
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
    refuse_volumes(_files(form.uploads.get("file", ())), models[0].id)
    return False


def predict_cases(
    parts: Context,
    model_ids: Sequence[str],
    uploads: Sequence[Upload],
    masks: Sequence[Upload],
    options: PredictOptions,
    is_kept: bool,
) -> Sequence[Scanned]:
    """Segment the cases that came, see `predict_volumes`; keep all of the predictions once none has failed."""
    scans, known = _files(uploads), _files(masks)
    with parts.predictions.in_use.using(model_ids, "a prediction"):
        found = predict_volumes(parts.predictions, parts.settings, model_ids, scans, options, known)
    if is_kept:
        prediction_history.keep(parts.database, parts.files, found, parts.settings.predictions_kept)
    return found


def volume_response(request: Request, cases: Sequence[Scanned], *, is_kept: bool) -> Any:
    """One body, several, or the mask's file alone where that is asked for.

    Raises:
        InvalidRequest: the file alone is asked for, and several cases came.
    """
    accepted = request.headers.get("accept", "")
    if accepted.startswith(MASK_ALONE):
        if len(cases) != 1:
            raise errors.InvalidRequest(f"Accept: {accepted} answers one case; {len(cases)} came")
        kind = next(kind for kind in MASK_ALONE if accepted.startswith(kind))
        return Response(cases[0].answer.mask_file, media_type=kind)
    urls = [prediction_url(case.prediction_id) if is_kept else None for case in cases]
    bodies = [{**case.answer.body, "prediction_url": url} for case, url in zip(cases, urls, strict=True)]
    return bodies[0] if len(bodies) == 1 else {"predictions": bodies}


def _files(uploads: Iterable[Upload]) -> list[ImageFile]:
    return [ImageFile(one.path, one.name) for one in uploads]
