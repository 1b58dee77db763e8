"""Who speaks when in mono calls: diarization error rate, counts of speakers, roles, and speed.

    python -m benchmarks.diarization --data ../shared/data --json benchmarks/results/diarization.json

Scored are a two-speaker telephone sample with its own reference, mono mixes of two-channel calls, whose channels tell
who speaks when, and conversations built from single-speaker clips (benchmarks/mixes.py). The parameters of
pipelines/speakers.py were chosen on conversations of the speakers in TUNING, which are not scored here; the telephone
sample and the calls were not looked at for it. `--diarizer PATH|NAME` measures a pipeline of pyannote.audio beside our
own search, on the same sound.
"""

import csv
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any, Final

import numpy as np
import soundfile

from affectline.models.ports import RATE_HZ
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.pipelines.cues import CueLexicon
from affectline.pipelines.media import open_recording
from affectline.pipelines.mono import MonoConfig, find_voices_of, speaker_search
from affectline.pipelines.roles import RoleFinder
from affectline.pipelines.session import ModelSet
from affectline.pipelines.speakers import Turn
from affectline.pipelines.speakers_live import SpeakerTracker
from affectline.pipelines.turns import read_rttm
from affectline.server.engine import Engine
from benchmarks.common import arguments, read_sound, report, resampled
from benchmarks.der import Errors, diarization_errors, grid
from benchmarks.mixes import Mix, build_mixes, speech_turns
from benchmarks.stages import load_dialogues

TUNING: Final[Mapping[str, tuple[str, ...]]] = {
    "emodb": ("03", "08", "09", "10", "11"),
    "ravdess_speech": ("01", "02", "03", "04", "05", "06"),
}
"""Folder -> speakers whose conversations the parameters were chosen on."""
COUNTS: Final = (1, 2, 3)
TURNS: Final = 16
COLLAR_US: Final = 250_000
BLOCK: Final = RATE_HZ
DIALOGUES: Final = Path(__file__).parents[1] / "tests" / "data"


