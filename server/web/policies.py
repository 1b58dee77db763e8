"""The policies: what is on, what each caught this week, and what another pack would have said in calls of the past."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import distinct, func, select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from affectline.models.errors import InvalidInputError
from affectline.pipelines.policy import DEFAULT_POLICIES, Policy, PolicyPack, load_policies
from affectline.pipelines.policy_replay import PolicyCount, ReplayTally
from affectline.server.engine import default_labels
from affectline.server.store.calls import CallStore, DamagedCallError, PolicyFeedback
from affectline.server.store.query import CallFilter, Queries
from affectline.server.store.tables import CALLS, SUGGESTIONS
from affectline.server.web.access import User
from affectline.server.web.site import Site, needs, read_form, render

WEEK_DAYS: Final = 7
REPLAYED: Final = (20, 100, 500)
REPLAY_S: Final = 30.0
"""A preview stops taking in calls after this long, and says so."""
SHOWN_CALLS: Final = 5
"""Calls that a preview names for each policy."""


@dataclass(frozen=True, slots=True)
class Caught:
    """What one policy did in a time."""

    suggested: int
    calls: int


@dataclass(frozen=True, slots=True)
class Shown:
    """A policy that is on."""

    policy: Policy
    caught: Caught
    feedback: PolicyFeedback | None
    link: str


@dataclass(frozen=True, slots=True)
class Preview:
    """What a pack would have said."""

    pack: PolicyPack
    calls: int
    hours: float
    stopped: bool
    damaged: int
    counts: tuple[PolicyCount, ...]
    found: dict[str, tuple[tuple[str, int], ...]]
    """Policy -> calls and times at which it would have spoken, the first few."""


async def _policies(request: Request, site: Site, user: User) -> Response:
    text = await site.run(_source, site)
    return await _page(request, site, text, REPLAYED[0], None, "")


async def _preview(request: Request, site: Site, user: User) -> Response:
    form = await read_form(request)
    text = form.get("pack", "")
    count = int(form["calls"]) if form.get("calls", "") in map(str, REPLAYED) else REPLAYED[0]
    preview, fault = None, ""
    try:
        pack = load_policies(text, default_labels())
    except InvalidInputError as error:
        fault = str(error)
    else:
        if site.store is None:
            fault = "Calls are not kept here, so there is none to replay. Set `store` in the server's settings."
        else:
            preview = await site.run(_replayed, site.store, pack, count)
    return await _page(request, site, text, count, preview, fault)


async def _page(request: Request, site: Site, text: str, count: int, preview: Preview | None, fault: str) -> Response:
    pack = await site.run(load_policies, site.config.policies or DEFAULT_POLICIES)
    since = datetime.now(UTC) - timedelta(days=WEEK_DAYS)
    caught, feedback = await site.run(_caught, site.store, since)
    shown = [
        Shown(
            policy,
            caught.get(policy.id, Caught(0, 0)),
            feedback.get(policy.id),
            f"/calls?{urlencode({'policy': policy.id, 'from': f'{since:%Y-%m-%d}'})}",
        )
        for policy in pack.policies
    ]
    return render(
        request,
        "policies.html",
        200 if not fault else 422,
        pack=pack,
        own=site.config.policies is not None,
        shown=shown,
        kept=site.store is not None,
        text=text,
        counts=REPLAYED,
        count=count,
        preview=preview,
        faults=fault.splitlines(),
    )


def _source(site: Site) -> str:
    path: Path = site.config.policies or DEFAULT_POLICIES
    return path.read_text(encoding="utf-8")


def _caught(store: CallStore | None, since: datetime) -> tuple[dict[str, Caught], dict[str, PolicyFeedback]]:
    """By policy: what it did since then, and what people made of it ever."""
    if store is None:
        return {}, {}
    query = (
        select(SUGGESTIONS.c.policy, func.count().label("suggested"), func.count(distinct(CALLS.c.id)).label("calls"))
        .join(CALLS, CALLS.c.id == SUGGESTIONS.c.call_id)
        .where(CALLS.c.began >= since)
        .group_by(SUGGESTIONS.c.policy)
    )
    with store.database.reading() as connection:
        caught = {row.policy: Caught(row.suggested, row.calls) for row in connection.execute(query)}
    return caught, {each.policy: each for each in store.feedback_counts()}


def _replayed(store: CallStore, pack: PolicyPack, count: int) -> Preview:
    """The newest calls that are over, one after the other."""
    queries, tally, began_s = Queries(store), ReplayTally(pack), monotonic()
    rows = queries.list_calls(CallFilter(states=("finished", "broken_off")), page_size=count).rows
    found: dict[str, list[tuple[str, int]]] = {}
    damaged, stopped = 0, False
    for row in rows:
        if stopped := monotonic() - began_s > REPLAY_S:
            break
        try:
            suggestions = tally.add(queries.timeline(row.id))
        except DamagedCallError:
            damaged += 1
            continue
        for each in suggestions:
            places = found.setdefault(each.policy.partition("@")[0], [])
            if len(places) < SHOWN_CALLS:
                places.append((row.id, each.created_us))
    counts = tuple(each for each in tally.counts() if each.fired or each.suggested)
    places_of: dict[str, Any] = {name: tuple(places) for name, places in found.items()}
    return Preview(pack, tally.calls, tally.hours, stopped, damaged, counts, places_of)


ROUTES: Final = (
    Route("/policies", needs("policies", _policies)),
    Route("/policies/preview", needs("policies", _preview), methods=["POST"]),
)
