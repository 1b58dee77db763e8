"""Calls kept by a server, feedback and outcomes over gRPC and from files, and what they teach."""

import io
import json
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from rich.console import Console
from typer.testing import CliRunner

from affectline.models.errors import StorageError
from affectline.pipelines.associations import Call, associate
from affectline.pipelines.outcomes import CallDetails, Outcome
from affectline.pipelines.timeline import CallTimeline
from affectline.protos.v1 import calls_pb2, recordings_pb2, timeline_pb2
from affectline.protos.v1.calls_pb2_grpc import CallServiceStub
from affectline.server import cli, learning_cli
from affectline.server.insights import Insights, render_insights_html, render_insights_terminal, to_figures
from affectline.server.store.calls import CallStore, PolicyFeedback

from .sample_timeline import empty_timeline, sample_timeline
from .test_grpc import (  # noqa: F401 - fixtures
    SECRET,
    Launch,
    LevelSession,
    Running,
    chat,
    codes,
    config,
    create,
    details,
    launch,
    sound,
    talk,
    timeline_of,
    until,
    watch,
    wav,
    write_to,
)

pytestmark = pytest.mark.integration


class SampleSession(LevelSession):
    """Ends in the sample call, whatever it heard."""

    def timeline(self) -> CallTimeline:
        return sample_timeline()


@pytest.fixture
def place(tmp_path: Path) -> str:
    return str(tmp_path / "calls.db")


def kept(place: str) -> CallStore:
    return CallStore(place)


async def call(running: Running, **fields: Any) -> str:
    """Runs one call, and gives the id under which it is kept."""
    message = config(details=calls_pb2.CallDetails(**fields))
    stream = running.analyze(iter([message, sound()]))
    header = dict(await stream.initial_metadata())
    async for _ in stream:
        pass
    return str(header["affectline-call-id"])


async def test_a_finished_call_is_kept_with_its_details(launch: Launch, place: str) -> None:  # noqa: F811
    running = await launch(store=place, customer_key="a key of sixteen")
    named = await call(running, id="pbx/7", queue="support", product="dsl", agent_group="n", customer_reference="c-1")
    other = await call(running)
    assert named == "pbx/7"
    store = kept(place)
    timeline = store.timeline(named)
    assert (timeline.name, len(timeline.moments)) == ("a call", 2)
    assert store.holds(other)
    assert len(other) == 32
    store.close()


async def test_a_call_whose_caller_is_gone_is_kept_up_to_then(launch: Launch, place: str) -> None:  # noqa: F811
    running = await launch(store=place)
    stream = running.analyze()
    await stream.write(config(details=calls_pb2.CallDetails(id="lost")))
    await stream.write(sound())
    await stream.read()
    stream.cancel()
    store = kept(place)
    await until(lambda: store.holds("lost"))
    timeline = store.timeline("lost")
    assert [notice.code for notice in timeline.notices] == ["broken_off"]
    assert timeline.moments
    store.close()


async def test_a_call_that_falls_silent_is_kept_up_to_then(launch: Launch, place: str) -> None:  # noqa: F811
    running = await launch(store=place, idle_timeout_s=0.3)
    stream = running.analyze()
    await stream.write(config(details=calls_pb2.CallDetails(id="silent")))
    await stream.write(sound())
    with pytest.raises(grpc.aio.AioRpcError) as error:
        async for _ in stream:
            pass
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    await running.server.analyze.drain()
    store = kept(place)
    assert [notice.code for notice in store.timeline("silent").notices] == ["broken_off"]
    store.close()


async def test_without_a_store_nothing_is_kept_and_nothing_said(launch: Launch) -> None:  # noqa: F811
    running = await launch()
    stream = running.analyze(iter([config(details=calls_pb2.CallDetails(customer_reference="c-1"))]))
    assert "affectline-call-id" not in dict(await stream.initial_metadata())
    assert not codes(await talk(running, config()))
    with pytest.raises(grpc.aio.AioRpcError, match="setting `store`") as error:
        await CallServiceStub(running.channel).GetFeedbackCounts(calls_pb2.GetFeedbackCountsRequest())
    assert error.value.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_an_id_that_was_used_is_refused_before_the_call(launch: Launch, place: str) -> None:  # noqa: F811
    running = await launch(store=place)
    await call(running, id="a")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call(running, id="a")
    assert error.value.code() == grpc.StatusCode.ALREADY_EXISTS


