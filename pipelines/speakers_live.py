"""Who speaks when while a call runs: the search of speakers.py over what was heard so far, in bounded memory.

Voice windows are kept as they come, up to MAX_WINDOWS; then older ones are thinned. Whenever a tenth more has come the
speakers are searched anew, and what is found is matched with the speakers known so far by the windows that they share
(Kuhn 1955), so that a speaker keeps their name. Who speaks is settled DELAY_US behind the sound, and not changed after.
"""

from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from affectline.models.ports import RATE_HZ, SpeakerEncoder, SpeechGate
from affectline.models.signals import F32, Span
from affectline.pipelines.speakers import (
    HOP_SAMPLES,
    MAX_SPEAKERS,
    MIN_WINDOWS,
    WINDOW_SAMPLES,
    Ear,
    Turn,
    align,
    find_voices,
    nearest,
)

DELAY_US: Final = 5_000_000
"""From sound to who speaks: enough to hear that somebody new has begun, by convention."""
CONTEXT_US: Final = 16_000_000
"""Settled sound that the alignment looks back on."""
STEP_US: Final = 800_000
"""Settled at once: whole frames of the gate, and whole cells of the alignment."""
MAX_WINDOWS: Final = 1_000
THINNED_RUN: Final = 10
"""Windows that stay beside each other when older ones are thinned."""
GROWTH: Final = 10
"""A search follows when one window in so many is new, at the earliest after MIN_WINDOWS."""
_NOBODY: Final = -1


class SpeakerTracker:
    """One call. What it gives depends on the sound alone, not on how it is cut."""

    def __init__(self, gate: SpeechGate, encoder: SpeakerEncoder, count: int | None = None) -> None:
        """count: how many speak in the end, where that is known."""
        self._ear = Ear(gate, encoder)
        self._most = count or MAX_SPEAKERS
        self._starts: list[int] = []
        self._voices: list[F32] = []
        self._owner: list[int] = []
        """Of each kept window: number of its speaker, _NOBODY before it is settled."""
        self._centres = np.zeros((0, encoder.width), np.float32)
        self._numbers: list[int] = []
        """Of the speaker of each centre."""
        self._searched = 0
        """Windows that had come at the last search …"""
        self._came = 0
        """… and have come."""
        self._tick = 0
        """Windows of the grid that were looked at."""
        self._names: dict[int, str] = {}
        self.settled_us = 0
        """Turns before are known, and do not change any more."""

    @property
    def windows(self) -> int:
        """Kept now; at most MAX_WINDOWS."""
        return len(self._starts)

    def feed(self, pcm: F32) -> list[Turn]:
        """pcm [n] at RATE_HZ, any n -> the turns, or parts of turns, that are settled now, in time order."""
        found: list[Turn] = []
        ready = dict(self._ear.feed(pcm))
        while self._tick * HOP_SAMPLES + WINDOW_SAMPLES <= self._ear.heard_samples:
            start = self._tick * HOP_SAMPLES
            self._tick += 1
            if start in ready:
                self._take(start, ready[start])
            until_us = (start + WINDOW_SAMPLES) * 1_000_000 // RATE_HZ - DELAY_US
            if until_us - self.settled_us >= STEP_US:
                found += self._settle(until_us // STEP_US * STEP_US)
        return found

    def finish(self) -> list[Turn]:
        """The call has ended."""
        if self._came > self._searched:
            self._search()
        return self._settle(self._ear.heard_samples * 1_000_000 // RATE_HZ)

    def _take(self, start: int, voice: F32) -> None:
        self._starts.append(start)
        self._voices.append(voice)
        self._owner.append(_NOBODY)
        self._came += 1
        if len(self._starts) > MAX_WINDOWS:
            self._thin()
        new = self._came - self._searched
        if new >= max(MIN_WINDOWS, len(self._starts) // GROWTH) or not len(self._centres):
            self._search()

    def _thin(self) -> None:
        """Every other run of the older half goes."""
        half = len(self._starts) // 2
        kept = [i for i in range(len(self._starts)) if i >= half or i // THINNED_RUN % 2 == 0]
        self._starts = [self._starts[i] for i in kept]
        self._voices = [self._voices[i] for i in kept]
        self._owner = [self._owner[i] for i in kept]

    def _search(self) -> None:
        self._searched = self._came
        voices, starts = np.stack(self._voices), np.asarray(self._starts)
        centres = find_voices(voices, starts, most=self._most)
        owner, mine = np.asarray(self._owner), nearest(voices, centres)
        shared = np.zeros((len(centres), self._most))
        for number in range(self._most):
            shared[:, number] = np.bincount(mine[owner == number], minlength=len(centres))
        rows, columns = linear_sum_assignment(-shared)
        numbers = {int(row): int(column) for row, column in zip(rows, columns, strict=True) if shared[row, column] > 0}
        kept: list[int] = []
        for row in range(len(centres)):
            free = [n for n in range(self._most) if n not in self._names and n not in numbers.values()]
            if row not in numbers and free:
                numbers[row] = free[0]
            if row in numbers:
                kept.append(row)
        self._centres = centres[kept]
        self._numbers = [numbers[row] for row in kept]

    def _settle(self, until_us: int) -> list[Turn]:
        from_us = max(0, self.settled_us - CONTEXT_US) // STEP_US * STEP_US
        frame_us = self._ear.frame_us
        speech = self._ear.speech(from_us // frame_us)
        offset = from_us * RATE_HZ // 1_000_000
        first = int(np.searchsorted(self._starts, offset))
        starts = np.asarray(self._starts[first:], np.int64) - offset
        width = self._centres.shape[1]
        voices = np.stack(self._voices[first:]) if len(starts) else np.zeros((0, width), np.float32)
        found: list[Turn] = []
        for span, centre, overlap in align(speech, frame_us, starts, voices, self._centres):
            start_us, end_us = max(span.start_us + from_us, self.settled_us), min(span.end_us + from_us, until_us)
            if start_us >= end_us:
                continue
            number = self._numbers[centre] if self._numbers else 0  # before any window, there is one voice
            self._own(first, start_us, end_us, number)
            name = self._names.setdefault(number, str(len(self._names) + 1))
            found.append(Turn(Span(start_us, end_us), name, overlap))
        self.settled_us = until_us
        return found

    def _own(self, first: int, start_us: int, end_us: int, number: int) -> None:
        """Windows whose middle lies in a settled turn are its speaker's."""
        for index in range(first, len(self._starts)):
            middle_us = (self._starts[index] + WINDOW_SAMPLES // 2) * 1_000_000 // RATE_HZ
            if middle_us >= end_us:
                break
            if middle_us >= start_us:
                self._owner[index] = number
