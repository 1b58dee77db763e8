"""Metrics, traces and logs: what they tell of a running server, and that they tell nothing of what was said."""

import asyncio
import io
import json
import logging
import re
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from urllib.request import urlopen

import grpc
import numpy as np
import pytest
import soundfile
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from affectline.models import ports
from affectline.models.errors import InvalidInputError
from affectline.models.ports import Task
from affectline.models.signals import AudioChunk, Span
from affectline.pipelines.media import open_recording
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import Absence, Affect, CallTimeline, Moment, Notice
from affectline.protos.v1.analyze_pb2_grpc import AnalyzeServiceStub
from affectline.server import logs, observing, wire
from affectline.server.client import RemoteError, open_channel, stream_call
from affectline.server.config import ServerConfig
from affectline.server.main import Server
from affectline.server.metrics import Metrics
from affectline.server.observing import Observation
from affectline.server.services.sessions import log_failure
from affectline.server.tracing import Traces

from .test_grpc import PARTICIPANTS, RATE_HZ, SECRET, EchoChat, LevelSession, Models, tone

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]
CALL = ROOT / "examples" / "dealership_call.flac"
DASHBOARD = ROOT / "deploy" / "grafana" / "affectline.json"
SAID = "My name is Thaddeus Pumpernickel, and the xylofruit never came."

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parsed(text: str) -> Samples:
    """(name, sorted labels) -> value."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def fetched(server: Server) -> tuple[str, Samples]:
    def fetch() -> str:
        with urlopen(f"http://127.0.0.1:{server.metrics_port}/metrics") as answer:
            return str(answer.read().decode())

    text = await asyncio.to_thread(fetch)
    return text, parsed(text)


@dataclass(frozen=True)
class Watched:
    server: Server
    channel: grpc.aio.Channel
    spans: Any
    """opentelemetry's InMemorySpanExporter."""


@asynccontextmanager
async def watched(opener: Any, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Watched]:
    """A server whose metrics are fetched over HTTP, and whose spans stay here."""
    export = pytest.importorskip("opentelemetry.sdk.trace.export", reason="needs the extra `telemetry`")
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    spans = memory.InMemorySpanExporter()
    monkeypatch.setattr(
        "affectline.server.observing.exported_to", lambda endpoint: Traces(export.SimpleSpanProcessor(spans))
    )
    shared = {"listen": "127.0.0.1:0", "metrics_address": "127.0.0.1:0", "traces_endpoint": "http://127.0.0.1:4317"}
    server = Server(ServerConfig.model_validate({**shared, "workers": 2, "shutdown_grace_s": 0, **settings}))
    port = await server.start()
    try:
        await server.load(lambda: opener)
        async with open_channel(f"127.0.0.1:{port}") as channel:
            yield Watched(server, channel, spans)
    finally:
        await server.stop()


async def test_the_metrics_tell_how_calls_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    soundfile.write(path, tone(5.5), RATE_HZ, subtype="PCM_16")
    config = CallConfig("a call", PARTICIPANTS, RATE_HZ)
    async with watched(Models(LevelSession, EchoChat), monkeypatch, max_calls=1) as each:
        seen = [item async for item in stream_call(each.channel, open_recording(path), config, speed=20)]
        assert isinstance(seen[-1], CallTimeline)
        held = AnalyzeServiceStub(each.channel).Analyze()
        await held.write(wire.call_config(config, wire.AudioFormat("float32", RATE_HZ, 2)))
        await held.write(wire.audio_float32(np.zeros((2, RATE_HZ), np.float32), 0))
        await held.read()
        with pytest.raises(RemoteError):
            async for _ in stream_call(each.channel, open_recording(path), config, speed=None):
                pass
        _, found = await fetched(each.server)
        assert found["affectline_calls_running", ()] == 1
        assert found["affectline_calls_max", ()] == 1
        assert found["affectline_ready", ()] == 1
        assert found["affectline_media_seconds_total", ()] == pytest.approx(6.5)
        assert found["affectline_work_seconds_total", ()] > 0
        assert found["affectline_rpcs_started_total", (("method", "Analyze"),)] == 3
        ended = {labels: value for (name, labels), value in found.items() if name == "affectline_rpcs_handled_total"}
        assert ended == {
            (("code", "OK"), ("method", "Analyze")): 1,
            (("code", "RESOURCE_EXHAUSTED"), ("method", "Analyze")): 1,
        }
        assert found["affectline_thread_wait_seconds_count", ()] > 50
        assert found["affectline_work_waiting", ()] == 0
        assert found["process_resident_memory_bytes", ()] > 1e6
        held.cancel()
        await asyncio.sleep(0.2)
        _, found = await fetched(each.server)
        assert found["affectline_calls_running", ()] == 0
        assert found["affectline_rpcs_handled_total", (("code", "CANCELLED"), ("method", "Analyze"))] == 1
    assert [span.name for span in each.spans.get_finished_spans()] == ["Analyze"] * 3


