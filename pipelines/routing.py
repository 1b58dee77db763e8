"""Where a call might go, how soon and with which greeting: a recommendation with its reasons, never a decision.

What a customer wants, by their own words or choice, decides first; how they sound may only add to it. Its influence is
capped: at most one band of priority up, and never down, since people learn to act up for priority, and since nobody
may wait longer for sounding calm or upset. A customer who objected to it (GDPR Art. 21) is routed by intent and choice
alone. docs/routing.md explains the site's file.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from textwrap import shorten
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from affectline.models.labels import UNKNOWN, Label
from affectline.pipelines.checked_yaml import Strict, read_checked, template_names
from affectline.pipelines.measures import SECOND_US, Name, Ratio, days_ago, times
from affectline.pipelines.timeline import (
    CallOutcome,
    CallTimeline,
    CueKind,
    CustomerHistory,
    EarlierCall,
    Moment,
    Priority,
    Utterance,
)

DEFAULT_ROUTING: Final = Path(__file__).parent / "policies" / "routing.yaml"
RECENT_US: Final = 60 * SECOND_US
"""How a customer sounds is looked at over so much of the call's end."""
BANDS: Final[tuple[Priority, ...]] = ("low", "normal", "high")
MAX_QUEUES: Final = 100
MAX_RULES: Final = 200
MAX_QUOTE_CHARACTERS: Final = 90
EARLIER_BELIEF: Final = 0.6
"""An earlier call's mood is kept without its probability; by convention."""

Evidence = Literal["intent", "product", "choice", "words", "contacts", "mood", "earlier_mood"]
"""What a reason rests on: declared intent and product, menu choice, cues in words, earlier calls (number, outcome, open
promise), how the customer sounds now, and how they sounded at the last contact."""
EMOTION: Final[frozenset[Evidence]] = frozenset(("mood", "earlier_mood", "words"))
"""Evidence whose influence on priority is capped."""
DECLARED: Final[frozenset[Evidence]] = frozenset(("intent", "product", "choice"))
"""All that counts for who objected."""
PLAIN: Final[dict[Evidence, str]] = {
    "intent": "declared intent",
    "product": "declared product",
    "choice": "menu choice",
    "words": "cues in what was said",
    "contacts": "earlier calls",
    "mood": "how the customer sounds now",
    "earlier_mood": "how the customer sounded at the last contact",
}

Declared = Annotated[str, Field(pattern=r"^[a-z0-9]+([ _.-][a-z0-9]+)*$", max_length=64)]


@dataclass(frozen=True, slots=True)
class RoutingContext:
    """What is known when the question is asked. Everything may be absent."""

    intent: str = ""
    """What the customer said or chose to want, in the site's words."""
    product: str = ""
    choice: str = ""
    """What they chose in the menu."""
    history: CustomerHistory | None = None
    ivr: CallTimeline | None = None
    """What they said to the voice menu, as a written conversation."""
    call: CallTimeline | None = None
    """The call so far."""
    emotion_routing_objected: bool = False
    """The customer objected to being routed by emotion."""


@dataclass(frozen=True, slots=True)
class Reason:
    text: str
    """For a person: one plain sentence."""
    evidence: Evidence | None
    """What it rests on; None where nothing is known."""
    refs: tuple[str, ...] = ()
    """Ids of moments and utterances, where there are such."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    queue: str
    priority: Priority
    skills: tuple[str, ...]
    greeting: str
    """What the agent might begin with; empty where nothing is known that helps."""
    reasons: tuple[Reason, ...]
    """Never empty."""
    confidence: float
    """In [0, 1]: mean belief of the evidence; 0 where nothing is known."""
    used: tuple[Evidence, ...]
    """Kinds of evidence that led here."""
    withheld: tuple[str, ...]
    """What was not looked at, and why, in plain words."""
    rule: str
    """The site's rule that chose the queue; empty for the default queue."""
    config: str
    """`name@version` of the site's file."""


class Queue(Strict):
    name: Name
    purpose: Annotated[str, Field(min_length=1, max_length=200, alias="for")]
    skills: list[Name] = Field(default=[])


