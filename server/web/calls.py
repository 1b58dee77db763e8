"""Calls of the past: the list with its filters, one call, its exports, its sound, and corrections of its labels."""

import gzip
import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from sqlalchemy import select
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from affectline.models.errors import InvalidInputError
from affectline.models.labels import LABELS, UNKNOWN
from affectline.pipelines.media import open_recording
from affectline.pipelines.outcomes import OutcomeKind
from affectline.pipelines.timeline import CallTimeline
from affectline.server.exporters import EXPORTERS
from affectline.server.exports import to_json as timeline_json
from affectline.server.kept_sound import can_name_file, kept_sound
from affectline.server.report import render_html
from affectline.server.sound import to_ogg
from affectline.server.store.calls import CallStore
from affectline.server.store.query import ORDERS, STAGE_NAMES, CallFilter, CallPage, HitPage, Order, Queries
from affectline.server.store.tables import TIMELINES
from affectline.server.web.access import AccessError, User
from affectline.server.web.pages import call_link
from affectline.server.web.plain_words import understood
from affectline.server.web.site import Site, needs, read_form, render

PAGE_SIZE: Final = 50
SHOWN_HITS: Final = 8
MEDIA_SUFFIXES: Final = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".mp4", ".webm")
ORDER_WORDS: Final[dict[Order, str]] = {
    "newest": "newest first",
    "oldest": "oldest first",
    "longest": "longest first",
    "most_negative": "most unpleasant first",
    "most_positive": "most pleasant first",
    "needs_help": "alerts first",
}
OUTCOME_WORDS: Final[dict[str, tuple[OutcomeKind, bool, str]]] = {
    "churned": ("churned", True, "churned"),
    "stayed": ("churned", False, "did not churn"),
    "unresolved": ("resolved", True, "not resolved"),
    "resolved": ("resolved", False, "resolved"),
    "escalated": ("escalated", True, "escalated"),
    "not-escalated": ("escalated", False, "not escalated"),
    "csat-low": ("csat", True, "CSAT 1 or 2"),
    "csat-high": ("csat", False, "CSAT 3 to 5"),
    "nps-low": ("nps", True, "NPS 0 to 6"),
    "nps-high": ("nps", False, "NPS 7 to 10"),
}
"""Word in the address -> kind, whether bad, word for people."""
LISTS: Final = {
    "queue": "queues",
    "product": "products",
    "group": "agent_groups",
    "language": "languages",
    "policy": "policies",
}
LIST_WORDS: Final = {
    "queue": "queue",
    "product": "product",
    "group": "agent group",
    "language": "language",
    "policy": "suggested by",
}
DEFAULT_LABEL_S: Final = 10
PAGE_WITH_SOUND: Final = "page-with-sound"
PARQUET: Final = find_spec("pyarrow") is not None
"""Whether the extra that writes it is installed."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that is on, in words, and the address of the list without it."""

    text: str
    without: str


@dataclass(frozen=True, slots=True)
class Search:
    """What the address of the list asks for."""

    only: CallFilter
    order: Order
    page: str
    chips: tuple[Chip, ...]
    fields: dict[str, str]
    """As the form shows them; lists as their last value."""

    @classmethod
    def read(cls, params: QueryParams, path: str = "/calls") -> "Search":
        """Raises InvalidInputError."""
        values: dict[str, Any] = {}
        chips: list[Chip] = []
        items = [(key, value) for key, value in params.multi_items() if value and key != "page"]

        def chip(text: str, *names: str, value: str | None = None) -> None:
            rest = [(k, v) for k, v in items if k not in names or (value is not None and v != value)]
            chips.append(Chip(text, f"{path}?{urlencode(rest)}" if rest else path))

        if words := params.get("q", "").strip():
            values["words"] = words
            chip(f"said “{words}”", "q")
        for name, field, shift in (("from", "started_from", 0), ("to", "started_before", 1)):
            if text := params.get(name):
                values[field] = _day(text, name) + timedelta(days=shift)
                chip(f"{name} {_day(text, name):%-d %b %Y}", name)
        for name, field in LISTS.items():
            if found := tuple(dict.fromkeys(v for v in params.getlist(name) if v)):
                values[field] = found
                for each in found:
                    chip(f"{LIST_WORDS[name]}: {each}", name, value=each)
        if hours := tuple(dict.fromkeys(v for v in params.getlist("hour") if v)):
            values["hours"] = hours
            for each in hours:
                chip(f"began between {each}:00 and {each}:59 UTC", "hour", value=each)
        label, stage = params.get("label") or None, params.get("stage") or None
        if label:
            least_s = _number(params.get("least") or str(DEFAULT_LABEL_S), "least")
            values.update(label=label, label_min_s=least_s)
            chip(f"{label} ≥ {least_s:g} s" + (f" in stage {stage}" if stage else ""), "label", "least")
        if stage:
            values["stage"] = stage
            chip(f"stage: {stage}", "stage")
        if (alert := params.get("alert")) in ("yes", "no"):
            values["with_alert"] = alert == "yes"
            chip("with an alert" if alert == "yes" else "without an alert", "alert")
        if outcome := params.get("outcome"):
            if outcome not in OUTCOME_WORDS:
                raise InvalidInputError(f"expected outcome of {', '.join(OUTCOME_WORDS)}; found {outcome[:40]!r}")
            kind, bad, said = OUTCOME_WORDS[outcome]
            values.update(outcome=kind, outcome_bad=bad)
            chip(f"outcome: {said}", "outcome")
        order = params.get("order") or "newest"
        if order not in ORDERS:
            raise InvalidInputError(f"expected order of {', '.join(ORDERS)}; found {order[:40]!r}")
        return cls(CallFilter(**values), order, params.get("page", ""), tuple(chips), dict(items))


