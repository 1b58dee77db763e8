"""What stretches of a call are for."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.signals import Span
from affectline.pipelines.stages import TABLES, WINDOW, StageModel, StageTracker, stage_affect
from affectline.pipelines.timeline import Redaction, Stage, Utterance
from benchmarks.stages import DATA, PARTIES, follow, load_dialogues, scores, tally

from .sample_timeline import sample_timeline

pytestmark = pytest.mark.unit

TALKERS = (PARTIES["c"], PARTIES["a"])
PHRASES = (
    "Thank you for calling, how can I help?",
    "I'm calling because my bill is wrong.",
    "What is your date of birth?",
    "Please hold while I check.",
    "I've just sent you a new one.",
    "I'll put you through to our billing team.",
    "Is there anything else? Have a nice day, bye.",
    "Yes.",
    "",
)


def said(number: int, party: str, text: str, start_s: float = -1, **more) -> Utterance:
    start_us = round((number * 4 if start_s < 0 else start_s) * 1e6)
    span = Span(start_us, start_us + 3_000_000)
    return Utterance(f"u{number}", span, PARTIES[party].id, text, (), "en", 1.0, True, 1, **more)


def stages(*utterances: Utterance, parties=TALKERS) -> list[Stage]:
    tracker = StageTracker(parties)
    for each in utterances:
        tracker.feed(each)
    return list(tracker.stages(0, over=False))


def names(found) -> list[str]:
    return [stage.name for stage in found]


def test_a_call_from_greeting_to_closing() -> None:
    found = stages(
        said(0, "a", "Thank you for calling Brightwater, how can I help you?"),
        said(1, "c", "My bill is three times too high and I don't understand it."),
        said(2, "a", "Can I have your account number please?"),
        said(3, "c", "It's [ACCOUNT].", redactions=(Redaction("account", Span(12_000_000, 13_000_000)),)),
        said(4, "a", "I've just corrected it, you'll get a new bill within two days."),
        said(5, "a", "Is there anything else I can help you with?"),
        said(6, "c", "No, that's all, thank you, bye."),
    )
    assert names(found) == ["greeting", "problem", "identification", "resolution", "closing"]
    assert found[2].because == ("u2", "u3")
    assert all(stage.confidence > 0.5 for stage in found)


def test_stages_cover_the_call_from_the_first_words_on() -> None:
    tracker = StageTracker(TALKERS)
    for number, text in enumerate(PHRASES):
        tracker.feed(said(number, "a", text, 5 + 4 * number))
    found = tracker.stages(90_000_000)
    assert [stage.id for stage in found] == [f"s-{number}" for number in range(len(found))]
    assert (found[0].span.start_us, found[-1].span.end_us) == (5_000_000, 90_000_000)
    assert all(a.span.end_us == b.span.start_us and a.name != b.name for a, b in pairwise(found))


def test_personal_data_is_a_sign_without_any_words() -> None:
    talk = [said(0, "a", "Hello, how can I help you?"), said(1, "c", "My phone is dead."), said(2, "a", "And it is?")]
    shown = Redaction("phone", Span(8_000_000, 9_000_000))
    assert names(stages(*talk, said(3, "c", "It is [PHONE]", redactions=(shown,))))[-1] == "identification"
    assert names(stages(*talk, said(3, "c", "It is like that")))[-1] == "problem"


def test_a_long_silence_after_asking_to_wait_is_a_hold() -> None:
    asked = said(2, "a", "Bear with me while I look at that.")
    back = said(3, "a", "I've found it, I've just sent you a new one.", 60)
    talk = [said(0, "a", "Hello, how can I help you?"), said(1, "c", "My phone doesn't work."), asked, back]
    found = stages(*talk)
    assert names(found)[-2:] == ["hold", "resolution"]
    assert found[-2].span == Span(8_000_000, 60_000_000)


def test_a_hold_that_the_telephone_system_tells_is_one_at_once() -> None:
    tracker = StageTracker(TALKERS)
    told = tracker.feed(said(0, "a", "Hello, how can I help you?"))
    told = follow(told, tracker.feed(said(1, "c", "My phone doesn't work.")))
    told = follow(told, tracker.hold(Span(8_000_000, 10_000_000)))
    assert (told[-1].name, told[-1].span.start_us, told[-1].because) == ("hold", 8_000_000, ())


def test_who_joins_later_greets_again() -> None:
    found = stages(
        said(0, "a", "Hello, how can I help you?"),
        said(1, "c", "My home internet doesn't work."),
        said(2, "a", "I'll put you through to our technical team."),
        said(3, "b", "Hello, this is Olga."),
        said(4, "c", "My home internet keeps dropping, there's a problem."),
        parties=tuple(PARTIES.values()),
    )
    assert names(found) == ["greeting", "problem", "transfer", "greeting", "problem"]


def test_translations_are_read_as_english_and_german_and_spanish_as_they_are() -> None:
    words = replace(said(0, "a", "Comment puis-je vous aider ?"), language="fr")
    assert stages(words)[0].because == ()
    found = stages(replace(words, translation="Welcome to the bank, how can I help you?"))
    assert (found[0].name, found[0].because) == ("greeting", ("u0",))
    for language, text in (("de", "Kann ich sonst noch etwas für Sie tun?"), ("es", "¿Le puedo ayudar en algo más?")):
        last = Utterance("u", Span(0, 1_000_000), "agent", text, (), language, 1.0, True, 1)
        assert names(stages(last)) == ["closing"]
    assert stages() == []


@pytest.mark.parametrize("part", ["dev", "test"])
def test_accuracy_on_the_dialogues(part) -> None:
    found = scores([tally(dialogue) for dialogue in load_dialogues(DATA / f"stages_{part}.yaml")])
    assert found["whole"]["value"] >= {"dev": 0.93, "test": 0.84}[part]
    assert found["live"]["value"] >= {"dev": 0.9, "test": 0.8}[part]


turns = st.lists(
    st.tuples(st.sampled_from("ca"), st.sampled_from(PHRASES), st.sampled_from([-2, 0.5, 1, 5, 20, 50])), max_size=40
)


@settings(deadline=None)
@given(turns)
def test_what_was_told_live_becomes_the_stages_of_the_whole_call(talk) -> None:
    tracker = StageTracker(TALKERS)
    known: list[Stage] = []
    at_s = 5.0
    for number, (party, text, pause_s) in enumerate(talk):
        at_s = max(0.0, at_s + pause_s)
        utterance = said(number, party, text, at_s)
        known = follow(known, tracker.feed(utterance))
        at_s += 3
        assert [stage.id for stage in known] == [f"s-{n}" for n in range(len(known))]
        assert all(a.span.start_us <= b.span.start_us for a, b in pairwise(known))
        assert known
    end_us = round(at_s * 1e6) + 1
    known = follow(known, tracker.finish(end_us))
    assert tuple(known) == tracker.stages(end_us)


def test_a_call_within_the_window_is_judged_live_as_in_the_whole() -> None:
    tracker = StageTracker(TALKERS)
    known: list[Stage] = []
    for number in range(WINDOW):
        known = follow(known, tracker.feed(said(number, "ac"[number % 2], PHRASES[number % len(PHRASES)])))
    assert [(s.name, s.span.start_us) for s in known] == [
        (s.name, s.span.start_us) for s in tracker.stages(0, over=False)
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("  - stage: hold\n", "  - stage: waiting\n", "stage: "),
        ("{closing: 0.80,", "{closing: 0.98,", "end: expected a row that sums to less than 1"),
        ("    hold: {hold: 0.32,", "    held: {hold: 0.32,", "found 'held'"),
        ("      - bear with\n", "      - ?bear with\n", "expected words"),
    ],
)
def test_faults_of_the_tables_are_named_with_their_line(tmp_path: Path, old: str, new: str, fault: str) -> None:
    text = TABLES.read_text(encoding="utf-8")
    line = text[: text.index(old)].count("\n") + 1
    path = tmp_path / "ours.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InvalidInputError, match=f"ours.yaml line {line}: .*{fault}"):
        StageModel(path)


def test_how_each_stage_felt() -> None:
    sample = sample_timeline()
    rows = stage_affect(sample)
    assert [(row.stage, row.participant) for row in rows] == [
        (stage.id, party.id) for stage in sample.stages for party in sample.participants
    ]
    problem = next(r for r in rows if r.participant == "customer" and sample.stages[2].id == r.stage)
    own = [
        m
        for m in sample.moments
        if m.participant == "customer"
        and sample.stages[2].span.start_us <= m.span.start_us < sample.stages[2].span.end_us
        and m.affect.labels
    ]
    assert problem.known_us == len(own) * 1_000_000
    assert problem.upset_us == sum(m.affect.label in ("frustrated", "angry") for m in own) * 1_000_000
    assert problem.valence == pytest.approx(sum(m.affect.valence for m in own) / len(own))


def test_of_all_voices_on_one_channel_everybodys_phrases_count() -> None:
    found = stages(
        said(0, "c", "Thank you for calling, how can I help you?"),
        said(1, "c", "I'm calling because my phone doesn't work."),
        said(2, "c", "Can I have your account number please?"),
        said(3, "c", "I've just sent you a new one."),
        said(4, "c", "Is there anything else? No, that's all, bye."),
        parties=TALKERS[:1],
    )
    assert names(found) == ["greeting", "problem", "identification", "resolution", "closing"]
