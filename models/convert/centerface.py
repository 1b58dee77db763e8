"""Makes the published CenterFace graph usable: free picture size, no batch norms, initializers not inputs."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper, version_converter

from affectline.models.convert.graph import OPSET

INPUT = "rgb"
OUTPUTS = {"537": ("heat", 1), "538": ("size", 2), "539": ("offset", 2), "540": ("landmarks", 10)}
"""Published output name -> (ours, channels)."""


def convert(raw_dir: Path, out_dir: Path) -> None:
    """centerface.onnx -> model.onnx: rgb [n, 3, height, width] in [0, 255], both multiples of 32, ->

    heat [n, 1, height / 4, width / 4] in [0, 1], and on the same grid size, offset and landmarks.
    """
    model = onnx.load(raw_dir / "centerface.onnx")
    _fold_batch_norms(model.graph)
    _rename(model.graph)
    model = version_converter.convert_version(model, OPSET)
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, out_dir / "model.onnx")


def _fold_batch_norms(graph: onnx.GraphProto) -> None:
    """Each of them follows a ConvTranspose without bias: it becomes that one's bias and scaled weight."""
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes = {node.output[0]: node for node in graph.node}
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = nodes[norm.input[0]]
        gamma, beta, mean, variance = (numpy_helper.to_array(weights[name]) for name in norm.input[1:])
        (epsilon,) = (a.f for a in norm.attribute if a.name == "epsilon")
        scale = gamma / np.sqrt(variance + epsilon)
        kernel = weights[conv.input[1]]
        folded = numpy_helper.to_array(kernel) * scale[:, None, None]  # [in, out, h, w]
        kernel.CopyFrom(numpy_helper.from_array(folded.astype(np.float32), kernel.name))
        bias = weights[norm.input[2]]
        bias.CopyFrom(numpy_helper.from_array((beta - mean * scale).astype(np.float32), bias.name))
        conv.input.append(bias.name)
        conv.output[0] = norm.output[0]
        graph.node.remove(norm)


def _rename(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in used]
    names = {"input.1": INPUT} | {old: new for old, (new, _) in OUTPUTS.items()}
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    float32 = onnx.TensorProto.FLOAT
    values = helper.make_tensor_value_info
    inputs = [values(INPUT, float32, ("n", 3, "height", "width"))]
    outputs = [values(name, float32, ("n", channels, "rows", "columns")) for name, channels in OUTPUTS.values()]
    graph.CopyFrom(helper.make_graph(list(graph.node), "centerface", inputs, outputs, initializers))
