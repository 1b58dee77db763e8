"""What running calls say, for people who watch them: the newest of everything, and a row for each call.

Used on the event loop only. Publishing puts references into a bounded mapping and wakes who waits; watchers take what
changed since they last looked, as fast as they can. So nothing is queued for a watcher, and none holds up a call.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from affectline.models.labels import UNKNOWN, Label
from affectline.pipelines.outcomes import CallDetails
from affectline.pipelines.timeline import (
    Dynamics,
    Moment,
    Notice,
    Participant,
    SpeechTurn,
    Stage,
    Suggestion,
    Utterance,
)

MAX_ITEMS: Final = 60_000
"""Remembered of one call; the ones that changed longest ago give way. Four hours of two parties are below it."""
WALL_SPAN_US: Final = 60_000_000
"""The row of a call is about its last minute."""
LASTING_US: Final = 8_000_000
"""A feeling of so long in the last minute asks for attention."""
TICK_US: Final = 1_000_000
"""A call from which nothing comes tells this often how long it is."""
UPSET: Final = frozenset[Label](("angry", "frustrated", "disgusted"))
STRUGGLING: Final = frozenset[Label](("sad", "anxious", "confused"))
SHOWN_OF_REFERENCE: Final = 2
"""Last characters of a customer's reference that are shown."""

Item = Utterance | Moment | Suggestion | SpeechTurn | Dynamics | Stage | Notice | Participant


@dataclass(frozen=True, slots=True)
class WallRow:
    """A running call in the light of its last minute. Times are media time."""

    id: str
    who: str
    """The customer's reference, masked; or the call's id."""
    queue: str | None
    product: str | None
    agent_group: str | None
    received_us: int
    valence: tuple[float | None, ...]
    """Of the customer, one a second, the newest last; None where it is not known."""
    label: Label
    probability: float
    stage: str | None
    suggestion: str | None
    """The newest that has not expired."""
    alert: str | None
    """The text of an alert that has not expired."""
    need: int
    """3 an alert, 2 upset, 1 struggling, 0 none."""
    reason: str
    """Why, in a few words; empty without a need."""


