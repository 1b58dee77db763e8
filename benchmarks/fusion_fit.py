"""Finds the weights of pipelines/fusion.py on constructed calls of which it is known what is felt when.

    python -m benchmarks.fusion_fit --data DIR --words DIR --calls-of DIR [--features DIR] [--json FILE]

`--data` holds clips that heads may learn from (labels.csv: path,label,speaker): each half of the speakers along the
first principal component of their voices is heard by a head that learnt from the other half, so that voices are as
strange as a caller's. `--words` holds texts (labels.csv: text,source_label,split; the validation part is taken). Each
call counts as it is, and twice with other words: half of the emotional utterances say what is felt, the others, and all
neutral ones, something neutral; three of ten neutral stretches become ones in which a feeling is put in words only.
Those shares are by convention. Actors overdo, so people on the phone count, too: `--calls-of` holds ordinary calls, one
party a file (labels.csv: path,role,layout), in which everybody is taken as neutral or satisfied throughout; they count
ORDINARY times, about as much as the acted ones. Least mean negative log-likelihood of what is felt, over the seconds in
which the customer speaks, forward only; then, with all else as found, what tension counts once the call is over and is
read both ways.
"""

import argparse
import asyncio
import csv
import json
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import soxr
from scipy.optimize import minimize, minimize_scalar

from affectline.models.labels import AFFECT_OF_LABEL, LABELS, Label
from affectline.models.ports import RATE_HZ, VoiceAffect
from affectline.models.runtime import Runtime
from affectline.models.signals import Span
from affectline.models.training.examples import Examples, read_pcm
from affectline.models.training.voice import encoded
from affectline.pipelines.fusion import FITTED, FusionModel, Weighing, ratio_of
from affectline.pipelines.text import TextStage
from affectline.pipelines.timeline import Utterance
from affectline.server.engine import Engine
from benchmarks.calls import LABELS_OF_CLASS, LINE_HZ, BuiltCall, Stretch, build_calls
from benchmarks.common import report
from benchmarks.timeline import Calls, Heard, heads_without, stream

CLASS_OF_EMOTION: Final = {
    "anger": "anger", "annoyance": "anger", "confusion": "confusion", "disgust": "disgust", "excitement": "happiness",
    "fear": "fear", "gratitude": "happiness", "grief": "sadness", "joy": "happiness", "love": "happiness",
    "nervousness": "fear", "neutral": "neutral", "sadness": "sadness", "surprise": "surprise",
}  # fmt: skip
WORDS: Final = (3, 22)
TEXTS_PER_CLASS: Final = 250
TELLING, ONLY_WORDS, ONLY_WORDS_TELLING = 0.5, 0.3, 0.8
COPIES: Final = 2
ORDINARY: Final = 6
MOST: Final = 1.5
"""Upper limit of a weight: seconds next to each other hear in part the same, and a voice that a model takes wrongly it
takes wrongly again and again."""
CLOSENESS: Final = 0.002
"""How strongly parameters are held near where the search starts."""
LABELS_OF: Final[Mapping[str, frozenset[Label]]] = {
    **LABELS_OF_CLASS,
    "confusion": frozenset(("confused",)),
    "ordinary": frozenset(("neutral", "satisfied")),
}
EXCITED: Final = np.array([AFFECT_OF_LABEL[label][1] for label in LABELS])
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Said:
    """What the fusion is given, second by second; NaN where a modality says nothing."""

    voice: F64
    """[seconds, labels], ratio to the model's prior."""
    words: F64
    quality: F64
    """[seconds, 2]; of words, as far as they are not neutral."""
    arousal: F64
    """[seconds], by quality; 0 where nothing is said."""
    felt: npt.NDArray[np.bool_]
    """[seconds, labels], what may be said; all False where it does not count."""


def as_heard(heard: Heard) -> Said:
    moments, priors = heard.moments, heard.priors
    ratio, quality, arousal = np.full((2, len(moments), len(LABELS)), np.nan), np.zeros((len(moments), 2)), []
    for second, moment in enumerate(moments):
        excited = 0.0
        for column, modality in enumerate(("voice", "text")):
            own = [c.estimate for c in moment.contributors if c.modality == modality]
            if own:
                ratio[column, second] = np.mean([ratio_of(e.scores.labels or {}, priors[e.model]) for e in own], axis=0)
                plain = FITTED.weighing[own[0].modality].plain
                quality[second, column] = sum(
                    e.quality * (1 - plain * (e.scores.labels or {}).get("neutral", 0.0)) for e in own
                )
        for each in moment.contributors:
            if each.estimate.scores.labels is None and each.estimate.scores.arousal is not None:
                excited += each.estimate.quality * each.estimate.scores.arousal
        arousal.append(excited)
    felt = np.zeros((len(moments), len(LABELS)), bool)
    for second in range(len(moments)):
        if (label := heard.call.truth(second)) is not None and quality[second].any():
            felt[second] = [each in LABELS_OF[label] for each in LABELS]
    return Said(ratio[0], ratio[1], quality, np.array(arousal), felt)


