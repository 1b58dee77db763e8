"""The tables of the store, and how a call, its feedback and its outcomes lie in them."""

from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
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
    Column("timeline", LargeBinary, nullable=False),  # gzipped JSON, as the JSON export writes it
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
)
