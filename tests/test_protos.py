"""The wire format: lint, comments, and generated code that matches its sources."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[1]
BUF = Path(sys.executable).with_name("buf")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BUF, "lint"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_lint_is_clean() -> None:
    done = lint(ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_lint_wants_a_comment_on_every_field(tmp_path: Path) -> None:
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    folder = tmp_path / ".pkgroot/affectline/protos/v1"
    folder.mkdir(parents=True)
    for source in (ROOT / "protos/v1").glob("*.proto"):
        text = source.read_text()
        (folder / source.name).write_text(text.replace("  // First microsecond inside; at least 0.\n", ""))
    done = lint(tmp_path)
    assert done.returncode != 0
    assert 'Field "start_us" should have a non-empty comment' in done.stdout


def test_generated_code_is_current(tmp_path: Path) -> None:
    subprocess.run(
        [ROOT / "protos/generate.sh", tmp_path],
        check=True,
        capture_output=True,
        timeout=120,
        env={**os.environ, "PYTHON": sys.executable},
    )
    expected = {path.name: path.read_text() for path in (tmp_path / "affectline/protos/v1").iterdir()}
    found = {path.name: path.read_text() for path in (ROOT / "protos/v1").glob("*_pb2*.py*")}
    assert found == expected
