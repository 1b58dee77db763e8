"""Writes Whisper as three ONNX graphs straight from its weight file: encoder, cross-attention keys, decoder.

Architecture: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision". Pre-norm
transformer, exact GELU, 64 values per head, keys without bias.
"""

import json
import shutil
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from affectline.models.convert.ctranslate2 import read_tensors
from affectline.models.convert.graph import Graph
from affectline.models.convert.mel import mel_filters
from affectline.models.runtime import Runtime

EARLY_LAYERS = (1, 2, 3)
"""Encoder blocks whose outputs the encoder graph exposes for voice affect."""
HEAD_WIDTH = 64
SCALE = HEAD_WIDTH**-0.5
"""Of the attention's scores."""
WINDOW_FRAMES = 750
"""Of the encoder, in 15 s: the shortest window on which the plain weights do not run away."""
SILENT_MEL = -0.65
"""What silence comes out as beside speech of the usual loudness (median over utterances of telephone calls)."""

SILENT_STRIDE = 5
"""Of silence, every so many-th frame is listened to, as if it were so many."""
COUNT_WIDTH = 8
"""What the encoder's queries and keys have besides HEAD_WIDTH: the first tells how many frames a key stands for, the
others are 0 and make rows that a processor is fast with."""
CANDIDATES = 32
"""Next tokens whose logits are exact where the others are computed in 4 bits."""

Tensors = dict[str, npt.NDArray[Any]]
F32 = npt.NDArray[np.float32]
Precision = Literal["int8", "fp16", "fp32"]

FILES = ("encoder.onnx", "cross.onnx", "decoder.onnx", "mel_filters.npy", "tokenizer.json", "config.json")


def convert(raw_dir: Path, out_dir: Path, *, precision: Precision) -> None:
    """model.bin, config.json and tokenizer.json -> FILES. Raises InvalidInputError for other weights."""
    config = json.loads((raw_dir / "config.json").read_text())
    write_graphs(read_tensors(raw_dir / "model.bin"), config["alignment_heads"], out_dir, precision)
    for name in ("tokenizer.json", "config.json"):
        shutil.copy(raw_dir / name, out_dir / name)


def write_graphs(
    tensors: Tensors, alignment_heads: Sequence[tuple[int, int]], out_dir: Path, precision: Precision
) -> None:
    """Weights of any size, named as CTranslate2 does -> the graphs and mel filters of FILES.

    alignment_heads: (decoder layer, head) of each that follows the words' times.
    """

    def graph(name: str, *, by_row: bool = False) -> Graph:
        return Graph(f"whisper_{name}", int8=precision == "int8", by_row=by_row, half=precision == "fp16")

    _encoder(graph("encoder"), tensors, _silence(tensors)).save(out_dir / "encoder.onnx")
    _cross(graph("cross"), tensors).save(out_dir / "cross.onnx")
    _decoder(graph("decoder", by_row=True), tensors, alignment_heads).save(out_dir / "decoder.onnx")
    np.save(out_dir / "mel_filters.npy", mel_filters(_mel_bands(tensors)))


def early_sha256(tensors: Tensors) -> str:
    """Of the weights up to the last of EARLY_LAYERS in half precision: models with the same one feed the same head."""
    digest = sha256()
    layers = [f"encoder/layer_{layer}/" for layer in range(max(EARLY_LAYERS))]
    for name in sorted(tensors):
        if name.endswith("/weight") and name.startswith(("encoder/conv", *layers)):
            digest.update(np.ascontiguousarray(tensors[name], np.float16).tobytes())
    return digest.hexdigest()


def _mel_bands(tensors: Tensors) -> int:
    return int(tensors["encoder/conv1/weight"].shape[1])


def _layers(tensors: Tensors, side: str) -> int:
    return sum(name.startswith(f"{side}/layer_") and name.endswith("/ffn/linear_0/bias") for name in tensors)


def _norm(g: Graph, tensors: Tensors, x: str, name: str) -> str:
    return g.layer_norm(x, tensors[f"{name}/layer_norm/gamma"], tensors[f"{name}/layer_norm/beta"])


