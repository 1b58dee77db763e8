"""Between protobuf messages and the types of the pipeline; the only place that knows both.

Towards the service, messages are checked: a MessageError breaks the protocol and ends the call, any
other InvalidInputError concerns one piece of media. Towards the wire, types are taken as they are.
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from typing import Any, Final

import numpy as np
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from affectline.models.errors import CapacityError, InvalidInputError
from affectline.models.signals import (
    F32,
    AffectEstimate,
    AffectScores,
    AudioChunk,
    EncodedFrame,
    Gap,
    GapReason,
    Span,
    TextEvent,
    VocalFeatures,
    Word,
)
from affectline.pipelines import g711
from affectline.pipelines.audio import MAX_JUMP_S
from affectline.pipelines.chat import MAX_LENGTH_US, MAX_PARTICIPANTS, ChatConfig
from affectline.pipelines.mono import MonoConfig
from affectline.pipelines.outcomes import (
    MAX_CORRECTION_CHARACTERS,
    MAX_NOTE_CHARACTERS,
    SCALES,
    CallDetails,
    Feedback,
    Outcome,
)
from affectline.pipelines.routing import Recommendation, RoutingContext
from affectline.pipelines.session import (
    MAX_CHANNELS,
    MAX_TEXT_CHARACTERS,
    MAX_WRITTEN,
    RATES_HZ,
    CallConfig,
    ConsentChange,
    Input,
)
from affectline.pipelines.speakers import MAX_SPEAKERS
from affectline.pipelines.timeline import (
    Absence,
    Affect,
    CallTimeline,
    Camera,
    ChangePoint,
    Consent,
    Contributor,
    Cue,
    CustomerHistory,
    Driver,
    Dynamics,
    EarlierCall,
    Fact,
    Highlight,
    Interruption,
    Moment,
    Notice,
    Output,
    Participant,
    PartyScores,
    Redaction,
    Score,
    Snapshot,
    SpeechTurn,
    Stage,
    Suggestion,
    SuggestionFeedback,
    Summary,
    Utterance,
    VocalSummary,
)
from affectline.protos.v1 import analyze_pb2, calls_pb2, recordings_pb2, routing_pb2, timeline_pb2

MAX_CAMERAS: Final = 8
MAX_EARLIER_CALLS: Final = 100
MAX_DAYS_AGO: Final = 36_500
MAX_DECLARED_CHARACTERS: Final = 64
MAX_MENU_UTTERANCES: Final = 50
MAX_MENU_CHARACTERS: Final = 2_000
MAX_CALL_ID_CHARACTERS: Final = 256
END_OF_TIME_S: Final = 4_102_444_800
"""Seconds from 1970 to 2100."""
TIMELINE_PART_BYTES: Final = 2**20
"""About how large a part of a timeline may become; callers take 4 MiB by default."""
MAX_PROBLEMS: Final = 20
"""As many are told at once: statuses travel in headers, which callers take up to 8 KiB of."""


class MessageError(InvalidInputError):
    """A message that breaks the protocol; the call cannot go on."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        """`problems`: (path of the field, what was expected and what was found)."""
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a session has come, in media time."""

    received_us: int
    final_us: int


Reply = Output | Cursor


_NO_DETAILS: Final = CallDetails("")


@dataclass(frozen=True, slots=True)
class RecordingConfig:
    """What is known of a recording before it is read."""

    name: str
    participants: tuple[Participant, ...]
    language: str | None
    request_id: str
    """Empty when the caller gave none."""
    video_participant: str | None = None
    """Whom the file's video shows; None: the only customer."""
    ignore_video: bool = False
    details: CallDetails = _NO_DETAILS
    voices: MonoConfig | None = None
    """All voices on one channel, instead of participants; `rate_hz` is the file's."""


def _values(enum: Any, prefix: str) -> dict[str, Any]:
    """Our name of each value of an enum, `_UNSPECIFIED` left out."""
    return {name.removeprefix(prefix).lower(): value for name, value in enum.items() if value}


def _names(values: Mapping[str, Any]) -> dict[Any, Any]:
    return {value: name for name, value in values.items()}


ROLES: Final = _values(timeline_pb2.Role, "ROLE_")
CONSENTS: Final = _values(timeline_pb2.Consent, "CONSENT_")
EMOTIONS: Final = _values(timeline_pb2.Emotion, "EMOTION_")
FACT_KINDS: Final = _values(timeline_pb2.FactKind, "FACT_KIND_")
STAGES: Final = _values(timeline_pb2.StageName, "STAGE_NAME_")
CUE_KINDS: Final = _values(timeline_pb2.CueKind, "CUE_KIND_")
PERSONAL_KINDS: Final = _values(timeline_pb2.PersonalKind, "PERSONAL_KIND_")
MODALITIES: Final = _values(timeline_pb2.Modality, "MODALITY_")
VERDICTS: Final = _values(timeline_pb2.Verdict, "VERDICT_")
OUTCOMES: Final = _values(timeline_pb2.CallOutcome, "CALL_OUTCOME_")
KINDS: Final = _values(timeline_pb2.SuggestionKind, "SUGGESTION_KIND_")
PRIORITIES: Final = _values(timeline_pb2.Priority, "PRIORITY_")
GAP_REASONS: Final = {
    name.replace("_", " "): value for name, value in _values(analyze_pb2.GapReason, "GAP_REASON_").items()
}
TRAJECTORIES: Final = _values(timeline_pb2.Trajectory, "TRAJECTORY_")
TOWARDS: Final = _values(timeline_pb2.Toward, "TOWARD_")
DRIVER_KINDS: Final = _values(timeline_pb2.DriverKind, "DRIVER_KIND_")
OUTCOME_KINDS: Final = _values(calls_pb2.OutcomeKind, "OUTCOME_KIND_")
FACINGS: Final = _values(analyze_pb2.CameraFacing, "CAMERA_FACING_")
VIDEO_CODECS: Final = _values(analyze_pb2.VideoCodec, "VIDEO_CODEC_")
ENCODINGS: Final = _values(analyze_pb2.AudioEncoding, "AUDIO_ENCODING_")
ROUTING_EVIDENCE: Final = _values(routing_pb2.RoutingEvidence, "ROUTING_EVIDENCE_")
NO_EVIDENCE: Final = routing_pb2.ROUTING_EVIDENCE_UNSPECIFIED
_ROLE_NAMES: Final = _names(ROLES)
_CONSENT_NAMES: Final = _names(CONSENTS)
_EMOTION_NAMES: Final = _names(EMOTIONS)
_FACT_KIND_NAMES: Final = _names(FACT_KINDS)
_STAGE_NAMES: Final = _names(STAGES)
_CUE_KIND_NAMES: Final = _names(CUE_KINDS)
_PERSONAL_KIND_NAMES: Final = _names(PERSONAL_KINDS)
_MODALITY_NAMES: Final = _names(MODALITIES)
_KIND_NAMES: Final = _names(KINDS)
_OUTCOME_NAMES: Final = _names(OUTCOMES)
_PRIORITY_NAMES: Final = _names(PRIORITIES)
_TRAJECTORY_NAMES: Final = _names(TRAJECTORIES)
_TOWARD_NAMES: Final = _names(TOWARDS)
_DRIVER_KIND_NAMES: Final = _names(DRIVER_KINDS)
_OUTCOME_KIND_NAMES: Final = _names(OUTCOME_KINDS)
_VERDICT_NAMES: Final = _names(VERDICTS)
_GAP_REASON_NAMES: Final = _names(GAP_REASONS)
_FACING_NAMES: Final = _names(FACINGS)
_VIDEO_CODEC_NAMES: Final = _names(VIDEO_CODECS)
_ENCODING_NAMES: Final = _names(ENCODINGS)


