"""Who talks how much, and over whom."""

import pytest

from affectline.models.signals import Span, Word
from affectline.pipelines.dynamics import dynamics
from affectline.pipelines.timeline import Participant, SpeechTurn, Utterance

pytestmark = pytest.mark.unit

PARTIES = (Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))


def turn(participant: str, start_s: float, end_s: float) -> SpeechTurn:
    return SpeechTurn(participant, Span(int(start_s * 1e6), int(end_s * 1e6)))


def test_shares_overtalk_interruptions_and_silence() -> None:
    turns = [turn("agent", 0, 4), turn("customer", 3, 6), turn("agent", 5.8, 8), turn("customer", 14, 15)]
    customer, agent = dynamics(PARTIES, turns, [], 20_000_000)
    assert customer.talk_us == 4_000_000
    assert customer.talk_share == pytest.approx(4 / 10.2)
    assert customer.overtalk_us == agent.overtalk_us == 1_200_000
    assert (customer.interruptions, agent.interruptions) == (1, 0)  # 0.2 s of overlap is a listening sound
    assert customer.longest_silence_us == 6_000_000


def test_pace_counts_own_speech_only() -> None:
    words = tuple(Word("well", Span(0, 1), 1.0) for _ in range(20))
    said = Utterance("u", Span(0, 10_000_000), "customer", "well " * 20, words, "en", 1.0, True, 1)
    customer, agent = dynamics(PARTIES, [turn("customer", 0, 10)], [said], 60_000_000)
    assert customer.words_per_minute == pytest.approx(120)
    assert agent.words_per_minute is None


def test_a_call_without_speech() -> None:
    customer, _ = dynamics(PARTIES, [], [], 5_000_000)
    assert (customer.talk_share, customer.longest_silence_us) == (0.0, 5_000_000)
