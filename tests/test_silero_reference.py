"""The converted speech gate gives what Silero's published network gives."""

import tarfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import soundfile
import soxr

from affectline.models.ports import RATE_HZ
from affectline.models.runtime import Runtime
from affectline.models.store import Store
from affectline.models.zoo.silero import ARTIFACT, CONTEXT_SAMPLES, FILE, FRAME_SAMPLES, HIDDEN, PUBLISHED

pytestmark = pytest.mark.reference

EXAMPLE = Path(__file__).parents[1] / "examples" / "dealership_call.flac"
TOLERANCES = {"speech_probs": 2e-5, "hn": 1e-4, "cn": 1e-4}
"""Probabilities in [0, 1]; cell states reach 35."""


def test_probabilities_are_those_of_the_published_network(tmp_path: Path) -> None:
    """Over a call, in pieces of several lengths: only the order of summation differs."""
    store = Store(tmp_path)
    store.bundle([ARTIFACT], tmp_path / "raw.tar")
    with tarfile.open(tmp_path / "raw.tar") as tar:
        tar.extract(f"silero/{PUBLISHED}", tmp_path / "raw", filter="data")
    published = ort.InferenceSession(str(tmp_path / "raw" / "silero" / PUBLISHED), providers=["CPUExecutionProvider"])
    ours = Runtime(threads=1).session(store.pull(ARTIFACT) / FILE)
    call, rate_hz = soundfile.read(EXAMPLE, dtype="float32")
    for pcm in call.T:
        wide = np.pad(soxr.resample(pcm, rate_hz, RATE_HZ), (CONTEXT_SAMPLES, 0)).astype(np.float32)
        windows = np.lib.stride_tricks.sliding_window_view(wide, CONTEXT_SAMPLES + FRAME_SAMPLES)[::FRAME_SAMPLES]
        state = {name: np.zeros((1, 1, HIDDEN), np.float32) for name in ("h", "c")}
        for piece in np.split(windows, [1, 4, 14, 300]):
            frames = {"input": np.ascontiguousarray(piece), **state}
            found = ours.run(frames)
            expected = published.run(list(TOLERANCES), frames)
            for (name, tolerance), values in zip(TOLERANCES.items(), expected, strict=True):
                np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=tolerance, err_msg=name)
            state = {"h": found["hn"], "c": found["cn"]}
