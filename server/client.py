"""A client of the live path: streams a recording to a server as if the call were running."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from heapq import merge
from itertools import groupby
from pathlib import Path

import cv2
import grpc
import numpy as np

from affectline.models.errors import AffectlineError
from affectline.models.signals import EncodedFrame
from affectline.pipelines.media import Recording
from affectline.pipelines.mono import MonoConfig
from affectline.pipelines.pictures import PICTURE_EVERY_US
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline
from affectline.protos.v1 import analyze_pb2, timeline_pb2
from affectline.protos.v1.analyze_pb2_grpc import AnalyzeServiceStub
from affectline.server import wire

MESSAGES_PER_S = 10
"""Per second of audio."""

_Message = tuple[analyze_pb2.AnalyzeRequest, float]
"""What is sent, and at which second of the recording."""

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
    config: CallConfig | MonoConfig,
    *,
    speed: float | None = 1.0,
    token: str | None = None,
) -> AsyncIterator[wire.Reply | CallTimeline]:
    """Streams the recording and yields the replies as they come; the last one is the complete timeline.

    Its video is streamed as that of the first camera: as the file has it, or as JPEG pictures when no live stream is
    coded like that.

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


async def _send(call: _Call, recording: Recording, config: CallConfig | MonoConfig, speed: float | None) -> None:
    clock = asyncio.get_running_loop().time
    try:
        if isinstance(config, MonoConfig):
            await call.write(wire.mono_config(config, wire.AudioFormat("float32", recording.rate_hz, 1)))
            await _send_media(call, _sound(recording), speed, clock())
            return
        channels = recording.channels if recording.has_sound else 1 + max(p.channel for p in config.participants)
        audio = wire.AudioFormat("float32", recording.rate_hz, channels)
        if config.cameras and recording.video_codec:
            degrees = await asyncio.to_thread(recording.rotation_degrees)
            camera = replace(config.cameras[0], codec=recording.video_codec, rotation_degrees=degrees)
            config = replace(config, cameras=(camera, *config.cameras[1:]))
        await call.write(wire.call_config(config, audio))
        sound = _sound(recording) if recording.has_sound else _no_sound(recording)
        film = _film(recording, config.cameras[0].id) if config.cameras else iter(())
        await _send_media(call, merge(sound, film, key=lambda message: message[1]), speed, clock())
    except (grpc.RpcError, asyncio.InvalidStateError):
        pass  # the server has ended the call; its status reaches the reader
    except Exception:
        call.cancel()  # wakes the reader, which raises this error
        raise


async def _send_media(call: _Call, messages: Iterator[_Message], speed: float | None, start_s: float) -> None:
    clock = asyncio.get_running_loop().time
    while found := await asyncio.to_thread(next, messages, None):
        message, end_s = found
        if speed is not None:
            await asyncio.sleep(start_s + end_s / speed - clock())
        await call.write(message)
    await call.write(wire.END)
    await call.done_writing()


def _sound(recording: Recording) -> Iterator[_Message]:
    chunks = recording.chunks(recording.rate_hz // MESSAGES_PER_S)
    for start, channels in groupby(chunks, lambda chunk: chunk.start_sample):
        pcm = np.stack([chunk.pcm for chunk in channels])
        yield wire.audio_float32(pcm, start), (start + pcm.shape[1]) / recording.rate_hz


def _no_sound(recording: Recording) -> Iterator[_Message]:
    step_us, duration_us = 1_000_000 // MESSAGES_PER_S, recording.duration_us or 0
    for start_us in range(0, duration_us, step_us):
        end_us = min(start_us + step_us, duration_us)
        yield wire.gap(end_us - start_us, "no sound"), end_us / 1e6


def _film(recording: Recording, camera: str) -> Iterator[_Message]:
    frames = recording.coded_frames(camera) if recording.video_codec else _jpeg(recording, camera)
    sent_us = 0
    for frame in frames:
        sent_us = max(sent_us, frame.at_us)  # the order of decoding may not be that of time
        yield wire.video_frame(frame), sent_us / 1e6


def _jpeg(recording: Recording, camera: str) -> Iterator[EncodedFrame]:
    for picture in recording.pictures(camera, PICTURE_EVERY_US):
        _, data = cv2.imencode(".jpg", cv2.cvtColor(picture.rgb, cv2.COLOR_RGB2BGR))
        yield EncodedFrame(camera, bytes(data), picture.at_us)
