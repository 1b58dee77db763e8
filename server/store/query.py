"""Asks the store: lists and searches calls, and counts over them. Nothing here writes, but corrections of labels."""

import base64
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from math import sqrt
from typing import Any, Final, Literal

from scipy import stats
from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Float,
    Integer,
    Select,
    Table,
    and_,
    cast,
    distinct,
    exists,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    text,
    tuple_,
)

from affectline.models.errors import InvalidInputError
from affectline.models.labels import LABELS, UNKNOWN, Label
from affectline.pipelines.outcomes import MAX_NOTE_CHARACTERS, OUTCOME_KINDS, SCALES, Outcome, OutcomeKind
from affectline.pipelines.redaction import find_personal, redact
from affectline.pipelines.timeline import CallTimeline, StageName
from affectline.server.store.calls import CallStore, NotStoredError
from affectline.server.store.derived import read_sparkline, storable
from affectline.server.store.search import Term, find_terms, postgres_match, sqlite_match, terms_of, words_match
from affectline.server.store.tables import (
    CALLS,
    CORRECTIONS,
    FEELINGS,
    MOMENTS,
    OUTCOMES,
    SUGGESTIONS,
    UTTERANCES,
)

CallState = Literal["running", "finished", "broken_off"]
Order = Literal["newest", "oldest", "longest", "most_negative", "most_positive", "needs_help"]
By = Literal["queue", "product", "stage", "agent_group", "hour", "language", "day", "week"]

STATES: Final[tuple[CallState, ...]] = ("running", "finished", "broken_off")
ORDERS: Final[tuple[Order, ...]] = ("newest", "oldest", "longest", "most_negative", "most_positive", "needs_help")
BYS: Final[tuple[By, ...]] = ("queue", "product", "stage", "agent_group", "hour", "language", "day", "week")
STAGE_NAMES: Final[tuple[StageName, ...]] = (
    "greeting",
    "identification",
    "problem",
    "resolution",
    "closing",
    "hold",
    "transfer",
)
DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1_000
MAX_COUNTED: Final = 10_000
"""A page tells how many calls there are in all up to here; beyond, only that there are more."""
MAX_VALUES: Final = 100
"""Values that one field of a filter may list."""
MAX_GROUPS: Final = 1_000
MIN_GROUP_CALLS: Final = 5
MIN_GROUP_AGENTS: Final = 2
TOKEN_EXPECTED: Final = "expected a page token that this server gave out for the same question, found another one"
FEW_ROWS: Final = 20_000
FEW_UTTERANCES: Final = 50_000
EXCERPT_CHARACTERS: Final = 240
DOMINANT_LABELS: Final = 3


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls are meant; a field that is None or empty leaves all. Raises InvalidInputError."""

    started_from: datetime | None = None
    """When the call began (where that is not known, when it was stored); from here on …"""
    started_before: datetime | None = None
    """… and before here. Both with a zone."""
    queues: tuple[str, ...] = ()
    """Any of these, and so on."""
    products: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    agent_groups: tuple[str, ...] = ()
    states: tuple[CallState, ...] = ()
    label: Label | None = None
    """Customers' moments have it …"""
    label_min_s: float = 1.0
    """… for so long in all, in seconds …"""
    stage: StageName | None = None
    """… in this stage; without a label: the call has the stage."""
    policies: tuple[str, ...] = ()
    """One of them suggested something: `name`, or `name@version`."""
    with_alert: bool | None = None
    """Whether there was an alert."""
    outcome: OutcomeKind | None = None
    """The newest outcome of this kind is known …"""
    outcome_min: float | None = None
    """… and lies from here …"""
    outcome_max: float | None = None
    """… to here; 1 or 0 for true or false."""
    outcome_bad: bool | None = None
    """… and is bad or is not; see Outcome.bad."""
    words: str = ""
    """An utterance has all these words, in any order; "words in quotes" as they stand, wor* for a beginning."""
    demo: bool | None = None
    """Whether it was made up by `affectline demo`."""
    hours: tuple[str, ...] = ()
    """It began in one of these hours of the day (UTC), `00` to `23`."""

    def __post_init__(self) -> None:
        for name in ("started_from", "started_before"):
            at = getattr(self, name)
            if at is not None and at.tzinfo is None:
                raise InvalidInputError(f"expected {name} with a zone, found none")
        for name in ("queues", "products", "languages", "agent_groups", "policies", "hours"):
            values = getattr(self, name)
            if len(values) > MAX_VALUES:
                raise InvalidInputError(f"expected at most {MAX_VALUES} {name}, found {len(values)}")
            if any("\0" in value for value in values):
                raise InvalidInputError(f"expected text in {name}, found a zero character")
        for name, value, known in (
            ("label", self.label, (*LABELS, UNKNOWN)),
            ("stage", self.stage, STAGE_NAMES),
            ("outcome", self.outcome, OUTCOME_KINDS),
            *(("states", state, STATES) for state in self.states),
        ):
            if value is not None and value not in known:
                raise InvalidInputError(f"expected {name} of {', '.join(known)}; found {str(value)[:40]!r}")
        if not 0 < self.label_min_s <= 1e6:
            raise InvalidInputError(f"expected label_min_s above 0 and up to 1000000, found {self.label_min_s:g}")
        bounds = [each for each in (self.outcome_min, self.outcome_max, self.outcome_bad) if each is not None]
        if bounds and self.outcome is None:
            raise InvalidInputError("expected the kind of outcome with its values, found none")
        terms_of(self.words)


