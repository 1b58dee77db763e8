"""Live video streams to pictures: frames that build on each other are all decoded, and some of them looked at."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

import av

from affectline.models.errors import InvalidInputError
from affectline.models.signals import EncodedFrame, VideoFrame
from affectline.pipelines.pictures import PICTURE_EVERY_US, upright
from affectline.pipelines.timeline import VideoCodec

MAX_STREAM_PIXELS: Final = 10_000_000
"""Of a live stream, whose decoder keeps up to 17 pictures; 4K has 9 million."""
DECODERS: Final[Mapping[VideoCodec, str]] = {
    "h264": "h264",
    "h265": "hevc",
    "vp8": "vp8",
    "vp9": "vp9",
    "av1": "libdav1d",
}
"""Codec -> FFmpeg's decoder of it."""
NAMES: Final[Mapping[VideoCodec, str]] = {
    "h264": "an H.264 access unit (Annex B)",
    "h265": "an H.265 access unit (Annex B)",
    "vp8": "a VP8 frame",
    "vp9": "a VP9 frame",
    "av1": "an AV1 temporal unit",
}


class StreamDecoder:
    """One camera's stream of frames that build on each other, in the order of decoding. Not thread-safe.

    Begins at a key frame with its parameter sets, and after a frame that is broken or was left out, begins again at the
    next one.
    """

    def __init__(self, codec: VideoCodec) -> None:
        self._codec = codec
        self._context: av.VideoCodecContext | None = None
        self._began = False
        """Whether the decoder has given a picture."""
        self._excused = False
        """Frames were left out on purpose: that the next ones do not decode is nobody's fault."""
        self._given_us = -PICTURE_EVERY_US

    def skip(self) -> None:
        """A frame is left out."""
        self._context, self._began, self._excused = None, False, True

    def decode(self, frame: EncodedFrame) -> VideoFrame | None:
        """The picture that became ready, where it is to be looked at and comes PICTURE_EVERY_US or more after another.

        Its time may be that of an earlier frame when the stream's order is not that of time. Raises InvalidInputError
        for what does not decode, is too large, or has no decoder here.
        """
        if frame.use == "skip":
            self.skip()
            return None
        expected = f"{NAMES[self._codec]} of at most {MAX_STREAM_PIXELS:,} pixels"
        if not frame.image:  # to the decoder it would be the stream's end
            raise InvalidInputError(f"expected {expected}, found no bytes")
        if self._context is None:
            self._context = self._open()
        packet = av.Packet(frame.image)
        packet.pts, packet.time_base = frame.at_us, Fraction(1, 1_000_000)
        try:
            ready = self._context.decode(packet)
            if any(each.is_corrupt for each in ready):
                raise av.error.InvalidDataError(0, "")
            if not ready:
                return None
            self._began, self._excused = True, False
            at_us = frame.at_us if ready[-1].pts is None else ready[-1].pts
            if frame.use == "follow" or 0 <= at_us - self._given_us < PICTURE_EVERY_US:
                return None
            self._given_us = at_us
            return VideoFrame(frame.camera, upright(ready[-1]), at_us)
        except (av.error.FFmpegError, ValueError):
            if self._began:
                self._context, self._began = None, False
            if self._excused:
                return None
            found = "one that is larger or does not decode; pictures go on at the next key frame"
            raise InvalidInputError(f"expected {expected}, found {found}") from None

    def _open(self) -> av.VideoCodecContext:
        try:
            context = av.CodecContext.create(DECODERS[self._codec], "r")
        except ValueError:
            raise InvalidInputError(f"expected a build that decodes {self._codec}, found one that does not") from None
        assert isinstance(context, av.VideoCodecContext)
        context.thread_count = 1
        context.flags |= av.codec.context.Flags.low_delay
        # A frame made up for what is missing is no picture; sizes are checked before memory is taken for them.
        context.options = {"err_detect": "explode", "max_pixels": str(MAX_STREAM_PIXELS)}
        return context
