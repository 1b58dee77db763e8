"""Encoded pictures to pixels; what comes is hostile until its head has been read."""

import io
from typing import Final

import av
import cv2
import imagesize
import numpy as np

from affectline.models.errors import InvalidInputError
from affectline.models.signals import U8, EncodedFrame, VideoFrame

MAX_PIXELS: Final = 40_000_000
"""8K has 33 million."""
PICTURE_EVERY_US: Final = 200_000
"""Of a video, pictures this far apart are looked at."""


def decode(frame: EncodedFrame) -> VideoFrame:
    """Upright where the picture tells how it was taken (EXIF).

    Raises InvalidInputError for what is no JPEG, PNG or WebP, is too large, or does not decode.
    """
    try:
        width, height = imagesize.get(io.BytesIO(frame.image))
    except ValueError:
        width = height = -1
    if min(width, height) < 1:
        raise InvalidInputError(f"expected a JPEG, PNG or WebP picture, found {len(frame.image)} bytes that are none")
    if width * height > MAX_PIXELS:
        raise InvalidInputError(f"expected a picture of at most {MAX_PIXELS:,} pixels, found {width} x {height}")
    try:
        found = cv2.imdecode(np.frombuffer(frame.image, np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        found = None
    if found is None:
        raise InvalidInputError(f"expected a whole picture, found one of {width} x {height} that does not decode")
    return VideoFrame(frame.camera, np.asarray(found, np.uint8), frame.at_us)


def turned(frame: VideoFrame, clockwise_degrees: int) -> VideoFrame:
    """`clockwise_degrees`: a multiple of 90."""
    if not clockwise_degrees % 360:
        return frame
    rgb = np.ascontiguousarray(np.rot90(frame.rgb, -clockwise_degrees // 90))
    return VideoFrame(frame.camera, rgb, frame.at_us)


def upright(frame: av.VideoFrame) -> U8:
    """[height, width, 3], turned as the video says that it was taken."""
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)), np.uint8)
