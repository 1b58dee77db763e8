"""A server with its web pages on a thread of its own, and a browser's requests without a browser."""

import asyncio
import http.client
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any
from urllib.parse import urlencode

from affectline.server.config import ServerConfig
from affectline.server.main import Server
from affectline.server.services.sessions import Opener


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Pages:
    """The pages of a running server, asked with a cookie jar of its own."""

    port: int
    server: Server
    loop: asyncio.AbstractEventLoop
    grpc_port: int = 0
    cookie: str = ""
    default_headers: dict[str, str] = field(default_factory=lambda: {"accept": "text/html"})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> Answer:
        """GET, or POST with a form."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {**self.default_headers, **({"cookie": self.cookie} if self.cookie else {}), **(headers or {})}
        body = None
        if form is not None:
            sent.setdefault("content-type", "application/x-www-form-urlencoded")
            body = urlencode(form)
        connection.request("GET" if form is None else "POST", path, body, sent)
        answer = connection.getresponse()
        found = Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        connection.close()
        if "set-cookie" in found.headers:
            self.cookie = found.headers["set-cookie"].partition(";")[0]
        return found

    def sign_in(self, name: str, password: str) -> Answer:
        return self.ask("/sign-in", {"name": name, "password": password})

    def as_(self, name: str, password: str) -> "Pages":
        """The same server, for somebody who is signed in."""
        other = Pages(self.port, self.server, self.loop)
        assert other.sign_in(name, password).status == 303
        return other

    def call(self, work: Callable[[], Any]) -> Any:
        """Does something on the server's event loop, and gives what it gives."""

        async def done() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(10)


@contextmanager
def serving(config: ServerConfig, load: Callable[[], Opener] | None = None) -> Iterator[Pages]:
    """Starts a server; with `load` it takes calls, too."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[Server, int]:
        server = Server(config)
        port = await server.start()
        if load:
            await server.load(load)
        return server, port

    server, grpc_port = asyncio.run_coroutine_threadsafe(start(), loop).result(120)
    assert server.web_port is not None
    try:
        yield Pages(server.web_port, server, loop, grpc_port)
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
