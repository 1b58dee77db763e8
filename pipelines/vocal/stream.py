"""Vocal stress features of a stretch of speech as its sound comes: per second, and over the whole."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.signal

from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32, VocalFeatures
from affectline.pipelines.vocal.analysis import (
    F64,
    HOP,
    MARGIN,
    Place,
    best_path,
    candidates,
    levels_db,
    likeness,
    perturbation,
    spectral_shape,
)

FRAME_SAMPLES: Final = 512
"""Samples at RATE_HZ per speech decision of `vocal_features` (32 ms)."""
MAX_SECONDS: Final = 30
"""A stretch's features cover its last seconds, at most this many."""

_AHEAD_FRAMES = 10
"""Frames after a block that its pitch path takes into account."""
_MIN_VOICED_FRAMES = 10
_MIN_SLOPE_S = 0.3
_MIN_PERIODS = 10
_MIN_RATE_S = 0.5
# De Jong & Wempe (2009): a nucleus lies at most 25 dB below the loud parts, after a dip of 2 dB.
_SYLLABLE_FLOOR_DB, _SYLLABLE_DIP_DB = 25.0, 2.0

_STEADY_FRAMES = 5
"""Spectra are compared with those this many frames later: 50 ms, windows that do not overlap."""
_STEADY_LIKENESS = 0.98
_CLIPPED_FROM = 0.95
"""Of the peak: natural speech has less than 0.06 % of its samples from here on, clipped speech its flat tops."""


@dataclass(frozen=True, slots=True)
class _Block:
    """The frames of one second of the call."""

    f0_hz: F64
    """[frames]; 0 = unvoiced or no speech."""
    strength: F64
    """[frames] autocorrelation at that period, in (0, 1); 0 = unvoiced."""
    shape: F64
    """[frames, 3] spectral_shape; NaN = unvoiced."""
    level_db: F64
    """[frames]"""
    perturbation: F64
    """[2, 3] sums for jitter and shimmer."""
    spoken_frames: int
    steady: int
    """Pairs of spoken frames whose spectra are alike as only tones' are …"""
    pairs: int
    """… of this many."""
    first: int
    """First spoken sample, counted from the stretch's start; == end where nothing is spoken."""
    end: int
    """After the last spoken sample."""
    spoken_samples: int
    energy: float
    """Sum of squares of spoken samples."""
    clipped: int
    """Spoken samples near the peak so far."""


