"""The measures of the policy language: what a condition may ask of a call (docs/policies.md).

A measure looks at one party over a window of media time and either gives its evidence or does not hold. `eased` is the
same measure with a lower bar; it holds wherever the measure itself does, which is what hysteresis rests on.
"""

import re
from abc import abstractmethod
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from math import floor
from statistics import fmean
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from affectline.models.labels import UNKNOWN, Label
from affectline.models.signals import GapReason, Span
from affectline.pipelines.checked_yaml import Strict
from affectline.pipelines.timeline import (
    CallOutcome,
    Cue,
    CueKind,
    CustomerHistory,
    EarlierCall,
    Moment,
    Participant,
    SpeechTurn,
    Stage,
    StageName,
    Utterance,
)

SECOND_US: Final = 1_000_000
MIN_INTERRUPTION_S: Final = 0.5
"""Shorter overlaps are backchannels ("mm-hm"), not interruptions."""
MONOLOGUE_PAUSE_US: Final = 2 * SECOND_US
"""A longer pause ends a monologue; by convention."""
REPLY_US: Final = SECOND_US
"""Somebody else's turn at least this long ends a monologue; a shorter one is a backchannel."""
MAX_COUNT: Final = 1_000

Seconds = Annotated[float, Field(gt=0, le=600)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Valence = Annotated[float, Field(ge=-1, le=1)]
Count = Annotated[int, Field(ge=1, le=MAX_COUNT)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


def us(seconds: float) -> int:
    return round(seconds * SECOND_US)


@dataclass(slots=True)
class Party:
    """What is remembered of one party: the recent past that any policy looks at, and what counts for the whole call."""

    participant: Participant
    moments: deque[Moment] = field(default_factory=deque)
    utterances: deque[Utterance] = field(default_factory=deque)
    turns: deque[SpeechTurn] = field(default_factory=deque)
    overtalk: deque[SpeechTurn] = field(default_factory=deque)
    """The parts of this party's turns that it spoke into another's."""
    talk_us: int = 0
    felt: defaultdict[Label, list[Moment]] = field(default_factory=lambda: defaultdict(list))
    """Of the whole call, as the next one."""
    said: list[Utterance] = field(default_factory=list)


class View(NamedTuple):
    """What a measure sees: one party's window of media time, and what is known of the call."""

    party: Party
    window: Span
    parties: tuple[Party, ...]
    quiet_since_us: int | None
    """Start of the silence that lasts; None while somebody speaks or cannot be heard."""
    history: CustomerHistory | None
    suggested: Sequence[tuple[int, str]] = ()
    """(when, policy's name) of every suggestion so far, by time."""
    stage: Stage | None = None
    """What the call is at; None before anything was said."""

    def over(self, seconds: float | None) -> "View":
        """The same with another window that ends now; `None` keeps it."""
        if seconds is None:
            return self
        end_us = self.window.end_us
        return self._replace(window=Span(max(0, end_us - us(seconds)), end_us))

    def moments(self) -> Iterator[Moment]:
        """In order of time, as the party's are."""
        start_us = self.window.start_us
        latest = list(takewhile(lambda m: m.span.start_us >= start_us, reversed(self.party.moments)))
        return reversed(latest)

    def utterances(self) -> Iterator[Utterance]:
        return (u for u in self.party.utterances if u.span.end_us > self.window.start_us)

    def overtalk(self) -> list[Span]:
        return [o.span for o in self.party.overtalk if o.span.start_us >= self.window.start_us]

    def known(self) -> Iterator[Moment]:
        return (m for m in self.moments() if m.affect.label != UNKNOWN)

    def during(self, spans: Sequence[Span]) -> tuple[Moment, ...]:
        return tuple(m for m in self.moments() if any(m.span.overlap_us(span) for span in spans))


@dataclass(frozen=True, slots=True)
class Evidence:
    moments: tuple[Moment, ...] = ()
    utterances: tuple[Utterance, ...] = ()
    measured: bool = False
    """A fact such as silence rather than a belief: it counts with probability 1."""
    belief: float | None = None
    """In each of the moments, where it is not that of their labels."""
    variables: tuple[tuple[str, str], ...] = ()
    """For the template of the reason."""

    @property
    def items(self) -> tuple[Moment | Utterance, ...]:
        return (*self.moments, *self.utterances)

    def beliefs(self) -> list[float]:
        belief = 1.0 if self.measured else self.belief
        return [m.affect.probability if belief is None else belief for m in self.moments] + [
            u.confidence for u in self.utterances
        ]


class _Measure(Strict):
    """One condition. A subclass is a new measure of the policy language."""

    within_s: Seconds | None = None
    """Looks at this much of the recent past; as much as the policy does by default."""

    @property
    def variables(self) -> frozenset[str]:
        """What the template of the reason may use."""
        return frozenset()

    @property
    def needs_s(self) -> float:
        """Shortest window in which this can hold."""
        return 0

    def eased(self, share: float) -> Self:
        """With its bar lowered to this share of it, in (0, 1]; itself where it has no bar."""
        return self

    @abstractmethod
    def evidence(self, view: View) -> Evidence | None:
        """None while the condition does not hold."""


class _Lasting(_Measure):
    """Holds for a total time inside the window, not necessarily in one piece."""

    for_s: Seconds

    @property
    def needs_s(self) -> float:
        return self.for_s

    def eased(self, share: float) -> Self:
        return self.model_copy(update={"for_s": self.for_s * share})

    def _lasting(self, moments: Iterable[Moment]) -> tuple[Moment, ...]:
        found = tuple(moments)
        return found if total_s(found) >= self.for_s else ()


class LabelMeasure(_Lasting):
    """The fused label is one of these, with at least this probability."""

    measure: Literal["label"]
    any_of: Annotated[list[Label], Field(min_length=1)]
    min_probability: Ratio = 0.5

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"label", "label_s"})

    @field_validator("any_of")
    @classmethod
    def _felt(cls, labels: list[Label], info: ValidationInfo) -> list[Label]:
        return _checked_labels(labels, info)

    def eased(self, share: float) -> Self:
        return super().eased(share).model_copy(update={"min_probability": self.min_probability * share})

    def evidence(self, view: View) -> Evidence | None:
        found = self._lasting(
            m for m in view.known() if m.affect.label in self.any_of and m.affect.probability >= self.min_probability
        )
        if not found:
            return None
        label = Counter(m.affect.label for m in found).most_common(1)[0][0]
        return Evidence(found, variables=(("label", label), ("label_s", _whole_s(found))))


