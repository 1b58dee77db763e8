"""Writes a MiniLM sentence encoder with a fine-tuned adapter merged into it as one ONNX text classifier.

Architecture: BERT (Devlin et al. 2019), post-norm, exact GELU, as distilled in Wang et al. 2020, "MiniLM". The adapter
is what fine-tuning changed, as low-rank factors (Hu et al. 2021, "LoRA"), so that a few megabytes stand for all.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import TensorProto
from safetensors.numpy import load_file

from affectline.models.convert.graph import Graph
from affectline.models.errors import InvalidInputError

FILES: Final = ("model.onnx", "tokenizer.json", "calibration.npz")
CALIBRATION: Final = ("slope", "offset", "thresholds", "sharpness", "prior")
"""What an adapter file holds besides tensors."""
LINEARS: Final = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
"""The matrices of one layer, by the names that the checkpoint gives them."""

Tensors = dict[str, npt.NDArray[Any]]


def convert(raw_dir: Path, out_dir: Path, *, adapter: Path, int8: bool = True) -> None:
    """model.safetensors, config.json and tokenizer.json -> FILES. Raises InvalidInputError when they do not fit."""
    heads = json.loads((raw_dir / "config.json").read_text())["num_attention_heads"]
    with np.load(adapter) as stored:
        tuned = dict(stored)
    tensors = merged(load_file(raw_dir / "model.safetensors"), tuned)
    classifier(tensors, heads, int8=int8).save(out_dir / "model.onnx")
    shutil.copy(raw_dir / "tokenizer.json", out_dir / "tokenizer.json")
    np.savez(out_dir / "calibration.npz", **{name: tuned[name] for name in CALIBRATION})


def merged(tensors: Tensors, tuned: Tensors) -> Tensors:
    """The checkpoint's tensors with the adapter's: `NAME` replaces one, `NAME.down` [r, in] and `NAME.up` [out, r]
    add up @ down to one."""
    found = {name: value.astype(np.float32) for name, value in tensors.items() if value.dtype.kind == "f"}
    for name, value in tuned.items():
        target = name.removesuffix(".down")
        if name.endswith(".up") or name in CALIBRATION:
            continue
        if name.endswith(".down"):
            product = tuned[f"{target}.up"].astype(np.float32) @ value.astype(np.float32)
            if target not in found or found[target].shape != product.shape:
                raise InvalidInputError(f"expected a matrix {target} {product.shape} in the checkpoint, found none")
            found[target] = found[target] + product
        else:
            found[name] = value.astype(np.float32)
    return found


def classifier(tensors: Tensors, heads: int, *, int8: bool) -> Graph:
    """tokens int64 [1, n] -> logits [classes], and shares [n, classes]: what each token gives to each logit.

    The head is linear on the mean over tokens, so the shares add up to the logits less the bias: no approximation.
    """
    g = Graph("minilm_classifier", int8=int8)
    tokens = g.input("tokens", (1, "n"), TensorProto.INT64)
    words = tensors["embeddings.word_embeddings.weight"]
    x = _rows(g, words, tokens) if int8 else g.op("Gather", g.const(words), tokens)
    places = tensors["embeddings.position_embeddings.weight"] + tensors["embeddings.token_type_embeddings.weight"][0]
    x = g.op("Add", x, g.op("Slice", g.const(places), g.const([0]), g.op("Shape", tokens, start=1, end=2)))
    x = _norm(g, tensors, x, "embeddings.LayerNorm")
    layers = sum(name.endswith(f".{LINEARS[0]}.weight") for name in tensors)
    for layer in range(layers):
        x = _layer(g, tensors, x, f"encoder.layer.{layer}", heads)
    weight, bias = tensors["head.weight"], tensors["head.bias"]
    each = g.op("MatMul", g.op("Squeeze", x, g.const([0])), g.const(np.ascontiguousarray(weight.T)))
    count = g.op("Cast", g.op("Shape", tokens, start=1, end=2), to=TensorProto.FLOAT)
    shares = g.op("Div", each, count)
    logits = g.op("Add", g.op("ReduceSum", shares, g.const([0]), keepdims=0), g.const(bias))
    g.output(logits, "logits", (len(bias),))
    g.output(shares, "shares", ("n", len(bias)))
    return g


def _layer(g: Graph, tensors: Tensors, x: str, name: str, heads: int) -> str:
    def linear(x: str, part: str) -> str:
        return g.linear(x, tensors[f"{name}.{part}.weight"], tensors[f"{name}.{part}.bias"])

    query, key, value, mix, widen, narrow = LINEARS
    mixed = g.op(
        "MultiHeadAttention",
        *(linear(x, part) for part in (query, key, value)),
        domain="com.microsoft",
        num_heads=heads,
    )
    x = _norm(g, tensors, g.op("Add", x, linear(mixed, mix)), f"{name}.attention.output.LayerNorm")
    wide = g.op("Gelu", linear(x, widen))
    return _norm(g, tensors, g.op("Add", x, linear(wide, narrow)), f"{name}.output.LayerNorm")


def _norm(g: Graph, tensors: Tensors, x: str, name: str) -> str:
    return g.layer_norm(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], epsilon=1e-12)


def _rows(g: Graph, table: npt.NDArray[Any], rows: str) -> str:
    """Rows of a table kept in int8 with one scale per row."""
    scale = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-8) / 127
    quantised = np.round(table / scale).astype(np.int8)
    found = g.op("Cast", g.op("Gather", g.const(quantised), rows), to=TensorProto.FLOAT)
    return str(g.op("Mul", found, g.op("Gather", g.const(scale.astype(np.float32)), rows)))
