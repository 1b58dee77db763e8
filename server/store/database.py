"""Opens the database of the store, brings its tables up to date, and gives out transactions."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from filelock import FileLock
from sqlalchemy import Connection, Engine, create_engine, event, func, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from affectline.models.errors import InvalidInputError, StorageError

BUSY_MS: Final = 10_000
"""A writer waits this long for another one."""
CACHE_KIB: Final = 64 * 1024
"""Of a SQLite file's pages, each connection keeps so much in memory at most."""
MIGRATING: Final = 0x0AFFEC7
"""Number of the lock under which one of several servers brings a PostgreSQL database up to date."""


class Database:
    """Safe for several threads and processes. Raises StorageError when the database fails."""

    def __init__(self, place: str, *, create: bool = True) -> None:
        """`place`: path of a SQLite file, or the URL of another database. `create`: a file is made where there is none.

        Raises InvalidInputError for a place that cannot be one.
        """
        self.engine = _engine(place, create=create)
        with failures("opened"):
            _migrate(self.engine)

    @property
    def is_postgres(self) -> bool:
        return self.engine.dialect.name == "postgresql"

    @property
    def path(self) -> Path | None:
        """The SQLite file; None of another database."""
        return None if self.is_postgres else Path(self.engine.url.database or "")

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with failures("read"), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction, which is kept when nothing is raised."""
        with failures("written"), self.engine.connect() as connection:
            connection = connection.execution_options(writes=True)
            with connection.begin():
                yield connection


@contextmanager
def failures(what: str) -> Iterator[None]:
    """A database's errors as StorageError, without the values that it was to keep."""
    try:
        yield
    except CommandError as error:
        raise StorageError("expected a store of this version or an older one, found one of a newer version") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = getattr(error, "orig", None) or error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        raise StorageError(f"the store cannot be {what}: {reason}") from error


def _engine(place: str, *, create: bool) -> Engine:
    try:
        url = make_url(place) if "://" in place else URL.create("sqlite", database=place)
        engine = create_engine(url, hide_parameters=True, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError):
        raise InvalidInputError(
            "expected a path, or the URL of a database whose driver is installed (postgresql+psycopg://…), "
            "found neither in the place of the store"
        ) from None
    if engine.dialect.name == "sqlite":
        path = Path(url.database or "")
        if not url.database or not path.parent.is_dir() or path.is_dir():
            raise InvalidInputError(f"expected a file in a folder that exists for the store, found {path}")
        if not create and not path.exists():
            raise InvalidInputError(f"expected a store at {path}, found none")
        try:
            path.touch(mode=0o600)  # it holds what was said: for the owner only
        except OSError as error:
            raise StorageError(f"cannot open the store {path}: {error.strerror}") from error
        event.listen(engine, "connect", _prepare)
        event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _: object) -> None:
    """A SQLite connection on which transactions begin where we say, and writers wait for each other."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _migrate(engine: Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    if engine.dialect.name == "sqlite":
        with FileLock(f"{engine.url.database}.lock"):
            raw = engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA journal_mode = WAL")
            finally:
                raw.close()
            _upgrade(engine, config)
    else:
        _upgrade(engine, config)


def _upgrade(engine: Engine, config: Config) -> None:
    with engine.connect() as connection:
        connection = connection.execution_options(writes=True)
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(select(func.pg_advisory_xact_lock(MIGRATING)))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
