"""Follows faces from picture to picture by where they are; two people are never made one.

Each track is expected where its motion takes it (constant velocity), and is given the detection that overlaps it most;
detections are shared out so that the whole fits best (Kuhn 1955; as in SORT, Bewley et al. 2016, without its filter).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from affectline.models.signals import Face

MIN_FIT: Final = 0.2
"""Intersection over union from which a detection continues a track …"""
MAX_SHIFT: Final = 0.5
"""… or a distance of the centres up to this part of the face's side: someone who moves fast."""
MAX_GROWTH: Final = 1.8
"""A face does not become so much larger or smaller from one picture to the next."""
LOST_US: Final = 1_500_000
"""A face not seen for so long is another one when it comes back."""
VELOCITY_SHARE: Final = 0.5
"""Of the newest motion in the velocity."""
MAX_PREDICT_US: Final = 500_000


@dataclass(slots=True)
class Track:
    """One face over time."""

    id: int
    face: Face
    """As last seen."""
    first_us: int
    last_us: int
    seen: int = 1
    """Pictures it was seen in."""
    velocity_px_s: tuple[float, float] = (0.0, 0.0)

    @property
    def side_px(self) -> float:
        left, top, right, bottom = self.face.box
        return float(np.sqrt(max(0.0, right - left) * max(0.0, bottom - top)))

    def expected(self, at_us: int) -> tuple[float, float, float, float]:
        """Where its box should be now."""
        ahead_s = min(at_us - self.last_us, MAX_PREDICT_US) / 1e6
        dx, dy = (v * ahead_s for v in self.velocity_px_s)
        left, top, right, bottom = self.face.box
        return left + dx, top + dy, right + dx, bottom + dy


class Tracker:
    def __init__(self) -> None:
        self._tracks: list[Track] = []
        self._next = 0

    def feed(self, faces: Sequence[Face], at_us: int) -> list[Track]:
        """The tracks seen in this picture, one per face, in the order of `faces`. Times must not go backwards."""
        self._tracks = [track for track in self._tracks if at_us - track.last_us <= LOST_US]
        fits = np.array([[_fit(track.expected(at_us), face.box) for face in faces] for track in self._tracks])
        of_face: dict[int, Track] = {}
        if fits.size:
            for row, column in zip(*linear_sum_assignment(-fits), strict=True):
                if fits[row, column] > 0:
                    of_face[int(column)] = self._tracks[row]
        return [self._seen(of_face.get(number), face, at_us) for number, face in enumerate(faces)]

    def _seen(self, track: Track | None, face: Face, at_us: int) -> Track:
        if track is None:
            track = Track(self._next, face, at_us, at_us)
            self._next += 1
            self._tracks.append(track)
            return track
        passed_s = (at_us - track.last_us) / 1e6
        if passed_s > 0:
            moved = [now - before for now, before in zip(_centre(face.box), _centre(track.face.box), strict=True)]
            vx, vy = (
                (1 - VELOCITY_SHARE) * old + VELOCITY_SHARE * distance / passed_s
                for old, distance in zip(track.velocity_px_s, moved, strict=True)
            )
            track.velocity_px_s = (vx, vy)
        track.face, track.last_us, track.seen = face, at_us, track.seen + 1
        return track


def _fit(expected: tuple[float, float, float, float], found: tuple[float, float, float, float]) -> float:
    """In (0, 1] when `found` may be the face that was expected there; 0 when it may not."""
    width = min(expected[2], found[2]) - max(expected[0], found[0])
    height = min(expected[3], found[3]) - max(expected[1], found[1])
    areas = [max(1e-6, (box[2] - box[0]) * (box[3] - box[1])) for box in (expected, found)]
    if not 1 / MAX_GROWTH**2 <= areas[0] / areas[1] <= MAX_GROWTH**2:
        return 0.0
    shared = max(0.0, width) * max(0.0, height)
    overlap = shared / (sum(areas) - shared)
    (ax, ay), (bx, by) = _centre(expected), _centre(found)
    shift = float(np.hypot(ax - bx, ay - by)) / float(np.sqrt(min(areas)))
    if overlap < MIN_FIT and shift > MAX_SHIFT:
        return 0.0
    return max(overlap, 0.01 + 0.1 * max(0.0, 1 - shift))


def _centre(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
