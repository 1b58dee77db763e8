"""A small writer of ONNX graphs: one method per step, names given out automatically."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
Dims = Sequence[int | str]
BLOCK = 128
"""Numbers that share a scale where rows are quantised on their own."""


class Graph:
    """Collects nodes; `save` writes the model. Values are referred to by the name strings the methods return."""

    def __init__(self, name: str, *, int8: bool = False, by_row: bool = False) -> None:
        """int8: `linear` computes in int8. by_row: it quantises each row of its input on its own; see there."""
        self._name = name
        self._int8 = int8
        self._by_row = by_row
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._scalars: dict[tuple[str, bytes], str] = {}

    def input(self, name: str, dims: Dims, dtype: int = TensorProto.FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        return name

    def output(self, value: str, name: str, dims: Dims, dtype: int = TensorProto.FLOAT) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, dims))

    def const(self, array: npt.NDArray[Any] | np.generic | Sequence[int] | float) -> str:
        """A stored array; equal small ones are stored once. Lists of integers become int64, floats float32."""
        value = np.asarray(array, np.float32) if isinstance(array, float) else np.asarray(array)
        key = (f"{value.dtype}{value.shape}", value.tobytes()) if value.size <= 16 else None
        if key and key in self._scalars:
            return self._scalars[key]
        name = f"c{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        if key:
            self._scalars[key] = name
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        """Adds a node; returns its output name, or a tuple of them."""
        number = len(self._nodes)
        names = [f"v{number}" if outputs == 1 else f"v{number}_{k}" for k in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0] if outputs == 1 else tuple(names)

    def linear(self, x: str, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None = None) -> str:
        """x @ weight.T + bias, weight [out, in]; int8 with one scale per output when the graph is int8.

        int8: symmetric weights, inputs quantised per call (DynamicQuantizeLinear), int32 accumulation. By row: a scale
        per BLOCK weights, and one per BLOCK inputs of each row (MatMulNBits), so that an outlier in one row does not
        blur the others; as fast for one row, slower for hundreds. `in` is then a multiple of BLOCK.
        """
        matrix = weight.astype(np.float32).T
        if self._int8 and self._by_row:
            blocks = weight.astype(np.float32).reshape(len(weight), -1, BLOCK)
            scale = np.maximum(np.abs(blocks).max(axis=2, keepdims=True), 1e-8) / 127
            quantised = np.clip(np.round(blocks / scale) + 128, 0, 255).astype(np.uint8)
            sizes = {"K": len(matrix), "N": len(weight), "bits": 8, "block_size": BLOCK, "accuracy_level": 4}
            stored = (self.const(quantised), self.const(scale[..., 0].astype(np.float32)))
            y = self.op("MatMulNBits", x, *stored, domain="com.microsoft", **sizes)
        elif self._int8:
            scale = np.maximum(np.abs(matrix).max(axis=0), 1e-8) / 127
            quantised = np.clip(np.round(matrix / scale), -127, 127).astype(np.int8)
            x_int, x_scale, x_zero = self.op("DynamicQuantizeLinear", x, outputs=3)
            product = self.op("MatMulInteger", x_int, self.const(quantised), x_zero)
            scales = self.op("Mul", x_scale, self.const(scale.astype(np.float32)))
            y = self.op("Mul", self.op("Cast", product, to=TensorProto.FLOAT), scales)
        else:
            y = self.op("MatMul", x, self.const(matrix))
        return str(self.op("Add", y, self.const(bias.astype(np.float32)))) if bias is not None else str(y)

    def layer_norm(self, x: str, gamma: npt.NDArray[Any], beta: npt.NDArray[Any], *, epsilon: float = 1e-5) -> str:
        return str(
            self.op(
                "LayerNormalization",
                x,
                self.const(gamma.astype(np.float32)),
                self.const(beta.astype(np.float32)),
                axis=-1,
                epsilon=epsilon,
            )
        )

    def save(self, path: Path) -> None:
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, self._initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="affectline")
        model.ir_version = helper.find_min_ir_version_for([opsets[0]])
        onnx.save(model, str(path))