@dataclass(frozen=True, slots=True)
class LabelTime:
    """How long customers felt something."""

    label: Label
    seconds: float
    share: float
    """Of the time in which something is known, in [0, 1]; of `unknown`: of all time."""


@dataclass(frozen=True, slots=True)
class CallRow:
    """A call in a list."""

    id: str
    name: str
    started: datetime | None
    began: datetime
    """The same, or where it is not known, when the call was stored."""
    changed: datetime
    duration_s: float
    state: CallState
    queue: str | None
    product: str | None
    agent_group: str | None
    language: str | None
    labels: tuple[LabelTime, ...]
    """Up to 3 that customers felt longest, longest first; `unknown` is not among them."""
    valence: float | None
    """Customers' mean valence in [-1, 1], of the time in which it is known."""
    sparkline: tuple[float | None, ...] | None
    """60 numbers of customers' valence: over the whole call, of a running one over its last 60 s."""
    alerts: int
    last_suggestion: str | None
    outcomes: tuple[Outcome, ...]
    """The newest of each kind, by kind."""
    demo: bool


@dataclass(frozen=True, slots=True)
class CallPage:
    """Some of the calls that were asked for."""

    rows: tuple[CallRow, ...]
    next_token: str
    """Gives the next page; empty after the last one."""
    total: int
    """All calls of the filter, up to MAX_COUNTED + 1, which means more."""


@dataclass(frozen=True, slots=True)
class Hit:
    """An utterance that matches."""

    call_id: str
    call_name: str
    began: datetime
    utterance_id: str
    participant: str
    start_us: int
    end_us: int
    excerpt: str
    """Up to 240 characters of it, around the first match."""
    matches: tuple[tuple[int, int], ...]
    """Where in the excerpt the words stand: from, to, in characters."""


@dataclass(frozen=True, slots=True)
class HitPage:
    hits: tuple[Hit, ...]
    """Newest call first, then by time."""
    next_token: str


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and where it lies with 95 % confidence by Student's t over calls."""

    mean: float
    low: float | None
    """None with fewer than two calls."""
    high: float | None
    calls: int
    """With a known valence; each counts the same, however long."""


