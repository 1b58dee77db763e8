"""Callers: calls streamed in real time from processes of their own, and when which reply came.

They do as little as can be, so that the load is the server's and not theirs: sound is coded beforehand, and of a reply
only what it is about and when it came is kept.
"""

import asyncio
import multiprocessing
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import grpc

from affectline.protos.v1 import analyze_pb2, timeline_pb2
from affectline.protos.v1.analyze_pb2_grpc import AnalyzeServiceStub

CALLS_PER_PROCESS: Final = 16
START_WITHIN_S: Final = 6.0
"""Time that the processes get to come up before the first call begins."""

Kind = Literal["utterance", "moment", "suggestion", "speech_turn", "notice", "cursor"]


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording as it goes over the wire; both parties interleaved."""

    name: str
    data: bytes
    frame_bytes: int
    """Of one sample time of both parties."""
    rate_hz: int
    encoding: Literal["mulaw", "linear16"]

    @property
    def frames(self) -> int:
        return len(self.data) // self.frame_bytes

    def piece(self, start_frame: int, frames: int) -> bytes:
        """The recording looped without an end."""
        start, left = start_frame % self.frames * self.frame_bytes, frames * self.frame_bytes
        parts = []
        while left > 0:
            parts.append(self.data[start : start + left])
            left -= len(parts[-1])
            start = 0
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Caller:
    """One call to make."""

    number: int
    config: bytes
    """The first message, serialised."""
    sound: int
    """Which of the sounds."""
    offset_frame: int
    """Where in the recording the call begins."""
    frames: int
    """Length of the call."""
    chunk_frames: int
    start_s: float
    """On the monotonic clock, which all processes share."""
    patience_s: float
    """After its last sample a call that has not ended is given up."""
    speed: float | None = 1.0
    """Times real time; None sends as fast as the server takes it."""
    breaks_off: bool = False
    """It goes without a word after its last sample."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One reply, and when it came."""

    at_s: float
    kind: Kind
    id: str
    """Of a notice, its code."""
    participant: str
    start_us: int
    end_us: int
    """Of a suggestion, when it was made."""
    final: bool
    """Of a suggestion, whether it is a new one."""
    because: tuple[str, ...] = ()


@dataclass(slots=True)
class CallLog:
    """What came of one call; times on the monotonic clock."""

    number: int
    began_s: float = 0.0
    """Its media's time 0."""
    marks: list[Mark] = field(default_factory=list)
    said_end_s: float | None = None
    """When the end of the call was sent."""
    closed_s: float = 0.0
    """When the stream was over."""
    status: str = "OK"
    timeline: bytes = b""
    """A serialised Timeline; empty where none came."""
    late_s: list[float] = field(default_factory=list)
    """Per message, how late this process was with it, its waiting for the server not counted."""
    blocked_s: float = 0.0
    """Waited for the server to take messages (flow control), in all."""


@dataclass(frozen=True, slots=True)
class Calls:
    logs: list[CallLog]
    """In the order of the callers."""
    client_cpu_s: float
    """User and system time of the callers' processes while they made calls."""


