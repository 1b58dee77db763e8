"""Who speaks when: windows, clusters, turns; a whole recording at once, and a call while it runs."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32
from affectline.pipelines.speakers import (
    MAX_SPEAKERS,
    Heard,
    Turn,
    align,
    best_path,
    diarize,
    find_voices,
    listen,
    smoothed,
)
from affectline.pipelines.speakers_live import DELAY_US, MAX_WINDOWS, STEP_US, SpeakerTracker

from .voices import LoudGate, PitchEncoder, spoken

pytestmark = pytest.mark.unit

TWO = [(0, 4.0), (1, 3.0), (0, 5.0), (1, 4.0), (0, 3.0), (1, 2.5)]


def heard(pcm: F32, block: int = 16_000) -> Heard:
    return listen(LoudGate(), PitchEncoder(), (pcm[at : at + block] for at in range(0, len(pcm), block)))


def tracked(pcm: F32, cuts: Sequence[int], count: int | None = None) -> list[Turn]:
    tracker, found = SpeakerTracker(LoudGate(), PitchEncoder(), count), list[Turn]()
    for part in np.split(pcm, sorted(cuts)):
        found += tracker.feed(part)
    return found + tracker.finish()


def who(turns: Sequence[Turn], at_s: float) -> set[str]:
    return {turn.speaker for turn in turns if turn.span.start_us <= at_s * 1e6 < turn.span.end_us}


def check_whole(turns: Sequence[Turn], speech: np.ndarray, frame_us: int) -> None:
    """Each frame of speech has one speaker, or several that are all flagged; other frames have none."""
    middle_us = (np.arange(len(speech)) * frame_us + frame_us // 2).tolist()
    for at_us, spoken_then in zip(middle_us, speech.tolist(), strict=True):
        now = [turn for turn in turns if turn.span.start_us <= at_us < turn.span.end_us]
        assert len({turn.speaker for turn in now}) == len(now)
        assert bool(now) == spoken_then
        assert len(now) <= 1 or all(turn.overlap for turn in now)


@pytest.mark.parametrize("count", range(1, MAX_SPEAKERS + 1))
def test_as_many_voices_as_speak(count: int) -> None:
    turns = [(voice, 4.0) for _ in range(3) for voice in range(count)]
    found = diarize(heard(spoken(turns)))
    assert {turn.speaker for turn in found} == {str(n + 1) for n in range(count)}
    for number, (voice, _) in enumerate(turns):
        assert who(found, 0.5 + number * 4.5 + 2) == {str(voice + 1)}


def test_speakers_are_named_as_they_are_first_heard_whoever_they_are() -> None:
    one = diarize(heard(spoken(TWO)))
    other = diarize(heard(spoken([(1 - voice, length_s) for voice, length_s in TWO])))
    assert one == other


@settings(max_examples=25, deadline=None)
@given(
    turns=st.lists(st.tuples(st.integers(-1, 3), st.floats(0.1, 6)), max_size=8), pause_s=st.sampled_from([0, 0.2, 1])
)
def test_every_moment_of_speech_has_one_speaker_or_a_flag(turns: list[tuple[int, float]], pause_s: float) -> None:
    found = heard(spoken(turns, pause_s=pause_s))
    check_whole(diarize(found), found.speech, found.frame_us)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_alignment_covers_the_speech(data: st.DataObject) -> None:
    """Whatever the windows are like: random voices, random speech."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    speech = smoothed(np.repeat(rng.random(40) < 0.6, rng.integers(1, 30, 40)), 32_000)
    starts = np.flatnonzero(rng.random(len(speech) * 512 // 6_400) < 0.7) * 6_400
    voices = rng.normal(size=(len(starts), 8)).astype(np.float32)
    centres = rng.normal(size=(data.draw(st.integers(1, 6)), 8)).astype(np.float32)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    stretches = align(speech, 32_000, starts, voices, centres)
    turns = [Turn(span, str(speaker), overlap) for span, speaker, overlap in stretches]
    check_whole(turns, speech, 32_000)


@pytest.mark.parametrize("length_s", [0, 0.01, 0.05, 0.3, 1.0, 1.7, 3.0])
def test_very_short_calls(length_s: float) -> None:
    found = diarize(heard(spoken([(0, length_s)], pause_s=0)))
    assert {turn.speaker for turn in found} <= {"1"}
    assert bool(found) == (length_s >= 0.3)
    assert tracked(spoken([(0, length_s)], pause_s=0), []) == list(found)


def test_silence_has_no_speaker() -> None:
    pcm = np.zeros(20 * RATE_HZ, np.float32)
    assert diarize(heard(pcm)) == ()
    assert tracked(pcm, [5_000]) == []


def test_a_known_count_is_kept_to() -> None:
    assert {turn.speaker for turn in diarize(heard(spoken(TWO)), 1)} == {"1"}
    three = [(voice, 3.0) for _ in range(3) for voice in range(3)]
    assert {turn.speaker for turn in diarize(heard(spoken(three)), 2)} == {"1", "2"}
    for count in (0, MAX_SPEAKERS + 1):
        with pytest.raises(InvalidInputError, match=f"expected 1 to 6 speakers, found {count}"):
            find_voices(np.zeros((0, 6), np.float32), np.zeros(0, np.int64), count)


@settings(max_examples=30, deadline=None)
@given(
    evidence=st.integers(1, 4).flatmap(
        lambda k: st.lists(st.lists(st.floats(-5, 5), min_size=k, max_size=k), min_size=1, max_size=5)
    ),
    cost=st.floats(0, 4),
)
def test_best_path_is_the_best_of_all(evidence: list[list[float]], cost: float) -> None:
    table = np.asarray(evidence)

    def score(path: Sequence[int]) -> float:
        changes = sum(a != b for a, b in pairwise(path))
        return float(table[np.arange(len(path)), list(path)].sum()) - cost * changes

    every = np.stack(np.meshgrid(*[range(table.shape[1])] * len(table)), -1).reshape(-1, len(table))
    assert score(best_path(table, cost).tolist()) == pytest.approx(max(score(path.tolist()) for path in every))


def test_live_and_whole_agree_where_both_are_clear() -> None:
    pcm = spoken(TWO)
    live, whole = tracked(pcm, range(0, len(pcm), 1_600)), diarize(heard(pcm))
    for at_s in np.arange(0.6, len(pcm) / RATE_HZ, 0.25):
        if len(who(whole, at_s - 0.2) | who(whole, at_s + 0.2)) == 1:
            assert who(live, at_s) == who(whole, at_s), at_s


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 24 * RATE_HZ), max_size=10))
def test_chunking_does_not_change_who_speaks_live(cuts: list[int]) -> None:
    pcm = spoken(TWO)
    assert tracked(pcm, cuts) == tracked(pcm, [])


