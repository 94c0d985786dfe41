"""Since which boot the start of a worker's process counts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the starts of processes that are there count from 1970."""
    op.add_column("attempts", sa.Column("process_boot", sa.String(), nullable=True))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("attempts", "process_boot")