def make_calls(
    address: str,
    callers: Sequence[Caller],
    sounds: Sequence[Sound],
    token: str | None = None,
    *,
    processes: int | None = None,
) -> Calls:
    """Makes all calls and waits until they are over; one process for 16 of them unless told otherwise."""
    groups = processes or -(-len(callers) // CALLS_PER_PROCESS)
    with ProcessPoolExecutor(groups, multiprocessing.get_context("spawn")) as pool:
        waiting = [pool.submit(_group, address, callers[g::groups], sounds, token) for g in range(groups)]
        done = [each.result() for each in waiting]
    logs = sorted((log for group, _ in done for log in group), key=lambda log: log.number)
    return Calls(logs, sum(cpu_s for _, cpu_s in done))


def _group(
    address: str, callers: Sequence[Caller], sounds: Sequence[Sound], token: str | None
) -> tuple[list[CallLog], float]:
    return asyncio.run(_calls(address, callers, sounds, token))


async def _calls(
    address: str, callers: Sequence[Caller], sounds: Sequence[Sound], token: str | None
) -> tuple[list[CallLog], float]:
    began = os.times()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = AnalyzeServiceStub(channel)
        logs = await asyncio.gather(*(_call(stub, caller, sounds[caller.sound], token) for caller in callers))
    ended = os.times()
    return list(logs), ended.user + ended.system - began.user - began.system


async def _call(stub: Any, caller: Caller, sound: Sound, token: str | None) -> CallLog:
    log = CallLog(caller.number)
    await asyncio.sleep(caller.start_s - time.monotonic())
    call = stub.Analyze(metadata=[("authorization", f"Bearer {token}")] if token else [])
    sender = asyncio.create_task(_send(call, caller, sound, log))
    try:
        media_s = caller.frames / sound.rate_hz / (caller.speed or 1.0)
        async with asyncio.timeout(media_s + caller.patience_s):
            await _receive(call, log)
    except grpc.aio.AioRpcError as error:
        log.status = error.code().name
    except asyncio.CancelledError:
        if not caller.breaks_off:
            raise
        log.status = "BROKE_OFF"
    except TimeoutError:
        log.status = "GIVEN_UP"
    finally:
        log.closed_s = time.monotonic()
        sender.cancel()
        call.cancel()
        await asyncio.gather(sender, return_exceptions=True)
    return log


async def _send(call: Any, caller: Caller, sound: Sound, log: CallLog) -> None:
    try:
        await call.write(analyze_pb2.AnalyzeRequest.FromString(caller.config))
        log.began_s = began_s = time.monotonic()
        sent = 0
        free_s = began_s
        while sent < caller.frames:
            frames = min(caller.chunk_frames, caller.frames - sent)
            if caller.speed is not None:
                due_s = began_s + (sent + frames) / sound.rate_hz / caller.speed
                await asyncio.sleep(due_s - time.monotonic())
                log.late_s.append(time.monotonic() - max(due_s, free_s))
            data = sound.piece(caller.offset_frame + sent, frames)
            before_s = time.monotonic()
            await call.write(analyze_pb2.AnalyzeRequest(audio=analyze_pb2.Audio(data=data)))
            free_s = time.monotonic()
            log.blocked_s += free_s - before_s
            sent += frames
        if caller.breaks_off:
            call.cancel()
            return
        await call.write(analyze_pb2.AnalyzeRequest(end=analyze_pb2.End()))
        log.said_end_s = time.monotonic()
        await call.done_writing()
    except (grpc.RpcError, asyncio.InvalidStateError):
        pass  # the server has ended the call; its status reaches the reader


async def _receive(call: Any, log: CallLog) -> None:
    parts = timeline_pb2.Timeline()
    async for message in call:
        at_s = time.monotonic()
        match message.WhichOneof("reply"):
            case "timeline":
                parts.MergeFrom(message.timeline)
            case "utterance":
                it = message.utterance
                mark = Mark(at_s, "utterance", it.id, it.participant, it.span.start_us, it.span.end_us, it.is_final)
                log.marks.append(mark)
            case "moment":
                it = message.moment
                mark = Mark(at_s, "moment", it.id, it.participant, it.span.start_us, it.span.end_us, it.is_final)
                log.marks.append(mark)
            case "suggestion":
                it = message.suggestion
                because = tuple(it.because)
                new = it.revision == 0
                log.marks.append(
                    Mark(at_s, "suggestion", it.id, it.participant, it.created_us, it.created_us, new, because)
                )
            case "speech_turn":
                it = message.speech_turn
                log.marks.append(Mark(at_s, "speech_turn", "", it.participant, it.span.start_us, it.span.end_us, True))
            case "notice":
                it = message.notice
                log.marks.append(Mark(at_s, "notice", it.code, it.participant, it.at_us, it.at_us, True))
            case "cursor":
                it = message.cursor
                log.marks.append(Mark(at_s, "cursor", "", "", it.final_us, it.received_us, True))
    log.timeline = parts.SerializeToString()
