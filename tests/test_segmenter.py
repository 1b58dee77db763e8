"""Speech probabilities in, utterances out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.pipelines.segmenter import END_SILENCE_MS, MAX_UTTERANCE_MS, MIN_SPEECH_MS, Segment, Segmenter

pytestmark = pytest.mark.unit

FRAME_MS = 32
MAX_FRAMES = round(MAX_UTTERANCE_MS / FRAME_MS)
END_FRAMES = round(END_SILENCE_MS / FRAME_MS)


def segments(probabilities: list[float]) -> list[Segment]:
    segmenter = Segmenter(FRAME_MS)
    found = [segment for p in probabilities for segment in segmenter.feed(p)]
    return found + list(segmenter.break_off())


def test_speech_between_silences_is_one_segment() -> None:
    (segment,) = segments([0.0] * 10 + [0.9] * 30 + [0.0] * 40)
    assert (segment.start_frame, segment.end_frame) == (10, 40)
    assert all(segment.speech)
    assert not segment.goes_on


def test_a_short_pause_does_not_end_an_utterance() -> None:
    (segment,) = segments([0.9] * 20 + [0.1] * (END_FRAMES - 2) + [0.9] * 20)
    assert segment.speech.count(False) == END_FRAMES - 2


def test_a_long_pause_does() -> None:
    first, second = segments([0.9] * 20 + [0.1] * (END_FRAMES + 1) + [0.9] * 20)
    assert first.end_frame == 20
    assert second.start_frame == 20 + END_FRAMES + 1


def test_a_click_is_no_speech() -> None:
    assert segments([0.0] * 10 + [0.9] * (round(MIN_SPEECH_MS / FRAME_MS) - 1) + [0.0] * 50) == []


def test_endless_speech_is_cut_where_it_is_weakest() -> None:
    probabilities = [0.9] * (MAX_FRAMES + 50)
    weakest = MAX_FRAMES - 40
    probabilities[weakest] = 0.4
    first, second = segments(probabilities)
    assert first.goes_on
    assert first.end_frame == second.start_frame == weakest


@given(st.lists(st.floats(0, 1), max_size=2_000))
def test_segments_are_ordered_apart_bounded_and_flag_every_frame(probabilities: list[float]) -> None:
    reached = 0
    for segment in segments(probabilities):
        assert reached <= segment.start_frame < segment.end_frame <= len(probabilities)
        assert segment.end_frame - segment.start_frame == len(segment.speech) <= MAX_FRAMES
        assert sum(segment.speech) * FRAME_MS >= MIN_SPEECH_MS - FRAME_MS
        reached = segment.end_frame


def test_discarded_speech_is_gone() -> None:
    segmenter = Segmenter(FRAME_MS)
    for _ in range(20):
        assert not list(segmenter.feed(0.9))
    segmenter.discard()
    assert not list(segmenter.break_off())


@given(st.lists(st.floats(0, 1), max_size=700))
def test_no_segment_ends_before_it_may_and_silence_ends_it_then(probabilities: list[float]) -> None:
    segmenter = Segmenter(FRAME_MS)
    for probability in probabilities:
        earliest = segmenter.earliest_end
        if list(segmenter.feed(probability)):
            assert earliest is not None
            assert segmenter.frame >= earliest
    start = segmenter.open_start
    if (earliest := segmenter.earliest_end) is not None:
        while segmenter.frame < earliest:
            assert segmenter.open_start == start
            assert segmenter.earliest_end == earliest
            list(segmenter.feed(0.0))
        assert segmenter.open_start != start
