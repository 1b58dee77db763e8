"""What each stretch of a call is for: greeting, identification, problem, resolution, closing, hold, transfer.

A hidden Markov model over utterances (Rabiner 1989) with the scores of lexicon/stages.yaml, all of them conventions.
While the call runs, its last WINDOW utterances are decoded again with each new one; when it ends, the whole is
(Viterbi 1967). A stage's confidence is the mean of its utterances' posterior.
"""

import re
from bisect import bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby, pairwise
from math import log
from pathlib import Path
from typing import Annotated, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from affectline.models.labels import UNKNOWN, Label
from affectline.models.signals import Span
from affectline.pipelines.checked_yaml import read_checked
from affectline.pipelines.facts import find_facts
from affectline.pipelines.phrases import PhraseIndex, checked_phrases, is_number, tokens_of
from affectline.pipelines.timeline import CallTimeline, CueKind, Moment, Participant, Stage, StageName, Utterance

TABLES: Final = Path(__file__).parent / "lexicon" / "stages.yaml"
STAGES: Final[tuple[StageName, ...]] = get_args(StageName)
WINDOW: Final = 12
"""Utterances that are looked at again while the call runs."""
SILENCE_US: Final = 12_000_000
LONG_SILENCE_US: Final = 30_000_000
COUNTED_GROUPS: Final = 2
"""Of one stage and utterance: the strongest."""
PLAIN_WORDS: Final = 4
LONG_WORDS: Final = 9
SPELLED: Final = 3
"""Letters or digits one after the other."""
MAX_BECAUSE: Final = 5
SPEAKS_FOR: Final = 1.0
"""Least score with which an utterance speaks for its stage."""
TOLD_AGAIN: Final = 0.1
"""While the call runs, a stage is told again when its confidence has changed by so much."""
TROUBLED: Final[frozenset[CueKind]] = frozenset(("confusion", "escalation", "churn"))
UPSET: Final[frozenset[Label]] = frozenset(("frustrated", "angry"))
_TOKEN: Final = re.compile(r"\[[^\[\]\s]{1,40}\]|\w+(?:'\w+)*|[.!?;\n]")
_MARKS: Final = frozenset(".!?;\n")

F64 = npt.NDArray[np.float64]


def _below_one(row: dict[StageName, float]) -> dict[StageName, float]:
    if sum(row.values()) >= 1:
        raise PydanticCustomError("row", "expected a row that sums to less than 1, found more")
    return row


def _of_every_stage(rows: dict[StageName, dict[StageName, float]]) -> dict[StageName, dict[StageName, float]]:
    for stage in STAGES:
        if stage not in rows:
            raise PydanticCustomError("rows", "expected a row for {stage}, found none", {"stage": stage})
    return rows


