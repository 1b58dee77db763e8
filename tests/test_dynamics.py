"""Who talks how much, over whom, how soon and how fast."""

from collections import Counter
from itertools import pairwise
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.signals import Span, Word
from affectline.pipelines.dynamics import Conversation, Crosstalk
from affectline.pipelines.timeline import Dynamics, SpeechTurn, Utterance

pytestmark = pytest.mark.unit

NAMES = ("customer", "agent", "expert")
TICK_US = 100_000
LENGTH = 300
"""Ticks of a made-up call."""


def span(start_s: float, end_s: float) -> Span:
    return Span(round(start_s * 1e6), round(end_s * 1e6))


def turn(participant: str, start_s: float, end_s: float) -> SpeechTurn:
    return SpeechTurn(participant, span(start_s, end_s))


def talked(*turns: SpeechTurn, until_s: float, gaps=()) -> Conversation:
    conversation = Conversation(("customer", "agent"))
    for each in turns:
        conversation.turn(each)
    for gap in gaps:
        conversation.unheard(gap)
    conversation.advance(round(until_s * 1e6))
    return conversation


def figures(*turns: SpeechTurn, until_s: float, gaps=()) -> tuple[Dynamics, ...]:
    return talked(*turns, until_s=until_s, gaps=gaps).figures(round(until_s * 1e6))


def test_shares_overtalk_and_silence() -> None:
    customer, agent = figures(
        turn("agent", 0, 4), turn("customer", 3, 6), turn("agent", 5.8, 8), turn("customer", 14, 15), until_s=20
    )
    assert customer.talk_us == 4_000_000
    assert customer.talk_share == pytest.approx(4 / 10.2)
    assert customer.overtalk_us == agent.overtalk_us == 1_200_000
    assert (customer.interruptions, agent.interruptions) == (1, 0)  # 0.2 s of overlap is a listening sound
    assert (customer.longest_silence_us, customer.silence_us) == (6_000_000, 11_000_000)
    assert customer.silence_share == pytest.approx(11 / 20)
    assert customer.until_us == 20_000_000


def test_hold_and_lost_media_are_no_silence() -> None:
    customer, _ = figures(turn("agent", 0, 4), turn("agent", 40, 44), gaps=[span(6, 38)], until_s=44)
    assert (customer.longest_silence_us, customer.silence_us) == (2_000_000, 4_000_000)
    assert customer.silence_share == pytest.approx(4 / 12)


@pytest.mark.parametrize(
    ("turns", "successful", "overlap_s"),
    [
        ([("agent", 0, 4), ("customer", 3, 8)], True, 1.0),
        ([("agent", 0, 8), ("customer", 3, 4)], False, 1.0),  # the agent went on
        ([("agent", 0, 4), ("customer", 3, 4.3)], False, 1.0),  # nobody had the floor
        ([("agent", 0, 4), ("customer", 3, 8), ("agent", 4.2, 6)], False, 1.0),  # the agent was back at once
    ],
)
def test_who_interrupted_whom_and_whether_it_worked(turns, successful, overlap_s) -> None:
    found = talked(*(turn(*each) for each in turns), until_s=10).interruptions(10_000_000)[0]
    assert (found.by, found.of, found.successful) == ("customer", "agent", successful)
    assert found.overlap_us == found.span.duration_us == round(overlap_s * 1e6)
    assert found.span.start_us == 3_000_000


def test_the_pieces_of_a_long_turn_are_one_turn() -> None:
    conversation = talked(turn("agent", 0, 14), turn("agent", 14, 20), turn("customer", 13.6, 16), until_s=20)
    assert [(i.by, i.overlap_us) for i in conversation.interruptions(20_000_000)] == [("customer", 2_400_000)]
    assert conversation.figures(20_000_000)[1].interruptions == 0


def test_response_times_need_an_end_before_a_start_and_nothing_missing_between() -> None:
    customer, agent = figures(
        turn("agent", 0, 2),
        turn("customer", 2.5, 4),  # 0.5 s
        turn("agent", 5, 7),  # 1 s
        turn("customer", 6.5, 9),  # overlaps
        turn("customer", 9.5, 10),  # goes on itself
        turn("agent", 30, 31),  # after a hold
        turn("customer", 34, 35),  # 3 s
        until_s=40,
        gaps=[span(11, 29)],
    )
    assert (customer.responses, agent.responses) == (2, 1)
    assert (customer.response_median_us, customer.response_p90_us) == (500_000, 3_000_000)
    assert (agent.response_median_us, agent.response_p90_us) == (1_000_000, 1_000_000)


def test_a_listening_sound_does_not_break_a_monologue_and_a_turn_does() -> None:
    told = [turn("agent", 0, 20), turn("customer", 10, 10.6), turn("agent", 21, 41), turn("customer", 42, 43.5)]
    customer, agent = figures(*told[:3], until_s=41)
    assert (agent.monologue_us, agent.longest_monologue_us) == (40_000_000, 40_000_000)
    customer, agent = figures(*told, until_s=50)
    assert (agent.monologue_us, agent.longest_monologue_us) == (0, 40_000_000)
    assert customer.monologue_us == 600_000 + 1_500_000 - 600_000  # the agent's turn broke the first


