"""pyannote.audio behind our port, beside pyannote.audio itself on the same sound and the same pipeline.

Runs in an environment of its own (`make test-backends`). The pipeline is built here: a tiny random network of voices, a
tiny random embedding and random PLDA matrices, saved and loaded as published ones are. Nothing is fetched.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from typer.testing import CliRunner

from affectline.models.errors import FetchError, InvalidInputError
from affectline.models.ports import RATE_HZ
from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, SpeakerTurn
from affectline.models.store import Store
from affectline.models.zoo.pyannote import COMMUNITY, TELEMETRY, PyannoteDiarizer, pyannote_pipeline
from affectline.pipelines.resample import Resampler
from affectline.pipelines.rttm import read_rttm, write_rttm
from affectline.pipelines.turns import read_rttm as read_turns
from affectline.pipelines.turns import whole_turns
from affectline.server.cli import app
from affectline.server.config import ServerConfig
from affectline.server.doctor import examine
from affectline.server.engine import Engine

pytestmark = pytest.mark.backends
if find_spec("pyannote") is None or find_spec("pyannote.audio") is None:
    pytest.skip("needs the extra `pyannote`: run `make test-backends`", allow_module_level=True)

WINDOW_S = 4.0
DIMENSION = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipeline")
    os.environ[TELEMETRY] = "false"
    torch, task = import_module("torch"), import_module("pyannote.audio.core.task")
    torch.manual_seed(3)
    segmentation = import_module("pyannote.audio.models.segmentation").PyanNet(
        lstm={"hidden_size": 16, "num_layers": 1}, linear={"hidden_size": 16, "num_layers": 1}
    )
    segmentation.specifications = task.Specifications(
        problem=task.Problem.MONO_LABEL_CLASSIFICATION,
        resolution=task.Resolution.FRAME,
        duration=WINDOW_S,
        classes=["a", "b", "c"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    segmentation.build()
    with torch.no_grad():  # so that it changes its mind from time to time
        segmentation.classifier.weight *= 40
    embedding = import_module("pyannote.audio.models.embedding").XVectorSincNet(dimension=DIMENSION)
    embedding.specifications = task.Specifications(
        problem=task.Problem.REPRESENTATION, resolution=task.Resolution.CHUNK, duration=WINDOW_S
    )
    for name, model in (("segmentation", segmentation), ("embedding", embedding)):
        (folder / name).mkdir()
        checkpoint: dict[str, Any] = {
            "state_dict": model.state_dict(),
            "hyper_parameters": dict(model.hparams),
            "pytorch-lightning_version": import_module("lightning").__version__,
        }
        model.on_save_checkpoint(checkpoint)
        torch.save(checkpoint, folder / name / "pytorch_model.bin")
    random = np.random.default_rng(4)
    (folder / "plda").mkdir()
    np.savez(
        folder / "plda" / "xvec_transform.npz",
        mean1=np.zeros(DIMENSION),
        mean2=np.zeros(DIMENSION),
        lda=random.normal(0, 1, (DIMENSION, DIMENSION)),
    )
    psi = np.linspace(1, 2, DIMENSION)
    np.savez(folder / "plda" / "plda.npz", mu=np.zeros(DIMENSION), tr=np.eye(DIMENSION), psi=psi)
    config = {
        "pipeline": {
            "name": "pyannote.audio.pipelines.SpeakerDiarization",
            "params": {
                "segmentation": "$model/segmentation",
                "embedding": "$model/embedding",
                "plda": "$model/plda",
                "clustering": "AgglomerativeClustering",
            },
        },
        "params": {
            "clustering": {"method": "centroid", "min_cluster_size": 2, "threshold": 0.05},
            "segmentation": {"min_duration_off": 0.0},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> PyannoteDiarizer:
    found = load_model(pyannote_pipeline(str(folder)), Store(folder / "store"), Runtime())
    assert isinstance(found, PyannoteDiarizer)
    return found


def sound(rate_hz: int, seconds: float = 12.0) -> F32:
    """Two tones that take turns, with pauses of noise."""
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    pitch = np.where(time_s % 6 < 3, 150, 420)
    pcm = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / rate_hz) * (time_s % 3 < 2)
    return (pcm + np.random.default_rng(0).normal(0, 0.01, len(pcm))).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
def test_it_answers_what_pyannote_answers(model: PyannoteDiarizer, folder: Path, rate_hz: int) -> None:
    torch = import_module("torch")
    pipeline = import_module("pyannote.audio").Pipeline.from_pretrained(str(folder))
    pcm = sound(rate_hz)
    expected = pipeline({"waveform": torch.from_numpy(pcm[None]), "sample_rate": rate_hz, "uri": "sound"})
    listed = [(turn.start, turn.end, name) for turn, name in expected.speaker_diarization if turn.end > turn.start]
    found = model.diarize(pcm, rate_hz)
    assert len(found) >= 2, "a pipeline that finds nothing would prove nothing"
    assert [turn.speaker for turn in found] == [name for _, _, name in sorted(listed)]
    for turn, (start_s, end_s, _) in zip(found, sorted(listed), strict=True):
        assert turn.span.start_us == pytest.approx(max(0, start_s) * 1e6, abs=1)
        assert turn.span.end_us == pytest.approx(min(12, end_s) * 1e6, abs=1)
    assert list(found) == sorted(found)
    assert read_rttm(write_rttm({"call": found}))["call"] == found


def test_a_recorded_call_is_told_apart_by_it(
    model: PyannoteDiarizer, folder: Path, example: Path, engine: Engine, tmp_path: Path
) -> None:
    """From the command line to the timeline, on a real call."""
    call, rttm = tmp_path / "call.wav", tmp_path / "turns.rttm"
    pcm, rate_hz = soundfile.read(example, dtype="float32", frames=96_000)
    pcm = np.ascontiguousarray(pcm.mean(axis=1))
    soundfile.write(call, pcm, rate_hz, subtype="FLOAT")
    options = ["--diarizer", str(folder / "config.yaml"), "--speakers", "agent,customer", "--json", "-"]
    result = CliRunner().invoke(app, ["analyze", str(call), *options, "--rttm", str(rttm)])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["models"]["diarizer"] == model.model == f"{folder.name}@1"
    resampler = Resampler(rate_hz)
    expected = model.diarize(np.concatenate((resampler.feed(pcm), resampler.finish())), RATE_HZ, speakers=2)
    first = expected[0].speaker
    ids = {turn.speaker: "agent" if turn.speaker == first else "customer" for turn in expected}
    assert set(ids.values()) == {"agent", "customer"}, "a pipeline that finds one voice would prove nothing"
    named = [replace(turn, speaker=ids[turn.speaker]) for turn in expected]
    assert read_turns(rttm.read_text(), "x") == whole_turns(named, "x")


def test_the_setting_is_looked_at_before_the_server_starts(folder: Path, engine: Engine) -> None:
    checks = {check.name: check for check in examine(ServerConfig(diarizer=str(folder), threads=1)).checks}
    assert f"diarizer: {folder.name}@1" in checks["in use"].found
    assert import_module("torch").get_num_threads() == 1
    (fault,) = (c for c in examine(ServerConfig(diarizer=str(folder / "plda"))).checks if c.area == "networks")
    assert fault.state == "fault"
    assert "expected a pipeline of pyannote.audio in" in fault.found


def test_the_same_sound_gives_the_same_turns(model: PyannoteDiarizer) -> None:
    assert model.diarize(sound(16_000), 16_000) == model.diarize(sound(16_000), 16_000)


def test_the_number_of_speakers_is_kept_to(model: PyannoteDiarizer) -> None:
    assert len({turn.speaker for turn in model.diarize(sound(16_000), 16_000, speakers=1)}) == 1


def test_short_sound_has_its_place(model: PyannoteDiarizer) -> None:
    for samples in (1, 800, 16_000):
        turns: tuple[SpeakerTurn, ...] = model.diarize(sound(16_000)[:samples], 16_000)
        assert all(turn.span.end_us <= round(samples * 1e6 / 16_000) for turn in turns)


@pytest.mark.parametrize(
    ("pcm", "rate_hz", "speakers", "found"),
    [
        (np.zeros((2, 8), np.float32), 16_000, None, r"\[2, 8\] of 16000 Hz"),
        (np.zeros(0, np.float32), 16_000, None, r"\[0\] of 16000 Hz"),
        (np.zeros(8, np.float32), 4_000, None, "4000 Hz"),
        (np.zeros(8, np.float32), 16_000, 0, "expected 1 to 50 speakers, found 0"),
    ],
)
def test_other_input_is_refused(model: PyannoteDiarizer, pcm: F32, rate_hz: int, speakers: int, found: str) -> None:
    with pytest.raises(InvalidInputError, match=found):
        model.diarize(pcm, rate_hz, speakers=speakers)


def test_a_folder_without_a_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=f"expected a pipeline of pyannote.audio in {tmp_path}, found: "):
        PyannoteDiarizer(str(tmp_path))
    (tmp_path / "config.yaml").write_text("pipeline: {name: no.such.Pipeline}\n")
    with pytest.raises(InvalidInputError, match=f"expected a pipeline of pyannote.audio in {tmp_path}, found: "):
        PyannoteDiarizer(str(tmp_path))


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FetchError, match=f"expected a pipeline of pyannote.audio in {COMMUNITY}, found: "):
        all_models()["pyannote"].load(Path(), Runtime())


def test_nobody_is_told_what_is_analysed() -> None:
    """In a process of its own, where no test has set anything yet."""
    program = (
        "from affectline.models.zoo.pyannote import PyannoteDiarizer\n"
        "from affectline.models.errors import AffectlineError\n"
        "try: PyannoteDiarizer('/')\n"
        "except AffectlineError: pass\n"
        "from pyannote.audio.telemetry.metrics import is_metrics_enabled; print(is_metrics_enabled())"
    )
    environment = {name: value for name, value in os.environ.items() if name != TELEMETRY}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout == "False\n", done.stderr
