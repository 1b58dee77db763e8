"""Names of people: introduced, addressed, signed, or known from lists of names."""

import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from affectline.pipelines.redaction.lexicon import alternatives, lexicon, without_accents, words
from affectline.pipelines.redaction.numbers import Found, Plain
from affectline.pipelines.timeline import PersonalKind

MAX_NAME_WORDS: Final = 5
MAX_ANSWER_WORDS: Final = 8
MAX_BARE_WORDS: Final = 3
"""Of an answer that is taken for the name that was asked for; what is an ordinary word too only in a bare answer."""
SURE_CHARACTERS: Final = 3
"""Letters from which a name counts without any word that says so; one more at the start of a sentence."""

_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
MAX_SIGNATURE: Final = 80
"""Characters at the end of a text that a signature may be in."""
_SIGNATURE = re.compile(
    r"(?<!\w)(?:(?:cheers|thanks|thx|ty|regards|rgds|greetings|lg|vg|mfg|bises|saludos)[,.]?|best,)\s"
    r"((?:[^\W\d_][\w.'’-]*\s?){1,3})[.!]?\s?$",
    re.IGNORECASE,
)
_LETTER = r"[^\W\d_](?:\s+(?:for|as\s+in|like|wie|comme|de|jak)\s+[^\W\d_]+)?"
_SPELT = re.compile(
    rf"[\s,.:]*(?:(?:that's|spelled|spelt|spell\s+it|buchstabiert)[\s,]*)?((?:{_LETTER}[\s,.-]+){{2,20}}{_LETTER})(?![^\W\d_])"
)
_SPELLING = re.compile(r"\b(?:spel(?:led|t|l)|buchstabier\w*)\b[^.]{0,20}?(?=\s)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Word:
    start: int
    end: int
    plain: str
    """Without accents, in small letters."""
    capital: bool
    given: bool
    known: bool
    """A given or a family name."""
    common: bool
    """Also an ordinary word …"""
    frequent: bool
    """… and a frequent one."""
    never: bool

    @classmethod
    def of(cls, match: re.Match[str], *, number: bool) -> "_Word":
        known = lexicon()
        word = re.sub(r"['’]s$", "", match[0])
        plain, lower = without_accents(word), word.lower()
        given = plain in known.given or ("-" in plain and all(part in known.given for part in plain.split("-")))
        never = number or lower in known.not_names or lower in known.months
        return cls(
            start=match.start(),
            end=match.start() + len(word),
            plain=plain,
            capital=word[0].isupper(),
            given=given,
            known=given or plain in known.family,
            common=plain in known.ordinary,
            frequent=plain in known.frequent,
            never=never or any(pattern.fullmatch(word) for pattern in known.near.values()),
        )


def names(
    text: str, plain: Plain, language: str, expected: frozenset[PersonalKind], met: frozenset[str]
) -> Iterator[Found]:
    """expected: kinds that were just asked for; met: words of names in the conversation so far, see name_words."""
    known = lexicon()
    all_words = [_Word.of(match, number=match.start() in plain.numbers) for match in _WORD.finditer(text)]
    small = not any(word.capital and word.end - word.start > 1 for word in all_words)
    """Nothing is capitalised here, so small letters tell nothing."""
    sure = {match.end() for match in known.sure.finditer(text)}
    likely = {match.end() for match in known.likely.finditer(text)}
    if signature := _SIGNATURE.search(text[-MAX_SIGNATURE:]):
        signed = sure if signature[1][0].isupper() else likely
        signed.add(len(text) - len(text[-MAX_SIGNATURE:]) + signature.start(1))
    asked = "name" in expected and len(all_words) <= MAX_ANSWER_WORDS
    until = 0
    for index, word in enumerate(all_words):
        if word.start < until or word.never:
            continue
        told = _right_after(text, sure, word.start) or (asked and (not word.common or len(all_words) <= MAX_BARE_WORDS))
        if len(word.plain) < 2 or word.plain in known.particles:
            following = all_words[index + 1] if index + 1 < len(all_words) else None
            if not (told and following and (word.capital or word.plain in known.particles)):
                continue
        if told:
            taken = word.capital or word.plain in known.particles or (small and (word.known or not word.common))
        elif _right_after(text, likely, word.start):
            taken = _likely(text, all_words, index, small=small)
        else:
            taken = _by_itself(text, all_words, index, small=small, english=language == "en")
            taken = taken or _again(text, all_words, index, met)
        if not taken:
            continue
        until = _end(text, all_words, index, small=small)
        yield Found("name", word.start, until)
        if spelt := _SPELT.match(text, until):
            until = spelt.end(1)
            yield Found("name", spelt.start(1), until)
    for match in _SPELLING.finditer(text):
        if spelt := _SPELT.match(text, match.end()):
            yield Found("name", spelt.start(1), spelt.end(1))


def _right_after(text: str, ends: Container[int], start: int) -> bool:
    return any(end in ends and not text[end:start].strip(" \n,.:") for end in range(start - 3, start + 1))


def _opens(text: str, word: _Word) -> bool:
    """Whether a word begins a sentence."""
    before = text[max(0, word.start - 10) : word.start].strip()
    return not before or before[-1] in ".!?"


def _likely(text: str, all_words: Sequence[_Word], index: int, *, small: bool) -> bool:
    """After "this is", "I'm", "hi": a given name, another name, or a capitalised word that stands alone."""
    word, following, gap = _with_next(text, all_words, index)
    alone = not gap.isspace() or (following is not None and following.plain in lexicon().after_name)
    if word.capital and not word.frequent and (word.given or (alone and not word.common)):
        return True
    return (word.capital or small) and word.known and not word.common


def _by_itself(text: str, all_words: Sequence[_Word], index: int, *, small: bool, english: bool) -> bool:
    """Where no word says that a name comes.

    A given name alone counts in English only: other languages' own words are not known, and look like names.
    """
    word, following, gap = _with_next(text, all_words, index)
    full = following is not None and gap == " " and following.known and not following.common and not following.never
    at_start = _opens(text, word)
    if small:
        return full and word.given and not word.common and len(word.plain) > SURE_CHARACTERS
    if not word.capital:
        return False
    if not word.common and _from_team().match(text, word.end):
        return True
    if full and following is not None and following.given and word.known and not at_start:
        return True  # a family name may come first
    possessive = text[word.end : word.end + 2] in ("'s", "’s")
    if not word.given or len(word.plain) < SURE_CHARACTERS + (at_start and not possessive):
        return False
    if word.common or text[word.start : word.end].isupper():
        vocative = text[max(0, word.start - 2) : word.start].strip() == "," and text[word.end : word.end + 1] == ","
        return (full and not at_start) or vocative
    return english or full


def _again(text: str, all_words: Sequence[_Word], index: int, met: frozenset[str]) -> bool:
    """Someone who was named before; "Will" is, where it opens a sentence, only if a comma follows."""
    word = all_words[index]
    vocative = text[word.end : word.end + 1] == ","
    return word.capital and word.plain in met and not (word.common and _opens(text, word) and not vocative)


def name_words(name: str) -> Iterator[str]:
    """Of a name that was found, what is told apart from other words by its capital."""
    for match in _WORD.finditer(name):
        if match[0][0].isupper() and len(match[0]) >= SURE_CHARACTERS:
            yield without_accents(re.sub(r"['’]s$", "", match[0]))


def _with_next(text: str, all_words: Sequence[_Word], index: int) -> tuple[_Word, _Word | None, str]:
    """The word, the one after it, and what is between them."""
    word = all_words[index]
    if index + 1 == len(all_words):
        return word, None, ""
    return word, all_words[index + 1], text[word.end : all_words[index + 1].start]


@cache
def _from_team() -> re.Pattern[str]:
    return re.compile(rf"\s+(?:from|in|at)\s+(?:the\s+)?(?:{alternatives(words()['teams'])})\b", re.IGNORECASE)


def _end(text: str, all_words: Sequence[_Word], index: int, *, small: bool) -> int:
    """Where the name ends that begins with a word: family names and particles belong to it."""
    last, at = index, index + 1
    while at < len(all_words) and at - index < MAX_NAME_WORDS:
        before, word = all_words[at - 1], all_words[at]
        gap = text[before.end : word.start]
        initial = gap == ". " and before.end - before.start == 1
        if gap != " " and not initial:
            break
        small_name = word.known and (small or (not all_words[index].capital and not word.common))
        if word.plain in lexicon().particles and not word.capital:
            at += 1
            continue
        fits = word.capital or small_name
        if word.never or not fits:
            break
        last, at = at, at + 1
    return all_words[last].end
