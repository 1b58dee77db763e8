"""Our recogniser beside openai-whisper on the same weights and the same real speech, layer by layer.

Tolerances: at float32 both differ by the order of summation only; at int8 every linear layer rounds its weights and
inputs to 8 bits, so layers are held to a relative error and a cosine, and the words to a word error rate.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, Encoding
from affectline.models.store import Artifact, Store, default_root
from affectline.models.zoo.whisper import WhisperEncoder, WhisperRecogniser, log_mel
from affectline.pipelines.media import open_recording
from affectline.pipelines.resample import Resampler

torch = pytest.importorskip("torch", reason="needs the extra `reference` (torch)")
openai = pytest.importorskip("whisper", reason="needs the extra `reference` (openai-whisper)")

pytestmark = pytest.mark.reference

EXAMPLE = Path(__file__).parents[1] / "examples/dealership_call.flac"
UTTERANCES = ((1, 0.3, 6.1), (0, 6.7, 13.4), (0, 14.0, 18.7), (0, 23.2, 37.4), (0, 37.2, 42.9), (1, 44.7, 51.0))
"""(channel, start, end in s) of speech in the example."""
MORE = Path(__file__).parents[2] / "shared/data/ravdess_speech/audio"
"""Used when it is there."""


def resampled(pcm: F32, rate_hz: int) -> F32:
    resampler = Resampler(rate_hz)
    return np.concatenate((resampler.feed(pcm), resampler.finish()))


@cache
def clips() -> list[F32]:
    sound: dict[int, list[F32]] = {0: [], 1: []}
    recording = open_recording(EXAMPLE)
    for chunk in recording.chunks():
        sound[chunk.channel].append(chunk.pcm)
    found = []
    for channel, start_s, end_s in UTTERANCES:
        pcm = np.concatenate(sound[channel])[int(start_s * recording.rate_hz) : int(end_s * recording.rate_hz)]
        found.append(resampled(pcm, recording.rate_hz))
    for path in sorted(MORE.glob("*.flac"))[::120]:
        more = open_recording(path)
        found.append(resampled(np.concatenate([chunk.pcm for chunk in more.chunks()]), more.rate_hz))
    return found


@cache
def peer() -> Any:
    from benchmarks.peers_weights import openai_whisper

    return openai_whisper()


def artifact(name: str) -> Artifact:
    found = all_models()[name].artifact
    assert found is not None
    return found


@cache
def ours(name: str) -> tuple[WhisperEncoder, WhisperRecogniser]:
    store, runtime = Store(default_root()), Runtime()
    store.pull(artifact(name))
    encoder, recogniser = (load_model(all_models()[n], store, runtime) for n in (f"{name}-encoder", name))
    return encoder, recogniser


@cache
def encodings(name: str) -> list[Encoding]:
    return [ours(name)[0].encode(pcm, long_window=True) for pcm in clips()]


@cache
def peer_mels() -> list[Any]:
    return [openai.log_mel_spectrogram(openai.pad_or_trim(pcm)) for pcm in clips()]


@cache
def peer_layers() -> list[list[F32]]:
    """Per clip the outputs of the encoder's blocks, then what the decoder sees; each [1500, width]."""
    found: list[list[F32]] = []
    hooks = [
        block.register_forward_hook(lambda _module, _input, output: found[-1].append(output[0].numpy()))
        for block in peer().encoder.blocks
    ]
    with torch.no_grad():
        for mel in peer_mels():
            found.append([])
            found[-1].append(peer().encoder(mel[None])[0].numpy())
    for hook in hooks:
        hook.remove()
    return found


