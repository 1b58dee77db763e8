"""First text affect: VADER's polarity and a lexicon of cues of English support talk (`words_cues.yaml`).

Polarity: Hutto & Gilbert, VADER, ICWSM 2014. Rules only: the same words always give the same answer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from affectline.models.labels import AFFECT_OF_LABEL, LABELS, Label
from affectline.models.registry import ModelSpec
from affectline.models.signals import AffectScores

_FLOOR = 0.03
"""Weight of a label that nothing speaks for; neutral talk has 1."""
_UNPLEASANT: dict[Label, float] = {"frustrated": 2.0, "angry": 0.4, "sad": 0.4}
"""Polarity tells that something is unpleasant, not which of the unpleasant labels it is."""
_PIECE_WORDS = 60
"""Longest piece given to VADER, whose time grows with the square of it."""
_MAX_EVIDENCE = 5

_WORD = re.compile(r"\w+(?:'\w+)*")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\ufeff]+")
_REPEATED = re.compile(r"\b(\w[\w']*(?:\s+\w[\w']*){0,3})(?:[\s,.!?]+\1\b)+", re.IGNORECASE)
_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
_NEGATED = re.compile(
    r"\b(?:not|no|without|hardly|cannot|nothing|neither|\w+n't|never(?!(?:\s+\w+)?\s+(?:so|this|such)\b))"
    r"(?:\s+[\w']+){0,2}\s*$",
    re.IGNORECASE,
)
"""A negation within three words before what follows; "never been so angry" is none."""


@dataclass(frozen=True, slots=True)
class _Cue:
    pattern: re.Pattern[str]
    label: Label
    strength: float
    negatable: bool


class WordsFirst:
    """Satisfies the TextAffect port."""

    model = "words-first@1"
    languages = ("en",)
    prior: Mapping[Label, float] = {
        label: (1.0 if label == "neutral" else _FLOOR) / (1.0 + 9 * _FLOOR) for label in LABELS
    }
    """The answer to words in which no cue and no polarity is found."""

    def __init__(self, lexicon: Path) -> None:
        """`lexicon`: a YAML file laid out as `words_cues.yaml`, which explains itself."""
        known = yaml.safe_load(lexicon.read_text(encoding="utf-8"))
        self._cues = [
            _Cue(_pattern(phrase), group["label"], group["strength"], group.get("negatable", True))
            for group in known["cues"]
            for phrase in group["phrases"]
        ]
        self._plain = re.compile("|".join(_pattern(p).pattern for p in known["plain"] if " " in p), re.IGNORECASE)
        self._vader = SentimentIntensityAnalyzer()
        for word in known["plain"]:
            self._vader.lexicon.pop(word, None)

    def estimate(self, text: str) -> AffectScores:
        """Affect of one English utterance; any text is accepted.

        Without a word and without a known emoji nothing is known: labels and valence are None and confidence
        is 0. Words repeated in a row count once. Arousal and dominance are always None.
        """
        text = _UNPRINTABLE.sub(" ", text).replace("\u2019", "'")
        text = _REPEATED.sub(r"\1", text)
        words = _WORD.findall(text.lower())
        if not words and not any(char in self._vader.emojis for char in text):
            return AffectScores(None, None, None, None, 0.0)

        found = {
            match.group().lower(): cue
            for cue in self._cues
            for match in cue.pattern.finditer(text)
            if not (cue.negatable and _negated(text, match))
        }
        text = self._plain.sub(" ", text)
        polarity = self._polarity(text)
        weights: dict[Label, float] = dict.fromkeys(LABELS, _FLOOR)
        weights["neutral"] = 1.0
        if polarity > 0:
            weights["satisfied"] += 2.0 * polarity
        else:
            for label, share in _UNPLEASANT.items():
                weights[label] -= share * polarity
        for cue in found.values():
            weights[cue.label] += cue.strength
        total = sum(weights.values())
        labels = {label: weight / total for label, weight in weights.items()}

        expected = sum(p * AFFECT_OF_LABEL[label][0] for label, p in labels.items())
        valence = (polarity + expected) / 2 if found else polarity
        amount = max(1, len(words)) / (len(words) + 2)
        confidence = max(labels.values()) * amount * (1.0 if found or polarity else 0.5)
        lexicon = self._vader.lexicon
        polar = {
            word
            for match in _WORD.finditer(text)
            if (word := match.group().lower()) in lexicon
            and not _negated(text, match)
            and not any(word in cue for cue in found)
        }
        strongest = sorted(polar, key=lambda word: (-abs(lexicon[word]), word))
        return AffectScores(labels, valence, None, None, confidence, (*found, *strongest)[:_MAX_EVIDENCE])

    def _polarity(self, text: str) -> float:
        """Mean of VADER's compound score over the pieces that have one, in [-1, 1]; 0 if none has."""
        scores = []
        for sentence in _SENTENCE.findall(text):
            words = sentence.split()
            for start in range(0, len(words), _PIECE_WORDS):
                piece = " ".join(words[start : start + _PIECE_WORDS])
                scores.append(float(self._vader.polarity_scores(piece)["compound"]))
        polar = [score for score in scores if score]
        return sum(polar) / len(polar) if polar else 0.0


def _negated(text: str, match: re.Match[str]) -> bool:
    return bool(_NEGATED.search(text[max(0, match.start() - 60) : match.start()]))


def _pattern(phrase: str) -> re.Pattern[str]:
    """Of a phrase in the lexicon's notation: `a|b` is either word, `a?` may be absent (not the first)."""
    first, *rest = phrase.split()
    parts = [f"(?:{first})"]
    for word in rest:
        parts.append(rf"(?:\s+(?:{word.removesuffix('?')})){'?' if word.endswith('?') else ''}")
    return re.compile(rf"\b{''.join(parts)}\b", re.IGNORECASE)


MODELS = (
    ModelSpec(
        name="words-first",
        version="1",
        task="text_affect",
        artifact=None,
        load=lambda folder, runtime: WordsFirst(folder / "words_cues.yaml"),
    ),
)