Probability = Annotated[float, Field(gt=0, lt=1)]
Row = Annotated[dict[StageName, Probability], AfterValidator(_below_one)]
Rows = Annotated[dict[StageName, Row], AfterValidator(_of_every_stage)]
Phrases = Annotated[list[str], Field(min_length=1), AfterValidator(checked_phrases)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Group(_Table):
    stage: StageName
    by: Literal["agent", "other", "anyone"]
    """`other` is everybody but an agent."""
    weight: Annotated[float, Field(gt=0, le=8)]
    en: Phrases
    de: Phrases | None = None
    es: Phrases | None = None


class _Signs(_Table):
    personal: dict[StageName, float]
    name: dict[StageName, float]
    personal_by_agent: dict[StageName, float]
    spelled: dict[StageName, float]
    issue: dict[StageName, float]
    commitment: dict[StageName, float]
    gratitude: dict[StageName, float]
    plain: dict[StageName, float]
    long_plain: dict[StageName, float]
    joins: dict[StageName, float]
    silence: dict[StageName, float]
    long_silence: dict[StageName, float]
    held: dict[StageName, float]


class _Changes(_Table):
    agent: Rows
    other: Rows


class _Tables(_Table):
    start: Row
    end: Row
    changes: _Changes
    signs: _Signs
    groups: Annotated[list[_Group], Field(min_length=1)]


@dataclass(frozen=True, slots=True, order=True)
class _Heard:
    """One step of the model."""

    span: Span
    participant: str
    id: str
    """Of the utterance; empty for a hold that the telephone system told."""
    scores: tuple[float, ...]
    """Per stage of STAGES."""
    by_agent: bool
    spoken: bool


@dataclass(frozen=True, slots=True)
class _Step:
    scores: F64
    """[stages]"""
    by_agent: bool
    start_us: int
    heard: _Heard | None
    """None of a silence."""


@dataclass(frozen=True, slots=True)
class _Judged:
    step: _Step
    name: StageName
    posterior: float


class StageModel:
    """Raises InvalidInputError that lists every fault of its tables by line."""

    def __init__(self, tables: Path = TABLES) -> None:
        read = read_checked(tables, _Tables, "stages")
        self._signs = read.signs
        self._groups = read.groups
        self._indexes: dict[str, PhraseIndex[int]] = {
            language: PhraseIndex(
                (phrase, number)
                for number, group in enumerate(read.groups)
                for phrase in getattr(group, language) or ()
            )
            for language in ("en", "de", "es")
        }
        self.start, self.end = _logarithms(read.start), _logarithms(read.end)
        self.changes = {
            by_agent: np.stack([_logarithms(rows[stage]) for stage in STAGES])
            for by_agent, rows in ((True, read.changes.agent), (False, read.changes.other))
        }
        """[from, to], by whether an agent speaks."""

    def score(self, utterance: Utterance, party: Participant, *, joins: bool, alone: bool) -> F64:
        """[stages]: logarithm of how much likelier the utterance is in each.

        joins: these are the first words of a party who is not the first to speak beside the customer. alone: no other
        party is known, as where a recording has all voices on one channel; everybody's phrases count.
        """
        by_agent = party.role == "agent"
        english = utterance.translation or utterance.text
        texts = {utterance.language: utterance.text} | ({"en": english} if utterance.translation else {})
        scores = np.zeros(len(STAGES))
        said: set[StageName] = set()
        found: dict[StageName, list[float]] = {stage: [] for stage in STAGES}
        for number in {n for language, text in texts.items() for n in self._matches(language, text)}:
            group = self._groups[number]
            if alone or group.by == "anyone" or (group.by == "agent") == by_agent:
                found[group.stage].append(group.weight)
                said.add(group.stage)
        for stage, weights in found.items():
            scores[STAGES.index(stage)] += sum(sorted(weights)[-COUNTED_GROUPS:])
        for sign in self._signs_of(utterance, party, english, by_agent=by_agent, joins=joins):
            for stage, weight in sign.items():
                if weight > 0 or stage not in said:
                    scores[STAGES.index(stage)] += weight
        return scores

    def sides(self, texts: Mapping[str, str]) -> tuple[float, float]:
        """Weights of what agents say, and of what anyone but an agent says, in one utterance: language -> its text."""
        found = {number for language, text in texts.items() for number in self._matches(language, text)}
        groups = [self._groups[number] for number in found]
        agents, others = (sum(group.weight for group in groups if group.by == by) for by in ("agent", "other"))
        return agents, others

    def silence(self, duration_us: int) -> F64:
        return _row(self._signs.silence if duration_us < LONG_SILENCE_US else self._signs.long_silence)

    def held(self) -> F64:
        return _row(self._signs.held)

    def _matches(self, language: str, text: str) -> Iterator[int]:
        tokens = tokens_of(text, _TOKEN)
        index = self._indexes.get(language)
        for at in range(len(tokens) if index else 0):
            for _, number in index.at(tokens, at):  # type: ignore[union-attr]
                yield number

    def _signs_of(
        self, utterance: Utterance, party: Participant, english: str, *, by_agent: bool, joins: bool
    ) -> Iterator[Mapping[StageName, float]]:
        signs = self._signs
        if joins:
            yield signs.joins
        kinds = {each.kind for each in utterance.redactions}
        if kinds and by_agent:
            yield signs.personal_by_agent
        elif kinds - {"name"}:
            yield signs.personal
        elif kinds:
            yield signs.name
        words = [token.word for token in tokens_of(english, _TOKEN) if token.word not in _MARKS]
        if not by_agent and _spells(words):
            yield signs.spelled
        facts = {fact.kind for fact in find_facts((party,), (utterance,))}
        if "issue" in facts:
            yield signs.issue
        if "commitment" in facts and by_agent:
            yield signs.commitment
        if not by_agent and any(cue.kind == "gratitude" for cue in utterance.cues):
            yield signs.gratitude
        if len(words) >= LONG_WORDS:
            yield signs.long_plain
        elif len(words) >= PLAIN_WORDS:
            yield signs.plain


@cache
def default_stages() -> StageModel:
    return StageModel()


class StageTracker:
    """One call. Not thread-safe.

    What `feed`, `hold` and `finish` yield gives, in the order of ids, the stages so far: each replaces the one with
    its id and all that began after it.
    """

    def __init__(self, participants: Sequence[Participant], model: StageModel | None = None) -> None:
        self._model = model or default_stages()
        self._parties = {party.id: party for party in participants}
        self._agents: list[str] = []
        """Who but a customer has spoken, in order of their first words."""
        self._heard: list[_Heard] = []
        self._fixed = 0
        """Steps before are not looked at again while the call runs."""
        self._before: F64 | None = None
        """Logarithm of the belief in each stage of the last fixed step …"""
        self._reached_us: int | None = None
        """… and the end of what was said up to it."""
        self._end_us = 0
        self._judged: list[_Judged] = []
        """Of the last fixed stage."""
        self._settled: list[Stage] = []
        """The stages before it."""
        self._told: list[Stage] = []

    def know(self, party: Participant) -> None:
        """A further party, or a role that has become known."""
        self._parties[party.id] = party

    def feed(self, utterance: Utterance) -> list[Stage]:
        """Takes a final utterance; they come roughly in time order. Gives the stages that began or changed."""
        party = self._parties[utterance.participant]
        joins = False
        if party.role != "customer" and party.id not in self._agents:
            joins = bool(self._agents)
            self._agents.append(party.id)
        alone = len(self._parties) == 1
        scores = self._model.score(utterance, party, joins=joins, alone=alone)
        by_agent = alone or party.role == "agent"
        return self._take(
            _Heard(utterance.span, party.id, utterance.id, tuple(scores), by_agent, not utterance.written)
        )

    def hold(self, span: Span) -> list[Stage]:
        """Takes a hold that the telephone system told, as long as it is known yet. Gives what `feed` gives."""
        return self._take(_Heard(span, "", "", tuple(self._model.held()), True, True))

    def finish(self, end_us: int) -> list[Stage]:
        """The call has ended: gives all stages that are not as they were told."""
        return self._tell(self.stages(end_us), exactly=True)

    def stages(self, end_us: int, *, over: bool = True) -> tuple[Stage, ...]:
        """Up to `end_us`, decoded as a whole. over: the call ended there."""
        judged = self._judge(list(self._steps(self._heard, None)), None, self._model.end if over else None)
        return tuple(_stages(judged, 0, max(end_us, self._end_us)))

    def _take(self, heard: _Heard) -> list[Stage]:
        insort(self._heard, heard, lo=self._fixed)
        self._end_us = max(self._end_us, heard.span.end_us)
        judged = self._judge_window()
        if len(self._heard) - self._fixed > WINDOW:
            first = next(number for number, each in enumerate(judged) if each.step.heard is not None)
            for each in judged[: first + 1]:
                self._fix(each)
            self._reached_us = max(self._reached_us or 0, self._heard[self._fixed].span.end_us)
            self._fixed += 1
            judged = self._judge_window()
        known = [*self._settled, *_stages([*self._judged, *judged], len(self._settled), self._end_us)]
        return self._tell(tuple(known), exactly=False)

    def _judge_window(self) -> list[_Judged]:
        return self._judge(list(self._steps(self._heard[self._fixed :], self._reached_us)), self._before)

    def _fix(self, judged: _Judged) -> None:
        belief = self._come_to(self._before, judged.step) + judged.step.scores
        self._before = belief - np.logaddexp.reduce(belief)
        if self._judged and self._judged[-1].name != judged.name:
            self._settled += _stages(self._judged, len(self._settled), judged.step.start_us)
            self._judged = []
        self._judged.append(judged)

    def _come_to(self, before: F64 | None, step: _Step) -> F64:
        """Logarithm of the belief in each stage, from that of the step before; None before the first one."""
        if before is None:
            return self._model.start
        return np.asarray(np.logaddexp.reduce(before[:, None] + self._model.changes[step.by_agent], axis=0))

    def _steps(self, heard: Sequence[_Heard], reached_us: int | None) -> Iterator[_Step]:
        """With the silences between what was said. reached_us: the end of what was said before; None before all."""
        for each in heard:
            silent_us = 0 if reached_us is None else each.span.start_us - reached_us
            if each.spoken and silent_us >= SILENCE_US:
                yield _Step(self._model.silence(silent_us), True, reached_us or 0, None)
            yield _Step(np.array(each.scores), each.by_agent, each.span.start_us, each)
            reached_us = max(reached_us or 0, each.span.end_us)

    def _judge(self, steps: Sequence[_Step], before: F64 | None, end: F64 | None = None) -> list[_Judged]:
        """The most probable sequence, and how probable each of its stages is given all steps.

        before: logarithm of the belief in each stage of the step before; end: of the last step's stage, beforehand.
        """
        if not steps:
            return []
        scores = np.stack([step.scores for step in steps])
        if end is not None:
            scores[-1] += end
        forward, best = np.zeros_like(scores), np.zeros_like(scores)
        back = np.zeros(scores.shape, int)
        forward[0] = self._come_to(before, steps[0]) + scores[0]
        best[0] = forward[0]
        for number, step in enumerate(steps[1:], 1):
            paths = best[number - 1][:, None] + self._model.changes[step.by_agent]
            back[number] = paths.argmax(axis=0)
            best[number] = paths.max(axis=0) + scores[number]
            forward[number] = self._come_to(forward[number - 1], step) + scores[number]
        backward = np.zeros_like(scores)
        chosen = [int(best[-1].argmax())]
        for number in range(len(steps) - 1, 0, -1):
            after = self._model.changes[steps[number].by_agent] + (scores[number] + backward[number])
            backward[number - 1] = np.logaddexp.reduce(after, axis=1)
            chosen.append(int(back[number][chosen[-1]]))
        belief = forward + backward
        posterior = np.exp(belief - np.logaddexp.reduce(belief, axis=1, keepdims=True))
        return [
            _Judged(step, STAGES[place], float(row[place]))
            for step, place, row in zip(steps, reversed(chosen), posterior, strict=True)
        ]

    def _tell(self, known: tuple[Stage, ...], *, exactly: bool) -> list[Stage]:
        """Those from the first one on that is not as it was told, and the one before it, which ends there.

        While the call runs, ends and slightly other confidences are not told again.
        """
        same = _equal if exactly else _alike
        index = 0 if exactly else max(0, len(self._settled) - 1)
        while index < min(len(known), len(self._told)) and same(self._told[index], known[index]):
            index += 1
        if index == len(known) == len(self._told):
            return []
        first = index if exactly and index < len(known) else max(0, index - 1)
        self._told = [*self._told[:first], *known[first:]]
        return list(known[first:])


def _equal(one: Stage, other: Stage) -> bool:
    return one == other


def _alike(one: Stage, other: Stage) -> bool:
    near = abs(one.confidence - other.confidence) < TOLD_AGAIN
    return near and (one.name, one.span.start_us) == (other.name, other.span.start_us)


def _stages(judged: Sequence[_Judged], first: int, end_us: int) -> list[Stage]:
    """Neighbours of one name joined; `first` is the number of the first stage, `end_us` where the last one ends."""
    runs = [list(run) for _, run in groupby(judged, key=lambda each: each.name)]
    edges_us = [*(run[0].step.start_us for run in runs), end_us]
    stages: list[Stage] = []
    for run, (start_us, stop_us) in zip(runs, pairwise(edges_us), strict=True):
        name = run[0].name
        place = STAGES.index(name)
        strong = sorted((each for each in run if each.step.heard), key=lambda each: -each.step.scores[place])
        because = [
            each.step.heard
            for each in strong
            if each.step.heard and each.step.heard.id and each.step.scores[place] >= SPEAKS_FOR
        ][:MAX_BECAUSE]
        stages.append(
            Stage(
                id=f"s-{first + len(stages)}",
                name=name,
                span=Span(start_us, max(start_us, stop_us)),
                confidence=round(sum(each.posterior for each in run) / len(run), 4),
                because=tuple(heard.id for heard in sorted(because)),
            )
        )
    return stages


def _logarithms(row: Mapping[StageName, float]) -> F64:
    """[stages]; what the row leaves of 1 is shared by those it does not name."""
    unnamed = len(STAGES) - len(row)
    rest = (1 - sum(row.values())) / max(1, unnamed)
    return np.array([log(row.get(stage, rest)) for stage in STAGES])


def _row(sign: Mapping[StageName, float]) -> F64:
    return np.array([sign.get(stage, 0.0) for stage in STAGES])


def _spells(words: Sequence[str]) -> bool:
    run = 0
    for word in words:
        short = (len(word) == 1 and word not in ("a", "i")) or is_number(word)
        run = run + (len(word) if word.isdigit() else 1) if short else 0
        if run >= SPELLED:
            return True
    return False


@dataclass(frozen=True, slots=True)
class StageAffect:
    """How one party felt in one stage."""

    stage: str
    """Its id."""
    participant: str
    known_us: int
    """Time in which something is known …"""
    upset_us: int
    """… and the part of it that was frustrated or angry."""
    valence: float | None
    """Mean over that time, in [-1, 1]; None where nothing is known."""
    cues: int
    """Of escalation, leaving and confusion, in what the party began to say in this stage."""


def stage_affect(timeline: CallTimeline) -> tuple[StageAffect, ...]:
    """Of each stage, in order, and in it of each party; a moment belongs to the stage in which its middle lies.

    How an agent felt is not told: it would be a score of a person at work.
    """
    agents = {party.id for party in timeline.participants if party.role == "agent"}
    stages = timeline.stages
    starts_us = [stage.span.start_us for stage in stages]
    moments: dict[tuple[int, str], list[Moment]] = defaultdict(list)
    cues: Counter[tuple[int, str]] = Counter()
    for moment in timeline.moments if stages else ():
        if moment.affect.label != UNKNOWN and moment.participant not in agents:
            middle_us = (moment.span.start_us + moment.span.end_us) // 2
            moments[max(0, bisect_right(starts_us, middle_us) - 1), moment.participant].append(moment)
    for utterance in timeline.utterances if stages else ():
        key = (bisect_right(starts_us, utterance.span.start_us) - 1, utterance.participant)
        cues[key] += sum(cue.kind in TROUBLED for cue in utterance.cues)
    rows = []
    for number, stage in enumerate(stages):
        for party in timeline.participants:
            known = moments[number, party.id]
            valences = [m.affect.valence for m in known if m.affect.valence is not None]
            rows.append(
                StageAffect(
                    stage=stage.id,
                    participant=party.id,
                    known_us=sum(m.span.duration_us for m in known),
                    upset_us=sum(m.span.duration_us for m in known if m.affect.label in UPSET),
                    valence=sum(valences) / len(valences) if valences else None,
                    cues=cues[number, party.id],
                )
            )
    return tuple(rows)
