"""What all pages have in common: what they are made from, who may open them, and the frame around them."""

import asyncio
import functools
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from affectline.models.errors import InvalidInputError
from affectline.server.config import ServerConfig
from affectline.server.hub import Hub
from affectline.server.store.calls import CallStore
from affectline.server.web.access import Access, AccessError, Right, User
from affectline.server.web.pages import TEMPLATES
from affectline.server.web.sounds import Sounds

T = TypeVar("T")

MAX_FORM_BYTES: Final = 512 * 1024
NAVIGATION: Final[tuple[tuple[str, str, Right], ...]] = (
    ("/live", "Live", "live"),
    ("/calls", "Calls", "calls"),
    ("/insights", "Insights", "insights"),
    ("/policies", "Policies", "policies"),
    ("/trust", "Trust", "trust"),
)


@dataclass(frozen=True, slots=True)
class Site:
    """What the pages are made from."""

    access: Access
    hub: Hub
    store: CallStore | None
    config: ServerConfig
    ready: Callable[[], bool]
    """Whether the models are loaded."""
    threads: ThreadPoolExecutor
    """Of the pages alone: however long a question takes, calls are stored meanwhile."""
    sounds: Sounds
    answers: OrderedDict[tuple[object, ...], Any] = field(default_factory=OrderedDict)
    """What took long to find out, by question; the ones not asked for longest give way."""
    watchers: set[object] = field(default_factory=set)
    """Open streams of events."""

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Does what takes a while off the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, work, *arguments)


View = Callable[[Request, Site, User], Awaitable[Response]]


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


def needs(right: Right | None, view: View) -> Callable[[Request], Awaitable[Response]]:
    """The view for those who are signed in and have the right; others are told what to do."""

    @functools.wraps(view)
    async def checked(request: Request) -> Response:
        site = site_of(request)
        user = site.access.user(request)
        if user is None:
            if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
                target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                return RedirectResponse(f"/sign-in?{urlencode({'next': target})}", 303)
            raise AccessError(401, "Sign in first.")
        request.state.user = user
        if right and not user.may(right):
            raise AccessError(403, f"This page is not for the role {user.role}.")
        return await view(request, site, user)

    return checked


def render(request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """A page with the frame that all share."""
    site = site_of(request)
    user: User | None = getattr(request.state, "user", None)
    html = TEMPLATES.get_template(template).render(
        user=user,
        navigation=[(path, name) for path, name, right in NAVIGATION if user and user.may(right)],
        here="/" + request.url.path.split("/")[1],
        form_token=site.access.form_token(user) if user else "",
        open=site.access.open,
        **values,
    )
    return HTMLResponse(html, status)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a posted form, after the proof that it is one of ours. Raises AccessError or InvalidInputError."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise AccessError(415, "Expected a form.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise AccessError(413, f"Expected at most {MAX_FORM_BYTES // 1024} KiB.")
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=100)
    except ValueError as error:
        raise InvalidInputError("expected a form, found something else") from error
    form = {name: values[-1] for name, values in fields.items()}
    site_of(request).access.check_form(request, getattr(request.state, "user", None), form.pop("form_token", ""))
    return form


def to_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
