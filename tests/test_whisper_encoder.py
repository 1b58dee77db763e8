"""The encoder's graph, with random weights in float32: what stands for silence weighs as much as the silence itself."""

from pathlib import Path

import numpy as np
import pytest

from affectline.models.convert import whisper as conversion
from affectline.models.convert.graph import Graph
from affectline.models.runtime import Runtime
from affectline.models.signals import F32

from .whisper_weights import LAYERS, WIDTH, blocks, random

pytestmark = pytest.mark.integration

BANDS = 8


WEIGHTS = {
    "encoder/position_encodings/encodings": random(2 * conversion.WINDOW_FRAMES, WIDTH),
    **{f"encoder/{name}/weight": random(WIDTH, bands, 3) for name, bands in (("conv1", BANDS), ("conv2", WIDTH))},
    **{f"encoder/{name}/bias": random(WIDTH) for name in ("conv1", "conv2")},
    **blocks(
        "encoder",
        {
            "self_attention": {"linear_0": (3, 1), "linear_1": (1, 1)},
            "ffn": {"linear_0": (4, 1), "linear_1": (1, 4)},
        },
    ),
}


@pytest.mark.parametrize("frames", [50, 400, 750, 1500])
def test_silence_weighs_the_same_by_every_frame_or_by_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int
) -> None:
    """With silence whose frames are alike where one stands for all of them."""

    def hidden() -> F32:
        path = tmp_path / f"{conversion.SILENT_STRIDE}.onnx"
        conversion._encoder(Graph("encoder"), WEIGHTS, silence).save(path)
        mel = np.random.default_rng(1).normal(size=(1, BANDS, 2 * frames)).astype(np.float32)
        return Runtime(["cpu"]).session(path).run({"mel": mel})["hidden"]

    stride = conversion.SILENT_STRIDE
    groups = [(random(1, conversion.WINDOW_FRAMES // stride, WIDTH) * 30) for _ in range(2 * LAYERS)]
    k_and_v = [np.repeat(group, stride, axis=1) for group in groups]
    silence = list(zip(k_and_v[::2], k_and_v[1::2], strict=True))
    by_some = hidden()
    monkeypatch.setattr(conversion, "SILENT_STRIDE", 1)
    np.testing.assert_allclose(by_some, hidden(), rtol=0, atol=2e-4)
    silence = [(0 * k, 0 * v) for k, v in silence]
    assert np.abs(by_some - hidden()).max() > 0.1 or frames >= conversion.WINDOW_FRAMES, "silence is listened to"
