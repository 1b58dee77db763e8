"""How fast the store answers over many calls, each answer checked against what was put in.

    python -m benchmarks.store [--calls 100000] [--place PATH|URL] [--json benchmarks/results/store.json]

The calls are made up and written past the pipeline: their rows are as many and as large as those of real ones, but the
exact timeline of each is a stand-in, since no list reads it. `--place` is an empty database; a file that is deleted
again by default.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Final

from sqlalchemy import func, insert, select, text

from affectline.models.labels import AFFECT_OF_LABEL, Label
from affectline.server.store.calls import CallStore
from affectline.server.store.derived import VERSION
from affectline.server.store.query import MAX_COUNTED, CallFilter, Queries
from affectline.server.store.tables import (
    CALLS,
    FEELINGS,
    MOMENTS,
    OUTCOMES,
    STAGES,
    SUGGESTIONS,
    TIMELINES,
    UTTERANCES,
)
from benchmarks.common import report

FIRST: Final = datetime(2026, 1, 1, tzinfo=UTC)
QUEUES: Final = ("billing", "support", "sales", "retention", "claims")
PRODUCTS: Final = ("broadband", "mobile", "television", "insurance")
STAGE_PLAN: Final = ("greeting", "identification", "problem", "resolution", "closing")
LABELS: Final[tuple[Label, ...]] = ("neutral", "satisfied", "frustrated", "angry", "confused", "sad")
COMMON_WORDS: Final = ("the", "a", "to", "and", "is", "my", "it", "you", "not", "account", "bill", "line", "phone")
BATCH: Final = 1_000
SECOND_US: Final = 1_000_000
PATTERNS: Final = 500
"""Courses of a call that there are; each call has one of them."""
Pattern = tuple[list[dict[str, Any]], dict[tuple[str, Label], list[float]]]


@dataclass(frozen=True, slots=True)
class Volume:
    calls: int
    moments: int
    """Of each call, one a second."""
    utterances: int


def fill(store: CallStore, volume: Volume, seed: int = 7) -> dict[str, set[str]]:
    """Writes the calls, and gives the ids that some questions should find."""
    chance = random.Random(seed)
    words = [*COMMON_WORDS * 3_000, *(f"word{number}" for number in range(20_000))]
    expected: dict[str, set[str]] = {
        "frustrated": set(),
        "problem": set(),
        "rare": set(),
        "bad": set(),
        "policy": set(),
    }
    patterns = [_pattern(chance, volume) for _ in range(PATTERNS)]
    blob = bytes(chance.randrange(256) for _ in range(4_096))
    for first in range(0, volume.calls, BATCH):
        rows: dict[Any, list[dict[str, Any]]] = {
            table: [] for table in (CALLS, TIMELINES, UTTERANCES, MOMENTS, STAGES, FEELINGS, SUGGESTIONS, OUTCOMES)
        }
        for number in range(first, min(first + BATCH, volume.calls)):
            _add_call(rows, f"{chance.getrandbits(128):032x}", number, chance, volume, patterns, words, blob, expected)
        with store.database.writing() as connection:
            for table, each in rows.items():
                connection.execute(insert(table), each)
        print(f"\r{min(first + BATCH, volume.calls)} calls", end="", file=sys.stderr)
    print(file=sys.stderr)
    return expected


def _pattern(chance: random.Random, volume: Volume) -> Pattern:
    """How one call went: its moments, and (time, integral of valence) by stage and label."""
    moments: list[dict[str, Any]] = []
    feelings: dict[tuple[str, Label], list[float]] = {}
    mood: Label = "neutral"
    for second in range(volume.moments):
        if chance.random() < 0.1:
            mood = chance.choices(LABELS, (10, 3, 2, 1, 1, 1))[0]
        valence, arousal, _ = AFFECT_OF_LABEL[mood]
        stage = STAGE_PLAN[second * len(STAGE_PLAN) // volume.moments]
        for at in ("", stage):
            each = feelings.setdefault((at, mood), [0, 0.0])
            each[0] += SECOND_US
            each[1] += SECOND_US * valence
        moments.append(
            {
                "participant": "customer",
                "start_us": second * SECOND_US,
                "id": f"m-customer-{second * SECOND_US}",
                "end_us": (second + 1) * SECOND_US,
                "label": mood,
                "probability": chance.random(),
                "valence": valence,
                "arousal": arousal,
                "stress": chance.random(),
            }
        )
    return moments, feelings


def _add_call(
    rows: dict[Any, list[dict[str, Any]]],
    call_id: str,
    number: int,
    chance: random.Random,
    volume: Volume,
    patterns: list[Pattern],
    words: list[str],
    blob: bytes,
    expected: dict[str, set[str]],
) -> None:
    began = FIRST + timedelta(minutes=3 * number)
    key = {"call_id": call_id}
    moments, feelings = chance.choice(patterns)
    rows[MOMENTS] += [{**key, **each} for each in moments]
    whole = [(us, total) for (at, _), (us, total) in feelings.items() if not at]
    for (at, label), (us, total) in feelings.items():
        rows[FEELINGS].append({**key, "stage": at, "label": label, "us": us, "valued_us": us, "valence_us": total})
    if feelings.get(("", "frustrated"), [0])[0] >= 10 * SECOND_US:
        expected["frustrated"].add(call_id)
    if feelings.get(("problem", "angry"), [0])[0] >= 3 * SECOND_US:
        expected["problem"].add(call_id)
    alert = chance.random() < 0.05
    if alert:
        policy = "escalation@2.0.0" if number % 50 == 0 else "anger@1.0.0"
        rows[SUGGESTIONS].append(
            {
                **key,
                "id": "s0",
                "kind": "alert",
                "action": "alert:x",
                "policy": policy,
                "created_us": 1,
                "text": "Join.",
            }
        )
        if number % 50 == 0:
            expected["policy"].add(call_id)
    if chance.random() < 0.3:
        value = chance.randint(1, 5)
        rows[OUTCOMES].append({**key, "kind": "csat", "value": value, "at": began, "recorded": began})
        if value <= 2:
            expected["bad"].add(call_id)
    rows[CALLS].append(
        {
            "id": call_id,
            "name": f"call {number}",
            "started": began,
            "began": began,
            "stored": began,
            "changed": began,
            "duration_us": volume.moments * SECOND_US,
            "queue": chance.choice(QUEUES),
            "product": chance.choice(PRODUCTS),
            "language": "en",
            "agent_group": f"group {number % 12}",
            "valence": sum(total for _, total in whole) / sum(us for us, _ in whole),
            "valued_us": sum(us for us, _ in whole),
            "sparkline": blob[:60],
            "alerts": int(alert),
            "derived": VERSION,
        }
    )
    rows[TIMELINES].append({**key, "data": blob})
    for place, stage in enumerate(STAGE_PLAN):
        step = volume.moments * SECOND_US // len(STAGE_PLAN)
        rows[STAGES].append(
            {
                **key,
                "id": f"s-{place}",
                "name": stage,
                "start_us": place * step,
                "end_us": (place + 1) * step,
                "confidence": 1,
            }
        )
    for place in range(volume.utterances):
        said = " ".join(chance.choices(words, k=12))
        if place == 0 and number % 5_000 == 17:
            said += " xylophone"
            expected["rare"].add(call_id)
        rows[UTTERANCES].append(
            {
                **key,
                "id": f"u{place}",
                "participant": "customer" if place % 2 else "agent",
                "start_us": place * SECOND_US,
                "end_us": (place + 1) * SECOND_US,
                "text": said,
                "words": said,
            }
        )


def questions(queries: Queries, expected: dict[str, set[str]]) -> dict[str, tuple[Callable[[], Any], int | None]]:
    """Name -> what is asked, and how many calls it should find where that is known."""
    month: dict[str, Any] = {"started_from": FIRST + timedelta(days=60), "started_before": FIRST + timedelta(days=90)}

    def page(**fields: Any) -> Callable[[], int]:
        return lambda: queries.list_calls(CallFilter(**fields)).total

    return {
        "newest calls": (page(), None),
        "one queue": (page(queues=("billing",)), None),
        "one queue in a month": (page(queues=("billing",), **month), None),
        "frustrated >= 10 s": (page(label="frustrated", label_min_s=10), len(expected["frustrated"])),
        "angry >= 3 s in the stage problem": (
            page(label="angry", label_min_s=3, stage="problem"),
            len(expected["problem"]),
        ),
        "satisfied >= 1 s (most calls)": (page(label="satisfied"), None),
        "a rare policy": (page(policies=("escalation",)), len(expected["policy"])),
        "bad CSAT": (page(outcome="csat", outcome_bad=True), len(expected["bad"])),
        "a rare word": (page(words="xylophone"), len(expected["rare"])),
        "a word of nearly all calls": (page(words="account"), None),
        "frustrated, one queue, bad CSAT, a month": (
            page(label="frustrated", label_min_s=5, queues=("billing",), outcome="csat", outcome_bad=True, **month),
            None,
        ),
        "most negative first": (lambda: queries.list_calls(order="most_negative").total, None),
        "search a rare word": (lambda: len(queries.search("xylophone").hits), None),
        "search a common word": (lambda: len(queries.search("account").hits), None),
        "groups by queue": (lambda: len(queries.aggregate(by="queue").groups), None),
        "groups by queue in a month": (lambda: len(queries.aggregate(CallFilter(**month), by="queue").groups), None),
        "groups by stage": (lambda: len(queries.aggregate(by="stage").groups), None),
        "groups by hour": (lambda: len(queries.aggregate(by="hour").groups), None),
    }


def measure(ask: Callable[[], Any], rounds: int) -> tuple[Any, list[float], list[float]]:
    """The answer, and by round the time by the clock and the CPU time of this thread, in ms."""
    took, worked = [], []
    for _ in range(rounds):
        started, began = time.perf_counter(), time.thread_time()
        answer = ask()
        took.append((time.perf_counter() - started) * 1_000)
        worked.append((time.thread_time() - began) * 1_000)
    return answer, took, worked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100_000)
    parser.add_argument("--moments", type=int, default=30, help="seconds of each call")
    parser.add_argument("--utterances", type=int, default=8, help="of each call")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--place", help="an empty database")
    parser.add_argument("--json", type=Path, metavar="OUT")
    options = parser.parse_args()
    volume = Volume(options.calls, options.moments, options.utterances)
    with tempfile.TemporaryDirectory() as folder:
        store = CallStore(options.place or str(Path(folder, "calls.db")))
        started = time.perf_counter()
        expected = fill(store, volume)
        with store.database.writing() as connection:
            connection.execute(text("ANALYZE"))
        filled_s = time.perf_counter() - started
        with store.database.reading() as connection:
            moments = connection.scalar(select(func.count()).select_from(MOMENTS)) or 0
        results = []
        for name, (ask, count) in questions(Queries(store), expected).items():
            answer, took, worked = measure(ask, options.rounds)
            if count is not None and answer != min(count, MAX_COUNTED + 1):
                raise SystemExit(f"expected {count} calls for {name}, found {answer}")
            row = {
                "question": name,
                "answer": answer,
                "median_ms": median(took),
                "worst_ms": max(took),
                "cpu_ms": median(worked),
            }
            results.append(row)
            print(f"{name:45} {answer:>7}  " + "  ".join(f"{key} {row[key]:7.1f}" for key in list(row)[2:]))
        document = {
            "database": _version(store),
            "calls": volume.calls,
            "moments": moments,
            "utterances": volume.calls * volume.utterances,
            "filled_s": round(filled_s),
            "size_mb": _size_mb(store),
            "results": results,
        }
        slowest = max(results, key=lambda each: each["median_ms"])
        report("store", document, {"slowest": slowest["question"], "median_ms": slowest["median_ms"]}, options.json)
        store.close()


def _version(store: CallStore) -> str:
    with store.database.reading() as connection:
        if store.database.is_postgres:
            return f"PostgreSQL {connection.scalar(text('SHOW server_version'))}"
        return f"SQLite {connection.scalar(text('SELECT sqlite_version()'))}"


def _size_mb(store: CallStore) -> float:
    if store.database.path:
        return round(os.stat(store.database.path).st_size / 1e6)
    with store.database.reading() as connection:
        return round((connection.scalar(text("SELECT pg_database_size(current_database())")) or 0) / 1e6)


if __name__ == "__main__":
    main()
