"""Files that are either whole or not there."""

import os
from pathlib import Path
from tempfile import NamedTemporaryFile

from affectline.models.errors import StorageError


def write_whole(path: Path, data: bytes, *, mode: int | None = None) -> None:
    """Writes beside the target and renames; raises StorageError and leaves what was there before.

    `mode`: who may read and write it; as the umask says when absent.
    """
    try:
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}.", delete=False) as file:
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
