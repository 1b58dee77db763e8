"""Policies: rules in YAML over the timeline that give routing, assist and alert suggestions with their evidence.

A pack is a YAML file:

    name: default
    version: 1
    min_gap_s: 4              # between any two suggestions of a call
    max_per_minute: 6
    policies:
      - name: repeat-simply
        version: 1
        kind: assist          # routing | assist | alert
        priority: normal      # low | normal | high
        when:
          participant: customer
          within_s: 20        # the conditions look at this much of the recent past
          all:                # each must hold
            - {measure: label, any_of: [confused], min_probability: 0.5, for_s: 4}
          any: []             # where given, at least one must hold too
        min_confidence: 0.4
        cooldown_s: 45
        expires_s: 20
        action: say:repeat-simply
        text: Repeat the last step in simpler words
        reason: "{who} sounds confused for {label_s} s."

The measures are the subclasses of `_Measure`. Media time is the only clock, and only final moments and
utterances count, so that a call gives the same suggestions live and afterwards.
"""

import heapq
import re
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import fmean
from textwrap import shorten
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from affectline.models.errors import InvalidInputError
from affectline.models.labels import UNKNOWN, Label
from affectline.models.signals import Span
from affectline.pipelines.checked_yaml import read_checked
from affectline.pipelines.timeline import (
    CallTimeline,
    Moment,
    Output,
    Participant,
    SpeechTurn,
    Stage,
    StageName,
    Suggestion,
    SuggestionKind,
    Utterance,
)

DEFAULT_POLICIES: Final = Path(__file__).parent / "policies" / "default.yaml"

_SECOND_US = 1_000_000
_MAX_TEXT_WORDS = 12
_MAX_QUOTE_CHARS = 90
_MAX_LAG_US = 5 * _SECOND_US
"""A party whose moments are this far behind the others' is not waited for."""
_MAX_AGE_US = 10 * _SECOND_US
"""A suggestion held back by a cooldown or a cap is dropped once its last evidence is this old."""
_MIN_OVERTALK_US = 500_000
"""Shorter overlaps are backchannels ("mm-hm"), not interruptions."""
_QUIET_RATIO = 0.05
_KIND_ORDER: dict[SuggestionKind, int] = {"alert": 0, "routing": 1, "assist": 2}
_PRIORITY_ORDER = {"high": 0, "normal": 1, "low": 2}

Seconds = Annotated[float, Field(gt=0, le=600)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Valence = Annotated[float, Field(ge=-1, le=1)]


@dataclass(slots=True)
class _Party:
    """What is remembered of one party: the recent past that any policy looks at, and the talk time so far."""

    participant: Participant
    moments: deque[Moment] = field(default_factory=deque)
    utterances: deque[Utterance] = field(default_factory=deque)
    turns: deque[SpeechTurn] = field(default_factory=deque)
    overtalk: deque[SpeechTurn] = field(default_factory=deque)
    """The parts of this party's turns that it spoke into another's."""
    talk_us: int = 0


class _View(NamedTuple):
    """What a measure sees: one party's window of media time."""

    party: _Party
    window: Span
    all_talk_us: int
    quiet_since_us: int | None
    """Start of the silence that lasts; None while somebody speaks or cannot be heard."""
    stage: Stage | None = None
    """What the call is at; None before anything was said."""

    def moments(self) -> Iterator[Moment]:
        return (m for m in self.party.moments if m.span.start_us >= self.window.start_us)

    def utterances(self) -> Iterator[Utterance]:
        return (u for u in self.party.utterances if u.span.end_us > self.window.start_us)

    def known(self) -> Iterator[Moment]:
        return (m for m in self.moments() if m.affect.label != UNKNOWN)


@dataclass(frozen=True, slots=True)
class _Evidence:
    moments: tuple[Moment, ...] = ()
    utterances: tuple[Utterance, ...] = ()
    measured: bool = False
    """A fact such as silence rather than a belief: it counts with probability 1."""
    variables: tuple[tuple[str, str], ...] = ()
    """For the template of the reason."""

    @property
    def items(self) -> tuple[Moment | Utterance, ...]:
        return (*self.moments, *self.utterances)

    def beliefs(self) -> list[float]:
        return [1.0 if self.measured else m.affect.probability for m in self.moments] + [
            u.confidence for u in self.utterances
        ]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any) -> Any:
        for key in data if isinstance(data, dict) else ():
            if key not in cls.model_fields:
                raise PydanticCustomError(
                    "unknown_field",
                    "unknown field '{key}'; expected one of {expected}",
                    {"key": key, "expected": ", ".join(cls.model_fields)},
                )
        return data


