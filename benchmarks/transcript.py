"""Word error rate of our recogniser beside openai-whisper and faster-whisper: same weights, same clips, one run.

    python -m benchmarks.transcript [--data DIR] [--json FILE] [--limit N]

What was said is in a column `transcript` or `text` of labels.csv, or follows from RAVDESS's column `statement`.
Every system is told the language (column `lang`, else English). Intervals: bootstrap over speakers.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import jiwer
import numpy as np
import numpy.typing as npt

from affectline.models.ports import RATE_HZ
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.zoo.whisper import WINDOW_S
from affectline.pipelines.g711 import decode_mulaw, encode_mulaw
from affectline.pipelines.transcript import Transcriber
from benchmarks.common import Clip, arguments, bootstrap, load_clips, pulled, read_sound, report, resampled
from benchmarks.peers_weights import openai_whisper, whisper_folder

STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
"""RAVDESS: column `statement` -> what was said (Livingstone & Russo 2018)."""
PEERS = {"openai-whisper": "whisper", "faster-whisper": "faster_whisper"}
"""Package -> module."""

Read = Callable[[F32, str], str]
"""(sound at RATE_HZ, language) -> text."""


def reference_text(clip: Clip) -> str | None:
    """What was said in a clip, or None when labels.csv does not tell."""
    row = clip.row
    return row.get("transcript") or row.get("text") or STATEMENTS.get(row.get("statement", ""))


def normalised(text: str) -> str:
    """Lower case, no punctuation but apostrophes, single spaces; accents stay."""
    return " ".join(re.sub(r"[^\w' ]+", " ", unicodedata.normalize("NFKC", text).lower().replace("’", "'")).split())


def word_errors(reference: str, found: str) -> tuple[int, int]:
    """(substitutions, deletions and insertions; words in the reference)."""
    words = normalised(reference)
    out = jiwer.process_words(words, normalised(found))
    return out.substitutions + out.deletions + out.insertions, len(words.split())


def word_error_rate(errors: npt.NDArray[Any]) -> float:
    """errors [n, 2] of `word_errors` -> their sum over all words."""
    return float(errors[:, 0].sum() / errors[:, 1].sum())


def telephone(pcm: F32) -> F32:
    """Through an 8 kHz mu-law line and back."""
    return resampled(decode_mulaw(encode_mulaw(resampled(pcm, RATE_HZ, 8_000))), 8_000)


def affectline(suffix: str = "", threads: int = 2, *, whole_window: bool = False) -> Read:
    """`whole_window`: silence after the sound is computed, too."""
    runtime = Runtime(threads=threads)
    encoder, recogniser = (pulled(f"whisper-base{suffix}{part}", runtime) for part in ("-encoder", ""))
    if whole_window:
        encoder.silence_s = WINDOW_S
    transcriber = Transcriber(encoder, recogniser)

    def read(pcm: F32, language: str) -> str:
        found = transcriber.read(pcm, 0, language=language, usual_language=None)
        return found.transcription.text

    return read


def faster_whisper(threads: int = 2, **options: Any) -> Read:
    peer: Any = import_module("faster_whisper")
    model = peer.WhisperModel(str(whisper_folder()), device="cpu", compute_type="int8", cpu_threads=threads)
    return lambda pcm, language: " ".join(s.text for s in model.transcribe(pcm, language=language, **options)[0])


def openai() -> Read:
    model = openai_whisper()
    return lambda pcm, language: str(model.transcribe(pcm, language=language, fp16=False)["text"])


SYSTEMS: dict[str, tuple[str | None, Callable[[], Read]]] = {
    "affectline int8, greedy": (None, affectline),
    "affectline int8, whole 15 s window": (None, partial(affectline, whole_window=True)),
    "affectline fp32, greedy": (None, partial(affectline, "-fp32")),
    "faster-whisper int8, beam 1": ("faster-whisper", partial(faster_whisper, beam_size=1)),
    "faster-whisper int8, beam 5": ("faster-whisper", faster_whisper),
    "openai-whisper fp32, greedy": ("openai-whisper", openai),
}
"""Name -> (the package it needs, how to load it). Each peer at its defaults, faster-whisper also at its fastest."""


def measure(read: Read, sounds: Iterable[F32], clips: list[Clip]) -> dict[str, Any]:
    """WER with its interval, and how many clips were not exact."""
    errors = np.array(
        [
            word_errors(reference_text(clip) or "", read(sound, clip.row.get("lang") or "en"))
            for sound, clip in zip(sounds, clips, strict=True)
        ]
    )
    low, high = bootstrap(word_error_rate, errors, [clip.speaker for clip in clips])
    return {
        "wer": round(word_error_rate(errors), 4),
        "wer_95": [round(low, 4), round(high, 4)],
        "clips_with_errors": int((errors[:, 0] > 0).sum()),
    }


def main() -> None:
    args = arguments("Word error rate beside other implementations on the same weights.").parse_args()
    clips = [clip for clip in load_clips(args.data, args.limit) if reference_text(clip)]
    if not clips:
        raise SystemExit(f"{args.data}: expected a column transcript, text or statement; found none filled in")
    wide = [resampled(pcm.mean(axis=0), rate_hz) for pcm, rate_hz in (read_sound(clip.path) for clip in clips)]
    bands = {"wide": wide, "8 kHz mu-law": [telephone(pcm) for pcm in wide]}
    results: list[dict[str, Any]] = []
    absent = {package: f"pip install {package}" for package, module in PEERS.items() if find_spec(module) is None}
    for package, install in absent.items():
        print(f"{package}: absent; to compare with it: {install}")
    for system, (needs, load) in SYSTEMS.items():
        if needs in absent:
            continue
        read = load()
        for band, sounds in bands.items():
            results.append({"system": system, "band": band, **measure(read, sounds, clips)})
            print(results[-1], flush=True)

    def best(system: str) -> float | str:
        rates = [r["wer"] for r in results if r["system"].startswith(system) and r["band"] == "wide"]
        return min(rates, default="absent")

    data = {
        "name": args.data.name,
        "clips": len(clips),
        "speakers": len({clip.speaker for clip in clips}),
        "audio_s": round(sum(map(len, wide)) / RATE_HZ, 1),
    }
    headline = {"wer": results[0]["wer"]} | {f"wer_{p.replace('-', '_')}": best(p) for p in PEERS}
    report("transcript", {"data": data, "absent": absent, "results": results}, headline, args.json)


if __name__ == "__main__":
    main()
