"""Changes the sample rate of a running stream without delay and without seams."""

import numpy as np
import soxr

from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32


class Resampler:
    """One channel from one rate to another (libsoxr, high quality); stateful, not thread-safe.

    The samples that come out do not depend on how the input is cut into chunks. Sample i of the output lies
    at the time i / to_hz of the input (no delay), and after `finish` there are round(n * to_hz / from_hz)
    of them, give or take one.
    """

    def __init__(self, from_hz: int, to_hz: int = RATE_HZ) -> None:
        self._stream = None if from_hz == to_hz else soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32")

    def feed(self, pcm: F32) -> F32:
        """pcm [n] at from_hz, any n -> what can be said so far at to_hz, [m]; the rest follows later."""
        return self._run(pcm, last=False)

    def finish(self) -> F32:
        """The samples still held back, [m]. Nothing may be fed afterwards."""
        return self._run(np.empty(0, np.float32), last=True)

    def _run(self, pcm: F32, *, last: bool) -> F32:
        if self._stream is None:
            return pcm
        return np.asarray(self._stream.resample_chunk(pcm, last=last), np.float32)
