"""Pictures of a face to what it looks like: detect, follow, choose the participant, align, judge, smooth.

A face tells expression, not feeling; what it can never say here: grateful, frustrated. Whoever cannot be judged fairly
(too small, dark, blurred, turned away, one of several) is an absence with its reason.
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from affectline.models.labels import AFFECT_OF_LABEL, LABELS, Label, place_of
from affectline.models.ports import WHOLE, Crop, Expression, FaceDetector
from affectline.models.signals import F32, U8, AffectEstimate, AffectScores, Face, Span, VideoFrame
from affectline.pipelines.tracker import Track, Tracker
from affectline.pipelines.voice import SECOND_US

MIN_QUALITY: Final = 0.1
"""Of a second; a poorer one is an absence."""
DETECT_SIDE: Final = 640
"""Longer side, in pixels, of the picture that faces are looked for in."""
CHECK_SIDE: Final = 96
"""Side, in pixels, of the aligned face that sharpness and light are measured on."""
TEMPLATE: Final = np.array([[15.2, 19.3], [32.8, 19.3], [24.0, 28.9], [16.9, 36.2], [31.1, 36.2]], np.float32) / 48
"""Where eyes, nose and corners of the mouth lie in an aligned face, as parts of its side: the median of FER2013,
which expression networks learn from."""
SMOOTH_US: Final = 700_000
"""Time constant with which a track's expression follows what is seen."""
MIN_SEEN, MIN_AGE_US = 3, 300_000
"""A face seen less is not yet one: detectors see faces in patterns."""
RIVAL: Final = 0.6
"""Another steady face at least this part as large makes it unclear who the participant is."""
STILL_US: Final = 20_000_000
STILL_PX: Final = 0.006
"""A face whose landmarks move less than this part of its side for so long is a picture on the wall."""
STILL_SMOOTH_US: Final = 2_000_000
"""Time constant that they are smoothed with for it: noise of the camera moves single ones by as much."""
CONFUSED_US: Final = 3_000_000
MAX_CONFUSED: Final = 0.5
"""A face alone is never more than half a reason to call someone confused."""
TILTED_DEG, AWAY_DEG = 10.0, 20.0

_SIZE_PX: Final = (20.0, 60.0)
"""Distance of the eyes at which nothing, and everything, can be seen; so for the next."""
_SHARPNESS: Final = (15.0, 80.0)
"""Variance of the Laplacian of the aligned face, grey levels squared (Pech-Pacheco et al. 2000)."""
_LIGHT: Final = (25.0, 60.0)
"""Mean grey level; 255 less that at the bright end."""
_CONTRAST: Final = (8.0, 25.0)
"""Standard deviation of the grey levels."""
_YAW_DEG: Final = (40.0, 20.0)
_ROLL_DEG: Final = (50.0, 30.0)
_SCORE: Final = (0.5, 0.75)
"""Of the detector: hands and masks lower it."""


@dataclass(frozen=True, slots=True)
class Pose:
    """How a head is held, from five landmarks; rough, but enough to tell frontal from turned."""

    yaw_deg: float
    """Positive: turned to the left of the picture."""
    roll_deg: float
    """Positive: tilted clockwise."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one picture says of the participant's face."""

    at_us: int
    quality: float
    """How fit it is for judging, in [0, 1]; 0 without a face …"""
    flaws: tuple[str, ...]
    """… and what takes from it, in plain words."""
    scores: AffectScores | None
    """Smoothed over the track; None where nothing can be judged."""
    face: Face | None
    track: int | None
    others: tuple[Face, ...] = ()
    """Other people's faces in the picture."""


@dataclass(slots=True)
class _State:
    """What is known of one track beyond its place."""

    belief: F32
    """Smoothed probabilities of the network's labels."""
    place: tuple[float, float] | None
    """Smoothed valence and arousal, each in [-1, 1], from a network that gives them."""
    at_us: int
    signs: deque[tuple[int, float, float, float]]
    """(time, mixed brow expression, tilt, away), each in [0, 1], of the last CONFUSED_US."""
    roll_deg: float
    """The track's usual one."""
    smooth: F32
    """Landmarks, smoothed …"""
    smooth_us: int
    """… up to then."""
    points: F32
    """Those when they last moved …"""
    moved_us: int
    """… and when that was."""


