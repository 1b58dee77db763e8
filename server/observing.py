"""Puts watches around models, sessions and RPCs; where nothing is watched, nothing is wrapped."""

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import replace
from time import monotonic, perf_counter
from typing import Any, Final, TypeVar, cast

import grpc

from affectline.models.observer import UNOBSERVED, Observer
from affectline.models.ports import SpeechGateStream, Task
from affectline.pipelines.chat import Chat, ChatConfig
from affectline.pipelines.recorded import Session
from affectline.pipelines.session import CallConfig, Input
from affectline.pipelines.timeline import CallTimeline, Moment, Notice, Output
from affectline.server.config import ServerConfig
from affectline.server.engine import Engine
from affectline.server.metrics import Metrics
from affectline.server.services.sessions import Opener
from affectline.server.tracing import Traces, exported_to

TIMED: Final[Mapping[Task, tuple[str, ...]]] = {
    "speech_gate": ("open",),
    "acoustic_encoder": ("encode",),
    "recogniser": ("transcribe",),
    "voice_affect": ("features", "estimate"),
    "text_affect": ("estimate",),
    "face_detector": ("detect",),
    "expression": ("estimate",),
    "speaker_encoder": ("embed",),
}
"""What is timed of each kind of model; of the gate, the streams that it opens."""
FIELDS: Final[Mapping[Task, str]] = {
    "speech_gate": "gate",
    "acoustic_encoder": "encoder",
    "recogniser": "recogniser",
    "voice_affect": "voice",
    "text_affect": "text",
    "face_detector": "face_detector",
    "expression": "expression",
    "speaker_encoder": "speakers",
}
"""Task -> its place in a session's ModelSet."""
AHEAD_S: Final = 1.0
"""Media so far ahead of the clock comes from a recording or is pushed: it has no delay to speak of."""
_OFTEN: Final = frozenset(("speech_gate",))
"""Too small and too many for spans of their own."""

T = TypeVar("T")
R = TypeVar("R")


