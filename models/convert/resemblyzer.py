"""Writes Resemblyzer's speaker encoder as ONNX straight from its PyTorch checkpoint, without PyTorch.

Architecture: Wan et al. 2018, "Generalized End-to-End Loss for Speaker Verification": three LSTM layers, of the last
one's final state a linear layer, ReLU, and unit length.
"""

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np

from affectline.models.convert.graph import Graph
from affectline.models.convert.mel import mel_filters
from affectline.models.errors import InvalidInputError
from affectline.models.signals import F32

CHECKPOINT: Final = "pretrained.pt"
FILES: Final = ("model.onnx", "mel_filters.npy")
LAYERS: Final = 3
MELS: Final = 40
HIDDEN: Final = 256
WIDTH: Final = 256
_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_GATES: Final = (0, 3, 1, 2)
"""PyTorch's input, forget, cell, output in the order of ONNX: input, output, forget, cell."""


def convert(raw_dir: Path, out_dir: Path) -> None:
    """pretrained.pt -> FILES: mel [n, frames, 40] -> embedding [n, 256] of unit length, and the filters of the mel.

    Raises InvalidInputError when it is not the checkpoint it should be.
    """
    graph(read_checkpoint(raw_dir / CHECKPOINT)).save(out_dir / "model.onnx")
    np.save(out_dir / "mel_filters.npy", mel_filters(MELS))


def read_checkpoint(path: Path) -> dict[str, F32]:
    """The tensors of `model_state` in a checkpoint of PyTorch before 1.6. Raises InvalidInputError.

    Such a file is three pickles, the object, a list of storages, then the storages' bytes. The object is read with an
    unpickler that knows three names and no code; anything else in it is refused.
    """
    try:
        with path.open("rb") as file:
            _expect(_Plain(file).load() == _MAGIC, "a PyTorch checkpoint")
            _expect(_Plain(file).load() == _PROTOCOL, f"protocol {_PROTOCOL}")
            _expect(_Plain(file).load().get("little_endian") is True, "little-endian values")
            state = _Plain(file).load()["model_state"]
            storages = {key: _storage(file) for key in _Plain(file).load()}
        return {name: value.read(storages) for name, value in state.items()}
    except (pickle.UnpicklingError, EOFError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise InvalidInputError(f"expected a checkpoint of PyTorch in {path.name}, found: {error}") from error


def graph(tensors: Mapping[str, F32]) -> Graph:
    g = Graph("speaker_encoder")
    x = g.op("Transpose", g.input("mel", ("n", "frames", MELS)), perm=(1, 0, 2))
    for layer in range(LAYERS):
        weight, recurrence, *biases = (
            _reordered(tensors, f"lstm.{part}_l{layer}", (4 * HIDDEN, *rest))
            for part, rest in (
                ("weight_ih", (HIDDEN if layer else MELS,)),
                ("weight_hh", (HIDDEN,)),
                ("bias_ih", ()),
                ("bias_hh", ()),
            )
        )
        bias = np.concatenate(biases)
        constants = (g.const(part[None]) for part in (weight, recurrence, bias))
        every, last, _ = g.op("LSTM", x, *constants, outputs=3, hidden_size=HIDDEN)
        x = g.op("Squeeze", every, g.const([1]))
    final = g.op("Squeeze", last, g.const([0]))
    found = g.op(
        "Relu",
        g.linear(final, _tensor(tensors, "linear.weight", (WIDTH, HIDDEN)), _tensor(tensors, "linear.bias", (WIDTH,))),
    )
    length = g.op("ReduceL2", found, g.const([1]), keepdims=1)
    g.output(g.op("Div", found, g.op("Max", length, g.const(1e-6))), "embedding", ("n", WIDTH))
    return g


def _tensor(tensors: Mapping[str, F32], name: str, shape: tuple[int, ...]) -> F32:
    found = tensors[name].shape if name in tensors else "none"
    if found != shape:
        raise InvalidInputError(f"expected a tensor {name} {shape} in the checkpoint, found {found}")
    return tensors[name]


def _reordered(tensors: Mapping[str, F32], name: str, shape: tuple[int, ...]) -> F32:
    gates = np.split(_tensor(tensors, name, shape), 4)
    return np.concatenate([gates[gate] for gate in _GATES])


def _expect(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"expected {what}, found something else")


def _storage(file: IO[bytes]) -> F32:
    count = int.from_bytes(file.read(8), "little", signed=True)
    _expect(0 <= count <= 1 << 28, "at most 2**28 values")
    data = file.read(4 * count)
    _expect(len(data) == 4 * count, f"{count} values")
    return np.frombuffer(data, np.float32)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor before its values are read."""

    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, storages: Mapping[str, F32]) -> F32:
        flat, size = storages[self.key], int(np.prod(self.shape))
        contiguous = tuple(int(np.prod(self.shape[k + 1 :])) for k in range(len(self.shape)))
        _expect(self.strides == contiguous, "contiguous tensors")
        _expect(0 <= self.offset <= len(flat) - size, "tensors inside of their storage")
        return flat[self.offset : self.offset + size].reshape(self.shape).copy()


def _stored(key: str, offset: int, shape: Sequence[int], strides: Sequence[int], *_: Any) -> _Stored:
    return _Stored(str(key), int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


class _Plain(pickle.Unpickler):
    """Knows dictionaries, numbers, text and tensors; nothing that is called has any effect."""

    _KNOWN: Final[Mapping[tuple[str, str], Any]] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _stored,
        ("torch", "FloatStorage"): "float32",
    }

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return self._KNOWN[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(f"the name {module_name}.{global_name}, which is refused") from None

    def persistent_load(self, pid: Any) -> str:
        kind, dtype, key, *_ = pid
        _expect(kind == "storage" and dtype == "float32", "float32 storages")
        return str(key)
