"""What one second feels like, from what each modality says of it and from the seconds around it.

Logarithmic opinion pooling (Genest & Zidek 1986): what each model says beyond its own prior, to the power of a weight
and of the input's quality. A modality may also just not show what is felt, so what it says is mixed with its prior
before it is compared, and plain words or a plain face count for little. Feelings last: a hidden Markov model (Rabiner
1989) carries the belief from second to second: while the call runs, forward, and both ways within what becomes known
at once; both ways once it is over. Weights, chances and times were fitted on constructed calls by
benchmarks/fusion_fit.py; the face's are by convention.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from affectline.models.labels import AFFECT_OF_LABEL, LABELS, UNKNOWN, Label
from affectline.models.signals import F32, AffectEstimate, Modality
from affectline.pipelines.timeline import Affect, Contributor


@dataclass(frozen=True, slots=True)
class Weighing:
    """How much one modality counts, per second."""

    weight: float
    hidden: float
    """Chance that it does not show what is felt, in [0, 1)."""
    plain: bool = False
    """Whether it is neutral most of the time whatever is felt: then it counts as far as it is not neutral."""


@dataclass(frozen=True, slots=True)
class FusionModel:
    weighing: Mapping[Modality, Weighing]
    """Of what gives labels."""
    excitement: float
    """What tension and turn-taking, which give arousal only, speak for labels with the same arousal."""
    hindsight: float
    """The same once the call is over: tension changes slowly, and read both ways its neighbours' counts, too."""
    stays: float
    """Chance that a feeling lasts from one second to the next."""
    neutral: float
    """Share of seconds without a marked feeling; the other labels share the rest evenly."""

    @property
    def prior(self) -> F32:
        """[labels], summing to 1."""
        even = (1 - self.neutral) / (len(LABELS) - 1)
        return np.array([self.neutral if label == "neutral" else even for label in LABELS], np.float32)


FITTED: Final = FusionModel(
    weighing={
        "voice": Weighing(1.371, 0.149),
        "text": Weighing(1.005, 0.775, plain=True),
        "face": Weighing(1.5, 0.4, plain=True),
    },
    excitement=0.555,
    hindsight=0.294,
    stays=0.886,
    neutral=0.739,
)
MIN_PROBABILITY: Final = 0.45
"""Below this the answer is `unknown`."""
MIN_QUALITY: Final = 0.5
"""Of the best input that gives labels; with none so good there is nothing to answer from."""
LEAST: Final = 1e-3
"""No model's zero is a certainty."""

_PLACES: Final = np.array([AFFECT_OF_LABEL[label] for label in LABELS], np.float32)
"""[labels, 3]."""
_USUAL: Final = FITTED.prior


@dataclass(frozen=True, slots=True)
class _Second:
    evidence: F32
    """[labels], log-likelihood of what gives labels, up to a constant."""
    excited: float
    """Arousal that comes without labels, each times its quality, summed."""
    enough: bool
    """Whether it can be answered from."""
    given: tuple[float | None, ...]
    """Valence, arousal, dominance of the models that give them, by their weights."""
    shares: tuple[Contributor, ...]


class AffectFilter:
    """One party's affect from second to second. Not thread-safe."""

    def __init__(self, priors: Mapping[str, Mapping[Label, float]], model: FusionModel = FITTED) -> None:
        """priors: model `name@version` -> what it answers without evidence."""
        self._priors = priors
        self._model = model
        self._belief = model.prior
        """After the seconds so far, [labels]."""
        self._seconds: list[_Second] = []

    def look(self, seconds: Sequence[Sequence[AffectEstimate]]) -> list[tuple[Affect, tuple[Contributor, ...]]]:
        """The affect of the next seconds, which become known together, each in the light of all of them.

        With every second's estimates and their shares.
        """
        found, forward = self._seen(seconds)
        return self._judged(forward, found)

    def step(self, seconds: Sequence[Sequence[AffectEstimate]]) -> list[tuple[Affect, tuple[Contributor, ...]]]:
        """As `look`, and moves on to the second after them."""
        found, forward = self._seen(seconds)
        self._belief = forward[-1] if forward else self._belief
        self._seconds += found
        return self._judged(forward, found)

    def smoothed(self) -> list[Affect]:
        """Of every second stepped through, in the light of all that came after it."""
        model = self._model
        forward = _ahead(model.prior, self._seconds, model, model.hindsight)
        return _both_ways(forward, self._seconds, model, model.hindsight)

    def _seen(self, seconds: Sequence[Sequence[AffectEstimate]]) -> tuple[list[_Second], list[F32]]:
        """The seconds that come next, and the belief after each of them."""
        found = [_weighed(estimates, self._priors, self._model) for estimates in seconds]
        return found, _ahead(self._belief, found, self._model, self._model.excitement)

    def _judged(
        self, forward: Sequence[F32], seconds: Sequence[_Second]
    ) -> list[tuple[Affect, tuple[Contributor, ...]]]:
        affects = _both_ways(forward, seconds, self._model, self._model.excitement)
        return [(affect, second.shares) for affect, second in zip(affects, seconds, strict=True)]


