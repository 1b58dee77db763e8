"""A folder with another Whisper, made here from our own base: what is believed of it, and what the voice hears."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectline.models.errors import InvalidInputError, ModelCorruptError
from affectline.models.exported import MANIFEST, facts_of, seal, verify
from affectline.models.registry import all_models
from affectline.models.runtime import Runtime
from affectline.models.store import Store, default_root
from affectline.models.zoo.whisper import WhisperEncoder
from affectline.models.zoo.whisper_folder import BASE_EARLY_SHA256, TwoEncoders, whisper_folder
from affectline.server.engine import Engine

pytestmark = pytest.mark.integration

FACTS = {"kind": "whisper", "name": "whisper-ours", "precision": "int8"}


def made(folder: Path, early: str) -> Path:
    artifact = all_models()["whisper-base"].artifact
    assert artifact is not None
    source = Store(default_root()).pull(artifact)
    folder.mkdir()
    for name in artifact.files:
        shutil.copy(source / name, folder / name)
    seal(folder, {**FACTS, "early_sha256": early})
    return folder


def test_base_s_own_weights_feed_the_voice(tmp_path: Path, engine: Engine) -> None:
    used = Engine(speech_model=str(made(tmp_path / "ours", BASE_EARLY_SHA256)))
    assert isinstance(used.models.encoder, WhisperEncoder)
    assert used.models.versions["acoustic_encoder"] == "whisper-ours-encoder@1.int8"
    assert used.models.versions["recogniser"] == "whisper-ours@1.int8"


def test_other_weights_have_base_s_encoder_beside_them(tmp_path: Path, engine: Engine) -> None:
    used = Engine(speech_model=str(made(tmp_path / "ours", "0" * 64)))
    encoder = used.models.encoder
    assert isinstance(encoder, TwoEncoders)
    assert used.models.versions["acoustic_encoder"] == "whisper-ours-encoder@1.int8 and whisper-base-encoder@1.int8"
    pcm = np.random.default_rng(0).normal(0, 0.1, 17 * 16_000).astype(np.float32)
    found, expected = encoder.encode(pcm), engine.models.encoder.encode(pcm)
    np.testing.assert_array_equal(found.layers[2], expected.layers[2])
    assert found.hidden.shape == expected.hidden.shape
    assert (found.frame_us, found.input_frames) == (expected.frame_us, expected.input_frames)


def test_a_registered_one_goes_by_its_name(engine: Engine) -> None:
    assert Engine(speech_model="whisper-base").models.versions == engine.models.versions
    with pytest.raises(InvalidInputError, match=r"expected a recogniser of whisper-base, .*; found 'silero'"):
        Engine(speech_model="silero")


def test_what_was_changed_afterwards_is_named(tmp_path: Path) -> None:
    folder = made(tmp_path / "ours", BASE_EARLY_SHA256)
    facts = facts_of(folder, "whisper")
    verify(folder, facts)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelCorruptError, match=r"tokenizer\.json: expected SHA-256 \w{64}, found \w{64}"):
        verify(folder, facts)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ModelCorruptError, match=r"expected a file .*tokenizer\.json, found none"):
        whisper_folder(folder)[1].load(folder, Runtime())


@pytest.mark.parametrize(
    "manifest",
    [
        "no JSON",
        "[]",
        json.dumps({**FACTS, "kind": "deepface", "files": {}}),
        json.dumps(FACTS),
        json.dumps({**FACTS, "files": {"../outside": {"sha256": "0"}}}),
        json.dumps({**FACTS, "files": {"a": {"sha256": 1}}}),
        json.dumps({**FACTS, "files": {}}),
        "[" * 100_000,
    ],
)
def test_a_folder_that_is_none_is_named(tmp_path: Path, manifest: Any) -> None:
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(InvalidInputError, match="expected"):
        whisper_folder(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="expected a folder that `affectline models export whisper` wrote"):
        Engine(speech_model=str(tmp_path))


def test_a_decoder_of_an_older_version_is_refused(tmp_path: Path) -> None:
    folder = made(tmp_path / "ours", BASE_EARLY_SHA256)
    shutil.copy(folder / "cross.onnx", folder / "decoder.onnx")  # takes no list of banned tokens, as older ones did not
    seal(folder, {**FACTS, "early_sha256": BASE_EARLY_SHA256})
    with pytest.raises(ModelCorruptError, match="found one of an older version"):
        Engine(speech_model=str(folder))
