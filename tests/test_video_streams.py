"""Live video streams to pictures: all frames decoded, some looked at; what is broken waits for the next key frame."""

import os
import time
from contextlib import suppress
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.signals import U8, EncodedFrame, VideoFrame
from affectline.pipelines import video
from affectline.pipelines.pictures import PICTURE_EVERY_US, decode, turned
from affectline.pipelines.timeline import VideoCodec
from affectline.pipelines.video import DECODERS, StreamDecoder

from .films import FRAMES_PER_S, Coded, coded, drawn, jpeg, number_of

pytestmark = pytest.mark.unit

CODECS = tuple(DECODERS)
FRAME_US = 1_000_000 // FRAMES_PER_S


def pictures(count: int = 45) -> list[U8]:
    return [drawn(number) for number in range(count)]


@pytest.fixture(scope="module")
def streams() -> dict[VideoCodec, list[Coded]]:
    """Three seconds, a key frame each second."""
    return {codec: coded(codec, pictures()) for codec in CODECS}


def watched(decoder: StreamDecoder, frames: list[Coded]) -> tuple[list[VideoFrame], list[str]]:
    """(pictures that were given, what was wrong)."""
    given, wrong = [], []
    for each in frames:
        try:
            picture = decoder.decode(each.frame)
        except InvalidInputError as error:
            wrong.append(str(error))
            continue
        if picture is not None:
            given.append(picture)
    return given, wrong


@pytest.mark.parametrize("codec", CODECS)
def test_a_stream_gives_five_pictures_a_second_at_their_times(
    streams: dict[VideoCodec, list[Coded]], codec: VideoCodec
) -> None:
    given, wrong = watched(StreamDecoder(codec), streams[codec])
    assert wrong == []
    assert len(given) == 15
    assert all(p.rgb.shape == (96, 160, 3) for p in given)
    for picture in given:
        assert number_of(picture.rgb) == pytest.approx(picture.at_us / FRAME_US, abs=2.5)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="the system has no scheduling policies")
@pytest.mark.parametrize("codec", CODECS)
def test_neither_films_nor_streams_give_this_process_real_time_priority(codec: VideoCodec) -> None:
    assert watched(StreamDecoder(codec), coded(codec, [drawn(0)]))[1] == []
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_a_stream_whose_order_is_not_that_of_time_gives_pictures_in_time() -> None:
    frames = coded("h264", pictures(), b_frames=2)
    assert [f.frame.at_us for f in frames] != sorted(f.frame.at_us for f in frames)
    given, wrong = watched(StreamDecoder("h264"), frames)
    assert wrong == []
    assert [p.at_us for p in given] == sorted(p.at_us for p in given)
    assert len(given) >= 13
    for picture in given:
        assert number_of(picture.rgb) == pytest.approx(picture.at_us / FRAME_US, abs=2.5)


@pytest.mark.parametrize("codec", CODECS)
def test_frames_that_are_only_followed_keep_the_stream_whole(
    streams: dict[VideoCodec, list[Coded]], codec: VideoCodec
) -> None:
    decoder = StreamDecoder(codec)
    followed = [Coded(replace(each.frame, use="follow"), each.key) for each in streams[codec][:14]]
    assert watched(decoder, followed) == ([], [])
    given, wrong = watched(decoder, streams[codec][14:15])
    assert (len(given), wrong) == (1, [])
    assert number_of(given[0].rgb) == pytest.approx(14, abs=2.5)