class RuleWhen(Strict):
    """Each part that is given must hold; of a part's list, one."""

    intents: list[Declared] = Field(default=[])
    products: list[Declared] = Field(default=[])
    choices: list[Declared] = Field(default=[])
    cues: list[CueKind] = Field(default=[])
    """Said to the voice menu or in the call."""
    moods: list[Label] = Field(default=[])
    """How the customer sounds now …"""
    min_probability: Ratio = 0.5
    """… with at least this probability …"""
    for_s: Annotated[float, Field(gt=0, le=60)] = 4
    """… for this long of the call's last minute, or in what they said to the voice menu."""
    last_moods: list[Label] = Field(default=[])
    last_outcomes: list[CallOutcome] = Field(default=[])
    calls: Annotated[int, Field(ge=1, le=100)] | None = None
    """At least so many earlier calls …"""
    within_days: Annotated[float, Field(gt=0, le=3_650)] = 30
    """… in so many days; what is older counts nowhere."""
    open_promise: bool = False

    @field_validator("moods", "last_moods")
    @classmethod
    def _felt(cls, labels: list[Label]) -> list[Label]:
        if UNKNOWN in labels:
            raise PydanticCustomError("unknown_label", "'unknown' is no evidence; expected felt labels only")
        return labels

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        parts = (self.intents, self.products, self.choices, self.cues, self.moods, self.last_moods, self.last_outcomes)
        if not (any(parts) or self.calls or self.open_promise):
            raise PydanticCustomError("no_condition", "expected at least one condition")
        return self


class Rule(Strict):
    """One way to a queue."""

    name: Name
    queue: Name
    priority: Priority = "normal"
    skills: list[Name] = Field(default=[])
    """Besides the queue's."""
    when: RuleWhen


class Raise(Strict):
    """What lifts priority by a band, once, however much of it there is."""

    moods: list[Label] = Field(default=[])
    last_moods: list[Label] = Field(default=[])
    cues: list[CueKind] = Field(default=[])
    min_probability: Ratio = 0.5
    for_s: Annotated[float, Field(gt=0, le=60)] = 4


class Greetings(Strict):
    """Lines for the agent. Each may use {calls}, {days}, {topic} and {promise} where the condition gives them."""

    within_days: Annotated[float, Field(gt=0, le=3_650)] = 30
    """Earlier calls are brought up for so long."""
    promise: str = ""
    same_topic: str = ""
    moods: dict[Label, str] = Field(default={})
    """By how the customer sounded at the last contact."""

    @field_validator("promise", "same_topic", "moods")
    @classmethod
    def _templates(cls, lines: str | dict[str, str], info: ValidationInfo) -> str | dict[str, str]:
        allowed = {"promise": ("promise", "days"), "same_topic": ("calls", "topic", "days"), "moods": ("days",)}
        known = allowed[str(info.field_name)]
        for key, line in lines.items() if isinstance(lines, dict) else [(None, lines)]:
            try:
                found = next((f"found {name!r}" for name in template_names(line) if name not in known), "")
            except ValueError as error:
                found = str(error)
            if found:
                context: dict[str, Any] = {
                    "found": found,
                    "expected": ", ".join(known),
                    "path": (key,) if key else (),
                }
                raise PydanticCustomError("template", "expected a template with none but {expected}; {found}", context)
        return lines


