"""What travels through the service: inputs of a call and what models say about them.

All times are media time in integer microseconds since the start of the call; spans are half-open.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from affectline.models.labels import Label

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

Modality = Literal["voice", "text", "face", "stress", "dynamics"]
GapReason = Literal["hold", "loss", "mute", "no sound", "consent withdrawn"]
FrameUse = Literal["look", "follow", "skip"]


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


@dataclass(frozen=True, slots=True, order=True)
class SpeakerTurn:
    """One speaker speaks."""

    span: Span
    speaker: str
    """A name that means nothing beyond the recording."""


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
    mixed: bool = False
    """Other parties are heard in it, too; of a channel that was split by voices."""


@dataclass(frozen=True, slots=True)
class VideoFrame:
    """One picture of one camera."""

    camera: str
    rgb: U8
    """[height, width, 3]."""
    at_us: int


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One picture of one camera, as it came."""

    camera: str
    image: bytes
    """JPEG, PNG or WebP; of a camera that sends a stream, one frame of it: an access unit of H.264 or H.265 as
    Annex B, a frame of VP8 or VP9, a temporal unit of AV1."""
    at_us: int
    use: FrameUse = "look"
    """What there is time for with a stream's frame: to look at it, only to `follow` so that later ones decode, or
    nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face in a picture, in its pixels; the origin is the upper left corner."""

    box: tuple[float, float, float, float]
    """(left, top, right, bottom), inside the picture."""
    score: float
    """In [0, 1]."""
    landmarks: F32
    """[5, 2]: x, y of the eyes, the nose and the corners of the mouth; left in the picture first."""


@dataclass(frozen=True, slots=True)
class TextEvent:
    """A written turn (chat, e-mail) of one party."""

    participant: str
    text: str
    at_us: int
    language: str | None = None
    """ISO 639-1 when known."""


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
    tokens: tuple[int, ...] = ()
    """The text as the recogniser writes it: the draft of a later reading."""


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
class FeatureStats:
    """How a model's features lie where it is used: a site baseline, learnt without labels."""

    mean: F32
    """[k], k as the model's `features` gives."""
    deviation: F32
    """[k], standard deviation; > 0."""


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
    anger_odds: float | None = None
    """Natural logarithm of the odds of anger or frustration against all else, before any doubt takes the labels back;
    None from a model that does not tell. Good for comparing with the same voice a while ago."""


@dataclass(frozen=True, slots=True)
class Expressions:
    """What an expression model says of n faces."""

    probabilities: F32
    """[n, labels], rows summing to 1."""
    valence_arousal: F32 | None = None
    """[n, 2], each in [-1, 1]; None from a model of categories only."""


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
    """Median pitch in Hz, 60 to 500."""
    f0_range_semitones: float | None = None
    """10th to 90th percentile of pitch in semitones, >= 0."""
    f0_slope_semitones_s: float | None = None
    """Slope of a line through the pitch, in semitones per second."""
    f0_deviation_semitones: float | None = None
    """Standard deviation of pitch in semitones, >= 0."""
    intensity_db: float | None = None
    """RMS level of the speech in dB re full scale, <= 0."""
    jitter: float | None = None
    """Local jitter, a ratio >= 0 (0.01 = 1 %)."""
    shimmer: float | None = None
    """Local shimmer, a ratio >= 0."""
    hnr_db: float | None = None
    """Harmonics-to-noise ratio in dB, about -5 to 40."""
    rate_syllables_s: float | None = None
    """Articulation rate: syllable nuclei per second of speech without its pauses, >= 0."""
    pause_ratio: float | None = None
    """Share of pauses between the first and the last speech, in [0, 1]."""
    voiced_ratio: float = 0.0
    """Share of the speech with a pitch, in [0, 1]."""
    alpha_ratio_db: float | None = None
    """Energy of voiced frames from 1 to 5 kHz over 50 Hz to 1 kHz, in dB, about -30 to 5; higher when pressed or loud.
    On a telephone both ends of the band are missing: it shifts, and compares only with the same kind of line."""
    hammarberg_db: float | None = None
    """Hammarberg index of voiced frames: strongest peak up to 2 kHz over strongest from 2 to 5 kHz, in dB, about 0
    to 50; lower when pressed or loud. On a telephone the upper band ends at its limit of 3.4 kHz."""
    spectral_slope_db_khz: float | None = None
    """Spectral tilt: slope of voiced frames' log power spectrum from 500 to 1,500 Hz, in dB per kHz, about -40 to 10;
    the band lies within a telephone's."""
    quality: float = 0.0
    """How fit the sound is for these features (amount of speech and voice, clipping, tones), in [0, 1]."""
    flaws: tuple[str, ...] = ()
    """What lowers the quality, in plain words: `too little speech`, `hardly any voice`, `clipped`, `steady tones`."""
