"""Who speaks when in one channel that carries several voices: speech gate, voice windows, clusters, turns.

A window of 1.6 s every 0.4 s is turned into a voice embedding. Windows are first joined by average linkage into more
clusters than there can be speakers; then, one pair after the other, clusters are joined as Ward (1963) would, and each
time the windows are aligned anew by Viterbi (1967), as Ajmera & Wooters (2003) do, so that windows on the border of two
voices leave the clusters. What is left when joining costs more than SPLIT_COST are the speakers. The last alignment, in
steps of 0.1 s, gives the turns.

Embeddings are biometric data. They live in these objects only, and end with the call.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ, SpeakerEncoder, SpeechGate
from affectline.models.signals import F32, Span

MAX_SPEAKERS: Final = 6
HOP_SAMPLES: Final = 4 * RATE_HZ // 10
WINDOW_SAMPLES: Final = 16 * RATE_HZ // 10
SPOKEN: Final = 0.6
"""Least share of a window with speech."""
START_PROBABILITY, STOP_PROBABILITY = 0.5, 0.35
"""Of the speech gate; as for utterances."""
BRIDGE_US: Final = 300_000
"""Shorter pauses belong to a turn."""
MIN_SPEECH_US: Final = 100_000
MIN_TURN_US: Final = 250_000
"""Shorter pieces of a stretch of speech go to the voice beside them."""
CELL_US: Final = 100_000
"""Step of the last alignment."""
EVIDENCE_PER_S: Final = 20.0
"""What one second of a voice counts: times the cosine of window and speaker; chosen on the tuning mixes."""
SWITCH_COST: Final = 2.0
"""What a change of speaker costs; chosen on the tuning mixes."""
FIRST_CLUSTERS: Final = 12
MIN_WINDOWS: Final = 5
"""A speaker has at least so many windows without another voice beside them (3.2 s of speech)."""
SPLIT_COST: Final = (0.08, 0.075, 0.06)
"""Least cost at which 2, 3, and more clusters stay apart, as a share; chosen on the tuning mixes."""
LINKED_WINDOWS: Final = 1_500
"""Of more windows, evenly drawn ones make the first clusters: linkage takes memory by their square."""
OVERLAP_MARGIN: Final = 0.03
"""Two voices at once: the window is nearer to their middle than to either of them by so much …"""
OVERLAP_REACH_US: Final = 500_000
"""… this near to a change of speaker without a pause."""

F64 = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Turn:
    """One voice for a while."""

    span: Span
    speaker: str
    overlap: bool = False
    """Another one speaks at the same time."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A whole recording as its speaker search sees it; holds voice embeddings, so it is not kept."""

    speech: Flags
    """[frames] of the speech gate."""
    frame_us: int
    starts: Ints
    """[windows]: first samples at RATE_HZ."""
    voices: F32
    """[windows, width], of unit length."""


