"""How much speech the gate finds in clips of speech, and in what is none: its network alone, and with its second look.

    python -m benchmarks.gate [--data DIR …] [--other DIR] [--limit N] [--json FILE]

Counted is what becomes an utterance. --other holds music, rings, noises (any recordings without speech, searched
through its subfolders), of which the first minute each counts; the Debian packages asterisk-moh-opsound-wav and
sound-theme-freedesktop and the npm packages tonejs-instrument-* hold some.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ, SpeechGate
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.zoo import silero
from affectline.pipelines.segmenter import Segmenter
from benchmarks.common import load_clips, pulled, read_sound, report, resampled

DATA: Final = tuple(Path("../shared/data") / name for name in ("ravdess_speech", "emodb", "nemo_pl"))
OTHER_S: Final = 60


def spoken_frames(gate: SpeechGate, pcm: F32) -> int:
    """Frames within utterances."""
    segmenter = Segmenter(1000 * gate.frame_samples / RATE_HZ)
    segments = [segment for p in gate.open().feed(pcm).tolist() for segment in segmenter.feed(p)]
    return sum(each.end_frame - each.start_frame for each in (*segments, *segmenter.break_off()))


def measured(gate: SpeechGate, sounds: Iterable[F32]) -> dict[str, Any]:
    """Clips and what was found in them, by the network alone and with the second look."""
    alone, both, frames = [], [], 0
    for pcm in sounds:
        frames += len(pcm) // gate.frame_samples
        both.append(spoken_frames(gate, pcm))
        with patch.object(silero, "UNSURE", 0.0):
            alone.append(spoken_frames(gate, pcm))
    found: dict[str, Any] = {"clips": len(both), "minutes": round(frames * gate.frame_samples / RATE_HZ / 60, 1)}
    for name, spoken in (("network_alone", alone), ("with_second_look", both)):
        found[name] = {"without_speech": spoken.count(0), "share_of_speech": round(sum(spoken) / max(1, frames), 4)}
    return found


def others(folder: Path) -> Iterable[F32]:
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        try:
            sound, rate_hz = read_sound(path)
        except InvalidInputError:
            continue
        yield resampled(np.asarray(sound.mean(axis=0)[: OTHER_S * rate_hz], np.float32), rate_hz)


def main() -> None:
    parser = argparse.ArgumentParser(description="Speech that the gate finds, with and without its second look.")
    parser.add_argument("--data", type=Path, nargs="+", default=DATA, metavar="DIR", help="folders with labels.csv")
    parser.add_argument("--other", type=Path, metavar="DIR", help="recordings without speech")
    parser.add_argument("--limit", type=int, metavar="N", help="use N clips of each, drawn with a fixed seed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    gate: SpeechGate = pulled("silero", Runtime(threads=1))
    results: dict[str, Any] = {}
    for folder in args.data:
        clips = (read_sound(clip.path) for clip in load_clips(folder, args.limit))
        results[folder.name] = measured(gate, (resampled(s.mean(axis=0), rate_hz) for s, rate_hz in clips))
        print(folder.name, results[folder.name], flush=True)
    if args.other:
        results["no_speech"] = measured(gate, others(args.other))
        print("no speech", results["no_speech"], flush=True)
    headline = {f"{name}_lost": each["with_second_look"]["without_speech"] for name, each in results.items()}
    report("gate", {"results": results}, headline, args.json)


if __name__ == "__main__":
    main()
