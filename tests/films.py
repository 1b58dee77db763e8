"""Drawn pictures, and video streams and files of them."""

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from affectline.models.signals import U8, EncodedFrame
from affectline.pipelines.timeline import VideoCodec

FRAMES_PER_S = 15
ENCODERS: dict[VideoCodec, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"tune": "zerolatency", "sc_threshold": "0"}),
    "h265": ("libx265", {"tune": "zerolatency", "x265-params": "log-level=none:scenecut=0"}),
    "vp8": ("libvpx", {"deadline": "realtime"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "av1": ("libsvtav1", {"preset": "10", "svtav1-params": "pred-struct=1"}),
}


@dataclass(frozen=True, slots=True)
class Coded:
    """One frame of a stream."""

    frame: EncodedFrame
    key: bool


def drawn(number: int, width: int = 160, height: int = 96) -> U8:
    """Picture `number` of a film: grey that grows with it, white in the upper left."""
    rgb = np.full((height, width, 3), 20 + 2 * number % 160, np.uint8)
    rgb[: height // 4, : width // 4] = 255
    return rgb


def number_of(rgb: U8) -> float:
    """Which `drawn` picture it is, from its grey."""
    return (float(rgb[rgb.shape[0] // 2 :, rgb.shape[1] // 2 :].mean()) - 20) / 2


def coded(
    codec: VideoCodec,
    pictures: Sequence[U8],
    *,
    key_every: int = 15,
    b_frames: int = 0,
    start_us: int = 0,
    camera: str = "face",
) -> list[Coded]:
    """The pictures as a stream, FRAMES_PER_S of them a second, in the order of decoding."""
    # On a thread of its own: SVT-AV1, run by root, gives its caller real-time priority for good, and so every process
    # that is started later; two of those that keep each other busy leave nothing to anybody else.
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(_coded, codec, pictures, key_every, b_frames, start_us, camera).result()


def _coded(
    codec: VideoCodec, pictures: Sequence[U8], key_every: int, b_frames: int, start_us: int, camera: str
) -> list[Coded]:
    encoder, options = ENCODERS[codec]
    context = av.CodecContext.create(encoder, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.height, context.width = pictures[0].shape[:2]
    context.pix_fmt, context.time_base, context.framerate = "yuv420p", Fraction(1, FRAMES_PER_S), Fraction(FRAMES_PER_S)
    context.gop_size, context.max_b_frames = key_every, b_frames
    context.options = {} if b_frames else options
    packets = []
    for number, rgb in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(rgb)
        frame.pts, frame.time_base = number, Fraction(1, FRAMES_PER_S)
        packets += context.encode(frame)
    packets += context.encode(None)
    return [
        Coded(EncodedFrame(camera, bytes(p), start_us + (p.pts or 0) * 1_000_000 // FRAMES_PER_S), bool(p.is_keyframe))
        for p in packets
    ]


def film(
    path: Path,
    pictures: Sequence[U8],
    *,
    codec: str = "libx264",
    rate: int = FRAMES_PER_S,
    times: Sequence[int] = (),
    sound_s: float | None = None,
    turned: int = 0,
) -> Path:
    """A video file; the name decides the container.

    `times`: when each picture is, in parts of the rate, one after the other when empty. `sound_s`: seconds of a tone of
    440 Hz. `turned`: 90 or 270, as a phone writes that it was on its side.
    """
    with av.open(path, "w") as container:
        video = container.add_stream(codec, rate=rate)
        assert isinstance(video, av.VideoStream)
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio = None
        if sound_s:
            audio = container.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48_000, layout="mono")
        for at, rgb in zip(times or range(len(pictures)), pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(rgb)
            frame.pts, frame.time_base = at, Fraction(1, rate)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound_s:
            assert isinstance(audio, av.AudioStream)
            tone = 0.4 * np.sin(2 * np.pi * 440 * np.arange(round(48_000 * sound_s)) / 48_000)
            heard = av.AudioFrame.from_ndarray(tone.astype(np.float32)[None], format="fltp", layout="mono")
            heard.sample_rate = 48_000
            container.mux(audio.encode(heard))
            container.mux(audio.encode(None))
    if turned:
        matrix = {90: (0, 1, -1, 0), 270: (0, -1, 1, 0)}[turned]
        data = bytearray(path.read_bytes())
        at = data.index(b"tkhd", data.index(b"tkhd") - 4) + 4
        place = data.index(struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000), at)
        a, b, c, d = (0x10000 * value for value in matrix)
        data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
        path.write_bytes(data)
    return path


def jpeg(rgb: U8, quality: int = 90) -> bytes:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(data)
