"""Which voice of a call is the customer's and which is the agent's, from what each of them says.

Every phrase that one side says rather than the other adds its logarithm of odds (lexicon/roles.yaml) to its speaker;
what the two of a pair have said is compared. A role below CONFIDENT is not used: whose voice is an agent's must be
known before a voice is judged.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import exp
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from affectline.pipelines.checked_yaml import Strict, read_checked
from affectline.pipelines.cues import CueLexicon
from affectline.pipelines.phrases import PhraseIndex, checked_phrases, tokens_of
from affectline.pipelines.redaction import find_personal
from affectline.pipelines.stages import default_stages
from affectline.pipelines.timeline import Role

TABLE: Final = Path(__file__).parent / "lexicon" / "roles.yaml"
CONFIDENT: Final = 0.9
"""Least confidence with which a role is used."""
BOTH_SIDES: Final = 3.5
"""So much for either side, from one voice, says that it is two people's."""
MAX_PER_PHRASE: Final = 2
"""So often one group of phrases counts for one speaker: a habit of speech is no proof."""
_LANGUAGES: Final = ("en", "de", "es")
_UPSET: Final = frozenset(("escalation", "churn", "urgency"))
_GIVEN: Final = frozenset(("card", "iban", "account", "id", "phone", "email", "address", "birth_date"))
_TOKEN: Final = re.compile(r"\w+(?:'\w+)*|[.!?;\n]")

Phrases = Annotated[list[str], Field(min_length=1), AfterValidator(checked_phrases)]


class _Group(Strict):
    weight: Annotated[float, Field(ge=-6, le=6)]
    en: Phrases
    de: Phrases | None = None
    es: Phrases | None = None


class _Table(Strict):
    stage_share: Annotated[float, Field(ge=0, le=1)]
    first_voice: Annotated[float, Field(ge=-6, le=6)]
    gives_personal: Annotated[float, Field(ge=-6, le=6)]
    upset: Annotated[float, Field(ge=-6, le=6)]
    groups: Annotated[list[_Group], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class RoleBelief:
    role: Role
    """`unknown` where confidence is below CONFIDENT."""
    confidence: float
    """In [0.5, 1]: that the speaker is on this side of the conversation, or on the likelier one."""


class RoleFinder:
    """Of one call; keeps scores, not words."""

    def __init__(self, cues: CueLexicon) -> None:
        self._cues = cues
        self._table, self._indexes = _read()
        self._scores: dict[str, float] = {}
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self._sides: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        """What each has said for an agent, and for a customer."""

    def hear(self, speaker: str, text: str, language: str, translation: str | None = None) -> None:
        """What a speaker said, in the order of the call."""
        if speaker not in self._scores:
            self._scores[speaker] = 0.0 if self._scores else self._table.first_voice
        english = translation or text
        texts = {language: text} | ({"en": english} if translation else {})
        for spoken_in, each in texts.items():
            for number in self._groups_in(spoken_in, each):
                self._add(speaker, f"group {number}", self._table.groups[number].weight)
        agents, others = default_stages().sides(texts)
        self._scores[speaker] += self._table.stage_share * (agents - others)
        if any(found.kind in _GIVEN for found in find_personal(text, language)):
            self._add(speaker, "personal", self._table.gives_personal)
        if any(cue.kind in _UPSET for cue in self._cues.find(english)):
            self._add(speaker, "upset", self._table.upset)

    def beliefs(self, speakers: Sequence[str]) -> dict[str, RoleBelief]:
        """Of each speaker. Of several, the likeliest agent is compared with the likeliest customer, the others with 0.

        A call has one customer here; further voices that are surely not agents are `other`.
        """
        scores = {speaker: self._scores.get(speaker, 0.0) for speaker in speakers}
        if len(scores) < 2:
            return {speaker: _belief(score) for speaker, score in scores.items()}
        agent, customer = max(scores, key=scores.__getitem__), min(scores, key=scores.__getitem__)
        between = _belief(scores[agent] - scores[customer])
        found = {speaker: _belief(score) for speaker, score in scores.items()}
        sides: dict[str, Role] = {agent: "agent", customer: "customer"}
        for speaker, role in sides.items():
            sure = between.confidence >= CONFIDENT and agent != customer
            found[speaker] = RoleBelief(role if sure else "unknown", between.confidence)
        return {
            speaker: RoleBelief("other", belief.confidence)
            if speaker not in sides and belief.role == "customer"
            else belief
            for speaker, belief in found.items()
        }

    def both_sides(self, speaker: str) -> bool:
        """Whether one voice has said what surely an agent says, and what surely a customer says: it is two people."""
        return min(self._sides[speaker]) >= BOTH_SIDES

    def _add(self, speaker: str, what: str, weight: float) -> None:
        self._counts[speaker, what] += 1
        if self._counts[speaker, what] <= MAX_PER_PHRASE:
            self._scores[speaker] += weight
            self._sides[speaker][weight < 0] += abs(weight)

    def _groups_in(self, language: str, text: str) -> set[int]:
        index = self._indexes.get(language)
        if index is None:
            return set()
        tokens = tokens_of(text, _TOKEN)
        return {number for at in range(len(tokens)) for _, number in index.at(tokens, at)}


def _belief(odds: float) -> RoleBelief:
    share = 1 / (1 + exp(-max(-30.0, min(30.0, odds))))
    confidence = max(share, 1 - share)
    if confidence < CONFIDENT:
        return RoleBelief("unknown", confidence)
    return RoleBelief("agent" if odds > 0 else "customer", confidence)


@cache
def _read() -> tuple[_Table, dict[str, PhraseIndex[int]]]:
    table = read_checked(TABLE, _Table, "roles")
    return table, {
        language: PhraseIndex(
            (phrase, number) for number, group in enumerate(table.groups) for phrase in getattr(group, language) or ()
        )
        for language in _LANGUAGES
    }
