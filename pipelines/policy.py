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
          not: []             # none of these may hold
        rearm: {below: 0.7, for_s: 5}
        min_confidence: 0.4
        cooldown_s: 45
        expires_s: 20
        action: say:repeat-simply
        text: Repeat the last step in simpler words
        reason: "{who} sounds confused for {label_s} s."

docs/policies.md is the reference; the measures are in measures.py. Media time is the only clock, and only final moments
and utterances count, so that a call gives the same suggestions live and afterwards.
"""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from statistics import fmean
from textwrap import shorten
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from affectline.models.errors import InvalidInputError
from affectline.models.labels import UNKNOWN, Label
from affectline.models.signals import Span
from affectline.pipelines.checked_yaml import Strict, read_checked, template_names
from affectline.pipelines.measures import (
    MIN_INTERRUPTION_S,
    SECOND_US,
    Evidence,
    Measure,
    Name,
    Party,
    Ratio,
    Seconds,
    SuggestedMeasure,
    View,
    us,
)
from affectline.pipelines.timeline import (
    CallTimeline,
    Consent,
    CustomerHistory,
    Moment,
    Output,
    Participant,
    Priority,
    SpeechTurn,
    Stage,
    Suggestion,
    SuggestionFeedback,
    SuggestionKind,
    Utterance,
    Verdict,
)

DEFAULT_POLICIES: Final = Path(__file__).parent / "policies" / "default.yaml"
MAX_POLICIES: Final = 200

_MAX_TEXT_WORDS = 12
_MAX_QUOTE_CHARS = 90
_MAX_LAG_US = 5 * SECOND_US
"""A party whose moments are this far behind the others' is not waited for."""
_MAX_AGE_US = 10 * SECOND_US
"""A suggestion held back by a cooldown or a cap is dropped once its last evidence is this old."""
_QUIET_RATIO = 0.05
_KIND_ORDER: dict[SuggestionKind, int] = {"alert": 0, "routing": 1, "assist": 2}
_PRIORITY_ORDER: dict[Priority, int] = {"high": 0, "normal": 1, "low": 2}
_Path = tuple[str | int, ...]
_CallSeconds = Annotated[float, Field(ge=0, le=86_400)]


class When(Strict):
    """The conditions of one policy."""

    participant: Literal["customer", "agent"]
    """Whose timeline is looked at."""
    within_s: Seconds
    after_s: _CallSeconds = 0
    """Not before this much of the call has passed."""
    until_s: _CallSeconds | None = None
    """Not after this much of the call has passed."""
    all: list[Measure] = Field(default=[])
    any: list[Measure] = Field(default=[])
    none: list[Measure] = Field(default=[], alias="not")

    @field_validator("until_s")
    @classmethod
    def _after_the_start(cls, until_s: float | None, info: ValidationInfo) -> float | None:
        if until_s is not None and until_s <= info.data.get("after_s", 0):
            raise PydanticCustomError("impossible", "can never hold: expected more than after_s")
        return until_s

    @field_validator("all", "any", "none")
    @classmethod
    def _fits_window(cls, measures: list[Measure], info: ValidationInfo) -> list[Measure]:
        for index, measure in enumerate(measures):
            within_s = measure.within_s or info.data.get("within_s")
            if within_s is not None and measure.needs_s > within_s:
                raise PydanticCustomError(
                    "impossible",
                    "can never hold: {needs_s} s asked for within {within_s} s",
                    {"needs_s": measure.needs_s, "within_s": within_s, "index": index},
                )
        return measures

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if not (self.all or self.any):
            raise PydanticCustomError("no_condition", "expected a condition under `all` or `any`")
        return self

    @property
    def measures(self) -> Iterator[tuple[str, int, Measure]]:
        """(key, number below it, measure) of each."""
        for key, measures in (("all", self.all), ("any", self.any), ("not", self.none)):
            for number, measure in enumerate(measures):
                yield key, number, measure

    @property
    def horizon_s(self) -> float:
        """How far back it looks."""
        return max(self.within_s, *(measure.within_s or 0 for _, _, measure in self.measures))

    def eased(self, share: float) -> Self:
        """With every bar lowered, and without what must not hold: it holds wherever this does."""
        eased = {"all": [m.eased(share) for m in self.all], "any": [m.eased(share) for m in self.any], "none": []}
        return self.model_copy(update=eased)

    def evidence(self, view: View) -> list[Evidence] | None:
        """Of every condition that holds; None unless the whole holds."""
        certain: list[Evidence] = []
        for measure in self.all:
            found = measure.evidence(view.over(measure.within_s))
            if found is None:
                return None
            certain.append(found)
        further = [found for m in self.any if (found := m.evidence(view.over(m.within_s)))]
        if self.any and not further:
            return None
        if any(m.evidence(view.over(m.within_s)) for m in self.none):
            return None
        return certain + further


