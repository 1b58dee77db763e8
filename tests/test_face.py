"""Pictures of a face to what it looks like: whose face, how fit, and what it can never say."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.labels import Label
from affectline.models.ports import WHOLE
from affectline.models.signals import F32, U8, AffectEstimate, Expressions, Face, VideoFrame
from affectline.pipelines.face import MAX_CONFUSED, STILL_US, TEMPLATE, FaceSeconds, FaceStream, Look, align, pose_of

pytestmark = pytest.mark.unit

STEP_US = 200_000
POINTS = TEMPLATE * 48


class Eyes:
    """A detector that sees what it is told, so that the rest is tried alone."""

    def __init__(self) -> None:
        self.faces: list[Face] = []
        self.seen: tuple[int, ...] = ()

    def detect(self, rgb: U8, *, min_score: float = 0.5) -> list[Face]:
        self.seen = rgb.shape
        return self.faces


class Mood:
    model = "mood@1"
    side = 48
    crop = WHOLE
    labels: tuple[Label, ...] = ("angry", "disgusted", "anxious", "satisfied", "sad", "surprised", "neutral")
    prior: ClassVar[Mapping[Label, float]] = dict.fromkeys(labels, 0.1) | {"neutral": 0.4}

    def __init__(self) -> None:
        self.now: Sequence[float] = (0, 0, 0, 1, 0, 0, 0)
        self.place: tuple[float, float] | None = None

    def estimate(self, rgb: U8) -> Expressions:
        assert (rgb.shape, rgb.dtype) == ((1, 48, 48, 3), np.uint8)
        place = None if self.place is None else np.array([self.place], np.float32)
        return Expressions(np.array([self.now], np.float32), place)


def picture(height: int = 360, width: int = 640, seed: int = 0) -> U8:
    """Blotches of several pixels, so that a face cut from it has contrast and edges."""
    blotches = np.random.default_rng(seed).integers(40, 220, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return blotches.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]


def face(x: float = 200, y: float = 100, side: float = 160, score: float = 0.95, points: F32 = POINTS) -> Face:
    places = np.asarray(points / 48 * side + (x, y), np.float32)
    return Face((x, y, x + side, y + side), score, places)


def watched(stream: FaceStream, eyes: Eyes, faces: list[list[Face]], rgb: U8 | None = None, start_us: int = 0) -> Look:
    look = None
    for number, seen in enumerate(faces):
        eyes.faces = seen
        look = stream.feed(VideoFrame("front", picture() if rgb is None else rgb, start_us + number * STEP_US))
    assert look
    return look


def moving(count: int, **where: float) -> list[list[Face]]:
    return [[face(x=200 + 3 * i, **where)] for i in range(count)]  # type: ignore[arg-type]


def test_a_steady_face_is_judged_and_smoothed() -> None:
    eyes, mood = Eyes(), Mood()
    stream = FaceStream(eyes, mood)
    first = watched(stream, eyes, moving(1))
    assert (first.scores, first.flaws) == (None, ("a face that only just came",))
    look = watched(stream, eyes, moving(12), start_us=STEP_US)
    assert look.scores
    assert look.scores.labels
    assert max(look.scores.labels, key=lambda label: look.scores.labels[label]) == "satisfied"  # type: ignore[index,union-attr]
    assert look.scores.valence > 0  # type: ignore[operator]
    assert look.quality > 0.7
    mood.now = (1, 0, 0, 0, 0, 0, 0)
    one = watched(stream, eyes, moving(1), start_us=3_000_000)
    assert one.scores
    assert 0 < one.scores.labels["angry"] < 0.8, "one picture alone does not turn the answer"  # type: ignore[index]


@pytest.mark.parametrize(
    ("where", "rgb", "flaw"),
    [
        ({"side": 50.0}, None, "face too small"),
        ({}, picture() // 12, "too dark"),
        ({}, 255 - picture() // 12, "too bright"),
        ({}, np.full((360, 640, 3), 120, np.uint8), "blurred"),
        ({"score": 0.55}, None, "partly covered, or hardly a face"),
        ({"y": -80.0}, None, "partly outside of the picture"),
    ],
)
def test_a_face_that_cannot_be_judged_fairly_says_why(where: dict[str, float], rgb: U8 | None, flaw: str) -> None:
    eyes = Eyes()
    look = watched(FaceStream(eyes, Mood()), eyes, moving(6, **where), rgb)
    assert flaw in look.flaws
    assert look.quality < 0.75


def test_a_turned_head_is_seen_from_its_landmarks() -> None:
    assert abs(pose_of(POINTS).yaw_deg) < 3
    assert abs(pose_of(POINTS).roll_deg) < 3
    turned = POINTS.copy()
    turned[2, 0] -= 9
    assert pose_of(turned).yaw_deg > 30
    eyes = Eyes()
    look = watched(FaceStream(eyes, Mood()), eyes, [[face(200 + 3 * i, points=turned)] for i in range(6)])
    assert "turned away" in look.flaws
    tilted = np.asarray((POINTS - 24) @ np.array([[0.87, 0.5], [-0.5, 0.87]]) + 24, np.float32)
    assert pose_of(tilted).roll_deg == pytest.approx(30, abs=2)


def test_two_people_of_like_size_are_ambiguous_and_a_small_one_behind_is_not() -> None:
    eyes = Eyes()
    both = [[face(50 + 3 * i, 100, 140), face(400 - 3 * i, 100, 130)] for i in range(8)]
    look = watched(FaceStream(eyes, Mood()), eyes, both)
    assert (look.scores, look.flaws) == (None, ("several faces: unclear whose is the participant's",))
    assert len(look.others) == 2
    behind = [[face(50 + 3 * i, 100, 160), face(400 - 3 * i, 100, 60)] for i in range(8)]
    look = watched(FaceStream(eyes, Mood()), eyes, behind)
    assert look.scores
    assert len(look.others) == 1


def test_a_picture_on_the_wall_is_no_participant() -> None:
    eyes = Eyes()
    still = [[face()] for _ in range(STILL_US // STEP_US + 5)]
    look = watched(FaceStream(eyes, Mood()), eyes, still)
    assert (look.scores, look.flaws) == (None, ("a face that never moves, as in a picture on the wall",))


def test_a_picture_on_the_wall_is_one_in_a_noisy_picture_too() -> None:
    rng, eyes = np.random.default_rng(5), Eyes()
    noisy = [face(points=POINTS + rng.normal(0, 0.45, POINTS.shape)) for _ in range(STILL_US // STEP_US + 50)]
    look = watched(FaceStream(eyes, Mood()), eyes, [[each] for each in noisy])
    assert look.flaws == ("a face that never moves, as in a picture on the wall",)
    sways = [face(x=200 + 4 * np.sin(i / 10)) for i in range(2 * STILL_US // STEP_US)]
    assert watched(FaceStream(eyes, Mood()), eyes, [[each] for each in sways]).scores, "someone who hardly moves"


def test_minutes_without_a_face_cost_nothing_later() -> None:
    eyes = Eyes()
    stream = FaceStream(eyes, Mood())
    nobody = watched(stream, eyes, [[] for _ in range(5 * 60 * 5)])
    assert (nobody.flaws, nobody.track) == (("no face",), None)
    assert watched(stream, eyes, moving(10), start_us=300_000_000).scores


def test_confusion_takes_several_signs_over_time_and_is_never_sure() -> None:
    eyes, mood = Eyes(), Mood()
    mood.now = (0.35, 0, 0.3, 0, 0.2, 0.05, 0.1)
    stream = FaceStream(eyes, mood)
    plain = watched(stream, eyes, moving(20))
    tilted = np.asarray((POINTS - 24) @ np.array([[0.96, 0.26], [-0.26, 0.96]]) + 24, np.float32)
    signs = [[face(260 + 3 * i, points=tilted)] for i in range(15)]
    look = watched(stream, eyes, signs, start_us=20 * STEP_US)
    assert plain.scores
    assert look.scores
    assert plain.scores.labels["confused"] < look.scores.labels["confused"] <= MAX_CONFUSED + 1e-6  # type: ignore[index]
    mood.now = (0, 0, 0, 0, 0, 0, 1)
    calm = watched(FaceStream(eyes, mood), eyes, moving(20))
    assert calm.scores
    assert calm.scores.labels["confused"] == 0  # type: ignore[index]


def test_times_that_do_not_go_forward_are_not_looked_at() -> None:
    eyes = Eyes()
    stream = FaceStream(eyes, Mood())
    assert stream.feed(VideoFrame("front", picture(), 1_000_000)) is not None
    assert stream.feed(VideoFrame("front", picture(), 1_000_000)) is None
    assert stream.feed(VideoFrame("front", picture(), 500_000)) is None
    assert stream.feed(VideoFrame("front", picture(), 900_000_000)) is not None


def test_a_large_picture_is_searched_small_and_answered_in_its_own_pixels() -> None:
    eyes = Eyes()
    look = watched(FaceStream(eyes, Mood()), eyes, [[face(x=100 + 3 * i, y=80)] for i in range(6)], picture(4320, 7680))
    assert eyes.seen == (360, 640, 3)
    assert look.face
    assert look.face.box[0] == pytest.approx(115 * 12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (5, 3)])
def test_a_tiny_picture_is_no_face(shape: tuple[int, int]) -> None:
    look = FaceStream(Eyes(), Mood()).feed(VideoFrame("front", picture(*shape), 0))
    assert look
    assert look.flaws == ("no face",)


def test_an_aligned_face_has_its_eyes_where_the_network_learnt_them() -> None:
    rgb = np.zeros((400, 400, 3), np.uint8)
    angle, scale = np.radians(25), 5.0
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = np.asarray((POINTS - 24) @ turn.T + 200, np.float32)
    for x, y in points:
        rgb[int(y) - 3 : int(y) + 4, int(x) - 3 : int(x) + 4] = 255
    aligned = align(rgb, points, 48)[..., 0].astype(int)
    for x, y in POINTS:
        assert aligned[round(float(y)), round(float(x))] > 100
    assert (aligned > 100).sum() < 40


@given(st.lists(st.floats(-1_000, 2_000, allow_nan=False), min_size=10, max_size=10), st.floats(0, 1))
def test_any_landmarks_give_a_quality(points: list[float], score: float) -> None:
    eyes, places = Eyes(), np.array(points, np.float32).reshape(5, 2)
    seen = [[Face((0, 0, 50 + i, 50), score, places + i)] for i in range(5)]
    look = watched(FaceStream(eyes, Mood()), eyes, seen)
    assert 0 <= look.quality <= 1


def test_a_network_gets_the_part_of_the_face_that_it_asks_for() -> None:
    rgb, points = picture(), face().landmarks
    whole = align(rgb, points, 96)
    np.testing.assert_array_equal(align(rgb, points, 96, (0.0, 0.0, 1.0, 1.0)), whole)
    quarter = align(rgb, points, 48, (0.5, 0.0, 1.0, 0.5)).astype(int)
    assert np.abs(quarter - whole[:48, 48:]).max() <= 1
    wider = align(rgb, points, 96, (-0.5, -0.5, 1.5, 1.5)).astype(int)
    assert np.abs(wider[24:72, 24:72] - align(rgb, points, 48)).max() <= 1
    stretched = align(rgb, points, 96, (0.25, 0.0, 0.75, 1.0)).astype(int)
    assert np.abs(stretched[:, ::2] - whole[:, 24:72]).max() <= 1


def test_valence_and_arousal_of_the_network_are_taken_before_those_of_its_labels() -> None:
    eyes, mood = Eyes(), Mood()
    mood.place = (-0.5, 0.9)
    stream = FaceStream(eyes, mood)
    early = watched(stream, eyes, moving(4)).scores
    assert early
    late = watched(stream, eyes, moving(40), start_us=1_000_000).scores
    assert late
    assert late.labels
    assert late.labels["satisfied"] > 0.9
    assert (late.valence, late.arousal) == (pytest.approx(-0.5, abs=0.03), pytest.approx(0.9, abs=0.03))
    assert -0.5 < early.valence < 0.1, "smoothed as the labels are"  # type: ignore[operator]
    assert late.dominance == pytest.approx(0.3, abs=0.05), "its labels tell what it does not give"

    seconds = FaceSeconds("customer", FaceStream(eyes, mood), "mood@1")
    for number in range(30):
        eyes.faces = [face(x=200 + 3 * number)]
        seconds.feed(VideoFrame("front", picture(), number * STEP_US))
    estimate = seconds.second(5)
    assert isinstance(estimate, AffectEstimate)
    assert (estimate.scores.valence, estimate.scores.arousal) == (
        pytest.approx(-0.5, abs=0.03),
        pytest.approx(0.9, abs=0.03),
    )