class FaceSeconds:
    """What a camera showed of one party, second by second."""

    def __init__(self, participant: str, stream: "FaceStream", model: str) -> None:
        self._participant = participant
        self._stream = stream
        self._model = model
        self._looks: dict[int, list[Look]] = {}

    def feed(self, frame: VideoFrame) -> Look | None:
        """As FaceStream.feed."""
        look = self._stream.feed(frame)
        if look is not None:
            self._looks.setdefault(look.at_us // SECOND_US, []).append(look)
        return look

    def second(self, number: int) -> AffectEstimate | str:
        """The face in one second, or why there is nothing to say of it."""
        looks = self._looks.get(number, [])
        if not looks:
            return "no picture"
        judged = [(look.quality, look.scores) for look in looks if look.scores is not None]
        quality = sum(q for q, _ in judged) / len(looks)
        if quality < MIN_QUALITY:
            flaws = Counter(flaw for look in looks for flaw in look.flaws)
            return ", ".join(flaw for flaw, _ in flaws.most_common(2)) or "no face"
        scores = _mean(judged)
        span = Span(number * SECOND_US, (number + 1) * SECOND_US)
        return AffectEstimate(span, self._participant, "face", scores, quality, self._model)

    def forget_before(self, number: int) -> None:
        self._looks = {second: looks for second, looks in self._looks.items() if second >= number}


def _mean(judged: Sequence[tuple[float, AffectScores]]) -> AffectScores:
    """Of the pictures of a second, by their quality."""
    total = sum(quality for quality, _ in judged)
    labels = {label: sum(q * (s.labels or {}).get(label, 0.0) for q, s in judged) / total for label in LABELS}
    best = max(labels, key=lambda label: labels[label])
    often = sum(s.labels is not None and max(s.labels, key=s.labels.__getitem__) == best for _, s in judged)
    places = [(s.valence or 0.0, s.arousal or 0.0, s.dominance or 0.0) for _, s in judged]
    valence, arousal, dominance = np.average(places, axis=0, weights=[quality for quality, _ in judged]).tolist()
    evidence = f"face looks {best} in {often} of {len(judged)} pictures"
    return AffectScores(labels, valence, arousal, dominance, labels[best], (evidence,))


class FaceStream:
    """The pictures of one customer-facing camera, in time order. Not thread-safe."""

    def __init__(self, detector: FaceDetector, expression: Expression) -> None:
        self._detector = detector
        self._expression = expression
        self._tracker = Tracker()
        self._states: dict[int, _State] = {}
        self._last_us = -1

    def feed(self, frame: VideoFrame) -> Look | None:
        """None for a picture that is not newer than the last one."""
        if frame.at_us <= self._last_us:
            return None
        self._last_us = frame.at_us
        faces = self._detect(frame.rgb)
        tracks = self._tracker.feed(faces, frame.at_us)
        steady = [t for t in tracks if t.seen >= MIN_SEEN and t.last_us - t.first_us >= MIN_AGE_US]
        chosen, reason = self._choose(steady, frame.at_us)
        others = tuple(t.face for t in tracks if t is not chosen)
        if chosen is None:
            reason = "no face" if not faces else reason or "a face that only just came"
            return Look(frame.at_us, 0.0, (reason,), None, None, None, others)
        return self._judge(frame, chosen, others)

    def _detect(self, rgb: U8) -> list[Face]:
        """Looks for faces in a smaller picture; gives their places in the one that came."""
        scale = DETECT_SIDE / max(rgb.shape[:2])
        if scale >= 1:
            return self._detector.detect(rgb)
        size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
        small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        ratio = np.array((rgb.shape[1] / size[0], rgb.shape[0] / size[1]), np.float32)
        return [_scaled(face, ratio) for face in self._detector.detect(small)]

    def _choose(self, steady: Sequence[Track], at_us: int) -> tuple[Track | None, str]:
        """The participant's track: large, and there for long; or why there is none."""
        moving = []
        for track in steady:
            state = self._states.setdefault(track.id, self._new_state(track, at_us))
            keep = float(np.exp(-(at_us - state.smooth_us) / STILL_SMOOTH_US))
            state.smooth = np.asarray(keep * state.smooth + (1 - keep) * track.face.landmarks, np.float32)
            state.smooth_us = at_us
            moved = np.abs(state.smooth - state.points).mean() / max(1.0, track.side_px)
            if moved > STILL_PX:
                state.points, state.moved_us = state.smooth, at_us
            if at_us - state.moved_us < STILL_US:
                moving.append(track)
        if not moving:
            return None, "a face that never moves, as in a picture on the wall" if steady else ""
        ranked = sorted(moving, key=lambda t: -t.side_px * min(1.0, 0.5 + (at_us - t.first_us) / 4e6))
        if len(ranked) > 1 and ranked[1].side_px >= RIVAL * ranked[0].side_px:
            return None, "several faces: unclear whose is the participant's"
        return ranked[0], ""

    def _new_state(self, track: Track, at_us: int) -> _State:
        prior = np.array([self._expression.prior[label] for label in self._expression.labels], np.float32)
        points = track.face.landmarks
        return _State(prior, None, at_us, deque(), pose_of(points).roll_deg, points, at_us, points, at_us)

    def _judge(self, frame: VideoFrame, track: Track, others: tuple[Face, ...]) -> Look:
        face, state = track.face, self._states[track.id]
        pose = pose_of(face.landmarks)
        quality, flaws = _quality(frame.rgb, face, pose)
        if quality <= 0:
            return Look(frame.at_us, 0.0, flaws, None, face, track.id, others)
        aligned = align(frame.rgb, face.landmarks, self._expression.side, self._expression.crop)
        found = self._expression.estimate(aligned[None])
        seen = found.probabilities[0]
        keep = float(np.exp(-(frame.at_us - state.at_us) / SMOOTH_US / max(quality, 0.1)))
        state.belief = np.asarray(keep * state.belief + (1 - keep) * seen, np.float32)
        if found.valence_arousal is not None:
            valence, arousal = state.place or place_of(self._expression.prior)[:2]
            seen_valence, seen_arousal = found.valence_arousal[0].tolist()
            state.place = (keep * valence + (1 - keep) * seen_valence, keep * arousal + (1 - keep) * seen_arousal)
        state.at_us = frame.at_us
        state.roll_deg += 0.02 * (pose.roll_deg - state.roll_deg)
        confused = self._confusion(state, seen, pose, frame.at_us)
        belief = dict(zip(self._expression.labels, state.belief.tolist(), strict=True))
        scores = _scores(belief, state.place, confused)
        return Look(frame.at_us, quality, flaws, scores, face, track.id, others)

    def _confusion(self, state: _State, seen: F32, pose: Pose, at_us: int) -> float:
        """Probability of `confused`, at most MAX_CONFUSED, from what comes together over some seconds.

        Confusion has no prototype of its own; it shows as brows drawn together (which the network takes for a mixture
        of anger, fear and sadness, none of them clear), with the head tilted or the gaze leaving (Rozin & Cohen 2003;
        Craig et al. 2008). By convention; text and hesitation must make it sure.
        """
        belief = dict(zip(self._expression.labels, seen.tolist(), strict=True))
        brow = [belief.get(label, 0.0) for label in ("angry", "anxious", "sad", "surprised")]
        mixed = min(1.0, sum(brow)) if max(brow) < 0.6 else 0.0
        tilt = min(1.0, abs(pose.roll_deg - state.roll_deg) / TILTED_DEG)
        away = min(1.0, abs(pose.yaw_deg) / AWAY_DEG)
        state.signs.append((at_us, mixed, tilt, away))
        while state.signs[0][0] < at_us - CONFUSED_US:
            state.signs.popleft()
        if at_us - state.signs[0][0] < CONFUSED_US // 2:
            return 0.0
        brows, tilts, aways = np.mean([sign[1:] for sign in state.signs], axis=0)
        return float(np.clip(brows * (0.4 + 0.4 * tilts + 0.4 * aways) - 0.1, 0, MAX_CONFUSED))


def align(rgb: U8, landmarks: F32, side: int, crop: Crop = WHOLE) -> U8:
    """The face turned upright and cut to [side, side, 3], landmarks as near as can be to TEMPLATE.

    Least-squares similarity transform (Umeyama 1991). crop: as Expression.crop; that part is stretched to the square.
    """
    target, source = TEMPLATE * side, landmarks.astype(np.float64)
    mean_to, mean_from = target.mean(axis=0), source.mean(axis=0)
    to, away = target - mean_to, source - mean_from
    spread = float(np.square(away).sum()) or 1.0
    cos = float((away * to).sum()) / spread
    sin = float((away[:, 0] * to[:, 1] - away[:, 1] * to[:, 0]).sum()) / spread
    turn = np.array([[cos, -sin], [sin, cos]])
    left, top, right, bottom = crop
    stretch = 1 / np.array([right - left, bottom - top])[:, None]
    matrix = stretch * np.hstack((turn, (mean_to - turn @ mean_from - np.array([left, top]) * side)[:, None]))
    scale = float(np.hypot(cos, sin))
    flags = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(rgb, matrix, (side, side), flags=flags, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def pose_of(landmarks: F32) -> Pose:
    """From [5, 2] points: eyes, nose, corners of the mouth, left in the picture first.

    Yaw: how far the nose lies off the middle between the eyes, which a frontal nose some 0.6 of their distance in front
    of the face plane turns by its sine.
    """
    left, right, nose, *mouth = landmarks.astype(np.float64)
    across = right - left
    distance = float(np.hypot(*across)) or 1.0
    middle = (left + right + mouth[0] + mouth[1]) / 4
    offset = float((nose - middle) @ across) / distance**2
    yaw = float(np.degrees(np.arcsin(np.clip(-offset / 0.6, -1, 1))))
    return Pose(yaw, float(np.degrees(np.arctan2(across[1], across[0]))))


def _quality(rgb: U8, face: Face, pose: Pose) -> tuple[float, tuple[str, ...]]:
    """(how fit a face is for judging, what takes from it)."""
    crop = cv2.cvtColor(align(rgb, face.landmarks, CHECK_SIDE), cv2.COLOR_RGB2GRAY)
    mean = float(crop.mean())
    eyes_px = float(np.hypot(*(face.landmarks[1] - face.landmarks[0])))
    # A face enlarged to the check's size is smooth for lack of pixels, which its size already counts.
    sharp = (
        float(cv2.Laplacian(crop, cv2.CV_64F).var())
        * max(1.0, (TEMPLATE[1, 0] - TEMPLATE[0, 0]) * CHECK_SIDE / max(eyes_px, 1.0)) ** 2
    )
    height, width = rgb.shape[:2]
    inside = np.mean((face.landmarks >= 0).all(axis=1) & (face.landmarks < (width, height)).all(axis=1))
    measures = (
        (_ramp(eyes_px, _SIZE_PX), "face too small"),
        (_ramp(sharp, _SHARPNESS), "blurred"),
        (min(_ramp(mean, _LIGHT), _ramp(255 - mean, _LIGHT)), "too dark" if mean < 128 else "too bright"),
        (_ramp(float(crop.std()), _CONTRAST), "too little contrast"),
        (_ramp(abs(pose.yaw_deg), _YAW_DEG), "turned away"),
        (_ramp(abs(pose.roll_deg), _ROLL_DEG), "head tilted far"),
        (_ramp(face.score, _SCORE), "partly covered, or hardly a face"),
        (float(inside), "partly outside of the picture"),
    )
    quality = float(np.prod([value for value, _ in measures]))
    return quality, tuple(flaw for value, flaw in measures if value < 0.75)


def _ramp(value: float, between: tuple[float, float]) -> float:
    """0 at the first, 1 at the second."""
    low, high = between
    return float(np.clip((value - low) / (high - low), 0, 1))


def _scaled(face: Face, ratio: npt.NDArray[np.float32]) -> Face:
    left, top, right, bottom = face.box
    x, y = ratio.tolist()
    return Face((left * x, top * y, right * x, bottom * y), face.score, face.landmarks * ratio)


def _scores(belief: dict[Label, float], place: tuple[float, float] | None, confused: float) -> AffectScores:
    """The labels with room made for `confused`, and where they lie; `place`: valence and arousal, if known better."""
    labels: dict[Label, float] = {label: (1 - confused) * belief.get(label, 0.0) for label in LABELS}
    labels["confused"] += confused
    total = sum(labels.values()) or 1.0
    labels = {label: p / total for label, p in labels.items()}
    valence, arousal, dominance = place_of(labels)
    if place is not None:
        valence, arousal = (
            (1 - confused) * known + confused * of_confused
            for known, of_confused in zip(place, AFFECT_OF_LABEL["confused"][:2], strict=True)
        )
    return AffectScores(labels, valence, arousal, dominance, max(labels.values()))
