"""The recorded path: jobs in memory, and in the store where there is one; one of them is analysed at a time."""

import asyncio
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from operator import methodcaller
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event
from typing import Final, cast
from uuid import uuid4

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from affectline.models.errors import AffectlineError, CapacityError, StorageError
from affectline.pipelines.media import open_recording
from affectline.pipelines.mono import analyze_voices, find_voices_of
from affectline.pipelines.recorded import analyze_recording, film_cameras
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline
from affectline.protos.v1 import recordings_pb2, timeline_pb2
from affectline.protos.v1.recordings_pb2 import (
    JOB_STATE_CANCELLED,
    JOB_STATE_FAILED,
    JOB_STATE_QUEUED,
    JOB_STATE_RUNNING,
    JOB_STATE_SUCCEEDED,
    JobState,
)
from affectline.protos.v1.recordings_pb2_grpc import RecordingServiceServicer
from affectline.server import wire
from affectline.server.config import ServerConfig
from affectline.server.kept_sound import keep_sound
from affectline.server.services.keeper import Keeper
from affectline.server.services.sessions import (
    Context,
    MonoOpener,
    Opener,
    Sessions,
    StatusError,
    log_failure,
    receive,
    receive_config,
    statuses,
)
from affectline.server.store.calls import NotStoredError
from affectline.server.store.jobs import JobStore, StoredJob

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1_000
PROGRESS_STEP = 0.01
STATE_NAMES: Final = {
    JOB_STATE_QUEUED: "queued",
    JOB_STATE_RUNNING: "running",
    JOB_STATE_SUCCEEDED: "succeeded",
    JOB_STATE_FAILED: "failed",
    JOB_STATE_CANCELLED: "cancelled",
}

log = logging.getLogger("affectline.server")


class _CancelledError(Exception):
    """The job was stopped on request."""


