"""Which voice is the agent's: cues, confidence, and what is not known."""

from collections.abc import Sequence

import pytest

from affectline.pipelines.cues import load_cues
from affectline.pipelines.roles import CONFIDENT, RoleBelief, RoleFinder

pytestmark = pytest.mark.unit

INBOUND = (
    ("a", "Thank you for calling Northfield Heating, how can I help you?"),
    ("b", "Hi, I'm calling about my bill, it's twice as high as usual."),
    ("a", "I understand. Can I have your account number please?"),
    ("b", "Yes, it's four four one seven nine."),
)
OUTBOUND = (
    ("a", "Hello?"),
    ("b", "Good morning sir, I'm calling from Harbour Bank. This call may be recorded."),
    ("a", "Okay. Is it about my card? I want to cancel my card."),
    ("b", "Let me check. For security purposes, can you confirm your date of birth?"),
)


def beliefs(said: Sequence[tuple[str, str]], language: str = "en", speakers: str = "") -> dict[str, RoleBelief]:
    finder = RoleFinder(load_cues())
    for who, text in said:
        finder.hear(who, text, language)
    return finder.beliefs(list(speakers) or list(dict.fromkeys(who for who, _ in said)))


@pytest.mark.parametrize(("said", "agent"), [(INBOUND, "a"), (OUTBOUND, "b")])
def test_the_agent_is_who_speaks_like_one(said: Sequence[tuple[str, str]], agent: str) -> None:
    found = beliefs(said)
    for who, belief in found.items():
        assert belief.role == ("agent" if who == agent else "customer")
        assert CONFIDENT <= belief.confidence <= 1


def test_roles_follow_the_words_not_the_names() -> None:
    swapped = [({"a": "b", "b": "a"}[who], text) for who, text in INBOUND]
    assert {who: b.role for who, b in beliefs(swapped).items()} == {"b": "agent", "a": "customer"}


@pytest.mark.parametrize("said", [(), (("a", "Hello."), ("b", "Hello, how are you?"), ("a", "Fine."))])
def test_small_talk_tells_nothing(said: Sequence[tuple[str, str]]) -> None:
    for belief in beliefs(said, speakers="ab").values():
        assert belief.role == "unknown"
        assert 0.5 <= belief.confidence < CONFIDENT


def test_a_single_voice_is_known_by_itself() -> None:
    assert beliefs(INBOUND[:1])["a"].role == "agent"
    assert (
        beliefs([("a", "I'm calling about my order, I've been waiting for weeks. I want to speak to a manager.")])[
            "a"
        ].role
        == "customer"
    )


def test_a_third_voice_is_an_agent_another_one_or_unknown() -> None:
    more = (*INBOUND, ("c", "Hello, this is the workshop."))
    assert beliefs(more)["c"].role == "unknown"
    more = (*INBOUND, ("c", "Thanks for holding, how can I help you? Let me pull up your account."))
    found = beliefs(more)
    assert (found["b"].role, found["c"].role) == ("customer", "agent")


def test_a_habit_of_speech_is_no_proof() -> None:
    often = beliefs([("a", "sir"), *[("a", "yes sir")] * 50])
    assert often["a"].confidence < 0.99


def test_other_languages_have_phrases_or_are_translated() -> None:
    assert (
        beliefs([("a", "Guten Tag, wie kann ich Ihnen helfen?"), ("b", "Ich rufe an wegen der Rechnung.")], "de")[
            "a"
        ].role
        == "agent"
    )
    finder = RoleFinder(load_cues())
    finder.hear(
        "a", "Merci d'avoir appelé, comment puis-je vous aider ?", "fr", "Thank you for calling, how can I help?"
    )
    finder.hear("b", "J'appelle au sujet de ma facture.", "fr", "I'm calling about my bill.")
    assert finder.beliefs(["a", "b"])["a"].role == "agent"


def test_one_voice_with_the_words_of_both_sides_is_two_people() -> None:
    finder = RoleFinder(load_cues())
    finder.hear("a", INBOUND[0][1], "en")
    assert not finder.both_sides("a")
    finder.hear("a", INBOUND[1][1] + " I've been waiting for weeks.", "en")
    assert finder.both_sides("a")
