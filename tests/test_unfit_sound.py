"""Where there is no fit speech no emotion is claimed, and the quality or the reason says why.

Not told from one adult's speech, and so not asserted: a child (only the recogniser is less sure of the words), and a
second person who speaks while the first is silent. Both are limits stated in docs/voice.md.
"""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from affectline.models.signals import F32, AudioChunk, Modality
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline, Participant
from affectline.server.engine import Engine

from . import sounds
from .sounds import RATE_HZ

pytestmark = pytest.mark.integration

CUSTOMER = Participant("customer", "customer", 0, "granted")
SECONDS = 15.0


@pytest.fixture(scope="module")
def call(example: Path) -> F32:
    """[samples, 2]: customer, agent."""
    pcm, rate_hz = soundfile.read(example, dtype="float32")
    assert rate_hz == RATE_HZ
    return np.asarray(pcm)


@pytest.fixture(scope="module")
def speech(call: F32) -> F32:
    """The customer tells why he calls, 23 s."""
    return call[14 * RATE_HZ : 37 * RATE_HZ, 0]


@pytest.fixture(scope="module")
def clean(engine: Engine, speech: F32) -> CallTimeline:
    return heard(engine, speech)


def heard(engine: Engine, pcm: F32, language: str | None = "en") -> CallTimeline:
    """The timeline of `pcm` as the customer's channel, with a line's faint noise."""
    session = engine.open(CallConfig("sound", (CUSTOMER,), RATE_HZ, language=language))
    session.push(AudioChunk(0, sounds.on_a_line(pcm), RATE_HZ, 0))
    session.finish()
    return session.timeline()


def quality(timeline: CallTimeline, modality: Modality) -> float:
    """Mean over all seconds; 0 where the modality is absent."""
    found = [
        max((c.estimate.quality for c in m.contributors if c.modality == modality), default=0.0)
        for m in timeline.moments
    ]
    return float(np.mean(found))


def reasons(timeline: CallTimeline, modality: Modality) -> str:
    return "; ".join(sorted({a.reason for m in timeline.moments for a in m.absent if a.modality == modality}))


def assert_nothing_is_claimed(timeline: CallTimeline) -> None:
    assert timeline.moments
    assert {m.affect.label for m in timeline.moments} == {"unknown"}
    assert {(m.affect.valence, m.affect.arousal, m.stress) for m in timeline.moments} == {(None, None, None)}
    assert not timeline.suggestions


@pytest.mark.parametrize("make", [sounds.hold_music, sounds.hold_tone, sounds.ring_back, sounds.dtmf, sounds.breath])
def test_music_tones_and_breath_are_no_speech(engine: Engine, make: sounds.Maker) -> None:
    timeline = heard(engine, make(SECONDS), language=None)
    assert_nothing_is_claimed(timeline)
    assert not timeline.utterances
    assert reasons(timeline, "voice") == "no speech"
    assert "no_speech" in {n.code for n in timeline.notices}


@pytest.mark.parametrize("language", ["en", None])
@pytest.mark.parametrize("gain", [0.3, 2.0])
@pytest.mark.parametrize("seed", [100, 400])
def test_coughs_claim_nothing_even_where_words_are_read_into_them(
    engine: Engine, seed: int, gain: float, language: str | None
) -> None:
    timeline = heard(engine, np.clip(gain * sounds.cough(SECONDS, seed), -1, 1), language)
    assert timeline.speech  # the gate takes some for speech
    assert_nothing_is_claimed(timeline)
    assert quality(timeline, "voice") == 0


@pytest.mark.parametrize("seed", range(5))
def test_laughter_claims_nothing(engine: Engine, speech: F32, seed: int) -> None:
    assert_nothing_is_claimed(heard(engine, sounds.laughter(speech, SECONDS, seed), language=None))


def test_clean_speech_is_fit(clean: CallTimeline) -> None:
    assert "neutral" in {m.affect.label for m in clean.moments}
    assert quality(clean, "voice") > 0.6


def test_a_whispered_voice_hardly_counts(engine: Engine, speech: F32, clean: CallTimeline) -> None:
    timeline = heard(engine, sounds.whisper(speech))
    assert timeline.utterances
    assert quality(timeline, "voice") < quality(clean, "voice") / 3
    assert quality(timeline, "text") < quality(clean, "text")
    assert not timeline.suggestions


def test_a_clipped_voice_is_not_judged(engine: Engine, speech: F32, clean: CallTimeline) -> None:
    timeline = heard(engine, sounds.clipped(speech))
    assert quality(timeline, "voice") == 0
    assert "too noisy or clipped" in reasons(timeline, "voice")
    assert "too noisy or clipped" in reasons(timeline, "stress")
    assert quality(timeline, "text") < quality(clean, "text")
    assert "clipped_audio" in {n.code for n in timeline.notices}
    assert not timeline.suggestions


def test_two_people_at_once_are_less_fit(engine: Engine, call: F32, speech: F32, clean: CallTimeline) -> None:
    agent = call[round(0.4 * RATE_HZ) : 6 * RATE_HZ, 1]
    timeline = heard(engine, (speech + np.resize(agent, len(speech))) / 1.5)
    assert quality(timeline, "voice") < 0.75 * quality(clean, "voice")
    assert quality(timeline, "text") < 0.75 * quality(clean, "text")
    assert not timeline.suggestions


def test_a_childs_words_count_less(engine: Engine, speech: F32, clean: CallTimeline) -> None:
    timeline = heard(engine, sounds.child_like(speech))
    assert quality(timeline, "text") < 0.75 * quality(clean, "text")
    assert not timeline.suggestions


def test_a_fifth_of_a_second_is_too_little(engine: Engine, call: F32) -> None:
    pause = np.zeros(RATE_HZ, np.float32)
    word = call[round(52.1 * RATE_HZ) : round(52.3 * RATE_HZ), 0]
    timeline = heard(engine, np.concatenate((pause, word, pause, pause)))
    assert timeline.speech
    assert_nothing_is_claimed(timeline)
    assert "too little speech" in reasons(timeline, "voice")
