"""Questions about many calls, each answered by a chart with numbers, intervals and the way to its calls."""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import select
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from affectline.models.labels import UNKNOWN, Label
from affectline.pipelines.associations import Call, associate, features_of, wilson
from affectline.server.insights import Insights, render_insights_html
from affectline.server.look import DRIVER_WORDS
from affectline.server.store.query import (
    MIN_GROUP_CALLS,
    Aggregate,
    By,
    Comparison,
    Group,
    Interval,
    Queries,
)
from affectline.server.store.tables import TIMELINES
from affectline.server.web.access import User
from affectline.server.web.calls import Search, queries_of
from affectline.server.web.site import Site, needs, render

UPSET: Final[tuple[Label, ...]] = ("angry", "frustrated", "disgusted")
DAYS: Final = (7, 28, 90)
DEFAULT_DAYS: Final = 28
READ_CALLS: Final = 200
"""Whose timelines are read for drivers and phrases: the newest of the period."""
READ_REVIEWED: Final = 2_000
"""Calls with an outcome that the page of outcomes reads: the newest."""
SHOWN_PHRASES: Final = 12
SHOWN_BARS: Final = 24
KEPT_ANSWERS: Final = 32
CUE_WORDS: Final = {
    "escalation": "may escalate",
    "churn": "may leave",
    "confusion": "does not follow",
    "urgency": "is in a hurry",
    "vulnerability": "needs care",
}
"""Kinds of cues that are trouble -> what they are a sign of."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A group in a chart. Places are percent of the chart's width."""

    name: str
    link: str
    calls: int
    mean: str
    interval: str
    at: float | None
    low: float | None
    high: float | None
    upset: str
    """Share of the known time, in words; empty where it is not told."""


@dataclass(frozen=True, slots=True)
class Card:
    question: str
    answer: str
    bars: tuple[Bar, ...]
    scale: float
    """Valence at the right end of the chart; the left end is minus this."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Point:
    """A day of the trend, in the chart's units."""

    day: str
    link: str
    x: float
    y: float
    low: float | None
    high: float | None
    told: str


@dataclass(frozen=True, slots=True)
class Change:
    """A label's share of the known time, before and now."""

    label: Label
    before: str
    now: str
    difference: str


@dataclass(frozen=True, slots=True)
class Phrase:
    text: str
    sign: str
    calls: int
    share: str
    link: str


@dataclass(frozen=True, slots=True)
class Read:
    """What the timelines of the newest calls say."""

    calls: int
    phrases: tuple[Phrase, ...]
    drivers: Mapping[str, tuple[tuple[str, float], ...]]
    """Toward -> what goes with it, with its mean share."""


async def _insights(request: Request, site: Site, user: User) -> Response:
    queries = queries_of(site)
    params, days = _with_period(request.query_params)
    search = Search.read(params, "/insights")

    def ask() -> dict[str, Any]:
        total = queries.list_calls(search.only, page_size=1).total
        if not total:
            return {"total": 0, "ever": queries.list_calls(page_size=1).total}
        cards = [_card(queries, search, params, by) for by in CARDS]
        return {
            "total": total,
            "ever": total,
            "cards": [card for card in cards if card],
            "trend": _trend(queries.aggregate(search.only, by="day"), params)
            or _trend(queries.aggregate(search.only, by="week"), params, days=7),
            "changes": _changes(queries, search),
        }

    found = await site.run(ask)
    kept = [(k, v) for k, v in request.query_params.multi_items() if v and k not in ("days", "from", "to", "page")]
    return render(
        request,
        "insights.html",
        search=search,
        days=days,
        periods=[(each, f"/insights?{urlencode([*kept, ('days', each)])}") for each in (*DAYS, "all")],
        read_address=f"/insights/read?{urlencode([(k, v) for k, v in params.multi_items() if v])}",
        compare_address=f"/insights/compare?{urlencode(_as_sides(search))}",
        min_calls=site.config.min_group_calls,
        **found,
    )


