"""Routes of the shelf: list of models, words about one, the default, comparisons."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from octa_backend import errors
from octa_backend.controller.context import Parts, Reading, Writing
from octa_backend.controller.dataset_controller import Cursor, Limit
from octa_backend.controller.json_bodies import JsonRoute
from octa_backend.controller.model_schemas import ModelOut
from octa_backend.controller.problems import problems
from octa_backend.controller.schemas import PageOut
from octa_backend.controller.sent_headers import FILE_NAME, LOCATION
from octa_backend.controller.shelf_schemas import ComparisonOut, ComparisonWish, DefaultChoice, ModelListed, SaidOfModel
from octa_backend.service import comparison_service, model_service, model_shelf
from octa_backend.service.comparison_table import table_csv

router = APIRouter(prefix="/models", tags=["models"], route_class=JsonRoute)


@router.get("", summary="List models, newest first", responses=problems(errors.InvalidCursor))
def list_models(
    db: Reading,
    limit: Limit = 50,
    cursor: Cursor = None,
    file_id: Annotated[str | None, Query(description="Trained on this dataset.")] = None,
    network: Annotated[str | None, Query(description="Of this network.")] = None,
) -> PageOut[ModelListed]:
    """All models, or those of one dataset or network; without their cards."""
    page = model_shelf.list_models(db, limit, cursor, file_id, network)
    return PageOut(items=[ModelListed.of(row) for row in page.rows], next_cursor=page.next_cursor)


@router.get("/default", summary="Show the default model", responses=problems(errors.NoModelYet))
def show_default(db: Reading) -> ModelOut:
    """The model that answers where none is named: the chosen one, else the newest."""
    return ModelOut.of(model_service.find(db, None, None))


@router.put(
    "/default", summary="Choose the default model", responses=problems(errors.ModelNotFound, errors.UploadTooLarge)
)
def choose_default(choice: DefaultChoice, db: Writing) -> ModelOut:
    """It answers where none is named, until another one is chosen or it is deleted."""
    return ModelOut.of(model_shelf.choose_default(db, choice.model_id))


@router.post(
    "/compare",
    status_code=202,
    summary="Compare models on one dataset",
    responses={
        202: {"headers": LOCATION},
        **problems(errors.ModelNotFound, errors.DatasetNotFound, errors.InvalidRequest, errors.UploadTooLarge),
    },
)
def compare(wish: ComparisonWish, parts: Parts, response: Response) -> ComparisonOut:
    """Compute every model on the same scans, in the background; poll the address in `Location`."""
    comparison = parts.comparisons.start(wish.model_ids, wish.file_id, wish.split)
    response.headers["Location"] = f"/models/comparisons/{comparison.id}"
    return ComparisonOut.of(comparison)


@router.get("/comparisons/{comparison_id}", summary="Show a comparison", responses=problems(errors.ComparisonNotFound))
def show_comparison(comparison_id: str, db: Reading) -> ComparisonOut:
    """How far it is, and at its end the table."""
    return ComparisonOut.of(comparison_service.get(db, comparison_id))


@router.get(
    "/comparisons/{comparison_id}/table.csv",
    summary="Download the table of a comparison",
    response_class=Response,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "headers": FILE_NAME},
        **problems(errors.ComparisonNotFound, errors.NoTableYet),
    },
)
def comparison_csv(comparison_id: str, db: Reading) -> Response:
    """A line for each model."""
    text = table_csv(comparison_service.table_of(db, comparison_id))
    headers = {"Content-Disposition": f'attachment; filename="comparison-{comparison_id}.csv"'}
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


@router.patch(
    "/{model_id}", summary="Say something of a model", responses=problems(errors.ModelNotFound, errors.UploadTooLarge)
)
def describe(model_id: str, said: SaidOfModel, db: Writing) -> ModelOut:
    """Its name, notes and licence; fields that are left out stay as they are, null takes one away."""
    return ModelOut.of(model_shelf.describe(db, model_id, said.model_dump(exclude_unset=True)))