@dataclass(frozen=True, slots=True)
class Group:
    """What calls of one kind have in common."""

    key: str | None
    """The queue, the stage, the hour of the day (UTC, `00` to `23`), the day (UTC, ISO 8601), …; None where the call
    does not say."""
    calls: int
    seconds: float
    """Of customers' time: of the stage, or of whole calls."""
    time_shares: Mapping[Label, float]
    """Label -> share of the time in which something is known, in [0, 1]; `unknown`: of all time."""
    call_shares: Mapping[Label, float]
    """Label -> share of the calls that have at least 1 s of it, in [0, 1]."""
    valence: Interval | None
    """Of the calls' means; None where none is known."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    by: By
    groups: tuple[Group, ...]
    """By key; those of calls that do not say come last."""
    withheld_groups: int
    """Groups too small to show …"""
    withheld_calls: int
    """… and the calls in them."""
    min_calls: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sets of calls side by side; a side too small to show is None."""

    a: Group | None
    b: Group | None
    valence_difference: Interval | None
    """b - a, by Welch's t; `calls` of both. None where either has fewer than two."""
    shared_calls: int
    """Calls in both sets: above 0 they are not independent, and the interval is not to be trusted."""
    min_calls: int


@dataclass(frozen=True, slots=True)
class Correction:
    """What a person says a moment was; the model's own label stays beside it."""

    moment: str
    participant: str
    start_us: int
    before: Label
    label: Label
    note: str | None
    recorded: datetime


