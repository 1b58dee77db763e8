"""What stretches of a call are for: share of utterances in the right stage, and how far boundaries are off.

    python -m benchmarks.stages [--part dev|test] [--misses] [--json FILE]

The dialogues are tests/data/stages_dev.yaml, on which phrases and scores were tuned, and stages_test.yaml, written
before them and only measured on. `live` is the stage that was current when an utterance had just been taken, `whole`
the sequence at the end of the call. A boundary is where one stage begins; it is found when the same stage begins at
most BOUNDARY_TURNS turns away. Personal data is taken out already, as it is in a call; its places are given.
"""

import argparse
import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import yaml

from affectline.models.signals import Span
from affectline.pipelines.stages import STAGES, StageTracker
from affectline.pipelines.timeline import Participant, Redaction, Stage, StageName, Utterance
from benchmarks.common import bootstrap, report

DATA: Final = Path(__file__).resolve().parents[1] / "tests" / "data"
PARTIES: Final = {
    "c": Participant("customer", "customer", 0, "granted"),
    "a": Participant("agent", "agent", 1, "granted"),
    "b": Participant("colleague", "agent", 2, "granted"),
}
BOUNDARY_TURNS: Final = 1
PAUSE_US: Final = 400_000
WORD_US: Final = 350_000
_REDACTED: Final = re.compile(r"\[([A-Z_]+)\]")


@dataclass(frozen=True, slots=True)
class Dialogue:
    name: str
    utterances: tuple[Utterance, ...]
    expected: tuple[StageName, ...]
    """Of each utterance."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Of one dialogue."""

    expected: tuple[StageName, ...]
    whole: tuple[StageName, ...]
    live: tuple[StageName, ...]


def load_dialogues(path: Path) -> list[Dialogue]:
    dialogues = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        utterances: list[Utterance] = []
        expected: list[StageName] = []
        at_us = 1_000_000
        for turn in entry["turns"]:
            if turn[0] == "gap":
                at_us += turn[1] * 1_000_000
                continue
            stage, party, text = turn
            span = Span(at_us, at_us + max(2, len(text.split())) * WORD_US)
            redactions = tuple(Redaction(kind.lower(), span) for kind in _REDACTED.findall(text))
            name = f"u{len(utterances)}"
            utterances.append(
                Utterance(name, span, PARTIES[party].id, text, (), entry.get("language", "en"), 1.0, True, 1,
                          redactions=redactions)
            )  # fmt: skip
            expected.append(stage)
            at_us = span.end_us + PAUSE_US
        dialogues.append(Dialogue(entry["call"], tuple(utterances), tuple(expected)))
    return dialogues


def tally(dialogue: Dialogue) -> Tally:
    spoke = {utterance.participant for utterance in dialogue.utterances}
    tracker = StageTracker([party for party in PARTIES.values() if party.id in spoke])
    known: list[Stage] = []
    live: list[StageName] = []
    for utterance in dialogue.utterances:
        known = follow(known, tracker.feed(utterance))
        live.append(known[-1].name)
    known = follow(known, tracker.finish(dialogue.utterances[-1].span.end_us))
    whole = tuple(_at(known, utterance.span.start_us) for utterance in dialogue.utterances)
    return Tally(dialogue.expected, whole, tuple(live))


def follow(known: Sequence[Stage], told: Sequence[Stage]) -> list[Stage]:
    """The stages after those that were told: each replaces the one with its id and all that began after it."""
    stages = list(known)
    for stage in told:
        stages = [*stages[: int(stage.id.removeprefix("s-"))], stage]
    return stages


def _at(stages: Sequence[Stage], time_us: int) -> StageName:
    return next(stage.name for stage in reversed(stages) if stage.span.start_us <= time_us)


def _boundaries(names: Sequence[StageName]) -> list[tuple[int, StageName]]:
    return [(i, name) for i, name in enumerate(names) if i and names[i - 1] != name]


def scores(tallies: Sequence[Tally]) -> dict[str, Any]:
    """Accuracies with bootstrap intervals over dialogues, boundaries, and recall per stage."""
    counts = np.array(
        [
            (
                len(t.expected),
                sum(a == b for a, b in zip(t.expected, t.whole, strict=True)),
                sum(a == b for a, b in zip(t.expected, t.live, strict=True)),
            )
            for t in tallies
        ],
        float,
    )
    groups = [str(number) for number in range(len(tallies))]

    def accuracy(rows: npt.NDArray[Any]) -> float:
        turns, right = rows.sum(axis=0)
        return float(right / turns)

    found = missed = extra = 0
    off: list[int] = []
    for each in tallies:
        left = _boundaries(each.whole)
        for place, name in _boundaries(each.expected):
            near = [b for b in left if b[1] == name]
            nearest = min(near, key=lambda b: abs(b[0] - place), default=None)
            if nearest is not None and abs(nearest[0] - place) <= BOUNDARY_TURNS:
                found += 1
                off.append(abs(nearest[0] - place))
                left.remove(nearest)
            else:
                missed += 1
        extra += len(left)
    right = Counter(a for t in tallies for a, b in zip(t.expected, t.whole, strict=True) if a == b)
    total = Counter(a for t in tallies for a in t.expected)
    guessed = Counter(b for t in tallies for b in t.whole)
    return {
        **{
            name: {
                "value": round(accuracy(rows), 3),
                "95": [round(x, 3) for x in bootstrap(accuracy, rows, groups)],
            }
            for name, rows in (("whole", counts[:, [0, 1]]), ("live", counts[:, [0, 2]]))
        },
        "boundaries": {
            "recall": round(found / max(1, found + missed), 3),
            "precision": round(found / max(1, found + extra), 3),
            "exact": round(sum(o == 0 for o in off) / max(1, len(off)), 3),
        },
        "stages": {
            stage: {
                "turns": total[stage],
                "recall": round(right[stage] / max(1, total[stage]), 3),
                "precision": round(right[stage] / max(1, guessed[stage]), 3),
            }
            for stage in STAGES
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Accuracy of the stages of a call.")
    parser.add_argument("--part", choices=("dev", "test"), help="only this half; both when absent")
    parser.add_argument("--misses", action="store_true", help="print the turns that were put in another stage")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    for part in (args.part,) if args.part else ("dev", "test"):
        dialogues = load_dialogues(DATA / f"stages_{part}.yaml")
        started_s = time.perf_counter()
        tallies = [tally(dialogue) for dialogue in dialogues]
        turns = sum(len(dialogue.utterances) for dialogue in dialogues)
        results[part] = {
            "dialogues": len(dialogues),
            "turns": turns,
            "turn_ms": round(1e3 * (time.perf_counter() - started_s) / turns, 3),
            **scores(tallies),
        }
        if args.misses:
            for dialogue, each in zip(dialogues, tallies, strict=True):
                for said, right, whole, live in zip(
                    dialogue.utterances, each.expected, each.whole, each.live, strict=True
                ):
                    if right != whole:
                        who = said.participant[:2]
                        print(f"{part} {dialogue.name}: {right} -> {whole} (live {live}) {who} {said.text}")
        for name in ("whole", "live", "boundaries", "stages"):
            print(part, name, results[part][name])
    headline = {
        f"{part}_{name}": f"{result[name]['value']:.2f}"
        for part, result in results.items()
        for name in ("whole", "live")
    }
    report("stages", {"results": results}, headline, args.json)


if __name__ == "__main__":
    main()
