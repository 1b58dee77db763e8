"""The live wall and the live view of one call, kept up to date by server-sent events."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any, Final

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from affectline.pipelines.timeline import (
    Dynamics,
    Moment,
    Notice,
    Participant,
    SpeechTurn,
    Stage,
    Suggestion,
    Utterance,
)
from affectline.server.hub import Hub, Item, RunningCall, masked
from affectline.server.web.access import AccessError, User
from affectline.server.web.pages import call_link
from affectline.server.web.site import Site, needs, render, to_json

WALL_EVERY_S: Final = 1.0
CALL_EVERY_S: Final = 0.25
KEEP_ALIVE_S: Final = 15.0
RECHECK_S: Final = 60.0
"""So often a stream looks whether its watcher is still signed in."""
MAX_WATCHERS: Final = 256
SHOWN_CALLS: Final = 200
"""Rows of the wall: of more calls those that need help most."""


@dataclass(slots=True)
class LiveItems:
    """What changed in a call, as in its timeline."""

    received_us: int
    participants: list[Participant] = field(default_factory=list)
    utterances: list[Utterance] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    suggestions: list[Suggestion] = field(default_factory=list)
    speech: list[SpeechTurn] = field(default_factory=list)
    dynamics: list[Dynamics] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)

    @classmethod
    def of(cls, received_us: int, items: Iterable[Item]) -> "LiveItems":
        found = cls(received_us)
        lists: dict[type, list[Any]] = {
            Participant: found.participants,
            Utterance: found.utterances,
            Moment: found.moments,
            Suggestion: found.suggestions,
            SpeechTurn: found.speech,
            Dynamics: found.dynamics,
            Stage: found.stages,
            Notice: found.notices,
        }
        for item in items:
            lists[type(item)].append(item)
        return found


_adapter = TypeAdapter(LiveItems)


async def _wall(request: Request, site: Site, user: User) -> Response:
    return render(request, "live.html", ready=site.ready(), listen=site.config.listen)


async def _wall_events(request: Request, site: Site, user: User) -> Response:
    return _stream(request, site, _wall_changes(site.hub))


async def _wall_changes(hub: Hub) -> AsyncIterator[str]:
    sent: dict[str, int] = {}
    version = -1
    while not hub.closed:
        if (now := await hub.changed(version, KEEP_ALIVE_S)) == version:
            yield ": still here\n\n"
            continue
        version = now
        calls = hub.calls
        shown = calls
        if len(calls) > SHOWN_CALLS:
            shown = sorted(calls, key=lambda call: -call.row.need)[:SHOWN_CALLS]
        news = [call for call in shown if sent.get(call.id) != call.version]
        gone = sorted(set(sent) - {call.id for call in shown})
        rows = [{**asdict(call.row), "began": call.began.isoformat()} for call in news]
        yield _event("wall", to_json({"rows": rows, "gone": gone, "total": len(calls), "shown": len(shown)}))
        sent = {call.id: call.version for call in shown}
        await asyncio.sleep(WALL_EVERY_S)


async def _call(request: Request, site: Site, user: User) -> Response:
    call_id = request.path_params["call"]
    _check(request, site, user, call_id)
    call = site.hub.get(call_id)
    if call is None:
        if user.may("calls") and site.store and await site.run(site.store.holds, call_id):
            return RedirectResponse(call_link(call_id), 303)
        title, text = "This call is not running", "It is over, or runs on another server."
        return render(request, "message.html", 404, title=title, text=text, link=("/", "Start page"))
    key = site.access.link_key(call_id) if user.may("live") else request.query_params.get("key", "")
    return render(request, "live-call.html", call=call, who=call.row.who, key=key, may_share=user.may("live"))


async def _call_events(request: Request, site: Site, user: User) -> Response:
    call_id = request.path_params["call"]
    _check(request, site, user, call_id)
    call = site.hub.get(call_id)
    if call is None:
        raise AccessError(404, "This call is not running.")
    kept = site.store is not None and user.may("calls")
    return _stream(request, site, _call_changes(site.hub, call, kept))


async def _call_changes(hub: Hub, call: RunningCall, kept: bool) -> AsyncIterator[str]:
    reference = call.details.customer_reference
    yield _event(
        "call",
        to_json(
            {
                "id": call.id,
                "participants": [asdict(party) for party in call.participants],
                "queue": call.details.queue,
                "product": call.details.product,
                "customer": masked(reference) if reference else None,
                "began": call.began.isoformat(),
            }
        ),
    )
    sent = version = -1
    while not hub.closed:
        over = call.over
        if call.version != sent:
            items = LiveItems.of(call.received_us, call.since(sent))
            sent = call.version
            yield _event("items", _adapter.dump_json(items).decode())
        if over:
            yield _event("over", to_json({"stored": call_link(call.id) if kept else None}))
            return
        if (now := await hub.changed(version, KEEP_ALIVE_S)) == version:
            yield ": still here\n\n"
        version = now
        await asyncio.sleep(CALL_EVERY_S)


def _check(request: Request, site: Site, user: User, call_id: str) -> None:
    """Raises AccessError unless the user may see this running call."""
    if not user.may("live") and not site.access.link_opens(request.query_params.get("key", ""), call_id):
        raise AccessError(403, "This call can be opened by the link that was made for it, for 12 hours.")


def _stream(request: Request, site: Site, events: AsyncIterator[str]) -> Response:
    if len(site.watchers) >= MAX_WATCHERS:
        raise AccessError(503, f"Expected at most {MAX_WATCHERS} watchers, found one more. Try again later.")

    async def counted() -> AsyncIterator[str]:
        watcher = object()
        site.watchers.add(watcher)
        checked_s = monotonic()
        try:
            async for event in events:
                if monotonic() - checked_s > RECHECK_S:
                    checked_s = monotonic()
                    if site.access.user(request) is None:
                        yield _event("bye", "{}")
                        return
                yield event
        finally:
            site.watchers.discard(watcher)

    return StreamingResponse(counted(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})


def _event(name: str, data: str) -> str:
    return f"event: {name}\ndata: {data}\n\n"


async def _agent(request: Request, site: Site, user: User) -> Response:
    text = "Open the link to your call that your desktop or a supervisor gives you. It shows that call while it runs."
    return render(request, "message.html", title="Nothing to choose from here", text=text, link=None)


ROUTES: Final = (
    Route("/agent", needs(None, _agent)),
    Route("/live", needs("live", _wall)),
    Route("/live/events", needs("live", _wall_events)),
    Route("/live/{call:path}/events", needs(None, _call_events)),
    Route("/live/{call:path}", needs(None, _call)),
)
