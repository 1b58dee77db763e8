"""What a recogniser says over and over is not what was said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.signals import Span, Transcription, Word
from affectline.pipelines.transcript import LOOP_TIMES, loops, without_loops

pytestmark = pytest.mark.unit


def heard(text: str, *, words: bool = True) -> Transcription:
    spoken = tuple(Word(w, Span(i * 100, i * 100 + 100), 0.9) for i, w in enumerate(text.split())) if words else ()
    return Transcription(text, spoken, "en", 1.0, 0.9, 0.0)


@pytest.mark.parametrize(
    "text",
    [
        "Thank you. Thank you. Thank you.",
        "thank you thank you thank you thank you",
        "you you you you you",
        "I'm sorry, I'm sorry, I'm sorry, I'm sorry",
        "see you in the next video see you in the next video see you in the next video",
        "Okay. thank you thank you thank you",
    ],
)
@pytest.mark.parametrize("words", [True, False])
def test_a_loop_is_dropped(text: str, words: bool) -> None:
    found = without_loops(heard(text, words=words))
    assert (found.text, found.words) == ("", ())


@pytest.mark.parametrize(
    "text",
    [
        "No, no, no.",
        "Thank you, thank you.",
        "very very very very good",
        "",
        "One two one two",
        "Yes. Yes. I said yes.",
        "one one one one one one one one",
        "1 1 1 1 1 1 1 1 1",
    ],
)
def test_people_do_repeat_themselves(text: str) -> None:
    assert without_loops(heard(text)) == heard(text)


@pytest.mark.parametrize("words", [True, False])
def test_a_loop_at_the_end_leaves_what_was_said(words: bool) -> None:
    text = "I called you on Monday about the router and nobody came so now I wait and wait and wait and wait"
    found = without_loops(heard(text, words=words))
    assert found.text == "I called you on Monday about the router and nobody came so now I wait and wait"
    assert " ".join(word.text for word in found.words) == (found.text if words else "")


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=40))
def test_what_is_left_has_no_long_loop_of_its_own(said: list[str]) -> None:
    for first, size, length in loops(said, "en"):
        phrase = said[first : first + size]
        assert said[first : first + length] == phrase * (length // size)
        assert length >= LOOP_TIMES * size
    once = without_loops(heard(" ".join(said)))
    assert len(once.words) == len(once.text.split())
