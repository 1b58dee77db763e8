"""Random weights for Whisper's graphs, named as CTranslate2 does."""

from collections.abc import Mapping

import numpy as np

from affectline.models.convert.whisper import Tensors
from affectline.models.signals import F32

RNG = np.random.default_rng(0)
WIDTH, LAYERS = 128, 2


def random(*dims: int) -> F32:
    return RNG.normal(0, 2 / np.sqrt(dims[-1]), dims).astype(np.float32)


def blocks(side: str, linears: Mapping[str, Mapping[str, tuple[int, int]]]) -> Tensors:
    """Norms and linear layers of encoder or decoder. linears: part of a block -> its layers -> (out, in) by WIDTH."""
    tensors: Tensors = {}
    for name in (side, *(f"{side}/layer_{layer}/{part}" for layer in range(LAYERS) for part in linears)):
        tensors |= {f"{name}/layer_norm/gamma": random(WIDTH) + 1, f"{name}/layer_norm/beta": random(WIDTH)}
        for linear, (rows, columns) in linears.get(name.rpartition("/")[2], {}).items():
            tensors[f"{name}/{linear}/weight"] = random(rows * WIDTH, columns * WIDTH)
            tensors[f"{name}/{linear}/bias"] = random(rows * WIDTH)
    return tensors
