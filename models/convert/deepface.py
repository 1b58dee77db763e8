"""Writes DeepFace's emotion network as ONNX straight from its Keras weight file, without DeepFace or TensorFlow.

Architecture: Serengil & Ozpinar 2021; five convolutions, three dense layers, seven classes. What DeepFace does to a
face before (gray, 48×48) is part of the graph, so that models/zoo/expression_file.py loads the file like others.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import h5py
import numpy as np

from affectline.models.convert.graph import Graph
from affectline.models.errors import InvalidInputError
from affectline.models.signals import F32

SIDE: Final = 224
NETWORK_SIDE: Final = 48
LUMA: Final = (0.299, 0.587, 0.114)
"""Of red, green and blue, ITU-R BT.601, as OpenCV has it."""
CLASSES: Final = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""In the order of its outputs, as models/zoo/expression_file.py names them."""
KERNELS: Final = (
    (5, 5, 1, 64),
    (3, 3, 64, 64),
    (3, 3, 64, 64),
    (3, 3, 64, 128),
    (3, 3, 128, 128),
    (128, 1024),
    (1024, 1024),
    (1024, 7),
)
"""Shapes of the layers that have weights, in order: [height, width, in, out] or [in, out]."""


def convert(weights: Path, out: Path) -> None:
    """facial_expression_model_weights.h5 -> ONNX: RGB [n, 3, 224, 224] in [0, 1] -> logits [n, 7].

    Raises InvalidInputError for a file with other weights.
    """
    try:
        with h5py.File(weights) as file:
            layers = list(_layers(file))
    except (OSError, KeyError, AttributeError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{weights}: expected weights that Keras saved, found: {error}") from error
    found = [kernel.shape for kernel, _ in layers]
    if found != list(KERNELS) or any(bias.shape != kernel.shape[-1:] for kernel, bias in layers):
        raise InvalidInputError(f"{weights}: expected kernels {_listed(KERNELS)}; found {_listed(found) or 'none'}")
    metadata = {
        "affectline.classes": ",".join(CLASSES),
        "affectline.mean": "0,0,0",
        "affectline.deviation": "1,1,1",
        "affectline.crop": "0,0,1,1",
    }
    _graph(layers).save(out, metadata=metadata)


def _layers(file: h5py.File) -> Iterator[tuple[F32, F32]]:
    """(kernel, bias) of each layer that has weights, in the order in which Keras built them."""
    group = file.get("model_weights", file)
    for layer in group.attrs["layer_names"]:
        names = group[_text(layer)].attrs["weight_names"]
        if len(names) == 2:
            kernel, bias = (np.asarray(group[_text(layer)][_text(name)], np.float32) for name in names)
            yield kernel, bias


def _graph(layers: list[tuple[F32, F32]]) -> Graph:
    g = Graph("deepface_emotion")
    weights = iter(layers)

    def conv(x: str) -> str:
        kernel, bias = next(weights)
        return str(g.op("Relu", g.op("Conv", x, g.const(kernel.transpose(3, 2, 0, 1)), g.const(bias))))

    x = g.input("rgb", ("n", 3, SIDE, SIDE))
    x = g.op("Conv", x, g.const(np.array(LUMA, np.float32).reshape(1, 3, 1, 1)))
    scale = NETWORK_SIDE / SIDE
    x = g.op("Resize", x, "", g.const(np.array([1, 1, scale, scale], np.float32)), mode="linear")
    x = g.op("MaxPool", conv(x), kernel_shape=(5, 5), strides=(2, 2))
    for _ in range(2):
        x = g.op("AveragePool", conv(conv(x)), kernel_shape=(3, 3), strides=(2, 2))
    x = g.op("Flatten", x)
    for kernel, bias in weights:
        last = kernel.shape[1] == len(CLASSES)
        x = g.linear(x, kernel.T, bias)
        x = x if last else g.op("Relu", x)
    g.output(x, "logits", ("n", len(CLASSES)))
    return g


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _listed(shapes: Iterable[tuple[int, ...]]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in shapes)
