"""Vocal stress features of an utterance, a speaker's own baseline, and a first stress score.

Pitch, voicing and harmonicity come from one pass of normalised autocorrelation (Boersma 1993, "Accurate
short-term analysis of the fundamental frequency and the harmonics-to-noise ratio of a sampled sound"), the
method behind Praat, whose values the features are checked against.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32, VocalFeatures

FRAME_SAMPLES: Final = 512
"""Samples at RATE_HZ per speech decision (32 ms)."""

F0_MIN_HZ: Final = 60.0
F0_MAX_HZ: Final = 500.0

_HOP = RATE_HZ // 100
_WINDOW = round(3 * RATE_HZ / F0_MIN_HZ)
_LAGS = np.arange(int(RATE_HZ / F0_MAX_HZ) - 1, int(RATE_HZ / F0_MIN_HZ) + 2)
_FFT = scipy.fft.next_fast_len(_WINDOW + _LAGS[-1], real=True)
_HANN = scipy.signal.windows.hann(_WINDOW, sym=False).astype(np.float32)
_CANDIDATES = 5

# Praat's standard costs; the two of transitions are per step of 10 ms.
_SILENCE_THRESHOLD, _VOICING_THRESHOLD = 0.03, 0.45
_OCTAVE_COST, _OCTAVE_JUMP_COST, _VOICING_CHANGE_COST = 0.01, 0.35, 0.14

_MIN_VOICED_FRAMES = 10
_MIN_SLOPE_S = 0.3
_MIN_PERIODS = 10
_MIN_RATE_S = 0.5
# Praat's standard limits of what still counts as the same voice from one period to the next.
_MAX_PERIOD_FACTOR, _MAX_AMPLITUDE_FACTOR = 1.3, 1.6

# De Jong & Wempe (2009): a nucleus lies at most 25 dB below the loud parts, after a dip of 2 dB.
_SYLLABLE_FLOOR_DB, _SYLLABLE_DIP_DB = 25.0, 2.0
_INTENSITY_WINDOW = scipy.signal.windows.kaiser(round(0.064 * RATE_HZ), 20.0).astype(np.float32)


def _window_autocorrelation() -> F32:
    spectrum = scipy.fft.rfft(_HANN, _FFT)
    correlation = scipy.fft.irfft(np.abs(spectrum) ** 2, _FFT)
    return np.asarray((correlation / correlation[0])[_LAGS], np.float32)


_HANN_CORRELATION = _window_autocorrelation()


def _track_pitch(pcm: F32, frames: npt.NDArray[np.intp]) -> tuple[F32, F32]:
    """Autocorrelation candidates per frame, joined into the best path (Boersma 1993).

    frames [m]: numbers of the frames to analyse, at least one; frame i is centred at sample i * _HOP. Returns
    F0 in Hz [m], 0 = unvoiced, and the autocorrelation at that period in (0, 1) [m], 0 = unvoiced.
    """
    rows = np.arange(len(frames))
    padded = np.pad(pcm, _WINDOW // 2 + 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[frames * _HOP + 1]
    windows = windows - windows.mean(axis=1, keepdims=True)
    peak = np.abs(windows[:, _WINDOW // 3 : 2 * _WINDOW // 3]).max(axis=1)
    spectrum = scipy.fft.rfft(windows * _HANN, _FFT)
    correlation = scipy.fft.irfft(spectrum.real**2 + spectrum.imag**2, _FFT)[:, : _LAGS[-1] + 1]
    energy = np.maximum(correlation[:, :1], 1e-12)
    r = correlation[:, _LAGS] / energy / _HANN_CORRELATION

    # Local maxima, refined by a parabola through three points.
    left, middle, right = r[:, :-2], r[:, 1:-1], r[:, 2:]
    bend = np.maximum(2 * middle - left - right, 1e-9)
    shift = np.clip(0.5 * (right - left) / bend, -0.5, 0.5)
    height = middle + 0.25 * (right - left) * shift
    height = np.where(height > 1, 1 / np.maximum(height, 1), height)  # as Praat: never above 1
    lag = _LAGS[1:-1] + shift
    score = height - _OCTAVE_COST * np.log2(F0_MIN_HZ * lag / RATE_HZ)
    score = np.where((middle > left) & (middle >= right) & (height > 0.2), score, -np.inf)

    # Candidate 0 is "unvoiced"; the others are the best maxima.
    best = np.argpartition(-score, _CANDIDATES - 1, axis=1)[:, :_CANDIDATES]
    floor = _SILENCE_THRESHOLD / (1 + _VOICING_THRESHOLD)
    loudness = peak / max(float(np.abs(pcm).max()), 1e-9)
    unvoiced = _VOICING_THRESHOLD + np.maximum(0, 2 - loudness / floor)
    scores = np.column_stack((unvoiced, np.take_along_axis(score, best, axis=1)))
    octave = np.column_stack((np.zeros(len(rows)), np.log2(RATE_HZ / np.take_along_axis(lag, best, axis=1))))
    voiced = np.arange(_CANDIDATES + 1) > 0

    change = _VOICING_CHANGE_COST * (voiced[:, None] != voiced[None, :])
    both = _OCTAVE_JUMP_COST * (voiced[:, None] & voiced[None, :])
    cost = change + both * np.abs(octave[:-1, :, None] - octave[1:, None, :])
    cost *= (np.diff(frames) == 1)[:, None, None]
    total = scores[0]
    origin = np.zeros(scores.shape, np.intp)
    for i in rows[1:]:
        reach = total[:, None] - cost[i - 1]
        origin[i] = reach.argmax(axis=0)
        total = reach.max(axis=0) + scores[i]
    path = np.empty(len(rows), np.intp)
    path[-1] = total.argmax()
    for i in rows[:0:-1]:
        path[i - 1] = origin[i, path[i]]

    chosen = best[rows, path - 1]
    is_voiced = path > 0
    return (
        np.where(is_voiced, RATE_HZ / lag[rows, chosen], 0).astype(np.float32),
        np.where(is_voiced, np.clip(height[rows, chosen], 1e-6, 1 - 1e-6), 0).astype(np.float32),
    )


def _perturbation(pcm: F32, f0_hz: F32) -> tuple[float | None, float | None]:
    """Local jitter and shimmer from glottal periods.

    Periods are found as in Praat's "To PointProcess (cc)": the lag at which one period around a pulse is most
    like the next; amplitudes are RMS levels around the pulses. `f0_hz` [frames]: 0 = unvoiced.
    """
    # Pulses lie about where the running phase of F0 crosses whole numbers …
    samples = np.arange(len(pcm))
    nearest = np.minimum((samples + _HOP // 2) // _HOP, len(f0_hz) - 1)
    voiced = f0_hz > 0
    f0 = np.interp(samples, np.flatnonzero(voiced) * _HOP, f0_hz[voiced])
    turns = np.floor(np.cumsum(f0 / RATE_HZ))
    at = np.flatnonzero((np.diff(turns, prepend=0) > 0) & voiced[nearest])
    period = RATE_HZ / f0[at]
    half = math.ceil(period.max(initial=1) / 2)
    reach = half // 2 + 1
    margin = 6 * half
    at = at + margin
    x = np.pad(pcm, margin)

    # … and exactly at the strongest peak of their period.
    around = np.arange(-half, half + 1)
    inside = np.abs(around) <= period[:, None] / 2
    polarity = 1 if pcm.max() > -pcm.min() else -1
    at = at + around[np.where(inside, polarity * x[at[:, None] + around], -np.inf).argmax(axis=1)]
    kept = np.diff(at, prepend=-margin) > 0.6 * period
    at, period, inside = at[kept], period[kept], inside[kept]
    if len(at) < _MIN_PERIODS:
        return None, None
    window = x[at[:, None] + around] * inside

    whole = np.rint(period).astype(np.intp)
    lags = whole[:, None] + np.arange(-reach, reach + 1)
    ahead = x[(at + whole)[:, None] + np.arange(-half - reach, half + reach + 1)]
    size = scipy.fft.next_fast_len(ahead.shape[1], real=True)
    product = scipy.fft.irfft(scipy.fft.rfft(ahead, size) * scipy.fft.rfft(window, size).conj(), size)
    energy = np.concatenate(([0.0], np.cumsum(np.square(x, dtype=np.float64))))
    wide = np.floor(period / 2).astype(np.intp)[:, None]
    centre = at[:, None] + lags
    power = energy[centre + wide + 1] - energy[centre - wide]
    likeness = product[:, : 2 * reach + 1] / np.sqrt(np.maximum(power, 1e-12))
    likeness[(lags < 0.8 * period[:, None]) | (lags > 1.25 * period[:, None])] = -np.inf
    rows = np.arange(len(at))
    top = np.clip(likeness.argmax(axis=1), 1, 2 * reach - 1)
    before, peak, after = (likeness[rows, top + step] for step in (-1, 0, 1))
    with np.errstate(invalid="ignore"):
        shift = 0.5 * (after - before) / (2 * peak - before - after)
    periods = lags[rows, top] + np.where(np.isfinite(shift), np.clip(shift, -0.5, 0.5), 0)

    weight = np.cos(np.pi / 2 * np.minimum(np.abs(around) / (0.2 * period[:, None]), 1)) ** 4
    amplitudes = np.sqrt((window**2 * weight).sum(axis=1) / weight.sum(axis=1))

    follows = np.diff(at) < _MAX_PERIOD_FACTOR * period[:-1]
    same_voice = follows & (_ratio(periods) <= _MAX_PERIOD_FACTOR)
    jitter = _relative_change(periods, same_voice)
    return jitter, _relative_change(amplitudes, same_voice & (_ratio(amplitudes) <= _MAX_AMPLITUDE_FACTOR))


def _ratio(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Larger over smaller of each value and its successor."""
    change: npt.NDArray[np.float64] = np.abs(np.diff(np.log(np.maximum(values, 1e-9))))
    return np.exp(change)


