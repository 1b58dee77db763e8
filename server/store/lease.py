"""Tells servers that run from servers that are gone, however they went."""

import glob
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout
from sqlalchemy import Connection, func, select

from affectline.server.store.database import Database, failures

SETTLED_S: Final = 60
"""A younger lock file may be one that is just being taken."""


class Lease:
    """A lock that is this server's as long as it lives; the system or the database takes it back when it dies.

    Beside a SQLite file it is a file of its own, in PostgreSQL an advisory lock of one connection.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.writer = secrets.randbits(62)
        """Number of this server, unlike any other's."""
        self._file: FileLock | None = None
        self._connection: Connection | None = None
        with failures("opened"):
            if path := self._path(self.writer):
                self._file = FileLock(path)
                self._file.acquire(timeout=0)
            else:
                engine = database.engine.execution_options(isolation_level="AUTOCOMMIT")
                self._connection = engine.connect()
                self._connection.detach()  # not the pool's: it ends with this lease
                self._connection.execute(select(func.pg_advisory_lock(self.writer)))

    @contextmanager
    def taken_over(self, writer: int) -> Iterator[bool]:
        """Whether that server is gone; if so, nobody else takes its place meanwhile."""
        if writer == self.writer:
            yield False
        elif path := self._path(writer):
            lock = FileLock(path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                yield False
                return
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
                lock.release()
        else:
            with self._database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
                gone = bool(connection.scalar(select(func.pg_try_advisory_lock(writer))))
                try:
                    yield gone
                finally:
                    if gone:
                        connection.execute(select(func.pg_advisory_unlock(writer)))

    def left_behind(self) -> set[int]:
        """Servers whose lock files have been there for a while, whether they run or not; none of PostgreSQL."""
        path = self._database.path
        if path is None:
            return set()
        found = set()
        for each in path.parent.glob(f"{glob.escape(path.name)}.writer-*.lock"):
            number = each.name.removeprefix(f"{path.name}.writer-").removesuffix(".lock")
            with suppress(OSError, ValueError):  # gone meanwhile, or nobody's
                if time.time() - each.stat().st_mtime > SETTLED_S:
                    found.add(int(number, 16))
        return found

    def close(self) -> None:
        if self._file:
            self._file.release()
            Path(self._file.lock_file).unlink(missing_ok=True)
        if self._connection:
            with failures("closed"):
                self._connection.close()

    def _path(self, writer: int) -> Path | None:
        path = self._database.path
        return path and path.with_name(f"{path.name}.writer-{writer:x}.lock")