class Queries:
    """Reads of a store, safe for several threads. Raises StorageError when the database fails."""

    def __init__(self, store: CallStore, *, min_calls: int = MIN_GROUP_CALLS) -> None:
        """`min_calls`: smaller groups are withheld."""
        self._store = store
        self._database = store.database
        self._min_calls = min_calls

    def list_calls(
        self,
        only: CallFilter = CallFilter(),
        *,
        page_size: int = 0,
        page_token: str = "",
        order: Order = "newest",
    ) -> CallPage:
        """`page_size`: 1 to MAX_PAGE_SIZE, larger ones are cut; 0 is DEFAULT_PAGE_SIZE.

        `page_token`: `next_token` of the page before, of the same filter and order. Raises InvalidInputError.
        """
        size = _size(page_size)
        if order not in ORDERS:
            raise InvalidInputError(f"expected an order of {', '.join(ORDERS)}; found {str(order)[:40]!r}")
        stamp = _stamp((only, order))
        key, descending = _order_key(order)
        query = select(CALLS, key.label("key"))
        if page_token:
            value, last = _read_token(page_token, stamp)
            after = tuple_(key, CALLS.c.id)
            place = tuple_(*_place(key, value), literal(last))
            query = query.where(after < place if descending else after > place)
        ends = (key.desc(), CALLS.c.id.desc()) if descending else (key, CALLS.c.id)
        with self._database.reading() as connection:
            conditions = self._conditions(connection, only)
            query = query.where(*conditions)
            counted = select(CALLS.c.id).where(*conditions).limit(MAX_COUNTED + 1).subquery()
            found = connection.execute(query.order_by(*ends).limit(size + 1)).all()
            total = connection.scalar(select(func.count()).select_from(counted)) or 0
            shown = found[:size]
            ids = [row.id for row in shown]
            labels = self._labels(connection, ids)
            outcomes = self._outcomes(connection, ids)
        rows = tuple(_call_row(row, labels.get(row.id, ()), outcomes.get(row.id, ())) for row in shown)
        more = _token(stamp, shown[-1].key, shown[-1].id) if len(found) > size else ""
        return CallPage(rows, more, total)

    def call(self, call_id: str) -> CallRow:
        """Raises NotStoredError for an unknown one."""
        return self._one(call_id)

    def timeline(self, call_id: str) -> CallTimeline:
        """As it was made; of a running call, as far as it is written. Raises NotStoredError for an unknown one."""
        return self._store.timeline(storable(call_id))

    def search(
        self, words: str, only: CallFilter = CallFilter(), *, page_size: int = 0, page_token: str = ""
    ) -> HitPage:
        """Utterances with all the words, as CallFilter.words says. Raises InvalidInputError, also without words."""
        size = _size(page_size)
        terms = terms_of(words)
        if not terms:
            raise InvalidInputError("expected a word to search for, found none")
        stamp = _stamp((words, only))
        columns = (CALLS.c.name, CALLS.c.began, UTTERANCES)
        query = select(*columns).join(CALLS, CALLS.c.id == UTTERANCES.c.call_id)
        keys = (CALLS.c.began, CALLS.c.id, UTTERANCES.c.number)
        if page_token:
            began, (call_id, number) = _read_token(page_token, stamp)
            if not isinstance(number, int):
                raise InvalidInputError(TOKEN_EXPECTED)
            before = or_(
                tuple_(*keys[:2]) < tuple_(literal(_time(began), CALLS.c.began.type), literal(call_id)),
                and_(CALLS.c.id == call_id, UTTERANCES.c.number > number),
            )
            query = query.where(before)
        query = query.order_by(keys[0].desc(), keys[1].desc(), keys[2]).limit(size + 1)
        with self._database.reading() as connection:
            matching, _ = self._utterance_matches(connection, terms)
            found = connection.execute(query.where(matching, *self._conditions(connection, only))).all()
        hits = tuple(_hit(row, terms) for row in found[:size])
        last = found[size - 1] if len(found) > size else None
        return HitPage(hits, _token(stamp, last.began, (last.call_id, last.number)) if last else "")

    def aggregate(self, only: CallFilter = CallFilter(), *, by: By) -> Aggregate:
        """Groups with too few calls, or known to be of a single agent, are withheld and counted."""
        if by not in BYS:
            raise InvalidInputError(f"expected by of {', '.join(BYS)}; found {str(by)[:40]!r}")
        key = self._group_key(by)
        staged = by == "stage"
        groups = self._groups(key, only, staged=staged)
        shown = [each for each in groups if each[1]]
        held = [each for each in groups if not each[1]]
        return Aggregate(
            by,
            tuple(sorted((group for group, _ in shown), key=lambda g: (g.key is None, g.key or "")))[:MAX_GROUPS],
            len(held),
            sum(group.calls for group, _ in held),
            self._min_calls,
        )

    def compare(self, a: CallFilter, b: CallFilter) -> Comparison:
        """Both as a whole; a side that is too small is withheld, and with it the difference."""
        sides: list[Group | None] = []
        spreads: list[tuple[int, float, float] | None] = []
        for only in (a, b):
            groups = self._groups(literal(""), only, staged=False)
            group, shown = groups[0] if groups else (None, False)
            sides.append(group if shown else None)
            spreads.append(self._spread(only) if shown else None)
        with self._database.reading() as connection:
            conditions = (*self._conditions(connection, a), *self._conditions(connection, b))
            shared = connection.scalar(select(func.count()).select_from(CALLS).where(*conditions)) or 0
        return Comparison(sides[0], sides[1], _welch(*spreads), shared, self._min_calls)

    def correct_label(self, call_id: str, moment: str, label: Label, note: str | None = None) -> Correction:
        """Adds what a person says the moment was; nothing is overwritten. Personal data is taken out of the note.

        Raises NotStoredError for an unknown call or moment, InvalidInputError for what is no label.
        """
        if label not in (*LABELS, UNKNOWN):
            raise InvalidInputError(f"expected a label of {', '.join((*LABELS, UNKNOWN))}; found {str(label)[:40]!r}")
        if note and len(note) > MAX_NOTE_CHARACTERS:
            raise InvalidInputError(f"expected a note of at most {MAX_NOTE_CHARACTERS} characters, found {len(note)}")
        written = storable(redact(note, find_personal(note)))[:MAX_NOTE_CHARACTERS] if note else None
        sought = (MOMENTS.c.call_id == storable(call_id), MOMENTS.c.id == storable(moment))
        with self._database.writing() as connection:
            row = connection.execute(select(MOMENTS).where(*sought)).first()
            if row is None:
                raise NotStoredError("expected the id of a moment of a stored call, found another one")
            made = Correction(moment, row.participant, row.start_us, row.label, label, written, self._store.now())
            values = {name: getattr(made, name) for name in Correction.__slots__}
            connection.execute(insert(CORRECTIONS).values(call_id=call_id, **values))
        return made

    def corrections(self, call_id: str) -> tuple[Correction, ...]:
        """All of a call, in the order in which they were made; of each moment the last one counts."""
        query = select(CORRECTIONS).where(CORRECTIONS.c.call_id == storable(call_id)).order_by(CORRECTIONS.c.id)
        with self._database.reading() as connection:
            return tuple(
                Correction(*(getattr(row, name) for name in Correction.__slots__)) for row in connection.execute(query)
            )

    def values(self, field: Literal["queue", "product", "agent_group", "language"]) -> tuple[str, ...]:
        """What there is to filter by, in alphabetical order; at most MAX_VALUES."""
        column = CALLS.c[field]
        query = select(column).distinct().where(column.is_not(None)).order_by(column).limit(MAX_VALUES)
        with self._database.reading() as connection:
            return tuple(connection.scalars(query))

    def _one(self, call_id: str) -> CallRow:
        call_id = storable(call_id)
        with self._database.reading() as connection:
            row = connection.execute(select(CALLS).where(CALLS.c.id == call_id)).first()
            if row is None:
                raise NotStoredError("expected the id of a stored call, found another one")
            labels = self._labels(connection, [call_id])
            outcomes = self._outcomes(connection, [call_id])
        return _call_row(row, labels.get(call_id, ()), outcomes.get(call_id, ()))

    def _conditions(self, connection: Connection, only: CallFilter) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if only.started_from is not None:
            found.append(CALLS.c.began >= only.started_from)
        if only.started_before is not None:
            found.append(CALLS.c.began < only.started_before)
        for column, values in (
            (CALLS.c.queue, only.queues),
            (CALLS.c.product, only.products),
            (CALLS.c.language, only.languages),
            (CALLS.c.agent_group, only.agent_groups),
            (CALLS.c.state, only.states),
        ):
            if values:
                found.append(column.in_(values))
        if only.demo is not None:
            found.append(CALLS.c.demo.is_(only.demo))
        if only.with_alert is not None:
            found.append(CALLS.c.alerts > 0 if only.with_alert else CALLS.c.alerts == 0)
        if only.label is not None or only.stage is not None:
            wanted = [FEELINGS.c.stage == (only.stage or "")]
            if only.label is not None:
                wanted += [FEELINGS.c.label == only.label, FEELINGS.c.us >= round(only.label_min_s * 1_000_000)]
            found.append(_has(connection, FEELINGS, *wanted))
        if only.policies:
            found.append(_has(connection, SUGGESTIONS, or_(*map(_policy_is, only.policies))))
        if only.outcome is not None:
            found.append(_has(connection, OUTCOMES, *_outcome_conditions(only, only.outcome)))
        if only.hours:
            found.append(self._group_key("hour").in_(only.hours))
        if terms := terms_of(only.words):
            found.append(self._call_matches(connection, terms))
        return found

    def _utterance_matches(self, connection: Connection, terms: Sequence[Term]) -> tuple[ColumnElement[bool], bool]:
        """Condition on utterances, and whether few match: then they come by the index, else each is looked at."""
        if self._database.is_postgres:
            matching = postgres_match(terms)
            some = select(literal(1)).select_from(UTTERANCES).where(matching).limit(FEW_UTTERANCES).subquery()
        else:
            rows = text("SELECT rowid FROM utterance_words WHERE utterance_words MATCH :sought")
            found = rows.bindparams(sought=sqlite_match(terms)).columns(literal_column("rowid"))
            matching = UTTERANCES.c.number.in_(found)
            some = select(literal(1)).select_from(found.subquery()).limit(FEW_UTTERANCES).subquery()
        if (connection.scalar(select(func.count()).select_from(some)) or 0) < FEW_UTTERANCES:
            return matching, True
        return words_match(terms, postgres=self._database.is_postgres), False

    def _call_matches(self, connection: Connection, terms: Sequence[Term]) -> ColumnElement[bool]:
        matching, few = self._utterance_matches(connection, terms)
        if few:
            return CALLS.c.id.in_(select(UTTERANCES.c.call_id).where(matching))
        return exists().where(UTTERANCES.c.call_id == CALLS.c.id, matching)

    def _labels(self, connection: Connection, ids: Sequence[str]) -> dict[str, tuple[LabelTime, ...]]:
        query = select(FEELINGS).where(FEELINGS.c.call_id.in_(ids), FEELINGS.c.stage == "")
        by_call: defaultdict[str, dict[Label, int]] = defaultdict(dict)
        for row in connection.execute(query):
            by_call[row.call_id][row.label] = row.us
        found = {}
        for call_id, times in by_call.items():
            known_us = sum(us for label, us in times.items() if label != UNKNOWN)
            longest = sorted(((us, label) for label, us in times.items() if label != UNKNOWN), reverse=True)
            found[call_id] = tuple(LabelTime(label, us / 1e6, us / known_us) for us, label in longest[:DOMINANT_LABELS])
        return found

    def _outcomes(self, connection: Connection, ids: Sequence[str]) -> dict[str, tuple[Outcome, ...]]:
        by_call: defaultdict[str, dict[OutcomeKind, Outcome]] = defaultdict(dict)
        query = select(OUTCOMES).where(OUTCOMES.c.call_id.in_(ids)).order_by(OUTCOMES.c.at, OUTCOMES.c.id)
        for row in connection.execute(query):
            by_call[row.call_id][row.kind] = Outcome(row.kind, row.value, row.at)
        return {call_id: tuple(found[kind] for kind in sorted(found)) for call_id, found in by_call.items()}

    def _group_key(self, by: By) -> ColumnElement[Any]:
        match by:
            case "stage":
                return FEELINGS.c.stage
            case "week":  # by its Monday
                if self._database.is_postgres:
                    return func.to_char(func.date_trunc("week", CALLS.c.began), "YYYY-MM-DD")
                return func.date(CALLS.c.began, "weekday 0", "-6 days")
            case "hour" | "day":
                pattern = {"hour": ("%H", "HH24"), "day": ("%Y-%m-%d", "YYYY-MM-DD")}[by]
                if self._database.is_postgres:
                    return func.to_char(CALLS.c.began, pattern[1])
                return func.strftime(pattern[0], CALLS.c.began)
            case _:
                return CALLS.c[by]

    def _groups(self, key: ColumnElement[Any], only: CallFilter, *, staged: bool) -> list[tuple[Group, bool]]:
        """Groups, and whether each is large enough to show."""
        with self._database.reading() as connection:
            conditions = self._conditions(connection, only)
            times: defaultdict[str | None, dict[Label, tuple[int, int]]] = defaultdict(dict)
            for row in connection.execute(_times_by_label(key, conditions, staged=staged)):
                times[row.key][row.label] = (int(row.us), int(row.calls))
            means = _stage_means(key, conditions) if staged else _call_means(key, conditions)
            counted = connection.execute(_counted(means)).all()
        return [(_group(row, times[row.key]), self._large_enough(row)) for row in counted]

    def _large_enough(self, row: Any) -> bool:
        """Figures of a single agent would be a score of a person; where an agent is not known, there may be others."""
        single = row.known == row.calls and row.agents < MIN_GROUP_AGENTS
        return bool(row.calls >= self._min_calls and not single)

    def _spread(self, only: CallFilter) -> tuple[int, float, float]:
        """Number, mean and variance of the calls' mean valences."""
        value = CALLS.c.valence
        query = select(func.count(value), func.sum(value), func.sum(value * value))
        with self._database.reading() as connection:
            count, total, squares = connection.execute(query.where(*self._conditions(connection, only))).one()
        return _moments(count, total or 0.0, squares or 0.0)