def prompt_and_text(tokenizer: Any, text: str) -> list[int]:
    return [*tokenizer.sot_sequence_including_notimestamps, *tokenizer.encode(" " + text)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return openai.tokenizer.get_tokenizer(multilingual=True, language="en", task="transcribe")


def test_log_mel_is_the_same() -> None:
    filters = np.load(Store(default_root()).folder(artifact("whisper-base")) / "mel_filters.npy")
    for pcm, expected in zip(clips(), peer_mels(), strict=True):
        np.testing.assert_allclose(log_mel(pcm, 30, filters), expected.numpy(), atol=2e-4)


def layer_pairs(name: str, layer: int) -> Iterator[tuple[F32, F32]]:
    """(ours, theirs) per clip, each [1500, width]; `layer` 0 is the output of the encoder."""
    for found, expected in zip(encodings(name), peer_layers(), strict=True):
        yield found.layers[layer] if layer else found.hidden[0], expected[layer - 1]


@pytest.mark.parametrize(("layer", "max_error"), [(1, 5e-5), (2, 5e-5), (3, 5e-4), (0, 5e-3)])
def test_encoder_layers_at_float32(layer: int, max_error: float) -> None:
    """Values reach 5 in layers 1 and 2, and 25 later."""
    for found, expected in layer_pairs("whisper-base-fp32", layer):
        np.testing.assert_allclose(found, expected, rtol=0, atol=max_error)


@pytest.mark.parametrize(
    ("layer", "max_relative", "min_cosine"), [(1, 0.05, 0.999), (2, 0.05, 0.999), (3, 0.08, 0.998), (0, 0.2, 0.975)]
)
def test_encoder_layers_at_int8(layer: int, max_relative: float, min_cosine: float) -> None:
    """Relative error over the clip, and the mean cosine over its frames."""
    for found, expected in layer_pairs("whisper-base", layer):
        assert np.linalg.norm(found - expected) < max_relative * np.linalg.norm(expected)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        assert np.mean((found * expected).sum(axis=1) / norms) > min_cosine


def test_logits_step_by_step_at_float32(tokenizer: Any) -> None:
    """Values reach 40."""
    _, recogniser = ours("whisper-base-fp32")
    for encoding, layers in zip(encodings("whisper-base-fp32"), peer_layers(), strict=True):
        tokens = prompt_and_text(tokenizer, "Kids are talking by the door.")
        with torch.no_grad():
            hidden = torch.from_numpy(layers[-1])[None]
            expected = peer().decoder(torch.tensor([tokens]), hidden)[0].numpy()
        stepper = recogniser._stepper(encoding)
        one_by_one = np.concatenate([stepper.feed_all([token])[0] for token in tokens])
        at_once = recogniser.logits(encoding, tokens)
        np.testing.assert_allclose(one_by_one, expected, rtol=0, atol=5e-3)
        np.testing.assert_allclose(at_once, expected, rtol=0, atol=5e-3)


def test_alignment_heads_are_those_of_the_package() -> None:
    folder = Store(default_root()).folder(artifact("whisper-base-fp32"))
    listed = json.loads((folder / "config.json").read_text())["alignment_heads"]
    assert sorted(map(tuple, listed)) == sorted(map(tuple, peer().alignment_heads.indices().T.tolist()))


def test_greedy_transcripts_are_the_same_at_float32() -> None:
    _, recogniser = ours("whisper-base-fp32")
    options = openai.DecodingOptions(language="en", without_timestamps=True, fp16=False)
    for encoding, mel in zip(encodings("whisper-base-fp32"), peer_mels(), strict=True):
        expected = openai.decode(peer(), mel, options)
        found = recogniser.transcribe(encoding, language="en")
        assert found.text == expected.text
        assert found.no_speech == pytest.approx(expected.no_speech_prob, abs=1e-3)
        # Theirs divides by one more than the tokens with the closing one.
        assert np.log(found.confidence) == pytest.approx(expected.avg_logprob, abs=0.01)


def test_transcripts_at_int8_and_in_the_usual_window_keep_the_words() -> None:
    """At most one word in twenty differs from what openai-whisper hears with float32 in 30 s windows."""
    jiwer = pytest.importorskip("jiwer", reason="needs the extra `bench` (jiwer)")
    from benchmarks.transcript import normalised

    encoder, recogniser = ours("whisper-base")
    options = openai.DecodingOptions(language="en", without_timestamps=True, fp16=False)
    expected = [normalised(openai.decode(peer(), mel, options).text) for mel in peer_mels()]
    found = [normalised(recogniser.transcribe(encoder.encode(pcm), language="en").text) for pcm in clips()]
    assert jiwer.wer(expected, found) <= 0.05


def test_detected_languages_are_the_same_at_float32() -> None:
    _, recogniser = ours("whisper-base-fp32")
    for encoding, mel in zip(encodings("whisper-base-fp32"), peer_mels(), strict=True):
        _, probabilities = peer().detect_language(mel)
        found = recogniser.transcribe(encoding)
        assert found.language == max(probabilities, key=probabilities.get)
        assert found.language_confidence == pytest.approx(probabilities[found.language], abs=1e-3)


def test_word_times_at_float32(tokenizer: Any) -> None:
    """Same words as openai-whisper's word_timestamps, begun and ended within 60 ms (three frames)."""
    _, recogniser = ours("whisper-base-fp32")
    for encoding, mel, pcm in zip(encodings("whisper-base-fp32"), peer_mels(), clips(), strict=True):
        found = recogniser.transcribe(encoding, language="en")
        tokens = tokenizer.encode(" " + found.text)
        expected = openai.timing.find_alignment(peer(), tokenizer, tokens, mel, len(pcm) // 160)
        openai.timing.merge_punctuations(expected, "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、")
        parts: list[list[Any]] = []
        for part in (part for part in expected if part.word):
            if part.word.startswith(" "):  # theirs cuts `high-end` in two
                parts.append([])
            parts[-1].append(part)
        assert [word.text for word in found.words] == ["".join(p.word for p in word).strip() for word in parts]
        starts = [word.span.start_us / 1e6 for word in found.words]
        np.testing.assert_allclose(starts, [word[0].start for word in parts], rtol=0, atol=0.0601)
        # Theirs ends a word before its punctuation, ours after it.
        ends = [(w.span.end_us / 1e6, p[-1].end) for w, p in zip(found.words, parts, strict=True) if w.text.isalnum()]
        np.testing.assert_allclose(*zip(*ends, strict=True), rtol=0, atol=0.0601)
