"""Who talks how much, over whom, how soon and how fast, kept up while a call runs.

A turn is speech with pauses shorter than the segmenter's end of an utterance; pieces of a long one that touch are one
turn. Figures are kept as running sums and fixed windows, so that an update costs as much in the first minute as in the
fourth hour, and they do not depend on the order in which the parties' turns become known.
"""

import copy
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

import numpy as np
import numpy.typing as npt

from affectline.models.signals import AffectEstimate, AffectScores, Span
from affectline.pipelines.timeline import Dynamics, Interruption, SpeechTurn, Utterance

MIN_INTERRUPTION_US: Final = 500_000
"""Shorter overlaps are listening sounds ("mhm") or early starts, no interruptions. By convention, as what follows."""
KEEPS_FLOOR_US: Final = 500_000
"""Who interrupts has the floor after speaking alone for so long."""
BREAKING_TURN_US: Final = 1_000_000
"""A shorter turn is no reply: it does not break the other's monologue."""
LATENCY_STEP_US: Final = 20_000
MAX_LATENCY_US: Final = 30_000_000
CUTTING_IN_AROUSAL: Final = 0.5
PACE_US: Final = 30_000_000
"""Of own speech: what "now" is for the pace."""
_SECOND_US: Final = 1_000_000
MODEL: Final = "turn-taking@1"


@dataclass(frozen=True, slots=True)
class Crosstalk:
    """What one party did in one second while another was speaking."""

    overlap_us: int = 0
    interrupts: bool = False
    """It began an interruption in this second."""


def cutting_in(participant: str, second: int, found: Crosstalk) -> Iterator[AffectEstimate]:
    """What it says of a party that it interrupts another: some excitement, of whatever kind."""
    if found.interrupts:
        span = Span(second * _SECOND_US, (second + 1) * _SECOND_US)
        scores = AffectScores(None, None, CUTTING_IN_AROUSAL, None, 0.3, ("cuts in",))
        yield AffectEstimate(span, participant, "dynamics", scores, 1.0, MODEL)


@dataclass(slots=True)
class _Party:
    turns: deque[Span] = field(default_factory=deque)
    """Told, and not counted to their end."""
    since_us: int | None = None
    """When the turn that goes on began."""
    breaks: bool = False
    """The turn that goes on has broken the others' monologues."""
    talk_us: int = 0
    overtalk_us: int = 0
    interruptions: int = 0
    successful: int = 0
    monologue_us: int = 0
    longest_monologue_us: int = 0
    latencies: npt.NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(MAX_LATENCY_US // LATENCY_STEP_US + 1, np.int64)
    )
    """Times that a response took so many steps."""


@dataclass(slots=True)
class _Cut:
    """An overlap that may become an interruption."""

    by: str
    of: str
    start_us: int
    end_us: int | None = None
    """When the other stopped."""


