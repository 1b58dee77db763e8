"""The encoder's graph, with random weights in float32: what stands for silence weighs as much as the silence itself."""

from pathlib import Path

import numpy as np
import pytest

from affectline.models.convert import whisper as conversion
from affectline.models.convert.graph import Graph
from affectline.models.runtime import Runtime
from affectline.models.signals import F32

pytestmark = pytest.mark.integration

WIDTH, LAYERS, BANDS = 128, 2, 8
RNG = np.random.default_rng(0)


def random(*dims: int) -> F32:
    return RNG.normal(0, 2 / np.sqrt(dims[-1]), dims).astype(np.float32)


def weights() -> conversion.Tensors:
    tensors: conversion.Tensors = {"encoder/position_encodings/encodings": random(2 * conversion.WINDOW_FRAMES, WIDTH)}
    for name, bands in (("conv1", BANDS), ("conv2", WIDTH)):
        tensors |= {f"encoder/{name}/weight": random(WIDTH, bands, 3), f"encoder/{name}/bias": random(WIDTH)}
    linears = {
        "self_attention": {"linear_0": (3, 1), "linear_1": (1, 1)},
        "ffn": {"linear_0": (4, 1), "linear_1": (1, 4)},
    }
    for name in ["encoder", *(f"encoder/layer_{layer}/{part}" for layer in range(LAYERS) for part in linears)]:
        tensors |= {f"{name}/layer_norm/gamma": random(WIDTH) + 1, f"{name}/layer_norm/beta": random(WIDTH)}
        for linear, (rows, columns) in linears.get(name.rpartition("/")[2], {}).items():
            tensors[f"{name}/{linear}/weight"] = random(rows * WIDTH, columns * WIDTH)
            tensors[f"{name}/{linear}/bias"] = random(rows * WIDTH)
    return tensors


WEIGHTS = weights()


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