def _has(connection: Connection, table: Table, *wanted: ColumnElement[bool]) -> ColumnElement[bool]:
    """The call has such a row. Where there are few of them they are looked up first; else each call is asked."""
    some = select(literal(1)).select_from(table).where(*wanted).limit(FEW_ROWS).subquery()
    if (connection.scalar(select(func.count()).select_from(some)) or 0) < FEW_ROWS:
        return CALLS.c.id.in_(select(table.c.call_id).where(*wanted))
    return exists().where(table.c.call_id == CALLS.c.id, *wanted)


def _times_by_label(key: ColumnElement[Any], conditions: Sequence[ColumnElement[bool]], *, staged: bool) -> Select[Any]:
    """By group and label: how long in all, and in how many calls for a second at least."""
    stage = FEELINGS.c.stage != "" if staged else FEELINGS.c.stage == ""
    long_enough = cast(FEELINGS.c.us >= 1_000_000, Integer)
    query = select(
        key.label("key"), FEELINGS.c.label, func.sum(FEELINGS.c.us).label("us"), func.sum(long_enough).label("calls")
    )
    joined = query.select_from(CALLS.join(FEELINGS, FEELINGS.c.call_id == CALLS.c.id)).where(stage, *conditions)
    return joined.group_by(key, FEELINGS.c.label)


