"""Whole recordings through Affectline and through what one would wire together instead, in one run.

    python -m benchmarks.peers [--data DIR] [--limit N] [--call FILE] [--repeats N] [--json FILE]

The wired stacks are faster-whisper, int8, on the weights that our recogniser was made from, each party by itself;
voice measures of every segment by Praat (pitch, intensity, jitter, shimmer, harmonicity) or pitch by librosa's pYIN;
and VADER on every segment's words. faster-whisper runs as it comes, at its fastest, and batched behind its own speech
filter. Every system sits warm in a process of its own with the same number of threads, and they take turns recording
by recording.

Speed is told on a two-party call, of the clock and of the processor, the best of the repeats. Quality is told on clips
whose words and feelings are known, by default of a corpus that no model of ours learnt from: word error rate, and mean
recall of negative, neutral and positive feeling (chance is 1/3; surprise is left out, it may be either). Faces are
compared in benchmarks.face.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import librosa
import numpy as np
import parselmouth
from parselmouth.praat import call as praat

from affectline.models.ports import RATE_HZ
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.training.voice import uar
from affectline.server.engine import DEFAULT_MODELS, Engine
from benchmarks import speed
from benchmarks.common import Clip, arguments, bootstrap, load_clips, pulled, read_sound, report, resampled
from benchmarks.peers_weights import whisper_folder
from benchmarks.speed import CALL, peak_mb, process
from benchmarks.text import OURS_NEUTRAL, POLARITIES, VADER_NEUTRAL
from benchmarks.transcript import reference_text, word_error_rate, word_errors

POLARITY: Final = {
    "neutral": "neutral", "calm": "neutral", "happiness": "positive", "anger": "negative", "disgust": "negative",
    "fear": "negative", "sadness": "negative",
}  # fmt: skip
"""Class of a clip -> what it is to be told as."""
PITCH_HZ: Final = (60.0, 500.0)
BATCH: Final = 8

Transcribe = Callable[[F32], list[tuple[float, float, str]]]
"""Sound at RATE_HZ -> (start and end in seconds, text) of its segments."""
Measure = Callable[[F32], Any]
"""Sound of a segment at RATE_HZ -> measures of the voice."""


@dataclass(frozen=True, slots=True)
class Found:
    texts: tuple[str, ...]
    """Of each party."""
    valence: float
    """Mean over what was said, in [-1, 1]."""


Analyze = Callable[[F32, int], Found]
"""(sound [parties, n], rate_hz) -> what was found."""

_loaded: dict[str, Analyze] = {}
"""In a worker: the system that it runs."""


def affectline(threads: int) -> Analyze:
    runtime = Runtime(threads=threads)
    for name in DEFAULT_MODELS.values():
        pulled(name, runtime)
    speed._loaded["engine"] = Engine(runtime=runtime)

    def analyze(sound: F32, rate_hz: int) -> Found:
        timeline = speed.analyze(sound, rate_hz, "en")
        texts = tuple(
            " ".join(u.text for u in timeline.utterances if u.participant == party.id)
            for party in timeline.participants
        )
        said = [m.affect.valence for m in timeline.moments if m.speech_ratio > 0 and m.affect.valence is not None]
        return Found(texts, float(np.mean(said)) if said else 0.0)

    return analyze


def wired(threads: int, transcriber: Callable[[Any], Transcribe], measure: Measure) -> Analyze:
    peer, vader = import_module("faster_whisper"), import_module("vaderSentiment.vaderSentiment")
    model = peer.WhisperModel(str(whisper_folder()), device="cpu", compute_type="int8", cpu_threads=threads)
    transcribe, sentiment = transcriber(model), vader.SentimentIntensityAnalyzer()

    def analyze(sound: F32, rate_hz: int) -> Found:
        texts, valences = [], []
        for party in sound:
            pcm = resampled(party, rate_hz)
            segments = transcribe(pcm)
            for start_s, end_s, text in segments:
                measure(pcm[int(start_s * RATE_HZ) : int(end_s * RATE_HZ)])
                valences.append(sentiment.polarity_scores(text)["compound"])
            texts.append(" ".join(text for _, _, text in segments))
        return Found(tuple(texts), float(np.mean(valences)) if valences else 0.0)

    return analyze


def plainly(model: Any, **options: Any) -> Transcribe:
    return lambda pcm: [(s.start, s.end, s.text) for s in model.transcribe(pcm, language="en", **options)[0]]


def batched(model: Any) -> Transcribe:
    pipeline: Any = import_module("faster_whisper").BatchedInferencePipeline(model=model)
    return partial(_batched, pipeline)


def _batched(pipeline: Any, pcm: F32) -> list[tuple[float, float, str]]:
    found, _ = pipeline.transcribe(pcm, language="en", batch_size=BATCH, without_timestamps=True, beam_size=1)
    return [(s.start, s.end, s.text) for s in found]


def praat_measures(pcm: F32) -> list[float]:
    """Of a segment, as Praat's manual takes them; a very short one has none."""
    if len(pcm) < 0.1 * RATE_HZ:
        return []
    low, high = PITCH_HZ
    sound = parselmouth.Sound(pcm.astype(np.float64), RATE_HZ)
    pitch = sound.to_pitch(pitch_floor=low, pitch_ceiling=high).selected_array["frequency"]
    loud = sound.to_intensity(minimum_pitch=low).values
    points = praat(sound, "To PointProcess (periodic, cc)", low, high)
    harmonicity = sound.to_harmonicity(minimum_pitch=low).values
    return [
        float(np.median(pitch[pitch > 0])) if (pitch > 0).any() else 0.0,
        float(loud.mean()),
        praat(points, "Get jitter (local)", 0, 0, 0.0001, 0.02, 1.3),
        praat([sound, points], "Get shimmer (local)", 0, 0, 0.0001, 0.02, 1.3, 1.6),
        float(harmonicity[harmonicity > -200].mean()) if (harmonicity > -200).any() else 0.0,
    ]


