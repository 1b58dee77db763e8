"""`affectline recommend`: where a call might go, from a small YAML file."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from pydantic import Field
from rich.console import Console
from rich.text import Text

from affectline.models.errors import InvalidInputError
from affectline.pipelines.checked_yaml import Strict, read_checked
from affectline.pipelines.policy_cases import Earlier
from affectline.pipelines.routing import (
    DEFAULT_ROUTING,
    Recommendation,
    RoutingConfig,
    RoutingContext,
    load_routing,
    recommend,
)
from affectline.pipelines.timeline import CallTimeline, Consent, CustomerHistory
from affectline.server.exports import from_json
from affectline.server.look import clean

Declared = Annotated[str, Field(max_length=64)]
_Said = Annotated[str, Field(min_length=1, max_length=2_000)]
PRIORITY_STYLE = {"low": "dim", "normal": "", "high": "bold red"}


class RecommendFile(Strict):
    """What is known of a call; the fields of RecommendRequest."""

    intent: Declared = ""
    product: Declared = ""
    menu_choice: Declared = ""
    ivr_utterances: Annotated[list[_Said], Field(max_length=50)] = Field(default=[])
    language: Annotated[str, Field(pattern="^[a-z]{2,3}$")] | None = None
    consent: Consent = "pending"
    history: Annotated[list[Earlier], Field(max_length=100)] = Field(default=[])
    call: str = ""
    """A timeline that `analyze --json` wrote, beside this file or anywhere."""
    emotion_routing_objected: bool = False

    @property
    def heard(self) -> list[str]:
        """What was said to the voice menu and may be looked at."""
        return self.ivr_utterances if self.consent == "granted" and not self.emotion_routing_objected else []

    def context(self, ivr: CallTimeline | None, call: CallTimeline | None) -> RoutingContext:
        return RoutingContext(
            intent=self.intent,
            product=self.product,
            choice=self.menu_choice,
            history=CustomerHistory(tuple(earlier.call() for earlier in self.history)) if self.history else None,
            ivr=ivr,
            call=call,
            emotion_routing_objected=self.emotion_routing_objected,
        )


def read_request(path: Path) -> RecommendFile:
    """Raises InvalidInputError that names every fault with its line."""
    return read_checked(path, RecommendFile, "request")


def read_call(request: RecommendFile, path: Path) -> CallTimeline | None:
    """The timeline that the request at `path` names. Raises InvalidInputError."""
    if not request.call:
        return None
    try:
        return from_json((path.parent / request.call).read_bytes())
    except OSError as error:
        raise InvalidInputError(f"cannot read the call {request.call}: {error.strerror}") from error


def answer(
    request: RecommendFile, ivr: CallTimeline | None, call: CallTimeline | None, routing: Path | None
) -> tuple[Recommendation, RoutingConfig]:
    config = load_routing(routing or DEFAULT_ROUTING)
    return recommend(config, request.context(ivr, call)), config


def to_json(found: Recommendation) -> str:
    return json.dumps(asdict(found), indent=2, ensure_ascii=False)


def render(found: Recommendation, config: RoutingConfig, console: Console) -> None:
    purpose = config.queue(found.queue).purpose
    console.print(Text.assemble(("→ ", "dim"), (found.queue, "bold"), f"  {clean(purpose)}"))
    about = f"{found.confidence:.2f}, by {found.rule or 'no rule'} of {found.config}"
    for caption, texts, style in (
        ("priority", [found.priority], PRIORITY_STYLE[found.priority]),
        ("skills", [", ".join(found.skills) or "none in particular"], ""),
        ("because", [reason.text for reason in found.reasons], ""),
        ("begin with", [found.greeting] if found.greeting else [], "italic"),
        ("not used", found.withheld, "dim"),
        ("confidence", [about], "dim"),
    ):
        title = caption
        for text in texts:
            for row in Text(clean(text), style).wrap(console, max(20, console.width - 14)):
                row.rstrip()
                console.print(Text.assemble((f"  {title:<12}", "dim"), row), highlight=False)
                title = ""
