"""The recogniser with its real weights: what it gives for speech, and what it admits for everything else."""

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.store import Store, default_root
from affectline.models.zoo.whisper import WhisperEncoder, WhisperRecogniser, _repeats, _warp, log_mel
from affectline.pipelines.media import open_recording
from affectline.pipelines.resample import Resampler
from affectline.pipelines.transcript import Transcriber

pytestmark = pytest.mark.integration

GREETING = (1, 0.3, 6.1, "thank you for calling platinum motors")
APOLOGY = (1, 44.7, 51.0, "so sorry for the inconvenience")
"""(channel, start and end in s, words that are in it) of the example call."""


@cache
def models() -> tuple[WhisperEncoder, WhisperRecogniser]:
    store, runtime, specs = Store(default_root()), Runtime(), all_models()
    assert specs["whisper-base"].artifact is not None
    store.pull(specs["whisper-base"].artifact)
    encoder, recogniser = (load_model(specs[name], store, runtime) for name in ("whisper-base-encoder", "whisper-base"))
    return encoder, recogniser


@pytest.fixture(scope="module")
def sound() -> dict[int, F32]:
    """The example's channels at RATE_HZ."""
    recording = open_recording(Path(__file__).parents[1] / "examples/dealership_call.flac")
    parts: dict[int, list[F32]] = {0: [], 1: []}
    for chunk in recording.chunks():
        parts[chunk.channel].append(chunk.pcm)
    return {channel: Resampler(recording.rate_hz).feed(np.concatenate(pcm)) for channel, pcm in parts.items()}


def cut(sound: dict[int, F32], channel: int, start_s: float, end_s: float) -> F32:
    return sound[channel][int(start_s * RATE_HZ) : int(end_s * RATE_HZ)]


def plain(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalpha() or c == " ")


@pytest.mark.parametrize("window_s", [15, 30])
@pytest.mark.parametrize("samples", [1, 159, 16_000, 57_443, 240_000])
def test_mel_is_that_of_librosa(window_s: int, samples: int) -> None:
    pcm = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    padded = np.zeros(window_s * RATE_HZ, np.float32)
    padded[:samples] = pcm
    power = librosa.feature.melspectrogram(
        y=padded, sr=RATE_HZ, n_fft=400, hop_length=160, n_mels=80, pad_mode="reflect"
    )[:, :-1]
    expected = np.log10(np.maximum(power, 1e-10))
    expected = (np.maximum(expected, expected.max() - 8) + 4) / 4
    filters = librosa.filters.mel(sr=RATE_HZ, n_fft=400, n_mels=80)
    found = log_mel(pcm, window_s, filters)
    assert found.shape == (80, 100 * window_s)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_window_follows_the_length_and_the_wish() -> None:
    encoder, _ = models()
    noise = np.random.default_rng(0).normal(0, 0.1, 16 * RATE_HZ).astype(np.float32)
    assert encoder.encode(noise[: 15 * RATE_HZ]).hidden.shape[1] == 750
    assert encoder.encode(noise).hidden.shape[1] == 1500
    assert encoder.encode(noise[:RATE_HZ], long_window=True).hidden.shape[1] == 1500


@pytest.mark.parametrize("samples", [0, 30 * RATE_HZ + 1])
def test_a_length_that_fits_no_window_is_refused(samples: int) -> None:
    with pytest.raises(InvalidInputError, match=f"expected 1 to 480000 samples, found {samples}"):
        models()[0].encode(np.zeros(samples, np.float32))


def test_an_unknown_language_is_refused() -> None:
    encoder, recogniser = models()
    with pytest.raises(InvalidInputError, match=r"expected a language of en, .*; found 'tlh'"):
        recogniser.transcribe(encoder.encode(np.zeros(RATE_HZ, np.float32)), language="tlh")


@pytest.mark.parametrize("speech", [GREETING, APOLOGY])
def test_speech_gives_its_words_in_order_inside_the_clip(
    sound: dict[int, F32], speech: tuple[int, float, float, str]
) -> None:
    encoder, recogniser = models()
    channel, start_s, end_s, said = speech
    found = recogniser.transcribe(encoder.encode(cut(sound, channel, start_s, end_s)))
    assert said in plain(found.text)
    assert (found.language, found.runaway) == ("en", False)
    assert found.language_confidence > 0.5
    assert found.confidence > 0.5
    assert found.no_speech < 0.5
    assert " ".join(word.text for word in found.words) == found.text
    assert all(0 <= word.confidence <= 1 for word in found.words)
    assert all(a.span.end_us <= b.span.start_us for a, b in pairwise(found.words))
    assert found.words[-1].span.end_us <= (end_s - start_s) * 1e6
    assert all(word.span.duration_us > 0 for word in found.words)


