"""What the runtime does at its edges, with a network of one node."""

from pathlib import Path

import numpy as np
import pytest

from affectline.models.convert.graph import Graph
from affectline.models.errors import InvalidInputError, ModelCorruptError, ModelMissingError
from affectline.models.runtime import Runtime

pytestmark = pytest.mark.unit


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    g = Graph("doubling")
    g.output(g.op("Mul", g.input("x", ("n",)), g.const(2.0)), "y", ("n",))
    g.save(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_a_network_runs(doubling: Path) -> None:
    session = Runtime(threads=1).session(doubling)
    assert session.providers[-1] == "CPUExecutionProvider"
    assert session.run({"x": np.ones(3, np.float32)})["y"].tolist() == [2, 2, 2]


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


def test_providers_that_are_not_offered_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"expected one of .*CPUExecutionProvider.*, found Abacus"):
        Runtime(["Abacus"])
