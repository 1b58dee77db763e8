"""Phrases of support talk that tell what a general emotion model does not hear, from a lexicon that sites extend.

Matched word by word, so its time grows with the length of the text alone.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from affectline.models.labels import LABELS, Label
from affectline.pipelines.checked_yaml import read_checked
from affectline.pipelines.phrases import PhraseIndex, Token, checked_phrases, tokens_of
from affectline.pipelines.timeline import CueKind

DEFAULT_CUES: Final = Path(__file__).parent / "lexicon" / "en.yaml"
NEGATION_WORDS: Final = 3
"""A negation this many words before a phrase denies it, within the same sentence."""
_NEGATIONS: Final = frozenset(("not", "no", "without", "hardly", "cannot", "nothing", "neither", "never", "nor"))
_STRENGTHENERS: Final = frozenset(("so", "this", "such", "more", "believe"))
"""After these a negation denies nothing: "never been so angry", "can't believe how angry"."""
_LISTENERS: Final = frozenset(("you", "you're", "your", "you've"))
_SPEAKERS: Final = frozenset(("i", "i'm", "me", "my", "we", "we're", "us"))
_TOKEN: Final = re.compile(r"\w+(?:'\w+)*|[.!?;\n]")


@dataclass(frozen=True, slots=True)
class FoundCue:
    kind: CueKind
    phrase: str
    """As in the text."""
    start: int
    end: int
    """Half-open range of characters."""
    label: Label | None
    strength: float
    """What it adds to the natural logarithm of the label's odds."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: CueKind
    label: Label | None = None
    strength: Annotated[float, Field(gt=0, le=6)] = 1.0
    negatable: bool = True
    felt: bool = False
    """A word for a feeling: "you're frustrated" is not the speaker's."""
    phrases: Annotated[list[str], Field(min_length=1), AfterValidator(checked_phrases)]

    @field_validator("label")
    @classmethod
    def _sayable(cls, label: Label | None) -> Label | None:
        if label is not None and label not in LABELS:
            raise PydanticCustomError("label", "expected one of {labels}", {"labels": ", ".join(LABELS)})
        return label


class _Lexicon(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: list[_Group] = []
    courtesies: Annotated[list[str], AfterValidator(checked_phrases)] = []
    """Said out of politeness, whatever one feels."""
    remove: list[str] = []
    """Phrases of the files before that do not count here, as they are written there."""


class CueLexicon:
    def __init__(self, groups: Sequence[_Group], courtesies: Sequence[str], removed: frozenset[str]) -> None:
        self._index = PhraseIndex(
            (phrase, group) for group in groups for phrase in group.phrases if phrase not in removed
        )
        self._courtesies = PhraseIndex((phrase, None) for phrase in courtesies if phrase not in removed)

    def find(self, text: str) -> tuple[FoundCue, ...]:
        """Cues of an English text that are not denied, by start; those of one kind do not overlap.

        A cue inside a longer courtesy is none: "I'm afraid I can't".
        """
        tokens = tokens_of(text, _TOKEN)
        polite = list(self._polite(tokens))
        found = []
        for at, token in enumerate(tokens):
            for after, group in self._index.at(tokens, at):
                if not ((group.negatable and _denied(tokens, at)) or (group.felt and _of_listener(tokens, at))):
                    start, end = token.start, tokens[after - 1].end
                    if any(a <= start and end <= b and end - start < b - a for a, b in polite):
                        continue
                    found.append(FoundCue(group.kind, text[start:end], start, end, group.label, group.strength))
        return _distinct(found)

    def without_courtesies(self, text: str, cues: Sequence[FoundCue]) -> str:
        """The English text less what is mere politeness; a courtesy that a cue has a part in stays."""
        pieces, at = [], 0
        for start, end in self._polite(tokens_of(text, _TOKEN)):
            if not any(cue.start < end and start < cue.end for cue in cues):
                pieces.append(text[at:start])
                at = end
        return " ".join((*pieces, text[at:]))

    def _polite(self, tokens: Sequence[Token]) -> Iterator[tuple[int, int]]:
        """Ranges of characters of the longest courtesies, in order."""
        at = 0
        while at < len(tokens):
            after = max((after for after, _ in self._courtesies.at(tokens, at)), default=0)
            if after:
                yield tokens[at].start, tokens[after - 1].end
            at = max(after, at + 1)


def load_cues(*files: Path) -> CueLexicon:
    """The default lexicon, then each site's file over it.

    Raises InvalidInputError that lists every fault as `ours.yaml line 12: …`.
    """
    groups: list[_Group] = []
    courtesies: list[str] = []
    removed: set[str] = set()
    for path in (DEFAULT_CUES, *files):
        lexicon = read_checked(path, _Lexicon, "cues")
        known = {phrase for group in groups for phrase in group.phrases} | set(courtesies)
        for phrase in lexicon.remove:
            if phrase not in known:
                # Said at once, since a misspelt removal would silently remove nothing.
                read_checked(path, _removing(known), "cues")
        removed |= set(lexicon.remove)
        groups += lexicon.groups
        courtesies += lexicon.courtesies
    return CueLexicon(groups, courtesies, frozenset(removed))


def _removing(known: set[str]) -> type[_Lexicon]:
    class Removing(_Lexicon):
        @field_validator("remove")
        @classmethod
        def _known(cls, phrases: list[str]) -> list[str]:
            for index, phrase in enumerate(phrases):
                if phrase not in known:
                    raise PydanticCustomError(
                        "unknown",
                        "expected a phrase of the lexicon, found '{phrase}'",
                        {"phrase": phrase, "index": index},
                    )
            return phrases

    return Removing


def _denied(tokens: Sequence[Token], at: int) -> bool:
    for back in range(at - 1, max(-1, at - 1 - NEGATION_WORDS), -1):
        word = tokens[back].word
        if not word[0].isalnum() or word in _STRENGTHENERS:
            return False
        if word in _NEGATIONS or word.endswith("n't"):
            return True
    return False


def _of_listener(tokens: Sequence[Token], at: int) -> bool:
    for back in range(at - 1, max(-1, at - 1 - NEGATION_WORDS), -1):
        word = tokens[back].word
        if not word[0].isalnum() or word in _SPEAKERS:
            return False
        if word in _LISTENERS:
            return True
    return False


def _distinct(found: Sequence[FoundCue]) -> tuple[FoundCue, ...]:
    """The longest of those of one kind that overlap."""
    kept: list[FoundCue] = []
    until: dict[CueKind, int] = {}
    for cue in sorted(found, key=lambda cue: (cue.start, -cue.end, -cue.strength)):
        if cue.start >= until.get(cue.kind, 0):
            kept.append(cue)
            until[cue.kind] = cue.end
    return tuple(kept)
