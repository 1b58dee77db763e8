"""The composition root: puts the services, health and reflection on one gRPC server and runs it."""

import asyncio
import ctypes
import hmac
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import grpc
import typer
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from affectline.models.errors import AffectlineError, InvalidInputError
from affectline.protos.v1 import analyze_pb2, calls_pb2, recordings_pb2, routing_pb2
from affectline.protos.v1.analyze_pb2_grpc import add_AnalyzeServiceServicer_to_server
from affectline.protos.v1.calls_pb2_grpc import add_CallServiceServicer_to_server
from affectline.protos.v1.recordings_pb2_grpc import add_RecordingServiceServicer_to_server
from affectline.protos.v1.routing_pb2_grpc import add_RoutingServiceServicer_to_server
from affectline.server import logs
from affectline.server.config import ServerConfig, load_config
from affectline.server.engine import Engine
from affectline.server.hub import Hub
from affectline.server.observing import observation
from affectline.server.pace import SharedPace
from affectline.server.services.analyze import AnalyzeService
from affectline.server.services.calls import CallService
from affectline.server.services.keeper import Keeper
from affectline.server.services.recordings import RecordingService
from affectline.server.services.routing import RoutingService
from affectline.server.services.sessions import Opener, Sessions
from affectline.server.services.upkeep import Upkeep
from affectline.server.store.calls import CallStore
from affectline.server.store.live import LiveWriter
from affectline.server.web.serve import WebServer

SERVICES = (
    analyze_pb2.DESCRIPTOR.services_by_name["AnalyzeService"].full_name,
    calls_pb2.DESCRIPTOR.services_by_name["CallService"].full_name,
    recordings_pb2.DESCRIPTOR.services_by_name["RecordingService"].full_name,
    routing_pb2.DESCRIPTOR.services_by_name["RoutingService"].full_name,
)
RPCS_BESIDE_CALLS = 256
"""Uploads, watchers and short requests at the same time."""
M_ARENA_MAX: Final = -8
"""Of mallopt."""
ARENAS: Final = 2
"""With 24 calls on two cores as fast as 16, in 40 MB less."""
GIVE_BACK_EVERY_S: Final = 30.0

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger("affectline.server")


class Server:
    """`start`, `load`, and in the end `stop`; calls are refused with UNAVAILABLE until `load` is through.

    Raises InvalidInputError when the routing file is not sound.
    """

    def __init__(self, config: ServerConfig) -> None:
        """Opens the store; raises InvalidInputError or StorageError when it cannot be had."""
        self._config = config
        self._observation = observation(config)
        self._close_metrics: Callable[[], None] | None = None
        self.metrics_port: int | None = None
        """Where metrics are served; None where they are not."""
        pace = SharedPace(config.workers, observer=self._observation.observer)
        # Each call works on a thread of its own, so that nobody's light work waits for another's turn.
        self.sessions = Sessions(pace, config.max_calls + config.workers, self._observation.work)
        self.store = _store(config)
        self._writer = LiveWriter(self.store) if self.store else None
        self._upkeep = Upkeep(self.store, self._writer, config) if self.store and self._writer else None
        keeper = Keeper(self.store, self._writer)
        self.hub = Hub()
        self.analyze = AnalyzeService(self.sessions, config, keeper, self.hub, self._observation.observer)
        jobs = self._writer.jobs if self._writer else None
        self._recordings = RecordingService(self.sessions, config, keeper, jobs)
        self._web = WebServer(config, self.hub, self.store, lambda: self._loaded) if config.web_address else None
        self.web_port: int | None = None
        self._loaded = False
        self._routing = RoutingService(self.sessions, config)
        self._health = health.aio.HealthServicer()
        self._grpc = grpc.aio.server(
            interceptors=[
                *self._observation.interceptors(),
                *([_TokenCheck(config.token.get_secret_value())] if config.token else []),
            ],
            maximum_concurrent_rpcs=config.max_calls + RPCS_BESIDE_CALLS,
            options=[
                ("grpc.max_receive_message_length", config.max_message_bytes),
                ("grpc.so_reuseport", 0),  # a second server on the same port is an error, not a silent half
                # Finds dead peers, and allows callers a ping every 10 s, also between calls.
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                ("grpc.http2.max_pings_without_data", 0),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
                ("grpc.http2.max_ping_strikes", 2),
            ],
        )
        add_AnalyzeServiceServicer_to_server(self.analyze, self._grpc)
        self._calls = CallService(self.store, config.min_group_calls)
        add_CallServiceServicer_to_server(self._calls, self._grpc)
        add_RecordingServiceServicer_to_server(self._recordings, self._grpc)
        add_RoutingServiceServicer_to_server(self._routing, self._grpc)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), self._grpc)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> int:
        """Listens, and gives the port; raises InvalidInputError when the address cannot be had."""
        config = self._config
        await self._report(ready=False)
        credentials = _credentials(config)
        expected = f"expected a free address to listen on, found {config.listen}"
        try:
            if credentials:
                expected += f"; or expected PEM files of a certificate and its key, found {config.tls_cert}"
                port = self._grpc.add_secure_port(config.listen, credentials)
            else:
                port = self._grpc.add_insecure_port(config.listen)
        except RuntimeError as error:
            raise InvalidInputError(expected) from error
        if self._upkeep:
            await self._upkeep.start()
            await self._recordings.remember()
        await self._grpc.start()
        if config.metrics_address and (metrics := self._observation.metrics):
            metrics.follow(
                running=lambda: self.analyze.running,
                places=config.max_calls,
                waiting=lambda: self.sessions.waiting,
                jobs=lambda: self._recordings.pending,
            )
            self.metrics_port, self._close_metrics = metrics.serve(config.metrics_address)
        if self._web:
            self.web_port = await self._web.start()
        self._tasks = [asyncio.create_task(each.run()) for each in (self._recordings, self._upkeep) if each]
        if not config.is_loopback and not (config.tls_cert and (config.token or config.tls_client_ca)):
            log.warning("other machines can reach %s, and not both TLS and callers' identity are on", config.listen)
        return port

    async def load(self, load: Callable[[], Opener]) -> None:
        """Loads the models off the event loop and begins to serve; raises what `load` raises."""

        def begin() -> Opener:
            opener = load()
            if isinstance(opener, Engine):
                opener.pace = self.sessions.pace
                opener.warm_up(self._config.workers)
            return self._observation.opener(opener)

        await self.sessions.load(begin)
        self._loaded = True
        await self._report(ready=True)

    async def stop(self) -> None:
        """Takes nothing new, gives running calls `shutdown_grace_s` to end, and frees everything."""
        await self._health.enter_graceful_shutdown()
        if self._web:
            await self._web.stop()
        await self._grpc.stop(self._config.shutdown_grace_s)
        await self.analyze.drain()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._recordings.close()
        self._calls.close()
        self.sessions.close()
        if self._writer:
            self._writer.close()
        if self.store:
            self.store.close()
        if self._close_metrics:
            await asyncio.to_thread(self._close_metrics)
        await asyncio.to_thread(self._observation.close)

    async def _report(self, *, ready: bool) -> None:
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in (health.OVERALL_HEALTH, *SERVICES):
            await self._health.set(service, status)


