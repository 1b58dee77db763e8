"""One call from its first sample to its last moment.

All channels advance together in frames of the speech gate, so what comes out depends on the media alone and not on
how it was cut into chunks: a call streamed live and the same call read from a file end in the same timeline. They
advance when something can become known, many frames at a time: a network that is asked for one frame costs as much as
one that is asked for ten.
"""

import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from affectline.models.errors import InvalidInputError
from affectline.models.labels import Label
from affectline.models.ports import (
    RATE_HZ,
    AcousticEncoder,
    Diarizer,
    Expression,
    FaceDetector,
    Recogniser,
    SpeakerEncoder,
    SpeechGate,
    TextAffect,
    VoiceAffect,
)
from affectline.models.signals import (
    F32,
    AffectEstimate,
    AffectScores,
    AudioChunk,
    EncodedFrame,
    FeatureStats,
    Gap,
    Modality,
    Span,
    TextEvent,
    VideoFrame,
    VocalFeatures,
)
from affectline.pipelines.audio import ChannelAudio
from affectline.pipelines.changes import change_points
from affectline.pipelines.cues import CueLexicon
from affectline.pipelines.dynamics import Conversation, cutting_in
from affectline.pipelines.face import FaceSeconds, FaceStream
from affectline.pipelines.facts import find_facts
from affectline.pipelines.fusion import AffectFilter, fuse
from affectline.pipelines.language import written_language
from affectline.pipelines.onset import AngerWatch
from affectline.pipelines.pace import UNHURRIED, Pace
from affectline.pipelines.pictures import decode, turned
from affectline.pipelines.policy import PolicyEngine, PolicyPack
from affectline.pipelines.redaction import find_personal, redact
from affectline.pipelines.scores import score_parties
from affectline.pipelines.segmenter import Segment, Segmenter
from affectline.pipelines.snapshots import SnapshotMaker
from affectline.pipelines.stages import StageTracker
from affectline.pipelines.summary import summarise
from affectline.pipelines.text import TextStage, Understood, seconds_to_say
from affectline.pipelines.timeline import (
    Absence,
    Affect,
    CallTimeline,
    Camera,
    Consent,
    Contributor,
    CustomerHistory,
    Dynamics,
    Moment,
    Notice,
    Output,
    Participant,
    Role,
    SpeechTurn,
    Stage,
    Suggestion,
    SuggestionFeedback,
    Utterance,
    VocalSummary,
)
from affectline.pipelines.transcript import Reading, Transcriber
from affectline.pipelines.video import StreamDecoder
from affectline.pipelines.vocal import CALM_STRESS, SpeakerBaseline, VocalStream, stress
from affectline.pipelines.vocal import MODEL as STRESS_MODEL
from affectline.pipelines.voice import SECOND_US, site_features, voice_estimates

MAX_CHANNELS = 8
RATES_HZ = range(8_000, 192_001)
PADDING_SAMPLES = 3 * RATE_HZ // 10
"""Sound before and after an utterance that the encoder hears too, so that no soft start is cut."""
MAX_LAG_S = 5
"""A channel this far behind another has lost its media."""
PICTURES_LATE_US = 1_000_000
"""A moment waits so long for pictures that come later than its sound."""
FIGURES_EVERY_US = 5_000_000
"""Conversation figures are told so often, in media time."""
HOLD_US = 2_000_000
"""A hold of a channel that lasts so long is a stage of the call."""
PARTIAL_EVERY_US, PARTIAL_SHARE = 1_500_000, 0.25
"""A partial result comes so long after the one before; later, after this share of what has been said, so that a long
utterance costs no more per second than a short one."""
MIN_PARTIAL_US = 1_000_000
ASK_AGAIN_FRAMES = 4
"""A partial result for which there was no time is tried again so much later."""
DIGITAL_SILENCE = 1e-10
"""Mean square; what is quieter was muted, and says nothing of the line's noise."""
NOISE_FRAMES = 100
"""Frames without speech that the noise floor is the median of."""
MIN_OVERLAP_US = 200_000
"""An utterance speaks for a second from this overlap on."""
SITE_QUALITY = 0.5
"""A site baseline learns from sound at least this good."""
MIN_QUALITY = 0.1
"""A poorer input is an absence, not a contribution."""
WHISPER_DB, VOICE_DB = 1.0, 5.0
"""Harmonics-to-noise ratio up to which a voice says nothing, and from which it counts fully. By convention: a whisper
has next to no harmonics, a voiced telephone voice mostly 5 dB or more."""
MAX_WRITTEN = 5_000
"""Written turns, changes of consent and feedback on suggestions taken in one call."""
MAX_NOTED = 1_000
"""Notices of one code that were found outside of a call and are kept: a sender of bad messages fills no memory."""
MAX_TEXT_CHARACTERS = 16_384
MAX_FEEDBACK_CHARACTERS = 500
EXCITED: frozenset[Label] = frozenset(("frustrated", "angry", "anxious"))
"""A speaker's usual voice is not learnt from utterances that mostly sound or read like this."""


@dataclass(frozen=True, slots=True)
class ModelSet:
    """The networks that all calls share."""

    gate: SpeechGate
    encoder: AcousticEncoder
    recogniser: Recogniser
    voice: VoiceAffect
    text: TextAffect
    face_detector: FaceDetector
    expression: Expression
    speakers: SpeakerEncoder
    cues: CueLexicon
    versions: Mapping[str, str]
    """Task -> `name@version`, of what every call may use: not of the diarizer."""
    diarizer: Diarizer | None = None
    """Tells voices of recordings apart; None leaves it to our own search."""


