"""The only importer of onnxruntime: providers, threads, and inputs checked at the edge."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from affectline.models.errors import InvalidInputError, ModelCorruptError, ModelMissingError

Array = npt.NDArray[Any]

PROVIDERS: Final[dict[str, str]] = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""What runs networks, as settings name it -> as onnxruntime does; fastest first."""
DEFAULT_PROVIDERS: Final = ("cuda", "migraphx", "cpu")
"""Tried by default. The others compile each network first, for seconds to minutes: whoever wants them asks."""
OPENVINO_DEVICE: Final = re.compile(
    r"(CPU|NPU|GPU(\.\d)?|(AUTO|MULTI|HETERO):(CPU|NPU|GPU(\.\d)?)(,(CPU|NPU|GPU(\.\d)?))*)"
)
PROBE_TIMEOUT_S: Final = 120
MAX_REASON: Final = 240
NOT_OFFERED: Final = "this build of onnxruntime does not offer it"

_NAMES: Final = {theirs: ours for ours, theirs in PROVIDERS.items()}
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
_LOG_WARNINGS: Final = 2
_LOG_FATAL: Final = 4
_LOGGING: Final = Lock()
"""Held while onnxruntime's own log is quiet."""
_PROBE: Final = """
import json, sys
import onnxruntime
path, provider, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
session = onnxruntime.InferenceSession(path, providers=[(provider, options)], enable_fallback=0)
sys.exit(session.get_providers()[0] != provider)
"""
"""Says on standard error why a provider cannot be had; onnxruntime itself only goes on without it."""


@dataclass(frozen=True, slots=True)
class AcceleratorOptions:
    """How the providers other than the CPU run; each takes what concerns it."""

    device: int = 0
    """Number of the GPU, for TensorRT, CUDA and MIGraphX."""
    fp16: bool = False
    """TensorRT, MIGraphX and OpenVINO on a GPU or NPU calculate in half precision."""
    engine_cache: Path | None = None
    """Folder for what TensorRT and OpenVINO compile; without it every start compiles anew."""
    openvino_device: str = "CPU"
    """CPU, GPU, GPU.1, NPU, or several as AUTO:GPU,CPU."""

    def __post_init__(self) -> None:
        if self.device < 0:
            raise InvalidInputError(f"expected a GPU of 0 or more, found {self.device}")
        if not OPENVINO_DEVICE.fullmatch(self.openvino_device):
            raise InvalidInputError(
                "expected an OpenVINO device such as CPU, GPU, GPU.1, NPU or AUTO:GPU,CPU; "
                f"found {self.openvino_device!r}"
            )


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one network runs."""

    network: str
    """Folder and file name."""
    provider: str
    """The first of the configured ones that took it."""
    nodes: Mapping[str, int]
    """Provider -> nodes of the graph that it runs; what an accelerator cannot do goes to the CPU."""
    passed_over: tuple[tuple[str, str], ...]
    """(provider, why not) of those that are configured before."""


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

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Output name -> array, of all or those wanted.

        Raises TypeError when names or dtypes differ from `self.inputs`, ModelCorruptError when the network cannot take
        arrays of these shapes.
        """
        found = {name: array.dtype for name, array in inputs.items()}
        if found != self.inputs:
            raise TypeError(f"expected inputs {_listed(self.inputs)}, found {_listed(found)}")
        wanted = self.outputs if outputs is None else outputs
        try:
            return dict(zip(wanted, self._session.run(wanted, inputs), strict=True))
        except _UNREADABLE as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            raise ModelCorruptError(f"expected a network that takes {shapes}, found: {error}") from error


