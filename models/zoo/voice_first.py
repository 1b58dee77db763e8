"""First voice affect: a linear head on the shared encoder's second layer, trained on EmoDB (card voice-first)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from affectline.models.labels import AFFECT_OF_LABEL, LABELS, Label
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import AffectScores, Encoding

LAYER: Final = 2
CLASSES: Final = ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
"""EmoDB's, in the order of the network's output."""
LABELS_OF_CLASS: Final[dict[str, dict[Label, float]]] = {
    "anger": {"angry": 0.6, "frustrated": 0.4},
    "boredom": {"neutral": 0.8, "sad": 0.1, "frustrated": 0.1},
    "disgust": {"disgusted": 0.6, "frustrated": 0.4},
    "fear": {"anxious": 0.7, "confused": 0.15, "surprised": 0.15},
    "happiness": {"satisfied": 0.7, "grateful": 0.15, "surprised": 0.15},
    "neutral": {"neutral": 0.9, "confused": 0.1},
    "sadness": {"sad": 0.9, "anxious": 0.1},
}
"""What each acted emotion may be in a support call. By convention; labels without a class of their own (grateful,
confused, surprised) get a share so that other modalities can decide between neighbours."""
AFFECT_OF_CLASS: Final[dict[str, tuple[float, float, float]]] = {
    "anger": AFFECT_OF_LABEL["angry"],
    "boredom": (-0.2, -0.5, -0.1),
    "disgust": AFFECT_OF_LABEL["disgusted"],
    "fear": AFFECT_OF_LABEL["anxious"],
    "happiness": AFFECT_OF_LABEL["satisfied"],
    "neutral": AFFECT_OF_LABEL["neutral"],
    "sadness": AFFECT_OF_LABEL["sad"],
}
"""(valence, arousal, dominance): EmoDB has no ratings of its own."""


def _labels(of_class: Mapping[str, float]) -> dict[Label, float]:
    labels: dict[Label, float] = dict.fromkeys(LABELS, 0.0)
    for name, probability in of_class.items():
        for label, share in LABELS_OF_CLASS[name].items():
            labels[label] += probability * share
    return labels


class VoiceFirst:
    """Satisfies the VoiceAffect port."""

    model = "voice-first@1"
    prior = _labels(dict.fromkeys(CLASSES, 1 / len(CLASSES)))
    """It was trained with all classes counting the same."""

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._session = runtime.session(folder / "voice_first.onnx", threads=1)

    def estimate(self, encoding: Encoding, start_frame: int, end_frame: int) -> AffectScores:
        frames = encoding.layers[LAYER][start_frame:end_frame]
        found = self._session.run({"frames": frames})["probabilities"]
        of_class = dict(zip(CLASSES, found.tolist(), strict=True))
        valence, arousal, dominance = (
            sum(p * AFFECT_OF_CLASS[name][axis] for name, p in of_class.items()) for axis in range(3)
        )
        return AffectScores(_labels(of_class), valence, arousal, dominance, confidence=max(of_class.values()))


MODELS = (
    ModelSpec(
        name="voice-first",
        version="1",
        task="voice_affect",
        artifact=None,
        load=VoiceFirst,
    ),
)
