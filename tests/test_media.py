import tracemalloc
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import av
import numpy as np
import pytest
import soundfile

from affectline.models.errors import InvalidInputError
from affectline.models.signals import F32
from affectline.pipelines.g711 import encode_alaw, encode_mulaw
from affectline.pipelines.media import RawFormat, Recording, open_recording
from affectline.pipelines.timeline import VideoCodec
from affectline.pipelines.video import StreamDecoder

from . import films
from .films import drawn

pytestmark = pytest.mark.unit

RATE_HZ = 16_000
LEFT_HZ, RIGHT_HZ = 440, 1_000


def tones(rate_hz: int = RATE_HZ, channels: int = 2, seconds: float = 2.0) -> F32:
    """[n, channels]: another tone on each channel."""
    t = np.arange(round(rate_hz * seconds))[:, None] / rate_hz
    pitches = np.array([LEFT_HZ, RIGHT_HZ, *(1_200 + 150 * i for i in range(channels - 2))])[:channels]
    return (0.4 * np.sin(2 * np.pi * pitches * t)).astype(np.float32)


def encode(path: Path, codec: str, pcm: F32, rate_hz: int = RATE_HZ, *, options: dict[str, str] | None = None) -> Path:
    """Writes [n, channels] with FFmpeg; the name decides the container."""
    layout = "stereo" if pcm.shape[1] == 2 else "mono"
    with av.open(path, "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        assert isinstance(stream, av.AudioStream)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm.T), format="fltp", layout=layout)
        frame.sample_rate = rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(recording: Recording, frames: int = 4_096) -> F32:
    """[n, channels], having checked the order and position of every chunk."""
    parts: list[list[F32]] = [[] for _ in range(recording.channels)]
    position = 0
    for i, chunk in enumerate(recording.chunks(frames)):
        assert chunk.channel == i % recording.channels
        assert chunk.rate_hz == recording.rate_hz
        assert chunk.start_sample == position
        assert chunk.pcm.dtype == np.float32
        assert chunk.pcm.flags.c_contiguous
        assert 0 < len(chunk.pcm) <= frames
        assert np.abs(chunk.pcm).max() <= 1
        parts[chunk.channel].append(chunk.pcm)
        position += len(chunk.pcm) if chunk.channel == recording.channels - 1 else 0
    return np.stack([np.concatenate(part) for part in parts], axis=1)


def pitch_hz(pcm: F32, rate_hz: int) -> float:
    spectrum = np.abs(np.fft.rfft(pcm * np.hanning(len(pcm))))
    return float(spectrum.argmax() * rate_hz / len(pcm))


def refuses(path: Path, *, raw: RawFormat | None = None) -> str:
    with pytest.raises(InvalidInputError) as caught:
        read(open_recording(path, raw=raw))
    message = str(caught.value)
    assert message.startswith(f"{path.name}: expected ")
    assert ", found" in message
    return message


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [
        ("PCM_U8", 0.008),
        ("PCM_16", 4e-5),
        ("PCM_24", 2e-7),
        ("PCM_32", 1e-7),
        ("FLOAT", 0),
        ("ULAW", 0.02),
        ("ALAW", 0.02),
    ],
)
def test_wav_of_every_encoding(tmp_path: Path, subtype: str, tolerance: float) -> None:
    soundfile.write(tmp_path / "call.wav", tones(), RATE_HZ, subtype=subtype)
    recording = open_recording(tmp_path / "call.wav")
    assert (recording.rate_hz, recording.channels, recording.duration_us) == (RATE_HZ, 2, 2_000_000)
    assert recording.codec == subtype.lower()
    np.testing.assert_allclose(read(recording), tones(), atol=tolerance)
    assert not recording.truncated


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_flac_is_lossless(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "call.flac", tones(), RATE_HZ, subtype=subtype)
    recording = open_recording(tmp_path / "call.flac")
    assert (recording.codec, recording.duration_us) == ("flac", 2_000_000)
    np.testing.assert_allclose(read(recording), tones(), atol=4e-5 if subtype == "PCM_16" else 2e-7)
    assert not recording.truncated


