"""Speaker turns as RTTM (NIST, Rich Transcription 2009), the text format that diarization tools share.

One line a turn: SPEAKER file channel start duration <NA> <NA> speaker <NA> <NA>, times in seconds.
"""

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from affectline.models.errors import InvalidInputError
from affectline.models.signals import Span, SpeakerTurn

FIELDS: Final = (9, 10)
"""The lookahead time at the end came later."""
OTHER_TYPES: Final = frozenset({
    "SEGMENT", "NOSCORE", "NO_RT_METADATA", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT", "SU", "IP", "CB",
    "A/P", "SPKR-INFO",
})  # fmt: skip
MAX_LINES: Final = 1_000_000
MAX_SECONDS: Final = 10**9
_SECONDS: Final = re.compile(r"[0-9]{1,10}(\.[0-9]{1,12})?", re.ASCII)
_NAME: Final = re.compile(r"\S{1,256}")


def write_rttm(recordings: Mapping[str, Iterable[SpeakerTurn]], *, channel: int = 1) -> str:
    """Name of a recording -> its turns, as RTTM; to the microsecond.

    Raises InvalidInputError for a name with white space, which the format cannot hold.
    """
    lines = []
    for recording, turns in recordings.items():
        for turn in turns:
            for name in (recording, turn.speaker):
                if not _NAME.fullmatch(name):
                    raise InvalidInputError(
                        f"expected names of 1 to 256 characters without white space, found another of {len(name)}"
                    )
            start, duration = (f"{us // 10**6}.{us % 10**6:06}" for us in (turn.span.start_us, turn.span.duration_us))
            lines.append(f"SPEAKER {recording} {channel} {start} {duration} <NA> <NA> {turn.speaker} <NA> <NA>\n")
    return "".join(lines)


def read_rttm(text: str) -> dict[str, tuple[SpeakerTurn, ...]]:
    """Name of a recording -> its turns by their starts; other kinds of line and comments (;;) are passed over.

    Times are rounded to microseconds. Raises InvalidInputError naming the line.
    """
    found: dict[str, list[SpeakerTurn]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if number > MAX_LINES:
            raise InvalidInputError(f"expected at most {MAX_LINES:,} lines, found more")
        fields = line.split()
        if not fields or fields[0].startswith(";;") or fields[0] in OTHER_TYPES:
            continue
        if fields[0] != "SPEAKER" or len(fields) not in FIELDS:
            what = f"{len(fields)} fields" if fields[0] == "SPEAKER" else "another type of line"
            raise InvalidInputError(
                f"line {number}: expected SPEAKER and {FIELDS[0]} or {FIELDS[1]} fields, found {what}"
            )
        start, duration = (_us(fields[place], number) for place in (3, 4))
        turn = SpeakerTurn(Span(start, start + duration), _known(fields[7], number))
        found.setdefault(_known(fields[1], number), []).append(turn)
    return {recording: tuple(sorted(turns)) for recording, turns in found.items()}


def _known(name: str, number: int) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInputError(f"line {number}: expected names of up to 256 characters, found one of {len(name)}")
    return name


def _us(seconds: str, number: int) -> int:
    if not _SECONDS.fullmatch(seconds) or (value := Decimal(seconds)) > MAX_SECONDS:
        raise InvalidInputError(f"line {number}: expected seconds from 0 to {MAX_SECONDS:,}, found {seconds[:40]!r}")
    return round(value * 10**6)
