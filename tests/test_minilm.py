"""The text model: what it says, of which words, and of text that is none."""

import math
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectline.models.convert.minilm import CALIBRATION, LINEARS, merged
from affectline.models.errors import InvalidInputError
from affectline.models.labels import LABELS
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import AffectScores
from affectline.models.store import Store, default_root
from affectline.models.training.comments import best_thresholds, f1_scores, fit_calibration
from affectline.models.zoo.minilm import (
    ADAPTER,
    AFFECT_OF_CLASS,
    ARTIFACT,
    CLASSES,
    LABELS_OF_CLASS,
    MiniLmWords,
    labels_of,
    readable,
)

pytestmark = pytest.mark.integration

NOTHING = AffectScores(None, None, None, None, 0.0)


@cache
def words() -> MiniLmWords:
    store = Store(default_root())
    store.pull(ARTIFACT)
    model = load_model(all_models()["words-minilm"], store, Runtime(threads=1))
    assert isinstance(model, MiniLmWords)
    return model


def top(text: str) -> str:
    labels = words().estimate(text).labels
    assert labels
    return max(labels, key=lambda label: labels[label])


@pytest.mark.parametrize(
    ("text", "label", "word"),
    [
        ("Thank you so much for your help.", "grateful", "thank"),
        ("I am furious, this makes me so angry!", "angry", "angry"),
        ("I'm scared that I will lose my house.", "anxious", "scared"),
        ("I don't understand what you mean, I'm confused.", "confused", "confused"),
        ("That's wonderful, I love it!", "satisfied", "love"),
        ("I'm so sad, I have been crying all day.", "sad", "sad"),
        ("Ew, that is disgusting.", "disgusted", "disgusting"),
        ("Wow, what a surprise!", "surprised", "wow"),
    ],
)
def test_feelings_in_plain_words_are_found_and_named(text: str, label: str, word: str) -> None:
    assert top(text) == label
    assert any(word in said for said in words().estimate(text).evidence)


@pytest.mark.parametrize("text", ["My account number is four five six.", "I moved here in May.", "It's on the table."])
def test_matter_of_fact_talk_is_neutral_and_names_nothing(text: str) -> None:
    assert top(text) == "neutral"
    assert words().estimate(text).evidence == ()


def test_valence_has_the_right_sign() -> None:
    assert words().estimate("This is terrible, I hate it.").valence < -0.3  # type: ignore[operator]
    assert words().estimate("This is wonderful, I love it.").valence > 0.3  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "   \n\t", "\x00\x01\x1f", "…?!", "​", "4711 0815", "これは困りました", "Спасибо"])
def test_nothing_it_can_read_is_nothing_known(text: str) -> None:
    assert words().estimate(text) == NOTHING
    assert not words().probabilities(text).any()


def test_emoji_are_read_by_their_names() -> None:
    assert readable("❤️") == "red heart"
    assert words().estimate("😀😀😀").valence > 0  # type: ignore[operator]
    assert words().estimate("😡").valence < 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("thank you thank you thank you thank you", "thank you"),
        ("terrible terrible, terrible! terrible", "terrible"),
        ("That is so sad.", "That\x07 is so\u200b sad."),
        ("My name is [name].", "My name is name."),
        ("that’s great", "that's great"),
    ],
)
def test_what_makes_no_difference_makes_none(text: str, same: str) -> None:
    np.testing.assert_allclose(words().probabilities(text), words().probabilities(same))


def test_mixed_scripts_and_right_to_left_marks_do_not_hide_the_words() -> None:
    assert top("Thank you so much, \u202eСпасибо\u202c!") == "grateful"
    assert words().estimate("ok תודה רבה שלום לך") == NOTHING


