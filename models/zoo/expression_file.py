"""Facial expression from an ONNX file, of the kind that HSEmotion and EmotiEffLib publish (Savchenko 2022, 2023).

Such a network learnt AffectNet's classes from colour faces, cut out along the box of MTCNN. It takes [n, 3, side, side]
and gives one row per face: logits of 7 or 8 classes, or of 8 and then valence and arousal (its multi-task networks).
A network with other classes, another normalisation or another crop says so in the metadata of its file (METADATA).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
from scipy.special import softmax

from affectline.models.errors import InvalidInputError, ModelCorruptError, ModelMissingError
from affectline.models.labels import Label
from affectline.models.ports import Crop
from affectline.models.registry import ModelSpec
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, U8, Expressions
from affectline.models.zoo.mini_xception import PRIOR

LABELS_OF_CLASS: Final[dict[str, dict[Label, float]]] = {
    "anger": {"angry": 1.0},
    "contempt": {"disgusted": 0.5, "neutral": 0.5},
    "disgust": {"disgusted": 1.0},
    "fear": {"anxious": 1.0},
    "happiness": {"satisfied": 1.0},
    "neutral": {"neutral": 1.0},
    "sadness": {"sad": 1.0},
    "surprise": {"surprised": 1.0},
}
"""What each class may be here. Contempt has no label of its own, and is hardly told from a calm face or a smile: half
of it counts as disgust, half as nothing. Were it left out, what little remains would look sure."""
EIGHT: Final = tuple(LABELS_OF_CLASS)
SEVEN: Final = tuple(name for name in EIGHT if name != "contempt")
METADATA: Final = ("affectline.classes", "affectline.mean", "affectline.deviation", "affectline.crop")
"""Keys, each a list with commas: names of classes in the order of the outputs; three numbers for red, green, blue;
left, top, right, bottom of the part of a face that it sees (ports.Crop)."""
NUMERALS: Final = {3: "three", 4: "four"}
MEAN: Final = (0.485, 0.456, 0.406)
DEVIATION: Final = (0.229, 0.224, 0.225)
"""Of ImageNet, for pixels in [0, 1]."""
USUAL_SIDE: Final = 224
"""Of a network that takes any."""
MAX_SIDE: Final = 1024
MTCNN_BOX: Final[Crop] = (0.13, 0.0, 0.87, 1.02)
"""Where MTCNN's box lies: its median over 69 pictures of four clips."""


