"""Facial expression: a small residual network of our own, trained on FER2013 by models/training/expression.py."""

from pathlib import Path

import numpy as np
from scipy.special import softmax

from affectline.models.errors import InvalidInputError
from affectline.models.labels import Label
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.zoo.mini_xception import LABEL_OF_CLASS, PRIOR

SIDE = 48


class ExpressionNet:
    model = "expression@1"
    side = SIDE
    labels: tuple[Label, ...] = tuple(LABEL_OF_CLASS.values())
    """Of the columns that `estimate` gives."""
    prior = PRIOR

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._session = runtime.session(folder / "expression.onnx", threads=1)

    def estimate(self, gray: F32) -> F32:
        """Aligned faces, gray [n, 48, 48] in [0, 255] -> probabilities [n, 7], rows summing to 1.

        The mean of a face and its mirror image, which errs less. Raises InvalidInputError on another shape.
        """
        if gray.ndim != 3 or gray.shape[1:] != (SIDE, SIDE):
            raise InvalidInputError(f"expected gray faces [n, {SIDE}, {SIDE}], found {gray.shape}")
        scaled = gray[:, None].astype(np.float32) / 255
        both = self._session.run({"gray": np.concatenate((scaled, scaled[..., ::-1]))})["logits"]
        return np.asarray(softmax(both, axis=1).reshape(2, len(gray), len(self.labels)).mean(axis=0), np.float32)


MODELS = (
    ModelSpec(
        name="expression",
        version="1",
        task="expression",
        artifact=None,
        load=ExpressionNet,
        restricted="FER2013: research and evaluation only",
    ),
)
