"""The API of stored calls as its clients see it: real sockets, a real store."""

import asyncio
import math
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2  # type: ignore[import-untyped]

from affectline.pipelines.outcomes import CallDetails, Outcome
from affectline.protos.v1 import calls_pb2, timeline_pb2
from affectline.protos.v1.calls_pb2_grpc import CallServiceStub
from affectline.server import wire
from affectline.server.exporters import EXPORTERS
from affectline.server.exports import from_json
from affectline.server.services import calls as service
from affectline.server.store.calls import CallStore
from affectline.server.store.tables import TIMELINES
from affectline.server.wire import calls as wire_calls

from .sample_timeline import empty_timeline, sample_timeline
from .test_grpc import Launch, config, details, launch, sound  # noqa: F401 - fixtures

pytestmark = pytest.mark.integration

NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A store with seven calls."""
    path = str(tmp_path / "calls.db")
    store = CallStore(path)
    for number in range(7):
        queue = "support" if number % 2 else "sales"
        store.add(CallDetails(f"c{number}", NOON + timedelta(hours=number), queue), sample_timeline())
    store.record_outcome("c3", Outcome("csat", 1, NOON))
    store.close()
    return path


async def stub(launch: Launch, place: str, **settings: Any) -> Any:  # noqa: F811
    return CallServiceStub((await launch(store=place, **settings)).channel)


async def refused(answer: Any) -> grpc.aio.AioRpcError:
    async def wait() -> None:
        if hasattr(answer, "__aiter__"):
            async for _ in answer:
                pass
        else:
            await answer

    with pytest.raises(grpc.aio.AioRpcError) as error:
        await wait()
    return error.value


async def test_calls_are_listed_page_by_page(launch: Launch, place: str) -> None:  # noqa: F811
    calls = await stub(launch, place)
    only = calls_pb2.CallFilter(queues=["sales"])
    request = calls_pb2.ListCallsRequest(filter=only, page_size=3, order=calls_pb2.CALL_ORDER_OLDEST)
    page = await calls.ListCalls(request)
    assert [call.id for call in page.calls] == ["c0", "c2", "c4"]
    assert (page.total_size, page.total_size_exceeded) == (4, False)
    request.page_token = page.next_page_token
    page = await calls.ListCalls(request)
    assert ([call.id for call in page.calls], page.next_page_token) == (["c6"], "")


async def test_a_call_tells_all_that_lists_show(launch: Launch, place: str) -> None:  # noqa: F811
    calls = await stub(launch, place)
    found = (await calls.GetCall(calls_pb2.GetCallRequest(call_id="c3"))).call
    assert (found.name, found.queue, found.state) == (sample_timeline().name, "support", calls_pb2.CALL_STATE_FINISHED)
    assert found.begin_time.ToDatetime(tzinfo=UTC) == NOON + timedelta(hours=3)
    assert (found.duration_us, found.language, found.alerts, found.begin_time_unknown) == (186_000_000, "en", 1, False)
    assert -1 < found.valence < 1
    assert len(found.sparkline) == 60
    assert any(map(math.isnan, found.sparkline))
    assert found.emotions[0].share > 0.1
    (outcome,) = found.outcomes
    assert (outcome.kind, outcome.value) == (calls_pb2.OUTCOME_KIND_CSAT, 1)


async def test_a_mask_leaves_the_rest_out(launch: Launch, place: str) -> None:  # noqa: F811
    calls = await stub(launch, place)
    mask = FieldMask(paths=["id", "queue"])
    page = await calls.ListCalls(calls_pb2.ListCallsRequest(read_mask=mask, page_size=1))
    assert [page.calls[0]] == [calls_pb2.StoredCall(id="c6", queue="sales")]
    whole = await calls.ListCalls(calls_pb2.ListCallsRequest(read_mask=FieldMask(), page_size=1))
    assert whole.calls[0] == calls_pb2.StoredCall()


async def test_the_filter_carries_every_field(launch: Launch, place: str) -> None:  # noqa: F811
    calls = await stub(launch, place)
    begin, end = Timestamp(), Timestamp()
    begin.FromDatetime(NOON + timedelta(hours=3))
    end.FromDatetime(NOON + timedelta(hours=4))
    only = calls_pb2.CallFilter(
        begin_time=begin,
        end_time=end,
        queues=["support"],
        languages=["en"],
        states=[calls_pb2.CALL_STATE_FINISHED],
        emotion=timeline_pb2.EMOTION_ANGRY,
        min_seconds=10,
        stage=timeline_pb2.STAGE_NAME_PROBLEM,
        policies=["defaults"],
        with_alert=True,
        outcome=calls_pb2.OUTCOME_KIND_CSAT,
        outcome_min=1,
        outcome_max=2,
        outcome_bad=True,
        words='"to a supervisor" cancel*',
        demo=False,
    )

    async def found(**changes: Any) -> list[str]:
        changed = calls_pb2.CallFilter()
        changed.CopyFrom(only)
        for name, value in changes.items():
            changed.ClearField(name)  # type: ignore[arg-type]
            changed.MergeFrom(calls_pb2.CallFilter(**{name: value}))
        return [call.id for call in (await calls.ListCalls(calls_pb2.ListCallsRequest(filter=changed))).calls]

    assert await found() == ["c3"]
    for name, value in {
        "begin_time": end,
        "end_time": begin,
        "queues": ["sales"],
        "products": ["x"],
        "languages": ["de"],
        "agent_groups": ["x"],
        "states": [calls_pb2.CALL_STATE_RUNNING],
        "emotion": timeline_pb2.EMOTION_GRATEFUL,
        "min_seconds": 1_000,
        "stage": timeline_pb2.STAGE_NAME_CLOSING,
        "policies": ["x"],
        "with_alert": False,
        "outcome": calls_pb2.OUTCOME_KIND_NPS,
        "outcome_min": 2,
        "outcome_max": 0.5,
        "outcome_bad": False,
        "words": "zebra",
        "demo": True,
    }.items():
        assert await found(**{name: value}) == [], name


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("ListCalls", calls_pb2.ListCallsRequest(page_size=-1), ""),
        ("ListCalls", calls_pb2.ListCallsRequest(page_token="x"), ""),
        ("ListCalls", calls_pb2.ListCallsRequest(order=99), "order"),
        ("ListCalls", calls_pb2.ListCallsRequest(read_mask=FieldMask(paths=["id", "customer"])), "read_mask"),
        ("ListCalls", calls_pb2.ListCallsRequest(filter=calls_pb2.CallFilter(states=[0])), "filter.states"),
        ("ListCalls", calls_pb2.ListCallsRequest(filter=calls_pb2.CallFilter(stage=99)), "filter.stage"),
        (
            "ListCalls",
            calls_pb2.ListCallsRequest(filter=calls_pb2.CallFilter(min_seconds=math.nan, emotion=1)),
            "filter",
        ),
        ("ListCalls", calls_pb2.ListCallsRequest(filter=calls_pb2.CallFilter(queues=["x"] * 101)), "filter"),
        ("ListCalls", calls_pb2.ListCallsRequest(filter=calls_pb2.CallFilter(outcome_min=1)), "filter"),
        (
            "ListCalls",
            calls_pb2.ListCallsRequest(filter=calls_pb2.CallFilter(begin_time=Timestamp(seconds=-5))),
            "filter.begin_time",
        ),
        ("SearchUtterances", calls_pb2.SearchUtterancesRequest(), ""),
        ("SearchUtterances", calls_pb2.SearchUtterancesRequest(query="x" * 501), ""),
        ("SearchUtterances", calls_pb2.SearchUtterancesRequest(query='" * ^ :'), ""),
        ("AggregateCalls", calls_pb2.AggregateCallsRequest(), "by"),
        ("GetCall", calls_pb2.GetCallRequest(), "call_id"),
        ("GetCall", calls_pb2.GetCallRequest(call_id="x" * 300), "call_id"),
        ("CorrectLabel", calls_pb2.CorrectLabelRequest(call_id="c0", moment_id="m"), "emotion"),
        ("CorrectLabel", calls_pb2.CorrectLabelRequest(call_id="c0", emotion=1), "moment_id"),
        ("CorrectLabel", calls_pb2.CorrectLabelRequest(call_id="c", moment_id="m", emotion=1, note="x" * 4001), "note"),
        ("ExportCall", calls_pb2.ExportCallRequest(call_id="c0"), "format"),
        ("WatchCalls", calls_pb2.WatchCallsRequest(read_mask=FieldMask(paths=["timeline"])), "read_mask"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_field(
    launch: Launch,  # noqa: F811
    place: str,
    method: str,
    request_: Any,
    field: str,
) -> None:
    calls = await stub(launch, place)
    error = await refused(getattr(calls, method)(request_))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "expected" in (error.details() or "")
    if field:
        (violation,) = details(error, error_details_pb2.BadRequest).field_violations
        assert violation.field == field


@pytest.mark.parametrize("method", ["GetCall", "GetCallTimeline", "ExportCall", "CorrectLabel"])
async def test_unknown_calls_are_not_found(launch: Launch, place: str, method: str) -> None:  # noqa: F811
    calls = await stub(launch, place)
    fields: dict[str, Any] = {"ExportCall": {"format": 1}, "CorrectLabel": {"moment_id": "m", "emotion": 1}}.get(
        method, {}
    )
    request = getattr(calls_pb2, f"{method}Request")(call_id="nobody", **fields)
    assert (await refused(getattr(calls, method)(request))).code() == grpc.StatusCode.NOT_FOUND


async def test_a_server_without_a_store_says_so(launch: Launch) -> None:  # noqa: F811
    calls = CallServiceStub((await launch()).channel)
    error = await refused(calls.ListCalls(calls_pb2.ListCallsRequest()))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    error = await refused(calls.WatchCalls(calls_pb2.WatchCallsRequest()))
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION


async def test_a_damaged_call_is_told_as_lost(launch: Launch, place: str) -> None:  # noqa: F811
    store = CallStore(place)
    with store.database.writing() as connection:
        connection.execute(TIMELINES.update().where(TIMELINES.c.call_id == "c0").values(data=b"nonsense"))
    store.close()
    calls = await stub(launch, place)
    error = await refused(calls.GetCallTimeline(calls_pb2.GetCallTimelineRequest(call_id="c0")))
    assert error.code() == grpc.StatusCode.DATA_LOSS


async def test_utterances_are_found(launch: Launch, place: str) -> None:  # noqa: F811
    calls = await stub(launch, place)
    page = await calls.SearchUtterances(calls_pb2.SearchUtterancesRequest(query="supervisor", page_size=5))
    assert [hit.call_id for hit in page.hits] == ["c6", "c5", "c4", "c3", "c2"]
    hit = page.hits[0]
    assert [hit.excerpt[each.start : each.end] for each in hit.matches] == ["supervisor"]
    assert (hit.span.start_us, hit.span.end_us, hit.utterance_id) == (53_500_000, 60_000_000, "u9")
    rest = await calls.SearchUtterances(
        calls_pb2.SearchUtterancesRequest(query="supervisor", page_size=5, page_token=page.next_page_token)
    )
    assert [hit.call_id for hit in rest.hits] == ["c1", "c0"]


async def test_groups_that_are_too_small_are_withheld(
    launch: Launch,  # noqa: F811
    place: str,
    tmp_path: Path,
) -> None:
    spools = [tmp_path / "one", tmp_path / "other"]
    for spool in spools:
        spool.mkdir()
    calls = await stub(launch, place, spool_dir=spools[0])
    request = calls_pb2.AggregateCallsRequest(by=calls_pb2.CALL_GROUP_QUEUE)
    found = await calls.AggregateCalls(request)
    assert (list(found.groups), found.withheld_groups, found.withheld_calls, found.min_calls) == ([], 2, 7, 5)
    calls = await stub(launch, place, min_group_calls=4, spool_dir=spools[1])
    (group,) = (await calls.AggregateCalls(request)).groups
    assert (group.key, group.calls, group.valence.calls) == ("sales", 4, 4)
    assert group.valence.low <= group.valence.mean <= group.valence.high
    assert {each.emotion for each in group.emotions} >= {timeline_pb2.EMOTION_ANGRY, timeline_pb2.EMOTION_UNKNOWN}


async def test_a_correction_is_kept_with_the_call(launch: Launch, place: str) -> None:  # noqa: F811
    calls = await stub(launch, place)
    moment = next(m for m in sample_timeline().moments if m.affect.label == "angry")
    request = calls_pb2.CorrectLabelRequest(
        call_id="c1", moment_id=moment.id, emotion=timeline_pb2.EMOTION_SAD, note="call 555 123 4567"
    )
    made = (await calls.CorrectLabel(request)).correction
    assert (made.before, made.emotion, made.note) == (
        timeline_pb2.EMOTION_ANGRY,
        timeline_pb2.EMOTION_SAD,
        "call [PHONE]",
    )
    assert list((await calls.GetCall(calls_pb2.GetCallRequest(call_id="c1"))).corrections) == [made]
    request.moment_id = "none"
    assert (await refused(calls.CorrectLabel(request))).code() == grpc.StatusCode.NOT_FOUND


async def test_the_whole_timeline_comes_in_parts(launch: Launch, place: str) -> None:  # noqa: F811
    calls = await stub(launch, place)
    request = calls_pb2.GetCallTimelineRequest(call_id="c1")
    parts = [response.timeline async for response in calls.GetCallTimeline(request)]
    assert wire.timeline_from_parts(parts) == sample_timeline()


async def test_every_format_comes_as_the_registry_writes_it(
    launch: Launch,  # noqa: F811
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert set(wire_calls.FORMATS.values()) == set(EXPORTERS)
    monkeypatch.setattr(wire_calls, "EXPORT_PIECE_BYTES", 10_000)
    calls = await stub(launch, place)
    for number, name in wire_calls.FORMATS.items():
        request = calls_pb2.ExportCallRequest(call_id="c1", format=number)
        if name == "parquet" and find_spec("pyarrow") is None:
            error = await refused(calls.ExportCall(request))
            assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
            continue
        pieces = [piece async for piece in calls.ExportCall(request)]
        data = b"".join(piece.data for piece in pieces)
        assert (pieces[0].media_type, pieces[0].file_name) == (
            EXPORTERS[name].media_type,
            f"c1.{EXPORTERS[name].suffix}",
        )
        if name == "json":
            assert len(pieces) > 5
            assert from_json(data) == sample_timeline()
        elif name not in {"html", "parquet"}:
            assert data == EXPORTERS[name].write(sample_timeline())


async def test_running_calls_are_followed_to_their_end(launch: Launch, place: str) -> None:  # noqa: F811
    running = await launch(store=place)
    calls: Any = CallServiceStub(running.channel)
    watch = calls.WatchCalls(calls_pb2.WatchCallsRequest(read_mask=FieldMask(paths=["duration_us"])))
    assert list((await watch.read()).calls) == []
    stream = running.analyze()
    await stream.write(config(details=calls_pb2.CallDetails(id="live", queue="support")))
    await stream.write(sound(2.0))
    async with asyncio.timeout(10):
        seen = []
        while not any(call.duration_us >= 2_000_000 for call in seen):
            seen += (await watch.read()).calls
        assert {call.id for call in seen} == {"live"}
        assert {call.queue for call in seen} == {""}
        late = calls.WatchCalls(calls_pb2.WatchCallsRequest())
        assert [call.queue for call in (await late.read()).calls] == ["support"]
        other = calls_pb2.CallFilter(queues=["sales"])
        elsewhere = calls.WatchCalls(calls_pb2.WatchCallsRequest(filter=other))
        assert list((await elsewhere.read()).calls) == []
        await stream.done_writing()
        async for _ in stream:
            pass
        states: list[int] = []
        while calls_pb2.CALL_STATE_FINISHED not in states:
            states += [call.state for call in (await watch.read()).calls]
    for each in (watch, late, elsewhere):
        each.cancel()


async def test_more_watchers_than_the_server_takes_are_refused(
    launch: Launch,  # noqa: F811
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "MAX_WATCHERS", 1)
    calls = await stub(launch, place)
    watch = calls.WatchCalls(calls_pb2.WatchCallsRequest())
    await watch.read()
    error = await refused(calls.WatchCalls(calls_pb2.WatchCallsRequest()))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    watch.cancel()
    async with asyncio.timeout(5):
        while True:
            try:
                await calls.WatchCalls(calls_pb2.WatchCallsRequest()).read()
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)


async def test_more_questions_than_the_server_takes_are_refused(
    launch: Launch,  # noqa: F811
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "MAX_QUERIES", 0)
    calls = await stub(launch, place)
    error = await refused(calls.ListCalls(calls_pb2.ListCallsRequest()))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details(error, error_details_pb2.RetryInfo).retry_delay.seconds > 0


async def test_a_huge_page_is_cut(launch: Launch, place: str) -> None:  # noqa: F811
    store = CallStore(place)
    for number in range(30):
        store.add(CallDetails(f"e{number}"), empty_timeline())
    store.close()
    calls = await stub(launch, place)
    page = await calls.ListCalls(calls_pb2.ListCallsRequest(page_size=2**31 - 1))
    assert len(page.calls) == 37
