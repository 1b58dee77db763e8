"""The processor shared among calls: who goes first, what is left out under load, and that it comes back."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from affectline.server.pace import LIMITS_S, MEMORY_S, SharedPace

pytestmark = pytest.mark.unit


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Skips:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def skipped(self, work: str, count: int = 1) -> None:
        self.seen.append(work)

    def waited(self, work: str, seconds: float, left: int) -> None:
        assert seconds >= 0
        assert left >= 0


@contextmanager
def held(pace: SharedPace) -> Iterator[threading.Event]:
    """Every place is taken until the event is set."""
    taken, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with pace.live.turn("final"):
            taken.set()
            leave.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(10)
    yield leave
    leave.set()
    thread.join(10)


def waiting(pace: SharedPace) -> int:
    return len(pace._queue)


def test_so_many_at_a_time() -> None:
    pace, running, most, lock = SharedPace(2), 0, 0, threading.Lock()

    def work(number: int) -> None:
        nonlocal running, most
        with pace.live.turn("final" if number % 2 else "partial"):
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.002)
            with lock:
                running -= 1

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(64)))
    assert most == 2
    assert waiting(pace) == 0


def test_finals_go_first_and_recordings_last() -> None:
    pace, order = SharedPace(1), []

    def work(name: str) -> None:
        with (pace.recorded if name == "recorded" else pace.live).turn("final" if name == "recorded" else name):  # type: ignore[arg-type]
            order.append(name)

    threads = []
    with held(pace) as leave:
        for count, name in enumerate(("recorded", "partial", "final", "partial", "final"), 1):
            threads.append(threading.Thread(target=work, args=(name,)))
            threads[-1].start()
            while waiting(pace) < count:
                time.sleep(0.001)
        leave.set()
        for thread in threads:
            thread.join(10)
    assert order == ["final", "final", "partial", "partial", "recorded"]


def test_a_place_is_given_back_when_work_fails() -> None:
    pace = SharedPace(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="on purpose"), pace.live.turn("final"):
            raise ValueError("on purpose")
    with pace.live.turn("partial"):
        assert waiting(pace) == 0


def test_work_is_left_out_in_order_and_comes_back() -> None:
    clock, skips = Clock(), Skips()
    pace = SharedPace(1, observer=skips, clock=clock, worked=lambda: 0.0)
    kinds = sorted(LIMITS_S, key=LIMITS_S.__getitem__)
    assert kinds == ["picture", "partial", "translation", "call"]
    assert all(pace.affords(kind) for kind in kinds)
    with held(pace) as leave:
        thread = threading.Thread(target=lambda: pace.live.turn("final").__enter__())
        thread.start()
        while waiting(pace) < 1:
            time.sleep(0.001)
        for kind in kinds:
            # Partial results do without while every place is taken, however short the wait.
            before = {each: pace.affords(each) for each in kinds if each != "partial"}
            assert before == {each: kinds.index(each) >= kinds.index(kind) for each in before}
            clock.now_s = 100 + LIMITS_S[kind] + 0.01
            assert not pace.affords(kind)
        assert pace.live.affords("final")
        assert pace.recorded.affords("partial"), "recordings leave nothing out"
        leave.set()
        thread.join(10)
    assert not pace.affords("call"), "the wait is remembered"
    clock.now_s += MEMORY_S + 0.01
    assert all(pace.affords(kind) for kind in kinds)
    assert not skips.seen
    pace.live.left_out("partial")
    assert skips.seen == ["partial"]


def test_partial_results_leave_a_place_and_do_not_wait() -> None:
    pace = SharedPace(2)
    with pace.live.turn("final"):
        assert pace.affords("partial")
        with pace.live.turn("final"):
            assert not pace.affords("partial"), "no place is free"
    with pace.live.turn("partial"):
        assert not pace.affords("partial"), "the other place is for a final one"
    assert pace.affords("partial")
    alone = SharedPace(1)
    assert alone.affords("partial")
    with alone.live.turn("partial"):
        assert not alone.affords("partial")


def test_what_was_left_out_stays_so_until_it_is_calm() -> None:
    clock = Clock()
    pace = SharedPace(1, clock=clock)
    limit_s = LIMITS_S["partial"]
    for wait_s, affords in (
        (1.1 * limit_s, False),
        (0.8 * limit_s, False),
        (0.3 * limit_s, True),
        (0.8 * limit_s, True),
    ):
        pace._held_up = [(clock.now_s, wait_s)]
        assert pace.affords("partial") is affords