class Ear:
    """Turns sound into voice windows; the same ones however the sound is cut."""

    def __init__(self, gate: SpeechGate, encoder: SpeakerEncoder) -> None:
        self._gate, self._encoder = gate.open(), encoder
        self._frame_samples = gate.frame_samples
        self._pcm = np.zeros(0, np.float32)
        self._base = 0
        """Sample number of _pcm[0]: where the next window may begin."""
        self._speaking = False
        self._raw = bytearray()
        """Of each frame so far: whether someone speaks."""

    @property
    def frame_us(self) -> int:
        return self._frame_samples * 1_000_000 // RATE_HZ

    @property
    def heard_samples(self) -> int:
        """In whole frames."""
        return len(self._raw) * self._frame_samples

    def feed(self, pcm: F32) -> Iterator[tuple[int, F32]]:
        """pcm [n] at RATE_HZ -> (first sample, embedding) of the spoken windows that became complete."""
        for probability in self._gate.feed(pcm).tolist():
            self._speaking = probability >= (STOP_PROBABILITY if self._speaking else START_PROBABILITY)
            self._raw.append(self._speaking)
        self._pcm = np.concatenate((self._pcm, pcm))
        ready: list[int] = []
        start = self._base
        while start + WINDOW_SAMPLES <= self.heard_samples:
            frames = self._raw[start // self._frame_samples : (start + WINDOW_SAMPLES) // self._frame_samples]
            if sum(frames) > SPOKEN * len(frames):
                ready.append(start)
            start += HOP_SAMPLES
        if ready:
            windows = np.stack([self._pcm[at - self._base : at - self._base + WINDOW_SAMPLES] for at in ready])
            yield from zip(ready, self._encoder.embed(windows), strict=True)
        self._pcm = self._pcm[start - self._base :].copy()
        self._base = start

    def speech(self, first: int = 0) -> Flags:
        """[frames] from `first` on: where someone speaks, short pauses included, blips not."""
        return smoothed(np.frombuffer(bytes(self._raw[first:]), bool), self.frame_us)


def smoothed(speech: Flags, frame_us: int) -> Flags:
    """Pauses below BRIDGE_US filled, then speech below MIN_SPEECH_US taken out; [frames]."""
    found = speech.copy()
    edges = _edges(found)
    for (_, end), (start, _) in pairwise(edges):
        if (start - end) * frame_us < BRIDGE_US:
            found[end:start] = True
    for start, end in _edges(found):
        if (end - start) * frame_us < MIN_SPEECH_US:
            found[start:end] = False
    return found


def listen(gate: SpeechGate, encoder: SpeakerEncoder, blocks: Iterator[F32]) -> Heard:
    """A whole recording, mono at RATE_HZ in blocks of any length."""
    ear = Ear(gate, encoder)
    starts: list[int] = []
    voices: list[F32] = []
    for block in blocks:
        for start, voice in ear.feed(block):
            starts.append(start)
            voices.append(voice.astype(np.float16))
    found = np.stack(voices).astype(np.float32) if voices else np.zeros((0, encoder.width), np.float32)
    return Heard(ear.speech(), ear.frame_us, np.asarray(starts, np.int64), found)


def diarize(heard: Heard, count: int | None = None) -> tuple[Turn, ...]:
    """Who speaks when; speakers are named 1, 2, … in the order in which they are first heard.

    count: how many speak, where that is known; None finds it, up to MAX_SPEAKERS. Raises InvalidInputError for
    another count.
    """
    centres = find_voices(heard.voices, heard.starts, count)
    return named(align(heard.speech, heard.frame_us, heard.starts, heard.voices, centres))


def find_voices(voices: F32, starts: Ints, count: int | None = None, *, most: int = MAX_SPEAKERS) -> F32:
    """Voice windows [n, width] -> speakers [k, width], of unit length; k is 1 where little is heard.

    count: how many there are, where that is known; otherwise at most `most`.
    """
    if count is not None and not 1 <= count <= MAX_SPEAKERS:
        raise InvalidInputError(f"expected 1 to {MAX_SPEAKERS} speakers, found {count}")
    if len(voices) == 0:
        return np.zeros((1, voices.shape[1]), np.float32)
    if len(voices) < 2 * MIN_WINDOWS or count == 1:
        return _unit(voices.mean(axis=0, keepdims=True))
    centres = _first_clusters(voices)
    beside = np.diff(starts) == HOP_SAMPLES
    while len(centres) > 1:
        for _ in range(2):
            path = best_path(voices @ centres.T * (EVIDENCE_PER_S * HOP_SAMPLES / RATE_HZ), SWITCH_COST)
            pure = _pure(path, beside)
            sizes = np.bincount(path[pure], minlength=len(centres))
            centres = _centres(voices, path, pure, centres)
        if count is not None and len(centres) <= count:
            break
        smallest = int(sizes.argmin())
        if sizes[smallest] < MIN_WINDOWS:
            centres = np.delete(centres, smallest, axis=0)
            continue
        cost = _joining_cost(centres, sizes)
        one, other = sorted(map(int, np.unravel_index(int(cost.argmin()), cost.shape)))
        stays = cost[one, other] > SPLIT_COST[min(len(centres), len(SPLIT_COST) + 1) - 2]
        if count is None and len(centres) <= most and stays:
            break
        weights = np.array([[sizes[one]], [sizes[other]]], np.float32)
        centres[one] = _unit((weights * centres[[one, other]]).sum(axis=0))
        centres = np.delete(centres, other, axis=0)
    return centres


def nearest(voices: F32, centres: F32) -> Ints:
    """[n]: the nearest speaker of each voice window."""
    return np.asarray((voices @ centres.T).argmax(axis=1), np.int64)


def _first_clusters(voices: F32) -> F32:
    drawn = voices[np.linspace(0, len(voices) - 1, min(len(voices), LINKED_WINDOWS)).astype(int)]
    numbers = fcluster(linkage(pdist(drawn, "cosine"), "average"), FIRST_CLUSTERS, "maxclust")
    return _unit(np.stack([drawn[numbers == number].mean(axis=0) for number in np.unique(numbers)]))


def _joining_cost(centres: F32, sizes: Ints) -> F64:
    """[k, k] of each pair: cosine distance, times the square root of how many windows stand behind both."""
    both = sizes[:, None] * sizes[None] / (sizes[:, None] + sizes[None])
    cost = (1 - centres @ centres.T) * np.sqrt(both / sizes.sum())
    np.fill_diagonal(cost, np.inf)
    return np.asarray(cost, np.float64)


def _pure(path: Ints, beside: Flags) -> Flags:
    """[n]: windows between two of the same speaker, so that no other voice is in them."""
    same = (path[1:] == path[:-1]) & beside
    return np.concatenate(([False], same)) & np.concatenate((same, [False]))


def _centres(voices: F32, path: Ints, pure: Flags, before: F32) -> F32:
    found = before.copy()
    for number in range(len(before)):
        own = pure & (path == number)
        if own.any():
            found[number] = _unit(voices[own].mean(axis=0))
    return found


def best_path(evidence: F32 | F64, switch_cost: float) -> Ints:
    """evidence [steps, k] -> the state of each step, [steps] (Viterbi)."""
    steps, count = evidence.shape
    if count == 1 or not steps:
        return np.zeros(steps, np.int64)
    came_from = np.zeros((steps, count), np.int64)
    states = np.arange(count)
    score = evidence[0].astype(np.float64)
    for step in range(1, steps):
        best = int(score.argmax())
        changed = score[best] - switch_cost
        stays = score >= changed
        came_from[step] = np.where(stays, states, best)
        score = np.where(stays, score, changed) + evidence[step]
        score -= score.max()
    path = np.zeros(steps, np.int64)
    path[-1] = score.argmax()
    for step in range(steps - 1, 0, -1):
        path[step - 1] = came_from[step][path[step]]
    return path


def align(speech: Flags, frame_us: int, starts: Ints, voices: F32, centres: F32) -> list[tuple[Span, int, bool]]:
    """(span, speaker, overlap) of every turn, in time order; a stretch with two voices is there once for each."""
    cells = -(-len(speech) * frame_us // CELL_US)
    middle_us = (np.arange(cells) + 0.5) * CELL_US
    frame = np.minimum((middle_us / frame_us).astype(int), max(0, len(speech) - 1))
    spoken = speech[frame] if len(speech) else np.zeros(0, bool)
    path = np.zeros(cells, np.int64)
    second = np.full(cells, -1)
    if len(centres) > 1 and len(starts):
        at_us = (starts + WINDOW_SAMPLES // 2) * 1_000_000 / RATE_HZ
        near = voices @ centres.T
        evidence = np.stack([np.interp(middle_us, at_us, each) for each in near.T], axis=1)
        path = best_path(evidence * spoken[:, None] * (EVIDENCE_PER_S * CELL_US / 1e6), SWITCH_COST)
        second = _second_voice(path, spoken, centres, near, middle_us, at_us)
    found: list[tuple[Span, int, bool]] = []
    for first, after in _edges(speech):
        span = Span(first * frame_us, after * frame_us)
        for start, end, (speaker, other) in _stretches(span, path, second):
            found.append((Span(start, end), speaker, other >= 0))
            if other >= 0:
                found.append((Span(start, end), other, True))
    return found


def _second_voice(
    path: Ints, spoken: Flags, centres: F32, near: F32, middle_us: npt.NDArray[Any], at_us: npt.NDArray[Any]
) -> Ints:
    """[cells]: who else speaks there, or -1."""
    found = np.full(len(path), -1)
    reach = OVERLAP_REACH_US // CELL_US
    for change in (np.flatnonzero((path[1:] != path[:-1]) & spoken[1:] & spoken[:-1]) + 1).tolist():
        one, other = int(path[change - 1]), int(path[change])
        # Cosine with the middle of both voices, from the cosines with each.
        scale = float(np.linalg.norm(centres[one] + centres[other]))
        middle = (near[:, one] + near[:, other]) / scale
        margin = np.interp(middle_us, at_us, middle - np.maximum(near[:, one], near[:, other]))
        for cell in range(max(0, change - reach), min(len(path), change + reach)):
            if spoken[cell] and margin[cell] > OVERLAP_MARGIN and path[cell] in (one, other):
                found[cell] = other if path[cell] == one else one
    return found


def _stretches(span: Span, path: Ints, second: Ints) -> list[tuple[int, int, tuple[int, int]]]:
    """(start, end, (speaker, other)) of the stretches of one speech span in which nothing changes, each of at least
    MIN_TURN_US where the span is."""
    first, last = span.start_us // CELL_US, min(len(path) - 1, (span.end_us - 1) // CELL_US)
    start_us = span.start_us
    found: list[tuple[int, int, tuple[int, int]]] = []
    for cell in range(first, last + 1):
        now = (int(path[cell]), int(second[cell]))
        if cell == last or now != (int(path[cell + 1]), int(second[cell + 1])):
            end_us = span.end_us if cell == last else (cell + 1) * CELL_US
            if found and (end_us - start_us < MIN_TURN_US or found[-1][2] == now):
                found[-1] = (found[-1][0], end_us, found[-1][2])
            else:
                found.append((start_us, end_us, now))
            start_us = end_us
    if len(found) > 1 and found[0][1] - found[0][0] < MIN_TURN_US:
        found[:2] = [(found[0][0], found[1][1], found[1][2])]
    return found


def named(stretches: Sequence[tuple[Span, int, bool]]) -> tuple[Turn, ...]:
    """Turns with speakers called 1, 2, … as they are first heard."""
    names: dict[int, str] = {}
    for _, speaker, _ in stretches:
        names.setdefault(speaker, str(len(names) + 1))
    return tuple(Turn(span, names[speaker], overlap) for span, speaker, overlap in stretches)


def _unit(vectors: F32) -> F32:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-9), np.float32)


def _edges(flags: Flags) -> list[tuple[int, int]]:
    """Half-open runs of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