def _optional(message: Message, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


# Requests, as the service reads them


@dataclass(frozen=True, slots=True)
class AudioFormat:
    """How the audio of a call is written."""

    encoding: str
    """A key of ENCODINGS."""
    rate_hz: int
    channels: int

    @property
    def frame_bytes(self) -> int:
        """One sample of every channel."""
        return self.channels * {"linear16": 2, "mulaw": 1, "alaw": 1, "float32": 4}[self.encoding]


class _Check:
    """Collects what is wrong with a message, so that the caller sees all of it at once."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    def that(self, holds: bool, field: str, problem: str) -> None:
        if not holds:
            self.problems.append((field, problem))

    def length(self, text: str, field: str, low: int, high: int) -> None:
        self.that(low <= len(text) <= high, field, f"expected {low} to {high} characters, found {len(text)}")

    def done(self) -> None:
        if self.problems:
            raise MessageError(*self.problems[:MAX_PROBLEMS])


def _check_participants(
    check: _Check, path: str, messages: Sequence[timeline_pb2.Participant], most: int
) -> tuple[Participant, ...]:
    """All but their channels; nobody when they are too few or too many."""
    if not 1 <= len(messages) <= most:
        check.problems.append((path, f"expected 1 to {most} participants, found {len(messages)}"))
        return ()
    participants = []
    index_of: dict[str, int] = {}
    for index, message in enumerate(messages):
        field = f"{path}[{index}]"
        check.length(message.id, f"{field}.id", 1, 64)
        check.length(message.biometric_basis, f"{field}.biometric_basis", 0, 256)
        first = index_of.setdefault(message.id, index)
        check.that(first == index, f"{field}.id", f"expected an id of its own, found that of participants[{first}]")
        check.that(
            message.role in _ROLE_NAMES and _ROLE_NAMES[message.role] != "unknown",
            f"{field}.role",
            f"expected customer, agent or other, found {message.role}",
        )
        check.that(
            message.consent in {0, *_CONSENT_NAMES},
            f"{field}.consent",
            f"expected granted, pending or denied, found {message.consent}",
        )
        participants.append(participant_from_wire(message))
    return tuple(participants)


def _check_channels(check: _Check, participants: Sequence[Participant], channels: int) -> None:
    if not 1 <= channels <= MAX_CHANNELS:
        channels = MAX_CHANNELS
    owner_of: dict[int, int] = {}
    for index, participant in enumerate(participants):
        field, channel = f"config.participants[{index}].channel", participant.channel
        check.that(0 <= channel < channels, field, f"expected 0 to {channels - 1}, found {channel}")
        owner = owner_of.setdefault(channel, index)
        check.that(
            owner == index,
            field,
            f"expected a channel of its own, found {channel}, that of participants[{owner}]",
        )


def _check_language(check: _Check, field: str, language: str | None) -> None:
    check.that(
        language is None or re.fullmatch("[a-z]{2,3}", language) is not None,
        field,
        "expected an ISO 639-1 code such as `en`, found something else",
    )


def read_call_config(message: analyze_pb2.CallConfig) -> tuple[CallConfig | MonoConfig, AudioFormat]:
    """Raises MessageError naming every field that is missing, out of range or contradictory."""
    check = _Check()
    check.length(message.name, "config.name", 1, 256)
    check.that(
        message.encoding in _ENCODING_NAMES,
        "config.encoding",
        f"expected LINEAR16, MULAW, ALAW or FLOAT32, found {message.encoding}",
    )
    check.that(
        message.sample_rate_hertz in RATES_HZ,
        "config.sample_rate_hertz",
        f"expected {RATES_HZ.start} to {RATES_HZ.stop - 1}, found {message.sample_rate_hertz}",
    )
    check.that(
        1 <= message.audio_channel_count <= MAX_CHANNELS,
        "config.audio_channel_count",
        f"expected 1 to {MAX_CHANNELS}, found {message.audio_channel_count}",
    )
    language = _optional(message, "language")
    _check_language(check, "config.language", language)
    audio = AudioFormat(
        _ENCODING_NAMES.get(message.encoding, ""), message.sample_rate_hertz, message.audio_channel_count
    )
    if message.HasField("voices"):
        check.that(
            message.audio_channel_count == 1,
            "config.audio_channel_count",
            f"expected 1 with voices, found {message.audio_channel_count}",
        )
        check.that(not message.cameras, "config.cameras", "expected none with voices, found some")
        check.that(not message.HasField("history"), "config.history", "expected none with voices, found one")
        voices = _check_voices(check, message, language)
        check.done()
        return replace(voices, rate_hz=audio.rate_hz, interim_results=message.interim_results), audio
    participants = _check_participants(check, "config.participants", message.participants, MAX_CHANNELS)
    _check_channels(check, participants, message.audio_channel_count)
    cameras = _check_cameras(check, message.cameras, {participant.id for participant in participants})
    history = _check_history(check, "config.history", message.history) if message.HasField("history") else None
    check.done()
    return (
        CallConfig(
            name=message.name,
            participants=participants,
            rate_hz=message.sample_rate_hertz,
            language=language,
            interim_results=message.interim_results,
            cameras=cameras,
            history=history,
            live=True,
        ),
        audio,
    )


def _check_voices(
    check: _Check, message: analyze_pb2.CallConfig | recordings_pb2.RecordingConfig, language: str | None
) -> MonoConfig:
    """The configuration's `voices`; its rate is set by who knows it."""
    voices = message.voices
    check.that(not message.participants, "config.participants", "expected none with voices, found some")
    check.that(
        voices.consent == CONSENTS["granted"],
        "config.voices.consent",
        "expected granted: voices cannot be told apart before they are heard; found another one",
    )
    check.length(voices.biometric_basis, "config.voices.biometric_basis", 0, 256)
    check.that(
        0 <= voices.count <= MAX_SPEAKERS,
        "config.voices.count",
        f"expected 0 to {MAX_SPEAKERS}, found {voices.count}",
    )
    check.that(
        len(voices.roles) <= MAX_SPEAKERS and not (voices.roles and voices.count),
        "config.voices.roles",
        f"expected at most {MAX_SPEAKERS}, and none with a count; found others",
    )
    roles = tuple(_ROLE_NAMES.get(role, "unknown") for role in voices.roles[:MAX_SPEAKERS])
    check.that("unknown" not in roles, "config.voices.roles", "expected customer, agent or other, found another role")
    usable = 0 <= voices.count <= MAX_SPEAKERS and not roles
    return MonoConfig(
        name=message.name,
        rate_hz=0,
        consent="granted",
        language=language,
        roles=roles,
        count=(voices.count or None) if usable else None,
        biometric_basis=voices.biometric_basis or None,
    )


def _check_history(check: _Check, path: str, message: timeline_pb2.CustomerHistory) -> CustomerHistory:
    check.that(
        len(message.calls) <= MAX_EARLIER_CALLS,
        f"{path}.calls",
        f"expected at most {MAX_EARLIER_CALLS}, found {len(message.calls)}",
    )
    calls = message.calls[:MAX_EARLIER_CALLS]
    for index, call in enumerate(calls):
        field = f"{path}.calls[{index}]"
        check.that(
            0 <= call.days_ago <= MAX_DAYS_AGO,
            f"{field}.days_ago",
            f"expected 0 to {MAX_DAYS_AGO}, found another value",
        )
        check.that(call.mood in {0, *_EMOTION_NAMES}, f"{field}.mood", f"expected an emotion, found {call.mood}")
        check.that(
            call.outcome in {0, *_OUTCOME_NAMES}, f"{field}.outcome", f"expected an outcome, found {call.outcome}"
        )
        check.length(call.topic, f"{field}.topic", 0, 64)
        check.length(call.open_promise, f"{field}.open_promise", 0, 256)
    return _history_from(calls)


def _check_cameras(check: _Check, messages: Sequence[analyze_pb2.Camera], parties: set[str]) -> tuple[Camera, ...]:
    check.that(len(messages) <= MAX_CAMERAS, "config.cameras", f"expected at most {MAX_CAMERAS}, found {len(messages)}")
    cameras: list[Camera] = []
    for index, message in enumerate(messages[:MAX_CAMERAS]):
        field = f"config.cameras[{index}]"
        check.length(message.id, f"{field}.id", 1, 64)
        check.that(
            message.participant in parties,
            f"{field}.participant",
            "expected the id of a participant, found another one",
        )
        check.that(
            message.facing in _FACING_NAMES, f"{field}.facing", f"expected front or rear, found {message.facing}"
        )
        check.that(
            message.id not in {c.id for c in cameras}, f"{field}.id", "expected an id of its own, found one again"
        )
        facing = _FACING_NAMES.get(message.facing, "rear")
        front = {c.participant for c in cameras if c.facing == "front"}
        check.that(
            facing == "rear" or message.participant not in front,
            f"{field}.facing",
            "expected one front camera per participant, found a second one",
        )
        check.that(
            message.codec in {0, *_VIDEO_CODEC_NAMES},
            f"{field}.codec",
            f"expected none, {', '.join(name.upper() for name in VIDEO_CODECS)}, found {message.codec}",
        )
        check.that(
            message.rotation_degrees in (0, 90, 180, 270),
            f"{field}.rotation_degrees",
            f"expected 0, 90, 180 or 270, found {message.rotation_degrees}",
        )
        codec = _VIDEO_CODEC_NAMES.get(message.codec)
        cameras.append(Camera(message.id, message.participant, facing, codec, message.rotation_degrees))
    return tuple(cameras)


def read_recording_config(message: recordings_pb2.RecordingConfig) -> RecordingConfig:
    """Raises MessageError naming every field that is missing, out of range or contradictory."""
    check = _Check()
    check.length(message.name, "config.name", 1, 256)
    check.length(message.request_id, "config.request_id", 0, 128)
    language = _optional(message, "language")
    _check_language(check, "config.language", language)
    voices = _check_voices(check, message, language) if message.HasField("voices") else None
    participants: tuple[Participant, ...] = ()
    if voices is None:
        participants = _check_participants(check, "config.participants", message.participants, MAX_CHANNELS)
        _check_channels(check, participants, MAX_CHANNELS)
    shows = message.video_participant or None
    check.that(
        shows is None or shows in {participant.id for participant in participants},
        "config.video_participant",
        "expected the id of a participant, found another one",
    )
    check.that(
        not (shows and message.ignore_video),
        "config.ignore_video",
        "expected it not to be set with a video_participant, found both",
    )
    details = _check_details(check, "config.details", message.details)
    check.done()
    return RecordingConfig(
        message.name, participants, language, message.request_id, shows, message.ignore_video, details, voices
    )


def read_call_details(message: calls_pb2.CallDetails, field: str) -> CallDetails:
    """Raises MessageError naming every field that is out of range; `field` is where the message stands."""
    check = _Check()
    details = _check_details(check, field, message)
    check.done()
    return details


def _check_details(check: _Check, field: str, message: calls_pb2.CallDetails) -> CallDetails:
    check.that(
        re.fullmatch("[!-~]{0,128}", message.id) is not None,
        f"{field}.id",
        "expected at most 128 visible ASCII characters, found others or more",
    )
    for name, most in (
        ("queue", 128),
        ("product", 128),
        ("agent_group", 128),
        ("customer_reference", 256),
        ("agent_reference", 256),
    ):
        _check_text(check, f"{field}.{name}", getattr(message, name), 0, most)
    return CallDetails(
        id=message.id,
        started=_check_time(check, f"{field}.start_time", message, "start_time"),
        queue=message.queue or None,
        product=message.product or None,
        agent_group=message.agent_group or None,
        customer_reference=message.customer_reference or None,
        agent_reference=message.agent_reference or None,
    )


def _check_text(check: _Check, field: str, text: str, low: int, high: int) -> None:
    check.length(text, field, low, high)
    check.that("\0" not in text, field, "expected text, found a zero character")


def _check_time(check: _Check, field: str, message: Message, name: str) -> datetime | None:
    if not message.HasField(name):
        return None
    time: Timestamp = getattr(message, name)
    if not (0 <= time.seconds < END_OF_TIME_S and 0 <= time.nanos < 1_000_000_000):
        check.problems.append((field, "expected a time of the years 1970 to 2099, found another one"))
        return None
    return time.ToDatetime(tzinfo=UTC)


def read_outcome(message: calls_pb2.RecordOutcomeRequest) -> tuple[str, Outcome]:
    """Id of the call, and what became of it. Raises MessageError naming every field that is wrong."""
    check = _Check()
    _check_text(check, "call_id", message.call_id, 1, MAX_CALL_ID_CHARACTERS)
    at = _check_time(check, "at", message, "at")
    known = message.kind in _OUTCOME_KIND_NAMES
    check.that(known, "kind", f"expected {', '.join(OUTCOME_KINDS)}; found {message.kind}")
    check.done()
    kind = _OUTCOME_KIND_NAMES[message.kind]
    expected, found = "score" if kind in SCALES else "happened", message.WhichOneof("value")
    check.that(found == expected, expected, f"expected it for {kind}, found {found or 'no value'}")
    check.done()
    try:
        return message.call_id, Outcome(kind, float(getattr(message, expected)), at)
    except InvalidInputError as error:
        raise MessageError((expected, str(error))) from error


def read_feedback(message: calls_pb2.RecordFeedbackRequest) -> tuple[str, Feedback]:
    """Id of the call, and what a person made of a suggestion. Raises MessageError naming every field that is wrong."""
    check = _Check()
    _check_text(check, "call_id", message.call_id, 1, MAX_CALL_ID_CHARACTERS)
    _check_text(check, "suggestion_id", message.suggestion_id, 1, MAX_CALL_ID_CHARACTERS)
    _check_text(check, "correction", message.correction, 0, MAX_CORRECTION_CHARACTERS)
    _check_text(check, "note", message.note, 0, MAX_NOTE_CHARACTERS)
    at = _check_time(check, "at", message, "at")
    verdict = _VERDICT_NAMES.get(message.verdict)
    check.that(verdict is not None, "verdict", f"expected {', '.join(VERDICTS)}; found {message.verdict}")
    correction = message.correction.strip() or None
    check.that(
        verdict is None or (verdict == "corrected") == (correction is not None),
        "correction",
        "expected a correction with `corrected`, and with nothing else",
    )
    check.done()
    feedback = Feedback(
        message.suggestion_id, _VERDICT_NAMES[message.verdict], correction, message.note.strip() or None, at
    )
    return message.call_id, feedback


def read_text_request(message: analyze_pb2.AnalyzeTextRequest) -> tuple[ChatConfig, list[TextEvent]]:
    """Raises MessageError naming every field that is missing, out of range or contradictory."""
    check = _Check()
    check.length(message.name, "name", 1, 256)
    language = _optional(message, "language")
    _check_language(check, "language", language)
    participants = _check_participants(check, "participants", message.participants, MAX_PARTICIPANTS)
    check.that(
        len(message.turns) <= MAX_WRITTEN, "turns", f"expected at most {MAX_WRITTEN}, found {len(message.turns)}"
    )
    known = {participant.id for participant in participants}
    turns: list[TextEvent] = []
    for index, event in enumerate(islice(message.turns, MAX_WRITTEN)):
        field = f"turns[{index}]"
        turn = TextEvent(event.participant, event.text.strip(), event.at_us, _optional(event, "language"))
        check.that(
            not known or turn.participant in known,
            f"{field}.participant",
            "expected the id of a participant, found another one",
        )
        check.length(turn.text, f"{field}.text", 1, MAX_TEXT_CHARACTERS)
        earliest_us = turns[-1].at_us if turns else 0
        check.that(
            earliest_us <= turn.at_us <= MAX_LENGTH_US,
            f"{field}.at_us",
            f"expected {earliest_us} to {MAX_LENGTH_US}, found {turn.at_us}",
        )
        _check_language(check, f"{field}.language", turn.language)
        turns.append(turn)
    check.done()
    return ChatConfig(message.name, participants, language), turns


GAP_PIECE_US = 30_000_000
MAX_GAP_US = 3_600_000_000
"""A longer hold is told in several messages."""


class CallReader:
    """Turns the messages of one call into input of its session, and keeps the place in the audio."""

    def __init__(self, config: CallConfig | MonoConfig, audio: AudioFormat, max_us: int) -> None:
        """`max_us`: media time that the call may not pass."""
        self._mixed = isinstance(config, MonoConfig)
        """The parties are found while the call runs."""
        self._channels = [0] if isinstance(config, MonoConfig) else [party.channel for party in config.participants]
        self._names = () if isinstance(config, MonoConfig) else tuple(party.id for party in config.participants)
        self._audio = audio
        self._max_us = max_us
        self._next_sample = 0

    @property
    def received_us(self) -> int:
        return self._next_sample * 1_000_000 // self._audio.rate_hz

    def read(self, message: analyze_pb2.AnalyzeRequest) -> list[Input]:
        """What the message holds for the session; nothing for `end`.

        Raises MessageError for a breach of the protocol, CapacityError when media passes the longest call, and
        InvalidInputError for media that cannot be used.
        """
        match message.WhichOneof("step"):
            case "audio":
                return list(self._read_audio(message.audio))
            case "video":
                video = message.video
                return [EncodedFrame(video.camera, video.image, self._time_us(video.at_us))]
            case "text":
                return [self._read_text(message.text)]
            case "gap":
                return list(self._read_gap(message.gap))
            case "consent":
                return [self._read_consent(message.consent)]
            case "feedback":
                return [self._read_feedback(message.feedback)]
            case "end":
                return []
            case "config":
                raise MessageError(("config", "expected it in the first message only, found it again"))
            case _:
                raise MessageError(("step", "expected one of its fields, found none that this server knows"))

    def _advance(self, start: int, samples: int) -> None:
        if (start + samples) * 1_000_000 > self._max_us * self._audio.rate_hz:
            raise CapacityError(f"expected a call of at most {self._max_us // 1_000_000} s, found a longer one")
        self._next_sample = start + samples

    def _read_audio(self, message: analyze_pb2.Audio) -> Iterator[AudioChunk]:
        frame_bytes = self._audio.frame_bytes
        if len(message.data) % frame_bytes:
            raise MessageError(
                (
                    "audio.data",
                    f"expected a multiple of {frame_bytes} bytes ({self._audio.channels} channels of "
                    f"{self._audio.encoding}), found {len(message.data)}",
                )
            )
        start = message.start_sample if message.HasField("start_sample") else self._next_sample
        if not 0 <= start - self._next_sample <= MAX_JUMP_S * self._audio.rate_hz:
            raise InvalidInputError(
                f"expected audio from sample {self._next_sample} on and at most {MAX_JUMP_S} s ahead, "
                f"found sample {start}; it was left out"
            )
        self._advance(start, len(message.data) // frame_bytes)  # left out or not, its time has passed
        pcm = decode_audio(message.data, self._audio)
        if not np.isfinite(pcm).all():
            raise InvalidInputError("expected finite samples, found others; the message was left out")
        for channel in self._channels:
            yield AudioChunk(channel, pcm[channel], self._audio.rate_hz, start)

    def _read_text(self, message: analyze_pb2.TextEvent) -> TextEvent:
        if len(message.text) > MAX_TEXT_CHARACTERS:
            raise InvalidInputError(
                f"expected a text of at most {MAX_TEXT_CHARACTERS} characters, found {len(message.text)}"
            )
        return TextEvent(
            message.participant, message.text, self._time_us(message.at_us), _optional(message, "language")
        )

    def _read_gap(self, message: analyze_pb2.Gap) -> Iterator[Gap]:
        if not 0 < message.duration_us <= MAX_GAP_US:
            raise InvalidInputError(f"expected a gap of 1 to {MAX_GAP_US} us, found {message.duration_us}")
        if message.reason not in _GAP_REASON_NAMES:
            raise InvalidInputError(f"expected {', '.join(GAP_REASONS)} as a gap's reason, found {message.reason}")
        start_us = self.received_us
        self._advance(self._next_sample, message.duration_us * self._audio.rate_hz // 1_000_000)
        end_us = start_us + message.duration_us
        # In pieces, all channels in step, so that a long hold takes no more memory than a short one.
        for piece_us in range(start_us, end_us, GAP_PIECE_US):
            span = Span(piece_us, min(piece_us + GAP_PIECE_US, end_us))
            for channel in self._channels:
                yield Gap(channel, span, _GAP_REASON_NAMES[message.reason])

    def _read_consent(self, message: analyze_pb2.ConsentChange) -> ConsentChange:
        check = _Check()
        check.that(
            self._mixed or message.participant in self._names,
            "consent.participant",
            "expected the id of a participant, found another one",
        )
        check.that(
            message.consent in {0, *_CONSENT_NAMES},
            "consent.consent",
            f"expected granted, pending or denied, found {message.consent}",
        )
        check.length(message.biometric_basis, "consent.biometric_basis", 0, 256)
        check.done()
        consent = _CONSENT_NAMES.get(message.consent, "pending")
        return ConsentChange(message.participant, consent, message.biometric_basis or None)

    def _read_feedback(self, message: timeline_pb2.SuggestionFeedback) -> SuggestionFeedback:
        if message.verdict not in _VERDICT_NAMES:
            raise InvalidInputError(f"expected accepted, dismissed or corrected as a verdict, found {message.verdict}")
        if message.correction_emotion not in {0, *_EMOTION_NAMES}:
            raise InvalidInputError(f"expected an emotion as a correction, found {message.correction_emotion}")
        return replace(_feedback_from(message), at_us=self._time_us(message.at_us))

    def _time_us(self, at_us: int) -> int:
        if not 0 <= at_us <= self._max_us:
            raise InvalidInputError(f"expected a time of 0 to {self._max_us} us, found {at_us}")
        return at_us


def decode_audio(data: bytes, audio: AudioFormat) -> F32:
    """Interleaved bytes of whole sample frames -> [channels, n], in [-1, 1] where the samples are finite."""
    flat: F32
    match audio.encoding:
        case "linear16":
            flat = np.frombuffer(data, "<i2").astype(np.float32) / np.float32(32_768)
        case "mulaw":
            flat = g711.decode_mulaw(np.frombuffer(data, np.uint8))
        case "alaw":
            flat = g711.decode_alaw(np.frombuffer(data, np.uint8))
        case _:
            flat = np.clip(np.frombuffer(data, "<f4").astype(np.float32), -1, 1)
    return np.ascontiguousarray(flat.reshape(-1, audio.channels).T)


# The timeline and its parts, in both directions


def _span(span: Span) -> timeline_pb2.Span:
    return timeline_pb2.Span(start_us=span.start_us, end_us=span.end_us)


def _span_from(message: timeline_pb2.Span) -> Span:
    return Span(message.start_us, message.end_us)


def participant(participant: Participant) -> timeline_pb2.Participant:
    return timeline_pb2.Participant(
        id=participant.id,
        role=ROLES[participant.role],
        channel=participant.channel,
        consent=CONSENTS[participant.consent],
        biometric_basis=participant.biometric_basis,
        pictures_agreed=participant.pictures_agreed,
    )


def participant_from_wire(message: timeline_pb2.Participant) -> Participant:
    return Participant(
        message.id,
        _ROLE_NAMES.get(message.role, "other"),
        message.channel,
        _CONSENT_NAMES.get(message.consent, "pending"),
        message.biometric_basis or None,
        message.pictures_agreed,
    )


def _utterance(utterance: Utterance) -> timeline_pb2.Utterance:
    return timeline_pb2.Utterance(
        id=utterance.id,
        span=_span(utterance.span),
        participant=utterance.participant,
        text=utterance.text,
        words=[
            timeline_pb2.Word(text=word.text, span=_span(word.span), confidence=word.confidence)
            for word in utterance.words
        ],
        language=utterance.language,
        confidence=utterance.confidence,
        is_final=utterance.final,
        revision=utterance.revision,
        translation=utterance.translation,
        cues=[_cue(cue) for cue in utterance.cues],
        redactions=[
            timeline_pb2.Redaction(kind=PERSONAL_KINDS[each.kind], span=_span(each.span))
            for each in utterance.redactions
        ],
        written=utterance.written,
    )


def _cue(cue: Cue) -> timeline_pb2.Cue:
    emotion = EMOTIONS[cue.label] if cue.label else timeline_pb2.EMOTION_UNSPECIFIED
    return timeline_pb2.Cue(kind=CUE_KINDS[cue.kind], phrase=cue.phrase, span=_span(cue.span), emotion=emotion)


def _cue_from(message: timeline_pb2.Cue) -> Cue:
    label = _EMOTION_NAMES[message.emotion] if message.emotion else None
    return Cue(_CUE_KIND_NAMES[message.kind], message.phrase, _span_from(message.span), label)


def _utterance_from(message: timeline_pb2.Utterance) -> Utterance:
    return Utterance(
        id=message.id,
        span=_span_from(message.span),
        participant=message.participant,
        text=message.text,
        words=tuple(Word(word.text, _span_from(word.span), word.confidence) for word in message.words),
        language=message.language,
        confidence=message.confidence,
        final=message.is_final,
        revision=message.revision,
        translation=_optional(message, "translation"),
        cues=tuple(_cue_from(cue) for cue in message.cues),
        redactions=tuple(
            Redaction(_PERSONAL_KIND_NAMES[each.kind], _span_from(each.span)) for each in message.redactions
        ),
        written=message.written,
    )


def _emotions(labels: Mapping[Any, float] | None) -> list[timeline_pb2.EmotionProbability]:
    return [
        timeline_pb2.EmotionProbability(emotion=EMOTIONS[label], probability=probability)
        for label, probability in (labels or {}).items()
    ]


def _emotions_from(messages: Iterable[timeline_pb2.EmotionProbability]) -> dict[Any, float]:
    return {_EMOTION_NAMES[message.emotion]: message.probability for message in messages}


def _estimate(estimate: AffectEstimate) -> timeline_pb2.AffectEstimate:
    scores = estimate.scores
    return timeline_pb2.AffectEstimate(
        span=_span(estimate.span),
        participant=estimate.participant,
        modality=MODALITIES[estimate.modality],
        emotions=_emotions(scores.labels),
        valence=scores.valence,
        arousal=scores.arousal,
        dominance=scores.dominance,
        confidence=scores.confidence,
        quality=estimate.quality,
        evidence=scores.evidence,
        anger_odds=scores.anger_odds,
        model=estimate.model,
    )


def _estimate_from(message: timeline_pb2.AffectEstimate) -> AffectEstimate:
    return AffectEstimate(
        span=_span_from(message.span),
        participant=message.participant,
        modality=_MODALITY_NAMES[message.modality],
        scores=AffectScores(
            labels=_emotions_from(message.emotions) or None,
            valence=_optional(message, "valence"),
            arousal=_optional(message, "arousal"),
            dominance=_optional(message, "dominance"),
            confidence=message.confidence,
            evidence=tuple(message.evidence),
            anger_odds=_optional(message, "anger_odds"),
        ),
        quality=message.quality,
        model=message.model,
    )


def _affect(affect: Affect) -> timeline_pb2.Affect:
    return timeline_pb2.Affect(
        emotion=EMOTIONS[affect.label],
        probability=affect.probability,
        emotions=_emotions(affect.labels),
        valence=affect.valence,
        arousal=affect.arousal,
        dominance=affect.dominance,
    )


def _affect_from(message: timeline_pb2.Affect) -> Affect:
    return Affect(
        label=_EMOTION_NAMES[message.emotion],
        probability=message.probability,
        labels=_emotions_from(message.emotions),
        valence=_optional(message, "valence"),
        arousal=_optional(message, "arousal"),
        dominance=_optional(message, "dominance"),
    )


def _moment(moment: Moment) -> timeline_pb2.Moment:
    return timeline_pb2.Moment(
        id=moment.id,
        span=_span(moment.span),
        participant=moment.participant,
        affect=_affect(moment.affect),
        contributors=[
            timeline_pb2.Contributor(
                modality=MODALITIES[each.modality], weight=each.weight, estimate=_estimate(each.estimate)
            )
            for each in moment.contributors
        ],
        absent=[timeline_pb2.Absence(modality=MODALITIES[each.modality], reason=each.reason) for each in moment.absent],
        stress=moment.stress,
        level_dbfs=moment.level_dbfs,
        speech_ratio=moment.speech_ratio,
        revision=moment.revision,
        is_final=moment.final,
        live=_affect(moment.live) if moment.live else None,
        anger=moment.anger,
    )


def _moment_from(message: timeline_pb2.Moment) -> Moment:
    return Moment(
        id=message.id,
        span=_span_from(message.span),
        participant=message.participant,
        affect=_affect_from(message.affect),
        contributors=tuple(
            Contributor(_MODALITY_NAMES[each.modality], each.weight, _estimate_from(each.estimate))
            for each in message.contributors
        ),
        absent=tuple(Absence(_MODALITY_NAMES[each.modality], each.reason) for each in message.absent),
        stress=_optional(message, "stress"),
        level_dbfs=_optional(message, "level_dbfs"),
        speech_ratio=message.speech_ratio,
        revision=message.revision,
        final=message.is_final,
        live=_affect_from(message.live) if message.HasField("live") else None,
        anger=_optional(message, "anger"),
    )


def _suggestion(suggestion: Suggestion) -> timeline_pb2.Suggestion:
    return timeline_pb2.Suggestion(
        id=suggestion.id,
        kind=KINDS[suggestion.kind],
        action=suggestion.action,
        text=suggestion.text,
        reason=suggestion.reason,
        participant=suggestion.participant,
        because=suggestion.because,
        confidence=suggestion.confidence,
        priority=PRIORITIES[suggestion.priority],
        created_us=suggestion.created_us,
        expires_us=suggestion.expires_us,
        policy=suggestion.policy,
        revision=suggestion.revision,
    )


def _suggestion_from(message: timeline_pb2.Suggestion) -> Suggestion:
    return Suggestion(
        id=message.id,
        kind=_KIND_NAMES[message.kind],
        action=message.action,
        text=message.text,
        reason=message.reason,
        participant=message.participant,
        because=tuple(message.because),
        confidence=message.confidence,
        priority=_PRIORITY_NAMES[message.priority],
        created_us=message.created_us,
        expires_us=message.expires_us,
        policy=message.policy,
        revision=message.revision,
    )


def suggestion_feedback(feedback: SuggestionFeedback) -> timeline_pb2.SuggestionFeedback:
    return timeline_pb2.SuggestionFeedback(
        suggestion_id=feedback.suggestion_id,
        verdict=VERDICTS[feedback.verdict],
        correction_emotion=EMOTIONS[feedback.label] if feedback.label else timeline_pb2.EMOTION_UNSPECIFIED,
        correction_text=feedback.text,
        at_us=feedback.at_us,
    )


def _feedback_from(message: timeline_pb2.SuggestionFeedback) -> SuggestionFeedback:
    return SuggestionFeedback(
        suggestion_id=message.suggestion_id,
        verdict=_VERDICT_NAMES[message.verdict],
        at_us=message.at_us,
        label=_EMOTION_NAMES[message.correction_emotion] if message.correction_emotion else None,
        text=message.correction_text,
    )


def _history(history: CustomerHistory) -> timeline_pb2.CustomerHistory:
    return timeline_pb2.CustomerHistory(
        calls=[
            timeline_pb2.EarlierCall(
                days_ago=call.days_ago,
                mood=EMOTIONS[call.mood] if call.mood else timeline_pb2.EMOTION_UNSPECIFIED,
                outcome=OUTCOMES[call.outcome] if call.outcome else timeline_pb2.CALL_OUTCOME_UNSPECIFIED,
                topic=call.topic,
                open_promise=call.open_promise,
            )
            for call in history.calls
        ]
    )


def _history_from(calls: Iterable[timeline_pb2.EarlierCall]) -> CustomerHistory:
    """Values that this server does not know count as not given."""
    return CustomerHistory(
        tuple(
            EarlierCall(
                days_ago=call.days_ago,
                mood=_EMOTION_NAMES.get(call.mood),
                outcome=_OUTCOME_NAMES.get(call.outcome),
                topic=call.topic,
                open_promise=call.open_promise,
            )
            for call in calls
        )
    )


def _turn(turn: SpeechTurn) -> timeline_pb2.SpeechTurn:
    return timeline_pb2.SpeechTurn(participant=turn.participant, span=_span(turn.span))


def _turn_from(message: timeline_pb2.SpeechTurn) -> SpeechTurn:
    return SpeechTurn(message.participant, _span_from(message.span))


def _vocal(vocal: VocalSummary) -> timeline_pb2.VocalSummary:
    return timeline_pb2.VocalSummary(
        utterance_id=vocal.utterance_id,
        participant=vocal.participant,
        span=_span(vocal.span),
        features=timeline_pb2.VocalFeatures(**asdict(vocal.features)),
        deviations=vocal.deviations,
        baseline_ready=vocal.baseline_ready,
    )


def _vocal_from(message: timeline_pb2.VocalSummary) -> VocalSummary:
    features = {field.name: value for field, value in message.features.ListFields()}
    return VocalSummary(
        utterance_id=message.utterance_id,
        participant=message.participant,
        span=_span_from(message.span),
        features=VocalFeatures(**features | {"flaws": tuple(message.features.flaws)}),
        deviations=dict(message.deviations),
        baseline_ready=message.baseline_ready,
    )


def _notice(notice: Notice) -> timeline_pb2.Notice:
    return timeline_pb2.Notice(
        code=notice.code, message=notice.message, at_us=notice.at_us, participant=notice.participant
    )


def _notice_from(message: timeline_pb2.Notice) -> Notice:
    return Notice(message.code, message.message, message.at_us, _optional(message, "participant"))


def _dynamics(dynamics: Dynamics) -> timeline_pb2.Dynamics:
    return timeline_pb2.Dynamics(**asdict(dynamics))


def _dynamics_from(message: timeline_pb2.Dynamics) -> Dynamics:
    return Dynamics(
        participant=message.participant,
        talk_us=message.talk_us,
        talk_share=message.talk_share,
        overtalk_us=message.overtalk_us,
        interruptions=message.interruptions,
        longest_silence_us=message.longest_silence_us,
        words_per_minute=_optional(message, "words_per_minute"),
        until_us=message.until_us,
        successful_interruptions=message.successful_interruptions,
        silence_us=message.silence_us,
        silence_share=message.silence_share,
        responses=message.responses,
        response_median_us=_optional(message, "response_median_us"),
        response_p90_us=_optional(message, "response_p90_us"),
        words_per_minute_now=_optional(message, "words_per_minute_now"),
        monologue_us=message.monologue_us,
        longest_monologue_us=message.longest_monologue_us,
    )


def _interruption(interruption: Interruption) -> timeline_pb2.Interruption:
    return timeline_pb2.Interruption(
        by=interruption.by,
        of=interruption.of,
        span=_span(interruption.span),
        overlap_us=interruption.overlap_us,
        successful=interruption.successful,
    )


def _interruption_from(message: timeline_pb2.Interruption) -> Interruption:
    return Interruption(message.by, message.of, _span_from(message.span), message.overlap_us, message.successful)


def _stage(stage: Stage) -> timeline_pb2.Stage:
    return timeline_pb2.Stage(
        id=stage.id,
        name=STAGES[stage.name],
        span=_span(stage.span),
        confidence=stage.confidence,
        because=stage.because,
    )


def _stage_from(message: timeline_pb2.Stage) -> Stage:
    return Stage(
        id=message.id,
        name=_STAGE_NAMES[message.name],
        span=_span_from(message.span),
        confidence=message.confidence,
        because=tuple(message.because),
    )


def _summary(summary: Summary) -> timeline_pb2.Summary:
    return timeline_pb2.Summary(
        lines=summary.lines,
        highlights=[
            timeline_pb2.Highlight(
                moment_id=each.moment_id,
                at_us=each.at_us,
                participant=each.participant,
                emotion=EMOTIONS[each.label],
                probability=each.probability,
                quote=each.quote,
                reason=each.reason,
            )
            for each in summary.highlights
        ],
    )


def _summary_from(message: timeline_pb2.Summary) -> Summary:
    return Summary(
        tuple(message.lines),
        tuple(
            Highlight(
                moment_id=each.moment_id,
                at_us=each.at_us,
                participant=each.participant,
                label=_EMOTION_NAMES[each.emotion],
                probability=each.probability,
                quote=each.quote,
                reason=each.reason,
            )
            for each in message.highlights
        ),
    )


def _fact(fact: Fact) -> timeline_pb2.Fact:
    return timeline_pb2.Fact(
        kind=FACT_KINDS[fact.kind],
        participant=fact.participant,
        utterance_id=fact.utterance_id,
        span=_span(fact.span),
        text=fact.text,
    )


def _snapshot(snapshot: Snapshot) -> timeline_pb2.Snapshot:
    return timeline_pb2.Snapshot(
        id=snapshot.id,
        at_us=snapshot.at_us,
        participant=snapshot.participant,
        because=snapshot.because,
        jpeg=b64decode(snapshot.jpeg_base64),
    )


def _snapshot_from(message: timeline_pb2.Snapshot) -> Snapshot:
    return Snapshot(message.id, message.at_us, message.participant, message.because, b64encode(message.jpeg).decode())


def _fact_from(message: timeline_pb2.Fact) -> Fact:
    return Fact(
        kind=_FACT_KIND_NAMES[message.kind],
        participant=message.participant,
        utterance_id=message.utterance_id,
        span=_span_from(message.span),
        text=message.text,
    )


def _change(change: ChangePoint) -> timeline_pb2.ChangePoint:
    return timeline_pb2.ChangePoint(
        participant=change.participant,
        at_us=change.at_us,
        before=EMOTIONS[change.before],
        after=EMOTIONS[change.after],
        confidence=change.confidence,
    )


def _change_from(message: timeline_pb2.ChangePoint) -> ChangePoint:
    return ChangePoint(
        message.participant,
        message.at_us,
        _EMOTION_NAMES[message.before],
        _EMOTION_NAMES[message.after],
        message.confidence,
    )


def _score(score: Score) -> timeline_pb2.Score:
    return timeline_pb2.Score(
        span=_span(score.span), score=score.score, known_us=score.known_us, shares=_emotions(score.labels)
    )


def _score_from(message: timeline_pb2.Score) -> Score:
    span, labels = _span_from(message.span), _emotions_from(message.shares)
    return Score(span, _optional(message, "score"), message.known_us, labels)


def _party_scores(scores: PartyScores) -> timeline_pb2.PartyScores:
    return timeline_pb2.PartyScores(
        participant=scores.participant,
        overall=_score(scores.overall),
        quarters=map(_score, scores.quarters),
        trajectory=TRAJECTORIES[scores.trajectory],
        drivers=[
            timeline_pb2.Driver(
                toward=TOWARDS[each.toward], kind=DRIVER_KINDS[each.kind], name=each.name, share=each.share
            )
            for each in scores.drivers
        ],
    )


def _party_scores_from(message: timeline_pb2.PartyScores) -> PartyScores:
    return PartyScores(
        participant=message.participant,
        overall=_score_from(message.overall),
        quarters=tuple(map(_score_from, message.quarters)),
        trajectory=_TRAJECTORY_NAMES[message.trajectory],
        drivers=tuple(
            Driver(_TOWARD_NAMES[each.toward], _DRIVER_KIND_NAMES[each.kind], each.name, each.share)
            for each in message.drivers
        ),
    )


def timeline_parts(timeline: CallTimeline) -> Iterator[timeline_pb2.Timeline]:
    """The timeline in parts of about TIMELINE_PART_BYTES; merged in this order they are the whole."""
    part = timeline_pb2.Timeline(
        schema=timeline.schema,
        name=timeline.name,
        duration_us=timeline.duration_us,
        sample_rate_hertz=timeline.rate_hz,
        participants=map(participant, timeline.participants),
        dynamics=map(_dynamics, timeline.dynamics),
        summary=_summary(timeline.summary),
        models=timeline.models,
        history=_history(timeline.history) if timeline.history else None,
        scores=map(_party_scores, timeline.scores),
    )
    size = part.ByteSize()
    items: Iterator[tuple[str, Message]] = chain(
        (("utterances", _utterance(each)) for each in timeline.utterances),
        (("moments", _moment(each)) for each in timeline.moments),
        (("suggestions", _suggestion(each)) for each in timeline.suggestions),
        (("speech_turns", _turn(each)) for each in timeline.speech),
        (("vocal_summaries", _vocal(each)) for each in timeline.vocal),
        (("notices", _notice(each)) for each in timeline.notices),
        (("facts", _fact(each)) for each in timeline.facts),
        (("snapshots", _snapshot(each)) for each in timeline.snapshots),
        (("feedback", suggestion_feedback(each)) for each in timeline.feedback),
        (("changes", _change(each)) for each in timeline.changes),
        (("interruptions", _interruption(each)) for each in timeline.interruptions),
        (("stages", _stage(each)) for each in timeline.stages),
    )
    for field, message in items:
        size += message.ByteSize()
        if size > TIMELINE_PART_BYTES:
            yield part
            part, size = timeline_pb2.Timeline(), message.ByteSize()
        getattr(part, field).append(message)
    yield part


def timeline_from_parts(parts: Iterable[timeline_pb2.Timeline]) -> CallTimeline:
    """The whole of what `timeline_parts` gave."""
    message = timeline_pb2.Timeline()
    for part in parts:
        message.MergeFrom(part)
    return CallTimeline(
        schema=message.schema,
        name=message.name,
        duration_us=message.duration_us,
        rate_hz=message.sample_rate_hertz,
        participants=tuple(map(participant_from_wire, message.participants)),
        utterances=tuple(map(_utterance_from, message.utterances)),
        moments=tuple(map(_moment_from, message.moments)),
        suggestions=tuple(map(_suggestion_from, message.suggestions)),
        speech=tuple(map(_turn_from, message.speech_turns)),
        vocal=tuple(map(_vocal_from, message.vocal_summaries)),
        dynamics=tuple(map(_dynamics_from, message.dynamics)),
        summary=_summary_from(message.summary),
        notices=tuple(map(_notice_from, message.notices)),
        models=dict(message.models),
        facts=tuple(map(_fact_from, message.facts)),
        snapshots=tuple(map(_snapshot_from, message.snapshots)),
        feedback=tuple(map(_feedback_from, message.feedback)),
        history=_history_from(message.history.calls) if message.HasField("history") else None,
        changes=tuple(map(_change_from, message.changes)),
        scores=tuple(map(_party_scores_from, message.scores)),
        interruptions=tuple(map(_interruption_from, message.interruptions)),
        stages=tuple(map(_stage_from, message.stages)),
    )


def reply(item: Reply) -> analyze_pb2.AnalyzeResponse:
    match item:
        case Utterance():
            return analyze_pb2.AnalyzeResponse(utterance=_utterance(item))
        case Moment():
            return analyze_pb2.AnalyzeResponse(moment=_moment(item))
        case Suggestion():
            return analyze_pb2.AnalyzeResponse(suggestion=_suggestion(item))
        case SpeechTurn():
            return analyze_pb2.AnalyzeResponse(speech_turn=_turn(item))
        case VocalSummary():
            return analyze_pb2.AnalyzeResponse(vocal_summary=_vocal(item))
        case Dynamics():
            return analyze_pb2.AnalyzeResponse(dynamics=_dynamics(item))
        case Stage():
            return analyze_pb2.AnalyzeResponse(stage=_stage(item))
        case Notice():
            return analyze_pb2.AnalyzeResponse(notice=_notice(item))
        case Snapshot():
            return analyze_pb2.AnalyzeResponse(snapshot=_snapshot(item))
        case Participant():
            return analyze_pb2.AnalyzeResponse(participant=participant(item))
        case Cursor():
            return analyze_pb2.AnalyzeResponse(
                cursor=analyze_pb2.Cursor(received_us=item.received_us, final_us=item.final_us)
            )


def reply_from_wire(message: analyze_pb2.AnalyzeResponse) -> Reply:
    """One reply other than a part of the timeline."""
    match message.WhichOneof("reply"):
        case "utterance":
            return _utterance_from(message.utterance)
        case "moment":
            return _moment_from(message.moment)
        case "suggestion":
            return _suggestion_from(message.suggestion)
        case "speech_turn":
            return _turn_from(message.speech_turn)
        case "vocal_summary":
            return _vocal_from(message.vocal_summary)
        case "dynamics":
            return _dynamics_from(message.dynamics)
        case "stage":
            return _stage_from(message.stage)
        case "notice":
            return _notice_from(message.notice)
        case "snapshot":
            return _snapshot_from(message.snapshot)
        case "participant":
            return participant_from_wire(message.participant)
        case "cursor":
            return Cursor(message.cursor.received_us, message.cursor.final_us)
        case other:
            raise InvalidInputError(f"expected a reply that this client knows, found {other}")


# Routing


def read_recommend_request(
    message: routing_pb2.RecommendRequest,
) -> tuple[RoutingContext, tuple[str, ...], str | None]:
    """What is known; what was said to the voice menu and may be looked at; and its language, where known.

    Raises MessageError naming every field that is out of range.
    """
    check = _Check()
    for field in ("intent", "product", "menu_choice"):
        check.length(getattr(message, field), field, 0, MAX_DECLARED_CHARACTERS)
    language = _optional(message, "language")
    _check_language(check, "language", language)
    check.that(
        message.consent in {0, *_CONSENT_NAMES},
        "consent",
        f"expected granted, pending or denied, found {message.consent}",
    )
    said = [text.strip() for text in message.ivr_utterances[:MAX_MENU_UTTERANCES]]
    check.that(
        len(message.ivr_utterances) <= MAX_MENU_UTTERANCES,
        "ivr_utterances",
        f"expected at most {MAX_MENU_UTTERANCES}, found {len(message.ivr_utterances)}",
    )
    for index, text in enumerate(said):
        check.length(text, f"ivr_utterances[{index}]", 1, MAX_MENU_CHARACTERS)
    history = _check_history(check, "history", message.history) if message.HasField("history") else None
    call = _check_call(check, message.call) if message.HasField("call") else None
    check.done()
    objected = message.emotion_routing_objected
    consent = _CONSENT_NAMES.get(message.consent, "pending")
    context = RoutingContext(
        intent=message.intent,
        product=message.product,
        choice=message.menu_choice,
        history=history,
        ivr=_unheard_menu(consent) if said and consent != "granted" else None,
        call=call,
        emotion_routing_objected=objected,
    )
    return context, () if objected or consent != "granted" else tuple(said), language


def _unheard_menu(consent: Consent) -> CallTimeline:
    """Says that something was said, and that nobody looked at it."""
    party = Participant("customer", "customer", 0, consent)
    return timeline_from_parts([timeline_pb2.Timeline(participants=[participant(party)])])


def _check_call(check: _Check, message: timeline_pb2.Timeline) -> CallTimeline | None:
    """The parts of a timeline that routing looks at; None where they are not what this service writes."""
    _check_participants(check, "call.participants", message.participants, MAX_PARTICIPANTS)
    kept = timeline_pb2.Timeline(
        duration_us=message.duration_us,
        participants=message.participants,
        utterances=message.utterances,
        moments=message.moments,
    )
    try:
        return timeline_from_parts([kept])
    except (KeyError, InvalidInputError, ValueError):
        check.problems.append(("call", "expected utterances and moments as this service writes them, found others"))
        return None


def recommendation(answer: Recommendation) -> routing_pb2.RecommendResponse:
    return routing_pb2.RecommendResponse(
        recommendation=routing_pb2.Recommendation(
            queue=answer.queue,
            priority=PRIORITIES[answer.priority],
            skills=answer.skills,
            greeting=answer.greeting,
            reasons=[
                routing_pb2.RoutingReason(
                    text=reason.text,
                    evidence=ROUTING_EVIDENCE[reason.evidence] if reason.evidence else NO_EVIDENCE,
                    because=reason.refs,
                )
                for reason in answer.reasons
            ],
            confidence=answer.confidence,
            used=[ROUTING_EVIDENCE[kind] for kind in answer.used],
            withheld=answer.withheld,
            rule=answer.rule,
            config=answer.config,
        )
    )


# Requests, as a client writes them


def mono_config(config: MonoConfig, audio: AudioFormat) -> analyze_pb2.AnalyzeRequest:
    return analyze_pb2.AnalyzeRequest(
        config=analyze_pb2.CallConfig(
            name=config.name,
            encoding=ENCODINGS[audio.encoding],
            sample_rate_hertz=audio.rate_hz,
            audio_channel_count=audio.channels,
            language=config.language,
            interim_results=config.interim_results,
            voices=timeline_pb2.MixedVoices(
                consent=CONSENTS[config.consent],
                roles=[ROLES[role] for role in config.roles],
                count=config.count or 0,
                biometric_basis=config.biometric_basis,
            ),
        )
    )


def call_config(config: CallConfig, audio: AudioFormat) -> analyze_pb2.AnalyzeRequest:
    return analyze_pb2.AnalyzeRequest(
        config=analyze_pb2.CallConfig(
            name=config.name,
            participants=map(participant, config.participants),
            encoding=ENCODINGS[audio.encoding],
            sample_rate_hertz=audio.rate_hz,
            audio_channel_count=audio.channels,
            language=config.language,
            interim_results=config.interim_results,
            cameras=[
                analyze_pb2.Camera(
                    id=camera.id,
                    participant=camera.participant,
                    facing=FACINGS[camera.facing],
                    codec=VIDEO_CODECS[camera.codec] if camera.codec else analyze_pb2.VIDEO_CODEC_UNSPECIFIED,
                    rotation_degrees=camera.rotation_degrees,
                )
                for camera in config.cameras
            ],
            history=_history(config.history) if config.history else None,
        )
    )


def audio_float32(pcm: F32, start_sample: int) -> analyze_pb2.AnalyzeRequest:
    """pcm [channels, n] as FLOAT32, so that the service sees exactly these samples."""
    data = np.ascontiguousarray(pcm.T).astype("<f4").tobytes()
    return analyze_pb2.AnalyzeRequest(audio=analyze_pb2.Audio(data=data, start_sample=start_sample))


def video_frame(frame: EncodedFrame) -> analyze_pb2.AnalyzeRequest:
    video = analyze_pb2.VideoFrame(camera=frame.camera, image=frame.image, at_us=frame.at_us)
    return analyze_pb2.AnalyzeRequest(video=video)


def gap(duration_us: int, reason: GapReason) -> analyze_pb2.AnalyzeRequest:
    return analyze_pb2.AnalyzeRequest(gap=analyze_pb2.Gap(duration_us=duration_us, reason=GAP_REASONS[reason]))


END: Final = analyze_pb2.AnalyzeRequest(end=analyze_pb2.End())
