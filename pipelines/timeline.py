"""What the pipeline says of a call: utterances, moments, suggestions, and the whole as one document."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from affectline.models.labels import Label
from affectline.models.signals import AffectEstimate, Modality, Span, VocalFeatures, Word

MUTE_MARGIN_US: Final = 300_000
"""Recognised words begin and end this much earlier or later at most; by convention."""

Role = Literal["customer", "agent", "other", "unknown"]
Consent = Literal["granted", "pending", "denied"]
SuggestionKind = Literal["routing", "assist", "alert"]
Priority = Literal["low", "normal", "high"]
Verdict = Literal["accepted", "dismissed", "corrected"]
CallOutcome = Literal["resolved", "unresolved", "escalated", "abandoned", "churned", "sold"]
Facing = Literal["front", "rear"]
VideoCodec = Literal["h264", "h265", "vp8", "vp9", "av1"]
FactKind = Literal["issue", "commitment", "open_question"]
Trajectory = Literal["recovered", "worsened", "flat", "up_and_down", "too_little_known"]
Toward = Literal["negative", "positive"]
DriverKind = Literal["modality", "cue", "stage"]
StageName = Literal["greeting", "identification", "problem", "resolution", "closing", "hold", "transfer"]
CueKind = Literal["confusion", "escalation", "churn", "gratitude", "urgency", "vulnerability", "emotion"]
PersonalKind = Literal[
    "card", "iban", "account", "id", "code", "phone", "email", "address", "birth_date", "name", "number"
]
"""What personal data is: payment card, bank account, national id, security code or password, …; a `number` is a long
one that nothing says to be harmless."""


@dataclass(frozen=True, slots=True)
class Participant:
    """One party of a call, and what may be inferred about them."""

    id: str
    role: Role
    channel: int
    """The audio channel that carries this party."""
    consent: Consent = "pending"
    """Without `granted` nothing of this party is analysed."""
    biometric_basis: str | None = None
    """Recorded legal basis for voice and face emotion of an agent; None keeps both off for an agent."""
    pictures_agreed: bool = False
    """They agreed that pictures of key moments are kept; without it none is."""

    @property
    def biometric_allowed(self) -> bool:
        """Whose role is not known could be an agent."""
        known = self.role not in ("agent", "unknown")
        return self.consent == "granted" and (known or self.biometric_basis is not None)


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera of a call, and whom it shows."""

    id: str
    participant: str
    facing: Facing
    """Only a `front` camera shows its party's face; what a `rear` one shows is never judged."""
    codec: VideoCodec | None = None
    """How its stream is coded; None: each of its pictures is one of its own."""
    rotation_degrees: int = 0
    """0, 90, 180 or 270: how far its pictures are to be turned clockwise to be upright."""


@dataclass(frozen=True, slots=True)
class Cue:
    """A phrase of the cue lexicon that was said and not denied."""

    kind: CueKind
    phrase: str
    """As it was said; of a yes or a no, what it answers."""
    span: Span
    """When it was said; the whole utterance where word times are not known."""
    label: Label | None = None
    """The feeling it speaks for; None when it speaks for none by itself."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """Personal data that was taken out of an utterance's text."""

    kind: PersonalKind
    span: Span
    """When it was said, so that sound can be muted; the whole utterance where word times are not known."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One stretch of speech, or one written turn, of one party."""

    id: str
    span: Span
    participant: str
    text: str
    words: tuple[Word, ...]
    """Times on the call's clock."""
    language: str
    confidence: float
    final: bool
    revision: int
    translation: str | None = None
    """English, where the language is one that the text model does not know."""
    cues: tuple[Cue, ...] = ()
    """In time order."""
    redactions: tuple[Redaction, ...] = ()
    """What was taken out of the text (and translation); `[KIND]` stands there instead."""
    written: bool = False
    """A chat or e-mail turn: it has no sound, and its span is the time it would take to say it."""