class _Floor:
    """The running sums. A copy of it costs the same at any time of a call."""

    def __init__(self, names: Iterable[str]) -> None:
        self.parties = {name: _Party() for name in names}
        self.gaps: deque[Span] = deque()
        """Told, and not counted to their end: some party could not be heard."""
        self.at_us = 0
        self.silence_us = self.heard_us = self.longest_silence_us = 0
        self._quiet_us = 0
        """Of the silence that lasts."""
        self._left_us: int | None = None
        """When the last one stopped speaking; None when somebody could not be heard since."""
        self._left_by: frozenset[str] = frozenset()
        self._cuts: list[_Cut] = []
        self.found: list[Interruption] = []
        self.overlaps: list[tuple[str, Span]] = []
        """Both since they were taken last."""

    def tell(self, participant: str, span: Span) -> None:
        turns = self.parties[participant].turns
        if not span.duration_us:
            return
        if turns and turns[-1].end_us == span.start_us:
            turns[-1] = Span(turns[-1].start_us, span.end_us)
        else:
            turns.append(span)

    def lack(self, span: Span) -> None:
        if self.gaps and span.start_us <= self.gaps[-1].end_us:
            self.gaps[-1] = Span(self.gaps[-1].start_us, max(span.end_us, self.gaps[-1].end_us))
        else:
            self.gaps.append(span)

    def advance(self, until_us: int) -> None:
        """Counts everything up to there; nothing before it may be told any more."""
        while self.at_us < until_us:
            self._meet()
            end_us = min((edge for edge in self._edges() if edge > self.at_us), default=until_us)
            self._count(Span(self.at_us, min(end_us, until_us)))
            for queue in (self.gaps, *(party.turns for party in self.parties.values())):
                while queue and queue[0].end_us <= self.at_us:
                    queue.popleft()

    def finish(self) -> None:
        """Decides what is still open: nothing comes after."""
        for party in self.parties.values():
            party.longest_monologue_us = max(party.longest_monologue_us, party.monologue_us)
        for cut in self._cuts:
            self._decide(cut, cut.end_us or self.at_us, successful=False)
        self._cuts = []

    def _edges(self) -> Iterator[int]:
        for span in (*list(self.gaps)[:1], *(p.turns[0] for p in self.parties.values() if p.turns)):
            yield span.start_us
            yield span.end_us
        for party in self.parties.values():
            if party.since_us is not None and not party.breaks:
                yield party.since_us + BREAKING_TURN_US
        for cut in self._cuts:
            if cut.end_us is not None:
                yield cut.end_us + KEEPS_FLOOR_US

    def _meet(self) -> None:
        """Whoever stops or begins now, and what follows from it."""
        now_us = self.at_us
        before = {name for name, party in self.parties.items() if party.since_us is not None}
        speaking = {name for name, party in self.parties.items() if party.turns and party.turns[0].start_us <= now_us}
        if before and not before & speaking:
            self._left_us, self._left_by = now_us, frozenset(before)
        self._follow_cuts(before, speaking)
        for name in sorted(speaking - before):
            if holders := before & speaking:
                of = min(holders, key=lambda holder: (self.parties[holder].since_us or 0, holder))
                self._cuts.append(_Cut(name, of, now_us))
            elif self._left_us is not None and name not in self._left_by:
                steps = round(min(now_us - self._left_us, MAX_LATENCY_US) / LATENCY_STEP_US)
                self.parties[name].latencies[steps] += 1
        for name, party in self.parties.items():
            if name not in speaking:
                party.since_us, party.breaks = None, False
            elif name not in before:
                party.since_us = now_us
            elif not party.breaks and now_us - (party.since_us or 0) >= BREAKING_TURN_US:
                party.breaks = True
                for other in (each for key, each in self.parties.items() if key != name):
                    other.longest_monologue_us = max(other.longest_monologue_us, other.monologue_us)
                    other.monologue_us = 0

    def _follow_cuts(self, before: set[str], speaking: set[str]) -> None:
        now_us, open_cuts = self.at_us, []
        for cut in self._cuts:
            if cut.end_us is None and cut.of in before - speaking and cut.by in speaking:
                cut.end_us = now_us
            if cut.end_us is not None:
                if now_us >= cut.end_us + KEEPS_FLOOR_US:
                    self._decide(cut, cut.end_us, successful=True)
                elif cut.by not in speaking or (cut.of in speaking and now_us > cut.end_us):
                    self._decide(cut, cut.end_us, successful=False)
                else:
                    open_cuts.append(cut)
            elif cut.by not in speaking:
                self._decide(cut, now_us, successful=False)
            else:
                open_cuts.append(cut)
        self._cuts = open_cuts

    def _decide(self, cut: _Cut, end_us: int, *, successful: bool) -> None:
        overlap_us = end_us - cut.start_us
        if overlap_us >= MIN_INTERRUPTION_US:
            party = self.parties[cut.by]
            party.interruptions += 1
            party.successful += successful
            self.found.append(Interruption(cut.by, cut.of, Span(cut.start_us, end_us), overlap_us, successful))

    def _count(self, span: Span) -> None:
        """A stretch in which nobody begins or stops."""
        self.at_us = span.end_us
        speaking = [name for name, party in self.parties.items() if party.since_us is not None]
        for name in speaking:
            party = self.parties[name]
            party.talk_us += span.duration_us
            party.monologue_us += span.duration_us
            if len(speaking) > 1:
                party.overtalk_us += span.duration_us
                self.overlaps.append((name, span))
        heard = not (self.gaps and self.gaps[0].start_us <= span.start_us)
        if not heard:
            self._left_us = None
        self.heard_us += span.duration_us * heard
        self._quiet_us = self._quiet_us + span.duration_us if heard and not speaking else 0
        self.silence_us += span.duration_us * (heard and not speaking)
        self.longest_silence_us = max(self.longest_silence_us, self._quiet_us)


@dataclass(slots=True)
class _Pace:
    """Words and speaking time of one party."""

    words: int = 0
    talk_us: int = 0
    recent: deque[tuple[int, int]] = field(default_factory=deque)
    """(speaking time, words) of the last stretches, PACE_US of speech and a part of one more."""
    recent_us: int = 0
    recent_words: int = 0

    def talk(self, duration_us: int) -> None:
        self.talk_us += duration_us
        self.recent.append((duration_us, 0))
        self.recent_us += duration_us
        while self.recent and self.recent_us - self.recent[0][0] >= PACE_US:
            duration_us, words = self.recent.popleft()
            self.recent_us -= duration_us
            self.recent_words -= words

    def say(self, words: int) -> None:
        """Of the stretch that was told last."""
        self.words += words
        if self.recent:
            duration_us, before = self.recent[-1]
            self.recent[-1] = (duration_us, before + words)
            self.recent_words += words

    def per_minute(self) -> float | None:
        return self.words / (self.talk_us / 60e6) if self.words and self.talk_us else None

    def per_minute_now(self) -> float | None:
        """The oldest stretch counts with the part of it that lies within PACE_US of speech."""
        if not self.words or not self.recent_us:
            return None
        oldest_us, oldest_words = self.recent[0]
        beyond_us = max(0, self.recent_us - PACE_US)
        words = self.recent_words - oldest_words * beyond_us / max(1, oldest_us)
        return words / ((self.recent_us - beyond_us) / 60e6)