@pytest.mark.parametrize("codec", CODECS)
def test_after_a_skip_pictures_go_on_at_the_next_key_frame_and_nothing_is_wrong(
    streams: dict[VideoCodec, list[Coded]], codec: VideoCodec
) -> None:
    decoder, frames = StreamDecoder(codec), list(streams[codec])
    frames[4] = Coded(replace(frames[4].frame, use="skip"), key=False)
    given, wrong = watched(decoder, frames)
    assert wrong == []
    assert [p.at_us // FRAME_US for p in given][:3] == [0, 3, 15]


@pytest.mark.parametrize("codec", CODECS)
def test_what_is_broken_is_said_and_pictures_go_on_at_the_next_key_frame(
    streams: dict[VideoCodec, list[Coded]], codec: VideoCodec
) -> None:
    frames = list(streams[codec])
    frames[4] = Coded(replace(frames[4].frame, image=b"\x7f" * 400), key=False)
    given, wrong = watched(StreamDecoder(codec), frames)
    assert wrong
    assert set(wrong) == {
        f"expected {video.NAMES[codec]} of at most 10,000,000 pixels, found one that is larger or does not decode; "
        "pictures go on at the next key frame"
    }
    assert next(p.at_us // FRAME_US for p in given if p.at_us >= 15 * FRAME_US) == 15
    assert not any(4 <= p.at_us // FRAME_US < 15 for p in given)


@pytest.mark.parametrize("codec", CODECS)
def test_without_its_key_frame_a_stream_begins_at_the_next(
    streams: dict[VideoCodec, list[Coded]], codec: VideoCodec
) -> None:
    given, wrong = watched(StreamDecoder(codec), streams[codec][1:])
    assert len(wrong) == 14
    assert given[0].at_us // FRAME_US == 15


@pytest.mark.parametrize("codec", CODECS)
def test_the_size_may_change_at_a_key_frame(streams: dict[VideoCodec, list[Coded]], codec: VideoCodec) -> None:
    small = coded(codec, [drawn(n, 96, 128) for n in range(15)], start_us=3_000_000)
    given, wrong = watched(StreamDecoder(codec), [*streams[codec], *small])
    assert wrong == []
    assert {p.rgb.shape for p in given} == {(96, 160, 3), (128, 96, 3)}


@pytest.mark.parametrize("codec", ["h264", "h265", "vp8", "vp9"])
def test_too_large_a_picture_is_refused_before_memory_is_taken(codec: VideoCodec) -> None:
    frames = coded(codec, [np.zeros((2_560, 4_096, 3), np.uint8)])
    given, wrong = watched(StreamDecoder(codec), frames)
    assert given == []
    assert "at most 10,000,000 pixels, found one that is larger" in wrong[0]


def test_4k_is_taken() -> None:
    given, wrong = watched(StreamDecoder("h264"), coded("h264", [drawn(5, 3_840, 2_160)]))
    assert (len(given), wrong) == (1, [])


def test_another_layout_than_annex_b_does_not_decode(streams: dict[VideoCodec, list[Coded]]) -> None:
    """As in MP4 files: lengths in place of start codes."""
    lengths = [
        Coded(replace(c.frame, image=c.frame.image.replace(b"\0\0\0\1", b"\0\0\1\0")), c.key) for c in streams["h264"]
    ]
    given, wrong = watched(StreamDecoder("h264"), lengths[:5])
    assert given == []
    assert "(Annex B)" in wrong[0]


def test_a_codec_that_this_build_does_not_have_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "DECODERS", {"av1": "no_such_decoder"})
    with pytest.raises(InvalidInputError, match="expected a build that decodes av1, found one that does not"):
        StreamDecoder("av1").decode(EncodedFrame("face", b"\x12\x00", 0))


@pytest.mark.parametrize("codec", CODECS)
def test_no_bytes_do_not_end_a_stream(streams: dict[VideoCodec, list[Coded]], codec: VideoCodec) -> None:
    decoder = StreamDecoder(codec)
    watched(decoder, streams[codec][:3])
    with pytest.raises(InvalidInputError, match="found no bytes"):
        decoder.decode(EncodedFrame("face", b"", 200_000))
    assert len(watched(decoder, streams[codec][3:6])[0]) == 1


@pytest.mark.parametrize("codec", CODECS)
def test_noise_in_a_stream_never_crashes_it(streams: dict[VideoCodec, list[Coded]], codec: VideoCodec) -> None:
    rng = np.random.default_rng(3)
    decoder = StreamDecoder(codec)
    given, wrong = [], []
    for _ in range(10):
        for each in streams[codec]:
            image = bytearray(each.frame.image)
            match rng.integers(8):
                case 0:
                    image = bytearray(rng.bytes(int(rng.integers(1, 3_000))))
                case 1:
                    image = image[: int(rng.integers(1, len(image) + 1))]
                case 2 | 3:
                    for at in rng.integers(len(image), size=int(rng.integers(1, 9))):
                        image[at] = rng.integers(256)
            found = watched(decoder, [Coded(replace(each.frame, image=bytes(image)), each.key)])
            given += found[0]
            wrong += found[1]
    assert given
    assert wrong
    whole, still = watched(decoder, streams[codec])
    assert len(whole) >= 10, f"a whole stream is seen again after noise, {still}"


WHOLE_JPEG = jpeg(drawn(3))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(WHOLE_JPEG)), st.booleans())
def test_noise_in_a_picture_is_a_picture_or_an_error(noise: bytes, at: int, whole: bool) -> None:
    image = WHOLE_JPEG[:at] + noise + (WHOLE_JPEG[at + len(noise) :] if whole else b"")
    with suppress(InvalidInputError):
        assert decode(EncodedFrame("face", image, 0)).rgb.ndim == 3


