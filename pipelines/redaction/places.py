"""E-mail addresses, as they are written or said, and street addresses."""

import re
from collections.abc import Iterator
from functools import cache
from typing import Final

from affectline.pipelines.redaction.lexicon import alternatives, lexicon, words
from affectline.pipelines.redaction.numbers import Found, Plain
from affectline.pipelines.timeline import PersonalKind

MAX_MAILBOX: Final = 90
MAX_DOMAIN: Final = 120
MAX_ADDRESS: Final = 120
"""Characters, as of one after "my address is"."""
MAX_HOUSE: Final = 40

_GAP = re.compile(
    r"(?:,?\s+(?:in|en|à|a|w|te|near)\s+(?=[A-ZÀ-Þ\d])|\s*[,;]?\s+|\s*[,;/]\s*|\s+[–-]\s+|,?\s+(?:in|en|à|a|w|te|near)\s+)(?=\S)"
)
_PLACE = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*(?:\s(?:de|do|da|del|la|upon|on|am|an|der)\s[A-ZÀ-Þ][\w-]*)*")
"""The name of a place, particles within it."""
_DISTRICT = re.compile(r"\d{1,2}\b(?=\W*(?:$|[,.;]))")
"""As in "Dublin 2"."""
_SAID = re.compile(
    r"\b(?:is|it's|that's|be|e-?mail|lautet|ist|to):?,?\s+((?:[\w'-]+[\s,]+){0,7}[\w'-]+),?\s?$", re.IGNORECASE
)
"""What is dictated before the "at" of an e-mail address."""
_CLAUSE = re.compile(r"[\s:,]*([^.!?\n]*?\d[^!?\n]*?)(?=[.!?](?:\s|$)|\n|$)")
_UNIT_TO_STREET = re.compile(r",?\s*(?:[A-ZÀ-Þ][\w'’-]*(?:\s[A-ZÀ-Þ][\w'’-]*){0,3},\s*)?")
_HOUSE = re.compile(r"(?:[A-ZÀ-Þ][\w'’-]*\s){0,3}[A-ZÀ-Þ][\w'’-]*,\s*$")
_POSTCODE_SOON = re.compile(r"(?:,?\s+[^\W\d_]+){0,2},?\s+\d(?:\s?\d){3,5}\b")
_POSTCODE = re.compile(
    r"[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}\b|[A-Z]\d[A-Z]\s?\d[A-Z]\d\b|[A-Z]\d{2}\s?[A-Z\d]{4}\b|\d{4}\s?[A-Z]{2}\b"
    r"|\d(?:[\s,-]{0,2}\d){2,8}\b(?!\s?[A-Z]\b)|(?:(?<!\w)[A-Z](?!\w)\W{0,2}|\d\W{0,2}){5,7}(?<=[A-Z\d])(?!\w)",
    re.IGNORECASE,
)


@cache
def _mail() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """(what stands for the @, what is before it, what is after it)."""
    known = words()
    dots = alternatives(known["dots"])
    connector = rf"(?:\s?[.\-_+]\s?|\s+(?:{alternatives(known['connectors'])})\s+|\s?[(\[](?:{dots})[)\]]\s?)"
    dot = rf"(?:\s?\.\s?|\s+(?:{dots})\s+|\s?[(\[](?:{dots})[)\]]\s?)"
    part = r"(?:\w(?:\s?-\s?\w|,?\s\w(?!\w)){1,30}(?!\w)|\w+)"
    flags = re.IGNORECASE
    at = re.compile(rf"\s?@\s?|\s?[(\[]\s?at\s?[)\]]\s?|,?\s+(?:{alternatives(known['ats'])})\s+", flags)
    mailbox = re.compile(rf"(?<!\w)(?:{part}{connector}){{0,6}}{part}(?:\s\d+)*(?:,\s?\w(?:\s?-\s?\w)+,?)?\s?$", flags)
    top = r"(?:[a-z]{2,8}(?!\w)|[a-z](?:\s?-\s?|\s)[a-z](?!\w))"
    second = rf"(?:co|com|org|net|ac|gov|edu){dot}[a-z]{{2}}(?!\w)"
    known_host = rf"(?:{alternatives(known['hosts'])})\s(?:com|de|fr|es|it|pl|nl|net|co\suk)(?!\w)"
    domain = re.compile(rf"{known_host}|{part}(?:\s{part})?(?:{connector}{part}){{0,5}}?{dot}(?:{second}|{top})", flags)
    return at, mailbox, domain


