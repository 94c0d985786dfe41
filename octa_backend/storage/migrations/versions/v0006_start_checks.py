"""What was tried before a run's first step, for the training doctor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of jobs that are there nothing was tried."""
    op.add_column("jobs", sa.Column("start_checks", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("jobs", "start_checks")
