"""The gRPC server as its clients see it: real sockets, real streams, and a session that needs no weights."""

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from threading import Event, current_thread, main_thread
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from affectline.models.errors import InvalidInputError, ModelMissingError
from affectline.models.signals import AudioChunk, EncodedFrame, Gap, Span, TextEvent
from affectline.pipelines.chat import ChatConfig
from affectline.pipelines.media import open_recording
from affectline.pipelines.pictures import decode
from affectline.pipelines.session import CallConfig, ConsentChange, Input
from affectline.pipelines.timeline import (
    Affect,
    CallTimeline,
    Camera,
    Cue,
    Moment,
    Notice,
    Output,
    Participant,
    SuggestionFeedback,
    Summary,
    Utterance,
    VideoCodec,
)
from affectline.protos.v1 import analyze_pb2, recordings_pb2, routing_pb2, timeline_pb2
from affectline.protos.v1.analyze_pb2_grpc import AnalyzeServiceStub
from affectline.protos.v1.recordings_pb2_grpc import RecordingServiceStub
from affectline.protos.v1.routing_pb2_grpc import RoutingServiceStub
from affectline.server import wire
from affectline.server.client import RemoteError, open_channel, stream_call
from affectline.server.config import ServerConfig
from affectline.server.main import Server
from affectline.server.services.analyze import DECODE_SHARE, VIDEO_SHARE, PictureBudget

from .films import drawn, film

pytestmark = pytest.mark.integration

RATE_HZ = 8_000
SECRET = "my card number is 4929"
BUF = Path(sys.executable).with_name("buf")
PARTICIPANTS = (Participant("caller", "customer", 0, "granted"), Participant("anna", "agent", 1, "granted"))


class LevelSession:
    """Says how loud each party was in each second, and repeats what was written."""

    def __init__(self, config: CallConfig) -> None:
        self._config = config
        self._sound = {each.channel: np.empty(0, np.float32) for each in config.participants}
        self._party = {each.channel: each.id for each in config.participants}
        self._moments: list[Moment] = []
        self._utterances: list[Utterance] = []
        self._notices: list[Notice] = []
        self.received_us = self.final_us = self.idle_until_us = 0

    def push(self, item: Input) -> list[Output]:
        match item:
            case AudioChunk():
                return list(self._hear(item))
            case TextEvent(text=text) if text == SECRET:
                raise RuntimeError(f"cannot work on {text!r}")
            case TextEvent(text=""):
                raise InvalidInputError("expected a text, found an empty one")
            case TextEvent():
                span = Span(item.at_us, item.at_us)
                written = Utterance("u", span, item.participant, item.text, (), "en", 1.0, True, 0)
                self._utterances.append(written)
                return [written]
            case SuggestionFeedback(suggestion_id="s1") | Gap() | ConsentChange() | EncodedFrame():
                self._notices.append(Notice("seen", type(item).__name__, 0))
                return [self._notices[-1]]
            case _:
                raise InvalidInputError("expected the id of a suggestion of this call, found another one")

    def _hear(self, chunk: AudioChunk) -> Iterable[Moment]:
        sound = np.concatenate((self._sound[chunk.channel], chunk.pcm))
        self.received_us = (chunk.start_sample + len(chunk.pcm)) * 1_000_000 // chunk.rate_hz
        while len(sound) >= chunk.rate_hz:
            second, sound = np.split(sound, [chunk.rate_hz])
            yield self._moment(self._party[chunk.channel], float(np.sqrt(np.mean(second**2))))
        self._sound[chunk.channel] = sound

    def _moment(self, party: str, level: float) -> Moment:
        number = sum(each.participant == party for each in self._moments)
        span = Span(number * 1_000_000, (number + 1) * 1_000_000)
        nothing = Affect("unknown", 0.0, {}, None, None, None)
        self._moments.append(Moment(f"{party}/{number}", span, party, nothing, (), (), None, level, 0.0, 0, True))
        self.final_us = span.end_us
        return self._moments[-1]

    def note(self, notice: Notice) -> None:
        self._notices.append(notice)

    def finish(self) -> list[Output]:
        self.final_us = self.received_us
        return []

    def timeline(self) -> CallTimeline:
        return CallTimeline(
            name=self._config.name,
            duration_us=self.received_us,
            rate_hz=self._config.rate_hz,
            participants=self._config.participants,
            utterances=tuple(self._utterances),
            moments=tuple(self._moments),
            suggestions=(),
            speech=(),
            vocal=(),
            dynamics=(),
            summary=Summary((), ()),
            notices=tuple(self._notices),
            models={"level": "rms@1"},
        )


class EchoChat:
    """Repeats what was written."""

    def __init__(self, config: ChatConfig) -> None:
        self._config = config
        self._utterances: list[Utterance] = []

    def push(self, turn: TextEvent) -> None:
        if turn.text == SECRET:
            raise RuntimeError(f"cannot work on {turn.text!r}")
        name, span = f"t{len(self._utterances)}", Span(turn.at_us, turn.at_us)
        language = turn.language or self._config.language or "en"
        said = Utterance(name, span, turn.participant, turn.text, (), language, 1.0, True, 1, written=True)
        self._utterances.append(said)

    def finish(self) -> CallTimeline:
        timeline = LevelSession(CallConfig(self._config.name, self._config.participants, RATE_HZ)).timeline()
        return replace(timeline, rate_hz=0, utterances=tuple(self._utterances))


@dataclass(frozen=True)
class Models:
    """What a server has loaded."""

    open: Callable[[CallConfig], LevelSession] = LevelSession
    open_chat: Callable[[ChatConfig], EchoChat] = EchoChat


