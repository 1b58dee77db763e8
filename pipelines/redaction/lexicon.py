"""The words and names by which personal data is known; see lexicon/personal.yaml."""

import gzip
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, cast

import yaml

from affectline.pipelines.timeline import PersonalKind

WORDS: Final = Path(__file__).parents[1] / "lexicon" / "personal.yaml"
NAMES: Final = WORDS.with_name("names.txt.gz")
"""Written by pipelines/redaction/collect_names.py."""
_NUMBER_IS: Final = r"(?:\s+(?:numbers?|no\.?|nr\.?|id|#))?(?:\s+(?:is|was|would\s+be))?"
_LETTERS: Final = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ß": "ss", "æ": "ae", "œ": "oe", "ı": "i", "’": "'"})


@dataclass(frozen=True, slots=True)
class Lexicon:
    near: Mapping[str, re.Pattern[str]]
    """Kind, or `plain` for what is nothing personal -> words that say so."""
    asks: re.Pattern[str]
    asked: Mapping[PersonalKind, re.Pattern[str]]
    fillers: frozenset[str]
    times: Mapping[str, int]
    digits: Mapping[str, Mapping[str, str]]
    """Language -> word -> digits, of what the number reader does not know."""
    months: frozenset[str]
    date_parts: frozenset[str]
    ordinals: frozenset[str]
    passwords: re.Pattern[str]
    not_passwords: frozenset[str]
    no_mailbox: frozenset[str]
    lives: re.Pattern[str]
    not_places: frozenset[str]
    place_words: frozenset[str]
    teams: frozenset[str]
    after_name: frozenset[str]
    particles: frozenset[str]
    sure: re.Pattern[str]
    likely: re.Pattern[str]
    not_names: frozenset[str]
    given: frozenset[str]
    family: frozenset[str]
    ordinary: frozenset[str]
    """Words that people write in small letters; some of them are names as well."""
    frequent: frozenset[str]


def without_accents(word: str) -> str:
    """In small letters; "Wójcik" and "Wojcik" are one."""
    spread = unicodedata.normalize("NFKD", word.lower().translate(_LETTERS))
    return "".join(char for char in spread if not unicodedata.combining(char))


@cache
def words() -> Any:
    """The YAML file as it is."""
    return yaml.safe_load(WORDS.read_text(encoding="utf-8"))


def alternatives(listed: str) -> str:
    """Of a list, as one regular expression's alternatives, the longest first."""
    entries = (f"{entry[:-1]}\\w*" if re.search(r"\w\*$", entry) else entry for entry in listed.split())
    return "|".join(sorted(entries, key=len, reverse=True))


@cache
def lexicon() -> Lexicon:
    known = words()

    def any_of(listed: str, suffix: str = "") -> re.Pattern[str]:
        return re.compile(rf"(?<!\w)(?:{alternatives(listed)}){suffix}(?!\w)", re.IGNORECASE)

    def all_of(name: str) -> frozenset[str]:
        return frozenset(known[name].split())

    names: dict[str, set[str]] = {}
    for line in gzip.decompress(NAMES.read_bytes()).decode().splitlines():
        if line.startswith("["):
            names[line.strip("[]")] = section = set()
        else:
            section.add(line)
    return Lexicon(
        near={kind: any_of(listed, _NUMBER_IS) for kind, listed in known["near"].items()},
        asks=any_of(known["asks"]),
        asked={cast(PersonalKind, kind): any_of(listed) for kind, listed in known["asked"].items()},
        fillers=all_of("fillers"),
        times=known["times"],
        digits=known["digits"],
        months=all_of("months"),
        date_parts=all_of("date_parts"),
        ordinals=all_of("ordinals"),
        passwords=any_of(known["passwords"]),
        not_passwords=all_of("not_passwords"),
        no_mailbox=all_of("no_mailbox"),
        lives=any_of(known["lives"]),
        not_places=all_of("not_places"),
        place_words=all_of("place_words"),
        teams=all_of("teams"),
        after_name=all_of("after_name"),
        particles=all_of("particles"),
        sure=any_of(known["names"]["sure"]),
        likely=any_of(known["names"]["likely"]),
        not_names=frozenset(known["names"]["not_names"].split()),
        given=frozenset(names["given"]),
        family=frozenset(names["family"]),
        ordinary=frozenset(names["ordinary"]),
        frequent=frozenset(names["frequent"]),
    )
