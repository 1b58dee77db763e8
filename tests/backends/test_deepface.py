"""DeepFace's emotion network behind our port, beside DeepFace itself on the same faces and the same weights.

Runs in an environment of its own (`make test-backends`). The weights are of the right architecture, with random values,
in a DEEPFACE_HOME of the test's; nothing is fetched.
"""

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from affectline.models.errors import InvalidInputError
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import U8
from affectline.models.store import Store
from affectline.models.zoo.expression_file import ExpressionFile

pytestmark = pytest.mark.backends
if find_spec("deepface") is None:
    pytest.skip("needs the extra `deepface`: run `make test-backends`", allow_module_level=True)

CLASSES = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DEEPFACE_HOME with weights of the published architecture, seeded."""
    home = tmp_path_factory.mktemp("deepface")
    os.environ |= {"DEEPFACE_HOME": str(home), "DEEPFACE_BACKEND_ENGINE": "tensorflow", "TF_USE_LEGACY_KERAS": "1"}
    import_module("deepface.DeepFace")
    keras = import_module("tensorflow").keras
    layers = keras.layers
    network = keras.Sequential([
        layers.Conv2D(64, 5, activation="relu", input_shape=(48, 48, 1)),
        layers.MaxPooling2D(5, 2),
        layers.Conv2D(64, 3, activation="relu"),
        layers.Conv2D(64, 3, activation="relu"),
        layers.AveragePooling2D(3, 2),
        layers.Conv2D(128, 3, activation="relu"),
        layers.Conv2D(128, 3, activation="relu"),
        layers.AveragePooling2D(3, 2),
        layers.Flatten(),
        layers.Dense(1024, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(1024, activation="relu"),
        layers.Dropout(0.2),
        layers.Dense(7, activation="softmax"),
    ])  # fmt: skip
    random = np.random.default_rng(5)
    network.set_weights([
        random.normal(0, 1.5 / np.sqrt(max(1, np.prod(w.shape[:-1]))), w.shape).astype(np.float32)
        for w in network.get_weights()
    ])  # fmt: skip
    network.save_weights(str(home / ".deepface" / "weights" / "facial_expression_model_weights.h5"))
    return home


@pytest.fixture(scope="module")
def model(home: Path) -> Any:
    return load_model(all_models()["deepface"], Store(home / "store"), Runtime(threads=1))


def faces() -> U8:
    """Blotches in colour, smooth enough that a smaller picture of them is still one."""
    random = np.random.default_rng(2)
    small = random.integers(0, 256, (6, 12, 12, 3), np.uint8)
    return np.stack([cv2.resize(face, (224, 224), interpolation=cv2.INTER_CUBIC) for face in small]).astype(np.uint8)


def test_it_answers_what_deepface_answers(model: Any) -> None:
    deepface = import_module("deepface.DeepFace")
    expected = []
    for face in faces():
        (found,) = deepface.analyze(face[..., ::-1].copy(), actions=["emotion"], detector_backend="skip", silent=True)
        expected.append([found["emotion"][name] / 100 for name in CLASSES])
    assert np.ptp(expected, axis=0).max() > 0.05, "faces that all look the same would prove nothing"
    ours = model.estimate(faces()).probabilities
    np.testing.assert_allclose(ours, expected, atol=1e-5)
    assert model.labels == ("angry", "disgusted", "anxious", "satisfied", "sad", "surprised", "neutral")


def test_it_can_be_exported_and_runs_without_deepface(home: Path, model: Any, tmp_path: Path) -> None:
    """In a process of its own, since DeepFace keeps a network that it has once loaded."""
    out = tmp_path / "deepface-emotion.onnx"
    command = [
        sys.executable,
        "-m",
        "affectline.server.cli",
        "models",
        "export",
        "deepface",
        "--out",
        str(out),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"DEEPFACE_HOME": str(home)})
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["compared"]
    assert report["probabilities"]["max_absolute"] < 1e-5
    exported = ExpressionFile(out, Runtime(threads=1))
    assert (exported.model, exported.side, exported.crop) == ("deepface-emotion@1", 224, model.crop)
    columns = [exported.labels.index(label) for label in model.labels]
    found = exported.estimate(faces()).probabilities[:, columns]
    np.testing.assert_allclose(found, model.estimate(faces()).probabilities, atol=1e-5)
    assert {label: exported.prior[label] for label in model.labels} == pytest.approx(dict(model.prior))


def test_it_holds_to_the_port(model: Any) -> None:
    found = model.estimate(faces())
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.estimate(faces()[:1]).probabilities, found.probabilities[:1], atol=1e-5)
    assert model.estimate(faces()[:0]).probabilities.shape == (0, 7)
    assert found.valence_arousal is None
    with pytest.raises(InvalidInputError, match=r"expected faces \[n, 224, 224, 3\], found"):
        model.estimate(faces()[:, :48, :48])


def test_weights_that_are_no_weights_are_named(tmp_path: Path) -> None:
    """In a process of its own, since DeepFace keeps a network that it has once loaded."""
    weights = tmp_path / ".deepface" / "weights" / "facial_expression_model_weights.h5"
    weights.parent.mkdir(parents=True)
    weights.write_text("not weights")
    program = (
        "from pathlib import Path; from affectline.models.errors import ModelMissingError\n"
        "from affectline.models.runtime import Runtime; from affectline.models.zoo.deepface import DeepFaceEmotion\n"
        "try: DeepFaceEmotion(Path(), Runtime())\n"
        "except ModelMissingError as error: print(error)"
    )
    environment = os.environ | {"DEEPFACE_HOME": str(tmp_path), "DEEPFACE_BACKEND_ENGINE": "tensorflow"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert f"expected DeepFace's emotion weights in {weights.parent}, found: " in done.stdout, done.stderr
