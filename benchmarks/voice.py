"""Emotion from the voice: in-corpus and across corpora, wide and telephone band, without and with a site baseline.

    python -m benchmarks.voice [--data DIR] [--telephone] [--model NAME] [--from DIR …] [--features DIR] [--json FILE]

Any folder with labels.csv (path,label,speaker) will do; labels are folded by `CLASS_OF_LABEL` of models/zoo/voice.py,
and for comparisons across corpora by `FOUR` below. A model is never tested on what it learnt from: where the clips are
known to be its training data, heads fitted without the speaker answer in its place. The site baseline is the mean and
deviation of all features of the data, learnt without labels. Intervals: bootstrap over speakers.
"""

import argparse
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import softmax
from scipy.stats import rankdata

from affectline.models.errors import AffectlineError
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, Encoding, FeatureStats
from affectline.models.training.examples import Examples
from affectline.models.training.voice import (
    calibration_error,
    encoded,
    far_folds,
    fit,
    fit_temperature,
    folds,
    held_out_logits,
    recall,
    stats_of,
    uar,
)
from affectline.models.zoo.voice import AFFECT_OF_CLASS, LAYERS, WIDTH, VoiceHead
from benchmarks.common import arguments, bootstrap, pulled, report

FOUR: Final = {"anger": "angry", "happiness": "happy", "neutral": "neutral", "calm": "neutral", "sadness": "sad"}
"""What corpora have in common; other classes are left out, both of the clips and of the answers."""
CLIP_NAMES: Final = {
    "EmoDB": r"\d\d[ab]\d\d[A-Z][a-z]",
    "RAVDESS": r"\d\d(-\d\d){6}",
    "nEMO": r"[A-Z]{2}\d_[a-z]+_\d+",
}
"""How the training corpora name their clips, whatever the folder is called."""
TRAINED_ON: Final = {"voice-open": {"EmoDB"}, "voice-research": {"EmoDB", "RAVDESS", "nEMO"}}
BANDS: Final = ("wide", "telephone")
COVERAGES: Final = (1.0, 0.8, 0.6, 0.4, 0.2)
INNER_FOLDS: Final = 4
Answers = tuple[Sequence[str], F32]
"""Classes, and probabilities [n, classes]."""


def corpus_of(examples: Examples) -> str | None:
    """The training corpus that most of the clips are from, judged by their names."""
    stems = [Path(clip).stem for clip in np.unique(examples.clip)]
    return next(
        (c for c, form in CLIP_NAMES.items() if sum(bool(re.fullmatch(form, s)) for s in stems) > len(stems) / 2), None
    )


def measure(examples: Examples, answers: Answers, *, four: bool) -> dict[str, Any]:
    """All figures of one set of answers; `four`: folded by FOUR, otherwise among the classes the data has."""
    classes, p = answers
    known = sorted(set(examples.label.tolist()) & set(classes))
    names = sorted({FOUR[c] for c in known if c in FOUR}) if four else known
    truth = np.array([FOUR.get(c, "") if four else c for c in examples.label])
    rows = np.isin(truth, names)
    label = truth[rows]
    folded = np.stack(
        [p[rows][:, [(FOUR.get(c) if four else c) == name for c in classes]].sum(axis=1) for name in names], 1
    )
    folded = folded / np.maximum(folded.sum(axis=1, keepdims=True), 1e-12)
    guess, confidence = np.array(names)[folded.argmax(axis=1)], folded.max(axis=1)
    right = guess == label
    order = np.argsort(-confidence, kind="stable")
    pairs = np.stack((label, guess), axis=1)
    low, high = bootstrap(lambda drawn: uar(drawn[:, 0], drawn[:, 1]), pairs, examples.speaker[rows].tolist())
    return {
        "classes": len(names),
        "n": len(label),
        "uar": round(uar(label, guess), 4),
        "uar_95": [round(low, 4), round(high, 4)],
        "accuracy": round(float(right.mean()), 4),
        "ece": round(calibration_error(right, confidence), 4),
        "recall": {name: round(value, 3) for name, value in recall(label, guess).items()},
        "confusion": {name: {g: int(((label == name) & (guess == g)).sum()) for g in names} for name in names},
        "risk_at_coverage": {
            c: round(float(1 - right[order[: max(1, int(c * len(order)))]].mean()), 3) for c in COVERAGES
        },
        "arousal_auc": arousal_auc(examples.label, answers),
    }


def arousal_auc(label: npt.NDArray[np.str_], answers: Answers) -> float | None:
    """How well the arousal said tells excited classes (>= 0.3) from calm ones (<= 0): area under the ROC curve."""
    classes, p = answers
    arousal = {name: place[1] for name, place in AFFECT_OF_CLASS.items()}
    said, true = p @ np.array([arousal[c] for c in classes]), np.array([arousal[str(c)] for c in label])
    high, low = true >= 0.3, true <= 0
    if not high.any() or not low.any():
        return None
    ranks = rankdata(np.concatenate((said[high], said[low])))[: high.sum()]
    return round(float((ranks.sum() - high.sum() * (high.sum() + 1) / 2) / (high.sum() * low.sum())), 4)


def shipped(model: VoiceHead, x: F32, site: FeatureStats | None) -> Answers:
    return model.classes, np.stack([model.probabilities(row, site) for row in x])