def _linear(g: Graph, tensors: Tensors, x: str, name: str) -> str:
    return g.linear(x, tensors[f"{name}/weight"], tensors[f"{name}/bias"])


def _heads(g: Graph, x: str, order: tuple[int, ...] = (0, 2, 1, 3)) -> str:
    """[batch, n, width] -> [batch, heads, n, 64], or another order of these axes."""
    return str(g.op("Transpose", g.op("Reshape", x, g.const([0, 0, -1, HEAD_WIDTH])), perm=order))


def _feed_forward(g: Graph, tensors: Tensors, x: str, name: str) -> str:
    hidden = g.op("Gelu", _linear(g, tensors, _norm(g, tensors, x, name), f"{name}/linear_0"))
    return str(g.op("Add", x, _linear(g, tensors, hidden, f"{name}/linear_1")))


def _silence(tensors: Tensors) -> list[tuple[F32, F32]]:
    """What each block of the encoder makes of a silent window: keys and values, [1, WINDOW_FRAMES, width] each."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        _encoder(Graph("whisper_encoder"), tensors, None).save(path)
        mel = np.full((1, _mel_bands(tensors), 2 * WINDOW_FRAMES), SILENT_MEL, np.float32)
        out = Runtime(["cpu"]).session(path).run({"mel": mel})
    return [(out[f"k_{i}"], out[f"v_{i}"]) for i in range(_layers(tensors, "encoder"))]


def _encoder(g: Graph, tensors: Tensors, silence: list[tuple[F32, F32]] | None) -> Graph:
    """mel [1, bands, 2 n] -> hidden [1, n, width] and layer1.. of EARLY_LAYERS, likewise; any n <= 1500.

    Whisper knows windows padded with silence and runs away on bare ones. To compute what silence comes out as each time
    costs most of a short window; so its keys and values are computed once (`silence`, see _silence), and up to
    WINDOW_FRAMES the frames after the n-th are those: every SILENT_STRIDE-th, whose score is raised by the logarithm of
    it, which is what as many equal keys come to. Without them, k_i and v_i of each block come out, too.
    """
    x = g.input("mel", (1, _mel_bands(tensors), "mel_frames"))
    for conv, stride in (("conv1", 1), ("conv2", 2)):
        weight, bias = (g.const(tensors[f"encoder/{conv}/{part}"].astype(np.float32)) for part in ("weight", "bias"))
        x = g.op("Gelu", g.op("Conv", x, weight, bias, kernel_shape=(3,), pads=(1, 1), strides=(stride,)))
    x = g.op("Transpose", x, perm=(0, 2, 1))
    positions = g.const(tensors["encoder/position_encodings/encodings"].astype(np.float32))
    frames = g.op("Shape", x, start=1, end=2)
    x = g.op("Add", x, g.op("Slice", positions, g.const([0]), frames))
    width = tensors["encoder/conv1/bias"].shape[0]
    heads = width // HEAD_WIDTH
    first_silent = g.op("Div", g.op("Add", frames, g.const([SILENT_STRIDE - 1])), g.const([SILENT_STRIDE]))
    for layer in range(_layers(tensors, "encoder")):
        name = f"encoder/layer_{layer}"
        qkv_weight, qkv_bias = (tensors[f"{name}/self_attention/linear_0/{part}"] for part in ("weight", "bias"))
        widths = [width] * 3
        if silence is not None:
            qkv_weight, qkv_bias = _counting(qkv_weight, 0.0), _counting(qkv_bias, 1.0)
            widths[:2] = [width + heads * COUNT_WIDTH] * 2
        qkv = g.linear(_norm(g, tensors, x, f"{name}/self_attention"), qkv_weight, qkv_bias)
        q, k, v = g.op("Split", qkv, g.const(widths), outputs=3, axis=2)
        if silence is None:
            g.output(k, f"k_{layer}", (1, "frames", width))
            g.output(v, f"v_{layer}", (1, "frames", width))
        else:
            silent_k, silent_v = (array[:, SILENT_STRIDE // 2 :: SILENT_STRIDE] for array in silence[layer])
            rows = silent_k.shape[1]
            counted_k = np.zeros((1, rows, heads, HEAD_WIDTH + COUNT_WIDTH), np.float32)
            counted_k[..., :HEAD_WIDTH] = silent_k.reshape(1, rows, heads, HEAD_WIDTH)
            counted_k[..., HEAD_WIDTH] = np.log(SILENT_STRIDE) / SCALE
            bounds = (first_silent, g.const([rows]), g.const([1]))
            k, v = (
                g.op("Concat", heard, g.op("Slice", g.const(silent), *bounds), axis=1)
                for heard, silent in ((k, counted_k.reshape(1, rows, -1)), (v, silent_v))
            )
        mixed = g.op("MultiHeadAttention", q, k, v, domain="com.microsoft", num_heads=heads, scale=SCALE)
        x = g.op("Add", x, _linear(g, tensors, mixed, f"{name}/self_attention/linear_1"))
        x = _feed_forward(g, tensors, x, f"{name}/ffn")
        if layer + 1 in EARLY_LAYERS:
            g.output(x, f"layer{layer + 1}", (1, "frames", width))
    g.output(_norm(g, tensors, x, "encoder"), "hidden", (1, "frames", width))
    return g


def _counting(qkv: npt.NDArray[Any], count: float) -> F32:
    """Weights or biases of queries, keys and values with COUNT_WIDTH rows more for each head's queries and keys.

    The first of a query's holds `count`, all others 0.
    """
    per_head = qkv.astype(np.float32).reshape(-1, HEAD_WIDTH, qkv[0].size)
    heads = len(per_head) // 3
    room = np.zeros((2 * heads, COUNT_WIDTH, qkv[0].size), np.float32)
    room[:heads, 0] = count
    widened = np.concatenate((per_head[: 2 * heads], room), axis=1)
    return np.concatenate([part.reshape(-1, *qkv.shape[1:]) for part in (widened, per_head[2 * heads :])])


def _cross(g: Graph, tensors: Tensors) -> Graph:
    """hidden [batch, n, width] -> per decoder layer cross_k [batch, heads, 64, n] and cross_v [batch, heads, n, 64]."""
    width = tensors["encoder/conv1/bias"].shape[0]
    hidden = g.input("hidden", ("batch", "frames", width))
    for layer in range(_layers(tensors, "decoder")):
        kv = _linear(g, tensors, hidden, f"decoder/layer_{layer}/attention/linear_1")
        k, v = g.op("Split", kv, outputs=2, axis=2, num_outputs=2)
        heads = width // HEAD_WIDTH
        g.output(_heads(g, k, (0, 2, 3, 1)), f"cross_k_{layer}", ("batch", heads, HEAD_WIDTH, "frames"))
        g.output(_heads(g, v), f"cross_v_{layer}", ("batch", heads, "frames", HEAD_WIDTH))
    return g


def _scaled(tensors: Tensors) -> Tensors:
    """The decoder's queries hold the scale of its scores: exact, as a power of two, and a plain product is faster."""
    scaled = dict(tensors)
    for name in tensors:
        if name.startswith("decoder/") and "attention/linear_0/" in name:  # queries come first
            scaled[name] = tensors[name].astype(np.float32)
            scaled[name][: tensors["encoder/conv1/bias"].shape[0]] *= SCALE
    return scaled


