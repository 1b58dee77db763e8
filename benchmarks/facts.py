"""What the call was about, promises and unanswered questions: precision and recall of each kind.

    python -m benchmarks.facts [--part dev|test] [--misses] [--json FILE]

The dialogues are tests/data/facts_dev.yaml, on which the rules were tuned, and facts_test.yaml, written before the
rules and only measured on. A fact is right when it has the kind of an expected one, comes from the same turn, and
either holds at least 0.8 of the words of the other. Every dialogue is measured as a chat, without word times.
"""

import argparse
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
import numpy.typing as npt
import yaml

from affectline.models.signals import Span
from affectline.pipelines.facts import FactFinder
from affectline.pipelines.timeline import FactKind, Participant, Utterance
from benchmarks.common import bootstrap, report

DATA: Final = Path(__file__).resolve().parents[1] / "tests" / "data"
PARTIES: Final = {
    "c": Participant("customer", "customer", 0, "granted"),
    "a": Participant("agent", "agent", 1, "granted"),
}
KINDS: Final[tuple[FactKind, ...]] = get_args(FactKind)
SAME: Final = 0.8
SECOND_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Dialogue:
    utterances: tuple[Utterance, ...]
    expected: Mapping[FactKind, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Tally:
    """Of one dialogue and kind."""

    right: int
    wrong: tuple[str, ...]
    """Found, but not expected."""
    missed: tuple[str, ...]


def load_dialogues(path: Path) -> list[Dialogue]:
    dialogues = []
    for entry in yaml.safe_load(path.read_text(encoding="utf-8")):
        utterances = []
        for number, turn in enumerate(entry["turns"]):
            ((party, text),) = turn.items()
            span = Span(number * SECOND_US, (number + 1) * SECOND_US)
            name = PARTIES[party].id
            utterances.append(Utterance(f"t{number}", span, name, text, (), "en", 1.0, True, 1, written=True))
        dialogues.append(Dialogue(tuple(utterances), {kind: entry.get(kind, []) for kind in KINDS}))
    return dialogues


def tally(finder: FactFinder, dialogue: Dialogue) -> dict[FactKind, Tally]:
    found = finder.find(tuple(PARTIES.values()), dialogue.utterances)
    tallies: dict[FactKind, Tally] = {}
    for kind in KINDS:
        left = list(dialogue.expected[kind])
        wrong = []
        for fact in (fact for fact in found if fact.kind == kind):
            turn = next(u.text for u in dialogue.utterances if u.id == fact.utterance_id)
            match = next((text for text in left if text in turn and same(text, fact.text)), None)
            if match is None:
                wrong.append(fact.text)
            else:
                left.remove(match)
        tallies[kind] = Tally(len(dialogue.expected[kind]) - len(left), tuple(wrong), tuple(left))
    return tallies


def same(one: str, other: str) -> bool:
    a, b = (set(re.findall(r"\w+", text.lower())) for text in (one, other))
    return len(a & b) >= SAME * min(len(a), len(b))


def scores(tallies: Iterable[Tally]) -> dict[str, Any]:
    """Precision and recall, with bootstrap intervals over dialogues."""
    counts = np.array([(t.right, len(t.wrong), len(t.missed)) for t in tallies], float)

    def precision(rows: npt.NDArray[Any]) -> float:
        right, wrong, _ = rows.sum(axis=0)
        return float(right / max(1.0, right + wrong))

    def recall(rows: npt.NDArray[Any]) -> float:
        right, _, missed = rows.sum(axis=0)
        return float(right / max(1.0, right + missed))

    groups = [str(number) for number in range(len(counts))]
    right, wrong, missed = (int(total) for total in counts.sum(axis=0))
    return {
        "expected": right + missed,
        "found": right + wrong,
        **{
            name: {"value": round(score(counts), 3), "95": [round(x, 3) for x in bootstrap(score, counts, groups)]}
            for name, score in (("precision", precision), ("recall", recall))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Precision and recall of issues, commitments and open questions.")
    parser.add_argument("--part", choices=("dev", "test"), help="only this half; both when absent")
    parser.add_argument("--misses", action="store_true", help="print what was found wrongly or missed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    finder = FactFinder()
    results: dict[str, Any] = {}
    for part in (args.part,) if args.part else ("dev", "test"):
        dialogues = load_dialogues(DATA / f"facts_{part}.yaml")
        started_s = time.perf_counter()
        tallies = [tally(finder, dialogue) for dialogue in dialogues]
        turns = sum(len(dialogue.utterances) for dialogue in dialogues)
        results[part] = {
            "dialogues": len(dialogues),
            "turns": turns,
            "turn_ms": round(1e3 * (time.perf_counter() - started_s) / turns, 3),
            **{kind: scores(each[kind] for each in tallies) for kind in KINDS},
        }
        if args.misses:
            for each in tallies:
                for kind, one in each.items():
                    for text in one.wrong:
                        print(f"{part} {kind} wrong:  {text}")
                    for text in one.missed:
                        print(f"{part} {kind} missed: {text}")
        for kind in KINDS:
            print(part, kind, results[part][kind])
    headline = {
        f"{part}_{kind}": f"{result[kind]['precision']['value']:.2f}/{result[kind]['recall']['value']:.2f}"
        for part, result in results.items()
        for kind in KINDS
    }
    report("facts", {"results": results}, headline, args.json)


if __name__ == "__main__":
    main()
