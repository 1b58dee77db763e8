"""Vocal features and stress: what they cost, how far their pitch is from Praat's, and what the score separates.

    python -m benchmarks.vocal --data EMODB [--evaluate DIR …] [--json FILE]

--data is the corpus that the score's weights come from: they are fitted again, leave one speaker out. The shipped
weights are then applied to each --evaluate corpus, which nothing is fitted on.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import parselmouth
import scipy.signal
import soundfile
from parselmouth.praat import call
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from affectline.models.ports import RATE_HZ, SpeechGate
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, VocalFeatures
from affectline.pipelines.g711 import decode_mulaw, encode_mulaw
from affectline.pipelines.vocal import SpeakerBaseline, VocalStream, stress, vocal_features
from affectline.pipelines.vocal.analysis import (
    F0_MAX_HZ,
    F0_MIN_HZ,
    HOP,
    MARGIN,
    best_path,
    candidates,
    levels_db,
    likeness,
    perturbation,
    spectral_shape,
)
from affectline.pipelines.vocal.baseline import POPULATION, comparable, deviations_from
from benchmarks.common import SEED, Clip, arguments, load_clips, pulled, report, resampled

F64 = npt.NDArray[np.float64]

HIGH = {"anger", "fear", "happiness", "surprise"}
LOW = {"neutral", "calm", "boredom", "sadness"}
"""Other classes (disgust) are neither."""
CALM = {"neutral", "calm"}
FITTED = ("f0_median_hz", "rate_syllables_s", "hnr_db", "alpha_ratio_db", "hammarberg_db", "spectral_slope_db_khz")
REGULARISATION = 0.003
MAX_DEVIATION = 3.0
BASELINE_CLIPS = 4
DRAWS = 3
"""Baselines drawn per speaker."""
PITCH_CLIPS = 30
YIN_SAMPLES = 1_024
"""librosa's usual 2,048 (128 ms) blurs moving pitch: its median error is ten times ours."""
CHUNK_SAMPLES = 512
GROSS = 0.2
"""A pitch further off than this share is a gross error (Rabiner et al. 1976)."""


@dataclass(frozen=True, slots=True)
class Measured:
    clip: Clip
    band: str
    features: VocalFeatures


def telephone(pcm: F32) -> F32:
    """300 to 3,400 Hz, 8 kHz, µ-law, and back."""
    band = scipy.signal.butter(4, (300, 3_400), "bandpass", fs=RATE_HZ, output="sos")
    narrow = resampled(scipy.signal.sosfilt(band, pcm).astype(np.float32), RATE_HZ, 8_000)
    return resampled(decode_mulaw(encode_mulaw(np.clip(narrow, -1, 1))), 8_000)


BANDS: dict[str, Callable[[F32], F32]] = {"wide": lambda pcm: pcm, "telephone": telephone}


def sound(clip: Clip) -> F32:
    pcm, rate_hz = soundfile.read(clip.path, dtype="float32", always_2d=True)
    return resampled(pcm.mean(axis=1), rate_hz)


# Cost and pitch ----------------------------------------------------------------------------------------


