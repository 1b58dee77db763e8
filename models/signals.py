"""What travels through the service: inputs of a call and what models say about them.

All times are media time in integer microseconds since the start of the call; spans are half-open.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from affectline.models.labels import Label

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

Modality = Literal["voice", "text", "face", "stress", "dynamics"]
GapReason = Literal["hold", "loss", "mute", "consent withdrawn"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open stretch of media time."""

    start_us: int
    """First microsecond inside; >= 0."""
    end_us: int
    """First microsecond after; >= start_us."""

    def __post_init__(self) -> None:
        if not 0 <= self.start_us <= self.end_us:
            raise ValueError(f"expected 0 <= start_us <= end_us, found {self.start_us} and {self.end_us}")

    @property
    def duration_us(self) -> int:
        return self.end_us - self.start_us

    def overlap_us(self, other: "Span") -> int:
        return max(0, min(self.end_us, other.end_us) - max(self.start_us, other.start_us))


@dataclass(frozen=True, slots=True)
class AudioChunk:
    """Sound of one channel."""

    channel: int
    """Zero-based."""
    pcm: F32
    """[n], in [-1, 1]; may be empty."""
    rate_hz: int
    """8,000 to 192,000; the same for all chunks of a channel."""
    start_sample: int
    """Position of pcm[0] in the channel, in samples at `rate_hz`; a jump forward is a loss."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One picture of one camera."""

    camera: str
    rgb: U8
    """[height, width, 3]."""
    at_us: int


@dataclass(frozen=True, slots=True)
class TextEvent:
    """A written turn (chat, e-mail) of one party."""

    participant: str
    text: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Media that did not come, or must not be used."""

    channel: int
    span: Span
    reason: GapReason


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    span: Span
    confidence: float
    """Mean probability of the word's tokens, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Transcription:
    """What a recogniser heard in one window; times count from the window's start."""

    text: str
    words: tuple[Word, ...]
    language: str
    """ISO 639-1 where there is one, as the recogniser names it."""
    language_confidence: float
    """In [0, 1]; 1 when the language was given."""
    confidence: float
    """exp of the mean token log-probability, in [0, 1]."""
    no_speech: float
    """The recogniser's own belief that nothing was said, in [0, 1]."""
    runaway: bool = False
    """It fell into repetition or never ended: the text is not to be trusted."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """One pass of the shared acoustic encoder over one padded window."""

    hidden: F32
    """[1, frames, width]: the last layer, padding included; what the recogniser attends to."""
    layers: Mapping[int, F32]
    """Early layer number (1 = after the first block) -> [frames, width], padding included."""
    frame_us: int
    """Time per frame (20,000 for Whisper)."""
    input_frames: int
    """Frames that carry the input; the rest is padding."""


@dataclass(frozen=True, slots=True)
class AffectScores:
    """What one affect model says of one piece of input."""

    labels: Mapping[Label, float] | None
    """Probabilities summing to 1, or None from a model of dimensions only."""
    valence: float | None
    """-1 (unpleasant) to 1 (pleasant)."""
    arousal: float | None
    """-1 (calm) to 1 (excited)."""
    dominance: float | None
    """-1 (submissive) to 1 (in control)."""
    confidence: float
    """The model's calibrated belief in its own answer, in [0, 1]."""
    evidence: tuple[str, ...] = ()
    """Words or features that mattered, for people to read."""


@dataclass(frozen=True, slots=True)
class AffectEstimate:
    """AffectScores placed in the call: whose, when, by which modality, from how good an input."""

    span: Span
    participant: str
    modality: Modality
    scores: AffectScores
    quality: float
    """How fit the input was (SNR, amount of speech, recogniser confidence), in [0, 1]."""
    model: str
    """`name@version`."""


@dataclass(frozen=True, slots=True)
class VocalFeatures:
    """Vocal stress features of one utterance or one second; None where the input cannot carry the feature."""

    f0_median_hz: float | None = None
    f0_range_semitones: float | None = None
    """10th to 90th percentile."""
    f0_slope_semitones_s: float | None = None
    f0_deviation_semitones: float | None = None
    """Standard deviation."""
    intensity_db: float | None = None
    """RMS level re full scale."""
    jitter: float | None = None
    """Local jitter, a ratio (0.01 = 1 %)."""
    shimmer: float | None = None
    """Local shimmer, a ratio."""
    hnr_db: float | None = None
    """Harmonics-to-noise ratio."""
    rate_syllables_s: float | None = None
    """Syllable nuclei per second of speech."""
    pause_ratio: float | None = None
    """Share of the span without speech, in [0, 1]."""
    voiced_ratio: float = field(default=0.0)
    """Share of frames with a pitch, in [0, 1]."""
