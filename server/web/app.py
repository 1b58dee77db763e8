"""The web pages: routes, who may open them, headers, and what is shown when something is not there."""

import logging
from typing import Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from affectline.models.errors import AffectlineError, InvalidInputError, StorageError
from affectline.server.services.sessions import log_failure
from affectline.server.store.calls import NotStoredError
from affectline.server.web import calls, insights, live, policies, trust
from affectline.server.web.access import COOKIE, SESSION_S, AccessError, User
from affectline.server.web.pages import ASSETS, asset, asset_address
from affectline.server.web.site import NAVIGATION, Site, needs, read_form, render, site_of

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
LOOPBACK_NAMES: Final = frozenset(("127.0.0.1", "localhost", "[::1]"))
log = logging.getLogger("affectline.server")


def create_app(site: Site) -> ASGIApp:
    """The pages as one ASGI application."""
    app = Starlette(
        routes=[
            Route("/", _home),
            Route("/sign-in", _sign_in, methods=["GET", "POST"]),
            Route("/sign-out", needs(None, _sign_out), methods=["POST"]),
            Route("/assets/{hash}/{name}", _asset),
            *live.ROUTES,
            *calls.ROUTES,
            *insights.ROUTES,
            *policies.ROUTES,
            *trust.ROUTES,
        ],
        exception_handlers={
            HTTPException: _on_http_error,
            AffectlineError: _on_error,
            Exception: _on_failure,
        },
    )
    app.state.site = site
    app.add_middleware(_Guard, site=site)
    return _Quiet(app)


class _Quiet:
    """Logs where an unexpected error arose, and not its message, which could hold what was said in a call."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            log_failure("a page", error)


class _Guard:
    """Adds the headers that keep a browser strict, and refuses names under which an open server is not known."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app = app
        self._site = site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        host = Request(scope).headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if self._site.access.open and name not in LOOPBACK_NAMES:
            # Without sign-in, a foreign page must not reach it under a name that leads here.
            await Response("expected a loopback name in Host, found another one", 421)(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for header, value in HEADERS.items():
                    headers.setdefault(header, value)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _home(request: Request) -> Response:
    user = site_of(request).access.user(request)
    if user is None:
        return RedirectResponse("/sign-in", 303)
    return RedirectResponse(next((path for path, _, right in NAVIGATION if user.may(right)), "/agent"), 303)


async def _sign_in(request: Request) -> Response:
    access = site_of(request).access
    target = _local(request.query_params.get("next", "/"))
    if access.open or (request.method == "GET" and access.user(request)):
        return RedirectResponse(target, 303)
    if request.method == "GET":
        return render(request, "sign-in.html", target=target, name="", error="")
    form = await read_form(request)
    target, name = _local(form.get("next", "/")), form.get("name", "").strip()
    address = request.client.host if request.client else ""
    try:
        cookie = await access.sign_in(name, form.get("password", ""), address)
    except AccessError as error:
        log.warning("a sign-in to the web pages was refused (%d)", error.status)
        response = render(request, "sign-in.html", error.status, target=target, name=name[:64], error=str(error))
        if error.retry_after_s:
            response.headers["retry-after"] = str(error.retry_after_s)
        return response
    entered = RedirectResponse(target, 303)
    entered.set_cookie(COOKIE, cookie, SESSION_S, httponly=True, secure=access.secure, samesite="lax")
    return entered


async def _sign_out(request: Request, site: Site, user: User) -> Response:
    await read_form(request)
    site.access.sign_out(user)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(COOKIE, httponly=True, secure=site.access.secure, samesite="lax")
    return response


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in ASSETS or asset_address(name) != request.url.path:
        raise HTTPException(404)
    kind = "text/javascript" if name.endswith(".js") else "text/css"
    return Response(asset(name), media_type=kind, headers={"cache-control": "public, max-age=31536000, immutable"})


def _local(target: str) -> str:
    """A path of this site; anything else leads to the start."""
    safe = target.startswith("/") and not target.startswith(("//", "/\\")) and target.isprintable()
    return quote(target, safe="/?=&%:,~+*.-_") if safe else "/"


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _told(request, 404, "There is no such page", "Check the address, or begin at the start page.")
    return _told(request, error.status_code, "This did not work", str(error.detail))


async def _on_error(request: Request, error: Exception) -> Response:
    match error:
        case AccessError(status=401):
            return _told(request, 401, "You are not signed in", str(error), link=("/sign-in", "Sign in"))
        case AccessError(status=403):
            more = "A supervisor can open it, or change your role in the file of users."
            return _told(request, 403, "Not for you to see", f"{error} {more}")
        case AccessError():
            return _told(request, error.status, "This did not work", str(error))
        case NotStoredError():
            more = "It may have been erased, or kept for no longer than the retention says."
            return _told(request, 404, "There is no such call", more, link=("/calls", "All calls"))
        case InvalidInputError():
            return _told(request, 400, "This cannot be read", f"{error}.")
        case StorageError():
            log.error("the store fails: %s", error)
            more = "Try again in a moment. If it stays, the server's log says why."
            return _told(request, 503, "The store does not answer", more)
    log_failure("a page", error)
    return await _on_failure(request, error)


async def _on_failure(request: Request, error: Exception) -> Response:
    return _told(request, 500, "Something went wrong here", "The server's log says where. Try again, or report it.")


def _told(
    request: Request, status: int, title: str, text: str, link: tuple[str, str] = ("/", "Start page")
) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"error": f"{title}. {text}"}, status)
    return render(request, "message.html", status, title=title, text=text, link=link)
