"""Emotion from words: GoEmotions' classes, our labels, polarity beside VADER, calibration, cost.

    python -m benchmarks.text --data DIR [--labels FILE] [--json FILE]

DIR/labels.csv has text and label, and may have speaker and split; where there is a split, the part named `test` is
scored. Labels that are GoEmotions classes (one, or several as `a|b`; a column source_label goes before label) are
scored as the published benchmark does: every class on its own, macro-averaged F1. Other labels are scored as our
labels: `--labels` is a YAML or JSON file of `their label: our label`; what it leaves out is not scored. A label that is
one of ours needs no line. Answers are taken among the labels that the data has: the model's own, and beside them those
in a call, with cues, and with a customer's courtesies counting half. Intervals: bootstrap over speakers,
over texts where the data names none.
"""

import argparse
import csv
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import yaml
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from affectline.models.labels import AFFECT_OF_LABEL, LABELS
from affectline.models.registry import all_models
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, AffectScores, Span
from affectline.models.store import Store, default_root
from affectline.models.training.comments import f1_scores
from affectline.models.training.voice import calibration_error
from affectline.models.zoo.minilm import AFFECT_OF_CLASS, CLASSES, MiniLmWords, labels_of
from affectline.pipelines.cues import CueLexicon, load_cues
from affectline.pipelines.text import TextStage
from affectline.pipelines.timeline import Utterance
from benchmarks.common import SEED, arguments, bootstrap, pulled, report

POLARITIES: Final = ("negative", "neutral", "positive")
OURS_NEUTRAL: Final = 0.1
"""Valence nearer to 0 is neutral."""
VADER_NEUTRAL: Final = 0.05
"""As VADER's authors advise for its compound score."""
WORDS: Final = 20
Truth = npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Texts:
    text: tuple[str, ...]
    label: tuple[str, ...]
    speaker: tuple[str, ...]


def load_texts(data: Path, limit: int | None) -> Texts:
    """Exits with a sentence when there is nothing to score."""
    path = data / "labels.csv"
    if not path.is_file():
        sys.exit(
            f"expected labels.csv (text,label[,speaker,split]) in {data}, found none: give a folder with --data DIR"
        )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    missing = {"text", "label"} - set(rows[0] if rows else ())
    if missing:
        sys.exit(f"{path}: expected the columns text and label, found no {', '.join(sorted(missing))}")
    if any(row.get("split") == "test" for row in rows):
        rows = [row for row in rows if row["split"] == "test"]
    column = "source_label" if rows[0].get("source_label") else "label"
    rows = [row for row in rows if row[column]]
    if limit is not None and limit < len(rows):
        rows = [rows[i] for i in np.random.default_rng(SEED).permutation(len(rows))[:limit]]
    speakers = [row.get("speaker") or str(i) for i, row in enumerate(rows)]
    return Texts(tuple(r["text"] for r in rows), tuple(r[column] for r in rows), tuple(speakers))


def score_classes(texts: Texts, found: F32, thresholds: F32) -> dict[str, Any]:
    """GoEmotions' own measure; found [n, 28]."""
    present = np.array([[name in label.split("|") for name in CLASSES] for label in texts.label], np.float32)
    said = found >= thresholds

    def macro(rows: npt.NDArray[Any]) -> float:
        return float(f1_scores(said[rows], present[rows]).mean())

    rows = np.arange(len(present))
    low, high = bootstrap(macro, rows, texts.speaker)
    top = found.argmax(axis=1)
    each = np.stack((np.repeat(rows, len(CLASSES)), np.tile(np.arange(len(CLASSES)), len(rows))), axis=1)
    return {
        "classes": len(CLASSES),
        "n": len(present),
        "macro_f1": round(macro(rows), 4),
        "macro_f1_95": [round(low, 4), round(high, 4)],
        "ece": round(calibration_error(present[rows, top] > 0, found.max(axis=1)), 4),
        "ece_of_every_class": round(calibration_error(present[each[:, 0], each[:, 1]] > 0, found.ravel()), 4),
        "f1": {c: round(float(f), 3) for c, f in zip(CLASSES, f1_scores(said, present), strict=True)},
    }