class StressMeasure(_Lasting):
    """Tension against the speaker's own baseline is at least this."""

    measure: Literal["stress"]
    at_least: Ratio

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"stress", "stress_s"})

    def eased(self, share: float) -> Self:
        return super().eased(share).model_copy(update={"at_least": self.at_least * share})

    def evidence(self, view: View) -> Evidence | None:
        found = self._lasting(m for m in view.known() if m.stress is not None and m.stress >= self.at_least)
        if not found:
            return None
        variables = (("stress", f"{fmean(m.stress or 0 for m in found):.2f}"), ("stress_s", _whole_s(found)))
        return Evidence(found, variables=variables)


class AngerMeasure(_Lasting):
    """The voice is this far from the speaker's own usual towards anger; at 0.5 it turns angry."""

    measure: Literal["anger"]
    at_least: Annotated[float, Field(gt=0, le=1)] = 0.5

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"anger", "anger_s"})

    def eased(self, share: float) -> Self:
        return super().eased(share).model_copy(update={"at_least": self.at_least * share})

    def evidence(self, view: View) -> Evidence | None:
        found = self._lasting(m for m in view.moments() if m.anger is not None and m.anger >= self.at_least)
        if not found:
            return None
        belief = fmean(m.anger or 0 for m in found)
        return Evidence(found, belief=belief, variables=(("anger", f"{belief:.2f}"), ("anger_s", _whole_s(found))))


class TrendMeasure(_Lasting):
    """The mean of the window's later half lies this far above or below the earlier half's, each lasting `for_s`."""

    measure: Literal["trend"]
    of: Literal["valence", "arousal", "stress"]
    rises_by: Annotated[float, Field(gt=0, le=2)] | None = None
    falls_by: Annotated[float, Field(gt=0, le=2)] | None = None

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"trend"})

    @property
    def needs_s(self) -> float:
        return 2 * self.for_s

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.rises_by is None) == (self.falls_by is None):
            raise PydanticCustomError("trend", "expected either rises_by or falls_by")
        most = 1 if self.of == "stress" else 2
        if (self.rises_by or self.falls_by or 0) > most:
            raise PydanticCustomError(
                "impossible", "can never hold: {of} changes by {most} at most", {"of": self.of, "most": most}
            )
        return self

    def eased(self, share: float) -> Self:
        bars = {n: bar * share for n in ("rises_by", "falls_by") if (bar := getattr(self, n)) is not None}
        return super().eased(share).model_copy(update=bars)

    def evidence(self, view: View) -> Evidence | None:
        known = [(m, value) for m in view.known() if (value := self._value(m)) is not None]
        middle_us = (view.window.start_us + view.window.end_us) // 2
        early = [(m, value) for m, value in known if m.span.start_us < middle_us]
        late = [(m, value) for m, value in known if m.span.start_us >= middle_us]
        if not all(self._lasting(m for m, _ in half) for half in (early, late)):
            return None
        change = fmean(value for _, value in late) - fmean(value for _, value in early)
        if (self.rises_by is not None and change < self.rises_by) or (
            self.falls_by is not None and -change < self.falls_by
        ):
            return None
        return Evidence(tuple(m for m, _ in known), variables=(("trend", f"{change:+.2f}"),))

    def _value(self, moment: Moment) -> float | None:
        return {"valence": moment.affect.valence, "arousal": moment.affect.arousal, "stress": moment.stress}[self.of]


