"""Keeps finished calls, what people made of suggestions, and what became of the calls."""

import gzip
import hmac
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from filelock import FileLock
from sqlalchemy import Connection, Engine, Select, Table, create_engine, delete, event, func, insert, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError

from affectline.models.errors import AffectlineError, InvalidInputError, StorageError
from affectline.pipelines.outcomes import (
    MAX_CORRECTION_CHARACTERS,
    MAX_NOTE_CHARACTERS,
    CallDetails,
    Feedback,
    Outcome,
    OutcomeKind,
)
from affectline.pipelines.redaction import find_personal, redact
from affectline.pipelines.timeline import CallTimeline, Verdict
from affectline.server.exports import from_json, to_json
from affectline.server.store.tables import CALLS, FEEDBACK, OUTCOMES, SUGGESTIONS

BUSY_MS: Final = 10_000
"""A writer waits this long for another one."""
MIGRATING: Final = 0x0AFFEC7
"""Number of the lock under which one of several servers brings a PostgreSQL database up to date."""


class NotStoredError(AffectlineError):
    """What the caller speaks of is not in the store."""


class DamagedCallError(StorageError):
    """A stored timeline cannot be read."""

    retryable = False


class StoredAlreadyError(AffectlineError):
    """A call of this id is in the store."""


@dataclass(frozen=True, slots=True)
class PolicyFeedback:
    """What people made of the suggestions of one policy."""

    policy: str
    """`name@version`."""
    suggested: int
    """Suggestions in stored calls."""
    accepted: int
    dismissed: int
    corrected: int


@dataclass(frozen=True, slots=True)
class ReviewedCall:
    """A call of which the outcome is known."""

    id: str
    timeline: CallTimeline
    outcomes: tuple[Outcome, ...]
    """The newest of each kind."""
    accepted: int | None
    """Suggestions that were accepted; None where there is no feedback."""


