"""The messages of one running call, as the service reads them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from affectline.models.errors import CapacityError, InvalidInputError
from affectline.models.signals import F32, AudioChunk, EncodedFrame, Gap, Span, TextEvent
from affectline.pipelines import g711
from affectline.pipelines.audio import MAX_JUMP_S
from affectline.pipelines.mono import MonoConfig
from affectline.pipelines.session import MAX_TEXT_CHARACTERS, CallConfig, ConsentChange, Input
from affectline.pipelines.timeline import SuggestionFeedback
from affectline.protos.v1 import analyze_pb2, timeline_pb2
from affectline.server.wire.checks import Check, MessageError
from affectline.server.wire.names import (
    CONSENT_NAMES,
    EMOTION_NAMES,
    GAP_REASON_NAMES,
    GAP_REASONS,
    VERDICT_NAMES,
    optional,
)
from affectline.server.wire.timeline import suggestion_feedback_from_wire


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
        return TextEvent(message.participant, message.text, self._time_us(message.at_us), optional(message, "language"))

    def _read_gap(self, message: analyze_pb2.Gap) -> Iterator[Gap]:
        if not 0 < message.duration_us <= MAX_GAP_US:
            raise InvalidInputError(f"expected a gap of 1 to {MAX_GAP_US} us, found {message.duration_us}")
        if message.reason not in GAP_REASON_NAMES:
            raise InvalidInputError(f"expected {', '.join(GAP_REASONS)} as a gap's reason, found {message.reason}")
        start_us = self.received_us
        self._advance(self._next_sample, message.duration_us * self._audio.rate_hz // 1_000_000)
        end_us = start_us + message.duration_us
        # In pieces, all channels in step, so that a long hold takes no more memory than a short one.
        for piece_us in range(start_us, end_us, GAP_PIECE_US):
            span = Span(piece_us, min(piece_us + GAP_PIECE_US, end_us))
            for channel in self._channels:
                yield Gap(channel, span, GAP_REASON_NAMES[message.reason])

    def _read_consent(self, message: analyze_pb2.ConsentChange) -> ConsentChange:
        check = Check()
        check.that(
            self._mixed or message.participant in self._names,
            "consent.participant",
            "expected the id of a participant, found another one",
        )
        check.that(
            message.consent in {0, *CONSENT_NAMES},
            "consent.consent",
            f"expected granted, pending or denied, found {message.consent}",
        )
        check.length(message.biometric_basis, "consent.biometric_basis", 0, 256)
        check.done()
        consent = CONSENT_NAMES.get(message.consent, "pending")
        return ConsentChange(message.participant, consent, message.biometric_basis or None)

    def _read_feedback(self, message: timeline_pb2.SuggestionFeedback) -> SuggestionFeedback:
        if message.verdict not in VERDICT_NAMES:
            raise InvalidInputError(f"expected accepted, dismissed or corrected as a verdict, found {message.verdict}")
        if message.correction_emotion not in {0, *EMOTION_NAMES}:
            raise InvalidInputError(f"expected an emotion as a correction, found {message.correction_emotion}")
        return replace(suggestion_feedback_from_wire(message), at_us=self._time_us(message.at_us))

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
