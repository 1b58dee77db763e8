"""The speech gate's second look: voices higher than its network knows are speech, loud music and tones are none."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soxr

from affectline.models.ports import RATE_HZ
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.store import Store, default_root
from affectline.models.zoo.silero import SileroGate
from affectline.pipelines.media import open_recording
from affectline.pipelines.segmenter import Segmenter

from . import sounds

pytestmark = pytest.mark.integration


@cache
def gate() -> SileroGate:
    store, spec = Store(default_root()), all_models()["silero"]
    assert spec.artifact is not None
    store.pull(spec.artifact)
    model = load_model(spec, store, Runtime(threads=1))
    assert isinstance(model, SileroGate)
    return model


def loud(pcm: F32) -> F32:
    return np.asarray(pcm * 0.9 / np.abs(pcm).max(), np.float32)


def agent(raised: float) -> F32:
    """The example's agent, faster and so many times higher."""
    recording = open_recording(Path(__file__).parents[1] / "examples/dealership_call.flac")
    pcm = np.concatenate([chunk.pcm for chunk in recording.chunks() if chunk.channel == 1])
    return loud(soxr.resample(pcm, raised * recording.rate_hz, RATE_HZ))


def share_of_speech(pcm: F32) -> float:
    return float((gate().open().feed(pcm) >= 0.5).mean())


@pytest.mark.parametrize("raised", [1.5, 1.8, 2.0])
def test_high_voices_are_speech(raised: float) -> None:
    """By the network alone, nearly nothing is left of them an octave higher."""
    assert share_of_speech(agent(raised)) == pytest.approx(share_of_speech(agent(1.0)), abs=0.03)


@pytest.mark.parametrize("make", [sounds.hold_music, sounds.hold_tone, sounds.ring_back, sounds.dtmf])
def test_loud_music_and_tones_are_not(make: Callable[[float], F32]) -> None:
    """Not for long enough, at any rate, to be an utterance."""
    segmenter = Segmenter(1000 * gate().frame_samples / RATE_HZ)
    for probability in gate().open().feed(soxr.resample(loud(make(20.0)), sounds.RATE_HZ, RATE_HZ)).tolist():
        assert not list(segmenter.feed(probability))
    assert not list(segmenter.break_off())


@pytest.mark.parametrize("step", [160, 511, 20_000])
def test_chunking_does_not_change_the_second_look(step: int) -> None:
    pcm = agent(2.0)[: 12 * RATE_HZ]
    stream = gate().open()
    found = [stream.feed(pcm[at : at + step]) for at in range(0, len(pcm), step)]
    np.testing.assert_allclose(np.concatenate(found), gate().open().feed(pcm), atol=1e-4)