@pytest.mark.parametrize(
    ("name", "codec", "heard_as"),
    [
        ("call.mp3", "libmp3lame", "mp3"),
        ("call.m4a", "aac", "aac"),
        ("call.mp4", "aac", "aac"),
        ("call.webm", "libopus", "opus"),
        ("call.opus", "libopus", "opus"),
        ("call.mka", "aac", "aac"),
        ("call.aac", "aac", "aac"),
        ("call.avi", "libmp3lame", "mp3"),
    ],
)
def test_compressed_files(tmp_path: Path, name: str, codec: str, heard_as: str) -> None:
    recording = open_recording(encode(tmp_path / name, codec, tones(48_000), 48_000))
    assert (recording.rate_hz, recording.channels, recording.codec) == (48_000, 2, heard_as)
    pcm = read(recording)
    assert len(pcm) == pytest.approx(96_000, abs=4_800)
    assert pitch_hz(pcm[:, 0], 48_000) == pytest.approx(LEFT_HZ, abs=2)
    assert pitch_hz(pcm[:, 1], 48_000) == pytest.approx(RIGHT_HZ, abs=2)
    assert not recording.truncated


def test_ogg_from_a_phone_line_keeps_its_rate(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.ogg", tones(8_000, 1), 8_000, format="OGG", subtype="OPUS")
    recording = open_recording(tmp_path / "call.ogg")
    assert (recording.rate_hz, recording.channels, recording.codec) == (8_000, 1, "opus")
    assert pitch_hz(read(recording)[:, 0], 8_000) == pytest.approx(LEFT_HZ, abs=2)
    assert not recording.truncated


def film(
    path: Path, *, sound: bool = True, turned: int = 0, times: Sequence[int] = range(10), codec: str = "mpeg4"
) -> Path:
    """Pictures at `times` in tenths of a second, each brighter than the one before and white in its upper left."""
    pictures = [drawn(5 * number, 96, 64) for number in range(len(times))]
    return films.film(path, pictures, codec=codec, rate=10, times=times, sound_s=1.0 if sound else None, turned=turned)


def test_a_film_gives_sound_and_pictures_on_one_clock(tmp_path: Path) -> None:
    recording = open_recording(film(tmp_path / "call.mp4"))
    assert recording.has_video
    assert pitch_hz(read(recording)[:, 0], 48_000) == pytest.approx(LEFT_HZ, abs=2)
    assert not recording.truncated
    pictures = list(recording.pictures("front", 200_000))
    assert [(p.camera, p.rgb.shape) for p in pictures] == [("front", (64, 96, 3))] * 5
    assert [p.at_us for p in pictures] == pytest.approx([0, 200_000, 400_000, 600_000, 800_000], abs=50_000)
    assert not list(open_recording(encode(tmp_path / "call.ogg", "libopus", tones(48_000), 48_000)).pictures("x", 1))


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "mpeg4"), ("b.mp4", "libx264"), ("c.webm", "libvpx"), ("d.avi", "mpeg4")]
)
def test_a_video_without_sound_is_opened_for_its_pictures(tmp_path: Path, name: str, codec: str) -> None:
    recording = open_recording(film(tmp_path / name, sound=False, codec=codec))
    assert (recording.has_sound, recording.has_video, recording.channels) == (False, True, 1)
    assert recording.duration_us == pytest.approx(1_000_000, abs=110_000)
    assert not list(recording.chunks())
    assert not recording.truncated
    assert [p.at_us for p in recording.pictures("x", 200_000)] == pytest.approx(
        range(0, 1_000_000, 200_000), abs=50_000
    )


