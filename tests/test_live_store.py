"""Calls that are written while they run, and what is left of them and of jobs when a server dies."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import pytest

from affectline.models.errors import StorageError
from affectline.models.signals import Span
from affectline.pipelines.media import open_recording
from affectline.pipelines.outcomes import CallDetails, Outcome
from affectline.pipelines.session import CallConfig, ConsentChange
from affectline.pipelines.timeline import (
    CallTimeline,
    Moment,
    Output,
    Participant,
    Stage,
    SuggestionFeedback,
    Utterance,
)
from affectline.protos.v1 import recordings_pb2
from affectline.server.client import open_channel, stream_call
from affectline.server.engine import Engine
from affectline.server.store import live
from affectline.server.store.calls import CallStore, DamagedCallError, NotStoredError, StoredAlreadyError
from affectline.server.store.jobs import StoredJob
from affectline.server.store.journal import current_stages
from affectline.server.store.live import LiveWriter
from affectline.server.store.query import CallFilter, Queries
from affectline.server.store.tables import JOURNAL

from .sample_timeline import sample_timeline
from .test_call_store import place, rows  # noqa: F401 - fixture
from .test_grpc import (  # noqa: F401 - fixtures
    SECRET,
    Launch,
    LevelSession,
    config,
    create,
    launch,
    sound,
    timeline_of,
    until,
    watch,
    wav,
)

pytestmark = pytest.mark.integration

NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


@pytest.fixture
def store(place: str) -> Iterator[CallStore]:  # noqa: F811
    store = CallStore(place, customer_key=b"sixteen letters!")
    yield store
    store.close()


@contextmanager
def written_by(store: CallStore) -> Iterator[LiveWriter]:
    writer = LiveWriter(store)
    yield writer
    writer.close()


def outputs(timeline: CallTimeline, until_us: int) -> list[Output]:
    """What had come out of the call by then, in order."""
    items: list[tuple[int, Output]] = [(u.span.end_us, u) for u in timeline.utterances]
    items += [(m.span.end_us, m.as_live()) for m in timeline.moments]
    items += [(s.created_us, s) for s in timeline.suggestions]
    items += [(t.span.end_us, t) for t in timeline.speech]
    items += [(v.span.end_us, v) for v in timeline.vocal]
    items += [(s.span.start_us, s) for s in timeline.stages]
    return [item for at_us, item in sorted(items, key=lambda each: each[0]) if at_us <= until_us]


def test_a_running_call_is_in_the_store_as_far_as_it_is_known(store: CallStore) -> None:
    queries, sample = Queries(store), sample_timeline()
    details = CallDetails("a", NOON, "support", customer_reference="c-1")
    with written_by(store) as writer:
        call = writer.open(details, sample)
        writer.flush()
        (row,) = queries.list_calls(CallFilter(states=("running",))).rows
        assert (row.id, row.duration_s, row.labels, row.queue) == ("a", 0, (), "support")
        assert store.timeline("a").moments == ()
        seen: list[Output] = []
        for second in range(0, 70, 7):
            known = outputs(sample, second * 1_000_000)
            call.take([], known[len(seen) :], second * 1_000_000)
            seen = known
            writer.flush()
        writer.flush()
        (row,) = queries.list_calls(CallFilter(states=("running",), words="supervisor")).rows
        assert row.duration_s == 63
        assert row.alerts == 1
        assert row.last_suggestion == "Move to retention: the customer speaks of cancelling."
        assert "angry" in [each.label for each in row.labels]
        assert queries.list_calls(CallFilter(label="angry", stage="problem", label_min_s=5)).rows == (row,)
        timeline = store.timeline("a")
        assert list(timeline.moments) == sorted(
            (m for m in seen if isinstance(m, Moment)), key=lambda m: (m.span.start_us, m.participant)
        )
        assert list(timeline.utterances) == sorted(
            (u for u in seen if isinstance(u, Utterance)), key=lambda u: (u.span, u.participant)
        )
        assert timeline.participants == sample.participants
        assert timeline.models == sample.models
        assert timeline.duration_us == 63_000_000
        assert store.record_outcome("a", Outcome("escalated", 1))
        assert list(store.reviewed_calls()) == []
        with pytest.raises(StoredAlreadyError):
            store.add(CallDetails("a"), sample)
        writer.finish(details, sample)
        assert store.timeline("a") == sample
        (row,) = queries.list_calls().rows
        assert (row.state, row.duration_s, len(row.outcomes)) == ("finished", 186, 1)
        with store.database.reading() as connection:
            assert connection.execute(JOURNAL.select()).all() == []


def test_only_what_is_final_is_written_and_provisional_words_are_not(store: CallStore) -> None:
    sample = sample_timeline()
    with written_by(store) as writer:
        call = writer.open(CallDetails("a"), sample)
        draft = [
            replace(each, final=False) for each in outputs(sample, 20_000_000) if isinstance(each, Moment | Utterance)
        ]
        call.take([], draft, 20_000_000)
        writer.flush()
        timeline = store.timeline("a")
        assert (timeline.moments, timeline.utterances, timeline.duration_us) == ((), (), 20_000_000)


def test_consents_and_feedback_of_a_running_call_are_kept(place: str, store: CallStore) -> None:  # noqa: F811
    sample = sample_timeline()
    party, suggestion = sample.participants[0].id, sample.suggestions[0]
    with written_by(store) as writer:
        call = writer.open(CallDetails("a"), sample)
        feedback = SuggestionFeedback(suggestion.id, "corrected", 9, None, "say 555 123 4567")
        call.take([ConsentChange(party, "denied", None), feedback], [suggestion], 5_000_000)
        writer.flush()
        timeline = store.timeline("a")
        assert timeline.feedback[0].text == "say [PHONE]"
        assert next(p.consent for p in timeline.participants if p.id == party) == "denied"
        found = rows(place, "SELECT participant, state, at_us FROM consents ORDER BY id")
        assert found[-1] == (party, "denied", 5_000_000)
        assert len(found) == len(sample.participants) + 1
        writer.finish(CallDetails("a"), sample)
        assert rows(place, "SELECT participant, state, at_us FROM consents ORDER BY id") == found


def test_a_server_that_is_gone_leaves_its_calls_broken_off(store: CallStore) -> None:
    sample = sample_timeline()
    gone, other = LiveWriter(store), LiveWriter(store)
    for writer, name in ((gone, "a"), (other, "b")):
        writer.open(CallDetails(name), sample).take([], outputs(sample, 60_000_000), 60_000_000)
        writer.flush()
    with written_by(store) as writer:
        assert writer.recover() == []
        gone.close()  # as the system does when the process ends
        assert writer.recover() == ["a"]
        assert writer.recover() == []
    states = {row.id: row.state for row in Queries(store).list_calls().rows}
    assert states == {"a": "broken_off", "b": "running"}
    timeline = store.timeline("a")
    assert [notice.code for notice in timeline.notices] == ["broken_off"]
    assert timeline.duration_us == 60_000_000
    assert {m.span.end_us for m in timeline.moments} == {second * 1_000_000 for second in range(1, 61)}
    assert timeline.summary.lines
    assert timeline.scores
    other.close()


def test_a_lock_that_a_server_left_behind_is_tidied_up_and_that_of_a_running_one_is_not(tmp_path: Path) -> None:
    store = CallStore(str(tmp_path / "calls.db"))
    left = tmp_path / "calls.db.writer-abc.lock"
    (tmp_path / "calls.db.writer-none.lock").touch()
    left.touch()
    with written_by(store) as writer, written_by(store) as other:
        assert writer.recover() == []
        assert left.exists()  # it may be just being taken
        for each in tmp_path.glob("*.lock"):
            os.utime(each, (0, 0))
        assert writer.recover() == []
        assert not left.exists()
        other.open(CallDetails("a"), sample_timeline())
        other.flush()
        assert writer.recover() == []
        assert len(list(tmp_path.glob("*.writer-*.lock"))) == 3
    store.close()


def test_a_damaged_journal_ends_the_call_and_says_so(store: CallStore) -> None:
    sample = sample_timeline()
    gone = LiveWriter(store)
    for name in "ab":
        gone.open(CallDetails(name), sample).take([], outputs(sample, 60_000_000), 60_000_000)
    gone.flush()
    gone.close()
    with store.database.writing() as connection:
        damaged = (JOURNAL.c.call_id == "a") & (JOURNAL.c.number == 1)
        connection.execute(JOURNAL.update().where(damaged).values(data=b"\x1f\x8bnonsense"))
    with written_by(store) as writer:
        assert writer.recover() == ["b"]
    assert {row.id: row.state for row in Queries(store).list_calls().rows} == dict.fromkeys("ab", "broken_off")
    with pytest.raises(DamagedCallError):
        store.timeline("a")


def test_a_stage_that_is_told_anew_replaces_what_followed() -> None:
    def stage(number: int, name: str, start: int, end: int) -> Stage:
        return Stage(f"s-{number}", name, Span(start, end), 0.9, ())  # type: ignore[arg-type]

    told = [
        stage(0, "greeting", 0, 5),
        stage(1, "problem", 5, 9),
        stage(2, "closing", 9, 12),
        stage(1, "resolution", 5, 14),
    ]
    assert current_stages(told) == (told[0], told[3])


def test_a_store_that_fails_for_a_while_loses_nothing(store: CallStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = sample_timeline()
    with written_by(store) as writer:
        call = writer.open(CallDetails("a"), sample)
        real, failing = store.database.writing, True

        @contextmanager
        def writing() -> Iterator[object]:
            with real() as connection:
                yield connection
                if failing:
                    raise StorageError("the disk is full")

        monkeypatch.setattr(store.database, "writing", writing)
        for second in (10, 20, 30):
            known = outputs(sample, second * 1_000_000)
            call.take([], known[len(outputs(sample, (second - 10) * 1_000_000)) :], second * 1_000_000)
            with pytest.raises(StorageError):
                writer.flush()
        failing = False
        writer.flush()
        assert {m.span.end_us for m in store.timeline("a").moments} == {s * 1_000_000 for s in range(1, 31)}


def test_a_call_that_ends_while_the_store_fails_is_stored_later(
    store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = sample_timeline()
    with written_by(store) as writer:
        writer.open(CallDetails("a"), sample).take([], outputs(sample, 60_000_000), 60_000_000)
        writer.flush()
        real = store.add

        def failing(*_: object, **__: object) -> None:
            raise StorageError("the disk is full")

        monkeypatch.setattr(store, "add", failing)
        with pytest.raises(StorageError):
            writer.finish(CallDetails("a"), sample)
        with pytest.raises(StorageError):
            writer.flush()
        assert Queries(store).call("a").state == "running"
        monkeypatch.setattr(store, "add", real)
        writer.flush()
        assert Queries(store).call("a").state == "finished"
        assert store.timeline("a") == sample


def test_a_call_that_can_never_be_stored_holds_no_other_one_up(
    store: CallStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_TRIES", 3)
    sample = sample_timeline()
    twice = replace(sample, suggestions=(sample.suggestions[0],) * 2)  # two rows of one key
    with written_by(store) as writer:
        for name in "ab":
            writer.open(CallDetails(name), sample).take([], outputs(sample, 60_000_000), 60_000_000)
        writer.flush()
        other = writer.open(CallDetails("c"), sample)
        with pytest.raises(StorageError):
            writer.finish(CallDetails("a"), twice)
        for second in (10, 20):
            other.take([], [], second * 1_000_000)
            with pytest.raises(StorageError):
                writer.flush()
            assert store.timeline("c").duration_us == second * 1_000_000
        writer.flush()
        writer.finish(CallDetails("b"), sample)
        assert [Queries(store).call(name).state for name in "abc"] == ["broken_off", "finished", "running"]
        assert store.timeline("a").duration_us == 60_000_000


def test_another_call_of_the_same_id_costs_the_others_nothing(store: CallStore) -> None:
    sample = sample_timeline()
    store.add(CallDetails("a"), sample)
    with written_by(store) as writer:
        for name in "ab":
            writer.open(CallDetails(name), sample).take([], outputs(sample, 10_000_000), 10_000_000)
        writer.flush()
        writer.flush()
        assert store.timeline("a") == sample
        assert store.timeline("b").duration_us == 10_000_000
        with pytest.raises(StoredAlreadyError):
            writer.finish(CallDetails("a"), sample)


def test_readers_and_writers_do_not_hold_each_other_up(store: CallStore) -> None:
    """Lists and searches run all the time while running calls are written and finished ones come in."""
    sample, queries, stop = sample_timeline(), Queries(store), threading.Event()
    wrong: list[BaseException] = []

    def read() -> None:
        while not stop.is_set():
            try:
                for row in queries.list_calls(CallFilter(words="supervisor")).rows:
                    assert row.alerts  # a row and what is searched of it are of one moment
                queries.search("cancel")
                queries.aggregate(by="queue")
            except BaseException as error:
                wrong.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    with written_by(store) as writer:
        calls = [writer.open(CallDetails(f"r{number}"), sample) for number in range(5)]
        known: list[Output] = []
        for second in range(4, 100, 4):
            fresh = outputs(sample, second * 1_000_000)
            for call in calls:
                call.take([], fresh[len(known) :], second * 1_000_000)
            known = fresh
            writer.flush()
            store.add(CallDetails(f"f{second}"), sample)
        for call in calls:
            writer.finish(call.details, sample)
    stop.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert queries.list_calls(CallFilter(states=("finished",))).total == 5 + 24


def test_taking_in_what_came_out_costs_a_call_no_time(store: CallStore) -> None:
    """Even while another process holds the database."""
    sample = sample_timeline()
    with written_by(store) as writer:
        call = writer.open(CallDetails("a"), sample)
        with store.database.writing():
            flushing = threading.Thread(target=writer.flush)
            flushing.start()
            time.sleep(0.2)
            started = time.thread_time()
            call.take([], outputs(sample, 60_000_000), 60_000_000)
            assert time.thread_time() - started < 0.05
        flushing.join()
        writer.flush()
        assert store.timeline("a").duration_us == 60_000_000


def test_old_calls_are_deleted_whole(place: str, store: CallStore) -> None:  # noqa: F811
    for days in range(6):
        store.add(CallDetails(f"c{days}", NOON - timedelta(days=days)), sample_timeline())
        store.record_outcome(f"c{days}", Outcome("csat", 3))
    told: list[int] = []
    before = NOON - timedelta(days=2)
    assert store.older(before) == 3
    assert store.prune(before, told.append) == 3
    assert told == [3]
    queries = Queries(store)
    assert [row.id for row in queries.list_calls().rows] == ["c0", "c1", "c2"]
    assert {hit.call_id for hit in queries.search("supervisor").hits} == {"c0", "c1", "c2"}
    for table in (
        "timelines",
        "moments",
        "utterances",
        "feelings",
        "stages",
        "suggestions",
        "outcomes",
        "participants",
    ):
        assert rows(place, f"SELECT count(DISTINCT call_id) FROM {table}") == [(3,)]
    assert store.prune(before) == 0


def test_a_running_call_is_not_deleted(store: CallStore) -> None:
    with written_by(store) as writer:
        writer.open(CallDetails("a", NOON), sample_timeline())
        writer.flush()
        assert store.prune(NOON + timedelta(days=900)) == 0
        assert store.holds("a")


def test_what_was_deleted_is_not_in_the_file_any_more(tmp_path: Path) -> None:
    store = CallStore(str(tmp_path / "calls.db"))
    timeline = sample_timeline()
    said = replace(timeline.utterances[0], text="the sesquipedalian router")
    store.add(CallDetails("a", NOON), replace(timeline, utterances=(said,)))
    store.add(CallDetails("b", NOON + timedelta(days=9)), timeline)
    store.prune(NOON + timedelta(days=1))
    store.close()  # the last connection puts the log into the file
    assert b"sesquipedalian" not in (tmp_path / "calls.db").read_bytes()
    assert not (tmp_path / "calls.db-wal").exists()


# Servers


async def test_jobs_of_a_server_before_this_one_can_be_asked_for(
    launch: Launch,  # noqa: F811
    tmp_path: Path,
    wav: Path,  # noqa: F811
) -> None:
    path = str(tmp_path / "calls.db")

    def spool() -> Path:
        folder = tmp_path / f"spool-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        return folder

    first = await launch(store=path, spool_dir=spool())
    job = await create(first, wav, request_id="r-1")
    *_, last = await watch(first, job.id)
    whole = await timeline_of(first, job.id)
    await until(lambda: rows(path, "SELECT state FROM jobs") == [("succeeded",)])  # written once it is told
    second = await launch(store=path, spool_dir=spool())
    found = (await second.recordings.GetRecordingJob(recordings_pb2.GetRecordingJobRequest(id=job.id))).job
    assert found == last
    assert await timeline_of(second, job.id) == whole
    assert (await create(second, wav, request_id="r-1")).id == job.id
    with pytest.raises(grpc.RpcError) as error:
        await create(second, wav, request_id="r-1", name="another")
    assert error.value.code() == grpc.StatusCode.ALREADY_EXISTS
    listed = (await second.recordings.ListRecordingJobs(recordings_pb2.ListRecordingJobsRequest())).jobs
    assert [each.id for each in listed] == [job.id]
    new = await create(second, wav, request_id="r-2")
    assert [message.state for message in await watch(second, new.id)][-1] == recordings_pb2.JOB_STATE_SUCCEEDED
    await until(lambda: rows(path, "SELECT DISTINCT state FROM jobs") == [("succeeded",)])
    CallStore(path).prune(datetime.now(UTC) + timedelta(days=1))
    third = await launch(store=path, spool_dir=spool())
    assert not (await third.recordings.ListRecordingJobs(recordings_pb2.ListRecordingJobsRequest())).jobs


async def test_a_job_that_ran_when_its_server_died_says_that_it_was_broken_off(
    launch: Launch,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "calls.db")
    store = CallStore(path)
    gone = LiveWriter(store)
    gone.jobs.save(StoredJob("j", 1, "a call", "j", "", "x", "running", 0.4, "", NOON, None))
    gone.close()
    running = await launch(store=path)
    request = recordings_pb2.GetRecordingJobRequest(id="j")
    job = (await running.recordings.GetRecordingJob(request)).job
    assert (job.state, job.progress) == (recordings_pb2.JOB_STATE_FAILED, pytest.approx(0.4))
    assert "broken off" in job.error
    store.close()


async def test_old_calls_go_when_the_server_starts(launch: Launch, tmp_path: Path) -> None:  # noqa: F811
    path = str(tmp_path / "calls.db")
    store = CallStore(path)
    for days in (10, 40):
        store.add(CallDetails(f"c{days}", datetime.now(UTC) - timedelta(days=days)), sample_timeline())
    for name in ("c10.kept.ogg", "c40.kept.ogg", "c40.wav"):
        (tmp_path / name).touch()
    await launch(store=path, retention_days=30, web_media=tmp_path)
    assert store.holds("c10")
    assert not store.holds("c40")
    assert sorted(each.name for each in tmp_path.glob("c*.*") if "calls" not in each.name) == [
        "c10.kept.ogg",
        "c40.wav",
    ]
    store.close()


async def test_a_live_call_is_seen_while_it_runs(launch: Launch, tmp_path: Path) -> None:  # noqa: F811
    path = str(tmp_path / "calls.db")
    running = await launch(store=path)
    stream = running.analyze()
    await stream.write(config())
    for _ in range(3):
        await stream.write(sound())
    store = CallStore(path)
    queries = Queries(store)
    await until(lambda: any(row.duration_s >= 3 for row in queries.list_calls(CallFilter(states=("running",))).rows))
    (row,) = queries.list_calls().rows
    assert len(store.timeline(row.id).moments) == 6
    await stream.done_writing()
    async for _ in stream:
        pass
    assert queries.call(row.id).state == "finished"
    store.close()


class NeverDone(LevelSession):
    """Fails where it should come to its end."""

    def finish(self) -> list[Output]:
        raise RuntimeError(SECRET)


async def test_a_call_that_cannot_come_to_its_end_is_kept_as_far_as_it_came(
    launch: Launch,  # noqa: F811
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = str(tmp_path / "calls.db")
    running = await launch(NeverDone, store=path)
    stream = running.analyze(iter([config(), sound(), sound()]))
    with pytest.raises(grpc.aio.AioRpcError, match="INTERNAL"):
        async for _ in stream:
            pass
    store = CallStore(path)
    queries = Queries(store)
    await until(lambda: [row.state for row in queries.list_calls().rows] == ["broken_off"])
    (row,) = queries.list_calls().rows
    assert len(store.timeline(row.id).moments) == 4
    assert SECRET not in caplog.text
    store.close()


class Process:
    """A server in a process of its own, with the real models."""

    def __init__(self, store: str) -> None:
        settings = {"AFFECTLINE_STORE": store, "AFFECTLINE_LISTEN": "127.0.0.1:0", "PYTHONPATH": ".pkgroot"}
        command = [sys.executable, "-m", "affectline.server.main"]
        folder = Path(__file__).parents[1]
        self.log = ""
        self._process = subprocess.Popen(
            command, cwd=folder, env=os.environ | settings, stderr=subprocess.PIPE, text=True
        )

    def wait_for(self, pattern: str) -> re.Match[str]:
        assert self._process.stderr is not None
        while not (found := re.search(pattern, self.log)):
            line = self._process.stderr.readline()
            assert line, self.log
            self.log += line
        return found

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        assert self._process.stderr is not None
        self._process.stderr.close()


@pytest.mark.integration
async def test_a_server_killed_in_a_live_call_leaves_it_to_the_last_second(
    engine: Engine, tmp_path: Path, example: Path
) -> None:
    """`kill -9`: what the caller had been told a flush before is in the store once the next server has begun."""
    path = str(tmp_path / "calls.db")
    server = Process(path)
    told: list[tuple[float, Output]] = []
    try:
        port = await asyncio.to_thread(server.wait_for, r"listening on 127\.0\.0\.1:(\d+)")
        await asyncio.to_thread(server.wait_for, "ready")
        recording = open_recording(example)
        parties = (Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))
        call_config = CallConfig("killed", parties, recording.rate_hz)

        async def listen() -> None:
            async with open_channel(f"127.0.0.1:{port[1]}") as channel:
                with suppress(Exception):
                    async for item in stream_call(channel, recording, call_config, speed=8):
                        told.append((time.monotonic(), item))  # type: ignore[arg-type]

        listening = asyncio.create_task(listen())
        async with asyncio.timeout(120):
            while sum(isinstance(item, Utterance) and item.final for _, item in told) < 4:
                await asyncio.sleep(0.1)
        await asyncio.sleep(3)  # the call goes on
        killed_s = time.monotonic()
    finally:
        server.kill()
    await listening
    store = CallStore(path)
    assert [row.state for row in Queries(store).list_calls().rows] == ["running"]
    again = Process(path)
    try:
        await asyncio.to_thread(again.wait_for, "listening")
        (row,) = Queries(store).list_calls().rows
        assert (row.state, row.name) == ("broken_off", "killed")
        timeline = store.timeline(row.id)
    finally:
        again.kill()
    sure = [item for at_s, item in told if at_s < killed_s - 2.5]  # a flush a second, and the machine may be busy
    utterances = [item for item in sure if isinstance(item, Utterance) and item.final]
    moments = [item for item in sure if isinstance(item, Moment) and item.final]
    assert len(moments) > 5
    assert utterances
    assert set(utterances) <= set(timeline.utterances)
    assert {m.id for m in moments} <= {m.id for m in timeline.moments}
    assert [notice.code for notice in timeline.notices][-1] == "broken_off"
    assert timeline.summary.lines
    assert timeline.models["recogniser"].startswith("whisper")
    with pytest.raises(NotStoredError):
        store.timeline("another")
    store.close()
