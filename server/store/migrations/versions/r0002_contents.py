"""What is in a call as rows of its own, running calls, jobs, corrections, and a full-text search.

The timeline moves into a table of its own, so that lists need not read over it. The store fills the new tables from
the timelines when it is opened.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

EPOCH = "1970-01-01 00:00:00"
"""SQLite wants a value for a new column that may not be empty; each row gets its own at once."""


def _call_id() -> "sa.Column[str]":
    return sa.Column("call_id", sa.String, nullable=False)


def _table(name: str, *items: "sa.Column[object] | sa.PrimaryKeyConstraint", **options: Any) -> None:
    foreign = sa.ForeignKeyConstraint(["call_id"], ["calls.id"], name=f"fk_{name}_call_id", ondelete="CASCADE")
    op.create_table(name, _call_id(), *items, foreign, **options)


def upgrade() -> None:
    _table(
        "timelines",
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("call_id", name="pk_timelines"),
    )
    op.execute("INSERT INTO timelines (call_id, data) SELECT id, timeline FROM calls")
    op.drop_column("calls", "timeline")
    for column in (
        sa.Column("agent", sa.String),
        sa.Column("state", sa.String, nullable=False, server_default="finished"),
        sa.Column("demo", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("began", sa.DateTime, nullable=False, server_default=EPOCH),
        sa.Column("changed", sa.DateTime, nullable=False, server_default=EPOCH),
        sa.Column("writer", sa.BigInteger),
        sa.Column("derived", sa.Integer, nullable=False, server_default="0"),
        sa.Column("valence", sa.Float),
        sa.Column("valued_us", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("sparkline", sa.LargeBinary),
        sa.Column("alerts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("last_suggestion", sa.Text),
    ):
        op.add_column("calls", column)
    op.execute("UPDATE calls SET began = coalesce(started, stored), changed = stored")
    for columns in (
        ["began", "id"],
        ["duration_us", "id"],
        ["valence", "id"],
        ["queue", "began"],
        ["product", "began"],
        ["agent_group", "began"],
        ["state", "changed"],
        ["derived"],
    ):
        op.create_index(f"ix_calls_{'_'.join(columns)}", "calls", columns)
    _table(
        "journal",
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("call_id", "number", name="pk_journal"),
    )
    _table(
        "participants",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("channel", sa.Integer, nullable=False),
        sa.Column("consent", sa.String, nullable=False),
        sa.Column("biometric_basis", sa.Text),
        sa.Column("pictures_agreed", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("call_id", "id", name="pk_participants"),
    )
    _table(
        "consents",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("participant", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("biometric_basis", sa.Text),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("recorded", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_consents"),
    )
    op.create_index("ix_consents_call_id", "consents", ["call_id"])
    _table(
        "utterances",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("participant", sa.String, nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Column("end_us", sa.BigInteger, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_utterances"),
    )
    op.create_index("ix_utterances_call_id", "utterances", ["call_id"])
    _table(
        "moments",
        sa.Column("participant", sa.String, nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Column("id", sa.String, nullable=False),
        sa.Column("end_us", sa.BigInteger, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("probability", sa.Float, nullable=False),
        sa.Column("valence", sa.Float),
        sa.Column("arousal", sa.Float),
        sa.Column("stress", sa.Float),
        sa.PrimaryKeyConstraint("call_id", "participant", "start_us", name="pk_moments"),
        sqlite_with_rowid=False,
    )
    _table(
        "stages",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Column("end_us", sa.BigInteger, nullable=False),
        sa.Column("confidence", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("call_id", "id", name="pk_stages"),
    )
    _table(
        "feelings",
        sa.Column("stage", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("us", sa.BigInteger, nullable=False),
        sa.Column("valued_us", sa.BigInteger, nullable=False),
        sa.Column("valence_us", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("call_id", "stage", "label", name="pk_feelings"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_feelings_stage_label_us", "feelings", ["stage", "label", "us", "call_id"])
    _table(
        "models",
        sa.Column("task", sa.String, nullable=False),
        sa.Column("model", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("call_id", "task", name="pk_models"),
    )
    op.create_index("ix_models_model", "models", ["model"])
    _table(
        "corrections",
        sa.Column("id", sa.Integer, nullable=False),
        sa.Column("moment", sa.String, nullable=False),
        sa.Column("participant", sa.String, nullable=False),
        sa.Column("start_us", sa.BigInteger, nullable=False),
        sa.Column("before", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("recorded", sa.DateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_corrections"),
    )
    op.create_index("ix_corrections_call_id", "corrections", ["call_id"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("call_id", sa.String, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sa.Column("config", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("created", sa.DateTime, nullable=False),
        sa.Column("ended", sa.DateTime),
        sa.Column("writer", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    for column in (
        sa.Column("expires_us", sa.BigInteger),
        sa.Column("participant", sa.String),
        sa.Column("priority", sa.String),
        sa.Column("confidence", sa.Float),
        sa.Column("text", sa.Text),
    ):
        op.add_column("suggestions", column)
    op.create_index("ix_outcomes_kind_value", "outcomes", ["kind", "value"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX ix_utterances_words ON utterances USING gin (to_tsvector('simple', words))")
    else:
        op.execute(
            "CREATE VIRTUAL TABLE utterance_words USING fts5(words, content='utterances', content_rowid='number', "
            "tokenize='unicode61 remove_diacritics 0')"
        )
        delete = "INSERT INTO utterance_words (utterance_words, rowid, words) VALUES ('delete', old.number, old.words);"
        op.execute(
            "CREATE TRIGGER utterances_insert AFTER INSERT ON utterances BEGIN "
            "INSERT INTO utterance_words (rowid, words) VALUES (new.number, new.words); END"
        )
        op.execute(f"CREATE TRIGGER utterances_delete AFTER DELETE ON utterances BEGIN {delete} END")


def downgrade() -> None:
    raise NotImplementedError("expected to go forward only: running calls have no place in the older tables")
