"""Voice affect from the shared encoder's second and third layer: heads trained by models/training/voice.py."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from affectline.models.errors import ModelCorruptError
from affectline.models.labels import AFFECT_OF_LABEL, LABELS, Label
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, AffectScores, Encoding, FeatureStats

LAYERS: Final = (2, 3)
WIDTH: Final = 512
"""Of Whisper base."""
CLASS_OF_LABEL: Final[dict[str, str]] = {
    **dict.fromkeys(("anger", "angry"), "anger"),
    **dict.fromkeys(("boredom", "bored"), "boredom"),
    **dict.fromkeys(("calm",), "calm"),
    **dict.fromkeys(("confusion", "confused"), "confusion"),
    **dict.fromkeys(("disgust", "disgusted"), "disgust"),
    **dict.fromkeys(("fear", "fearful", "afraid", "anxiety", "anxious"), "fear"),
    **dict.fromkeys(("frustration", "frustrated", "annoyance", "annoyed"), "frustration"),
    **dict.fromkeys(("gratitude", "grateful"), "gratitude"),
    **dict.fromkeys(("happiness", "happy", "joy", "satisfaction", "satisfied"), "happiness"),
    **dict.fromkeys(("neutral",), "neutral"),
    **dict.fromkeys(("sadness", "sad"), "sadness"),
    **dict.fromkeys(("surprise", "surprised"), "surprise"),
}
"""What labels.csv may say, in lower case -> the class it is taken as."""
LABELS_OF_CLASS: Final[dict[str, dict[Label, float]]] = {
    "anger": {"angry": 0.6, "frustrated": 0.4},
    "boredom": {"neutral": 0.8, "sad": 0.1, "frustrated": 0.1},
    "calm": {"neutral": 0.9, "satisfied": 0.1},
    "confusion": {"confused": 0.8, "anxious": 0.1, "surprised": 0.1},
    "disgust": {"disgusted": 0.6, "frustrated": 0.4},
    "fear": {"anxious": 0.7, "confused": 0.15, "surprised": 0.15},
    "frustration": {"frustrated": 0.8, "angry": 0.2},
    "gratitude": {"grateful": 0.8, "satisfied": 0.2},
    "happiness": {"satisfied": 0.7, "grateful": 0.15, "surprised": 0.15},
    "neutral": {"neutral": 0.9, "confused": 0.1},
    "sadness": {"sad": 0.9, "anxious": 0.1},
    "surprise": {"surprised": 0.7, "confused": 0.3},
}
"""What each class may be in a support call. By convention; labels that a head has no class for (grateful, confused)
get a share so that other modalities can decide between neighbours."""
AFFECT_OF_CLASS: Final[dict[str, tuple[float, float, float]]] = {
    "anger": AFFECT_OF_LABEL["angry"],
    "boredom": (-0.2, -0.5, -0.1),
    "calm": (0.2, -0.3, 0.1),
    "confusion": AFFECT_OF_LABEL["confused"],
    "disgust": AFFECT_OF_LABEL["disgusted"],
    "fear": AFFECT_OF_LABEL["anxious"],
    "frustration": AFFECT_OF_LABEL["frustrated"],
    "gratitude": AFFECT_OF_LABEL["grateful"],
    "happiness": AFFECT_OF_LABEL["satisfied"],
    "neutral": AFFECT_OF_LABEL["neutral"],
    "sadness": AFFECT_OF_LABEL["sad"],
    "surprise": AFFECT_OF_LABEL["surprised"],
}
"""(valence, arousal, dominance), each in [-1, 1]; by convention, the corpora have no ratings."""
ANGRY: Final = frozenset(("anger", "frustration"))
LEAST: Final = 1e-6
"""No class is out of the question."""


def pool(encoding: Encoding, start_frame: int, end_frame: int) -> F32:
    """Mean over time of each of LAYERS, [len(LAYERS) * width]."""
    return np.concatenate([encoding.layers[layer][start_frame:end_frame].mean(axis=0) for layer in LAYERS])


def labels_of(probabilities: Mapping[str, float]) -> dict[Label, float]:
    """Class -> probability, to label -> probability."""
    labels: dict[Label, float] = dict.fromkeys(LABELS, 0.0)
    for name, probability in probabilities.items():
        for label, share in LABELS_OF_CLASS[name].items():
            labels[label] += probability * share
    return labels


def anger_odds(probabilities: Mapping[str, float]) -> float | None:
    """Class -> probability, to the log odds of ANGRY ones against the others; None without such a class."""
    if ANGRY.isdisjoint(probabilities):
        return None
    angry = sum(p for name, p in probabilities.items() if name in ANGRY)
    others = sum(p for name, p in probabilities.items() if name not in ANGRY)
    return math.log(angry + LEAST) - math.log(others + LEAST)


class VoiceHead:
    """Satisfies the VoiceAffect port; `path` is a file written by models/training/voice.py.

    Raises ModelMissingError, or ModelCorruptError for any other network.
    """

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self.model = f"{path.stem.replace('_', '-')}@1"
        self._session = runtime.session(path, threads=1)
        if set(self._session.inputs) != {"features", "mean", "deviation"}:
            raise ModelCorruptError(f"expected a voice head in {path}, found inputs {', '.join(self._session.inputs)}")
        any_features = np.ones(len(LAYERS) * WIDTH, np.float32)
        found = self._session.run(dict.fromkeys(self._session.inputs, any_features))
        self.classes: tuple[str, ...] = tuple(found["classes"].tolist())
        self.usual = FeatureStats(found["usual_mean"], found["usual_deviation"])
        self.unsure_below = float(found["unsure_below"][0])
        """Less confident than this, it takes no side: `labels` are the prior. Set in training by risk and coverage."""
        even = dict.fromkeys(self.classes, 1 / len(self.classes))
        self.prior: Mapping[Label, float] = labels_of(even)
        """It is trained with all classes counting the same."""

    def features(self, encoding: Encoding, start_frame: int, end_frame: int) -> F32:
        return pool(encoding, start_frame, end_frame)

    def probabilities(self, features: F32, site: FeatureStats | None = None) -> F32:
        """features [k] -> [classes], calibrated, summing to 1."""
        stats = site or self.usual
        inputs = {"features": features, "mean": stats.mean, "deviation": stats.deviation}
        return np.asarray(self._session.run(inputs)["probabilities"], np.float32)

    def estimate(
        self, encoding: Encoding, start_frame: int, end_frame: int, site: FeatureStats | None = None
    ) -> AffectScores:
        found = self.probabilities(self.features(encoding, start_frame, end_frame), site)
        of_class = dict(zip(self.classes, found.tolist(), strict=True))
        valence, arousal, dominance = (
            sum(p * AFFECT_OF_CLASS[name][axis] for name, p in of_class.items()) for axis in range(3)
        )
        confidence = max(of_class.values())
        labels = labels_of(of_class) if confidence >= self.unsure_below else dict(self.prior)
        return AffectScores(labels, valence, arousal, dominance, confidence, anger_odds=anger_odds(of_class))


def trained_head(path: Path) -> ModelSpec:
    """A head that `affectline train voice` wrote, as a model named after its file."""
    name = path.stem.replace("_", "-")
    return ModelSpec(name, "1", "voice_affect", None, lambda folder, runtime: VoiceHead(path, runtime), default=False)


MODELS = (
    ModelSpec(
        name="voice-open",
        version="1",
        task="voice_affect",
        artifact=None,
        load=lambda folder, runtime: VoiceHead(folder / "voice_open.onnx", runtime),
    ),
    ModelSpec(
        name="voice-research",
        version="1",
        task="voice_affect",
        artifact=None,
        load=lambda folder, runtime: VoiceHead(folder / "voice_research.onnx", runtime),
        default=False,
        restricted="CC BY-NC-SA 4.0, non-commercial",
    ),
)