def _call_means(key: ColumnElement[Any], conditions: Sequence[ColumnElement[bool]]) -> CTE:
    """Each call's mean valence."""
    return select(key.label("key"), CALLS.c.agent, CALLS.c.valence.label("mean")).where(*conditions).cte("means")


def _stage_means(key: ColumnElement[Any], conditions: Sequence[ColumnElement[bool]]) -> CTE:
    """Each call's mean valence in each of its stages."""
    valued = func.nullif(func.sum(FEELINGS.c.valued_us), 0)
    mean = (cast(func.sum(FEELINGS.c.valence_us), Float) / valued).label("mean")
    query = select(key.label("key"), func.max(CALLS.c.agent).label("agent"), mean)
    joined = query.select_from(CALLS.join(FEELINGS, FEELINGS.c.call_id == CALLS.c.id))
    return joined.where(FEELINGS.c.stage != "", *conditions).group_by(key, CALLS.c.id).cte("means")


def _counted(means: CTE) -> Select[Any]:
    """By group: calls, agents as far as they are known, and what a mean and its interval are made of."""
    return select(
        means.c.key,
        func.count().label("calls"),
        func.count(means.c.agent).label("known"),
        func.count(distinct(means.c.agent)).label("agents"),
        func.count(means.c.mean).label("valued"),
        func.sum(means.c.mean).label("total"),
        func.sum(means.c.mean * means.c.mean).label("squares"),
    ).group_by(means.c.key)