@dataclass(slots=True)
class _Job:
    number: int
    """Counts up; pages are cut by it."""
    name: str
    request_id: str
    asked: str
    """Hash of everything that was asked for."""
    config: wire.RecordingConfig | None
    """None of a job of a server before this one; it is over."""
    path: Path
    id: str
    call_id: str
    """Id under which the call is kept; empty where none is."""
    state: JobState.ValueType = JOB_STATE_QUEUED
    progress: float = 0.0
    error: str = ""
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    timeline: list[timeline_pb2.Timeline] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set at the next change, and then replaced."""
    stop: Event = field(default_factory=Event)

    @property
    def pending(self) -> bool:
        return self.ended is None

    def update(self, state: JobState.ValueType, progress: float, error: str = "") -> None:
        if not self.pending:
            return
        self.state, self.progress, self.error = state, progress, error
        if state not in {JOB_STATE_QUEUED, JOB_STATE_RUNNING}:
            self.ended = datetime.now(UTC)
        self.changed.set()
        self.changed = asyncio.Event()

    def message(self) -> recordings_pb2.RecordingJob:
        message = recordings_pb2.RecordingJob(
            id=self.id,
            name=self.name,
            state=self.state,
            progress=self.progress,
            error=self.error,
            call_id=self.call_id,
            create_time=_timestamp(self.created),
        )
        if self.ended:
            message.end_time.CopyFrom(_timestamp(self.ended))
        return message


class RecordingService(RecordingServiceServicer):
    """`run` is the worker and has to run as a task; `close` deletes what was uploaded."""

    def __init__(self, sessions: Sessions, config: ServerConfig, keeper: Keeper, store: JobStore | None = None) -> None:
        """`store`: keeps jobs beyond the life of the server."""
        self._sessions = sessions
        self._config = config
        self._keeper = keeper
        self._kept_jobs = store
        self._jobs: dict[str, _Job] = {}
        self._count = 0
        self._uploads = 0
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="recording")
        self._folder = TemporaryDirectory(prefix="affectline-", dir=config.spool_dir, ignore_cleanup_errors=True)

    @property
    def pending(self) -> int:
        """Jobs that upload, wait or run."""
        return self._uploads + sum(job.pending for job in list(self._jobs.values()))

    def close(self) -> None:
        for job in self._jobs.values():
            job.stop.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._folder.cleanup()

    async def remember(self) -> None:
        """Takes up the jobs that are over of servers before this one. Raises StorageError."""
        if self._kept_jobs is None:
            return
        for stored in await asyncio.to_thread(self._kept_jobs.ended, self._config.max_jobs):
            self._count += 1
            self._jobs[stored.id] = _restored(stored, self._count)

    async def run(self) -> None:
        """Analyses the jobs one after the other, until cancelled."""
        while True:
            self._wake.clear()
            job = next((each for each in self._jobs.values() if each.state == JOB_STATE_QUEUED), None)
            if job is None:
                await self._wake.wait()
            else:
                await self._analyze(job)

    async def _analyze(self, job: _Job) -> None:
        loop = asyncio.get_running_loop()
        reported = 0.0

        def progress(share: float) -> None:
            nonlocal reported
            if job.stop.is_set():
                raise _CancelledError
            if share >= reported + PROGRESS_STEP:
                reported = share
                loop.call_soon_threadsafe(job.update, JOB_STATE_RUNNING, share)

        job.update(JOB_STATE_RUNNING, 0.0)
        await self._save(job)
        log.info("job %s began", job.id)
        try:
            assert job.config is not None, "a job of an earlier server is over"
            timeline = await loop.run_in_executor(
                self._thread, _analyze_recording, job.path, job.config, self._sessions.opener, progress
            )
            details = replace(job.config.details, id=job.call_id)
            notices = await self._keeper.keep(f"job {job.id}", details, timeline)
            if not any(notice.code == "not_stored" for notice in notices):
                await loop.run_in_executor(self._thread, self._keep_sound, job, timeline)
            timeline = replace(timeline, notices=(*timeline.notices, *notices))
            job.timeline = await loop.run_in_executor(self._thread, list, wire.timeline_parts(timeline))
        except _CancelledError:
            job.update(JOB_STATE_CANCELLED, job.progress)
        except AffectlineError as error:
            # The caller knows the file by another name than the one it is spooled under.
            text = str(error).replace(job.path.name, "the recording")
            job.update(JOB_STATE_FAILED, job.progress, text)
        except Exception as error:
            log_failure(f"job {job.id}", error)
            text = f"unexpected error; the server's log has it as job {job.id}"
            job.update(JOB_STATE_FAILED, job.progress, text)
        else:
            job.update(JOB_STATE_SUCCEEDED, 1.0)
        finally:
            job.path.unlink(missing_ok=True)
        await self._save(job)
        log.info("job %s ended: %s", job.id, JobState.Name(job.state))

    def _keep_sound(self, job: _Job, timeline: CallTimeline) -> None:
        """A folder that cannot be written costs no job."""
        if self._config.keep_recordings and self._config.web_media:
            try:
                keep_sound(self._config.web_media, job.call_id, open_recording(job.path), timeline)
            except AffectlineError as error:
                log.error("the sound of job %s was not kept: %s", job.id, error)
            except Exception as error:
                log_failure(f"keeping the sound of job {job.id}", error)

    async def CreateRecordingJob(self, _: object, context: Context) -> recordings_pb2.CreateRecordingJobResponse:
        async with statuses(context, "upload"):
            config = wire.read_recording_config(await receive_config(context, self._config.idle_timeout_s))
            job = self._repeated(config)
            if job is None:
                await self._keeper.check(config.details)
                job = await self._take(config, context)
        return recordings_pb2.CreateRecordingJobResponse(job=job.message())

    async def GetRecordingJob(
        self, request: recordings_pb2.GetRecordingJobRequest, context: Context
    ) -> recordings_pb2.GetRecordingJobResponse:
        async with statuses(context, "get"):
            job = self._find(request.id)
        return recordings_pb2.GetRecordingJobResponse(job=job.message())

    async def WatchRecordingJob(  # type: ignore[override]
        self, request: recordings_pb2.WatchRecordingJobRequest, context: Context
    ) -> None:
        async with statuses(context, "watch"):
            job = self._find(request.id)
            while True:
                changed, pending = job.changed, job.pending
                await context.write(recordings_pb2.WatchRecordingJobResponse(job=job.message()))
                if not pending:
                    break
                await changed.wait()

    async def GetRecordingTimeline(  # type: ignore[override]
        self, request: recordings_pb2.GetRecordingTimelineRequest, context: Context
    ) -> None:
        async with statuses(context, "timeline"):
            job = self._find(request.id)
            if job.state != JOB_STATE_SUCCEEDED:
                raise StatusError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"expected a job in {JobState.Name(JOB_STATE_SUCCEEDED)}, found {JobState.Name(job.state)}",
                )
            for part in job.timeline or await self._kept(job):
                await context.write(recordings_pb2.GetRecordingTimelineResponse(timeline=part))

    async def CancelRecordingJob(
        self, request: recordings_pb2.CancelRecordingJobRequest, context: Context
    ) -> recordings_pb2.CancelRecordingJobResponse:
        async with statuses(context, "cancel"):
            job = self._find(request.id)
            job.stop.set()
            if job.state == JOB_STATE_QUEUED:
                job.update(JOB_STATE_CANCELLED, 0.0)
                job.path.unlink(missing_ok=True)
                await self._save(job)
        return recordings_pb2.CancelRecordingJobResponse(job=job.message())

    async def ListRecordingJobs(
        self, request: recordings_pb2.ListRecordingJobsRequest, context: Context
    ) -> recordings_pb2.ListRecordingJobsResponse:
        async with statuses(context, "list"):
            if request.page_size < 0:
                problem = f"expected 0 to {MAX_PAGE_SIZE}, found {request.page_size}"
                raise wire.MessageError(("page_size", problem))
            if not re.fullmatch(r"[0-9]{0,18}", request.page_token):
                raise wire.MessageError(("page_token", "expected one given out by this server, found another"))
            after = int(request.page_token or 0)
            size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
            rest = [job for job in self._jobs.values() if job.number > after]
        page = rest[:size]
        return recordings_pb2.ListRecordingJobsResponse(
            jobs=[job.message() for job in page],
            next_page_token=str(page[-1].number) if len(rest) > size else "",
        )

    def _find(self, job_id: str) -> _Job:
        if job_id not in self._jobs:
            raise StatusError(grpc.StatusCode.NOT_FOUND, "expected the id of a job, found none with this one")
        return self._jobs[job_id]

    def _repeated(self, config: wire.RecordingConfig) -> _Job | None:
        """The job that was made with the same request id."""
        if not config.request_id:
            return None
        job = next((each for each in self._jobs.values() if each.request_id == config.request_id), None)
        if job and job.asked != _hash(config):
            raise StatusError(
                grpc.StatusCode.ALREADY_EXISTS,
                "expected the configuration that came with this request_id before, found another one",
            )
        return job

    async def _take(self, config: wire.RecordingConfig, context: Context) -> _Job:
        _ = self._sessions.opener
        if self.pending >= self._config.max_pending_jobs:
            raise CapacityError(
                f"expected at most {self._config.max_pending_jobs} recording jobs that wait or run, found one more"
            )
        path = Path(self._folder.name, uuid4().hex)
        self._uploads += 1
        try:
            await self._store(path, context)
            if job := self._repeated(config):  # the same upload came to its end on another stream
                path.unlink()
                return job
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        finally:
            self._uploads -= 1
        self._count += 1
        job_id = uuid4().hex
        call_id = (config.details.id or job_id) if self._keeper.keeps else ""
        job = _Job(self._count, config.name, config.request_id, _hash(config), config, path, job_id, call_id)
        forgotten = []
        while len(self._jobs) >= self._config.max_jobs:
            forgotten.append(next(each.id for each in self._jobs.values() if not each.pending))
            del self._jobs[forgotten[-1]]
        self._jobs[job.id] = job
        for oldest in forgotten:
            await self._run_store(methodcaller("forget", oldest))
        await self._save(job)
        self._wake.set()
        return job

    async def _save(self, job: _Job) -> None:
        stored = StoredJob(
            job.id,
            job.number,
            job.name,
            job.call_id,
            job.request_id,
            job.asked,
            STATE_NAMES[job.state],
            job.progress,
            job.error,
            job.created,
            job.ended,
        )
        await self._run_store(methodcaller("save", stored))

    async def _run_store(self, work: Callable[[JobStore], None]) -> None:
        """A store that fails costs no job."""
        if self._kept_jobs:
            try:
                await asyncio.to_thread(work, self._kept_jobs)
            except AffectlineError as error:
                log.error("the store of jobs fails: %s", error)

    async def _kept(self, job: _Job) -> list[timeline_pb2.Timeline]:
        """The timeline of a job that a server before this one did."""
        try:
            timeline = await self._keeper.timeline(job.call_id)
        except NotStoredError:
            expected = "expected the call of this job to be kept still, found that it was deleted"
            raise StatusError(grpc.StatusCode.NOT_FOUND, expected) from None
        return list(wire.timeline_parts(timeline))

    async def _store(self, path: Path, context: Context) -> None:
        size = 0
        try:
            with path.open("xb") as file:
                while (message := await receive(context, self._config.idle_timeout_s)) is not None:
                    if message.WhichOneof("step") != "data":
                        found = message.WhichOneof("step") or "nothing"
                        raise wire.MessageError(("data", f"expected the file's bytes, found {found}"))
                    size += len(message.data)
                    if size > self._config.max_upload_bytes:
                        expected = f"expected at most {self._config.max_upload_bytes} bytes, found more"
                        raise wire.MessageError(("data", expected))
                    await asyncio.to_thread(file.write, message.data)
        except TimeoutError:
            raise
        except OSError as error:
            raise StorageError(f"cannot store the recording: {error.strerror}") from error
        if not size:
            raise wire.MessageError(("data", "expected the file's bytes, found none"))


def _restored(stored: StoredJob, number: int) -> _Job:
    state = next(each for each, name in STATE_NAMES.items() if name == stored.state)
    return _Job(
        number,
        stored.name,
        stored.request_id,
        stored.config,
        None,
        Path(),
        stored.id,
        stored.call_id,
        state,
        stored.progress,
        stored.error,
        stored.created,
        stored.ended,
    )


def _hash(config: wire.RecordingConfig) -> str:
    return sha256(repr(config).encode()).hexdigest()


def _timestamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp


def _analyze_recording(
    path: Path,
    config: wire.RecordingConfig,
    opener: Opener,
    progress: Callable[[float], None],
) -> CallTimeline:
    recording = open_recording(path)
    if config.voices is not None:
        mono = replace(config.voices, rate_hz=recording.rate_hz)
        models = cast(MonoOpener, opener).models  # an Engine is both
        voices = find_voices_of(recording, mono, models, progress=lambda share: progress(0.0))
        return analyze_voices(recording, mono, voices, opener.open, progress)
    shows = config.video_participant
    cameras = () if config.ignore_video else film_cameras(recording, config.participants, shows)
    call = CallConfig(config.name, config.participants, recording.rate_hz, config.language, cameras=cameras)
    return analyze_recording(recording, call, opener.open, progress)
