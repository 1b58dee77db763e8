"""The diarization error rate of the benchmark, on cases worked out by hand."""

import pytest

from affectline.models.signals import Span
from affectline.pipelines.speakers import Turn
from benchmarks.der import diarization_errors

pytestmark = pytest.mark.unit

S_US = 1_000_000


def turns(*rows: tuple[float, float, str]) -> list[Turn]:
    return [Turn(Span(round(start * S_US), round(end * S_US)), who) for start, end, who in rows]


@pytest.mark.parametrize(
    ("found", "missed", "false_alarm", "confusion"),
    [
        (turns((0, 4, "x"), (4, 10, "y")), 0, 0, 0),
        (turns((0, 4, "y"), (4, 10, "x")), 0, 0, 0),
        (turns((0, 10, "x")), 0, 0, 4),
        (turns((1, 4, "x"), (4, 11, "y")), 1, 1, 0),
        (turns((0, 5, "x"), (4, 10, "y")), 0, 1, 0),
        (turns((0, 3, "x"), (3, 10, "y")), 0, 0, 1),
        ([], 10, 0, 0),
    ],
)
def test_errors_by_hand(found: list[Turn], missed: float, false_alarm: float, confusion: float) -> None:
    errors = diarization_errors(turns((0, 4, "a"), (4, 10, "b")), found, 12 * S_US)
    assert errors.speech_s == pytest.approx(10)
    assert (errors.missed_s, errors.false_alarm_s, errors.confusion_s) == pytest.approx(
        (missed, false_alarm, confusion)
    )
    assert errors.rate == pytest.approx((missed + false_alarm + confusion) / 10)


def test_overlap_counts_twice_and_a_collar_forgives() -> None:
    reference = turns((0, 6, "a"), (4, 10, "b"))
    whole = diarization_errors(reference, turns((0, 5, "x"), (5, 10, "y")), 10 * S_US)
    assert whole.speech_s == pytest.approx(12)
    assert whole.missed_s == pytest.approx(2)
    near = diarization_errors(turns((0, 4, "a")), turns((0.2, 4.2, "x")), 5 * S_US, collar_us=250_000)
    assert near.rate == 0
