"""Writes Silero's voice activity detector with its convolutions as plain matrix products over all frames at once.

The published graph convolves each frame on its own, over four steps of time: products so small that a processor takes
three times as long for them. Architecture: magnitudes of a short-time Fourier transform, four convolutions, an LSTM.
"""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import numpy_helper

from affectline.models.convert.graph import Graph
from affectline.models.signals import F32

PUBLISHED: Final = "silero_vad_16k_sequence.onnx"
FILE: Final = "model.onnx"
SAMPLES: Final = 576
"""Of a frame, with those before it that the network sees, too."""
WINDOW, HOP, BINS = 256, 128, 129
STEPS: Final = 4
"""Windows of a frame; the last one goes past its end by half a hop, where the sound is mirrored."""
STRIDES: Final = (1, 2, 2, 1)
"""Of the convolutions, each over three steps with one of padding at either end."""
HIDDEN: Final = 128


def convert(raw_dir: Path, out_dir: Path) -> None:
    """PUBLISHED -> FILE: input [frames, SAMPLES], h and c [1, 1, HIDDEN] -> speech_probs [frames], hn, cn like h, c."""
    graph(read_weights(raw_dir / PUBLISHED)).save(out_dir / FILE)


def read_weights(path: Path) -> dict[str, F32]:
    """The network's weights, by the names of the published graph; those of the LSTM as W, R and B."""
    published = onnx.load(path).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in published.initializer}
    (lstm,) = (node for node in published.node if node.op_type == "LSTM")
    return stored | dict(zip("WRB", (stored[name] for name in lstm.input[1:4]), strict=True))


def graph(weights: dict[str, F32]) -> Graph:
    g = Graph("speech_gate")
    x = _magnitudes(g, g.input("input", ("frames", SAMPLES)), weights["stft.forward_basis_buffer"][:, 0])
    steps = STEPS
    for layer, stride in enumerate(STRIDES):
        weight, bias = weights[f"encoder.{layer}.weight"], weights[f"encoder.{layer}.bias"]
        steps, matrix = _over_all_steps(weight, steps, stride)
        x = g.op("Relu", g.linear(x, matrix, np.tile(bias, steps)))
    state = (g.input("h", (1, 1, HIDDEN)), g.input("c", (1, 1, HIDDEN)))
    constants = (g.const(weights[part]) for part in "WRB")
    sequence = g.op("Unsqueeze", x, g.const([1]))
    every, h, c = g.op("LSTM", sequence, *constants, "", *state, outputs=3, hidden_size=HIDDEN)
    heard = g.op("Relu", g.op("Reshape", every, g.const([-1, HIDDEN])))
    speech = g.op("Sigmoid", g.linear(heard, weights["output.weight"][:, :, 0], weights["output.bias"]))
    g.output(g.op("Reshape", speech, g.const([-1])), "speech_probs", ("frames",))
    g.output(h, "hn", (1, 1, HIDDEN))
    g.output(c, "cn", (1, 1, HIDDEN))
    return g


def _magnitudes(g: Graph, frames: str, basis: F32) -> str:
    """[frames, SAMPLES] -> [frames, STEPS * BINS]; basis [2 * BINS, WINDOW]: real parts, then imaginary ones."""
    beyond = (STEPS - 1) * HOP + WINDOW - SAMPLES
    mirrored = g.op("Gather", frames, g.const(np.arange(SAMPLES - 2, SAMPLES - 2 - beyond, -1)), axis=1)
    blocks = g.op("Reshape", g.op("Concat", frames, mirrored, axis=1), g.const([-1, STEPS + 1, HOP]))
    first, second = (g.op("Slice", blocks, g.const([k]), g.const([k + STEPS]), g.const([1])) for k in (0, 1))
    found = g.linear(g.op("Concat", first, second, axis=2), basis)
    real, imaginary = g.op("Split", g.op("Mul", found, found), outputs=2, axis=2, num_outputs=2)
    return str(g.op("Reshape", g.op("Sqrt", g.op("Add", real, imaginary)), g.const([-1, STEPS * BINS])))


def _over_all_steps(weight: F32, steps: int, stride: int) -> tuple[int, F32]:
    """A convolution's weight [out, in, 3] -> its steps of output, and it as [steps * out, steps * in]."""
    channels_out, channels_in, taps = weight.shape
    after = -(-steps // stride)
    matrix = np.zeros((after, channels_out, steps, channels_in), np.float32)
    for step in range(after):
        for tap in range(taps):
            heard = step * stride + tap - 1
            if 0 <= heard < steps:
                matrix[step, :, heard] = weight[:, :, tap]
    return after, matrix.reshape(after * channels_out, steps * channels_in)
