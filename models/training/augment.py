"""Changes a clip the way lines, rooms, microphones and speakers do.

Every change takes pcm [n] in [-1, 1] at RATE_HZ and a seeded generator, and gives the same kind of sound.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import reduce
from typing import Any, Final

import av
import librosa
import numpy as np
import scipy.signal
import soxr

from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32

Change = Callable[[F32, np.random.Generator], F32]


def through_codec(pcm: F32, encoder: str, decoder: str, rate_hz: int, bit_rate: int | None = None) -> F32:
    """Coded and decoded; `encoder` and `decoder` as FFmpeg names them."""
    coder: Any = av.CodecContext.create(encoder, "w")
    coder.sample_rate, coder.format, coder.layout, coder.time_base = rate_hz, "s16", "mono", Fraction(1, rate_hz)
    if bit_rate:
        coder.bit_rate = bit_rate
    coder.open()
    samples = (np.clip(soxr.resample(pcm, RATE_HZ, rate_hz), -1, 1) * 32_767).astype(np.int16)
    size = coder.frame_size or len(samples)
    packets = []
    for start in range(0, len(samples), size):
        piece = samples[start : start + size]
        frame = av.AudioFrame.from_ndarray(np.pad(piece, (0, size - len(piece)))[None], "s16", "mono")
        frame.sample_rate, frame.pts = rate_hz, start
        packets += coder.encode(frame)
    packets += coder.encode(None)
    back: Any = av.CodecContext.create(decoder, "r")
    back.sample_rate, back.layout, back.extradata = rate_hz, "mono", coder.extradata
    decoded = [_floats(frame) for packet in packets for frame in back.decode(av.Packet(bytes(packet)))]
    return np.asarray(soxr.resample(np.concatenate(decoded), back.sample_rate, RATE_HZ)[: len(pcm)], np.float32)


def _floats(frame: av.AudioFrame) -> F32:
    samples = frame.to_ndarray().ravel()
    scale = 32_768 if frame.format.name.startswith("s16") else 1
    return np.asarray(samples / scale, np.float32)


def as_is(pcm: F32, rng: np.random.Generator) -> F32:
    return pcm


def telephone(pcm: F32, rng: np.random.Generator) -> F32:
    """An 8 kHz mu-law line (ITU-T G.711)."""
    return through_codec(pcm, "pcm_mulaw", "pcm_mulaw", 8_000)


def alaw(pcm: F32, rng: np.random.Generator) -> F32:
    return through_codec(pcm, "pcm_alaw", "pcm_alaw", 8_000)


def amr(pcm: F32, rng: np.random.Generator) -> F32:
    """A narrow-band mobile line."""
    return through_codec(pcm, "libopencore_amrnb", "amrnb", 8_000, int(rng.choice([4_750, 7_950, 12_200])))


def opus(pcm: F32, rng: np.random.Generator) -> F32:
    """Voice over IP at few bits."""
    return through_codec(pcm, "libopus", "libopus", int(rng.choice([8_000, 16_000])), int(rng.choice([8_000, 16_000])))


def noise(pcm: F32, rng: np.random.Generator) -> F32:
    """White to brown noise, 5 to 20 dB below the speech."""
    spectrum = np.fft.rfft(rng.normal(size=len(pcm)))
    spectrum *= np.maximum(np.arange(len(spectrum)), 20.0) ** -rng.uniform(0, 1)
    found = np.fft.irfft(spectrum, len(pcm))
    level = 10 ** (-rng.uniform(5, 20) / 20) * pcm.std() / (found.std() + 1e-9)
    return np.asarray(pcm + level * found, np.float32)


def gain(pcm: F32, rng: np.random.Generator) -> F32:
    """-20 to +10 dB, clipped at full scale."""
    return np.asarray(np.clip(pcm * 10 ** (rng.uniform(-20, 10) / 20), -1, 1), np.float32)


def room(pcm: F32, rng: np.random.Generator) -> F32:
    """A direct path and a tail of noise that decays by 60 dB in 0.1 to 0.5 s (Moorer 1979)."""
    time_s = np.arange(RATE_HZ // 2) / RATE_HZ
    response = rng.normal(size=len(time_s)) * 10 ** (-3 * time_s / rng.uniform(0.1, 0.5))
    response *= rng.uniform(0.1, 0.6) / np.sqrt(np.square(response).sum())
    response[0] = 1.0
    wet = scipy.signal.fftconvolve(pcm, response)[: len(pcm)]
    return np.asarray(wet * (np.abs(pcm).max() / (np.abs(wet).max() + 1e-9)), np.float32)


def speed(pcm: F32, rng: np.random.Generator) -> F32:
    """Up to 10 % faster or slower at the same pitch."""
    return np.asarray(librosa.effects.time_stretch(pcm, rate=rng.uniform(0.9, 1.1), n_fft=1024), np.float32)


def pitch(pcm: F32, rng: np.random.Generator) -> F32:
    """Up to 2 semitones higher or lower at the same speed."""
    return np.asarray(librosa.effects.pitch_shift(pcm, sr=RATE_HZ, n_steps=rng.uniform(-2, 2), n_fft=1024), np.float32)


def chain(*changes: Change) -> Change:
    return lambda pcm, rng: reduce(lambda sound, change: change(sound, rng), changes, pcm)


CHANGES: Final[tuple[Change, ...]] = (
    chain(noise, alaw),
    chain(gain, amr),
    chain(room, opus),
    chain(gain, noise),
    chain(pitch, telephone),
    chain(speed, telephone),
    pitch,
)
"""Each training clip also goes through one of these, drawn with the clip's own seed."""
