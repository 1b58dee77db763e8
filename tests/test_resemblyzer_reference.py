"""The converted speaker encoder gives what Resemblyzer gives, in PyTorch."""

import tarfile
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

from affectline.models.convert.mel import mel_filters
from affectline.models.convert.resemblyzer import MELS
from affectline.models.ports import RATE_HZ
from affectline.models.runtime import Runtime
from affectline.models.store import Store
from affectline.models.zoo.resemblyzer import ARTIFACT, ResemblyzerEncoder, amplified, mel_power

torch = pytest.importorskip("torch", reason="needs the extra `reference` (torch)")

pytestmark = pytest.mark.reference

FILTERS = mel_filters(MELS)
EXAMPLE = Path(__file__).parents[1] / "examples" / "dealership_call.flac"


def windows() -> np.ndarray:
    pcm, _ = soundfile.read(EXAMPLE, dtype="float32")
    wide = librosa.resample(pcm.mean(axis=1), orig_sr=8_000, target_sr=RATE_HZ)
    return np.stack([wide[at : at + 25_600] for at in range(0, len(wide) - 25_600, 40_000)])


def test_mel_is_resemblyzers() -> None:
    """Its audio.py: power, not decibels; values reach 100."""
    for pcm in windows():
        expected = librosa.feature.melspectrogram(y=pcm, sr=RATE_HZ, n_fft=400, hop_length=160, n_mels=40).T
        np.testing.assert_allclose(mel_power(pcm, FILTERS), expected, rtol=1e-4, atol=1e-5)


def test_embeddings_are_resemblyzers(tmp_path: Path) -> None:
    """Its voice_encoder.py, with the weights of its checkpoint."""
    store = Store(tmp_path)
    store.bundle([ARTIFACT], tmp_path / "raw.tar")
    with tarfile.open(tmp_path / "raw.tar") as tar:
        tar.extract("resemblyzer/pretrained.pt", tmp_path, filter="data")
    state = torch.load(tmp_path / "resemblyzer/pretrained.pt", map_location="cpu", weights_only=True)["model_state"]
    lstm, linear = torch.nn.LSTM(40, 256, 3, batch_first=True), torch.nn.Linear(256, 256)
    lstm.load_state_dict({name[5:]: value for name, value in state.items() if name.startswith("lstm.")})
    linear.load_state_dict({name[7:]: value for name, value in state.items() if name.startswith("linear.")})
    mels = np.stack([mel_power(amplified(pcm), FILTERS)[:160] for pcm in windows()])
    with torch.no_grad():
        _, (hidden, _) = lstm(torch.from_numpy(mels))
        raw = torch.relu(linear(hidden[-1]))
        expected = (raw / torch.norm(raw, dim=1, keepdim=True)).numpy()
    found = ResemblyzerEncoder(store.pull(ARTIFACT), Runtime(threads=1)).embed(windows())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