class ValenceMeasure(_Lasting):
    """Fused valence is in this range."""

    measure: Literal["valence"]
    at_least: Valence = -1
    at_most: Valence = 1

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"valence", "valence_s"})

    @field_validator("at_most")
    @classmethod
    def _range(cls, at_most: float, info: ValidationInfo) -> float:
        if at_most < info.data.get("at_least", -1):
            raise PydanticCustomError("range", "expected no less than at_least")
        return at_most

    def eased(self, share: float) -> Self:
        """Each bound moves out by what is taken from its distance to zero."""
        low = self.at_least - (1 - share) * abs(self.at_least)
        high = self.at_most + (1 - share) * abs(self.at_most)
        return super().eased(share).model_copy(update={"at_least": max(-1.0, low), "at_most": min(1.0, high)})

    def evidence(self, view: View) -> Evidence | None:
        valued = [(m, m.affect.valence) for m in view.known() if m.affect.valence is not None]
        fitting = [(m, v) for m, v in valued if self.at_least <= v <= self.at_most]
        found = self._lasting(m for m, _ in fitting)
        if not found:
            return None
        mean = fmean(v for _, v in fitting)
        return Evidence(found, variables=(("valence", f"{mean:+.2f}"), ("valence_s", _whole_s(found))))


class _Long(_Measure):
    """Goes on for at least this long."""

    at_least_s: Seconds

    @property
    def needs_s(self) -> float:
        return self.at_least_s

    def eased(self, share: float) -> Self:
        return self.model_copy(update={"at_least_s": self.at_least_s * share})


class OvertalkMeasure(_Long):
    """The party spoke into the other's turn for this long in total; overlaps under 0.5 s do not count."""

    measure: Literal["overtalk"]

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"overtalk_s"})

    def evidence(self, view: View) -> Evidence | None:
        overlaps = view.overtalk()
        total_us = sum(o.duration_us for o in overlaps)
        found = view.during(overlaps)
        if total_us < self.at_least_s * SECOND_US or not found:
            return None
        return Evidence(found, measured=True, variables=(("overtalk_s", f"{total_us / SECOND_US:.0f}"),))


class SilenceMeasure(_Long):
    """Nobody has spoken for this long. A second in which any party could not be heard is not silence."""

    measure: Literal["silence"]

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"silence_s"})

    def evidence(self, view: View) -> Evidence | None:
        since_us = view.quiet_since_us
        quiet = tuple(m for m in view.moments() if since_us is not None and m.span.start_us >= since_us)
        if total_s(quiet) < self.at_least_s:
            return None
        return Evidence(quiet, measured=True, variables=(("silence_s", _whole_s(quiet)),))


class GapMeasure(_Long):
    """The party has had no media for this long, up to now, and for one of these reasons; on hold by default."""

    measure: Literal["gap"]
    any_of: Annotated[list[GapReason], Field(min_length=1)] = Field(default=["hold"])

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"gap_s"})

    def evidence(self, view: View) -> Evidence | None:
        found: list[Moment] = []
        for moment in reversed(tuple(view.moments())):
            if moment.speech_ratio > 0 or not any(absence.reason in self.any_of for absence in moment.absent):
                break
            found.insert(0, moment)
        if total_s(found) < self.at_least_s:
            return None
        return Evidence(tuple(found), measured=True, variables=(("gap_s", _whole_s(found)),))