class CallStore:
    """Safe for several threads and processes. Raises StorageError when the database fails.

    Feedback and outcomes are never changed: a new one is added, and the newest by its time counts.
    """

    def __init__(
        self,
        place: str,
        *,
        create: bool = True,
        customer_key: bytes | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Opens the database and brings its tables up to date.

        `place`: path of a SQLite file, or the URL of another database. `create`: a file is made where there is none.
        `customer_key`: secret under which customer references are hashed. Raises InvalidInputError for a place that
        cannot be one.
        """
        self._now = now
        self._customer_key = customer_key
        self._engine = _engine(place, create=create)
        with _failures("opened"):
            _migrate(self._engine)

    def close(self) -> None:
        self._engine.dispose()

    @property
    def hashes_customers(self) -> bool:
        return self._customer_key is not None

    def holds(self, call_id: str) -> bool:
        with self._reading() as connection:
            return connection.scalar(select(CALLS.c.id).where(CALLS.c.id == call_id)) is not None

    def add(self, details: CallDetails, timeline: CallTimeline, *, replace: bool = False) -> None:
        """Stores a finished call, whole or not at all, with the feedback that its timeline carries.

        `replace`: a stored call of this id and length, which is the same one analysed again, gives way; its feedback
        and outcomes stay. Otherwise it raises StoredAlreadyError.
        """
        row: dict[str, Any] = {
            "name": _storable(timeline.name),
            "started": details.started,
            "stored": self._now(),
            "duration_us": timeline.duration_us,
            "queue": details.queue,
            "product": details.product,
            "language": _language(timeline),
            "agent_group": details.agent_group,
            "customer": self._hashed(details.customer_reference),
            "timeline": gzip.compress(to_json(timeline)),
        }
        suggestions = [
            {
                "call_id": details.id,
                "id": each.id,
                "kind": each.kind,
                "action": each.action,
                "policy": each.policy,
                "created_us": each.created_us,
            }
            for each in timeline.suggestions
        ]
        with self._writing() as connection:
            same = (CALLS.c.id == details.id) & (CALLS.c.duration_us == timeline.duration_us)
            known = replace and connection.execute(update(CALLS).where(same).values(row)).rowcount
            if known:
                connection.execute(delete(SUGGESTIONS).where(SUGGESTIONS.c.call_id == details.id))
            else:
                try:
                    connection.execute(insert(CALLS).values(id=details.id, **row))
                except IntegrityError:
                    raise StoredAlreadyError("expected the id of a new call, found that of a stored one") from None
            if suggestions:
                connection.execute(insert(SUGGESTIONS), suggestions)
            self._add_live_feedback(connection, details, timeline)

    def record_outcome(self, call_id: str, outcome: Outcome) -> bool:
        """Whether it is news; the same one again is not. Raises NotStoredError for an unknown call."""
        values = {"kind": outcome.kind, "value": outcome.value}
        with self._writing() as connection:
            _find_call(connection, call_id)
            same = (OUTCOMES.c.call_id == call_id, OUTCOMES.c.kind == outcome.kind)
            return self._record(connection, OUTCOMES, same, {"call_id": call_id, **values}, outcome.at)

    def record_feedback(self, call_id: str, feedback: Feedback) -> bool:
        """Whether it is news; the same one again is not. Personal data is taken out of what was written.

        Raises NotStoredError for an unknown call or suggestion.
        """
        correction = _redacted(feedback.correction, MAX_CORRECTION_CHARACTERS)
        note = _redacted(feedback.note, MAX_NOTE_CHARACTERS)
        with self._writing() as connection:
            _find_call(connection, call_id)
            policy = connection.scalar(
                select(SUGGESTIONS.c.policy).where(
                    SUGGESTIONS.c.call_id == call_id, SUGGESTIONS.c.id == feedback.suggestion_id
                )
            )
            if policy is None:
                raise NotStoredError("expected the id of a suggestion of this call, found another one")
            values = {
                "call_id": call_id,
                "suggestion_id": feedback.suggestion_id,
                "policy": policy,
                "verdict": feedback.verdict,
                "correction": correction,
                "note": note,
            }
            return self._record(connection, FEEDBACK, _about(call_id, feedback.suggestion_id), values, feedback.at)

    def outcome_history(self, call_id: str) -> tuple[Outcome, ...]:
        """All that were recorded of a call, by time."""
        query = select(OUTCOMES).where(OUTCOMES.c.call_id == call_id).order_by(OUTCOMES.c.at, OUTCOMES.c.id)
        with self._reading() as connection:
            return tuple(Outcome(row.kind, row.value, row.at) for row in connection.execute(query))

    def feedback_history(self, call_id: str) -> tuple[Feedback, ...]:
        """All that was recorded of a call, by time."""
        query = select(FEEDBACK).where(FEEDBACK.c.call_id == call_id).order_by(FEEDBACK.c.at, FEEDBACK.c.id)
        with self._reading() as connection:
            return tuple(
                Feedback(row.suggestion_id, row.verdict, row.correction, row.note, row.at)
                for row in connection.execute(query)
            )

    def timeline(self, call_id: str) -> CallTimeline:
        """Raises NotStoredError for an unknown call, StorageError for a damaged one."""
        with self._reading() as connection:
            data = connection.scalar(select(CALLS.c.timeline).where(CALLS.c.id == call_id))
        if data is None:
            raise NotStoredError("expected the id of a stored call, found another one")
        try:
            return from_json(gzip.decompress(data))
        except (OSError, EOFError, zlib.error, InvalidInputError) as error:
            raise DamagedCallError(f"expected a timeline of {call_id} in the store, found a damaged one") from error

    def feedback_counts(self) -> list[PolicyFeedback]:
        """By policy; of each suggestion the newest feedback counts."""
        newest = _newest(FEEDBACK, FEEDBACK.c.call_id, FEEDBACK.c.suggestion_id)
        with self._reading() as connection:
            query = select(SUGGESTIONS.c.policy, func.count().label("shown")).group_by(SUGGESTIONS.c.policy)
            suggested = {row.policy: row.shown for row in connection.execute(query)}
            verdicts: Counter[tuple[str, Verdict]] = Counter()
            for row in connection.execute(newest):
                verdicts[row.policy, row.verdict] += 1
        policies = sorted({*suggested, *(policy for policy, _ in verdicts)})
        return [
            PolicyFeedback(
                policy,
                suggested.get(policy, 0),
                verdicts[policy, "accepted"],
                verdicts[policy, "dismissed"],
                verdicts[policy, "corrected"],
            )
            for policy in policies
        ]

    def reviewed_calls(self, damaged: Callable[[str], None] = lambda call_id: None) -> Iterator[ReviewedCall]:
        """Calls with an outcome, by id; `damaged` is told of each whose timeline cannot be read."""
        with self._reading() as connection:
            outcomes: dict[str, dict[OutcomeKind, Outcome]] = {}
            for row in connection.execute(_newest(OUTCOMES, OUTCOMES.c.call_id, OUTCOMES.c.kind)):
                outcomes.setdefault(row.call_id, {})[row.kind] = Outcome(row.kind, row.value, row.at)
            accepted: Counter[str] = Counter()
            judged: set[str] = set()
            for row in connection.execute(_newest(FEEDBACK, FEEDBACK.c.call_id, FEEDBACK.c.suggestion_id)):
                judged.add(row.call_id)
                accepted[row.call_id] += row.verdict == "accepted"
        for call_id, by_kind in sorted(outcomes.items()):
            found = tuple(outcome for _, outcome in sorted(by_kind.items()))
            try:
                timeline = self.timeline(call_id)
            except DamagedCallError:
                damaged(call_id)
                continue
            yield ReviewedCall(call_id, timeline, found, accepted[call_id] if call_id in judged else None)

    def _add_live_feedback(self, connection: Connection, details: CallDetails, timeline: CallTimeline) -> None:
        """What was said of suggestions while the call ran."""
        policies = {suggestion.id: suggestion.policy for suggestion in timeline.suggestions}
        for each in timeline.feedback:
            if policy := policies.get(each.suggestion_id):
                values = {
                    "call_id": details.id,
                    "suggestion_id": each.suggestion_id,
                    "policy": policy,
                    "verdict": each.verdict,
                    "correction": _redacted(each.correction, MAX_CORRECTION_CHARACTERS),
                    "note": None,
                }
                at = details.started + timedelta(microseconds=each.at_us) if details.started else None
                self._record(connection, FEEDBACK, _about(details.id, each.suggestion_id), values, at)

    def _record(
        self, connection: Connection, table: Table, same: tuple[Any, ...], values: dict[str, Any], at: datetime | None
    ) -> bool:
        """Adds a row, where it says anything that those that are there do not.

        With a time of its own it is the same as an equal one of that time; without one, as an equal one that counts.
        """
        newest = select(table).where(*same).order_by(table.c.at.desc(), table.c.id.desc())
        query = newest.limit(1) if at is None else newest.where(table.c.at == at)
        if any(values.items() <= dict(row).items() for row in connection.execute(query).mappings()):
            return False
        now = self._now()
        connection.execute(insert(table).values(at=at or now, recorded=now, **values))
        return True

    def _hashed(self, reference: str | None) -> str | None:
        if reference is None or self._customer_key is None:
            return None
        return hmac.new(self._customer_key, reference.encode(), "sha256").hexdigest()

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _failures("read"), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """One transaction, which is kept when nothing is raised."""
        with _failures("written"), self._engine.connect() as connection:
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection


def _engine(place: str, *, create: bool) -> Engine:
    try:
        url = make_url(place) if "://" in place else URL.create("sqlite", database=place)
        engine = create_engine(url, hide_parameters=True, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError):
        raise InvalidInputError(
            "expected a path, or the URL of a database whose driver is installed (postgresql+psycopg://…), "
            "found neither in the place of the store"
        ) from None
    if engine.dialect.name == "sqlite":
        path = Path(url.database or "")
        if not url.database or not path.parent.is_dir() or path.is_dir():
            raise InvalidInputError(f"expected a file in a folder that exists for the store, found {path}")
        if not create and not path.exists():
            raise InvalidInputError(f"expected a store at {path}, found none")
        try:
            path.touch(mode=0o600)  # it holds what was said: for the owner only
        except OSError as error:
            raise StorageError(f"cannot open the store {path}: {error.strerror}") from error
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: object) -> None:
    """A SQLite connection on which transactions begin where we say, and writers wait for each other."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    if engine.dialect.name == "sqlite":
        with FileLock(f"{engine.url.database}.lock"):
            raw = engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA journal_mode = WAL")
            finally:
                raw.close()
            _upgrade(engine, config)
    else:
        _upgrade(engine, config)


def _upgrade(engine: Engine, config: Config) -> None:
    with engine.connect() as connection:
        connection = connection.execution_options(writes=True)
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATING)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


