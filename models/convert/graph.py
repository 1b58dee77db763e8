"""A small writer of ONNX graphs: one method per step, names given out automatically."""

import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
INLINE_BYTES: Final = 1_900_000_000
"""Of weights; more do not fit into one protobuf message (2 GiB), and go into a file beside it."""
SMALL_BYTES: Final = 1024
"""Arrays up to this size stay in the graph: onnxruntime reads shapes out of them."""
Dims = Sequence[int | str]
BLOCK = 128
"""Numbers that share a scale where rows are quantised on their own."""
_HALF_RANGE: Final = (-65504.0, 65504.0)


class Graph:
    """Collects nodes; `save` writes the model. Values are referred to by the name strings the methods return."""

    def __init__(self, name: str, *, int8: bool = False, by_row: bool = False, half: bool = False) -> None:
        """int8: `linear` computes in int8. by_row: it quantises each row of its input on its own; see there.

        half: weights and arithmetic in float16; inputs and outputs stay float32.
        """
        self._name = name
        self.int8 = int8
        self._by_row = by_row
        self._half = half
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: list[npt.NDArray[Any]] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._scalars: dict[tuple[str, bytes], str] = {}

    @property
    def element(self) -> int:
        """The element type that the graph calculates in."""
        return int(TensorProto.FLOAT16 if self._half else TensorProto.FLOAT)

    def input(self, name: str, dims: Dims, dtype: int = TensorProto.FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, dims))
        return str(self.op("Cast", name, to=self.element)) if self._half and dtype == TensorProto.FLOAT else name

    def output(self, value: str, name: str, dims: Dims, dtype: int = TensorProto.FLOAT) -> None:
        if self._half and dtype == TensorProto.FLOAT:
            self._nodes.append(helper.make_node("Cast", [value], [name], to=dtype))
        else:
            self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, dims))

    def const(self, array: npt.NDArray[Any] | np.generic | Sequence[int] | float) -> str:
        """A stored array; equal small ones are stored once. Lists of integers become int64, floats float32.

        In half precision float32 becomes float16, values beyond its range the largest it has.
        """
        value = np.asarray(array, np.float32) if isinstance(array, float) else np.asarray(array)
        if self._half and value.dtype == np.float32:
            value = np.clip(value, *_HALF_RANGE).astype(np.float16)
        key = (f"{value.dtype}{value.shape}", value.tobytes()) if value.size <= 16 else None
        if key and key in self._scalars:
            return self._scalars[key]
        name = f"c{len(self._arrays)}"
        self._arrays.append(np.ascontiguousarray(value).reshape(value.shape))
        if key:
            self._scalars[key] = name
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        """Adds a node; returns its output name, or a tuple of them."""
        number = len(self._nodes)
        names = [f"v{number}" if outputs == 1 else f"v{number}_{k}" for k in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, domain=domain, **attributes))
        return names[0] if outputs == 1 else tuple(names)

    def linear(
        self, x: str, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None = None, *, bits: Literal[4, 8] = 8
    ) -> str:
        """x @ weight.T + bias, weight [out, in]; int8 with one scale per output when the graph is int8.

        int8: symmetric weights, inputs quantised per call (DynamicQuantizeLinear), int32 accumulation. By row: a scale
        per BLOCK weights, and one per BLOCK inputs of each row (MatMulNBits), so that an outlier in one row does not
        blur the others; as fast for one row, slower for hundreds. `in` is then a multiple of BLOCK. bits: of a weight
        by row.
        """
        matrix = weight.astype(np.float32).T
        if self.int8 and self._by_row:
            blocks = weight.astype(np.float32).reshape(len(weight), -1, BLOCK)
            zero = 2 ** (bits - 1)
            scale = np.maximum(np.abs(blocks).max(axis=2, keepdims=True), 1e-8) / (zero - 1)
            quantised = np.round(blocks / scale + zero).astype(np.uint8)
            if bits == 4:  # two to a byte
                quantised = quantised[..., 0::2] | quantised[..., 1::2] << 4
            sizes = {"K": len(matrix), "N": len(weight), "bits": bits, "block_size": BLOCK, "accuracy_level": 4}
            stored = (self.const(quantised), self.const(scale[..., 0].astype(np.float32)))
            y = self.op("MatMulNBits", x, *stored, domain="com.microsoft", **sizes)
        elif self.int8:
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

    def save(self, path: Path, *, inline_bytes: int = INLINE_BYTES, metadata: Mapping[str, str] | None = None) -> None:
        """Writes the model; more than `inline_bytes` of weights go into a file PATH.data beside it."""
        if sum(array.nbytes for array in self._arrays) > inline_bytes:
            initializers = _write_beside(self._arrays, path.with_name(path.name + ".data"))
        else:
            initializers = [numpy_helper.from_array(array, f"c{i}") for i, array in enumerate(self._arrays)]
        graph = helper.make_graph(self._nodes, self._name, self._inputs, self._outputs, initializers)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="affectline")
        model.ir_version = helper.find_min_ir_version_for([opsets[0]])
        helper.set_model_props(model, dict(metadata or {}))
        onnx.save(model, str(path))


def _write_beside(arrays: Sequence[npt.NDArray[Any]], path: Path) -> list[onnx.TensorProto]:
    """The large arrays into one file, each on a page of its own, as ONNX's external data."""
    tensors = []
    with path.open("wb") as file:
        for i, array in enumerate(arrays):
            if array.nbytes <= SMALL_BYTES:
                tensors.append(numpy_helper.from_array(array, f"c{i}"))
                continue
            file.write(bytes(-file.tell() % mmap.PAGESIZE))
            tensor = TensorProto(
                name=f"c{i}",
                data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
                dims=array.shape,
                data_location=TensorProto.EXTERNAL,
            )
            for key, value in (("location", path.name), ("offset", file.tell()), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            array.tofile(file)
            tensors.append(tensor)
    return tensors