def main() -> None:
    parser = arguments(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--each", type=int, default=4, metavar="N", help="conversations of each number of speakers")
    parser.add_argument("--diarizer", metavar="PATH|NAME", help="a pipeline of pyannote.audio, measured beside ours")
    args = parser.parse_args()
    root: Path = args.data
    if not (root / "diar_phone_sample").is_dir():
        sys.exit(
            f"expected the folder with all data sets, found no diar_phone_sample in {root}: give it with --data DIR"
        )
    engine = Engine(runtime=Runtime(threads=1), diarizer=args.diarizer)
    ours = replace(engine.models, diarizer=None)
    gate = engine.models.gate
    sets: dict[str, Callable[[], Iterator[Mix]]] = {
        "telephone sample": lambda: iter([_sample(root / "diar_phone_sample")]),
        "two-channel calls": lambda: _calls(root / "call_center_en", ours),
    }
    for name in ("emodb", "ravdess_speech", "nemo_pl"):
        others = sorted(_speakers(root / name) - set(TUNING.get(name, ())))
        for count in COUNTS:
            sets[f"{name}, {count}"] = lambda name=name, others=others, count=count: iter(  # type: ignore[misc]
                build_mixes(root / name, gate, others, counts=(count,), each=args.each, turns=TURNS)
            )
        sets[f"{name}, calm, 2"] = lambda name=name, others=others: iter(  # type: ignore[misc]
            build_mixes(root / name, gate, others, counts=(2,), each=args.each, turns=TURNS, calm=True)
        )
    rows: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for title, make in sets.items():
        mixes = list(make())
        rows.append(_scored(title, mixes, ours) | {"der_live": round(_live_error(mixes, ours), 4)})
        print(rows[-1])
        if engine.models.diarizer:
            theirs.append(_scored(title, mixes, engine.models))
            print(engine.models.diarizer.model, theirs[-1])
    roles = {
        "sound": _roles(root / "call_center_en", ours),
        "dialogues": {name: _written_roles(name, ours.cues) for name in ("dev", "test")},
    }
    cpu_share = _cpu_share(rows)
    two = [row for row in rows if row["speakers"] == 2]
    results: dict[str, Any] = {
        "tuning": {name: list(speakers) for name, speakers in TUNING.items()},
        "sets": rows,
        "roles": roles,
        "cpu_share": cpu_share,
    }
    if engine.models.diarizer:
        results["diarizer"] = {
            "model": engine.models.diarizer.model,
            "cpu_share": _cpu_share(theirs),
            "sets": theirs,
            "roles": _roles(root / "call_center_en", engine.models),
        }
    headline = {
        "der_two_voices": round(float(np.mean([row["der"] for row in two])), 3),
        "cpu_share": cpu_share,
        "roles": ", ".join(f"{count} {verdict}" for verdict, count in roles["sound"].items()),
    }
    report("diarization", results, headline, args.json)


def _scored(title: str, mixes: Sequence[Mix], models: ModelSet) -> dict[str, Any]:
    exact, lenient, known = Errors(), Errors(), Errors()
    counts: dict[str, int] = defaultdict(int)
    spent_s = heard_s = 0.0
    for mix in mixes:
        duration_us = len(mix.pcm) * 1_000_000 // RATE_HZ
        started_s = process_time()
        search = speaker_search(models, _blocks(mix.pcm))
        turns = search(None)
        spent_s += process_time() - started_s
        heard_s += duration_us / 1e6
        speakers = len({turn.speaker for turn in mix.turns})
        exact += diarization_errors(mix.turns, turns, duration_us)
        lenient += diarization_errors(mix.turns, turns, duration_us, collar_us=COLLAR_US)
        known += diarization_errors(mix.turns, search(speakers), duration_us)
        counts[str(len({turn.speaker for turn in turns}))] += 1
    return {
        "set": title,
        "conversations": len(mixes),
        "speakers": len({turn.speaker for turn in mixes[0].turns}),
        "audio_s": round(heard_s, 1),
        "der": round(exact.rate, 4),
        "missed": round(exact.missed_s / exact.speech_s, 4),
        "false_alarm": round(exact.false_alarm_s / exact.speech_s, 4),
        "confusion": round(exact.confusion_s / exact.speech_s, 4),
        "der_collar": round(lenient.rate, 4),
        "der_known_count": round(known.rate, 4),
        "counted": dict(sorted(counts.items())),
        "cpu_s": spent_s,
    }


def _cpu_share(rows: Sequence[dict[str, Any]]) -> float:
    """Of the sound's length; takes `cpu_s` out of the rows."""
    spent_s: float = sum(row.pop("cpu_s") for row in rows)
    heard_s: float = sum(row["audio_s"] for row in rows)
    return round(spent_s / heard_s, 4)


def _live_error(mixes: Sequence[Mix], models: ModelSet) -> float:
    found = Errors()
    for mix in mixes:
        found += diarization_errors(mix.turns, _live(mix.pcm, models), len(mix.pcm) * 1_000_000 // RATE_HZ)
    return found.rate


def _blocks(pcm: F32) -> Iterator[F32]:
    for start in range(0, len(pcm), BLOCK):
        yield pcm[start : start + BLOCK]


def _live(pcm: F32, models: ModelSet) -> list[Turn]:
    """As a running call has it, in pieces of 0.1 s."""
    tracker = SpeakerTracker(models.gate, models.speakers)
    found = [turn for at in range(0, len(pcm), RATE_HZ // 10) for turn in tracker.feed(pcm[at : at + RATE_HZ // 10])]
    return found + tracker.finish()


def _speakers(data: Path) -> set[str]:
    with (data / "labels.csv").open(newline="") as file:
        return {row["speaker"] for row in csv.DictReader(file)}


def _sample(data: Path) -> Mix:
    pcm, rate_hz = read_sound(data / "audio" / "sample.flac")
    return Mix("sample", resampled(pcm[0], rate_hz), read_rttm((data / "sample.rttm").read_text(), "sample.rttm"))


def _calls(data: Path, models: ModelSet) -> Iterator[Mix]:
    for path in sorted((data / "audio").glob("*_stereo.flac")):
        pcm, rate_hz = read_sound(path)
        sides = [resampled(side, rate_hz) for side in pcm]
        turns: list[Turn] = []
        for speaker, side in zip(("customer", "agent"), sides, strict=True):
            turns += speech_turns(speaker, side, models.gate)
        mixed = np.asarray(np.clip(np.mean(sides, axis=0), -1, 1), np.float32)
        yield Mix(path.stem, mixed, tuple(sorted(turns, key=lambda turn: (turn.span, turn.speaker))))


def _roles(data: Path, models: ModelSet) -> dict[str, Any]:
    """Of real sound: recordings of one side, and the mono mixes of two-channel calls, each side a party."""
    with (data / "labels.csv").open(newline="") as file:
        sides = [row for row in csv.DictReader(file) if row["role"] in ("agent", "caller")]
    verdicts: Counter[str] = Counter()
    for row in sides:
        recording = open_recording(data / row["path"])
        config = MonoConfig(row["path"], recording.rate_hz, "granted", count=1)
        (party,) = find_voices_of(recording, config, models).participants
        verdicts[_verdict(party.role, "agent" if row["role"] == "agent" else "customer")] += 1
    for mix in _calls(data, models):
        with TemporaryDirectory() as folder:
            path = Path(folder, "mono.wav")
            soundfile.write(path, mix.pcm, RATE_HZ)
            voices = find_voices_of(open_recording(path), MonoConfig(mix.name, RATE_HZ, "granted"), models)
        duration_us = len(mix.pcm) * 1_000_000 // RATE_HZ
        for side in ("customer", "agent"):
            theirs = grid([turn for turn in mix.turns if turn.speaker == side], duration_us)[0]
            shared = {
                party.id: int((theirs & grid([t for t in voices.turns if t.speaker == party.id], duration_us)[0]).sum())
                for party in voices.participants
            }
            best = max(voices.participants, key=lambda party: shared[party.id])
            verdicts[_verdict(best.role, side)] += 1
    return dict(verdicts)


def _written_roles(name: str, cues: CueLexicon) -> dict[str, dict[str, int]]:
    """Of the invented dialogues: what is known of each party after so many turns, or all of them."""
    found: dict[str, dict[str, int]] = {}
    for turns in (4, 8, None):
        verdicts: Counter[str] = Counter()
        for dialogue in load_dialogues(DIALOGUES / f"stages_{name}.yaml"):
            finder, names = RoleFinder(cues), list[str]()
            for said in dialogue.utterances[:turns]:
                if said.participant not in names:
                    names.append(said.participant)
                finder.hear(said.participant, said.text, said.language)
            for who, belief in finder.beliefs(names).items():
                verdicts[_verdict(belief.role, "customer" if who == "customer" else "agent")] += 1
        found[str(turns or "all")] = dict(verdicts)
    return found


def _verdict(role: str, expected: str) -> str:
    return "right" if role == expected else "unknown" if role == "unknown" else "wrong"


if __name__ == "__main__":
    main()