def test_what_is_being_said_counts_before_it_ends() -> None:
    conversation = Conversation(("customer", "agent"))
    conversation.turn(turn("customer", 0, 2))
    conversation.advance(3_000_000)
    _, agent = conversation.figures(63_000_000, {"agent": 3_000_000})
    assert (agent.monologue_us, agent.response_median_us) == (60_000_000, 1_000_000)
    _, agent = conversation.figures(3_000_000)  # looking changes nothing
    assert (agent.monologue_us, agent.responses) == (0, 0)


def test_pace_counts_own_speech_only_and_now_is_its_last_half_minute() -> None:
    conversation = Conversation(("customer", "agent"))
    for start_s, words in ((0, 20), (20, 20), (40, 40), (60, 40)):
        conversation.turn(turn("customer", start_s, start_s + 10))
        conversation.turn(turn("agent", start_s + 10, start_s + 12))
        said = tuple(Word("well", Span(0, 1), 1.0) for _ in range(words))
        text = "well " * words
        conversation.said(Utterance("u", span(start_s, start_s + 10), "customer", text, said, "en", 1.0, True, 1))
    conversation.advance(80_000_000)
    customer, agent = conversation.figures(80_000_000)
    assert customer.words_per_minute == pytest.approx(180)
    assert customer.words_per_minute_now == pytest.approx(200)  # 100 words in 30 s
    assert (agent.words_per_minute, agent.words_per_minute_now) == (None, None)


def test_crosstalk_by_the_second() -> None:
    conversation = talked(turn("agent", 0, 4.5), turn("customer", 3.2, 8), until_s=8)
    assert conversation.crosstalk("customer", 3) == Crosstalk(800_000, interrupts=True)
    assert conversation.crosstalk("agent", 4) == Crosstalk(500_000, interrupts=False)
    assert conversation.crosstalk("agent", 7) == Crosstalk()


def test_a_call_without_speech() -> None:
    customer, _ = figures(until_s=5)
    assert (customer.talk_share, customer.longest_silence_us, customer.silence_share) == (0.0, 5_000_000, 1.0)
    assert (customer.response_median_us, customer.words_per_minute) == (None, None)


@st.composite
def calls(draw):
    """Turns of each party in ticks, and ticks in which somebody could not be heard."""
    turns = {}
    for name in NAMES[: draw(st.integers(2, 3))]:
        edges = draw(st.lists(st.integers(0, LENGTH), max_size=24, unique=True).map(sorted))
        turns[name] = list(zip(edges[::2], edges[1::2], strict=False))
    edges = draw(st.lists(st.integers(0, LENGTH), max_size=4, unique=True).map(sorted))
    return turns, list(zip(edges[::2], edges[1::2], strict=False))


def by_ticks(turns, gaps):
    """The figures, by going through the call tick by tick."""
    speaks = {name: [any(a <= t < b for a, b in own) for t in range(LENGTH)] for name, own in turns.items()}
    missing = [any(a <= t < b for a, b in gaps) for t in range(LENGTH)]
    names = list(turns)
    found, latencies = [], {name: [] for name in names}

    def runs_on(name, start):
        return next((t for t in range(start, LENGTH) if not speaks[name][t]), LENGTH)

    def began(name, t):
        while t and speaks[name][t - 1]:
            t -= 1
        return t

    for t in range(LENGTH):
        for name in sorted(names):
            if not speaks[name][t] or (t and speaks[name][t - 1]):
                continue
            holders = [o for o in names if o != name and t and speaks[o][t - 1] and speaks[o][t]]
            if holders:
                of = min(holders, key=lambda o: (began(o, t), o))
                end = min(runs_on(name, t), runs_on(of, t))
                if end - t >= 5:
                    alone = range(end, end + 5)
                    kept = end + 5 <= LENGTH and all(speaks[name][a] and not speaks[of][a] for a in alone)
                    # Half a second is over at the end of the call only if something comes after it.
                    found.append((name, of, t, end, kept and end + 5 < LENGTH))
                continue
            last = next((s for s in range(t - 1, -1, -1) if any(speaks[o][s] for o in names)), None)
            if last is None or speaks[name][last]:
                continue
            if not any(missing[last + 1 : t]):
                latencies[name].append(t - last - 1)
    return speaks, missing, found, latencies


