"""The speaker encoder's checkpoint is read without running anything that is in it."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affectline.models.convert.resemblyzer import graph, read_checkpoint
from affectline.models.errors import InvalidInputError
from affectline.models.store import Wheel, _local

pytestmark = pytest.mark.unit

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class _Named:
    def __init__(self, module: str, name: str, *arguments: Any) -> None:
        self.module, self.name, self.arguments = module, name, arguments


class _Writer(pickle._Pickler):
    """Writes what PyTorch before 1.6 wrote: names and storages."""

    def persistent_id(self, obj: Any) -> Any:
        return obj if isinstance(obj, tuple) and obj[:1] == ("storage",) else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if isinstance(obj, _Named):
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
            if obj.arguments:
                super().save(tuple(obj.arguments))
                self.write(pickle.REDUCE)
            return
        super().save(obj, save_persistent_id)


def checkpoint(path: Path, state: Any, *, values: int = 6, magic: int = MAGIC, cut: int = 0) -> Path:
    with path.open("wb") as file:
        for item in (magic, PROTOCOL, {"little_endian": True}, {"model_state": state}, ["7"]):
            _Writer(file, protocol=2).dump(item)
        file.write(values.to_bytes(8, "little") + np.arange(6, dtype="<f4").tobytes()[: 24 - cut])
    return path


def tensor(offset: int = 0, shape: tuple[int, ...] = (2, 3), strides: tuple[int, ...] = (3, 1)) -> _Named:
    storage = ("storage", _Named("torch", "FloatStorage"), "7", "cpu", 6, None)
    return _Named("torch._utils", "_rebuild_tensor_v2", storage, offset, shape, strides, False, {})


def test_tensors_are_read(tmp_path: Path) -> None:
    found = read_checkpoint(checkpoint(tmp_path / "x.pt", {"a": tensor(), "b": tensor(4, (2,), (1,))}))
    np.testing.assert_array_equal(found["a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(found["b"], [4, 5])


def test_nothing_is_run(tmp_path: Path) -> None:
    evil = _Named("os", "system", f"touch {tmp_path}/ran")
    with pytest.raises(InvalidInputError, match=r"the name os.system, which is refused"):
        read_checkpoint(checkpoint(tmp_path / "x.pt", {"a": evil}))
    with pytest.raises(InvalidInputError, match="refused"):
        read_checkpoint(checkpoint(tmp_path / "x.pt", {"a": _Named("builtins", "eval", "1")}))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("state", "options"),
    [
        ({"a": tensor()}, {"magic": 1}),
        ({"a": tensor()}, {"cut": 4}),
        ({"a": tensor()}, {"values": 2**40}),
        ({"a": tensor(offset=1)}, {}),
        ({"a": tensor(offset=-1)}, {}),
        ({"a": tensor(strides=(1, 2))}, {}),
        ({"a": "text"}, {}),
        ("text", {}),
    ],
)
def test_other_files_are_refused(state: Any, options: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"expected a checkpoint of PyTorch in x\.pt, found"):
        read_checkpoint(checkpoint(tmp_path / "x.pt", state, **options))


def test_a_checkpoint_of_something_else_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"expected a tensor lstm.weight_ih_l0 \(1024, 40\).*found none"):
        graph({})


def test_a_wheel_with_capitals_in_its_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "Resemblyzer-0.1.4-py3-none-any.whl").write_bytes(b"x")
    digest = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert _local(Wheel("resemblyzer", "0.1.4", digest, 1), tmp_path).name.startswith("Resemblyzer")
