"""How many servers have begun with the next scan of a prediction job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; which scans were begun is not known of the jobs that are there."""
    op.add_column("prediction_jobs", sa.Column("begun", sa.Integer(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("prediction_jobs", "begun")
