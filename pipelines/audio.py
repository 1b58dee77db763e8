"""One channel's sound at the models' rate, addressed by gate frame; knows where media is missing and why."""

from typing import Final

import numpy as np

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32, AudioChunk
from affectline.pipelines.resample import Resampler

ROOM_SAMPLES = 2 * RATE_HZ
"""Memory is asked for so much at a time, beyond what is needed."""
FULL_SCALE: Final = np.float32(32_768)
"""Sound is kept in 16 bits, as it mostly came; with many calls it is the largest part of what they hold."""
MAX_JUMP_S = 120
"""A longer jump in a stream's positions is a broken sender, not a loss."""


class ChannelAudio:
    """Resamples chunks, fills the holes between them, and keeps only what is still needed."""

    def __init__(self, rate_hz: int, frame_samples: int) -> None:
        self._rate_hz = rate_hz
        self._frame_samples = frame_samples
        self._next_source = 0
        self._resampler = Resampler(rate_hz, RATE_HZ)
        self._buffer = np.zeros(ROOM_SAMPLES, np.int16)
        self._length = 0
        self._base = 0
        """Sample number of _buffer[0] at RATE_HZ; _length samples follow."""
        self._needed = 0
        """Sample number of the first one that is still needed."""
        self._gaps: list[tuple[int, int, str]] = []
        self._mixed: list[tuple[int, int]] = []
        """Samples at RATE_HZ in which others are heard, too."""

    @property
    def received_us(self) -> int:
        return self._next_source * 1_000_000 // self._rate_hz

    @property
    def received_samples(self) -> int:
        """At the source's rate."""
        return self._next_source

    @property
    def frames(self) -> int:
        """Whole frames available so far."""
        return (self._base + self._length) // self._frame_samples

    def push(self, chunk: AudioChunk, *, withheld: str | None = None) -> None:
        """`withheld`: why the sound may not be used; only its length is kept.

        Raises InvalidInputError for another rate, or a position more than MAX_JUMP_S ahead.
        """
        if chunk.rate_hz != self._rate_hz:
            raise InvalidInputError(f"expected audio at {self._rate_hz} Hz, found {chunk.rate_hz} Hz")
        missing = chunk.start_sample - self._next_source
        if missing > MAX_JUMP_S * self._rate_hz:
            raise InvalidInputError(
                f"expected the audio to go on at sample {self._next_source}, found {chunk.start_sample}, "
                f"more than {MAX_JUMP_S} s ahead"
            )
        if missing > 0:
            self.skip(missing, "loss")
        pcm = chunk.pcm[max(0, -missing) :]
        if withheld:
            self.skip(len(pcm), withheld)
            return
        if chunk.mixed and len(pcm):
            start, end = (n * RATE_HZ // self._rate_hz for n in (self._next_source, self._next_source + len(pcm)))
            self._mixed.append((start, end))
        self._next_source += len(pcm)
        self._append(self._resampler.feed(pcm))

    def skip(self, source_samples: int, reason: str) -> None:
        """Media that did not come or must not be used: silence that no model sees."""
        if source_samples <= 0:
            return
        self._append(self._resampler.finish())
        self._resampler = Resampler(self._rate_hz, RATE_HZ)
        start = self._base + self._length
        expected = round(self._next_source * RATE_HZ / self._rate_hz)
        self._next_source += source_samples
        end = max(start, round(self._next_source * RATE_HZ / self._rate_hz))
        self._append(np.zeros(end - start, np.float32))
        if self._gaps and self._gaps[-1][1] >= min(start, expected) and self._gaps[-1][2] == reason:
            start = self._gaps.pop()[0]
        self._gaps.append((start, end, reason))

    def finish(self) -> None:
        """Flushes the resampler, and fills the last frame with silence."""
        self._append(self._resampler.finish())
        self._append(np.zeros(-(self._base + self._length) % self._frame_samples, np.float32))

    def fill(self, frames: int) -> None:
        """Silence up to this frame, after `finish`: the resampler may end a sample early."""
        self._append(np.zeros(max(0, frames * self._frame_samples - self._base - self._length), np.float32))

    def gap_reason(self, frame: int) -> str | None:
        """Why the frame has no media, or None."""
        start, end = frame * self._frame_samples, (frame + 1) * self._frame_samples
        return next((reason for a, b, reason in self._gaps if a < end and start < b), None)

    def missing_from(self, frame: int) -> bool:
        """Whether media of this frame or a later one is missing."""
        return bool(self._gaps) and self._gaps[-1][1] > frame * self._frame_samples

    def begin(self, frame: int, source_sample: int) -> None:
        """The channel begins here, with the next sample of the source, instead of at the beginning of the call."""
        self._base = self._needed = frame * self._frame_samples
        self._next_source = source_sample
        self._append(np.zeros(max(0, source_sample * RATE_HZ // self._rate_hz - self._base), np.float32))

    def mixed_share(self, start_sample: int, end_sample: int) -> float:
        """Share of the samples at RATE_HZ in which others are heard, too; in [0, 1]."""
        mixed = sum(max(0, min(b, end_sample) - max(a, start_sample)) for a, b in self._mixed)
        return min(1.0, mixed / max(1, end_sample - start_sample))

    def read(self, start_sample: int, end_sample: int) -> F32:
        """Samples at RATE_HZ; cut to what is there."""
        first, after = max(0, start_sample - self._base), max(0, min(self._length, end_sample - self._base))
        return np.divide(self._buffer[first:after], FULL_SCALE, dtype=np.float32)

    def forget_before(self, sample: int) -> None:
        self._needed = max(self._needed, min(sample, self._base + self._length))

    def _append(self, pcm: F32) -> None:
        if self._length + len(pcm) > len(self._buffer):
            kept = self._buffer[self._needed - self._base : self._length]
            self._buffer = np.zeros(len(kept) + len(pcm) + ROOM_SAMPLES, np.int16)
            self._buffer[: len(kept)] = kept
            self._base, self._length = self._needed, len(kept)
            self._gaps = [gap for gap in self._gaps if gap[1] > self._base]
            self._mixed = [mixed for mixed in self._mixed if mixed[1] > self._base]
        self._buffer[self._length : self._length + len(pcm)] = np.clip(
            np.rint(pcm * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1
        )
        self._length += len(pcm)
