"""Trains a voice head: linear discriminants on pooled early layers of the shared encoder, calibrated, as ONNX.

    python -m affectline.models.training.voice --name voice-open --data DIR [DIR …] --features DIR

`--data` folders hold labels.csv (path,label,speaker) and the clips. Encoding takes nearly all the time; its result is
kept in the folder `--features` and used again. Everything is seeded and deterministic.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import scipy.linalg
import yaml
from onnx import TensorProto
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from affectline.models.convert.graph import Graph
from affectline.models.errors import InvalidInputError
from affectline.models.labels import LABELS
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, FeatureStats
from affectline.models.store import Store, default_root
from affectline.models.training.examples import Examples, encode, joined
from affectline.models.zoo.voice import LABELS_OF_CLASS

SHRINKAGE: Final = 0.5
"""Of the within-class covariance towards a multiple of the identity; the figures are flat from 0.3 to 0.7."""
MAX_FOLDS: Final = 12
MIN_CLIPS: Final = 4
"""Per class; a class with fewer cannot be held out and learnt."""
LESS_RISK: Final = 0.75
"""Where the head answers, it errs at most this much as often as it would if it always answered."""
SEED: Final = 7

Split = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""Rows to learn from, and rows to test on."""


@dataclass(frozen=True, slots=True)
class Head:
    classes: tuple[str, ...]
    weight: F32
    """[classes, k], on standardised features."""
    bias: F32
    """[classes]."""
    usual: FeatureStats
    """Of the training data."""
    unsure_below: float = 0.0

    def logits(self, x: F32, site: FeatureStats | None = None) -> F32:
        """x [n, k] -> [n, classes]."""
        stats = site or self.usual
        return np.asarray((x - stats.mean) / stats.deviation @ self.weight.T + self.bias, np.float32)


def stats_of(x: F32) -> FeatureStats:
    return FeatureStats(x.mean(axis=0), x.std(axis=0) + 1e-3)


def standardised(x: F32, groups: npt.NDArray[np.str_]) -> F32:
    """x [n, k], each group of rows by its own mean and deviation."""
    found = np.empty_like(x)
    for group in np.unique(groups):
        stats = stats_of(x[groups == group])
        found[groups == group] = (x[groups == group] - stats.mean) / stats.deviation
    return found


def fit(examples: Examples, classes: Sequence[str]) -> Head:
    """Linear discriminant analysis with a shrunk covariance (Friedman 1989), all classes counting the same.

    Each row is learnt three times, standardised over all, by its corpus and band, and by its speaker: the head works
    with a site baseline and before there is one, and relies less on who speaks.
    """
    usual = stats_of(examples.x)
    line = np.char.add(examples.corpus, examples.band)
    copies = (standardised(examples.x, groups) for groups in (line, examples.speaker))
    z = np.concatenate(((examples.x - usual.mean) / usual.deviation, *copies))
    label = np.tile(examples.label, 3)
    means, within = [], np.zeros((z.shape[1], z.shape[1]), np.float32)
    for name in classes:
        own = z[label == name]
        means.append(own.mean(axis=0))
        centred = own - means[-1]
        within += centred.T @ centred / (len(centred) * len(classes))
    centres = np.stack(means)
    spread = np.trace(within) / len(within)
    within *= 1 - SHRINKAGE
    within[np.diag_indices_from(within)] += SHRINKAGE * spread
    weight = scipy.linalg.solve(within, centres.T, assume_a="pos", overwrite_a=True).T
    bias = -0.5 * np.einsum("ck,ck->c", weight, centres)
    return Head(tuple(classes), weight.astype(np.float32), bias.astype(np.float32), usual)


def folds(examples: Examples) -> list[Split]:
    """Each speaker tested in turn, or groups of speakers where there are more than MAX_FOLDS."""
    speakers = np.unique(examples.speaker)
    if len(speakers) < 2:
        raise InvalidInputError(
            f"expected clips of at least 2 speakers, to test on unheard ones; found {len(speakers)}"
        )
    groups = np.array_split(speakers, min(len(speakers), MAX_FOLDS))
    return [(~held, held) for held in (np.isin(examples.speaker, group) for group in groups)]


