"""Speech probabilities in, utterances out: where someone starts, pauses and stops."""

from collections.abc import Iterator
from dataclasses import dataclass

START_PROBABILITY = 0.5
STOP_PROBABILITY = 0.35
MIN_SPEECH_MS = 200
END_SILENCE_MS = 800
"""Silence that ends an utterance; shorter ones are pauses within it."""
MAX_UTTERANCE_MS = 14_000
"""With the padding, an utterance fits the recogniser's 15 s window."""
CUT_SEARCH_MS = 4_000
"""A longer utterance is cut at its least speech-like frame in this last stretch."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Speech between two silences, in frames of the speech gate."""

    start_frame: int
    end_frame: int
    """First frame after the speech."""
    speech: tuple[bool, ...]
    """Per frame of the segment: whether it is speech rather than a pause."""
    goes_on: bool
    """It was cut for its length: the next segment begins at `end_frame`."""


class Segmenter:
    """One channel. `feed` takes the frames' probabilities in order; the segment in progress is `open_start`."""

    def __init__(self, frame_ms: float) -> None:
        self._min_speech = round(MIN_SPEECH_MS / frame_ms)
        self._end_silence = round(END_SILENCE_MS / frame_ms)
        self._max = round(MAX_UTTERANCE_MS / frame_ms)
        self._search = round(CUT_SEARCH_MS / frame_ms)
        self.frame = 0
        """Frames fed so far."""
        self._probabilities: list[float] = []
        self._start: int | None = None
        self._last_speech = 0

    @property
    def open_start(self) -> int | None:
        """First frame of speech that has not ended yet."""
        return self._start

    @property
    def earliest_end(self) -> int | None:
        """Frames fed by which the segment in progress may end; None without one."""
        if self._start is None:
            return None
        return min(self._last_speech + 1 + self._end_silence, self._start + self._max)

    def begin(self, frame: int) -> None:
        """Its channel begins at this frame of the call."""
        self.frame = frame

    def feed(self, probability: float) -> Iterator[Segment]:
        frame, self.frame = self.frame, self.frame + 1
        if self._start is None:
            if probability >= START_PROBABILITY:
                self._start, self._last_speech, self._probabilities = frame, frame, [probability]
            return
        self._probabilities.append(probability)
        if probability >= STOP_PROBABILITY:
            self._last_speech = frame
        if frame - self._last_speech >= self._end_silence:
            yield from self._close(self._last_speech + 1)
        elif frame + 1 - self._start >= self._max:
            tail = self._probabilities[-self._search :]
            cut = frame + 1 - len(tail) + tail.index(min(tail))
            rest = self._probabilities[cut - self._start :]
            yield from self._close(cut, goes_on=True)
            self._start, self._probabilities = cut, rest

    def break_off(self) -> Iterator[Segment]:
        """Ends the segment in progress here: the call ended, or media stopped."""
        if self._start is not None:
            yield from self._close(self._last_speech + 1)

    def discard(self) -> None:
        """Forgets the segment in progress."""
        self._start = None

    def skip(self) -> None:
        """A frame without media; there must be no segment in progress."""
        self.frame += 1

    def _close(self, end_frame: int, *, goes_on: bool = False) -> Iterator[Segment]:
        assert self._start is not None
        start, self._start = self._start, None
        speech = tuple(p >= STOP_PROBABILITY for p in self._probabilities[: end_frame - start])
        if sum(speech) >= self._min_speech:
            yield Segment(start, end_frame, speech, goes_on)
