"""Shares the processor among calls: so many do heavy work at a time, final results first; less when it lags behind."""

import heapq
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from threading import Condition
from time import monotonic, thread_time
from typing import Final, Literal

from affectline.models.observer import UNOBSERVED, Observer
from affectline.pipelines.pace import Reading, Work

Kind = Work | Literal["call"]

LIMITS_S: Final[Mapping[Kind, float]] = {"picture": 0.2, "partial": 0.3, "translation": 0.45, "call": 0.6}
"""Final results are held up so long before this kind of work is left out, or a new call is refused.

In the order in which a call misses it least. By convention: results should come within a second, the longest utterances
take a third of one by themselves, and the worst of the last seconds counts."""
CALM: Final = 0.6
"""It is done again when they are held up less than this part of the limit."""
MEMORY_S: Final = 5.0
"""What held one up counts for so long."""
_RANKS: Final[Mapping[Reading, int]] = {"final": 0, "partial": 1}
_RECORDED: Final = 2
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
        worked: Callable[[], float] = thread_time,
    ) -> None:
        """places: pieces of heavy work at a time. took: is told what each final result took. clock: seconds, going
        forward. worked: seconds for which the calling thread had a processor."""
        self._free = places
        self._most_partials = max(1, places - 1)
        self._partials = 0
        """Partial results that have their turn: a place is left for final ones."""
        self._observer = observer
        self._tell_took = took
        self._clock = clock
        self._worked = worked
        self._changed = Condition()
        self._queue: list[tuple[int, int]] = []
        """Those that wait: rank and number; bounded by the threads there are."""
        self._numbers = count()
        self._finals: dict[int, float] = {}
        """Number -> since when, of finals of live calls that wait."""
        self._held_up: list[tuple[float, float]] = []
        """When finals of live calls were done, and how long they were held up; of the last MEMORY_S."""
        self._left_out: set[Kind] = set()
        self.live = _LivePace(self)
        self.recorded = _RecordedPace(self)

    def affords(self, kind: Kind) -> bool:
        """False from the kind's limit on, until the lag is well below it again.

        Partial results do not wait for a place either: meanwhile their own call would not go on.
        """
        with self._changed:
            lag_s, limit_s = self._lag_s(), LIMITS_S[kind]
            if lag_s > limit_s:
                self._left_out.add(kind)
            elif lag_s < CALM * limit_s:
                self._left_out.discard(kind)
            if kind == "partial" and (not self._free or self._queue or self._partials >= self._most_partials):
                return False
            return kind not in self._left_out

    def left_out(self, kind: Kind) -> None:
        self._observer.skipped(kind)

    @contextmanager
    def turn(self, kind: str, rank: int) -> Iterator[None]:
        """kind: of the work, for who watches."""
        since_s = self._clock()
        with self._changed:
            me = (rank, next(self._numbers))
            if final := rank == _RANKS["final"]:
                self._finals[me[1]] = since_s
            heapq.heappush(self._queue, me)
            while self._free == 0 or self._queue[0] is not me:
                self._changed.wait()
            heapq.heappop(self._queue)
            self._free -= 1
            self._partials += kind == "partial"
            self._finals.pop(me[1], None)
            left = len(self._queue)
            self._changed.notify_all()
        self._observer.waited(kind, self._clock() - since_s, left)
        worked_s = self._worked()
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._partials -= kind == "partial"
                if final:
                    now_s = self._clock()
                    # Whether other calls had its turn, its processor or its interpreter: it was not at work.
                    self._held_up.append((now_s, now_s - since_s - (self._worked() - worked_s)))
                    self._tell_took(now_s - since_s)
                self._changed.notify_all()

    def _lag_s(self) -> float:
        """The longest that a final result of a live call was held up lately, or has been waiting for its turn."""
        now_s = self._clock()
        self._held_up = [(at_s, lost_s) for at_s, lost_s in self._held_up if at_s > now_s - MEMORY_S]
        return max((*(now_s - s for s in self._finals.values()), *(lost_s for _, lost_s in self._held_up)), default=0.0)


class _LivePace:
    def __init__(self, shared: SharedPace) -> None:
        self._shared = shared

    def turn(self, work: Reading) -> AbstractContextManager[None]:
        return self._shared.turn(work, _RANKS[work])

    def affords(self, work: Work) -> bool:
        return work == "final" or self._shared.affords(work)

    def left_out(self, work: Work) -> None:
        self._shared.left_out(work)


class _RecordedPace:
    """Everything is done, when nobody else needs the place."""

    def __init__(self, shared: SharedPace) -> None:
        self._shared = shared

    def turn(self, work: Reading) -> AbstractContextManager[None]:
        return self._shared.turn("recorded", _RECORDED)

    def affords(self, work: Work) -> bool:
        return True

    def left_out(self, work: Work) -> None:
        self._shared.left_out(work)
