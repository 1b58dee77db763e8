"""Unit cases of a policy pack: small calls written in YAML, and what the pack should say of them.

cases:
  - name: Anger with a word of leaving goes to retention.
    call:                    # each line is a stretch of speech; seconds that no line covers are silent
      - {at: [0, 10], feels: neutral}
      - {at: [10, 15], feels: angry, says: "Then cancel my contract today."}
    expect: [anger-retention]
    never: [satisfied-sales] # or `others`: nothing else
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from affectline.models.labels import AFFECT_OF_LABEL, UNKNOWN, Label
from affectline.models.signals import GapReason, Span
from affectline.pipelines.checked_yaml import Strict, read_checked
from affectline.pipelines.cues import CueLexicon
from affectline.pipelines.measures import SECOND_US, Name, Ratio, Valence, us
from affectline.pipelines.policy import PolicyEngine, PolicyPack, run
from affectline.pipelines.summary import clock
from affectline.pipelines.timeline import (
    Absence,
    Affect,
    CallOutcome,
    Cue,
    CustomerHistory,
    EarlierCall,
    Moment,
    Output,
    Participant,
    SpeechTurn,
    Suggestion,
    Utterance,
    Verdict,
)

MAX_CASE_S: Final = 3_600
CONFIDENCE: Final = 0.9
"""Of what is said in a case."""
LEVEL_DBFS: Final = -25.0

Time = Annotated[float, Field(ge=0, le=MAX_CASE_S)]
Side = Literal["customer", "agent"]


class Stretch(Strict):
    """What one party does from one second to another."""

    at: Annotated[list[Time], Field(min_length=2, max_length=2)]
    who: Side = "customer"
    feels: Label = UNKNOWN
    probability: Ratio = 0.8
    valence: Valence | None = None
    """Where the label lies by default."""
    arousal: Valence | None = None
    stress: Ratio | None = None
    anger: Ratio | None = None
    says: str = ""
    speaks: bool = True
    """False for what is felt in silence, as a face shows it."""
    gap: GapReason | None = None
    """No media came from this party, and why."""

    @field_validator("at")
    @classmethod
    def _in_order(cls, at: list[float]) -> list[float]:
        if at[1] <= at[0]:
            raise PydanticCustomError("order", "expected a later second after an earlier one")
        return at

    @property
    def span(self) -> Span:
        return Span(us(self.at[0]), us(self.at[1]))


class Earlier(Strict):
    """A call before; see timeline.EarlierCall."""

    days_ago: Annotated[float, Field(ge=0, le=36_500)]
    mood: Label | None = None
    outcome: CallOutcome | None = None
    topic: Annotated[str, Field(max_length=64)] = ""
    open_promise: Annotated[str, Field(max_length=256)] = ""

    def call(self) -> EarlierCall:
        return EarlierCall(self.days_ago, self.mood, self.outcome, self.topic, self.open_promise)


class Judged(Strict):
    """What the agent made of a policy's suggestion."""

    at: Time
    policy: Name
    verdict: Verdict


class Case(Strict):
    """One call, and which policies must and must not speak."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    call: Annotated[list[Stretch], Field(min_length=1, max_length=500)]
    history: Annotated[list[Earlier], Field(max_length=100)] = Field(default=[])
    feedback: Annotated[list[Judged], Field(max_length=100)] = Field(default=[])
    expect: list[Name] = Field(default=[])
    never: list[Name] | Literal["others"] = Field(default=[])

    @field_validator("feedback")
    @classmethod
    def _judged_known(cls, feedback: list[Judged], info: ValidationInfo) -> list[Judged]:
        _check_known([judged.policy for judged in feedback], info)
        return feedback

    @field_validator("expect", "never")
    @classmethod
    def _known(cls, names: list[str] | str, info: ValidationInfo) -> list[str] | str:
        if not isinstance(names, str):
            _check_known(names, info)
        return names


class CaseFile(Strict):
    cases: Annotated[list[Case], Field(min_length=1, max_length=1_000)]


@dataclass(frozen=True, slots=True)
class CaseResult:
    name: str
    faults: tuple[str, ...]
    """What differs from the expectation, in plain words; empty when it passed."""
    suggestions: tuple[Suggestion, ...]


def load_cases(path: Path, pack: PolicyPack) -> list[Case]:
    """Raises InvalidInputError that lists every fault, with names the pack does not have among them."""
    return read_checked(path, CaseFile, "cases", [policy.name for policy in pack.policies]).cases


def cases_path(pack: Path) -> Path:
    """Where a pack's cases lie: `ours.cases.yaml` beside `ours.yaml`."""
    return pack.with_suffix(f".cases{pack.suffix}")