@dataclass(frozen=True, slots=True)
class CallConfig:
    """What is known of a call before its first sample."""

    name: str
    participants: tuple[Participant, ...]
    rate_hz: int
    """Of the audio that will come."""
    language: str | None = None
    """ISO 639-1 when known; None detects it per utterance."""
    interim_results: bool = False
    """Also yield partial transcripts and provisional moments while someone speaks."""
    cameras: tuple[Camera, ...] = ()
    history: CustomerHistory | None = None
    """What is known of the customer before the call."""
    live: bool = False
    """The media comes as it happens: results are due at once, and under load some work is left out; it is told."""

    def __post_init__(self) -> None:
        channels = [p.channel for p in self.participants]
        ids = [p.id for p in self.participants]
        if not self.participants:
            raise InvalidInputError("expected at least one participant, found none")
        if len(set(ids)) < len(ids) or not all(ids):
            raise InvalidInputError(f"expected participants with ids of their own, found {', '.join(ids)}")
        if len(set(channels)) < len(channels) or not all(0 <= c < MAX_CHANNELS for c in channels):
            raise InvalidInputError(
                f"expected a channel of its own from 0 to {MAX_CHANNELS - 1} for each participant, "
                f"found {', '.join(map(str, channels))}"
            )
        for camera in self.cameras:
            if camera.participant not in ids:
                raise InvalidInputError(f"expected a participant of {', '.join(ids)}, found {camera.participant!r}")
            if camera.rotation_degrees not in (0, 90, 180, 270):
                raise InvalidInputError(
                    f"expected a turn of 0, 90, 180 or 270 degrees, found {camera.rotation_degrees}"
                )
        for names in ([c.id for c in self.cameras], [c.participant for c in self.cameras if c.facing == "front"]):
            if len(set(names)) < len(names) or not all(names):
                raise InvalidInputError("expected an id of its own for each camera, and one front camera per party")
        if self.rate_hz not in RATES_HZ:
            raise InvalidInputError(
                f"expected a sample rate from {RATES_HZ[0]} to {RATES_HZ[-1]} Hz, found {self.rate_hz}"
            )


@dataclass(frozen=True, slots=True)
class ConsentChange:
    """A party's consent from here on in the stream."""

    participant: str
    consent: Consent
    biometric_basis: str | None = None


Input = AudioChunk | VideoFrame | EncodedFrame | TextEvent | Gap | ConsentChange | SuggestionFeedback


@dataclass(slots=True)
class _Second:
    """What is known of one second of one party before it becomes a moment."""

    estimates: list[AffectEstimate] = field(default_factory=list)
    absent: dict[Modality, str] = field(default_factory=dict)
    stress: float | None = None
    power: float = 0.0
    """Sum of the frames' mean squares."""
    frames: int = 0
    speech_us: int = 0
    withheld: str | None = None


class _Party:
    """One participant's channel and everything that runs along it."""

    def __init__(self, participant: Participant, config: CallConfig, gate: SpeechGate, affect: AffectFilter) -> None:
        self.participant = participant
        self.affect = affect
        self.anger = AngerWatch()
        self.audio = ChannelAudio(config.rate_hz, gate.frame_samples)
        self.gate = gate.open()
        self.segmenter = Segmenter(1000 * gate.frame_samples / RATE_HZ)
        self.baseline = SpeakerBaseline()
        self.seconds: dict[int, _Second] = defaultdict(_Second)
        self.next_second = 0
        self.heard = False
        """Whether any sound came that may be used."""
        self.partial_us = 0
        """When the last partial result of the open utterance was made …"""
        self.draft: tuple[int, ...] = ()
        """… and the recogniser's tokens of it."""
        self.read_until = 0
        """Sample up to which sound has been read as part of an utterance."""
        self.languages: Counter[str] = Counter()
        """Language -> characters said in it."""
        self.noise_db: deque[float] = deque(maxlen=NOISE_FRAMES)
        self.face: FaceSeconds | None = None
        """What a front camera shows of them."""
        self.snapshots: SnapshotMaker | None = None
        """For who agreed that pictures are kept."""

    @property
    def withheld(self) -> str | None:
        """Why nothing of this party may be used now."""
        consent = self.participant.consent
        return None if consent == "granted" else f"consent {consent}"

    def next_partial_us(self, start_us: int) -> int:
        """When the next partial result is due of the utterance that began at `start_us`."""
        last_us = max(self.partial_us, start_us)
        share_us = math.ceil((last_us - PARTIAL_SHARE * start_us) / (1 - PARTIAL_SHARE))
        return max(start_us + MIN_PARTIAL_US, last_us + PARTIAL_EVERY_US, share_us)


@dataclass(frozen=True, slots=True)
class _Voice:
    """What one utterance's sound is like."""

    features: VocalFeatures
    by_second: Mapping[int, VocalFeatures]
    """Second of the call -> its features."""
    quality: float
    """How fit the sound is for judging the voice, in [0, 1] …"""
    unfit: str
    """… and what takes from it, in plain words."""


