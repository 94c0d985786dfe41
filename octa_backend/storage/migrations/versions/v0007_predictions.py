"""Predictions that are kept, and jobs that predict many scans."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "prediction_jobs",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("ignored", sa.Integer(), nullable=False),
        sa.Column("processed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("busy_seconds", sa.Double(), nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("started_at", sa.DateTime(), nullable=True),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
    )
    for column in ("model_id", "state", "created_at"):
        op.create_index(f"ix_prediction_jobs_{column}", "prediction_jobs", [column])
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("model_id", sa.String(), nullable=False),
        sa.Column("prediction_job_id", sa.String(), sa.ForeignKey("prediction_jobs.id", ondelete="CASCADE")),
        sa.Column("position", sa.Integer(), nullable=True),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("sha256", sa.String(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("threshold", sa.Double(), nullable=False),
        sa.Column("foreground_fraction", sa.Double(), nullable=False),
        sa.Column("confidence", sa.JSON(), nullable=False),
        sa.Column("measurements", sa.JSON(), nullable=False),
        sa.Column("warnings", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.UniqueConstraint("prediction_job_id", "position", name="uq_predictions_job_position"),
    )
    for column in ("model_id", "created_at"):
        op.create_index(f"ix_predictions_{column}", "predictions", [column])
    op.create_index("ix_predictions_job_created", "predictions", ["prediction_job_id", "created_at"])
    op.create_table(
        "prediction_failures",
        sa.Column(
            "prediction_job_id",
            sa.String(),
            sa.ForeignKey("prediction_jobs.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("position", sa.Integer(), primary_key=True),
        sa.Column("file", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
    )


def downgrade() -> None:
    """Take them away."""
    for table in ("prediction_failures", "predictions", "prediction_jobs"):
        op.drop_table(table)