async def test_chats_and_recordings_are_kept_too(launch: Launch, place: str, wav: Path) -> None:  # noqa: F811
    running = await launch(store=place)
    request = chat(("caller", "Hello.", 0))
    request.details.id = "chat-1"
    written = await write_to(running, request)
    jobs = [await create(running, wav), await create(running, wav, details=calls_pb2.CallDetails(id="rec-1"))]
    for job in jobs:
        await watch(running, job.id)
    assert [job.call_id for job in jobs] == [jobs[0].id, "rec-1"]
    store = kept(place)
    assert store.timeline("chat-1") == written
    assert store.timeline("rec-1") == await timeline_of(running, jobs[1].id)
    assert store.holds(jobs[0].id)
    store.close()
    with pytest.raises(grpc.RpcError) as error:
        await create(running, wav, details=calls_pb2.CallDetails(id="rec-1"))
    assert error.value.code() == grpc.StatusCode.ALREADY_EXISTS


@pytest.mark.parametrize("failure", [StorageError("the disk is full"), RuntimeError(SECRET)])
async def test_a_store_that_fails_costs_no_reply(
    launch: Launch,  # noqa: F811
    place: str,
    wav: Path,  # noqa: F811
    failure: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    running = await launch(store=place)

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(running.server.store, "add", fail)
    *replies, timeline = await talk(running, config(), sound())
    assert isinstance(timeline, CallTimeline)
    assert codes(replies) == [notice.code for notice in timeline.notices] == ["not_stored"]
    assert len(timeline.moments) == 2
    job = await create(running, wav)
    assert (await watch(running, job.id))[-1].state == recordings_pb2.JOB_STATE_SUCCEEDED
    assert [notice.code for notice in (await timeline_of(running, job.id)).notices] == ["not_stored"]
    assert [n.code for n in (await write_to(running, chat(("caller", "Hello.", 0)))).notices] == ["not_stored"]
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(errors) == 3
    assert SECRET not in caplog.text


async def test_a_reference_without_a_key_is_told_not_to_be_kept(launch: Launch, place: str) -> None:  # noqa: F811
    running = await launch(store=place)
    replies = await talk(running, config(details=calls_pb2.CallDetails(customer_reference="c-1")))
    assert codes(replies) == ["customer_not_kept"]
    assert b"c-1" not in Path(place).read_bytes()


async def test_bad_details_name_the_field(launch: Launch, place: str) -> None:  # noqa: F811
    running = await launch(store=place)
    bad = calls_pb2.CallDetails(id="a b", queue="x" * 129, product="a\0b", start_time=Timestamp(seconds=-5))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await talk(running, config(details=bad))
    fields = [each.field for each in details(error.value, error_details_pb2.BadRequest).field_violations]
    assert fields == [f"config.details.{name}" for name in ("id", "queue", "product", "start_time")]


def outcome(call_id: str = "a", **fields: Any) -> calls_pb2.RecordOutcomeRequest:
    return calls_pb2.RecordOutcomeRequest(**{"call_id": call_id, "kind": calls_pb2.OUTCOME_KIND_CSAT, **fields})


def feedback(suggestion: str = "s0", **fields: Any) -> calls_pb2.RecordFeedbackRequest:
    given = {"call_id": "a", "suggestion_id": suggestion, "verdict": timeline_pb2.VERDICT_ACCEPTED, **fields}
    return calls_pb2.RecordFeedbackRequest(**given)


async def test_outcomes_and_feedback_are_recorded_once_and_counted(launch: Launch, place: str) -> None:  # noqa: F811
    running = await launch(SampleSession, store=place)
    calls = CallServiceStub(running.channel)
    await call(running, id="a")
    noon = datetime(2026, 5, 3, 12, tzinfo=UTC)
    at = Timestamp()
    at.FromDatetime(noon)
    assert [(await calls.RecordOutcome(outcome(score=2, at=at))).recorded for _ in range(2)] == [True, False]
    assert (await calls.RecordOutcome(outcome(score=4))).recorded
    resolved = outcome(kind=calls_pb2.OUTCOME_KIND_RESOLVED, happened=False)
    assert (await calls.RecordOutcome(resolved)).recorded
    assert [(await calls.RecordFeedback(feedback())).recorded for _ in range(2)] == [True, False]
    wrong = feedback(
        "s1", verdict=timeline_pb2.VERDICT_CORRECTED, correction="apologise", note="ask ann.lee@example.org"
    )
    assert (await calls.RecordFeedback(wrong)).recorded
    counts = (await calls.GetFeedbackCounts(calls_pb2.GetFeedbackCountsRequest())).counts
    assert list(counts) == [
        calls_pb2.FeedbackCounts(policy="defaults@1.0.0", suggested=5, accepted=1, dismissed=0, corrected=1)
    ]
    store = kept(place)
    history = store.outcome_history("a")
    assert [(o.kind, o.value) for o in history] == [("csat", 2), ("csat", 4), ("resolved", 0)]
    assert history[0].at == noon
    assert store.feedback_history("a")[1].note == "ask [EMAIL]"
    store.close()


@pytest.mark.parametrize("request_", [outcome("b", score=3), feedback(call_id="b"), feedback("s99")])
async def test_unknown_calls_and_suggestions_are_not_found(launch: Launch, place: str, request_: Any) -> None:  # noqa: F811
    running = await launch(SampleSession, store=place)
    await call(running, id="a")
    stub = CallServiceStub(running.channel)
    send = stub.RecordOutcome if isinstance(request_, calls_pb2.RecordOutcomeRequest) else stub.RecordFeedback
    with pytest.raises(grpc.aio.AioRpcError, match="expected the id of a") as error:
        await send(request_)
    assert error.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (outcome(""), "call_id"),
        (outcome(score=3, kind=0), "kind"),
        (outcome(score=3, kind=99), "kind"),
        (outcome(score=0), "score"),
        (outcome(score=6), "score"),
        (outcome(), "score"),
        (outcome(happened=True), "score"),
        (outcome(kind=calls_pb2.OUTCOME_KIND_NPS, score=11), "score"),
        (outcome(kind=calls_pb2.OUTCOME_KIND_CHURNED, score=1), "happened"),
        (outcome(score=3, at=Timestamp(seconds=2**40)), "at"),
        (outcome(score=3, at=Timestamp(nanos=-1)), "at"),
        (feedback(""), "suggestion_id"),
        (feedback(verdict=0), "verdict"),
        (feedback(verdict=timeline_pb2.VERDICT_CORRECTED), "correction"),
        (feedback(correction="x"), "correction"),
        (feedback(note="x" * 4001), "note"),
        (feedback(note="\0"), "note"),
    ],
)
async def test_bad_requests_name_the_field(launch: Launch, place: str, request_: Any, field: str) -> None:  # noqa: F811
    running = await launch(store=place)
    stub = CallServiceStub(running.channel)
    send = stub.RecordOutcome if isinstance(request_, calls_pb2.RecordOutcomeRequest) else stub.RecordFeedback
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await send(request_)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = details(error.value, error_details_pb2.BadRequest).field_violations
    assert violation.field == field


