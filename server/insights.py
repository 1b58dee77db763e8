"""What goes with bad outcomes, for people: on a terminal, as a page, as figures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from affectline.pipelines.associations import BAD_ENDS, FALSE_DISCOVERIES, Association, Call, Side
from affectline.pipelines.outcomes import OutcomeKind
from affectline.server.look import clean

WEB = Path(__file__).with_name("web")
SCHEMA: Final = "affectline.insights.outcomes/1"
CAVEAT: Final = (
    "What goes with bad outcomes need not bring them about: what customers call about may be behind both. "
    f"Up to about {100 * FALSE_DISCOVERIES:.0f} % of the findings may be chance."
)
KIND_NAMES: Final[dict[OutcomeKind, str]] = {
    "csat": "CSAT",
    "nps": "NPS",
    "resolved": "Resolved",
    "churned": "Churn",
    "escalated": "Escalation",
}
SHOWN_CALLS: Final = 50
"""Ids listed of one finding."""
CHART_PX: Final = 220


@dataclass(frozen=True, slots=True)
class Insights:
    """All comparisons, and what they rest on."""

    calls: int
    outcomes: dict[OutcomeKind, tuple[int, int]]
    """Kind -> calls with one, and bad ones among them."""
    associations: tuple[Association, ...]
    min_group: int
    most: int | None = None
    """Calls that were read at most, the newest; None where all were."""

    @classmethod
    def of(
        cls, calls: Sequence[Call], associations: Sequence[Association], min_group: int, most: int | None = None
    ) -> "Insights":
        total: Counter[OutcomeKind] = Counter(outcome.kind for call in calls for outcome in call.outcomes)
        bad: Counter[OutcomeKind] = Counter(o.kind for call in calls for o in call.outcomes if o.bad)
        outcomes = {kind: (total[kind], bad[kind]) for kind in BAD_ENDS if total[kind]}
        return cls(len(calls), outcomes, tuple(associations), min_group, most)

    @property
    def told(self) -> list[Association]:
        return [each for each in self.associations if each.finding in ("more", "fewer")]

    @property
    def unclear(self) -> list[Association]:
        return [each for each in self.associations if each.finding == "no_clear_difference"]

    @property
    def too_few(self) -> list[Association]:
        return [each for each in self.associations if each.finding == "too_few_calls"]


def to_figures(found: Insights) -> dict[str, Any]:
    """Everything as JSON can hold it."""

    def side(of: Side) -> dict[str, Any]:
        low, high = of.interval
        return {"calls": of.calls, "bad": of.bad, "rate": of.rate, "interval_95": [low, high]}

    return {
        "schema": SCHEMA,
        "calls": found.calls,
        "min_group": found.min_group,
        "false_discoveries": FALSE_DISCOVERIES,
        "outcomes": {kind: {"calls": calls, "bad": bad} for kind, (calls, bad) in found.outcomes.items()},
        "associations": [
            {
                **{key: value for key, value in asdict(each).items() if key not in ("having", "lacking", "interval")},
                "with": side(each.having),
                "without": side(each.lacking),
                "interval_95": list(each.interval),
                "sentence": each.sentence,
            }
            for each in found.associations
        ],
    }


def render_insights_terminal(found: Insights, console: Console) -> None:
    """Prints what goes with bad outcomes, what does not clearly, and how much was too little to tell."""
    for line in (Text("What goes with bad outcomes?", "bold"), Text(_basis(found)), Text(CAVEAT, "dim")):
        console.print(line, highlight=False)
    for each in found.told:
        console.print()
        console.print(Text(f"Goes with {each.finding} bad outcomes ({KIND_NAMES[each.kind]})", "bold"))
        console.print(Text(clean(each.sentence)), highlight=False)
        console.print(Text(_figures(each), "dim"), highlight=False)
    if not found.told:
        console.print()
        console.print(Text(_nothing(found)), highlight=False)
    if found.unclear:
        console.print()
        console.print(Text("No clear difference", "bold"))
    for each in found.unclear:
        console.print(Text(clean(each.sentence), "dim"), highlight=False)
    if found.too_few:
        console.print()
        console.print(Text(_too_few(found)), highlight=False)


def render_insights_html(found: Insights) -> str:
    """The same as one HTML document, which runs nothing and needs no network."""
    template, *styles = (
        (WEB / name).read_text(encoding="utf-8") for name in ("insights.html", "report.css", "insights.css")
    )
    told = "".join(map(_finding, found.told)) or f'<p class="muted">{escape(_nothing(found))}</p>'
    unclear = "".join(f"<li>{_row(each)}</li>" for each in found.unclear)
    too_few = "".join(
        f"<li>{KIND_NAMES[each.kind]}: {escape(each.feature)} "
        f'<span class="muted number">({each.having.calls} with, {each.lacking.calls} without)</span></li>'
        for each in found.too_few
    )
    return Template(template).substitute(
        style="\n".join(styles),
        basis=escape(_basis(found)),
        caveat=escape(CAVEAT),
        told=told,
        unclear=f'<details class="card"{"" if found.told else " open"}><summary><h2>No clear difference '
        f'({len(found.unclear)})</h2></summary><ol class="rows">{unclear}</ol></details>'
        if unclear
        else "",
        too_few=f'<details class="card"><summary><h2>{escape(_too_few(found))}</h2></summary>'
        f'<ul class="plain">{too_few}</ul></details>'
        if too_few
        else "",
    )


def _basis(found: Insights) -> str:
    if not found.calls:
        return "No stored call has an outcome yet: record some with `affectline outcomes import` or RecordOutcome."
    kinds = "; ".join(f"{KIND_NAMES[kind]} of {calls}, {bad} bad" for kind, (calls, bad) in found.outcomes.items())
    newest = "The newest " if found.calls == found.most else ""
    return f"{newest}{found.calls} {'call' if found.calls == 1 else 'calls'} with an outcome: {kinds}."


def _nothing(found: Insights) -> str:
    if not found.associations:
        return "There is nothing to compare yet."
    if not found.unclear:
        return "Nothing can be told yet: every comparison has too few calls."
    return "Nothing goes clearly with bad outcomes."


def _too_few(found: Insights) -> str:
    count = len(found.too_few)
    return (
        f"Too few calls for {count} {'comparison' if count == 1 else 'comparisons'}: "
        f"{found.min_group} calls with the feature and {found.min_group} without are needed."
    )


def _figures(each: Association) -> str:
    low, high = (_points(value) for value in each.interval)
    return f"Difference {_points(each.difference)} points, 95 % interval {low} to {high}; q = {each.q_value:.2g}."


def _points(share: float) -> str:
    return f"{round(100 * share):+d}".replace("-", "−").replace("+0", "0")


def _finding(each: Association) -> str:
    ids = "".join(f"<li>{escape(call_id)}</li>" for call_id in each.having.bad_ids[:SHOWN_CALLS])
    more = len(each.having.bad_ids) - SHOWN_CALLS
    rest = f'<li class="muted">and {more} more</li>' if more > 0 else ""
    calls = f"<details><summary>Its calls with a bad outcome</summary><ul>{ids}{rest}</ul></details>" if ids else ""
    return (
        f'<article class="card finding {each.finding}"><p class="lead">{escape(each.sentence)}</p>'
        f'<p class="small muted">Goes with {each.finding} bad outcomes · {KIND_NAMES[each.kind]}</p>'
        f'{_bars(each)}<p class="small muted number">{escape(_figures(each))}</p>{calls}</article>'
    )


def _row(each: Association) -> str:
    return f"<span>{escape(each.sentence)}</span>{_whisker(each)}"


def _bars(each: Association) -> str:
    rows = (("with", each.having), ("without", each.lacking))
    return '<div class="rates">' + "".join(_bar(name, side) for name, side in rows) + "</div>"


def _bar(name: str, side: Side) -> str:
    low, high = side.interval
    return (
        f'<span>{name}</span><span class="rate" role="img" aria-label="{side.bad} of {side.calls} bad">'
        f'<i style="width:{100 * side.rate:.1f}%"></i>'
        f'<b style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></b></span>'
        f'<span class="number">{100 * side.rate:.0f} % <span class="muted">({side.bad} of {side.calls})</span></span>'
    )


def _whisker(each: Association) -> str:
    """The difference and its interval around zero, from -1 to 1."""
    (low, high), middle = each.interval, CHART_PX / 2
    x = [middle + value * middle for value in (low, each.difference, high)]
    label = escape(_figures(each))
    return (
        f'<svg class="whisker" viewBox="0 0 {CHART_PX} 16" role="img" aria-label="{label}"><title>{label}</title>'
        f'<line class="zero" x1="{middle}" x2="{middle}" y1="0" y2="16"/>'
        f'<line x1="{x[0]:.1f}" x2="{x[2]:.1f}" y1="8" y2="8"/><circle cx="{x[1]:.1f}" cy="8" r="4"/></svg>'
    )
