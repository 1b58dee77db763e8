"""Real-time factor of every stage and of the whole, one thread and two, beside faster-whisper in the same run.

    python -m benchmarks.speed [--data DIR] [--json FILE] [--limit N]

Each system sits warm in a process of its own with the same number of threads; they take turns clip by clip, so that
whatever else the machine does meets all of them. Figures are medians over the repeats, summed over the clips.
"""

import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import csr_array

from affectline.models.convert.mel import mel_filters
from affectline.models.ports import RATE_HZ
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, AudioChunk, Span
from affectline.models.zoo import whisper
from affectline.pipelines.fusion import fuse
from affectline.pipelines.policy import PolicyEngine
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline, Moment, Participant, SpeechTurn, Utterance
from affectline.pipelines.vocal import vocal_features
from affectline.pipelines.voice import voice_estimates
from affectline.server.engine import DEFAULT_MODELS, Engine
from benchmarks import transcript
from benchmarks.common import arguments, load_clips, pulled, read_sound, report, resampled
from benchmarks.transcript import Read, reference_text, word_error_rate, word_errors

CALL = Path(__file__).parents[1] / "examples" / "dealership_call.flac"
MAX_CLIP_S = 10
CLIPS = 24
REPEATS = 3
THREADS = (1, 2)
FASTER_WHISPER: dict[str, dict[str, Any]] = {
    "faster-whisper int8, beam 1": {"beam_size": 1},
    "faster-whisper int8, beam 1, no timestamps": {"beam_size": 1, "without_timestamps": True},
    "faster-whisper int8, beam 5": {},
}
OURS = "affectline int8"

T = TypeVar("T")
_loaded: dict[str, Any] = {}
"""In a worker: what it has loaded."""


