"""Turns of the voices of one recording, from and to RTTM files that people may have corrected."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from affectline.models.errors import InvalidInputError
from affectline.models.signals import Span, SpeakerTurn
from affectline.pipelines import rttm
from affectline.pipelines.speakers import MAX_SPEAKERS, Turn

MAX_US: Final = 24 * 3_600_000_000
_BLANK: Final = re.compile(r"\s+")
_NAME: Final = re.compile(r"[^\s,:=]{1,64}")


def write_rttm(turns: Sequence[Turn], name: str) -> str:
    """As RTTM; blanks in the names become `_`."""
    plain = [SpeakerTurn(turn.span, _BLANK.sub("_", turn.speaker)) for turn in turns]
    return rttm.write_rttm({_BLANK.sub("_", name) or "call": plain})


def read_rttm(text: str, name: str) -> tuple[Turn, ...]:
    """The turns of one recording, by time; those of one speaker that touch or overlap become one.

    Raises InvalidInputError for what is no RTTM, and for times beyond a day, more than MAX_SPEAKERS speakers, none, or
    several recordings.
    """
    try:
        recordings = rttm.read_rttm(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{name} {error}") from None
    if len(recordings) > 1:
        raise InvalidInputError(f"{name}: expected the turns of one recording, found those of {len(recordings)}")
    found = [turn for turns in recordings.values() for turn in turns if turn.span.duration_us]
    for turn in found:
        if not _NAME.fullmatch(turn.speaker):
            raise InvalidInputError(
                f"{name}: expected speakers' names of at most 64 characters without , : =, found another one"
            )
        if turn.span.end_us > MAX_US:
            raise InvalidInputError(f"{name}: expected turns within 24 h, found a later one")
    if not found:
        raise InvalidInputError(f"{name}: expected SPEAKER lines, found none")
    return whole_turns(found, name)


def whole_turns(turns: Iterable[SpeakerTurn], name: str) -> tuple[Turn, ...]:
    """Turns as they come from elsewhere, by time: those of one speaker that touch or overlap become one, and they are
    cut where another speaker begins or ends.

    `name`: where they come from. Raises InvalidInputError for more than MAX_SPEAKERS speakers.
    """
    spans: dict[str, list[Span]] = {}
    for turn in turns:
        spans.setdefault(turn.speaker, []).append(turn.span)
    if len(spans) > MAX_SPEAKERS:
        raise InvalidInputError(f"{name}: expected at most {MAX_SPEAKERS} speakers, found {len(spans)}")
    return with_overlaps([Turn(span, who) for who, own in spans.items() for span in _joined(own)])


def with_overlaps(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns cut where another speaker begins or ends, each piece flagged where several speak; by time."""
    edges = sorted({edge for turn in turns for edge in (turn.span.start_us, turn.span.end_us)})
    place = {edge: number for number, edge in enumerate(edges)}
    speaking: list[dict[str, None]] = [{} for _ in edges]
    for turn in turns:
        for number in range(place[turn.span.start_us], place[turn.span.end_us]):
            speaking[number][turn.speaker] = None
    found: list[Turn] = []
    last: dict[str, int] = {}
    for number, names in enumerate(speaking[:-1]):
        for who in names:
            before = found[last[who]] if who in last else None
            overlap = len(names) > 1
            if before is not None and before.span.end_us == edges[number] and before.overlap == overlap:
                found[last[who]] = Turn(Span(before.span.start_us, edges[number + 1]), who, overlap)
            else:
                last[who] = len(found)
                found.append(Turn(Span(edges[number], edges[number + 1]), who, overlap))
    return tuple(sorted(found, key=lambda turn: (turn.span, turn.speaker)))


def _joined(spans: Sequence[Span]) -> list[Span]:
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.start_us <= found[-1].end_us:
            found[-1] = Span(found[-1].start_us, max(found[-1].end_us, span.end_us))
        else:
            found.append(span)
    return found
