"""A written conversation, chat or e-mail, from its first turn to its last: the same words stage, fusion and policies.

Moments exist only where something was written, so that a thread of a week costs no more than its turns.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from affectline.models.errors import InvalidInputError
from affectline.models.signals import AffectEstimate, Modality, Span, TextEvent
from affectline.pipelines.dynamics import dynamics
from affectline.pipelines.facts import find_facts
from affectline.pipelines.fusion import fuse
from affectline.pipelines.language import written_language
from affectline.pipelines.policy import PolicyPack, replay
from affectline.pipelines.session import MAX_TEXT_CHARACTERS, MAX_WRITTEN, ModelSet
from affectline.pipelines.summary import summarise
from affectline.pipelines.text import TextStage, Understood, seconds_to_say
from affectline.pipelines.timeline import Absence, CallTimeline, Moment, Participant, Utterance
from affectline.pipelines.voice import SECOND_US

UNSEEN: tuple[Modality, ...] = ("voice", "stress", "face")


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
        if not ids:
            raise InvalidInputError("expected at least one participant, found none")
        if len(set(ids)) < len(ids) or not all(ids):
            raise InvalidInputError(f"expected participants with ids of their own, found {', '.join(ids)}")


def analyze_chat(
    config: ChatConfig, turns: Sequence[TextEvent], models: ModelSet, policies: PolicyPack
) -> CallTimeline:
    """The conversation's timeline; turns of a party without consent are left out.

    Raises InvalidInputError for turns that are too many, too long, empty, out of order or of an unknown party.
    """
    _check(config, turns)
    stage, usual = TextStage(models.text, models.cues), defaultdict[str, Counter[str]](Counter)
    consenting = {p.id for p in config.participants if p.consent == "granted"}
    said = []
    for number, turn in enumerate(turns):
        if turn.participant in consenting:
            known = usual[turn.participant].most_common(1)
            text = turn.text.strip()
            language = turn.language or config.language or written_language(text, known[0][0] if known else None)
            usual[turn.participant][language] += len(text)
            span = Span(turn.at_us, turn.at_us + seconds_to_say(text) * SECOND_US)
            name = turn.participant
            utterance = Utterance(f"t-{name}-{number}", span, name, text, (), language, 1.0, True, 1, written=True)
            said.append(stage.read(utterance, 1.0))
    utterances = tuple(u.utterance for u in said)
    moments = _moments(said, models)
    duration_us = max((m.span.end_us for m in moments), default=0)
    timeline = CallTimeline(
        name=config.name,
        duration_us=duration_us,
        rate_hz=0,
        participants=config.participants,
        utterances=utterances,
        moments=moments,
        suggestions=(),
        speech=(),
        vocal=(),
        dynamics=dynamics(config.participants, (), utterances, duration_us),
        summary=summarise(config.participants, utterances, moments),
        notices=(),
        models={"text_affect": models.versions["text_affect"]},
        facts=find_facts(config.participants, utterances),
    )
    return replace(timeline, suggestions=tuple(replay(policies, timeline)))


def _check(config: ChatConfig, turns: Sequence[TextEvent]) -> None:
    known = {p.id for p in config.participants}
    if len(turns) > MAX_WRITTEN:
        raise InvalidInputError(f"expected at most {MAX_WRITTEN} turns, found {len(turns)}")
    for number, turn in enumerate(turns, 1):
        if turn.participant not in known:
            raise InvalidInputError(f"turn {number}: expected one of {', '.join(known)}, found {turn.participant!r}")
        if not turn.text.strip() or len(turn.text) > MAX_TEXT_CHARACTERS:
            raise InvalidInputError(
                f"turn {number}: expected 1 to {MAX_TEXT_CHARACTERS} characters, found {len(turn.text.strip())}"
            )
        if turn.at_us < (turns[number - 2].at_us if number > 1 else 0):
            raise InvalidInputError(f"turn {number}: expected a time after the turn before, found {turn.at_us} us")


def _moments(said: Sequence[Understood], models: ModelSet) -> tuple[Moment, ...]:
    """One per second of each turn, until the same party's next turn begins."""
    found = []
    next_of: dict[str, int] = {}
    for turn in reversed(said):
        u = turn.utterance
        until_us = min(u.span.end_us, max(next_of.get(u.participant, u.span.end_us), u.span.start_us + SECOND_US))
        next_of[u.participant] = u.span.start_us
        for start_us in range(u.span.start_us, until_us, SECOND_US):
            span = Span(start_us, min(start_us + SECOND_US, until_us))
            found.append(_moment(turn, span, models))
    return tuple(sorted(found, key=lambda m: (m.span.start_us, m.participant)))


def _moment(turn: Understood, span: Span, models: ModelSet) -> Moment:
    u = turn.utterance
    estimates = []
    if turn.scores is not None:
        estimates.append(AffectEstimate(span, u.participant, "text", turn.scores, turn.quality, models.text.model))
    affect, contributors = fuse(estimates, {models.text.model: models.text.prior})
    absent = [Absence(modality, "written") for modality in UNSEEN]
    if turn.scores is None:
        absent.insert(0, Absence("text", turn.absent))
    return Moment(
        id=f"m-{u.participant}-{span.start_us // 1000}",
        span=span,
        participant=u.participant,
        affect=affect,
        contributors=contributors,
        absent=tuple(absent),
        stress=None,
        level_dbfs=None,
        speech_ratio=0.0,
        revision=1,
        final=True,
    )
