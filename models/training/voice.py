"""Trains the first voice head: logistic regression on pooled early encoder layers, calibrated, as ONNX with a card.

    python -m affectline.models.training.voice --data DIR --out models/zoo

`--data` holds labels.csv (path,label,speaker) and the clips, as EmoDB is laid out. Every clip is used wide band and
as 8 kHz mu-law. Figures come from leave-one-speaker-out folds; the committed head is then fitted on all speakers.
"""

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, recall_score

from affectline.models.convert.graph import Graph
from affectline.models.ports import RATE_HZ, AcousticEncoder
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.store import Store, default_root
from affectline.models.zoo.voice_first import CLASSES, LAYER

WINDOW_FRAMES = 100
HOP_FRAMES = 50
SEED = 7
INVERSE_REGULARISATION = 0.01


@dataclass(frozen=True)
class Examples:
    """Pooled windows. x [n, features], y class index [n], speaker [n], whole: one row per clip, not a window of it."""

    x: F32
    y: npt.NDArray[np.int64]
    speaker: npt.NDArray[np.str_]
    whole: npt.NDArray[np.bool_]
    telephone: npt.NDArray[np.bool_]


def pool(frames: F32) -> F32:
    """Mean and standard deviation over time, [frames, width] -> [2 * width]."""
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])


def telephone(pcm: F32) -> F32:
    """Through an 8 kHz mu-law line and back."""
    import av

    narrow = soxr.resample(pcm, RATE_HZ, 8000)
    codec = av.CodecContext.create("pcm_mulaw", "w")
    codec.sample_rate, codec.format, codec.layout = 8000, "s16", "mono"
    frame = av.AudioFrame.from_ndarray((np.clip(narrow, -1, 1) * 32767).astype(np.int16)[None], "s16", "mono")
    frame.sample_rate = 8000
    coded = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    decoder = av.CodecContext.create("pcm_mulaw", "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    decoded = np.concatenate([f.to_ndarray().ravel() for f in decoder.decode(av.Packet(coded))])
    return np.asarray(soxr.resample(decoded.astype(np.float32) / 32768, 8000, RATE_HZ), np.float32)


def load(data: Path, encoder: AcousticEncoder) -> Examples:
    rows: list[tuple[F32, int, str, bool, bool]] = []
    with (data / "labels.csv").open(newline="") as file:
        clips = [row for row in csv.DictReader(file) if row["label"] in CLASSES]
    for number, clip in enumerate(clips):
        pcm, rate = soundfile.read(data / clip["path"], dtype="float32")
        if rate != RATE_HZ:
            raise SystemExit(f"{clip['path']}: expected {RATE_HZ} Hz, found {rate} Hz")
        for is_telephone in (False, True):
            encoding = encoder.encode((telephone(pcm) if is_telephone else pcm)[: encoder.window_samples])
            frames = encoding.layers[LAYER][: encoding.input_frames]
            starts = range(0, max(1, encoding.input_frames - WINDOW_FRAMES + 1), HOP_FRAMES)
            target = (CLASSES.index(clip["label"]), clip["speaker"])
            rows.append((pool(frames), *target, True, is_telephone))
            rows += [(pool(frames[s : s + WINDOW_FRAMES]), *target, False, is_telephone) for s in starts]
        if number % 100 == 99:
            print(f"encoded {number + 1} of {len(clips)} clips", flush=True)  # noqa: T201  a script's progress
    x, y, speaker, whole, narrow = zip(*rows, strict=True)
    return Examples(np.stack(x), np.array(y), np.array(speaker), np.array(whole), np.array(narrow))


def fit(x: F32, y: npt.NDArray[np.int64]) -> tuple[F32, F32, LogisticRegression]:
    """(mean, deviation, classifier on the standardised features)."""
    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
    classifier = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=2000, class_weight="balanced", random_state=SEED)
    return mean, deviation, classifier.fit((x - mean) / deviation, y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for voice_first.onnx")
    parser.add_argument("--card", type=Path, default=Path("models/cards/voice-first.yaml"))
    arguments = parser.parse_args()

    spec = all_models()["whisper-base-encoder"]
    encoder: AcousticEncoder = load_model(spec, Store(default_root()), Runtime())
    examples = load(arguments.data, encoder)

    logits = np.zeros((len(examples.y), len(CLASSES)))
    for speaker in np.unique(examples.speaker):
        held = examples.speaker == speaker
        mean, deviation, classifier = fit(examples.x[~held], examples.y[~held])
        logits[held] = classifier.decision_function((examples.x[held] - mean) / deviation)
    temperature = min(np.arange(0.5, 3.01, 0.05), key=lambda t: log_loss(examples.y, _softmax(logits / t)))
    metrics = _metrics(examples, _softmax(logits / temperature))

    mean, deviation, classifier = fit(examples.x, examples.y)
    save(arguments.out / "voice_first.onnx", mean, deviation, classifier, float(temperature))
    card = yaml.safe_load(arguments.card.read_text())
    card["metrics"] = metrics
    arguments.card.write_text(yaml.safe_dump(card, sort_keys=False, allow_unicode=True, width=110))
    print(yaml.safe_dump(metrics, sort_keys=False))  # noqa: T201  a script's result


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=1, keepdims=True))


def _metrics(examples: Examples, probabilities: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
    """UAR with a 95 % bootstrap interval over clips, and expected calibration error in 10 bins."""
    rng = np.random.default_rng(SEED)
    found = []
    for unit, whole in (("clip", True), ("2 s window", False)):
        for band, narrow in (("wide", False), ("8 kHz mu-law", True)):
            rows = np.flatnonzero((examples.whole == whole) & (examples.telephone == narrow))
            y, p = examples.y[rows], probabilities[rows]
            guess = p.argmax(axis=1)
            draws = [rng.integers(0, len(y), len(y)) for _ in range(500)]
            recalls = [recall_score(y[d], guess[d], average="macro", zero_division=0) for d in draws]
            bins = np.minimum((p.max(axis=1) * 10).astype(int), 9)
            gaps = [abs((guess == y)[bins == b].mean() - p.max(axis=1)[bins == b].mean()) * (bins == b).mean()
                    for b in range(10) if (bins == b).any()]  # fmt: skip
            found.append(
                {
                    "data": "EmoDB, leave one speaker out, 7 classes",
                    "unit": unit,
                    "band": band,
                    "n": len(y),
                    "uar": round(float(recall_score(y, guess, average="macro")), 3),
                    "uar_95": [round(float(v), 3) for v in np.percentile(recalls, (2.5, 97.5))],
                    "ece": round(float(sum(gaps)), 3),
                }
            )
    return found


def save(path: Path, mean: F32, deviation: F32, classifier: LogisticRegression, temperature: float) -> None:
    """frames [n, width] of LAYER -> probabilities [classes]."""
    g = Graph("voice_first")
    x = g.input("frames", ("frames", len(mean) // 2))
    average = g.op("ReduceMean", x, g.const([0]), keepdims=0)
    centred = g.op("Sub", x, average)
    variance = g.op("ReduceMean", g.op("Mul", centred, centred), g.const([0]), keepdims=0)
    pooled = g.op("Unsqueeze", g.op("Concat", average, g.op("Sqrt", variance), axis=0), g.const([0]))
    standard = g.op("Div", g.op("Sub", pooled, g.const(mean)), g.const(deviation))
    logits = g.linear(standard, classifier.coef_ / temperature, classifier.intercept_ / temperature)
    g.output(g.op("Squeeze", g.op("Softmax", logits, axis=-1), g.const([0])), "probabilities", (len(CLASSES),))
    g.save(path)


if __name__ == "__main__":
    main()
