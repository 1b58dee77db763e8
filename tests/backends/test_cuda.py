"""onnxruntime-gpu: networks run on the GPU where there is one, and elsewhere on the CPU with the reason.

Runs in an environment of its own (`make test-backends`), where onnxruntime-gpu takes the place of onnxruntime.
"""

from pathlib import Path

import numpy as np
import pytest

from affectline.models.convert.graph import Graph
from affectline.models.errors import InvalidInputError
from affectline.models.runtime import NOT_OFFERED, AcceleratorOptions, Placement, Runtime, offered_providers

pytestmark = pytest.mark.backends
if "cuda" not in offered_providers():
    pytest.skip("needs onnxruntime-gpu: run `make test-backends`", allow_module_level=True)

WEIGHT = np.random.default_rng(0).normal(0, 1, (256, 128)).astype(np.float32)
X = np.random.default_rng(1).normal(0, 1, (3, 128)).astype(np.float32)


@pytest.fixture(params=[False, True], ids=["fp32", "fp16"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    g = Graph("line", half=request.param)
    g.output(g.op("Gelu", g.linear(g.input("x", ("n", 128)), WEIGHT)), "y", ("n", 256))
    g.save(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def placed(network: Path, *order: str, options: AcceleratorOptions | None = None) -> tuple[Placement, np.ndarray]:
    used = Runtime(order, options=options)
    found = used.session(network).run({"x": X})["y"]
    return used.placements[0], found


@pytest.mark.parametrize("first", ["cuda", "tensorrt"])
def test_the_gpu_is_used_or_the_reason_is_told(network: Path, first: str, capfd: pytest.CaptureFixture[str]) -> None:
    _, expected = placed(network, "cpu")
    placement, found = placed(network, first, "cpu")
    np.testing.assert_allclose(found, expected, atol=0.2)
    if placement.provider == first:
        assert placement.nodes[first] >= 1
        return
    ((name, reason),) = placement.passed_over
    assert (placement.provider, name) == ("cpu", first)
    assert reason != NOT_OFFERED
    assert any(word in reason for word in ("lib", "CUDA", "TensorRT", "device"))
    assert not reason.startswith("/"), "a place in the source of onnxruntime tells nobody anything"
    assert "onnxruntime" not in capfd.readouterr().err
    with pytest.raises(InvalidInputError, match=f"expected one of {first} to run .*, found {first}: "):
        placed(network, first)


def test_a_gpu_that_is_not_there_is_passed_over(network: Path) -> None:
    placement, _ = placed(network, "cuda", "cpu", options=AcceleratorOptions(device=63))
    assert placement.provider == "cpu"


def test_both_are_told_in_their_order(network: Path) -> None:
    placement, _ = placed(network, "tensorrt", "cuda", "cpu")
    assert [name for name, _ in placement.passed_over] == ["tensorrt", "cuda"][: len(placement.passed_over)]
