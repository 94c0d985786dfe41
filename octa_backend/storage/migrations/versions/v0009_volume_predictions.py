"""Predictions of volumes: how deep they are, and which prediction jobs are of volumes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what is there is of pictures."""
    op.add_column("predictions", sa.Column("depth", sa.Integer(), nullable=True))
    op.add_column("prediction_jobs", sa.Column("spatial_dims", sa.Integer(), nullable=False, server_default="2"))


def downgrade() -> None:
    """Take them away."""
    op.drop_column("prediction_jobs", "spatial_dims")
    op.drop_column("predictions", "depth")
