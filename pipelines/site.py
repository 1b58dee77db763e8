"""What a deployment's own calls usually sound like, learnt without labels.

A voice model trained elsewhere hears another microphone, line and language as emotion. Standardised by the mean and
deviation of the place where it is used, much of that goes away (Schuller et al. 2010, "Cross-corpus acoustic emotion
recognition: variances and strategies", per-corpus normalisation).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from affectline.models.signals import F32, FeatureStats

MAX_WINDOWS_PER_CALL = 60
"""A long call counts no more than this many windows (1 s apart)."""
MAX_PERIODS = 72
"""Hours with calls that are remembered."""
MIN_PERIOD_WINDOWS = 30
"""An hour with fewer windows has no say of its own."""
PRIOR_WINDOWS = 300
"""The training data counts as this many windows: five minutes of speech to half a site baseline."""
MAX_SHARE = 0.5
"""However much was heard. Most calls are neutral: by their figures alone, half of neutral speech would sound unusual
(docs/voice.md)."""


@dataclass(slots=True)
class _Period:
    windows: int
    total: npt.NDArray[np.float64]
    squares: npt.NDArray[np.float64]


@dataclass(slots=True)
class SiteBaseline:
    """Running mean and deviation of a voice model's features, for one deployment and kind of line.

    Each hour's calls give one mean and one deviation; the medians over the hours count, so that a bad hour (a noisy
    line, hold music, a storm of angry calls) moves nothing once there are a few others. Until enough was heard, the
    training data's figures fill in.
    """

    prior: FeatureStats
    _periods: dict[str, _Period] = field(default_factory=dict)

    def learn(self, period: str, windows: F32) -> None:
        """Takes in one call's windows [n, k]; `period` names the hour, later ones sorting after earlier ones."""
        if not len(windows):
            return
        picked = np.linspace(0, len(windows) - 1, min(len(windows), MAX_WINDOWS_PER_CALL)).round().astype(int)
        chosen = windows[picked].astype(np.float64)
        if not np.isfinite(chosen).all():
            return
        width = windows.shape[1]
        found = self._periods.setdefault(period, _Period(0, np.zeros(width), np.zeros(width)))
        found.windows += len(chosen)
        found.total += chosen.sum(axis=0)
        found.squares += np.square(chosen).sum(axis=0)
        for oldest in sorted(self._periods)[:-MAX_PERIODS]:
            del self._periods[oldest]

    @property
    def windows(self) -> int:
        """Windows remembered."""
        return sum(p.windows for p in self._periods.values())

    def stats(self) -> FeatureStats:
        """The site's figures, blended with the prior by how much was heard."""
        heard = [p for p in self._periods.values() if p.windows >= MIN_PERIOD_WINDOWS]
        if not heard:
            return self.prior
        means = np.stack([p.total / p.windows for p in heard])
        variances = np.stack([p.squares / p.windows for p in heard]) - np.square(means)
        mean = np.median(means, axis=0)
        deviation = np.sqrt(np.maximum(np.median(variances, axis=0), 1e-8))
        windows = sum(p.windows for p in heard)
        share = min(MAX_SHARE, windows / (windows + PRIOR_WINDOWS))
        return FeatureStats(
            mean=(share * mean + (1 - share) * self.prior.mean).astype(np.float32),
            deviation=(share * deviation + (1 - share) * self.prior.deviation).astype(np.float32),
        )

    def to_arrays(self) -> dict[str, npt.NDArray[np.float64] | npt.NDArray[np.str_]]:
        """For storing; `from_arrays` gives back an equal one."""
        periods = sorted(self._periods)
        known = [self._periods[name] for name in periods]
        width = len(self.prior.mean)
        return {
            "periods": np.array(periods, np.str_),
            "windows": np.array([p.windows for p in known], np.float64),
            "total": np.stack([p.total for p in known]) if known else np.zeros((0, width)),
            "squares": np.stack([p.squares for p in known]) if known else np.zeros((0, width)),
        }

    @staticmethod
    def from_arrays(prior: FeatureStats, arrays: Mapping[str, npt.NDArray[np.generic]]) -> "SiteBaseline":
        """Raises ValueError or KeyError when the arrays are not of this model."""
        total, squares = (np.asarray(arrays[name], np.float64) for name in ("total", "squares"))
        if total.shape != squares.shape or total.shape[1:] != prior.mean.shape:
            raise ValueError(f"expected features of width {len(prior.mean)}, found {total.shape}")
        names = [str(name) for name in arrays["periods"]]
        windows = [int(count) for count in np.asarray(arrays["windows"], np.float64)]
        periods = {
            name: _Period(count, total[i].copy(), squares[i].copy())
            for i, (name, count) in enumerate(zip(names, windows, strict=True))
        }
        return SiteBaseline(prior, periods)
