import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from affectline.models.signals import F32
from affectline.pipelines.resample import Resampler

pytestmark = pytest.mark.unit

RATES_HZ = (8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000)


def run(pcm: F32, from_hz: int, cuts: list[int]) -> F32:
    resampler = Resampler(from_hz)
    return np.concatenate([*(resampler.feed(part) for part in np.split(pcm, sorted(cuts))), resampler.finish()])


@settings(deadline=None, max_examples=60)
@given(
    rate_hz=st.sampled_from(RATES_HZ),
    length=st.integers(0, 30_000),
    cuts=st.lists(st.integers(0, 30_000), max_size=40),
    seed=st.integers(0, 9),
)
def test_the_cut_into_chunks_does_not_matter(rate_hz: int, length: int, cuts: list[int], seed: int) -> None:
    pcm = np.random.default_rng(seed).uniform(-1, 1, length).astype(np.float32)
    whole = run(pcm, rate_hz, [])
    np.testing.assert_array_equal(run(pcm, rate_hz, [min(cut, length) for cut in cuts]), whole)
    assert abs(len(whole) - length * 16_000 / rate_hz) <= 1.5


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_sample_by_sample_equals_one_shot(rate_hz: int) -> None:
    pcm = np.random.default_rng(0).uniform(-1, 1, 5_000).astype(np.float32)
    np.testing.assert_allclose(run(pcm, rate_hz, list(range(5_000))), soxr.resample(pcm, rate_hz, 16_000), atol=1e-6)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_tone_comes_out_in_place_and_unchanged(rate_hz: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate_hz) / rate_hz).astype(np.float32)
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000)
    inner = slice(800, -800)  # the filter rings at a tone's hard edges
    np.testing.assert_allclose(run(tone, rate_hz, [])[inner], expected[inner], atol=1e-4)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_an_impulse_stays_where_it_was(rate_hz: int) -> None:
    pcm = np.zeros(rate_hz, np.float32)
    pcm[rate_hz // 2] = 1
    assert np.argmax(run(pcm, rate_hz, [])) == round(rate_hz // 2 * 16_000 / rate_hz)


def test_the_same_rate_passes_through_untouched() -> None:
    pcm = np.random.default_rng(0).uniform(-1, 1, 999).astype(np.float32)
    np.testing.assert_array_equal(run(pcm, 16_000, [5, 500]), pcm)


def test_nothing_in_nothing_out() -> None:
    assert len(run(np.empty(0, np.float32), 8_000, [])) == 0
