"""Files that are either whole or not there."""

import os
import time
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from affectline.models.errors import StorageError

UNFINISHED: Final = ".affectline-part"
"""How the name of a file ends that is being written."""
ABANDONED_S: Final = 3_600.0
"""Nothing takes so long to write: whoever began it is gone."""


def write_whole(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Writes beside the target and renames; raises StorageError and leaves what was there before.

    `mode`: who may read and write it; as the umask says when absent.
    """
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=UNFINISHED, delete=False) as file:
            try:
                file.write(data)
                file.flush()
                os.chmod(file.name, 0o666 & ~_umask() if mode is None else mode)
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def forget_unfinished(folder: Path) -> None:
    """Deletes what `write_whole` left there when its process or the machine broke off."""
    for path in folder.glob(f".*{UNFINISHED}"):
        with suppress(OSError):  # another server may do the same
            if path.stat().st_mtime < time.time() - ABANDONED_S:
                path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
