"""Faces followed from picture to picture; never two people made one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.signals import Face
from affectline.pipelines.tracker import LOST_US, Tracker

pytestmark = pytest.mark.unit

STEP_US = 100_000


def face(x: float, y: float, side: float = 80.0) -> Face:
    points = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32) * side + (x, y)
    return Face((x, y, x + side, y + side), 0.9, points.astype(np.float32))


def test_a_moving_face_stays_the_same_and_two_stay_two() -> None:
    tracker = Tracker()
    ids = [
        tuple(t.id for t in tracker.feed([face(10 + 6 * i, 50), face(400 - 5 * i, 60, 60)], i * STEP_US))
        for i in range(20)
    ]
    assert set(ids) == {(0, 1)}


def test_faces_that_swap_their_order_in_the_list_keep_their_tracks() -> None:
    tracker = Tracker()
    first, second = face(10, 10), face(300, 10)
    a, b = tracker.feed([first, second], 0)
    d, c = tracker.feed([second, first], STEP_US)
    assert (a.id, b.id) == (c.id, d.id)


def test_a_missed_detection_is_bridged_and_a_long_absence_is_not() -> None:
    tracker = Tracker()
    (one,) = tracker.feed([face(10, 10)], 0)
    tracker.feed([], STEP_US)
    (again,) = tracker.feed([face(14, 10)], 3 * STEP_US)
    assert again is one
    (other,) = tracker.feed([face(14, 10)], 4 * STEP_US + 2 * LOST_US)
    assert other.id != one.id


def test_someone_else_in_another_place_or_size_is_someone_else() -> None:
    tracker = Tracker()
    (one,) = tracker.feed([face(10, 10)], 0)
    (far,) = tracker.feed([face(300, 10)], STEP_US)
    (large,) = tracker.feed([face(290, 0, 200)], 2 * STEP_US)
    assert len({one.id, far.id, large.id}) == 3


def test_a_cut_to_two_people_gives_the_old_track_to_one_at_most() -> None:
    tracker = Tracker()
    tracker.feed([face(100, 100)], 0)
    tracks = tracker.feed([face(95, 100), face(120, 100)], STEP_US)
    assert len({t.id for t in tracks}) == 2


places = st.tuples(st.floats(0, 600), st.floats(0, 400), st.floats(1, 300))


@given(st.lists(st.lists(places, max_size=4), max_size=12))
def test_each_face_has_a_track_of_its_own(pictures: list[list[tuple[float, float, float]]]) -> None:
    tracker = Tracker()
    for number, picture in enumerate(pictures):
        tracks = tracker.feed([face(*place) for place in picture], number * STEP_US)
        assert len({t.id for t in tracks}) == len(picture)
        assert [t.face.box[0] for t in tracks] == [pytest.approx(place[0]) for place in picture]