@dataclass(slots=True)
class RunningCall:
    """One call, for those who watch it."""

    id: str
    details: CallDetails
    participants: tuple[Participant, ...]
    began: datetime
    hub: "Hub"
    received_us: int = 0
    version: int = 0
    """Counts up with each change."""
    over: bool = False
    _items: dict[tuple[str, str], tuple[int, Item]] = field(default_factory=dict)
    """Kind and id -> version and item, by version."""
    _suggestions: dict[str, Suggestion] = field(default_factory=dict)
    _stages: dict[str, Stage] = field(default_factory=dict)
    _row: tuple[int, WallRow] | None = None

    def publish(self, items: Iterable[object], received_us: int) -> None:
        """Takes what the call has put out, and how far it has heard; costs little and never waits."""
        found = [(key, item) for item in items if isinstance(item, Item) and (key := _key(item))]
        if not found and received_us - self.received_us < TICK_US:
            return
        self.version += 1
        self.received_us = max(self.received_us, received_us)
        for key, item in found:
            match item:
                case Suggestion():
                    self._suggestions[item.id] = item
                case Stage():
                    self._place(item)
                case Participant():
                    self.participants = (*(p for p in self.participants if p.id != item.id), item)
            self._items.pop(key, None)  # so that it comes last
            self._items[key] = (self.version, item)
        while len(self._items) > MAX_ITEMS:
            del self._items[next(iter(self._items))]
        self.hub.wake()

    def since(self, version: int) -> list[Item]:
        """What changed after that version, oldest first; everything for version 0."""
        found: list[Item] = []
        for at, item in reversed(self._items.values()):
            if at <= version:
                break
            found.append(item)
        return found[::-1]

    @property
    def row(self) -> WallRow:
        if self._row is None or self._row[0] != self.version:
            self._row = self.version, self._row_now()
        return self._row[1]

    def _place(self, stage: Stage) -> None:
        """It replaces that of its id, and all that began after it."""
        for each in [s for s in self._stages.values() if s.id != stage.id and s.span.start_us > stage.span.start_us]:
            del self._stages[each.id]
            self._items.pop(("Stage", each.id), None)
        self._stages[stage.id] = stage

    def _row_now(self) -> WallRow:
        customers = {p.id for p in self.participants if p.role == "customer"}
        customers = customers or {p.id for p in self.participants if p.role != "agent"}
        from_us = max(0, self.received_us - WALL_SPAN_US)
        moments: list[Moment] = []
        for _, item in reversed(self._items.values()):
            if isinstance(item, Moment) and item.participant in customers:
                if item.span.end_us > from_us:
                    moments.append(item)
                elif item.span.end_us < from_us - WALL_SPAN_US:
                    break
        seconds = -(-min(self.received_us, WALL_SPAN_US) // 1_000_000)
        valence: list[float | None] = [None] * seconds
        for moment in moments:
            at = (moment.span.start_us - from_us) // 1_000_000
            if 0 <= at < seconds and moment.affect.valence is not None:
                valence[at] = round(moment.affect.valence, 2)
        known = [moment for moment in moments if moment.affect.labels]
        now = max(known, key=lambda m: m.span.start_us, default=None)
        valid = [s for s in self._suggestions.values() if s.expires_us > self.received_us]
        valid.sort(key=lambda s: s.created_us)
        alert = next((s.text for s in reversed(valid) if s.kind == "alert"), None)
        need, reason = _need_of(known, alert)
        reference = self.details.customer_reference
        stage = max(self._stages.values(), key=lambda s: s.span.start_us, default=None)
        return WallRow(
            id=self.id,
            who=masked(reference) if reference else f"call {self.id[:12]}",
            queue=self.details.queue,
            product=self.details.product,
            agent_group=self.details.agent_group,
            received_us=self.received_us,
            valence=tuple(valence),
            label=now.affect.label if now else UNKNOWN,
            probability=now.affect.probability if now else 0.0,
            stage=stage.name if stage else None,
            suggestion=valid[-1].text if valid else None,
            alert=alert,
            need=need,
            reason=reason,
        )


class Hub:
    """The running calls of this server."""

    def __init__(self) -> None:
        self._calls: dict[str, RunningCall] = {}
        self._news = asyncio.Event()
        self.version = 0
        """Counts up with each change of any call."""
        self.closed = False

    @contextmanager
    def call(self, call_id: str, details: CallDetails, participants: tuple[Participant, ...]) -> Iterator[RunningCall]:
        """A call that runs for as long as the context."""
        number, name = 1, call_id
        while name in self._calls:  # two streams may bring the same id along
            number += 1
            name = f"{call_id}~{number}"
        began = details.started or datetime.now(UTC)
        call = self._calls[name] = RunningCall(name, details, participants, began, self)
        self.wake()
        try:
            yield call
        finally:
            call.over = True
            del self._calls[name]
            self.wake()

    def get(self, call_id: str) -> RunningCall | None:
        return self._calls.get(call_id)

    @property
    def calls(self) -> list[RunningCall]:
        """By when they began."""
        return list(self._calls.values())

    async def changed(self, since: int, timeout_s: float) -> int:
        """Waits for a change after version `since`, at most so long; gives the version now."""
        if self.version == since and not self.closed:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._news.wait()
            except TimeoutError:
                pass
        return self.version

    def wake(self) -> None:
        self.version += 1
        self._news.set()
        self._news = asyncio.Event()

    def close(self) -> None:
        """Lets all watchers go."""
        self.closed = True
        self.wake()


def masked(reference: str) -> str:
    """A customer's reference, of which only the end is shown."""
    shown = reference[-SHOWN_OF_REFERENCE:] if len(reference) > 2 * SHOWN_OF_REFERENCE else ""
    return f"•••{shown}"


def _key(item: object) -> tuple[str, str] | None:
    kind = type(item).__name__
    match item:
        case Utterance(final=False):
            return "partial", item.participant  # the words of now, until the utterance is whole
        case Utterance() | Moment() | Suggestion() | Stage() | Participant():
            return kind, item.id
        case SpeechTurn():
            return kind, f"{item.participant} {item.span.start_us}"
        case Dynamics():
            return kind, item.participant
        case Notice():
            return kind, f"{item.code} {item.at_us} {item.participant}"
    return None


def _need_of(known: list[Moment], alert: str | None) -> tuple[int, str]:
    if alert:
        return 3, "alert"
    if not known:
        return 0, "nothing known yet"
    for need, labels in ((2, UPSET), (1, STRUGGLING)):
        felt: dict[Label, int] = {}
        for moment in known:
            if moment.affect.label in labels:
                took_us = moment.span.end_us - moment.span.start_us
                felt[moment.affect.label] = felt.get(moment.affect.label, 0) + took_us
        if sum(felt.values()) >= LASTING_US:
            label = max(felt, key=lambda each: felt[each])
            return need, f"{label} for {sum(felt.values()) // 1_000_000} s of the last minute"
    return 0, ""
