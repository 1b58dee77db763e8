"""Numbers, codes and dates of birth: by their check digits, or by the words around them."""

import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

import phonenumbers
from stdnum import iban, luhn

from affectline.pipelines.redaction.lexicon import lexicon
from affectline.pipelines.redaction.numbers import MAX_FILLERS, TOKEN, Found, Plain, Run, runs
from affectline.pipelines.timeline import PersonalKind

NEAR_CHARACTERS: Final = 70
"""How far before a value the words may be that say what it is; after it, half of that."""
BIRTH_BEFORE, BIRTH_AFTER = 45, 25
"""As far may the word for it be before, or after, a date of birth."""
ANSWER_WORDS: Final = 6
LONG_ANSWER_DIGITS: Final = 5
"""Digits so many are what was asked for even in a longer turn."""
MANY_DIGITS: Final = 9
"""A number this long that nothing says to be harmless is taken out."""

_CHECKED_IDS: Final = (
    (r"\d{11}", "de.idnr"),
    (r"[12]\d{4}(?:\d|A|B)\d{9}", "fr.nir"),
    (r"\d{8}[A-Z]", "es.dni"),
    (r"[XYZ]\d{7}[A-Z]", "es.nie"),
    (r"[A-Z]{6}\d{2}[A-Z]\d{2}[A-Z]\d{3}[A-Z]", "it.codicefiscale"),
    (r"\d{11}", "pl.pesel"),
    (r"[2-9]\d{11}", "in_.aadhaar"),
    (r"\d{11}", "br.cpf"),
    (r"\d{11}", "be.nn"),
    (r"\d{11}", "tr.tckimlik"),
)
"""What they look like without spaces, and who checks them; so well that no word need say what it is."""
_SAID_IDS: Final = (
    r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]",
    r"[A-Z]{5}\d{4}[A-Z]",
    r"(?!I[DST]|NO)[A-Z]{1,2}\d{6,9}[A-Z]?",
)
"""National Insurance, PAN, passports: these need a word that says so."""
_IBAN_COUNTRIES: Final = re.compile(
    "A[DELT]|B[EG]|C[HYZ]|D[EK]|E[ES]|F[IR]|G[BR]|H[RU]|I[EST]|L[ITUV]|M[CT]|N[LO]|P[LT]|RO|S[AEIK]|TR"
)
_REGIONS: Final = {
    "en": ("US", "GB", "IN", "AU", "IE"),
    "de": ("DE", "AT", "CH"),
    "fr": ("FR", "BE", "CA"),
    "es": ("ES", "MX"),
    "it": ("IT",),
    "pl": ("PL",),
    "nl": ("NL", "BE"),
    "pt": ("PT", "BR"),
}
"""Language -> where numbers without a country code may be from."""
_ASIDE = re.compile(r"(?<!\w)(?:uh|um|erm?|sorry|i\s+mean|no\s+wait|wait|scratch\s+that)(?!\w)", re.IGNORECASE)
_AMOUNT_AFTER = re.compile(
    r"\s?(?:%|percent|prozent|dollars?|euros?|pounds?|cents?|bucks|€|\$|£|zł|złotych|mb|gb|mbit|megabits?|megs?|kbit|"
    r"minutes?|hours?|days?|weeks?|months?|years?|miles?|km|uhr|stunden|tage|wochen|times|stars?|pm\b|am\b|o'clock)",
    re.IGNORECASE,
)
_AMOUNT_BEFORE = re.compile(r"(?:[$€£]\s?|\bv|\bversion\s?)$", re.IGNORECASE)
_LAST_FOUR = re.compile(
    r"\b(?:ending|ends|last\s+(?:4|four|digits)|endet|endend|letzten?|termina\w*|finit)\b[^.]{0,25}$", re.IGNORECASE
)
_PASSWORD = re.compile(
    r"\s*(?P<said>(?:is|ist|lautet|es|est|was|war|era)\s+(?:capital\s+|groß\s+)?|[:=])?\s*"
    r"(?P<value>\S+(?:[\s,]+(?:\d+|\w(?!\w)|dash|underscore|hyphen|capital|strich))*)",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{1,4}\s?[./\-]\s?\d{1,2}\s?[./\-]\s?\d{2,4}")
_US_PHONE = re.compile(r"\d{3}\)?[\s.,-]+\d{3}[\s.,-]+\d{4}")
_US_ID = re.compile(r"\d{3}-\d{2}-\d{4}")
_PLUS = re.compile(r"(?:\+|\bplus\s|\()\s?$", re.IGNORECASE)
_LETTER = re.compile(r"(?<!\w)[A-Z]\s?-\s?$")
_PREFIX: Final[dict[PersonalKind, re.Pattern[str]]] = {"phone": _PLUS, "code": _LETTER}
"""What belongs to a value though it is no digit."""
_IBAN_SAID = re.compile(r"\b(?:i\s?-?b\s?-?a\s?-?n|account|konto)\b.{0,35}$", re.IGNORECASE)


def _before(plain: Plain, start: int) -> str:
    """What stands right before a value; bounded, so that time grows with the text alone."""
    return plain.text[max(0, start - NEAR_CHARACTERS) : start]


def kinds_near(plain: Plain, start: int, end: int) -> Iterator[tuple[str, bool]]:
    """(kind named before a value, whether nothing is between), the nearest first, or else what is named right after.

    `plain` is for what is said to be harmless.
    """
    near = lexicon().near
    text = _before(plain, start)
    named = [
        (match.end(), match.end() - match.start(), kind)
        for kind, pattern in near.items()
        for match in pattern.finditer(text)
    ]
    for after, _, kind in sorted(named, reverse=True):
        yield kind, not text[after:].strip(" :=#,")
    if not named:
        rest = re.split(r"[.!?](?:\s|$)", plain.text[end : end + NEAR_CHARACTERS // 2])[0]
        follows = [(match.start(), kind) for kind, p in near.items() if kind != "plain" and (match := p.search(rest))]
        yield from ((kind, False) for _, kind in sorted(follows)[:1])


def kind_near(plain: Plain, start: int, end: int) -> str | None:
    return next((kind for kind, _ in kinds_near(plain, start, end)), None)


def numbers(plain: Plain, language: str, expected: frozenset[PersonalKind]) -> Iterator[Found]:
    """expected: kinds that were just asked for."""
    misheard = False
    for run in runs(plain):
        whole = _card_in(run.digits)
        kind = "card" if whole else _kind_of(plain, run, language, expected)
        if kind is None and misheard and len(run.digits) > 1 and not _AMOUNT_AFTER.match(plain.text, run.end):
            kind = "card"  # what is left of a card whose digits the recogniser broke up
        misheard = (misheard or kind == "card") and not whole
        if kind is not None:
            prefix = _PREFIX[kind].search(_before(plain, run.start)) if kind in _PREFIX else None
            yield plain.found(kind, run.start - (len(prefix[0]) if prefix else 0), run.end)


def _card_in(digits: str) -> bool:
    """Whether digits that are said to be one number are a payment card's (ISO/IEC 7812)."""
    sizes = {len(digits)} | ({15, 16} if 16 < len(digits) <= 23 else set())
    return len(set(digits)) > 1 and any(
        13 <= size <= 19 and digits[at] in "23456" and luhn.is_valid(digits[at : at + size])
        for size in sizes
        for at in range(len(digits) - size + 1)
    )


_BY_WORD: Final[dict[str, tuple[PersonalKind, int, int]]] = {
    "code": ("code", 3, 8),
    "card": ("card", 8, 40),
    "id": ("id", 5, 15),
    "account": ("account", 6, 30),
    "birth": ("birth_date", 4, 8),
    "phone": ("phone", 6, 15),
}
"""Word near it -> what digits are, and from how many to how many."""
_BY_QUESTION: Final[tuple[PersonalKind, ...]] = ("card", "iban", "id", "account", "phone", "code", "birth_date")


def _kind_of(plain: Plain, run: Run, language: str, expected: frozenset[PersonalKind]) -> PersonalKind | None:
    size = len(run.digits)
    if size < 3 or _AMOUNT_AFTER.match(plain.text, run.end) or _AMOUNT_BEFORE.search(_before(plain, run.start)):
        return None
    if size <= 4 and _LAST_FOUR.search(_before(plain, run.start)):
        return None
    for near, just in kinds_near(plain, run.start, run.end):
        if near == "plain":
            return None
        kind, low, high = _BY_WORD[near]
        if (3 if just else low) <= size <= high:
            return kind
    written = plain.text[run.start : run.end]
    if size >= LONG_ANSWER_DIGITS or _is_answer(plain):
        for kind in _BY_QUESTION:
            if kind in expected and not _DATE.fullmatch(written):
                return kind
    ahead = _before(plain, run.start)
    if _PLUS.search(ahead) and ahead.rstrip()[-1:] != "(" and 8 <= size <= 15:
        return "phone"
    if _US_ID.fullmatch(written):
        return "id"
    if size == 10 and _US_PHONE.fullmatch(written):
        return "phone"
    if 9 <= size <= 12 and any(_is_phone(run.digits, region) for region in _REGIONS.get(language, ("US", "GB"))):
        return "phone"
    serial = re.search(r"[A-Za-z]-?$", ahead)
    return "number" if size >= MANY_DIGITS and not serial else None


def _is_answer(plain: Plain) -> bool:
    """Whether a turn says little but digits: "Sure, it's 4929 1234", not "I ordered 100 of them, 50 blue"."""
    words = [word for word in re.findall(r"[^\W\d_]+", plain.text) if word.lower() not in lexicon().fillers]
    return len(words) <= ANSWER_WORDS


def _is_phone(digits: str, region: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(digits, region))
    except phonenumbers.NumberParseException:
        return False


def codes(plain: Plain) -> Iterator[Found]:
    """IBANs and national ids: the letters and digits of neighbouring words, put together."""
    chars: list[str] = []
    places: list[int] = []
    begins: list[bool] = []
    for match in TOKEN.finditer(_ASIDE.sub(lambda aside: " " * len(aside[0]), plain.text)):
        token = match[0]
        if token.isascii() and token.isalnum():
            glued = match.start() > 0 and plain.text[match.start() - 1].isalnum()
            chars.append(token.upper())
            places.extend(range(match.start(), match.end()))
            begins.extend([not glued, *([False] * (len(token) - 1))])
    together = "".join(chars)
    begins.append(True)

    def spans(pattern: str) -> Iterator[tuple[int, int, str]]:
        for at in re.finditer(rf"(?<!\d)(?=({pattern})(?!\d))", together):
            if begins[at.start(1)]:
                yield at.start(1), at.end(1), at[1]

    def found(kind: PersonalKind, start: int, end: int) -> Found:
        return plain.found(kind, places[start], places[end - 1] + 1)

    for start, end, value in spans(r"[A-Z]{2}\d{2}[A-Z0-9]{8,30}"):
        sizes = range(len(value), 14, -1)
        right = next((size for size in sizes if begins[start + size] and iban.is_valid(value[:size])), None)
        if right is not None:
            yield found("iban", start, start + right)
        elif _IBAN_SAID.search(_before(plain, places[start])) and _IBAN_COUNTRIES.match(value):
            # Misheard, or corrected on the way: up to the last digit.
            while end > start and not (begins[end] and together[end - 1].isdigit()):
                end -= 1
            if end - start >= 12:
                yield found("iban", start, end)
    for pattern, module in _CHECKED_IDS:
        check: Any = import_module(f"stdnum.{module}")
        for start, end, value in spans(pattern):
            named = (None, "id", "birth")
            if begins[end] and check.is_valid(value) and kind_near(plain, places[start], places[end - 1] + 1) in named:
                yield found("id", start, end)
    for pattern in _SAID_IDS:
        for start, end, _ in spans(pattern):
            if begins[end] and kind_near(plain, places[start], places[end - 1] + 1) == "id":
                yield found("id", start, end)


def passwords(plain: Plain) -> Iterator[Found]:
    """What follows the word for it: if `is` or a colon stands between, also a word; spelled letters and digits too."""
    for word in lexicon().passwords.finditer(plain.text):
        value = _PASSWORD.match(plain.text, word.end())
        if value is None or value["value"].strip(".,").lower() in lexicon().not_passwords:
            continue
        if value["said"] or (len(value["value"]) >= 4 and re.search(r"[\d_!@#$%&*-]\w", value["value"])):
            yield plain.found("code", value.start("value"), value.start("value") + len(value["value"].rstrip(".,")))


def dates_of_birth(plain: Plain, expected: frozenset[PersonalKind]) -> Iterator[Found]:
    said = [match.span() for match in lexicon().near["birth"].finditer(plain.text)]
    for start, end in _dates(plain):
        near = any(0 <= start - until <= BIRTH_BEFORE or 0 <= since - end <= BIRTH_AFTER for since, until in said)
        if near or ("birth_date" in expected and not said):
            yield plain.found("birth_date", start, end)


def _dates(plain: Plain) -> Iterator[tuple[int, int]]:
    """Stretches of numbers and names of months."""
    known = lexicon()
    start = end = digits = months = between = 0
    for match in (*TOKEN.finditer(plain.text), None):
        token = match[0].lower() if match else ""
        if match and (token.isdigit() or token in known.months):
            if not (digits or months):
                start = match.start()
            digits += len(token) * token.isdigit()
            months += token in known.months
            end, between = match.end(), 0
            continue
        between += 1
        joins = token in known.date_parts or token in known.ordinals or token in known.fillers or token in ",./-"
        if match and joins and between <= MAX_FILLERS and (digits or months):
            if token in known.ordinals and match.start() == end:
                end = match.end()
            continue
        if (months and digits) or 4 <= digits <= 8:
            article = re.search(r"\b(?:the|der|den|el|le|il)\s$", plain.text[max(0, start - 5) : start], re.IGNORECASE)
            yield start - len(article[0]) if article else start, end
        digits = months = between = 0