def _relative_change(values: npt.NDArray[np.float64], used: npt.NDArray[np.bool_]) -> float | None:
    if used.sum() < _MIN_PERIODS - 1:
        return None
    return float(np.abs(np.diff(values))[used].mean() / values[:-1][used].mean())


def _syllables(pcm: F32, voiced: npt.NDArray[np.bool_]) -> int:
    """Syllable nuclei: voiced peaks of intensity (de Jong & Wempe 2009)."""
    half = len(_INTENSITY_WINDOW) // 2
    power = np.lib.stride_tricks.sliding_window_view(np.pad(pcm, half) ** 2, len(_INTENSITY_WINDOW))[::_HOP]
    level_db = 10 * np.log10(power @ _INTENSITY_WINDOW + 1e-12)
    floor_db = np.quantile(level_db, 0.99) - _SYLLABLE_FLOOR_DB
    peaks, _ = scipy.signal.find_peaks(level_db, height=floor_db, prominence=_SYLLABLE_DIP_DB)
    return int(voiced[np.minimum(peaks, len(voiced) - 1)].sum())


def vocal_features(pcm: F32, speech: npt.NDArray[np.bool_] | None = None) -> VocalFeatures:
    """Features of one utterance.

    pcm [n] at RATE_HZ, 0.3 to 15 s in use; speech [about n / FRAME_SAMPLES]: whether each frame of 32 ms is
    speech (None: all is; frames beyond its end are not). What the input is too short, too quiet or too little
    voiced for is None: pitch needs 0.1 s of voice, its slope 0.3 s, the rate 0.5 s of speech.
    """
    if speech is None:
        speech = np.ones(math.ceil(len(pcm) / FRAME_SAMPLES), np.bool_)
    spoken = np.repeat(speech, FRAME_SAMPLES)[: len(pcm)]
    spoken_samples = int(spoken.sum())
    mean_square = float(np.square(pcm[: len(spoken)])[spoken].mean()) if spoken_samples else 0.0
    if mean_square < 1e-10:
        return VocalFeatures(pause_ratio=1.0 if len(pcm) else None)

    features = VocalFeatures(intensity_db=10 * math.log10(mean_square), pause_ratio=1 - spoken_samples / len(pcm))
    if spoken_samples < _MIN_VOICED_FRAMES * _HOP:
        return features

    frame_count = len(pcm) // _HOP + 1
    starts = np.arange(frame_count) * _HOP
    frames = np.flatnonzero((starts < len(spoken)) & spoken[np.minimum(starts, len(spoken) - 1)])
    f0_hz, strength = np.zeros((2, frame_count), np.float32)
    f0_hz[frames], strength[frames] = _track_pitch(pcm, frames)
    if f0_hz.any():
        # Further than an octave from the median lie friction and octave errors, not voice.
        usual_hz = np.median(f0_hz[f0_hz > 0])
        f0_hz[(f0_hz < usual_hz / 2) | (f0_hz > usual_hz * 2)] = 0
    voiced = f0_hz > 0
    spoken_s = spoken_samples / RATE_HZ
    rate = _syllables(pcm, voiced) / spoken_s if spoken_s >= _MIN_RATE_S else None
    features = replace(features, rate_syllables_s=rate, voiced_ratio=float(voiced.mean()))
    if voiced.sum() < _MIN_VOICED_FRAMES:
        return features

    semitones = 12 * np.log2(f0_hz[voiced])
    low, high = np.percentile(semitones, (10, 90))
    times_s = np.flatnonzero(voiced) * _HOP / RATE_HZ
    slope = float(np.polyfit(times_s, semitones, 1)[0]) if np.ptp(times_s) >= _MIN_SLOPE_S else None
    likeness = strength[voiced].astype(np.float64)
    jitter, shimmer = _perturbation(pcm, f0_hz)
    return replace(
        features,
        f0_median_hz=float(np.median(f0_hz[voiced])),
        f0_range_semitones=float(high - low),
        f0_slope_semitones_s=slope,
        f0_deviation_semitones=float(semitones.std(ddof=1)),
        jitter=jitter,
        shimmer=shimmer,
        hnr_db=float(np.mean(10 * np.log10(likeness / (1 - likeness)))),
    )


