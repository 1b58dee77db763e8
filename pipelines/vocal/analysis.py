"""Frame by frame: pitch, periods of the voice, spectrum and level.

Pitch, voicing and harmonicity come from normalised autocorrelation (Boersma 1993, "Accurate short-term analysis of
the fundamental frequency and the harmonics-to-noise ratio of a sampled sound"), the method behind Praat; the spectral
features come from the same transform, as defined by eGeMAPS (Eyben et al. 2016).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal

from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32

F64 = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

F0_MIN_HZ: Final = 60.0
F0_MAX_HZ: Final = 500.0
HOP: Final = RATE_HZ // 100
"""Samples from one frame to the next (10 ms); frame i is centred at sample i * HOP."""
WINDOW: Final = round(3 * RATE_HZ / F0_MIN_HZ)
"""Samples per frame (50 ms)."""
MARGIN: Final = 1_024
"""Samples before the first and after the last frame that its analysis may look at."""

_LAGS = np.arange(int(RATE_HZ / F0_MAX_HZ) - 1, int(RATE_HZ / F0_MIN_HZ) + 2)
_FFT = scipy.fft.next_fast_len(WINDOW + _LAGS[-1], real=True)
_HANN = scipy.signal.windows.hann(WINDOW, sym=False).astype(np.float32)
_CANDIDATES = 5

# Praat's standard costs; the two of transitions are per step of 10 ms.
_SILENCE_THRESHOLD, _VOICING_THRESHOLD = 0.03, 0.45
_OCTAVE_COST, _OCTAVE_JUMP_COST, _VOICING_CHANGE_COST = 0.01, 0.35, 0.14
# Praat's standard limits of what still counts as the same voice from one period to the next.
_MAX_PERIOD_FACTOR, _MAX_AMPLITUDE_FACTOR = 1.3, 1.6

_LEVEL_WINDOW = scipy.signal.windows.kaiser(round(0.064 * RATE_HZ), 20.0).astype(np.float32)


def _window_autocorrelation() -> F32:
    spectrum = scipy.fft.rfft(_HANN, _FFT)
    correlation = scipy.fft.irfft(np.abs(spectrum) ** 2, _FFT)
    return np.asarray((correlation / correlation[0])[_LAGS], np.float32)


_HANN_CORRELATION = _window_autocorrelation()


def _bins(low_hz: float, high_hz: float) -> slice:
    return slice(math.ceil(low_hz * _FFT / RATE_HZ), math.floor(high_hz * _FFT / RATE_HZ) + 1)


_LOW, _HIGH = _bins(50, 1_000), _bins(1_000, 5_000)
_BELOW_2_KHZ, _ABOVE_2_KHZ = _bins(0, 2_000), _bins(2_000, 5_000)
_SLOPE = _bins(500, 1_500)
_SLOPE_KHZ = np.arange(_SLOPE.start, _SLOPE.stop) * RATE_HZ / _FFT / 1_000
_SLOPE_WEIGHTS = (_SLOPE_KHZ - _SLOPE_KHZ.mean()) / np.square(_SLOPE_KHZ - _SLOPE_KHZ.mean()).sum()
_TELEPHONE = _bins(300, 3_400)


@dataclass(frozen=True, slots=True)
class Candidates:
    """What each of m frames may be: column 0 "unvoiced", the others the best maxima of its autocorrelation."""

    frames: Indices
    """[m] frame numbers, ascending."""
    score: F64
    """[m, 1 + candidates]."""
    lag: F64
    """[m, 1 + candidates] in samples; 1 where unvoiced."""
    height: F64
    """[m, 1 + candidates] normalised autocorrelation there, at most 1; 0 where unvoiced."""
    power: F32
    """[m, bins] power spectrum."""


def candidates(pcm: F32, frames: Indices, peak: float) -> Candidates:
    """Pitch candidates of `frames` (Boersma 1993); pcm[MARGIN] is sample 0. `peak`: the sound's largest amplitude."""
    starts = frames * HOP + MARGIN - WINDOW // 2
    windows = np.lib.stride_tricks.sliding_window_view(pcm, WINDOW)[starts]
    windows = windows - windows.mean(axis=1, keepdims=True)
    loudness = np.abs(windows[:, WINDOW // 3 : 2 * WINDOW // 3]).max(axis=1) / max(peak, 1e-9)
    spectrum = scipy.fft.rfft(windows * _HANN, _FFT)
    power = spectrum.real**2 + spectrum.imag**2
    correlation = scipy.fft.irfft(power, _FFT)[:, : _LAGS[-1] + 1]
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
    best = np.argpartition(-score, _CANDIDATES - 1, axis=1)[:, :_CANDIDATES]
    floor = _SILENCE_THRESHOLD / (1 + _VOICING_THRESHOLD)
    unvoiced = _VOICING_THRESHOLD + np.maximum(0, 2 - loudness / floor)

    def table(of_unvoiced: npt.ArrayLike, of_maxima: npt.NDArray[np.floating]) -> F64:
        first = np.broadcast_to(np.asarray(of_unvoiced, np.float64), len(frames))
        return np.column_stack((first, np.take_along_axis(of_maxima, best, axis=1)))

    return Candidates(frames, table(unvoiced, score), table(1, lag), table(0, height), power)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pitch path stands: what it goes on from."""

    frame: int
    voiced: bool
    octave: float


def best_path(of: Candidates, before: Place | None) -> Indices:
    """The chosen column of each frame: the path with the best sum of scores less the costs of changes."""
    voiced = np.arange(of.score.shape[1]) > 0
    octave = np.log2(RATE_HZ / of.lag)
    change = _VOICING_CHANGE_COST * (voiced[:, None] != voiced[None, :])
    both = _OCTAVE_JUMP_COST * (voiced[:, None] & voiced[None, :])
    cost = change + both * np.abs(octave[:-1, :, None] - octave[1:, None, :])
    cost *= (np.diff(of.frames) == 1)[:, None, None]
    total = of.score[0]
    if before is not None and before.frame == of.frames[0] - 1:
        jump = _OCTAVE_JUMP_COST * np.abs(octave[0] - before.octave) * (voiced & before.voiced)
        total = total - jump - _VOICING_CHANGE_COST * (voiced != before.voiced)
    origin = np.zeros(of.score.shape, np.intp)
    for i in range(1, len(origin)):
        reach = total[:, None] - cost[i - 1]
        origin[i] = reach.argmax(axis=0)
        total = reach.max(axis=0) + of.score[i]
    path = np.empty(len(origin), np.intp)
    path[-1] = total.argmax()
    for i in range(len(origin) - 1, 0, -1):
        path[i - 1] = origin[i, path[i]]
    return path


def spectral_shape(power: F32) -> F64:
    """Alpha ratio, Hammarberg index and slope of voiced frames' spectra, [m, bins] -> [m, 3].

    eGeMAPS (Eyben et al. 2016): energy of 1 to 5 kHz over that of 50 Hz to 1 kHz, in dB; strongest peak up to 2 kHz
    over strongest from 2 to 5 kHz, in dB; slope of a line through the log power spectrum from 500 to 1,500 Hz, in dB
    per kHz.
    """
    power = power + np.float32(1e-12)
    alpha = power[:, _HIGH].sum(axis=1) / power[:, _LOW].sum(axis=1)
    hammarberg = power[:, _BELOW_2_KHZ].max(axis=1) / power[:, _ABOVE_2_KHZ].max(axis=1)
    slope = 10 * np.log10(power[:, _SLOPE]) @ _SLOPE_WEIGHTS
    return np.column_stack((10 * np.log10(alpha), 10 * np.log10(hammarberg), slope))


def likeness(power: F32, frames: Indices, apart: int) -> F64:
    """Cosine between the amplitude spectra (300 to 3,400 Hz) of each two frames that are `apart` frames from each
    other: about 1 for steady tones, less for speech. [pairs]."""
    amplitude = np.sqrt(power[:, _TELEPHONE], dtype=np.float64)
    amplitude /= np.maximum(np.linalg.norm(amplitude, axis=1, keepdims=True), 1e-9)
    pairs = frames[apart:] - frames[:-apart] == apart
    return np.asarray((amplitude[apart:] * amplitude[:-apart]).sum(axis=1)[pairs])


def levels_db(pcm: F32, frames: int) -> F64:
    """Intensity contour of frames 0 to `frames` in dB re full scale, as Praat's; pcm[MARGIN] is sample 0."""
    start = MARGIN - len(_LEVEL_WINDOW) // 2
    squares = np.square(pcm[start : start + frames * HOP + len(_LEVEL_WINDOW)])
    power = np.lib.stride_tricks.sliding_window_view(squares, len(_LEVEL_WINDOW))[::HOP][:frames]
    return np.asarray(10 * np.log10(power @ _LEVEL_WINDOW / _LEVEL_WINDOW.sum() + 1e-12), np.float64)


def perturbation(pcm: F32, f0_hz: F64, polarity: int) -> F64:
    """Sums for local jitter and shimmer: [2, 3], each (changes, values, pairs) over pairs of successive periods.

    Periods are found as in Praat's "To PointProcess (cc)": the lag at which one period around a pulse is most like
    the next; amplitudes are RMS levels around the pulses. `f0_hz` [frames]: 0 = unvoiced; pcm[MARGIN] is sample 0.
    """
    # Pulses lie about where the running phase of F0 crosses whole numbers …
    samples = np.arange(len(f0_hz) * HOP)
    nearest = np.minimum((samples + HOP // 2) // HOP, len(f0_hz) - 1)
    voiced = f0_hz > 0
    f0 = np.interp(samples, np.flatnonzero(voiced) * HOP, f0_hz[voiced])
    turns = np.floor(np.cumsum(f0 / RATE_HZ))
    at = np.flatnonzero((np.diff(turns, prepend=0) > 0) & voiced[nearest])
    period = RATE_HZ / f0[at]
    half = math.ceil(period.max(initial=1) / 2)
    reach = half // 2 + 1
    at = at + MARGIN

    # … and exactly at the strongest peak of their period.
    around = np.arange(-half, half + 1)
    inside = np.abs(around) <= period[:, None] / 2
    at = at + around[np.where(inside, polarity * pcm[at[:, None] + around], -np.inf).argmax(axis=1)]
    kept = np.diff(at, prepend=0) > 0.6 * period
    at, period, inside = at[kept], period[kept], inside[kept]
    if len(at) < 2:
        return np.zeros((2, 3))
    window = pcm[at[:, None] + around] * inside

    whole = np.rint(period).astype(np.intp)
    lags = whole[:, None] + np.arange(-reach, reach + 1)
    ahead = pcm[(at + whole)[:, None] + np.arange(-half - reach, half + reach + 1)]
    size = scipy.fft.next_fast_len(ahead.shape[1], real=True)
    product = scipy.fft.irfft(scipy.fft.rfft(ahead, size) * scipy.fft.rfft(window, size).conj(), size)
    energy = np.concatenate(([0.0], np.cumsum(np.square(pcm, dtype=np.float64))))
    wide = np.floor(period / 2).astype(np.intp)[:, None]
    centre = at[:, None] + lags
    power = energy[centre + wide + 1] - energy[centre - wide]
    similar = product[:, : 2 * reach + 1] / np.sqrt(np.maximum(power, 1e-12))
    similar[(lags < 0.8 * period[:, None]) | (lags > 1.25 * period[:, None])] = -np.inf
    rows = np.arange(len(at))
    top = np.clip(similar.argmax(axis=1), 1, 2 * reach - 1)
    before, peak, after = (similar[rows, top + step] for step in (-1, 0, 1))
    with np.errstate(invalid="ignore"):
        shift = 0.5 * (after - before) / (2 * peak - before - after)
    periods = lags[rows, top] + np.where(np.isfinite(shift), np.clip(shift, -0.5, 0.5), 0)

    weight = np.cos(np.pi / 2 * np.minimum(np.abs(around) / (0.2 * period[:, None]), 1)) ** 4
    amplitudes = np.sqrt((window**2 * weight).sum(axis=1) / weight.sum(axis=1))

    same_voice = (np.diff(at) < _MAX_PERIOD_FACTOR * period[:-1]) & (_ratio(periods) <= _MAX_PERIOD_FACTOR)
    as_loud = same_voice & (_ratio(amplitudes) <= _MAX_AMPLITUDE_FACTOR)
    return np.stack((_changes(periods, same_voice), _changes(amplitudes, as_loud)))


def _ratio(values: F64) -> F64:
    """Larger over smaller of each value and its successor."""
    change: F64 = np.abs(np.diff(np.log(np.maximum(values, 1e-9))))
    return np.exp(change)


def _changes(values: F64, used: npt.NDArray[np.bool_]) -> F64:
    return np.array((np.abs(np.diff(values))[used].sum(), values[:-1][used].sum(), used.sum()))