class _Measure(_Strict):
    """One condition. A subclass is a new measure of the policy language."""

    variables: ClassVar[frozenset[str]]
    """What the template of the reason may use."""

    @property
    def needs_s(self) -> float:
        """Shortest window in which this can hold."""
        return 0

    @abstractmethod
    def evidence(self, view: _View) -> _Evidence | None:
        """None while the condition does not hold."""


class _Lasting(_Measure):
    """Holds for a total time inside the window, not necessarily in one piece."""

    for_s: Seconds

    @property
    def needs_s(self) -> float:
        return self.for_s

    def _lasting(self, moments: Iterable[Moment]) -> tuple[Moment, ...]:
        found = tuple(moments)
        return found if _total_s(found) >= self.for_s else ()


class LabelMeasure(_Lasting):
    """The fused label is one of these, with at least this probability."""

    variables = frozenset({"label", "label_s"})
    measure: Literal["label"]
    any_of: Annotated[list[Label], Field(min_length=1)]
    min_probability: Ratio = 0.5

    @field_validator("any_of")
    @classmethod
    def _no_unknown(cls, labels: list[Label]) -> list[Label]:
        if UNKNOWN in labels:
            raise PydanticCustomError("unknown_label", "'unknown' is no evidence; expected felt labels only")
        return labels

    def evidence(self, view: _View) -> _Evidence | None:
        found = self._lasting(
            m for m in view.known() if m.affect.label in self.any_of and m.affect.probability >= self.min_probability
        )
        if not found:
            return None
        label = Counter(m.affect.label for m in found).most_common(1)[0][0]
        return _Evidence(found, variables=(("label", label), ("label_s", _whole_s(found))))


class StressMeasure(_Lasting):
    """Tension against the speaker's own baseline is at least this."""

    variables = frozenset({"stress", "stress_s"})
    measure: Literal["stress"]
    at_least: Ratio

    def evidence(self, view: _View) -> _Evidence | None:
        found = self._lasting(m for m in view.known() if m.stress is not None and m.stress >= self.at_least)
        if not found:
            return None
        variables = (("stress", f"{fmean(m.stress or 0 for m in found):.2f}"), ("stress_s", _whole_s(found)))
        return _Evidence(found, variables=variables)


class StressRiseMeasure(_Lasting):
    """Mean stress of the window's later half is this much above the earlier half's, each half lasting `for_s`."""

    variables = frozenset({"stress_rise"})
    measure: Literal["stress_rise"]
    at_least: Ratio

    @property
    def needs_s(self) -> float:
        return 2 * self.for_s

    def evidence(self, view: _View) -> _Evidence | None:
        known = [(m, m.stress) for m in view.known() if m.stress is not None]
        middle_us = (view.window.start_us + view.window.end_us) // 2
        early = [(m, s) for m, s in known if m.span.start_us < middle_us]
        late = [(m, s) for m, s in known if m.span.start_us >= middle_us]
        if not all(self._lasting(m for m, _ in half) for half in (early, late)):
            return None
        rise = fmean(s for _, s in late) - fmean(s for _, s in early)
        if rise < self.at_least:
            return None
        return _Evidence(tuple(m for m, _ in known), variables=(("stress_rise", f"{rise:.2f}"),))