@dataclass(frozen=True, slots=True)
class _Scale:
    spread: float
    """Smallest standard deviation assumed, in the unit compared: about what one speaker's calm utterances
    show (EmoDB, neutral), so that a few alike utterances do not make every other one an outlier."""
    log_factor: float = 0.0
    """Factor of the logarithm the feature is compared by; 0 compares it as it is."""

    def __call__(self, value: float) -> float:
        return self.log_factor * math.log(max(value, 1e-9)) if self.log_factor else value


_SCALES: Final[Mapping[str, _Scale]] = MappingProxyType(
    {
        "f0_median_hz": _Scale(1.0, 12 / math.log(2)),
        "f0_range_semitones": _Scale(1.5),
        "f0_slope_semitones_s": _Scale(3.0),
        "f0_deviation_semitones": _Scale(0.7),
        "intensity_db": _Scale(2.0),
        "jitter": _Scale(0.15, 1.0),
        "shimmer": _Scale(0.1, 1.0),
        "hnr_db": _Scale(1.2),
        "rate_syllables_s": _Scale(0.75),
        "pause_ratio": _Scale(0.1),
        "voiced_ratio": _Scale(0.08),
    }
)


class SpeakerBaseline:
    """What is usual for one speaker in this call: running median and MAD of each feature.

    Ready after 3 voiced utterances with 8 s of speech. From then on, utterances that are far out on the tense
    side (stress above 0.75) are not learnt, so that a long outburst does not become the usual; calmer ones
    always are, so that a tense start is corrected. The last 64 utterances count.
    """

    MIN_UTTERANCES: Final = 3
    MIN_SPEECH_US: Final = 8_000_000
    MAX_STRESS: Final = 0.75
    MEMORY: Final = 64

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {name: deque(maxlen=self.MEMORY) for name in _SCALES}
        self._utterances = 0
        self._speech_us = 0

    @property
    def ready(self) -> bool:
        return self._utterances >= self.MIN_UTTERANCES and self._speech_us >= self.MIN_SPEECH_US

    def learn(self, features: VocalFeatures, speech_us: int) -> None:
        """Takes in one utterance with this much speech; one without a pitch says nothing of the speaker."""
        if features.f0_median_hz is None or (self.ready and stress(self.deviations(features)) > self.MAX_STRESS):
            return
        self._utterances += 1
        self._speech_us += speech_us
        for name, values in self._values.items():
            value = getattr(features, name)
            if value is not None:
                values.append(_SCALES[name](value))

    def deviations(self, features: VocalFeatures) -> dict[str, float]:
        """Feature name -> robust z-score (distance from the median over 1.4826 MAD); empty until `ready`.

        Pitch is compared in semitones, jitter and shimmer by their logarithms. Features missing here, or
        known from fewer than 3 utterances, are left out.
        """
        scores: dict[str, float] = {}
        for name, values in self._values.items() if self.ready else ():
            value = getattr(features, name)
            if value is not None and len(values) >= self.MIN_UTTERANCES:
                median = float(np.median(values))
                mad = float(np.median(np.abs(np.array(values) - median)))
                scores[name] = (_SCALES[name](value) - median) / max(1.4826 * mad, _SCALES[name].spread)
        return scores


