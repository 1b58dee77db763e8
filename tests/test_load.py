"""The load generator: its calls, and how it counts lateness."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("jiwer", reason="needs the extra `bench` (jiwer)")

from benchmarks import load
from benchmarks.callers import CallLog, Mark, Sound, make_calls
from benchmarks.load import Due, Plan

pytestmark = pytest.mark.unit

CALL = Path(__file__).parents[1] / "examples" / "dealership_call.flac"
SECOND = 1_000_000


def test_a_recording_goes_round() -> None:
    sound = Sound("s", bytes(range(10)), 2, 8_000, "mulaw")
    assert sound.frames == 5
    assert sound.piece(3, 4) == bytes([6, 7, 8, 9, 0, 1, 2, 3])
    assert sound.piece(5, 11) == bytes(range(10)) * 2 + bytes([0, 1])


def test_calls_do_not_run_in_step() -> None:
    sound = Sound("s", bytes(16_000 * 60), 2, 8_000, "mulaw")
    made = load.callers(Plan(9, 30, True, None, (20, 100), (sound,)), 100.0)
    assert len({caller.offset_frame for caller in made}) == 9
    starts = [caller.start_s for caller in made]
    assert starts == sorted(starts)
    assert (starts[0], starts[-1]) == (100.0, pytest.approx(100 + 10 * 8 / 9))
    assert [caller.chunk_frames for caller in made[:3]] == [160, 800, 160]


@pytest.mark.parametrize("most", [0, 1, 2, 7, 8, 9, 31])
@pytest.mark.parametrize("first", [1, 8])
def test_the_search_ends_at_the_most_that_holds(first: int, most: int) -> None:
    tried: list[int] = []

    def holds_at(calls: int) -> bool:
        tried.append(calls)
        return calls <= most

    assert load.search(first, holds_at) == most
    assert len(set(tried)) == len(tried)


def marks(*late: float) -> Iterator[Mark]:
    """Final moments of the caller's seconds, so much after they are due."""
    for second, by_s in enumerate(late):
        due_s = 10 + second + 1.8
        yield Mark(due_s + by_s, "moment", f"m-caller-{second}", "caller", second * SECOND, (second + 1) * SECOND, True)


def test_lateness_counts_from_when_a_result_is_due() -> None:
    due = Due([1_800_000, 2_800_000, 3_800_000], {(0, 2 * SECOND): 2_800_000}, {0, 1})
    log = CallLog(0, began_s=10.0, closed_s=30.0)
    log.marks = [
        Mark(10.5, "moment", "m-caller-0", "caller", 0, SECOND, False),
        *marks(0.1, 0.2),
        Mark(13.3, "utterance", "u-caller-0", "caller", 0, 2 * SECOND, True),
        Mark(13.4, "suggestion", "s", "caller", 2 * SECOND, 2 * SECOND, True, ("u-caller-0", "m-caller-1")),
        Mark(14.0, "suggestion", "s", "caller", 2 * SECOND, 2 * SECOND, False, ("u-caller-0",)),
    ]
    lags = load.lags_of(log, {"caller": due}, 10, 20)
    assert [late for late, _ in lags["moment"]] == pytest.approx([0.1, 0.2])
    assert lags["moment, first"] == [(0.0, True), (pytest.approx(13.0 - 12.0), True)]
    assert lags["moment, silent"] == [(pytest.approx(30 - 13.8), False)]  # never came: up to the end of its call
    assert lags["transcript"] == [(pytest.approx(13.3 - 12.8), True)]
    assert lags["transcript, after speech"] == [(pytest.approx(13.3 - 12), True)]
    assert lags["suggestion"] == [(pytest.approx(13.4 - 12.8), True)]
    assert lags["suggestion, after cue"] == [(pytest.approx(13.4 - 12), True)]
    assert "moment" not in load.lags_of(log, {"caller": due}, 20, 30)


def test_an_utterance_without_a_text_counts_as_late_only_in_a_call_that_did_not_end() -> None:
    due = {"caller": Due([], {(0, SECOND): 1_800_000}, {0})}
    ended = CallLog(0, began_s=10.0, closed_s=30.0)
    assert "transcript" not in load.lags_of(ended, due, 0, 40)
    given_up = CallLog(0, began_s=10.0, closed_s=30.0, status="GIVEN_UP")
    assert load.lags_of(given_up, due, 0, 40)["transcript"] == [(pytest.approx(18.2), False)]


def test_a_call_that_nobody_takes_says_so() -> None:
    sound = Sound("s", bytes(1_600), 2, 8_000, "mulaw")
    made = load.callers(Plan(1, 0.1, False, None, (20,), (sound,)), time.monotonic())
    (log,) = make_calls("127.0.0.1:1", made, [sound]).logs
    assert log.status == "UNAVAILABLE"
    assert not log.timeline
