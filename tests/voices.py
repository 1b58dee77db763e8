"""Made-up voices for tests of who speaks when: each a tone of its own, a gate that hears sound, an encoder of pitch."""

from collections.abc import Sequence

import numpy as np

from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32

TONES_HZ = (200, 400, 800, 1_600, 3_200, 6_400)
FRAME = 512


class LoudGate:
    """Whatever is not silent is speech."""

    frame_samples = FRAME

    def open(self) -> "LoudGateStream":
        return LoudGateStream()


class LoudGateStream:
    def __init__(self) -> None:
        self._rest = np.zeros(0, np.float32)

    def feed(self, pcm: F32) -> F32:
        held = np.concatenate((self._rest, pcm))
        frames = len(held) // FRAME
        self._rest = held[frames * FRAME :].copy()
        power = np.square(held[: frames * FRAME].reshape(-1, FRAME)).mean(axis=1) if frames else np.zeros(0)
        return np.asarray(power > 1e-5, np.float32)


class PitchEncoder:
    """How strong each of TONES_HZ is, of unit length."""

    model = "pitch@1"
    width = len(TONES_HZ)
    window_samples = 16 * RATE_HZ // 10

    def embed(self, windows: F32) -> F32:
        spectrum = np.abs(np.fft.rfft(windows, axis=1))
        bins = np.asarray(TONES_HZ) * windows.shape[1] // RATE_HZ
        strength = np.stack([spectrum[:, b - 2 : b + 3].max(axis=1) for b in bins], axis=1) + 1e-3
        return np.asarray(strength / np.linalg.norm(strength, axis=1, keepdims=True), np.float32)


def spoken(turns: Sequence[tuple[int, float]], *, pause_s: float = 0.5) -> F32:
    """Sound of (voice, seconds) one after the other; voice -1 is silence."""
    parts = [np.zeros(int(pause_s * RATE_HZ), np.float32)]
    for voice, length_s in turns:
        at_s = np.arange(int(length_s * RATE_HZ)) / RATE_HZ
        level = 0.0 if voice < 0 else 0.1
        tone = np.sin(2 * np.pi * TONES_HZ[max(0, voice)] * at_s) * level
        parts += [tone.astype(np.float32), np.zeros(int(pause_s * RATE_HZ), np.float32)]
    return np.concatenate(parts)