def emails(plain: Plain) -> Iterator[Found]:
    at, mailbox, domain = _mail()
    for sign in at.finditer(plain.text):
        after = domain.match(plain.text, sign.end(), sign.end() + MAX_DOMAIN)
        low = max(0, sign.start() - MAX_MAILBOX)
        before = mailbox.search(plain.text[low : sign.start()]) if after else None
        if after is None or before is None:
            continue
        spoken = sign[0].strip(" ,").lower() == "at"
        start = low + before.start() + len(before[0]) - len(before[0].lstrip(" ,"))
        if spoken and (said := _SAID.search(plain.text[low : sign.start()])):
            start = min(start, low + said.start(1))
        elif spoken and before[0].strip(" ,").lower() in lexicon().no_mailbox:
            continue
        yield plain.found("email", start, after.end())


@cache
def _streets() -> tuple[re.Pattern[str], ...]:
    known = words()["streets"]
    word = r"[\w.'’-]{1,30}"
    several = rf"(?!\d){word}(?:\s+{word}){{0,4}}?"
    number = r"\d[\d ]{0,7}[a-zA-Z]?"
    ending, after_number, number_before, before_number = (
        alternatives(known[name]) for name in ("ending_before_number", "after_number", "number_before", "before_number")
    )
    capital = r"(?-i:[A-ZÀ-ÞŁŚŻŹĆ])[\w'’-]*"
    capitals = rf"(?:the\s)?{capital}(?:\s{capital}){{0,3}}"
    step = rf",?\s(?:{capital}|\d+(?:st|nd|rd|th)?\b)"
    british, canadian, irish = (
        r"[A-Z]{1,2}\d[A-Z\d]?\s?\d[A-Z]{2}",
        r"[A-Z]\d[A-Z]\s?\d[A-Z]\d",
        r"[A-Z]\d{2}\s[A-Z\d]{4}",
    )
    code = rf"(?-i:{british}|{canadian}|{irish}|[A-Z]{{2,3}}\s\d{{4,5}}|\d(?:\s?\d){{4,5}})"
    begin = rf"(?:{number}|(?-i:[A-Z])-?\d+|(?:{alternatives(words()['units'])})\s(?:number\s)?\d+)"
    counted = r"(?:número\s+|numero\s+|nummer\s+|n[º°.]\s?)?"
    return tuple(
        re.compile(rf"(?<!\w){pattern}", re.IGNORECASE)
        for pattern in (
            rf"(?<![.,]){number}(?:-\d+)?,?\s+{several}\s+(?:{after_number})\b\.?(?!\w)",  # 12 Oak Street
            rf"(?:{word}\s){{0,2}}[\w-]{{0,30}}(?:{ending})\s+{counted}{number}\b",  # Am Alten Markt 12
            rf"(?:{capital}\s){{1,3}}{number},\s*\d{{4,5}}\s+{capital}",  # Hinterm Dorf 3, 37127 Dransfeld
            rf"(?<=\bat\s|\bto\s|\bis\s){number}\s+{capitals}(?=,\s{capital})",  # at 2 The Shambles, York
            rf"{begin}(?:{step}){{0,3}}?,?\s{capital}(?:{step}){{0,6}}?,?\s{code}\b",  # Plot 57, Gurugram 122016
            rf"\d+(?:\s(?:bis|ter))?,?\s+(?:{number_before})\s+{word}(?:\s{word}){{0,4}}",  # 12 rue des Lilas
            rf"(?:{before_number})\s+{several},?\s+{counted}{number}\b",  # Calle Mayor 12
            r"p\.?\s?o\.?\s?box\s+\d[\d ]*",
        )
    )


