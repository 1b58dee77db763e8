"""Writes mini-Xception as ONNX straight from its Keras weight file, batch norms folded.

Architecture: Arriaga et al. 2017, "Real-time Convolutional Neural Networks for Emotion and Gender
Classification". Two plain convolutions, four residual modules of two separable convolutions each.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from affectline.models.convert.graph import Graph
from affectline.models.signals import F32

MODULES = 4


def convert(raw_dir: Path, out_dir: Path) -> None:
    """emotion_model.hdf5 -> model.onnx: gray [n, 1, 64, 64] in [-1, 1] -> probabilities [n, 7]."""
    with h5py.File(raw_dir / "emotion_model.hdf5") as file:
        g = _graph(_Weights(file["model_weights"]))
    g.save(out_dir / "model.onnx")


class _Weights:
    def __init__(self, group: h5py.Group) -> None:
        self._group = group

    def __call__(self, layer: str, name: str) -> F32:
        return np.asarray(self._group[layer][f"{layer}_1"][f"{name}:0"], np.float32)

    def folded(self, layer: str, name: str, norm: int) -> tuple[F32, F32]:
        """A kernel as [out, in, h, w] with the batch norm after it multiplied in, and its bias [out]."""
        gamma, beta, mean, variance = (
            self(f"batch_normalization_{norm}", part) for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        scale = gamma / np.sqrt(variance + 1e-3)
        return self(layer, name).transpose(3, 2, 0, 1) * scale[:, None, None, None], beta - mean * scale


def _graph(weights: _Weights) -> Graph:
    g = Graph("mini_xception")

    def conv(x: str, layer: int, norm: int, **attributes: Any) -> str:
        kernel, bias = weights.folded(f"conv2d_{layer}", "kernel", norm)
        return str(g.op("Conv", x, g.const(kernel), g.const(bias), **attributes))

    def separable(x: str, layer: int, norm: int) -> str:
        """Depthwise 3x3, then pointwise with its batch norm."""
        name = f"separable_conv2d_{layer}"
        depthwise = weights(name, "depthwise_kernel").transpose(2, 3, 0, 1)
        x = g.op("Conv", x, g.const(depthwise), group=depthwise.shape[0], auto_pad="SAME_UPPER")
        kernel, bias = weights.folded(name, "pointwise_kernel", norm)
        return str(g.op("Conv", x, g.const(kernel), g.const(bias)))

    x = g.input("gray", ("n", 1, 64, 64))
    for layer in (1, 2):
        x = g.op("Relu", conv(x, layer, norm=layer))
    for module in range(MODULES):
        first_norm = 3 * module + 3
        shortcut = conv(x, module + 3, norm=first_norm, strides=(2, 2))
        x = g.op("Relu", separable(x, 2 * module + 1, norm=first_norm + 1))
        x = separable(x, 2 * module + 2, norm=first_norm + 2)
        x = g.op("MaxPool", x, kernel_shape=(3, 3), strides=(2, 2), auto_pad="SAME_UPPER")
        x = g.op("Add", x, shortcut)
    kernel = weights("conv2d_7", "kernel").transpose(3, 2, 0, 1)
    x = g.op("Conv", x, g.const(kernel), g.const(weights("conv2d_7", "bias")), pads=(1, 1, 1, 1))
    x = g.op("Flatten", g.op("GlobalAveragePool", x))
    g.output(g.op("Softmax", x, axis=-1), "probabilities", ("n", 7))
    return g
