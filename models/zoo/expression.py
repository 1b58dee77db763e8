"""Facial expression: a small residual network of our own, trained on FER2013 by models/training/expression.py."""

from pathlib import Path

import numpy as np
from scipy.special import softmax

from affectline.models.labels import Label
from affectline.models.ports import WHOLE
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import U8, Expressions
from affectline.models.zoo.mini_xception import LABEL_OF_CLASS, PRIOR, gray_of

SIDE = 48


class ExpressionNet:
    model = "expression@1"
    side = SIDE
    crop = WHOLE
    labels: tuple[Label, ...] = tuple(LABEL_OF_CLASS.values())
    """Of the columns that `estimate` gives."""
    prior = PRIOR

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._session = runtime.session(folder / "expression.onnx", threads=1)

    def estimate(self, rgb: U8) -> Expressions:
        """Aligned faces, RGB [n, 48, 48, 3] -> probabilities [n, 7].

        The mean of a face and its mirror image, which errs less. Raises InvalidInputError on another shape.
        """
        scaled = gray_of(rgb, SIDE)[:, None] / 255
        both = self._session.run({"gray": np.concatenate((scaled, scaled[..., ::-1]))})["logits"]
        mean = softmax(both, axis=1).reshape(2, len(rgb), len(self.labels)).mean(axis=0)
        return Expressions(np.asarray(mean, np.float32))


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