def _outcome_conditions(only: CallFilter, kind: OutcomeKind) -> list[ColumnElement[bool]]:
    """Of the newest outcome of this kind."""
    later = OUTCOMES.alias("later")
    newer = tuple_(later.c.at, later.c.id) > tuple_(OUTCOMES.c.at, OUTCOMES.c.id)
    of_same = (later.c.call_id == OUTCOMES.c.call_id, later.c.kind == kind)
    wanted: list[ColumnElement[bool]] = [OUTCOMES.c.kind == kind, ~exists().where(*of_same, newer)]
    if only.outcome_min is not None:
        wanted.append(OUTCOMES.c.value >= only.outcome_min)
    if only.outcome_max is not None:
        wanted.append(OUTCOMES.c.value <= only.outcome_max)
    if only.outcome_bad is not None:
        low, high = SCALES.get(kind, (0, 1))
        bad = [float(value) for value in range(low, high + 1) if Outcome(kind, value).bad == only.outcome_bad]
        wanted.append(OUTCOMES.c.value.in_(bad))
    return wanted


def _policy_is(name: str) -> ColumnElement[bool]:
    if "@" in name:
        return SUGGESTIONS.c.policy == name
    return SUGGESTIONS.c.policy.startswith(f"{name}@", autoescape=True)


def _order_key(order: Order) -> tuple[ColumnElement[Any], bool]:
    """What calls are ordered by, never null, and whether the largest comes first."""
    match order:
        case "newest" | "oldest":
            return CALLS.c.began, order == "newest"
        case "longest":
            return CALLS.c.duration_us, True
        case "most_negative":
            return func.coalesce(CALLS.c.valence, 2.0), False
        case "most_positive":
            return func.coalesce(CALLS.c.valence, -2.0), True
        case "needs_help":
            return CALLS.c.alerts - func.coalesce(CALLS.c.valence, 0.0), True


def _place(key: ColumnElement[Any], value: Any) -> tuple[ColumnElement[Any]]:
    if isinstance(value, str):
        return (literal(_time(value), CALLS.c.began.type),)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidInputError(TOKEN_EXPECTED)
    return (literal(value, key.type),)


def _size(page_size: int) -> int:
    if page_size < 0:
        raise InvalidInputError(f"expected a page size of 0 to {MAX_PAGE_SIZE}, found {page_size}")
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def _stamp(question: object) -> str:
    return sha256(repr(question).encode()).hexdigest()[:12]