async def test_the_delay_of_live_moments_runs_on_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 100.0
    monkeypatch.setattr(observing, "monotonic", lambda: now_s)
    metrics = Metrics()
    session = Observation(metrics).opener(Models()).open(CallConfig("a call", PARTICIPANTS[:1], RATE_HZ))
    second = np.zeros(RATE_HZ, np.float32)
    for number in range(3):
        now_s = 101.0 + number + 0.4 * number
        session.push(chunk(second, number))
    found = parsed(text_of(metrics))
    assert found["affectline_moment_delay_seconds_count", ()] == 3
    assert found["affectline_moment_delay_seconds_sum", ()] == pytest.approx(0 + 0.4 + 0.8)
    assert found["affectline_call_lag_seconds_sum", ()] == pytest.approx(0 + 0.4 + 0.8)
    for number in range(3, 13):  # faster than the clock: no delay to speak of
        session.push(chunk(second, number))
    assert parsed(text_of(metrics))["affectline_moment_delay_seconds_count", ()] < 13
    session.note(Notice("clipped_audio", "…", 0))
    assert parsed(text_of(metrics))["affectline_notices_total", (("code", "clipped_audio"),)] == 1


def chunk(pcm: Any, number: int) -> AudioChunk:
    return AudioChunk(0, pcm, RATE_HZ, number * RATE_HZ)


def text_of(metrics: Metrics) -> str:
    return generate_latest(metrics.registry).decode()


async def test_nothing_is_wrapped_where_nothing_is_watched() -> None:
    off = Observation()
    opener = Models()
    assert off.opener(opener) is opener  # type: ignore[arg-type]
    assert off.work(print) is print
    assert off.interceptors() == ()
    server = Server(ServerConfig(listen="127.0.0.1:0"))
    await server.start()
    assert server.metrics_port is None
    await server.stop()


async def test_a_taken_address_is_named() -> None:
    metrics = Metrics()
    port, close = metrics.serve("127.0.0.1:0")
    with pytest.raises(InvalidInputError, match=f"expected a free address for metrics, found 127.0.0.1:{port}"):
        Metrics().serve(f"127.0.0.1:{port}")
    close()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("metrics_address", "9464"),
        ("metrics_address", "localhost:metrics"),
        ("traces_endpoint", "localhost:4317"),
        ("traces_endpoint", "http://user name@host"),
        ("log_format", "xml"),
    ],
)
def test_settings_are_checked(setting: str, value: str) -> None:
    with pytest.raises(ValueError, match=setting):
        ServerConfig.model_validate({setting: value})


def test_traces_without_opentelemetry_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(InvalidInputError, match=r"affectline\[telemetry\]"):
        observing.observation(ServerConfig(traces_endpoint="http://127.0.0.1:4317"))


def test_every_method_of_a_model_is_timed_or_left_out_on_purpose() -> None:
    protocols = {
        "speech_gate": ports.SpeechGate,
        "acoustic_encoder": ports.AcousticEncoder,
        "recogniser": ports.Recogniser,
        "voice_affect": ports.VoiceAffect,
        "text_affect": ports.TextAffect,
        "face_detector": ports.FaceDetector,
        "expression": ports.Expression,
        "speaker_encoder": ports.SpeakerEncoder,
    }
    of_calls = set(get_args(Task)) - {"diarizer"}  # no session has one
    assert set(protocols) == of_calls == set(observing.TIMED) == set(observing.FIELDS)
    for task, protocol in protocols.items():
        methods = {name for name, value in vars(protocol).items() if callable(value) and not name.startswith("_")}
        assert methods == set(observing.TIMED[task])  # type: ignore[index]


