"""Benchmarks of cost and growth: their schedules and their arithmetic."""

import os

import numpy as np
import pytest

pytest.importorskip("jiwer", reason="needs the extra `bench` (jiwer)")

from affectline.protos.v1 import analyze_pb2
from benchmarks import scale, soak, tables
from benchmarks.callers import Sound
from benchmarks.load import Plan
from benchmarks.serving import Usage, usage

pytestmark = pytest.mark.unit

SOUND = Sound("s", bytes(16_000 * 60), 2, 8_000, "mulaw")


def seen(rss_mb: list[float]) -> list[Usage]:
    """Twice a second."""
    return [Usage(100 + i / 2, i / 10, mb, 20, 30 + i // 1_000, i / 5) for i, mb in enumerate(rss_mb)]


def test_a_leak_is_told_from_noise() -> None:
    noise = np.random.default_rng(1).normal(0, 5, 2_400)
    flat = soak.growth(seen((600 + noise).tolist()), "rss_mb")
    low, high = flat["per_hour_95"]
    assert low < 0 < high
    leak = soak.growth(seen((600 + noise + np.arange(2_400) / 2 / 3_600 * 60).tolist()), "rss_mb")
    low, high = leak["per_hour_95"]
    assert 0 < low < 60 < high
    assert leak["per_hour"] == pytest.approx(60, rel=0.1)


def test_what_is_used_for_the_first_time_is_no_leak() -> None:
    points = [500 + min(i, 400) for i in range(2_400)]
    assert soak.growth(seen([float(p) for p in points]), "rss_mb")["per_hour"] == 0


def test_calls_come_and_go_on_every_line_and_some_end_badly() -> None:
    made = soak.schedule(Plan(3, 60, True, "en", (100,), (SOUND,)), 1_000.0, 1_800)
    assert [caller.number for caller in made] == list(range(len(made)))
    assert len(made) > 100
    ends = [caller.start_s + caller.frames / SOUND.rate_hz for caller in made]
    assert max(ends) <= 1_000 + 1_800
    at_a_time = [sum(c.start_s <= t < end for c, end in zip(made, ends, strict=True)) for t in range(1_100, 2_700, 10)]
    assert max(at_a_time) == 3
    assert float(np.mean(at_a_time)) > 2.5
    assert 0.06 < float(np.mean([caller.breaks_off for caller in made])) < 0.2
    languages = [analyze_pb2.AnalyzeRequest.FromString(caller.config).config.language for caller in made]
    assert 0.02 < languages.count("xx") / len(languages) < 0.12


def test_costs_are_flat_within_their_furthest_from_the_mean() -> None:
    assert scale.spread([1.0, 1.0, 1.0]) == 0
    assert scale.spread([0.9, 1.0, 1.1]) == pytest.approx(0.1)


def test_the_kernel_counts_this_process() -> None:
    before = usage(os.getpid())
    sum(i * i for i in range(2_000_000))
    after = usage(os.getpid())
    assert after.cpu_s > before.cpu_s
    assert after.machine_s >= before.machine_s
    assert after.rss_mb > 10
    assert after.threads >= 1
    with pytest.raises(OSError, match="No such file"):
        usage(2**22 + 1)


MACHINE = {"command": "python -m benchmarks.x", "cpu": "c", "cores": 2, "memory_gb": 8, "python": "3", "versions": {}}


def test_growth_and_cost_are_shown() -> None:
    held = {key: soak.growth(seen([600.0] * 2_400), key) for key in ("rss_mb", "handles", "threads")}
    idle = {"rss_mb": 580.0, "handles": 30, "threads": 20}
    document = {"environment": MACHINE, "minutes": 60, "calls": 90, "calls_at_a_time": 2, **held}
    shown = tables.soak({**document, "idle_before": idle, "idle_after": idle})
    assert "| memory, MB | 580 | 600 | 580 | 0.0 (0.0 to 0.0) |" in shown
    rows = [{"calls": n, "minutes": 1.0, "cpu_s_per_call_minute": 2.5, "rss_peak_mb": 640.0 + 2 * n} for n in (4, 8)]
    assert scale.slope(rows, "calls") == pytest.approx(2)
    found = {"by_number": rows, "by_length": [], "spread_by_number": 0.04, "rss_mb_per_call": 2.0}
    shown = tables.scale({"environment": MACHINE, **found})
    assert "| 4 calls | 2.50 s | 648 MB |" in shown
    assert "Memory: 2.0 MB for each call more." in shown
    assert "Cost by number within 4% of the mean." in shown


def test_wired_stacks_are_shown_beside_ours() -> None:
    ours = {"system": "affectline", "call_cpu_rtf": 0.04, "call_rtf": 0.03, "wer": 0.01, "peak_mb": 600}
    known = {"polarity_recall": 0.5, "polarity_recall_95": [0.4, 0.6]}
    data = {"call": "c", "parties": 2, "name": "d", "clips": 9, "speakers": 3}
    wired = {**ours, "system": "wired", "call_cpu_rtf": 0.12}
    document = {"environment": MACHINE, "data": data, "threads": 2, "results": [{**ours, **known}, {**wired, **known}]}
    assert "| wired | 0.120 | 3.0× | 0.030 | 1.0% | 0.50 (0.40 to 0.60) | 600 MB |" in tables.peers(document)
