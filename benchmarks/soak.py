"""Hours of calls that come and go: does the server's memory, its handles or its threads grow?

    python -m benchmarks.soak --minutes M [--calls N] [--data DIR] [--json FILE]

About N calls run at any time, of 10 to 60 s each, with pauses between them; one in eight breaks off without a word, and
one in sixteen sends a configuration that is refused. The seeded schedule is the same in every run. What the server
holds is looked at twice a second; of each ten seconds the median counts, from a quarter of the run on, when everything
has been used. The slope is Theil and Sen's, with its 95 % interval (Sen 1968): a leak is a slope whose interval lies
above 0.
"""

import argparse
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from scipy.stats import theilslopes

from affectline.server import wire
from benchmarks.callers import START_WITHIN_S, Caller, make_calls
from benchmarks.common import SEED, report
from benchmarks.load import Plan, call_config, callers, read_calls, token, warm_up, wire_format
from benchmarks.serving import Usage, Watch, serving

CALL_S: Final = (10.0, 60.0)
PAUSE_S: Final = (0.5, 5.0)
BREAKS_OFF, REFUSED = 1 / 8, 1 / 16
BLOCK_S: Final = 10.0
SETTLED: Final = 0.25
"""Part of the run after which growth counts."""
PATIENCE_S: Final = 60.0


def schedule(plan: Plan, start_s: float, length_s: float) -> list[Caller]:
    """One call after the other on each of the plan's lines."""
    rng = np.random.default_rng(SEED)
    made: list[Caller] = []
    for line in callers(plan, start_s):
        now_s = line.start_s
        while (seconds := float(rng.uniform(*CALL_S))) < start_s + length_s - now_s:
            sound = plan.sounds[line.sound]
            kind = rng.random()
            config = line.config
            if kind >= 1 - REFUSED:
                wrong = replace(call_config(plan, sound, line.number), language="xx")
                config = wire.call_config(wrong, wire_format(sound)).SerializeToString()
            made.append(
                replace(
                    line,
                    number=len(made),
                    config=config,
                    offset_frame=int(rng.integers(sound.frames)),
                    frames=round(seconds * sound.rate_hz),
                    start_s=now_s,
                    breaks_off=kind < BREAKS_OFF,
                )
            )
            now_s += seconds + float(rng.uniform(*PAUSE_S))
    return made


def blocks(seen: Sequence[Usage], field: str) -> list[tuple[float, float]]:
    """(minutes, median) of each ten seconds."""
    began_s = seen[0].at_s
    found: dict[int, list[float]] = {}
    for each in seen:
        found.setdefault(int((each.at_s - began_s) / BLOCK_S), []).append(getattr(each, field))
    return [(block * BLOCK_S / 60, float(np.median(values))) for block, values in found.items()]


def growth(seen: Sequence[Usage], field: str) -> dict[str, Any]:
    """First and last value, the highest, and the slope by the hour of what is settled."""
    points = blocks(seen, field)
    settled = points[int(len(points) * SETTLED) :]
    minutes, values = zip(*settled, strict=True)
    slope, _, low, high = map(float, theilslopes(values, minutes))
    return {
        "first": round(settled[0][1], 1),
        "last": round(settled[-1][1], 1),
        "most": round(max(getattr(each, field) for each in seen), 1),
        "per_hour": round(slope * 60, 2),
        "per_hour_95": [round(low * 60, 2), round(high * 60, 2)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory, handles and threads of a server while calls come and go.")
    parser.add_argument("--minutes", type=float, required=True, metavar="M", help="length of the run; 4 at least")
    parser.add_argument("--calls", type=int, default=4, metavar="N", help="at the same time; %(default)s when absent")
    folder = Path("../shared/data/call_center_en")
    parser.add_argument("--data", type=Path, default=folder, metavar="DIR", help="recordings; %(default)s when absent")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    if args.minutes < 4:
        parser.error("expected 4 minutes or more: a shorter run tells nothing of growth")
    sounds, _ = read_calls(args.data, "mulaw")
    plan = Plan(args.calls, CALL_S[1], True, "en", (100,), tuple(sounds), PATIENCE_S)
    # Twice the places: a call that ends late does not make the next one be refused.
    with serving(settings={"max_calls": 2 * args.calls}) as served:
        warm_up(served, plan)
        made = schedule(plan, time.monotonic() + START_WITHIN_S, args.minutes * 60)
        with Watch(served) as watch:
            calls = make_calls(served.address, made, plan.sounds, token(), processes=1)
        time.sleep(5)
        after = served.usage()
    assert after is not None
    idle = watch.seen[0]
    results: dict[str, Any] = {
        "data": {"name": args.data.name, "recordings": [sound.name for sound in sounds]},
        "minutes": args.minutes,
        "calls_at_a_time": args.calls,
        "calls": len(made),
        "statuses": dict(Counter(log.status for log in calls.logs)),
        "rss_mb": growth(watch.seen, "rss_mb"),
        "handles": growth(watch.seen, "handles"),
        "threads": growth(watch.seen, "threads"),
        "idle_before": {"rss_mb": round(idle.rss_mb, 1), "handles": idle.handles, "threads": idle.threads},
        "idle_after": {"rss_mb": round(after.rss_mb, 1), "handles": after.handles, "threads": after.threads},
        "rss_mb_by_minute": [[round(m, 2), round(v, 1)] for m, v in blocks(watch.seen, "rss_mb")[::6]],
    }
    for key, value in results.items():
        print(f"{key}: {value}")
    if late := results["statuses"].get("GIVEN_UP", 0):
        print(f"{late} calls were given up: the machine is too busy for {args.calls} calls, and this says little")
    low, high = results["rss_mb"]["per_hour_95"]
    headline = {
        "calls": len(made),
        "rss_mb_per_hour": results["rss_mb"]["per_hour"],
        "rss_mb_per_hour_95": f"{low}..{high}",
        "handles_grown": after.handles - idle.handles,
        "threads_grown": after.threads - idle.threads,
    }
    report("soak", results, headline, args.json)


if __name__ == "__main__":
    main()