def run_case(pack: PolicyPack, case: Case, cues: CueLexicon) -> CaseResult:
    """Whether the pack says what the case expects. What is said in it gets its cues from `cues`."""
    parties = [Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted")]
    history = CustomerHistory(tuple(earlier.call() for earlier in case.history)) if case.history else None
    engine = PolicyEngine(pack, parties, history)
    by_name = {policy.name: policy for policy in pack.policies}
    for judged in case.feedback:
        policy = by_name[judged.policy]
        engine.judged(policy.action, policy.when.participant, judged.verdict, us(judged.at))
    found = run(engine, _items(case.call, cues))
    missing = Counter(case.expect) - Counter(map(_name, found))
    faults = [f"expected {name}, found {_seen(found)}" for name in missing.elements()]
    left = Counter(case.expect)
    for suggestion in found:
        name = _name(suggestion)
        left[name] -= 1
        if left[name] < 0 and (case.never == "others" or name in case.never):
            faults.append(f"expected no {name}, found it at {clock(suggestion.created_us)}: {suggestion.reason}")
    return CaseResult(case.name, tuple(faults), tuple(found))


def _check_known(names: Sequence[str], info: ValidationInfo) -> None:
    """`info.context`: the names of the pack's policies."""
    for index, name in enumerate(names):
        if info.context is not None and name not in info.context:
            raise PydanticCustomError(
                "unknown_policy",
                "unknown policy '{name}'; expected one of {known}",
                {"name": name, "known": ", ".join(info.context), "index": index},
            )


def _name(suggestion: Suggestion) -> str:
    return suggestion.policy.partition("@")[0]


def _seen(suggestions: Sequence[Suggestion]) -> str:
    return ", ".join(f"{_name(each)} at {clock(each.created_us)}" for each in suggestions) or "nothing"


def _items(call: Sequence[Stretch], cues: CueLexicon) -> list[Output]:
    """Turns, then utterances, then moments: one of each party for every second of the call."""
    length_s = -(-max(stretch.span.end_us for stretch in call) // SECOND_US)
    spoken = [s for s in call if s.gap is None and s.speaks]
    turns = [SpeechTurn(s.who, s.span) for s in sorted(spoken, key=lambda s: s.span)]
    said = [_utterance(number, s, cues) for number, s in enumerate(call) if s.says]
    moments = [_moment(who, second, call) for second in range(length_s) for who in ("agent", "customer")]
    return [*turns, *sorted(said, key=lambda u: u.span), *moments]


def _utterance(number: int, stretch: Stretch, lexicon: CueLexicon) -> Utterance:
    cues = tuple(Cue(cue.kind, cue.phrase, stretch.span, cue.label) for cue in lexicon.find(stretch.says))
    return Utterance(f"u{number}", stretch.span, stretch.who, stretch.says, (), "en", CONFIDENCE, True, 0, cues=cues)


def _moment(who: str, second: int, call: Sequence[Stretch]) -> Moment:
    span = Span(second * SECOND_US, (second + 1) * SECOND_US)
    covering = [s for s in call if s.who == who and s.span.overlap_us(span)]
    felt = next((s for s in reversed(covering) if s.feels != UNKNOWN), None)
    gap = next((s.gap for s in covering if s.gap), None)
    spoken_us = max((s.span.overlap_us(span) for s in covering if s.speaks and not s.gap), default=0)
    return Moment(
        id=f"m-{who}-{second}",
        span=span,
        participant=who,
        affect=_affect(felt),
        contributors=(),
        absent=(Absence("voice", gap),) if gap else (),
        stress=next((s.stress for s in reversed(covering) if s.stress is not None), None),
        level_dbfs=None if gap else LEVEL_DBFS,
        speech_ratio=spoken_us / SECOND_US,
        revision=1,
        final=True,
        anger=next((s.anger for s in reversed(covering) if s.anger is not None), None),
    )


def _affect(felt: Stretch | None) -> Affect:
    if felt is None:
        return Affect(UNKNOWN, 0.0, {}, None, None, None)
    valence, arousal, dominance = AFFECT_OF_LABEL[felt.feels]
    labels: Mapping[Label, float] = {felt.feels: felt.probability}
    return Affect(
        felt.feels,
        felt.probability,
        labels,
        valence if felt.valence is None else felt.valence,
        arousal if felt.arousal is None else felt.arousal,
        dominance,
    )
