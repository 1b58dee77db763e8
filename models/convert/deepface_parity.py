"""Our file of DeepFace's emotion network beside DeepFace itself, on the same faces and the same weights."""

import os
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np

from affectline.models.runtime import Runtime
from affectline.models.signals import F32, U8
from affectline.models.zoo.deepface import SIDE, DeepFaceEmotion, weights_path
from affectline.models.zoo.expression_file import ExpressionFile

MAX_RELATIVE: Final = 1e-3
FACES: Final = 16


def deepface_parity(made: Path, weights: Path) -> dict[str, Any]:
    """The differences of probabilities; nothing but `compared` where DeepFace is not installed.

    DeepFace keeps a network once built, so one process compares one file of weights.
    """
    if find_spec("deepface") is None:
        return {"compared": False, "holds": None}
    before = os.environ.get("DEEPFACE_HOME")
    with TemporaryDirectory(prefix="affectline-") as home:
        os.environ["DEEPFACE_HOME"] = home
        try:
            link = weights_path()
            link.parent.mkdir(parents=True)
            link.symlink_to(weights.absolute())
            os.environ.setdefault("DEEPFACE_BACKEND_ENGINE", "tensorflow")
            os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
            theirs = DeepFaceEmotion(Path(), Runtime(["cpu"]))
        finally:
            os.environ.pop("DEEPFACE_HOME")
            if before is not None:
                os.environ["DEEPFACE_HOME"] = before
    ours = ExpressionFile(made, Runtime(["cpu"]))
    faces = _faces()
    expected, found = theirs.estimate(faces).probabilities, ours.estimate(faces).probabilities
    columns = [ours.labels.index(label) for label in theirs.labels]
    gaps: F32 = np.abs(found[:, columns] - expected)
    relative = float(np.linalg.norm(gaps) / np.linalg.norm(expected))
    difference = {"max_absolute": float(gaps.max()), "mean_absolute": float(gaps.mean()), "relative": relative}
    return {
        "compared": True,
        "faces": FACES,
        "probabilities": difference,
        "max_relative": MAX_RELATIVE,
        "holds": relative <= MAX_RELATIVE,
    }


def _faces() -> U8:
    """Seeded colour that varies as slowly as a face does, [FACES, SIDE, SIDE, 3]."""
    small = np.random.default_rng(0).integers(0, 256, (FACES, SIDE // 16, SIDE // 16, 3), np.uint8)
    return small.repeat(16, axis=1).repeat(16, axis=2)
