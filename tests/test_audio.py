"""One channel's sound: chunks of any size, holes, and what is kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32, AudioChunk
from affectline.pipelines.audio import FULL_SCALE, ChannelAudio

pytestmark = pytest.mark.unit

FRAME = 512
NOISE = np.random.default_rng(5).normal(0, 0.1, 24_000).astype(np.float32)


def filled(rate_hz: int, pcm: F32, cuts: list[int]) -> ChannelAudio:
    audio = ChannelAudio(rate_hz, FRAME)
    for start, end in zip([0, *cuts], [*cuts, len(pcm)], strict=True):
        audio.push(AudioChunk(0, pcm[start:end], rate_hz, start))
    audio.finish()
    return audio


@given(st.lists(st.integers(0, len(NOISE)), max_size=20).map(sorted), st.sampled_from([8_000, 16_000, 44_100]))
def test_the_chunks_do_not_show_in_the_sound(cuts: list[int], rate_hz: int) -> None:
    whole, cut = filled(rate_hz, NOISE, []), filled(rate_hz, NOISE, cuts)
    assert whole.frames == cut.frames
    np.testing.assert_array_equal(whole.read(0, whole.frames * FRAME), cut.read(0, cut.frames * FRAME))


def test_a_jump_in_the_positions_is_a_loss_of_that_length() -> None:
    audio = ChannelAudio(8_000, FRAME)
    audio.push(AudioChunk(0, NOISE[:8_000], 8_000, 0))
    audio.push(AudioChunk(0, NOISE[:8_000], 8_000, 16_000))
    audio.finish()
    assert audio.received_us == 3_000_000
    assert [audio.gap_reason(frame) for frame in (0, 46, 70)] == [None, "loss", None]
    assert not audio.read(RATE_HZ + FRAME, 2 * RATE_HZ - FRAME).any()
    assert audio.read(2 * RATE_HZ + FRAME, 3 * RATE_HZ).any()


def test_sound_that_came_before_counts_once() -> None:
    audio = ChannelAudio(8_000, FRAME)
    audio.push(AudioChunk(0, NOISE[:8_000], 8_000, 0))
    audio.push(AudioChunk(0, NOISE[4_000:12_000], 8_000, 4_000))
    assert audio.received_us == 1_500_000


def test_sound_of_16_bits_is_kept_as_it_is_and_louder_sound_stays_loud() -> None:
    audio = ChannelAudio(16_000, FRAME)
    pcm = np.arange(-(1 << 15), 1 << 15, dtype=np.float32) / FULL_SCALE
    audio.push(AudioChunk(0, pcm, 16_000, 0))
    np.testing.assert_array_equal(audio.read(0, len(pcm)), pcm)
    audio.push(AudioChunk(0, np.array([1.5, -1.5], np.float32), 16_000, len(pcm)))
    np.testing.assert_allclose(audio.read(len(pcm), len(pcm) + 2), [1, -1], atol=1 / FULL_SCALE)


def test_withheld_sound_leaves_only_its_length() -> None:
    audio = ChannelAudio(16_000, FRAME)
    audio.push(AudioChunk(0, NOISE[:16_000], 16_000, 0), withheld="consent pending")
    assert audio.received_us == 1_000_000
    assert not audio.read(0, 16_000).any()
    assert audio.gap_reason(5) == "consent pending"


def test_what_is_forgotten_is_gone_and_the_rest_stays_in_place() -> None:
    audio = ChannelAudio(16_000, FRAME)
    for second in range(30):
        audio.push(AudioChunk(0, NOISE[:16_000], 16_000, second * 16_000))
        audio.forget_before((second - 2) * RATE_HZ)
    np.testing.assert_allclose(audio.read(29 * RATE_HZ, 30 * RATE_HZ), NOISE[:16_000], atol=0.5 / FULL_SCALE)
    assert len(audio.read(0, 30 * RATE_HZ)) <= 8 * RATE_HZ


@pytest.mark.parametrize(("rate_hz", "start", "found"), [(16_000, 0, "found 16000 Hz"), (8_000, 8_000 * 603, "ahead")])
def test_a_broken_sender_is_told_what_was_expected(rate_hz: int, start: int, found: str) -> None:
    audio = ChannelAudio(8_000, FRAME)
    with pytest.raises(InvalidInputError, match=found):
        audio.push(AudioChunk(0, NOISE, rate_hz, start))