def score_labels(truth: Truth, found: F32, speakers: Sequence[str]) -> dict[str, Any]:
    """One label per text, among those the data has; found [n, 10]."""
    names = [label for label in LABELS if label in set(truth.tolist())]
    belief = found[:, [LABELS.index(label) for label in names]]
    belief = belief / np.maximum(belief.sum(axis=1, keepdims=True), 1e-9)
    guess = np.array(names)[belief.argmax(axis=1)]

    def macro(pairs: npt.NDArray[Any]) -> float:
        return float(np.mean([_f1(pairs[:, 0], pairs[:, 1], name) for name in names]))

    pairs = np.stack((truth, guess), axis=1)
    low, high = bootstrap(macro, pairs, speakers)
    return {
        "labels": names,
        "n": len(truth),
        "macro_f1": round(macro(pairs), 4),
        "macro_f1_95": [round(low, 4), round(high, 4)],
        "accuracy": round(float((truth == guess).mean()), 4),
        "ece": round(calibration_error(truth == guess, belief.max(axis=1)), 4),
        "f1": {name: round(_f1(truth, guess, name), 3) for name in names},
    }


def _f1(truth: Truth, guess: Truth, name: str) -> float:
    right = int(((truth == name) & (guess == name)).sum())
    return 2 * right / max(1, int((truth == name).sum() + (guess == name).sum()))


def score_polarity(truth: Truth, valence: Mapping[str, tuple[F32, float]]) -> dict[str, dict[str, float]]:
    """System -> macro F1 of negative, neutral, positive, and accuracy; valence: system -> (values, neutral below)."""
    found = {}
    for system, (values, neutral) in valence.items():
        guess = np.where(values >= neutral, "positive", np.where(values <= -neutral, "negative", "neutral"))
        found[system] = {
            "macro_f1": round(float(np.mean([_f1(truth, guess, name) for name in set(truth.tolist())])), 4),
            "accuracy": round(float((truth == guess).mean()), 4),
        }
    return found


def polarity_of(valence: float) -> str:
    return "positive" if valence > 0.15 else "negative" if valence < -0.15 else "neutral"


def whole_stage(model: MiniLmWords, cues: CueLexicon, text: str) -> AffectScores:
    """As of a customer in a call: without personal data, with cues, courtesies counting half; each text on its own."""
    turn = Utterance("u", Span(0, 1), "customer", text, (), "en", 1.0, True, 1)
    return TextStage(model, cues).read(turn, 1.0).scores or AffectScores(None, None, None, None, 0.0)


def label_beliefs(answers: Sequence[AffectScores], model: MiniLmWords) -> F32:
    """[n, labels]; of what cannot be judged, what the model answers without evidence."""
    rows = [[(answer.labels or model.prior).get(label, 0.0) for label in LABELS] for answer in answers]
    return np.array(rows, np.float32)


