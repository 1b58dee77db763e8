"""The first text affect: what it says of support talk, and of text that is none."""

import math
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from affectline.models import cards, zoo
from affectline.models.labels import LABELS
from affectline.models.registry import all_models
from affectline.models.signals import AffectScores
from affectline.models.zoo.words import WordsFirst

pytestmark = pytest.mark.unit

WORDS = WordsFirst(Path(zoo.__path__[0]) / "words_cues.yaml")


def top(scores: AffectScores) -> str:
    assert scores.labels
    return max(scores.labels, key=lambda label: scores.labels[label])  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("This is the third time I'm calling about this.", "frustrated"),
        ("What a waste of time.", "frustrated"),
        ("That’s ridiculous!", "frustrated"),
        ("Why can't I speak to your manager?", "frustrated"),
        ("I have never been so angry in my life.", "angry"),
        ("I don't understand, what do you mean?", "confused"),
        ("Sorry, where is that?", "confused"),
        ("Thank you so much, I really appreciate it.", "grateful"),
        ("I'm worried it won't arrive.", "anxious"),
        ("I was afraid it got lost.", "anxious"),
        ("My father passed away last week.", "sad"),
        ("Oh my god, I didn't expect that.", "surprised"),
        ("That is disgusting.", "disgusted"),
        ("That's perfect, exactly what I needed.", "satisfied"),
    ],
)
def test_cues_decide_the_label(text: str, label: str) -> None:
    scores = WORDS.estimate(text)
    assert top(scores) == label
    assert scores.evidence


@pytest.mark.parametrize(
    "text",
    [
        "my account number is four five",
        "Thank you.",
        "thank you thank you thank you thank you",
        "Thank you very much.",
        "Yes, please. Okay.",
        "Good morning, thank you for calling customer care, how can I help you today?",
        "No problem, you're welcome, have a great day.",
        "I had an accident and there is some damage to the car.",
        "I am not worried.",
        "I don't want to cancel my plan.",
        "The weather in Third Street, timeless.",
    ],
)
def test_ordinary_support_talk_is_neutral(text: str) -> None:
    assert top(WORDS.estimate(text)) == "neutral"


def test_valence_has_the_right_sign() -> None:
    assert WORDS.estimate("This is terrible, I hate it.").valence < -0.3  # type: ignore[operator]
    assert WORDS.estimate("This is wonderful, I love it.").valence > 0.3  # type: ignore[operator]
    assert WORDS.estimate("This is the third time I call.").valence < -0.1  # type: ignore[operator]
    assert WORDS.estimate("my account number is four five").valence == 0


def test_a_repeated_word_counts_once() -> None:
    once, often = WORDS.estimate("terrible"), WORDS.estimate("terrible terrible, terrible! terrible")
    assert often == once
    assert WORDS.estimate("waste of time waste of time") == WORDS.estimate("waste of time")


def test_confidence_grows_with_words_and_with_cues() -> None:
    short = WORDS.estimate("ridiculous").confidence
    longer = WORDS.estimate("I find this whole thing here ridiculous").confidence
    uncertain = WORDS.estimate("I find this whole thing here with you").confidence
    assert short < longer
    assert uncertain < longer


def test_evidence_names_cues_and_polar_words_but_not_denied_ones() -> None:
    assert WORDS.estimate("The third time, and it is horrible.").evidence == ("third time", "horrible")
    assert WORDS.estimate("It is not horrible.").evidence == ()


@pytest.mark.parametrize("text", ["", "   \n\t", "\x00\x01\x1f", "…?!", "​"])
def test_nothing_said_is_nothing_known(text: str) -> None:
    assert WORDS.estimate(text) == AffectScores(None, None, None, None, 0.0)


def test_emoji_alone_have_a_polarity_and_little_confidence() -> None:
    scores = WORDS.estimate("😀")
    assert scores.valence is not None
    assert scores.valence > 0
    assert scores.confidence < 0.3


@pytest.mark.parametrize(
    "text",
    [
        "the bad plan is good but my terrible cat hates wonderful dogs " * 900,
        " ".join(f"w{n}" for n in range(10_000)),
        "a" * 100_000,
        "aa' " * 30_000,
    ],
)
def test_a_flood_of_words_is_answered_soon(text: str) -> None:
    started = time.perf_counter()
    scores = WORDS.estimate(text)
    assert time.perf_counter() - started < 5
    assert scores.labels
    assert len(scores.evidence) <= 5


@given(st.text(max_size=300))
def test_any_text_gives_scores_in_range(text: str) -> None:
    scores = WORDS.estimate(text)
    assert scores == WORDS.estimate(text)
    assert 0 <= scores.confidence <= 1
    assert scores.arousal is None
    assert scores.dominance is None
    if scores.labels is None:
        assert scores.valence is None
    else:
        assert set(scores.labels) == set(LABELS)
        assert math.isclose(sum(scores.labels.values()), 1)
        assert -1 <= scores.valence <= 1  # type: ignore[operator]


def test_it_is_registered_with_a_card() -> None:
    spec = all_models()["words-first"]
    assert spec.id == WORDS.model
    card = yaml.safe_load((Path(cards.__path__[0]) / "words-first.yaml").read_text(encoding="utf-8"))
    assert (card["name"], card["version"], card["task"]) == (spec.name, spec.version, spec.task)
    assert set(card["produces"]) | set(card["never_produces"]) == set(LABELS)
