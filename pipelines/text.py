"""What words say of a turn, in the light of the turns before; personal data is taken out first."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from affectline.models.labels import LABELS, Label, place_of
from affectline.models.ports import TextAffect
from affectline.models.signals import AffectScores, Span, Word
from affectline.pipelines.cues import CueLexicon, FoundCue
from affectline.pipelines.redaction import Redactor, redact, redact_words
from affectline.pipelines.timeline import Cue, Participant, Utterance

TRANSLATED_QUALITY = 0.8
"""Words lose some of their tone in translation."""
SHORT_WORDS = 6
"""A one-word answer is read wholly in the light of what the same party said before, from this many words on not."""
MOOD_HALF_US = 30_000_000
"""In this time what was said before counts half."""
ANSWER_US = 10_000_000
"""A yes or no this long after the other party's question answers it."""
REFUTED_STRENGTH = 1.5
"""What "no" to "does it work now?" speaks for frustration. All four by convention: no dialogues are labelled."""
MAX_STRENGTH = 5.0
MAX_EVIDENCE = 5
WORDS_PER_S = 3
"""As people talk: a written turn counts for as long as it would take to say."""
MAX_WRITTEN_S = 30
FLOOR = 0.005
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_PLACEHOLDER = re.compile(r"\[[A-Z_]+\]")
_QUESTION = re.compile(r"[^.!?]+\?\s*$")
_AS_SAID_BY_YOU = {"you": "I", "you're": "I'm", "you've": "I've", "your": "my", "yours": "mine", "yourself": "myself"}
_YOU = re.compile(rf"\b(?:{'|'.join(sorted(_AS_SAID_BY_YOU, key=len, reverse=True))})\b", re.IGNORECASE)
_YES = re.compile(
    r"\W*(?:yes|yeah|yep|yup|exactly|correct|absolutely|definitely|of course|i do|i am|it is)\b", re.IGNORECASE
)
_NO = re.compile(r"\W*(?:no|nope|nah|not really|not at all|not yet|it isn't|it doesn't)\b", re.IGNORECASE)

LogOdds = Mapping[Label, float]


@dataclass(frozen=True, slots=True)
class Understood:
    """One turn as everything else may see it: without personal data."""

    utterance: Utterance
    scores: AffectScores | None
    """None where the words cannot be judged …"""
    absent: str
    """… and why."""
    quality: float


@dataclass(frozen=True, slots=True)
class _Question:
    """How a turn ended that asks something."""

    text: str
    participant: str
    end_us: int


@dataclass(frozen=True, slots=True)
class _Mood:
    """What a party's words have been saying beyond the ordinary."""

    odds: dict[Label, float]
    at_us: int


class TextStage:
    """The words of one call, turn by turn in time order."""

    def __init__(self, model: TextAffect, cues: CueLexicon, parties: Sequence[Participant] = ()) -> None:
        """parties: who take part; where an id is a name, it is one in what they say too."""
        self._model = model
        self._cues = cues
        self._agents = {party.id for party in parties if party.role == "agent"}
        self._redactor = Redactor(party.id for party in parties)
        self._moods: dict[str, _Mood] = {}
        self._question: _Question | None = None
        """The last turn's, if it ended in one."""

    def know(self, party: Participant) -> None:
        """A party's role, as it is known from here on."""
        (self._agents.add if party.role == "agent" else self._agents.discard)(party.id)

    def read(self, said: Utterance, quality: float) -> Understood:
        """quality: how far its words can be trusted, in [0, 1].

        Only a final utterance is remembered for the turns that follow.
        """
        said = self._redacted(said)
        known = said.language in self._model.languages
        english = said.text if known else said.translation
        if english and not _WORD.search(_PLACEHOLDER.sub("", english)) and said.redactions:
            return Understood(said, None, "nothing but personal data", 0.0)
        if not english:
            return Understood(said, None, f"words in {said.language!r} are not covered without translation", 0.0)
        found = self._cues.find(english)
        shown = replace(said, cues=tuple(_placed(cue, said, known) for cue in found))
        answered = self._answered(said, english)
        shown = replace(shown, cues=(*shown.cues, *(Cue(c.kind, c.phrase, said.span, c.label) for c in answered)))
        scores = self._in_context(shown, english, (*found, *answered))
        if said.final:
            asked = _QUESTION.search(english)
            self._question = _Question(asked[0].strip(), said.participant, said.span.end_us) if asked else None
        if scores.labels is None:
            return Understood(shown, None, "no words that can be judged", 0.0)
        return Understood(shown, scores, "", quality * (1 if known else TRANSLATED_QUALITY))

    def _redacted(self, said: Utterance) -> Utterance:
        found = self._redactor.find(said.text, said.language, said.span.start_us, final=said.final)
        words, redactions = redact_words(said.words, said.text, found, said.span)
        english = said.translation
        if english:
            english = redact(english, self._redactor.find(english, "en", said.span.start_us, final=said.final))
        return replace(
            said, text=redact(said.text, found), words=words, redactions=redactions, translation=english or None
        )

    def _answered(self, turn: Utterance, english: str) -> tuple[FoundCue, ...]:
        """The cues of the other party's question that a short yes makes one's own, or a short no refutes."""
        asked = self._question
        if (
            asked is None
            or asked.participant == turn.participant
            or turn.span.start_us - asked.end_us > ANSWER_US
            or len(_WORD.findall(english)) >= SHORT_WORDS
        ):
            return ()
        cues = self._cues.find(_YOU.sub(lambda you: _AS_SAID_BY_YOU[you[0].lower()], asked.text))
        if _YES.match(english):
            return cues
        if _NO.match(english):
            hoped = (cue for cue in cues if cue.label == "satisfied")
            return tuple(
                replace(cue, phrase=f"no: {cue.phrase}", label="frustrated", strength=REFUTED_STRENGTH) for cue in hoped
            )
        return ()

    def _in_context(self, turn: Utterance, english: str, cues: Sequence[FoundCue]) -> AffectScores:
        scores = self._meant(turn, english, cues)
        if scores.labels is None and not cues:
            return scores
        own = _odds(scores.labels or self._model.prior, self._model.prior)
        for label, strength in _strengths(cues).items():
            # A general model that hears nothing in support talk's phrases is no evidence against them.
            own[label] = max(0.0, own[label]) + strength
        words = len(_WORD.findall(english))
        short = max(0.0, (SHORT_WORDS - words) / (SHORT_WORDS - 1))
        mood = self._moods.get(turn.participant)
        odds = dict(own)
        if mood is not None:
            fade = 0.5 ** (max(0, turn.span.start_us - mood.at_us) / MOOD_HALF_US)
            for label in LABELS:
                odds[label] += short * fade * mood.odds[label]
        if turn.final:
            kept = short if mood is not None else 0.0
            before = mood.odds if mood is not None else own
            blended = {label: kept * before[label] + (1 - kept) * own[label] for label in LABELS}
            self._moods[turn.participant] = _Mood(blended, turn.span.end_us)
        if odds == own and not any(cue.label for cue in cues):
            return scores
        return _rescored(scores, odds, self._model.prior, cues)

    def _meant(self, turn: Utterance, english: str, cues: Sequence[FoundCue]) -> AffectScores:
        """The model's answer; courtesies are an agent's job and count nothing there, elsewhere half."""
        rest = self._cues.without_courtesies(english, cues)
        if rest == english:
            return self._model.estimate(english)
        bare = self._model.estimate(rest) if _WORD.search(rest) else self._nothing_felt()
        full = self._model.estimate(english)
        if turn.participant in self._agents or bare.labels is None or full.labels is None:
            return bare
        return _between(bare, full)

    def _nothing_felt(self) -> AffectScores:
        """Of a turn that is mere politeness: no evidence for any label."""
        prior = self._model.prior
        return AffectScores(dict(prior), *place_of(prior), max(prior.values()))


