"""Written conversations: what comes out of their turns, and the files that hold them."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.signals import TextEvent
from affectline.pipelines.chat import MAX_LENGTH_US, MAX_PARTICIPANTS, ChatConfig, ChatSession, analyze_chat
from affectline.pipelines.chat_file import KEYS, MAX_LINE_BYTES, is_chat, read_chat
from affectline.pipelines.cues import load_cues
from affectline.pipelines.policy import DEFAULT_POLICIES, load_policies, replay
from affectline.pipelines.session import MAX_TEXT_CHARACTERS, ModelSet
from affectline.pipelines.text import seconds_to_say
from affectline.pipelines.timeline import CallTimeline, Participant
from affectline.server.exports import from_json, to_json

from .test_text_stage import Plain

pytestmark = pytest.mark.unit

CUSTOMER = Participant("customer", "customer", 0, "granted")
AGENT = Participant("agent", "agent", 0, "granted")
CHAT = ChatConfig("a chat", (CUSTOMER, AGENT))
POLICIES = load_policies(DEFAULT_POLICIES)
NOTHING: Any = None
WORDS = ModelSet(
    NOTHING, NOTHING, NOTHING, NOTHING, Plain(), NOTHING, NOTHING, NOTHING, load_cues(), {"text_affect": Plain.model}
)
SECOND_US = 1_000_000


def opened(config: ChatConfig) -> ChatSession:
    return ChatSession(config, WORDS, POLICIES)


def analysed(turns: Sequence[TextEvent], config: ChatConfig = CHAT) -> CallTimeline:
    return analyze_chat(config, turns, opened)


def turn(text: str, at_s: float = 0, who: str = "customer", **fields: Any) -> TextEvent:
    return TextEvent(who, text, round(at_s * SECOND_US), **fields)


COMPLAINTS = (
    turn("This is the third time I'm calling and nobody called me back", 0),
    turn("I am sorry to hear that", 9, "agent"),
    turn("I want to speak to your manager right now, this is ridiculous", 30),
    turn("I will put you through", 90_000, "agent"),
    turn("fine", 90_010.5),
)

texts = st.sampled_from(
    ("fine.", "Nobody called me back", "I want to cancel my plan " * 6, "4711", "Hol den Chef!", "?")
)
pauses_us = st.sampled_from((0, 1, 400_000, SECOND_US, 7_300_000, 86_400 * SECOND_US))
chats = st.lists(st.tuples(st.sampled_from(("customer", "agent")), texts, pauses_us), max_size=25)


def events(chat: Sequence[tuple[str, str, int]]) -> list[TextEvent]:
    at_us, turns = 0, []
    for who, text, pause_us in chat:
        at_us += pause_us
        turns.append(TextEvent(who, text, at_us))
    return turns


@settings(deadline=None, max_examples=150)
@given(chats)
def test_moments_lie_inside_turns_and_never_overlap(chat: list[tuple[str, str, int]]) -> None:
    turns = events(chat)
    timeline = analysed(turns)
    assert [(u.participant, u.text) for u in timeline.utterances] == [(t.participant, t.text.strip()) for t in turns]
    assert list(timeline.utterances) == sorted(timeline.utterances, key=lambda u: u.span.start_us)
    assert all(u.span.start_us >= t.at_us for u, t in zip(timeline.utterances, turns, strict=True))
    assert len({item.id for item in (*timeline.utterances, *timeline.moments)}) == (
        len(timeline.utterances) + len(timeline.moments)
    )
    assert list(timeline.moments) == sorted(timeline.moments, key=lambda m: (m.span.start_us, m.participant))
    assert timeline.duration_us == max((m.span.end_us for m in timeline.moments), default=0)
    for party in ("customer", "agent"):
        said = [u for u in timeline.utterances if u.participant == party]
        moments = [m for m in timeline.moments if m.participant == party]
        assert all(one.span.end_us <= other.span.start_us for one, other in pairwise(moments))
        assert all(0 < m.span.duration_us <= SECOND_US for m in moments)
        for utterance in said:
            assert any(m.span.start_us == utterance.span.start_us for m in moments)
        for moment in moments:
            assert any(u.span.overlap_us(moment.span) == moment.span.duration_us for u in said)


@settings(deadline=None, max_examples=50)
@given(chats)
def test_suggestions_are_those_of_a_replay(chat: list[tuple[str, str, int]]) -> None:
    timeline = analysed(events(chat))
    assert list(timeline.suggestions) == replay(POLICIES, timeline)


@settings(deadline=None, max_examples=50)
@given(chats, st.sampled_from(("denied", "pending")))
def test_without_consent_nothing_of_a_party_is_left(chat: list[tuple[str, str, int]], consent: Any) -> None:
    silent = Participant("customer", "customer", 0, consent)
    timeline = analysed(events(chat), ChatConfig("a chat", (silent, AGENT)))
    without = [event for event in events(chat) if event.participant == "agent"]
    alone = analysed(without, ChatConfig("a chat", (silent, AGENT)))
    shown = [(u.participant, u.text, u.span, u.cues) for u in timeline.utterances]
    assert shown == [(u.participant, u.text, u.span, u.cues) for u in alone.utterances]
    assert timeline.moments == alone.moments
    assert not timeline.suggestions
    assert timeline.summary.lines == (f"Nothing of the customer was analysed: consent {consent}.",)


def test_a_thread_of_a_day_costs_no_more_than_its_turns() -> None:
    timeline = analysed(COMPLAINTS)
    assert len(timeline.moments) == sum(seconds_to_say(t.text) for t in COMPLAINTS)
    assert timeline.written
    assert timeline.duration_us == 90_011_500_000
    assert {a.reason for m in timeline.moments for a in m.absent} == {"written"}
    assert {m.stress for m in timeline.moments} == {m.level_dbfs for m in timeline.moments} == {None}
    assert (timeline.speech, timeline.vocal, timeline.dynamics) == ((), (), ())
    assert from_json(to_json(timeline)) == timeline


def test_the_summary_counts_turns_and_says_reads() -> None:
    course = analysed(COMPLAINTS).summary.lines[1]
    assert course == "The customer reads frustrated in 2, satisfied in 1 of 3 turns that could be judged."
    assert analysed(COMPLAINTS).summary.highlights[0].reason.startswith("Reads frustrated: writes “third time i'm”")


def test_what_turned_it_is_found_over_days() -> None:
    day_s = 86_400
    turns = [turn("Nobody called me back and I am so frustrated about it all", n * day_s) for n in range(4)]
    turns += [turn("fine, it is all fine now that the box is here", n * day_s) for n in range(4, 8)]
    assert "Turns up at 4d 00:00 around “fine" in " ".join(analysed(turns).summary.lines)


def test_where_the_feeling_changes_is_found() -> None:
    angry = "This is ridiculous, I am furious and I want to speak to your manager"
    timeline = analysed([turn(angry, 0), turn("The parcel has come, you may close the case", 90_000)])
    assert timeline.moments[0].affect.label != "neutral"
    (change,) = timeline.changes
    assert (change.participant, change.at_us, change.after) == ("customer", 90_000 * SECOND_US, "neutral")


def test_turns_of_one_moment_each_get_a_second() -> None:
    timeline = analysed([turn("fine."), turn("fine.", who="agent"), turn("really fine", 0.5), turn("ok", 0.6, "agent")])
    assert [u.span.start_us for u in timeline.utterances] == [0, 0, SECOND_US, SECOND_US]


def test_the_language_is_that_of_the_turn_the_conversation_or_the_text() -> None:
    german = turn("Ich warte seit drei Wochen auf meine Lieferung.", 5)
    given_one = turn("fine", 20, language="nl")
    assert [u.language for u in analysed([turn("fine"), german, given_one]).utterances] == ["en", "de", "nl"]
    config = ChatConfig("a chat", (CUSTOMER,), "fr")
    assert [u.language for u in analysed([german, given_one], config).utterances] == ["fr", "nl"]


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        ([turn("fine", who="boss")], "turn 1: expected one of customer, agent, found 'boss'"),
        ([turn("fine"), turn("  ", 1)], "turn 2: expected 1 to"),
        ([turn("x" * (MAX_TEXT_CHARACTERS + 1))], "turn 1: expected 1 to"),
        ([turn("fine", 2), turn("fine", 1)], "turn 2: expected a time of 2000000 to"),
        ([turn("fine", -1)], "turn 1: expected a time"),
        ([TextEvent("agent", "fine", MAX_LENGTH_US + 1)], "turn 1: expected a time"),
        ([turn("fine", language="English")], "turn 1: expected an ISO 639-1 code such as 'en', found 'English'"),
    ],
)
def test_bad_turns_are_named(turns: list[TextEvent], expected: str) -> None:
    with pytest.raises(InvalidInputError, match=expected):
        analysed(turns)


def test_a_conversation_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affectline.pipelines.chat.MAX_WRITTEN", 20)
    with pytest.raises(InvalidInputError, match="expected at most 20 turns, found more"):
        analysed([turn("fine", n) for n in range(21)])


def test_a_bad_turn_leaves_the_conversation_as_it_was() -> None:
    session = opened(CHAT)
    session.push(turn("fine"))
    with pytest.raises(InvalidInputError):
        session.push(turn("fine", who="boss"))
    session.push(turn("fine", 3))
    assert session.finish() == analysed([turn("fine"), turn("fine", 3)])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"participants": ()}, f"1 to {MAX_PARTICIPANTS} participants, found 0"),
        ({"participants": (CUSTOMER, CUSTOMER)}, "ids of their own"),
        ({"language": "English"}, "ISO 639-1"),
    ],
)
def test_bad_configurations_are_named(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(InvalidInputError, match=expected):
        ChatConfig(**{"name": "a chat", "participants": (CUSTOMER,), **fields})


# Files


@pytest.fixture
def chat_file(tmp_path: Path) -> Callable[[bytes], Path]:
    def write(content: bytes) -> Path:
        path = tmp_path / "chat.jsonl"
        path.write_bytes(content)
        return path

    return write


def lines(*found: Any) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in found)


def line(text: str = "hello", participant: str = "customer", **fields: Any) -> dict[str, Any]:
    return {"participant": participant, "text": text, **fields}


def test_the_example_is_read() -> None:
    chat = read_chat(Path(__file__).parents[1] / "examples/chat.jsonl", {})
    assert chat.roles == {"customer": "customer", "agent": "agent"}
    assert (chat.turns[0].at_us, chat.turns[-1].at_us) == (0, 542_000_000)


@pytest.mark.parametrize(
    ("times", "at_s"),
    [
        (("2026-05-03T10:15:00Z", "2026-05-03T12:15:01+02:00"), 1),
        (("2026-05-03 10:15", "2026-05-04 10:15:00.5"), 86_400.5),
        ((1_777_000_000, 1_777_000_002.5), 2.5),
        ((-5, 5), 10),
        ((None, None), 2),
    ],
)
def test_times_count_from_the_first_turn(chat_file: Callable[[bytes], Path], times: Any, at_s: float) -> None:
    said = "one two three four"  # 2 s
    chat = read_chat(chat_file(lines(*(line(said, at=at) for at in times))), {})
    assert [each.at_us for each in chat.turns] == [0, round(at_s * SECOND_US)]


def test_roles_come_from_the_name_the_file_or_from_outside(chat_file: Callable[[bytes], Path]) -> None:
    path = chat_file(
        b"\xef\xbb\xbf\n"
        + lines(line(participant="Mia"), line(), line(participant="Mia", role="agent"), line("x", "Bo", language="de"))
        + b"\r\n\n"
    )
    chat = read_chat(path, {"Bo": "other", "nobody": "agent"})
    assert dict(chat.roles) == {"Mia": "agent", "customer": "customer", "Bo": "other"}
    assert list(chat.roles) == ["Mia", "customer", "Bo"]
    assert chat.turns[-1].language == "de"
    assert read_chat(path, {"Bo": "other", "Mia": "customer"}).roles["Mia"] == "customer"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected one turn a line, found an empty file"),
        (b"\n  \n\n", "found an empty file"),
        (b"not json\n", "line 1: expected a JSON object, found no JSON: Expecting value at column 1"),
        (b'\n{"participant": "customer",', "line 2: expected a JSON object, found no JSON"),
        (b"[" * 100_000, "line 1: expected a JSON object, found no JSON"),
        (b'{"at": ' + b"9" * 5_000 + b"}", "line 1: expected a JSON object, found no JSON"),
        (b"[1]", "line 1: expected a JSON object, found a list"),
        (b"null", "line 1: expected a JSON object, found null"),
        ('{"participant": "customer", "text": "hé"}'.encode("latin-1"), "expected UTF-8, found the byte 0xe9"),
        ('{"participant": "customer"}'.encode("utf-16"), "line 1: expected UTF-8, found the byte 0xff"),
        (lines({"text": "hello"}), "line 1: expected 'participant', found none"),
        (lines(line(), {"participant": "customer"}), "line 2: expected 'text', found none"),
        (lines(line(" ")), "expected 1 to 16384 characters as 'text', found 0"),
        (lines(line("x" * 16_385)), "expected 1 to 16384 characters as 'text', found 16385"),
        (lines(line("\ud800")), "found half of a surrogate pair"),
        (lines({"participant": 7, "text": "hello"}), "expected a text as 'participant', found a number"),
        (lines(line(participant="")), "expected 1 to 64 characters as 'participant', found 0"),
        (lines(line(time=1)), f"expected the keys {', '.join(KEYS)}; found 'time'"),
        (lines(line(language="English")), "expected an ISO 639-1 code such as 'en', found 'English'"),
        (lines(line(role="boss")), "expected one of customer, agent, other as 'role', found 'boss'"),
        (lines(line(role=["agent"])), "as 'role', found"),
        (lines(line(role="agent"), line(role="other")), "line 2: expected the participant as agent, as before"),
        (lines(line(), line(participant="Mia")), "line 2: expected the role of 'Mia'"),
        (lines(*(line(participant=f"p{n}", role="other") for n in range(17))), "line 17: expected at most 16"),
        (lines(line(at="yesterday")), "line 1: expected ISO 8601 such as"),
        (lines(line(at=True)), "found true or false"),
        (b'{"participant": "customer", "text": "x", "at": NaN}', "a number that is too large"),
        (lines(line(at=1e300)), "a number that is too large"),
        (lines(line(at=10**400)), "a number that is too large"),
        (lines(line(at=2), line(at=1)), "line 2: expected a time not before that of the turn before as 'at', found 1"),
        (lines(line(at=0), line(at=1e9)), "line 2: expected turns within 366 days"),
        (lines(line(at=0), line()), "line 2: expected a time as 'at', like the turns before; found none"),
        (lines(line(), line(at=0)), "line 2: expected no time as 'at', like the turns before; found 0"),
        (lines(line(at=0), line(at="2026-05-03")), "line 2: expected times of one kind"),
        (lines(line(at="2026-05-03T10:00"), line(at="2026-05-03T10:00Z")), "line 2: expected times of one kind"),
        (lines(line(at="0001-01-01T00:00+14:00"), line(at="9999-12-31T23:59-14:00")), "within 366 days"),
        (lines(*[line("x")] * 5_001), "line 5001: expected at most 5000 turns, found more"),
        (b" " * (MAX_LINE_BYTES + 1), f"line 1: expected at most {MAX_LINE_BYTES} bytes, found more"),
    ],
)
def test_bad_files_are_named_by_line(chat_file: Callable[[bytes], Path], content: bytes, expected: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read_chat(chat_file(content), {})
    assert expected in str(caught.value)
    assert str(caught.value).startswith("chat.jsonl")
    assert len(str(caught.value)) < 300


def test_a_file_is_read_no_further_than_its_limit(
    chat_file: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("affectline.pipelines.chat_file.MAX_FILE_BYTES", 1_000)
    with pytest.raises(InvalidInputError, match="line 3: expected a file of at most 1000 bytes, found more"):
        read_chat(chat_file((b" " * 400 + b"\n") * 3 + b"not json"), {})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="cannot read"):
        read_chat(tmp_path / "none.jsonl", {})
    with pytest.raises(InvalidInputError, match="cannot read"):
        read_chat(tmp_path, {})


@settings(deadline=None, max_examples=200)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda each: st.lists(each, max_size=3)))
def test_odd_values_are_read_or_named(tmp_path_factory: pytest.TempPathFactory, value: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "odd.jsonl"
    for key in KEYS:
        path.write_bytes(lines(line(), line() | {key: value}))
        with suppress(InvalidInputError):
            read_chat(path, {})


def test_a_chat_is_known_by_its_name() -> None:
    assert [is_chat(Path(name)) for name in ("a.jsonl", "a.NDJSON", "a.wav", "jsonl")] == [True, True, False, False]