@pytest.mark.parametrize("name", [".jpg", ".png", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_picture_that_ends_early_is_an_error(name: str, share: float) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    _, data = cv2.imencode(name, rgb)
    assert decode(EncodedFrame("face", bytes(data), 0)).rgb.shape == (120, 160, 3)
    with pytest.raises(InvalidInputError, match="expected a whole picture, found one of 160 x 120"):
        decode(EncodedFrame("face", bytes(data)[: int(share * len(data))], 0))


@pytest.mark.parametrize(("orientation", "corner"), [(1, "tl"), (3, "br"), (6, "tr"), (8, "bl")])
def test_a_jpeg_is_turned_as_its_exif_says(orientation: int, corner: str) -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0" + bytes((orientation,)) + b"\0\0\0\0\0\0"
    image = WHOLE_JPEG[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + WHOLE_JPEG[2:]
    assert white_corner(decode(EncodedFrame("face", image, 0)).rgb) == corner


@pytest.mark.parametrize(("degrees", "corner"), [(0, "tl"), (90, "tr"), (180, "br"), (270, "bl")])
def test_a_picture_is_turned_clockwise(degrees: int, corner: str) -> None:
    picture = turned(VideoFrame("face", drawn(3), 7), degrees)
    assert white_corner(picture.rgb) == corner
    assert (picture.rgb.shape[:2] == (96, 160)) == (degrees in (0, 180))
    assert picture.at_us == 7


def white_corner(rgb: U8) -> str:
    corners = {"tl": rgb[:16, :16], "tr": rgb[:16, -16:], "bl": rgb[-16:, :16], "br": rgb[-16:, -16:]}
    return max(corners, key=lambda name: corners[name].mean())


def test_pictures_come_no_closer_than_they_are_looked_at() -> None:
    decoder = StreamDecoder("vp8")
    frames = coded("vp8", pictures(30))
    times = [0, 10, 10, 20, PICTURE_EVERY_US, 50_000, 10_000_000, 10_000_001, 400_000]
    moved = [Coded(replace(each.frame, at_us=at_us), each.key) for each, at_us in zip(frames, times, strict=False)]
    given, wrong = watched(decoder, moved)
    assert wrong == []
    assert [p.at_us for p in given] == [0, PICTURE_EVERY_US, 50_000, 10_000_000, 400_000], "times may go back or jump"


def test_a_sender_of_huge_frames_takes_little_time(streams: dict[VideoCodec, list[Coded]]) -> None:
    """Megabytes of noise behind a start code."""
    noise = b"\0\0\0\1\x65" + np.random.default_rng(0).bytes(4_000_000)
    before_s = time.monotonic()
    _, wrong = watched(StreamDecoder("h264"), [*streams["h264"][:1], Coded(EncodedFrame("face", noise, 1), key=True)])
    assert wrong
    assert time.monotonic() - before_s < 2


def test_the_decoders_are_ffmpegs() -> None:
    assert all(av.Codec(name, "r").type == "video" for name in DECODERS.values())
