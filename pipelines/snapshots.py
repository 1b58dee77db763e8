"""Pictures of key moments, front and rear side by side, for those who agreed that they are kept; others are blurred."""

import base64
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from affectline.models.errors import InvalidInputError
from affectline.models.ports import FaceDetector
from affectline.models.signals import U8, EncodedFrame, Face, VideoFrame
from affectline.pipelines.face import Look
from affectline.pipelines.pictures import decode, turned
from affectline.pipelines.summary import clock
from affectline.pipelines.timeline import Snapshot

HEIGHT_PX: Final = 360
MAX_SNAPSHOTS: Final = 12
"""Of one party in one call."""
APART_US: Final = 10_000_000
OLD_US: Final = 3_000_000
"""A picture from so long before the moment does not show it."""
BLUR_MARGIN: Final = 0.4
"""More than a detected box, by this part of its side, is blurred."""
JPEG_QUALITY: Final = 80


class SnapshotMaker:
    """Keeps the last picture of each of a party's cameras, and joins them when something happens."""

    def __init__(self, participant: str, detector: FaceDetector) -> None:
        self._participant = participant
        self._detector = detector
        self._front: tuple[int, U8] | None = None
        """(when, picture with the others blurred)."""
        self._rear: VideoFrame | EncodedFrame | None = None
        self._rear_degrees = 0
        self._taken: list[Snapshot] = []

    @property
    def taken(self) -> tuple[Snapshot, ...]:
        return tuple(self._taken)

    def front(self, frame: VideoFrame, look: Look) -> None:
        self._front = (frame.at_us, _small(_blurred(frame.rgb, look.others)))

    def rear(self, frame: VideoFrame | EncodedFrame, clockwise_degrees: int = 0) -> None:
        """A picture on its own is decoded, and turned, only when it is needed."""
        self._rear, self._rear_degrees = frame, clockwise_degrees

    def forget(self) -> None:
        """Nothing that was kept may be kept any longer."""
        self._front = self._rear = None
        self._taken.clear()

    def take(self, at_us: int, because: str) -> Snapshot | None:
        """The moment as the cameras show it; None without a picture of it, or after too many."""
        panes = []
        if self._front is not None and abs(at_us - self._front[0]) <= OLD_US:
            panes.append(_labelled(self._front[1], f"front {clock(self._front[0])}"))
        rear = self._rear
        if rear is not None and abs(at_us - rear.at_us) <= OLD_US:
            try:
                seen = turned(decode(rear) if isinstance(rear, EncodedFrame) else rear, self._rear_degrees)
                rgb = _small(seen.rgb)
                panes.append(_labelled(_blurred(rgb, self._detector.detect(rgb)), f"rear {clock(rear.at_us)}"))
            except InvalidInputError:
                self._rear = None
        soon = bool(self._taken) and at_us - self._taken[-1].at_us < APART_US
        if not panes or soon or len(self._taken) >= MAX_SNAPSHOTS:
            return None
        picture = cv2.cvtColor(np.hstack(panes), cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        name = f"s-{self._participant}-{at_us // 1000}"
        snapshot = Snapshot(name, at_us, self._participant, because, base64.b64encode(bytes(data)).decode())
        self._taken.append(snapshot)
        return snapshot


def _small(rgb: U8) -> U8:
    """[HEIGHT_PX, width, 3]."""
    width = max(1, round(rgb.shape[1] * HEIGHT_PX / rgb.shape[0]))
    return np.asarray(cv2.resize(rgb, (min(width, 4 * HEIGHT_PX), HEIGHT_PX), interpolation=cv2.INTER_AREA), np.uint8)


def _blurred(rgb: U8, faces: Sequence[Face]) -> U8:
    """With these faces beyond recognition: eight blotches across, then smooth."""
    if not faces:
        return rgb
    rgb = rgb.copy()
    height, width = rgb.shape[:2]
    for face in faces:
        left, top, right, bottom = face.box
        more = BLUR_MARGIN * max(right - left, bottom - top)
        x, y = max(0, round(left - more)), max(0, round(top - more))
        part = rgb[y : min(height, round(bottom + more)), x : min(width, round(right + more))]
        if part.size:
            blotches = cv2.resize(part, (8, 8), interpolation=cv2.INTER_AREA)
            part[:] = cv2.resize(blotches, (part.shape[1], part.shape[0]), interpolation=cv2.INTER_LINEAR)
    return rgb


def _labelled(rgb: U8, text: str) -> U8:
    rgb = rgb.copy()
    for colour, thick in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(rgb, text, (8, HEIGHT_PX - 12), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, thick, cv2.LINE_AA)
    return rgb