def pyin(pcm: F32) -> Any:
    low, high = PITCH_HZ
    return librosa.pyin(pcm, fmin=low, fmax=high, sr=RATE_HZ) if len(pcm) else None


OURS: Final = "affectline"
SYSTEMS: Final[dict[str, Callable[[int], Analyze]]] = {
    OURS: affectline,
    "faster-whisper as it comes, Praat, VADER": partial(wired, transcriber=plainly, measure=praat_measures),
    "faster-whisper beam 1, Praat, VADER": partial(
        wired, transcriber=partial(plainly, beam_size=1), measure=praat_measures
    ),
    "faster-whisper beam 1 with its speech filter, Praat, VADER": partial(
        wired, transcriber=partial(plainly, beam_size=1, vad_filter=True), measure=praat_measures
    ),
    "faster-whisper batched, Praat, VADER": partial(wired, transcriber=batched, measure=praat_measures),
    "faster-whisper beam 1, pYIN, VADER": partial(wired, transcriber=partial(plainly, beam_size=1), measure=pyin),
}


def load(system: str, threads: int) -> None:
    _loaded["analyze"] = SYSTEMS[system](threads)


def run(sound: F32, rate_hz: int) -> tuple[float, float, Found]:
    """Seconds of the clock, of the processor, and what was found."""
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    found = _loaded["analyze"](sound, rate_hz)
    return time.perf_counter() - start_s, time.process_time() - start_cpu_s, found


def polarity(valence: float, neutral: float) -> str:
    return "neutral" if abs(valence) < neutral else "positive" if valence > 0 else "negative"


def quality(found: Sequence[Found], clips: Sequence[Clip], neutral: float) -> dict[str, Any]:
    """Word error rate and recall of polarity, with intervals over speakers."""
    speakers = [clip.speaker for clip in clips]
    errors = np.array(
        [word_errors(reference_text(clip) or "", " ".join(each.texts)) for clip, each in zip(clips, found, strict=True)]
    )
    low, high = bootstrap(word_error_rate, errors, speakers)
    known = [i for i, clip in enumerate(clips) if clip.label in POLARITY]
    pairs = np.array(
        [
            (POLARITIES.index(POLARITY[clips[i].label]), POLARITIES.index(polarity(found[i].valence, neutral)))
            for i in known
        ]
    )

    def recall(rows: Any) -> float:
        return float(uar(rows[:, 0], rows[:, 1]))

    recall_low, recall_high = bootstrap(recall, pairs, [speakers[i] for i in known])
    return {
        "wer": round(word_error_rate(errors), 4),
        "wer_95": [round(low, 4), round(high, 4)],
        "polarity_recall": round(recall(pairs), 4),
        "polarity_recall_95": [round(recall_low, 4), round(recall_high, 4)],
    }