class MonologueMeasure(_Long):
    """The party has talked on for this long: without a pause over 2 s, and nobody else said more than a word."""

    measure: Literal["monologue"]

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"monologue_s"})

    def evidence(self, view: View) -> Evidence | None:
        others = [t.span for p in view.parties if p is not view.party for t in p.turns]
        replied_us = max((span.end_us for span in others if span.duration_us >= REPLY_US), default=0)
        spans: list[Span] = []
        until_us = view.window.end_us
        for turn in reversed(view.party.turns):
            span = turn.span
            if until_us - span.end_us > MONOLOGUE_PAUSE_US or span.start_us < max(replied_us, view.window.start_us):
                break
            spans.append(span)
            until_us = span.start_us
        if not spans or spans[0].end_us - spans[-1].start_us < self.at_least_s * SECOND_US:
            return None
        found = view.during(spans)
        if not found:
            return None
        talked_s = (spans[0].end_us - spans[-1].start_us) / SECOND_US
        return Evidence(found, measured=True, variables=(("monologue_s", f"{talked_s:.0f}"),))


class TalkShareMeasure(_Measure):
    """Of all speech in the call so far, this party's share is at least this."""

    measure: Literal["talk_share"]
    at_least: Ratio

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"talk_share"})

    def eased(self, share: float) -> Self:
        return self.model_copy(update={"at_least": self.at_least * share})

    def evidence(self, view: View) -> Evidence | None:
        everyone_us = sum(party.talk_us for party in view.parties)
        talk_share = view.party.talk_us / everyone_us if everyone_us else 0.0
        found = tuple(m for m in view.moments() if m.speech_ratio > 0)
        if talk_share < self.at_least or not found:
            return None
        return Evidence(found, measured=True, variables=(("talk_share", f"{talk_share:.0%}"),))


class PaceMeasure(_Lasting):
    """The party speaks at least this many words per minute, over at least `for_s` of utterances; not in writing."""

    measure: Literal["pace"]
    at_least: Annotated[float, Field(gt=0, le=600)]
    """Words per minute."""

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"pace"})

    def eased(self, share: float) -> Self:
        return super().eased(share).model_copy(update={"at_least": self.at_least * share})

    def evidence(self, view: View) -> Evidence | None:
        spoken = tuple(u for u in view.utterances() if not u.written and u.text.strip())
        spoken_s = sum(u.span.duration_us for u in spoken) / SECOND_US
        if not spoken or spoken_s < self.for_s:
            return None
        pace = sum(len(u.text.split()) for u in spoken) / (spoken_s / 60)
        if pace < self.at_least:
            return None
        return Evidence(utterances=spoken, variables=(("pace", f"{pace:.0f}"),))


class _Counted(_Measure):
    """At least this many."""

    at_least: Count = 1

    def eased(self, share: float) -> Self:
        return self.model_copy(update={"at_least": max(1, floor(self.at_least * share))})


class InterruptionsMeasure(_Counted):
    """The party broke into the other's turn at least this often, each time for at least 0.5 s."""

    measure: Literal["interruptions"]

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"interruptions"})

    @property
    def needs_s(self) -> float:
        return self.at_least * MIN_INTERRUPTION_S

    def evidence(self, view: View) -> Evidence | None:
        overlaps = view.overtalk()
        found = view.during(overlaps)
        if len(overlaps) < self.at_least or not found:
            return None
        return Evidence(found, measured=True, variables=(("interruptions", str(len(overlaps))),))


class CueKindMeasure(_Counted):
    """The party said at least this many cues of these kinds of the cue lexicon, which sites extend."""

    measure: Literal["cue_kind"]
    any_of: Annotated[list[CueKind], Field(min_length=1)]
    labels: list[Label] = Field(default=[])
    """Only those that speak for one of these feelings; any where none is given."""
    whole_call: bool = False
    """Counts since the call began, not in the window only."""

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"cue", "cues"})

    @field_validator("labels")
    @classmethod
    def _felt(cls, labels: list[Label], info: ValidationInfo) -> list[Label]:
        return _checked_labels(labels, info)

    def evidence(self, view: View) -> Evidence | None:
        return _cues_evidence(view, self.any_of, self.labels, self.at_least, whole_call=self.whole_call)


