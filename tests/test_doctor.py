"""`affectline doctor` on this machine, with settings that are sound and settings that are not."""

import json
import os
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from affectline.models.runtime import Placement
from affectline.server import doctor
from affectline.server.cli import app
from affectline.server.config import ServerConfig
from affectline.server.doctor import Check, examine
from affectline.server.engine import Engine

pytestmark = pytest.mark.integration

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def run(*arguments: str, models: Path | None = None, **settings: Any) -> Result:
        (tmp_path / "server.yaml").write_text(json.dumps({"listen": "127.0.0.1:0", **settings}))
        environment = {"COLUMNS": "120"} | ({"AFFECTLINE_MODELS": str(models)} if models else {})
        return CliRunner().invoke(
            app, ["doctor", "--config", str(tmp_path / "server.yaml"), *arguments], env=environment
        )

    return run


def checks(result: Result) -> dict[tuple[str, str], dict[str, str]]:
    return {(check["area"], check["name"]): check for check in json.loads(result.stdout)["checks"]}


def test_a_machine_that_can_serve(run: Run, engine: Engine) -> None:
    done = run("--json")
    assert done.exit_code == 0, done.output
    document, found = json.loads(done.stdout), checks(done)
    assert document["faults"] == 0
    assert found["providers", "cpu"]["found"] == "works"
    assert "intact" in found["models", "whisper-base"]["found"]
    assert found["media", "telephony"]["state"] == "ok"
    assert "found" in found["network", "127.0.0.1:0"]
    networks = {placement["network"] for placement in document["placements"]}
    assert {"whisper-base/encoder.onnx", "whisper-base/decoder.onnx", "zoo/voice_open.onnx"} <= networks
    assert all(sum(placement["nodes"].values()) for placement in document["placements"])


def test_what_a_person_reads(run: Run, engine: Engine) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert "Ready to serve" in done.stdout.splitlines()[-1]
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 120
    assert any(line.startswith("✓ whisper-base/encoder.onnx") for line in done.stdout.splitlines())


def test_every_fault_is_found_and_told_how_to_mend(run: Run, tmp_path: Path) -> None:
    (tmp_path / "calls.db").write_text("not a database, however one looks at it")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("--json", models=tmp_path / "empty", metrics_address=listen, store=str(tmp_path / "calls.db"))
    assert done.exit_code == 1
    found = checks(done)
    assert found["models", "silero"]["remedy"] == "affectline models pull silero"
    assert found["network", listen]["state"] == "fault"
    assert "Address already in use" in found["network", listen]["found"]
    assert found["store", "calls"]["state"] == "fault"
    assert "not a database" in found["store", "calls"]["found"]
    assert not any(area == "networks" for area, _ in found), "models that are not there cannot be loaded"
    shown = run(models=tmp_path / "empty", store=str(tmp_path / "calls.db"))
    assert "→ affectline models pull silero" in shown.stdout
    assert "to mend" in shown.stdout.splitlines()[-1]


def test_a_damaged_model_is_a_fault(run: Run, tmp_path: Path) -> None:
    assert (
        CliRunner().invoke(app, ["models", "pull", "silero"], env={"AFFECTLINE_MODELS": str(tmp_path)}).exit_code == 0
    )
    network = tmp_path / "silero" / "model.onnx"
    data = network.read_bytes()
    network.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    check = checks(run("--json", models=tmp_path))["models", "silero"]
    assert check["state"] == "fault"
    assert "expected SHA-256" in check["found"]


def test_providers_that_were_asked_for_and_do_not_work_are_noted(run: Run, tmp_path: Path) -> None:
    found = checks(run("--json", models=tmp_path / "empty", providers="tensorrt,cpu"))
    assert found["providers", "tensorrt"]["state"] == "note"
    assert found["providers", "cpu"]["state"] == "ok"
    only = checks(run("--json", models=tmp_path / "empty", providers="tensorrt"))
    assert only["providers", "any"]["state"] == "fault"


def test_a_store_is_looked_at_and_not_made(tmp_path: Path) -> None:
    place = tmp_path / "calls.db"

    def store(place: object) -> Check:
        return next(doctor._store(ServerConfig(store=str(place))))

    assert store(place).found == f"{place}, to be made by the server"
    assert not place.exists()
    with sqlite3.connect(place) as file:
        file.execute("CREATE TABLE calls (id)")
    before = place.read_bytes()
    assert store(place).state == "ok"
    assert place.read_bytes() == before
    assert store("postgresql+nothing://someone:secret@localhost/calls").state == "fault"
    assert "secret" not in store("postgresql+nothing://someone:secret@localhost/calls").found
    assert store(tmp_path / "none" / "calls.db").state == "fault"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    faults = [check for check in doctor._folders(ServerConfig(spool_dir=tmp_path)) if check.state == "fault"]
    assert [check.name for check in faults] == ["spool"]


@pytest.mark.parametrize(
    ("placement", "state", "said"),
    [
        (Placement("a/b.onnx", "cpu", {"cpu": 9}, ()), "ok", "cpu (9 nodes on cpu)"),
        (Placement("a/b.onnx", "cuda", {"cuda": 95, "cpu": 5}, ()), "ok", "cuda (95 nodes on cuda, 5 nodes on cpu)"),
        (
            Placement("a/b.onnx", "cuda", {"cuda": 50, "cpu": 50}, ()),
            "note",
            "cuda (50 nodes on cuda, 50 nodes on cpu)",
        ),
        (
            Placement("a/b.onnx", "cpu", {}, (("migraphx", "told before"), ("cuda", "no libcublas.so"))),
            "note",
            "cpu; not cuda: no libcublas.so",
        ),
    ],
)
def test_where_a_network_runs_is_told(placement: Placement, state: str, said: str) -> None:
    check = doctor._placed(placement, {"migraphx"})
    assert (check.state, check.found) == (state, said)
    assert bool(check.remedy) == (placement.nodes == {"cuda": 50, "cpu": 50})


def test_settings_that_cannot_be_are_one_sentence(run: Run) -> None:
    done = run(providers="cpu,abacus")
    assert done.exit_code == 1
    assert "providers: expected providers of tensorrt, cuda" in done.stderr
    assert "found cpu, abacus" in done.stderr
    assert "openvino_device" in run(openvino_device="TPU").stderr


def test_models_that_do_not_load_are_a_fault(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "head.onnx").write_text("no network")
    report = examine(ServerConfig(listen="127.0.0.1:0", voice_model=str(tmp_path / "head.onnx")))
    assert [check.area for check in report.checks if check.state == "fault"] == ["networks"]
    assert report.placements == ()