def queries_of(site: Site) -> Queries:
    """Raises AccessError, with the next step, where calls are not kept."""
    if site.store is None:
        raise AccessError(404, "Calls are not kept here. Set `store: calls.db` in the server's settings to keep them.")
    return Queries(site.store, min_calls=site.config.min_group_calls)


async def _list(request: Request, site: Site, user: User) -> Response:
    queries = queries_of(site)
    known = await site.run(lambda: {name: queries.values(field) for name, field in FIELDS.items()})
    if fields := understood(request.query_params.get("q", ""), {name: known[name] for name in ("queue", "product")}):
        replaced = {"q", "page", *(name for name, _ in fields)}
        rest = [(k, v) for k, v in request.query_params.multi_items() if v and k not in replaced]
        return RedirectResponse(f"/calls?{urlencode([*rest, *fields])}", 303)
    search = Search.read(request.query_params)

    def ask() -> tuple[CallPage, HitPage | None]:
        page = queries.list_calls(search.only, page_size=PAGE_SIZE, page_token=search.page, order=search.order)
        first = search.only.words and not search.page
        hits = queries.search(search.only.words, search.only, page_size=SHOWN_HITS) if first else None
        return page, hits

    page, hits = await site.run(ask)
    rest = [(k, v) for k, v in request.query_params.multi_items() if v and k != "page"]
    return render(
        request,
        "calls.html",
        search=search,
        page=page,
        hits=hits,
        known=known,
        labels=[*LABELS, UNKNOWN],
        stages=STAGE_NAMES,
        orders=ORDER_WORDS,
        outcomes=OUTCOME_WORDS,
        next_page=f"/calls?{urlencode([*rest, ('page', page.next_token)])}" if page.next_token else "",
        first_page=f"/calls?{urlencode(rest)}" if search.page else "",
    )


FIELDS: Final[dict[str, Any]] = {
    "queue": "queue",
    "product": "product",
    "group": "agent_group",
    "language": "language",
}


async def _call(request: Request, site: Site, user: User) -> Response:
    call_id = request.path_params["call"]
    row = await site.run(queries_of(site).call, call_id)
    media = _media(site, call_id) if user.may("media") else None
    return render(
        request,
        "call.html",
        row=row,
        running=site.hub.get(call_id) is not None,
        address=call_link(call_id),
        media=media is not None,
        audio=f"{call_link(call_id)}/audio" if media else "",
        labels=[*LABELS, UNKNOWN],
        exports=[kind for kind in EXPORTERS if kind != "parquet" or PARQUET],
    )


async def _timeline(request: Request, site: Site, user: User) -> Response:
    call_id = request.path_params["call"]
    packed, plain = await site.run(_document, site, user, call_id)
    if packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(packed, media_type="application/json", headers={"content-encoding": "gzip"})
    return Response(gzip.decompress(packed) if packed is not None else plain, media_type="application/json")


async def _people(request: Request, site: Site, user: User) -> Response:
    """What people said of a call since."""
    call_id = request.path_params["call"]
    queries, store = queries_of(site), _store(site)

    def ask() -> dict[str, Any]:
        feedback = {each.suggestion_id: each for each in store.feedback_history(call_id)}
        return {
            "feedback": {
                key: {"verdict": each.verdict, "correction": each.correction} for key, each in feedback.items()
            },
            "corrections": {each.moment: each.label for each in queries.corrections(call_id)},
        }

    return JSONResponse(await site.run(ask))