class CountMeasure(_Counted):
    """At least this many moments, cues or utterances, of some kinds or of any."""

    measure: Literal["count"]
    of: Literal["moments", "cues", "utterances"]
    labels: list[Label] = Field(default=[])
    """Of `moments`: with one of these labels …"""
    min_probability: Ratio = 0.5
    """… and at least this probability."""
    kinds: list[CueKind] = Field(default=[])
    """Of `cues`."""
    whole_call: bool = False
    """Counts since the call began, not in the window only."""

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"count"}) | ({"cue", "cues"} if self.of == "cues" else set())

    @property
    def needs_s(self) -> float:
        return self.at_least if self.of == "moments" and not self.whole_call else 0

    @field_validator("labels")
    @classmethod
    def _felt(cls, labels: list[Label], info: ValidationInfo) -> list[Label]:
        return _checked_labels(labels, info)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        given = {"moments": bool(self.labels), "cues": bool(self.kinds), "utterances": True}
        if not given[self.of] or (self.labels and self.of != "moments") or (self.kinds and self.of != "cues"):
            raise PydanticCustomError("count", "expected labels with moments, kinds with cues, neither with utterances")
        return self

    def eased(self, share: float) -> Self:
        return super().eased(share).model_copy(update={"min_probability": self.min_probability * share})

    def evidence(self, view: View) -> Evidence | None:
        if self.of == "cues":
            found = _cues_evidence(view, self.kinds, (), self.at_least, whole_call=self.whole_call)
            if found is None:
                return None
            number = dict(found.variables)["cues"]
            return Evidence(utterances=found.utterances, variables=(*found.variables, ("count", number)))
        if self.of == "utterances":
            said = view.party.said if self.whole_call else list(view.utterances())
            if len(said) < self.at_least:
                return None
            return Evidence(utterances=tuple(said[-self.at_least :]), variables=(("count", str(len(said))),))
        since_us = 0 if self.whole_call else view.window.start_us
        felt: list[Moment] = []
        for label in self.labels:
            recent = takewhile(lambda m: m.span.start_us >= since_us, reversed(view.party.felt[label]))
            felt += (m for m in recent if m.affect.probability >= self.min_probability)
        if len(felt) < self.at_least:
            return None
        latest = sorted(felt, key=lambda m: m.span)[-self.at_least :]
        return Evidence(tuple(latest), variables=(("count", str(len(felt))),))


class CueMeasure(_Measure):
    """The party said one of these phrases (whole words, in any case; English, or the translation)."""

    measure: Literal["cue"]
    phrases: Annotated[list[Annotated[str, Field(pattern=r"\w")]], Field(min_length=1)]

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"cue"})

    def evidence(self, view: View) -> Evidence | None:
        found = [
            (u, phrase)
            for u in view.utterances()
            for phrase in self.phrases
            if _plain(phrase) in _plain(u.translation or u.text)
        ]
        if not found:
            return None
        utterances = tuple({u.id: u for u, _ in found}.values())
        return Evidence(utterances=utterances, variables=(("cue", found[-1][1]),))


class StageMeasure(_Measure):
    """The call is at one of these stages now, as far as is known by then."""

    measure: Literal["stage"]
    any_of: Annotated[list[StageName], Field(min_length=1)]
    min_confidence: Ratio = 0.5

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"stage"})

    def evidence(self, view: View) -> Evidence | None:
        stage = view.stage
        if stage is None or stage.name not in self.any_of or stage.confidence < self.min_confidence:
            return None
        found = tuple(m for m in view.moments() if m.span.end_us > stage.span.start_us)
        return Evidence(found, measured=True, variables=(("stage", stage.name),)) if found else None


