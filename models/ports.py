"""What each kind of model must offer. A model is stateless and shared; a stream is stateful and per call."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

from affectline.models.labels import Label
from affectline.models.signals import (
    F32,
    U8,
    AffectScores,
    Encoding,
    Expressions,
    Face,
    FeatureStats,
    SpeakerTurn,
    Transcription,
)

Task = Literal[
    "speech_gate",
    "acoustic_encoder",
    "recogniser",
    "voice_affect",
    "text_affect",
    "face_detector",
    "expression",
    "diarizer",
    "speaker_encoder",
]
RATE_HZ = 16_000
"""The rate all audio models work at."""
Crop = tuple[float, float, float, float]
"""Left, top, right, bottom of a part of a face, as parts of the face as FER2013 shows it."""
WHOLE: Final[Crop] = (0.0, 0.0, 1.0, 1.0)


class SpeechGateStream(Protocol):
    def feed(self, pcm: F32) -> F32:
        """pcm [n] at RATE_HZ, any n -> speech probability in [0, 1] of each whole frame completed, [frames]."""
        ...


class SpeechGate(Protocol):
    frame_samples: int
    """Samples at RATE_HZ per decision."""

    def open(self) -> SpeechGateStream: ...


class AcousticEncoder(Protocol):
    window_samples: int
    """The usual window at RATE_HZ; shorter input is padded to it."""
    long_window_samples: int
    """Longest input at RATE_HZ; costs more, and is what the recogniser is steadiest on."""

    def encode(self, pcm: F32, *, long_window: bool = False) -> Encoding:
        """pcm [1 <= n <= long_window_samples] at RATE_HZ; the long window is used when asked for or needed."""
        ...


class Recogniser(Protocol):
    languages: tuple[str, ...]

    def transcribe(
        self,
        encoding: Encoding,
        *,
        language: str | None = None,
        usual_language: str | None = None,
        translate: bool = False,
        draft: Sequence[int] = (),
    ) -> Transcription:
        """`language` None: detect it, and take the speaker's `usual_language` where that is not sure.

        `translate`: English text whatever was spoken (its words carry no times).
        `draft`: `tokens` of a reading of the beginning of the same sound. They are checked: where they are right they
        save time, where they are wrong they change nothing.
        """
        ...


class VoiceAffect(Protocol):
    model: str
    """`name@version`."""
    prior: Mapping[Label, float]
    """What it answers where nothing speaks for any label; only what goes beyond it is evidence."""

    usual: FeatureStats
    """`features` over its training data: what a site baseline starts from."""

    def features(self, encoding: Encoding, start_frame: int, end_frame: int) -> F32:
        """[k] of frames [start_frame, end_frame), at least one; what a site baseline is learnt from."""
        ...

    def estimate(
        self, encoding: Encoding, start_frame: int, end_frame: int, site: FeatureStats | None = None
    ) -> AffectScores:
        """Affect of frames [start_frame, end_frame) of the encoding; at least one frame.

        site: mean and deviation of `features` over what this deployment usually hears; without it, those of the
        training data.
        """
        ...


class TextAffect(Protocol):
    model: str
    prior: Mapping[Label, float]
    """As VoiceAffect.prior."""
    languages: tuple[str, ...]
    """Languages the model knows."""

    def estimate(self, text: str) -> AffectScores: ...


class FaceDetector(Protocol):
    def detect(self, rgb: U8, *, min_score: float = 0.5) -> list[Face]:
        """rgb uint8 [height, width, 3] -> faces, strongest first."""
        ...


class Expression(Protocol):
    model: str
    side: int
    """Of the aligned face it takes, in pixels."""
    crop: Crop
    """What it takes of a face; this part is stretched to the square that it sees."""
    labels: tuple[Label, ...]
    """Of the columns that `estimate` gives."""
    prior: Mapping[Label, float]
    """As VoiceAffect.prior."""

    def estimate(self, rgb: U8) -> Expressions:
        """Aligned faces, RGB [n, side, side, 3] -> what they look like. A network of gray faces turns them gray."""
        ...


class Diarizer(Protocol):
    model: str

    def diarize(self, pcm: F32, rate_hz: int, *, speakers: int | None = None) -> tuple[SpeakerTurn, ...]:
        """Who speaks when in sound of several voices: pcm [n] at 8,000 to 192,000 Hz -> turns by their starts.

        Turns of different speakers may overlap. `speakers`: how many there are, where that is known. Raises
        InvalidInputError for what is no such sound.
        """
        ...


class SpeakerEncoder(Protocol):
    model: str
    width: int
    """Of an embedding."""
    window_samples: int
    """Best window at RATE_HZ; shorter ones are less sure."""

    def embed(self, windows: F32) -> F32:
        """[n, samples] at RATE_HZ, at least 10 ms each -> [n, width] of unit length, near for the same voice.

        An embedding is biometric data: it lives as long as its call and is not stored, logged or sent.
        """
        ...