def test_a_file_with_neither_sound_nor_video_is_an_error(tmp_path: Path) -> None:
    path = film(tmp_path / "call.mp4", sound=False)
    path.write_bytes(path.read_bytes().replace(b"vide", b"meta").replace(b"mp4v", b"mett"))
    assert "expected sound or video that decodes, found data in mov" in refuses(path)


def test_a_film_of_an_unknown_codec_has_only_its_sound(tmp_path: Path) -> None:
    path = film(tmp_path / "silent.mp4", sound=False, codec="libx264")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    assert "expected sound or video that decodes, found video in mov" in refuses(path)
    path = film(tmp_path / "call.mp4", codec="libx264")
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    recording = open_recording(path)
    assert (recording.has_sound, recording.has_video, recording.video_codec) == (True, False, None)
    assert recording.rotation_degrees() == 0
    assert len(read(recording)) >= 48_000


def test_a_silent_film_in_which_nothing_decodes_is_an_error(tmp_path: Path) -> None:
    path = films.film(tmp_path / "call.mp4", [drawn(n) for n in range(5)])
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big") - 8
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    assert "nothing decodes" in refuses(path)


def test_a_video_of_a_moment_is_too_short(tmp_path: Path) -> None:
    path = films.film(tmp_path / "call.mp4", [drawn(0)], rate=25)
    assert "expected at least 0.1 s of video, found 0.04 s" in refuses(path)


@pytest.mark.parametrize(
    ("name", "codec", "coding"),
    [
        ("a.mp4", "libx264", "h264"),
        ("b.mp4", "libx265", "h265"),
        ("c.webm", "libvpx", "vp8"),
        ("d.webm", "libvpx-vp9", "vp9"),
        ("e.ts", "libx264", "h264"),
    ],
)
def test_a_film_can_be_streamed_as_it_is_coded(tmp_path: Path, name: str, codec: str, coding: VideoCodec) -> None:
    pictures = [drawn(number) for number in range(40)]
    recording = open_recording(films.film(tmp_path / name, pictures, codec=codec, sound_s=2.0))
    assert recording.video_codec == coding
    decoder = StreamDecoder(coding)
    streamed = [p for frame in recording.coded_frames("x") if (p := decoder.decode(frame)) is not None]
    recorded = list(recording.pictures("x", 200_000))
    assert len(recorded) - 2 <= len(streamed) <= len(recorded)
    for ours, theirs in zip(streamed, recorded, strict=False):
        assert ours.at_us == pytest.approx(theirs.at_us, abs=2)
        np.testing.assert_array_equal(ours.rgb, theirs.rgb)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "libx264"), ("b.webm", "libvpx"), ("c.mp4", "libx265")])
def test_a_damaged_film_is_streamed_as_far_as_it_goes(tmp_path: Path, name: str, codec: str) -> None:
    path = films.film(tmp_path / name, [drawn(n) for n in range(60)], codec=codec, sound_s=3.0)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(20):
        data = bytearray(whole)
        for at in rng.integers(len(data), size=40):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        with suppress(InvalidInputError):
            recording = open_recording(path)
            frames = list(recording.coded_frames("x"))
            assert all(frame.image and frame.at_us >= 0 for frame in frames)
            assert recording.rotation_degrees() in (0, 90, 180, 270)
            list(recording.pictures("x", 200_000))
            list(recording.chunks())


def test_a_film_of_another_codec_is_not_streamed_as_it_is(tmp_path: Path) -> None:
    recording = open_recording(film(tmp_path / "call.mp4"))
    assert recording.video_codec is None
    assert not list(recording.coded_frames("x"))


def test_a_film_of_too_large_pictures_gives_none(tmp_path: Path) -> None:
    recording = open_recording(
        films.film(tmp_path / "call.mp4", [np.zeros((5_200, 8_000, 3), np.uint8)] * 2, codec="mpeg4", sound_s=1.0)
    )
    assert recording.has_video
    assert not list(recording.pictures("x", 1))


