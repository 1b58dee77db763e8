"""Another Whisper than base: a folder that `affectline models export whisper` wrote.

Heads for voice affect learnt from the early layers of base's encoder. Where the folder holds other weights, base's
encoder goes on feeding them, beside the one that the recogniser reads.
"""

from functools import partial
from pathlib import Path
from typing import Any, Final

from affectline.models.errors import InvalidInputError
from affectline.models.exported import facts_of, verify
from affectline.models.ports import AcousticEncoder
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, Encoding
from affectline.models.zoo.whisper import WhisperEncoder, WhisperRecogniser

KIND: Final = "whisper"
BASE_EARLY_SHA256: Final = "2c0e93950d0e018a1a8b7cad59cf543fb8f1845ae2a8e59e077bb8fa2156c19e"
"""`early_sha256` of Whisper base, which the voice heads are trained on."""


class TwoEncoders:
    """What the recogniser reads from one encoder, the early layers from another; both on the same window."""

    def __init__(self, words: AcousticEncoder, voice: AcousticEncoder) -> None:
        self._words = words
        self._voice = voice
        self.window_samples = words.window_samples
        self.long_window_samples = words.long_window_samples

    def encode(self, pcm: F32, *, long_window: bool = False) -> Encoding:
        words, voice = (e.encode(pcm, long_window=long_window) for e in (self._words, self._voice))
        return Encoding(words.hidden, voice.layers, words.frame_us, words.input_frames)


def whisper_folder(folder: Path) -> tuple[ModelSpec, ModelSpec, bool]:
    """(encoder, recogniser, whether the encoder's early layers are those that the voice heads know).

    Reads the manifest only; loading reads every byte once. Raises InvalidInputError.
    """
    facts = facts_of(folder, KIND)
    try:
        name, version, early = str(facts["name"]), f"1.{facts['precision']}", str(facts["early_sha256"])
    except KeyError as error:
        raise InvalidInputError(f"expected {error} in the manifest of {folder}, found none") from error

    def recogniser(_: Path, runtime: Runtime) -> WhisperRecogniser:
        verify(folder, facts)
        return WhisperRecogniser(folder, runtime)

    encoder = partial(_encoder, folder)
    return (
        ModelSpec(f"{name}-encoder", version, "acoustic_encoder", None, encoder, default=False),
        ModelSpec(name, version, "recogniser", None, recogniser, default=False),
        early == BASE_EARLY_SHA256,
    )


def _encoder(folder: Path, _: Path, runtime: Runtime) -> Any:
    return WhisperEncoder(folder, runtime)


MODELS: tuple[ModelSpec, ...] = ()
"""None is part of the package."""
