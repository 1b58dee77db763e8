"""A model exported into a folder of its own: what it is, and the SHA-256 of every file, in `model.json`."""

import json
from hashlib import file_digest
from pathlib import Path
from typing import Any, Final

from affectline.models.errors import InvalidInputError, ModelCorruptError

MANIFEST: Final = "model.json"
MAX_MANIFEST_BYTES: Final = 1 << 20


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def seal(folder: Path, facts: dict[str, Any]) -> None:
    """Writes the manifest of the files that are in the folder."""
    files = {
        path.name: {"sha256": file_sha256(path), "size_bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST
    }
    (folder / MANIFEST).write_text(json.dumps({**facts, "files": files}, indent=1))


def facts_of(folder: Path, kind: str) -> dict[str, Any]:
    """The manifest of an exported model of this kind, files not looked at. Raises InvalidInputError."""
    expected = f"expected a folder that `affectline models export {kind}` wrote"
    try:
        with (folder / MANIFEST).open("rb") as file:
            facts = json.loads(file.read(MAX_MANIFEST_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no JSON in it"
        raise InvalidInputError(f"{expected}, found {folder / MANIFEST}: {reason}") from error
    if not isinstance(facts, dict) or facts.get("kind") != kind or not _listed(facts.get("files")):
        raise InvalidInputError(f"{expected}, found another {MANIFEST} in {folder}")
    return facts


def verify(folder: Path, facts: dict[str, Any]) -> None:
    """Reads every byte; ModelCorruptError names the file, and what was expected and found."""
    for name, file in facts["files"].items():
        path = folder / name
        if not path.is_file():
            raise ModelCorruptError(f"expected a file {path}, found none: export the model again")
        if (found := file_sha256(path)) != file["sha256"]:
            raise ModelCorruptError(f"{path}: expected SHA-256 {file['sha256']}, found {found}: export the model again")


def _listed(files: object) -> bool:
    return isinstance(files, dict) and all(
        Path(name).name == name and isinstance(file, dict) and isinstance(file.get("sha256"), str)
        for name, file in files.items()
    )