CARDS: Final[dict[By, tuple[str, str, str]]] = {
    "stage": ("Where in the call do customers get annoyed?", "stage", "stage"),
    "product": ("Which products upset people?", "product", "product"),
    "queue": ("How do calls of each queue feel?", "queue", "queue"),
    "agent_group": ("Does it differ by agent group?", "group", "agent group"),
    "hour": ("At which hour is it hardest?", "hour", "hour"),
    "language": ("Does it differ by language?", "language", "language"),
}
"""What calls are grouped by -> question, field of the list of calls, word."""


def _card(queries: Queries, search: Search, params: QueryParams, by: By) -> Card | None:
    """None where no call says what it would be grouped by."""
    question, field, word = CARDS[by]
    found = queries.aggregate(search.only, by=by)
    groups = [group for group in found.groups if group.key is not None]
    if not groups and not found.withheld_groups:
        return None
    silent = sum(group.calls for group in found.groups if group.key is None)
    scale = _scale([group.valence for group in groups if group.valence and _is_known(group)])
    shown = groups if by == "hour" else sorted(groups, key=lambda g: g.valence.mean if g.valence else 1.0)
    bars = tuple(_bar(group, by, field, params, scale) for group in shown[:SHOWN_BARS])
    notes = [note for note in (_withheld(found), f"{silent} calls do not say their {word}." if silent else "") if note]
    return Card(question, _answer(shown, by, word), bars, scale, tuple(notes))


def _answer(groups: list[Group], by: By, word: str) -> str:
    known = [(group, group.valence) for group in groups if group.valence and _is_known(group)]
    if len(known) < 2:
        return "There are not two groups large enough to compare."
    worst, low = min(known, key=lambda pair: pair[1].mean)
    best, high = max(known, key=lambda pair: pair[1].mean)
    name = _name(worst.key, by)
    if low.high is None or high.low is None or low.high >= high.low:
        return f"No clear difference: {name} is lowest at {_valence(low.mean)}, but the intervals overlap."
    text = f"Lowest in {name} ({_valence(low.mean)}), highest in {_name(best.key, by)} ({_valence(high.mean)})."
    if upset := _upset(worst):
        text += f" In {name} customers sound frustrated, angry or disgusted for {upset} of the time."
    return text


def _bar(group: Group, by: By, field: str, params: QueryParams, scale: float) -> Bar:
    mean = group.valence if _is_known(group) else None
    fields = [(k, v) for k, v in params.multi_items() if v and k not in ("days", "page", field)]
    link = f"/calls?{urlencode([*fields, (field, group.key or '')])}"
    return Bar(
        name=_name(group.key, by),
        link=link,
        calls=group.valence.calls if group.valence else 0,
        mean=_valence(mean.mean) if mean else "too little known",
        interval=_interval(mean) if mean else "",
        at=_place(mean.mean, scale) if mean else None,
        low=_place(mean.low, scale) if mean and mean.low is not None else None,
        high=_place(mean.high, scale) if mean and mean.high is not None else None,
        upset=_upset(group) if mean else "",
    )


