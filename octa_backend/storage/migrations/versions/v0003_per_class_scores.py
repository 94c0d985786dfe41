"""What each class scored in an epoch's validation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of epochs that are there only the mean over classes is known."""
    op.add_column("epoch_reports", sa.Column("per_class", sa.JSON(), nullable=True))


def downgrade() -> None:
    """Take it away."""
    op.drop_column("epoch_reports", "per_class")
