"""Serves the web pages beside the gRPC API, on the same event loop."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import uvicorn

from affectline.models.errors import InvalidInputError
from affectline.server.config import ServerConfig
from affectline.server.hub import Hub
from affectline.server.store.calls import CallStore
from affectline.server.web.access import Access
from affectline.server.web.app import create_app
from affectline.server.web.site import Site
from affectline.server.web.sounds import Sounds

THREADS: Final = 4
STOP_S: Final = 3
"""Open connections get so long to end."""

log = logging.getLogger("affectline.server")


class _Uvicorn(uvicorn.Server):
    """Leaves signals to the server around it."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """`start`, and in the end `stop`. Raises InvalidInputError for a file of users that is not sound."""

    def __init__(self, config: ServerConfig, hub: Hub, store: CallStore | None, ready: Callable[[], bool]) -> None:
        assert config.web_address is not None
        self._address = config.web_address
        self._hub = hub
        self._tls = config.tls_cert is not None
        secret = config.web_secret.get_secret_value() if config.web_secret else None
        access = Access(config.web_users, secret, secure=self._tls or config.web_behind_tls)
        self._guarded = access.secure
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="web")
        self._sounds = Sounds(self._threads)
        site = Site(access, hub, store, config, ready, self._threads, self._sounds)
        self._server = _Uvicorn(
            uvicorn.Config(
                create_app(site),
                log_config=None,
                access_log=False,
                lifespan="off",
                server_header=False,
                proxy_headers=config.web_behind_tls,  # of a proxy on this machine
                timeout_graceful_shutdown=STOP_S,
                ssl_certfile=config.tls_cert,
                ssl_keyfile=config.tls_key,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listens, and gives the port; raises InvalidInputError when the address cannot be had."""
        config = self._server.config
        try:
            config.load()
        except OSError as error:
            expected = "expected PEM files of a certificate and its key for the web pages"
            raise InvalidInputError(f"{expected}, found {config.ssl_certfile}: {error.strerror}") from error
        host, _, port = self._address.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        try:
            listening = socket.create_server((host.strip("[]"), int(port)), family=family)
        except OSError as error:
            expected = f"expected a free address for the web pages, found {self._address}"
            raise InvalidInputError(f"{expected}: {error.strerror}") from error
        if host not in ("127.0.0.1", "localhost", "[::1]") and not self._guarded:
            log.warning("other machines can reach the web pages at %s without TLS", self._address)
        self._task = asyncio.create_task(self._server.serve([listening]))
        bound: int = listening.getsockname()[1]
        log.info("web pages on %s://%s:%d", "https" if self._tls else "http", host, bound)
        return bound

    async def stop(self) -> None:
        self._hub.close()
        self._server.should_exit = True
        if self._task:
            await asyncio.gather(self._task, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._sounds.close()
