"""Takes personal data out of text before anything stores, shows, judges or logs it.

Numbers are read as they are written or said ("double four one oh"). Check digits decide where there are any (Luhn,
IBAN, national ids), the words around a value where there are none, and for names lists of them. What was just asked for
counts too: digits after "your card number, please?" are a card's however few they are.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from affectline.models.signals import Span, Word
from affectline.pipelines.redaction.lexicon import lexicon
from affectline.pipelines.redaction.names import name_words, names
from affectline.pipelines.redaction.numbers import Found, plain, runs, tidy
from affectline.pipelines.redaction.places import addresses, emails
from affectline.pipelines.redaction.values import codes, dates_of_birth, numbers, passwords
from affectline.pipelines.timeline import PersonalKind, Redaction

__all__ = ["Found", "Redactor", "find_personal", "placeholder", "redact", "redact_words"]

ASKED_US: Final = 30_000_000
ASKED_TURNS: Final = 4
"""So long, or for so many turns, after a question for personal data an answer is taken for it: people type slowly, and
look for their card."""
ASKING_CHARACTERS: Final = 160
"""The end of a turn that may ask for some."""
UNFINISHED_DIGITS: Final = 4
CUT_OFF: Final[frozenset[PersonalKind]] = frozenset(("card", "iban", "id", "phone", "account"))
"""What a speaker may go on with after a pause."""


def find_personal(
    text: str,
    language: str = "en",
    expected: frozenset[PersonalKind] = frozenset(),
    met: frozenset[str] = frozenset(),
) -> tuple[Found, ...]:
    """Personal data in a text, in order, not overlapping.

    language: ISO 639-1. expected: kinds that were just asked for. met: words of names known already.
    """
    clean = tidy(text)
    read = plain(clean.text, language)
    found = _distinct(
        (  # the surest first
            *emails(read),
            *codes(read),
            *addresses(read, expected),
            *dates_of_birth(read, expected),
            *numbers(read, language, expected),
            *passwords(read),
            *names(clean.text, read, language, expected, met),
        )
    )
    return tuple(clean.original(one) for one in found)


def _distinct(found: Iterable[Found]) -> tuple[Found, ...]:
    """In order of place; what overlaps becomes one, of the kind that came first."""
    kept: list[Found] = []
    order: dict[Found, int] = {}
    for one in found:
        first = bisect_right(kept, one.start, key=lambda other: other.end)
        after = bisect_left(kept, one.end, key=lambda other: other.start)
        same = kept[first:after]
        kind = min(same, key=order.__getitem__).kind if same else one.kind
        merged = Found(kind, min(o.start for o in (one, *same)), max(o.end for o in (one, *same)))
        order[merged] = min((order[o] for o in same), default=len(order))
        kept[first:after] = [merged]
    return tuple(kept)


class Redactor:
    """One conversation's, turn by turn in time order."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """names: of people that are known to take part."""
        self._until: dict[PersonalKind, tuple[int, int]] = {}
        """Kind -> (time, turn) until which, whichever is later, it is expected."""
        self._turn = 0
        self._met: set[str] = set()
        """Words of the names so far."""
        for name in names:
            self._met.update(name_words(name))

    def find(self, text: str, language: str, start_us: int, *, final: bool) -> tuple[Found, ...]:
        """As find_personal. Only a final turn's questions count in what follows.

        Digits at the end of one that is not final may become anything, and are taken out.
        """
        expected = frozenset(
            kind for kind, (until_us, turn) in self._until.items() if start_us <= until_us or self._turn <= turn
        )
        found = find_personal(text, language, expected, frozenset(self._met))
        if final:
            self._turn += 1
            self._met.update(*(name_words(text[one.start : one.end]) for one in found if one.kind == "name"))
            until = (start_us + ASKED_US, self._turn + ASKED_TURNS - 1)
            self._until |= dict.fromkeys(_asked_for(text, found), until)
            return found
        clean = tidy(text)
        read = plain(clean.text, language)
        last = [run for run in runs(read) if len(run.digits) >= UNFINISHED_DIGITS and len(read.text) - run.end <= 2]
        open_ended = (clean.original(read.found("number", run.start, run.end)) for run in last)
        return _distinct((*found, *open_ended))


def _asked_for(text: str, found: Sequence[Found]) -> Iterator[PersonalKind]:
    """Kinds that the end of a turn asks for, announces ("my card number is …"), or leaves open."""
    known = lexicon()
    end = text[-ASKING_CHARACTERS:]
    stripped = end.rstrip(" .…,:")
    announces = [
        kind for kind, pattern in known.asked.items() for m in pattern.finditer(end) if len(stripped) - m.end() <= 4
    ]
    asks = "?" in end[-3:] or known.asks.search(end)
    yield from announces
    yield from (kind for kind, pattern in known.asked.items() if asks and pattern.search(end))
    if found and found[-1].kind in CUT_OFF and len(text) - found[-1].end <= 3:
        yield found[-1].kind


def placeholder(kind: PersonalKind) -> str:
    return f"[{kind.upper()}]"


def redact(text: str, found: Sequence[Found]) -> str:
    """The text with `[KIND]` in place of each find."""
    pieces, at = [], 0
    for one in found:
        pieces += [text[at : one.start], placeholder(one.kind)]
        at = one.end
    return "".join((*pieces, text[at:]))


def redact_words(
    words: Sequence[Word], text: str, found: Sequence[Found], whole: Span
) -> tuple[tuple[Word, ...], tuple[Redaction, ...]]:
    """The words with one placeholder for those of each find, and when each find was said.

    Where the words do not tell, `whole` is the time, and no words are left.
    """
    places, at = [], 0
    for word in words:
        start = text.find(word.text, at)
        if start < 0:
            return (), tuple(Redaction(one.kind, whole) for one in found)
        at = start + len(word.text)
        places.append((start, at))
    kept: list[Word] = []
    times: list[Redaction] = []
    index = number = 0
    while number < len(found):
        while index < len(words) and places[index][1] <= found[number].start:
            kept.append(words[index])
            index += 1
        first, until = index, number
        while until < len(found) and (until == number or (index > first and found[until].start < places[index - 1][1])):
            while index < len(words) and places[index][0] < found[until].end:
                index += 1
            until += 1
        said, group = words[first:index], found[number:until]
        span = Span(said[0].span.start_us, said[-1].span.end_us) if said else whole
        if said:
            start, end = places[first][0], places[index - 1][1]
            inside = [replace(one, start=max(0, one.start - start), end=min(end, one.end) - start) for one in group]
            kept.append(Word(redact(text[start:end], inside), span, min(word.confidence for word in said)))
        times += [Redaction(one.kind, span) for one in group]
        number = until
    return (*kept, *words[index:]), tuple(times)
