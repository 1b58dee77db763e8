"""Templates and assets of what people see in a browser, and the words and numbers that they share."""

import json
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from affectline.pipelines.outcomes import Outcome
from affectline.pipelines.stages import UPSET
from affectline.pipelines.summary import clock
from affectline.server.look import (
    DRIVER_WORDS,
    EMOTION_COLOURS,
    FACT_TITLES,
    LIKELIHOODS,
    TRAJECTORY_WORDS,
    length,
    likelihood,
    seconds,
)
from affectline.server.store.query import Hit

FOLDER: Final = Path(__file__).parent
TEMPLATES: Final = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
"""What a call holds is text wherever it stands: everything is escaped but what these modules write themselves."""


LABEL_STYLES: Final = "labels.css"
"""Made from the colours, which scripts and terminal use, too."""
ASSETS: Final = frozenset((LABEL_STYLES, *(path.name for path in FOLDER.iterdir() if path.suffix in (".js", ".css"))))


@cache
def asset(name: str) -> str:
    """A script or style sheet."""
    if name == LABEL_STYLES:
        return "".join(
            f".label-{label} {{ background: {colour}; color: {_ink_on(colour)}; }}\n"
            for label, colour in EMOTION_COLOURS.items()
        )
    return (FOLDER / name).read_text(encoding="utf-8")


def _ink_on(colour: str) -> str:
    """Black or white, whichever reads better on the fill (WCAG contrast)."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#FFFFFF"


@cache
def asset_address(name: str) -> str:
    """Where a browser finds it; another content has another address, so that it may be kept for ever."""
    return f"/assets/{sha256(asset(name).encode()).hexdigest()[:12]}/{name}"


@cache
def look_of() -> str:
    """The visual language, for scripts, as JSON that is safe inside of a page: nothing in it comes from calls."""
    look = {
        "colours": EMOTION_COLOURS,
        "likelihoods": LIKELIHOODS,
        "facts": FACT_TITLES,
        "trajectories": TRAJECTORY_WORDS,
        "drivers": DRIVER_WORDS,
        "upset": sorted(UPSET),
    }
    return json.dumps(look)


def _marked(hit: Hit) -> list[tuple[str, bool]]:
    """The excerpt in pieces, with those that match marked."""
    pieces, at = [], 0
    for low, high in hit.matches:
        pieces += [(hit.excerpt[at:low], False), (hit.excerpt[low:high], True)]
        at = high
    return [*pieces, (hit.excerpt[at:], False)]


def call_link(call_id: str, at_us: int | None = None) -> str:
    """The page of a call, at a time of it."""
    return f"/calls/{quote(call_id, safe='')}" + ("" if at_us is None else f"#t={at_us // 1_000_000}")


def outcome_words(outcome: Outcome) -> str:
    """In two words, e.g. `CSAT 4`, `churned`, `not resolved`."""
    if outcome.kind in ("csat", "nps"):
        return f"{outcome.kind.upper()} {outcome.value:.0f}"
    return outcome.kind if outcome.value else f"not {outcome.kind}"


TEMPLATES.filters.update(
    clock=clock,
    length_words=length,
    seconds=seconds,
    likelihood=likelihood,
    pair=lambda value: (value, value),
    outcome_pair=lambda item: (item[0], item[1][2]),
    day=lambda at: f"{at:%-d %b %Y}",
    hour=lambda at: f"{at:%H:%M}",
    call_link=call_link,
    marked=_marked,
    outcome_words=outcome_words,
)
TEMPLATES.globals.update(asset=asset_address, look=look_of)
