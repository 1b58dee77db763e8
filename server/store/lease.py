"""Tells servers that run from servers that are gone, however they went."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from sqlalchemy import Connection, func, select

from affectline.server.store.database import Database, failures


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