class ValenceMeasure(_Lasting):
    """Fused valence is in this range."""

    variables = frozenset({"valence", "valence_s"})
    measure: Literal["valence"]
    at_least: Valence = -1
    at_most: Valence = 1

    @field_validator("at_most")
    @classmethod
    def _range(cls, at_most: float, info: Any) -> float:
        if at_most < info.data.get("at_least", -1):
            raise PydanticCustomError("range", "expected no less than at_least")
        return at_most

    def evidence(self, view: _View) -> _Evidence | None:
        valued = [(m, m.affect.valence) for m in view.known() if m.affect.valence is not None]
        fitting = [(m, v) for m, v in valued if self.at_least <= v <= self.at_most]
        found = self._lasting(m for m, _ in fitting)
        if not found:
            return None
        mean = fmean(v for _, v in fitting)
        return _Evidence(found, variables=(("valence", f"{mean:+.2f}"), ("valence_s", _whole_s(found))))


class OvertalkMeasure(_Measure):
    """The party spoke into the other's turn for this long in total; overlaps under 0.5 s do not count."""

    variables = frozenset({"overtalk_s"})
    measure: Literal["overtalk"]
    at_least_s: Seconds

    @property
    def needs_s(self) -> float:
        return self.at_least_s

    def evidence(self, view: _View) -> _Evidence | None:
        overlaps = [o.span for o in view.party.overtalk if o.span.start_us >= view.window.start_us]
        total_us = sum(o.duration_us for o in overlaps)
        found = tuple(m for m in view.moments() if any(m.span.overlap_us(o) for o in overlaps))
        if total_us < self.at_least_s * _SECOND_US or not found:
            return None
        return _Evidence(found, measured=True, variables=(("overtalk_s", f"{total_us / _SECOND_US:.0f}"),))


class SilenceMeasure(_Measure):
    """Nobody has spoken for this long. A second in which any party could not be heard is not silence."""

    variables = frozenset({"silence_s"})
    measure: Literal["silence"]
    at_least_s: Seconds

    @property
    def needs_s(self) -> float:
        return self.at_least_s

    def evidence(self, view: _View) -> _Evidence | None:
        since_us = view.quiet_since_us
        quiet = tuple(m for m in view.moments() if since_us is not None and m.span.start_us >= since_us)
        if _total_s(quiet) < self.at_least_s:
            return None
        return _Evidence(quiet, measured=True, variables=(("silence_s", _whole_s(quiet)),))


class TalkShareMeasure(_Measure):
    """Of all speech in the call so far, this party's share is at least this."""

    variables = frozenset({"talk_share"})
    measure: Literal["talk_share"]
    at_least: Ratio

    def evidence(self, view: _View) -> _Evidence | None:
        share = view.party.talk_us / view.all_talk_us if view.all_talk_us else 0.0
        found = tuple(m for m in view.moments() if m.speech_ratio > 0)
        if share < self.at_least or not found:
            return None
        return _Evidence(found, measured=True, variables=(("talk_share", f"{share:.0%}"),))


class CueMeasure(_Measure):
    """The party said one of these phrases (whole words, in any case; English, or the translation)."""

    variables = frozenset({"cue"})
    measure: Literal["cue"]
    phrases: Annotated[list[Annotated[str, Field(pattern=r"\w")]], Field(min_length=1)]

    def evidence(self, view: _View) -> _Evidence | None:
        found = [
            (u, phrase)
            for u in view.utterances()
            for phrase in self.phrases
            if _plain(phrase) in _plain(u.translation or u.text)
        ]
        if not found:
            return None
        utterances = tuple({u.id: u for u, _ in found}.values())
        return _Evidence(utterances=utterances, variables=(("cue", found[-1][1]),))


