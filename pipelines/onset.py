"""Where a voice turns angry, against how this voice has sounded in this call.

Some voices are taken for angry all the time, others swing widely without anger. So the model's log odds of anger must
be both: far from their running mean, in standard deviations of one calm voice and of what is not known yet of the mean
(a normal mean with a normal prior, Gelman et al., Bayesian Data Analysis, 2.5), and high by themselves. At the start of
a call the mean is that of other people's calm voices. The numbers were fitted as docs/fusion.md says.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from affectline.models.signals import AffectEstimate

USUAL: Final = -4.0
"""Mean log odds of calm voices …"""
SPEAKERS: Final = 1.8
"""… the standard deviation of speakers' own means …"""
SECONDS: Final = 1.0
"""… and of one speaker's calm seconds."""
PRIOR_SECONDS: Final = 0.5
"""What is known of other people's voices counts as this many seconds of the speaker's own."""
MEAN_OF: Final = 3
"""Seconds with a voice that are averaged …"""
WITHIN_S: Final = 8
"""… of the last so many …"""
FULL_QUALITY: Final = 0.9
"""… where their qualities sum to less than this, they count less."""
BAR: Final = 2.2
"""Deviations from the usual at which a voice turns angry: anger is 0.5 there …"""
LEAST_ODDS: Final = -0.3
"""… unless its mean log odds are less than this …"""
ODDS_PER_LEVEL: Final = 4.0
"""… so much less, that is, for each 1 of anger."""


@dataclass(frozen=True, slots=True)
class _Known:
    """All that the past adds to the next second."""

    total: float = PRIOR_SECONDS * USUAL
    weight: float = PRIOR_SECONDS
    recent: tuple[tuple[int, float, float, float], ...] = ()
    """(number of the second, deviation, log odds, quality) of the latest with a voice."""
    next_second: int = 0


class AngerWatch:
    """One party's voice from second to second. Not thread-safe."""

    def __init__(self) -> None:
        self._known = _Known()

    def look(self, seconds: Sequence[Sequence[AffectEstimate]]) -> list[float | None]:
        """How far the voice is from its usual towards anger in each of the next seconds, in [0, 1]; the bar is 0.5.

        None for a second without a voice, or with one of a model that tells no odds of anger.
        """
        return _followed(self._known, seconds)[0]

    def step(self, seconds: Sequence[Sequence[AffectEstimate]]) -> list[float | None]:
        """As `look`, and moves on to the second after them."""
        found, self._known = _followed(self._known, seconds)
        return found


def _followed(known: _Known, seconds: Sequence[Sequence[AffectEstimate]]) -> tuple[list[float | None], _Known]:
    found: list[float | None] = []
    for estimates in seconds:
        told = [(e.scores.anger_odds, e.quality) for e in estimates if e.scores.anger_odds is not None]
        quality = max((quality for _, quality in told), default=0.0)
        level = None
        if quality > 0:
            odds = sum(odds * quality for odds, quality in told) / sum(quality for _, quality in told)
            level, known = _heard(known, odds, quality)
        found.append(level)
        known = replace(known, next_second=known.next_second + 1)
    return found, known


def _heard(known: _Known, odds: float, quality: float) -> tuple[float, _Known]:
    """The level of the next second, and what is known after it."""
    unknown = SPEAKERS * math.sqrt(PRIOR_SECONDS / known.weight)
    deviation = (odds - known.total / known.weight) / math.hypot(SECONDS, unknown)
    recent = deque(known.recent, MEAN_OF - 1)
    near = [each for each in recent if each[0] > known.next_second - WITHIN_S]
    near.append((known.next_second, deviation, odds, quality))
    weight = sum(q for *_, q in near)
    far = sum(d * q for _, d, _, q in near) / max(FULL_QUALITY, weight) / (2 * BAR)
    high = 0.5 + (sum(o * q for _, _, o, q in near) / weight - LEAST_ODDS) / ODDS_PER_LEVEL
    after = replace(known, total=known.total + quality * odds, weight=known.weight + quality, recent=tuple(near))
    return min(1.0, max(0.0, min(far, high))), after
