"""One stretch of speech to words: encode once, read, and read again over a longer window when reading ran away."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from affectline.models.ports import AcousticEncoder, Recogniser
from affectline.models.signals import F32, Encoding, Span, Transcription, Word
from affectline.pipelines.redaction.numbers import is_number

NO_SPEECH = 0.6
MIN_CONFIDENCE = 0.37
"""exp(-1): with NO_SPEECH, openai-whisper's rule for sound that is not speech."""
MAX_PHRASE_WORDS = 8
LOOP_TIMES, LOOP_WORD_TIMES = 3, 5
"""A phrase, or a single word, this often in a row is the recogniser going round in circles; people do say "no, no,
no". By convention."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was heard in one stretch of speech."""

    encoding: Encoding
    transcription: Transcription
    """Times on the call's clock."""
    translation: Transcription | None
    """English, where it was asked for; None when there is none to trust."""


class Transcriber:
    """Stateless but for the models it shares."""

    def __init__(self, encoder: AcousticEncoder, recogniser: Recogniser) -> None:
        self._encoder = encoder
        self._recogniser = recogniser

    def read(
        self,
        pcm: F32,
        start_us: int,
        *,
        language: str | None,
        usual_language: str | None,
        translates: Callable[[str], bool] = lambda language: False,
        draft: Sequence[int] = (),
    ) -> Reading:
        """pcm [n] at RATE_HZ, at most the encoder's long window; `start_us` is the time of pcm[0].

        translates: whether what was said in a language is to be translated to English.
        draft: tokens of a reading of the same sound as far as it had come.
        """
        encoding = self._encoder.encode(pcm)
        heard = self._recogniser.transcribe(encoding, language=language, usual_language=usual_language, draft=draft)
        if heard.runaway or loops(heard.text.split(), heard.language):
            encoding = self._encoder.encode(pcm, long_window=True)
            heard = self._recogniser.transcribe(encoding, language=language, usual_language=usual_language)
        if heard.runaway or (heard.no_speech > NO_SPEECH and heard.confidence < MIN_CONFIDENCE):
            heard = replace(heard, text="", words=(), tokens=())
        heard = without_loops(heard)
        translation = None
        if heard.text and translates(heard.language):
            english = self._recogniser.transcribe(encoding, language=heard.language, translate=True)
            english = without_loops(replace(english, words=()))
            translation = english if english.text and not english.runaway else None
        words = tuple(_shift(word, start_us) for word in heard.words)
        return Reading(encoding, replace(heard, words=words), translation)


def loops(words: Sequence[str], language: str) -> list[tuple[int, int, int]]:
    """(first word, words of the phrase, words of all its repetitions) of phrases said over and over, in order.

    Numbers may be said often: "one one one one" is none.
    """
    plain = [re.sub(r"\W+", "", word).lower() for word in words]
    found, at = [], 0
    while at < len(plain):
        for size in range(1, MAX_PHRASE_WORDS + 1):
            end = at + size
            while plain[end : end + size] == plain[at : at + size] and end + size <= len(plain):
                end += size
            often = (end - at) // size >= (LOOP_WORD_TIMES if size == 1 else LOOP_TIMES)
            if often and not all(is_number(word, language) for word in plain[at : at + size]):
                found.append((at, size, end - at))
                at = end - 1
                break
        at += 1
    return found


def without_loops(heard: Transcription) -> Transcription:
    """Phrases said over and over count once; a text that is little else was never said, and goes."""
    pieces = [word.text for word in heard.words] or heard.text.split()
    found = loops(pieces, heard.language)
    if not found:
        return heard
    if 2 * sum(length for _, _, length in found) >= len(pieces):
        return replace(heard, text="", words=())
    dropped = {i for first, size, length in found for i in range(first + size, first + length)}
    text = " ".join(piece for i, piece in enumerate(pieces) if i not in dropped)
    return replace(heard, text=text, words=tuple(word for i, word in enumerate(heard.words) if i not in dropped))


def _shift(word: Word, start_us: int) -> Word:
    return replace(word, span=Span(start_us + word.span.start_us, start_us + word.span.end_us))