class Observation:
    """What a server's operator watches: metrics, traces, both or neither."""

    def __init__(self, metrics: Metrics | None = None, traces: Traces | None = None) -> None:
        self.metrics = metrics
        self._traces = traces

    @property
    def on(self) -> bool:
        return bool(self.metrics or self._traces)

    @property
    def observer(self) -> Observer:
        """For models and pipelines."""
        return self.metrics or UNOBSERVED

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Times the work within."""
        start_s = perf_counter()
        try:
            with self._traces.within(name) if self._traces and name not in _OFTEN else nullcontext():
                yield
        finally:
            if self.metrics:
                self.metrics.stage(name, perf_counter() - start_s)

    def span(self, name: str) -> AbstractContextManager[Any]:
        return self._traces.span(name) if self._traces else nullcontext()

    def work(self, work: Callable[..., T]) -> Callable[..., T]:
        """To be called on another thread: nests in the span that is open here, and tells how long it waited."""
        if not self.on:
            return work
        context, asked_s = copy_context(), perf_counter()

        def run(*arguments: Any) -> T:
            if self.metrics:
                self.metrics.thread_came(perf_counter() - asked_s)
            return context.run(work, *arguments)

        return run

    def opener(self, opener: Opener) -> Opener:
        """The opener, its models and its sessions watched."""
        if not self.on:
            return opener
        if isinstance(opener, Engine):
            wrapped = {
                field: self._timed(getattr(opener.models, field), task, TIMED[task]) for task, field in FIELDS.items()
            }
            opener.models = replace(opener.models, **wrapped)
        if self.metrics is None:
            return opener
        self.metrics.loaded(opener.models.versions if isinstance(opener, Engine) else {})
        return _Opener(opener, self.metrics)

    def interceptors(self) -> tuple[grpc.aio.ServerInterceptor, ...]:
        return (_Rpcs(self),) if self.on else ()

    def close(self) -> None:
        if self._traces:
            self._traces.close()

    def _timed(self, model: Any, stage: str, names: tuple[str, ...]) -> Any:
        return _TimedGate(model, self) if stage == "speech_gate" else _Timed(model, stage, names, self)


def observation(config: ServerConfig) -> Observation:
    """As the settings ask for it; raises InvalidInputError when what traces need is not installed."""
    metrics = Metrics() if config.metrics_address else None
    return Observation(metrics, exported_to(config.traces_endpoint) if config.traces_endpoint else None)


class _Timed:
    """A model whose named methods are timed as a stage; everything else is its own."""

    def __init__(self, model: Any, stage: str, names: tuple[str, ...], observation: Observation) -> None:
        self._model, self._stage, self._names, self._observation = model, stage, names, observation

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if name not in self._names:
            return found

        def timed(*arguments: Any, **named: Any) -> Any:
            with self._observation.stage(self._stage):
                return found(*arguments, **named)

        setattr(self, name, timed)  # the next time it is found at once
        return timed


class _TimedGate:
    """A speech gate whose streams are timed."""

    def __init__(self, gate: Any, observation: Observation) -> None:
        self._gate, self._observation = gate, observation
        self.frame_samples: int = gate.frame_samples

    def open(self) -> SpeechGateStream:
        return cast(SpeechGateStream, _Timed(self._gate.open(), "speech_gate", ("feed",), self._observation))


class _Opener:
    def __init__(self, opener: Opener, metrics: Metrics) -> None:
        self._opener, self._metrics = opener, metrics

    def open(self, config: CallConfig) -> Session:
        return _Session(self._opener.open(config), self._metrics)

    def open_chat(self, config: ChatConfig) -> Chat:
        return self._opener.open_chat(config)


class _Session:
    """A session that is watched from outside, by the clock."""

    def __init__(self, session: Session, metrics: Metrics) -> None:
        self._session, self._metrics = session, metrics
        self._began_s: float | None = None
        """When the call's media time 0 was, by the clock: before its first message, by that one's length."""
        self._told_us = 0
        """Media time for which the lag was told."""

    @property
    def received_us(self) -> int:
        return self._session.received_us

    @property
    def idle_until_us(self) -> int:
        return self._session.idle_until_us

    @property
    def final_us(self) -> int:
        return self._session.final_us

    def push(self, item: Input) -> list[Output]:
        came_s = monotonic()
        outputs = self._watched(lambda: self._session.push(item))
        if self._began_s is None and self.received_us:
            self._began_s = came_s - self.received_us / 1e6
        if self._began_s is not None:
            self._compare(outputs, monotonic() - self._began_s)
        return outputs

    def note(self, notice: Notice) -> None:
        self._metrics.told(notice)
        self._session.note(notice)

    def finish(self) -> list[Output]:
        return self._watched(self._session.finish)

    def timeline(self) -> CallTimeline:
        return self._session.timeline()

    def _watched(self, work: Callable[[], list[Output]]) -> list[Output]:
        before_us, start_s = self.received_us, perf_counter()
        outputs = work()
        self._metrics.worked(perf_counter() - start_s, max(0, self.received_us - before_us) / 1e6)
        for item in outputs:
            self._metrics.told(item)
        return outputs

    def _compare(self, outputs: list[Output], now_s: float) -> None:
        """Media time with the clock's, where the media keeps to the clock."""
        lag_s = now_s - self.received_us / 1e6
        if lag_s < -AHEAD_S:
            return
        if self.received_us - self._told_us >= 1_000_000:
            self._told_us = self.received_us
            self._metrics.lagged(max(0.0, lag_s))
        for item in outputs:
            if isinstance(item, Moment) and item.final:
                self._metrics.delayed(max(0.0, now_s - item.span.end_us / 1e6))


class _Rpcs(grpc.aio.ServerInterceptor):
    """Counts RPCs by how they end, and puts a span around each."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation

    async def intercept_service(
        self,
        continuation: "Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[T, R] | None]]",
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[T, R] | None":
        handler: Any = await continuation(handler_call_details)
        service, _, method = handler_call_details.method.rpartition("/")
        if handler is None or not service.startswith("/affectline."):
            return cast("grpc.RpcMethodHandler[T, R] | None", handler)
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, kind)
            if behaviour is not None and inspect.iscoroutinefunction(behaviour):
                made = getattr(grpc, f"{kind}_rpc_method_handler")
                watched = self._watched(behaviour, method)
                return cast(
                    "grpc.RpcMethodHandler[T, R]",
                    made(watched, handler.request_deserializer, handler.response_serializer),
                )
        raise TypeError(f"expected a coroutine behind {method}, found {handler}")

    def _watched(
        self, behaviour: Callable[[Any, Any], Awaitable[T]], method: str
    ) -> Callable[[Any, Any], Awaitable[T]]:
        async def run(request: Any, context: Any) -> T:
            code = "CANCELLED"
            metrics = self._observation.metrics
            if metrics:
                metrics.rpc_started(method)
            with self._observation.span(method) as span:
                try:
                    response = await behaviour(request, context)
                    code = "OK"
                    return response
                except grpc.aio.AbortError:
                    code = grpc.StatusCode(context.code()).name if context.code() else "UNKNOWN"
                    raise
                except Exception:
                    code = "UNKNOWN"
                    raise
                finally:
                    if span is not None:
                        span.set_attribute("rpc.grpc.status", code)
                    if metrics:
                        metrics.rpc_handled(method, code)

        return run