@pytest.mark.parametrize(("turned", "corner"), [(90, "right"), (270, "left")])
def test_a_film_taken_with_the_phone_on_its_side_is_turned_upright(tmp_path: Path, turned: int, corner: str) -> None:
    (picture, *_) = open_recording(film(tmp_path / "phone.mp4", turned=turned)).pictures("front", 200_000)
    assert picture.rgb.shape == (96, 64, 3)
    top = picture.rgb[:16, -16:] if corner == "right" else picture.rgb[-16:, :16]
    assert top.mean() > 200
    assert open_recording(tmp_path / "phone.mp4").rotation_degrees() == turned
    assert open_recording(film(tmp_path / "upright.mp4")).rotation_degrees() == 0


def test_pictures_at_uneven_times_keep_them(tmp_path: Path) -> None:
    recording = open_recording(film(tmp_path / "call.mp4", times=(0, 1, 2, 5, 9)))
    assert [p.at_us for p in recording.pictures("front", 200_000)] == pytest.approx(
        [0, 200_000, 500_000, 900_000], abs=50_000
    )


def test_a_damaged_film_gives_the_pictures_that_are_whole(tmp_path: Path) -> None:
    path = film(tmp_path / "call.mp4")
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 300
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    assert len(list(open_recording(path).pictures("front", 100_000))) <= 10


@pytest.mark.parametrize("encoding", ["s16le", "mulaw", "alaw"])
def test_raw_files(tmp_path: Path, encoding: Literal["s16le", "mulaw", "alaw"]) -> None:
    pcm = tones(8_000)
    write = {"s16le": lambda x: (x * 32_767).astype("<i2"), "mulaw": encode_mulaw, "alaw": encode_alaw}
    path = tmp_path / "call.raw"
    path.write_bytes(write[encoding](pcm).tobytes())
    recording = open_recording(path, raw=RawFormat(encoding, 8_000, 2))
    assert (recording.rate_hz, recording.channels, recording.duration_us) == (8_000, 2, 2_000_000)
    np.testing.assert_allclose(read(recording), pcm, atol=0.02)
    assert not recording.truncated
    with path.open("ab") as file:
        file.write(b"\0")
    assert open_recording(path, raw=RawFormat(encoding, 8_000, 2)).truncated
    assert "headerless PCM" in refuses(path)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 48_000, 96_000, 192_000])
def test_rates(tmp_path: Path, rate_hz: int) -> None:
    for name in ("call.wav", "call.flac"):
        soundfile.write(tmp_path / name, tones(rate_hz, 1), rate_hz)
        recording = open_recording(tmp_path / name)
        assert recording.rate_hz == rate_hz
        np.testing.assert_allclose(read(recording), tones(rate_hz, 1), atol=4e-5)


def test_eight_channels(tmp_path: Path) -> None:
    for name in ("call.wav", "call.flac"):
        soundfile.write(tmp_path / name, tones(channels=8), RATE_HZ)
        np.testing.assert_allclose(read(open_recording(tmp_path / name)), tones(channels=8), atol=4e-5)


def test_chunk_size_and_rereading_do_not_change_the_sound(tmp_path: Path) -> None:
    recording = open_recording(encode(tmp_path / "call.mp3", "libmp3lame", tones()))
    whole = read(recording)
    for frames in (1_000_000, 4_096, 160, 1_153):
        np.testing.assert_array_equal(read(recording, frames), whole)


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "wav.mp3", tones(), RATE_HZ, format="WAV")
    encode(tmp_path / "call.m4a", "aac", tones()).rename(tmp_path / "m4a.wav")
    soundfile.write(tmp_path / "flac.raw", tones(), RATE_HZ, format="FLAC")
    assert [open_recording(tmp_path / n).codec for n in ("wav.mp3", "m4a.wav", "flac.raw")] == [
        "pcm_16",
        "aac",
        "flac",
    ]