def test_a_feeling_is_not_lost_in_a_long_turn() -> None:
    matter = "The box is on the table. The cable is blue. I plugged it in on Monday. The light is on. "
    assert top(matter * 4 + "I am so angry about this, it makes me furious! " + matter * 4) == "angry"
    assert words().estimate(matter * 4).labels["neutral"] > 0.6  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    ["good bad " * 5_000, " ".join(f"w{n}" for n in range(10_000)), "a" * 100_000, "aa' " * 30_000, "no. " * 20_000],
)
def test_a_flood_of_words_is_answered_soon(text: str) -> None:
    started_s = time.perf_counter()
    scores = words().estimate(text)
    assert time.perf_counter() - started_s < 20
    assert scores.labels
    assert len(scores.evidence) <= 3


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=300))
def test_any_text_gives_scores_in_range(text: str) -> None:
    scores = words().estimate(text)
    assert scores == words().estimate(text)
    if scores.labels is None:
        assert scores == NOTHING
        return
    assert list(scores.labels) == list(LABELS)
    assert math.isclose(sum(scores.labels.values()), 1, abs_tol=1e-5)
    assert scores.confidence == max(scores.labels.values())
    assert all(-1 <= value <= 1 for value in (scores.valence, scores.arousal, scores.dominance) if value is not None)


def test_what_each_token_gives_adds_up_to_the_answer() -> None:
    tokens = words()._tokenizer.encode("i want to talk to your manager").ids
    logits, shares = words()._read(tokens)
    with np.load(ADAPTER) as stored:
        bias = stored["head.bias"].astype(np.float32)
    assert shares.shape == (len(tokens), len(CLASSES))
    np.testing.assert_allclose(shares.sum(axis=0) + bias, logits, atol=1e-4)


def test_every_class_has_a_place() -> None:
    assert len(CLASSES) == 28
    assert set(AFFECT_OF_CLASS) == set(CLASSES)
    for shares in LABELS_OF_CLASS.values():
        assert math.isclose(sum(shares.values()), 1)
        assert set(shares) <= set(LABELS)
    gratitude = np.eye(28, dtype=np.float32)[CLASSES.index("gratitude")]
    assert labels_of(gratitude)[LABELS.index("grateful")] > 0.99


def test_an_adapter_that_does_not_fit_is_refused() -> None:
    name = f"encoder.layer.0.{LINEARS[0]}.weight"
    factors = {f"{name}.down": np.ones((2, 4), np.float16), f"{name}.up": np.ones((3, 2), np.float16)}
    base = {name: np.zeros((3, 4), np.float32)}
    np.testing.assert_allclose(merged(base, factors)[name], 2)
    with pytest.raises(InvalidInputError, match=r"expected a matrix .* in the checkpoint"):
        merged({name: np.zeros((4, 4), np.float32)}, factors)


def test_the_adapter_is_small_and_whole() -> None:
    assert ADAPTER.stat().st_size < 4_000_000
    with np.load(ADAPTER) as stored:
        assert set(CALIBRATION) <= set(stored)
        assert stored["prior"].sum() == pytest.approx(1, abs=1e-4)
    folder = Path(Store(default_root()).folder(ARTIFACT))
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 25_000_000


def test_calibration_brings_exaggerated_answers_back() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((4_000, len(CLASSES))) < 0.2
    believed = np.where(truth, 0.8, -1.5) + rng.normal(0, 1, truth.shape)
    fitted = fit_calibration((4 * believed).astype(np.float32), truth.astype(np.float32))
    found = 1 / (1 + np.exp(-(4 * believed * fitted["slope"] + fitted["offset"])))
    for low in (0.1, 0.3, 0.5, 0.7):
        near = (found >= low) & (found < low + 0.2)
        assert truth[near].mean() == pytest.approx(found[near].mean(), abs=0.05)
    said = found >= fitted["thresholds"]
    assert f1_scores(said, truth.astype(np.float32)).mean() > f1_scores(found >= 0.5, truth.astype(np.float32)).mean()


def test_a_threshold_separates_what_can_be_separated() -> None:
    truth = np.zeros((100, len(CLASSES)), np.float32)
    truth[:10] = 1
    thresholds = best_thresholds(truth * 0.3 + 0.1, truth)
    assert f1_scores(truth * 0.3 + 0.1 >= thresholds, truth).tolist() == [1.0] * len(CLASSES)