class ExpressionFile:
    """Satisfies the Expression port. Raises InvalidInputError for a file that is none, or another kind of network."""

    def __init__(self, path: Path, runtime: Runtime) -> None:
        self.model = f"{_name(path)}@1"
        self._path = path
        try:
            self._session = runtime.session(path)
        except (ModelMissingError, ModelCorruptError) as error:
            raise InvalidInputError(str(error)) from error
        self._input, self.side, self._one_by_one = self._shape()
        self._mean, self._deviation = (
            np.array(self._numbers(key, usual), np.float32)
            for key, usual in zip(METADATA[1:3], (MEAN, DEVIATION), strict=True)
        )
        if self._deviation.min() <= 0:
            raise self._unfit(f"{METADATA[2]} above 0", str(self._deviation.tolist()))
        left, top, right, bottom = self._numbers(METADATA[3], MTCNN_BOX)
        self.crop: Crop = (left, top, right, bottom)
        if not (-1 <= left < right <= 2 and -1 <= top < bottom <= 2):
            raise self._unfit(f"{METADATA[3]} in order, each from -1 to 2", str(self.crop))
        named = self._session.metadata.get(METADATA[0])
        self._classes, self._places = self._columns(named, self._width())
        shares = [LABELS_OF_CLASS[name] for name in self._classes]
        self.labels: tuple[Label, ...] = tuple(dict.fromkeys(label for share in shares for label in share))
        self._shares = np.array([[share.get(label, 0.0) for label in self.labels] for share in shares], np.float32)
        known = sum(PRIOR[label] for label in self.labels)
        self.prior: Mapping[Label, float] = {label: PRIOR[label] / known for label in self.labels}

    def estimate(self, rgb: U8) -> Expressions:
        """Aligned faces, RGB [n, side, side, 3]; raises InvalidInputError on another shape."""
        if rgb.ndim != 4 or rgb.shape[1:] != (self.side, self.side, 3):
            raise InvalidInputError(f"expected faces [n, {self.side}, {self.side}, 3], found {rgb.shape}")
        if not len(rgb):
            nothing = np.zeros((0, len(self.labels)), np.float32)
            return Expressions(nothing, np.zeros((0, 2), np.float32) if self._places else None)
        found = self._outputs(rgb)
        classes = len(self._classes)
        probabilities = np.asarray(softmax(found[:, :classes], axis=1) @ self._shares, np.float32)
        return Expressions(probabilities, np.clip(found[:, classes:], -1, 1) if self._places else None)

    def _outputs(self, rgb: U8) -> F32:
        """[n >= 1, side, side, 3] -> what the network gives, [n, width]."""
        scaled = (rgb.astype(np.float32) / 255 - self._mean) / self._deviation
        faces = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
        parts = np.split(faces, len(faces)) if self._one_by_one else [faces]
        return np.concatenate([self._session.run({self._input: part})[self._session.outputs[0]] for part in parts])

    def _shape(self) -> tuple[str, int, bool]:
        """(name of the input, side, whether it takes one face at a time)."""
        expected = f"one input of floats [n or 1, 3, side, side], side at most {MAX_SIDE}"
        listed = ", ".join(
            f"{name}: {dtype} {[n or 'any' for n in self._session.dims[name]]}".replace("'", "")
            for name, dtype in self._session.inputs.items()
        )
        dims = [dims for name, dims in self._session.dims.items() if self._session.inputs[name] == np.float32]
        if len(self._session.inputs) != 1 or len(dims) != 1 or len(dims[0]) != 4:
            raise self._unfit(expected, listed or "none")
        (batch, channels, *sides) = dims[0]
        known = {side for side in sides if side is not None} or {USUAL_SIDE}
        if batch not in (None, 1) or channels not in (None, 3) or len(known) != 1 or not 8 <= min(known) <= MAX_SIDE:
            raise self._unfit(expected, listed)
        return next(iter(self._session.inputs)), known.pop(), batch == 1

    def _width(self) -> int:
        """Numbers per face, from one run with faces of noise."""
        if len(self._session.outputs) != 1:
            raise self._unfit("one output", ", ".join(self._session.outputs))
        noise = np.random.default_rng(0).integers(0, 256, (2, self.side, self.side, 3), np.uint8)
        try:
            found = self._outputs(noise)
        except (ModelCorruptError, ValueError) as error:
            raise self._unfit("a network that can be run", str(error)) from error
        if found.ndim != 2 or len(found) != len(noise) or found.dtype != np.float32 or not np.isfinite(found).all():
            raise self._unfit("finite floats [n, classes]", f"{found.dtype} {list(found.shape)}")
        return int(found.shape[1])

    def _columns(self, named: str | None, width: int) -> tuple[tuple[str, ...], bool]:
        """(classes in the order of the outputs, whether valence and arousal follow)."""
        if named is None:
            fitting = {len(SEVEN): (SEVEN, False), len(EIGHT): (EIGHT, False), len(EIGHT) + 2: (EIGHT, True)}
            if width not in fitting:
                raise self._unfit(f"7, 8 or 10 outputs, or the classes in {METADATA[0]}", str(width))
            return fitting[width]
        classes = tuple(name.strip().lower() for name in named.split(","))
        if not set(classes) <= set(EIGHT) or len(set(classes)) != len(classes):
            raise self._unfit(f"{METADATA[0]} of {', '.join(EIGHT)}, each once", repr(named[:200]))
        if width not in (len(classes), len(classes) + 2):
            raise self._unfit(f"{len(classes)} outputs as {METADATA[0]} says, or two more", str(width))
        return classes, width > len(classes)

    def _numbers(self, key: str, usual: tuple[float, ...]) -> tuple[float, ...]:
        """As many finite numbers as usual."""
        text = self._session.metadata.get(key)
        try:
            values = usual if text is None else tuple(float(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != len(usual) or not np.isfinite(values).all():
            raise self._unfit(f"{NUMERALS[len(usual)]} numbers in {key}", repr((text or "")[:200]))
        return values

    def _unfit(self, expected: str, found: str) -> InvalidInputError:
        return InvalidInputError(f"{self._path}: expected {expected}; found {found}")


def expression_file(path: Path) -> ModelSpec:
    """A network in a file, as a model named after it."""
    return ModelSpec(
        _name(path), "1", "expression", None, lambda folder, runtime: ExpressionFile(path, runtime), default=False
    )


def _name(path: Path) -> str:
    return path.stem.replace("_", "-")


MODELS: tuple[ModelSpec, ...] = ()
"""None is part of the package."""
