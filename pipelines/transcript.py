"""One stretch of speech to words: encode once, read, and read again over a longer window when reading ran away."""

from dataclasses import dataclass, replace

from affectline.models.ports import AcousticEncoder, Recogniser
from affectline.models.signals import F32, Encoding, Span, Transcription, Word

NO_SPEECH = 0.6
MIN_CONFIDENCE = 0.37
"""exp(-1): with NO_SPEECH, openai-whisper's rule for sound that is not speech."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was heard in one stretch of speech."""

    encoding: Encoding
    transcription: Transcription
    """Times on the call's clock."""
    translation: str | None


class Transcriber:
    """Stateless but for the models it shares."""

    def __init__(self, encoder: AcousticEncoder, recogniser: Recogniser) -> None:
        self._encoder = encoder
        self._recogniser = recogniser

    def read(
        self, pcm: F32, start_us: int, *, language: str | None, usual_language: str | None, translate: bool
    ) -> Reading:
        """pcm [n] at RATE_HZ, at most the encoder's long window; `start_us` is the time of pcm[0]."""
        encoding = self._encoder.encode(pcm)
        heard = self._recogniser.transcribe(encoding, language=language, usual_language=usual_language)
        if heard.runaway:
            encoding = self._encoder.encode(pcm, long_window=True)
            heard = self._recogniser.transcribe(encoding, language=language, usual_language=usual_language)
        if heard.runaway or (heard.no_speech > NO_SPEECH and heard.confidence < MIN_CONFIDENCE):
            heard = replace(heard, text="", words=())
        translation = None
        if translate and heard.text and heard.language != "en":
            translation = self._recogniser.transcribe(encoding, language=heard.language, translate=True).text
        words = tuple(_shift(word, start_us) for word in heard.words)
        return Reading(encoding, replace(heard, words=words), translation)


def _shift(word: Word, start_us: int) -> Word:
    return replace(word, span=Span(start_us + word.span.start_us, start_us + word.span.end_us))