class HistoryMeasure(_Measure):
    """What is known of the customer before the call; each part that is given must hold. Only with consent."""

    measure: Literal["history"]
    within_days: Annotated[float, Field(gt=0, le=3_650)] = 30
    """Only calls of the last so many days are looked at; the latest of them is the last one."""
    last_mood: list[Label] = Field(default=[])
    last_outcome: list[CallOutcome] = Field(default=[])
    calls: Annotated[int, Field(ge=1, le=100)] | None = None
    """At least so many calls …"""
    same_topic: bool = False
    """… about what the last one was about."""
    open_promise: bool = False
    """Something that was promised is not done yet."""

    @property
    def variables(self) -> frozenset[str]:
        given: Mapping[str, object] = {
            "mood": self.last_mood,
            "outcome": self.last_outcome,
            "earlier_calls": self.calls,
            "topic": self.same_topic,
            "promise": self.open_promise,
        }
        return frozenset({"days", *(name for name, value in given.items() if value)})

    @field_validator("last_mood")
    @classmethod
    def _felt(cls, labels: list[Label], info: ValidationInfo) -> list[Label]:
        return _checked_labels(labels, info)

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not (self.last_mood or self.last_outcome or self.calls or self.open_promise):
            raise PydanticCustomError("history", "expected last_mood, last_outcome, calls or open_promise")
        if self.same_topic and not self.calls:
            raise PydanticCustomError("history", "expected calls with same_topic")
        return self

    def evidence(self, view: View) -> Evidence | None:
        calls = view.history.within(self.within_days) if view.history else ()
        if not calls or view.party.participant.consent != "granted":
            return None
        last = calls[0]
        alike = [c for c in calls if not self.same_topic or (c.topic and c.topic == last.topic)]
        promised = next((c.open_promise for c in calls if c.open_promise), "")
        if (
            (self.last_mood and last.mood not in self.last_mood)
            or (self.last_outcome and last.outcome not in self.last_outcome)
            or (self.calls and len(alike) < self.calls)
            or (self.open_promise and not promised)
        ):
            return None
        return Evidence(measured=True, variables=self._variables(last, len(alike), promised))

    def _variables(self, last: EarlierCall, calls: int, promised: str) -> tuple[tuple[str, str], ...]:
        known = {
            "days": days_ago(last.days_ago),
            "mood": last.mood or "",
            "outcome": last.outcome or "",
            "earlier_calls": times(calls),
            "topic": last.topic,
            "promise": promised,
        }
        return tuple((name, value) for name, value in known.items() if name in self.variables)


class SuggestedMeasure(_Measure):
    """One of these policies made a suggestion about this call in the window."""

    measure: Literal["suggested"]
    any_of: Annotated[list[Name], Field(min_length=1)]

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"suggested", "suggested_s"})

    def evidence(self, view: View) -> Evidence | None:
        for at_us, name in reversed(view.suggested):
            if at_us < view.window.start_us:
                break
            if name in self.any_of:
                ago_s = (view.window.end_us - at_us) / SECOND_US
                return Evidence(measured=True, variables=(("suggested", name), ("suggested_s", f"{ago_s:.0f}")))
        return None


Measure = Annotated[
    LabelMeasure
    | StressMeasure
    | AngerMeasure
    | TrendMeasure
    | ValenceMeasure
    | OvertalkMeasure
    | InterruptionsMeasure
    | MonologueMeasure
    | SilenceMeasure
    | GapMeasure
    | TalkShareMeasure
    | PaceMeasure
    | CueMeasure
    | CueKindMeasure
    | CountMeasure
    | StageMeasure
    | HistoryMeasure
    | SuggestedMeasure,
    Field(discriminator="measure"),
]


def total_s(moments: Iterable[Moment]) -> float:
    return sum(m.span.duration_us for m in moments) / SECOND_US


def days_ago(days: float) -> str:
    """In words: `today`, `yesterday`, `5 days ago`."""
    whole = floor(days)
    return "today" if whole == 0 else "yesterday" if whole == 1 else f"{whole} days ago"


def times(number: int) -> str:
    """In words: `once`, `twice`, `3 times`."""
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _checked_labels(labels: list[Label], info: ValidationInfo) -> list[Label]:
    """`info.context`: the labels that some model here can produce; None stands for all."""
    if UNKNOWN in labels:
        raise PydanticCustomError("unknown_label", "'unknown' is no evidence; expected felt labels only")
    producible: Any = info.context
    for index, label in enumerate(labels):
        if producible is not None and label not in producible:
            raise PydanticCustomError(
                "unproducible",
                "no model here can say '{label}'; expected some of {labels}",
                {"label": label, "labels": ", ".join(sorted(producible)), "index": index},
            )
    return labels


def _cues_evidence(
    view: View, kinds: Sequence[CueKind], labels: Sequence[Label], at_least: int, *, whole_call: bool
) -> Evidence | None:
    found: list[tuple[Utterance, Cue]] = [
        (u, cue)
        for u in (view.party.said if whole_call else view.utterances())
        for cue in u.cues
        if cue.kind in kinds
        and (not labels or cue.label in labels)
        and (whole_call or cue.span.end_us > view.window.start_us)
    ]
    if len(found) < at_least:
        return None
    utterances = tuple({u.id: u for u, _ in found}.values())
    return Evidence(utterances=utterances, variables=(("cue", found[-1][1].phrase), ("cues", str(len(found)))))


def _plain(text: str) -> str:
    """Its words in lower case between single spaces, with one at either end."""
    words = re.findall(r"[\w']+", text.lower().replace("’", "'"))
    return f" {' '.join(words)} "


def _whole_s(moments: Iterable[Moment]) -> str:
    return f"{total_s(moments):.0f}"
