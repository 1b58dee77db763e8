"""A caller who changes language in the middle of a call, and personal data in speech, with a real synthesised voice."""

import subprocess
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from affectline.models.signals import F32, AudioChunk
from affectline.pipelines.media import open_recording
from affectline.pipelines.session import CallConfig
from affectline.pipelines.text import TRANSLATED_QUALITY
from affectline.pipelines.timeline import CallTimeline, Participant
from affectline.server.engine import Engine

pytestmark = pytest.mark.integration

RATE_HZ = 22_050
PAUSE = np.zeros(2 * RATE_HZ, np.float32)


def spoken(folder: Path, language: str, text: str) -> F32:
    if which("espeak-ng") is None:
        pytest.skip("no espeak-ng on this machine")
    file = folder / f"{language}.wav"
    subprocess.run(["espeak-ng", "-v", language, "-s", "140", "-w", file, text], check=True)
    return np.concatenate([chunk.pcm for chunk in open_recording(file).chunks()])


def heard(sound: F32) -> CallTimeline:
    party = Participant("customer", "customer", 0, "granted")
    session = Engine().open(CallConfig("call", (party,), RATE_HZ))
    session.push(AudioChunk(0, sound, RATE_HZ, 0))
    session.finish()
    return session.timeline()


def test_each_utterance_has_its_language_and_is_read_in_translation_where_needed(tmp_path: Path) -> None:
    english = spoken(tmp_path, "en", "Hello, my invoice is wrong and I do not understand it.")
    german = spoken(tmp_path, "de", "Guten Tag, meine Rechnung ist falsch und ich verstehe das nicht.")
    call = heard(np.concatenate((english, PAUSE, german, PAUSE, english, PAUSE)))
    assert [u.language for u in call.utterances] == ["en", "de", "en"]
    assert [u.translation is not None for u in call.utterances] == [False, True, False]
    assert "understand" in (call.utterances[1].translation or "").lower()
    words = {
        u.language: [
            c.estimate.quality
            for m in call.moments
            for c in m.contributors
            if c.modality == "text" and u.span.overlap_us(m.span)
        ]
        for u in call.utterances
    }
    assert words["de"], "the words of the German utterance were judged"
    assert max(words["de"]) <= TRANSLATED_QUALITY


def test_a_spoken_card_number_is_nowhere_in_the_timeline(tmp_path: Path) -> None:
    said = "My card number is four five three nine, one four eight eight, zero three four three, six four six seven."
    call = heard(np.concatenate((spoken(tmp_path, "en", said), PAUSE)))
    text = " ".join(u.text for u in call.utterances)
    assert "[CARD]" in text
    assert not any(char.isdigit() for char in text), text
    assert all(not any(char.isdigit() for char in word.text) for u in call.utterances for word in u.words)
    (redaction,) = (r for u in call.utterances for r in u.redactions if r.kind == "card")
    assert redaction.span.duration_us > 1_000_000
    assert not any(char.isdigit() for highlight in call.summary.highlights for char in highlight.quote)