_CALM_LOGIT = math.log(1 / 3)
"""A speaker at their own usual scores 0.25."""

# Weight per robust z-score. Chosen by convention from the direction the literature agrees on (raised, wider,
# louder, faster voice under tension; Scherer 2003, Giddens et al. 2013), not fitted to data.
_STRESS_WEIGHTS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "f0_median_hz": 0.50,
        "intensity_db": 0.35,
        "f0_range_semitones": 0.15,
        "rate_syllables_s": 0.15,
        "hnr_db": -0.15,
    }
)
# Studies disagree on the direction of these, so that any change counts.
_STRESS_CHANGE_WEIGHTS: Final[Mapping[str, float]] = MappingProxyType({"jitter": 0.05, "shimmer": 0.05})
_MAX_DEVIATION = 3.0


def stress(deviations: Mapping[str, float]) -> float:
    """Vocal tension against the speaker's own usual, in [0, 1]; 0.25 at no deviation.

    A logistic function of a weighted sum of SpeakerBaseline.deviations, each limited to ±3, missing ones
    counted as none:

        F0 median 0.50, intensity 0.35, F0 range 0.15, rate 0.15, HNR −0.15, |jitter| 0.05, |shimmer| 0.05

    A first version with weights by convention. It follows arousal, joyful as well as angry, and is not a lie
    detector: it says nothing of truth or intent.
    """
    logit = _CALM_LOGIT
    for name, score in deviations.items():
        limited = min(max(score, -_MAX_DEVIATION), _MAX_DEVIATION)
        logit += _STRESS_WEIGHTS.get(name, 0) * limited + _STRESS_CHANGE_WEIGHTS.get(name, 0) * abs(limited)
    return 1 / (1 + math.exp(-logit))