def _strengths(cues: Sequence[FoundCue]) -> dict[Label, float]:
    """What cues add to each label's odds: a phrase said again adds nothing, and together at most MAX_STRENGTH."""
    told = {(cue.label, cue.phrase.lower()): cue.strength for cue in cues}
    found: dict[Label, float] = {}
    for (label, _), strength in told.items():
        if label:
            found[label] = min(MAX_STRENGTH, found.get(label, 0.0) + strength)
    return found


def _odds(labels: Mapping[Label, float], prior: Mapping[Label, float]) -> dict[Label, float]:
    """What an answer says beyond the prior, as natural logarithms."""
    return {label: math.log(max(labels.get(label, 0), FLOOR) / max(prior.get(label, 0), FLOOR)) for label in LABELS}


def _between(one: AffectScores, other: AffectScores) -> AffectScores:
    """Half-way: the geometric mean of the labels, the mean of the dimensions."""
    mass = {
        label: math.sqrt(max((one.labels or {}).get(label, 0), FLOOR) * max((other.labels or {}).get(label, 0), FLOOR))
        for label in LABELS
    }
    total = sum(mass.values())
    labels = {label: m / total for label, m in mass.items()}
    valence, arousal, dominance = (
        ((a or 0) + (b or 0)) / 2
        for a, b in zip(
            (one.valence, one.arousal, one.dominance), (other.valence, other.arousal, other.dominance), strict=True
        )
    )
    return AffectScores(labels, valence, arousal, dominance, max(labels.values()), other.evidence)


def _rescored(
    scores: AffectScores, odds: LogOdds, prior: Mapping[Label, float], cues: Sequence[FoundCue]
) -> AffectScores:
    """The scores with other label odds; the dimensions move half-way to where the labels now lie."""
    mass = {label: max(prior.get(label, 0), FLOOR) * math.exp(odds[label]) for label in LABELS}
    total = sum(mass.values())
    labels = {label: m / total for label, m in mass.items()}
    placed = place_of(labels)
    given = (scores.valence, scores.arousal, scores.dominance)
    valence, arousal, dominance = (
        place if value is None else (place + value) / 2 for place, value in zip(placed, given, strict=True)
    )
    phrases = dict.fromkeys(cue.phrase.lower() for cue in cues if cue.label)
    evidence = (*phrases, *(word for word in scores.evidence if not any(word in phrase for phrase in phrases)))
    return AffectScores(labels, valence, arousal, dominance, max(labels.values()), evidence[:MAX_EVIDENCE])


def _placed(cue: FoundCue, turn: Utterance, in_text: bool) -> Cue:
    span = span_of(turn.words, turn.text, cue.start, cue.end) if in_text else None
    return Cue(cue.kind, cue.phrase, span or turn.span, cue.label)


def seconds_to_say(text: str) -> int:
    """For how many seconds a written turn stands, 1 to MAX_WRITTEN_S."""
    return min(MAX_WRITTEN_S, max(1, -(-len(text.split()) // WORDS_PER_S)))


def span_of(words: Sequence[Word], text: str, start: int, end: int) -> Span | None:
    """When characters [start, end) of the text were said; None where the words do not tell."""
    at, spoken = 0, []
    for word in words:
        found = text.find(word.text, at)
        if found < 0:
            return None
        at = found + len(word.text)
        if found < end and at > start:
            spoken.append(word.span)
    return Span(spoken[0].start_us, spoken[-1].end_us) if spoken else None
