"""Cross-validations: which fold of its parent a job is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; jobs that are there are single trainings."""
    op.add_column("jobs", sa.Column("fold", sa.Integer(), nullable=True))
    op.create_index("ix_jobs_parent_job_id", "jobs", ["parent_job_id"])


def downgrade() -> None:
    """Take it away."""
    op.drop_index("ix_jobs_parent_job_id", "jobs")
    op.drop_column("jobs", "fold")
