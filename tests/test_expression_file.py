"""Expression networks that are not ours: a file of HSEmotion's kind, what it may say of itself, what is refused."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scipy.special import softmax

from affectline.models.convert.graph import Dims, Graph
from affectline.models.errors import InvalidInputError
from affectline.models.labels import LABELS
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, U8, Expressions
from affectline.models.store import Store
from affectline.models.zoo.expression_file import EIGHT, MTCNN_BOX, SEVEN, ExpressionFile, expression_file

pytestmark = pytest.mark.unit

MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
"""Of ImageNet."""
FACES = np.random.default_rng(3).integers(0, 256, (3, 32, 32, 3), np.uint8)


def weights(width: int, channels: int = 3) -> F32:
    return np.random.default_rng(width).normal(0, 2, (width, channels)).astype(np.float32)


def network(
    folder: Path,
    width: int,
    dims: Dims = ("n", 3, 32, 32),
    said: Mapping[str, str] | None = None,
    dtype: int = TensorProto.FLOAT,
) -> Path:
    """A file whose answer is a matrix times the mean colour of a face, as the network sees colours."""
    g = Graph("tiny")
    x = g.op("Cast", g.input("input", dims, dtype), to=TensorProto.FLOAT)
    x = g.op("ReduceMean", x, g.const([2, 3]), keepdims=0)
    g.output(g.linear(x, weights(width, int(dims[1]))), "output", (dims[0], width))
    g.save(folder / "my_net.onnx")
    if said:
        model = onnx.load(folder / "my_net.onnx")
        helper.set_model_props(model, dict(said))
        onnx.save(model, folder / "my_net.onnx")
    return folder / "my_net.onnx"


def load(path: Path) -> ExpressionFile:
    model = expression_file(path).load(path.parent, Runtime(threads=1))
    assert isinstance(model, ExpressionFile)
    return model


def answer(faces: U8, width: int, mean: F32 = MEAN, deviation: F32 = DEVIATION) -> F32:
    """What the network must say, in other words."""
    return np.asarray((faces.mean(axis=(1, 2)) / 255 - mean) / deviation @ weights(width).T)


def columns(model: ExpressionFile, found: Expressions) -> dict[str, F32]:
    return dict(zip(model.labels, found.probabilities.T, strict=True))


def test_seven_classes_are_taken_in_the_order_of_affectnet(tmp_path: Path) -> None:
    model = load(network(tmp_path, 7))
    assert (model.model, model.side, model.crop) == ("my-net@1", 32, MTCNN_BOX)
    assert set(model.labels) <= set(LABELS)
    assert sum(model.prior.values()) == pytest.approx(1)
    found = model.estimate(FACES)
    assert found.valence_arousal is None
    expected = dict(zip(SEVEN, softmax(answer(FACES, 7), axis=1).T, strict=True))
    ours = columns(model, found)
    for name, label in zip(
        SEVEN, ("angry", "disgusted", "anxious", "satisfied", "neutral", "sad", "surprised"), strict=True
    ):
        np.testing.assert_allclose(ours[label], expected[name], atol=1e-5)


@pytest.mark.parametrize("width", [8, 10])
def test_contempt_is_half_disgust_and_half_nothing(tmp_path: Path, width: int) -> None:
    model = load(network(tmp_path, width))
    found = model.estimate(FACES)
    logits = answer(FACES, width)
    expected = dict(zip(EIGHT, softmax(logits[:, :8], axis=1).T, strict=True))
    ours = columns(model, found)
    np.testing.assert_allclose(ours["disgusted"], expected["disgust"] + expected["contempt"] / 2, atol=1e-5)
    np.testing.assert_allclose(ours["neutral"], expected["neutral"] + expected["contempt"] / 2, atol=1e-5)
    np.testing.assert_allclose(ours["satisfied"], expected["happiness"], atol=1e-5)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    if width == 10:
        assert found.valence_arousal is not None
        np.testing.assert_allclose(found.valence_arousal, np.clip(logits[:, 8:], -1, 1), atol=1e-5)


def test_one_face_at_a_time_and_any_size(tmp_path: Path) -> None:
    several = load(network(tmp_path, 8)).estimate(FACES).probabilities
    one_by_one = load(network(tmp_path, 8, (1, 3, 32, 32)))
    np.testing.assert_allclose(one_by_one.estimate(FACES).probabilities, several, atol=1e-6)
    assert one_by_one.estimate(FACES[:0]).probabilities.shape == (0, 7)
    assert load(network(tmp_path, 8, ("n", 3, "h", "w"))).side == 224
    with pytest.raises(InvalidInputError, match=r"expected faces \[n, 32, 32, 3\], found \(3, 32, 30, 3\)"):
        one_by_one.estimate(FACES[:, :, :30])


def test_a_file_says_its_classes_and_colours_itself(tmp_path: Path) -> None:
    said = {
        "affectline.classes": "Happiness, neutral, anger",
        "affectline.mean": "0.5, 0.5, 0.5",
        "affectline.deviation": "0.5,0.5,0.5",
    }
    model = load(network(tmp_path, 5, said=said))
    assert model.labels == ("satisfied", "neutral", "angry")
    assert sum(model.prior.values()) == pytest.approx(1)
    found = model.estimate(FACES)
    logits = answer(FACES, 5, np.full(3, 0.5), np.full(3, 0.5))
    np.testing.assert_allclose(found.probabilities, softmax(logits[:, :3], axis=1), atol=1e-5)
    np.testing.assert_allclose(found.valence_arousal, np.clip(logits[:, 3:], -1, 1), atol=1e-5)


@pytest.mark.parametrize(
    ("width", "dims", "said", "message"),
    [
        (9, ("n", 3, 32, 32), {}, r"expected 7, 8 or 10 outputs, or the classes in affectline\.classes; found 9"),
        (8, ("n", 1, 32, 32), {}, r"expected one input .*; found input: float32 \[any, 1, 32, 32\]"),
        (8, ("n", 3, 32, 48), {}, r"expected one input .*; found input: float32 \[any, 3, 32, 48\]"),
        (8, (4, 3, 32, 32), {}, r"expected one input .*; found input: float32 \[4, 3, 32, 32\]"),
        (8, ("n", 3, 9000, 9000), {}, "side at most 1024; found"),
        (3, ("n", 3, 32, 32), {"affectline.classes": "anger,boredom,fear"}, "expected affectline.classes of anger"),
        (3, ("n", 3, 32, 32), {"affectline.classes": "anger,anger,fear"}, "each once; found 'anger,anger,fear'"),
        (3, ("n", 3, 32, 32), {"affectline.classes": "anger,fear"}, "expected 2 outputs as .*, or two more; found 3"),
        (8, ("n", 3, 32, 32), {"affectline.mean": "0.5"}, r"expected three numbers in affectline\.mean; found '0.5'"),
        (8, ("n", 3, 32, 32), {"affectline.mean": "a,b,c"}, r"expected three numbers in affectline\.mean"),
        (8, ("n", 3, 32, 32), {"affectline.deviation": "1,0,1"}, r"expected affectline\.deviation above 0"),
        (8, ("n", 3, 32, 32), {"affectline.deviation": "1,nan,1"}, r"expected three numbers in affectline\.deviation"),
    ],
)
def test_another_kind_of_network_is_refused(
    tmp_path: Path, width: int, dims: Sequence[int | str], said: dict[str, str], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message) as refused:
        load(network(tmp_path, width, dims, said))
    assert "my_net.onnx" in str(refused.value)


def test_what_is_no_network_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"expected an ONNX file at .*gone\.onnx, found none"):
        load(tmp_path / "gone.onnx")
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(InvalidInputError, match="expected an ONNX network in"):
        load(tmp_path / "text.onnx")
    with pytest.raises(InvalidInputError, match="expected one input of floats"):
        load(network(tmp_path, 8, dtype=TensorProto.UINT8))
    with pytest.raises(InvalidInputError, match=r"expected inputs of tensor\(float\)"):
        load(network(tmp_path, 8, dtype=TensorProto.UINT32))


def test_two_inputs_or_two_outputs_are_refused(tmp_path: Path) -> None:
    for more in ("input", "output"):
        g = Graph("two")
        x = g.op("ReduceMean", g.input("x", ("n", 3, 32, 32)), g.const([2, 3]), keepdims=0)
        if more == "input":
            x = g.op("Add", x, g.input("y", ("n", 3)))
        g.output(g.linear(x, weights(8)), "a", ("n", 8))
        if more == "output":
            g.output(x, "b", ("n", 3))
        g.save(tmp_path / "two.onnx")
        with pytest.raises(InvalidInputError, match=f"expected one {more}.*; found"):
            load(tmp_path / "two.onnx")


def test_a_network_that_cannot_run_or_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    g = Graph("broken")
    x = g.op("Reshape", g.input("input", ("n", 3, "h", "w")), g.const([1, 3, 100]))
    g.output(g.linear(g.op("ReduceMean", x, g.const([2]), keepdims=0), weights(8)), "output", ("n", 8))
    g.save(tmp_path / "broken.onnx")
    with pytest.raises(InvalidInputError, match="expected a network that can be run; found"):
        load(tmp_path / "broken.onnx")
    g = Graph("infinite")
    x = g.op("Div", g.input("input", ("n", 3, 32, 32)), g.const(0.0))
    g.output(g.linear(g.op("ReduceMean", x, g.const([2, 3]), keepdims=0), weights(8)), "output", ("n", 8))
    g.save(tmp_path / "infinite.onnx")
    with pytest.raises(InvalidInputError, match="expected finite floats"):
        load(tmp_path / "infinite.onnx")


def test_deepface_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepface", None)
    with pytest.raises(
        InvalidInputError, match=r"expected the package deepface, .*pip install 'affectline\[deepface\]'"
    ):
        load_model(all_models()["deepface"], Store(tmp_path), Runtime())