def cost(model: MiniLmWords, texts: Sequence[str]) -> dict[str, float]:
    """Milliseconds per text of WORDS words on one thread, medians of 200: our model, all of the words stage with
    redaction and cues, and VADER."""
    words = " ".join(texts).split()
    drawn = [" ".join(words[i * WORDS : (i + 1) * WORDS]) for i in range(min(200, max(1, len(words) // WORDS)))]
    vader, cues = SentimentIntensityAnalyzer(), load_cues()
    whole_stage(model, cues, "warm up")
    return {
        "text_ms": round(_median_ms(model.estimate, drawn), 2),
        "stage_ms": round(_median_ms(lambda text: whole_stage(model, cues, text), drawn), 2),
        "vader_ms": round(_median_ms(vader.polarity_scores, drawn), 2),
    }


def _median_ms(run: Callable[[str], object], texts: Sequence[str]) -> float:
    took = []
    for text in texts:
        start = time.perf_counter()
        run(text)
        took.append(time.perf_counter() - start)
    return float(np.median(took)) * 1e3


def main() -> None:
    parser = arguments("Emotion from words.")
    parser.set_defaults(data=Path("../shared/data/goemotions"))
    parser.add_argument("--labels", type=Path, metavar="FILE", help="YAML or JSON: their label -> our label")
    args: argparse.Namespace = parser.parse_args()
    texts = load_texts(args.data, args.limit)
    mapping = yaml.safe_load(args.labels.read_text(encoding="utf-8")) if args.labels else {}
    if not isinstance(mapping, dict) or (wrong := sorted(set(map(str, mapping.values())) - set(LABELS))):
        sys.exit(f"{args.labels}: expected lines of `their label: our label` with one of {', '.join(LABELS)}"
                 + (f"; found {', '.join(wrong)}" if isinstance(mapping, dict) else ""))  # fmt: skip

    model: MiniLmWords = pulled("words-minilm", Runtime(threads=1))
    as_classes = not mapping and all(set(label.split("|")) <= set(CLASSES) for label in texts.label)
    if not as_classes:
        known: dict[str, str] = {label: label for label in LABELS}
        known |= {str(theirs): str(ours) for theirs, ours in mapping.items()}
        kept = [i for i, label in enumerate(texts.label) if label in known]
        if not kept:
            sys.exit(
                f"expected labels of {', '.join(known)}; found {', '.join(sorted(set(texts.label))[:8])}: use --labels"
            )
        parts = (tuple(part[i] for i in kept) for part in (texts.text, texts.label, texts.speaker))
        texts = Texts(*parts)

    cues = load_cues()
    answers: list[AffectScores] = [model.estimate(text) for text in texts.text]
    in_a_call = [whole_stage(model, cues, text) for text in texts.text]
    vader = SentimentIntensityAnalyzer()
    compound = np.array([vader.polarity_scores(text)["compound"] for text in texts.text], np.float32)
    ours = np.array([a.valence or 0.0 for a in answers], np.float32)

    results: dict[str, Any] = {}
    if as_classes:
        found = np.stack([model.probabilities(text) for text in texts.text])
        results["classes"] = score_classes(texts, found, model.thresholds)
        first = [label.split("|") for label in texts.label]
        given = np.array([[name in names for name in CLASSES] for names in first], np.float32)
        truth = np.array([LABELS[int(labels_of(row).argmax())] for row in given])
        pleasant = [float(np.mean([AFFECT_OF_CLASS[name][0] for name in names])) for names in first]
    else:
        truth = np.array([known[label] for label in texts.label])
        pleasant = [AFFECT_OF_LABEL[label][0] for label in truth.tolist()]
    results["labels"] = score_labels(truth, label_beliefs(answers, model), texts.speaker)
    results["labels_in_a_call"] = score_labels(truth, label_beliefs(in_a_call, model), texts.speaker)
    systems = {"affectline": (ours, OURS_NEUTRAL), "VADER": (compound, VADER_NEUTRAL)}
    results["polarity"] = score_polarity(np.array([polarity_of(value) for value in pleasant]), systems)
    results["cost"] = cost(model, texts.text)
    spec = all_models()["words-minilm"]
    assert spec.artifact
    folder = Store(default_root()).folder(spec.artifact)
    results["cost"]["disk_mb"] = round(sum(file.stat().st_size for file in folder.iterdir()) / 1e6, 1)
    for name, values in results.items():
        print(f"{name}: {values}", flush=True)

    main_result = results["classes" if as_classes else "labels"]
    headline = {key: main_result[key] for key in ("macro_f1", "ece", "n")}
    headline |= {f"polarity_{system}": values["macro_f1"] for system, values in results["polarity"].items()}
    data = {"name": args.data.name, "speakers": len(set(texts.speaker))}
    report("text", {"data": data, "model": model.model, **results}, headline | results["cost"], args.json)


if __name__ == "__main__":
    main()
