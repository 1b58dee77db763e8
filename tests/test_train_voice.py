"""Training a voice head: what it learns, that it can be repeated, and what it refuses."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from typer.testing import CliRunner

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.training import augment, voice
from affectline.models.training.examples import Examples, joined, read_clips
from affectline.models.zoo.voice import LAYERS, WIDTH, VoiceHead
from affectline.server.train_cli import app

pytestmark = pytest.mark.integration

CLASSES = ("anger", "neutral", "sadness")


def examples(speakers: int = 6, shift: float = 0.0, corpus: str = "own", seed: int = 0) -> Examples:
    """Classes and speakers as directions in feature space, 6 clips each, whole and one window."""
    rng, width = np.random.default_rng(seed), len(LAYERS) * WIDTH
    places = np.random.default_rng(99).normal(size=(len(CLASSES), width))
    rows: list[tuple[F32, str, str, str, str, str, str, bool]] = []
    for speaker in range(speakers):
        voice_of = rng.normal(size=width)
        for c, name in enumerate(CLASSES):
            for take in range(6):
                x = (shift + places[c] + voice_of + 3 * rng.normal(size=width)).astype(np.float32)
                clip = f"{corpus}/{speaker}{name}{take}"
                for band, whole in (("wide", True), ("wide", False), ("telephone", True), ("telephone", False)):
                    rows.append((x, name, f"{corpus}/{speaker}", corpus, clip, str(take), band, whole))
    x, *rest = zip(*rows, strict=True)
    return Examples(np.stack(x), *(np.array(column) for column in rest))


def test_it_learns_classes_of_unheard_speakers_and_can_be_repeated(tmp_path: Path) -> None:
    once, twice = (voice.train(examples(), own_calls=True) for _ in range(2))
    np.testing.assert_array_equal(once[0].weight, twice[0].weight)
    np.testing.assert_array_equal(once[2], twice[2])
    guess = np.array(CLASSES)[once[2].argmax(axis=1)]
    assert voice.uar(once[1].label, guess) > 0.9
    for number, (head, *_) in enumerate((once, twice)):
        voice.save(tmp_path / f"{number}.onnx", head)
    assert (tmp_path / "0.onnx").read_bytes() == (tmp_path / "1.onnx").read_bytes()


def test_the_file_answers_as_the_head_did(tmp_path: Path) -> None:
    head, learnt, _ = voice.train(examples(), own_calls=True)
    voice.save(tmp_path / "my_head.onnx", head)
    found = VoiceHead(tmp_path / "my_head.onnx", Runtime())
    assert (found.model, found.classes) == ("my-head@1", CLASSES)
    assert found.unsure_below == pytest.approx(head.unsure_below)
    for x in learnt.x[::40]:
        logits = head.logits(x[None])[0]
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        np.testing.assert_allclose(found.probabilities(x), expected, atol=1e-4)


def test_calibrated_for_strangers_it_is_less_sure() -> None:
    strangers, own = (voice.train(examples(), own_calls=own_calls)[2] for own_calls in (False, True))
    assert strangers.max(axis=1).mean() <= own.max(axis=1).mean()


def test_a_speaker_is_never_learnt_from_and_tested_on() -> None:
    found = examples()
    for learnt, tested in [*voice.folds(found), *voice.far_folds(found)]:
        assert not set(found.speaker[learnt]) & set(found.speaker[tested])
    tested_once = np.sum([tested for _, tested in voice.far_folds(found)], axis=0)
    assert (tested_once == 1).all()


def test_far_folds_share_no_sentence_and_no_corpus() -> None:
    one = examples()
    for learnt, tested in voice.far_folds(one):
        assert not set(one.text[learnt]) & set(one.text[tested])
    two = joined([one, examples(corpus="other", shift=4.0, seed=1)])
    for learnt, tested in voice.far_folds(two):
        assert not set(two.corpus[learnt]) & set(two.corpus[tested])


def test_too_little_to_learn_from_is_said() -> None:
    found = examples()
    with pytest.raises(InvalidInputError, match="at least 2 speakers"):
        voice.train(found[found.speaker == "own/0"], own_calls=True)
    with pytest.raises(InvalidInputError, match="at least 2 classes"):
        voice.train(found[found.label == "anger"], own_calls=True)


@pytest.mark.parametrize("change", [augment.telephone, augment.room, *augment.CHANGES])
def test_a_changed_clip_is_still_the_clip(change: augment.Change) -> None:
    pcm = 0.3 * np.sin(np.arange(RATE_HZ) * 2 * np.pi * 300 / RATE_HZ) * np.hanning(RATE_HZ)
    once, twice = (change(pcm.astype(np.float32), np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(once, twice)
    assert once.dtype == np.float32
    assert len(once) == pytest.approx(len(pcm), rel=0.12)
    assert np.isfinite(once).all()
    spectrum = np.abs(np.fft.rfft(once))
    assert np.argmax(spectrum) * RATE_HZ / len(once) == pytest.approx(300, rel=0.15)


def write_labels(folder: Path, rows: list[dict[str, str]]) -> None:
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"path": "a.wav", "label": "angry"}], "found no speaker"),
        ([{"path": "a.wav", "label": "elated", "speaker": "1"}], "found elated"),
    ],
)
def test_labels_that_cannot_be_used_are_named(tmp_path: Path, rows: list[dict[str, str]], message: str) -> None:
    write_labels(tmp_path, rows)
    with pytest.raises(InvalidInputError, match=message):
        read_clips(tmp_path)


def tone(pitch_hz: float, seed: int) -> F32:
    """A second of something like a voice: a pulse train with a wavering pitch."""
    rng = np.random.default_rng(seed)
    phase = np.cumsum(pitch_hz * (1 + 0.05 * np.sin(np.arange(RATE_HZ) / 1500 + rng.uniform(0, 6))) / RATE_HZ)
    return np.asarray(0.3 * (phase % 1 < 0.1) + 0.01 * rng.normal(size=RATE_HZ), np.float32)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    def invoke(*arguments: str) -> tuple[int, str]:
        found = CliRunner().invoke(app, ["voice", "--data", str(tmp_path), *arguments])
        return found.exit_code, found.output

    return invoke


def test_the_command_writes_a_head_and_its_card(
    tmp_path: Path, run: Callable[..., tuple[int, str]], engine: object
) -> None:
    rows = []
    for speaker in range(3):
        for label, pitch_hz in (("angry", 260.0), ("neutral", 120.0)):
            for take in range(4):
                name = f"{speaker}{label}{take}.wav"
                soundfile.write(tmp_path / name, tone(pitch_hz + 5 * speaker, take), RATE_HZ)
                rows.append({"path": name, "label": label, "speaker": str(speaker)})
    write_labels(tmp_path, rows)
    out = tmp_path / "ours.onnx"
    code, output = run("--out", str(out))
    assert code == 0, output
    assert VoiceHead(out, Runtime()).classes == ("anger", "neutral")
    card = yaml.safe_load(out.with_suffix(".yaml").read_text())
    assert card["metrics"][0]["uar"] > 0.9
    first = out.read_bytes()
    assert run("--out", str(out))[0] == 0
    assert out.read_bytes() == first


def test_the_command_says_what_it_lacks_and_writes_nothing(tmp_path: Path, run: Callable[..., tuple[int, str]]) -> None:
    code, output = run("--out", str(tmp_path / "ours.onnx"))
    assert code == 1
    assert "expected labels.csv" in output
    assert not list(tmp_path.iterdir())
