"""Writes running calls as they go, all of them together, so that a server that dies leaves what was known."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from affectline.models.errors import AffectlineError, StorageError
from affectline.pipelines.outcomes import CallDetails
from affectline.pipelines.redaction import find_personal, redact
from affectline.pipelines.session import ConsentChange, Input
from affectline.pipelines.timeline import CallTimeline, Moment, Output, Stage, Suggestion, SuggestionFeedback, Utterance
from affectline.server.store.calls import CallStore, StoredAlreadyError, add_consents
from affectline.server.store.derived import (
    VERSION,
    alerts_of,
    feelings_of,
    language_of,
    last_suggestion,
    mean_valence,
    model_rows,
    moment_rows,
    participant_rows,
    sparkline,
    stage_rows,
    storable,
    suggestion_rows,
    utterance_rows,
)
from affectline.server.store.jobs import JobStore
from affectline.server.store.journal import ConsentSaid, Entry, current_stages, write_entry, write_start
from affectline.server.store.lease import Lease
from affectline.server.store.tables import (
    CALLS,
    CONSENTS,
    FEELINGS,
    JOURNAL,
    MODELS,
    MOMENTS,
    PARTICIPANTS,
    STAGES,
    SUGGESTIONS,
    UTTERANCES,
)

SPARKLINE_US: Final = 60_000_000
"""Of a running call the sparkline shows the last 60 s."""
MAX_TRIES: Final = 60
"""So often a call that is over is tried, once a flush."""
MAX_LATE: Final = 100
"""Calls that are over and wait for a store that fails; more are lost, but for what was written of them."""
FEELINGS_STEP: Final = 100
"""How long each label was felt is counted anew when there is a hundredth more to count, so that long calls cost no
more than short ones."""

log = logging.getLogger("affectline.server")


class LiveCall:
    """One running call: `take` keeps what came out of it until it is written."""

    def __init__(self, details: CallDetails, start: CallTimeline) -> None:
        """`start`: the timeline before the first sound."""
        self.details = details
        self.start = start
        self._lock = Lock()
        self._entry = Entry(0)
        self._news = False
        self._unwritten: list[Entry] = []
        self._written = 0
        """Entries in the journal, with the start."""
        self._felt: list[Moment] = []
        self._counted = -1
        self._feelings: list[dict[str, Any]] = []
        self._utterances: list[Utterance] = []
        self._suggestions: dict[str, Suggestion] = {}
        self._stages: list[Stage] = []
        self._customers = {party.id for party in start.participants if party.role == "customer"}

    def take(self, inputs: Iterable[Input], outputs: Iterable[Output], received_us: int) -> None:
        """Costs no time to speak of; of inputs, consents and feedback are kept."""
        with self._lock:
            entry = self._entry
            entry.received_us = received_us
            for item in inputs:
                match item:
                    case ConsentChange():
                        entry.take(ConsentSaid(item.participant, item.consent, item.biometric_basis, received_us))
                    case SuggestionFeedback():
                        entry.take(replace(item, text=redact(item.text, find_personal(item.text))))
            for output in outputs:
                entry.take(output)
            self._news = True

    def write(self, connection: Connection, store: CallStore, writer: int) -> bool:
        """Whether there was anything to write. What was written must be told to `done` once it is kept."""
        with self._lock:
            if self._news:
                self._fold(self._entry)
                self._unwritten.append(self._entry)
                self._entry, self._news = Entry(self._entry.received_us), False
        if self._written and not self._unwritten:
            return False
        now, key = store.now(), {"call_id": self.details.id}
        if not self._written:
            self._insert(connection, store, writer)
        for number, entry in enumerate(self._unwritten, max(1, self._written)):
            data = write_entry(entry)
            connection.execute(insert(JOURNAL).values(number=number, data=data, **key))
            for table, rows in ((UTTERANCES, utterance_rows(entry.utterances)), (MOMENTS, moment_rows(entry.moments))):
                if rows:
                    connection.execute(insert(table), [{**key, **row} for row in rows])
            for said in entry.consents:
                row = {"participant": said.participant, "state": said.consent, "biometric_basis": said.biometric_basis}
                connection.execute(insert(CONSENTS).values(at_us=said.at_us, recorded=now, **row, **key))
                party = (PARTICIPANTS.c.call_id == self.details.id) & (PARTICIPANTS.c.id == said.participant)
                connection.execute(update(PARTICIPANTS).where(party).values(consent=said.consent))
        fresh = {each.id: each for entry in self._unwritten for each in entry.suggestions}
        if fresh:
            known = (SUGGESTIONS.c.call_id == self.details.id) & SUGGESTIONS.c.id.in_(fresh)
            connection.execute(delete(SUGGESTIONS).where(known))
            connection.execute(insert(SUGGESTIONS), [{**key, **row} for row in suggestion_rows(list(fresh.values()))])
        if any(entry.stages for entry in self._unwritten):
            self._replace(connection, STAGES, stage_rows(self._stages))
        if len(self._felt) > self._counted + len(self._felt) // FEELINGS_STEP:
            self._feelings, self._counted = feelings_of(self._felt, self._stages), len(self._felt)
            self._replace(connection, FEELINGS, self._feelings)
        connection.execute(update(CALLS).where(CALLS.c.id == self.details.id).values(changed=now, **self._row()))
        return True

    def done(self) -> None:
        self._written = max(1, self._written) + len(self._unwritten)
        self._unwritten = []

    def _fold(self, entry: Entry) -> None:
        self._felt += [moment for moment in entry.moments if moment.participant in self._customers]
        self._utterances += entry.utterances
        self._suggestions |= {each.id: each for each in entry.suggestions}
        self._stages = list(current_stages([*self._stages, *entry.stages]))

    def _row(self) -> dict[str, Any]:
        received_us = self._unwritten[-1].received_us if self._unwritten else 0
        suggestions = list(self._suggestions.values())
        return {
            "duration_us": received_us,
            "language": language_of(self._utterances),
            "sparkline": sparkline(self._felt[-2 * 60 :], received_us - SPARKLINE_US, received_us),
            "alerts": alerts_of(suggestions),
            "last_suggestion": last_suggestion(suggestions),
            **mean_valence(self._feelings),
        }

    def _insert(self, connection: Connection, store: CallStore, writer: int) -> None:
        now, key = store.now(), {"call_id": self.details.id}
        connection.execute(
            insert(CALLS).values(
                id=self.details.id,
                name=storable(self.start.name),
                duration_us=0,
                state="running",
                stored=now,
                began=self.details.started or now,
                changed=now,
                writer=writer,
                derived=VERSION,
                **store.columns(self.details),
            )
        )
        connection.execute(insert(JOURNAL).values(number=0, data=write_start(self.start), **key))
        self._replace(connection, PARTICIPANTS, participant_rows(self.start.participants))
        self._replace(connection, MODELS, model_rows(self.start.models))
        add_consents(connection, self.details.id, self.start.participants, now)

    def _replace(self, connection: Connection, table: Any, rows: list[dict[str, Any]]) -> None:
        connection.execute(delete(table).where(table.c.call_id == self.details.id))
        if rows:
            connection.execute(insert(table), [{"call_id": self.details.id, **row} for row in rows])


@dataclass(slots=True)
class _Late:
    """A call that is over and could not be stored yet."""

    details: CallDetails
    timeline: CallTimeline
    tries: int = 1


class LiveWriter:
    """Of one server. `flush` and `finish` block: they are for threads; each may come from another one."""

    def __init__(self, store: CallStore) -> None:
        self._store = store
        self._lease = Lease(store.database)
        self._calls: dict[str, LiveCall] = {}
        self._late: dict[str, _Late] = {}
        """Calls that are over and could not be stored yet."""
        self._lock = Lock()
        """One transaction at a time, so that a call that is finished is not written over."""
        self.jobs = JobStore(store.database, self._lease.writer)

    def open(self, details: CallDetails, start: CallTimeline) -> LiveCall:
        """A call that runs; `start` is its timeline before the first sound."""
        call = LiveCall(details, start)
        self._calls[details.id] = call
        return call

    def flush(self) -> None:
        """Writes what came since the last time. Raises StorageError; what was not written comes with the next."""
        with self._lock:
            self._flush()
            self._finish_late()

    def _flush(self) -> None:
        if self._calls:
            written = []
            with self._store.database.writing() as connection:
                for call in list(self._calls.values()):
                    try:
                        with connection.begin_nested():
                            if call.write(connection, self._store, self._lease.writer):
                                written.append(call)
                    except IntegrityError:
                        log.error("a running call is not written: another one of its id is in the store")
                        self._calls.pop(call.details.id, None)
            for call in written:
                call.done()

    def _finish_late(self) -> None:
        """One that cannot be stored holds no other one up; in the end what was written of it while it ran is kept."""
        failure = None
        for late in list(self._late.values()):
            try:
                self._store.add(late.details, late.timeline, writer=self._lease.writer)
            except StorageError as error:
                failure = error
                late.tries += 1
                if late.tries < MAX_TRIES:
                    continue
                self._break_off(late.details.id, self._lease.writer)
            except StoredAlreadyError:
                log.error("a call that is over is not stored: another one of its id is in the store")
            del self._late[late.details.id]
        if failure:
            raise failure

    def finish(self, details: CallDetails, timeline: CallTimeline) -> None:
        """Stores a call that is over, in place of what was written of it while it ran.

        Raises StorageError; one that was being written is tried again with each flush, so that it does not stay
        `running`.
        """
        with self._lock:
            call = self._calls.pop(details.id, None)
            try:
                self._store.add(details, timeline, writer=self._lease.writer)
            except StorageError:
                if call and len(self._late) < MAX_LATE:
                    self._late[details.id] = _Late(details, timeline)
                raise

    def abandon(self, call_id: str) -> None:
        """Ends a running call as broken off, with what was taken in so far. Raises StorageError."""
        with self._lock:
            self._flush()
            if self._calls.pop(call_id, None):
                self._store.break_off(call_id, self._lease.writer)

    def recover(self) -> list[str]:
        """Ends calls and jobs of servers that are gone; gives the calls' ids."""
        running = select(CALLS.c.id, CALLS.c.writer).where(CALLS.c.state == "running").order_by(CALLS.c.began)
        with self._store.database.reading() as connection:
            calls = connection.execute(running).all()
        writers = {row.writer for row in calls if row.writer is not None}
        writers |= self.jobs.writers() | self._lease.left_behind()
        ended = []
        for writer in sorted(writers):
            with self._lease.taken_over(writer) as gone:
                if not gone:
                    continue
                self.jobs.break_off(writer)
                for row in calls:
                    if row.writer == writer and self._break_off(row.id, writer):
                        ended.append(row.id)
        return ended

    def _break_off(self, call_id: str, writer: int) -> bool:
        try:
            return self._store.break_off(call_id, writer)
        except AffectlineError as error:
            log.error("call %s cannot be ended: %s", call_id, error)
            return False

    def close(self) -> None:
        self._lease.close()
