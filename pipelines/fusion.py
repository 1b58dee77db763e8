"""What one second feels like, from what each modality says of it.

Logarithmic opinion pooling (Genest & Zidek 1986): the call's prior, times what each model says beyond its own prior,
to the power of a weight from modality and input quality. Weights and prior are set by convention until they are
fitted on labelled calls.
"""

import math
from collections.abc import Mapping, Sequence

from affectline.models.labels import AFFECT_OF_LABEL, LABELS, UNKNOWN, Label
from affectline.models.signals import AffectEstimate, Modality
from affectline.pipelines.timeline import Affect, Contributor

PRIOR: dict[Label, float] = {label: 0.46 if label == "neutral" else 0.06 for label in LABELS}
"""Most seconds of most calls are neutral; it takes evidence to say otherwise."""
MODALITY_WEIGHT: dict[Modality, float] = {"voice": 0.6, "text": 1.0, "face": 0.8, "stress": 0.2, "dynamics": 0.3}
"""Voice counts less than words: its first head learnt from acted speech in another language."""
FLOOR = 0.01
"""No model's zero is a certainty: added to each probability that is compared."""
MIN_PROBABILITY = 0.45
"""Below this the answer is `unknown`."""
MIN_EVIDENCE = 0.5
"""Summed weight below which there is nothing to answer from."""


def fuse(
    estimates: Sequence[AffectEstimate], priors: Mapping[str, Mapping[Label, float]]
) -> tuple[Affect, tuple[Contributor, ...]]:
    """The fused affect of one party's second, and each estimate with its share; without estimates, `unknown`.

    priors: model `name@version` -> what it answers without evidence.
    """
    weights = [MODALITY_WEIGHT[e.modality] * e.quality for e in estimates]
    total = sum(weights)
    shares = tuple(
        Contributor(e.modality, w / total if total else 0.0, e) for e, w in zip(estimates, weights, strict=True)
    )
    if total < MIN_EVIDENCE:
        return Affect(UNKNOWN, 0.0, {}, None, None, None), shares
    score = {label: math.log(p) for label, p in PRIOR.items()}
    for estimate, weight in zip(estimates, weights, strict=True):
        if estimate.scores.labels is not None:
            prior = priors[estimate.model]
            for label in LABELS:
                said, usual = (p.get(label, 0.0) + FLOOR for p in (estimate.scores.labels, prior))
                score[label] += weight * math.log(said / usual)
    top = max(score.values())
    exp = {label: math.exp(s - top) for label, s in score.items()}
    scale = sum(exp.values())
    labels = {label: e / scale for label, e in exp.items()}
    best = max(labels, key=lambda label: labels[label])
    probability = labels[best]
    return (
        Affect(
            label=best if probability >= MIN_PROBABILITY else UNKNOWN,
            probability=probability,
            labels=labels,
            valence=_dimension(0, labels, shares),
            arousal=_dimension(1, labels, shares),
            dominance=_dimension(2, labels, shares),
        ),
        shares,
    )


def _dimension(index: int, labels: dict[Label, float], shares: Sequence[Contributor]) -> float:
    """Half from the fused labels' places in the affect space, half from the models that give the dimension.

    Places count from the prior's mean, so that no evidence lies in the middle: most labels are unpleasant ones.
    """
    placed = sum((p - PRIOR[label]) * AFFECT_OF_LABEL[label][index] for label, p in labels.items())
    given = [
        (share.weight, value)
        for share in shares
        if (
            value := (share.estimate.scores.valence, share.estimate.scores.arousal, share.estimate.scores.dominance)[
                index
            ]
        )
        is not None
    ]
    weight = sum(w for w, _ in given)
    return (placed + sum(w * v for w, v in given) / weight) / 2 if weight else placed
