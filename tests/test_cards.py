"""The cards: every model has one, it says what it must, and docs/models.md shows all of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from affectline.models.labels import LABELS
from affectline.models.ports import Task
from affectline.models.registry import all_models
from affectline.models.zoo.mini_xception import LABEL_OF_CLASS
from affectline.models.zoo.minilm import LABELS_OF_CLASS

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
CARDS: dict[str, dict[str, Any]] = {
    card["name"]: card for path in (ROOT / "models/cards").glob("*.yaml") for card in [yaml.safe_load(path.read_text())]
}
KEYS = {"name", "version", "task", "summary", "licence", "source", "data", "data_licence", "metrics", "intended_use"}
KEYS |= {"produces", "never_produces", "mapping", "limits"}


@pytest.mark.parametrize("spec", all_models().values(), ids=lambda spec: spec.name)
def test_every_model_has_a_card_that_agrees_with_it(spec: Any) -> None:
    """Models made from the same weights share a card, named as the first part of their names."""
    name = max((name for name in CARDS if spec.name.startswith(name)), key=len)
    card = CARDS[name]
    if spec.artifact:
        assert card["licence"] == spec.artifact.licence
    if spec.name == name:
        assert (card["version"], card["task"]) == (spec.version, spec.task)


@pytest.mark.parametrize("card", CARDS.values(), ids=lambda card: card["name"])
def test_a_card_says_what_it_must(card: dict[str, Any]) -> None:
    assert set(card) >= KEYS
    assert card["task"] in get_args(Task)
    assert card["source"]
    assert card["limits"]
    labels = card["produces"] + card["never_produces"]
    assert len(set(labels)) == len(labels)
    if labels:
        assert set(labels) == set(LABELS)
    assert all("data" in metric and "n" in metric for metric in card["metrics"])


def test_expression_mapping_is_that_of_the_code() -> None:
    assert CARDS["mini-xception"]["mapping"] == LABEL_OF_CLASS


def test_expression_figures_are_those_of_the_benchmark() -> None:
    measured = json.loads((ROOT / "benchmarks/results/face.json").read_text())["expression"]["expression"]
    claimed = next(m for m in CARDS["expression"]["metrics"] if "as used" in m["data"])
    assert {key: measured[key] for key in ("n", "accuracy", "accuracy_95", "uar", "ece")}.items() <= claimed.items()


def test_words_mapping_and_figures_are_those_of_code_and_benchmark() -> None:
    card = CARDS["words-minilm"]
    assert card["mapping"] == LABELS_OF_CLASS
    classes = json.loads((ROOT / "benchmarks/results/text.json").read_text())["classes"]
    (metric,) = card["metrics"]
    assert {key: metric[key] for key in ("n", "macro_f1", "macro_f1_95", "ece")} == {
        key: classes[key] for key in ("n", "macro_f1", "macro_f1_95", "ece")
    }


def test_recogniser_figures_are_those_of_the_benchmark() -> None:
    document = json.loads((ROOT / "benchmarks/results/transcript.json").read_text())
    measured = [
        {"band": r["band"], "n": document["data"]["clips"], "wer": r["wer"], "wer_95": r["wer_95"]}
        for r in document["results"]
        if r["system"] == "affectline int8, greedy"
    ]
    claimed = [
        {key: metric[key] for key in ("band", "n", "wer", "wer_95")} for metric in CARDS["whisper-base"]["metrics"]
    ]
    assert claimed == measured


def test_the_document_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
