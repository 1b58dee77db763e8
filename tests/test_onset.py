"""A voice against how it sounded before: what counts as turning angry, and what does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.signals import AffectEstimate, AffectScores, Span
from affectline.models.zoo.voice import anger_odds
from affectline.pipelines.onset import USUAL, WITHIN_S, AngerWatch

pytestmark = pytest.mark.unit

Second = list[AffectEstimate]


def voice(odds: float | None, quality: float = 0.8) -> Second:
    scores = AffectScores({}, None, None, None, 0.5, anger_odds=odds)
    return [AffectEstimate(Span(0, 1_000_000), "customer", "voice", scores, quality, "voice@1")]


def last(*stretches: tuple[int, Second]) -> float | None:
    """The level in the last of so many seconds each."""
    return AngerWatch().step([second for count, second in stretches for _ in range(count)])[-1]


@pytest.mark.parametrize("usual", [-4.0, -3.0, -1.0, 1.0])
def test_a_voice_is_compared_with_its_own_usual(usual: float) -> None:
    calm, angry = last((30, voice(usual))), last((30, voice(usual)), (3, voice(usual + 4)))
    assert calm is not None
    assert angry is not None
    assert calm < 0.25
    assert angry >= 0.5


def test_a_lively_voice_that_swings_without_anger_is_not_angry() -> None:
    level = last((30, voice(-6.0)), (3, voice(-1.0)))
    assert level is not None
    assert 0.25 < level < 0.5


def test_a_caller_angry_from_the_first_word_is_found_and_a_lively_voice_is_not() -> None:
    angry, lively = (max(level or 0 for level in AngerWatch().step([voice(odds)] * 3)) for odds in (2.0, -0.5))
    assert lively < 0.5 <= angry


def test_a_voice_that_stays_like_that_becomes_its_own_usual() -> None:
    late = last((90, voice(1.0)))
    assert late is not None
    assert late < 0.25


def test_one_second_says_less_than_three_and_a_poor_one_less_than_a_good_one() -> None:
    calm, silence = (20, voice(USUAL)), (WITHIN_S, voice(None))
    levels = [
        last(calm, (2, voice(1.0, 0.3))),
        last(calm, (2, voice(1.0))),
        last(calm, silence, (1, voice(1.0))),
    ]
    assert levels == sorted(levels, key=lambda level: level or 0)
    assert len(set(levels)) == 3


def test_silence_says_nothing_and_long_silence_starts_anew() -> None:
    calm, angry = (20, voice(USUAL)), (3, voice(0.0))
    assert last(calm, angry, (1, [])) is None
    assert last(calm, angry, (WITHIN_S, []), (1, voice(USUAL))) == pytest.approx(0, abs=0.05)
    assert last(calm, (1, voice(None))) is None
    assert last(calm, (1, voice(0.0, 0.0))) is None


@given(st.lists(st.one_of(st.none(), st.floats(-9, 9)), max_size=12), st.integers(0, 12))
def test_looking_ahead_is_what_stepping_finds_and_does_not_move_on(odds: list[float | None], cut: int) -> None:
    seconds = [[] if each is None else voice(each) for each in odds]
    whole, parts = AngerWatch(), AngerWatch()
    expected = whole.step(seconds)
    found = parts.step(seconds[:cut])
    assert parts.look(seconds[cut:]) == parts.look(seconds[cut:])
    assert found + parts.step(seconds[cut:]) == expected
    assert all(level is None or 0 <= level <= 1 for level in expected)


def test_odds_of_anger_count_frustration_and_need_such_a_class() -> None:
    assert anger_odds({"anger": 0.25, "frustration": 0.25, "neutral": 0.5}) == pytest.approx(0)
    assert anger_odds({"anger": 0.1, "neutral": 0.9}) == pytest.approx(-2.197, abs=0.001)
    assert anger_odds({"anger": 1.0, "neutral": 0.0}) == pytest.approx(13.8, abs=0.1)
    assert anger_odds({"happiness": 0.5, "neutral": 0.5}) is None