def timed(work: Callable[[], T]) -> tuple[float, T]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def process(threads: int) -> ProcessPoolExecutor:
    """One fresh process whose numerical libraries use this many threads."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))


def load_reader(system: str, threads: int) -> float:
    """Seconds until the recogniser was ready."""
    seconds, _loaded["read"] = timed(
        partial(transcript.affectline, threads=threads)
        if system == OURS
        else partial(transcript.faster_whisper, threads, **FASTER_WHISPER[system])
    )
    return seconds


def read(pcm: F32, language: str) -> tuple[float, str]:
    reader: Read = _loaded["read"]
    return timed(lambda: reader(pcm, language))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def load_pipeline(threads: int) -> float:
    runtime = Runtime(threads=threads)
    for name in DEFAULT_MODELS.values():
        pulled(name, runtime)
    seconds, _loaded["engine"] = timed(lambda: Engine(runtime=runtime))
    return seconds


def analyze(sound: F32, rate_hz: int, language: str | None) -> CallTimeline:
    """The whole pipeline, a party per channel."""
    both = (Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))
    parties = both[: len(sound)]
    engine: Engine = _loaded["engine"]
    session = engine.open(CallConfig("benchmark", parties, rate_hz, language))
    for start in range(0, sound.shape[1], rate_hz):
        for channel in range(len(parties)):
            session.push(AudioChunk(channel, sound[channel, start : start + rate_hz], rate_hz, start))
    session.finish()
    return session.timeline()


def stages(path: Path, language: str | None) -> dict[str, float]:
    """Seconds per stage for one recording, each stage on its own; `whole` is the pipeline as it runs, decoded before.

    The networks read what the pipeline took for utterances, so stages and whole do the same work.
    """
    models = _loaded["engine"].models
    decode_s, (sound, rate_hz) = timed(lambda: read_sound(path))
    whole_s, timeline = timed(lambda: analyze(sound, rate_hz, language))
    resample_s, wide = timed(lambda: [resampled(pcm, rate_hz) for pcm in sound])
    gate_s, _ = timed(lambda: [models.gate.open().feed(pcm) for pcm in wide])
    took = {"decode": decode_s, "resample": resample_s, "speech gate": gate_s}
    names = ("log-mel", "encoder", "decoder", "voice head", "vocal features", "text", "fusion and policy")
    took |= dict.fromkeys(names, 0.0)
    filters = csr_array(mel_filters(80))
    channel_of = {party.id: party.channel for party in timeline.participants}
    for utterance in timeline.utterances:
        start, end = (t * RATE_HZ // 1_000_000 for t in (utterance.span.start_us, utterance.span.end_us))
        pcm = wide[channel_of[utterance.participant]][start:end]
        mel_s, _ = timed(partial(whisper.log_mel, pcm, models.encoder.computed_s(len(pcm)), filters))
        encode_s, encoding = timed(partial(models.encoder.encode, pcm))
        decoder_s, heard = timed(partial(models.recogniser.transcribe, encoding, language=language))
        took["log-mel"] += mel_s
        took["encoder"] += encode_s - mel_s
        took["decoder"] += decoder_s
        if utterance.participant == "customer":
            spoken = [Span(0, utterance.span.duration_us)]
            estimates = voice_estimates(models.voice, "customer", encoding, 0, spoken, 1.0, None)
            took["voice head"] += timed(partial(list, estimates))[0]
            took["vocal features"] += timed(partial(vocal_features, pcm))[0]
        took["text"] += timed(partial(models.text.estimate, heard.text))[0]
    took["fusion and policy"] = timed(lambda: fuse_again(timeline))[0]
    return took | {"whole": decode_s + whole_s}


def fuse_again(timeline: CallTimeline) -> None:
    """Fusion of every moment, and the policies over the call."""
    engine: Engine = _loaded["engine"]
    priors = {model.model: model.prior for model in (engine.models.voice, engine.models.text)}
    policies = PolicyEngine(engine.policies, timeline.participants)
    items: list[SpeechTurn | Utterance | Moment] = [*timeline.speech, *timeline.utterances, *timeline.moments]
    for item in sorted(items, key=lambda item: item.span.end_us):
        policies.feed(item)
    policies.finish()
    for moment in timeline.moments:
        fuse([contributor.estimate for contributor in moment.contributors], priors)


def compare(sounds: Sequence[F32], texts: Sequence[str | None], languages: Sequence[str], threads: int) -> list[Any]:
    """Every recogniser on every clip, in turns: real-time factor, WER where the text is known, load time, memory."""
    systems = [OURS, *(FASTER_WHISPER if find_spec("faster_whisper") else ())]
    workers = {system: process(threads) for system in systems}
    load_s = {system: worker.submit(load_reader, system, threads).result() for system, worker in workers.items()}
    took: dict[str, list[list[float]]] = {system: [] for system in systems}
    heard: dict[str, list[str]] = {}
    for repeat in range(REPEATS + 1):
        for system in systems:
            took[system].append([])
            heard[system] = []
        for pcm, language in zip(sounds, languages, strict=True):
            for system, worker in workers.items():
                seconds, text = worker.submit(read, pcm, language).result()
                took[system][repeat].append(seconds)
                heard[system].append(text)
    audio_s = sum(map(len, sounds)) / RATE_HZ
    rows = []
    for system, worker in workers.items():
        per_clip_s = np.median(took[system][1:], axis=0)  # the first round warms up
        errors = [word_errors(t, h) for t, h in zip(texts, heard[system], strict=True) if t]
        rows.append(
            {
                "system": system,
                "threads": threads,
                "rtf": round(float(per_clip_s.sum() / audio_s), 4),
                "clip_ms": round(float(np.median(per_clip_s)) * 1e3, 1),
                "wer": round(word_error_rate(np.array(errors)), 4) if errors else None,
                "load_s": round(load_s[system], 2),
                "peak_mb": round(worker.submit(peak_mb).result()),
            }
        )
        worker.shutdown()
        print(rows[-1], flush=True)
    return rows


def profile(paths: Sequence[Path], languages: Sequence[str | None], threads: int) -> dict[str, Any]:
    """Real-time factor per stage over recordings, load time, peak memory."""
    with process(threads) as worker:
        load_s = worker.submit(load_pipeline, threads).result()
        rounds = [
            [worker.submit(stages, path, language).result() for path, language in zip(paths, languages, strict=True)]
            for _ in range(REPEATS + 1)
        ][1:]
        memory = worker.submit(peak_mb).result()
    audio_s = sum(sound.shape[1] / rate_hz for sound, rate_hz in map(read_sound, paths))
    took = {
        stage: sum(float(np.median([one[i][stage] for one in rounds])) for i in range(len(paths)))
        for stage in rounds[0][0]
    }
    rtf = {stage: round(seconds / audio_s, 5) for stage, seconds in took.items()}
    found = {"threads": threads, "rtf": rtf, "load_s": round(load_s, 2), "peak_mb": round(memory)}
    print(found, flush=True)
    return found


def main() -> None:
    args = arguments("Real-time factor of the stages and the whole, beside faster-whisper.").parse_args()
    clips, sounds = [], []
    for clip in load_clips(args.data, args.limit or CLIPS):
        sound, rate_hz = read_sound(clip.path)
        if sound.shape[1] <= MAX_CLIP_S * rate_hz:
            clips.append(clip)
            sounds.append(resampled(sound.mean(axis=0), rate_hz))
    if not clips:
        raise SystemExit(f"{args.data}: expected clips of at most {MAX_CLIP_S} s, found none")
    texts = [reference_text(clip) for clip in clips]
    languages = [clip.row.get("lang") or "en" for clip in clips]
    recognisers = [row for threads in THREADS for row in compare(sounds, texts, languages, threads)]
    utterances = [profile([clip.path for clip in clips], languages, threads) for threads in THREADS]
    calls = [profile([CALL], [None], threads) for threads in THREADS]
    call, rate_hz = read_sound(CALL)
    results = {
        "data": {
            "name": args.data.name,
            "clips": len(clips),
            "audio_s": round(sum(map(len, sounds)) / RATE_HZ, 1),
            "call": CALL.name,
            "call_s": round(call.shape[1] / rate_hz, 1),
            "repeats": REPEATS,
        },
        "absent": {} if len(recognisers) > len(THREADS) else {"faster-whisper": "pip install faster-whisper"},
        "recognisers": recognisers,
        "stages": {"utterances": utterances, "call": calls},
    }
    most = [row for row in recognisers if row["threads"] == THREADS[-1]]
    peer = min((row["rtf"] for row in most if row["system"] != OURS), default="absent")
    headline = {"rtf": calls[-1]["rtf"]["whole"], "rtf_transcript": most[0]["rtf"], "rtf_faster_whisper": peer}
    report("speed", results, headline, args.json)


if __name__ == "__main__":
    main()