def test_louder_than_full_scale_is_limited(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "loud.wav", tones() * 5, RATE_HZ, subtype="FLOAT")
    np.testing.assert_array_equal(read(open_recording(tmp_path / "loud.wav")), np.clip(tones() * 5, -1, 1))


def test_a_gap_in_the_files_clock_is_a_gap_in_the_chunks(tmp_path: Path) -> None:
    pcm = tones(48_000, 1)
    with av.open(tmp_path / "call.webm", "w") as container:
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        assert isinstance(stream, av.AudioStream)
        for at in (0, 5 * 48_000):  # two seconds, three seconds of nothing, two seconds
            for i in range(0, len(pcm), 960):
                frame = av.AudioFrame.from_ndarray(
                    np.ascontiguousarray(pcm[i : i + 960].T), format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts = 48_000, at + i
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    chunks = list(open_recording(tmp_path / "call.webm").chunks())
    ends = [chunk.start_sample + len(chunk.pcm) for chunk in chunks]
    jumps = [
        (end, after.start_sample) for end, after in zip(ends, chunks[1:], strict=False) if after.start_sample != end
    ]
    assert len(jumps) == 1
    assert list(jumps[0]) == pytest.approx([96_000, 240_000], abs=1_000)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("call.wav", ""),
        ("call.aiff", ""),
        ("call.flac", ""),
        ("call.ogg", ""),
        ("call.mp3", "libmp3lame"),
        ("fast.m4a", "aac"),
        ("call.webm", "libopus"),
    ],
)
def test_a_cut_off_body_is_read_and_told(tmp_path: Path, name: str, codec: str) -> None:
    path = tmp_path / name
    if codec:
        encode(path, codec, tones(48_000, 1, 6), 48_000, options={"movflags": "faststart"} if "m4a" in name else {})
    else:
        soundfile.write(path, tones(48_000, 1, 6), 48_000)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    recording = open_recording(path)
    pcm = read(recording)
    assert recording.truncated
    assert 2 * 48_000 < len(pcm) < 4 * 48_000
    assert pitch_hz(pcm[:, 0], 48_000) == pytest.approx(LEFT_HZ, abs=2)


def test_a_damaged_middle_is_skipped_and_told(tmp_path: Path) -> None:
    path = encode(tmp_path / "call.aac", "aac", tones(48_000, 1, 6), 48_000)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000] = np.random.default_rng(0).bytes(2_000)
    path.write_bytes(content)
    recording = open_recording(path)
    assert len(read_loosely(recording)) > 4 * 48_000
    assert recording.truncated


def test_an_undeclared_length_is_unknown_and_no_truncation(tmp_path: Path) -> None:
    quiet_then_noisy = np.random.default_rng(0).uniform(-0.4, 0.4, (8 * 48_000, 1)).astype(np.float32)
    quiet_then_noisy[: 7 * 48_000] = 0
    encode(tmp_path / "call.aac", "aac", quiet_then_noisy, 48_000)
    encode(tmp_path / "call.mp3", "libmp3lame", quiet_then_noisy, 48_000, options={"write_xing": "0"})
    soundfile.write(tmp_path / "call.flac", quiet_then_noisy, 48_000)
    content = bytearray((tmp_path / "call.flac").read_bytes())
    content[21] &= 0xF0  # the low half of this byte and the next four hold the number of samples
    content[22:26] = bytes(4)
    (tmp_path / "call.flac").write_bytes(content)
    for name in ("call.aac", "call.mp3", "call.flac"):
        recording = open_recording(tmp_path / name)
        assert recording.duration_us is None
        assert len(read(recording)) >= 8 * 48_000
        assert not recording.truncated


def read_loosely(recording: Recording) -> F32:
    return np.concatenate([chunk.pcm for chunk in recording.chunks()])


