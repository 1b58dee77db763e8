"""The language of written turns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.pipelines.language import LANGUAGES, written_language

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("My internet has been down since Monday.", "en"),
        ("Meine Rechnung ist falsch und niemand ruft mich zurück.", "de"),
        ("Gracias por su ayuda, pero sigue sin funcionar.", "es"),
        ("Je ne comprends pas cette facture.", "fr"),
        ("Dziękuję bardzo za pomoc.", "pl"),
        ("这个不行", "zh"),
        ("شكرا جزيلا لك", "ar"),
        ("תודה רבה", "he"),
        ("Спасибо, всё работает.", "ru"),
    ],
)
def test_a_sentence_tells_its_language(text: str, language: str) -> None:
    assert written_language(text) == language


@pytest.mark.parametrize("text", ["ok", "no", "fine.", "12345", "", "😀", "xyzzy plugh", "hm"])
def test_too_little_to_tell_goes_on_in_the_language_so_far(text: str) -> None:
    assert written_language(text) == "en"
    assert written_language(text, "de") == "de"


def test_a_switch_is_noticed() -> None:
    assert written_language("Entschuldigung, können wir Deutsch sprechen?", "en") == "de"


@given(st.text(max_size=3_000))
def test_any_text_has_an_answer(text: str) -> None:
    assert written_language(text) in LANGUAGES
