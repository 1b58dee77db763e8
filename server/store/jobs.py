"""Recording jobs, as they outlive the server that worked on them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import delete, insert, select, update

from affectline.server.store.database import Database
from affectline.server.store.tables import JOBS

PENDING: Final = ("queued", "running")
BROKEN_OFF: Final = "The server stopped before this job was done; it was broken off. Send the recording again."


@dataclass(frozen=True, slots=True)
class StoredJob:
    id: str
    number: int
    """In the order of creation."""
    name: str
    call_id: str
    """Id under which its call is kept."""
    request_id: str
    config: str
    """Hash of everything that was asked for."""
    state: str
    """queued, running, succeeded, failed, cancelled"""
    progress: float
    error: str
    created: datetime
    ended: datetime | None


class JobStore:
    """Raises StorageError when the database fails."""

    def __init__(self, database: Database, writer: int) -> None:
        """`writer`: the number of this server."""
        self._database = database
        self._writer = writer

    def save(self, job: StoredJob) -> None:
        """Adds it, or brings it up to date."""
        values = {name: getattr(job, name) for name in StoredJob.__slots__}
        writer = self._writer if job.state in PENDING else None
        with self._database.writing() as connection:
            known = connection.execute(update(JOBS).where(JOBS.c.id == job.id).values(writer=writer, **values))
            if not known.rowcount:
                connection.execute(insert(JOBS).values(writer=writer, **values))

    def ended(self, most: int) -> list[StoredJob]:
        """The last `most` that are over, oldest first."""
        query = select(JOBS).where(JOBS.c.state.not_in(PENDING)).order_by(JOBS.c.created.desc(), JOBS.c.id).limit(most)
        with self._database.reading() as connection:
            rows = connection.execute(query).all()
        return [StoredJob(*(getattr(row, name) for name in StoredJob.__slots__)) for row in reversed(rows)]

    def forget(self, job_id: str) -> None:
        with self._database.writing() as connection:
            connection.execute(delete(JOBS).where(JOBS.c.id == job_id))

    def writers(self) -> set[int]:
        """Servers with jobs that are not over."""
        with self._database.reading() as connection:
            found = connection.scalars(select(JOBS.c.writer).where(JOBS.c.state.in_(PENDING)).distinct())
            return {writer for writer in found if writer is not None}

    def break_off(self, writer: int) -> None:
        """Ends what a server that is gone left behind."""
        left = (JOBS.c.writer == writer) & JOBS.c.state.in_(PENDING)
        over = {"state": "failed", "error": BROKEN_OFF, "writer": None}
        with self._database.writing() as connection:
            connection.execute(update(JOBS).where(left).values(ended=datetime.now().astimezone(), **over))