def trained_elsewhere(source: Examples, x: F32, site: FeatureStats | None) -> Answers:
    """By a head fitted on another corpus, calibrated on it the way the shipped ones are."""
    classes = np.unique(source.label).tolist()
    target = np.searchsorted(classes, source.label)
    temperature = fit_temperature(held_out_logits(source, classes, far_folds(source)), target)
    return classes, softmax(fit(source, classes).logits(x, site) / temperature, axis=1)


def speaker_folds(examples: Examples) -> Answers:
    """By heads fitted on the same corpus without the speaker; each fold calibrated on its own training speakers."""
    classes = np.unique(examples.label).tolist()
    found = np.zeros((len(examples.x), len(classes)), np.float32)
    for learnt, tested in folds(examples):
        rest = examples[learnt]
        present = np.unique(rest.label).tolist()
        inner = [np.isin(rest.speaker, group) for group in np.array_split(np.unique(rest.speaker), INNER_FOLDS)]
        logits = held_out_logits(rest, present, [(~group, group) for group in inner])
        temperature = fit_temperature(logits, np.searchsorted(present, rest.label))
        p = softmax(fit(rest, present).logits(examples.x[tested]) / temperature, axis=1)
        found[np.ix_(np.flatnonzero(tested), np.array([classes.index(name) for name in present]))] = p
    return classes, found


def cost_ms(model: VoiceHead) -> float:
    """Pooling and head over a 2 s window, one thread, median of 200."""
    rng, frames = np.random.default_rng(0), 100
    layers = {layer: rng.normal(size=(750, WIDTH)).astype(np.float32) for layer in LAYERS}
    encoding, took = Encoding(np.zeros((1, 1, 1), np.float32), layers, 20_000, 750), []
    for _ in range(200):
        start = time.perf_counter()
        model.estimate(encoding, 100, 100 + frames)
        took.append(time.perf_counter() - start)
    return round(float(np.median(took)) * 1e3, 3)


def main() -> None:
    parser = arguments("Emotion from the voice, speaker-independent and across corpora.")
    parser.add_argument("--telephone", action="store_true", help="the headline is that of the 8 kHz mu-law band")
    parser.add_argument("--model", default="voice-open", choices=sorted(TRAINED_ON), help="%(default)s when absent")
    parser.add_argument("--from", dest="sources", type=Path, nargs="*", default=[], metavar="DIR",
                        help="corpora to train other heads on, tested on --data")  # fmt: skip
    parser.add_argument("--features", type=Path, metavar="DIR", help="folder that keeps encoded clips")
    args: argparse.Namespace = parser.parse_args()

    model: VoiceHead = pulled(args.model, Runtime(threads=1))
    for name in ("whisper-base-encoder", "silero"):
        pulled(name, Runtime())
    try:
        examples = encoded(args.data, args.features, limit=args.limit)
        sources = {folder.name: encoded(folder, args.features) for folder in args.sources}
    except AffectlineError as error:
        sys.exit(str(error))
    tested = examples[examples.whole & (examples.band != "changed")]
    seen = corpus_of(examples) in TRAINED_ON[args.model]
    several = len(np.unique(examples.speaker)) > INNER_FOLDS
    if seen and not several:
        sys.exit(f"{args.model} learnt from these clips, and there are too few speakers to hold some out")
    site_of = {band: stats_of(examples.x[examples.band == band]) for band in BANDS}

    results: list[dict[str, Any]] = []

    def add(system: str, answers: Answers, rows: Examples, band: str, site: str, *, four: bool) -> None:
        if len({FOUR.get(c) if four else c for c in set(rows.label.tolist()) & set(answers[0])} - {None}) < 2:
            return
        results.append({"system": system, "band": band, "site": site, **measure(rows, answers, four=four)})
        shown = {k: v for k, v in results[-1].items() if k not in ("confusion", "risk_at_coverage")}
        print(shown, flush=True)

    within = speaker_folds(examples) if several else None
    for band in BANDS:
        rows = tested[tested.band == band]
        if within:
            mine = examples.whole & (examples.band == band)
            for four in (False, True):
                add("same corpus, speakers held out", (within[0], within[1][mine]), rows, band, "off", four=four)
        for site, stats in (("off", None), ("on", site_of[band])):
            if not seen:
                answers = shipped(model, rows.x, stats)
                for four in (True, False):
                    add(args.model, answers, rows, band, site, four=four)
            for name, source in sources.items():
                add(f"trained on {name}", trained_elsewhere(source, rows.x, stats), rows, band, site, four=True)

    band = "telephone" if args.telephone else "wide"
    system = "same corpus, speakers held out" if seen else args.model
    site = "off" if seen else "on"
    best = next((r for r in results if (r["system"], r["band"], r["site"]) == (system, band, site)), None)
    if best is None:
        sys.exit(f"expected clips of at least 2 classes that {args.model} knows, found fewer")
    held_out = (r["uar"] for r in results if r["system"].startswith("same") and r["band"] == band)
    data = {"name": args.data.name, "speakers": len(np.unique(examples.speaker)), "trained_on": seen}
    headline = {"uar": best["uar"], "ece": best["ece"], "n": best["n"], "classes": best["classes"], "band": band}
    headline["uar_speakers_held_out"] = next(held_out, "absent")
    report(
        "voice", {"data": data, "model": args.model, "head_ms": cost_ms(model), "results": results}, headline, args.json
    )


if __name__ == "__main__":
    main()