@contextmanager
def _failures(what: str) -> Iterator[None]:
    """A database's errors as StorageError, without the values that it was to keep."""
    try:
        yield
    except CommandError as error:
        raise StorageError("expected a store of this version or an older one, found one of a newer version") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = getattr(error, "orig", None) or error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise StorageError(f"the store cannot be {what}: {reason}") from error


def _find_call(connection: Connection, call_id: str) -> None:
    """Locks the call's row, so that what is recorded of it comes one after the other."""
    if connection.scalar(select(CALLS.c.id).where(CALLS.c.id == call_id).with_for_update()) is None:
        raise NotStoredError("expected the id of a stored call, found another one; nothing was recorded")


def _about(call_id: str, suggestion_id: str) -> tuple[Any, ...]:
    return FEEDBACK.c.call_id == call_id, FEEDBACK.c.suggestion_id == suggestion_id


def _newest(table: Table, *keys: Any) -> Select[Any]:
    """Of the rows with equal keys, the one that counts."""
    number = func.row_number().over(partition_by=keys, order_by=(table.c.at.desc(), table.c.id.desc()))
    ranked = select(table, number.label("number")).subquery()
    return select(ranked).where(ranked.c.number == 1)


def _language(timeline: CallTimeline) -> str | None:
    spoken: Counter[str] = Counter()
    for utterance in timeline.utterances:
        spoken[utterance.language] += len(utterance.text)
    return max(spoken, key=lambda language: spoken[language]) if spoken else None


def _redacted(text: str | None, most: int) -> str | None:
    return _storable(redact(text, find_personal(text)))[:most] if text else None


def _storable(text: str) -> str:
    """Without the zero character, which PostgreSQL refuses."""
    return text.replace("\0", "")
