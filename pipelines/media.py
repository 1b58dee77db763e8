"""Recorded files in: any usual container or codec, or headerless PCM, becomes a run of AudioChunks.

The content decides what a file is, never its name. Only the demuxers listed here may open it, so that a
playlist cannot make the service read other files or addresses.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import av
import numpy as np
import soundfile
from av.container import InputContainer

from affectline.models.errors import InvalidInputError
from affectline.models.signals import F32, AudioChunk, EncodedFrame, Span, VideoFrame
from affectline.pipelines.pictures import MAX_PIXELS, upright
from affectline.pipelines.timeline import VideoCodec

MIN_RATE_HZ: Final = 8_000
MAX_RATE_HZ: Final = 192_000
MIN_DURATION_US: Final = 100_000
MAX_DURATION_US: Final = 24 * 3_600 * 1_000_000

_SOUNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"caff", b".snd", b"NIST", b"OggS")
_DEMUXERS = "aac,aiff,amr,asf,au,avi,caf,flac,flv,matroska,mov,mp3,mpeg,mpegts,ogg,wav"
_MAX_PIXELS = {"max_pixels": str(MAX_PIXELS)}  # checked before memory is taken for a picture
_OPTIONS = {"format_whitelist": _DEMUXERS, **_MAX_PIXELS}
_LENGTH_GUESSED = {"aac", "amr", "mpeg", "mpegts"}
_RAW_SUBTYPES = {"s16le": ("PCM_16", 2), "mulaw": ("ULAW", 1), "alaw": ("ALAW", 1)}
_READ_FRAMES = 16_384
# Packets carry whole codec frames (up to 0.13 s) and coarse times; less than this is no loss.
_SLACK_US = 200_000
_STREAM_CODECS: Final[dict[str, VideoCodec]] = {"h264": "h264", "hevc": "h265", "vp8": "vp8", "vp9": "vp9"}
"""FFmpeg's name -> ours, of what is streamed as the file has it."""
_ANNEX_B = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
_STREAMED_BYTES = 0x7FFF_0000
"""A writer that could not know the length declares about this much or more."""


Encoding = Literal["s16le", "mulaw", "alaw"]


@dataclass(frozen=True, slots=True)
class RawFormat:
    """What a headerless file holds."""

    encoding: Encoding
    rate_hz: int
    channels: int = 1
    """Interleaved."""


