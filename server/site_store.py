"""Keeps site baselines in a folder, one file per voice model and kind of line."""

import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from filelock import FileLock

from affectline.models.errors import StorageError
from affectline.models.signals import F32, FeatureStats
from affectline.pipelines.site import SiteBaseline
from affectline.server.files import write_whole

NARROW_HZ = 8_000
"""Up to here a line is telephone band."""


def line_kind(rate_hz: int) -> str:
    return "telephone" if rate_hz <= NARROW_HZ else "wide"


class SiteStore:
    """Baselines by kind of line. Safe for several threads and processes: each call is added under a lock.

    Holds means and deviations over hours of calls: nothing of one person can be told from them.
    """

    def __init__(
        self, folder: Path, model: str, prior: FeatureStats, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._folder = folder
        self._model = model
        self._prior = prior
        self._now = now
        self._thread_lock = Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot keep site baselines in {folder}: {error.strerror}") from error

    def stats(self, rate_hz: int) -> FeatureStats:
        """What calls at this rate are standardised by; raises StorageError for a damaged file."""
        return self._read(self._path(rate_hz)).stats()

    def learn(self, rate_hz: int, windows: F32) -> None:
        """Adds one call's windows [n, k]."""
        path = self._path(rate_hz)
        with self._thread_lock, FileLock(path.with_suffix(".lock")):
            baseline = self._read(path)
            baseline.learn(self._now().strftime("%Y-%m-%dT%H"), windows)
            buffer = BytesIO()
            np.savez_compressed(buffer, allow_pickle=False, **baseline.to_arrays())
            write_whole(path, buffer.getvalue())

    def _path(self, rate_hz: int) -> Path:
        return self._folder / f"{self._model}-{line_kind(rate_hz)}.npz"

    def _read(self, path: Path) -> SiteBaseline:
        if not path.exists():
            return SiteBaseline(self._prior)
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return SiteBaseline.from_arrays(self._prior, dict(arrays))
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise StorageError(
                f"expected a site baseline of {self._model} in {path}, found {error}; delete the file to start afresh"
            ) from error