class Running:
    """A server that runs, and what a client needs to talk to it."""

    def __init__(self, server: Server, port: int, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.address = f"127.0.0.1:{port}"
        self.channel = channel
        self.analyze = AnalyzeServiceStub(channel).Analyze
        self.analyze_text = AnalyzeServiceStub(channel).AnalyzeText
        self.recordings = RecordingServiceStub(channel)
        self.recommend = RoutingServiceStub(channel).Recommend

    async def health(self, service: str = "") -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        response = await health_pb2_grpc.HealthStub(self.channel).Check(request)  # type: ignore[attr-defined]
        return int(response.status)


Launch = Callable[..., Any]


@pytest.fixture
async def launch(tmp_path: Path) -> AsyncIterator[Launch]:
    spool = tmp_path / "spool"
    spool.mkdir()

    @asynccontextmanager
    async def run(factory: Any = LevelSession, open_chat: Any = EchoChat, **settings: Any) -> AsyncIterator[Running]:
        config = {"listen": "127.0.0.1:0", "workers": 2, "shutdown_grace_s": 0, "spool_dir": spool, **settings}
        server = Server(ServerConfig.model_validate(config))
        port = await server.start()
        try:
            if factory:
                await server.load(lambda: Models(factory, open_chat))
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Running(server, port, channel)
        finally:
            await server.stop()
        assert list(spool.iterdir()) == []  # nothing that was uploaded stays

    async with AsyncExitStack() as stack:

        async def start(*arguments: Any, **settings: Any) -> Running:
            return await stack.enter_async_context(run(*arguments, **settings))

        yield start


def tone(seconds: float) -> Any:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.stack([0.5 * np.sin(2 * np.pi * 200 * time_s), 0.25 * time_s / seconds], axis=1).astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    path = tmp_path / "call.wav"
    soundfile.write(path, tone(5.5), RATE_HZ, subtype="PCM_16")
    return path


def locally(path: Path) -> CallTimeline:
    session = LevelSession(CallConfig("a call", PARTICIPANTS, RATE_HZ))
    for chunk in open_recording(path).chunks():
        session.push(chunk)
    session.finish()
    timeline = session.timeline()
    in_order = sorted(timeline.moments, key=lambda each: (each.span, each.participant))
    return replace(timeline, moments=tuple(in_order))


def config(**changes: Any) -> analyze_pb2.AnalyzeRequest:
    audio = wire.AudioFormat("linear16", RATE_HZ, 2)
    message = wire.call_config(CallConfig("a call", PARTICIPANTS, RATE_HZ), audio)
    message.config.MergeFrom(analyze_pb2.CallConfig(**changes))
    return message


def sound(seconds: float = 1.0, **fields: Any) -> analyze_pb2.AnalyzeRequest:
    data = bytes(round(seconds * RATE_HZ) * 4)
    return analyze_pb2.AnalyzeRequest(audio=analyze_pb2.Audio(**{"data": data, **fields}))


def text(content: str, participant: str = "caller") -> analyze_pb2.AnalyzeRequest:
    return analyze_pb2.AnalyzeRequest(text=analyze_pb2.TextEvent(participant=participant, text=content))


async def talk(running: Running, *requests: analyze_pb2.AnalyzeRequest) -> list[wire.Reply | CallTimeline]:
    """All replies to these requests, the timeline last."""
    parts, replies = [], []
    async for message in running.analyze(iter(requests)):
        if message.HasField("timeline"):
            parts.append(message.timeline)
        else:
            replies.append(wire.reply_from_wire(message))
    return [*replies, wire.timeline_from_parts(parts)]


def codes(replies: Iterable[wire.Reply | CallTimeline]) -> list[str]:
    return [each.code for each in replies if isinstance(each, Notice)]


def details(error: grpc.RpcError, kind: type[Any]) -> Any:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    (packed,) = status.details
    unpacked = kind()
    assert packed.Unpack(unpacked)
    return unpacked


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


# Live calls


async def test_a_streamed_recording_gives_the_timeline(launch: Launch, wav: Path) -> None:
    running = await launch()
    call = stream_call(running.channel, open_recording(wav), CallConfig("a call", PARTICIPANTS, RATE_HZ), speed=None)
    replies = [reply async for reply in call]
    timeline = replies.pop()
    assert isinstance(timeline, CallTimeline)
    moments = [reply for reply in replies if isinstance(reply, Moment)]
    assert {each.id: each for each in moments} == {each.id: each for each in locally(wav).moments}
    assert len(moments) == 10
    cursors = [reply for reply in replies if isinstance(reply, wire.Cursor)]
    assert [each.received_us for each in cursors] == [1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000, 5_500_000]
    assert all(each.final_us <= each.received_us for each in cursors)
    assert sorted(timeline.moments, key=lambda each: (each.span, each.participant)) == list(locally(wav).moments)


class WatchingSession(LevelSession):
    """Keeps the frames that come, with how much sound had come before."""

    def __init__(self, config: CallConfig) -> None:
        super().__init__(config)
        self.cameras = config.cameras
        self.frames: list[tuple[EncodedFrame, int]] = []
        self.gaps: list[Gap] = []

    def push(self, item: Input) -> list[Output]:
        match item:
            case EncodedFrame():
                self.frames.append((item, self.received_us))
                return []
            case Gap():
                self.gaps.append(item)
                return []
            case _:
                return super().push(item)


async def streamed(launch: Launch, path: Path) -> tuple[WatchingSession, CallTimeline]:
    sessions: list[WatchingSession] = []

    def open_session(config: CallConfig) -> WatchingSession:
        sessions.append(WatchingSession(config))
        return sessions[0]

    running = await launch(open_session)
    recording = open_recording(path)
    cameras = (Camera("video", "caller", "front"),)
    parties = PARTICIPANTS[: recording.channels] if recording.has_sound else PARTICIPANTS
    call = CallConfig("a call", parties, recording.rate_hz, cameras=cameras)
    replies = [reply async for reply in stream_call(running.channel, recording, call, speed=None)]
    assert isinstance(replies[-1], CallTimeline)
    return sessions[0], replies[-1]


@pytest.mark.parametrize(
    ("name", "encoder", "codec", "turned"),
    [("call.mp4", "libx264", "h264", 90), ("call.webm", "libvpx", "vp8", 0), ("call.webm", "libvpx-vp9", "vp9", 0)],
)
async def test_a_films_own_frames_are_streamed_beside_its_sound(
    launch: Launch, tmp_path: Path, name: str, encoder: str, codec: VideoCodec, turned: int
) -> None:
    pictures = [drawn(number) for number in range(45)]
    path = film(tmp_path / name, pictures, codec=encoder, sound_s=3.0, turned=turned)
    session, timeline = await streamed(launch, path)
    assert session.cameras == (Camera("video", "caller", "front", codec, turned),)
    frames = list(open_recording(path).coded_frames("video"))
    assert [frame.image for frame, _ in session.frames] == [frame.image for frame in frames]
    assert [frame.at_us for frame, _ in session.frames] == [frame.at_us for frame in frames]
    assert all(abs(frame.at_us - received_us) < 400_000 for frame, received_us in session.frames)
    assert len(timeline.moments) == 3


async def test_a_film_that_no_live_stream_is_coded_like_is_sent_as_pictures(launch: Launch, tmp_path: Path) -> None:
    path = film(tmp_path / "call.mp4", [drawn(n) for n in range(45)], codec="mpeg4", sound_s=3.0, turned=90)
    session, _ = await streamed(launch, path)
    assert session.cameras == (Camera("video", "caller", "front"),)
    times = [picture.at_us for picture in open_recording(path).pictures("x", 200_000)]
    assert {frame.at_us for frame, _ in session.frames} <= set(times), "what the server had no time for is left out"
    assert session.frames[0][0].at_us == 0
    assert decode(session.frames[0][0]).rgb.shape == (160, 96, 3), "upright already"


async def test_a_film_without_sound_is_streamed_with_a_gap(launch: Launch, tmp_path: Path) -> None:
    session, timeline = await streamed(launch, film(tmp_path / "call.mp4", [drawn(number) for number in range(45)]))
    assert len(session.frames) == 45
    assert {gap.reason for gap in session.gaps} == {"no sound"}
    assert session.gaps[-1].span.end_us == pytest.approx(3_000_000, abs=100_000)
    assert timeline.moments == ()


async def test_a_stream_that_takes_too_long_is_left_out_and_the_sound_goes_on(launch: Launch) -> None:
    sessions: list[WatchingSession] = []

    class SlowSession(WatchingSession):
        def push(self, item: Input) -> list[Output]:
            if isinstance(item, EncodedFrame) and item.use != "skip":
                time.sleep(0.1)
            return super().push(item)

    def open_session(config: CallConfig) -> WatchingSession:
        sessions.append(SlowSession(config))
        return sessions[0]

    running = await launch(open_session)
    call = CallConfig("a call", PARTICIPANTS, RATE_HZ, cameras=(Camera("video", "caller", "front", "h264"),))
    requests = [wire.call_config(call, wire.AudioFormat("float32", RATE_HZ, 2))]
    for number in range(100):
        requests.append(wire.audio_float32(np.zeros((2, RATE_HZ // 10), np.float32), number * RATE_HZ // 10))
        requests.append(wire.video_frame(EncodedFrame("video", b"frame", number * 100_000)))
    started_s = time.monotonic()
    replies = [reply async for reply in running.analyze(iter(requests))]
    assert time.monotonic() - started_s < 5, "a tenth of a second for each would be ten"
    uses = [frame.use for frame, _ in sessions[0].frames]
    assert (len(uses), uses[:2]) == (100, ["look", "follow"])
    assert uses.count("skip") > 50
    assert sum(each.HasField("moment") for each in replies) == 2 * 10


async def test_real_time_takes_the_time_of_the_recording(launch: Launch, wav: Path) -> None:
    running = await launch()
    call_config = CallConfig("a call", PARTICIPANTS, RATE_HZ)
    started_s = time.monotonic()
    first_s = None
    async for reply in stream_call(running.channel, open_recording(wav), call_config, speed=5):
        if first_s is None and isinstance(reply, Moment):
            first_s = time.monotonic() - started_s
    assert first_s is not None
    assert 0.2 <= first_s < 0.9  # the first second has been heard, the call still runs
    assert 1.1 <= time.monotonic() - started_s < 3


async def test_the_end_of_the_stream_ends_the_call(launch: Launch) -> None:
    running = await launch()
    with_end = await talk(running, config(), sound(), wire.END)
    assert await talk(running, config(), sound()) == with_end


async def test_a_call_without_media_has_an_empty_timeline(launch: Launch) -> None:
    cursor, timeline = await talk(await launch(), config())
    assert cursor == wire.Cursor(0, 0)
    assert isinstance(timeline, CallTimeline)
    assert (timeline.duration_us, timeline.moments) == (0, ())


async def test_unusable_media_gets_a_notice_and_the_call_goes_on(launch: Launch) -> None:
    replies = await talk(
        await launch(),
        config(),
        sound(),
        sound(start_sample=4_000),
        text(""),
        text("x" * 20_000),
        text("thank you"),
        sound(),
    )
    assert codes(replies) == ["unusable_input"] * 3
    assert [each.text for each in replies if isinstance(each, Utterance)] == ["thank you"]
    timeline = replies[-1]
    assert isinstance(timeline, CallTimeline)
    assert timeline.duration_us == 2_000_000
    assert set(codes(timeline.notices)) == {"unusable_input"}


async def test_everything_reaches_the_session_in_order(launch: Launch) -> None:
    replies = await talk(
        await launch(),
        config(),
        analyze_pb2.AnalyzeRequest(video=analyze_pb2.VideoFrame(camera="front", image=b"JPEG")),
        analyze_pb2.AnalyzeRequest(gap=analyze_pb2.Gap(duration_us=500_000, reason=wire.GAP_REASONS["mute"])),
        analyze_pb2.AnalyzeRequest(consent=analyze_pb2.ConsentChange(participant="anna")),
    )
    seen = [each.message for each in replies if isinstance(each, Notice)]
    assert seen == ["EncodedFrame", "Gap", "Gap", "ConsentChange"]


async def test_the_longest_call_ends_with_its_timeline(launch: Launch) -> None:
    replies = await talk(await launch(max_call_s=2), config(), sound(), sound(), sound(0.1), sound())
    assert codes(replies) == ["call_too_long"]
    timeline = replies[-1]
    assert isinstance(timeline, CallTimeline)
    assert timeline.duration_us == 2_000_000
    assert codes(timeline.notices) == ["call_too_long"]


@pytest.mark.parametrize(
    ("requests", "field"),
    [
        ([], "config"),
        ([sound()], "config"),
        ([analyze_pb2.AnalyzeRequest()], "config"),
        ([config(), config()], "config"),
        ([config(), sound(), sound(data=bytes(7))], "audio.data"),
        ([config(), analyze_pb2.AnalyzeRequest()], "step"),
        ([config(audio_channel_count=1)], "config.participants[1].channel"),
        ([config(sample_rate_hertz=400)], "config.sample_rate_hertz"),
    ],
)
async def test_breaches_of_the_protocol_name_the_field(
    launch: Launch, requests: list[analyze_pb2.AnalyzeRequest], field: str
) -> None:
    running = await launch()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await talk(running, *requests)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = details(caught.value, error_details_pb2.BadRequest).field_violations
    assert violation.field == field
    assert "expected" in violation.description
    assert "found" in violation.description
    assert running.server.analyze.running == 0


async def test_too_many_calls_are_told_when_to_try_again(launch: Launch) -> None:
    running = await launch(max_calls=1)
    first = running.analyze()
    await first.write(config())
    await until(lambda: running.server.analyze.running == 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await talk(running, config())
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(caught.value, error_details_pb2.RetryInfo).retry_delay.seconds > 0
    first.cancel()  # a caller that goes away makes room
    await until(lambda: running.server.analyze.running == 0)
    assert len(await talk(running, config())) == 2


async def test_a_caller_that_goes_away_is_not_an_error(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    running = await launch()
    with caplog.at_level(logging.WARNING):
        for pause_s in (0, 0.01, 0.1):
            call = running.analyze()
            await call.write(config())
            await call.write(sound(20))
            await asyncio.sleep(pause_s)
            call.cancel()
            await until(lambda: running.server.analyze.running == 0)
    assert caplog.records == []


async def test_models_that_load_make_the_service_unavailable(launch: Launch) -> None:
    running = await launch(factory=None)
    assert await running.health() == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await talk(running, config())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details(caught.value, error_details_pb2.RetryInfo).retry_delay.seconds > 0
    await running.server.load(Models)
    assert await running.health("affectline.v1.AnalyzeService") == health_pb2.HealthCheckResponse.SERVING
    assert len(await talk(running, config())) == 2


async def test_missing_models_name_themselves(launch: Launch) -> None:
    def no_models(_: CallConfig) -> LevelSession:
        raise ModelMissingError("run `affectline models pull`")

    with pytest.raises(grpc.aio.AioRpcError, match="models pull") as caught:
        await talk(await launch(no_models), config())
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("requests", [[], [config(), sound()]])
async def test_an_idle_call_ends(launch: Launch, requests: list[analyze_pb2.AnalyzeRequest]) -> None:
    running = await launch(idle_timeout_s=0.2)
    call = running.analyze()
    for request in requests:
        await call.write(request)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [reply async for reply in call]
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert running.server.analyze.running == 0


async def test_a_caller_that_does_not_read_is_not_waited_for(launch: Launch) -> None:
    running = await launch(idle_timeout_s=0.5)
    call = running.analyze()
    await call.write(config())
    await until(lambda: running.server.analyze.running == 1)

    async def send() -> None:
        for _ in range(2_000):
            await call.write(text("x" * 16_000))

    sender = asyncio.create_task(send())
    await until(lambda: running.server.analyze.running == 0)
    call.cancel()
    with suppress(asyncio.CancelledError):
        await sender


async def test_messages_over_the_limit_are_refused(launch: Launch) -> None:
    running = await launch(max_message_bytes=100_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await talk(running, config(), sound(4))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    await until(lambda: running.server.analyze.running == 0)


async def test_failures_and_logs_keep_what_was_said(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    running = await launch()
    with caplog.at_level(logging.DEBUG), pytest.raises(grpc.aio.AioRpcError) as caught:
        await talk(running, config(), text(SECRET))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    logged = "\n".join(record.getMessage() + str(record.exc_info or "") for record in caplog.records)
    assert "RuntimeError" in logged
    assert " in push" in logged
    for private in (SECRET, "a call", "caller", "anna"):
        assert private not in logged
        assert private not in (caught.value.details() or "")
    assert "call " + logged.split("call ")[1].split()[0] in (caught.value.details() or "")


async def test_slow_work_blocks_neither_the_loop_nor_other_calls(launch: Launch) -> None:
    release = Event()

    class SlowSession(LevelSession):
        def push(self, item: Input) -> list[Output]:
            if self._config.name == "slow":
                release.wait(5)
            return super().push(item)

    running = await launch(SlowSession)
    slow = asyncio.create_task(talk(running, config(name="slow"), sound()))
    await until(lambda: running.server.analyze.running == 1)
    try:
        async with asyncio.timeout(3):
            assert len(await talk(running, config(), sound())) == 5
        assert not slow.done()
    finally:
        release.set()
    assert len(await slow) == 5


async def test_sound_that_is_only_kept_needs_no_thread(launch: Launch) -> None:
    on_loop: list[bool] = []

    class PatientSession(LevelSession):
        def __init__(self, config: CallConfig) -> None:
            super().__init__(config)
            self.idle_until_us = 1_000_000

        def push(self, item: Input) -> list[Output]:
            on_loop.append(current_thread() is main_thread())
            return super().push(item)

    after_a_loss = sound(0.25, start_sample=round(0.6 * RATE_HZ))
    running = await launch(PatientSession)
    await talk(running, config(), sound(0.25), sound(0.25), after_a_loss, sound(0.1), sound(0.05), text("thanks"))
    channels = len(PARTICIPANTS)
    assert on_loop == [True] * 2 * channels + [False] * channels + [True] * channels + [False] * channels + [False]


async def test_a_caller_that_sends_too_fast_is_slowed_down(launch: Launch) -> None:
    release = Event()

    class StuckSession(LevelSession):
        def push(self, item: Input) -> list[Output]:
            release.wait(10)
            return super().push(item)

    running = await launch(StuckSession)
    call = running.analyze()
    await call.write(config())
    sent = 0

    async def send() -> None:
        nonlocal sent
        for _ in range(100):
            await call.write(sound(30))  # about 1 MB
            sent += 1
        await call.done_writing()

    sender = asyncio.create_task(send())
    await asyncio.sleep(1)
    held_back_at = sent
    release.set()
    await sender
    replies = [reply async for reply in call]
    assert held_back_at < 50
    assert sum(each.HasField("moment") for each in replies) == 2 * 30 * 100


async def test_running_calls_may_end_before_the_server_stops(launch: Launch) -> None:
    running = await launch(shutdown_grace_s=5)
    call = running.analyze()
    await call.write(config())
    await until(lambda: running.server.analyze.running == 1)
    stopping = asyncio.create_task(running.server.stop())
    await asyncio.sleep(0.1)
    await call.write(sound())
    await call.done_writing()
    replies = [reply async for reply in call]
    assert replies[-1].HasField("timeline")
    await stopping


async def test_the_token_is_asked_for_except_by_health(launch: Launch) -> None:
    running = await launch(token="sesame")
    assert await running.health() == health_pb2.HealthCheckResponse.SERVING
    for metadata in ([], [("authorization", "Bearer wrong")], [("authorization", "sesame")]):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.recordings.ListRecordingJobs(recordings_pb2.ListRecordingJobsRequest(), metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            _ = [reply async for reply in running.analyze(iter([config()]), metadata=metadata)]
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    metadata = [("authorization", "Bearer sesame")]
    await running.recordings.ListRecordingJobs(recordings_pb2.ListRecordingJobsRequest(), metadata=metadata)


async def test_mutual_tls(launch: Launch, wav: Path, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command.split(), *names, "-keyout", key, "-out", cert], check=True, capture_output=True)
    running = await launch(tls_cert=cert, tls_key=key, tls_client_ca=cert)
    call_config = CallConfig("a call", PARTICIPANTS, RATE_HZ)
    async with open_channel(running.address, ca=cert, cert=cert, key=key) as channel:
        replies = [each async for each in stream_call(channel, open_recording(wav), call_config, speed=None)]
        assert isinstance(replies[-1], CallTimeline)
    for channel in (open_channel(running.address, ca=cert), open_channel(running.address)):
        async with channel:
            with pytest.raises(RemoteError) as caught:
                _ = [each async for each in stream_call(channel, open_recording(wav), call_config, speed=None)]
            assert caught.value.retryable


async def test_bad_certificates_are_named(launch: Launch, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("not a certificate")
    with pytest.raises(InvalidInputError, match=r"PEM files.*garbage\.pem"):
        await launch(tls_cert=garbage, tls_key=garbage)


async def test_the_client_reports_what_the_server_refused(launch: Launch, wav: Path) -> None:
    running = await launch()
    call_config = CallConfig("", PARTICIPANTS, RATE_HZ)
    with pytest.raises(RemoteError, match=r"INVALID_ARGUMENT: config.name: expected") as caught:
        _ = [each async for each in stream_call(running.channel, open_recording(wav), call_config)]
    assert not caught.value.retryable


async def test_the_client_reports_a_recording_that_cannot_be_read(launch: Launch, tmp_path: Path) -> None:
    running = await launch()
    path = tmp_path / "bad.wav"
    samples = tone(3)
    samples[-5] = np.nan
    soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")
    call_config = CallConfig("a call", PARTICIPANTS, RATE_HZ)
    with pytest.raises(InvalidInputError, match="finite"):
        _ = [each async for each in stream_call(running.channel, open_recording(path), call_config, speed=None)]
    await until(lambda: running.server.analyze.running == 0)


# Written conversations


def chat(*turns: tuple[str, str, int], **fields: Any) -> analyze_pb2.AnalyzeTextRequest:
    return analyze_pb2.AnalyzeTextRequest(
        **{
            "name": "a chat",
            "participants": map(wire.participant, PARTICIPANTS),
            "turns": [analyze_pb2.TextEvent(participant=who, text=text, at_us=at_us) for who, text, at_us in turns],
            **fields,
        }
    )


TURNS = (("caller", "hello", 0), ("anna", "good morning", 5_000_000))


async def write_to(running: Running, request: analyze_pb2.AnalyzeTextRequest) -> CallTimeline:
    return wire.timeline_from_parts([message.timeline async for message in running.analyze_text(request)])


async def test_a_chat_gives_its_timeline(launch: Launch) -> None:
    running = await launch()
    timeline = await write_to(running, chat(*TURNS, language="de"))
    assert (timeline.name, timeline.rate_hz) == ("a chat", 0)
    assert [(u.participant, u.text, u.span.start_us) for u in timeline.utterances] == list(TURNS)
    assert {u.language for u in timeline.utterances} == {"de"}
    assert (await write_to(running, chat())).utterances == ()
    await until(lambda: running.server.analyze.running == 0)


async def test_a_long_chat_comes_in_parts(launch: Launch) -> None:
    running = await launch()
    turns = [("caller", "x" * 1_000, n) for n in range(3_000)]
    parts = [message.timeline async for message in running.analyze_text(chat(*turns))]
    assert len(parts) > 2
    assert len(wire.timeline_from_parts(parts).utterances) == 3_000


async def test_all_that_is_wrong_with_a_chat_is_told_at_once(launch: Launch) -> None:
    running = await launch()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await write_to(running, chat(("boss", " ", 3), ("anna", "hello", 2), name=""))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    violations = details(caught.value, error_details_pb2.BadRequest).field_violations
    assert [each.field for each in violations] == ["name", "turns[0].participant", "turns[0].text", "turns[1].at_us"]
    assert all("expected" in each.description and "found" in each.description for each in violations)
    await until(lambda: running.server.analyze.running == 0)


async def test_a_chat_that_is_all_wrong_still_gets_its_answer(launch: Launch) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await write_to(await launch(), chat(*[("boss", "", -1)] * 5_000))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len(details(caught.value, error_details_pb2.BadRequest).field_violations) == wire.MAX_PROBLEMS


async def test_a_chat_over_the_message_limit_is_refused(launch: Launch) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await write_to(await launch(max_message_bytes=10_000), chat(("anna", "x" * 16_000, 0)))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_chat_counts_as_a_call(launch: Launch) -> None:
    running = await launch(max_calls=1)
    call = running.analyze()
    await call.write(config())
    await until(lambda: running.server.analyze.running == 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await write_to(running, chat(*TURNS))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(caught.value, error_details_pb2.RetryInfo).retry_delay.seconds > 0
    call.cancel()
    await until(lambda: running.server.analyze.running == 0)
    assert len((await write_to(running, chat(*TURNS))).utterances) == 2


async def test_chats_wait_for_the_models_with_the_advice_to_try_again(launch: Launch) -> None:
    running = await launch(factory=None)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await write_to(running, chat(*TURNS))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert details(caught.value, error_details_pb2.RetryInfo).retry_delay.seconds > 0


async def test_long_chats_let_calls_through_and_stop_when_nobody_waits(launch: Launch) -> None:
    pushed = 0

    class SlowChat(EchoChat):
        def push(self, turn: TextEvent) -> None:
            nonlocal pushed
            pushed += 1
            time.sleep(0.02)

    running = await launch(open_chat=SlowChat, workers=1)
    chats = [running.analyze_text(chat(*[("caller", "hello", 0)] * 5_000)) for _ in range(3)]
    readers = [asyncio.create_task(call.read()) for call in chats]
    await until(lambda: running.server.analyze.running == 3 and pushed > 3)
    async with asyncio.timeout(3):
        assert len(await talk(running, config(), sound())) == 5
    for call in chats:
        call.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    await until(lambda: running.server.analyze.running == 0)
    stopped_at = pushed
    await asyncio.sleep(0.2)
    assert pushed <= stopped_at + 1


async def test_failures_keep_what_was_written(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    running = await launch()
    with caplog.at_level(logging.DEBUG), pytest.raises(grpc.aio.AioRpcError) as caught:
        await write_to(running, chat(("caller", SECRET, 0)))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    logged = "\n".join(record.getMessage() + str(record.exc_info or "") for record in caplog.records)
    for private in (SECRET, "a chat", "caller", "anna"):
        assert private not in logged
        assert private not in (caught.value.details() or "")


# Recorded calls


def upload(path: Path, **changes: Any) -> list[recordings_pb2.CreateRecordingJobRequest]:
    fields = {"name": "a call", "participants": map(wire.participant, PARTICIPANTS), **changes}
    data = path.read_bytes()
    return [
        recordings_pb2.CreateRecordingJobRequest(config=recordings_pb2.RecordingConfig(**fields)),
        *(recordings_pb2.CreateRecordingJobRequest(data=data[at : at + 8_192]) for at in range(0, len(data), 8_192)),
    ]


async def send(running: Running, requests: Iterable[Any]) -> recordings_pb2.RecordingJob:
    """With the blocking client: the asyncio one may report INTERNAL when refused while it still writes (grpc#36066)."""
    with grpc.insecure_channel(running.address) as channel:
        return (await asyncio.to_thread(RecordingServiceStub(channel).CreateRecordingJob, iter(requests))).job


async def create(running: Running, path: Path, **changes: Any) -> recordings_pb2.RecordingJob:
    return await send(running, upload(path, **changes))


async def watch(running: Running, job_id: str) -> list[recordings_pb2.RecordingJob]:
    request = recordings_pb2.WatchRecordingJobRequest(id=job_id)
    return [response.job async for response in running.recordings.WatchRecordingJob(request)]


async def timeline_of(running: Running, job_id: str) -> CallTimeline:
    request = recordings_pb2.GetRecordingTimelineRequest(id=job_id)
    parts = [response.timeline async for response in running.recordings.GetRecordingTimeline(request)]
    return wire.timeline_from_parts(parts)


async def test_a_recording_gives_the_timeline_of_the_live_call(launch: Launch, wav: Path) -> None:
    running = await launch()
    job = await create(running, wav)
    assert (job.name, job.state in {recordings_pb2.JOB_STATE_QUEUED, recordings_pb2.JOB_STATE_RUNNING}) == (
        "a call",
        True,
    )
    states = await watch(running, job.id)
    assert states[-1].state == recordings_pb2.JOB_STATE_SUCCEEDED
    assert states[-1].progress == 1
    assert states[-1].end_time.ToDatetime() >= states[-1].create_time.ToDatetime()
    shares = [each.progress for each in states]
    assert shares == sorted(shares)
    recorded = await timeline_of(running, job.id)
    call = stream_call(running.channel, open_recording(wav), CallConfig("a call", PARTICIPANTS, RATE_HZ), speed=None)
    live = [reply async for reply in call][-1]
    assert isinstance(live, CallTimeline)
    by_id = {each.id: each for each in recorded.moments}
    assert by_id == {each.id: each for each in live.moments}
    assert replace(recorded, moments=()) == replace(live, moments=())


async def test_a_cut_recording_says_so(launch: Launch, wav: Path) -> None:
    running = await launch()
    wav.write_bytes(wav.read_bytes()[:-40_000])
    job = await create(running, wav)
    await watch(running, job.id)
    assert codes((await timeline_of(running, job.id)).notices) == ["truncated_recording"]


async def test_an_unreadable_recording_fails_its_job_with_the_reason(launch: Launch, tmp_path: Path) -> None:
    running = await launch()
    path = tmp_path / "notes.wav"
    path.write_text("these are not samples")
    done = (await watch(running, (await create(running, path)).id))[-1]
    assert done.state == recordings_pb2.JOB_STATE_FAILED
    assert done.error.startswith("the recording: expected")
    assert str(tmp_path) not in done.error
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await timeline_of(running, done.id)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_recording_needs_a_channel_per_party(launch: Launch, tmp_path: Path) -> None:
    running = await launch()
    path = tmp_path / "mono.wav"
    soundfile.write(path, tone(1)[:, 0], RATE_HZ)
    done = (await watch(running, (await create(running, path)).id))[-1]
    assert done.error == "expected participants on channels 0 to 0, which the recording has; found one on channel 1"


async def test_sending_a_request_again_gives_the_same_job(launch: Launch, wav: Path) -> None:
    running = await launch()
    first = await create(running, wav, request_id="r1")
    assert (await create(running, wav, request_id="r1")).id == first.id
    together = await asyncio.gather(*(create(running, wav, request_id="r2") for _ in range(3)))
    assert len({job.id for job in together}) == 1
    assert (await create(running, wav)).id != (await create(running, wav)).id
    with pytest.raises(grpc.RpcError) as caught:
        await create(running, wav, request_id="r1", name="another call")
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda requests: requests[1:], "config"),
        (lambda requests: [*requests, requests[0]], "data"),
        (lambda requests: requests[:1], "data"),
        (lambda requests: requests + requests[1:] * 3, "data"),
        (lambda requests: [], "config"),
    ],
)
async def test_bad_uploads_leave_nothing(
    launch: Launch, wav: Path, change: Callable[[list[Any]], list[Any]], field: str
) -> None:
    running = await launch(max_upload_bytes=200_000)
    with pytest.raises(grpc.RpcError) as caught:
        await send(running, change(upload(wav)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = details(caught.value, error_details_pb2.BadRequest).field_violations
    assert violation.field == field
    assert (await running.recordings.ListRecordingJobs(recordings_pb2.ListRecordingJobsRequest())).jobs == []


async def test_jobs_wait_run_and_are_cancelled(launch: Launch, wav: Path) -> None:
    release = Event()

    class SlowSession(LevelSession):
        def push(self, item: Input) -> list[Output]:
            release.wait(10)
            return super().push(item)

    running = await launch(SlowSession, max_pending_jobs=2, max_jobs=2)
    try:
        first, second = await create(running, wav), await create(running, wav)
        with pytest.raises(grpc.RpcError) as caught:
            await create(running, wav)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(caught.value, error_details_pb2.RetryInfo).retry_delay.seconds > 0
        await running.recordings.CancelRecordingJob(recordings_pb2.CancelRecordingJobRequest(id=second.id))
        assert (await watch(running, second.id))[-1].state == recordings_pb2.JOB_STATE_CANCELLED
        third = await create(running, wav)  # takes the place of the one that was cancelled
        found = await running.recordings.ListRecordingJobs(recordings_pb2.ListRecordingJobsRequest())
        assert [job.id for job in found.jobs] == [first.id, third.id]
        await running.recordings.CancelRecordingJob(recordings_pb2.CancelRecordingJobRequest(id=first.id))
    finally:
        release.set()
    assert (await watch(running, first.id))[-1].state == recordings_pb2.JOB_STATE_CANCELLED
    assert (await watch(running, third.id))[-1].state == recordings_pb2.JOB_STATE_SUCCEEDED
    again = await running.recordings.CancelRecordingJob(recordings_pb2.CancelRecordingJobRequest(id=third.id))
    assert again.job.state == recordings_pb2.JOB_STATE_SUCCEEDED


async def test_lists_come_in_pages(launch: Launch, wav: Path) -> None:
    running = await launch()
    ids = [(await create(running, wav)).id for _ in range(5)]
    found: list[list[str]] = []
    token = ""
    while not found or token:
        request = recordings_pb2.ListRecordingJobsRequest(page_size=2, page_token=token)
        response = await running.recordings.ListRecordingJobs(request)
        found.append([job.id for job in response.jobs])
        token = response.next_page_token
    assert found == [ids[:2], ids[2:4], ids[4:]]
    for bad in ({"page_token": "nonsense"}, {"page_token": "٣"}, {"page_size": -1}):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.recordings.ListRecordingJobs(recordings_pb2.ListRecordingJobsRequest(**bad))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_unknown_jobs_are_not_found(launch: Launch) -> None:
    running = await launch()
    stub = running.recordings
    for request in (
        lambda: stub.GetRecordingJob(recordings_pb2.GetRecordingJobRequest(id="none")),
        lambda: stub.CancelRecordingJob(recordings_pb2.CancelRecordingJobRequest(id="none")),
        lambda: watch(running, "none"),
        lambda: timeline_of(running, "none"),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await request()
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


# A client that knows only reflection


async def curl(running: Running, method: str, *bodies: Any) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        BUF,
        *("curl", "--protocol", "grpc", "--http2-prior-knowledge", "--data", "@-"),
        f"http://{running.address}/{method}",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate("".join(map(json.dumps, bodies)).encode())
    return process.returncode or 0, (out + err).decode()


async def test_other_clients_find_everything_by_reflection(launch: Launch) -> None:
    running = await launch()
    _, found = await curl(running, "grpc.health.v1.Health/Check", {"service": "affectline.v1.RecordingService"})
    assert json.loads(found) == {"status": "SERVING"}
    assert await curl(running, "affectline.v1.RecordingService/ListRecordingJobs", {}) == (0, "{}\n")
    _, found = await curl(running, "affectline.v1.RecordingService/GetRecordingJob", {"id": "none"})
    assert json.loads(found)["code"] == "not_found"
    party = {"id": "caller", "role": "ROLE_CUSTOMER", "consent": "CONSENT_GRANTED"}
    call = {"name": "a call", "participants": [party], "encoding": "AUDIO_ENCODING_LINEAR16", "audioChannelCount": 1}
    _, found = await curl(running, "affectline.v1.AnalyzeService/Analyze", {"config": call})
    assert json.loads(found)["code"] == "invalid_argument"
    assert "config.sample_rate_hertz: expected 8000 to 192000, found 0" in found
    call["sampleRateHertz"] = RATE_HZ
    requests = [{"config": call}, {"text": {"participant": "caller", "text": "thank you"}}, {"end": {}}]
    code, found = await curl(running, "affectline.v1.AnalyzeService/Analyze", *requests)
    assert code == 0
    assert '"text": "thank you"' in found
    assert "affectline.timeline/1" in found


# Feedback


def feedback(suggestion_id: str, verdict: int = 2) -> analyze_pb2.AnalyzeRequest:
    message = timeline_pb2.SuggestionFeedback(suggestion_id=suggestion_id, verdict=verdict)  # type: ignore[arg-type]
    return analyze_pb2.AnalyzeRequest(feedback=message)


async def test_feedback_reaches_the_session_and_unknown_suggestions_do_not_end_the_call(launch: Launch) -> None:
    running = await launch()
    *replies, timeline = await talk(running, config(), feedback("s1"), feedback("s9"), feedback("s1", 0), sound())
    assert codes(replies) == ["seen", "unusable_input", "unusable_input"]
    assert isinstance(timeline, CallTimeline)
    assert timeline.notices[1].message == "expected the id of a suggestion of this call, found another one"
    assert timeline.moments


# Routing


async def test_a_recommendation_needs_no_models_unless_something_was_said(launch: Launch) -> None:
    running = await launch(factory=None)
    request = routing_pb2.RecommendRequest(intent="cancel")
    found = (await running.recommend(request)).recommendation
    assert (found.queue, found.priority, found.rule, found.config) == ("retention", 2, "wants-to-leave", "default@1")
    assert [reason.text for reason in found.reasons] == ["Declared intent: cancel."]
    assert (await running.recommend(routing_pb2.RecommendRequest())).recommendation.queue == "general"
    request.ivr_utterances.append("I want to leave.")
    assert (await running.recommend(request)).recommendation.withheld[0].startswith("what was said to the voice menu")
    request.consent = 1
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await running.recommend(request)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_running_call_can_be_routed_by_its_timeline(launch: Launch) -> None:
    running = await launch()
    said = Utterance("u1", Span(0, 2_000_000), "caller", "Get me a manager.", (), "en", 0.9, True, 1)
    said = replace(said, cues=(Cue("escalation", "get me a manager", said.span, "frustrated"),))
    nothing = LevelSession(CallConfig("a call", PARTICIPANTS, RATE_HZ)).timeline()
    (call,) = wire.timeline_parts(replace(nothing, utterances=(said,)))
    found = (await running.recommend(routing_pb2.RecommendRequest(call=call))).recommendation
    assert (found.queue, found.priority) == ("supervisor", 3)
    assert [list(reason.because) for reason in found.reasons] == [["u1"], ["u1"]]
    objected = routing_pb2.RecommendRequest(call=call, emotion_routing_objected=True)
    assert (await running.recommend(objected)).recommendation.queue == "general"


async def test_a_bad_routing_request_names_its_fields(launch: Launch) -> None:
    running = await launch()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await running.recommend(routing_pb2.RecommendRequest(intent="x" * 65, language="english"))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    violations = details(refusal.value, error_details_pb2.BadRequest).field_violations
    assert [each.field for each in violations] == ["intent", "language"]


async def test_what_was_said_to_the_menu_is_not_logged(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "affectline")
    running = await launch()
    request = routing_pb2.RecommendRequest(intent="my secret intent", ivr_utterances=[SECRET], consent=1)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await running.recommend(request)
    assert refusal.value.code() is grpc.StatusCode.INTERNAL
    assert SECRET not in caplog.text + (refusal.value.details() or "")
    assert "secret intent" not in caplog.text


async def test_a_routing_file_that_is_not_sound_keeps_the_server_from_starting(launch: Launch, tmp_path: Path) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text("name: ours\nversion: 1\nqueues: []\ndefault_queue: desk\n")
    with pytest.raises(InvalidInputError, match=r"routing\.yaml line 3: queues: "):
        await launch(routing=path)


def test_pictures_take_their_share_of_time_and_no_more() -> None:
    now_s = 0.0
    budget = PictureBudget(lambda: now_s)
    taken = 0
    for _ in range(1_000):  # a picture every 20 ms, each 40 ms of work
        if budget.take() == "look":
            taken += 1
            now_s += 0.04
            budget.done()
        now_s += 0.02
    assert 0.04 * taken / now_s == pytest.approx(VIDEO_SHARE, abs=0.05)


@pytest.mark.parametrize(
    ("decode_s", "skips"),
    [(0.001, False), (0.01, False), (0.05, True), (0.3, True)],
    ids=["cheap", "just so", "too slow", "hopeless"],
)
def test_a_stream_is_decoded_while_there_is_time_and_looked_at_now_and_then(decode_s: float, skips: bool) -> None:
    now_s, spent_s = 0.0, 0.0
    budget = PictureBudget(lambda: now_s)
    uses = []
    for number in range(4_000):  # 15 frames a second, each 20 ms more when it is looked at
        now_s = max(now_s, number / 15)
        uses.append(budget.take())
        took_s = {"look": decode_s + 0.02, "follow": decode_s, "skip": 0.0}[uses[-1]]
        now_s += took_s
        spent_s += took_s
        budget.done()
    assert spent_s / now_s < VIDEO_SHARE + DECODE_SHARE + 0.03
    assert ("skip" in uses) == skips
    assert uses.count("look") / now_s > 0.5
    # After a skip the first frame that is taken again is looked at: none is decoded for nothing.
    assert all(use != "follow" for before, use in pairwise(uses) if before == "skip")
