"""What the runtime does at its edges, with a network of one node."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from affectline.models import runtime
from affectline.models.convert.graph import Graph
from affectline.models.errors import InvalidInputError, ModelCorruptError, ModelMissingError
from affectline.models.runtime import NOT_OFFERED, PROVIDERS, AcceleratorOptions, Runtime

pytestmark = pytest.mark.unit


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    g = Graph("doubling")
    g.output(g.op("Mul", g.input("x", ("n",)), g.const(2.0)), "y", ("n",))
    g.save(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_network_runs(doubling: Path) -> None:
    used = Runtime(threads=1)
    session = used.session(doubling)
    assert session.run({"x": np.ones(3, np.float32)})["y"].tolist() == [2, 2, 2]
    (placed,) = used.placements
    assert placed.network == f"{doubling.parent.name}/model.onnx"
    assert sum(placed.nodes.values()) == 1


@pytest.mark.parametrize("inputs", [{"x": np.ones(3)}, {"z": np.ones(3, np.float32)}, {}])
def test_other_inputs_are_named(doubling: Path, inputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(TypeError, match="expected inputs x: float32, found"):
        Runtime().session(doubling).run(inputs)


def test_a_damaged_or_missing_file_is_named(doubling: Path) -> None:
    doubling.write_bytes(doubling.read_bytes()[:40])
    with pytest.raises(ModelCorruptError, match=r"model\.onnx"):
        Runtime().session(doubling)
    doubling.unlink()
    with pytest.raises(ModelMissingError, match=r"model\.onnx"):
        Runtime().session(doubling)


@pytest.mark.parametrize(
    ("names", "found"),
    [(["abacus"], "abacus"), (["cpu", "cpu"], "cpu, cpu"), ([], "none"), (["cpu", "Cuda"], "cpu, Cuda")],
)
def test_unknown_providers_are_refused(names: list[str], found: str) -> None:
    with pytest.raises(
        InvalidInputError, match=f"expected providers of {', '.join(PROVIDERS)}, each once; found {found}$"
    ):
        Runtime(names)


MISSING = [name for name, theirs in PROVIDERS.items() if theirs not in onnxruntime.get_available_providers()]


@pytest.mark.skipif(len(MISSING) < 2, reason="this build of onnxruntime offers all providers")
def test_what_onnxruntime_does_not_offer_is_passed_over_in_order(doubling: Path) -> None:
    used = Runtime([*MISSING[:2], "cpu"])
    assert used.session(doubling).run({"x": np.ones(1, np.float32)})["y"].tolist() == [2]
    (placed,) = used.placements
    assert placed.provider == "cpu"
    assert placed.nodes == {"cpu": 1}
    assert placed.passed_over == ((MISSING[0], NOT_OFFERED), (MISSING[1], NOT_OFFERED))
    with pytest.raises(InvalidInputError, match=rf"expected a provider .* offers \(.*cpu\), found {MISSING[0]}$"):
        Runtime([MISSING[0]])


def test_the_order_decides(doubling: Path) -> None:
    used = Runtime(["cpu", "cuda"])
    used.session(doubling)
    assert (used.placements[0].provider, used.placements[0].passed_over) == ("cpu", ())


def test_an_offered_provider_that_does_not_start_is_passed_over_with_its_reason(
    doubling: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime is asked in a process of its own, and here it knows nothing of CoreML, as it says itself."""
    monkeypatch.setattr(runtime, "offered_providers", lambda: ("coreml", "cpu"))
    used = Runtime(["coreml", "cpu"])
    used.session(doubling)
    ((name, reason),) = used.placements[0].passed_over
    assert name == "coreml"
    assert reason
    with pytest.raises(InvalidInputError, match=r"expected one of coreml to run .*model\.onnx, found coreml: .{9}"):
        Runtime(["coreml"]).session(doubling)


def test_small_networks_stay_on_the_cpu(doubling: Path) -> None:
    used = Runtime(["cuda", "cpu"])
    used.session(doubling, threads=1)
    assert (used.placements[0].provider, used.placements[0].passed_over) == ("cpu", ())


@pytest.mark.parametrize("device", ["CPU", "GPU", "GPU.1", "NPU", "AUTO:GPU,CPU", "HETERO:GPU.0,CPU"])
def test_devices_of_openvino(device: str) -> None:
    assert AcceleratorOptions(openvino_device=device).openvino_device == device


@pytest.mark.parametrize("device", ["", "cpu", "GPU.", "AUTO", "AUTO:", "CPU GPU", "TPU"])
def test_other_devices_are_refused(device: str) -> None:
    with pytest.raises(InvalidInputError, match=re.escape(f"found {device!r}")):
        AcceleratorOptions(openvino_device=device)


def test_a_gpu_below_zero_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="expected a GPU of 0 or more, found -1"):
        AcceleratorOptions(device=-1)


def test_each_provider_gets_its_own_settings(tmp_path: Path) -> None:
    used = Runtime(["cpu"], threads=3, options=AcceleratorOptions(1, True, tmp_path, "GPU"))
    assert used._settings("tensorrt") == {
        "device_id": "1",
        "trt_fp16_enable": "True",
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(tmp_path),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(tmp_path),
    }
    assert used._settings("cuda")["device_id"] == "1"
    assert used._settings("openvino") == {"device_type": "GPU", "precision": "FP16", "cache_dir": str(tmp_path)}
    assert Runtime(["cpu"], threads=3)._settings("openvino") == {"device_type": "CPU", "num_of_threads": "3"}


@pytest.mark.parametrize("half", [False, True])
def test_large_weights_go_into_a_file_beside_the_graph(tmp_path: Path, half: bool) -> None:
    weight = np.random.default_rng(0).normal(0, 1, (64, 32)).astype(np.float32)
    found = []
    for name, inline_bytes in (("inline", 1 << 20), ("beside", 1000)):
        g = Graph("line", half=half)
        g.output(g.linear(g.input("x", ("n", 32)), weight, np.ones(64, np.float32)), "y", ("n", 64))
        g.save(tmp_path / f"{name}.onnx", inline_bytes=inline_bytes)
        found.append(Runtime(["cpu"]).session(tmp_path / f"{name}.onnx").run({"x": np.ones((2, 32), np.float32)})["y"])
    assert (tmp_path / "beside.onnx.data").stat().st_size >= weight.nbytes // (1 + half)
    assert not (tmp_path / "inline.onnx.data").exists()
    assert (tmp_path / "beside.onnx").stat().st_size < 2000
    np.testing.assert_array_equal(*found)
    assert found[0].dtype == np.float32
    np.testing.assert_allclose(found[0][0], weight.sum(axis=1) + 1, atol=0.1 if half else 1e-4)
