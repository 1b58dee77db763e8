"""Shares the processor among calls: so many do heavy work at a time, final results first; less when it lags behind."""

import heapq
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from threading import Condition
from time import monotonic
from typing import Final, Literal

from affectline.models.observer import UNOBSERVED, Observer
from affectline.pipelines.pace import Work

Kind = Work | Literal["call"]

LIMITS_S: Final[Mapping[Kind, float]] = {"picture": 0.25, "partial": 0.4, "translation": 0.6, "call": 0.8}
"""Final results wait so long for their turn before this kind of work is left out, or a new call is refused.

In the order in which a call misses it least; by convention, below the second within which results should come."""
CALM: Final = 0.5
"""It is done again when they wait less than this part of the limit."""
MEMORY_S: Final = 5.0
"""A wait counts for so long."""
_RANKS: Final[Mapping[Work, int]] = {"final": 0, "translation": 0, "partial": 1, "picture": 2}
_RECORDED: Final = 3
"""Recordings wait for every live call."""


class SharedPace:
    """`live` and `recorded` are what sessions are opened with."""

    def __init__(self, places: int, *, observer: Observer = UNOBSERVED, clock: Callable[[], float] = monotonic) -> None:
        """places: pieces of heavy work at a time. clock: seconds, going forward."""
        self._free = places
        self._observer = observer
        self._clock = clock
        self._changed = Condition()
        self._queue: list[tuple[int, int, float]] = []
        """Those that wait: rank, number, since when; bounded by the threads there are."""
        self._numbers = count()
        self._waits: list[tuple[float, float]] = []
        """When finals of live calls got their turn, and after how long; of the last MEMORY_S."""
        self._left_out: set[Kind] = set()
        self.live = _LivePace(self)
        self.recorded = _RecordedPace(self)

    @property
    def lag_s(self) -> float:
        """The longest that a final result of a live call waited for its turn lately, or has been waiting for."""
        with self._changed:
            return self._lag_s()

    def affords(self, kind: Kind) -> bool:
        """False from the kind's limit on, until the lag is well below it again."""
        with self._changed:
            lag_s, limit_s = self._lag_s(), LIMITS_S[kind]
            if lag_s > limit_s:
                self._left_out.add(kind)
            elif lag_s < CALM * limit_s:
                self._left_out.discard(kind)
            affordable = kind not in self._left_out
        if not affordable:
            self._observer.skipped(kind)
        return affordable

    @contextmanager
    def turn(self, rank: int) -> Iterator[None]:
        since_s = self._clock()
        with self._changed:
            me = (rank, next(self._numbers), since_s)
            heapq.heappush(self._queue, me)
            while self._free == 0 or self._queue[0] is not me:
                self._changed.wait()
            heapq.heappop(self._queue)
            self._free -= 1
            if rank == _RANKS["final"]:
                self._waits.append((self._clock(), self._clock() - since_s))
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._changed.notify_all()

    def _lag_s(self) -> float:
        now_s = self._clock()
        self._waits = [(at_s, wait_s) for at_s, wait_s in self._waits if at_s > now_s - MEMORY_S]
        waiting = (now_s - since_s for rank, _, since_s in self._queue if rank == _RANKS["final"])
        return max((*waiting, *(wait_s for _, wait_s in self._waits)), default=0.0)


class _LivePace:
    def __init__(self, shared: SharedPace) -> None:
        self._shared = shared

    def turn(self, work: Work) -> AbstractContextManager[None]:
        return self._shared.turn(_RANKS[work])

    def affords(self, work: Work) -> bool:
        return work == "final" or self._shared.affords(work)


class _RecordedPace:
    """Everything is done, when nobody else needs the place."""

    def __init__(self, shared: SharedPace) -> None:
        self._shared = shared

    def turn(self, work: Work) -> AbstractContextManager[None]:
        return self._shared.turn(_RECORDED)

    def affords(self, work: Work) -> bool:
        return True