class Rearm(Strict):
    """When a policy that has spoken may speak again: once its conditions have not held, their bars lowered, for a time.

    So a value that flickers around a bar gives one suggestion, not one per crossing.
    """

    below: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of every bar (probability, level, duration, number) that must not be reached any more …"""
    for_s: Annotated[float, Field(ge=0, le=600)] = 5
    """… for this long without a break."""


class Policy(Strict):
    """One rule."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    kind: SuggestionKind
    priority: Priority
    when: When
    rearm: Rearm = Rearm()
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
    def _routing_is_rare(cls, cooldown_s: float, info: ValidationInfo) -> float:
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
    def _known_variables(cls, reason: str, info: ValidationInfo) -> str:
        when: When | None = info.data.get("when")
        if when is None:  # reported by itself
            return reason
        allowed = {"who"}.union(*(m.variables for m in when.all))
        sometimes = frozenset().union(*(m.variables for m in when.any))
        try:
            unknown = [name for name in template_names(reason) if name not in allowed]
        except ValueError as error:
            raise PydanticCustomError("template", "not a template: {why}", {"why": str(error)}) from None
        for name in unknown:
            why = "has a value only when its condition under `any` holds" if name in sometimes else "is unknown"
            raise PydanticCustomError(
                "template_variable",
                "variable '{name}' {why}; expected one of {allowed}",
                {"name": name, "why": why, "allowed": ", ".join(sorted(allowed))},
            )
        return reason

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"


class PolicyPack(Strict):
    """A file of policies."""

    name: str
    version: Annotated[int, Field(ge=1)]
    min_gap_s: Annotated[float, Field(ge=0, le=600)]
    """Least time between any two suggestions of a call."""
    max_per_minute: Annotated[int, Field(ge=1, le=60)]
    policies: Annotated[list[Policy], Field(min_length=1, max_length=MAX_POLICIES)]

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

    @field_validator("policies")
    @classmethod
    def _refer_without_a_loop(cls, policies: list[Policy]) -> list[Policy]:
        refers: dict[str, list[tuple[str, _Path]]] = {policy.name: [] for policy in policies}
        for at, policy in enumerate(policies):
            for key, number, measure in policy.when.measures:
                if isinstance(measure, SuggestedMeasure):
                    for place, name in enumerate(measure.any_of):
                        path: _Path = (at, "when", key, number, "any_of", place)
                        if name not in refers:
                            raise PydanticCustomError(
                                "unknown_policy",
                                "unknown policy '{name}'; expected one of {known}",
                                {"name": name, "known": ", ".join(p.name for p in policies), "path": path},
                            )
                        refers[policy.name].append((name, path))
        if found := _loop(refers):
            loop, path = found
            raise PydanticCustomError(
                "loop",
                "policies wait for each other in a loop: {loop}; expected none that waits for itself",
                {"loop": " → ".join(loop), "path": path},
            )
        return policies


def load_policies(source: Path | str, producible: Collection[Label] | None = None) -> PolicyPack:
    """A pack from a file, or from YAML text.

    `producible`: the labels that some model here can say; None stands for all. Raises InvalidInputError that lists
    every fault as `default.yaml line 12: …`.
    """
    return read_checked(source, PolicyPack, "policies", producible)


@dataclass(frozen=True, slots=True)
class _Judged:
    """Feedback, by the action it is about."""

    action: str
    participant: str
    verdict: Verdict


