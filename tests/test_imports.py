"""The core loads nothing of the optional backends, nor what only conversions need, whether or not it is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
OPTIONAL = (
    "deepface",
    "huggingface_hub",
    "keras",
    "librosa",
    "numba",
    "openvino",
    "pyannote",
    "tensorflow",
    "torch",
    "transformers",
    "whisper",
)
PROGRAM = """
import sys

class Watch:
    '''Sees what is asked for before any finder does; finds nothing itself.'''
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {optional}:
            print(name)

sys.meta_path.insert(0, Watch())
import affectline.server.main
import affectline.server.cli
from affectline.models.registry import all_models
assert len(all_models()) > 5
{more}
"""


def asked_for(more: str = "") -> list[str]:
    program = PROGRAM.format(optional=set(OPTIONAL), more=more)
    paths = {"PYTHONPATH": os.pathsep.join([str(ROOT / ".pkgroot"), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ | paths)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_server_and_the_command_line_ask_for_none_of_them() -> None:
    assert asked_for() == []


def test_the_watch_sees_them() -> None:
    more = "try: import torch.nn\nexcept ImportError: pass"
    assert "torch" in asked_for(more)