class RoutingConfig(Strict):
    """A site's queues and rules."""

    name: Name
    version: Annotated[int, Field(ge=1)]
    queues: Annotated[list[Queue], Field(min_length=1, max_length=MAX_QUEUES)]
    default_queue: Name
    cap_bands: Annotated[int, Field(ge=0, le=1)] = 1
    """How many bands emotion may add to priority; 0 keeps it out of priority altogether."""
    rules: Annotated[list[Rule], Field(max_length=MAX_RULES)] = Field(default=[])
    """In order: the first that holds wins."""
    raise_for: Raise = Raise()
    greetings: Greetings = Greetings()

    @field_validator("queues")
    @classmethod
    def _distinct_queues(cls, queues: list[Queue]) -> list[Queue]:
        _check_distinct([queue.name for queue in queues], "queues")
        return queues

    @field_validator("default_queue")
    @classmethod
    def _known_queue(cls, name: str, info: ValidationInfo) -> str:
        known = [queue.name for queue in info.data.get("queues", ())]
        if known and name not in known:
            raise _unknown_queue(name, known, ())
        return name

    @field_validator("rules")
    @classmethod
    def _known_queues(cls, rules: list[Rule], info: ValidationInfo) -> list[Rule]:
        _check_distinct([rule.name for rule in rules], "rules")
        known = [queue.name for queue in info.data.get("queues", ())]
        for index, rule in enumerate(rules):
            if known and rule.queue not in known:
                raise _unknown_queue(rule.queue, known, (index, "queue"))
        return rules

    def queue(self, name: str) -> Queue:
        return next(queue for queue in self.queues if queue.name == name)


def load_routing(source: Path | str) -> RoutingConfig:
    """A site's file, or YAML text. Raises InvalidInputError that lists every fault as `routing.yaml line 12: …`."""
    return read_checked(source, RoutingConfig, "routing")


def recommend(config: RoutingConfig, context: RoutingContext) -> Recommendation:
    """Where the call might go. The same context always gives the same answer."""
    known = _Known(context)
    allowed = DECLARED if context.emotion_routing_objected else frozenset(PLAIN)
    without = _choose(config, known, allowed - EMOTION)
    answer = _capped(config, known, _choose(config, known, allowed), without, allowed)
    if not context.emotion_routing_objected:
        return replace(answer, withheld=known.unheard())
    said = Reason(
        "Only intent, product and menu choice count, since the customer objected to routing by emotion.", None
    )
    withheld = tuple(f"{name}: the customer objected" for kind, name in PLAIN.items() if kind not in DECLARED)
    return replace(answer, reasons=(*answer.reasons, said), withheld=withheld)


@dataclass(frozen=True, slots=True)
class _Found:
    """One part of a rule that holds."""

    reason: Reason
    belief: float


@dataclass(frozen=True, slots=True)
class _Known:
    """The context, as rules ask about it."""

    context: RoutingContext

    def unheard(self) -> tuple[str, ...]:
        """Parts of the context that say nothing of the customer, since they did not consent."""
        parts = (("what was said to the voice menu", self.context.ivr), ("the call", self.context.call))
        return tuple(
            f"{what}: the customer's consent is {party.consent}"
            for what, timeline in parts
            if timeline
            for party in timeline.participants
            if party.role == "customer" and party.consent != "granted"
        )

    def said(self) -> list[Utterance]:
        """What customers said, latest last."""
        return [
            u for timeline in self._timelines() for u in timeline.utterances if u.participant in _customers(timeline)
        ]

    def felt(self, labels: Collection[Label], min_probability: float, for_s: float) -> _Found | None:
        """How the customer sounds now: in the call's last minute, or in all that they said to the voice menu."""
        for what, timeline, needs_us in (
            ("", self.context.call, for_s * SECOND_US),
            (" of what they said to the voice menu", self.context.ivr, SECOND_US),
        ):
            if timeline is None:
                continue
            since_us = max(0, timeline.duration_us - RECENT_US) if timeline is self.context.call else 0
            found = [
                m
                for m in timeline.moments
                if m.participant in _customers(timeline)
                and m.span.start_us >= since_us
                and m.affect.label in labels
                and m.affect.probability >= min_probability
            ]
            if sum(m.span.duration_us for m in found) >= needs_us:
                return _Found(_sounds(found, what), fmean(_share(m.affect.probability) for m in found))
        return None

    def cue(self, kinds: Collection[CueKind]) -> _Found | None:
        for utterance in reversed(self.said()):
            for cue in reversed(utterance.cues):
                if cue.kind in kinds:
                    phrase = shorten(cue.phrase, MAX_QUOTE_CHARACTERS, placeholder=" …")
                    reason = Reason(f"The customer says “{phrase}” ({cue.kind}).", "words", (utterance.id,))
                    return _Found(reason, _share(utterance.confidence))
        return None

    def calls(self, within_days: float) -> tuple[EarlierCall, ...]:
        return self.context.history.within(within_days) if self.context.history else ()

    def _timelines(self) -> Iterator[CallTimeline]:
        return (timeline for timeline in (self.context.ivr, self.context.call) if timeline is not None)


