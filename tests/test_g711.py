import io

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from affectline.pipelines.g711 import decode_alaw, decode_mulaw, encode_alaw, encode_mulaw

pytestmark = pytest.mark.unit

CODES = np.arange(256, dtype=np.uint8)
INT16 = np.arange(-32_768, 32_768)


def by_libsndfile(codes: npt.NDArray[np.uint8], subtype: str) -> npt.NDArray[np.float32]:
    pcm, _ = soundfile.read(
        io.BytesIO(codes.tobytes()),
        dtype="float32",
        format="RAW",
        subtype=subtype,
        samplerate=8_000,
        channels=1,
    )
    return np.asarray(pcm, np.float32)


def by_ffmpeg(codes: npt.NDArray[np.uint8], codec: str) -> npt.NDArray[np.float32]:
    decoder = av.CodecContext.create(codec, "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.sample_rate, decoder.layout = 8_000, "mono"
    frames = [frame.to_ndarray()[0] for frame in decoder.decode(av.Packet(codes.tobytes()))]
    return (np.concatenate(frames) / 32_768).astype(np.float32)


def mulaw_by_formula(sample: int) -> int:
    """G.711 in integers, as ITU-T G.191's reference code does it: negatives by one's complement."""
    magnitude = min(((~sample if sample < 0 else sample) >> 2) + 33, 0x1FFF)
    segment = magnitude.bit_length() - 6
    code = segment << 4 | (magnitude >> (segment + 1)) & 0xF
    return (code if sample < 0 else code | 0x80) ^ 0x7F


def alaw_by_formula(sample: int) -> int:
    magnitude = (~sample if sample < 0 else sample) >> 4
    shift = max(magnitude.bit_length() - 5, 0)
    code = magnitude if magnitude < 16 else (shift + 1) << 4 | (magnitude >> shift) & 0xF
    return (code if sample < 0 else code | 0x80) ^ 0x55


def test_every_code_decodes_as_in_libsndfile_and_ffmpeg() -> None:
    for subtype, codec, decode in (("ULAW", "pcm_mulaw", decode_mulaw), ("ALAW", "pcm_alaw", decode_alaw)):
        np.testing.assert_array_equal(decode(CODES), by_libsndfile(CODES, subtype))
        np.testing.assert_array_equal(decode(CODES), by_ffmpeg(CODES, codec))


def test_every_16_bit_sample_encodes_as_the_reference_formula() -> None:
    pcm = (INT16 / 32_768).astype(np.float32)
    np.testing.assert_array_equal(encode_mulaw(pcm), [mulaw_by_formula(int(sample)) for sample in INT16])
    np.testing.assert_array_equal(encode_alaw(pcm), [alaw_by_formula(int(sample)) for sample in INT16])


def test_codes_survive_a_round_trip() -> None:
    np.testing.assert_array_equal(encode_alaw(decode_alaw(CODES)), CODES)
    # µ-law writes zero in two ways; the negative one comes back as the positive one.
    np.testing.assert_array_equal(encode_mulaw(decode_mulaw(CODES)), np.where(CODES == 0x7F, 0xFF, CODES))


def test_beyond_full_scale_clips_to_the_outermost_code() -> None:
    loud = np.array([-3, 3], np.float32)
    assert encode_mulaw(loud).tolist() == [0x00, 0x80]
    assert encode_alaw(loud).tolist() == [0x2A, 0xAA]
