"""Alembic's entry: runs the migrations on the connection that `Database.migrate` hands over."""

from __future__ import annotations

from alembic import context

from octa_backend.storage.prediction_tables import KeptPrediction

context.configure(
    connection=context.config.attributes["connection"], target_metadata=KeptPrediction.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
