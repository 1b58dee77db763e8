"""The categories of the fused timeline, and where each stands in the affect space.

The positions are placements on Russell's circumplex (1980) extended by dominance (Mehrabian 1996);
they serve models that give categories only, and are a convention, not a measurement.
"""

from collections.abc import Mapping
from typing import Final, Literal

Label = Literal[
    "neutral",
    "satisfied",
    "grateful",
    "frustrated",
    "angry",
    "sad",
    "anxious",
    "confused",
    "surprised",
    "disgusted",
    "unknown",
]

LABELS: Final[tuple[Label, ...]] = (
    "neutral",
    "satisfied",
    "grateful",
    "frustrated",
    "angry",
    "sad",
    "anxious",
    "confused",
    "surprised",
    "disgusted",
)
"""What a model can say. `unknown` is no model's class: it is fusion's answer when belief is too weak."""

UNKNOWN: Final[Label] = "unknown"

AFFECT_OF_LABEL: Final[dict[Label, tuple[float, float, float]]] = {
    "neutral": (0.0, 0.0, 0.0),
    "satisfied": (0.7, 0.3, 0.3),
    "grateful": (0.8, 0.2, 0.1),
    "frustrated": (-0.6, 0.4, 0.1),
    "angry": (-0.7, 0.8, 0.5),
    "sad": (-0.6, -0.5, -0.4),
    "anxious": (-0.6, 0.6, -0.6),
    "confused": (-0.3, 0.2, -0.4),
    "surprised": (0.1, 0.7, -0.1),
    "disgusted": (-0.6, 0.2, 0.2),
}
"""label -> (valence, arousal, dominance), each in [-1, 1]."""


def place_of(labels: Mapping[Label, float]) -> tuple[float, float, float]:
    """(valence, arousal, dominance), each in [-1, 1], where these probabilities lie on average."""
    valence, arousal, dominance = (
        sum(p * AFFECT_OF_LABEL[label][axis] for label, p in labels.items()) for axis in range(3)
    )
    return valence, arousal, dominance