def _trend(found: Aggregate, params: QueryParams, days: int = 1) -> dict[str, Any] | None:
    """The mean of each day, or week, with its interval, on a canvas of 720 by 200; None with fewer than two."""
    known = [
        (datetime.fromisoformat(g.key), g, g.valence) for g in found.groups if g.key and g.valence and _is_known(g)
    ]
    if len(known) < 2:
        return None
    width, height, left, top, bottom = 720, 200, 44, 10, 24
    scale = _scale([mean for _, _, mean in known])
    first, last = known[0][0], known[-1][0]
    length = max((last - first).days, 1)

    def x(day: datetime) -> float:
        return round(left + (width - left - 12) * (day - first).days / length, 1)

    def y(valence: float) -> float:
        clipped = max(-scale, min(scale, valence))
        return round(top + (height - top - bottom) * (1 - clipped / scale) / 2, 1)

    rest = [(k, v) for k, v in params.multi_items() if v and k not in ("days", "from", "to", "page")]
    points = []
    for day, group, mean in known:
        last_day = day + timedelta(days=days - 1)
        link = f"/calls?{urlencode([*rest, ('from', f'{day:%Y-%m-%d}'), ('to', f'{last_day:%Y-%m-%d}')])}"
        name = f"{'week of ' if days > 1 else ''}{day:%-d %b}"
        told = f"{name}: {_valence(mean.mean)} ({_interval(mean)}), {group.calls} calls"
        low, high = (None if v is None else y(v) for v in (mean.low, mean.high))
        points.append(Point(f"{day:%-d %b}", link, x(day), y(mean.mean), low, high, told))
    banded = [p for p in points if p.low is not None and p.high is not None]
    area = " ".join([*(f"{p.x},{p.high}" for p in banded), *(f"{p.x},{p.low}" for p in reversed(banded))])
    step = ceil(len(points) / 8)
    return {
        "unit": "week" if days > 1 else "day",
        "points": points,
        "line": " ".join(f"{p.x},{p.y}" for p in points),
        "area": area,
        "ticks": points[::step],
        "levels": [(y(v), _valence(v)) for v in (scale, scale / 2, 0.0, -scale / 2, -scale)],
        "left": left,
        "right": width - 12,
        "height": height,
        "note": _withheld(found),
    }


def _changes(queries: Queries, search: Search) -> dict[str, Any] | None:
    """This period beside the one of the same length before; None without a period."""
    only = search.only
    if only.started_from is None:
        return None
    end = only.started_before or datetime.now(UTC)
    before = replace(only, started_from=only.started_from - (end - only.started_from), started_before=only.started_from)
    found = queries.compare(before, only)
    return {
        "told": _told(found, "the period before", "this period", "now"),
        "rows": _label_changes(found),
        "found": found,
    }


def _told(found: Comparison, a: str, b: str, there: str) -> str:
    """The difference in one sentence; `there` is where b is."""
    if found.a is None or found.b is None:
        missing = " and ".join(name for name, side in ((a, found.a), (b, found.b)) if side is None)
        return f"Too few calls in {missing} to compare: fewer than {found.min_calls}, or of one agent."
    difference = found.valence_difference
    if difference is None or difference.low is None or difference.high is None:
        return "Too little is known of customers' valence to compare."
    interval = f"{_valence(difference.mean)} ({_interval(difference)})"
    if difference.low <= 0 <= difference.high:
        return f"No clear change: valence {interval}, which zero is part of."
    return f"{'More pleasant' if difference.mean > 0 else 'More unpleasant'} {there}: valence {interval}."


def _label_changes(found: Comparison) -> list[Change]:
    if found.a is None or found.b is None:
        return []
    labels = [each for each in {**found.b.time_shares, **found.a.time_shares} if each != UNKNOWN]
    shares = [(each, found.a.time_shares.get(each, 0.0), found.b.time_shares.get(each, 0.0)) for each in labels]
    shares.sort(key=lambda row: -abs(row[2] - row[1]))
    return [
        Change(label, _percent(before), _percent(now), f"{100 * (now - before):+.1f} points".replace("-", "−"))
        for label, before, now in shares[:6]
    ]


async def _read(request: Request, site: Site, user: User) -> Response:
    """Drivers and phrases, which need the timelines themselves: a part of the page that comes later."""
    queries = queries_of(site)
    search = Search.read(request.query_params, "/insights")
    found = await site.run(_read_timelines, site, queries, search, request.query_params)
    return render(request, "insights-read.html", found=found, most=READ_CALLS)


