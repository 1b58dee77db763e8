"""Reads the numbers in a text, as they are written or said, and keeps where each stood."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from text_to_num import find_numbers

from affectline.pipelines.redaction.lexicon import lexicon
from affectline.pipelines.timeline import PersonalKind

TOKEN: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*|\d+|[^\w\s]|_")
"""A word, digits, or one mark."""
MAX_FILLERS: Final = 8
"""Words and marks inside one number: "four, uh, no, sorry, I mean, five"."""
_READ: Final = ("en", "de", "es", "fr", "it", "nl", "pt")
"""Languages whose number words are read; what is said in another one is tried as English."""
_ZERO_OR_NOT: Final = ("o", "oh")


@dataclass(frozen=True, slots=True)
class Found:
    """Personal data in a text."""

    kind: PersonalKind
    start: int
    end: int
    """Half-open range of characters."""


@dataclass(frozen=True, slots=True)
class Plain:
    """A text with its number words as digits, and where each character of it stands in the original."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]
    numbers: frozenset[int]
    """Where the words in the original begin that are numbers."""

    def found(self, kind: PersonalKind, start: int, end: int) -> Found:
        return Found(kind, self.starts[start], self.ends[end - 1])


@dataclass(frozen=True, slots=True)
class Run:
    """Digits that belong together."""

    digits: str
    places: Sequence[int]
    """Of each digit in the plain text."""

    @property
    def start(self) -> int:
        return self.places[0]

    @property
    def end(self) -> int:
        return self.places[-1] + 1


@dataclass(frozen=True, slots=True)
class _Word:
    """Satisfies the number reader's token."""

    lower: str
    apart: bool

    def text(self) -> str:
        return self.lower

    def nt_separated(self, previous: "_Word") -> bool:
        return self.apart

    def not_a_number_part(self) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class Tidy:
    """A text without tricks of writing, and where each character of it stands in the original."""

    text: str
    starts: Sequence[int]
    ends: Sequence[int]

    def original(self, found: Found) -> Found:
        return Found(found.kind, self.starts[found.start], self.ends[found.end - 1])


def tidy(text: str) -> Tidy:
    """Fullwidth and other scripts' digits and letters as plain ones (NFKC), without invisible characters; white space
    of any length is one."""
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for at, char in enumerate(text):
        kind = unicodedata.category(char)
        if kind in ("Cf", "Cc") and not char.isspace():
            continue
        same = str(unicodedata.digit(char)) if kind == "Nd" else unicodedata.normalize("NFKC", char)
        if char.isspace():
            same = "\n" if char == "\n" else " "
            if out and out[-1] in (" ", "\n"):
                out[-1] = "\n" if "\n" in (out[-1], same) else " "
                ends[-1] = at + 1
                continue
        for each in same:
            out.append(each)
            starts.append(at)
            ends.append(at + 1)
    return Tidy("".join(out), starts, ends)


def plain(text: str, language: str) -> Plain:
    """language: ISO 639-1, of the number words."""
    tokens = [(m[0], m.start(), m.end()) for m in TOKEN.finditer(text) if m[0][0].isalnum()]
    numbers = _number_words(text, tokens, language)
    covered = {i for first, (after, _) in numbers.items() for i in range(first, after)}
    out: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = first = 0
    while first < len(tokens):
        word = tokens[first][0].lower()
        after, digits = numbers.get(first, (first, ""))
        times = lexicon().times.get(word, 0)
        if times and first + 1 < len(tokens):
            follows = tokens[first + 1][0]
            after, digits = numbers.get(
                first + 1, (first + 2, follows if follows.isdigit() or len(follows) == 1 else "")
            )
            digits = digits[:1] * (times - 1) + digits
        if not digits:
            first += 1
            continue
        start, end = tokens[first][1], tokens[after - 1][2]
        out += [text[at:start], digits]
        starts += [*range(at, start), *[start] * len(digits)]
        ends += [*range(at + 1, start + 1), *[end] * len(digits)]
        at, first = end, after
    out.append(text[at:])
    starts += range(at, len(text))
    ends += range(at + 1, len(text) + 1)
    return Plain("".join(out), starts, ends, frozenset(tokens[i][1] for i in covered))


def is_number(word: str, language: str) -> bool:
    """Whether one word is digits, or says a number."""
    return word.isdigit() or word in _ZERO_OR_NOT or bool(plain(word, language).numbers)


def _number_words(text: str, tokens: Sequence[tuple[str, int, int]], language: str) -> dict[int, tuple[int, str]]:
    """First token -> (token after, digits), of number words."""
    own = {**lexicon().digits["en"], **lexicon().digits.get(language, {})}
    times = lexicon().times
    words = [
        _Word(token.lower(), i > 0 and bool(text[tokens[i - 1][2] : start].strip(" -\n")))
        for i, (token, start, _) in enumerate(tokens)
    ]
    found: dict[int, tuple[int, str]] = {}
    for one in find_numbers(words, language if language in _READ else "en", 0.0):
        digits = re.sub(r"\D", "", one.text)
        if digits and not (one.end - one.start == 1 and words[one.start].lower in _ZERO_OR_NOT):
            found[one.start] = (one.end, digits)
    covered = {i for first, (after, _) in found.items() for i in range(first, after)}
    for i, word in enumerate(words):
        if i in covered or word.lower not in own:
            continue
        neighbours = [words[n].lower if 0 <= n < len(words) else "" for n in (i - 1, i + 1)]
        beside = i - 1 in covered or i + 1 in covered
        beside = beside or any(other.isdigit() or other in times or other in own for other in neighbours)
        spelling = (
            word.lower == "o" and len(neighbours[0]) == 1 and neighbours[0].isalpha() and neighbours[0] not in own
        )
        if word.lower in _ZERO_OR_NOT and (spelling or not beside):
            continue
        value, after = own[word.lower], i + 1
        unit = own.get(neighbours[1], "")
        if len(value) == 2 and value[0] > "1" and value[1] == "0" and len(unit) == 1 and unit != "0":
            value, after = value[0] + unit, i + 2  # "dwadzieścia jeden"
        found[i] = (after, value)
        covered |= set(range(i, after))
    return found


def runs(plain: Plain) -> Iterator[Run]:
    """Digits with nothing but marks, fillers and corrections between them."""
    digits: list[str] = []
    places: list[int] = []
    between = 0
    for match in TOKEN.finditer(plain.text):
        token = match[0]
        if token.isdigit() and token.isascii():
            digits.append(token)
            places.extend(range(match.start(), match.end()))
            between = 0
            continue
        between += 1
        belongs = token in ",.-–—/()…+#_|*·" or token.lower() in lexicon().fillers
        if digits and (not belongs or between > MAX_FILLERS):
            yield Run("".join(digits), tuple(places))
            digits, places = [], []
    if digits:
        yield Run("".join(digits), tuple(places))