def test_what_is_settled_live_comes_in_order_in_time_and_stays() -> None:
    pcm = spoken([(voice % 3, 3.0) for voice in range(12)])
    tracker, found = SpeakerTracker(LoudGate(), PitchEncoder()), list[Turn]()
    for at in range(0, len(pcm), 1_600):
        before_us = tracker.settled_us
        new = tracker.feed(pcm[at : at + 1_600])
        assert all(before_us <= turn.span.start_us < turn.span.end_us <= tracker.settled_us for turn in new)
        received_us = min(len(pcm), at + 1_600) * 1_000_000 // RATE_HZ
        assert received_us - tracker.settled_us <= DELAY_US + STEP_US + 500_000
        found += new
    found += tracker.finish()
    assert found == sorted(found, key=lambda turn: turn.span.start_us)
    assert [who(found, 0.5 + number * 3.5 + 1.5) for number in range(12)] == [{str(n % 3 + 1)} for n in range(12)]


@pytest.mark.slow
def test_an_hour_live_takes_bounded_memory() -> None:
    """One that is silent for most of it, so that this test is quick; speech alone fills memory."""
    tracker = SpeakerTracker(LoudGate(), PitchEncoder())
    seen: set[str] = set()
    for _ in range(360):
        for pcm in (spoken([(0, 1.8), (1, 1.8)], pause_s=0.1), np.zeros(6 * RATE_HZ, np.float32)):
            seen |= {turn.speaker for turn in tracker.feed(pcm)}
        assert tracker.windows <= MAX_WINDOWS
        assert len(tracker._ear._pcm) < 2 * RATE_HZ
    assert seen == {"1", "2"}
    assert tracker.settled_us > 3_500_000_000
