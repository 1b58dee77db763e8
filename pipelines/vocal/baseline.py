"""A speaker's own baseline, and the score of tension against it."""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np

from affectline.models.signals import VocalFeatures


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual of one feature, in the unit compared."""

    centre: float
    centre_deviation: float
    """Standard error of the centre."""
    spread: float
    """Standard deviation of one speaker's calm utterances."""

    def deviation(self, value: float) -> float:
        return (value - self.centre) / math.hypot(self.spread, self.centre_deviation)


_SEMITONES = 12 / math.log(2)
_LOG_FACTORS: Final[Mapping[str, float]] = MappingProxyType({"f0_median_hz": _SEMITONES, "jitter": 1.0, "shimmer": 1.0})
"""Features compared by their logarithm, times this."""

# Calm voices before anything is known of the speaker, as `python -m benchmarks.vocal` finds them: neutral clips of
# EmoDB's ten actors, wide band and telephone together; the centre's deviation is 1.5 times what these speakers show,
# for languages and lines they do not cover. Set by hand are the deviations of the pitch's centre, so wide that sex and
# age say nothing of stress, of the level's, since a line's gain can be anything, and of pauses, which single
# sentences do not have.
POPULATION: Final[Mapping[str, Usual]] = MappingProxyType(
    {
        "f0_median_hz": Usual(86.2, 20.0, 1.28),
        "f0_range_semitones": Usual(7.42, 2.12, 1.89),
        "f0_slope_semitones_s": Usual(-2.91, 1.54, 2.18),
        "f0_deviation_semitones": Usual(2.92, 0.755, 0.617),
        "intensity_db": Usual(-18.7, 10.0, 1.85),
        "jitter": Usual(-3.6, 0.294, 0.179),
        "shimmer": Usual(-2.24, 0.254, 0.128),
        "hnr_db": Usual(9.57, 2.95, 1.2),
        "rate_syllables_s": Usual(5.31, 0.559, 0.756),
        "pause_ratio": Usual(0.0, 0.1, 0.1),
        "voiced_ratio": Usual(0.615, 0.124, 0.0755),
        "alpha_ratio_db": Usual(-15.2, 5.65, 1.8),
        "hammarberg_db": Usual(25.5, 6.71, 1.96),
        "spectral_slope_db_khz": Usual(-10.5, 4.26, 2.33),
    }
)


class SpeakerBaseline:
    """What is usual for one speaker in this call: each feature's median and MAD over calm utterances, blended with
    the population's.

    The population's centre counts as one observation with its own standard error and fades as more is learnt; its
    spread counts as PRIOR_UTTERANCES utterances. So a caller who is angry from the first second is compared with
    calm voices rather than with that anger.

    Ready after MIN_UTTERANCES fit utterances with MIN_SPEECH_US of speech. Learnt is what is calm: not an utterance
    told to be excited, nor one that is tense both against the speaker's own usual and against the population's. One
    that is tense against the own usual only is learnt, so that a soft start or another speaker on the line is
    corrected. The last MEMORY utterances count.
    """

    MIN_UTTERANCES: Final = 3
    MIN_SPEECH_US: Final = 8_000_000
    MIN_QUALITY: Final = 0.5
    MAX_STRESS: Final = 0.35
    """Of what is learnt; at 0.2, up to two thirds of an ordinary agent's utterances on the phone are refused."""
    MEMORY: Final = 24
    PRIOR_UTTERANCES: Final = 4

    def __init__(self) -> None:
        self._values: dict[str, deque[float]] = {name: deque(maxlen=self.MEMORY) for name in POPULATION}
        self._usual = dict(POPULATION)
        self._utterances = 0
        self._speech_us = 0

    @property
    def ready(self) -> bool:
        return self._utterances >= self.MIN_UTTERANCES and self._speech_us >= self.MIN_SPEECH_US

    def fits(self, features: VocalFeatures) -> bool:
        """Whether the features say anything of the speaker."""
        return features.f0_median_hz is not None and features.quality >= self.MIN_QUALITY

    def learn(self, features: VocalFeatures, speech_us: int, *, excited: bool = False) -> None:
        """Takes in one utterance with this much speech; excited: what else is known says that the speaker is not
        calm."""
        if not self.fits(features):
            return
        self._utterances += 1
        self._speech_us += speech_us
        own, population = (stress(deviations_from(features, usual)) for usual in (self._usual, POPULATION))
        if excited or min(own, population) > self.MAX_STRESS:
            return
        for name, value in comparable(features).items():
            self._values[name].append(value)
            self._usual[name] = self._blend(name)

    def deviations(self, features: VocalFeatures) -> dict[str, float]:
        """Feature name -> robust z-score; empty until `ready` and where the features do not fit.

        Distance from the blended centre over the blended spread and the centre's standard error together. Pitch is
        compared in semitones, jitter and shimmer by their logarithms. Features missing here are left out.
        """
        return deviations_from(features, self._usual) if self.ready and self.fits(features) else {}

    def _blend(self, name: str) -> Usual:
        values, prior = np.array(self._values[name]), POPULATION[name]
        median = float(np.median(values))
        mad = 1.4826 * float(np.median(np.abs(values - median)))
        variance = np.average((prior.spread**2, mad**2), weights=(self.PRIOR_UTTERANCES, len(values)))
        # The median of n normal values has a variance of about pi / 2n of theirs.
        precisions = (prior.centre_deviation**-2, len(values) / (math.pi / 2 * variance))
        centre = np.average((prior.centre, median), weights=precisions)
        return Usual(float(centre), sum(precisions) ** -0.5, math.sqrt(variance))


def comparable(features: VocalFeatures) -> dict[str, float]:
    """Feature name -> value in the unit compared, of those that are known."""
    values = {name: getattr(features, name) for name in POPULATION}
    return {
        name: _LOG_FACTORS[name] * math.log(max(value, 1e-9)) if name in _LOG_FACTORS else value
        for name, value in values.items()
        if value is not None
    }


def deviations_from(features: VocalFeatures, usual: Mapping[str, Usual] = POPULATION) -> dict[str, float]:
    """Feature name -> distance from what is usual, in standard deviations, of the features that are known."""
    return {name: usual[name].deviation(value) for name, value in comparable(features).items()}


# Fitted on EmoDB by `python -m benchmarks.vocal`, on deviations from a baseline of four neutral clips.
_INTERCEPT: Final = -1.89
_WEIGHTS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "f0_median_hz": 0.85,
        "rate_syllables_s": 0.27,
        "hnr_db": -0.12,
        "alpha_ratio_db": 0.32,
        "hammarberg_db": -0.34,
        "spectral_slope_db_khz": 0.16,
    }
)
_MAX_DEVIATION: Final = 3.0

MODEL: Final = "vocal-stress@2"


def stress(deviations: Mapping[str, float]) -> float:
    """Vocal tension against the speaker's own usual, in [0, 1]; 0.13 at no deviation.

    A logistic function of the weighted sum of SpeakerBaseline.deviations, each limited to ±3, missing ones counted as
    none. It follows arousal, joyful as well as angry, and is not a lie detector: it says nothing of truth or intent.
    """
    logit = _INTERCEPT + sum(
        weight * min(max(deviations.get(name, 0.0), -_MAX_DEVIATION), _MAX_DEVIATION)
        for name, weight in _WEIGHTS.items()
    )
    return 1 / (1 + math.exp(-logit))


CALM_STRESS: Final = stress({})
"""The score of a speaker at their own usual."""
