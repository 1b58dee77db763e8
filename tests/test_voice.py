"""The voice heads: what they answer, what a site baseline changes, and who may use which."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from affectline.models import cards, zoo
from affectline.models.errors import InvalidInputError, ModelCorruptError, ModelMissingError
from affectline.models.labels import AFFECT_OF_LABEL, LABELS
from affectline.models.registry import all_models
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, Encoding, FeatureStats
from affectline.models.zoo.voice import AFFECT_OF_CLASS, CLASS_OF_LABEL, LABELS_OF_CLASS, LAYERS, WIDTH, VoiceHead
from affectline.server.engine import Engine

pytestmark = pytest.mark.unit

ZOO = Path(zoo.__path__[0])
HEADS = ("voice-open", "voice-research")


@cache
def head(name: str) -> VoiceHead:
    return VoiceHead(ZOO / f"{name.replace('-', '_')}.onnx", Runtime(threads=1))


def encoding(model: VoiceHead, deviations: F32, frames: int = 150) -> Encoding:
    """Every frame so many of the training data's deviations away from its mean."""
    features = model.usual.mean + deviations * model.usual.deviation
    layers = {
        layer: np.tile(part, (frames, 1)).astype(np.float32)
        for layer, part in zip(LAYERS, np.split(features, len(LAYERS)), strict=True)
    }
    return Encoding(np.zeros((1, frames, WIDTH), np.float32), layers, 20_000, frames)


def some(seed: int) -> F32:
    return np.random.default_rng(seed).normal(size=len(LAYERS) * WIDTH).astype(np.float32)


@pytest.mark.parametrize("name", HEADS)
def test_a_head_knows_what_it_is(name: str) -> None:
    model, spec = head(name), all_models()[name]
    assert model.model == spec.id
    assert "neutral" in model.classes
    assert sum(model.prior.values()) == pytest.approx(1)
    assert 0 < model.unsure_below < 1
    assert model.usual.deviation.min() > 0
    assert (ZOO / f"{name.replace('-', '_')}.onnx").stat().st_size <= 1_000_000


@pytest.mark.parametrize("name", HEADS)
def test_scores_are_a_distribution_over_labels(name: str) -> None:
    for seed in range(20):
        found = head(name).estimate(encoding(head(name), 3 * some(seed)), 0, 100)
        assert found.labels is not None
        assert set(found.labels) == set(LABELS)
        assert sum(found.labels.values()) == pytest.approx(1, abs=1e-4)
        assert 0 <= found.confidence <= 1


@pytest.mark.parametrize("name", HEADS)
def test_unsure_it_takes_no_side(name: str) -> None:
    found = head(name).estimate(encoding(head(name), np.zeros(len(LAYERS) * WIDTH, np.float32)), 0, 100)
    assert found.confidence < head(name).unsure_below
    assert found.labels == head(name).prior


def test_only_the_frames_asked_for_count() -> None:
    model = head("voice-open")
    calm, other = encoding(model, 0 * some(0)), encoding(model, 5 * some(1))
    mixed = Encoding(calm.hidden, {i: np.vstack((calm.layers[i], other.layers[i])) for i in LAYERS}, 20_000, 300)
    assert model.estimate(mixed, 0, 150) == model.estimate(calm, 0, 150)
    np.testing.assert_allclose(model.features(mixed, 150, 300), model.features(other, 0, 150), rtol=1e-5)


def test_a_site_that_sounds_otherwise_is_not_heard_as_emotion() -> None:
    """Another line shifts and stretches every feature; its own baseline undoes that."""
    model, shift = head("voice-open"), 2 * some(2)
    for seed in (3, 4):
        features = model.usual.mean + 4 * some(seed) * model.usual.deviation
        there = (features + shift) * 1.5
        site = FeatureStats((model.usual.mean + shift) * 1.5, model.usual.deviation * 1.5)
        np.testing.assert_allclose(model.probabilities(there, site), model.probabilities(features), atol=1e-4)
    np.testing.assert_array_equal(model.probabilities(features, model.usual), model.probabilities(features))


def test_the_tables_cover_every_class() -> None:
    assert set(LABELS_OF_CLASS) == set(AFFECT_OF_CLASS) == set(CLASS_OF_LABEL.values())
    assert all(sum(shares.values()) == pytest.approx(1) for shares in LABELS_OF_CLASS.values())
    assert set(AFFECT_OF_LABEL) <= set(CLASS_OF_LABEL)


@pytest.mark.parametrize("name", HEADS)
def test_the_card_tells_the_classes_and_the_licence(name: str) -> None:
    card: dict[str, Any] = yaml.safe_load((Path(cards.__path__[0]) / f"{name}.yaml").read_text())
    assert card["mapping"] == {c: LABELS_OF_CLASS[c] for c in head(name).classes}
    assert ("NC" in card["licence"]) == bool(all_models()[name].restricted)
    produced = {label for shares in card["mapping"].values() for label in shares}
    assert set(card["produces"]) == produced
    assert {m["band"] for m in card["metrics"]} == {"wide", "telephone"}


def test_the_restricted_head_needs_its_licence_accepted() -> None:
    with pytest.raises(InvalidInputError, match=r"voice-research is .*non-commercial.*--accept-license"):
        Engine(voice_model="voice-research")


def test_a_file_that_is_no_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelMissingError, match=r"none\.onnx"):
        VoiceHead(tmp_path / "none.onnx", Runtime())
    (tmp_path / "noise.onnx").write_bytes(b"not a network")
    with pytest.raises(ModelCorruptError, match=r"noise\.onnx"):
        VoiceHead(tmp_path / "noise.onnx", Runtime())
