"""A call streamed live and the same call as a recording, through a server process with the real networks."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
import soundfile
from grpc_health.v1 import health_pb2, health_pb2_grpc

from affectline.models.signals import AudioChunk, TextEvent
from affectline.pipelines.chat import ChatConfig, analyze_chat
from affectline.pipelines.chat_file import read_chat
from affectline.pipelines.media import open_recording
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline, Moment, Participant, Utterance
from affectline.protos.v1 import analyze_pb2, recordings_pb2
from affectline.protos.v1.analyze_pb2_grpc import AnalyzeServiceStub
from affectline.protos.v1.recordings_pb2_grpc import RecordingServiceStub
from affectline.server import wire
from affectline.server.client import stream_call
from affectline.server.engine import Engine

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples/dealership_call.flac"
SECONDS = 25


@asynccontextmanager
async def server_process(**environment: str) -> AsyncIterator[Process]:
    settings = {"PYTHONPATH": str(ROOT / ".pkgroot"), "AFFECTLINE_LISTEN": "127.0.0.1:0", **environment}
    command = (sys.executable, "-m", "affectline.server.main")
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **settings}, stderr=PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def logged(process: Process, pattern: str) -> re.Match[str]:
    assert process.stderr
    async with asyncio.timeout(60):
        async for line in process.stderr:
            if found := re.search(pattern, line.decode()):
                return found
    raise AssertionError(f"the server ended without logging {pattern!r}")


@pytest.fixture
def excerpt(tmp_path: Path) -> Path:
    path = tmp_path / "call.flac"
    samples, rate_hz = soundfile.read(EXAMPLE, dtype="int16")
    soundfile.write(path, samples[: SECONDS * rate_hz], rate_hz)
    return path


def config_of(path: Path) -> CallConfig:
    participants = (Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))
    return CallConfig("an example", participants, open_recording(path).rate_hz, language="en")


async def recorded(channel: grpc.aio.Channel, path: Path) -> CallTimeline:
    stub = RecordingServiceStub(channel)
    config = config_of(path)
    message = recordings_pb2.RecordingConfig(
        name=config.name, participants=map(wire.participant, config.participants), language=config.language
    )
    steps = [
        recordings_pb2.CreateRecordingJobRequest(config=message),
        recordings_pb2.CreateRecordingJobRequest(data=path.read_bytes()),
    ]
    job = (await stub.CreateRecordingJob(iter(steps))).job
    async for response in stub.WatchRecordingJob(recordings_pb2.WatchRecordingJobRequest(id=job.id)):
        job = response.job
    assert job.error == ""
    parts = stub.GetRecordingTimeline(recordings_pb2.GetRecordingTimelineRequest(id=job.id))
    return wire.timeline_from_parts([part.timeline async for part in parts])


def here(path: Path) -> CallTimeline:
    session = Engine().open(config_of(path))
    for chunk in open_recording(path).chunks():
        session.push(chunk)
    session.finish()
    return session.timeline()


async def test_all_paths_give_the_same_timeline(excerpt: Path) -> None:
    async with server_process(OMP_NUM_THREADS="1") as process:  # arithmetic must not depend on it
        port = (await logged(process, r"listening on 127\.0\.0\.1:(\d+)"))[1]
        await logged(process, "ready$")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            check = health_pb2_grpc.HealthStub(channel).Check  # type: ignore[attr-defined]
            assert (await check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING

            config = replace(config_of(excerpt), interim_results=True)
            replies = [each async for each in stream_call(channel, open_recording(excerpt), config, speed=None)]
            live = replies.pop()
            assert isinstance(live, CallTimeline)
            # On a busy machine partial results may be left out; that is told, and changes nothing else.
            live = replace(live, notices=tuple(each for each in live.notices if each.code != "partials_skipped"))
            assert await recorded(channel, excerpt) == live
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            assert await process.wait() == 0

    assert here(excerpt) == live
    assert live.duration_us == SECONDS * 1_000_000
    assert {each.participant for each in live.utterances} == {"customer", "agent"}
    final = {each.id: each for each in replies if isinstance(each, Moment) and each.final}
    assert final == {each.id: each.as_live() for each in live.moments}
    spoken = {each.id: each for each in replies if isinstance(each, Utterance) and each.final}
    assert spoken == {each.id: each for each in live.utterances}


async def test_missing_models_stop_the_server_with_advice(tmp_path: Path) -> None:
    async with server_process(AFFECTLINE_MODELS=str(tmp_path)) as process:
        await logged(process, r"error: .*models pull")
        assert await process.wait() == 1


async def test_an_address_in_use_is_named() -> None:
    async with server_process() as first:
        port = (await logged(first, r"listening on 127\.0\.0\.1:(\d+)"))[1]
        await logged(first, "ready$")
        async with server_process(AFFECTLINE_LISTEN=f"127.0.0.1:{port}") as second:
            await logged(second, rf"error: expected a free address to listen on, found 127\.0\.0\.1:{port}")
            assert await second.wait() == 1


PARTIES = (Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))


async def test_a_chat_over_the_wire_ends_in_the_same_timeline(engine: Engine) -> None:
    turns = read_chat(ROOT / "examples/chat.jsonl", {}).turns
    request = analyze_pb2.AnalyzeTextRequest(
        name="chat.jsonl",
        participants=map(wire.participant, PARTIES),
        turns=[analyze_pb2.TextEvent(participant=t.participant, text=t.text, at_us=t.at_us) for t in turns],
    )
    async with server_process() as process:
        port = (await logged(process, r"listening on .*:(\d+)"))[1]
        await logged(process, "ready")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            parts = [reply.timeline async for reply in AnalyzeServiceStub(channel).AnalyzeText(request)]
    assert wire.timeline_from_parts(parts) == analyze_chat(ChatConfig("chat.jsonl", PARTIES), turns, engine.open_chat)


def test_turns_written_into_a_call_say_the_same_as_a_chat(engine: Engine) -> None:
    said = (
        ("customer", "This is the third time I'm calling and nobody called me back", 0),
        ("agent", "I am sorry to hear that", 9),
        ("customer", "I want to speak to your manager right now, this is ridiculous", 30),
        ("agent", "I will put you through", 60),
        ("customer", "okay, thank you so much", 70),
    )
    turns = [TextEvent(who, text, at_s * 1_000_000) for who, text, at_s in said]
    chat = analyze_chat(ChatConfig("a chat", PARTIES), turns, engine.open_chat)
    session = engine.open(CallConfig("a chat", PARTIES, 8_000))
    for second in range(80):
        for turn in turns:
            if turn.at_us == second * 1_000_000:
                session.push(turn)
        for channel in range(2):
            session.push(AudioChunk(channel, np.zeros(8_000, np.float32), 8_000, second * 8_000))
    session.finish()
    live = session.timeline()
    assert [(u.text, u.span, u.cues, u.language) for u in chat.utterances] == [
        (u.text, u.span, u.cues, u.language) for u in live.utterances
    ]
    said_then = {(m.participant, m.span): [c.estimate.scores for c in m.contributors] for m in live.moments}
    for moment in chat.moments:
        assert said_then[moment.participant, moment.span] == [c.estimate.scores for c in moment.contributors]
    assert {m.affect.label for m in chat.moments} >= {"frustrated", "grateful"}
