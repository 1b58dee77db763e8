"""Keeps finished calls, what people made of suggestions, and what became of the calls."""

import dataclasses
import gzip
import hmac
import logging
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, delete, func, insert, select, text, update
from sqlalchemy.exc import IntegrityError

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
from affectline.pipelines.timeline import CallTimeline, Notice, Participant, Verdict
from affectline.server.exports import from_json, to_json
from affectline.server.store.database import Database
from affectline.server.store.derived import VERSION, Derived, derive, storable
from affectline.server.store.journal import so_far
from affectline.server.store.tables import (
    CALLS,
    CONSENTS,
    FEEDBACK,
    FEELINGS,
    JOBS,
    JOURNAL,
    MODELS,
    MOMENTS,
    OUTCOMES,
    PARTICIPANTS,
    STAGES,
    SUGGESTIONS,
    TIMELINES,
    UTTERANCES,
)

TAKEN: Final = "expected the id of a new call, found that of a stored one"
PRUNED_AT_ONCE: Final = 500
DERIVED_TABLES: Final = (PARTICIPANTS, UTTERANCES, MOMENTS, STAGES, FEELINGS, MODELS, SUGGESTIONS)
"""Their rows are made from the timeline, and with it made anew."""

log = logging.getLogger("affectline.server")


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
        self.now = now
        self._customer_key = customer_key
        self.database = Database(place, create=create)
        """For what else works on the tables."""
        self._derive_all()

    def close(self) -> None:
        self.database.close()

    @property
    def hashes_customers(self) -> bool:
        return self._customer_key is not None

    def holds(self, call_id: str) -> bool:
        with self.database.reading() as connection:
            return connection.scalar(select(CALLS.c.id).where(CALLS.c.id == call_id)) is not None

    def add(
        self, details: CallDetails, timeline: CallTimeline, *, replace: bool = False, writer: int | None = None
    ) -> None:
        """Stores a finished call, whole or not at all, with the feedback that its timeline carries.

        `replace`: a stored call of this id and length, which is the same one analysed again, gives way; its feedback
        and outcomes stay. `writer`: so does a running one that this server has written so far. Otherwise it raises
        StoredAlreadyError.
        """
        found = derive(timeline)
        now = self.now()
        row: dict[str, Any] = {
            **found.call,
            **self.columns(details),
            "began": details.started or now,
            "stored": now,
            "changed": now,
            "writer": None,
            "derived": VERSION,
        }
        with self.database.writing() as connection:
            known = _row(connection, details.id)
            if known is None:
                try:
                    connection.execute(insert(CALLS).values(id=details.id, **row))
                except IntegrityError:
                    raise StoredAlreadyError(TAKEN) from None
            elif (replace and known.duration_us == timeline.duration_us) or (writer and known.writer == writer):
                if replace and details.started is None:
                    row["began"] = known.began
                connection.execute(update(CALLS).where(CALLS.c.id == details.id).values(row))
            else:
                raise StoredAlreadyError(TAKEN)
            write_derived(connection, details.id, found)
            write_timeline(connection, details.id, to_json(timeline))
            connection.execute(delete(JOURNAL).where(JOURNAL.c.call_id == details.id))
            known_consents = select(CONSENTS.c.id).where(CONSENTS.c.call_id == details.id).limit(1)
            if connection.scalar(known_consents) is None:
                add_consents(connection, details.id, timeline.participants, now)
            self._add_live_feedback(connection, details, timeline)

    def break_off(self, call_id: str, writer: int) -> bool:
        """Ends a call that a server which is gone wrote so far; whether it was still running.

        What was written is kept like a whole call, and says so. Raises DamagedCallError, and leaves what there is.
        """
        message = "The server stopped here; what was written until then is all there is."
        still = (CALLS.c.id == call_id) & (CALLS.c.state == "running") & (CALLS.c.writer == writer)
        try:
            timeline = self.timeline(call_id)
        except (DamagedCallError, NotStoredError):
            with self.database.writing() as connection:
                connection.execute(update(CALLS).where(still).values(state="broken_off", writer=None))
            raise
        notice = Notice("broken_off", message, timeline.duration_us)
        timeline = dataclasses.replace(timeline, notices=(*timeline.notices, notice))
        found, now = derive(timeline), self.now()
        with self.database.writing() as connection:
            row = {**found.call, "writer": None, "changed": now, "derived": VERSION}
            if not connection.execute(update(CALLS).where(still).values(row)).rowcount:
                return False
            write_derived(connection, call_id, found)
            write_timeline(connection, call_id, to_json(timeline))
            connection.execute(delete(JOURNAL).where(JOURNAL.c.call_id == call_id))
            began = connection.scalar(select(CALLS.c.began).where(CALLS.c.id == call_id))
            self._add_live_feedback(connection, CallDetails(call_id, began), timeline)
        return True

    def prune(
        self,
        before: datetime,
        told: Callable[[int], None] = lambda count: None,
        forget: Callable[[Sequence[str]], None] = lambda call_ids: None,
    ) -> int:
        """Deletes calls that began before then, with all that is kept of them; how many. Running ones stay.

        `told` is given the number so far. `forget` deletes what is kept of calls elsewhere; calls of which it cannot
        stay.
        """
        old = select(CALLS.c.id).where(CALLS.c.began < before, CALLS.c.state != "running").limit(PRUNED_AT_ONCE)
        count = 0
        while True:
            with self.database.writing() as connection:
                ids = list(connection.scalars(old))
                forget(ids)
                connection.execute(delete(JOBS).where(JOBS.c.call_id.in_(ids) | (JOBS.c.ended < before)))
                connection.execute(delete(CALLS).where(CALLS.c.id.in_(ids)))
            count += len(ids)
            told(count)
            if len(ids) < PRUNED_AT_ONCE:
                break
        if count and not self.database.is_postgres:
            with self.database.writing() as connection:  # the index forgets words only when it is tidied up
                connection.execute(text("INSERT INTO utterance_words (utterance_words) VALUES ('optimize')"))
        return count

    def older(self, before: datetime) -> int:
        """How many calls `prune` would delete."""
        old = select(func.count()).select_from(CALLS).where(CALLS.c.began < before, CALLS.c.state != "running")
        with self.database.reading() as connection:
            return connection.scalar(old) or 0

    def columns(self, details: CallDetails) -> dict[str, Any]:
        """What is kept of the details; references as hashes."""
        return {
            "started": details.started,
            "queue": details.queue,
            "product": details.product,
            "agent_group": details.agent_group,
            "customer": self._hashed(details.customer_reference),
            "agent": self._hashed(details.agent_reference),
            "demo": details.demo,
        }

    def record_outcome(self, call_id: str, outcome: Outcome) -> bool:
        """Whether it is news; the same one again is not. Raises NotStoredError for an unknown call."""
        values = {"kind": outcome.kind, "value": outcome.value}
        with self.database.writing() as connection:
            _find_call(connection, call_id)
            same = (OUTCOMES.c.call_id == call_id, OUTCOMES.c.kind == outcome.kind)
            return self._record(connection, OUTCOMES, same, {"call_id": call_id, **values}, outcome.at)

    def record_feedback(self, call_id: str, feedback: Feedback) -> bool:
        """Whether it is news; the same one again is not. Personal data is taken out of what was written.

        Raises NotStoredError for an unknown call or suggestion.
        """
        correction = _redacted(feedback.correction, MAX_CORRECTION_CHARACTERS)
        note = _redacted(feedback.note, MAX_NOTE_CHARACTERS)
        with self.database.writing() as connection:
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
        with self.database.reading() as connection:
            return tuple(Outcome(row.kind, row.value, row.at) for row in connection.execute(query))

    def feedback_history(self, call_id: str) -> tuple[Feedback, ...]:
        """All that was recorded of a call, by time."""
        query = select(FEEDBACK).where(FEEDBACK.c.call_id == call_id).order_by(FEEDBACK.c.at, FEEDBACK.c.id)
        with self.database.reading() as connection:
            return tuple(
                Feedback(row.suggestion_id, row.verdict, row.correction, row.note, row.at)
                for row in connection.execute(query)
            )

    def timeline(self, call_id: str) -> CallTimeline:
        """Of a running call, as far as it is written. Raises NotStoredError for an unknown one, StorageError for a
        damaged one.
        """
        with self.database.reading() as connection:
            data = connection.scalar(select(TIMELINES.c.data).where(TIMELINES.c.call_id == call_id))
            journal = [] if data else _journal(connection, call_id)
        if data is None and not journal:
            raise NotStoredError("expected the id of a stored call, found another one")
        try:
            return from_json(gzip.decompress(data)) if data else so_far(journal)
        except (OSError, EOFError, zlib.error, InvalidInputError) as error:
            raise DamagedCallError(f"expected a timeline of {call_id} in the store, found a damaged one") from error

    def feedback_counts(self) -> list[PolicyFeedback]:
        """By policy; of each suggestion the newest feedback counts."""
        newest = _newest(FEEDBACK, FEEDBACK.c.call_id, FEEDBACK.c.suggestion_id)
        with self.database.reading() as connection:
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

    def reviewed_calls(
        self, damaged: Callable[[str], None] = lambda call_id: None, *, most: int | None = None
    ) -> Iterator[ReviewedCall]:
        """Calls that are over and have an outcome, by id; `damaged` is told of each whose timeline cannot be read.

        `most`: the newest so many of them.
        """
        reviewed = (
            select(CALLS.c.id)
            .where(CALLS.c.state != "running", CALLS.c.id.in_(select(OUTCOMES.c.call_id)))
            .order_by(CALLS.c.began.desc(), CALLS.c.id)
            .limit(most)
        )
        with self.database.reading() as connection:
            outcomes: dict[str, dict[OutcomeKind, Outcome]] = {}
            ids = sorted(connection.scalars(reviewed))
            for row in connection.execute(_newest(OUTCOMES, OUTCOMES.c.call_id, OUTCOMES.c.kind)):
                outcomes.setdefault(row.call_id, {})[row.kind] = Outcome(row.kind, row.value, row.at)
            accepted: Counter[str] = Counter()
            judged: set[str] = set()
            for row in connection.execute(_newest(FEEDBACK, FEEDBACK.c.call_id, FEEDBACK.c.suggestion_id)):
                judged.add(row.call_id)
                accepted[row.call_id] += row.verdict == "accepted"
        for call_id in ids:
            found = tuple(outcome for _, outcome in sorted(outcomes[call_id].items()))
            try:
                timeline = self.timeline(call_id)
            except DamagedCallError:
                damaged(call_id)
                continue
            yield ReviewedCall(call_id, timeline, found, accepted[call_id] if call_id in judged else None)

    def _derive_all(self) -> None:
        """Makes the rows of calls that were stored before there were such rows, or by an older version."""
        old = select(CALLS.c.id).where(CALLS.c.derived < VERSION, CALLS.c.state != "running").order_by(CALLS.c.id)
        with self.database.reading() as connection:
            waiting = list(connection.scalars(old))
        for number, call_id in enumerate(waiting, 1):
            try:
                found = derive(self.timeline(call_id))
            except (DamagedCallError, NotStoredError) as error:
                log.warning("%s is not searched: %s", call_id, error)
                found = None
            with self.database.writing() as connection:
                row = found.call if found else {}
                connection.execute(update(CALLS).where(CALLS.c.id == call_id).values(derived=VERSION, **row))
                if found:
                    write_derived(connection, call_id, found)
            if number % 1_000 == 0:
                log.info("bringing the store up to date: %d of %d calls", number, len(waiting))

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
        now = self.now()
        connection.execute(insert(table).values(at=at or now, recorded=now, **values))
        return True

    def _hashed(self, reference: str | None) -> str | None:
        if reference is None or self._customer_key is None:
            return None
        return hmac.new(self._customer_key, reference.encode(), "sha256").hexdigest()


