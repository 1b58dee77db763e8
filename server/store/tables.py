"""The tables of the store, and how a call, its feedback and its outcomes lie in them.

The exact timeline is in `timelines`; what is searched and counted is made from it by derived.py.
"""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    false,
)

METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


class Moment(TypeDecorator[datetime]):
    """A time with its zone; stored as UTC, since not every database keeps zones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        return value.replace(tzinfo=UTC) if value else None


def _of_a_call(**options: Any) -> Column[str]:
    return Column("call_id", String, ForeignKey("calls.id", ondelete="CASCADE"), nullable=False, **options)


CALLS: Final = Table(
    "calls",
    METADATA,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("started", Moment, index=True),
    Column("stored", Moment, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("queue", String),
    Column("product", String),
    Column("language", String),  # the one most was said in
    Column("agent_group", String),
    Column("customer", String, index=True),  # keyed hash of the reference
    Column("agent", String),  # the same of the agent: for counting how many there are, never shown
    Column("state", String, nullable=False, server_default="finished"),  # running, finished, broken_off
    Column("demo", Boolean, nullable=False, server_default=false()),
    Column("began", Moment, nullable=False),  # started where it is known, else stored
    Column("changed", Moment, nullable=False),
    Column("writer", BigInteger),  # the server that writes a running call
    Column("derived", Integer, nullable=False, server_default="0"),  # version of the rows made from the timeline
    # What follows is about customers.
    Column("valence", Float),  # mean over the time in which it is known
    Column("valued_us", BigInteger, nullable=False, server_default="0"),
    Column("sparkline", LargeBinary),  # 60 bytes, see derived.py
    Column("alerts", Integer, nullable=False, server_default="0"),
    Column("last_suggestion", Text),
    Index("ix_calls_began_id", "began", "id"),
    Index("ix_calls_duration_us_id", "duration_us", "id"),
    Index("ix_calls_valence_id", "valence", "id"),
    Index("ix_calls_queue_began", "queue", "began"),
    Index("ix_calls_product_began", "product", "began"),
    Index("ix_calls_agent_group_began", "agent_group", "began"),
    Index("ix_calls_state_changed", "state", "changed"),
    Index("ix_calls_derived", "derived"),
)

TIMELINES: Final = Table(
    "timelines",
    METADATA,
    _of_a_call(primary_key=True),
    Column("data", LargeBinary, nullable=False),  # gzipped JSON, as the JSON export writes it
)

JOURNAL: Final = Table(
    "journal",  # of running calls: what came out since the last entry; entry 0 is the call before its first sound
    METADATA,
    _of_a_call(primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),  # gzipped JSON, see live.py
)

PARTICIPANTS: Final = Table(
    "participants",
    METADATA,
    _of_a_call(primary_key=True),
    Column("id", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("channel", Integer, nullable=False),
    Column("consent", String, nullable=False),  # at the end of the call
    Column("biometric_basis", Text),
    Column("pictures_agreed", Boolean, nullable=False),
)

CONSENTS: Final = Table(
    "consents",  # only ever added to
    METADATA,
    Column("id", Integer, primary_key=True),
    _of_a_call(index=True),
    Column("participant", String, nullable=False),
    Column("state", String, nullable=False),
    Column("biometric_basis", Text),
    Column("at_us", BigInteger, nullable=False),  # media time from which on it holds
    Column("recorded", Moment, nullable=False),
)

UTTERANCES: Final = Table(
    "utterances",
    METADATA,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _of_a_call(index=True),
    Column("id", String, nullable=False),
    Column("participant", String, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("text", Text, nullable=False),
    Column("words", Text, nullable=False),  # text and translation as they are searched: small letters, no accents
)
"""Full-text search is over `words`: the FTS5 table `utterance_words` of SQLite, a GIN index of PostgreSQL. Both are
made by the migration."""

MOMENTS: Final = Table(
    "moments",
    METADATA,
    _of_a_call(primary_key=True),
    Column("participant", String, primary_key=True),
    Column("start_us", BigInteger, primary_key=True),
    Column("id", String, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("label", String, nullable=False),
    Column("probability", Float, nullable=False),
    Column("valence", Float),
    Column("arousal", Float),
    Column("stress", Float),
    sqlite_with_rowid=False,
)

STAGES: Final = Table(
    "stages",
    METADATA,
    _of_a_call(primary_key=True),
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("end_us", BigInteger, nullable=False),
    Column("confidence", Float, nullable=False),
)

FEELINGS: Final = Table(
    "feelings",  # of the customers' moments: how long they had a label, in the whole call and by stage
    METADATA,
    _of_a_call(primary_key=True),
    Column("stage", String, primary_key=True),  # empty: the whole call
    Column("label", String, primary_key=True),
    Column("us", BigInteger, nullable=False),
    Column("valued_us", BigInteger, nullable=False),  # with a known valence
    Column("valence_us", Float, nullable=False),  # integral of valence over that time
    Index("ix_feelings_stage_label_us", "stage", "label", "us", "call_id"),
    sqlite_with_rowid=False,
)

MODELS: Final = Table(
    "models",
    METADATA,
    _of_a_call(primary_key=True),
    Column("task", String, primary_key=True),
    Column("model", String, nullable=False, index=True),  # name@version
)

CORRECTIONS: Final = Table(
    "corrections",  # only ever added to
    METADATA,
    Column("id", Integer, primary_key=True),
    _of_a_call(index=True),
    Column("moment", String, nullable=False),
    Column("participant", String, nullable=False),
    Column("start_us", BigInteger, nullable=False),
    Column("before", String, nullable=False),
    Column("label", String, nullable=False),
    Column("note", Text),
    Column("recorded", Moment, nullable=False),
)

JOBS: Final = Table(
    "jobs",
    METADATA,
    Column("id", String, primary_key=True),
    Column("number", BigInteger, nullable=False),  # in the order of creation
    Column("name", String, nullable=False),
    Column("call_id", String, nullable=False),
    Column("request_id", String, nullable=False),
    Column("config", String, nullable=False),  # hash of the whole configuration
    Column("state", String, nullable=False),
    Column("progress", Float, nullable=False),
    Column("error", Text, nullable=False),
    Column("created", Moment, nullable=False),
    Column("ended", Moment),
    Column("writer", BigInteger),  # the server that works on it
)

SUGGESTIONS: Final = Table(
    "suggestions",
    METADATA,
    _of_a_call(primary_key=True),
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("action", String, nullable=False),
    Column("policy", String, nullable=False, index=True),
    Column("created_us", BigInteger, nullable=False),
    Column("expires_us", BigInteger),
    Column("participant", String),
    Column("priority", String),
    Column("confidence", Float),
    Column("text", Text),
)

FEEDBACK: Final = Table(
    "feedback",
    METADATA,
    Column("id", Integer, primary_key=True),
    _of_a_call(),
    Column("suggestion_id", String, nullable=False),
    Column("policy", String, nullable=False, index=True),  # stays right when the call is analysed again
    Column("verdict", String, nullable=False),
    Column("correction", Text),
    Column("note", Text),
    Column("at", Moment, nullable=False),
    Column("recorded", Moment, nullable=False),
    Index(None, "call_id", "suggestion_id"),
)

OUTCOMES: Final = Table(
    "outcomes",
    METADATA,
    Column("id", Integer, primary_key=True),
    _of_a_call(),
    Column("kind", String, nullable=False),
    Column("value", Float, nullable=False),
    Column("at", Moment, nullable=False),
    Column("recorded", Moment, nullable=False),
    Index(None, "call_id", "kind"),
    Index(None, "kind", "value"),
)
