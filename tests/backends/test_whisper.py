"""Checkpoints of openai-whisper as ONNX, beside openai-whisper itself: loading, mapping and running truly run.

Runs in an environment of its own (`make test-backends`). The checkpoints are tiny and random, of every shape that is
published, and once Whisper base out of our own store.
"""

import json
import os
import sys
from dataclasses import asdict
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from tokenizers import Tokenizer
from typer.testing import CliRunner, Result

from affectline.models.convert import whisper_parity
from affectline.models.convert.openai_whisper import load
from affectline.models.errors import InvalidInputError, ModelCorruptError
from affectline.models.registry import all_models
from affectline.models.runtime import Runtime
from affectline.models.store import Store, default_root
from affectline.models.zoo.whisper import WhisperEncoder, WhisperRecogniser
from affectline.models.zoo.whisper_folder import TwoEncoders, whisper_folder
from affectline.pipelines.media import open_recording
from affectline.pipelines.recorded import analyze_recording
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline, Participant
from affectline.server.cli import app
from affectline.server.engine import DEFAULT_MODELS, Engine

pytestmark = pytest.mark.backends
if find_spec("whisper") is None:
    pytest.skip("needs the extra `whisper`: run `make test-backends`", allow_module_level=True)

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/dealership_call.flac"
SECONDS = 20
"""Of the example, which are enough here."""
SHAPES = {
    # mels, width, audio layers, text layers, vocabulary
    "tiny": (80, 128, 4, 4, 51865),
    "tiny.en": (80, 128, 4, 4, 51864),
    "large-v3": (128, 192, 5, 5, 51866),
    "large-v3-turbo": (128, 192, 6, 2, 51866),
}
"""Named after the published checkpoint whose proportions they have."""


def export(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["models", "export", "whisper", *map(str, arguments)], env={"COLUMNS": "160"})


def dims_of(shape: str) -> dict[str, int]:
    mels, width, audio_layers, text_layers, vocabulary = SHAPES[shape]
    return {
        "n_mels": mels,
        "n_audio_ctx": 1500,
        "n_audio_state": width,
        "n_audio_head": width // 64,
        "n_audio_layer": audio_layers,
        "n_vocab": vocabulary,
        "n_text_ctx": 448,
        "n_text_state": width,
        "n_text_head": width // 64,
        "n_text_layer": text_layers,
    }


@cache
def random_model(shape: str) -> Any:
    torch, whisper = import_module("torch"), import_module("whisper")
    torch.manual_seed(len(shape))
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**dims_of(shape)))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1 and "embedding" not in name:
                value *= 1.5  # so that layers do something
        model.decoder.positional_embedding.normal_(0, 0.3)
        # No timestamps nor tasks in its texts: openai-whisper shows them by rules that no real model needs.
        model.decoder.token_embedding.weight[-1507:] = 0
    return model.eval()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("whisper")


