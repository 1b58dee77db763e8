"""The filters of a mel spectrogram."""

import numpy as np
import numpy.typing as npt

SAMPLES_PER_FFT = 400


def mel_filters(bands: int) -> npt.NDArray[np.float32]:
    """[bands, SAMPLES_PER_FFT / 2 + 1] Slaney-style triangles for 16 kHz, as Whisper and Resemblyzer learnt with.

    bands: 80 for Whisper, 128 for its third large model; 40 for Resemblyzer.
    """
    from librosa.filters import mel  # here, since librosa takes a second and 130 MB

    return np.asarray(mel(sr=16_000, n_fft=SAMPLES_PER_FFT, n_mels=bands), np.float32)