@dataclass(frozen=True, slots=True)
class Affect:
    """The fused answer of one moment."""

    label: Label
    """The most probable label, or `unknown` when belief or evidence is too thin."""
    probability: float
    """Of the most probable label, in [0, 1]; 0 without evidence."""
    labels: Mapping[Label, float]
    """Probabilities summing to 1; empty without evidence."""
    valence: float | None
    arousal: float | None
    dominance: float | None


@dataclass(frozen=True, slots=True)
class Contributor:
    modality: Modality
    weight: float
    """How far it moved the odds of this second, as a share of all, in [0, 1]; the weights of a moment sum to 1."""
    estimate: AffectEstimate


@dataclass(frozen=True, slots=True)
class Absence:
    modality: Modality
    reason: str
    """In plain words: `no speech`, `no consent`, `agent voice is not analysed`, `speech too short`."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One second of one party."""

    id: str
    span: Span
    participant: str
    affect: Affect
    """In the whole call's timeline: in the light of what came after, too."""
    contributors: tuple[Contributor, ...]
    absent: tuple[Absence, ...]
    stress: float | None
    """Tension against this speaker's own baseline, in [0, 1]; None until the baseline is ready."""
    level_dbfs: float | None
    """RMS level of the second in dB re full scale; None where nothing may be analysed."""
    speech_ratio: float
    """Share of the second with speech, in [0, 1]."""
    revision: int
    final: bool
    """It will not change any more while the call runs."""
    live: Affect | None = None
    """In the whole call's timeline: `affect` as it was final while the call ran; None where it is the same."""
    anger: float | None = None
    """How far the voice is from this speaker's own usual towards anger, in [0, 1]: from 0.5 on it turns angry. None
    without a voice."""

    def as_live(self) -> "Moment":
        """As it was final while the call ran."""
        return self if self.live is None else replace(self, affect=self.live, live=None, revision=1)


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """Where what a party feels turned into something else, and stayed so."""

    participant: str
    at_us: int
    before: Label
    after: Label
    confidence: float
    """In [0, 1]: that both feelings were there."""


@dataclass(frozen=True, slots=True)
class EarlierCall:
    """What a call of the same customer, before this one, was like."""

    days_ago: float
    """When it was; at least 0."""
    mood: Label | None = None
    """How the customer mostly sounded at its end; None when that is not known."""
    outcome: CallOutcome | None = None
    topic: str = ""
    """What it was about, in the site's own words."""
    open_promise: str = ""
    """What was promised then and is not done yet; empty when nothing is open."""


@dataclass(frozen=True, slots=True)
class CustomerHistory:
    """What the caller's systems know of a customer before the call."""

    calls: tuple[EarlierCall, ...]
    """In any order."""

    def within(self, days: float) -> tuple[EarlierCall, ...]:
        """The calls of the last so many days, latest first."""
        return tuple(sorted((c for c in self.calls if c.days_ago <= days), key=lambda c: c.days_ago))


@dataclass(frozen=True, slots=True)
class Suggestion:
    """Something to do, with the reason. Never carried out by the service itself.

    A later one with the same id replaces it: the same action has been found due again before it expired.
    """

    id: str
    kind: SuggestionKind
    action: str
    """Machine-readable, e.g. `queue:retention` or `say:acknowledge`."""
    text: str
    """For a person: at most 12 words, the action first."""
    reason: str
    """For a person: the evidence in one plain sentence."""
    participant: str
    """Whose affect gave rise to it."""
    because: tuple[str, ...]
    """Ids of the moments and utterances that are the evidence; empty where only earlier calls are."""
    confidence: float
    priority: Priority
    created_us: int
    expires_us: int
    policy: str
    """`name@version`."""
    revision: int = 0
    """Counts up with each replacement."""