class Recording(ABC):
    """An opened recording; `chunks` reads it from its beginning, as often as it is called."""

    rate_hz: int
    """8,000 to 192,000."""
    channels: int
    duration_us: int | None
    """As the file declares it; None where it does not."""
    codec: str
    """E.g. `pcm_16`, `ulaw`, `flac`, `aac`, `opus`; of a video without sound, that of its pictures."""
    has_sound: bool = True
    """Without it, `chunks` gives none, and `channels` is 1 and `rate_hz` 8,000."""
    has_video: bool = False
    """Whether `pictures` gives any."""
    video_codec: VideoCodec | None = None
    """Where `coded_frames` gives any."""
    truncated: bool = False
    """Sound is missing or damaged: the file ends early or parts do not decode. Settled once `chunks` ends."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @abstractmethod
    def _blocks(self) -> Iterator[tuple[int, F32]]:
        """Yields (first sample, samples [channels, n]) in order; sets `truncated`."""

    def pictures(self, camera: str, every_us: int) -> Iterator[VideoFrame]:
        """The first video stream as pictures of `camera`, upright, at least `every_us` apart, on the sound's clock."""
        yield from ()

    def coded_frames(self, camera: str) -> Iterator[EncodedFrame]:
        """The first video stream as it is coded, in the order of decoding, on the sound's clock, not turned.

        Damaged frames come as they are, or not at all.
        """
        yield from ()

    def rotation_degrees(self) -> int:
        """0, 90, 180 or 270: how far pictures must be turned clockwise to be upright, as the file says."""
        return 0

    def chunks(self, frames: int = 4_096) -> Iterator[AudioChunk]:
        """The sound in chunks of `frames` samples per channel (fewer at the end and before a gap).

        All channels of one stretch come before the next stretch. `start_sample` jumps where the file's own
        clock does. Raises InvalidInputError at samples that are no numbers, at the end of a recording
        shorter than 0.1 s, and beyond 24 h.
        """
        start = end = 0
        held = np.empty((self.channels, 0), np.float32)
        for at, block in self._blocks():
            if not np.isfinite(block).all():
                raise self._error("finite samples", f"NaN or infinity near {end / self.rate_hz:.1f} s")
            if at != end:
                yield from self._emit(start, held)
                start, held = at, held[:, :0]
            held = np.concatenate((held, np.clip(block, -1, 1)), axis=1)
            end = at + block.shape[1]
            while held.shape[1] >= frames:
                yield from self._emit(start, held[:, :frames])
                start, held = start + frames, held[:, frames:]
            if end * 1_000_000 > MAX_DURATION_US * self.rate_hz:
                raise self._error("at most 24 h of audio", "more")
        yield from self._emit(start, held)
        self._check_length(end)

    def _emit(self, start: int, held: F32) -> Iterator[AudioChunk]:
        if held.shape[1]:
            for channel, pcm in enumerate(held):
                yield AudioChunk(channel, np.ascontiguousarray(pcm), self.rate_hz, start)

    def _check(self) -> None:
        if not MIN_RATE_HZ <= self.rate_hz <= MAX_RATE_HZ:
            raise self._error("a sample rate of 8,000 to 192,000 Hz", f"{self.rate_hz:,} Hz")
        if self.duration_us is not None:
            self._check_length(self.duration_us * self.rate_hz // 1_000_000)

    def _check_length(self, samples: int) -> None:
        duration_us = samples * 1_000_000 // self.rate_hz
        if duration_us < MIN_DURATION_US:
            what, found = ("audio", f" at {self.rate_hz:,} Hz") if self.has_sound else ("video", "")
            raise self._error(f"at least 0.1 s of {what}", f"{duration_us / 1e6:g} s{found}")
        if duration_us > MAX_DURATION_US:
            raise self._error(
                f"at most 24 h of {'audio' if self.has_sound else 'video'}", f"{duration_us / 3.6e9:.1f} h"
            )

    def _error(self, expected: str, found: str) -> InvalidInputError:
        return InvalidInputError(f"{self._path.name}: expected {expected}, found {found}")


class _SoundfileRecording(Recording):
    """PCM containers, Ogg and headerless PCM, by libsndfile."""

    def __init__(self, path: Path, raw: RawFormat | None) -> None:
        super().__init__(path)
        self._raw = raw
        with self._open() as sound:
            self.rate_hz, self.channels, self.codec = sound.samplerate, sound.channels, sound.subtype.lower()
            self.duration_us = sound.frames * 1_000_000 // sound.samplerate
            self._frames = sound.frames
            self.truncated = self._cut_short(sound)
        self._check()

    @contextmanager
    def _open(self) -> Iterator[soundfile.SoundFile]:
        options = {}
        if self._raw is not None:
            options = {
                "format": "RAW",
                "subtype": _RAW_SUBTYPES[self._raw.encoding][0],
                "samplerate": self._raw.rate_hz,
                "channels": self._raw.channels,
                "endian": "LITTLE",
            }
        # A file descriptor has no name whose extension could be believed.
        with (
            self._path.open("rb") as file,
            soundfile.SoundFile(file.fileno(), closefd=False, **options) as sound,
        ):
            yield sound

    def _cut_short(self, sound: soundfile.SoundFile) -> bool:
        size = self._path.stat().st_size
        if self._raw is not None:
            return size % (_RAW_SUBTYPES[self._raw.encoding][1] * self._raw.channels) != 0
        if sound.format == "OGG":
            with self._path.open("rb") as file:
                file.seek(max(0, size - 65_536))
                tail = file.read()
            # RFC 3533: the byte after a page's magic and version has bit 2 set on a stream's last page.
            flags = re.findall(rb"OggS\0(.)", tail, re.DOTALL)
            return not flags or not flags[-1][0] & 4
        declared = re.search(r"(?:data|SSND)\s*: (\d+) \(should be (\d+)\)", sound.extra_info)
        return declared is not None and int(declared[2]) < int(declared[1]) < _STREAMED_BYTES

    def _blocks(self) -> Iterator[tuple[int, F32]]:
        position = 0
        with self._open() as sound:
            while position < self._frames:
                try:
                    block = sound.read(_READ_FRAMES, dtype="float32", always_2d=True)
                except soundfile.LibsndfileError:
                    block = np.empty((0, self.channels), np.float32)
                if not len(block):
                    self.truncated = True
                    return
                yield position, block.T
                position += len(block)


class _AvRecording(Recording):
    """Everything else, by FFmpeg; the first audio stream and the first video stream, or one of them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with self._open() as container:
            film = _video(container)
            self.has_video, self.has_sound = film is not None, bool(container.streams.audio)
            if film is not None and container.format.name != "avi":  # which tells no times of reordered frames
                self.video_codec = _STREAM_CODECS.get(film.codec_context.codec.canonical_name)
            if not self.has_sound:
                if film is None:
                    kinds = " and ".join(sorted({stream.type for stream in container.streams})) or "no stream"
                    raise self._error("sound or video that decodes", f"{kinds} in {container.format.name}")
                self.rate_hz, self.channels = MIN_RATE_HZ, 1
                self.codec = film.codec_context.codec.canonical_name
                self._start_s, self.duration_us = self._film_length(container, film)
                self._check()
                return
            stream = container.streams.audio[0]
            first = next(self._decode(container), None)
            if first is None:
                raise self._error("audio", f"a {container.format.name} file in which nothing decodes")
            # The decoder knows better than the header (HE-AAC doubles the rate).
            self.rate_hz, self.channels = first.sample_rate, first.layout.nb_channels
            self._start_s = first.time or 0.0
            self.codec = stream.codec_context.codec.canonical_name
            self.duration_us = self._declared_us(container)
        self.truncated = False
        self._check()

    @contextmanager
    def _open(self) -> Iterator[InputContainer]:
        with (
            self._path.open("rb") as file,
            av.open(file, mode="r", options=_OPTIONS, metadata_errors="replace") as container,
        ):
            yield container

    def _declared_us(self, container: InputContainer) -> int | None:
        """The length a container states; where it states none FFmpeg guesses from the bit rate."""
        stream, name = container.streams.audio[0], container.format.name
        if name in _LENGTH_GUESSED:
            return None
        if name == "mp3":
            with self._path.open("rb") as file:
                head = file.read(262_144)
            if b"Xing" not in head and b"Info" not in head:
                return None
        if stream.duration is not None and stream.time_base is not None:
            return int(stream.duration * stream.time_base * 1_000_000)
        return container.duration if name.startswith("matroska") and len(container.streams) == 1 else None

    def _film_length(self, container: InputContainer, stream: av.VideoStream) -> tuple[float, int]:
        """(when the first picture is, in s; microseconds from there to the end), having tried that one decodes."""
        start_s, end_s = None, 0.0
        for packet in _whole_packets(container, stream):
            if start_s is None:
                start_s = next((frame.time or 0.0 for frame in _frames(packet)), None)
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
        if start_s is None:
            expected = f"video of at most {MAX_PIXELS:,} pixels a picture"
            raise self._error(expected, f"a {container.format.name} file in which nothing decodes")
        return start_s, round(max(0.0, end_s - start_s) * 1_000_000)

    def pictures(self, camera: str, every_us: int) -> Iterator[VideoFrame]:
        with self._open() as container:
            stream = _video(container)
            if stream is None:
                return
            stream.thread_type = "AUTO"
            next_us = 0
            for packet in _whole_packets(container, stream):
                for frame in _frames(packet):
                    at_us = max(0, round(((frame.time or 0.0) - self._start_s) * 1_000_000))
                    if at_us >= next_us:
                        next_us = at_us + every_us
                        yield VideoFrame(camera, upright(frame), at_us)

    def coded_frames(self, camera: str) -> Iterator[EncodedFrame]:
        with self._open() as container:
            stream = _video(container)
            if stream is None or self.video_codec is None:
                return
            name = _ANNEX_B.get(stream.codec_context.codec.canonical_name)
            try:
                annex_b = av.BitStreamFilterContext(name, stream) if name else None
            except av.error.FFmpegError:
                return
            for packet in _whole_packets(container, stream):
                try:
                    parts = annex_b.filter(packet) if annex_b else [packet]
                except av.error.FFmpegError:
                    continue
                for part in parts:
                    time = part.dts if part.pts is None else part.pts
                    if part.size and time is not None and part.time_base is not None:
                        at_us = round((float(time * part.time_base) - self._start_s) * 1_000_000)
                        yield EncodedFrame(camera, bytes(part), max(0, at_us))

    def rotation_degrees(self) -> int:
        with self._open() as container:
            stream = _video(container)
            packets = _whole_packets(container, stream) if stream else ()
            first = next((frame for packet in packets for frame in _frames(packet)), None)
            return round(-first.rotation / 90) * 90 % 360 if first else 0

    def chunks(self, frames: int = 4_096) -> Iterator[AudioChunk]:
        if self.has_sound:
            yield from super().chunks(frames)

    def _decode(self, container: InputContainer) -> Iterator[av.AudioFrame]:
        """Decodes what can be; a damaged packet is skipped and noted."""
        packets = container.demux(container.streams.audio[0])
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                self.truncated = True
                return
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.truncated = True
                continue
            for frame in frames:
                assert isinstance(frame, av.AudioFrame)
                yield frame

    def _blocks(self) -> Iterator[tuple[int, F32]]:
        position = 0
        first_s: float | None = None
        to_float = av.AudioResampler(format="flt")  # interleaved: PyAV 18 reads 8 planes out of bounds
        with self._open() as container:
            for frame in self._decode(container):
                if (frame.sample_rate, frame.layout.nb_channels) != (self.rate_hz, self.channels):
                    self.truncated = True  # a damaged frame header says anything
                    continue
                if frame.time is not None:
                    first_s = frame.time if first_s is None else first_s
                    at = round((frame.time - first_s) * self.rate_hz)
                    if (at - position) * 1_000_000 > _SLACK_US * self.rate_hz:
                        position = at
                for part in to_float.resample(frame):
                    block = np.asarray(part.to_ndarray(), np.float32).reshape(-1, self.channels).T
                    yield position, block
                    position += block.shape[1]
        if self.duration_us is not None:
            missing_us = self.duration_us - position * 1_000_000 // self.rate_hz
            self.truncated |= missing_us > _SLACK_US


def _video(container: InputContainer) -> av.VideoStream | None:
    """The first stream of moving pictures that has a decoder; the cover of an album is none."""
    cover = av.stream.Disposition.attached_pic
    stream = next((s for s in container.streams.video if s.codec_context and not s.disposition & cover), None)
    if stream is not None:
        stream.codec_context.options = _MAX_PIXELS
    return stream


def _whole_packets(container: InputContainer, stream: av.VideoStream) -> "Iterator[av.Packet[av.VideoStream]]":
    """Ends where the file cannot be read on."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        yield packet


def _frames(packet: "av.Packet[av.VideoStream]") -> list[av.VideoFrame]:
    """Nothing where it does not decode."""
    try:
        return [frame for frame in packet.decode() if isinstance(frame, av.VideoFrame)]
    except av.error.FFmpegError:
        return []


def mute(chunk: AudioChunk, spans: Iterable[Span]) -> F32:
    """The chunk's sound, [n], with silence where the spans are."""
    pcm = chunk.pcm
    for span in spans:
        first, after = (
            max(0, us * chunk.rate_hz // 1_000_000 - chunk.start_sample) for us in (span.start_us, span.end_us)
        )
        if first < min(after, len(pcm)):
            pcm = pcm.copy() if pcm is chunk.pcm else pcm
            pcm[first:after] = 0
    return pcm


def open_recording(path: str | Path, *, raw: RawFormat | None = None) -> Recording:
    """Opens a recording: WAV, FLAC, MP3, Ogg, MP4/M4A, WebM and their like, or headerless PCM with `raw`.

    A file that ends early is read as far as it goes, with `truncated` set; one whose header is cut off is an
    error. Raises InvalidInputError for anything that is not 0.1 s to 24 h of audio at 8 to 192 kHz, or of
    video without sound.
    """
    path = Path(path)
    expected = "a recording (WAV, FLAC, MP3, Ogg, MP4, WebM …; headerless PCM needs its format stated)"

    def error(found: str) -> InvalidInputError:
        return InvalidInputError(f"{path.name}: expected {expected}, found {found}")

    try:
        if not path.is_file():
            raise error("a folder" if path.is_dir() else "no such file" if not path.exists() else "no file")
        if path.stat().st_size == 0:
            raise error("an empty file")
        with path.open("rb") as file:
            magic = file.read(4)
        if raw is not None or magic in _SOUNDFILE_MAGIC:
            try:
                return _SoundfileRecording(path, raw)
            except soundfile.SoundFileError as problem:
                if raw is not None:
                    raise InvalidInputError(f"{path.name}: expected audio as {raw}, found: {problem}") from None
        return _AvRecording(path)
    except av.error.FFmpegError:
        raise error("content that is none of these, or a header that is cut off") from None
    except OSError as problem:
        raise error(f"a file that cannot be read ({problem.strerror})") from problem