class Runtime:
    """How networks run on this machine.

    providers: tried in this order for each network; `cpu` among them is the leave to do without an accelerator.
    threads: per network call. spinning: idle threads poll for work instead of sleeping, which
    shortens single calls and costs the processor when several networks share it.
    Raises InvalidInputError for an unknown provider, or when onnxruntime offers none of them.
    """

    def __init__(
        self,
        providers: Sequence[str] = DEFAULT_PROVIDERS,
        *,
        threads: int = 2,
        spinning: bool = False,
        options: AcceleratorOptions | None = None,
    ) -> None:
        self.providers: tuple[str, ...] = checked_providers(providers)
        self.threads = threads
        self.spinning = spinning
        self._options = options or AcceleratorOptions()
        offered = offered_providers()
        self._faults = {name: NOT_OFFERED for name in self.providers if name not in offered}
        """Provider -> why no network can use it."""
        if len(self._faults) == len(self.providers):
            raise InvalidInputError(
                f"expected a provider that this build of onnxruntime offers ({', '.join(offered)}), "
                f"found {', '.join(self.providers)}"
            )
        self.placements: list[Placement] = []
        """Of the networks loaded so far."""

    def session(self, path: Path, *, threads: int | None = None) -> Session:
        """Loads an ONNX file.

        threads: other than the usual; a network for which one is enough is too small to gain from an accelerator, and
        runs on the CPU. Raises ModelMissingError or ModelCorruptError, and InvalidInputError where only accelerators
        are configured and none can be had.
        """
        if not path.is_file():
            raise ModelMissingError(f"expected an ONNX file at {path}, found none")
        small = threads == 1
        passed_over: list[tuple[str, str]] = []
        for name in ("cpu",) if small else self.providers:
            found = self._faults.get(name) or self._load(path, name, threads)
            if isinstance(found, str):
                passed_over.append((name, found))
            else:
                self.placements.append(Placement(_shown(path), name, _nodes(found), tuple(passed_over)))
                return Session(found)
        told = "; ".join(f"{name}: {reason}" for name, reason in passed_over)
        raise InvalidInputError(f"expected one of {', '.join(self.providers)} to run {_shown(path)}, found {told}")

    def _load(self, path: Path, name: str, threads: int | None) -> ort.InferenceSession | str:
        """The loaded network, or why this provider does not run it.

        onnxruntime gives nodes that a provider cannot run to its own one for the CPU.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", str(int(self.spinning)))
        _share_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        if name == "cpu":
            try:
                return _on_cpu(path, options)
            except _UNREADABLE as error:
                raise ModelCorruptError(f"expected an ONNX network in {path}, found: {error}") from error
        wanted = [(PROVIDERS[name], self._settings(name))]
        if name == "tensorrt" and "cuda" in self.providers and "cuda" not in self._faults:
            wanted.append((PROVIDERS["cuda"], self._settings("cuda")))
        with _LOGGING:
            ort.set_default_logger_severity(_LOG_FATAL)  # what failed is told in one line of our own
            try:
                session = ort.InferenceSession(path, options, providers=wanted, enable_fallback=0)
            except (*_UNREADABLE, RuntimeError) as error:
                return _plain(str(error))
            finally:
                ort.set_default_logger_severity(_LOG_WARNINGS)
        if session.get_providers()[0] == PROVIDERS[name]:
            return session
        return self._faults.setdefault(name, _why_not(path, name, self._settings(name)))

    def _settings(self, name: str) -> dict[str, str]:
        """The provider's own options."""
        options = self._options
        device, half = str(options.device), options.fp16
        cache = str(options.engine_cache) if options.engine_cache else None
        match name:
            case "tensorrt":
                found = {"device_id": device, "trt_fp16_enable": str(half)}
                if cache:
                    found |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": cache}
                    found |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": cache}
            case "cuda":
                # Windows differ in length: searching exhaustively for each new shape would stall calls.
                found = {"device_id": device, "cudnn_conv_algo_search": "HEURISTIC"}
            case "migraphx":
                found = {"device_id": device, "migraphx_fp16_enable": str(int(half))}
            case "openvino":
                found = {"device_type": options.openvino_device}
                if options.openvino_device == "CPU":
                    found["num_of_threads"] = str(self.threads)
                elif half:
                    found["precision"] = "FP16"
                if cache:
                    found["cache_dir"] = cache
            case _:
                found = {}
        return found


def checked_providers(names: Sequence[str]) -> tuple[str, ...]:
    """The same names; raises InvalidInputError when one is unknown or named twice, or there is none."""
    if not names or not set(names) <= set(PROVIDERS) or len(set(names)) != len(names):
        raise InvalidInputError(
            f"expected providers of {', '.join(PROVIDERS)}, each once; found {', '.join(names) or 'none'}"
        )
    return tuple(names)


def offered_providers() -> tuple[str, ...]:
    """Those that this build of onnxruntime has, whether or not they work here."""
    offered = ort.get_available_providers()
    return tuple(name for name, theirs in PROVIDERS.items() if theirs in offered)


def onnxruntime_version() -> str:
    """With what it was built for, e.g. `1.24.1 (CPU-OPENVINO_CPU)`."""
    return f"{ort.__version__} ({ort.get_device()})"


@cache
def _share_arena() -> None:
    """Lets all networks take memory from one arena: few of them work at a time, and each would keep its most."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, None)


def _on_cpu(path: Path, options: ort.SessionOptions) -> ort.InferenceSession:
    providers = [PROVIDERS["cpu"]]
    try:
        return ort.InferenceSession(path, options, providers=providers)
    except (
        ort_errors.Fail
    ):  # onnxruntime 1.24, the newest for OpenVINO, cannot fold constants of text (a head's classes)
        return ort.InferenceSession(path, options, providers=providers, disabled_optimizers=["ConstantFolding"])


def _why_not(path: Path, name: str, settings: Mapping[str, str]) -> str:
    """Why a provider cannot be had. onnxruntime says so to its log only, so it is asked in a process of its own."""
    command = [sys.executable, "-c", _PROBE, str(path), PROVIDERS[name], json.dumps(dict(settings))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, env=dict(os.environ))
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"it could not be asked why ({type(error).__name__})"
    for line in re.sub(r"\x1b\[[\d;]*m", "", done.stderr).splitlines():
        if found := re.search(r"\[E:onnxruntime[^\]]*\] (.+)|^\w*Error: (.+)", line):
            return _plain(found[1] or found[2])
    return "it does not start here, and onnxruntime gives no reason"


def _plain(said: str) -> str:
    """An error of onnxruntime without the place in its source."""
    said = " ".join(said.split())
    for pattern in (r"with error: (.+)", r"\[ERROR\] (?:\[\w+\] )?(.+)", r"^/\S+:\d+ .*\) (?=[A-Z])(.+)"):
        if found := re.search(pattern, said):
            said = found[1]
    return said[:MAX_REASON]


def _nodes(session: ort.InferenceSession) -> dict[str, int]:
    """Provider -> nodes that it runs; empty from an onnxruntime that does not tell."""
    nodes: Counter[str] = Counter()
    for part in getattr(session, "get_provider_graph_assignment_info", list)():
        nodes[_NAMES.get(part.ep_name, part.ep_name)] += len(part.get_nodes())
    return dict(nodes)


def _shown(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _dtype(name: str, kind: str) -> np.dtype[Any]:
    if kind not in _DTYPES:
        raise ModelCorruptError(f"expected inputs of {', '.join(_DTYPES)}; found {name}: {kind}")
    return _DTYPES[kind]


def _listed(dtypes: Mapping[str, np.dtype[Any]]) -> str:
    return ", ".join(f"{name}: {dtype}" for name, dtype in dtypes.items())
