"""`affectline doctor`: whether this machine can serve with these settings, and what runs where."""

import json
import os
import platform
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Set
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Final, Literal

import av
import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from affectline.models import zoo
from affectline.models.errors import AffectlineError, InvalidInputError
from affectline.models.registry import all_models
from affectline.models.runtime import (
    DEFAULT_PROVIDERS,
    Placement,
    Runtime,
    offered_providers,
    onnxruntime_version,
)
from affectline.models.store import Store, default_root
from affectline.server.config import ServerConfig, load_config
from affectline.server.engine import DEFAULT_MODELS, Engine
from affectline.server.models_cli import one_sentence

State = Literal["ok", "note", "fault"]

PACKAGES: Final = ("affectline", "av", "grpcio", "numpy", "onnx", "sqlalchemy")
EXTRAS: Final = {
    "whisper": "openai-whisper",
    "pyannote": "pyannote.audio",
    "deepface": "deepface",
    "postgres": "psycopg",
}
"""Extra -> the package that it brings."""
ONNXRUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-migraphx")
"""Builds of one package: installed together, the later one breaks the earlier one."""
CODECS: Final = {
    "telephony": ("pcm_mulaw", "pcm_alaw", "g722", "gsm", "amrnb", "amrwb", "opus"),
    "recordings": ("aac", "mp3", "flac", "vorbis"),
    "video": ("h264", "hevc", "vp8", "vp9", "av1", "mjpeg"),
}
MIN_MEMORY_BYTES: Final = 2 << 30
MIN_FREE_BYTES: Final = 1 << 30
ASK_TIMEOUT_S: Final = 10
PASSED_OVER: Final = "passed over: "
MAX_NAME_COLUMNS: Final = 36
MARKS: Final[dict[State, Text]] = {
    "ok": Text("✓", "green"),
    "note": Text("•", "yellow"),
    "fault": Text("✗", "bold red"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    area: str
    name: str
    state: State
    found: str
    remedy: str = ""
    """What to do about it; empty where there is nothing to do."""


@dataclass(frozen=True, slots=True)
class Report:
    checks: tuple[Check, ...]
    placements: tuple[Placement, ...] = field(default=())
    """Of every network, where all models could be loaded."""

    @property
    def faults(self) -> int:
        return sum(check.state == "fault" for check in self.checks)


def examine(config: ServerConfig) -> Report:
    """Looks at everything; changes nothing, but loads the models to see where they run."""
    checks = [*_machine(), *_versions(), *_providers(config), *_weights(config)]
    placements: tuple[Placement, ...] = ()
    if not any(check.state == "fault" and check.area in ("models", "providers") for check in checks):
        broken = {check.name for check in checks if check.area == "providers" and check.found.startswith(PASSED_OVER)}
        loaded, placements = _networks(config, broken)
        checks += loaded
    return Report((*checks, *_media(), *_store(config), *_folders(config), *_ports(config)), placements)


def doctor(
    config: Annotated[Path | None, typer.Option(exists=True, dir_okay=False, help="YAML file with settings.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="Print only JSON.")] = False,
) -> None:
    """Tell whether this machine can serve with these settings, and what runs where. Exit code 1 when it cannot."""
    with one_sentence():
        report = examine(load_config(config))
    if json_out:
        document = {"faults": report.faults, **asdict(report)}
        typer.echo(json.dumps(document, indent=1))
    else:
        _render(report, Console(highlight=False))
    if report.faults:
        raise typer.Exit(1)


def _render(report: Report, console: Console) -> None:
    area = ""
    names = min(MAX_NAME_COLUMNS, max(len(check.name) for check in report.checks))
    for check in report.checks:
        if check.area != area:
            console.print(f"\n[bold]{check.area}[/]" if area else f"[bold]{check.area}[/]")
            area = check.area
        line = Table.grid(padding=(0, 1))
        line.add_column(width=1)
        line.add_column(width=names, overflow="fold")
        line.add_column(overflow="fold")
        said = Text(check.found)
        if check.remedy:
            said.append(f"\n→ {check.remedy}", "yellow" if check.state == "note" else "red")
        line.add_row(MARKS[check.state], check.name, said)
        console.print(line)
    notes = sum(check.state == "note" for check in report.checks)
    also = f", {notes} to note" if notes else ""
    if report.faults:
        console.print(f"\n[bold red]{report.faults} to mend[/]{also}")
    else:
        console.print(f"\n[bold green]Ready to serve[/]{also}")


def _machine() -> Iterator[Check]:
    area = "machine"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = _cpu_share()
    shown = f"{cores} cores" + (f", of which this container may use {share:g}" if share and share < cores else "")
    few = min(cores, share or cores) < 2
    yield Check(
        area,
        "processor",
        "note" if few else "ok",
        f"{shown}; {_processor()}",
        "two are needed for live calls" if few else "",
    )
    total = _memory_bytes()
    if total is not None:
        little = total < MIN_MEMORY_BYTES
        remedy = f"the models need about {decimal(MIN_MEMORY_BYTES)}" if little else ""
        yield Check(area, "memory", "note" if little else "ok", decimal(total), remedy)
    yield Check(area, "system", "ok", f"{platform.system()} {platform.release()}, Python {platform.python_version()}")
    yield Check(area, "NVIDIA GPU", "ok", _nvidia())


def _cpu_share() -> float | None:
    """Cores that the control group allows; None without a limit."""
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    return None


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    total = None
    with suppress(OSError, ValueError, AttributeError):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        total = min(limit, total or limit)
    return total


def _nvidia() -> str:
    if not (program := shutil.which("nvidia-smi")):
        return "none (no nvidia-smi)"
    command = [program, "--query-gpu=index,name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ASK_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nvidia-smi does not answer ({type(error).__name__})"
    return "; ".join(done.stdout.splitlines()) or f"nvidia-smi says: {' '.join(done.stderr.split())[:200]}"


def _versions() -> Iterator[Check]:
    area = "versions"
    for name in PACKAGES:
        yield Check(area, name, "ok", _version(name) or "unknown")
    built = [f"{name} {found}" for name in ONNXRUNTIMES if (found := _version(name))]
    several = len(built) > 1
    yield Check(
        area,
        "onnxruntime",
        "note" if several else "ok",
        f"{onnxruntime_version()}; {', '.join(built)}",
        "builds of one package that break each other: uninstall all, then install one" if several else "",
    )
    for extra, name in EXTRAS.items():
        yield Check(area, name, "ok", _version(name) or f"not installed (extra {extra})")


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _providers(config: ServerConfig) -> Iterator[Check]:
    """Whether each configured provider runs a small network."""
    area = "providers"
    yield Check(area, "offered", "ok", ", ".join(offered_providers()))
    trial = Path(zoo.__path__[0]) / "expression.onnx"
    usable = 0
    for name in config.providers:
        try:
            Runtime([name], options=config.accelerator_options()).session(trial)
        except InvalidInputError as error:
            found = (
                str(error).partition(f"found {name}")[2].removeprefix(": ")
                or "not offered by this build of onnxruntime"
            )
            asked_for = name in offered_providers() or config.providers != DEFAULT_PROVIDERS
            yield Check(area, name, "note" if asked_for else "ok", f"{PASSED_OVER}{found}")
        else:
            usable += 1
            yield Check(area, name, "ok", "works")
    if not usable:
        yield Check(area, "any", "fault", "none of them works", "add cpu to `providers`, or mend one of the above")


def _weights(config: ServerConfig) -> Iterator[Check]:
    """The stored files that calls need, every byte read."""
    area = "models"
    store, known = Store(default_root()), all_models()
    seen = set()
    chosen = (config.speech_model, config.voice_model, config.face_model)
    for name in (*DEFAULT_MODELS.values(), *(name for name in chosen if name in known)):
        artifact = known[name].artifact
        if artifact is None or artifact.name in seen:
            continue
        seen.add(artifact.name)
        try:
            folder = store.verify(artifact)
        except AffectlineError as error:
            yield Check(area, artifact.name, "fault", str(error), f"affectline models pull {artifact.name}")
        else:
            size_bytes = store.status(artifact).size_bytes
            digest = json.loads((folder / "manifest.json").read_bytes())["files"][artifact.files[0]]["sha256"]
            yield Check(
                area, artifact.name, "ok", f"{decimal(size_bytes)}, intact; {artifact.files[0]} SHA-256 {digest[:16]}…"
            )


def _networks(config: ServerConfig, broken: Set[str]) -> tuple[list[Check], tuple[Placement, ...]]:
    """Loads everything as the server does."""
    area = "networks"
    try:
        runtime = config.runtime()
        engine = Engine(
            runtime=runtime,
            speech_model=config.speech_model,
            voice_model=config.voice_model,
            face_model=config.face_model,
            diarizer=config.diarizer,
            policies=config.policies,
            cues=config.cues,
            accept_licences=config.accept_license,
        )
    except AffectlineError as error:
        return [Check(area, "loading", "fault", str(error))], ()
    diarizer = {"diarizer": engine.models.diarizer.model} if engine.models.diarizer else {}
    used = {**engine.models.versions, **diarizer}
    chosen = ", ".join(f"{task.replace('_', ' ')}: {name}" for task, name in used.items())
    checks = [Check(area, "in use", "ok", chosen)]
    for placement in runtime.placements:
        checks.append(_placed(placement, broken))
    return checks, tuple(runtime.placements)


def _placed(placement: Placement, broken: Set[str]) -> Check:
    """`broken`: providers of which it was told that they run nothing."""
    nodes = ", ".join(f"{count} nodes on {name}" for name, count in placement.nodes.items())
    passed = "".join(f"; not {name}: {reason}" for name, reason in placement.passed_over if name not in broken)
    on_cpu, whole = placement.nodes.get("cpu", 0), sum(placement.nodes.values())
    split = placement.provider != "cpu" and 10 * on_cpu > whole
    remedy = "much of it stays on the CPU; for CUDA use files of precision fp16: docs/backends.md" if split else ""
    return Check(
        "networks",
        placement.network,
        "note" if split or passed else "ok",
        f"{placement.provider}{f' ({nodes})' if nodes else ''}{passed}",
        remedy,
    )


def _media() -> Iterator[Check]:
    area = "media"
    yield Check(area, "FFmpeg", "ok", f"{getattr(av, 'ffmpeg_version_info', 'unknown')}, inside PyAV {av.__version__}")
    for name, codecs in CODECS.items():
        missing = [codec for codec in codecs if not _decodes(codec)]
        yield Check(
            area,
            name,
            "fault" if missing else "ok",
            f"no decoder for {', '.join(missing)}" if missing else ", ".join(codecs),
            "install PyAV from its own wheel" if missing else "",
        )


def _decodes(codec: str) -> bool:
    try:
        av.codec.Codec(codec, "r")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def _store(config: ServerConfig) -> Iterator[Check]:
    area = "store"
    if config.store is None:
        yield Check(area, "calls", "ok", "not kept (setting `store`)")
        return
    try:
        yield Check(area, "calls", "ok", _reached(config.store))
    except (SQLAlchemyError, sqlite3.Error, OSError, ImportError, ValueError) as error:
        cause = getattr(error, "orig", None) or error
        reason = " ".join(str(cause).split())[:200]
        yield Check(area, "calls", "fault", f"cannot be reached: {reason}", "see the setting `store`")


def _reached(place: str) -> str:
    """Where the store is; nothing is made or changed."""
    if "://" not in place:
        path = Path(place)
        if not path.exists():
            if not os.access(path.parent, os.W_OK):
                raise OSError(f"expected a folder to write to, found {path.parent}")
            return f"{path}, to be made by the server"
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            file.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not os.access(path, os.W_OK):
            raise OSError(f"expected a file to write to, found {path}")
        return f"{path}, {decimal(path.stat().st_size)}"
    try:
        url = make_url(place)
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError) as error:
        raise ValueError("no URL of a database that is known here") from error
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT 1"))
    finally:
        engine.dispose()
    return url.render_as_string(hide_password=True)


def _folders(config: ServerConfig) -> Iterator[Check]:
    area = "folders"
    places = [("spool", config.spool_dir or Path(tempfile.gettempdir()))]
    places += [
        (name, place) for name, place in (("site", config.site_dir), ("engine cache", config.engine_cache)) if place
    ]
    for name, place in places:
        free = shutil.disk_usage(place).free
        if not os.access(place, os.W_OK):
            yield Check(area, name, "fault", f"{place} cannot be written", "change its owner, or the setting")
        elif free < MIN_FREE_BYTES:
            yield Check(area, name, "note", f"{place}, {decimal(free)} free", "recordings may not find room")
        else:
            yield Check(area, name, "ok", f"{place}, {decimal(free)} free")


def _ports(config: ServerConfig) -> Iterator[Check]:
    for listen in (config.listen, config.metrics_address):
        if listen is not None:
            yield _port(listen)


def _port(listen: str) -> Check:
    """Whether the server could listen; grpc itself is not asked, since it would stay bound."""
    host, _, port = listen.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        remedy = "stop what listens there (a server that runs already?), or change the setting"
        return Check("network", listen, "fault", f"cannot be had: {error.strerror or error}", remedy)
    return Check("network", listen, "ok", "free")
