"""The decoder's graph, with random weights in float32: what a token hears of the others, however they are fed."""

import math
from pathlib import Path

import numpy as np
import pytest

from affectline.models.convert import whisper as conversion
from affectline.models.convert.graph import Graph
from affectline.models.runtime import Runtime
from affectline.models.signals import F32
from affectline.models.zoo.whisper import _Stepper

from .whisper_weights import LAYERS, RNG, WIDTH, blocks, random

pytestmark = pytest.mark.integration

VOCABULARY, FRAMES = 50, 30
HEADS = WIDTH // conversion.HEAD_WIDTH
TOKENS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 35]


WEIGHTS = {
    "encoder/conv1/bias": random(WIDTH),
    "decoder/embeddings/weight": random(VOCABULARY, WIDTH),
    "decoder/position_encodings/encodings": random(len(TOKENS), WIDTH),
    **blocks(
        "decoder",
        {
            "self_attention": {"linear_0": (3, 1), "linear_1": (1, 1)},
            "attention": {"linear_0": (1, 1), "linear_2": (1, 1)},
            "ffn": {"linear_0": (4, 1), "linear_1": (1, 4)},
        },
    ),
}
CROSS = {f"cross_k_{i}": random(1, HEADS, conversion.HEAD_WIDTH, FRAMES) * 9 for i in range(LAYERS)} | {
    f"cross_v_{i}": random(1, HEADS, FRAMES, conversion.HEAD_WIDTH) for i in range(LAYERS)
}


def norm(x: F32, name: str) -> F32:
    x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    return np.asarray(x * WEIGHTS[f"{name}/layer_norm/gamma"] + WEIGHTS[f"{name}/layer_norm/beta"])


def linear(x: F32, name: str) -> F32:
    return np.asarray(x @ WEIGHTS[f"{name}/weight"].T + WEIGHTS[f"{name}/bias"])


def softmax(scores: F32) -> F32:
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.asarray(exp / exp.sum(axis=-1, keepdims=True))


def heads(x: F32) -> F32:
    return x.reshape(len(x), HEADS, conversion.HEAD_WIDTH).swapaxes(0, 1)


def expected() -> tuple[F32, F32]:
    """Logits [tokens, vocabulary] and attention of the last layer's head 1 [tokens, frames], as the paper has it."""
    erf = np.vectorize(math.erf)
    x = WEIGHTS["decoder/embeddings/weight"].astype(np.float16)[TOKENS].astype(np.float32)
    x = x + WEIGHTS["decoder/position_encodings/encodings"]
    ahead = np.triu(np.full((len(TOKENS), len(TOKENS)), -np.inf), 1)
    for layer in range(LAYERS):
        name = f"decoder/layer_{layer}"
        q, k, v = map(
            heads, np.split(linear(norm(x, f"{name}/self_attention"), f"{name}/self_attention/linear_0"), 3, 1)
        )
        mixed = softmax(q @ k.swapaxes(1, 2) / np.sqrt(conversion.HEAD_WIDTH) + ahead) @ v
        x = x + linear(mixed.swapaxes(0, 1).reshape(x.shape), f"{name}/self_attention/linear_1")
        q = heads(linear(norm(x, f"{name}/attention"), f"{name}/attention/linear_0"))
        attention = softmax(q @ CROSS[f"cross_k_{layer}"][0] / np.sqrt(conversion.HEAD_WIDTH))
        mixed = attention @ CROSS[f"cross_v_{layer}"][0]
        x = x + linear(mixed.swapaxes(0, 1).reshape(x.shape), f"{name}/attention/linear_2")
        hidden = linear(norm(x, f"{name}/ffn"), f"{name}/ffn/linear_0")
        x = x + linear(hidden * (1 + erf(hidden / np.sqrt(2))) / 2, f"{name}/ffn/linear_1")
    return norm(x, "decoder") @ WEIGHTS["decoder/embeddings/weight"].T, attention[1]


@pytest.mark.parametrize("lengths", [[10], [1] * 10, [4, 1, 3, 2]], ids=["at once", "one by one", "in pieces"])
def test_a_token_attends_to_those_before_it_however_they_are_fed(tmp_path: Path, lengths: list[int]) -> None:
    path = tmp_path / "decoder.onnx"
    conversion._decoder(Graph("decoder"), WEIGHTS, [(LAYERS - 1, 1)]).save(path)
    banned = np.zeros(VOCABULARY, np.float32)
    logits, attention = expected()
    banned[logits.argmax(axis=1)] = -np.inf
    stepper = _Stepper(Runtime(["cpu"]).session(path).run, CROSS, banned)
    ends = np.cumsum(lengths)
    found = [stepper.feed_all(TOKENS[end - length : end]) for length, end in zip(lengths, ends, strict=True)]
    np.testing.assert_allclose(np.concatenate([each for each, _ in found]), logits, rtol=0, atol=1e-4)
    allowed = logits + banned
    best, log_probabilities = zip(*(choice for _, choices in found for choice in choices), strict=True)
    assert list(best) == allowed.argmax(axis=1).tolist()
    np.testing.assert_allclose(log_probabilities, np.log(softmax(allowed).max(axis=1)), rtol=0, atol=1e-4)
    np.testing.assert_allclose(stepper.alignment()[0], attention, rtol=0, atol=1e-5)


def test_the_likeliest_logits_in_int8_are_exact(tmp_path: Path) -> None:
    """The others are rough: 4 bits."""
    embeddings, x = (
        RNG.normal(size=(2_000, WIDTH)).astype(np.float32),
        RNG.normal(size=(1, 3, WIDTH)).astype(np.float32),
    )
    graph = Graph("logits", int8=True, by_row=True)
    table = graph.const(embeddings.astype(np.float16))
    logits = conversion._logits(graph, graph.input("x", x.shape), embeddings, table)
    graph.output(logits, "logits", (1, 3, len(embeddings)))
    graph.save(tmp_path / "logits.onnx")
    found = Runtime(["cpu"]).session(tmp_path / "logits.onnx").run({"x": x})["logits"][0]
    exact = x[0] @ embeddings.astype(np.float16).astype(np.float32).T
    for row, expected_row in zip(found, exact, strict=True):
        likeliest = np.argsort(-expected_row)[: conversion.CANDIDATES // 2]
        np.testing.assert_allclose(row[likeliest], expected_row[likeliest], rtol=0, atol=1e-3)
        assert 0.1 < np.abs(row - expected_row).max() < 0.3 * np.abs(expected_row).max()