class StageMeasure(_Measure):
    """The call is at one of these stages now, as far as is known by then."""

    variables = frozenset({"stage"})
    measure: Literal["stage"]
    any_of: Annotated[list[StageName], Field(min_length=1)]
    min_confidence: Ratio = 0.5

    def evidence(self, view: _View) -> _Evidence | None:
        stage = view.stage
        if stage is None or stage.name not in self.any_of or stage.confidence < self.min_confidence:
            return None
        found = tuple(m for m in view.moments() if m.span.end_us > stage.span.start_us)
        return _Evidence(found, measured=True, variables=(("stage", stage.name),)) if found else None


Measure = Annotated[
    LabelMeasure
    | StressMeasure
    | StressRiseMeasure
    | ValenceMeasure
    | OvertalkMeasure
    | SilenceMeasure
    | TalkShareMeasure
    | CueMeasure
    | StageMeasure,
    Field(discriminator="measure"),
]


class When(_Strict):
    """The conditions of one policy."""

    participant: Literal["customer", "agent"]
    """Whose timeline is looked at."""
    within_s: Seconds
    after_s: Annotated[float, Field(ge=0, le=86_400)] = 0
    """Not before this much of the call has passed."""
    all: Annotated[list[Measure], Field(min_length=1)]
    any: list[Measure] = []

    @field_validator("all", "any")
    @classmethod
    def _fits_window(cls, measures: list[_Measure], info: Any) -> list[_Measure]:
        within_s = info.data.get("within_s")
        for index, measure in enumerate(measures):
            if within_s is not None and measure.needs_s > within_s:
                raise PydanticCustomError(
                    "impossible",
                    "can never hold: {needs_s} s asked for within {within_s} s",
                    {"needs_s": measure.needs_s, "within_s": within_s, "index": index},
                )
        return measures

    def evidence(self, view: _View) -> list[_Evidence] | None:
        """Of every condition that holds; None unless the whole holds."""
        needed = [m.evidence(view) for m in self.all]
        further = [found for m in self.any if (found := m.evidence(view))]
        certain = [found for found in needed if found]
        if len(certain) < len(needed) or (self.any and not further):
            return None
        return certain + further