@pytest.fixture
def json_lines() -> Iterator[io.StringIO]:
    """What all loggers write, as JSON lines."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.JsonFormatter())
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield out
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.mark.parametrize("made", [logs.JsonFormatter(), logs.PlainFormatter(logs.TEXT)], ids=["json", "text"])
def test_logs_keep_an_exceptions_message_to_themselves(made: logging.Formatter) -> None:
    try:
        raise ValueError(f"cannot read {SAID}")
    except ValueError:
        record = logging.LogRecord("affectline", logging.ERROR, __file__, 1, "%s failed", ("call 1",), sys.exc_info())
    logging.Formatter().format(record)  # leaves the message in the record
    line = made.format(record)
    assert "call 1 failed" in line
    assert "ValueError" in line
    assert "test_observing.py" in line
    assert "Thaddeus" not in line


def test_json_logs_are_one_object_per_line(json_lines: io.StringIO) -> None:
    logging.getLogger("affectline.server").info("%s began, %d running", "call 1", 2)
    log_failure("call 2", RuntimeError(SECRET))
    first, second = map(json.loads, json_lines.getvalue().splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {"level": "info", "logger": "affectline.server", "message": "call 1 began, 2 running"}
    assert (second["level"], SECRET in str(second)) == ("error", False)


def queries(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(found := node.get("expr"), str):
            yield found
        for value in node.values():
            yield from queries(value)
    elif isinstance(node, list):
        for value in node:
            yield from queries(value)


def series() -> dict[str, set[str]]:
    """Every series that the server can give -> its labels."""
    registry = Metrics().registry
    found: dict[str, set[str]] = {sample.name: set() for family in registry.collect() for sample in family.samples}
    for name, collector in registry._names_to_collectors.items():
        found[name] = {*getattr(collector, "_labelnames", ()), *(("le",) if name.endswith("_bucket") else ())}
    return found


def test_the_dashboard_asks_for_what_there_is() -> None:
    known = series()
    asked = list(queries(json.loads(DASHBOARD.read_text())))
    assert len(asked) > 15
    used: set[str] = set()
    for query in asked:
        names = set(re.findall(r"\b(?:affectline|process)_\w+", query))
        assert names, query
        assert names <= set(known), f"{query}: no {names - set(known)}"
        used |= {re.sub("_(total|bucket|sum|count)$", "", name) for name in names}
        allowed = {"instance"}.union(*(known[name] for name in names))
        grouped = {word for group in re.findall(r"by \(([^)]*)\)", query) for word in re.findall(r"\w+", group)}
        matched = {word for group in re.findall(r"\{([^}]*)\}", query) for word in re.findall(r"(\w+)\s*[=!]", group)}
        assert grouped | matched <= allowed, f"{query}: no {(grouped | matched) - allowed}"
    ours = {family.name for family in Metrics().registry.collect() if family.name.startswith("affectline_")}
    assert ours <= used, "every metric of ours is on the dashboard"


def test_the_documentation_lists_every_metric() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    listed = set(re.findall(r"`(affectline_\w+)`", text))
    names = {family.name + ("_total" if family.type == "counter" else "") for family in Metrics().registry.collect()}
    assert listed == {name for name in names if name.startswith("affectline_")}


def test_models_and_pipelines_tell_of_turns_and_what_is_left_out() -> None:
    metrics = Metrics()
    observer = Observation(metrics).observer
    observer.waited("partial", 0.2, 1)
    observer.skipped("partial")
    observer.skipped("picture", 3)
    found = parsed(text_of(metrics))
    assert found["affectline_turn_wait_seconds_sum", (("work", "partial"),)] == 0.2
    assert found["affectline_turns_waiting", ()] == 1
    assert found["affectline_skipped_total", (("work", "partial"),)] == 1
    assert found["affectline_skipped_total", (("work", "picture"),)] == 3


def test_an_absence_is_told_by_its_kind() -> None:
    metrics = Metrics()
    reasons = {"voice": "agent voice is not analysed", "text": "no words that can be judged", "face": "no video"}
    absent = tuple(Absence(modality, reason) for modality, reason in reasons.items())  # type: ignore[arg-type]
    span, nothing = Span(0, 1_000_000), Affect("unknown", 0.0, {}, None, None, None)
    metrics.told(Moment("m", span, "caller", nothing, (), absent, None, None, 1.0, 1, True))
    metrics.told(Moment("m", span, "caller", nothing, (), absent, None, None, 1.0, 0, False))
    found = parsed(text_of(metrics))
    counted = {labels: value for (name, labels), value in found.items() if name == "affectline_modality_moments_total"}
    assert counted == {
        (("modality", "voice"), ("state", "withheld")): 1,
        (("modality", "text"), ("state", "unfit")): 1,
        (("modality", "face"), ("state", "no_input")): 1,
    }


def test_spans_arrive_over_otlp_when_the_server_stops() -> None:
    service = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    stubs = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc")
    came: list[Any] = []

    class Collector(stubs.TraceServiceServicer):  # type: ignore[misc, name-defined]
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
            came.append(request)
            return service.ExportTraceServiceResponse()

    collector = grpc.server(ThreadPoolExecutor(2))
    stubs.add_TraceServiceServicer_to_server(Collector(), collector)
    port = collector.add_insecure_port("127.0.0.1:0")
    collector.start()
    try:
        watching = observing.observation(ServerConfig(traces_endpoint=f"http://127.0.0.1:{port}"))
        with pytest.raises(ValueError, match="Thaddeus"), watching.span("Analyze"), watching.stage("recogniser"):
            raise ValueError(SAID)
        with watching.stage("recogniser"):
            pass  # in no RPC: no span
        watching.close()
    finally:
        collector.stop(None)
    (sent,) = came
    (resource,) = sent.resource_spans
    assert {"service.name", "service.version"} <= {each.key for each in resource.resource.attributes}
    inner, outer = resource.scope_spans[0].spans
    assert (inner.name, outer.name, inner.parent_span_id) == ("recogniser", "Analyze", outer.span_id)
    assert "Thaddeus" not in str(sent)


def test_the_dashboards_panels_lie_side_by_side() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
