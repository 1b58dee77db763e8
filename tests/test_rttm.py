"""Speaker turns survive RTTM, and hostile lines are named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.signals import Span, SpeakerTurn
from affectline.pipelines.rttm import read_rttm, write_rttm

pytestmark = pytest.mark.unit

NAMES = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=20)
SPANS = st.tuples(st.integers(0, 10**12), st.integers(0, 10**10)).map(lambda pair: Span(pair[0], sum(pair)))
TURNS = st.lists(st.builds(SpeakerTurn, SPANS, NAMES), min_size=1, max_size=8)


@given(st.dictionaries(NAMES, TURNS, max_size=3))
def test_what_is_written_is_read(recordings: dict[str, list[SpeakerTurn]]) -> None:
    text = write_rttm(recordings)
    assert read_rttm(text) == {name: tuple(sorted(turns)) for name, turns in recordings.items()}
    assert all(len(line.split()) == 10 for line in text.splitlines())


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read_rttm(text)
    except InvalidInputError as error:
        assert str(error).startswith("line ")  # noqa: PT017


@given(NAMES.filter(lambda name: name.split() == [name]), st.sampled_from([" ", "\t", "\n", "\u2003"]), NAMES)
def test_names_that_the_format_cannot_hold_are_refused(before: str, space: str, after: str) -> None:
    with pytest.raises(InvalidInputError, match="without white space"):
        write_rttm({"call": [SpeakerTurn(Span(0, 1), before + space + after)]})


def test_lines_of_other_tools_are_read() -> None:
    text = (
        ";; made elsewhere\n"
        "SPKR-INFO call 1 <NA> <NA> <NA> unknown b <NA>\n"
        "SPEAKER call 1 1.5 .5 <NA> <NA> b <NA>\r\n".replace(" .5", " 0.5")
        + "\n"
        + "SPEAKER\tcall\t1\t0\t1.2345678\t<NA>\t<NA>\ta\t<NA>\t<NA>\n"
    )
    assert read_rttm(text) == {
        "call": (SpeakerTurn(Span(0, 1_234_568), "a"), SpeakerTurn(Span(1_500_000, 2_000_000), "b"))
    }
    assert write_rttm({"call": [SpeakerTurn(Span(1_500_000, 2_000_007), "b")]}) == (
        "SPEAKER call 1 1.500000 0.500007 <NA> <NA> b <NA> <NA>\n"
    )


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("SPEAKER call 1 0 1 <NA> <NA> a", "line 1: expected SPEAKER and 9 or 10 fields, found 8 fields"),
        ("SPEECH call 1 0 1 <NA> <NA> a <NA>", "found another type of line"),
        ("SPEAKER call 1 -1 1 <NA> <NA> a <NA>", "expected seconds from 0 to 1,000,000,000, found '-1'"),
        ("SPEAKER call 1 0 nan <NA> <NA> a <NA>", "found 'nan'"),
        ("SPEAKER call 1 0 1e9 <NA> <NA> a <NA>", "found '1e9'"),
        ("SPEAKER call 1 9999999999 1 <NA> <NA> a <NA>", "found '9999999999'"),
        ("SPEAKER call 1 ١ 1 <NA> <NA> a <NA>", "found '١'"),
        (f"SPEAKER call 1 0 1 <NA> <NA> {'a' * 300} <NA>", "expected names of up to 256 characters, found one of 300"),
    ],
)
def test_what_is_wrong_is_named(line: str, expected: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        read_rttm(line)
    assert expected in str(raised.value)
