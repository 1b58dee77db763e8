"""Mono conversations of known speakers, made from single-speaker clips; all of it is seeded.

Speakers take turns with pauses between them, some turns begin before the last one ends, and short answers fall into
others' turns. One speaker keeps to neutral clips, as agents do; the others move through the corpus's emotions. The
sound is that of an 8 kHz telephone line with noise. Who speaks when is what the speech gate says of each speaker's
clean sound by itself.
"""

import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soxr

from affectline.models.ports import RATE_HZ, SpeechGate
from affectline.models.signals import F32, Span
from affectline.models.training.examples import read_clips, read_pcm, spoken_part
from affectline.pipelines.segmenter import Segmenter
from affectline.pipelines.speakers import Turn
from benchmarks.calls import CALM, LEVEL_DBFS, LINE_HZ, OVERLAP, OVERLAP_S, PAUSE_S, SNR_DB, _pink

CLIPS_PER_TURN: Final = (1, 4)
ANSWER: Final = 0.1
"""Share of the turns in which somebody else says something short, over the speaker."""
ANSWER_S: Final = (0.4, 0.9)


@dataclass(frozen=True, slots=True)
class Mix:
    name: str
    pcm: F32
    """[n] at 16 kHz, of telephone band."""
    turns: tuple[Turn, ...]
    """Who speaks when; those of different speakers may overlap."""


def speech_turns(speaker: str, pcm: F32, gate: SpeechGate) -> list[Turn]:
    """Of one speaker's clean sound [n] at 16 kHz; pauses below 0.3 s belong to a turn."""
    frame_us = gate.frame_samples * 1_000_000 // RATE_HZ
    segmenter = Segmenter(frame_us / 1000)
    probabilities = gate.open().feed(pcm).tolist()
    segments = [segment for p in probabilities for segment in segmenter.feed(p)] + list(segmenter.break_off())
    found: list[Span] = []
    for segment in segments:
        edges = np.flatnonzero(np.diff([False, *segment.speech, False])) + segment.start_frame
        for start, end in edges.reshape(-1, 2).tolist():
            if found and start * frame_us - found[-1].end_us < 300_000:
                found[-1] = Span(found[-1].start_us, end * frame_us)
            else:
                found.append(Span(start * frame_us, end * frame_us))
    return [Turn(span, speaker) for span in found if span.duration_us >= 100_000]


def build_mixes(
    data: Path,
    gate: SpeechGate,
    speakers: Sequence[str],
    *,
    counts: Sequence[int],
    each: int,
    turns: int = 24,
    calm: bool = False,
) -> list[Mix]:
    """`each` conversations of every number of speakers in `counts`, drawn from `speakers`; calm: nobody is moved."""
    clips: dict[str, dict[bool, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for row in read_clips(data):
        if row["speaker"] in speakers:
            clips[row["speaker"]][row["label"] in CALM].append(data / row["path"])
    found = []
    for count in counts:
        for k in range(each):
            name = f"{data.resolve().name}-{count}-{k}"
            rng = np.random.default_rng(zlib.crc32(f"{name}-{'-'.join(speakers)}".encode()))
            chosen = [str(s) for s in rng.choice(sorted(speakers), count, replace=False)]
            found.append(_build(name, chosen, clips, gate, rng, turns, calm=calm))
    return found


def _build(
    name: str,
    speakers: Sequence[str],
    clips: dict[str, dict[bool, list[Path]]],
    gate: SpeechGate,
    rng: np.random.Generator,
    turns: int,
    *,
    calm: bool,
) -> Mix:
    decks: dict[str, list[Path]] = {}

    def draw(speaker: str) -> F32:
        if not decks.get(speaker):
            neutral, felt = clips[speaker][True], clips[speaker][False]
            pool = neutral if calm or speaker == speakers[0] else neutral + felt
            decks[speaker] = [pool[i] for i in rng.permutation(len(pool))]
        pcm = spoken_part(read_pcm(decks[speaker].pop()), gate)
        return np.asarray(pcm * 10 ** (LEVEL_DBFS / 20) / (np.sqrt(np.square(pcm).mean()) + 1e-6), np.float32)

    sounds: list[tuple[str, int, F32]] = []
    now, last = int(RATE_HZ * rng.uniform(0.5, 1.5)), -1
    for number in range(turns):
        others = [i for i in range(len(speakers)) if i != last] or [0]
        last = number if number < len(speakers) else int(rng.choice(others))
        start = now
        for _ in range(int(rng.integers(*CLIPS_PER_TURN, endpoint=True))):
            pcm = draw(speakers[last])
            sounds.append((speakers[last], now, pcm))
            now += len(pcm) + int(RATE_HZ * rng.uniform(0.1, 0.6))
        if len(speakers) > 1 and rng.random() < ANSWER and now - start > 2 * RATE_HZ:
            other = int(rng.choice([i for i in range(len(speakers)) if i != last]))
            short = draw(speakers[other])[: int(RATE_HZ * rng.uniform(*ANSWER_S))]
            sounds.append((speakers[other], int(rng.integers(start, now - len(short))), short))
        if rng.random() < OVERLAP and len(speakers) > 1:
            now -= int(RATE_HZ * rng.uniform(*OVERLAP_S))
        else:
            now += int(RATE_HZ * rng.uniform(*PAUSE_S)) - int(0.3 * RATE_HZ)
    sides = {speaker: np.zeros(now + 2 * RATE_HZ, np.float32) for speaker in speakers}
    for speaker, start, pcm in sounds:
        pcm = pcm[: len(sides[speaker]) - start]
        sides[speaker][start : start + len(pcm)] += pcm
    truth = [turn for speaker, side in sides.items() for turn in speech_turns(speaker, side, gate)]
    mixed = np.sum(list(sides.values()), axis=0)
    mixed += 10 ** ((LEVEL_DBFS - rng.uniform(*SNR_DB)) / 20) * _pink(len(mixed), rng)
    line = soxr.resample(soxr.resample(mixed, RATE_HZ, LINE_HZ), LINE_HZ, RATE_HZ)
    ordered = tuple(sorted(truth, key=lambda turn: (turn.span, turn.speaker)))
    return Mix(name, np.asarray(np.clip(line, -1, 1), np.float32), ordered)