def far_folds(examples: Examples) -> list[Split]:
    """Everything tested by heads that heard what is least like it: what calibration must survive.

    Each corpus by the others; in a single corpus, the halves of its speakers along the first principal component of
    their means, by the other half saying other sentences (where it is known what was said).
    """
    corpora = np.unique(examples.corpus)
    if len(corpora) > 1:
        return [(examples.corpus != corpus, examples.corpus == corpus) for corpus in corpora]
    speakers = np.unique(examples.speaker)
    means = np.stack([examples.x[examples.speaker == speaker].mean(axis=0) for speaker in speakers])
    _, _, axes = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    far = np.argsort(means @ axes[0], kind="stable")[: len(speakers) // 2]
    one = np.isin(examples.speaker, speakers[far])
    texts = np.unique(examples.text)
    if len(texts) < 2:
        return [(~one, one), (one, ~one)]
    some = np.isin(examples.text, texts[::2])
    return [(~(voices | words), voices & words) for voices in (one, ~one) for words in (some, ~some)]


def held_out_logits(examples: Examples, classes: Sequence[str], splits: Sequence[Split]) -> F32:
    """[n, classes] by heads that did not see the row; -inf for classes that their training data lacks."""
    found = np.full((len(examples.x), len(classes)), -np.inf, np.float32)
    for learnt, tested in splits:
        present = np.unique(examples.label[learnt]).tolist()
        columns = np.array([classes.index(name) for name in present])
        found[np.ix_(np.flatnonzero(tested), columns)] = fit(examples[learnt], present).logits(examples.x[tested])
    return found


def fit_temperature(logits: F32, target: npt.NDArray[np.int64]) -> float:
    """What the logits are to be divided by (Guo et al. 2017); rows whose class could not be known are left out."""
    rows = np.isfinite(logits[np.arange(len(target)), target])
    scores, wanted = logits[rows].astype(np.float64), target[rows]
    weight = 1 / np.bincount(wanted, minlength=logits.shape[1])[wanted]

    def loss(log_temperature: float) -> float:
        belief = log_softmax(scores / np.exp(log_temperature), axis=1)
        return float(-np.average(belief[np.arange(len(wanted)), wanted], weights=weight))

    return float(np.exp(minimize_scalar(loss, bounds=(-2, 4), method="bounded").x))


def least_confidence(probabilities: F32, target: npt.NDArray[np.int64]) -> float:
    """The threshold with the most answers at LESS_RISK (risk and coverage, El-Yaniv & Wiener 2010)."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(-confidence, kind="stable")
    wrong = probabilities.argmax(axis=1)[order] != target[order]
    risk = np.cumsum(wrong) / np.arange(1, len(order) + 1)
    low = np.flatnonzero(risk <= LESS_RISK * risk[-1])
    return float(confidence[order[low[-1]]]) if len(low) else 0.0


def train(examples: Examples, *, own_calls: bool) -> tuple[Head, Examples, F32]:
    """(head, the examples it learnt from, probabilities [n, classes] by heads that had not heard the row's speaker).

    own_calls: it will be used on calls like these, so its calibration comes from held-out speakers; otherwise from
    `far_folds`. Raises InvalidInputError for fewer than two classes or speakers.
    """
    clips = {name: len(np.unique(examples.clip[examples.label == name])) for name in np.unique(examples.label).tolist()}
    classes = [name for name, count in clips.items() if count >= MIN_CLIPS]
    if len(classes) < 2:
        raise InvalidInputError(f"expected at least 2 classes with {MIN_CLIPS} clips each, found {clips}")
    examples = examples[np.isin(examples.label, classes)]
    target = np.searchsorted(classes, examples.label)
    logits = held_out_logits(examples, classes, folds(examples))
    hard = logits if own_calls else held_out_logits(examples, classes, far_folds(examples))
    temperature = fit_temperature(hard, target)
    head = fit(examples, classes)
    head = replace(
        head,
        weight=head.weight / np.float32(temperature),
        bias=head.bias / np.float32(temperature),
        unsure_below=least_confidence(softmax(hard / temperature, axis=1), target),
    )
    return head, examples, softmax(logits / temperature, axis=1)


def recall(label: npt.NDArray[Any], guess: npt.NDArray[Any]) -> dict[str, float]:
    """Class -> share of it that was found."""
    return {str(name): float((guess[label == name] == name).mean()) for name in np.unique(label)}


def uar(label: npt.NDArray[Any], guess: npt.NDArray[Any]) -> float:
    """Unweighted average recall."""
    return float(np.mean(list(recall(label, guess).values())))


def calibration_error(right: npt.NDArray[np.bool_], confidence: F32) -> float:
    """Expected calibration error over 10 bins of equal width (Naeini et al. 2015)."""
    bins = np.minimum((confidence * 10).astype(int), 9)
    return float(
        sum(abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))
    )


def metrics(examples: Examples, classes: Sequence[str], probabilities: F32) -> list[dict[str, Any]]:
    """UAR with its 95 % interval (bootstrap over clips) and calibration error, per corpus, unit and band.

    Answers are taken among the classes that the corpus has.
    """
    rng, found = np.random.default_rng(SEED), []
    for corpus in np.unique(examples.corpus):
        own = examples.corpus == corpus
        columns = [i for i, name in enumerate(classes) if (examples.label[own] == name).any()]
        for unit, whole in (("clip", True), ("2 s window", False)):
            for band in ("wide", "telephone"):
                rows = own & (examples.whole == whole) & (examples.band == band)
                label, p = examples.label[rows], probabilities[rows][:, columns]
                guess, confidence = np.array(classes)[columns][p.argmax(axis=1)], p.max(axis=1) / p.sum(axis=1)
                drawn = [rng.integers(0, len(label), len(label)) for _ in range(1_000)]
                low, high = np.quantile([uar(label[d], guess[d]) for d in drawn], (0.025, 0.975))
                found.append(
                    {
                        "data": f"{corpus}, {len(columns)} classes, speakers held out",
                        "unit": unit,
                        "band": band,
                        "n": len(label),
                        "uar": round(uar(label, guess), 3),
                        "uar_95": [round(float(low), 3), round(float(high), 3)],
                        "ece": round(calibration_error(guess == label, confidence), 3),
                    }
                )
    return found


def save(path: Path, head: Head) -> None:
    """features, mean, deviation [k] -> probabilities [classes]; and what the head is, as constant outputs."""
    g = Graph("voice_head")
    x, mean, deviation = (g.input(name, (head.weight.shape[1],)) for name in ("features", "mean", "deviation"))
    standard = g.op("Unsqueeze", g.op("Div", g.op("Sub", x, mean), deviation), g.const([0]))
    logits = g.linear(standard, head.weight, head.bias)
    count, width = head.weight.shape
    g.output(g.op("Squeeze", g.op("Softmax", logits, axis=-1), g.const([0])), "probabilities", (count,))
    g.output(g.const(np.array(head.classes, np.object_)), "classes", (count,), TensorProto.STRING)
    g.output(g.const(head.usual.mean), "usual_mean", (width,))
    g.output(g.const(head.usual.deviation), "usual_deviation", (width,))
    g.output(g.const(np.array([head.unsure_below], np.float32)), "unsure_below", (1,))
    g.save(path)


def own_card(name: str, head: Head, examples: Examples, probabilities: F32) -> dict[str, Any]:
    """The card of a head trained on one's own calls."""
    mapping = {c: LABELS_OF_CLASS[c] for c in head.classes}
    produces = [label for label in LABELS if any(label in shares for shares in mapping.values())]
    counts = {c: len(np.unique(examples.clip[examples.label == c])) for c in head.classes}
    speakers = len(np.unique(examples.speaker))
    return {
        "name": name,
        "version": "1",
        "task": "voice_affect",
        "summary": "Voice head trained on own labelled calls by `affectline train voice`.",
        "licence": "your own",
        "source": ["`affectline train voice`; deterministic"],
        "data": [f"{', '.join(f'{n} {c}' for c, n in counts.items())}: labelled clips of {speakers} speakers"],
        "data_licence": ["your own; make sure that the speakers agreed to this use"],
        "metrics": metrics(examples, head.classes, probabilities),
        "intended_use": "One of several hints of how a caller sounds, on calls like those it learnt from.",
        "produces": produces,
        "never_produces": [label for label in LABELS if label not in produces],
        "mapping": mapping,
        "limits": ["Figures hold for calls like the training data; label new calls now and then, and test on them."],
    }


def encoded(
    folder: Path,
    cache: Path | None = None,
    *,
    limit: int | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Examples:
    """`encode` with the models of the store; kept in `cache` as NAME.npz and taken from there when present.

    Raises InvalidInputError, or ModelMissingError without the encoder and the speech gate.
    """
    kept = cache / f"{folder.resolve().name}.npz" if cache and not limit else None
    if kept and kept.is_file():
        return Examples.load(kept)
    specs, store = all_models(), Store(default_root())
    encoder, gate = (load_model(specs[name], store, Runtime()) for name in ("whisper-base-encoder", "silero"))
    found = encode(folder, encoder, gate, limit=limit, progress=progress)
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        found.save(kept)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="voice-open or voice-research")
    parser.add_argument("--data", type=Path, nargs="+", required=True)
    parser.add_argument("--features", type=Path, help="folder that keeps encoded clips")
    arguments = parser.parse_args()
    rooms = Path(__file__).parents[1]
    examples = joined([encoded(folder, arguments.features) for folder in arguments.data])
    head, examples, probabilities = train(examples, own_calls=False)
    save(rooms / "zoo" / f"{arguments.name.replace('-', '_')}.onnx", head)
    path = rooms / "cards" / f"{arguments.name}.yaml"
    card = yaml.safe_load(path.read_text())
    card["mapping"] = {name: LABELS_OF_CLASS[name] for name in head.classes}
    elsewhere = [row for row in card["metrics"] if "held out" not in row["data"]]
    card["metrics"] = metrics(examples, head.classes, probabilities) + elsewhere
    path.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=110))
    print(yaml.safe_dump(card["metrics"], sort_keys=False))  # noqa: T201  a script's result


if __name__ == "__main__":
    main()
