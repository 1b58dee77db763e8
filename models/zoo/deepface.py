"""Facial expression by DeepFace's emotion network (Serengil & Ozpinar 2021), for who has the extra `deepface`.

The package is imported only when this model is chosen. Its weights come from where DeepFace keeps them, below
DEEPFACE_HOME; where they are missing, DeepFace itself fetches them.
"""

import os
from importlib import import_module
from pathlib import Path

import numpy as np

from affectline.models.errors import InvalidInputError, ModelMissingError
from affectline.models.labels import Label
from affectline.models.ports import WHOLE
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import U8, Expressions
from affectline.models.zoo.mini_xception import LABEL_OF_CLASS, PRIOR

SIDE = 224
"""DeepFace makes every face this large before its network makes it gray and 48×48."""


def weights_path() -> Path:
    """Where DeepFace keeps the weights of its TensorFlow engine."""
    home = Path(os.environ.get("DEEPFACE_HOME") or "~").expanduser()
    return home / ".deepface" / "weights" / "facial_expression_model_weights.h5"


class DeepFaceEmotion:
    model = "deepface@1"
    side = SIDE
    crop = WHOLE
    labels: tuple[Label, ...] = tuple(LABEL_OF_CLASS.values())
    """Its classes are those of mini-Xception, in the same order."""
    prior = PRIOR

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        """Raises InvalidInputError without the package, ModelMissingError without its weights."""
        try:
            deepface = import_module("deepface.DeepFace")
        except (ImportError, ValueError) as error:  # a ValueError where TensorFlow lacks tf-keras
            raise InvalidInputError(
                f"expected the package deepface, found: {error}; run `pip install 'affectline[deepface]'`"
            ) from error
        try:
            self._network = deepface.build_model(task="facial_attribute", model_name="Emotion")
        except ValueError as error:
            home = weights_path().parent
            raise ModelMissingError(f"expected DeepFace's emotion weights in {home}, found: {error}") from error

    def estimate(self, rgb: U8) -> Expressions:
        """Aligned faces, RGB [n, 224, 224, 3] -> probabilities [n, 7]. Raises InvalidInputError on another shape."""
        if rgb.ndim != 4 or rgb.shape[1:] != (SIDE, SIDE, 3):
            raise InvalidInputError(f"expected faces [n, {SIDE}, {SIDE}, 3], found {rgb.shape}")
        if not len(rgb):
            return Expressions(np.zeros((0, len(self.labels)), np.float32))
        bgr = rgb[..., ::-1].astype(np.float32) / 255
        found = np.asarray(self._network.predict(bgr), np.float32).reshape(len(rgb), len(self.labels))
        return Expressions(found / found.sum(axis=1, keepdims=True))


MODELS = (
    ModelSpec(
        name="deepface",
        version="1",
        task="expression",
        artifact=None,
        load=DeepFaceEmotion,
        default=False,
        extra="deepface",
    ),
)
