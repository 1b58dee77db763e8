"""A server as its users start it, in a process of its own, and what the kernel counts of it (Linux's /proc)."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from affectline.server.config import ENVIRONMENT_PREFIX

READY_WITHIN_S: Final = 600.0
SAMPLE_EVERY_S: Final = 0.5
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has taken and holds at one time."""

    at_s: float
    """Monotonic clock."""
    cpu_s: float
    """User and system time of all its threads so far."""
    rss_mb: float
    threads: int
    handles: int
    """Open file descriptors."""
    machine_s: float
    """Busy time of all cores of the machine so far."""


@dataclass(frozen=True, slots=True)
class Served:
    address: str
    pid: int | None
    """None when the server was not started here."""
    load_s: float | None
    """From the start of the process until it served."""

    def usage(self) -> Usage | None:
        """None when the server was not started here."""
        return None if self.pid is None else usage(self.pid)


class Watch:
    """Looks at a server twice a second on a thread of its own while the `with` block runs."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._over = Event()
        self._thread = Thread(target=self._run, daemon=True)
        self.seen: list[Usage] = []

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def between(self, start_s: float, end_s: float) -> list[Usage]:
        return [each for each in self.seen if start_s <= each.at_s <= end_s]

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                seen = self._served.usage()
            except OSError:
                return  # the server is gone
            if seen is None:
                return
            self.seen.append(seen)
            self._over.wait(SAMPLE_EVERY_S)


def usage(pid: int) -> Usage:
    """Raises OSError when the process is gone."""
    folder = Path(f"/proc/{pid}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    busy = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, soft, *_ = map(int, busy)
    return Usage(
        at_s=time.monotonic(),
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
        rss_mb=int((folder / "statm").read_text().split()[1]) * _PAGE / 2**20,
        threads=int(fields[17]),
        handles=len(os.listdir(folder / "fd")),
        machine_s=(user + nice + system + irq + soft) / _TICKS,
    )


@contextmanager
def serving(address: str | None = None, settings: Mapping[str, object] | None = None) -> Iterator[Served]:
    """A server that serves: the one at `address`, or one of our own on a free port, stopped in the end.

    `settings` are those of `affectline serve`; what the environment sets wins over them. Raises SystemExit with the
    server's own words when it does not come up.
    """
    if address is not None:
        _wait_until_served(address, None)
        yield Served(address, None, None)
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server goes, too
    given = {"listen": "127.0.0.1:0", **(settings or {})}
    ours = {ENVIRONMENT_PREFIX + name.upper(): str(value) for name, value in given.items()}
    with tempfile.TemporaryFile() as said:
        started_s = time.monotonic()
        command = [sys.executable, "-m", "affectline.server.cli", "serve"]
        process = subprocess.Popen(command, env={**ours, **os.environ}, stdout=said, stderr=subprocess.STDOUT)
        try:
            while not (found := re.search(r"listening on (\S+:\d+)", _text(said.fileno()))):
                if process.poll() is not None or time.monotonic() - started_s > READY_WITHIN_S:
                    raise SystemExit(f"expected a server that listens, found: {_text(said.fileno()).strip()}")
                time.sleep(0.05)
            _wait_until_served(found[1], process)
            yield Served(found[1], process.pid, time.monotonic() - started_s)
        finally:
            process.terminate()
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _text(descriptor: int) -> str:
    """All of a file, whatever its position."""
    return os.pread(descriptor, 2**20, 0).decode(errors="replace")


def _wait_until_served(address: str, process: "subprocess.Popen[bytes] | None") -> None:
    until_s = time.monotonic() + READY_WITHIN_S
    with grpc.insecure_channel(address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        while True:
            try:
                found = health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=5).status
                if found == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                pass
            if time.monotonic() > until_s or (process is not None and process.poll() is not None):
                raise SystemExit(f"expected a server that serves at {address}, found none")
            time.sleep(0.05)
