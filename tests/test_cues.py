"""The cue lexicon: what it finds, what it leaves, and how sites change it."""

import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.pipelines.cues import load_cues

pytestmark = pytest.mark.unit

CUES = load_cues()
FOUND = {
    "confusion": [
        "I don't understand what you mean",
        "sorry, can you say that again?",
        "I'm so lost",
        "can you repeat that please",
        "I’m not sure how to do that",
        "this is confusing",
        "that makes no sense",
        "which one do I press",
        "hold on you lost me",
        "I have no idea",
    ],
    "escalation": [
        "I want to speak to your manager",
        "get me a supervisor",
        "I'd like to file a formal complaint",
        "you will hear from my lawyer",
        "put me through to a manager",
        "how dare you",
        "I'll see you in court",
        "I will leave a bad review",
        "can I talk to someone senior",
        "I am going to take legal action",
    ],
    "churn": [
        "cancel my subscription",
        "I want to close my account",
        "I'm switching to another provider",
        "your competitor is cheaper",
        "I'll take my business elsewhere",
        "I'm done with you",
        "just cancel it",
        "I want my money back",
    ],
    "gratitude": [
        "thank you so much",
        "I really appreciate it",
        "you've been very helpful",
        "thanks a million",
        "you made my day",
        "you're a lifesaver",
    ],
    "urgency": [
        "I need it today",
        "as soon as possible please",
        "this is urgent",
        "right now",
        "asap",
        "it can't wait",
    ],
    "vulnerability": [
        "my husband passed away in May",
        "I lost my job",
        "I can't afford that",
        "he is in the hospital",
        "I am eighty years old and I live alone",
        "I'm behind on my rent",
    ],
    "emotion": [
        "this is the third time I'm calling",
        "I've been on hold for forty minutes",
        "it still doesn't work",
        "nobody called me back",
        "what a waste of time",
        "that is ridiculous",
        "I have never been so angry in my life",
        "I can't believe how angry I am",
        "I'm worried it won't arrive",
        "oh my god",
        "that's perfect",
        "it works now",
    ],
}
NOT_FOUND = [
    "",
    "my account number is four five six",
    "the third timer is broken in two",
    "the order was placed in May",
    "I am not worried",
    "I don't want to cancel my plan",
    "that is not a scam",
    "no it isn't urgent",
    "good morning, how can I help you",
    "thank you",
    "yes please",
    "the weather in Third Street, timeless",
    "the manager of the shop sold it to me",
    "it was not confusing",
]


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_a_cue_is_found(kind: str, text: str) -> None:
    assert kind in {cue.kind for cue in CUES.find(text)}
    assert kind in {cue.kind for cue in CUES.find(text.upper().replace("’", "'"))}


@pytest.mark.parametrize("text", NOT_FOUND)
def test_ordinary_or_denied_talk_has_no_cue(text: str) -> None:
    assert CUES.find(text) == ()


def test_a_negation_reaches_three_words_and_no_further_sentence() -> None:
    assert CUES.find("No. I am worried")
    assert CUES.find("not that I ever felt the least bit worried")
    assert not CUES.find("I was never really worried")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Good morning, thank you for calling, how can I help you today?", ""),
        ("I'm so sorry about that, one moment.", "one moment"),
        ("I completely understand that you are frustrated.", ""),
        ("I'm afraid we can't do that.", "do that"),
        ("No problem at all, you're very welcome. Have a great day!", ""),
        ("My name is on it, thanks.", "My name is on it"),
    ],
)
def test_courtesies_are_not_judged(text: str, meant: str) -> None:
    assert CUES.find(text) == ()
    assert CUES.without_courtesies(text, ()).strip(" ,.!?") == meant


@pytest.mark.parametrize("text", ["Thank you so much!", "I'm afraid I will lose my house", "I'm sorry I ever called"])
def test_what_is_more_than_courtesy_stays(text: str) -> None:
    assert len(CUES.without_courtesies(text, CUES.find(text)).split()) >= 4


def test_a_feeling_of_the_listener_is_not_the_speakers() -> None:
    assert not CUES.find("I understand you're very frustrated and I see why you are worried")
    assert CUES.find("you make me so angry")
    assert CUES.find("your service is ridiculous")


@given(st.text(max_size=400))
def test_any_text_is_answered_in_range(text: str) -> None:
    for cue in CUES.find(text):
        assert 0 <= cue.start < cue.end <= len(text)
        assert cue.phrase == text[cue.start : cue.end]


@given(st.lists(st.sampled_from("still not no one called never the third time angry cancel my account . i've".split())))  # noqa: SIM905
def test_cues_of_a_kind_do_not_overlap(words: list[str]) -> None:
    found = CUES.find(" ".join(words))
    assert list(found) == sorted(found, key=lambda cue: (cue.start, -cue.end))
    for kind in {cue.kind for cue in found}:
        own = [cue for cue in found if cue.kind == kind]
        assert all(one.end <= other.start for one, other in pairwise(own))


def test_a_flood_of_cues_is_soon_done() -> None:
    started_s = time.perf_counter()
    CUES.find("still not no one called never the " * 3_000)
    assert time.perf_counter() - started_s < 2


def test_a_site_adds_and_removes(tmp_path: Path) -> None:
    ours = tmp_path / "ours.yaml"
    ours.write_text(
        "groups:\n  - {kind: churn, label: frustrated, strength: 2, phrases: [port|porting my number]}\nremove: [wow]\n"
    )
    lexicon = load_cues(ours)
    (cue,) = lexicon.find("I am porting my number")
    assert (cue.kind, cue.label, cue.strength) == ("churn", "frustrated", 2)
    assert CUES.find("wow")
    assert not lexicon.find("wow")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("groups:\n  - kind: anger\n    phrases: [x]\n", r"ours.yaml line 2: kind: "),
        ("groups:\n  - kind: churn\n    label: happy\n    phrases: [x]\n", r"ours.yaml line 3: label: "),
        ("groups:\n  - kind: churn\n    label: unknown\n    phrases: [x]\n", r"line 3: label: expected one of neutral"),
        ("groups:\n  - kind: churn\n    strength: -1\n    phrases: [x]\n", r"line 3: strength: .*greater than 0"),
        (
            "groups:\n  - kind: churn\n    phrases:\n      - ok\n      - a? b\n",
            r"line 5: phrases: expected words, .*'a\? b'",
        ),
        ("groups:\n  - kind: churn\n    phrases: ['']\n", r"line 3: phrases: expected words"),
        ("groups:\n  - kind: churn\n    phrases: ['a||b']\n", r"line 3: phrases: expected words"),
        ("groups:\n  - kind: churn\n    phrases: []\n", r"line 3: phrases: "),
        ("groups:\n  - kind: churn\n    phrase: [x]\n", r"line 2|phrase"),
        ("remove:\n  - wow\n  - wowww\n", r"line 3: remove: expected a phrase of the lexicon, found 'wowww'"),
        ("groups: [", r"ours.yaml line 1: not valid YAML"),
        ("- 1\n", r"ours.yaml line 1"),
    ],
)
def test_a_slip_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    ours = tmp_path / "ours.yaml"
    ours.write_text(text)
    with pytest.raises(InvalidInputError, match=message):
        load_cues(ours)
