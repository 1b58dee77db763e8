"""`affectline models` as a person uses it, with the smallest real weights."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from affectline.server.models_cli import app

pytestmark = pytest.mark.integration


def run(root: Path, *arguments: object) -> Result:
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], env={"AFFECTLINE_MODELS": str(root), "COLUMNS": "160"}
    )


def one_sentence(result: Result) -> str:
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


def test_a_bundle_travels_to_a_machine_without_a_network(tmp_path: Path) -> None:
    bundle, root = tmp_path / "bundle.tar", tmp_path / "offline"
    made = run(tmp_path / "online", "bundle", "mini-xception", "--out", bundle)
    assert made.exit_code == 0, made.output
    assert "bundle.tar" in made.stdout

    pulled = run(root, "pull", "mini-xception", "--from", bundle)
    assert pulled.stdout == f"mini-xception: ready in {root / 'mini-xception'}\n", pulled.output
    assert pulled.stderr == ""
    assert run(root, "verify", "mini-xception").stdout == "mini-xception: intact\n"
    row = next(line for line in run(root, "list").stdout.splitlines() if line.startswith("mini-xception"))
    assert row.split()[:4] == ["mini-xception", "expression", "25.10.3", "MIT"]
    assert "ready" in row

    model = root / "mini-xception" / "model.onnx"
    data = model.read_bytes()
    model.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    damaged = run(root, "verify", "mini-xception")
    assert damaged.exit_code == 1
    assert "model.onnx: expected SHA-256" in damaged.stderr


def test_list_needs_no_weights(tmp_path: Path) -> None:
    listed = run(tmp_path / "models", "list")
    assert listed.exit_code == 0
    assert "silero-vad==6.2.3" in listed.stdout
    assert "missing" in listed.stdout
    assert "\x1b" not in listed.stdout
    assert not (tmp_path / "models").exists()


def test_an_unknown_model_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    assert "silero" in one_sentence(run(tmp_path, "pull", "no-such-model"))


def test_a_folder_without_the_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = one_sentence(run(tmp_path / "models", "pull", "silero", "--from", tmp_path / "empty"))
    assert "silero-vad==6.2.3" in said
    assert str(tmp_path / "empty") in said


def test_verify_names_what_is_missing(tmp_path: Path) -> None:
    assert "affectline models pull silero" in one_sentence(run(tmp_path, "verify", "silero"))
