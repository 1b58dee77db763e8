"""Sounds of a phone line that are no fit speech: synthesised, or made from real speech."""

from collections.abc import Callable, Sequence

import librosa
import numpy as np
import numpy.typing as npt
import parselmouth
import scipy.signal

from affectline.models.signals import F32

RATE_HZ = 8_000
"""Of everything here: a telephone line."""
Maker = Callable[[float], F32]
"""Seconds -> sound [n] in [-1, 1]."""

_KEYS_HZ = ((697, 1209), (770, 1336), (852, 1477), (941, 1336), (697, 1633))
_CHORDS_HZ = ((261.6, 329.6, 392.0), (220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (196.0, 246.9, 293.7))
_MELODY_HZ = (523.3, 659.3, 587.3, 523.3, 440.0, 493.9, 523.3, 392.0)


def hold_music(seconds: float) -> F32:
    """Plucked chords, one every 0.8 s, under a melody twice as fast."""
    pcm = np.zeros(round(seconds * RATE_HZ))
    for beat in range(int(seconds / 0.4)):
        notes = [(_MELODY_HZ[beat % 8], 0.15)]
        if beat % 2 == 0:
            notes += [(f0_hz, 0.1) for f0_hz in _CHORDS_HZ[beat // 2 % 4]]
        rest = len(pcm) - (start := round(0.4 * beat * RATE_HZ))
        t = np.arange(min(rest, RATE_HZ)) / RATE_HZ
        envelope = np.minimum(1, t / 0.01) * np.exp(-4 * t)
        for f0_hz, level in notes:
            partials = (np.sin(2 * np.pi * k * f0_hz * t) / k**1.5 for k in range(1, 6))
            pcm[start : start + len(t)] += level * envelope * np.sum(list(partials), axis=0)
    return pcm.astype(np.float32)


def hold_tone(seconds: float) -> F32:
    """A double beep of 425 Hz every 5 s."""
    return _tones(seconds, (425,), [(at + off, 0.2) for at in np.arange(1, seconds, 5) for off in (0, 0.4)])


def ring_back(seconds: float) -> F32:
    """North American: 440 and 480 Hz, 2 s on and 4 s off."""
    return _tones(seconds, (440, 480), [(at, 2.0) for at in np.arange(0, seconds, 6)])


def dtmf(seconds: float) -> F32:
    """Keys pressed three times a second (ITU-T Q.23)."""
    at = np.arange(0.2, seconds, 1 / 3)
    keys = [_tones(seconds, key, [(start, 0.15) for start in at[i::5]]) for i, key in enumerate(_KEYS_HZ)]
    return np.asarray(np.sum(keys, axis=0), np.float32)


def breath(seconds: float, seed: int = 0) -> F32:
    """Breathing into the microphone: noise that swells for 1.2 s every 2.5 s."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    swell = np.maximum(0, np.sin(2 * np.pi * t / 2.5)) ** 2
    return (2 * swell * _noise(len(t), 300, 1_800, seed)).astype(np.float32)


def laughter(speech: F32, seconds: float, seed: int = 0) -> F32:
    """Every 3 s seven calls of 0.14 s, five a second and fading: each time a piece of `speech` over and over."""
    samples = round(0.14 * RATE_HZ)
    pcm = np.zeros(round(seconds * RATE_HZ), np.float32)
    starts = np.random.default_rng(seed).integers(0, len(speech) - samples, len(pcm))
    for bout, start in zip(np.arange(0.5, seconds - 1.5, 3.0), starts, strict=False):
        piece = speech[start : start + samples] * np.hanning(samples)
        piece *= 0.5 / max(np.abs(piece).max(), 0.05)
        for call in range(7):
            at = round((bout + 0.2 * call) * RATE_HZ)
            pcm[at : at + samples] += 0.9**call * piece
    return pcm


def cough(seconds: float, seed: int = 0) -> F32:
    """Two coughs every 2 s: a burst of noise, a breathy middle, a short voiced end."""
    t = np.arange(round(0.35 * RATE_HZ)) / RATE_HZ
    pcm = np.zeros(round(seconds * RATE_HZ) + RATE_HZ)
    for number, at in enumerate(np.arange(0.5, seconds - 1, 1.0)):
        if number % 4 < 2:
            burst = _noise(len(t), 400, 3_200, seed + number) * (np.exp(-t / 0.04) + 0.2 * np.exp(-t / 0.15)) * 5
            end = 0.2 * _vowel(170, 0.35) * np.exp(-(((t - 0.25) / 0.04) ** 2))
            start = round(at * RATE_HZ)
            pcm[start : start + len(t)] += np.minimum(1, t / 0.004) * burst + end
    return (pcm[: round(seconds * RATE_HZ)] * 0.8).astype(np.float32)


def on_a_line(pcm: F32, seed: int = 9) -> F32:
    """With a line's faint noise, 60 dB below full scale."""
    return pcm + np.random.default_rng(seed).normal(0, 1e-3, len(pcm)).astype(np.float32)


def whisper(speech: F32) -> F32:
    """The same words without a voice: each 20 ms' resonances (LPC of order 10) excited by noise."""
    hop, order = RATE_HZ // 100, 10
    window = np.hanning(2 * hop)
    noise = np.random.default_rng(0).normal(size=len(speech))
    out = np.zeros(len(speech))
    for start in range(0, len(speech) - 2 * hop, hop):
        frame = speech[start : start + 2 * hop].astype(np.float64) * window
        power = float(np.square(frame).mean())
        if power > 1e-10:
            resonance = librosa.lpc(frame + 1e-6 * noise[: 2 * hop], order=order)
            sound = scipy.signal.lfilter([1], resonance, noise[start : start + 2 * hop])
            out[start : start + 2 * hop] += window * sound * np.sqrt(power / np.square(sound).mean())
    return out.astype(np.float32)


def child_like(speech: F32) -> F32:
    """A shorter throat and a higher voice (Praat's "Change gender"): resonances up by 1.3, pitch about 300 Hz."""
    sound = parselmouth.Sound(speech.astype(np.float64), RATE_HZ)
    child = parselmouth.praat.call(sound, "Change gender", 75, 500, 1.3, 300, 1.0, 1.0)
    return np.asarray(child.values[0], np.float32)


def clipped(speech: F32, gain: float = 10.0) -> F32:
    return np.asarray(np.clip(gain * speech, -1, 1), np.float32)


def _tones(seconds: float, pitches_hz: Sequence[float], spans_s: Sequence[tuple[float, float]]) -> F32:
    """Sines at 0.2 each, on during each (start, duration)."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    on = np.zeros(len(t))
    for start_s, duration_s in spans_s:
        on[(t >= start_s) & (t < start_s + duration_s)] = 1
    return np.asarray(0.2 * on * np.sum([np.sin(2 * np.pi * f * t) for f in pitches_hz], axis=0), np.float32)


def _noise(samples: int, low_hz: float, high_hz: float, seed: int) -> npt.NDArray[np.float64]:
    band = scipy.signal.butter(2, (low_hz, high_hz), "bandpass", fs=RATE_HZ, output="sos")
    return np.asarray(scipy.signal.sosfilt(band, np.random.default_rng(seed).normal(0, 0.1, samples)))


def _vowel(f0_hz: float, seconds: float) -> npt.NDArray[np.float64]:
    """An open vowel: pulses through three resonances, peak 1."""
    pulses = np.diff(np.floor(np.arange(round(seconds * RATE_HZ) + 1) * f0_hz / RATE_HZ))
    for formant_hz, width_hz in ((700, 100), (1_200, 120), (2_500, 180)):
        radius = np.exp(-np.pi * width_hz / RATE_HZ)
        pulses = scipy.signal.lfilter(
            [1 - radius], [1, -2 * radius * np.cos(2 * np.pi * formant_hz / RATE_HZ), radius**2], pulses
        )
    return np.asarray(pulses / np.abs(pulses).max())
