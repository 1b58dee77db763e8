"""The text model's graph against the same weights in transformers."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from affectline.models.convert.minilm import convert, merged
from affectline.models.runtime import Runtime
from affectline.models.store import Store, default_root
from affectline.models.zoo.minilm import ADAPTER, ARTIFACT, MiniLmWords, readable

pytestmark = pytest.mark.reference

TEXTS = (
    "Thank you so much, that worked!",
    "This is the third time I'm calling and nobody can tell me where my parcel is. I want to talk to a manager.",
    "ok",
    "Ich verstehe das nicht",
    "😡 zażółć gęślą jaźń 12:30",
)


def test_the_graph_equals_transformers(tmp_path: Path) -> None:
    """float32 to 1e-4 of logits of up to about 8; int8 within 0.6 of them."""
    torch = pytest.importorskip("torch", reason="needs the extra `reference`")
    transformers = pytest.importorskip("transformers", reason="needs the extra `reference`")
    Store(default_root()).bundle([ARTIFACT], tmp_path / "raw.tar")
    with tarfile.open(tmp_path / "raw.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    raw = tmp_path / ARTIFACT.name
    with np.load(ADAPTER) as stored:
        tensors = merged(load_file(raw / "model.safetensors"), dict(stored))
    bert = transformers.AutoModel.from_pretrained(raw, add_pooling_layer=False).eval()
    bert.load_state_dict({k: torch.tensor(tensors[k]) for k in bert.state_dict()})
    found = {}
    for int8 in (False, True):
        folder = tmp_path / str(int8)
        folder.mkdir()
        convert(raw, folder, adapter=ADAPTER, int8=int8)
        found[int8] = MiniLmWords(folder, Runtime(threads=1))
    for text in TEXTS:
        tokens = found[False]._tokenizer.encode(readable(text)).ids
        with torch.inference_mode():
            mean = bert(input_ids=torch.tensor([tokens])).last_hidden_state[0].mean(0).numpy()
        expected = tensors["head.weight"] @ mean + tensors["head.bias"]
        np.testing.assert_allclose(found[False].logits(text), expected, atol=1e-4)
        np.testing.assert_allclose(found[True].logits(text), expected, atol=0.6)