def _read_timelines(site: Site, queries: Queries, search: Search, params: QueryParams) -> Read:
    rows = queries.list_calls(search.only, page_size=READ_CALLS).rows
    key = search.only, len(rows), max((row.changed for row in rows), default=None)
    found: Read | None = site.answers.get(key)
    if found is None:
        found = site.answers[key] = _reading(queries, [row.id for row in rows], site, params)
        while len(site.answers) > KEPT_ANSWERS:
            site.answers.popitem(last=False)
    return found


def _reading(queries: Queries, ids: list[str], site: Site, params: QueryParams) -> Read:
    assert site.store is not None
    said: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    shares: defaultdict[str, Counter[str]] = defaultdict(Counter)
    scored: Counter[str] = Counter()
    for call_id in ids:
        with site.store.database.reading() as connection:
            packed = connection.scalar(select(TIMELINES.c.data).where(TIMELINES.c.call_id == call_id))
        if packed is None:
            continue
        call = json.loads(gzip.decompress(packed))
        customers = {party["id"] for party in call["participants"] if party["role"] == "customer"}
        for utterance in call["utterances"]:
            if utterance["participant"] in customers:
                for cue in utterance["cues"]:
                    if cue["kind"] in CUE_WORDS:
                        said[cue["kind"], _trimmed(cue["phrase"])].add(call_id)
        for party in call.get("scores", ()):
            for toward in {driver["toward"] for driver in party["drivers"]}:
                scored[toward] += 1
            for driver in party["drivers"]:
                shares[driver["toward"]][DRIVER_WORDS.get(driver["name"], driver["name"])] += driver["share"]
    rest = [(k, v) for k, v in params.multi_items() if v and k not in ("days", "page", "q")]
    phrases = []
    for (kind, phrase), calls in sorted(said.items(), key=lambda item: (-len(item[1]), item[0]))[:SHOWN_PHRASES]:
        low, high = wilson(len(calls), len(ids))
        share = f"{_percent(len(calls) / len(ids))} ({_percent(low)} to {_percent(high)})"
        quoted = f'"{phrase.replace(chr(34), "")}"'
        link = f"/calls?{urlencode([*rest, ('q', quoted)])}"
        phrases.append(Phrase(phrase, CUE_WORDS[kind], len(calls), share, link))
    drivers = {
        toward: tuple((name, share / scored[toward]) for name, share in names.most_common(6))
        for toward, names in shares.items()
    }
    return Read(len(ids), tuple(phrases), drivers)


DANGLING: Final = frozenset("i i'm we you my your a an the to and of in it is that this".split())  # noqa: SIM905


def _trimmed(phrase: str) -> str:
    """In small letters, and without a word at its end that a phrase does not end with."""
    words = phrase.lower().split()
    while len(words) > 1 and words[-1] in DANGLING:
        words.pop()
    return " ".join(words)


async def _compare(request: Request, site: Site, user: User) -> Response:
    queries = queries_of(site)
    sides = [
        Search.read(
            QueryParams([(k[2:], v) for k, v in request.query_params.multi_items() if k.startswith(f"{side}_")])
        )
        for side in "ab"
    ]

    def ask() -> tuple[Comparison | None, dict[str, Any]]:
        asked = any(search.fields for search in sides)
        found = queries.compare(sides[0].only, sides[1].only) if asked else None
        fields: tuple[Any, ...] = ("queue", "product", "agent_group", "language")
        return found, {field: queries.values(field) for field in fields}

    found, known = await site.run(ask)
    scale = _scale([side.valence for side in (found.a, found.b) if side and side.valence]) if found else 1.0
    params = QueryParams([])
    return render(
        request,
        "compare.html",
        sides=sides,
        found=found,
        known=known,
        told=_told(found, "A", "B", "in B") if found else "",
        bars=[
            _bar(group, "queue", "queue", params, scale) if group else None
            for group in ((found.a, found.b) if found else ())
        ],
        links=[f"/calls?{urlencode(list(search.fields.items()))}" for search in sides],
        scale=scale,
        rows=_label_changes(found) if found else [],
    )