def write_derived(connection: Connection, call_id: str, found: Derived) -> None:
    """In place of those that were there."""
    rows = (
        found.participants,
        found.utterances,
        found.moments,
        found.stages,
        found.feelings,
        found.models,
        found.suggestions,
    )
    for table, each in zip(DERIVED_TABLES, rows, strict=True):
        connection.execute(delete(table).where(table.c.call_id == call_id))
        if each:
            connection.execute(insert(table), [{"call_id": call_id, **row} for row in each])


def write_timeline(connection: Connection, call_id: str, document: bytes) -> None:
    connection.execute(delete(TIMELINES).where(TIMELINES.c.call_id == call_id))
    connection.execute(insert(TIMELINES).values(call_id=call_id, data=gzip.compress(document, 6)))


def add_consents(
    connection: Connection, call_id: str, participants: Sequence[Participant], now: datetime, at_us: int = 0
) -> None:
    rows = [
        {
            "call_id": call_id,
            "participant": each.id,
            "state": each.consent,
            "biometric_basis": each.biometric_basis,
            "at_us": at_us,
            "recorded": now,
        }
        for each in participants
    ]
    if rows:
        connection.execute(insert(CONSENTS), rows)


def _row(connection: Connection, call_id: str) -> Any:
    columns = (CALLS.c.duration_us, CALLS.c.writer, CALLS.c.began)
    return connection.execute(select(*columns).where(CALLS.c.id == call_id).with_for_update()).one_or_none()


def _journal(connection: Connection, call_id: str) -> list[bytes]:
    return list(
        connection.scalars(select(JOURNAL.c.data).where(JOURNAL.c.call_id == call_id).order_by(JOURNAL.c.number))
    )


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


def _redacted(text: str | None, most: int) -> str | None:
    return storable(redact(text, find_personal(text)))[:most] if text else None