def test_a_streamed_wav_of_unknown_length_is_whole(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "call.wav", tones(), RATE_HZ)
    content = bytearray((tmp_path / "call.wav").read_bytes())
    for at in (4, content.index(b"data") + 4):
        content[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "call.wav").write_bytes(content)
    recording = open_recording(tmp_path / "call.wav")
    assert len(read(recording)) == 2 * RATE_HZ
    assert not recording.truncated


@pytest.mark.parametrize("name", ["call.wav", "call.flac", "call.ogg"])
def test_a_cut_off_header_is_an_error(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, tones(), RATE_HZ)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20])
    refuses(tmp_path / name)


def test_an_index_at_the_end_that_is_cut_off_is_an_error(tmp_path: Path) -> None:
    path = encode(tmp_path / "call.m4a", "aac", tones())
    path.write_bytes(path.read_bytes()[:-2_000])
    assert "cut off" in refuses(path)


@pytest.mark.parametrize("name", ["call.wav", "call.mp3", "call"])
@pytest.mark.parametrize(
    "content",
    [
        b"hello\n" * 1_000,
        bytes(100_000),
        np.random.default_rng(0).bytes(100_000),
        b"\x89PNG\r\n\x1a\n" + bytes(500),
        b"RIFF\xff\xff\xff\xffWAVE",
    ],
    ids=["text", "zeros", "noise", "picture", "stub"],
)
def test_what_is_not_audio_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    refuses(tmp_path / name)


def test_a_playlist_opens_nothing_else(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.flac", tones(), RATE_HZ)
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{tmp_path}/secret.flac\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "list.txt").write_text(f"ffconcat version 1.0\nfile {tmp_path}/secret.flac\n")
    refuses(tmp_path / "list.m3u8")
    refuses(tmp_path / "list.txt")


def test_empty_missing_and_folder(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    assert "an empty file" in refuses(tmp_path / "empty.wav")
    assert "no such file" in refuses(tmp_path / "missing.wav")
    assert "a folder" in refuses(tmp_path)


@pytest.mark.parametrize("samples", [0, 1, 1_599])
@pytest.mark.parametrize("name", ["call.wav", "call.flac"])
def test_too_short(tmp_path: Path, name: str, samples: int) -> None:
    soundfile.write(tmp_path / name, tones(channels=1)[:samples], RATE_HZ)
    refuses(tmp_path / name)


@pytest.mark.parametrize("rate_hz", [4_000, 384_000])
def test_rates_outside_the_range(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "call.wav", tones(rate_hz, 1), rate_hz)
    assert f"found {rate_hz:,} Hz" in refuses(tmp_path / "call.wav")
    refuses(tmp_path / "call.wav", raw=RawFormat("s16le", rate_hz))
    refuses(tmp_path / "call.wav", raw=RawFormat("s16le", 8_000, 0))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    pcm = tones()
    pcm[20_000, 1] = value
    soundfile.write(tmp_path / "call.wav", pcm, RATE_HZ, subtype="FLOAT")
    assert "NaN or infinity" in refuses(tmp_path / "call.wav")


def sparse(path: Path, hours: float) -> RawFormat:
    """A silent µ-law file of this length that takes no room on disk."""
    with path.open("wb") as file:
        file.truncate(int(hours * 3_600 * 8_000))
    return RawFormat("mulaw", 8_000)


def test_more_than_a_day(tmp_path: Path) -> None:
    assert "found 24.5 h" in refuses(tmp_path / "call.raw", raw=sparse(tmp_path / "call.raw", 24.5))


@pytest.mark.slow
def test_a_four_hour_file_takes_little_memory(tmp_path: Path) -> None:
    recording = open_recording(tmp_path / "call.raw", raw=sparse(tmp_path / "call.raw", 4))
    tracemalloc.start()
    total = sum(len(chunk.pcm) for chunk in recording.chunks())
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert total == 4 * 3_600 * 8_000
    assert peak_bytes < 4_000_000