class Conversation:
    """One call's figures. Not thread-safe.

    Turns of a party come in time order, each followed by the words that were recognised in it.
    """

    def __init__(self, participants: Sequence[str]) -> None:
        """participants: their ids."""
        self._floor = _Floor(participants)
        self._pace = {name: _Pace() for name in participants}
        self._interruptions: list[Interruption] = []
        self._overlap_us: Counter[tuple[str, int]] = Counter()
        """(party, second) -> time in it during which another spoke too."""
        self._interrupts: set[tuple[str, int]] = set()

    def join(self, participant: str) -> None:
        """A further party, who has said nothing yet."""
        self._floor.parties[participant] = _Party()
        self._pace[participant] = _Pace()

    @property
    def settled_us(self) -> int:
        """What comes before has been counted."""
        return self._floor.at_us

    def turn(self, turn: SpeechTurn) -> None:
        """One that begins at `settled_us` or later."""
        self._floor.tell(turn.participant, turn.span)
        self._pace[turn.participant].talk(turn.span.duration_us)

    def said(self, utterance: Utterance) -> None:
        """What was recognised in the party's last turn; written turns are no speech."""
        if utterance.words:
            self._pace[utterance.participant].say(len(utterance.text.split()))

    def unheard(self, span: Span) -> None:
        """Some party could not be heard: hold, lost media, no consent. In time order, of all parties together."""
        self._floor.lack(span)

    def advance(self, until_us: int) -> None:
        """Every turn that begins before `until_us` has been told, to its end or to a piece that touches the next."""
        self._floor.advance(until_us)
        for found in self._floor.found:
            self._interruptions.append(found)
            self._interrupts.add((found.by, found.span.start_us // _SECOND_US))
        for name, span in self._floor.overlaps:
            for second in range(span.start_us // _SECOND_US, -(-span.end_us // _SECOND_US)):
                whole = Span(second * _SECOND_US, (second + 1) * _SECOND_US)
                self._overlap_us[name, second] += whole.overlap_us(span)
        self._floor.found, self._floor.overlaps = [], []

    def crosstalk(self, participant: str, second: int) -> Crosstalk:
        """Of one second of the call; complete once it is settled, an interruption 0.5 s after it is over."""
        key = (participant, second)
        return Crosstalk(self._overlap_us.get(key, 0), key in self._interrupts)

    def interruptions(self, now_us: int, speaking: Mapping[str, int] | None = None) -> tuple[Interruption, ...]:
        """By time; see `figures`."""
        looked = self._look(now_us, speaking or {})
        return tuple(sorted((*self._interruptions, *looked.found), key=lambda i: (i.span, i.by, i.of)))

    def figures(self, now_us: int, speaking: Mapping[str, int] | None = None) -> tuple[Dynamics, ...]:
        """Of each party as if the call ended now.

        speaking: party -> when its turn that goes on began, at `settled_us` or later.
        """
        floor = self._look(now_us, speaking or {})
        everyone_us = sum(party.talk_us for party in floor.parties.values())
        return tuple(
            Dynamics(
                participant=name,
                talk_us=party.talk_us,
                talk_share=party.talk_us / everyone_us if everyone_us else 0.0,
                overtalk_us=party.overtalk_us,
                interruptions=party.interruptions,
                longest_silence_us=floor.longest_silence_us,
                words_per_minute=self._pace[name].per_minute(),
                until_us=now_us,
                successful_interruptions=party.successful,
                silence_us=floor.silence_us,
                silence_share=floor.silence_us / floor.heard_us if floor.heard_us else 0.0,
                responses=int(party.latencies.sum()),
                response_median_us=_quantile(party.latencies, 0.5),
                response_p90_us=_quantile(party.latencies, 0.9),
                words_per_minute_now=self._pace[name].per_minute_now(),
                monologue_us=party.monologue_us,
                longest_monologue_us=party.longest_monologue_us,
            )
            for name, party in floor.parties.items()
        )

    def _look(self, now_us: int, speaking: Mapping[str, int]) -> _Floor:
        """What it would come to if the call ended now."""
        looked = copy.deepcopy(self._floor)
        for name, start_us in speaking.items():
            if start_us < now_us:
                looked.tell(name, Span(start_us, now_us))
        looked.advance(now_us)
        looked.finish()
        return looked


def _quantile(counts: npt.NDArray[np.int64], share: float) -> int | None:
    """The smallest value that `share` of the counted ones do not exceed."""
    total = int(counts.sum())
    if not total:
        return None
    return int(np.searchsorted(np.cumsum(counts), ceil(share * total))) * LATENCY_STEP_US
