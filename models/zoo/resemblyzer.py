"""Speaker embedding: Resemblyzer's GE2E encoder (Wan et al. 2018), trained on 16 kHz speech of some 8,000 people."""

from pathlib import Path
from typing import Final

import numpy as np
from scipy import fft

from affectline.models.convert.mel import SAMPLES_PER_FFT
from affectline.models.convert.resemblyzer import CHECKPOINT, FILES, WIDTH, convert
from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.store import Artifact, Packaged, RawFile, Wheel, WheelMember

HOP_SAMPLES: Final = RATE_HZ // 100
WINDOW_FRAMES: Final = 160
BATCH: Final = 32
"""Windows per network call: bounds memory, and is as fast per window as more are."""
TARGET_DBFS: Final = -30.0
"""Quieter windows are amplified to this level, as in training."""
MAX_GAIN_DB: Final = 40.0
_TAPER: Final[F32] = np.hanning(SAMPLES_PER_FFT + 1)[:-1].astype(np.float32)


def mel_power(pcm: F32, filters: F32) -> F32:
    """pcm [samples] at 16 kHz, filters [40, 201] -> mel power [1 + samples // 160, 40]; not its logarithm.

    Frames of 25 ms, centred every 10 ms; silence is taken to lie before and after.
    """
    padded = np.pad(pcm, SAMPLES_PER_FFT // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, SAMPLES_PER_FFT)[::HOP_SAMPLES]
    found = fft.rfft(frames * _TAPER, axis=1)
    return np.asarray((np.square(found.real) + np.square(found.imag)) @ filters.T, np.float32)


class ResemblyzerEncoder:
    """Satisfies ports.SpeakerEncoder."""

    model = "resemblyzer@0.1.4"
    width = WIDTH
    window_samples = WINDOW_FRAMES * HOP_SAMPLES

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._session = runtime.session(folder / "model.onnx", threads=1)
        self._filters = np.load(folder / "mel_filters.npy")

    def embed(self, windows: F32) -> F32:
        """As the port says. Raises InvalidInputError for another shape, or windows below 10 ms."""
        if windows.ndim != 2 or windows.shape[1] < HOP_SAMPLES:
            raise InvalidInputError(f"expected windows [n, at least {HOP_SAMPLES} samples], found {windows.shape}")
        found = [np.zeros((0, WIDTH), np.float32)]
        for start in range(0, len(windows), BATCH):
            mels = [mel_power(amplified(pcm), self._filters)[:-1] for pcm in windows[start : start + BATCH]]
            found.append(self._session.run({"mel": np.stack(mels)})["embedding"])
        return np.concatenate(found)


def amplified(pcm: F32) -> F32:
    """A quiet window [n] at the level of training."""
    level_dbfs = 10 * np.log10(float(np.square(pcm).mean()) + 1e-12)
    return np.asarray(pcm * 10 ** (np.clip(TARGET_DBFS - level_dbfs, 0, MAX_GAIN_DB) / 20), np.float32)


_WHEEL = Wheel("resemblyzer", "0.1.4", "8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f", 15_747_704)
ARTIFACT = Artifact(
    name="resemblyzer",
    licence="Apache-2.0",
    raw=(
        RawFile(
            name=CHECKPOINT,
            sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
            size_bytes=17_090_379,
            sources=(Packaged((WheelMember(_WHEEL, f"resemblyzer/{CHECKPOINT}"),)),),
        ),
    ),
    files=FILES,
    convert=convert,
    revision=2,
)

MODELS = (ModelSpec("resemblyzer", "0.1.4", "speaker_encoder", ARTIFACT, ResemblyzerEncoder),)