def saved(model: Any, path: Path, *, half: bool = False) -> Path:
    torch = import_module("torch")
    state = {name: value.half() if half else value for name, value in model.state_dict().items()}
    torch.save({"dims": asdict(model.dims), "model_state_dict": state}, path)
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_every_published_shape_agrees_at_float32(place: Path, shape: str) -> None:
    checkpoint = saved(random_model(shape), place / f"random-{shape}.pt")
    out = place / f"{shape}-fp32"
    done = export("--checkpoint", checkpoint, "--precision", "fp32", "--out", out, "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report == json.loads((out / "parity.json").read_text())
    assert report["encoder"]["relative"] < 1e-5
    assert report["logits"]["relative"] < 2e-4
    assert (report["windows"], report["transcripts_equal"]) == (1, 1)
    assert report["dims"] == dims_of(shape)
    assert report["alignment_heads_of"] is None

    encoder, recogniser, feeds_voice = whisper_folder(out)
    assert (recogniser.name, recogniser.version) == (f"whisper-random-{shape}", "1.fp32")
    assert not feeds_voice
    runtime = Runtime(["cpu"])
    loaded = recogniser.load(out, runtime)
    languages = {51864: 1, 51865: 99, 51866: 100}[SHAPES[shape][-1]]
    assert len(loaded.languages) == languages
    assert ("yue" in loaded.languages) == (languages == 100)
    encoding = encoder.load(out, runtime).encode(whisper_parity.made_up(3))
    assert encoding.hidden.shape[0::2] == (1, SHAPES[shape][1])
    found = loaded.transcribe(encoding)
    assert found.language in loaded.languages
    if languages == 1:
        assert found.language_confidence == 1
        with pytest.raises(InvalidInputError, match="expected a language of en; found 'de'"):
            loaded.transcribe(encoding, language="de")


def test_language_and_no_speech_are_those_of_openai_whisper(place: Path) -> None:
    """Over 100 languages, which tells whether their tokens lie where they should."""
    whisper, model = import_module("whisper"), random_model("large-v3")
    out = place / "large-v3-fp32"
    encoder, recogniser = WhisperEncoder(out, Runtime(["cpu"])), WhisperRecogniser(out, Runtime(["cpu"]))
    pcm = whisper_parity.made_up(10)
    mel = whisper.log_mel_spectrogram(whisper.pad_or_trim(pcm), n_mels=128)
    _, expected = model.detect_language(mel)
    heard = whisper.decode(model, mel, whisper.DecodingOptions(without_timestamps=True, fp16=False))
    found = recogniser.transcribe(encoder.encode(pcm, long_window=True))
    assert found.language == max(expected, key=expected.get)
    assert found.language_confidence == pytest.approx(expected[found.language], rel=1e-3)
    assert found.no_speech == pytest.approx(heard.no_speech_prob, rel=1e-3)


@pytest.mark.parametrize(("precision", "least", "most"), [("fp16", 1e-6, 0.01), ("int8", 1e-4, 0.3)])
def test_lower_precision_is_measured_not_assumed(
    place: Path, sample: Path, precision: str, least: float, most: float
) -> None:
    checkpoint = saved(random_model("tiny"), place / "random-tiny.pt")
    out = place / f"tiny-{precision}"
    done = export("--checkpoint", checkpoint, "--precision", precision, "--out", out, "--sample", sample)
    assert done.exit_code == 0, done.output
    report = json.loads((out / "parity.json").read_text())
    for part in ("encoder", "logits"):
        assert least < report[part]["relative"] < most
    assert f"whisper-random-tiny {precision}" in done.stdout
    assert "agrees" in done.stdout
    assert "all heads of the upper layers" in done.stdout
    whole = sum(path.stat().st_size for path in (place / "tiny-fp32").glob("*.onnx"))
    assert sum(path.stat().st_size for path in out.glob("*.onnx")) < 0.8 * whole


@pytest.fixture(scope="module")
def sample(place: Path) -> Path:
    pcm, rate_hz = soundfile.read(EXAMPLE, frames=SECONDS * 8_000)
    soundfile.write(place / "sample.wav", pcm, rate_hz)
    return place / "sample.wav"


@pytest.fixture(scope="module")
def base(place: Path, sample: Path) -> tuple[Any, Path]:
    """Whisper base as openai-whisper has it, and its export at float32."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.peers_weights import openai_whisper

    model = openai_whisper()
    out = place / "base-fp32"
    done = export(
        "--checkpoint",
        saved(model, place / "base.pt", half=True),
        "--precision",
        "fp32",
        "--out",
        out,
        "--sample",
        sample,
    )
    assert done.exit_code == 0, done.output
    return model, out


def test_base_is_what_we_fetch_ourselves(base: tuple[Any, Path]) -> None:
    _, out = base
    artifact = all_models()["whisper-base-fp32"].artifact
    assert artifact is not None
    ours = Store(default_root()).pull(artifact)
    for name in ("encoder.onnx", "cross.onnx"):
        assert (out / name).read_bytes() == (ours / name).read_bytes()
    found, expected = (json.loads((folder / "config.json").read_text()) for folder in (out, ours))
    assert sorted(map(tuple, found["alignment_heads"])) == sorted(map(tuple, expected["alignment_heads"]))
    assert found["suppress_ids"] == sorted(expected["suppress_ids"])
    assert found["suppress_ids_begin"] == expected["suppress_ids_begin"]
    np.testing.assert_array_equal(np.load(out / "mel_filters.npy"), np.load(ours / "mel_filters.npy"))
    report = json.loads((out / "parity.json").read_text())
    assert report["alignment_heads_of"] == "base"
    assert report["transcripts_equal"] == report["windows"] == 1
    assert whisper_folder(out)[2], "its early layers are those that the voice heads know"


def test_its_tokens_are_those_of_base(base: tuple[Any, Path]) -> None:
    artifact = all_models()["whisper-base-fp32"].artifact
    assert artifact is not None
    folders = (base[1], Store(default_root()).pull(artifact))
    found, expected = (Tokenizer.from_file(str(folder / "tokenizer.json")) for folder in folders)
    for text in ("Thank you for calling!", " Grüß Gott, 42 Äpfel…", "こんにちは 世界", "don't  stop\n\n\tnow", "🙂🙃"):
        tokens = found.encode(text, add_special_tokens=False).ids
        assert tokens == expected.encode(text, add_special_tokens=False).ids
        assert found.decode(tokens) == text
    for token in range(50_257 + 107):
        assert found.id_to_token(token) == expected.id_to_token(token).replace("nocaptions", "nospeech")


@cache
def analysed(sample: Path, speech_model: Path | None) -> CallTimeline:
    recording = open_recording(sample)
    store = Store(default_root())
    for name in DEFAULT_MODELS.values():
        if (artifact := all_models()[name].artifact) is not None:
            store.pull(artifact)
    engine = Engine(store=store, speech_model=str(speech_model) if speech_model else None)
    parties = (Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))
    return analyze_recording(recording, CallConfig("a call", parties, recording.rate_hz), engine.open)


def test_a_call_is_analysed_with_base_as_with_our_own(base: tuple[Any, Path], sample: Path) -> None:
    found, usual = analysed(sample, base[1]), analysed(sample, None)
    assert found.models["recogniser"] == "whisper-base@1.fp32"
    said = [" ".join(turn.text for turn in timeline.utterances).split() for timeline in (found, usual)]
    assert len(set(said[0]) & set(said[1])) > 0.8 * len(set(said[1]))


def test_voice_goes_on_from_base_beside_another_whisper(place: Path, sample: Path) -> None:
    """A random recogniser says nothing worth reading; what the voice sounds like must not change by it."""
    found, usual = analysed(sample, place / "tiny-fp32"), analysed(sample, None)
    assert found.models["acoustic_encoder"] == "whisper-random-tiny-encoder@1.fp32 and whisper-base-encoder@1.int8"
    runtime = Runtime(["cpu"])
    store = Store(default_root())
    specs = all_models()
    artifact = specs["whisper-base-encoder"].artifact
    assert artifact is not None
    alone = WhisperEncoder(store.folder(artifact), runtime)
    both = TwoEncoders(WhisperEncoder(place / "tiny-fp32", runtime), alone)
    pcm = whisper_parity.made_up(4)
    for layer, expected in alone.encode(pcm).layers.items():
        np.testing.assert_array_equal(both.encode(pcm).layers[layer], expected)
    assert len(found.moments) > 0.5 * len(usual.moments)


def test_a_damaged_folder_is_named(place: Path) -> None:
    out = place / "tiny-int8"
    whole = (out / "decoder.onnx").read_bytes()
    (out / "decoder.onnx").write_bytes(whole[:-1] + b"x")
    try:
        with pytest.raises(ModelCorruptError, match=r"decoder\.onnx: expected SHA-256 \w{64}, found \w{64}"):
            Engine(speech_model=str(out))
    finally:
        (out / "decoder.onnx").write_bytes(whole)


def one_sentence(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


class Harmful:
    """Unpickled plainly, it makes a folder."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    torch = import_module("torch")
    torch.save({"dims": Harmful(str(tmp_path / "made")), "model_state_dict": {}}, tmp_path / "bad.pt")
    said = one_sentence(export("--checkpoint", tmp_path / "bad.pt", "--out", tmp_path / "out"))
    assert "bad.pt: expected a checkpoint of openai-whisper" in said
    assert not (tmp_path / "made").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"n_mels": 81}, "expected n_mels of 80 or 128, found 81"),
        ({"n_vocab": 10**9}, "expected n_vocab of 51864 or 51865 or 51866, found 1000000000"),
        ({"n_audio_state": 10**9, "n_text_state": 10**9}, "expected encoder and decoder of one width"),
        ({"n_text_state": 256}, "found 128 and 256"),
        ({"n_audio_head": 4}, "expected 2 heads, found 4"),
        ({"n_audio_layer": 2}, "expected 3 to 64 audio layers, found 2"),
        ({"n_text_layer": 10**9}, "expected 1 to 64 text layers, found 1000000000"),
        ({"n_text_layer": 3}, "expected weights that fit its dims"),
        ({"n_mels": 80.0}, "expected dims with whole numbers"),
        ({"more": 1}, "expected dims with whole numbers"),
    ],
)
def test_dims_that_cannot_be_are_named(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    torch = import_module("torch")
    state = random_model("tiny").state_dict()
    torch.save({"dims": dims_of("tiny") | change, "model_state_dict": state}, tmp_path / "odd.pt")
    with pytest.raises(InvalidInputError, match=expected):
        load(str(tmp_path / "odd.pt"))


def test_what_cannot_be_exported_is_named(tmp_path: Path, place: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "words.pt").write_text("not a checkpoint")
    assert "words.pt: expected a checkpoint" in one_sentence(
        export("--checkpoint", tmp_path / "words.pt", "--out", out)
    )
    import_module("torch").save([1, 2], tmp_path / "list.pt")
    assert "found list" in one_sentence(export("--checkpoint", tmp_path / "list.pt", "--out", out))
    assert "expected a file, or one of tiny.en" in one_sentence(export("--checkpoint", "huge", "--out", out))
    tiny = saved(random_model("tiny"), tmp_path / "some.pt")
    assert "expected a precision of int8, fp16 or fp32; found 'int4'" in one_sentence(
        export("--checkpoint", tiny, "--out", out, "--precision", "int4")
    )
    assert "found those of small for 144" in one_sentence(
        export("--checkpoint", tiny, "--out", out, "--heads-of", "small")
    )
    assert "expected a new or empty folder" in one_sentence(export("--checkpoint", tiny, "--out", place))
    assert not out.exists()


def test_no_network_is_told_in_one_sentence(tmp_path: Path) -> None:
    environment = {"XDG_CACHE_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    arguments = ["models", "export", "whisper", "--checkpoint", "tiny.en", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments, env=environment)
    assert "expected openai-whisper to fetch tiny.en, found: " in done.stderr
    assert done.exit_code == 1