class CallSession:
    """Not thread-safe: one call's inputs are pushed one after the other."""

    def __init__(
        self,
        config: CallConfig,
        models: ModelSet,
        policies: PolicyPack,
        *,
        site: FeatureStats | None = None,
        learn: Callable[[F32], None] | None = None,
        pace: Pace = UNHURRIED,
    ) -> None:
        """`site`: how voices usually sound here. `learn` is given the call's voice features [n, k] when it ends.

        `pace`: when heavy work may be done, and what of it.
        """
        if config.language is not None and config.language not in models.recogniser.languages:
            raise InvalidInputError(f"expected a language the recogniser knows, found {config.language!r}")
        self._config = config
        self._models = models
        self._pace = pace
        self._site = site
        self._learn = learn
        self._windows: list[F32] = []
        """Voice features of the call, for the site baseline."""
        self._priors = {model.model: model.prior for model in (models.voice, models.text, models.expression)}
        self._transcriber = Transcriber(models.encoder, models.recogniser)
        self._text = TextStage(models.text, models.cues, config.participants)
        self._parties = {p.id: _Party(p, config, models.gate, AffectFilter(self._priors)) for p in config.participants}
        self._channels = {party.participant.channel: party for party in self._parties.values()}
        self._cameras = {camera.id: camera for camera in config.cameras}
        self._streams = {camera.id: StreamDecoder(camera.codec) for camera in config.cameras if camera.codec}
        for camera in config.cameras:
            if camera.facing == "front":
                stream = FaceStream(models.face_detector, models.expression)
                face = FaceSeconds(camera.participant, stream, models.expression.model)
                self._parties[camera.participant].face = face
            party = self._parties[camera.participant]
            if party.participant.pictures_agreed and party.snapshots is None:
                party.snapshots = SnapshotMaker(camera.participant, models.face_detector)
        self._engine = PolicyEngine(policies, config.participants, config.history)
        self._conversation = Conversation([p.id for p in config.participants])
        self._stages = StageTracker(config.participants)
        self._held_from: int | None = None
        """Frame at which a hold began; None while nobody is on hold."""
        self._frame_samples = models.gate.frame_samples
        self._frame = 0
        """Frames that every channel has gone through."""
        self._due = 0
        """Frames from which on more can become known."""
        self._finished = False
        self._untranslated = False
        """Whether there was no time to translate what was said last."""
        self._events = 0
        """Written turns, changes of consent and feedback so far."""
        self._languages: Counter[str] = Counter()
        """Of all parties: the guess for one who has not said much yet."""
        self._utterances: list[Utterance] = []
        self._moments: list[Moment] = []
        self._suggestions: dict[str, Suggestion] = {}
        """By id, each as it is now."""
        self._feedback: dict[str, SuggestionFeedback] = {}
        """By the suggestion's id."""
        self._turns: list[SpeechTurn] = []
        self._vocal: list[VocalSummary] = []
        self._notices: list[Notice] = []

    @property
    def received_us(self) -> int:
        """Media time up to which input has come."""
        return max(party.audio.received_us for party in self._parties.values())

    @property
    def idle_until_us(self) -> int:
        """Media time up to which sound without a loss is only kept, in next to no time: nothing can become known."""
        return self._frame_us(self._due)

    @property
    def final_us(self) -> int:
        """Media time up to which moments will not change any more."""
        return min(min(p.next_second * SECOND_US, self.received_us) for p in self._parties.values())

    def push(self, item: Input) -> list[Output]:
        """Takes the next input; gives what became known. Raises InvalidInputError and leaves the call as it was."""
        if self._finished:
            raise InvalidInputError("expected nothing after the end of the call, found more input")
        match item:
            case AudioChunk():
                party = self._channel(item.channel)
                self._give_up_laggards(party)
                party.audio.push(item, withheld=party.withheld)
                return self._collect(self._advance()) if self._is_due else []
            case Gap():
                audio = self._channel(item.channel).audio
                audio.skip((item.span.end_us - audio.received_us) * self._config.rate_hz // 1_000_000, item.reason)
                return self._collect(self._advance()) if self._is_due else []
            case TextEvent():
                return self._collect(self._write(item))
            case ConsentChange():
                return self._collect(self._change_consent(item))
            case VideoFrame() | EncodedFrame():
                return self._collect(self._watch(item))
            case SuggestionFeedback():
                return self._collect(self._judge(item))

    def join(self, participant: Participant) -> list[Output]:
        """A further party, on a channel of their own, from here on. The other channels have come equally far.

        Gives what became known before.
        """
        outputs = self._collect(self._advance())
        self._config = replace(self._config, participants=(*self._config.participants, participant))
        party = _Party(participant, self._config, self._models.gate, AffectFilter(self._priors))
        first = next(iter(self._parties.values()))
        party.audio.begin(self._frame, first.audio.received_samples)
        party.segmenter.begin(self._frame)
        party.next_second = self._frame_us(self._frame) // SECOND_US
        self._parties[participant.id] = self._channels[participant.channel] = party
        self._conversation.join(participant.id)
        self._engine.join(participant)
        self._stages.know(participant)
        self._text.know(participant)
        return outputs

    def change_role(self, participant: str, role: Role) -> None:
        """What is known of a party's side from here on; what was said before stays as it was judged."""
        party = self._party(participant)
        party.participant = replace(party.participant, role=role)
        self._engine.know(party.participant)
        self._stages.know(party.participant)
        self._text.know(party.participant)

    def note(self, notice: Notice) -> None:
        """Keeps what limits this call and was found outside of it, for the timeline; of one code up to MAX_NOTED."""
        if sum(each.code == notice.code for each in self._notices) < MAX_NOTED:
            self._notices.append(notice)

    def finish(self) -> list[Output]:
        """The call has ended: everything still open becomes final."""
        if self._finished:
            return []
        self._finished = True
        return self._collect(self._end())

    def timeline(self) -> CallTimeline:
        """The call so far; the whole call after `finish`, each moment in the light of those that came after it."""
        participants = tuple(party.participant for party in self._parties.values())
        known = self._smoothed() if self._finished else self._moments
        moments = tuple(sorted(known, key=lambda m: (m.span.start_us, m.participant)))
        utterances = tuple(sorted(self._utterances, key=lambda u: (u.span, u.participant)))
        stages = self._stages.stages(self.received_us, over=self._finished)
        return CallTimeline(
            name=self._config.name,
            duration_us=self.received_us,
            rate_hz=self._config.rate_hz,
            participants=participants,
            utterances=utterances,
            moments=moments,
            suggestions=tuple(self._suggestions.values()),
            speech=tuple(sorted(self._turns, key=lambda t: (t.span, t.participant))),
            vocal=tuple(sorted(self._vocal, key=lambda v: (v.span, v.participant))),
            dynamics=self._conversation.figures(*self._talk()),
            summary=summarise(participants, utterances, moments),
            notices=tuple(self._notices),
            models={**self._models.versions, "vocal_stress": STRESS_MODEL},
            snapshots=tuple(s for party in self._parties.values() if party.snapshots for s in party.snapshots.taken),
            facts=find_facts(participants, utterances),
            feedback=tuple(sorted(self._feedback.values(), key=lambda f: (f.at_us, f.suggestion_id))),
            history=self._config.history,
            changes=change_points(moments),
            scores=score_parties(participants, utterances, moments, self.received_us, stages=stages),
            interruptions=self._conversation.interruptions(*self._talk()),
            stages=stages,
        )

    def _smoothed(self) -> Iterator[Moment]:
        """The moments with what came after them."""
        later = {name: iter(party.affect.smoothed()) for name, party in self._parties.items()}
        for moment in self._moments:
            affect = next(later[moment.participant])
            changed = affect != moment.affect
            yield replace(moment, affect=affect, live=moment.affect, revision=2) if changed else moment

    def _channel(self, channel: int) -> _Party:
        try:
            return self._channels[channel]
        except KeyError:
            known = ", ".join(map(str, sorted(self._channels)))
            raise InvalidInputError(f"expected media of channel {known}, found channel {channel}") from None

    def _party(self, participant: str) -> _Party:
        try:
            return self._parties[participant]
        except KeyError:
            raise InvalidInputError("expected the id of a participant of this call, found another one") from None

    def _collect(self, items: Iterator[Output]) -> list[Output]:
        """Keeps what is final, and lets stages and policies see it."""
        collected: list[Output] = []
        for item in items:
            collected += self._keep(item)
        return collected

    def _keep(self, item: Output) -> Iterator[Output]:
        """The item, and what follows from it."""
        yield item
        match item:
            case Utterance(final=True):
                self._utterances.append(item)
                self._conversation.said(item)
            case Moment(final=True):
                self._moments.append(item)
            case SpeechTurn():
                self._turns.append(item)
                self._conversation.turn(item)
            case VocalSummary():
                self._vocal.append(item)
            case Notice():
                self._notices.append(item)
        yield from self._suggested(self._engine.feed(item))
        if isinstance(item, Utterance) and item.final:
            for stage in self._stages.feed(item):
                yield from self._keep(stage)

    def _suggested(self, suggestions: Sequence[Suggestion]) -> Iterator[Output]:
        """The suggestions, each with a picture of its moment where one may be kept."""
        for suggestion in suggestions:
            self._suggestions[suggestion.id] = suggestion
            yield suggestion
            party = self._parties.get(suggestion.participant)
            if suggestion.revision == 0 and party and party.snapshots and party.participant.biometric_allowed:
                snapshot = party.snapshots.take(suggestion.created_us, suggestion.id)
                if snapshot is not None:
                    yield snapshot

    def _notice(self, code: str, message: str, participant: str | None = None) -> Iterator[Notice]:
        """Said once per call and party."""
        if not any((n.code, n.participant) == (code, participant) for n in self._notices):
            yield Notice(code, message, min(self._frame_us(self._frame), self.received_us), participant)

    def _frame_us(self, frame: int) -> int:
        return frame * self._frame_samples * 1_000_000 // RATE_HZ

    def _give_up_laggards(self, speaking: _Party) -> None:
        """Others' channels that are too far behind when more comes have lost their media: nobody waits for them."""
        for party in self._parties.values():
            behind_us = speaking.audio.received_us - party.audio.received_us
            if behind_us > MAX_LAG_S * 1_000_000:
                party.audio.skip(behind_us * self._config.rate_hz // 1_000_000, party.withheld or "loss")

    @property
    def _is_due(self) -> bool:
        """Whether going on may tell something; media that is missing ends an utterance at once."""
        parties = self._parties.values()
        return min(party.audio.frames for party in parties) >= self._due or any(
            party.segmenter.open_start is not None and party.audio.missing_from(self._frame) for party in parties
        )

    def _next_due(self) -> int:
        """Frames by which a second is over, an utterance may end or a partial result is due."""
        second_us = (self._frame_us(self._frame) // SECOND_US + 1) * SECOND_US
        due = [self._frames(second_us)]
        for party in self._parties.values():
            if (end := party.segmenter.earliest_end) is not None:
                due.append(end)
            if (start := party.segmenter.open_start) is not None and self._config.interim_results:
                partial = self._frames(party.next_partial_us(self._frame_us(start)))
                due.append(partial if partial > self._frame else self._frame + ASK_AGAIN_FRAMES)
        return min(due)

    def _frames(self, us: int) -> int:
        """The fewest whole frames that reach so far."""
        return -(-us * RATE_HZ // (self._frame_samples * 1_000_000))

    def _advance(self) -> Iterator[Output]:
        """Takes every channel through the frames that all of them have."""
        parties = list(self._parties.values())
        ready = min(party.audio.frames for party in parties)
        gated = {party.participant.id: self._gate(party, self._frame, ready) for party in parties}
        for index in range(ready - self._frame):
            frames = [gated[party.participant.id][index] for party in parties]
            for party, (probability, mean_square, _) in zip(parties, frames, strict=True):
                yield from self._step(party, self._frame, probability, mean_square)
            yield from self._follow_gaps({reason for _, _, reason in frames if reason})
            self._frame += 1
            if self._frame_us(self._frame) // FIGURES_EVERY_US > self._frame_us(self._frame - 1) // FIGURES_EVERY_US:
                yield from self._figures()
        for party in parties:
            open_start = party.segmenter.open_start
            needed = self._frame if open_start is None else open_start
            party.audio.forget_before(needed * self._frame_samples - RATE_HZ)
        self._due = self._next_due()

    def _follow_gaps(self, reasons: set[str]) -> Iterator[Stage]:
        """What is missing of the frame, of whichever channel."""
        start_us, end_us = self._frame_us(self._frame), self._frame_us(self._frame + 1)
        if reasons:
            self._conversation.unheard(Span(start_us, end_us))
        if "hold" not in reasons:
            self._held_from = None
            return
        if self._held_from is None:
            self._held_from = self._frame
        held_us = self._frame_us(self._held_from)
        if start_us < held_us + HOLD_US <= end_us:
            yield from self._stages.hold(Span(held_us, end_us))

    def _figures(self) -> Iterator[Dynamics]:
        """Conversation figures up to now, what is being said included."""
        open_frames = [party.segmenter.open_start for party in self._parties.values()]
        self._conversation.advance(self._frame_us(min((self._frame, *(f for f in open_frames if f is not None)))))
        yield from self._conversation.figures(*self._talk())

    def _talk(self) -> tuple[int, dict[str, int]]:
        """Now, and since when each party has been speaking that has not ended."""
        since = {name: party.segmenter.open_start for name, party in self._parties.items()}
        speaking = {name: self._frame_us(frame) for name, frame in since.items() if frame is not None}
        return self.received_us if self._finished else self._frame_us(self._frame), speaking

    def _gate(self, party: _Party, start: int, end: int) -> list[tuple[float | None, float, str | None]]:
        """(speech probability, mean square, why there is no media) of frames start to end; probability None without."""
        reasons = [party.audio.gap_reason(frame) for frame in range(start, end)]
        pcm = party.audio.read(start * self._frame_samples, end * self._frame_samples)
        frames = pcm.reshape(-1, self._frame_samples)
        power = np.square(frames).mean(axis=1) if len(frames) else np.zeros(0)
        usable = np.array([reason is None for reason in reasons], bool)
        probabilities = iter(party.gate.feed(frames[usable].ravel()).tolist())
        for frame, reason in enumerate(reasons, start):
            if reason is not None:
                party.seconds[self._frame_us(frame) // SECOND_US].withheld = reason
        return [
            (next(probabilities) if reason is None else None, each, reason)
            for reason, each in zip(reasons, power.tolist(), strict=True)
        ]

    def _step(self, party: _Party, frame: int, probability: float | None, mean_square: float) -> Iterator[Output]:
        segmenter = party.segmenter
        if probability is None:
            for segment in segmenter.break_off():
                yield from self._close(party, segment)
            segmenter.skip()
        else:
            party.heard = True
            second = party.seconds[self._frame_us(frame) // SECOND_US]
            second.power += mean_square
            second.frames += 1
            for segment in segmenter.feed(probability):
                yield from self._close(party, segment)
            if segmenter.open_start is None:
                if mean_square > DIGITAL_SILENCE:
                    party.noise_db.append(_decibels(mean_square))
            elif self._config.interim_results:
                yield from self._partial(party, segmenter.open_start, frame + 1)
        settled = segmenter.frame if segmenter.open_start is None else segmenter.open_start
        waits_us = 0 if party.face is None else PICTURES_LATE_US
        yield from self._settle(party, max(0, self._frame_us(settled) - waits_us) // SECOND_US)

    def _read(
        self, party: _Party, start_frame: int, end_frame: int, *, goes_on: bool, final: bool
    ) -> tuple[F32, int, Reading]:
        """The sound of frames start to end, padded where the speech does not go on; its time; and what was heard."""
        start = max(party.read_until, start_frame * self._frame_samples - PADDING_SAMPLES)
        pcm = party.audio.read(start, end_frame * self._frame_samples + (0 if goes_on else PADDING_SAMPLES))
        start_us = start * 1_000_000 // RATE_HZ
        heard_most = (party.languages or self._languages).most_common(1)
        reading = self._transcriber.read(
            pcm,
            start_us,
            language=self._config.language,
            usual_language=heard_most[0][0] if heard_most else None,
            translates=self._translates if final else lambda language: False,
            # Not for a final reading: in int8 a draft can tip a near tie, and it is to be that of the recorded call.
            draft=() if final else party.draft,
        )
        party.draft = () if final else reading.transcription.tokens
        return pcm, start_us, reading

    def _translates(self, language: str) -> bool:
        """Whether words of this language are judged by what they mean in English."""
        if language in self._models.text.languages:
            return False
        self._untranslated = not self._pace.affords("translation")
        if self._untranslated:
            self._pace.left_out("translation")
        return not self._untranslated

    def _partial(self, party: _Party, start_frame: int, end_frame: int) -> Iterator[Output]:
        """Every so often, what is known of the utterance that someone is in the middle of."""
        start_us, now_us = self._frame_us(start_frame), self._frame_us(end_frame)
        if now_us < party.next_partial_us(start_us):
            return
        if not self._pace.affords("partial"):
            if now_us - max(party.partial_us, start_us) >= 2 * PARTIAL_EVERY_US:
                party.partial_us = now_us
                self._pace.left_out("partial")
                message = "There is more to do than time for it: some partial results are left out."
                yield from self._notice("partials_skipped", message)
            return
        party.partial_us = now_us
        with self._pace.turn("partial"):
            yield from self._tell_partial(party, start_frame, end_frame)

    def _tell_partial(self, party: _Party, start_frame: int, end_frame: int) -> Iterator[Output]:
        start_us, now_us = self._frame_us(start_frame), self._frame_us(end_frame)
        pcm, pcm_us, reading = self._read(party, start_frame, end_frame, goes_on=True, final=False)
        if not reading.transcription.text:
            return
        speech = (Span(start_us, now_us),)
        said = self._understand(party, speech[0], reading, final=False)
        yield said.utterance
        voice = _hear(party, reading, pcm, pcm_us, speech)
        estimates, absent = self._estimates(party, reading, voice, said, pcm_us, speech)
        now = {}
        for second in range(party.next_second, -(-now_us // SECOND_US)):
            known = party.seconds[second]
            said_now = [e for e in estimates if _within(second, e)]
            spoken = _second_span(second).overlap_us(speech[0]) > 0
            now[second] = replace(
                known, estimates=known.estimates + said_now, absent=known.absent | (absent if spoken else {})
            )
        for moment in self._moments_of(party, now, final=False):
            if moment.span.end_us > start_us:
                yield moment

    def _close(self, party: _Party, segment: Segment) -> Iterator[Output]:
        """A stretch of speech has ended."""
        with self._pace.turn("final"):
            yield from self._tell(party, segment)

    def _tell(self, party: _Party, segment: Segment) -> Iterator[Output]:
        """Everything that can be said of a stretch of speech."""
        name = party.participant.id
        span = Span(self._frame_us(segment.start_frame), self._frame_us(segment.end_frame))
        speech = tuple(self._speech_spans(segment))
        yield SpeechTurn(name, span)
        for second in _seconds(span):
            party.seconds[second].speech_us += sum(_second_span(second).overlap_us(s) for s in speech)
        pcm, pcm_us, reading = self._read(
            party, segment.start_frame, segment.end_frame, goes_on=segment.goes_on, final=True
        )
        party.read_until = segment.end_frame * self._frame_samples
        if self._untranslated:
            message = "There is more to do than time for it: some of what was said is not translated to English."
            yield from self._notice("translation_skipped", message)
        if float(np.mean(np.abs(pcm) > 0.98)) > 0.01:
            yield from self._notice(
                "clipped_audio", "The recording is clipped: loudness and voice are less sure.", name
            )
        if not reading.transcription.text:
            for second in _seconds(span):
                party.seconds[second].absent |= dict.fromkeys(("voice", "text", "stress"), "no words recognised")
            return
        said = self._understand(party, span, reading, final=True)
        yield said.utterance
        self._count_language(party, said.utterance)
        voice = _hear(party, reading, pcm, pcm_us, speech)
        estimates, absent = self._estimates(party, reading, voice, said, pcm_us, speech)
        for second in _seconds(span):
            party.seconds[second].estimates += [e for e in estimates if _within(second, e)]
            party.seconds[second].absent |= absent
        if voice is not None:
            if self._learn and voice.quality >= SITE_QUALITY:
                self._windows += site_features(self._models.voice, reading.encoding, pcm_us, speech)
            yield self._vocal_summary(party, said.utterance, voice, speech)

    def _speech_spans(self, segment: Segment) -> Iterator[Span]:
        """The segment without its pauses."""
        edges = np.flatnonzero(np.diff([False, *segment.speech, False])) + segment.start_frame
        for start, end in edges.reshape(-1, 2).tolist():
            yield Span(self._frame_us(start), self._frame_us(end))

    def _count_language(self, party: _Party, utterance: Utterance) -> None:
        for languages in (party.languages, self._languages):
            languages[utterance.language] += len(utterance.text)

    def _understand(self, party: _Party, span: Span, reading: Reading, *, final: bool) -> Understood:
        heard, english = reading.transcription, reading.translation
        utterance = Utterance(
            id=f"u-{party.participant.id}-{span.start_us // 1000}",
            span=span,
            participant=party.participant.id,
            text=heard.text,
            words=tuple(replace(w, span=_clamp(w.span, span)) for w in heard.words),
            language=heard.language,
            confidence=heard.confidence,
            final=final,
            revision=int(final),
            translation=english.text if english else None,
        )
        quality = heard.confidence * (1 - heard.no_speech)
        return self._text.read(utterance, min(quality, english.confidence) if english else quality)

    def _estimates(
        self,
        party: _Party,
        reading: Reading,
        voice: _Voice | None,
        said: Understood,
        pcm_us: int,
        speech: Sequence[Span],
    ) -> tuple[list[AffectEstimate], dict[Modality, str]]:
        """What voice and words say of one utterance, and why the others say nothing."""
        name = party.participant.id
        span = Span(speech[0].start_us, speech[-1].end_us)
        estimates: list[AffectEstimate] = []
        absent: dict[Modality, str] = {}
        if voice is None:
            absent |= dict.fromkeys(("voice", "stress"), _no_voice(party))
        elif voice.quality < MIN_QUALITY:
            absent |= {"voice": voice.unfit, "stress": voice.unfit}
        else:
            estimates += voice_estimates(
                self._models.voice, name, reading.encoding, pcm_us, speech, voice.quality, self._site
            )
        if said.scores is None:
            absent["text"] = said.absent
        else:
            estimates.append(AffectEstimate(span, name, "text", said.scores, said.quality, self._models.text.model))
        return estimates, absent

    def _vocal_summary(
        self, party: _Party, utterance: Utterance, voice: _Voice, speech: Sequence[Span]
    ) -> VocalSummary:
        """Vocal features against the speaker's baseline; a second's stress comes half from it, half from the whole."""
        features, fit = voice.features, voice.quality >= MIN_QUALITY
        deviations = party.baseline.deviations(features) if fit else {}
        ready = party.baseline.ready
        seconds = [s for s in _seconds(utterance.span) if _second_span(s).overlap_us(utterance.span) >= MIN_OVERLAP_US]
        moods = [fuse(party.seconds[second].estimates, self._priors)[0] for second in seconds]
        excited = 2 * sum(mood.label in EXCITED for mood in moods) > len(moods)
        for second in seconds:
            if not deviations:
                reason = voice.unfit if ready or not fit else "speaker baseline not ready"
                party.seconds[second].absent["stress"] = reason
                continue
            near = party.baseline.deviations(voice.by_second[second]) if second in voice.by_second else {}
            level = stress({name: (score + near.get(name, score)) / 2 for name, score in deviations.items()})
            arousal = float(np.interp(level, (0, CALM_STRESS, 1), (-1, 0, 1)))
            party.seconds[second].stress = level
            party.seconds[second].estimates.append(
                AffectEstimate(
                    _second_span(second),
                    party.participant.id,
                    "stress",
                    AffectScores(None, None, arousal, None, 0.5, _unusual(deviations)),
                    voice.quality,
                    STRESS_MODEL,
                )
            )
        if fit:
            party.baseline.learn(features, sum(s.duration_us for s in speech), excited=excited)
        return VocalSummary(utterance.id, party.participant.id, utterance.span, features, deviations, ready)

    def _settle(self, party: _Party, until_second: int) -> Iterator[Moment]:
        """Makes the seconds before `until_second` final; those that become known together are judged together."""
        if party.next_second < until_second:
            numbers = range(party.next_second, until_second)
            party.next_second = until_second
            yield from self._moments_of(party, {n: party.seconds.pop(n, _Second()) for n in numbers}, final=True)
            if party.face is not None:
                party.face.forget_before(until_second)

    def _moments_of(self, party: _Party, seconds: Mapping[int, _Second], *, final: bool) -> Iterator[Moment]:
        """The next seconds of a party, without a gap."""
        faces = {number: self._face(party, number) for number in seconds}
        said = [
            [
                *known.estimates,
                *(face for face in (faces[number],) if not isinstance(face, str)),
                *cutting_in(party.participant.id, number, self._conversation.crosstalk(party.participant.id, number)),
            ]
            for number, known in seconds.items()
        ]
        answers = (party.affect.step if final else party.affect.look)(said)
        anger = (party.anger.step if final else party.anger.look)(said)
        for (number, known), (affect, contributors), level in zip(seconds.items(), answers, anger, strict=True):
            yield self._moment(party, number, known, faces[number], affect, contributors, level, final=final)

    def _face(self, party: _Party, second: int) -> AffectEstimate | str:
        """What is seen in a second, or why there is nothing to say of it."""
        if party.face is None:
            return "no video"
        return party.face.second(second) if party.participant.biometric_allowed else _no_face(party)

    def _moment(
        self,
        party: _Party,
        second: int,
        known: _Second,
        face: AffectEstimate | str,
        affect: Affect,
        contributors: tuple[Contributor, ...],
        anger: float | None,
        *,
        final: bool,
    ) -> Moment:
        present = {c.modality for c in contributors}
        usual = known.withheld or ("speech too short" if known.speech_us else "no speech")
        modalities: tuple[Modality, ...] = ("voice", "text", "stress")
        absent = [Absence(m, known.absent.get(m, usual)) for m in modalities if m not in present]
        if isinstance(face, str):
            absent.append(Absence("face", face))
        span = _second_span(second)
        return Moment(
            id=f"m-{party.participant.id}-{second}",
            span=span,
            participant=party.participant.id,
            affect=affect,
            contributors=contributors,
            absent=tuple(absent),
            stress=known.stress,
            level_dbfs=round(_decibels(known.power / known.frames), 1) if known.frames else None,
            speech_ratio=known.speech_us / SECOND_US,
            revision=int(final),
            final=final,
            anger=anger,
        )

    def _watch(self, frame: VideoFrame | EncodedFrame) -> Iterator[Output]:
        """One picture: of a front camera the face is judged; a rear camera's is not looked at.

        What is wrong with pictures is said once, not with each of them.
        """
        camera = self._cameras.get(frame.camera)
        if camera is None:
            message = "Pictures of a camera that the call was not opened with are left out."
            yield from self._notice("unknown_camera", message)
            return
        party, stream = self._parties[camera.participant], self._streams.get(camera.id)
        name = party.participant.id
        allowed = party.participant.biometric_allowed
        if stream and not (allowed and (camera.facing == "front" or party.snapshots)):
            stream.skip()
        if camera.facing == "rear" and not (party.snapshots and allowed):
            return
        if not allowed:
            yield from self._notice(
                "face_not_analysed", f"The face of {name} is not analysed: {_no_face(party)}.", name
            )
            return
        try:
            if stream and isinstance(frame, EncodedFrame):
                if frame.use == "skip":
                    message = f"Pictures of {name} take more time than there is; some are left out."
                    yield from self._notice("pictures_skipped", message, name)
                decoded = stream.decode(frame)  # whatever its time: later ones build on it
                if decoded is None:
                    return
                frame = decoded
            if not party.next_second * SECOND_US <= frame.at_us <= self.received_us + MAX_LAG_S * 1_000_000:
                yield from self._notice(*_out_of_time(name))
                return
            if camera.facing == "rear" and party.snapshots is not None:
                party.snapshots.rear(frame, camera.rotation_degrees)
                return
            picture = turned(decode(frame) if isinstance(frame, EncodedFrame) else frame, camera.rotation_degrees)
        except InvalidInputError as error:
            yield from self._notice("unusable_picture", f"Some pictures of {name} are left out: {error}.", name)
            return
        look = party.face.feed(picture) if party.face is not None else None
        if look is None:
            yield from self._notice(*_out_of_time(name))
        elif party.snapshots is not None:
            party.snapshots.front(picture, look)

    def _write(self, event: TextEvent) -> Iterator[Output]:
        """A written turn: words without a voice."""
        party = self._party(event.participant)
        text = event.text.strip()
        if not text or len(text) > MAX_TEXT_CHARACTERS:
            raise InvalidInputError(f"expected a turn of 1 to {MAX_TEXT_CHARACTERS} characters, found {len(text)}")
        if not 0 <= event.at_us <= self.received_us + MAX_LAG_S * 1_000_000:
            raise InvalidInputError(f"expected a turn at 0 to {self.received_us} us, found one at {event.at_us} us")
        self._count_event()
        if party.withheld:
            return
        first = max(event.at_us // SECOND_US, party.next_second)
        span = Span(first * SECOND_US, (first + seconds_to_say(text)) * SECOND_US)
        usual = party.languages.most_common(1)
        language = event.language or self._config.language or written_language(text, usual[0][0] if usual else None)
        name, number = event.participant, self._events
        turn = Utterance(f"t-{name}-{number}", span, name, text, (), language, 1.0, True, 1, written=True)
        said = self._text.read(turn, 1.0)
        yield said.utterance
        self._count_language(party, said.utterance)
        for second in _seconds(span):
            if said.scores is None:
                party.seconds[second].absent["text"] = said.absent
            else:
                estimate = AffectEstimate(
                    _second_span(second), name, "text", said.scores, said.quality, self._models.text.model
                )
                party.seconds[second].estimates.append(estimate)

    def _count_event(self) -> None:
        if self._events >= MAX_WRITTEN:
            raise InvalidInputError(
                f"expected at most {MAX_WRITTEN} written turns, consent changes and feedback, found more"
            )
        self._events += 1

    def _change_consent(self, change: ConsentChange) -> Iterator[Output]:
        party = self._party(change.participant)
        self._count_event()
        yield from self._advance()  # what was said before counts
        basis = change.biometric_basis or party.participant.biometric_basis
        party.participant = replace(party.participant, consent=change.consent, biometric_basis=basis)
        self._engine.consent(change.participant, change.consent)
        if party.withheld:
            party.segmenter.discard()
            party.draft = ()
        if not party.participant.biometric_allowed:
            if party.snapshots:
                party.snapshots.forget()
            for camera in self._cameras.values():
                if camera.participant == change.participant and camera.id in self._streams:
                    self._streams[camera.id].skip()
        message = f"Consent of {change.participant} is {change.consent} from here on."
        yield Notice("consent_changed", message, self._frame_us(self._frame), change.participant)

    def _judge(self, feedback: SuggestionFeedback) -> Iterator[Output]:
        """What an agent made of a suggestion; the last word counts."""
        about = self._engine.suggestion(feedback.suggestion_id)
        if about is None:
            raise InvalidInputError("expected the id of a suggestion of this call, found another one")
        correcting = feedback.label is not None or bool(feedback.text)
        if correcting != (feedback.verdict == "corrected"):
            raise InvalidInputError("expected a label or a text with `corrected`, and only with that")
        if len(feedback.text) > MAX_FEEDBACK_CHARACTERS:
            raise InvalidInputError(
                f"expected a correction of at most {MAX_FEEDBACK_CHARACTERS} characters, found {len(feedback.text)}"
            )
        if feedback.at_us < 0:
            raise InvalidInputError(f"expected a time of at least 0 us, found {feedback.at_us}")
        self._count_event()
        # Counts from what is decided next: nothing that was shown already depends on it.
        at_us = max(min(feedback.at_us, self.received_us), self._engine.now_us + 1)
        text = redact(feedback.text, find_personal(feedback.text, self._config.language or "en"))
        before = self._feedback.get(about.id)
        self._feedback[about.id] = replace(feedback, at_us=at_us, text=text)
        self._engine.judged(about.action, about.participant, feedback.verdict, at_us)
        if before is not None:
            message = f"Feedback on suggestion {about.id} is {feedback.verdict}; before it was {before.verdict}."
            yield Notice("feedback_replaced", message, at_us)

    def _end(self) -> Iterator[Output]:
        parties = list(self._parties.values())
        end_us = self.received_us
        for party in parties:
            behind = (end_us - party.audio.received_us) * self._config.rate_hz // 1_000_000
            party.audio.skip(behind, party.withheld or "loss")
            party.audio.finish()
        longest = max(party.audio.frames for party in parties)
        for party in parties:
            party.audio.fill(longest)
        yield from self._advance()
        for party in parties:
            for segment in party.segmenter.break_off():
                yield from self._close(party, segment)
            yield from self._settle(party, -(-end_us // SECOND_US))
            if party.withheld is None and not any(t.participant == party.participant.id for t in self._turns):
                what, code = ("speech was found", "no_speech") if party.heard else ("sound came", "no_sound")
                message = f"No {what} on the channel of {party.participant.id}."
                yield from self._notice(code, message, party.participant.id)
        yield from self._stages.finish(end_us)
        yield from self._conversation.figures(*self._talk())
        yield from self._suggested(self._engine.finish())
        if self._learn and self._windows:
            self._learn(np.stack(self._windows))


def _out_of_time(name: str) -> tuple[str, str, str]:
    """A notice's code, message and party."""
    message = (
        f"Pictures of {name} came with a time that is over, far ahead, or not after the last one's; they are left out."
    )
    return "picture_out_of_time", message, name


def _no_voice(party: _Party) -> str:
    return "role not known" if party.participant.role == "unknown" else "agent voice is not analysed"


def _no_face(party: _Party) -> str:
    return party.withheld or "agent face is not analysed"


def _second_span(second: int) -> Span:
    return Span(second * SECOND_US, (second + 1) * SECOND_US)


def _seconds(span: Span) -> range:
    return range(span.start_us // SECOND_US, -(-span.end_us // SECOND_US))


def _within(second: int, estimate: AffectEstimate) -> bool:
    needed_us = min(MIN_OVERLAP_US, estimate.span.duration_us)
    return _second_span(second).overlap_us(estimate.span) >= max(1, needed_us)


def _clamp(span: Span, within: Span) -> Span:
    start_us = min(max(span.start_us, within.start_us), within.end_us)
    return Span(start_us, max(start_us, min(span.end_us, within.end_us)))


def _decibels(mean_square: float) -> float:
    return float(10 * np.log10(max(mean_square, 1e-12)))


def _hear(party: _Party, reading: Reading, pcm: F32, pcm_us: int, speech: Sequence[Span]) -> _Voice | None:
    """The sound of one utterance, where the party's voice may be analysed; pcm [n] starts at `pcm_us`."""
    if not party.participant.biometric_allowed:
        return None
    times_us = pcm_us + np.arange(len(pcm)) * 1_000_000 // RATE_HZ
    spoken = np.zeros(len(pcm), bool)
    for span in speech:
        spoken |= (times_us >= span.start_us) & (times_us < span.end_us)
    stream = VocalStream(pcm_us * RATE_HZ // 1_000_000)
    by_second = dict(stream.feed(pcm, spoken) + stream.finish())
    features = stream.features()
    harmonicity_db = WHISPER_DB if features.hnr_db is None else features.hnr_db
    measures = (
        (_signal_quality(pcm, party.noise_db), "too noisy or clipped"),
        (float(np.interp(harmonicity_db, (WHISPER_DB, VOICE_DB), (0, 1))), "whispered, hoarse or noisy"),
        (1 - reading.transcription.no_speech, "hardly like clear speech"),
        (1 - _mixed_share(party, speech), "two voices at once"),
    )
    flaws = (*features.flaws, *(flaw for value, flaw in measures if value < 0.75))
    quality = features.quality * math.prod(value for value, _ in measures)
    return _Voice(features, by_second, quality, f"voice not fit for it: {', '.join(flaws) or 'too little voice'}")


def _mixed_share(party: _Party, speech: Sequence[Span]) -> float:
    ends = [(span.start_us * RATE_HZ // 1_000_000, span.end_us * RATE_HZ // 1_000_000) for span in speech]
    samples = sum(end - start for start, end in ends)
    return sum(party.audio.mixed_share(*each) * (each[1] - each[0]) for each in ends) / max(1, samples)


def _signal_quality(pcm: F32, noise_db: Sequence[float]) -> float:
    """How fit the sound is for judging a voice, in [0, 1]: 0 at 5 dB above the noise floor, 1 from 25 dB on.

    Clipping takes from it: none is left when a tenth of the samples is clipped.
    """
    ratio_db = _decibels(float(np.square(pcm).mean())) - float(np.median(noise_db)) if noise_db else 20.0
    clipped = float(np.mean(np.abs(pcm) > 0.98))
    return float(np.clip((ratio_db - 5) / 20, 0, 1) * np.clip(1 - 10 * clipped, 0, 1))


_UNUSUAL = {
    "f0_median_hz": ("higher than usual", "lower than usual"),
    "intensity_db": ("louder than usual", "quieter than usual"),
    "rate_syllables_s": ("faster than usual", "slower than usual"),
    "f0_range_semitones": ("livelier than usual", "flatter than usual"),
    "alpha_ratio_db": ("sharper than usual", "softer than usual"),
}


def _unusual(deviations: Mapping[str, float]) -> tuple[str, ...]:
    """What is far from the speaker's usual, the furthest first."""
    far = [(abs(z), _UNUSUAL[name][z < 0]) for name, z in deviations.items() if name in _UNUSUAL and abs(z) >= 1.5]
    return tuple(words for _, words in sorted(far, reverse=True))
