"""Writes a checkpoint of openai-whisper, of any size, in the layout of models/convert/whisper.py.

Needs the extra `whisper`: the package reads its own checkpoints, and brings the tokens and the alignment heads. A
checkpoint from a file is read as tensors and plain values only, so that it can run no code.
"""

import base64
import gzip
import json
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module, resources
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

from affectline.models.convert import whisper as conversion
from affectline.models.errors import FetchError, InvalidInputError
from affectline.models.exported import file_sha256

EXPECTED_DIMS: Final = {
    "n_mels": (80, 128),
    "n_audio_ctx": (1500,),
    "n_text_ctx": (448,),
    "n_vocab": (51864, 51865, 51866),
}
"""What all published checkpoints have; the vocabularies are English only, 99 and 100 languages."""
MAX_WIDTH: Final = 2560
MAX_LAYERS: Final = 64
"""Twice those of the largest checkpoint: a file that says more is not believed, since room is made by what it says."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model, and what became known about it on the way."""

    name: str
    """`whisper-` and its usual name, or that of its file."""
    model: Any
    """openai-whisper's, on the CPU in float32."""
    sha256: str | None
    """Of its file; None where the package found it by name and compared it itself."""
    alignment_heads: tuple[tuple[int, int], ...]
    """(decoder layer, head)."""
    heads_of: str | None
    """The published checkpoint whose alignment heads these are; None: all heads of the upper half of the layers."""


def package() -> Any:
    """openai-whisper; raises InvalidInputError without it."""
    try:
        return import_module("whisper")
    except ImportError as error:
        raise InvalidInputError(
            f"expected the package openai-whisper, found: {error}; run `pip install 'affectline[whisper]'`"
        ) from error


def load(checkpoint: str, *, heads_of: str | None = None) -> Checkpoint:
    """A checkpoint by its published name (fetched by openai-whisper where it is not there yet), or by its path.

    heads_of: published checkpoint whose alignment heads fit, for a fine-tuned one; by default what the file's name
    says. Raises InvalidInputError or FetchError.
    """
    whisper = package()
    published = whisper.available_models()
    if heads_of is not None and heads_of not in published:
        raise InvalidInputError(f"expected heads of {', '.join(published)}; found {heads_of!r}")
    path = Path(checkpoint)
    if checkpoint in published:
        try:
            model = whisper.load_model(checkpoint, device="cpu")
        except (URLError, OSError, RuntimeError) as error:
            raise FetchError(f"expected openai-whisper to fetch {checkpoint}, found: {error}") from error
        name, digest = checkpoint, None
    elif path.is_file():
        name, digest = path.stem, file_sha256(path)
        model = _read(path)
    else:
        raise InvalidInputError(f"expected a file, or one of {', '.join(published)}; found {checkpoint!r}")
    heads_from = heads_of or (name if name in published else None)
    if heads_from:
        model.set_alignment_heads(_known_heads(heads_from, model))
    pairs = model.alignment_heads.indices().T.tolist()
    plain = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.") or "model"
    return Checkpoint(f"whisper-{plain}", model, digest, tuple((int(i), int(h)) for i, h in pairs), heads_from)


def _read(path: Path) -> Any:
    torch, whisper = import_module("torch"), package()
    expected = "expected a checkpoint of openai-whisper, {dims: …, model_state_dict: …}"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise InvalidInputError(f"{path}: {expected}, found: {str(error).partition(chr(10))[0]}") from error
    if not isinstance(content, dict) or not {"dims", "model_state_dict"} <= set(content):
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise InvalidInputError(f"{path}: {expected}, found {found}")
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**_checked(content["dims"], path)))
    try:
        model.load_state_dict(content["model_state_dict"])
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"{path}: expected weights that fit its dims, found: {error}") from error
    return model.eval()


def _checked(dims: Any, path: Path) -> dict[str, int]:
    names = list(EXPECTED_DIMS)
    names += [f"n_{side}_{part}" for side in ("audio", "text") for part in ("state", "head", "layer")]
    if not isinstance(dims, dict) or set(dims) != set(names) or not all(type(n) is int for n in dims.values()):
        raise InvalidInputError(f"{path}: expected dims with whole numbers for {', '.join(names)}; found {dims!r:.200}")
    for name, known in EXPECTED_DIMS.items():
        if dims[name] not in known:
            raise InvalidInputError(f"{path}: expected {name} of {' or '.join(map(str, known))}, found {dims[name]}")
    width = dims["n_audio_state"]
    if dims["n_text_state"] != width or not 0 < width <= MAX_WIDTH or width % conversion.HEAD_WIDTH:
        found = f"{width} and {dims['n_text_state']}"
        raise InvalidInputError(
            f"{path}: expected encoder and decoder of one width, a multiple of {conversion.HEAD_WIDTH} up to "
            f"{MAX_WIDTH}; found {found}"
        )
    for side in ("audio", "text"):
        heads, layers = dims[f"n_{side}_head"], dims[f"n_{side}_layer"]
        if heads * conversion.HEAD_WIDTH != width:
            raise InvalidInputError(f"{path}: expected {width // conversion.HEAD_WIDTH} heads, found {heads}")
        least = max(conversion.EARLY_LAYERS) if side == "audio" else 1
        if not least <= layers <= MAX_LAYERS:
            raise InvalidInputError(f"{path}: expected {least} to {MAX_LAYERS} {side} layers, found {layers}")
    return dict(dims)


def _known_heads(name: str, model: Any) -> bytes:
    """As `set_alignment_heads` takes them; raises InvalidInputError where they are of another shape."""
    packed: bytes = package()._ALIGNMENT_HEADS[name]
    places = len(gzip.decompress(base64.b85decode(packed)))
    if places != (expected := model.dims.n_text_layer * model.dims.n_text_head):
        raise InvalidInputError(
            f"expected alignment heads for {expected} heads of the decoder, found those of {name} for {places}; "
            "name a checkpoint of the same size with --heads-of"
        )
    return packed


