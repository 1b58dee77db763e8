"""A deployment's usual sound: learnt slowly, kept safely, not moved by a bad hour."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from affectline.models.errors import StorageError
from affectline.models.signals import F32, FeatureStats
from affectline.pipelines.site import MAX_PERIODS, MAX_WINDOWS_PER_CALL, PRIOR_WINDOWS, SiteBaseline
from affectline.server.site_store import SiteStore

pytestmark = pytest.mark.unit

WIDTH = 8
PRIOR = FeatureStats(np.zeros(WIDTH, np.float32), np.ones(WIDTH, np.float32))
RNG = np.random.default_rng(11)


def call(mean: float, deviation: float = 2.0, windows: int = 50) -> F32:
    return RNG.normal(mean, deviation, (windows, WIDTH)).astype(np.float32)


def hours(count: int) -> list[str]:
    start = datetime(2026, 1, 5, tzinfo=UTC)
    return [(start + timedelta(hours=h)).strftime("%Y-%m-%dT%H") for h in range(count)]


def test_before_the_first_calls_the_training_data_stands_in() -> None:
    baseline = SiteBaseline(PRIOR)
    assert baseline.stats() is PRIOR
    baseline.learn("2026-01-05T09", call(5.0, windows=10))
    assert baseline.stats() is PRIOR


def test_it_comes_near_what_is_heard_as_more_is_heard() -> None:
    baseline, distances = SiteBaseline(PRIOR), []
    for hour in hours(60):
        baseline.learn(hour, call(5.0))
        distances.append(float(np.abs(baseline.stats().mean - 5.0).max()))
    assert distances[0] > distances[3] > distances[-1]
    assert baseline.stats().mean == pytest.approx(2.5, abs=0.3)  # half way and no further: most calls are neutral
    assert baseline.stats().deviation == pytest.approx(1.5, abs=0.2)


def test_half_way_after_as_many_windows_as_the_prior_counts() -> None:
    baseline = SiteBaseline(PRIOR)
    for hour in hours(PRIOR_WINDOWS // 50):
        baseline.learn(hour, call(4.0, deviation=0.01))
    assert baseline.stats().mean == pytest.approx(2.0, abs=0.05)


def test_a_bad_hour_moves_nothing() -> None:
    usual, disturbed = SiteBaseline(PRIOR), SiteBaseline(PRIOR)
    for number, hour in enumerate(hours(24)):
        windows = call(1.0)
        usual.learn(hour, windows)
        disturbed.learn(hour, windows)
        if number == 12:
            for _ in range(40):
                disturbed.learn(hour, call(60.0, deviation=30.0))
    assert np.abs(usual.stats().mean - disturbed.stats().mean).max() < 0.9
    assert np.abs(usual.stats().deviation - disturbed.stats().deviation).max() < 0.9


def test_a_long_call_counts_no_more_than_its_share() -> None:
    baseline = SiteBaseline(PRIOR)
    baseline.learn("2026-01-05T09", call(1.0, windows=5_000))
    assert baseline.windows == MAX_WINDOWS_PER_CALL


def test_old_hours_are_forgotten() -> None:
    baseline = SiteBaseline(PRIOR)
    for hour in hours(MAX_PERIODS + 10):
        baseline.learn(hour, call(1.0, windows=30))
    assert baseline.windows == 30 * MAX_PERIODS


def test_numbers_that_are_none_are_not_learnt() -> None:
    baseline = SiteBaseline(PRIOR)
    baseline.learn("2026-01-05T09", np.full((50, WIDTH), np.nan, np.float32))
    baseline.learn("2026-01-05T09", np.zeros((0, WIDTH), np.float32))
    assert baseline.windows == 0


def test_it_survives_a_restart_and_keeps_kinds_of_line_apart(tmp_path: Path) -> None:
    store = SiteStore(tmp_path, "voice@1", PRIOR)
    for _ in range(10):
        store.learn(8_000, call(3.0))
    again = SiteStore(tmp_path, "voice@1", PRIOR)
    np.testing.assert_array_equal(store.stats(8_000).mean, again.stats(8_000).mean)
    assert again.stats(8_000).mean.min() > 0.8
    np.testing.assert_array_equal(again.stats(16_000).mean, PRIOR.mean)


def test_calls_that_end_at_once_are_all_counted(tmp_path: Path) -> None:
    store = SiteStore(tmp_path, "voice@1", PRIOR)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.learn(8_000, call(1.0, windows=10)), range(40)))
    with np.load(tmp_path / "voice@1-telephone.npz") as arrays:
        assert arrays["windows"].sum() == 400


@pytest.mark.parametrize("width", [None, WIDTH + 1])
def test_a_damaged_or_foreign_file_is_named(tmp_path: Path, width: int | None) -> None:
    if width is None:
        (tmp_path / "voice@1-wide.npz").write_bytes(b"PK broken")
    else:
        other = FeatureStats(np.zeros(width, np.float32), np.ones(width, np.float32))
        SiteStore(tmp_path, "voice@1", other).learn(16_000, np.zeros((30, width), np.float32))
    with pytest.raises(StorageError, match="delete the file to start afresh"):
        SiteStore(tmp_path, "voice@1", PRIOR).stats(16_000)