def main() -> None:
    parser: argparse.ArgumentParser = arguments("Whole recordings beside a stack wired from other packages.")
    parser.add_argument("--call", type=Path, default=CALL, metavar="FILE", help="two-party; %(default)s when absent")
    parser.add_argument("--threads", type=int, default=2, metavar="T", help="of each system; %(default)s when absent")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="of the call; %(default)s when absent")
    args = parser.parse_args()
    clips = [clip for clip in load_clips(args.data, args.limit) if reference_text(clip)]
    if not clips:
        raise SystemExit(f"{args.data}: expected a column transcript, text or statement; found none filled in")
    absent = {} if find_spec("faster_whisper") else {"faster-whisper": "pip install 'affectline[bench]'"}
    systems = [system for system in SYSTEMS if system == OURS or not absent]
    sounds = []
    for clip in clips:
        sound, rate_hz = read_sound(clip.path)
        sounds.append((np.asarray(sound.mean(axis=0, keepdims=True), np.float32), rate_hz))
    call, call_hz = read_sound(args.call)
    call_s, clips_s = call.shape[1] / call_hz, sum(sound.shape[1] / rate_hz for sound, rate_hz in sounds)
    workers = {system: process(args.threads) for system in systems}
    for system, worker in workers.items():
        worker.submit(load, system, args.threads).result()
        worker.submit(run, *sounds[0]).result()  # warms it up
    took: dict[str, list[tuple[float, float]]] = {system: [] for system in systems}
    for _ in range(args.repeats):
        for system, worker in workers.items():
            took[system].append(worker.submit(run, call, call_hz).result()[:2])
    on_clips: dict[str, list[tuple[float, float, Found]]] = {system: [] for system in systems}
    for sound, rate_hz in sounds:
        for system, worker in workers.items():
            on_clips[system].append(worker.submit(run, sound, rate_hz).result())
    rows = []
    for system, worker in workers.items():
        wall_s, cpu_s = np.min(took[system], axis=0)
        rows.append(
            {
                "system": system,
                "call_rtf": round(float(wall_s) / call_s, 4),
                "call_cpu_rtf": round(float(cpu_s) / call_s, 4),
                "clips_cpu_rtf": round(sum(cpu for _, cpu, _ in on_clips[system]) / clips_s, 4),
                **quality(
                    [found for _, _, found in on_clips[system]],
                    clips,
                    OURS_NEUTRAL if system == OURS else VADER_NEUTRAL,
                ),
                "peak_mb": round(worker.submit(peak_mb).result()),
            }
        )
        worker.shutdown()
        print(rows[-1], flush=True)
    results = {
        "data": {
            "name": args.data.name,
            "clips": len(clips),
            "speakers": len({clip.speaker for clip in clips}),
            "clips_s": round(clips_s, 1),
            "call": args.call.name,
            "call_s": round(call_s, 1),
            "parties": len(call),
            "repeats": args.repeats,
        },
        "threads": args.threads,
        "absent": absent,
        "results": rows,
    }
    best = min(rows[1:], key=lambda row: float(row["call_cpu_rtf"]), default=None)
    headline = {
        "cpu_rtf": rows[0]["call_cpu_rtf"],
        "cpu_rtf_wired": best["call_cpu_rtf"] if best else "absent",
        "wer": rows[0]["wer"],
        "wer_wired": min((row["wer"] for row in rows[1:]), default="absent"),
        "polarity_recall": rows[0]["polarity_recall"],
        "polarity_recall_wired": max((row["polarity_recall"] for row in rows[1:]), default="absent"),
    }
    report("peers", results, headline, args.json)


if __name__ == "__main__":
    main()
