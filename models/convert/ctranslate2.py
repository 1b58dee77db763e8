"""Reads weight files in CTranslate2's flat binary layout (format version 6)."""

import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from affectline.models.errors import InvalidInputError

_DTYPES: tuple[type[np.generic], ...] = (np.float32, np.int8, np.int16, np.int32, np.float16)


def read_tensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Tensor name -> array; aliases point to the same array.

    Layout: version u32, spec name, revision u32, tensor count u32; per tensor its name, rank u8, dims u32 each,
    type u8, byte count u32, bytes; then the alias count u32 and (alias, name) pairs. A string is its length u16,
    closing zero included, and its bytes. All little-endian.
    """
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    position = 0

    def read(layout: str) -> tuple[Any, ...]:
        nonlocal position
        values = struct.unpack_from("<" + layout, data, position)
        position += struct.calcsize("<" + layout)
        return values

    def read_string() -> str:
        nonlocal position
        (length,) = read("H")
        position += length
        return data[position - length : position].rstrip(b"\0").decode()

    try:
        (version,) = read("I")
        if version != 6:
            raise InvalidInputError(f"{path.name}: expected CTranslate2 format version 6, found {version}")
        read_string()
        _revision, count = read("II")
        tensors: dict[str, npt.NDArray[Any]] = {}
        for _ in range(count):
            name = read_string()
            (rank,) = read("B")
            shape = read(f"{rank}I")
            dtype, size_bytes = read("BI")
            item = np.dtype(_DTYPES[dtype])
            tensors[name] = np.frombuffer(data, item, size_bytes // item.itemsize, position).reshape(shape)
            position += size_bytes
        (aliases,) = read("I")
        for _ in range(aliases):
            alias, name = read_string(), read_string()
            tensors[alias] = tensors[name]
    except (struct.error, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path.name}: not a whole CTranslate2 weight file ({error})") from error
    return tensors
