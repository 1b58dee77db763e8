"""What a call costs, by how many run at the same time and by how long it is: flat, or does it grow?

    python -m benchmarks.scale [--calls N …] [--seconds S] [--minutes M …] [--data DIR] [--json FILE]

Each size gets a server of its own, warmed up. By number, calls run in real time, from another place in the recording
each. By length, a single call is the recording over and over, sent as fast as the server takes it (flow control). Cost
is the server's user and system time, which other programs on the machine hardly change, per minute of call. Memory is
the server's highest: a line through all numbers tells what one call more takes, beyond what the server needs to work at
all; a line through all lengths what an hour more takes. `--calls` or `--minutes` without a number leaves that half out.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.callers import make_calls
from benchmarks.common import report
from benchmarks.load import Plan, callers, read_calls, token, warm_up
from benchmarks.serving import Watch, serving

CALLS: Final = (4, 8, 12, 16, 20, 24)
SECONDS: Final = 120.0
MINUTES: Final = (4.0, 15.0, 60.0, 240.0)
FLAT: Final = 0.1
"""Costs so far around their mean count as flat."""
PATIENCE_S: Final = 3_600.0


def measure(plan: Plan, speed: float | None) -> dict[str, Any]:
    """The cost of a minute of call, on a server of its own."""
    with serving(settings={"max_calls": plan.calls, "idle_timeout_s": PATIENCE_S}) as served:
        warm_up(served, plan)
        before = served.usage()
        with Watch(served) as watch:
            made = callers(plan, time.monotonic(), speed=speed, ramp_s=0)
            calls = make_calls(served.address, made, plan.sounds, token())
        after = served.usage()
    assert before is not None
    assert after is not None
    if wrong := {log.status for log in calls.logs} - {"OK"}:
        raise SystemExit(f"expected calls that go through, found {', '.join(sorted(wrong))}")
    minutes = plan.calls * plan.seconds / 60
    took_s = max(log.closed_s for log in calls.logs) - min(log.began_s for log in calls.logs)
    peak_mb = max(each.rss_mb for each in watch.seen)
    found = {
        "calls": plan.calls,
        "minutes": round(plan.seconds / 60, 2),
        "cpu_s_per_call_minute": round((after.cpu_s - before.cpu_s) / minutes, 3),
        "rss_before_mb": round(before.rss_mb, 1),
        "rss_peak_mb": round(peak_mb, 1),
        "times_real_time": round(plan.calls * plan.seconds / took_s, 2),
        "threads": max(each.threads for each in watch.seen),
    }
    print(found, flush=True)
    return found


def spread(costs: Sequence[float]) -> float:
    """How far the costs lie from their mean at most, as a part of it."""
    mean = float(np.mean(costs))
    return max(abs(cost - mean) for cost in costs) / mean


def slope(rows: Sequence[dict[str, Any]], of: str) -> float:
    """MB of memory for one more of it: least squares."""
    return float(np.polyfit([row[of] for row in rows], [row["rss_peak_mb"] for row in rows], 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description="What a call costs, by their number and by their length.")
    parser.add_argument("--calls", type=int, nargs="*", default=list(CALLS), metavar="N", help="%(default)s")
    parser.add_argument("--minutes", type=float, nargs="*", default=list(MINUTES), metavar="M", help="%(default)s")
    folder = Path("examples")
    parser.add_argument("--data", type=Path, default=folder, metavar="DIR", help="recordings; %(default)s when absent")
    parser.add_argument("--seconds", type=float, default=SECONDS, metavar="S", help="length of many calls; %(default)s")
    parser.add_argument(
        "--interim", action=argparse.BooleanOptionalAction, default=True, help="ask for interim results"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    sounds, left_out = read_calls(args.data, "mulaw")
    sound = sounds[0]
    whole_s = sound.frames / sound.rate_hz

    def plan(calls: int, seconds: float) -> Plan:
        return Plan(calls, seconds, args.interim, "en", (100,), (sound,), PATIENCE_S)

    by_number = [measure(plan(calls, args.seconds), 1.0) for calls in args.calls]
    by_length = [measure(plan(1, round(m * 60 / whole_s) * whole_s or whole_s), None) for m in args.minutes]
    results: dict[str, Any] = {
        "data": {"name": args.data.name, "recording": sound.name, "seconds": round(whole_s, 1), "left_out": left_out},
        "interim_results": args.interim,
        "by_number": by_number,
        "by_length": by_length,
    }
    headline: dict[str, Any] = {}
    for name, rows in (("number", by_number), ("length", by_length)):
        if len(rows) > 1:
            found = spread([row["cpu_s_per_call_minute"] for row in rows])
            results[f"spread_by_{name}"] = headline[f"cost_within_by_{name}"] = round(found, 3)
            results[f"flat_by_{name}"] = found <= FLAT
    if len(by_number) > 1:
        headline["rss_mb_per_call"] = results["rss_mb_per_call"] = round(slope(by_number, "calls"), 2)
    if len(by_length) > 1:
        headline["rss_mb_per_hour_of_call"] = results["rss_mb_per_hour_of_call"] = round(
            60 * slope(by_length, "minutes"), 1
        )
    costs = [row["cpu_s_per_call_minute"] for row in (*by_number, *by_length)]
    headline["cpu_s_per_call_minute"] = round(float(np.mean(costs)), 2)
    report("scale", results, headline, args.json)


if __name__ == "__main__":
    main()
