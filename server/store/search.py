"""What a person types into a search field, as either database's full-text search understands it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, and_, func, literal_column

from affectline.models.errors import InvalidInputError
from affectline.server.store.derived import WORD, folded, words_of
from affectline.server.store.tables import UTTERANCES

MAX_QUERY_CHARACTERS: Final = 500
MAX_QUERY_TERMS: Final = 20
_TERM = re.compile(r'"([^"]*)"?|(\S+)')


@dataclass(frozen=True, slots=True)
class Term:
    """Words that stand one after the other."""

    words: tuple[str, ...]
    prefix: bool
    """The last one may go on."""


def terms_of(words: str) -> tuple[Term, ...]:
    """What a person typed into a search field, whatever signs are in it. Raises InvalidInputError for too much."""
    if len(words) > MAX_QUERY_CHARACTERS:
        raise InvalidInputError(f"expected at most {MAX_QUERY_CHARACTERS} characters to search for, found {len(words)}")
    terms = []
    for quoted, bare in _TERM.findall(words):
        if parts := tuple(words_of(quoted or bare)):
            terms.append(Term(parts, bare.endswith("*")))
    if sum(len(term.words) for term in terms) > MAX_QUERY_TERMS:
        raise InvalidInputError(f"expected at most {MAX_QUERY_TERMS} words to search for, found more")
    return tuple(terms)


def sqlite_match(terms: Sequence[Term]) -> str:
    """Words are letters and digits only, so that in quotes they are nothing but words."""
    return " AND ".join(f'"{" ".join(term.words)}"{" *" if term.prefix else ""}' for term in terms)


def words_match(terms: Sequence[Term], *, postgres: bool) -> ColumnElement[bool]:
    """The same without an index, for where nearly everything matches."""
    place = func.strpos if postgres else func.instr
    return and_(*(place(UTTERANCES.c.words, f" {' '.join(t.words)}{'' if t.prefix else ' '}") > 0 for t in terms))


def postgres_match(terms: Sequence[Term]) -> ColumnElement[bool]:
    phrases = (" <-> ".join(f"'{w}'" for w in term.words) + (":*" if term.prefix else "") for term in terms)
    query = func.to_tsquery("simple", " & ".join(f"({phrase})" for phrase in phrases))
    return func.to_tsvector(literal_column("'simple'"), UTTERANCES.c.words).op("@@", is_comparison=True)(query)


def find_terms(said: str, terms: Sequence[Term]) -> list[tuple[int, int]]:
    """Where the words stand in the text as it was said; none where they are in its translation only."""
    words = [(match.span(), folded(match.group())) for match in WORD.finditer(said)]
    found = []
    for term in terms:
        for number in range(len(words) - len(term.words) + 1):
            heard = [word for _, word in words[number : number + len(term.words)]]
            last = heard[-1].startswith(term.words[-1]) if term.prefix else heard[-1] == term.words[-1]
            if last and tuple(heard[:-1]) == term.words[:-1]:
                found.append((words[number][0][0], words[number + len(term.words) - 1][0][1]))
    return sorted(found)
