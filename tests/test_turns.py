"""Turns from and to RTTM."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.signals import Span
from affectline.pipelines.speakers import Turn
from affectline.pipelines.turns import read_rttm, with_overlaps, write_rttm

pytestmark = pytest.mark.unit

LINE = "SPEAKER call 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n"
MILLIS = st.integers(0, 100_000)
TURNS = st.lists(
    st.builds(
        lambda start, length, who: Turn(Span(start * 1000, (start + length) * 1000), who),
        MILLIS,
        st.integers(1, 9_000),
        st.sampled_from(("agent", "customer", "speaker-3")),
    ),
    min_size=1,
    max_size=12,
)


def lines(*turns: tuple[float, float, str]) -> str:
    return "".join(LINE.format(start=start, length=length, who=who) for start, length, who in turns)


@given(TURNS)
def test_what_is_written_is_read_again(turns: list[Turn]) -> None:
    first = read_rttm(write_rttm(turns, "a call"), "x.rttm")
    assert read_rttm(write_rttm(first, "a call"), "x.rttm") == first


@given(TURNS)
def test_pieces_keep_who_speaks_and_flag_several(turns: list[Turn]) -> None:
    found = with_overlaps(turns)
    edges = sorted({edge for turn in turns for edge in (turn.span.start_us, turn.span.end_us)})
    for start_us in edges[:-1]:
        expected = {t.speaker for t in turns if t.span.start_us <= start_us < t.span.end_us}
        now = [t for t in found if t.span.start_us <= start_us < t.span.end_us]
        assert {t.speaker for t in now} == expected
        assert all(t.overlap == (len(expected) > 1) for t in now)


def test_other_lines_are_passed_over_and_touching_turns_joined() -> None:
    text = ";; a comment\nSPKR-INFO call 1 <NA> <NA> <NA> unknown agent <NA> <NA>\n\n"
    text += lines((0, 1, "agent"), (1, 1.5, "agent"), (4, 1, "customer"), (3.0, 0, "x"))
    assert read_rttm(text, "x.rttm") == (
        Turn(Span(0, 2_500_000), "agent"),
        Turn(Span(4_000_000, 5_000_000), "customer"),
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "expected SPEAKER lines, found none"),
        ("SPEAKER call 1 0 1\n", "x.rttm line 1: expected SPEAKER and 9 or 10 fields, found 5 fields"),
        (lines((-1, 1, "a")), "x.rttm line 1: expected seconds from 0"),
        (lines((0, 1, "a"), (float("nan"), 1, "a")), "x.rttm line 2: expected seconds"),
        (lines((0, 100_000, "a")), "expected turns within 24 h"),
        (lines((0, 1, "a:b")), "expected speakers' names"),
        (lines(*((n, 1, f"s{n}") for n in range(7))), "expected at most 6 speakers, found 7"),
        (lines((0, 1, "a")) + lines((0, 1, "a")).replace("call", "other"), "turns of one recording, found those of 2"),
    ],
)
def test_faults_are_named(text: str, error: str) -> None:
    with pytest.raises(InvalidInputError, match=error):
        read_rttm(text, "x.rttm")