def test_words_move_with_the_speech(sound: dict[int, F32]) -> None:
    encoder, recogniser = models()
    speech = cut(sound, *GREETING[:3])
    late = np.concatenate((np.zeros(2 * RATE_HZ, np.float32), speech))
    early, shifted = (recogniser.transcribe(encoder.encode(pcm), language="en") for pcm in (speech, late))
    starts = {word.text: word.span.start_us for word in early.words}
    moved = [word.span.start_us - starts[word.text] for word in shifted.words if word.text in starts]
    assert np.median(moved) == pytest.approx(2_000_000, abs=60_000)


def test_a_given_language_is_taken_and_sure(sound: dict[int, F32]) -> None:
    encoder, recogniser = models()
    encoding = encoder.encode(cut(sound, *GREETING[:3]))
    given, found = recogniser.transcribe(encoding, language="en"), recogniser.transcribe(encoding)
    assert given.language_confidence == 1
    assert given.text.split()[:6] == found.text.split()[:6]
    assert given.no_speech == pytest.approx(found.no_speech, abs=0.05)


def test_translation_is_english_without_times(sound: dict[int, F32]) -> None:
    encoder, recogniser = models()
    found = recogniser.transcribe(encoder.encode(cut(sound, *GREETING[:3])), language="en", translate=True)
    assert "thank you for calling" in plain(found.text)
    assert found.words == ()


def pathological() -> Iterator[tuple[str, F32]]:
    rng = np.random.default_rng(3)
    time_s = np.arange(5 * RATE_HZ) / RATE_HZ
    yield "silence", np.zeros(5 * RATE_HZ, np.float32)
    yield "noise", rng.normal(0, 0.1, 5 * RATE_HZ).astype(np.float32)
    yield "tone", (0.3 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    yield "square wave", np.sign(np.sin(2 * np.pi * 50 * time_s)).astype(np.float32)
    yield "one sample", np.ones(1, np.float32)


@pytest.mark.parametrize("sound", [pytest.param(pcm, id=name) for name, pcm in pathological()])
def test_no_speech_is_never_given_as_sure_words(sound: F32) -> None:
    reading = Transcriber(*models()).read(sound, 0, language="en", usual_language=None)
    found = reading.transcription
    assert not found.text or found.confidence * (1 - found.no_speech) < 0.5, "as quality is counted"
    assert all(
        0 <= word.span.start_us <= word.span.end_us <= max(20_000, len(sound) * 1e6 / RATE_HZ) for word in found.words
    )


def test_repetition_is_told_from_speech() -> None:
    assert _repeats("and so on and so on and so on and so on and so on and so on and so on")
    assert not _repeats("no no no no")
    assert not _repeats("Of course, I am so sorry for the inconvenience. What was your last name so I can look you up?")


def warp_plainly(cost: np.ndarray) -> float:
    """The cost of the cheapest path, cell by cell (Sakoe & Chiba 1978)."""
    total = np.full((cost.shape[0] + 1, cost.shape[1] + 1), np.inf)
    total[0, 0] = 0
    for i, row in enumerate(cost):
        for j, value in enumerate(row):
            total[i + 1, j + 1] = value + min(total[i, j], total[i, j + 1], total[i + 1, j])
    return float(total[-1, -1])


@settings(deadline=None)
@given(arrays(np.float64, st.tuples(st.integers(1, 7), st.integers(1, 9)), elements=st.integers(-8, 8).map(float)))
def test_the_path_found_is_a_cheapest_one(cost: np.ndarray) -> None:
    """The cheapest way through the first columns found costs what plain dynamic programming finds."""
    columns = cost.shape[1]
    firsts = _warp(cost)
    assert firsts[0] == 0
    ends = [{after - 1, after} for after in firsts[1:]] + [{columns - 1}]
    spent = sum(
        min(row[first : end + 1].sum() for end in last if end >= first)
        for row, first, last in zip(cost, firsts, ends, strict=True)
    )
    assert spent == pytest.approx(warp_plainly(cost))
