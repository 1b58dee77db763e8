"""A written conversation, chat or e-mail, from its first turn to its last: the same words stage, fusion and policies.

Moments exist only where something was written, so that a thread of a week costs no more than its turns.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from affectline.models.errors import InvalidInputError
from affectline.models.labels import LABELS, Label
from affectline.models.signals import AffectEstimate, Modality, Span, TextEvent
from affectline.pipelines.changes import change_points
from affectline.pipelines.facts import find_facts
from affectline.pipelines.fusion import FusionModel, Weighing, fuse
from affectline.pipelines.language import written_language
from affectline.pipelines.policy import PolicyEngine, PolicyPack
from affectline.pipelines.scores import score_parties
from affectline.pipelines.session import MAX_TEXT_CHARACTERS, MAX_WRITTEN, ModelSet
from affectline.pipelines.stages import StageTracker
from affectline.pipelines.summary import summarise
from affectline.pipelines.text import TextStage, Understood, seconds_to_say
from affectline.pipelines.timeline import (
    Absence,
    Affect,
    CallTimeline,
    Contributor,
    Moment,
    Participant,
    Suggestion,
    Utterance,
)
from affectline.pipelines.voice import SECOND_US

MAX_PARTICIPANTS = 16
WRITTEN: Final = FusionModel(
    {"text": Weighing(1.0, 0.0)}, excitement=0.0, hindsight=0.0, stays=0.0, neutral=1 / len(LABELS)
)
"""A written turn has its words for its only witness: what they are judged to say is the answer."""
EVEN: Final[Mapping[Label, float]] = dict.fromkeys(LABELS, 1 / len(LABELS))
MAX_LENGTH_US = 366 * 86_400 * SECOND_US
UNSEEN: tuple[Modality, ...] = ("voice", "stress", "face")
_LANGUAGE = re.compile("[a-z]{2,3}")


@dataclass(frozen=True, slots=True)
class ChatConfig:
    """What is known of a written conversation before its first turn. Raises InvalidInputError."""

    name: str
    participants: tuple[Participant, ...]
    """Their channels carry nothing."""
    language: str | None = None
    """ISO 639-1 when known; None detects it per turn."""

    def __post_init__(self) -> None:
        ids = [p.id for p in self.participants]
        if not 1 <= len(ids) <= MAX_PARTICIPANTS:
            raise InvalidInputError(f"expected 1 to {MAX_PARTICIPANTS} participants, found {len(ids)}")
        if len(set(ids)) < len(ids) or not all(ids):
            raise InvalidInputError(f"expected participants with ids of their own, found {', '.join(ids)}")
        check_language(self.language)


class Chat(Protocol):
    """What users of a written conversation need of it; see ChatSession."""

    def push(self, turn: TextEvent) -> None: ...
    def finish(self) -> CallTimeline: ...


def analyze_chat(
    config: ChatConfig,
    turns: Sequence[TextEvent],
    open_chat: Callable[[ChatConfig], Chat],
    progress: Callable[[float], None] = lambda share: None,
) -> CallTimeline:
    """The conversation's timeline. `progress` is told the share done, in [0, 1]. Raises InvalidInputError."""
    chat = open_chat(config)
    for number, turn in enumerate(turns, 1):
        chat.push(turn)
        progress(number / len(turns))
    return chat.finish()


@dataclass(slots=True)
class _Turn:
    """A turn whose moments are not all settled."""

    said: Understood
    affect: Affect
    contributors: tuple[Contributor, ...]
    next_us: int
    """Where its next moment begins."""
    end_us: int
    """Where its last moment ends: when it is said, or its writer goes on."""


