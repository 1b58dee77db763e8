"""A provider that is not the default one, truly run: OpenVINO on the CPU, with our own networks.

Runs in an environment of its own (`make test-backends`), where onnxruntime-openvino takes the place of onnxruntime.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from affectline.models.convert.graph import Graph
from affectline.models.errors import InvalidInputError, ModelCorruptError
from affectline.models.ports import RATE_HZ
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import NOT_OFFERED, AcceleratorOptions, Runtime, offered_providers
from affectline.models.signals import F32
from affectline.models.store import Store, default_root
from affectline.server.cli import app

pytestmark = pytest.mark.backends
if "openvino" not in offered_providers():
    pytest.skip("needs onnxruntime-openvino: run `make test-backends`", allow_module_level=True)

ORDER = ("tensorrt", "openvino", "cpu")


def noise(seconds: float) -> F32:
    return np.random.default_rng(0).normal(0, 0.1, int(seconds * RATE_HZ)).astype(np.float32)


@pytest.fixture(scope="module")
def store() -> Store:
    store = Store(default_root())
    for name in ("whisper-base-fp32", "centerface", "silero"):
        artifact = all_models()[name].artifact
        assert artifact is not None
        store.pull(artifact)
    return store


def test_our_networks_answer_as_on_the_cpu(store: Store) -> None:
    used, plain = Runtime(ORDER), Runtime(["cpu"])
    encoder, usual = (load_model(all_models()["whisper-base-fp32-encoder"], store, r) for r in (used, plain))
    for seconds in (0.5, 16.0):  # both windows: the graph takes any length
        found, expected = (model.encode(noise(seconds)) for model in (encoder, usual))
        difference = np.linalg.norm(found.hidden - expected.hidden) / np.linalg.norm(expected.hidden)
        assert 0 < difference < 1e-2, "to the last bit the same: another provider did not run"
    recognisers = [load_model(all_models()["whisper-base-fp32"], store, runtime) for runtime in (used, plain)]
    tokens = [50258, 50259, 50359, 50363, 1044, 291]
    logits = [model.logits(usual.encode(noise(2)), tokens) for model in recognisers]
    assert np.abs(logits[0] - logits[1]).max() < 0.05 * np.abs(logits[1]).max()

    detector, usual = (load_model(all_models()["centerface"], store, runtime) for runtime in (used, plain))
    rgb = np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)
    assert len(detector.detect(rgb)) == len(usual.detect(rgb))

    for placement in used.placements:
        assert placement.provider == "openvino"
        assert placement.nodes["openvino"] > 0.8 * sum(placement.nodes.values())
        assert placement.passed_over == (("tensorrt", NOT_OFFERED),)
    assert {placement.provider for placement in plain.placements} == {"cpu"}


def test_small_networks_stay_on_the_cpu(store: Store) -> None:
    used = Runtime(ORDER)
    load_model(all_models()["silero"], store, used)
    assert [placement.provider for placement in used.placements] == ["cpu"]


@pytest.fixture
def doubling(tmp_path: Path) -> Path:
    g = Graph("doubling")
    g.output(g.op("Mul", g.input("x", ("n",)), g.const(2.0)), "y", ("n",))
    g.save(tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("device", ["NPU", "GPU.7"])
def test_a_device_that_is_not_there_is_passed_over_with_the_reason(
    doubling: Path, device: str, capfd: pytest.CaptureFixture[str]
) -> None:
    options = AcceleratorOptions(openvino_device=device)
    used = Runtime(["openvino", "cpu"], options=options)
    assert used.session(doubling).run({"x": np.ones(1, np.float32)})["y"].tolist() == [2]
    (placed,) = used.placements
    assert placed.provider == "cpu"
    ((name, reason),) = placed.passed_over
    assert name == "openvino"
    assert f"{device.partition('.')[0]}" in reason
    assert "/" not in reason, "a place in the source of onnxruntime tells nobody anything"
    with pytest.raises(InvalidInputError, match=f"expected one of openvino to run .*{device.partition('.')[0]}"):
        Runtime(["openvino"], options=options).session(doubling)
    assert "onnxruntime" not in capfd.readouterr().err


def test_a_damaged_file_is_not_the_provider_s_fault(doubling: Path) -> None:
    doubling.write_bytes(doubling.read_bytes()[:40])
    with pytest.raises(ModelCorruptError, match=r"expected an ONNX network in .*model\.onnx"):
        Runtime(ORDER).session(doubling)


def test_what_was_compiled_is_kept(store: Store, tmp_path: Path) -> None:
    options = AcceleratorOptions(engine_cache=tmp_path)
    load_model(all_models()["whisper-base-fp32-encoder"], store, Runtime(ORDER, options=options))
    assert any(tmp_path.iterdir())


def test_the_doctor_sees_it(store: Store, tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["models", "pull"]).exit_code == 0
    (tmp_path / "server.yaml").write_text("providers: openvino,cpu\nlisten: 127.0.0.1:0\n")
    command = [
        sys.executable,
        "-m",
        "affectline.server.cli",
        "doctor",
        "--config",
        str(tmp_path / "server.yaml"),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    report = json.loads(done.stdout)
    assert report["faults"] == 0
    placed = {placement["network"]: placement["provider"] for placement in report["placements"]}
    assert placed["whisper-base/encoder.onnx"] == "openvino"
    assert placed["silero/model.onnx"] == "cpu"