def _choose(config: RoutingConfig, known: _Known, allowed: frozenset[Evidence]) -> Recommendation:
    """The first rule that holds, else the default queue."""
    holding = ((rule, found) for rule in config.rules if (found := _holds(rule.when, known, allowed)))
    rule, found = next(holding, (None, []))
    queue = config.queue(rule.queue if rule else config.default_queue)
    reasons = [each.reason for each in found] or [_default_reason(known.context)]
    return Recommendation(
        queue=queue.name,
        priority=rule.priority if rule else "normal",
        skills=tuple(dict.fromkeys((*queue.skills, *(rule.skills if rule else ())))),
        greeting="",
        reasons=tuple(reasons),
        confidence=fmean(each.belief for each in found) if found else 0.0,
        used=tuple(dict.fromkeys(r.evidence for r in reasons if r.evidence)),
        withheld=(),
        rule=rule.name if rule else "",
        config=f"{config.name}@{config.version}",
    )


def _holds(when: RuleWhen, known: _Known, allowed: frozenset[Evidence]) -> list[_Found] | None:
    """What speaks for each part that is given; None unless all hold by what may be looked at."""
    context = known.context
    calls = known.calls(when.within_days)
    last = calls[0] if calls else None
    found: list[_Found | None] = []
    declared: tuple[tuple[list[str], str, Evidence], ...] = (
        (when.intents, context.intent, "intent"),
        (when.products, context.product, "product"),
        (when.choices, context.choice, "choice"),
    )
    for wanted, value, evidence in declared:
        if wanted:
            reason = Reason(f"{PLAIN[evidence].capitalize()}: {value}.", evidence)
            found.append(_Found(reason, 1.0) if value.strip().lower() in wanted else None)
    if when.cues:
        found.append(known.cue(when.cues))
    if when.moods:
        found.append(known.felt(when.moods, when.min_probability, when.for_s))
    if when.last_moods:
        found.append(_last_mood(last, when.last_moods))
    if when.last_outcomes:
        text = f"The last call ({days_ago(last.days_ago)}) ended {last.outcome}." if last else ""
        found.append(_Found(Reason(text, "contacts"), 1.0) if last and last.outcome in when.last_outcomes else None)
    if when.calls:
        text = f"The customer called {times(len(calls))} in the last {when.within_days:g} days."
        found.append(_Found(Reason(text, "contacts"), 1.0) if len(calls) >= when.calls else None)
    if when.open_promise:
        promised = next((call for call in calls if call.open_promise), None)
        text = f"Promised {days_ago(promised.days_ago)} and still open: “{promised.open_promise}”." if promised else ""
        found.append(_Found(Reason(text, "contacts"), 1.0) if promised else None)
    certain = [each for each in found if each and each.reason.evidence in allowed]
    return certain if len(certain) == len(found) else None


def _capped(
    config: RoutingConfig,
    known: _Known,
    answer: Recommendation,
    without: Recommendation,
    allowed: frozenset[Evidence],
) -> Recommendation:
    """With what lifts priority, a band above what it would be without emotion at most, and never below that."""
    plain = BANDS.index(without.priority)
    most = min(plain + config.cap_bands, len(BANDS) - 1)
    band = min(max(BANDS.index(answer.priority), plain), most)
    lifted = _lift(config.raise_for, known, allowed) if band < most else None
    reasons, used = list(answer.reasons), list(answer.used)
    if lifted:
        band += 1
        why = lifted.reason.text[0].lower() + lifted.reason.text[1:]
        reasons.append(replace(lifted.reason, text=f"Priority goes up one band, to {BANDS[band]}: {why}"))
        used += [lifted.reason.evidence] if lifted.reason.evidence else []
    greeting, about = _greeting(config.greetings, known, allowed)
    return replace(
        answer,
        priority=BANDS[band],
        greeting=greeting,
        reasons=(*reasons, *(r for r in about if r not in reasons)),
        confidence=answer.confidence or (lifted.belief if lifted else 0.0),
        used=tuple(dict.fromkeys((*used, *(r.evidence for r in about if r.evidence)))),
    )