@given(call=calls(), data=st.data())
def test_figures_are_those_of_going_through_the_call_tick_by_tick(call, data) -> None:
    turns, gaps = call
    speaks, missing, found, latencies = by_ticks(turns, gaps)
    names = list(turns)
    conversation = stream(turns, gaps, data)
    found_here = conversation.interruptions(LENGTH * TICK_US)
    assert sorted((i.by, i.of, i.span.start_us, i.span.end_us) for i in found_here) == sorted(
        (by, of, start * TICK_US, end * TICK_US) for by, of, start, end, _ in found
    )
    assert {(i.by, i.span.start_us) for i in found_here if i.successful} == {
        (by, start * TICK_US) for by, _, start, _, kept in found if kept
    }
    quiet = [not missing[t] and not any(speaks[n][t] for n in names) for t in range(LENGTH)]
    for each in conversation.figures(LENGTH * TICK_US):
        own = speaks[each.participant]
        assert each.talk_us == sum(own) * TICK_US
        assert each.overtalk_us == TICK_US * sum(
            own[t] and any(speaks[o][t] for o in names if o != each.participant) for t in range(LENGTH)
        )
        assert each.silence_us == sum(quiet) * TICK_US
        assert each.longest_silence_us == TICK_US * max(map(len, "".join(".#"[q] for q in quiet).split(".")), default=0)
        waits = sorted(latencies[each.participant])
        assert each.responses == len(waits)
        if waits:
            assert each.response_median_us == waits[ceil(len(waits) / 2) - 1] * TICK_US
            assert each.response_p90_us == waits[ceil(0.9 * len(waits)) - 1] * TICK_US


def stream(turns, gaps, data) -> Conversation:
    """Told as in a running call: each turn when it, or a piece of it, is over, all counted up to what is still open."""
    conversation = Conversation(list(turns))
    cuts = data.draw(st.sets(st.integers(0, LENGTH), max_size=12))
    turns = {
        name: [piece for a, b in own for piece in pairwise(sorted({a, b, *(c for c in cuts if a < c < b)}))]
        for name, own in turns.items()
    }
    told: Counter[str] = Counter()
    gap_count = 0
    for now in sorted({*data.draw(st.lists(st.integers(0, LENGTH), max_size=12)), LENGTH}):
        for name, own in turns.items():
            while told[name] < len(own) and own[told[name]][1] <= now:
                a, b = own[told[name]]
                conversation.turn(SpeechTurn(name, Span(a * TICK_US, b * TICK_US)))
                told[name] += 1
        while gap_count < len(gaps) and gaps[gap_count][1] <= now:
            a, b = gaps[gap_count]
            conversation.unheard(Span(a * TICK_US, b * TICK_US))
            gap_count += 1
        waiting = [own[told[name]][0] for name, own in turns.items() if told[name] < len(own)]
        waiting += [gaps[gap_count][0]] if gap_count < len(gaps) else []
        conversation.advance(min([now, *waiting]) * TICK_US)
    return conversation


def whole_call(turns, gaps) -> Conversation:
    conversation = Conversation(list(turns))
    for name, own in turns.items():
        for a, b in own:
            conversation.turn(SpeechTurn(name, Span(a * TICK_US, b * TICK_US)))
    for a, b in gaps:
        conversation.unheard(Span(a * TICK_US, b * TICK_US))
    return conversation


@given(call=calls(), data=st.data())
def test_figures_do_not_depend_on_how_the_call_came_in(call, data) -> None:
    turns, gaps = call
    whole = whole_call(turns, gaps)
    pieces = stream(turns, gaps, data)
    end_us = LENGTH * TICK_US
    assert pieces.figures(end_us) == whole.figures(end_us)
    assert pieces.interruptions(end_us) == whole.interruptions(end_us)
    whole.advance(end_us)
    for name in turns:
        for second in range(LENGTH // 10):
            assert pieces.crosstalk(name, second) == whole.crosstalk(name, second)


@given(call=calls())
def test_monologues_end_when_another_has_spoken_for_a_second(call) -> None:
    turns, gaps = call
    breaks = {
        name: sorted(a + 10 for other, own in turns.items() if other != name for a, b in own if b - a > 10)
        for name in turns
    }
    for each in whole_call(turns, gaps).figures(LENGTH * TICK_US):
        edges = [0, *breaks[each.participant], LENGTH]
        lengths = [
            sum(max(0, min(b, end) - max(a, start)) for a, b in turns[each.participant])
            for start, end in pairwise(edges)
        ]
        assert each.monologue_us == lengths[-1] * TICK_US
        assert each.longest_monologue_us == max(lengths) * TICK_US


def test_an_update_holds_as_much_after_four_hours_as_after_a_minute() -> None:
    conversation = Conversation(("customer", "agent"))
    kept = []
    for number in range(4 * 360):
        start_s = number * 10
        conversation.turn(turn("agent", start_s, start_s + 6))
        conversation.turn(turn("customer", start_s + 5, start_s + 9))
        conversation.unheard(span(start_s + 9.5, start_s + 9.7))
        conversation.advance(round((start_s + 10) * 1e6))
        floor = conversation._floor
        kept.append(
            len(floor.gaps) + len(floor.found) + len(floor.overlaps) + len(floor._cuts)
            + sum(len(p.turns) for p in floor.parties.values())
            + sum(len(p.recent) for p in conversation._pace.values())
        )  # fmt: skip
    assert max(kept[6:]) <= max(kept[:12])
    assert conversation.figures(14_400_000_000)[0].successful_interruptions == 1440