def test_a_store_that_cannot_be_had_is_named_before_anything_listens(tmp_path: Path) -> None:
    code = "from affectline.server.main import main; main(None)"
    environment = {"AFFECTLINE_STORE": str(tmp_path / "none/calls.db"), "PATH": "/usr/bin"}
    path = {"PYTHONPATH": str(Path(__file__).parents[1] / ".pkgroot")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment | path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: expected a file in a folder that exists for the store")


# Command line


Run = Callable[..., Any]


@pytest.fixture
def run(place: str) -> Run:
    store = kept(place)
    store.add(CallDetails("a.wav"), sample_timeline())
    store.add(CallDetails("b.wav"), empty_timeline())
    store.close()

    def run(*arguments: object) -> Any:
        return CliRunner().invoke(cli.app, [*map(str, arguments), "--store", place], env={"COLUMNS": "100"})

    return run


def test_outcomes_are_imported_and_every_bad_line_is_told(run: Run, tmp_path: Path, place: str) -> None:
    file = tmp_path / "outcomes.csv"
    lines = [
        "\ufeffKind,call,value,at",
        "CSAT,a.wav,2,2026-05-03T10:00:00Z",
        "resolved,b.wav,no,",
        "csat,a.wav,6,",
        "nps,a.wav,often,",
        "happy,a.wav,1,",
        "",
        "csat,c.wav,3,",
        "csat,a.wav,4,yesterday",
        "csat,a.wav,4,0001-01-01",
        "csat,,4,",
        "nps,a.wav",
        'churned,"b.wav",TRUE,',
        "nps,b.wav,\udcff\0,",
        f'nps,"{"x" * 200_000}",3,',
        "escalated,b.wav,0,",
    ]
    file.write_text("\n".join(lines), encoding="utf-8", errors="surrogateescape")
    done = run("outcomes", "import", file)
    assert done.exit_code == 1
    assert done.stdout == "4 recorded, 0 known already, 10 left out\n"
    told = dict(line.split(": ", 1) for line in done.stderr.splitlines())
    assert list(told) == [f"line {number}" for number in (4, 5, 6, 8, 9, 10, 11, 12, 14, 15)]
    assert told["line 4"] == "expected a whole number of 1 to 5 for csat, found 6"
    assert told["line 5"].startswith("expected a whole number of 0 to 10 for nps")
    assert told["line 6"].startswith("expected a kind of csat, nps, resolved, churned, escalated; found 'happy'")
    assert told["line 9"] == "expected a time in ISO 8601, or none; found 'yesterday'"
    assert told["line 8"].startswith("expected the id of a stored call")
    store = kept(place)
    history = [(o.kind, o.value) for o in store.outcome_history("b.wav")]
    assert history == [("resolved", 0), ("churned", 1), ("escalated", 0)]
    store.close()
    assert run("outcomes", "import", file).stdout == "0 recorded, 4 known already, 10 left out\n"


def test_a_file_of_good_lines_ends_well(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_text("call,kind,value\na.wav,nps,9\n")
    done = run("outcomes", "import", file)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "1 recorded, 0 known already, 0 left out\n", "")


@pytest.mark.parametrize("content", ["", "call;kind;value\na;csat;3\n", "a.wav,csat,3\n"])
def test_another_table_is_refused(run: Run, tmp_path: Path, content: str) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_text(content)
    done = run("outcomes", "import", file)
    assert done.exit_code == 1
    assert "expected a first line with call, kind, value" in done.stderr


def test_feedback_is_shown_by_policy(run: Run, place: str) -> None:
    from affectline.pipelines.outcomes import Feedback

    store = kept(place)
    store.record_feedback("a.wav", Feedback("s0", "accepted"))
    assert store.feedback_counts() == [PolicyFeedback("defaults@1.0.0", 5, 1, 0, 0)]
    store.close()
    lines = [line.split() for line in run("feedback").stdout.splitlines()]
    assert lines[0] == ["policy", "suggested", "accepted", "dismissed", "corrected", "no", "answer"]
    assert lines[1] == ["defaults@1.0.0", "5", "1", "0", "0", "4"]


def test_a_policys_name_is_not_read_as_markup(run: Run, place: str) -> None:
    store = kept(place)
    call = sample_timeline()
    odd = replace(call, suggestions=(replace(call.suggestions[0], policy="[/odd]@1"),), feedback=())
    store.add(CallDetails("odd"), odd)
    store.close()
    assert "[/odd]@1" in run("feedback").stdout


def test_without_calls_the_next_step_is_told(tmp_path: Path) -> None:
    store = tmp_path / "new.db"
    done = CliRunner().invoke(cli.app, ["feedback", "--store", str(store)])
    assert (done.exit_code, done.stderr) == (1, f"affectline: expected a store at {store}, found none\n")
    assert not store.exists()
    kept(str(store)).close()
    done = CliRunner().invoke(cli.app, ["insights", "outcomes", "--store", str(store)])
    assert "record some with `affectline outcomes import`" in " ".join(done.stdout.split())
    assert (
        "No stored call has a suggestion yet."
        in CliRunner().invoke(cli.app, ["feedback", "--store", str(store)]).stdout
    )


def test_a_file_that_is_no_store_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("nothing of the kind " * 100)
    done = CliRunner().invoke(cli.app, ["feedback", "--store", str(tmp_path / "x")])
    assert (done.exit_code, done.stderr) == (1, "affectline: the store cannot be opened: file is not a database\n")


def test_a_file_that_cannot_be_kept_costs_no_result(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    keep = learning_cli.Keeper(place)
    with sqlite3.connect(place) as connection:
        connection.execute("DROP TABLE calls")
    connection.close()
    keep("a.wav", sample_timeline())
    assert "affectline: a.wav was not stored: the store cannot be written: no such table" in capsys.readouterr().err
    with pytest.raises(typer.Exit):
        keep.done()


# Insights


HOSTILE = "<script>alert(1)</script>$name"


def reviewed(few: bool = False) -> list[Call]:
    found = []
    for number in range(80):
        angry = number < (3 if few else 20)
        bad = number % 10 < (7 if angry else 1)
        features = {
            "the customer sounded angry for 20 s or more during identification": angry,
            "x < y": number // 10 % 2 == 0,
        }
        found.append(Call(f"{HOSTILE}-{number}", features, [Outcome("resolved", float(not bad))]))
    return found


def insights(calls: Sequence[Call]) -> Insights:
    return Insights.of(calls, associate(calls), 5)


def shown(found: Insights) -> str:
    file = io.StringIO()
    render_insights_terminal(found, Console(file=file, width=80))
    assert max(map(len, file.getvalue().splitlines())) <= 80
    return " ".join(file.getvalue().split())


def test_the_terminal_tells_findings_with_their_counts() -> None:
    text = shown(insights(reviewed()))
    assert "80 calls with an outcome: Resolved of 80, 20 bad." in text
    feature = "the customer sounded angry for 20 s or more during identification"
    counts = "ended unresolved in 14 of 20 cases, others in 6 of 60. Difference +60 points"
    assert f"Goes with more bad outcomes (Resolved) Calls in which {feature} {counts}" in text
    assert "No clear difference Calls in which x < y" in text
    assert "need not bring them about" in text
    assert "cause" not in text


def test_where_nothing_can_be_told_it_says_so() -> None:
    few = shown(insights(reviewed(few=True)))
    assert "Nothing goes clearly with bad outcomes." in few
    assert "Too few calls for 1 comparison: 5 calls with the feature and 5 without are needed." in few
    assert "There is nothing to compare yet." in shown(insights([]))


def test_figures_are_json_with_the_same_counts() -> None:
    figures = json.loads(json.dumps(to_figures(insights(reviewed()))))
    first = figures["associations"][0]
    assert (first["finding"], first["with"]["bad"], first["without"]["calls"]) == ("more", 14, 60)
    assert first["interval_95"][0] < first["difference"] < first["interval_95"][1]
    assert 0 < first["p_value"] <= first["q_value"] < 0.05


def test_the_page_runs_nothing_and_shows_every_finding(browser, tmp_path: Path) -> None:
    file = tmp_path / "insights.html"
    file.write_text(render_insights_html(insights(reviewed())), encoding="utf-8")
    assert "<script" not in file.read_text()
    context = browser.new_context(viewport={"width": 420, "height": 800}, offline=True)
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.goto(file.as_uri())
    assert "14 of 20 cases, others in 6 of 60." in page.locator(".finding").inner_text()
    page.locator(".finding summary").click()
    assert page.locator(".finding details li").count() == 14
    assert page.locator(".finding details li").first.inner_text() == f"{HOSTILE}-0"
    bar = page.locator(".rate").first
    assert bar.locator("i").bounding_box()["width"] == pytest.approx(0.7 * bar.bounding_box()["width"], rel=0.02)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    assert problems == []
    context.close()


def test_insights_from_a_store_are_written_where_asked(run: Run, tmp_path: Path, place: str) -> None:
    store = kept(place)
    for number in range(20):
        timeline = sample_timeline() if number % 2 else empty_timeline()
        store.add(CallDetails(f"c{number}"), replace(timeline, name="x"))
        store.record_outcome(f"c{number}", Outcome("csat", 1 + 4 * (number % 2)))
    store.close()
    done = run("insights", "outcomes", "--html", tmp_path / "x.html", "--json", tmp_path / "x.json")
    assert done.exit_code == 0, done.stderr
    assert "20 calls with an outcome: CSAT of 20, 10 bad." in done.stdout
    figures = json.loads((tmp_path / "x.json").read_text())
    assert figures["outcomes"] == {"csat": {"calls": 20, "bad": 10}}
    assert figures["associations"]
    assert "What goes with bad outcomes?" in (tmp_path / "x.html").read_text()
    assert json.loads(run("insights", "outcomes", "--json", "-").stdout) == figures