def own_pitch(pcm: F32) -> F64:
    """[frames] F0 in Hz, 0 = unvoiced; the frames' centres lie HOP apart from sample 0 on."""
    frames = np.arange(len(pcm) // HOP)
    found = candidates(np.pad(pcm, MARGIN), frames, float(np.abs(pcm).max()))
    path = best_path(found, None)
    return np.where(path > 0, RATE_HZ / found.lag[frames, path], 0)


def yin(pcm: F32) -> F64:
    f0 = librosa.yin(pcm, fmin=F0_MIN_HZ, fmax=F0_MAX_HZ, sr=RATE_HZ, frame_length=YIN_SAMPLES, hop_length=HOP)
    return np.asarray(f0[: len(pcm) // HOP], np.float64)


def pyin(pcm: F32) -> F64:
    f0, _, _ = librosa.pyin(
        pcm, fmin=F0_MIN_HZ, fmax=F0_MAX_HZ, sr=RATE_HZ, frame_length=YIN_SAMPLES, hop_length=HOP, fill_na=0.0
    )
    return np.asarray(f0[: len(pcm) // HOP], np.float64)


def praat(pcm: F32) -> F64:
    sound_ = parselmouth.Sound(pcm.astype(np.float64), RATE_HZ)
    pitch = call(sound_, "To Pitch (ac)", HOP / RATE_HZ, F0_MIN_HZ, 15, False, 0.03, 0.45, 0.01, 0.35, 0.14, F0_MAX_HZ)
    at = np.rint((np.arange(len(pcm) // HOP) * HOP / RATE_HZ - pitch.x1) / pitch.dx).astype(int)
    inside = (at >= 0) & (at < pitch.nx)
    f0 = pitch.selected_array["frequency"]
    return np.where(inside, f0[np.clip(at, 0, pitch.nx - 1)], 0)


def streamed(pcm: F32) -> VocalFeatures:
    """As a live call: in pieces of 32 ms."""
    stream = VocalStream()
    for start in range(0, len(pcm), CHUNK_SAMPLES):
        stream.feed(pcm[start : start + CHUNK_SAMPLES], True)
    stream.finish()
    return stream.features()


def cost(work: Callable[[F32], Any], sounds: Sequence[F32]) -> float:
    """Processor time of all threads as a share of real time: the median of three rounds after one to warm up."""
    rounds = []
    for _ in range(4):
        start = time.process_time()
        for pcm in sounds:
            work(pcm)
        rounds.append(time.process_time() - start)
    return float(np.median(rounds[1:])) * RATE_HZ / sum(map(len, sounds))


def costs(sounds: Sequence[F32]) -> dict[str, float]:
    """Feature group -> share of real time."""
    pitches = {id(pcm): own_pitch(pcm) for pcm in sounds}
    powers = {id(pcm): candidates(np.pad(pcm, MARGIN), np.arange(len(pcm) // HOP), 1.0).power for pcm in sounds}

    def voiced_shape(pcm: F32) -> F64:
        return spectral_shape(powers[id(pcm)][pitches[id(pcm)] > 0])

    works: dict[str, Callable[[F32], Any]] = {
        "pitch, voicing, HNR and spectrum": own_pitch,
        "jitter and shimmer": lambda pcm: perturbation(np.pad(pcm, MARGIN), pitches[id(pcm)], 1),
        "alpha ratio, Hammarberg index, tilt": voiced_shape,
        "intensity contour for syllables": lambda pcm: levels_db(np.pad(pcm, MARGIN), len(pcm) // HOP),
        "steady tones": lambda pcm: likeness(powers[id(pcm)], np.arange(len(pcm) // HOP), 5),
        "all features, in one piece": vocal_features,
        "all features, streamed in 32 ms pieces": streamed,
    }
    return {name: round(cost(work, sounds), 6) for name, work in works.items()}


def pitch_errors(method: Callable[[F32], F64], sounds: Sequence[F32], references: Sequence[F64]) -> dict[str, float]:
    """Against Praat: error where both are voiced, gross errors, frames voiced by one only, cost."""
    pairs = [(method(pcm), reference) for pcm, reference in zip(sounds, references, strict=True)]
    found, expected = (np.concatenate(each) for each in zip(*pairs, strict=True))
    both = (found > 0) & (expected > 0)
    ratio = found[both] / expected[both]
    gross = np.abs(ratio - 1) > GROSS
    return {
        "median_cents": round(float(np.median(np.abs(1_200 * np.log2(ratio)))), 3),
        "fine_rms_cents": round(float(np.sqrt(np.mean(np.square(1_200 * np.log2(ratio[~gross]))))), 2),
        "gross_error": round(float(gross.mean()), 4),
        "voicing_error": round(float(((found > 0) != (expected > 0)).mean()), 4),
        "real_time": round(cost(method, sounds), 6),
    }


# Stress ------------------------------------------------------------------------------------------------


def measure(clips: Iterable[Clip], gate: SpeechGate) -> list[Measured]:
    """Features of each clip's speech, per band."""
    found = []
    for clip in clips:
        pcm = sound(clip)
        for band, through in BANDS.items():
            heard = through(pcm)
            whole = np.pad(heard, (0, -len(heard) % gate.frame_samples))
            found.append(Measured(clip, band, vocal_features(heard, gate.open().feed(whole) >= 0.35)))
    return found


@dataclass(frozen=True, slots=True)
class Scored:
    deviations: dict[str, float]
    high: bool
    speaker: str
    label: str

    @property
    def row(self) -> list[float]:
        return [float(np.clip(self.deviations.get(name, 0), -MAX_DEVIATION, MAX_DEVIATION)) for name in FITTED]


def scored(clips: Sequence[Measured], band: str, start: Set[str]) -> list[Scored]:
    """Deviations of each speaker's other clips after a call that started with clips of the classes `start`; without
    any, from the population alone."""
    rng = np.random.default_rng(SEED)
    usable = SpeakerBaseline()
    found = []
    for speaker in sorted({m.clip.speaker for m in clips}):
        own = [m for m in clips if (m.clip.speaker, m.band) == (speaker, band) and usable.fits(m.features)]
        first = [i for i, m in enumerate(own) if m.clip.label in start]
        for _ in range(DRAWS if start else 1):
            baseline = SpeakerBaseline()
            learnt = set(rng.permutation(first)[: min(BASELINE_CLIPS, len(first) - 1)].tolist())
            for i in learnt:
                baseline.learn(own[i].features, 3_000_000)
            for i, m in enumerate(own):
                if i in learnt or m.clip.label not in HIGH | LOW or (start and not baseline.ready):
                    continue
                deviations = baseline.deviations(m.features) if start else deviations_from(m.features)
                found.append(Scored(deviations, m.clip.label in HIGH, speaker, m.clip.label))
    return found


def separated(items: Sequence[Scored], scores: Sequence[float]) -> dict[str, Any]:
    """Mean over speakers of the area under the ROC curve, the lowest of them, and the calibration error of scores in
    [0, 1] as probabilities of high arousal (10 equal bins)."""
    high, level, speakers = np.array([i.high for i in items]), np.array(scores), np.array([i.speaker for i in items])
    by_speaker = [
        float(roc_auc_score(high[own], level[own]))
        for own in (speakers == speaker for speaker in sorted(set(speakers)))
        if len(set(high[own])) == 2
    ]
    bins = np.minimum((10 * level).astype(int), 9)
    gaps = [abs(level[bins == b].sum() - high[bins == b].sum()) for b in range(10)]
    return {
        "n": len(items),
        "speakers": len(by_speaker),
        "auc": round(float(np.mean(by_speaker)), 3),
        "auc_lowest_speaker": round(min(by_speaker), 3),
        "ece": round(float(sum(gaps)) / len(items), 3),
    }


def population(clips: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """Feature -> what POPULATION states of it: speakers' medians over neutral clips, their mean and 1.5 times their
    standard deviation over speakers and bands, and the mean standard deviation within one."""
    calm = [m for m in clips if m.clip.label in CALM and SpeakerBaseline().fits(m.features)]
    groups: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for m in calm:
        for name, value in comparable(m.features).items():
            groups[m.clip.speaker, m.band][name].append(value)
    found = {}
    for name in POPULATION:
        medians = [np.median(group[name]) for group in groups.values()]
        within = [np.var(group[name], ddof=1) for group in groups.values() if len(group[name]) > 3]
        values = (np.mean(medians), 1.5 * np.std(medians), np.sqrt(np.mean(within)))
        found[name] = dict(zip(("centre", "between", "within"), (float(f"{v:.3g}") for v in values), strict=True))
    return found


def fitted(items: Sequence[Scored]) -> LogisticRegression:
    model = LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=1_000)
    return model.fit([item.row for item in items], [item.high for item in items])


def left_out(items: Sequence[Scored]) -> list[float]:
    """Scores by weights fitted on all other speakers."""
    scores = np.zeros(len(items))
    speakers = np.array([item.speaker for item in items])
    for speaker in sorted(set(speakers)):
        model = fitted([item for item in items if item.speaker != speaker])
        own = np.flatnonzero(speakers == speaker).tolist()
        scores[own] = model.predict_proba([items[i].row for i in own])[:, 1]
    return scores.tolist()


def separation(clips: Sequence[Measured]) -> dict[str, Any]:
    """What the shipped score separates, per band and per way the call starts."""
    starts = {"calm start": CALM, "angry start": {"anger"}, "population alone": set[str]()}
    found: dict[str, Any] = {}
    for band in BANDS:
        for name, start in starts.items():
            items = scored(clips, band, start)
            if items:
                scores = [stress(item.deviations) for item in items]
                medians = {
                    label: round(
                        float(np.median([s for i, s in zip(items, scores, strict=True) if i.label == label])), 2
                    )
                    for label in sorted({item.label for item in items})
                }
                found[f"{band}, {name}"] = separated(items, scores) | {"median_stress": medians}
    return found


def main() -> None:
    parser = arguments("Cost, pitch error against Praat, and arousal AUC of the vocal features and the stress score.")
    parser.add_argument("--evaluate", type=Path, nargs="*", default=[], metavar="DIR", help="corpora never fitted on")
    args = parser.parse_args()
    gate = pulled("silero", Runtime())
    clips = load_clips(args.data, args.limit)
    some = [clips[i] for i in np.random.default_rng(SEED).permutation(len(clips))[:PITCH_CLIPS]]
    sounds = [sound(clip) for clip in some]
    cost_of = costs(sounds)
    print(cost_of, flush=True)
    pitch = {}
    for band, through in BANDS.items():
        heard = [through(pcm) for pcm in sounds]
        references = [praat(pcm) for pcm in heard]
        for name, method in {"own autocorrelation": own_pitch, "librosa.yin": yin, "librosa.pyin": pyin}.items():
            pitch[f"{band}, {name}"] = pitch_errors(method, heard, references)
            print(band, name, pitch[f"{band}, {name}"], flush=True)
    measured = {args.data.name: measure(clips, gate)}
    measured |= {folder.name: measure(load_clips(folder, args.limit), gate) for folder in args.evaluate}
    training = measured[args.data.name]
    folds = {band: scored(training, band, CALM) for band in BANDS}
    model = fitted([item for items in folds.values() for item in items])
    results: dict[str, Any] = {
        "data": {name: len(found) // len(BANDS) for name, found in measured.items()},
        "pitch_clips": len(some),
        "real_time": cost_of,
        "pitch_against_praat": pitch,
        "population": population(training),
        "fit": {
            "weights": dict(zip(FITTED, model.coef_[0].round(3).tolist(), strict=True)),
            "intercept": round(float(model.intercept_[0]), 3),
            "leave_one_speaker_out": {b: separated(items, left_out(items)) for b, items in folds.items()},
        },
        "stress": {name: separation(found) for name, found in measured.items()},
    }
    for name in ("population", "fit", "stress"):
        print(results[name], flush=True)
    headline = {
        "real_time": cost_of["all features, streamed in 32 ms pieces"],
        "pitch_median_cents": pitch["telephone, own autocorrelation"]["median_cents"],
        "auc_left_out": results["fit"]["leave_one_speaker_out"]["telephone"]["auc"],
    }
    report("vocal", results, headline, args.json)


if __name__ == "__main__":
    main()
