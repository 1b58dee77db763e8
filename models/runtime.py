"""The only importer of onnxruntime: providers, threads, and inputs checked at the edge."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from affectline.models.errors import InvalidInputError, ModelCorruptError, ModelMissingError

Array = npt.NDArray[Any]

PREFERRED_PROVIDERS: Final = (
    "TensorrtExecutionProvider",
    "CUDAExecutionProvider",
    "MIGraphXExecutionProvider",
    "OpenVINOExecutionProvider",
    "CoreMLExecutionProvider",
    "CPUExecutionProvider",
)
"""Fastest first; those that this build of onnxruntime does not offer are passed over."""

_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(bool)": np.dtype(np.bool_),
}
_UNREADABLE: Final = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


class Session:
    """One loaded network. Stateless: several threads may call `run` at once."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self.inputs: Mapping[str, np.dtype[Any]] = {i.name: _dtype(i.name, i.type) for i in session.get_inputs()}
        """Input name -> dtype."""
        self.dims: Mapping[str, tuple[int | None, ...]] = {
            i.name: tuple(n if isinstance(n, int) else None for n in i.shape) for i in session.get_inputs()
        }
        """Input name -> its dimensions; None for one that may be any."""
        self.metadata: Mapping[str, str] = session.get_modelmeta().custom_metadata_map
        """What its author wrote into the file."""
        self.outputs: tuple[str, ...] = tuple(output.name for output in session.get_outputs())
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        """In use, in order."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array.

        Raises TypeError when names or dtypes differ from `self.inputs`, ModelCorruptError when the network cannot take
        arrays of these shapes.
        """
        found = {name: array.dtype for name, array in inputs.items()}
        if found != self.inputs:
            raise TypeError(f"expected inputs {_listed(self.inputs)}, found {_listed(found)}")
        try:
            return dict(zip(self.outputs, self._session.run(None, inputs), strict=True))
        except _UNREADABLE as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            raise ModelCorruptError(f"expected a network that takes {shapes}, found: {error}") from error


class Runtime:
    """How networks run on this machine.

    threads: per network call. spinning: idle threads poll for work instead of sleeping, which
    shortens single calls and costs the processor when several networks share it.
    Raises InvalidInputError when onnxruntime offers none of `providers`.
    """

    def __init__(
        self, providers: Sequence[str] = PREFERRED_PROVIDERS, *, threads: int = 2, spinning: bool = False
    ) -> None:
        offered = ort.get_available_providers()
        self.providers: tuple[str, ...] = tuple(name for name in providers if name in offered)
        if not self.providers:
            raise InvalidInputError(f"expected one of {', '.join(offered)}, found {', '.join(providers)}")
        self.threads = threads
        self.spinning = spinning

    def session(self, path: Path, *, threads: int | None = None) -> Session:
        """Loads an ONNX file. Raises ModelMissingError or ModelCorruptError."""
        if not path.is_file():
            raise ModelMissingError(f"expected an ONNX file at {path}, found none")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spinning)))
        try:
            return Session(ort.InferenceSession(path, options, providers=list(self.providers)))
        except _UNREADABLE as error:
            raise ModelCorruptError(f"expected an ONNX network in {path}, found: {error}") from error


def _dtype(name: str, kind: str) -> np.dtype[Any]:
    if kind not in _DTYPES:
        raise ModelCorruptError(f"expected inputs of {', '.join(_DTYPES)}; found {name}: {kind}")
    return _DTYPES[kind]


def _listed(dtypes: Mapping[str, np.dtype[Any]]) -> str:
    return ", ".join(f"{name}: {dtype}" for name, dtype in dtypes.items())