class Policy(_Strict):
    """One rule."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    version: Annotated[int, Field(ge=1)]
    kind: SuggestionKind
    priority: Literal["low", "normal", "high"]
    when: When
    min_confidence: Ratio = 0.4
    """Least mean probability of the evidence."""
    cooldown_s: Annotated[float, Field(ge=0, le=3600)]
    """Least time between two suggestions of this policy about one party; for routing, of any routing policy."""
    expires_s: Annotated[float, Field(gt=0, le=3600)]
    action: Annotated[str, Field(pattern=r"^[a-z]+:[a-z0-9-]+$")]
    text: Annotated[str, Field(min_length=1)]
    """For a person: at most 12 words, the action first."""
    reason: Annotated[str, Field(min_length=1)]
    """Template with {who} and the variables of the measures under `all`."""

    @field_validator("cooldown_s")
    @classmethod
    def _routing_is_rare(cls, cooldown_s: float, info: Any) -> float:
        if info.data.get("kind") == "routing" and cooldown_s < 60:
            raise PydanticCustomError("routing_cooldown", "expected at least 60 s for a routing policy")
        return cooldown_s

    @field_validator("text")
    @classmethod
    def _short(cls, text: str) -> str:
        count = len(text.split())
        if count > _MAX_TEXT_WORDS:
            raise PydanticCustomError(
                "long_text", "expected at most {most} words, not {count}", {"most": _MAX_TEXT_WORDS, "count": count}
            )
        return text

    @field_validator("reason")
    @classmethod
    def _known_variables(cls, reason: str, info: Any) -> str:
        when: When | None = info.data.get("when")
        if when is None:  # reported by itself
            return reason
        allowed = {"who"}.union(*(m.variables for m in when.all))
        try:
            reason.format_map(dict.fromkeys(allowed, "0"))
        except KeyError as error:
            raise PydanticCustomError(
                "template_variable",
                "unknown variable '{name}'; expected one of {allowed}",
                {"name": error.args[0], "allowed": ", ".join(sorted(allowed))},
            ) from None
        except (ValueError, IndexError, AttributeError) as error:
            raise PydanticCustomError("template", "not a template: {why}", {"why": str(error)}) from None
        return reason

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"


class PolicyPack(_Strict):
    """A file of policies."""

    name: str
    version: Annotated[int, Field(ge=1)]
    min_gap_s: Annotated[float, Field(ge=0, le=600)]
    """Least time between any two suggestions of a call."""
    max_per_minute: Annotated[int, Field(ge=1, le=60)]
    policies: Annotated[list[Policy], Field(min_length=1)]

    @field_validator("policies")
    @classmethod
    def _distinct(cls, policies: list[Policy]) -> list[Policy]:
        seen: set[str] = set()
        for index, policy in enumerate(policies):
            if policy.name in seen:
                raise PydanticCustomError(
                    "duplicate", "two policies are named '{name}'", {"name": policy.name, "index": index}
                )
            seen.add(policy.name)
        return policies


def load_policies(source: Path | str) -> PolicyPack:
    """A pack from a file, or from YAML text.

    Raises InvalidInputError that lists every fault as `default.yaml line 12: …`.
    """
    return read_checked(source, PolicyPack, "policies")


class PolicyEngine:
    """Runs a pack over one call.

    Not thread-safe. Feed it everything the session yields. Moments come in time order per party; an utterance
    comes before the first final moment that it overlaps, a turn before the first one of its party that ends at or
    after its own end. Under these rules the suggestions do not depend on how the parties' items are interleaved (up
    to 5 s of lag between them).
    """

    def __init__(self, pack: PolicyPack, participants: Iterable[Participant]) -> None:
        self._pack = pack
        self._parties = {p.id: _Party(p) for p in participants}
        self._horizon_us = _us(max(p.when.within_s for p in pack.policies))
        self._reached_us = dict.fromkeys(self._parties, 0)
        self._pending: list[tuple[int, int, int, str, int, Moment | Utterance | SpeechTurn]] = []
        self._order = count()
        self._quiet_since_us: int | None = None
        self._spoken = False
        self._stages: list[Stage] = []
        """In time order."""
        self._fired: set[tuple[str, str]] = set()
        """(policy, participant) that fired and has not fallen below since."""
        self._ready_us: dict[tuple[str, str], int] = {}
        self._routing_ready_us = 0
        self._shown_us: deque[int] = deque()
        self._count = 0

    def feed(self, item: Output) -> list[Suggestion]:
        """Takes one item; gives the suggestions that became due.

        Raises InvalidInputError for a participant that is not of this call.
        """
        if isinstance(item, Stage):
            self._follow_stage(item)
            return []
        if not isinstance(item, (Moment, Utterance, SpeechTurn)):
            return []
        if item.participant not in self._parties:
            known = ", ".join(self._parties) or "none"
            raise InvalidInputError(f"expected a participant of this call ({known}), found {item.participant!r}")
        if not isinstance(item, SpeechTurn) and not item.final:
            return []
        rank = 0 if isinstance(item, SpeechTurn) else 1 if isinstance(item, Utterance) else 2
        span = item.span
        # An utterance counts from its first moment on: those are settled only after it has ended.
        at_us = span.start_us if isinstance(item, Utterance) else span.end_us
        place = (at_us, rank, span.start_us, item.participant, next(self._order))
        heapq.heappush(self._pending, (*place, item))
        if not isinstance(item, Moment):
            return []
        self._reached_us[item.participant] = max(self._reached_us[item.participant], span.end_us)
        leader_us = max(self._reached_us.values())
        return self._advance(max(min(self._reached_us.values()), leader_us - _MAX_LAG_US))

    def finish(self) -> list[Suggestion]:
        """Takes what still waits for a slower party; gives the last suggestions."""
        return self._advance(max(self._reached_us.values(), default=0))

    def _advance(self, until_us: int) -> list[Suggestion]:
        due: list[Suggestion] = []
        while self._pending and self._pending[0][0] <= until_us:
            now_us = self._pending[0][0]
            ticks = False
            while self._pending and self._pending[0][0] == now_us:
                item = heapq.heappop(self._pending)[-1]
                self._remember(item)
                ticks = ticks or isinstance(item, Moment)
            if ticks:
                self._forget(now_us)
                self._follow_silence(now_us)
                due += self._decide(now_us)
        return due

    def _follow_stage(self, stage: Stage) -> None:
        """It replaces the one with its id, and what was thought to begin there or later."""
        before = [s for s in self._stages if s.span.start_us < stage.span.start_us and s.id != stage.id]
        self._stages = [*before, stage]

    def _remember(self, item: Moment | Utterance | SpeechTurn) -> None:
        party = self._parties[item.participant]
        if isinstance(item, Moment):
            party.moments.append(item)
        elif isinstance(item, Utterance):
            party.utterances.append(item)
        else:
            party.talk_us += item.span.duration_us
            party.turns.append(item)
            for other in self._parties.values():
                if other is not party:
                    for turn in other.turns:
                        self._note_overtalk(item, turn)

    def _note_overtalk(self, one: SpeechTurn, other: SpeechTurn) -> None:
        start_us = max(one.span.start_us, other.span.start_us)
        end_us = min(one.span.end_us, other.span.end_us)
        if end_us - start_us >= _MIN_OVERTALK_US and one.span.start_us != other.span.start_us:
            later = max(one, other, key=lambda turn: turn.span.start_us)
            overtalk = SpeechTurn(later.participant, Span(start_us, end_us))
            self._parties[later.participant].overtalk.append(overtalk)

    def _forget(self, now_us: int) -> None:
        oldest_us = now_us - self._horizon_us
        for party in self._parties.values():
            queues: tuple[deque[Any], ...] = (party.moments, party.utterances, party.turns, party.overtalk)
            for queue in queues:
                while queue and queue[0].span.end_us < oldest_us:
                    queue.popleft()

    def _follow_silence(self, now_us: int) -> None:
        last = [party.moments[-1] for party in self._parties.values() if party.moments]
        heard = [m for m in last if m.span.end_us == now_us and m.level_dbfs is not None]
        speaking = any(m.speech_ratio >= _QUIET_RATIO for m in heard)
        self._spoken = self._spoken or speaking
        if speaking or not self._spoken or len(heard) < len(self._parties):
            self._quiet_since_us = None
        elif self._quiet_since_us is None:
            self._quiet_since_us = min(m.span.start_us for m in heard)

    def _decide(self, now_us: int) -> list[Suggestion]:
        all_talk_us = sum(party.talk_us for party in self._parties.values())
        stage = next((s for s in reversed(self._stages) if s.span.start_us < now_us), None)
        met: list[tuple[Policy, _Party, list[_Evidence]]] = []
        for policy in self._pack.policies:
            when = policy.when
            window = Span(max(0, now_us - _us(when.within_s)), now_us)
            for key, party in self._parties.items():
                if party.participant.role != when.participant or now_us < _us(when.after_s):
                    continue
                evidence = when.evidence(_View(party, window, all_talk_us, self._quiet_since_us, stage))
                if evidence is None or _confidence(evidence) < policy.min_confidence:
                    self._fired.discard((policy.name, key))
                elif (policy.name, key) not in self._fired:
                    met.append((policy, party, evidence))
        met.sort(key=lambda found: (_PRIORITY_ORDER[found[0].priority], _KIND_ORDER[found[0].kind]))
        due = []
        for policy, party, evidence in met:
            fresh = now_us < _last_us(evidence) + min(_us(policy.expires_s), _MAX_AGE_US)
            if fresh and self._may_show(policy, party, now_us):
                due.append(self._suggest(policy, party, evidence, now_us))
        return due

    def _may_show(self, policy: Policy, party: _Party, now_us: int) -> bool:
        """Whether cooldowns and the pack's caps let this policy speak now; if not, it may later."""
        while self._shown_us and self._shown_us[0] <= now_us - 60 * _SECOND_US:
            self._shown_us.popleft()
        return (
            now_us >= self._ready_us.get((policy.name, party.participant.id), 0)
            and (policy.kind != "routing" or now_us >= self._routing_ready_us)
            and len(self._shown_us) < self._pack.max_per_minute
            and not (self._shown_us and now_us - self._shown_us[-1] < _us(self._pack.min_gap_s))
        )

    def _suggest(self, policy: Policy, party: _Party, evidence: list[_Evidence], now_us: int) -> Suggestion:
        key = (policy.name, party.participant.id)
        self._fired.add(key)
        self._ready_us[key] = now_us + _us(policy.cooldown_s)
        if policy.kind == "routing":
            self._routing_ready_us = self._ready_us[key]
        self._shown_us.append(now_us)

        items = {item.id: item for found in evidence for item in found.items}
        variables = {name: value for found in evidence for name, value in found.variables}
        reason = policy.reason.format_map(variables | {"who": party.participant.role.capitalize()})
        created_us = _last_us(evidence)
        if quoted := _quoted(party, evidence):
            items[quoted.id] = quoted
            created_us = max(created_us, quoted.span.end_us)  # what it quotes was not known before
            reason += f" Said: “{shorten(quoted.text, _MAX_QUOTE_CHARS, placeholder=' …')}”"
        because = sorted(items.values(), key=lambda item: (item.span, item.id))
        self._count += 1
        return Suggestion(
            id=f"s{self._count}",
            kind=policy.kind,
            action=policy.action,
            text=policy.text,
            reason=reason,
            participant=party.participant.id,
            because=tuple(item.id for item in because),
            confidence=_confidence(evidence),
            priority=policy.priority,
            created_us=created_us,
            expires_us=created_us + _us(policy.expires_s),
            policy=policy.id,
        )