def _decoder(g: Graph, tensors: Tensors, alignment_heads: Sequence[tuple[int, int]]) -> Graph:
    """One step over any number of new tokens, given what came before.

    Inputs: tokens int64 [batch, new]; banned [vocabulary], 0 or -inf; past_k_i, past_v_i [batch, heads, past, 64];
    cross_k_i, cross_v_i.
    Outputs: logits [batch, new, vocabulary]; the likeliest token that is not banned and its log probability among
    those, next and log_probability [batch, new, 1]; alignment [batch, len(alignment_heads), new, n], the
    cross-attention of the heads that follow the words' times; k_i, v_i [batch, heads, past + new, 64].
    """
    tensors = _scaled(tensors)
    embeddings = tensors["decoder/embeddings/weight"]
    vocabulary, width = embeddings.shape
    heads = width // HEAD_WIDTH
    layers = _layers(tensors, "decoder")
    tokens = g.input("tokens", ("batch", "new"), TensorProto.INT64)
    banned = g.input("banned", (vocabulary,))
    kv_dims = ("batch", heads, "past", HEAD_WIDTH)
    past = [(g.input(f"past_k_{i}", kv_dims), g.input(f"past_v_{i}", kv_dims)) for i in range(layers)]
    cross = [
        (
            g.input(f"cross_k_{i}", ("batch", heads, HEAD_WIDTH, "frames")),
            g.input(f"cross_v_{i}", ("batch", heads, "frames", HEAD_WIDTH)),
        )
        for i in range(layers)
    ]
    past_length = g.op("Shape", past[0][0], start=2, end=3)
    length = g.op("Add", past_length, g.op("Shape", tokens, start=1, end=2))
    table = g.const(embeddings.astype(np.float16))
    x = g.op("Cast", g.op("Gather", table, tokens), to=g.element)
    positions = g.const(tensors["decoder/position_encodings/encodings"].astype(np.float32))
    x = g.op("Add", x, g.op("Slice", positions, past_length, length))
    attention_of_layer: list[str] = []
    for layer in range(layers):
        name = f"decoder/layer_{layer}"
        qkv = _linear(g, tensors, _norm(g, tensors, x, f"{name}/self_attention"), f"{name}/self_attention/linear_0")
        q, k, v = g.op("Split", qkv, outputs=3, axis=2, num_outputs=3)
        mixed, k, v = g.op(
            "MultiHeadAttention", q, k, v, "", "", "", *past[layer], outputs=3, domain="com.microsoft", num_heads=heads,
            scale=1.0, unidirectional=1,
        )  # fmt: skip
        x = g.op("Add", x, _linear(g, tensors, mixed, f"{name}/self_attention/linear_1"))
        q = _linear(g, tensors, _norm(g, tensors, x, f"{name}/attention"), f"{name}/attention/linear_0")
        cross_k, cross_v = cross[layer]
        attention = g.op("Softmax", g.op("MatMul", _heads(g, q), cross_k), axis=-1)
        mixed = g.op("Transpose", g.op("MatMul", attention, cross_v), perm=(0, 2, 1, 3))
        mixed = g.op("Reshape", mixed, g.const([0, 0, -1]))
        attention_of_layer.append(attention)
        x = g.op("Add", x, _linear(g, tensors, mixed, f"{name}/attention/linear_2"))
        x = _feed_forward(g, tensors, x, f"{name}/ffn")
        g.output(k, f"k_{layer}", ("batch", heads, "length", HEAD_WIDTH))
        g.output(v, f"v_{layer}", ("batch", heads, "length", HEAD_WIDTH))
    logits = _logits(g, _norm(g, tensors, x, "decoder"), embeddings, table)
    allowed = g.op("LogSoftmax", g.op("Cast", g.op("Add", logits, banned), to=TensorProto.FLOAT), axis=-1)
    log_probability, best = g.op("TopK", allowed, g.const([1]), outputs=2, axis=-1)
    g.output(logits, "logits", ("batch", "new", vocabulary))
    g.output(best, "next", ("batch", "new", 1), TensorProto.INT64)
    g.output(log_probability, "log_probability", ("batch", "new", 1))
    picked = [g.op("Gather", attention_of_layer[i], g.const([h]), axis=1) for i, h in alignment_heads]
    g.output(g.op("Concat", *picked, axis=1), "alignment", ("batch", len(picked), "new", "frames"))
    return g


def _logits(g: Graph, x: str, embeddings: npt.NDArray[Any], table: str) -> str:
    """x [batch, new, width] times each token's embedding; in int8 graphs, in 4 bits but for the CANDIDATES likeliest.

    These weights are half of what a step reads.
    """
    if not g.int8:
        return g.linear(x, embeddings)
    rough = g.linear(x, embeddings, bits=4)
    _, tokens = g.op("TopK", rough, g.const([CANDIDATES]), outputs=2, axis=-1)
    rows = g.op("Cast", g.op("Gather", table, tokens), to=TensorProto.FLOAT)
    exact = g.op("Squeeze", g.op("MatMul", rows, g.op("Unsqueeze", x, g.const([3]))), g.const([3]))
    return str(g.op("ScatterElements", rough, tokens, exact, axis=-1))
