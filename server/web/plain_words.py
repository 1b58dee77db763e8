"""Searches in plain words: "frustrated for over 20 s about billing" as the filters it means."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from affectline.models.labels import LABELS, UNKNOWN
from affectline.server.store.query import STAGE_NAMES

SECONDS: Final = {"s": 1, "m": 60}
"""First letter of a unit -> its length, s."""

_LABEL: Final = rf"(?:sounds? |sounded |was )?(?P<label>{'|'.join((*LABELS, UNKNOWN))})"
_LONG: Final = (
    r"(?: for)?(?: over| more than| longer than| at least|,? ?(?:≥|>=?))? ?"
    r"(?P<count>\d{1,5}(?:\.\d{1,3})?) ?(?P<unit>s|secs?|seconds?|m|mins?|minutes?)\b"
)
_STAGE: Final = rf"(?:in|during)(?: the)?(?: stage)? (?P<stage>{'|'.join(map(re.escape, STAGE_NAMES))})\b"
_PHRASE: Final = re.compile(rf"{_LABEL}(?:{_LONG})?(?: {_STAGE})?(?: (?:about|on) (?P<about>.+))?", re.IGNORECASE)


def understood(text: str, known: Mapping[str, Collection[str]]) -> list[tuple[str, str]] | None:
    """The fields of the list's address that the text means; None where it is words that were said.

    `known`: field -> what it can be, of the fields that calls can be "about"; anything else is looked for in the words.
    """
    found = _PHRASE.fullmatch(" ".join(text.split()))
    if found is None or not (found["count"] or found["stage"] or found["about"]):
        return None
    fields = [("label", found["label"].lower())]
    if found["count"]:
        fields.append(("least", f"{float(found['count']) * SECONDS[found['unit'][0].lower()]:g}"))
    if found["stage"]:
        fields.append(("stage", found["stage"].lower()))
    if about := found["about"]:
        names = ((field, name) for field, names in known.items() for name in names)
        fields.append(next((each for each in names if each[1].casefold() == about.casefold()), ("q", about)))
    return fields