class PolicyEngine:
    """Runs a pack over one call.

    Not thread-safe. Feed it everything the session yields. Moments come in time order per party; an utterance
    comes before the first final moment that it overlaps, a turn before the first one of its party that ends at or
    after its own end. Under these rules the suggestions do not depend on how the parties' items are interleaved (up
    to 5 s of lag between them).
    """

    def __init__(
        self, pack: PolicyPack, participants: Iterable[Participant], history: CustomerHistory | None = None
    ) -> None:
        """`history`: of the customer, before the call."""
        self._pack = pack
        self._parties = {p.id: Party(p) for p in participants}
        self._history = history
        self._eased = {p.name: p.when.eased(p.rearm.below) for p in pack.policies}
        self._horizon_us = us(max(p.when.horizon_s for p in pack.policies))
        self._reached_us = dict.fromkeys(self._parties, 0)
        self._now_us = 0
        """Everything up to here has been decided."""
        self._pending: list[tuple[int, int, int, str, int, Moment | Utterance | SpeechTurn | _Judged]] = []
        self._order = count()
        self._quiet_since_us: int | None = None
        self._spoken = False
        self._stages: list[Stage] = []
        """In time order."""
        self._low_since_us: dict[tuple[str, str], int | None] = {}
        """(policy, participant) that spoke and is not re-armed -> since when its lowered bars are not reached."""
        self._ready_us: dict[tuple[str, str], int] = {}
        self._routing_ready_us = 0
        self._shown_us: deque[int] = deque()
        self._made: list[tuple[int, str]] = []
        """(when, policy's name) of every suggestion."""
        self._latest: dict[tuple[str, str], Suggestion] = {}
        """(action, participant) -> the last suggestion of it."""
        self._by_id: dict[str, Suggestion] = {}
        self._dismissed: set[tuple[str, str]] = set()
        """(action, participant) that the agent did not want."""

    @property
    def now_us(self) -> int:
        """Media time up to which it has decided."""
        return self._now_us

    def feed(self, item: Output) -> list[Suggestion]:
        """Takes one item; gives the suggestions that became due. One with an id seen before replaces that.

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
        rank = 1 if isinstance(item, SpeechTurn) else 2 if isinstance(item, Utterance) else 3
        span = item.span
        # An utterance counts from its first moment on, which is settled after it has ended; not with the one before.
        at_us = span.start_us + 1 if isinstance(item, Utterance) else span.end_us
        place = (at_us, rank, span.start_us, item.participant, next(self._order))
        heapq.heappush(self._pending, (*place, item))
        if not isinstance(item, Moment):
            return []
        self._reached_us[item.participant] = max(self._reached_us[item.participant], span.end_us)
        leader_us = max(self._reached_us.values())
        return self._advance(max(min(self._reached_us.values()), leader_us - _MAX_LAG_US))

    def suggestion(self, suggestion_id: str) -> Suggestion | None:
        """The suggestion of this call with this id, as it is now."""
        return self._by_id.get(suggestion_id)

    def judged(self, action: str, participant: str, verdict: Verdict, at_us: int) -> None:
        """What an agent made of a suggestion of this action counts from `at_us` on, at the earliest from now on.

        A dismissed one is not made again in this call, unless its priority is high.
        """
        item = _Judged(action, participant, verdict)
        heapq.heappush(self._pending, (max(at_us, self._now_us + 1), 0, 0, participant, next(self._order), item))

    def consent(self, participant: str, consent: Consent) -> None:
        """A party's consent from here on."""
        party = self._parties[participant]
        party.participant = replace(party.participant, consent=consent)

    def join(self, participant: Participant) -> None:
        """A further party from here on."""
        self._parties[participant.id] = Party(participant)
        self._reached_us[participant.id] = max(self._reached_us.values(), default=0)

    def know(self, participant: Participant) -> None:
        """A party's role, as it is known from here on."""
        self._parties[participant.id].participant = participant

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
            self._now_us = max(self._now_us, now_us)
            if ticks:
                self._forget(now_us)
                self._follow_silence(now_us)
                due += self._decide(now_us)
        return due

    def _follow_stage(self, stage: Stage) -> None:
        """It replaces the one with its id, and what was thought to begin there or later."""
        before = [s for s in self._stages if s.span.start_us < stage.span.start_us and s.id != stage.id]
        self._stages = [*before, stage]

    def _remember(self, item: Moment | Utterance | SpeechTurn | _Judged) -> None:
        if isinstance(item, _Judged):
            key = (item.action, item.participant)
            (self._dismissed.add if item.verdict == "dismissed" else self._dismissed.discard)(key)
            return
        party = self._parties[item.participant]
        if isinstance(item, Moment):
            party.moments.append(item)
            if item.affect.label != UNKNOWN:
                party.felt[item.affect.label].append(item)
        elif isinstance(item, Utterance):
            party.utterances.append(item)
            party.said.append(item)
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
        if end_us - start_us >= us(MIN_INTERRUPTION_S) and one.span.start_us != other.span.start_us:
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
        parties = tuple(self._parties.values())
        stage = next((s for s in reversed(self._stages) if s.span.start_us < now_us), None)
        met: list[tuple[Policy, Party, list[Evidence]]] = []
        for policy in self._pack.policies:
            when = policy.when
            window = Span(max(0, now_us - us(when.within_s)), now_us)
            for party in parties:
                if party.participant.role != when.participant:
                    continue
                history = self._history if party.participant.role == "customer" else None
                view = View(party, window, parties, self._quiet_since_us, history, self._made, stage)
                if not self._armed(policy, view):
                    continue
                if now_us < us(when.after_s) or (when.until_s is not None and now_us > us(when.until_s)):
                    continue
                evidence = when.evidence(view)
                if evidence is not None and _confidence(evidence) >= policy.min_confidence:
                    met.append((policy, party, evidence))
        met.sort(key=lambda found: (_PRIORITY_ORDER[found[0].priority], _KIND_ORDER[found[0].kind]))
        due = []
        for policy, party, evidence in met:
            fresh = now_us < _last_us(evidence, now_us) + min(us(policy.expires_s), _MAX_AGE_US)
            if fresh and self._may_show(policy, party, now_us):
                due.append(self._suggest(policy, party, evidence, now_us))
        return due

    def _armed(self, policy: Policy, view: View) -> bool:
        """Whether the policy has not spoken about this party yet, or fell low enough for long enough since."""
        key = (policy.name, view.party.participant.id)
        if key not in self._low_since_us:
            return True
        now_us = view.window.end_us
        if self._eased[policy.name].evidence(view) is not None:
            self._low_since_us[key] = None
            return False
        since_us = self._low_since_us[key]
        since_us = now_us if since_us is None else since_us
        self._low_since_us[key] = since_us
        if now_us - since_us < us(policy.rearm.for_s):
            return False
        del self._low_since_us[key]
        return True

    def _may_show(self, policy: Policy, party: Party, now_us: int) -> bool:
        """Whether the agent, cooldowns and the pack's caps let this policy speak now; if not, it may later.

        One that only refreshes a suggestion that still stands asks for no more attention, so caps do not count; a less
        urgent one waits until that has expired.
        """
        if self._unwanted(policy, party) or now_us < self._ready_us.get((policy.name, party.participant.id), 0):
            return False
        if standing := self._standing(policy, party, now_us):
            return _PRIORITY_ORDER[policy.priority] <= _PRIORITY_ORDER[standing.priority]
        while self._shown_us and self._shown_us[0] <= now_us - 60 * SECOND_US:
            self._shown_us.popleft()
        return (
            (policy.kind != "routing" or now_us >= self._routing_ready_us)
            and len(self._shown_us) < self._pack.max_per_minute
            and not (self._shown_us and now_us - self._shown_us[-1] < us(self._pack.min_gap_s))
        )

    def _unwanted(self, policy: Policy, party: Party) -> bool:
        return policy.priority != "high" and (policy.action, party.participant.id) in self._dismissed

    def _standing(self, policy: Policy, party: Party, now_us: int) -> Suggestion | None:
        """A suggestion of the same action for the same party that has not expired."""
        latest = self._latest.get((policy.action, party.participant.id))
        return latest if latest and now_us < latest.expires_us else None

    def _suggest(self, policy: Policy, party: Party, evidence: list[Evidence], now_us: int) -> Suggestion:
        key = (policy.name, party.participant.id)
        self._low_since_us[key] = None
        self._ready_us[key] = now_us + us(policy.cooldown_s)
        self._made.append((now_us, policy.name))

        items = {item.id: item for found in evidence for item in found.items}
        variables = {name: value for found in evidence for name, value in found.variables}
        reason = policy.reason.format_map(variables | {"who": party.participant.role.capitalize()})
        created_us = _last_us(evidence, now_us)
        if quoted := _quoted(party, evidence):
            items[quoted.id] = quoted
            created_us = max(created_us, quoted.span.end_us)  # what it quotes was not known before
            reason += f" Said: “{shorten(quoted.text, _MAX_QUOTE_CHARS, placeholder=' …')}”"
        because = sorted(items.values(), key=lambda item: (item.span, item.id))
        suggestion = Suggestion(
            id=f"s{len(self._by_id) + 1}",
            kind=policy.kind,
            action=policy.action,
            text=policy.text,
            reason=reason,
            participant=party.participant.id,
            because=tuple(item.id for item in because),
            confidence=_confidence(evidence),
            priority=policy.priority,
            created_us=created_us,
            expires_us=created_us + us(policy.expires_s),
            policy=policy.id,
        )
        if standing := self._standing(policy, party, now_us):
            suggestion = _refreshed(standing, suggestion)
        else:
            self._shown_us.append(now_us)
            if policy.kind == "routing":
                self._routing_ready_us = self._ready_us[key]
        self._by_id[suggestion.id] = self._latest[policy.action, party.participant.id] = suggestion
        return suggestion