def _token(stamp: str, value: Any, last: Any) -> str:
    place = value.isoformat() if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(json.dumps([stamp, place, last]).encode()).decode().rstrip("=")


def _read_token(token: str, stamp: str) -> tuple[Any, Any]:
    """Place in the order, and what comes last. Raises InvalidInputError."""
    try:
        padded = token.encode("ascii") + b"=" * (-len(token) % 4)
        found, place, last = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, TypeError):
        raise InvalidInputError(TOKEN_EXPECTED) from None
    if found != stamp:
        raise InvalidInputError(TOKEN_EXPECTED)
    return place, last


def _time(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise InvalidInputError(TOKEN_EXPECTED) from None


def _call_row(row: Any, labels: tuple[LabelTime, ...], outcomes: tuple[Outcome, ...]) -> CallRow:
    return CallRow(
        id=row.id,
        name=row.name,
        started=row.started,
        began=row.began,
        changed=row.changed,
        duration_s=row.duration_us / 1e6,
        state=row.state,
        queue=row.queue,
        product=row.product,
        agent_group=row.agent_group,
        language=row.language,
        labels=labels,
        valence=row.valence,
        sparkline=read_sparkline(row.sparkline),
        alerts=row.alerts,
        last_suggestion=row.last_suggestion,
        outcomes=outcomes,
        demo=row.demo,
    )


def _hit(row: Any, terms: Sequence[Term]) -> Hit:
    said: str = row.text
    spans = find_terms(said, terms)
    start = max(0, (spans[0][0] if spans else 0) - EXCERPT_CHARACTERS // 3) if len(said) > EXCERPT_CHARACTERS else 0
    excerpt = said[start : start + EXCERPT_CHARACTERS]
    inside = ((low - start, high - start) for low, high in spans)
    matches = tuple((low, high) for low, high in inside if low >= 0 and high <= len(excerpt))
    return Hit(row.call_id, row.name, row.began, row.id, row.participant, row.start_us, row.end_us, excerpt, matches)


def _group(row: Any, times: Mapping[Label, tuple[int, int]]) -> Group:
    all_us = sum(us for us, _ in times.values())
    known_us = all_us - times.get(UNKNOWN, (0, 0))[0]
    return Group(
        key=row.key,
        calls=row.calls,
        seconds=all_us / 1e6,
        time_shares={label: us / (all_us if label == UNKNOWN else known_us) for label, (us, _) in _longest(times)},
        call_shares={label: calls / row.calls for label, (_, calls) in _longest(times)},
        valence=_interval(*_moments(row.valued, row.total or 0.0, row.squares or 0.0)) if row.valued else None,
    )


def _longest(times: Mapping[Label, tuple[int, int]]) -> list[tuple[Label, tuple[int, int]]]:
    return sorted(((label, each) for label, each in times.items() if each[0]), key=lambda item: -item[1][0])


def _moments(count: int, total: float, squares: float) -> tuple[int, float, float]:
    """Number, mean and variance, of a sum and a sum of squares."""
    mean = total / count if count else 0.0
    return count, mean, max(0.0, (squares - count * mean * mean) / (count - 1)) if count > 1 else 0.0


def _interval(count: int, mean: float, variance: float) -> Interval:
    if count < 2:
        return Interval(mean, None, None, count)
    half = float(stats.t.ppf(0.975, count - 1)) * sqrt(variance / count)
    return Interval(mean, mean - half, mean + half, count)


def _welch(a: tuple[int, float, float] | None, b: tuple[int, float, float] | None) -> Interval | None:
    if a is None or b is None or a[0] < 2 or b[0] < 2:
        return None
    one, other = a[2] / a[0], b[2] / b[0]
    difference, count = b[1] - a[1], a[0] + b[0]
    if not one + other:
        return Interval(difference, difference, difference, count)
    freedom = (one + other) ** 2 / (one**2 / (a[0] - 1) + other**2 / (b[0] - 1))
    half = float(stats.t.ppf(0.975, freedom)) * sqrt(one + other)
    return Interval(difference, difference - half, difference + half, count)
