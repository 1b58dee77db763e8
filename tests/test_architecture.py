"""Habits of the repository that a machine can check."""

import re
from pathlib import Path

import pytest
import yaml

from affectline.models.labels import LABELS, UNKNOWN
from affectline.models.registry import all_models

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
CATEGORIES = {"unit", "contract", "integration", "reference", "backends", "packaging"}


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.stem)
def test_each_test_module_declares_its_category(path: Path) -> None:
    found = re.search(r"^pytestmark = pytest\.mark\.(\w+)$", path.read_text(), re.MULTILINE)
    assert found
    assert found[1] in CATEGORIES


@pytest.mark.parametrize("name", [n for n, s in all_models().items() if s.task in ("voice_affect", "text_affect")])
def test_the_card_of_an_affect_model_accounts_for_every_label(name: str) -> None:
    card = yaml.safe_load((ROOT / f"models/cards/{name}.yaml").read_text())
    assert set(card["produces"]) | set(card["never_produces"]) == set(LABELS)
    assert not set(card["produces"]) & set(card["never_produces"])
    assert UNKNOWN not in card["produces"]


def test_the_default_install_stays_light() -> None:
    names = re.findall(r'^    "([\w.-]+)', (ROOT / "pyproject.toml").read_text().split("[project.optional")[0], re.M)
    assert "onnxruntime" in names
    assert not {"torch", "tensorflow", "openai-whisper", "deepface"} & set(names)
