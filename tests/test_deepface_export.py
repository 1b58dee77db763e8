"""DeepFace's emotion network out of its weight file, beside the same layers written down with scipy and OpenCV.

The comparison with DeepFace itself is in tests/backends/test_deepface.py.
"""

import json
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from scipy.signal import correlate
from typer.testing import CliRunner, Result

from affectline.models.convert.deepface import KERNELS
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, U8
from affectline.models.zoo.expression_file import ExpressionFile
from affectline.server.cli import app

pytestmark = pytest.mark.unit


def layers() -> list[tuple[F32, F32]]:
    rng = np.random.default_rng(1)
    return [
        (
            rng.normal(0, 1.4 / np.sqrt(np.prod(shape[:-1])), shape).astype(np.float32),
            rng.normal(0, 0.1, shape[-1]).astype(np.float32),
        )
        for shape in KERNELS
    ]


def saved(path: Path, layers: list[tuple[F32, F32]], *, whole: bool = False) -> Path:
    """As Keras saves weights, or a whole model: names in attributes, in the order of the layers."""
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if whole else file
        names = [
            f"layer_{9 - number}" for number in range(len(layers))
        ]  # sorted by name they would be the wrong way round
        group.attrs["layer_names"] = [name.encode() for name in [*names, "dropout"]]
        for name, arrays in zip(names, layers, strict=True):
            layer = group.create_group(name)
            parts = [f"{name}/kernel:0", f"{name}/bias:0"]
            layer.attrs["weight_names"] = [part.encode() for part in parts]
            for part, array in zip(parts, arrays, strict=True):
                layer[part] = array
        group.create_group("dropout").attrs["weight_names"] = np.zeros(0, "S1")
    return path


def expected(face: U8, layers: list[tuple[F32, F32]]) -> np.ndarray:
    """RGB [224, 224, 3] -> probabilities [7], layer by layer."""
    gray = cv2.cvtColor(face.astype(np.float32) / 255, cv2.COLOR_RGB2GRAY)
    x = cv2.resize(gray, (48, 48))[..., None].astype(np.float64)

    def pooled(x: np.ndarray, side: int, how: str) -> np.ndarray:
        windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(0, 1))[::2, ::2]
        return np.asarray(getattr(windows, how)(axis=(-2, -1)))

    for number, (kernel, bias) in enumerate(layers[:5]):
        maps = [correlate(x, kernel[..., k], mode="valid")[..., 0] + bias[k] for k in range(kernel.shape[-1])]
        x = np.maximum(np.stack(maps, axis=-1), 0)
        x = {0: lambda x: pooled(x, 5, "max")}.get(number, lambda x: x)(x)
        x = pooled(x, 3, "mean") if number in (2, 4) else x
    x = x.reshape(-1)
    for kernel, bias in layers[5:7]:
        x = np.maximum(x @ kernel + bias, 0)
    logits = x @ layers[7][0] + layers[7][1]
    return np.asarray(np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum())


def export(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", "export", "deepface", *map(str, arguments)])


@pytest.mark.parametrize("whole", [False, True])
def test_the_exported_network_is_the_one_of_the_weights(tmp_path: Path, whole: bool) -> None:
    weights = saved(tmp_path / "weights.h5", layers(), whole=whole)
    done = export("--weights", weights, "--out", tmp_path / "emotion.onnx", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["name"] == "emotion"
    small = np.random.default_rng(2).integers(0, 256, (3, 12, 12, 3), np.uint8)
    faces = np.stack([cv2.resize(face, (224, 224), interpolation=cv2.INTER_CUBIC) for face in small]).astype(np.uint8)
    found = ExpressionFile(tmp_path / "emotion.onnx", Runtime(["cpu"]))
    assert found.labels == ("angry", "disgusted", "anxious", "satisfied", "sad", "surprised", "neutral")
    assert found.crop == (0, 0, 1, 1)
    reference = [expected(face, layers()) for face in faces]
    assert np.ptp(reference, axis=0).max() > 0.01, "faces that all look the same would prove nothing"
    np.testing.assert_allclose(found.estimate(faces).probabilities, reference, atol=1e-5)


def one_sentence(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_other_weights_are_named(tmp_path: Path) -> None:
    out = tmp_path / "emotion.onnx"
    fewer = saved(tmp_path / "fewer.h5", layers()[:-1])
    assert "fewer.h5: expected kernels 5×5×1×64, " in one_sentence(export("--weights", fewer, "--out", out))
    (tmp_path / "text.h5").write_text("no weights")
    assert "text.h5: expected weights that Keras saved, found: " in one_sentence(
        export("--weights", tmp_path / "text.h5", "--out", out)
    )
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    assert "empty.h5: expected weights that Keras saved" in one_sentence(
        export("--weights", tmp_path / "empty.h5", "--out", out)
    )
    assert "expected DeepFace's emotion weights at" in one_sentence(
        export("--weights", tmp_path / "none.h5", "--out", out)
    )
    assert "expected a file NAME.onnx" in one_sentence(export("--weights", fewer, "--out", tmp_path / "emotion"))
    assert not out.exists()
