"""Requests, as the service reads them: each field checked, once, here."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

from affectline.models.errors import InvalidInputError
from affectline.models.signals import TextEvent
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
from affectline.pipelines.session import MAX_CHANNELS, MAX_TEXT_CHARACTERS, MAX_WRITTEN, RATES_HZ, CallConfig
from affectline.pipelines.speakers import MAX_SPEAKERS
from affectline.pipelines.timeline import Camera, Participant
from affectline.protos.v1 import analyze_pb2, calls_pb2, recordings_pb2
from affectline.server.wire.checks import (
    Check,
    MessageError,
    check_history,
    check_language,
    check_participants,
    check_text,
    check_time,
)
from affectline.server.wire.names import (
    CONSENTS,
    ENCODING_NAMES,
    FACING_NAMES,
    OUTCOME_KIND_NAMES,
    OUTCOME_KINDS,
    ROLE_NAMES,
    VERDICT_NAMES,
    VERDICTS,
    VIDEO_CODEC_NAMES,
    VIDEO_CODECS,
    optional,
)
from affectline.server.wire.stream import AudioFormat

MAX_CAMERAS: Final = 8
MAX_CALL_ID_CHARACTERS: Final = 256
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


def _check_channels(check: Check, participants: Sequence[Participant], channels: int) -> None:
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


def read_call_config(message: analyze_pb2.CallConfig) -> tuple[CallConfig | MonoConfig, AudioFormat]:
    """Raises MessageError naming every field that is missing, out of range or contradictory."""
    check = Check()
    check.length(message.name, "config.name", 1, 256)
    check.that(
        message.encoding in ENCODING_NAMES,
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
    language = optional(message, "language")
    check_language(check, "config.language", language)
    audio = AudioFormat(
        ENCODING_NAMES.get(message.encoding, ""), message.sample_rate_hertz, message.audio_channel_count
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
    participants = check_participants(check, "config.participants", message.participants, MAX_CHANNELS)
    _check_channels(check, participants, message.audio_channel_count)
    cameras = _check_cameras(check, message.cameras, {participant.id for participant in participants})
    history = check_history(check, "config.history", message.history) if message.HasField("history") else None
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
    check: Check, message: analyze_pb2.CallConfig | recordings_pb2.RecordingConfig, language: str | None
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
    roles = tuple(ROLE_NAMES.get(role, "unknown") for role in voices.roles[:MAX_SPEAKERS])
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


def _check_cameras(check: Check, messages: Sequence[analyze_pb2.Camera], parties: set[str]) -> tuple[Camera, ...]:
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
        check.that(message.facing in FACING_NAMES, f"{field}.facing", f"expected front or rear, found {message.facing}")
        check.that(
            message.id not in {c.id for c in cameras}, f"{field}.id", "expected an id of its own, found one again"
        )
        facing = FACING_NAMES.get(message.facing, "rear")
        front = {c.participant for c in cameras if c.facing == "front"}
        check.that(
            facing == "rear" or message.participant not in front,
            f"{field}.facing",
            "expected one front camera per participant, found a second one",
        )
        check.that(
            message.codec in {0, *VIDEO_CODEC_NAMES},
            f"{field}.codec",
            f"expected none, {', '.join(name.upper() for name in VIDEO_CODECS)}, found {message.codec}",
        )
        check.that(
            message.rotation_degrees in (0, 90, 180, 270),
            f"{field}.rotation_degrees",
            f"expected 0, 90, 180 or 270, found {message.rotation_degrees}",
        )
        codec = VIDEO_CODEC_NAMES.get(message.codec)
        cameras.append(Camera(message.id, message.participant, facing, codec, message.rotation_degrees))
    return tuple(cameras)


def read_recording_config(message: recordings_pb2.RecordingConfig) -> RecordingConfig:
    """Raises MessageError naming every field that is missing, out of range or contradictory."""
    check = Check()
    check.length(message.name, "config.name", 1, 256)
    check.length(message.request_id, "config.request_id", 0, 128)
    language = optional(message, "language")
    check_language(check, "config.language", language)
    voices = _check_voices(check, message, language) if message.HasField("voices") else None
    participants: tuple[Participant, ...] = ()
    if voices is None:
        participants = check_participants(check, "config.participants", message.participants, MAX_CHANNELS)
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
    check = Check()
    details = _check_details(check, field, message)
    check.done()
    return details


def _check_details(check: Check, field: str, message: calls_pb2.CallDetails) -> CallDetails:
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
        check_text(check, f"{field}.{name}", getattr(message, name), 0, most)
    return CallDetails(
        id=message.id,
        started=check_time(check, f"{field}.start_time", message, "start_time"),
        queue=message.queue or None,
        product=message.product or None,
        agent_group=message.agent_group or None,
        customer_reference=message.customer_reference or None,
        agent_reference=message.agent_reference or None,
    )


def read_outcome(message: calls_pb2.RecordOutcomeRequest) -> tuple[str, Outcome]:
    """Id of the call, and what became of it. Raises MessageError naming every field that is wrong."""
    check = Check()
    check_text(check, "call_id", message.call_id, 1, MAX_CALL_ID_CHARACTERS)
    at = check_time(check, "at", message, "at")
    known = message.kind in OUTCOME_KIND_NAMES
    check.that(known, "kind", f"expected {', '.join(OUTCOME_KINDS)}; found {message.kind}")
    check.done()
    kind = OUTCOME_KIND_NAMES[message.kind]
    expected, found = "score" if kind in SCALES else "happened", message.WhichOneof("value")
    check.that(found == expected, expected, f"expected it for {kind}, found {found or 'no value'}")
    check.done()
    try:
        return message.call_id, Outcome(kind, float(getattr(message, expected)), at)
    except InvalidInputError as error:
        raise MessageError((expected, str(error))) from error


def read_feedback(message: calls_pb2.RecordFeedbackRequest) -> tuple[str, Feedback]:
    """Id of the call, and what a person made of a suggestion. Raises MessageError naming every field that is wrong."""
    check = Check()
    check_text(check, "call_id", message.call_id, 1, MAX_CALL_ID_CHARACTERS)
    check_text(check, "suggestion_id", message.suggestion_id, 1, MAX_CALL_ID_CHARACTERS)
    check_text(check, "correction", message.correction, 0, MAX_CORRECTION_CHARACTERS)
    check_text(check, "note", message.note, 0, MAX_NOTE_CHARACTERS)
    at = check_time(check, "at", message, "at")
    verdict = VERDICT_NAMES.get(message.verdict)
    check.that(verdict is not None, "verdict", f"expected {', '.join(VERDICTS)}; found {message.verdict}")
    correction = message.correction.strip() or None
    check.that(
        verdict is None or (verdict == "corrected") == (correction is not None),
        "correction",
        "expected a correction with `corrected`, and with nothing else",
    )
    check.done()
    feedback = Feedback(
        message.suggestion_id, VERDICT_NAMES[message.verdict], correction, message.note.strip() or None, at
    )
    return message.call_id, feedback


def read_text_request(message: analyze_pb2.AnalyzeTextRequest) -> tuple[ChatConfig, list[TextEvent]]:
    """Raises MessageError naming every field that is missing, out of range or contradictory."""
    check = Check()
    check.length(message.name, "name", 1, 256)
    language = optional(message, "language")
    check_language(check, "language", language)
    participants = check_participants(check, "participants", message.participants, MAX_PARTICIPANTS)
    check.that(
        len(message.turns) <= MAX_WRITTEN, "turns", f"expected at most {MAX_WRITTEN}, found {len(message.turns)}"
    )
    known = {participant.id for participant in participants}
    turns: list[TextEvent] = []
    for index, event in enumerate(islice(message.turns, MAX_WRITTEN)):
        field = f"turns[{index}]"
        turn = TextEvent(event.participant, event.text.strip(), event.at_us, optional(event, "language"))
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
        check_language(check, f"{field}.language", turn.language)
        turns.append(turn)
    check.done()
    return ChatConfig(message.name, participants, language), turns
