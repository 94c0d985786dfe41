"""Where a repaired dataset comes from, and what was changed in it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; datasets that are there were not repaired."""
    op.add_column("datasets", sa.Column("parent_file_id", sa.String(), nullable=True))
    op.add_column("datasets", sa.Column("repairs", sa.JSON(), nullable=False, server_default="[]"))


def downgrade() -> None:
    """Take them away."""
    op.drop_column("datasets", "repairs")
    op.drop_column("datasets", "parent_file_id")