@cache
def _unit() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """(flat or floor, what says that a post code comes)."""
    unit = alternatives(words()["units"])
    which = r"\d(?:\s?\d){0,5}(?:\s?[a-z])?\b|[a-z]\b"
    ordinal = r"\d+\s?(?:st|nd|rd|th|º|ª|\.)?\s+(?:floor|stock|etage|étage|piso|piano)\b"
    return (
        re.compile(
            rf"(?:(?<!\w)(?:{unit})\.?\s?#?\s?(?:number\s+)?(?:{which})|#\s?\d+\w?|/\s?\d+\w?|{ordinal})", re.IGNORECASE
        ),
        re.compile(rf"(?:{alternatives(words()['postcodes'])})(?:\s+(?:is|ist|es|est))?:?\s+", re.IGNORECASE),
    )


def addresses(plain: Plain, expected: frozenset[PersonalKind]) -> Iterator[Found]:
    small = not any(word[0].isupper() for word in re.findall(r"[^\W\d_]{2,}", plain.text))
    for street in _streets():
        for match in street.finditer(plain.text):
            if not lexicon().months & set(match[0].lower().split()):  # "3 May 2026, 12:00"
                yield plain.found(
                    "address", _head(plain.text, match.start()), _tail(plain.text, match.end(), small=small)
                )
    lives = [match.end() for match in lexicon().lives.finditer(plain.text)]
    if "address" in expected:
        lives.append(0)
    for at in lives:
        clause = _CLAUSE.match(plain.text, at, at + MAX_ADDRESS)
        if clause:
            first = re.search(r"\d|[A-ZÀ-Þ]", clause[1])
            start = clause.start(1) + (first.start() if first else 0)
            end = _tail(plain.text, start, small=small, begun=False)
            if any(char.isdigit() for char in plain.text[start:end]) and " " in plain.text[start:end].strip():
                yield plain.found("address", start, end)


def _head(text: str, start: int) -> int:
    """Where an address begins whose street begins at `start`: with a flat, and maybe a house, before it."""
    unit, _ = _unit()
    for match in unit.finditer(text, max(0, start - 60), start):
        if _UNIT_TO_STREET.fullmatch(text, match.end(), start):
            house = _HOUSE.search(text[max(0, match.start() - MAX_HOUSE) : match.start()])
            return match.start() - (len(house[0]) if house else 0)
    return start


def _tail(text: str, end: int, *, small: bool, begun: bool = True) -> int:
    """Where an address ends whose street ends at `end` (begins there if not `begun`): after flat, place, post code."""
    unit, coming = _unit()
    known = lexicon()
    at, coded, named = end, False, begun
    while True:
        gap = _GAP.match(text, at)
        if not gap and begun:
            return end
        here = gap.end() if gap else at
        announced = coming.match(text, here)
        here = announced.end() if announced else here
        if piece := unit.match(text, here):
            pass
        elif piece := _POSTCODE.match(text, here):
            coded = True
        elif named and (piece := _DISTRICT.match(text, here)):
            pass
        else:
            piece = _PLACE.match(text, here)
            word = piece[0].lower() if piece else ""
            if piece is None or word in known.not_places:
                return end
            named = piece[0][0].isupper()
            last = small and (coded or _ends(text, piece.end()) or _POSTCODE_SOON.match(text, piece.end()) is not None)
            if not (named or word in known.place_words or last):
                return end
            named = named or word in known.place_words
            if small and coded:
                return piece.end()
        at = end = piece.end()
        begun = True


def _ends(text: str, at: int) -> bool:
    return len(text) - at <= 3 and not text[at:].strip(" .!")
