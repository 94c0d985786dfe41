"""The model shelf: names, notes and licences, a default, models without a job, and comparisons."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SAID = ("name", "notes", "licence")


def upgrade() -> None:
    """Add columns and table; nothing has been said yet of the models that are there, and none is chosen."""
    with op.batch_alter_table("models") as models:
        for column in ("job_id", "file_id"):
            models.alter_column(column, existing_type=sa.String(), nullable=True)
        for column in SAID:
            models.add_column(sa.Column(column, sa.String(), nullable=True))
        models.add_column(sa.Column("chosen_at", sa.DateTime(), nullable=True))
    op.create_table(
        "comparisons",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("model_ids", sa.JSON(), nullable=False),
        sa.Column("file_id", sa.String(), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("table", sa.JSON(), nullable=True),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("finished_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_comparisons_state", "comparisons", ["state"])


def downgrade() -> None:
    """Take them away, and the rows of models without a job or a dataset."""
    op.drop_table("comparisons")
    op.execute("DELETE FROM models WHERE job_id IS NULL OR file_id IS NULL")
    with op.batch_alter_table("models") as models:
        for column in (*SAID, "chosen_at"):
            models.drop_column(column)
        for column in ("job_id", "file_id"):
            models.alter_column(column, existing_type=sa.String(), nullable=False)
