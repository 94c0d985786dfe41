"""The shelf of models: what is on it, what people say of a model, and which one is the default."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session

from octa_backend.service import model_service, paging
from octa_backend.service.paging import Page, cursor_of, read_cursor
from octa_backend.storage.tables import Model, now


def list_models(
    session: Session, limit: int, cursor: str | None, file_id: str | None = None, network: str | None = None
) -> Page[Model]:
    """Models, newest first: those of one dataset or network, or all."""
    query = select(Model).order_by(Model.created_at.desc(), Model.id.desc()).limit(limit + 1)
    if file_id is not None:
        query = query.where(Model.file_id == file_id)
    if network is not None:
        query = query.where(Model.card["network"].as_string() == network)
    if cursor is not None:
        created, model_id = read_cursor(cursor, paging.moment, paging.text)
        query = query.where(tuple_(Model.created_at, Model.id) < (created, model_id))
    return Page.cut(session.scalars(query).all(), limit, lambda row: cursor_of(row.created_at.isoformat(), row.id))


def describe(session: Session, model_id: str, said: dict[str, str | None]) -> Model:
    """Change what is said of a model.

    Args:
        session: the transaction.
        model_id: which model.
        said: `name`, `notes` and `licence`, each only where it shall change; None takes it away.

    Raises:
        ModelNotFound: no model has this id.
    """
    model = model_service.get(session, model_id)
    for field, value in said.items():
        setattr(model, field, value)
    session.flush()
    return model


def choose_default(session: Session, model_id: str) -> Model:
    """Have a model answer where none is named.

    Raises:
        ModelNotFound: no model has this id.
    """
    model = model_service.get(session, model_id)
    session.execute(update(Model).values(chosen_at=None))
    model.chosen_at = now()
    session.flush()
    return model


def whole_card(model: Model) -> dict[str, Any]:
    """A model's card with what people say of it."""
    return {**model.card, "name": model.name, "notes": model.notes, "licence": model.licence}
