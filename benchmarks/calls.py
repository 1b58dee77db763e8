"""Two-party calls built from labelled clips, so that it is known who feels what when.

The agent, on channel 0, speaks neutrally; the customer, on channel 1, moves through known emotions. Between them lie
pauses, overlaps and line noise; the sound is that of an 8 kHz µ-law telephone. All of it is seeded.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import soundfile
import soxr

from affectline.models.labels import Label
from affectline.models.ports import RATE_HZ, SpeechGate
from affectline.models.signals import F32, Span
from affectline.models.training.examples import read_clips, read_pcm, spoken_part

LINE_HZ: Final = 8_000
LABELS_OF_CLASS: Final[Mapping[str, frozenset[Label]]] = {
    "anger": frozenset(("angry", "frustrated")),
    "calm": frozenset(("neutral",)),
    "disgust": frozenset(("disgusted",)),
    "fear": frozenset(("anxious",)),
    "frustration": frozenset(("angry", "frustrated")),
    "happiness": frozenset(("satisfied", "grateful")),
    "neutral": frozenset(("neutral",)),
    "sadness": frozenset(("sad",)),
    "surprise": frozenset(("surprised",)),
}
"""What a clip's class may be called on the timeline; other classes are not used."""
CALM: Final = ("neutral", "calm")
PAUSE_S: Final = (0.4, 1.5)
OVERLAP: Final = 0.15
"""Share of the turns that begin before the other party's ends …"""
OVERLAP_S: Final = (0.3, 0.8)
"""… by so much."""
SNR_DB: Final = (15.0, 30.0)
"""Of the line's pink noise against speech."""
LEVEL_DBFS: Final = -26.0
"""Of active speech (ITU-T P.56 has telephone speech near it)."""
CLIPS_PER_TURN: Final = (1, 3)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Customer speech of one class."""

    span: Span
    label: str
    """Class of the clip."""


@dataclass(frozen=True, slots=True)
class BuiltCall:
    name: str
    customer: str
    """Speaker."""
    pcm: F32
    """[2, n] at LINE_HZ; agent, customer."""
    stretches: tuple[Stretch, ...]
    """In time order."""

    @property
    def duration_us(self) -> int:
        return int(self.pcm.shape[1] * 1_000_000 // LINE_HZ)

    def onsets(self, labels: Sequence[str]) -> list[Span]:
        """From each beginning of such a feeling to its end, pauses and the agent's turns within included."""
        found: list[Span] = []
        before = ""
        for stretch in self.stretches:
            if stretch.label in labels:
                start_us = found[-1].start_us if before in labels else stretch.span.start_us
                found = [*(found[:-1] if before in labels else found), Span(start_us, stretch.span.end_us)]
            before = stretch.label
        return found

    def truth(self, second: int) -> str | None:
        """Class of the customer's speech in this second; None where they hardly speak."""
        span = Span(second * 1_000_000, (second + 1) * 1_000_000)
        best = max(self.stretches, key=lambda s: s.span.overlap_us(span))
        return best.label if best.span.overlap_us(span) >= 500_000 else None

    def save(self, path: Path) -> None:
        soundfile.write(path, self.pcm.T, LINE_HZ, subtype="ULAW")


def build_calls(data: Path, gate: SpeechGate, *, calls: int, plan: Sequence[str] | None = None) -> Iterator[BuiltCall]:
    """`calls` calls of each speaker of a folder with labels.csv.

    plan: the classes that the customer goes through; by default neutral, anger or another one, neutral, another.
    """
    by_speaker: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for row in read_clips(data):
        label = "neutral" if row["label"] in CALM else row["label"]
        if label in LABELS_OF_CLASS:
            by_speaker[row["speaker"]][label].append(data / row["path"])
    speakers = sorted(by_speaker)
    for number, speaker in enumerate(speakers):
        other = speakers[(number + 1) % len(speakers)]
        for k in range(calls):
            name = f"{data.resolve().name}-{speaker}-{k}{'-neutral' if plan else ''}"
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            felt = [label for label in sorted(by_speaker[speaker]) if label not in ("neutral", "anger")]
            chosen = [str(label) for label in rng.permutation(felt)[:2]]
            path = plan or ("neutral", *(("anger",) if k % 2 == 0 else chosen[:1]), "neutral", chosen[1])
            yield _build(name, speaker, by_speaker[speaker], by_speaker[other]["neutral"], path, gate, rng)


def _build(
    name: str,
    speaker: str,
    own: Mapping[str, Sequence[Path]],
    agent: Sequence[Path],
    path: Sequence[str],
    gate: SpeechGate,
    rng: np.random.Generator,
) -> BuiltCall:
    sounds: list[tuple[int, int, F32]] = []
    """(channel, first sample, samples) at RATE_HZ."""
    stretches, now = [], int(RATE_HZ * rng.uniform(0.5, 1.5))
    decks: dict[str, list[Path]] = {}

    def draw(key: str, clips: Sequence[Path]) -> F32:
        """Each clip once before any comes again."""
        if not decks.get(key):
            decks[key] = [clips[i] for i in rng.permutation(len(clips))]
        pcm = spoken_part(read_pcm(decks[key].pop()), gate)
        return np.asarray(pcm * 10 ** (LEVEL_DBFS / 20) / (np.sqrt(np.square(pcm).mean()) + 1e-6), np.float32)

    for label in path:
        until = now + int(RATE_HZ * rng.uniform(14, 22))
        while now < until:
            for _ in range(int(rng.integers(*CLIPS_PER_TURN, endpoint=True))):
                pcm = draw(label, own[label])
                span = Span(now * 1_000_000 // RATE_HZ, (now + len(pcm)) * 1_000_000 // RATE_HZ)
                stretches.append(Stretch(span, label))
                sounds.append((1, now, pcm))
                now += len(pcm) + int(RATE_HZ * rng.uniform(*PAUSE_S))
            pcm = draw("agent", agent)
            if rng.random() < OVERLAP:
                now = stretches[-1].span.end_us * RATE_HZ // 1_000_000 - int(RATE_HZ * rng.uniform(*OVERLAP_S))
            sounds.append((0, now, pcm))
            now += len(pcm) + int(RATE_HZ * rng.uniform(*PAUSE_S))
    mixed = np.zeros((2, now + RATE_HZ), np.float32)
    for channel, start, pcm in sounds:
        mixed[channel, start : start + len(pcm)] += pcm
    noise_db = LEVEL_DBFS - rng.uniform(*SNR_DB)
    mixed += 10 ** (noise_db / 20) * np.stack([_pink(mixed.shape[1], rng) for _ in range(2)])
    line = np.stack([soxr.resample(side, RATE_HZ, LINE_HZ) for side in mixed])
    return BuiltCall(name, speaker, np.asarray(np.clip(line, -1, 1), np.float32), tuple(stretches))


def _pink(samples: int, rng: np.random.Generator) -> F32:
    """Noise whose power falls with frequency, of RMS 1."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), samples)
    return np.asarray(noise / noise.std(), np.float32)
