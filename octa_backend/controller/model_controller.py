"""Routes under `/models`."""

from __future__ import annotations

from fastapi import APIRouter

from octa_backend import errors
from octa_backend.controller.context import Parts, Reading
from octa_backend.controller.model_schemas import ModelOut
from octa_backend.controller.problems import problems
from octa_backend.service import model_service
from octa_backend.storage.files import remove

router = APIRouter(prefix="/models", tags=["models"])


@router.get("/{model_id}", summary="Show a model", responses=problems(errors.ModelNotFound))
def show(model_id: str, db: Reading) -> ModelOut:
    """Its card: network, plan, dataset, test scores; of an ensemble, its members."""
    return ModelOut.of(model_service.get(db, model_id))


@router.delete(
    "/{model_id}",
    status_code=204,
    summary="Delete a model",
    responses=problems(errors.ModelNotFound, errors.ModelInUse),
)
def delete(model_id: str, parts: Parts) -> None:
    """Refused while an ensemble needs it. Its job stays."""
    with parts.database.writing() as session:
        model_service.forget(session, model_id)
    parts.predictions.forget(model_id)
    remove(parts.files.model(model_id))
