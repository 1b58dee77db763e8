"""A client of the live path: streams a recording to a server as if the call were running."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import groupby
from pathlib import Path

import grpc
import numpy as np

from affectline.models.errors import AffectlineError
from affectline.pipelines.media import Recording
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline
from affectline.protos.v1 import analyze_pb2, timeline_pb2
from affectline.protos.v1.analyze_pb2_grpc import AnalyzeServiceStub
from affectline.server import wire

MESSAGES_PER_S = 10
"""Per second of audio."""

_Call = grpc.aio.StreamStreamCall[analyze_pb2.AnalyzeRequest, analyze_pb2.AnalyzeResponse]


class RemoteError(AffectlineError):
    """The server refused, failed or cannot be reached."""

    def __init__(self, code: grpc.StatusCode, details: str | None) -> None:
        super().__init__(f"{code.name}: {details or 'no details'}")
        self.code = code
        self.retryable = code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}


def open_channel(
    address: str, *, ca: Path | None = None, cert: Path | None = None, key: Path | None = None
) -> grpc.aio.Channel:
    """A channel to HOST:PORT; with TLS when `ca` is given, with mutual TLS when `cert` and `key` are, too."""
    if ca is None:
        return grpc.aio.insecure_channel(address)
    credentials = grpc.ssl_channel_credentials(
        ca.read_bytes(), key.read_bytes() if key else None, cert.read_bytes() if cert else None
    )
    return grpc.aio.secure_channel(address, credentials)


async def stream_call(
    channel: grpc.aio.Channel,
    recording: Recording,
    config: CallConfig,
    *,
    speed: float | None = 1.0,
    token: str | None = None,
) -> AsyncIterator[wire.Reply | CallTimeline]:
    """Streams the recording and yields the replies as they come; the last one is the complete timeline.

    `speed`: times real time, above 0; None sends as fast as the server takes it. Raises RemoteError when
    the server refuses or fails, and InvalidInputError when the recording cannot be read.
    """
    metadata = [("authorization", f"Bearer {token}")] if token else []
    call = AnalyzeServiceStub(channel).Analyze(metadata=metadata)
    sender = asyncio.create_task(_send(call, recording, config, speed))
    parts: list[timeline_pb2.Timeline] = []
    try:
        async for message in call:
            if message.HasField("timeline"):
                parts.append(message.timeline)
            else:
                yield wire.reply_from_wire(message)
        yield wire.timeline_from_parts(parts)
    except grpc.aio.AioRpcError as error:
        raise RemoteError(error.code(), error.details()) from error
    except asyncio.CancelledError:
        if sender.done() and not sender.cancelled() and (failure := sender.exception()):
            raise failure from None
        raise
    finally:
        sender.cancel()
        call.cancel()


async def _send(call: _Call, recording: Recording, config: CallConfig, speed: float | None) -> None:
    clock = asyncio.get_running_loop().time
    try:
        audio = wire.AudioFormat("float32", recording.rate_hz, recording.channels)
        await call.write(wire.call_config(config, audio))
        start_s = clock()
        messages = _audio(recording)
        while found := await asyncio.to_thread(next, messages, None):
            message, end_s = found
            if speed is not None:
                await asyncio.sleep(start_s + end_s / speed - clock())
            await call.write(message)
        await call.write(wire.END)
        await call.done_writing()
    except (grpc.RpcError, asyncio.InvalidStateError):
        pass  # the server has ended the call; its status reaches the reader
    except Exception:
        call.cancel()  # wakes the reader, which raises this error
        raise


def _audio(recording: Recording) -> Iterator[tuple[analyze_pb2.AnalyzeRequest, float]]:
    """(message, second of the recording at which it ends)"""
    chunks = recording.chunks(recording.rate_hz // MESSAGES_PER_S)
    for start, channels in groupby(chunks, lambda chunk: chunk.start_sample):
        pcm = np.stack([chunk.pcm for chunk in channels])
        yield wire.audio_float32(pcm, start), (start + pcm.shape[1]) / recording.rate_hz