def _lift(lifts: Raise, known: _Known, allowed: frozenset[Evidence]) -> _Found | None:
    calls = known.calls(30)
    found = (
        known.felt(lifts.moods, lifts.min_probability, lifts.for_s),
        known.cue(lifts.cues),
        _last_mood(calls[0] if calls else None, lifts.last_moods),
    )
    return next((each for each in found if each and each.reason.evidence in allowed), None)


def _greeting(greetings: Greetings, known: _Known, allowed: frozenset[Evidence]) -> tuple[str, tuple[Reason, ...]]:
    """The line that fits the last contact best, and what it rests on."""
    calls = known.calls(greetings.within_days)
    if not calls:
        return "", ()
    last = calls[0]
    promised = next((call for call in calls if call.open_promise), None)
    alike = [call for call in calls if call.topic and call.topic == last.topic]
    if "contacts" in allowed and promised and greetings.promise:
        line = greetings.promise.format(promise=promised.open_promise, days=days_ago(promised.days_ago))
        text = f"Promised {days_ago(promised.days_ago)} and still open: “{promised.open_promise}”."
        return line, (Reason(text, "contacts"),)
    if "contacts" in allowed and len(alike) > 1 and greetings.same_topic:
        line = greetings.same_topic.format(calls=times(len(alike)), topic=last.topic, days=days_ago(last.days_ago))
        return line, (Reason(f"The customer called {times(len(alike))} about {last.topic}.", "contacts"),)
    mood = _last_mood(last, list(greetings.moods))
    if mood and last.mood and "earlier_mood" in allowed:
        return greetings.moods[last.mood].format(days=days_ago(last.days_ago)), (mood.reason,)
    return "", ()


def _last_mood(last: EarlierCall | None, moods: Sequence[Label]) -> _Found | None:
    if last is None or last.mood is None or last.mood not in moods:
        return None
    text = f"The customer sounded {last.mood} at the last contact ({days_ago(last.days_ago)})."
    return _Found(Reason(text, "earlier_mood"), EARLIER_BELIEF)


def _sounds(moments: Sequence[Moment], where: str) -> Reason:
    label = max({m.affect.label for m in moments}, key=lambda name: sum(m.affect.label == name for m in moments))
    seconds = sum(m.span.duration_us for m in moments) / SECOND_US
    text = f"The customer sounds {label} for {seconds:.0f} s{where}."
    return Reason(text, "mood", tuple(m.id for m in moments))


def _default_reason(context: RoutingContext) -> Reason:
    known = (context.intent, context.product, context.choice, context.history, context.ivr, context.call)
    if not any(known):
        return Reason("Nothing known: the default queue.", None)
    return Reason("No rule fits what may be looked at: the default queue.", None)


def _share(belief: float) -> float:
    """In [0, 1], whatever came from outside."""
    return min(1.0, max(0.0, belief))


def _customers(timeline: CallTimeline) -> set[str]:
    """Ids of the customers who consented."""
    return {p.id for p in timeline.participants if p.role == "customer" and p.consent == "granted"}


def _check_distinct(names: Sequence[str], what: str) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            context = {"name": name, "what": what, "index": index}
            raise PydanticCustomError("duplicate", "two {what} are named '{name}'", context)


def _unknown_queue(name: str, known: Sequence[str], path: tuple[str | int, ...]) -> PydanticCustomError:
    return PydanticCustomError(
        "unknown_queue",
        "unknown queue '{name}'; expected one of {known}",
        {"name": name, "known": ", ".join(known), "path": path},
    )