def _refreshed(standing: Suggestion, newer: Suggestion) -> Suggestion:
    """The newer one in the place of the one that stands."""
    return replace(
        newer,
        id=standing.id,
        revision=standing.revision + 1,
        created_us=standing.created_us,
        expires_us=max(standing.expires_us, newer.expires_us),
    )


def replay(pack: PolicyPack, timeline: CallTimeline) -> list[Suggestion]:
    """The suggestions a pack gives for a finished call, from its timeline alone; each as it was in the end.

    What agents thought of the call's own suggestions counts for the pack's of the same action.
    """
    engine = PolicyEngine(pack, timeline.participants, timeline.history)
    shown = {suggestion.id: suggestion for suggestion in timeline.suggestions}
    for judged in timeline.feedback:
        if about := shown.get(judged.suggestion_id):
            engine.judged(about.action, about.participant, judged.verdict, judged.at_us)
    return run(
        engine, (*timeline.speech, *timeline.utterances, *timeline.stages, *(m.as_live() for m in timeline.moments))
    )


def run(engine: PolicyEngine, items: Iterable[Output]) -> list[Suggestion]:
    """All suggestions of a call whose items come by kind, each as it was in the end."""
    due: dict[str, Suggestion] = {}
    for item in items:
        due |= {each.id: each for each in engine.feed(item)}
    return list((due | {each.id: each for each in engine.finish()}).values())


