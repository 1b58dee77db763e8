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

LIMITS_S: Final[Mapping[Kind, float]] = {"picture": 0.4, "partial": 0.5, "translation": 0.7, "call": 1.2}
"""Final results take so long, the wait for their turn included, before this kind of work is left out, or a new call is
refused.

In the order in which a call misses it least. By convention: results should come within a second, and the slowest of the
last seconds counts."""
CALM: Final = 0.6
"""It is done again when they take less than this part of the limit."""
MEMORY_S: Final = 5.0
"""What one took counts for so long."""
_RANKS: Final[Mapping[Work, int]] = {"final": 0, "translation": 0, "partial": 1, "picture": 2}
_RECORDED: Final = 3
"""Recordings wait for every live call."""


class SharedPace:
    """`live` and `recorded` are what sessions are opened with."""

    def __init__(
        self,
        places: int,
        *,
        observer: Observer = UNOBSERVED,
        took: Callable[[float], None] = lambda seconds: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """places: pieces of heavy work at a time. took: is told what each final result took. clock: seconds, going
        forward."""
        self._free = places
        self._observer = observer
        self._tell_took = took
        self._clock = clock
        self._changed = Condition()
        self._queue: list[tuple[int, int]] = []
        """Those that wait: rank and number; bounded by the threads there are."""
        self._numbers = count()
        self._under_way: dict[int, float] = {}
        """Number -> since when, of finals of live calls that wait or have their turn."""
        self._took: list[tuple[float, float]] = []
        """When finals of live calls were done, and what they took; of the last MEMORY_S."""
        self._left_out: set[Kind] = set()
        self.live = _LivePace(self)
        self.recorded = _RecordedPace(self)

    @property
    def lag_s(self) -> float:
        """The longest that a final result of a live call took lately, or has been taking."""
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
    def turn(self, kind: str, rank: int) -> Iterator[None]:
        """kind: of the work, for who watches."""
        since_s = self._clock()
        with self._changed:
            me = (rank, next(self._numbers))
            if rank == _RANKS["final"]:
                self._under_way[me[1]] = since_s
            heapq.heappush(self._queue, me)
            while self._free == 0 or self._queue[0] is not me:
                self._changed.wait()
            heapq.heappop(self._queue)
            self._free -= 1
            left = len(self._queue)
            self._changed.notify_all()
        self._observer.waited(kind, self._clock() - since_s, left)
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                if self._under_way.pop(me[1], None) is not None:
                    now_s = self._clock()
                    self._took.append((now_s, now_s - since_s))
                    self._tell_took(now_s - since_s)
                self._changed.notify_all()

    def _lag_s(self) -> float:
        now_s = self._clock()
        self._took = [(at_s, took_s) for at_s, took_s in self._took if at_s > now_s - MEMORY_S]
        return max((*(now_s - s for s in self._under_way.values()), *(took_s for _, took_s in self._took)), default=0.0)


class _LivePace:
    def __init__(self, shared: SharedPace) -> None:
        self._shared = shared

    def turn(self, work: Work) -> AbstractContextManager[None]:
        return self._shared.turn(work, _RANKS[work])

    def affords(self, work: Work) -> bool:
        return work == "final" or self._shared.affords(work)


class _RecordedPace:
    """Everything is done, when nobody else needs the place."""

    def __init__(self, shared: SharedPace) -> None:
        self._shared = shared

    def turn(self, work: Work) -> AbstractContextManager[None]:
        return self._shared.turn("recorded", _RECORDED)

    def affords(self, work: Work) -> bool:
        return True