def tensors_of(model: Any) -> conversion.Tensors:
    """openai-whisper's weights under CTranslate2's names: queries, keys and values stacked, no bias of keys."""
    state: dict[str, npt.NDArray[Any]] = {name: value.numpy() for name, value in model.state_dict().items()}
    tensors: conversion.Tensors = {}

    def put(to: str, *sources: str, norm: bool = False) -> None:
        weight, bias = ("layer_norm/gamma", "layer_norm/beta") if norm else ("weight", "bias")
        tensors[f"{to}/{weight}"] = np.concatenate([state[f"{source}.weight"] for source in sources])
        tensors[f"{to}/{bias}"] = np.concatenate([
            state.get(f"{source}.bias", np.zeros(len(state[f"{source}.weight"]), np.float32)) for source in sources
        ])  # fmt: skip

    for side, layers in (("encoder", model.dims.n_audio_layer), ("decoder", model.dims.n_text_layer)):
        tensors[f"{side}/position_encodings/encodings"] = state[f"{side}.positional_embedding"]
        for layer in range(layers):
            to, source = f"{side}/layer_{layer}", f"{side}.blocks.{layer}"
            put(f"{to}/self_attention", f"{source}.attn_ln", norm=True)
            put(f"{to}/self_attention/linear_0", *(f"{source}.attn.{part}" for part in ("query", "key", "value")))
            put(f"{to}/self_attention/linear_1", f"{source}.attn.out")
            if side == "decoder":
                put(f"{to}/attention", f"{source}.cross_attn_ln", norm=True)
                put(f"{to}/attention/linear_0", f"{source}.cross_attn.query")
                put(f"{to}/attention/linear_1", f"{source}.cross_attn.key", f"{source}.cross_attn.value")
                put(f"{to}/attention/linear_2", f"{source}.cross_attn.out")
            put(f"{to}/ffn", f"{source}.mlp_ln", norm=True)
            put(f"{to}/ffn/linear_0", f"{source}.mlp.0")
            put(f"{to}/ffn/linear_1", f"{source}.mlp.2")
    for conv in ("conv1", "conv2"):
        put(f"encoder/{conv}", f"encoder.{conv}")
    put("encoder", "encoder.ln_post", norm=True)
    put("decoder", "decoder.ln", norm=True)
    tensors["decoder/embeddings/weight"] = state["decoder.token_embedding.weight"]
    return tensors


def write(checkpoint: Checkpoint, out_dir: Path, precision: conversion.Precision) -> dict[str, Any]:
    """FILES of models/convert/whisper.py into an empty folder; what is known of the model, for its manifest."""
    model = checkpoint.model
    tensors = tensors_of(model)
    conversion.write_graphs(tensors, checkpoint.alignment_heads, out_dir, precision)
    tokenizer = package().tokenizer.get_tokenizer(model.is_multilingual, num_languages=model.num_languages)
    _hf_tokenizer(tokenizer, multilingual=model.is_multilingual).save(str(out_dir / "tokenizer.json"))
    (out_dir / "config.json").write_text(
        json.dumps(
            {
                "alignment_heads": checkpoint.alignment_heads,
                "suppress_ids": _suppressed(tokenizer),
                "suppress_ids_begin": [*tokenizer.encode(" "), tokenizer.eot],
                "multilingual": bool(model.is_multilingual),
            }
        )
    )
    return {
        "name": checkpoint.name,
        "precision": precision,
        "checkpoint_sha256": checkpoint.sha256,
        "alignment_heads_of": checkpoint.heads_of,
        "dims": asdict(model.dims),
        "early_sha256": conversion.early_sha256(tensors),
    }


def _suppressed(tokenizer: Any) -> list[int]:
    """As openai-whisper's DecodingTask: what is not spoken, and special tokens that no text has."""
    special = (
        tokenizer.transcribe,
        tokenizer.translate,
        tokenizer.sot,
        tokenizer.sot_prev,
        tokenizer.sot_lm,
        tokenizer.no_speech,
    )
    return sorted({*tokenizer.non_speech_tokens, *special})


def _hf_tokenizer(tokenizer: Any, *, multilingual: bool) -> Tokenizer:
    """The same tokens for the `tokenizers` library. tiktoken lists ranks only; merges follow from them."""
    table = resources.files("whisper") / "assets" / f"{'multilingual' if multilingual else 'gpt2'}.tiktoken"
    lines = (line.split() for line in table.read_text().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    letters = _byte_letters()

    def written(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        if len(token) > 1:
            left, right = _halves(token, ranks)
            merges.append((written(left), written(right)))
    found = Tokenizer(BPE(vocab={written(token): rank for token, rank in ranks.items()}, merges=merges))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    special = sorted(tokenizer.special_tokens, key=tokenizer.special_tokens.__getitem__)
    found.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    for token in special:
        if found.token_to_id(token) != tokenizer.special_tokens[token]:
            raise InvalidInputError(
                f"expected {token} to be token {tokenizer.special_tokens[token]}, found {found.token_to_id(token)}"
            )
    return found


def _halves(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes]:
    """The two tokens whose merge the token is: byte-pair encoding of its bytes, stopped one merge before the end."""
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        pairs = [ranks.get(left + right, len(ranks)) for left, right in pairwise(parts)]
        best = pairs.index(min(pairs))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


def _byte_letters() -> list[str]:
    """Byte -> the visible letter that stands for it in byte-level BPE (Radford et al. 2019)."""
    shown = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in shown else chr(next(hidden)) for byte in range(256)]