def _ahead(belief: F32, seconds: Sequence[_Second], model: FusionModel, excitement: float) -> list[F32]:
    """The belief after each of the seconds, from the one before them."""
    stays, prior = model.stays, model.prior
    found = []
    for second in seconds:
        belief = _normalised((stays * belief + (1 - stays) * prior) * _likelihood(second, excitement))
        found.append(belief)
    return found


def _both_ways(
    forward: Sequence[F32], seconds: Sequence[_Second], model: FusionModel, excitement: float
) -> list[Affect]:
    """From the belief after each second, and what is known of the seconds after it."""
    stays, prior = model.stays, model.prior
    later = np.ones(len(LABELS), np.float32)
    found = []
    for belief, second in zip(reversed(forward), reversed(seconds), strict=True):
        found.append(_answer(_normalised(belief * later), second))
        seen = _likelihood(second, excitement) * later
        later = _normalised(stays * seen + (1 - stays) * float(prior @ seen))
    return found[::-1]


def fuse(
    estimates: Sequence[AffectEstimate],
    priors: Mapping[str, Mapping[Label, float]],
    model: FusionModel = FITTED,
) -> tuple[Affect, tuple[Contributor, ...]]:
    """The affect of a piece of input by itself, without what came before it; without estimates, `unknown`."""
    second = _weighed(estimates, priors, model)
    return _answer(_normalised(model.prior * _likelihood(second, model.excitement)), second), second.shares


def ratio_of(said: Mapping[Label, float], usual: Mapping[Label, float]) -> F32:
    """[labels]: what a model says over what it says without evidence."""
    return _vector(said) / _vector(usual)


def _weighed(
    estimates: Sequence[AffectEstimate], priors: Mapping[str, Mapping[Label, float]], model: FusionModel
) -> _Second:
    """What a second's estimates say together. Their shares: how far each moves the odds."""
    pulls = [_pull(estimate, priors, model) for estimate in estimates]
    spreads = [float(np.ptp(pull)) for pull in pulls]
    weights = spreads if sum(spreads) > 0 else [estimate.quality for estimate in estimates]
    total = sum(weights)
    shares = tuple(
        Contributor(e.modality, w / total if total else 0.0, e) for e, w in zip(estimates, weights, strict=True)
    )
    best = max((e.quality for e in estimates if e.scores.labels is not None), default=0.0)
    told = [pull for pull, e in zip(pulls, estimates, strict=True) if e.scores.labels is not None]
    evidence = np.asarray(sum(told, np.zeros(len(LABELS), np.float32)), np.float32)
    excited = sum(e.quality * (e.scores.arousal or 0.0) for e in estimates if e.scores.labels is None)
    given = tuple(_given(axis, estimates, model) for axis in range(3))
    return _Second(evidence, excited, best >= MIN_QUALITY, given, shares)


def _pull(estimate: AffectEstimate, priors: Mapping[str, Mapping[Label, float]], model: FusionModel) -> F32:
    """[labels], log-likelihood of one estimate up to a constant."""
    scores = estimate.scores
    if scores.labels is not None:
        how = model.weighing[estimate.modality]
        ratio = ratio_of(scores.labels, priors[estimate.model])
        telling = 1 - scores.labels.get("neutral", 0.0) if how.plain else 1.0
        return np.asarray(
            how.weight * estimate.quality * telling * np.log(how.hidden + (1 - how.hidden) * ratio), np.float32
        )
    if scores.arousal is not None:
        return np.asarray(model.excitement * estimate.quality * scores.arousal * _PLACES[:, 1], np.float32)
    return np.zeros(len(LABELS), np.float32)


def _given(axis: int, estimates: Sequence[AffectEstimate], model: FusionModel) -> float | None:
    total = weight = 0.0
    for each in estimates:
        value = (each.scores.valence, each.scores.arousal, each.scores.dominance)[axis]
        if value is not None:
            how = model.weighing[each.modality].weight if each.scores.labels is not None else model.excitement
            total += how * each.quality * value
            weight += how * each.quality
    return total / weight if weight else None


def _answer(belief: F32, second: _Second) -> Affect:
    """Dimensions: half from the labels' places in the affect space, half from the models that give them."""
    if not second.enough:
        return Affect(UNKNOWN, 0.0, {}, None, None, None)
    best = int(belief.argmax())
    probability = float(belief[best])
    # Places count from the usual second's, so that no evidence lies in the middle: most labels are unpleasant ones.
    placed = ((belief - _USUAL) @ _PLACES).tolist()
    valence, arousal, dominance = (
        p if given is None else (p + given) / 2 for p, given in zip(placed, second.given, strict=True)
    )
    return Affect(
        label=LABELS[best] if probability >= MIN_PROBABILITY else UNKNOWN,
        probability=probability,
        labels=dict(zip(LABELS, belief.tolist(), strict=True)),
        valence=valence,
        arousal=arousal,
        dominance=dominance,
    )


def _vector(labels: Mapping[Label, float]) -> F32:
    return np.array([labels.get(label, 0.0) + LEAST for label in LABELS], np.float32)


def _likelihood(second: _Second, excitement: float) -> F32:
    evidence = second.evidence + excitement * second.excited * _PLACES[:, 1]
    return np.asarray(np.exp(evidence - evidence.max()), np.float32)


def _normalised(belief: F32) -> F32:
    return np.asarray(belief / belief.sum(), np.float32)
