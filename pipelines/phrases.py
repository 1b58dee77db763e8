"""Phrases in a notation that people write, matched word by word: time grows with the length of the text alone.

`a|b` is either word, `a?` may be absent (not the first), `<number>` is a number in digits or words.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from pydantic_core import PydanticCustomError

T = TypeVar("T")

NUMBER: Final = "<number>"
_NUMBERS: Final = frozenset(
    "one two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty ninety "  # noqa: SIM905
    "hundred couple several few second third fourth fifth sixth tenth hundredth".split()
)


@dataclass(frozen=True, slots=True)
class Token:
    word: str
    """In small letters; a mark stands as it is."""
    start: int
    end: int
    """Half-open range of characters."""


@dataclass(frozen=True, slots=True)
class _Slot:
    words: frozenset[str]
    optional: bool


class PhraseIndex(Generic[T]):
    """Phrases, each with what it stands for, found by their first word."""

    def __init__(self, phrases: Iterable[tuple[str, T]]) -> None:
        self._by_first: dict[str, list[tuple[tuple[_Slot, ...], T]]] = defaultdict(list)
        for phrase, meaning in phrases:
            slots = tuple(_Slot(_slot(word), word.endswith("?")) for word in phrase.lower().split())
            for word in slots[0].words:
                self._by_first[word].append((slots, meaning))

    def at(self, tokens: Sequence[Token], at: int) -> Iterator[tuple[int, T]]:
        """(token after the longest match, meaning) of each phrase that begins at token `at`."""
        if at >= len(tokens):
            return
        word = tokens[at].word
        numbered = self._by_first.get(NUMBER, []) if is_number(word) and word != NUMBER else []
        for slots, meaning in (*self._by_first.get(word, []), *numbered):
            if after := _match(slots, tokens, at):
                yield after, meaning


def tokens_of(text: str, pattern: re.Pattern[str]) -> list[Token]:
    """The matches of the pattern in small letters, with their place in the text."""
    plain = text.replace("’", "'").lower()
    if len(plain) != len(text):  # a few capitals have longer small letters
        plain = text.replace("’", "'")
    return [Token(m.group(), *m.span()) for m in pattern.finditer(plain)]


def checked_phrases(phrases: list[str]) -> list[str]:
    """For a pydantic validator: raises for the first phrase that is not in the notation."""
    for index, phrase in enumerate(phrases):
        words = phrase.split()
        if not words or words[0].endswith("?") or not all(_slot(word) for word in words):
            raise PydanticCustomError(
                "phrase",
                "expected words, `a|b`, `a?` (not first) or {number}; found '{phrase}'",
                {"number": NUMBER, "phrase": phrase, "index": index},
            )
    return phrases


def is_number(word: str) -> bool:
    return word[0].isdigit() or word in _NUMBERS


def _slot(word: str) -> frozenset[str]:
    """What one word of a phrase may be; empty for a slip in the notation."""
    words = word.lower().removesuffix("?").split("|")
    return frozenset(words) if all(w == NUMBER or re.fullmatch(r"\w+(?:'\w+)*", w) for w in words) else frozenset()


def _match(slots: Sequence[_Slot], tokens: Sequence[Token], at: int) -> int:
    """Token after the longest match of the slots from `at` on; 0 for none."""
    ends = {at}
    for slot in slots:
        fitting = {i + 1 for i in ends if i < len(tokens) and _fits(slot, tokens[i].word)}
        ends = fitting | ends if slot.optional else fitting
    return max(ends, default=0)


def _fits(slot: _Slot, word: str) -> bool:
    return word in slot.words or (NUMBER in slot.words and is_number(word))