def feedback_by_policy(
    suggestions: Iterable[Suggestion], feedback: Iterable[SuggestionFeedback]
) -> dict[str, Counter[Verdict]]:
    """Policy's name -> how often agents gave each verdict on its suggestions."""
    name_of = {each.id: each.policy.partition("@")[0] for each in suggestions}
    counts: defaultdict[str, Counter[Verdict]] = defaultdict(Counter)
    for each in feedback:
        if each.suggestion_id in name_of:
            counts[name_of[each.suggestion_id]][each.verdict] += 1
    return dict(counts)


def _loop(refers: Mapping[str, Sequence[tuple[str, _Path]]]) -> tuple[Sequence[str], _Path] | None:
    """Names that refer to each other in a loop, and where the reference that closes it stands."""
    settled: set[str] = set()

    def follow(name: str, way: tuple[str, ...]) -> tuple[Sequence[str], _Path] | None:
        way = (*way, name)
        for other, path in refers[name]:
            if other in way:
                return (*way[way.index(other) :], other), path
            if other not in settled and (found := follow(other, way)):
                return found
        settled.add(name)
        return None

    return next((found for name in refers if name not in settled and (found := follow(name, ()))), None)


def _quoted(party: Party, evidence: list[Evidence]) -> Utterance | None:
    """The utterance that holds the cue, else the one said during most of what was felt."""
    for found in evidence:
        if found.utterances:
            return found.utterances[-1]
    felt = [m.span for found in evidence if not found.measured for m in found.moments]
    overlaps = [(sum(u.span.overlap_us(span) for span in felt), u) for u in party.utterances if u.text.strip()]
    overlap_us, utterance = max(overlaps, key=lambda pair: pair[0], default=(0, None))
    return utterance if overlap_us else None


def _last_us(evidence: list[Evidence], now_us: int) -> int:
    """When the last of the evidence ended; now, where it rests on what was known before."""
    return max((item.span.end_us for found in evidence for item in found.items), default=now_us)


def _confidence(evidence: list[Evidence]) -> float:
    """Mean belief; 1 where the evidence is all fact."""
    beliefs = [belief for found in evidence for belief in found.beliefs()]
    return fmean(beliefs) if beliefs else 1.0