class ChatSession:
    """Not thread-safe: one conversation's turns are pushed one after the other, in time order."""

    def __init__(self, config: ChatConfig, models: ModelSet, policies: PolicyPack) -> None:
        self._config = config
        self._models = models
        self._text = TextStage(models.text, models.cues, config.participants)
        self._engine = PolicyEngine(policies, config.participants)
        self._stages = StageTracker(config.participants)
        self._known = [p.id for p in config.participants]
        self._consenting = {p.id for p in config.participants if p.consent == "granted"}
        self._open: dict[str, _Turn] = {}
        """Party -> its last turn."""
        self._languages: defaultdict[str, Counter[str]] = defaultdict(Counter)
        """Party -> language -> characters written in it."""
        self._count = 0
        """Turns so far."""
        self._at_us = 0
        """Time of the last turn."""
        self._start_us = 0
        """Where it was put: later than its time when its party had written less than a second before."""
        self._utterances: list[Utterance] = []
        self._moments: list[Moment] = []
        self._suggestions: dict[str, Suggestion] = {}
        """By id, each as it is now."""

    def push(self, turn: TextEvent) -> None:
        """Takes the next turn; one of a party without consent is dropped.

        Raises InvalidInputError for a turn that is one too many, too long, empty, out of order or of an unknown party,
        and leaves the conversation as it was.
        """
        self._check(turn)
        self._count += 1
        self._at_us = turn.at_us
        if turn.participant not in self._consenting:
            return
        name, text = turn.participant, own_words(turn.text)
        before = self._open.get(name)
        self._start_us = max(turn.at_us, self._start_us)
        if before is not None:  # a second of its own for each turn
            self._start_us = max(self._start_us, before.said.utterance.span.start_us + SECOND_US)
            before.end_us = min(before.end_us, self._start_us)
        self._settle(self._start_us)

        usual = self._languages[name].most_common(1)
        language = turn.language or self._config.language or written_language(text, usual[0][0] if usual else None)
        self._languages[name][language] += len(text)
        span = Span(self._start_us, self._start_us + seconds_to_say(text) * SECOND_US)
        utterance = Utterance(f"t-{name}-{self._count}", span, name, text, (), language, 1.0, True, 1, written=True)
        said = self._text.read(utterance, 1.0)
        estimates = []
        if said.scores is not None:
            estimates.append(AffectEstimate(span, name, "text", said.scores, said.quality, self._models.text.model))
        affect, contributors = fuse(estimates, {self._models.text.model: EVEN}, WRITTEN)
        self._open[name] = _Turn(said, affect, contributors, span.start_us, span.end_us)
        self._utterances.append(said.utterance)
        self._suggest(self._engine.feed(said.utterance))
        for stage in self._stages.feed(said.utterance):
            self._suggest(self._engine.feed(stage))

    def finish(self) -> CallTimeline:
        """The whole conversation; nothing may be pushed after it."""
        self._settle(max((turn.end_us for turn in self._open.values()), default=0))
        self._suggest(self._engine.finish())
        moments = tuple(sorted(self._moments, key=lambda m: (m.span.start_us, m.participant)))
        utterances = tuple(self._utterances)
        end_us = max((m.span.end_us for m in moments), default=0)
        stages = self._stages.stages(end_us)
        return CallTimeline(
            name=self._config.name,
            duration_us=end_us,
            rate_hz=0,
            participants=self._config.participants,
            utterances=utterances,
            moments=moments,
            suggestions=tuple(self._suggestions.values()),
            speech=(),
            vocal=(),
            dynamics=(),
            summary=summarise(self._config.participants, utterances, moments),
            notices=(),
            models={"text_affect": self._models.versions["text_affect"]},
            facts=find_facts(self._config.participants, utterances),
            scores=score_parties(self._config.participants, utterances, moments, end_us, stages=stages, written=True),
            stages=stages,
            changes=change_points(moments),
        )

    def _check(self, turn: TextEvent) -> None:
        if self._count >= MAX_WRITTEN:
            raise InvalidInputError(f"expected at most {MAX_WRITTEN} turns, found more")
        try:
            if turn.participant not in self._known:
                raise InvalidInputError(f"expected one of {', '.join(self._known)}, found {turn.participant!r}")
            if not turn.text.strip() or len(turn.text) > MAX_TEXT_CHARACTERS:
                raise InvalidInputError(
                    f"expected 1 to {MAX_TEXT_CHARACTERS} characters, found {len(turn.text.strip())}"
                )
            if not self._at_us <= turn.at_us <= MAX_LENGTH_US:
                raise InvalidInputError(f"expected a time of {self._at_us} to {MAX_LENGTH_US} us, found {turn.at_us}")
            check_language(turn.language)
        except InvalidInputError as error:
            raise InvalidInputError(f"turn {self._count + 1}: {error}") from None

    def _suggest(self, suggestions: Sequence[Suggestion]) -> None:
        self._suggestions |= {each.id: each for each in suggestions}

    def _settle(self, until_us: int) -> None:
        """Makes the moments that end by then, in time order."""
        found = []
        for turn in self._open.values():
            while turn.next_us < turn.end_us:
                span = Span(turn.next_us, min(turn.next_us + SECOND_US, turn.end_us))
                if span.end_us > until_us:
                    break
                turn.next_us = span.end_us
                found.append(_moment(turn, span))
        for moment in sorted(found, key=lambda m: (m.span.end_us, m.participant)):
            self._moments.append(moment)
            self._suggest(self._engine.feed(moment))


def own_words(text: str) -> str:
    """What an e-mail's writer wrote, without the lines they quote; all of it where there is nothing else."""
    lines = text.strip().splitlines()
    kept = [line for number, line in enumerate(lines) if not _quotes(lines, number)]
    return "\n".join(kept).strip() or text.strip()


def _quotes(lines: Sequence[str], number: int) -> bool:
    """A line that begins with `>`, or one that says who wrote such lines ("On Monday … wrote:")."""
    follows = next((line for line in lines[number + 1 : number + 3] if line.strip()), "")
    return lines[number].startswith(">") or (lines[number].rstrip().endswith(":") and follows.startswith(">"))


def check_language(language: str | None) -> None:
    """Raises InvalidInputError for what has not the shape of a code."""
    if language is not None and not _LANGUAGE.fullmatch(language):
        raise InvalidInputError(f"expected an ISO 639-1 code such as 'en', found {language!r}")


def _moment(turn: _Turn, span: Span) -> Moment:
    participant = turn.said.utterance.participant
    absent = [Absence(modality, "written") for modality in UNSEEN]
    if turn.said.scores is None:
        absent.insert(0, Absence("text", turn.said.absent))
    return Moment(
        id=f"m-{participant}-{span.start_us}",
        span=span,
        participant=participant,
        affect=turn.affect,
        contributors=turn.contributors,
        absent=tuple(absent),
        stress=None,
        level_dbfs=None,
        speech_ratio=0.0,
        revision=1,
        final=True,
    )