async def _outcomes(request: Request, site: Site, user: User) -> Response:
    """What goes with bad outcomes; the page of `affectline insights outcomes`, of the newest calls."""
    queries_of(site)
    store = site.store
    assert store is not None

    def ask() -> str:
        calls = [
            Call(each.id, features_of(each.timeline, each.accepted), each.outcomes)
            for each in store.reviewed_calls(most=READ_REVIEWED)
        ]
        found = Insights.of(calls, associate(calls, MIN_GROUP_CALLS), MIN_GROUP_CALLS, READ_REVIEWED)
        return render_insights_html(found)

    html = await site.run(ask)
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(html, headers={"content-security-policy": policy})


def _with_period(params: QueryParams) -> tuple[QueryParams, str]:
    """The parameters with `from` made of `days`, and which period that is."""
    if params.get("from") or params.get("to"):
        return params, "own"
    days = params.get("days", str(DEFAULT_DAYS))
    items = [(k, v) for k, v in params.multi_items() if k not in ("days", "page")]
    if days == "all":
        return QueryParams(items), "all"
    count = int(days) if days.isdigit() and 1 <= int(days) <= 3650 else DEFAULT_DAYS
    start = datetime.now(UTC) - timedelta(days=count - 1)
    return QueryParams([*items, ("from", f"{start:%Y-%m-%d}")]), str(count)


def _as_sides(search: Search) -> list[tuple[str, str]]:
    """This period as side B, and the one before as side A."""
    only = search.only
    shared = [(k, v) for k, v in search.fields.items() if k not in ("from", "to")]
    found = [(f"{side}_{k}", v) for side in "ab" for k, v in shared]
    if only.started_from:
        end = only.started_before or datetime.now(UTC)
        start = only.started_from - (end - only.started_from)
        last = only.started_from - timedelta(days=1)
        found += [
            ("a_from", f"{start:%Y-%m-%d}"),
            ("a_to", f"{last:%Y-%m-%d}"),
            ("b_from", f"{only.started_from:%Y-%m-%d}"),
        ]
    return found


def _is_known(group: Group) -> bool:
    """Enough calls have a known valence; the mean of fewer would be about single ones."""
    return group.valence is not None and group.valence.calls >= MIN_GROUP_CALLS


def _scale(means: list[Interval]) -> float:
    reach = max((abs(v) for mean in means for v in (mean.mean, mean.low, mean.high) if v is not None), default=0.2)
    return min(1.0, max(0.2, ceil(reach * 10) / 10))


def _place(valence: float, scale: float) -> float:
    return round(50 + 50 * max(-1.0, min(1.0, valence / scale)), 2)


def _name(key: str | None, by: By) -> str:
    if key is None:
        return "not told"
    return f"{key}:00" if by == "hour" else key


def _upset(group: Group) -> str:
    share = sum(group.time_shares.get(label, 0.0) for label in UPSET)
    return _percent(share) if share >= 0.005 else ""


def _valence(valence: float) -> str:
    return f"{valence:+.2f}".replace("-", "−").replace("+0.00", "0.00").replace("−0.00", "0.00")


def _interval(mean: Interval) -> str:
    if mean.low is None or mean.high is None:
        return "one call"
    return f"{_valence(mean.low)} to {_valence(mean.high)}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def _withheld(found: Aggregate) -> str:
    if not found.withheld_groups:
        return ""
    groups = "1 group" if found.withheld_groups == 1 else f"{found.withheld_groups} groups"
    calls = "1 call" if found.withheld_calls == 1 else f"{found.withheld_calls} calls"
    return f"{groups} ({calls}) too small to show: fewer than {found.min_calls} calls, or of one agent."


ROUTES: Final = (
    Route("/insights", needs("insights", _insights)),
    Route("/insights/read", needs("insights", _read)),
    Route("/insights/compare", needs("insights", _compare)),
    Route("/insights/outcomes", needs("insights", _outcomes)),
)