def replay(pack: PolicyPack, timeline: CallTimeline) -> list[Suggestion]:
    """The suggestions a pack gives for a finished call, from its timeline alone."""
    engine = PolicyEngine(pack, timeline.participants)
    due: list[Suggestion] = []
    moments = (m.as_live() for m in timeline.moments)
    items: tuple[Output, ...] = (*timeline.speech, *timeline.utterances, *timeline.stages, *moments)
    for item in items:
        due += engine.feed(item)
    return due + engine.finish()


def _quoted(party: _Party, evidence: list[_Evidence]) -> Utterance | None:
    """The utterance that holds the cue, else the one said during most of what was felt."""
    for found in evidence:
        if found.utterances:
            return found.utterances[-1]
    felt = [m.span for found in evidence if not found.measured for m in found.moments]
    overlaps = [(sum(u.span.overlap_us(span) for span in felt), u) for u in party.utterances if u.text.strip()]
    overlap_us, utterance = max(overlaps, key=lambda pair: pair[0], default=(0, None))
    return utterance if overlap_us else None


def _last_us(evidence: list[_Evidence]) -> int:
    return max(item.span.end_us for found in evidence for item in found.items)


def _confidence(evidence: list[_Evidence]) -> float:
    return fmean(belief for found in evidence for belief in found.beliefs())


def _plain(text: str) -> str:
    """Its words in lower case between single spaces, with one at either end."""
    words = re.findall(r"[\w']+", text.lower().replace("’", "'"))
    return f" {' '.join(words)} "


def _us(seconds: float) -> int:
    return round(seconds * _SECOND_US)


def _total_s(moments: Iterable[Moment]) -> float:
    return sum(m.span.duration_us for m in moments) / _SECOND_US


def _whole_s(moments: Iterable[Moment]) -> str:
    return f"{_total_s(moments):.0f}"
