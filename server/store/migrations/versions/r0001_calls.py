"""Calls with their timelines, suggestions, feedback and outcomes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("started", sa.DateTime),
        sa.Column("stored", sa.DateTime, nullable=False),
        sa.Column("duration_us", sa.BigInteger, nullable=False),
        sa.Column("queue", sa.String),
        sa.Column("product", sa.String),
        sa.Column("language", sa.String),
        sa.Column("agent_group", sa.String),
        sa.Column("customer", sa.String),
        sa.Column("timeline", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_calls"),
    )
    op.create_index("ix_calls_started", "calls", ["started"])
    op.create_index("ix_calls_customer", "calls", ["customer"])
    op.create_table(
        "suggestions",
        sa.Column("call_id", sa.String, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("policy", sa.String, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_suggestions_call_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("call_id", "id", name="pk_suggestions"),
    )
    op.create_index("ix_suggestions_policy", "suggestions", ["policy"])
    op.create_table(
        "feedback",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("call_id", sa.String, nullable=False),
        sa.Column("suggestion_id", sa.String, nullable=False),
        sa.Column("policy", sa.String, nullable=False),
        sa.Column("verdict", sa.String, nullable=False),
        sa.Column("correction", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("recorded", sa.DateTime, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_feedback_call_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
    )
    op.create_index("ix_feedback_call_id_suggestion_id", "feedback", ["call_id", "suggestion_id"])
    op.create_index("ix_feedback_policy", "feedback", ["policy"])
    op.create_table(
        "outcomes",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("call_id", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.Column("at", sa.DateTime, nullable=False),
        sa.Column("recorded", sa.DateTime, nullable=False),
        sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name="fk_outcomes_call_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_outcomes"),
    )
    op.create_index("ix_outcomes_call_id_kind", "outcomes", ["call_id", "kind"])


def downgrade() -> None:
    for table in ("outcomes", "feedback", "suggestions", "calls"):
        op.drop_table(table)
