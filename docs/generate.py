"""Writes docs/models.md from the cards in models/cards/, and docs/settings.md from the server's settings.

python docs/generate.py [--check]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import PydanticUndefined

from affectline.server.config import ENVIRONMENT_PREFIX, ServerConfig

ROOT = Path(__file__).parents[1]
INTRODUCTION = """# Models

What each model is, where it comes from, what it was measured at and what it cannot do. Written by
`python docs/generate.py` from the cards in `models/cards/`; figures come from the training scripts and from
`benchmarks/`. An empty place means that nothing was measured here, and nothing is claimed.

| model | task | licence | in short |
|---|---|---|---|
"""
LISTS = {"source": "Where it comes from", "data": "Trained on", "data_licence": "Licence of the data"}


def load_cards() -> list[dict[str, Any]]:
    """The cards by name."""
    cards = [yaml.safe_load(path.read_text()) for path in (ROOT / "models" / "cards").glob("*.yaml")]
    return sorted(cards, key=lambda card: str(card["name"]))


def render(cards: list[dict[str, Any]]) -> str:
    rows = [
        f"| [{card['name']}](#{card['name']}) | {card['task'].replace('_', ' ')} | {card['licence']} "
        f"| {_line(card['summary']).partition('. ')[0].rstrip('.')} |"
        for card in cards
    ]
    return INTRODUCTION + "\n".join(rows) + "\n" + "".join(_section(card) for card in cards)


def render_settings() -> str:
    rows = [
        f"| `{name}` | `{ENVIRONMENT_PREFIX}{name.upper()}` | {_default(field.default)} | {field.description} |"
        for name, field in ServerConfig.model_fields.items()
    ]
    return (
        "# Settings of the server\n\n`affectline serve --config FILE` reads them from YAML; environment variables win. "
        "Written by `python docs/generate.py`.\n\n| setting | environment | default | meaning |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def _default(value: Any) -> str:
    if isinstance(value, tuple):
        value = ",".join(value) or None
    return "" if value in (None, PydanticUndefined) else f"`{value}`"


def _section(card: dict[str, Any]) -> str:
    blocks = [
        f"## {card['name']}",
        f"Version {card['version']}, {card['task'].replace('_', ' ')}, {card['licence']}. {_line(card['summary'])}",
        f"**Use.** {_line(card['intended_use'])}",
        *(f"**{title}.**\n\n{_bullets(card[key])}" for key, title in LISTS.items() if card[key]),
    ]
    if card["metrics"]:
        blocks.append(f"**Measured.**\n\n{_table(card['metrics'])}")
    if card["never_produces"]:
        blocks.append(f"**Can never say.** {', '.join(card['never_produces'])}.")
    if card["mapping"]:
        blocks.append(f"**From its answers to ours.**\n\n{_bullets(_mapping(card['mapping']))}")
    blocks.append(f"**Limits.**\n\n{_bullets(card['limits'])}")
    return "\n" + "\n\n".join(blocks) + "\n"


def _line(text: str) -> str:
    return " ".join(str(text).split())


def _bullets(lines: list[str]) -> str:
    return "\n".join(f"- {_line(line)}" for line in lines)


def _mapping(mapping: dict[str, Any]) -> list[str]:
    return [
        f"{source} → {', '.join(f'{label} {share:g}' for label, share in to.items()) if isinstance(to, dict) else to}"
        for source, to in mapping.items()
    ]


def _table(metrics: list[dict[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in metrics for key in row))
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(column)) for column in columns] for row in metrics)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines).replace("_95 |", " 95 % interval |")


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return " to ".join(map(str, value))
    return "" if value is None else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write docs/models.md and docs/settings.md.")
    parser.add_argument("--check", action="store_true", help="only tell whether they are up to date")
    check = parser.parse_args().check
    for name, text in (("models.md", render(load_cards())), ("settings.md", render_settings())):
        document = ROOT / "docs" / name
        if not check:
            document.write_text(text)
        elif not document.is_file() or document.read_text() != text:
            sys.exit(f"docs/{name} is out of date: run `python docs/generate.py`")


if __name__ == "__main__":
    main()