@dataclass(frozen=True, slots=True)
class SuggestionFeedback:
    """What an agent made of a suggestion."""

    suggestion_id: str
    verdict: Verdict
    at_us: int
    label: Label | None = None
    """How the party felt in the agent's view; only of `corrected`."""
    text: str = ""
    """What would have been better, in the agent's words; only of `corrected`."""

    @property
    def correction(self) -> str | None:
        """What was right instead, in one line; None unless it was corrected."""
        return ": ".join(filter(None, (self.label, self.text))) or None


@dataclass(frozen=True, slots=True)
class SpeechTurn:
    """Who speaks when, from the speech gate."""

    participant: str
    span: Span


@dataclass(frozen=True, slots=True)
class VocalSummary:
    """Vocal features of one utterance, and their deviation from the speaker's baseline."""

    utterance_id: str
    participant: str
    span: Span
    features: VocalFeatures
    deviations: Mapping[str, float]
    """Feature name -> robust z-score against the speaker's baseline; empty while it is not ready."""
    baseline_ready: bool


@dataclass(frozen=True, slots=True)
class Dynamics:
    """Conversation figures of one party over the call so far. While it runs, a later one replaces an earlier one."""

    participant: str
    talk_us: int
    talk_share: float
    """Of all speech in the call, in [0, 1]."""
    overtalk_us: int
    interruptions: int
    """Times this party began while the other was speaking and both kept on for at least 0.5 s."""
    longest_silence_us: int
    """Of the whole call: nobody spoke, and everybody could be heard."""
    words_per_minute: float | None
    """Words per minute of this party's own speech; None when nothing was recognised."""
    until_us: int = 0
    """What was said up to here is counted."""
    successful_interruptions: int = 0
    """Of `interruptions`: the other stopped, and this party kept the floor."""
    silence_us: int = 0
    """Of the whole call, in total …"""
    silence_share: float = 0.0
    """… and its share in the time in which everybody could be heard, in [0, 1]."""
    responses: int = 0
    """Times this party began after another had ended, without overlap, and with nothing missing in between."""
    response_median_us: int | None = None
    """From the other's end to the own start, to 20 ms, at most 30 s; None without responses."""
    response_p90_us: int | None = None
    """90th percentile of the same."""
    words_per_minute_now: float | None = None
    """Over the last 30 s of own speech."""
    monologue_us: int = 0
    """Own speech since another's turn last lasted 1 s …"""
    longest_monologue_us: int = 0
    """… and the longest such stretch."""


@dataclass(frozen=True, slots=True)
class Interruption:
    """One party began while another was speaking, and both spoke for at least 0.5 s."""

    by: str
    of: str
    span: Span
    """While both spoke."""
    overlap_us: int
    successful: bool
    """The other stopped, and the one who interrupted spoke on alone for at least 0.5 s."""


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stretch of the call is for. A later one with the same id replaces it, and all that began after it."""

    id: str
    """`s-0`, `s-1`, … in time order."""
    name: StageName
    span: Span
    confidence: float
    """Mean posterior probability of its utterances, in [0, 1]."""
    because: tuple[str, ...]
    """Ids of the utterances that speak for it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that limits what the timeline can say, in plain words."""

    code: str
    """Stable, e.g. `clipped_audio`, `baseline_not_ready`."""
    message: str
    at_us: int
    participant: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a party's cameras showed at a key moment."""

    id: str
    at_us: int
    participant: str
    because: str
    """Id of the suggestion that it was taken for."""
    jpeg_base64: str
    """Front and rear side by side, labelled, other people's faces blurred."""


Output = (
    Utterance | Moment | Suggestion | SpeechTurn | VocalSummary | Dynamics | Stage | Notice | Snapshot | Participant
)
"""What a call session yields while it runs. A later item with the same id replaces the earlier one."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence worth acting on: the problem, a promise, or a question that was left unanswered."""

    kind: FactKind
    participant: str
    """Who said it."""
    utterance_id: str
    span: Span
    """When it was said; the whole utterance where word times are not known."""
    text: str
    """As in the utterance, or in its English translation."""