def _store(config: ServerConfig) -> CallStore | None:
    if config.store is None:
        return None
    key = config.customer_key.get_secret_value().encode() if config.customer_key else None
    return CallStore(config.store, customer_key=key)


def _credentials(config: ServerConfig) -> grpc.ServerCredentials | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    ca = config.tls_client_ca
    try:
        pair = (config.tls_key.read_bytes(), config.tls_cert.read_bytes())
        return grpc.ssl_server_credentials([pair], ca.read_bytes() if ca else None, require_client_auth=ca is not None)
    except OSError as error:
        raise InvalidInputError(f"cannot read {error.filename}: {error.strerror}") from error


class _TokenCheck(grpc.aio.ServerInterceptor):
    """Refuses callers without the token; health checks pass."""

    def __init__(self, token: str) -> None:
        self._expected = f"Bearer {token}".encode()

        async def refuse(_: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "expected `authorization: Bearer TOKEN`, found none that is known"
            )

        # Ends any kind of RPC without reading a message.
        self._refusal: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(refuse)

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[T, R] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[T, R] | None":
        if handler_call_details.method.startswith(f"/{health.SERVICE_NAME}/"):
            return await continuation(handler_call_details)
        found = dict(handler_call_details.invocation_metadata).get("authorization", "")
        if hmac.compare_digest(found.encode() if isinstance(found, str) else found, self._expected):
            return await continuation(handler_call_details)
        return self._refusal


async def serve(config: ServerConfig, load: Callable[[], Opener]) -> None:
    """Serves until SIGINT or SIGTERM; raises InvalidInputError or what `load` raises."""
    stopped = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stopped.set)
    server = Server(config)
    giving_back = asyncio.create_task(give_memory_back())
    try:
        port = await server.start()
        log.info("listening on %s:%d, loading models", config.listen.rpartition(":")[0], port)
        if config.metrics_address:
            log.info("metrics on %s:%d", config.metrics_address.rpartition(":")[0], server.metrics_port)
        loading = asyncio.create_task(server.load(load))
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait({loading, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()
            log.info("ready")
        await waiting
        log.info("stopping")
    finally:
        giving_back.cancel()
        await server.stop()


async def give_memory_back() -> None:
    """Now and then returns to the system what calls left in the heap (malloc_trim(3)); glibc rarely does."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim:
        await asyncio.sleep(GIVE_BACK_EVERY_S)
        await asyncio.to_thread(trim, 0)


def share_memory() -> None:
    """Lets the threads of all calls take memory from the same arenas, and so use what others gave back.

    glibc would make eight per core, each of which keeps the most it ever held (mallopt(3)). Other C libraries: nothing.
    """
    if "MALLOC_ARENA_MAX" not in os.environ and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_ARENA_MAX, ARENAS)


def run(config: ServerConfig) -> None:
    """Serves with the models in the store until asked to stop; raises AffectlineError."""
    logs.configure(config.log_format)
    share_memory()
    # A thread that comes back from a network, a few milliseconds long, would wait 5 ms for the interpreter.
    sys.setswitchinterval(0.0005)

    def load() -> Opener:
        return Engine(
            runtime=config.runtime(),
            speech_model=config.speech_model,
            voice_model=config.voice_model,
            face_model=config.face_model,
            diarizer=config.diarizer,
            policies=config.policies,
            cues=config.cues,
            site=config.site_dir,
            accept_licences=config.accept_license,
        )

    asyncio.run(serve(config, load))


def main(config: Annotated[Path | None, typer.Option(help="YAML file with the settings.")] = None) -> None:
    """Serve the gRPC API; AFFECTLINE_* environment variables win over the settings in the file."""
    try:
        run(load_config(config))
    except AffectlineError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    typer.run(main)