async def _correct(request: Request, site: Site, user: User) -> Response:
    form = await read_form(request)
    queries, call_id = queries_of(site), request.path_params["call"]
    label: Any = form.get("label", "")
    made = await site.run(queries.correct_label, call_id, form.get("moment", ""), label)
    return JSONResponse({"moment": made.moment, "label": made.label, "before": made.before})


async def _export(request: Request, site: Site, user: User) -> Response:
    call_id, kind = request.path_params["call"], request.path_params["kind"]
    with_sound = kind == PAGE_WITH_SOUND
    if not with_sound and kind not in EXPORTERS:
        raise HTTPException(404)
    if with_sound and not (user.may("media") and _media(site, call_id)):
        raise AccessError(403, "The sound of this call is not kept, or not for you to hear.")
    chosen = EXPORTERS["html" if with_sound else kind]
    timeline = await site.run(_seen_by, site, user, call_id)
    if with_sound:
        sound = await _sound(site, call_id)
        content = await site.run(lambda: render_html(timeline, audio=sound.read_bytes()).encode())
    else:
        content = await site.run(chosen.write, timeline)
    name = re.sub(r"[^\w.-]+", "_", call_id)
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(name)}.{chosen.suffix}"}
    return Response(content, media_type=chosen.media_type, headers=headers)


async def _audio(request: Request, site: Site, user: User) -> Response:
    call_id = request.path_params["call"]
    await site.run(queries_of(site).call, call_id)
    return FileResponse(await _sound(site, call_id), media_type="audio/ogg")


async def _sound(site: Site, call_id: str) -> Path:
    media = _media(site, call_id)
    if media is None:
        raise AccessError(404, "The sound of this call is not kept here.")
    if media == kept_sound(media.parent, call_id):  # it is as people may hear it already
        return media
    queries = queries_of(site)
    return await site.sounds.get(call_id, lambda: to_ogg(open_recording(media), queries.timeline(call_id)))


def _media(site: Site, call_id: str) -> Path | None:
    """The call's recording, where one is kept."""
    folder = site.config.web_media
    if folder is None or not can_name_file(call_id):
        return None
    if kept := kept_sound(folder, call_id):
        return kept
    names = (call_id, *(f"{call_id}{suffix}" for suffix in MEDIA_SUFFIXES))
    return next((folder / n for n in names if n.endswith(MEDIA_SUFFIXES) and (folder / n).is_file()), None)


def _document(site: Site, user: User, call_id: str) -> tuple[bytes | None, bytes]:
    """The timeline that the user may see as JSON: gzipped as it is stored, or plain."""
    store = _store(site)
    with store.database.reading() as connection:
        packed: bytes | None = connection.scalar(select(TIMELINES.c.data).where(TIMELINES.c.call_id == call_id))
    if packed is not None and (user.may("media") or b'"snapshots":[]' in gzip.decompress(packed)):
        return packed, b""
    return None, timeline_json(_seen_by(site, user, call_id))


def _seen_by(site: Site, user: User, call_id: str) -> CallTimeline:
    """Pictures are for those who may also hear the call."""
    timeline = queries_of(site).timeline(call_id)
    return timeline if user.may("media") else replace(timeline, snapshots=())


def _store(site: Site) -> CallStore:
    queries_of(site)
    assert site.store is not None
    return site.store


def _day(text: str, name: str) -> datetime:
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"expected {name} as YYYY-MM-DD, found {text[:40]!r}") from None
    if not 1970 <= found.year < 2100:
        raise InvalidInputError(f"expected {name} of the years 1970 to 2099, found {found.year}")
    return datetime(found.year, found.month, found.day, tzinfo=UTC)


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidInputError(f"expected a number for {name}, found {text[:40]!r}") from None


ROUTES: Final = (
    Route("/calls", needs("calls", _list)),
    Route("/calls/{call:path}/timeline.json", needs("calls", _timeline)),
    Route("/calls/{call:path}/people.json", needs("calls", _people)),
    Route("/calls/{call:path}/audio", needs("media", _audio)),
    Route("/calls/{call:path}/labels", needs("correct", _correct), methods=["POST"]),
    Route("/calls/{call:path}/export/{kind}", needs("calls", _export)),
    Route("/calls/{call:path}", needs("calls", _call)),
)
