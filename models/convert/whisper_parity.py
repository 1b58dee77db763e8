"""Our exported Whisper beside openai-whisper on the same sound: encoder, logits, greedy transcripts."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from typing import Any, Final

import numpy as np

from affectline.models.convert.openai_whisper import package
from affectline.models.convert.whisper import Precision
from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32
from affectline.models.zoo.whisper import WhisperEncoder, WhisperRecogniser

MAX_RELATIVE: Final[dict[Precision, float]] = {"fp32": 1e-3, "fp16": 0.03, "int8": 0.3}
"""Largest relative error (Frobenius norm) of encoder and logits that counts as parity. At float32 only the order of
summation differs; float16 keeps 11 bits through every layer; int8 rounds weights and inputs of each linear layer."""
WINDOW_SAMPLES: Final = 30 * RATE_HZ


@dataclass(frozen=True, slots=True)
class Difference:
    """Between two arrays."""

    max_absolute: float
    mean_absolute: float
    relative: float
    """Norm of the difference over the norm of what was expected."""


@dataclass(frozen=True, slots=True)
class Parity:
    windows: int
    """Of up to 30 s that were compared."""
    encoder: Difference
    """Of what the decoder sees, over all windows, padding included."""
    logits: Difference
    """Of every next token, given openai-whisper's own transcript."""
    transcripts_equal: int
    """Windows whose greedy transcripts are the same to the letter."""
    transcript_similarity: float
    """Mean share of words in common, in order (Ratcliff & Obershelp), in [0, 1]."""
    max_relative: float
    """What counts as parity at this precision."""

    @property
    def holds(self) -> bool:
        return max(self.encoder.relative, self.logits.relative) <= self.max_relative

    def document(self) -> dict[str, Any]:
        """For JSON; no word of what was said is in it."""
        return {**asdict(self), "holds": self.holds}


def compare(
    model: Any, encoder: WhisperEncoder, recogniser: WhisperRecogniser, windows: Sequence[F32], precision: Precision
) -> Parity:
    """model: openai-whisper's. windows: sound at RATE_HZ, each up to 30 s, at least one."""
    from importlib import import_module

    torch, whisper = import_module("torch"), package()
    options = whisper.DecodingOptions(language="en", without_timestamps=True, fp16=False)
    tokenizer = whisper.tokenizer.get_tokenizer(
        model.is_multilingual, num_languages=model.num_languages, language="en", task="transcribe"
    )
    hidden: list[tuple[F32, F32]] = []
    logits: list[tuple[F32, F32]] = []
    texts: list[tuple[str, str]] = []
    for pcm in windows:
        mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(pcm), n_mels=model.dims.n_mels)
        encoding = encoder.encode(pcm, long_window=True)
        with torch.no_grad():
            seen = model.encoder(mel[None])
            heard = whisper.decode(model, mel, options)
            tokens = [*tokenizer.sot_sequence_including_notimestamps, *heard.tokens]
            expected = model.decoder(torch.tensor([tokens]), seen)[0].numpy()
        hidden.append((seen[0].numpy(), encoding.hidden[0]))
        logits.append((expected, recogniser.logits(encoding, tokens)))
        texts.append((heard.text.strip(), recogniser.transcribe(encoding, language="en").text))
    similar = [SequenceMatcher(None, a.split(), b.split(), autojunk=False).ratio() for a, b in texts]
    return Parity(
        windows=len(windows),
        encoder=_difference(hidden),
        logits=_difference(logits),
        transcripts_equal=sum(a == b for a, b in texts),
        transcript_similarity=round(float(np.mean(similar)), 4),
        max_relative=MAX_RELATIVE[precision],
    )


def windows_of(pcm: F32, limit: int) -> list[F32]:
    """Up to `limit` stretches of 30 s from the start of the sound, the last one shorter."""
    return [pcm[at : at + WINDOW_SAMPLES] for at in range(0, len(pcm), WINDOW_SAMPLES)][:limit]


def made_up(seconds: float = 30.0) -> F32:
    """Sound for who gives none: a seeded mixture of tones that come and go, and noise."""
    rng = np.random.default_rng(0)
    time_s = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pcm = rng.normal(0, 0.01, len(time_s))
    for hz in (140, 420, 1260, 2900):
        pcm += 0.1 * np.sin(2 * np.pi * hz * time_s) * (np.sin(2 * np.pi * time_s * rng.uniform(0.5, 4)) > 0)
    return pcm.astype(np.float32)


def _difference(pairs: Sequence[tuple[F32, F32]]) -> Difference:
    """(expected, found) of each window."""
    gaps = np.concatenate([np.abs(found - expected).ravel() for expected, found in pairs])
    norm = np.sqrt(sum(float(np.square(expected, dtype=np.float64).sum()) for expected, _ in pairs))
    return Difference(
        max_absolute=float(gaps.max()),
        mean_absolute=float(gaps.mean()),
        relative=float(np.linalg.norm(gaps.astype(np.float64)) / norm),
    )
