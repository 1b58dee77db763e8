"""A PostgreSQL server of our own for the tests, where one is installed."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

GIVEN = os.environ.get("AFFECTLINE_TEST_POSTGRES")
"""URL of an empty database that the tests may fill and empty again, instead of one of our own."""
SERVER = shutil.which("initdb") or next(map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
AVAILABLE = find_spec("psycopg") is not None and (GIVEN is not None or SERVER is not None)


@contextmanager
def running() -> Iterator[str]:
    """The URL of an empty database; its server listens in a folder only, and ends with it."""
    if GIVEN:
        yield GIVEN
        return
    assert SERVER
    programs = Path(SERVER).resolve().parent
    # PostgreSQL refuses to run as root.
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    with TemporaryDirectory(prefix="affectline-pg-", dir="/tmp") as folder:
        if user:
            os.chown(folder, 65534, 65534)
        data = f"{folder}/data"

        def run(program: str, *arguments: str) -> None:
            command = [*user, str(programs / program), *arguments]
            subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

        run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c fsync=off -c synchronous_commit=off -c max_connections=200"
        run("pg_ctl", "-D", data, "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