class VocalStream:
    """One stretch of speech, an utterance for example.

    What comes out does not depend on how the sound was cut into pieces. Memory is constant: samples of about a
    second, and the frames of the last MAX_SECONDS.

    start_sample: place of the first sample in the call at RATE_HZ; it sets where seconds begin.
    """

    def __init__(self, start_sample: int = 0) -> None:
        self._start_sample = start_sample
        self._pcm: F32 = np.zeros(MARGIN, np.float32)
        self._spoken = np.zeros(MARGIN, np.bool_)
        self._done = 0
        """Samples of the blocks behind; buffer[MARGIN] is this sample."""
        self._low, self._high = 0.0, 0.0
        self._place: Place | None = None
        self._blocks: deque[_Block] = deque(maxlen=MAX_SECONDS)

    def feed(self, pcm: F32, speech: bool | npt.NDArray[np.bool_]) -> list[tuple[int, VocalFeatures]]:
        """(second of the call, its features) of each second completed, 0.2 s after its end.

        pcm [n] at RATE_HZ, any n; speech: whether it is speech rather than a pause, for all of it or [n].
        """
        self._pcm = np.concatenate((self._pcm, pcm))
        self._spoken = np.concatenate((self._spoken, np.broadcast_to(speech, len(pcm))))
        seconds = []
        while len(self._pcm) >= 2 * MARGIN + (self._frames_left() + _AHEAD_FRAMES) * HOP:
            seconds.append(self._second(self._frames_left()))
        return seconds

    def finish(self) -> list[tuple[int, VocalFeatures]]:
        """The seconds still open; nothing may be fed after it."""
        rest = len(self._pcm) - MARGIN
        after = np.zeros(MARGIN + _AHEAD_FRAMES * HOP + HOP, np.float32)
        self._pcm = np.concatenate((self._pcm, after))
        self._spoken = np.concatenate((self._spoken, after > 0))
        seconds = []
        while rest > 0:
            frames = min(self._frames_left(), -(-rest // HOP))
            seconds.append(self._second(frames))
            rest -= frames * HOP
        return seconds

    def features(self) -> VocalFeatures:
        """Of the whole stretch so far; after `finish`, of all of it."""
        return _summary(self._blocks)

    def _frames_left(self) -> int:
        """Frames from here to the end of the call's second."""
        return -(-(RATE_HZ - (self._start_sample + self._done) % RATE_HZ) // HOP)

    def _second(self, count: int) -> tuple[int, VocalFeatures]:
        second = (self._start_sample + self._done) // RATE_HZ
        block = self._analyse(count)
        self._blocks.append(block)
        self._done += count * HOP
        self._pcm = self._pcm[count * HOP :]
        self._spoken = self._spoken[count * HOP :]
        return second, _summary([block])

    def _analyse(self, count: int) -> _Block:
        samples = count * HOP
        pcm = self._pcm[: 2 * MARGIN + samples + _AHEAD_FRAMES * HOP]
        self._low, self._high = min(self._low, float(pcm.min())), max(self._high, float(pcm.max()))
        peak = max(-self._low, self._high)
        spoken = self._spoken[MARGIN : MARGIN + samples]
        heard = pcm[MARGIN : MARGIN + samples][spoken]
        edges = np.flatnonzero(spoken)[[0, -1]] + (0, 1) if len(heard) else np.zeros(2, np.intp)
        f0_hz, strength = np.zeros((2, count))
        shape = np.full((count, 3), np.nan)
        sums = np.zeros((2, 3))
        alike: F64 = np.zeros(0)
        frames = np.flatnonzero(self._spoken[MARGIN : MARGIN + samples + _AHEAD_FRAMES * HOP : HOP])
        spoken_frames = int((frames < count).sum())
        if spoken_frames:
            found = candidates(pcm, frames, peak)
            place = self._place and replace(self._place, frame=self._place.frame - self._done // HOP)
            path = best_path(found, place)[:spoken_frames]
            rows, frames = np.arange(spoken_frames), frames[:spoken_frames]
            voiced = path > 0
            lag, height = found.lag[rows, path], found.height[rows, path]
            f0_hz[frames] = np.where(voiced, RATE_HZ / lag, 0)
            strength[frames] = np.where(voiced, np.clip(height, 1e-6, 1 - 1e-6), 0)
            self._place = Place(int(frames[-1]) + self._done // HOP, bool(voiced[-1]), math.log2(RATE_HZ / lag[-1]))
            power = found.power[:spoken_frames]
            alike = likeness(power, frames, _STEADY_FRAMES)
            shape[frames[voiced]] = spectral_shape(power[voiced])
            same_voice = np.where(_usual(np.concatenate([*(b.f0_hz for b in self._blocks), f0_hz]), f0_hz), f0_hz, 0)
            if same_voice.any():
                sums = perturbation(pcm, same_voice, 1 if self._high > -self._low else -1)
        return _Block(
            f0_hz=f0_hz,
            strength=strength,
            shape=shape,
            level_db=levels_db(pcm, count),
            perturbation=sums,
            spoken_frames=spoken_frames,
            steady=int((alike > _STEADY_LIKENESS).sum()),
            pairs=len(alike),
            first=self._done + int(edges[0]),
            end=self._done + int(edges[1]),
            spoken_samples=len(heard),
            energy=float(np.square(heard, dtype=np.float64).sum()),
            clipped=int((np.abs(heard) > _CLIPPED_FROM * peak).sum()),
        )


def vocal_features(pcm: F32, speech: npt.NDArray[np.bool_] | None = None) -> VocalFeatures:
    """Features of one utterance.

    pcm [n] at RATE_HZ; speech [about n / FRAME_SAMPLES]: whether each frame of 32 ms is speech (None: all is; frames
    beyond its end are not).
    """
    spoken = np.ones(len(pcm), np.bool_)
    if speech is not None:
        spoken = np.repeat(speech, FRAME_SAMPLES)[: len(pcm)]
        spoken = np.pad(spoken, (0, len(pcm) - len(spoken)))
    stream = VocalStream()
    stream.feed(pcm, spoken)
    stream.finish()
    return stream.features()


def _usual(all_f0_hz: F64, f0_hz: F64) -> npt.NDArray[np.bool_]:
    """Which are voiced and at most an octave from the median of all: further out lie friction and octave errors."""
    usual_hz = np.median(all_f0_hz[all_f0_hz > 0]) if all_f0_hz.any() else np.inf
    return (f0_hz >= usual_hz / 2) & (f0_hz <= usual_hz * 2)


def _syllables(level_db: F64, voiced: npt.NDArray[np.bool_]) -> int:
    """Syllable nuclei: voiced peaks of intensity (de Jong & Wempe 2009)."""
    floor_db = np.quantile(level_db, 0.99) - _SYLLABLE_FLOOR_DB
    peaks, _ = scipy.signal.find_peaks(level_db, height=floor_db, prominence=_SYLLABLE_DIP_DB)
    return int(voiced[peaks].sum())


def _relative_change(sums: F64) -> float | None:
    """Mean change from one period to the next over the mean value: local jitter, or shimmer."""
    changes, values, pairs = sums
    return float(changes / values) if pairs >= _MIN_PERIODS - 1 else None


def _summary(blocks: Sequence[_Block]) -> VocalFeatures:
    """Features over the frames of all blocks; None what they carry too little for."""
    spoken_samples = sum(b.spoken_samples for b in blocks)
    energy = sum(b.energy for b in blocks)
    if energy < 1e-10 * spoken_samples or not spoken_samples:
        return VocalFeatures(flaws=("no speech",))
    first = min(b.first for b in blocks if b.spoken_samples)
    span = max(b.end for b in blocks if b.spoken_samples) - first
    features = VocalFeatures(
        intensity_db=10 * math.log10(energy / spoken_samples), pause_ratio=1 - spoken_samples / span
    )
    spoken_frames = sum(b.spoken_frames for b in blocks)
    if spoken_frames < _MIN_VOICED_FRAMES:
        return replace(features, flaws=("too little speech",))

    f0_hz = np.concatenate([b.f0_hz for b in blocks])
    voiced = _usual(f0_hz, f0_hz)
    spoken_s = spoken_samples / RATE_HZ
    level_db = np.concatenate([b.level_db for b in blocks])
    rate = _syllables(level_db, voiced) / spoken_s if spoken_s >= _MIN_RATE_S else None
    quality, flaws = _fitness(blocks, spoken_s, int(voiced.sum()) / spoken_frames)
    features = replace(
        features,
        rate_syllables_s=rate,
        voiced_ratio=float(voiced.sum() / spoken_frames),
        quality=quality,
        flaws=flaws,
    )
    if voiced.sum() < _MIN_VOICED_FRAMES:
        return features

    semitones = 12 * np.log2(f0_hz[voiced])
    low, high = np.percentile(semitones, (10, 90))
    times_s = np.flatnonzero(voiced) * HOP / RATE_HZ
    slope = float(np.polyfit(times_s, semitones, 1)[0]) if np.ptp(times_s) >= _MIN_SLOPE_S else None
    strength = np.concatenate([b.strength for b in blocks])[voiced]
    alpha, hammarberg, tilt = np.concatenate([b.shape for b in blocks])[voiced].mean(axis=0).tolist()
    jitter, shimmer = map(_relative_change, np.sum([b.perturbation for b in blocks], axis=0))
    return replace(
        features,
        f0_median_hz=float(np.median(f0_hz[voiced])),
        f0_range_semitones=float(high - low),
        f0_slope_semitones_s=slope,
        f0_deviation_semitones=float(semitones.std(ddof=1)),
        jitter=jitter,
        shimmer=shimmer,
        hnr_db=float(np.mean(10 * np.log10(strength / (1 - strength)))),
        alpha_ratio_db=alpha,
        hammarberg_db=hammarberg,
        spectral_slope_db_khz=tilt,
    )


def _fitness(blocks: Sequence[_Block], spoken_s: float, voiced_ratio: float) -> tuple[float, tuple[str, ...]]:
    """How fit the sound is for these features, in [0, 1], and what is wrong with it."""
    clipped = sum(b.clipped for b in blocks) / sum(b.spoken_samples for b in blocks)
    steady = sum(b.steady for b in blocks) / max(1, sum(b.pairs for b in blocks))
    measures = [
        (spoken_s / 0.8, "too little speech"),
        (voiced_ratio / 0.25, "hardly any voice"),
        (1.25 - 7.5 * steady, "steady tones"),
    ]
    if steady < 0.1:  # a sine has as many samples near its peak as clipped speech
        measures.append((1 - 25 * clipped, "clipped"))
    factors = [(float(np.clip(value, 0, 1)), flaw) for value, flaw in measures]
    return math.prod(factor for factor, _ in factors), tuple(flaw for factor, flaw in factors if factor < 0.75)
