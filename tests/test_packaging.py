"""The built wheel, used from outside the repository."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from affectline.server.engine import Engine
from affectline.server.exports import from_json

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[1]


def test_the_wheel_has_everything_it_needs(tmp_path: Path, engine: Engine, example: Path) -> None:
    subprocess.run([sys.executable, "-m", "build", "--outdir", tmp_path, ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("affectline-*.whl")
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, wheel]
    subprocess.run(pip, check=True, capture_output=True)
    script = (
        "import sys\n"
        "from affectline.server import cli\n"
        f"assert cli.__file__.startswith({str(site)!r}), cli.__file__\n"
        "cli.main()\n"
    )
    # -I keeps the repository off the path; -S its editable install. Dependencies come from this environment.
    paths = f"import sys; sys.path[:0] = [{str(site)!r}, {sysconfig.get_path('platlib')!r}]\n"
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            paths + script,
            "analyze",
            example,
            "--json",
            "-",
            "--html",
            tmp_path / "x.html",
        ],
        capture_output=True,
        cwd=tmp_path,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert from_json(done.stdout).suggestions
    assert (tmp_path / "x.html").stat().st_size > 50_000