@dataclass(frozen=True, slots=True)
class Highlight:
    """One of the moments worth looking at first."""

    moment_id: str
    at_us: int
    participant: str
    label: Label
    probability: float
    quote: str
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    lines: tuple[str, ...]
    """Up to three: what it was about, how it went, what turned it."""
    highlights: tuple[Highlight, ...]
    """Up to five, in time order."""


@dataclass(frozen=True, slots=True)
class Score:
    """How a stretch of the call felt to one party."""

    span: Span
    score: float | None
    """Mean valence of what is known, from -5 unpleasant to 5 pleasant; None where nothing is."""
    known_us: int
    """How much of the stretch has a label other than `unknown`."""
    labels: Mapping[Label, float]
    """Label -> share of the known time, in [0, 1], summing to 1; empty where nothing is known."""


@dataclass(frozen=True, slots=True)
class Driver:
    """What goes with the most unpleasant or most pleasant seconds of a party."""

    toward: Toward
    kind: DriverKind
    name: str
    """A modality, the kind of a cue, or the name of a stage."""
    share: float
    """In [0, 1]. Of a modality: its part in what pulled those seconds there; of a cue or a stage: of their time."""


@dataclass(frozen=True, slots=True)
class PartyScores:
    """How the call as a whole felt to one party who is no agent."""

    participant: str
    overall: Score
    quarters: tuple[Score, ...]
    """Four, which partition the call."""
    trajectory: Trajectory
    drivers: tuple[Driver, ...]
    """Unpleasant ones first."""


@dataclass(frozen=True, slots=True)
class CallTimeline:
    """Everything known of one call; what `--json` writes and every other export is made from."""

    name: str
    duration_us: int
    rate_hz: int
    """Of the source audio; 0 of a written conversation."""
    participants: tuple[Participant, ...]
    utterances: tuple[Utterance, ...]
    moments: tuple[Moment, ...]
    """By time, then participant; final ones only."""
    suggestions: tuple[Suggestion, ...]
    speech: tuple[SpeechTurn, ...]
    vocal: tuple[VocalSummary, ...]
    dynamics: tuple[Dynamics, ...]
    summary: Summary
    notices: tuple[Notice, ...]
    models: Mapping[str, str]
    """Task -> `name@version` of what produced it."""
    schema: str = field(default="affectline.timeline/1")
    facts: tuple[Fact, ...] = ()
    """By time."""
    snapshots: tuple[Snapshot, ...] = ()
    """By time; of parties who agreed."""
    feedback: tuple[SuggestionFeedback, ...] = ()
    """By time; the last one for each suggestion."""
    history: CustomerHistory | None = None
    """What was known of the customer before the call."""
    changes: tuple[ChangePoint, ...] = ()
    """By time."""
    scores: tuple[PartyScores, ...] = ()
    """One for each party but agents."""
    interruptions: tuple[Interruption, ...] = ()
    """By time."""
    stages: tuple[Stage, ...] = ()
    """By time, without gaps from the first utterance to the end of the call."""

    @property
    def written(self) -> bool:
        """Whether it is a chat or an e-mail thread; nothing of it was heard."""
        return self.rate_hz == 0


def muted_spans(timeline: CallTimeline) -> dict[int, list[Span]]:
    """Channel -> when personal data was said on it, with a margin for words whose times are not exact."""
    channels = {party.id: party.channel for party in timeline.participants}
    found: dict[int, list[Span]] = {}
    for utterance in timeline.utterances:
        for each in () if utterance.written else utterance.redactions:
            start_us = max(0, each.span.start_us - MUTE_MARGIN_US)
            span = Span(start_us, each.span.end_us + MUTE_MARGIN_US)
            found.setdefault(channels[utterance.participant], []).append(span)
    return found