def with_words(
    call: BuiltCall, said: Said, texts: Mapping[str, Sequence[tuple[F64, float]]], random: np.random.Generator
) -> Said:
    """The same call with other words in it."""
    words, quality, felt = said.words.copy(), said.quality.copy(), said.felt.copy()
    others = [name for name in texts if name != "neutral"]
    instead: dict[int, str] = {}
    before, chosen = "", ""
    for stretch in call.stretches:
        if stretch.label != before:
            only = stretch.label == "neutral" and random.random() < ONLY_WORDS
            chosen = others[int(random.integers(len(others)))] if only else ""
        before = stretch.label
        label = chosen or stretch.label
        telling = random.random() < (ONLY_WORDS_TELLING if chosen else TELLING)
        known = texts[label if telling and label in texts else "neutral"]
        text, far = known[int(random.integers(len(known)))]
        fit = far * random.uniform(0.5, 0.9)
        for second in range(stretch.span.start_us // 1_000_000, -(-stretch.span.end_us // 1_000_000)):
            if second < len(words) and felt[second].any() and instead.get(second) is None:
                words[second], quality[second, 1] = text, fit
                felt[second] = [each in LABELS_OF[label] for each in LABELS]
                instead[second] = label
    return Said(said.voice, words, quality, said.arousal, felt)


def model_of(x: F64) -> FusionModel:
    """From seven free numbers."""

    def chance(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    weighing = {
        "voice": Weighing(MOST * chance(x[0] + 1), chance(x[1])),
        "text": Weighing(MOST * chance(x[2] + 1), chance(x[3]), plain=True),
        "face": FITTED.weighing["face"],
    }
    excitement = math.exp(x[4])
    return FusionModel(weighing, excitement, excitement, chance(x[5]), chance(x[6]))  # type: ignore[arg-type]


START: Final = np.array([0.0, 0.0, 0.0, 0.0, -1.0, 2.2, 0.0])
STEP: Final = 0.7
"""First moves of the search."""


def surprise(model: FusionModel, calls: Sequence[Said], *, over: bool) -> float:
    """Mean negative log-likelihood of what is felt; over: the calls are over, and read both ways."""
    excitement, total, seconds = model.hindsight if over else model.excitement, 0.0, 0
    prior = model.prior.astype(float)
    for said in calls:
        evidence = excitement * said.arousal[:, None] * EXCITED
        for column, ratio in enumerate((said.voice, said.words)):
            how = model.weighing["text" if column else "voice"]
            each = how.weight * said.quality[:, column, None] * np.log(how.hidden + (1 - how.hidden) * ratio)
            evidence = evidence + np.where(np.isnan(each), 0, each)
        likelihood = np.exp(evidence - evidence.max(axis=1, keepdims=True))
        beliefs, belief = [], prior
        for seen in likelihood:
            belief = (model.stays * belief + (1 - model.stays) * prior) * seen
            belief = belief / belief.sum()
            beliefs.append(belief)
        later = np.ones(len(LABELS))
        for belief, seen, felt in zip(beliefs[::-1], likelihood[::-1], said.felt[::-1], strict=True):
            if felt.any():
                total -= math.log((belief * later)[felt].sum() / (belief * later).sum() + 1e-4)
                seconds += 1
            if over:
                later = model.stays * seen * later + (1 - model.stays) * float(prior @ (seen * later))
                later = later / later.sum()
    return total / seconds


def loss(x: F64, calls: Sequence[Said]) -> float:
    return surprise(model_of(x), calls, over=False) + CLOSENESS * float(np.square(x - START).sum())


def far_halves(examples: Examples) -> dict[str, npt.NDArray[np.bool_]]:
    """Speaker -> the rows of those who are least like them."""
    speakers = np.unique(examples.speaker)
    means = np.stack([examples.x[examples.speaker == speaker].mean(axis=0) for speaker in speakers])
    _, _, axes = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    order = np.argsort(means @ axes[0], kind="stable")
    one, two = np.array_split(speakers[order], 2)
    return {
        str(speaker).partition("/")[2]: np.isin(examples.speaker, other)
        for own, other in ((one, two), (two, one))
        for speaker in own
    }


def read_texts(folder: Path, engine: Engine) -> dict[str, list[tuple[F64, float]]]:
    """Class -> (ratios, how far from neutral) of texts in which people put it."""
    found: dict[str, list[tuple[F64, float]]] = defaultdict(list)
    prior = engine.models.text.prior
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"].startswith("val")]
    for row in np.random.default_rng(1).permutation(np.array(rows, object)):
        name = CLASS_OF_EMOTION.get(row["source_label"])
        if name is None or not WORDS[0] <= len(row["text"].split()) <= WORDS[1] or len(found[name]) >= TEXTS_PER_CLASS:
            continue
        turn = Utterance("u", Span(0, 3_000_000), "customer", row["text"], (), "en", 0.9, True, 1)
        understood = TextStage(engine.models.text, engine.models.cues).read(turn, 1.0)
        if understood.scores is not None:
            labels = understood.scores.labels or {}
            found[name].append((ratio_of(labels, prior).astype(float), 1 - labels["neutral"]))
    return dict(found)


def ordinary_calls(folder: Path) -> Iterator[BuiltCall]:
    """Each party of real calls as a customer."""
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["layout"] == "mono, one side":
                pcm = soxr.resample(read_pcm(folder / row["path"]), RATE_HZ, LINE_HZ)
                whole = Stretch(Span(0, len(pcm) * 1_000_000 // LINE_HZ), "ordinary")
                both = np.stack((np.zeros_like(pcm), np.clip(pcm, -1, 1))).astype(np.float32)
                yield BuiltCall(Path(row["path"]).stem, row["role"], both, (whole,))


def listened(calls: Sequence[BuiltCall], voices: Mapping[str, VoiceAffect], kept: Path, engine: Engine) -> list[Said]:
    """What was said of each call; kept in a file, and taken from there when present."""
    if kept.is_file():
        with np.load(kept) as found:
            return [Said(*(found[f"{field.name} {k}"] for field in fields(Said))) for k in range(len(calls))]
    said = [as_heard(each) for each in asyncio.run(stream(Calls(engine, lambda: voices, None), calls))]
    np.savez(kept, **{f"{f.name} {k}": getattr(each, f.name) for k, each in enumerate(said) for f in fields(Said)})
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description="Finds the weights of the fusion on constructed calls.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="clips that heads may learn from")
    parser.add_argument("--words", type=Path, required=True, metavar="DIR", help="texts with what they express")
    parser.add_argument("--calls-of", type=Path, required=True, metavar="DIR", help="ordinary calls, one party a file")
    parser.add_argument("--calls", type=int, default=2, metavar="N", help="calls per speaker")
    parser.add_argument("--features", type=Path, metavar="DIR", help="folder that keeps encoded clips")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    engine = Engine(runtime=Runtime(threads=1))
    calls = list(build_calls(args.data, engine.models.gate, calls=args.calls))
    examples = encoded(args.data, args.features)
    voices = heads_without(examples, far_halves(examples))
    folder = args.features or Path(tempfile.mkdtemp())
    plain = listened(calls, voices, folder / f"{args.data.resolve().name}_calls.npz", engine)
    others = list(ordinary_calls(args.calls_of))
    ordinary = listened(others, {}, folder / f"{args.calls_of.resolve().name}_calls.npz", engine)
    texts, random = read_texts(args.words, engine), np.random.default_rng(1)
    mixed = [
        with_words(call, said, texts, random) for _ in range(COPIES) for call, said in zip(calls, plain, strict=True)
    ]
    simplex = np.vstack((START, START + STEP * np.eye(len(START))))
    options = {"maxfev": 600, "xatol": 0.01, "fatol": 1e-5, "initial_simplex": simplex}
    known = [*plain, *mixed, *ORDINARY * ordinary]
    best = minimize(loss, START, args=(known,), method="Nelder-Mead", options=options)
    model = model_of(best.x)
    after = minimize_scalar(
        lambda hindsight: surprise(replace(model, hindsight=hindsight), known, over=True),
        bounds=(0, model.excitement),
        method="bounded",
        options={"xatol": 0.005},
    )
    found: dict[str, Any] = {
        "calls": len(calls),
        "ordinary": len(others),
        "weighing": {m: [round(w.weight, 3), round(w.hidden, 3)] for m, w in model.weighing.items() if m != "face"},
        "excitement": round(model.excitement, 3),
        "hindsight": round(float(after.x), 3),
        "stays": round(model.stays, 3),
        "neutral": round(model.neutral, 3),
    }
    print(json.dumps(found, indent=1))
    report("fusion", found, {"loss": round(float(best.fun), 4), "loss_after": round(float(after.fun), 4)}, args.json)


if __name__ == "__main__":
    main()
