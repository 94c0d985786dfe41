"""What the trainer saw inside an epoch, for the training doctor."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of epochs that are there nothing was kept."""
    op.add_column("epoch_reports", sa.Column("signals", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("epoch_reports", "signals")
