"""Stored calls: finding, following and exporting them, and their feedback, outcomes and corrections."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from typing import Final, TypeVar

import grpc

from affectline.models.errors import CapacityError
from affectline.protos.v1 import calls_pb2
from affectline.protos.v1.calls_pb2_grpc import CallServiceServicer
from affectline.server import wire
from affectline.server.exporters import exporter
from affectline.server.services.sessions import Context, StatusError, statuses
from affectline.server.store.calls import CallStore, DamagedCallError, NotStoredError
from affectline.server.store.query import MAX_COUNTED, MAX_PAGE_SIZE, MIN_GROUP_CALLS, CallFilter, CallRow, Queries
from affectline.server.wire import calls as wire_calls

QUERY_THREADS: Final = 4
"""Questions that are worked on at once, on threads of their own: running calls are written meanwhile."""
MAX_QUERIES: Final = 64
"""Questions that wait or are worked on; more are refused."""
MAX_WATCHERS: Final = 64
WATCH_EVERY_S: Final = 1.0

T = TypeVar("T")
Source = TypeVar("Source")


class CallService(CallServiceServicer):
    """Each request that records something is one transaction: it is recorded as a whole, or not at all."""

    def __init__(self, store: CallStore | None, min_group_calls: int = MIN_GROUP_CALLS) -> None:
        self._store = store
        self._queries = Queries(store, min_calls=min_group_calls) if store else None
        self._threads = ThreadPoolExecutor(QUERY_THREADS, thread_name_prefix="query")
        self._asked = 0
        self._watchers = 0

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def RecordOutcome(
        self, request: calls_pb2.RecordOutcomeRequest, context: Context
    ) -> calls_pb2.RecordOutcomeResponse:
        async with statuses(context, "outcome"):
            call_id, outcome = wire.read_outcome(request)
            recorded = await self._run(lambda store: store.record_outcome(call_id, outcome))
        return calls_pb2.RecordOutcomeResponse(recorded=recorded)

    async def RecordFeedback(
        self, request: calls_pb2.RecordFeedbackRequest, context: Context
    ) -> calls_pb2.RecordFeedbackResponse:
        async with statuses(context, "feedback"):
            call_id, feedback = wire.read_feedback(request)
            recorded = await self._run(lambda store: store.record_feedback(call_id, feedback))
        return calls_pb2.RecordFeedbackResponse(recorded=recorded)

    async def GetFeedbackCounts(
        self, _: calls_pb2.GetFeedbackCountsRequest, context: Context
    ) -> calls_pb2.GetFeedbackCountsResponse:
        async with statuses(context, "feedback counts"):
            found = await self._run(lambda store: store.feedback_counts())
        return calls_pb2.GetFeedbackCountsResponse(counts=[calls_pb2.FeedbackCounts(**asdict(each)) for each in found])

    async def ListCalls(self, request: calls_pb2.ListCallsRequest, context: Context) -> calls_pb2.ListCallsResponse:
        async with statuses(context, "list of calls"):
            only, order = wire_calls.read_filter(request.filter), wire_calls.read_order(request)
            mask = wire_calls.read_mask(request)
            page = await self._ask(
                lambda queries: queries.list_calls(
                    only, page_size=request.page_size, page_token=request.page_token, order=order
                )
            )
            most = MAX_COUNTED
            return calls_pb2.ListCallsResponse(
                calls=[wire_calls.stored_call(row, mask) for row in page.rows],
                next_page_token=page.next_token,
                total_size=min(page.total, most),
                total_size_exceeded=page.total > most,
            )

    async def GetCall(self, request: calls_pb2.GetCallRequest, context: Context) -> calls_pb2.GetCallResponse:
        async with statuses(context, "call"):
            call_id, mask = wire_calls.read_call_id(request), wire_calls.read_mask(request)
            row, corrections = await self._ask(lambda queries: (queries.call(call_id), queries.corrections(call_id)))
            return calls_pb2.GetCallResponse(
                call=wire_calls.stored_call(row, mask), corrections=map(wire_calls.label_correction, corrections)
            )

    async def GetCallTimeline(  # type: ignore[override]
        self, request: calls_pb2.GetCallTimelineRequest, context: Context
    ) -> None:
        async with statuses(context, "timeline"):
            call_id = wire_calls.read_call_id(request)
            for part in await self._ask(lambda queries: list(wire.timeline_parts(queries.timeline(call_id)))):
                await context.write(calls_pb2.GetCallTimelineResponse(timeline=part))

    async def SearchUtterances(
        self, request: calls_pb2.SearchUtterancesRequest, context: Context
    ) -> calls_pb2.SearchUtterancesResponse:
        async with statuses(context, "search"):
            only = wire_calls.read_filter(request.filter)
            page = await self._ask(
                lambda queries: queries.search(
                    request.query, only, page_size=request.page_size, page_token=request.page_token
                )
            )
            return calls_pb2.SearchUtterancesResponse(
                hits=map(wire_calls.utterance_hit, page.hits), next_page_token=page.next_token
            )

    async def AggregateCalls(
        self, request: calls_pb2.AggregateCallsRequest, context: Context
    ) -> calls_pb2.AggregateCallsResponse:
        async with statuses(context, "figures"):
            only, by = wire_calls.read_filter(request.filter), wire_calls.read_group(request)
            return wire_calls.aggregate(await self._ask(lambda queries: queries.aggregate(only, by=by)))

    async def WatchCalls(  # type: ignore[override]
        self, request: calls_pb2.WatchCallsRequest, context: Context
    ) -> None:
        async with statuses(context, "watch"), self._watching():
            only = replace(wire_calls.read_filter(request.filter), states=("running",))
            mask = wire_calls.read_mask(request, "id", "state")
            seen: dict[str, datetime] = {}
            first = True
            while True:
                rows = await self._ask(lambda queries: _running(queries, only))
                told = [row for row in rows if seen.get(row.id) != row.changed]
                gone = seen.keys() - {row.id for row in rows}
                told += await self._ask(partial(_ended, sorted(gone))) if gone else []
                seen = {row.id: row.changed for row in rows}
                if told or first:
                    calls = [wire_calls.stored_call(row, mask) for row in told]
                    await context.write(calls_pb2.WatchCallsResponse(calls=calls))
                first = False
                await asyncio.sleep(WATCH_EVERY_S)

    async def CorrectLabel(
        self, request: calls_pb2.CorrectLabelRequest, context: Context
    ) -> calls_pb2.CorrectLabelResponse:
        async with statuses(context, "correction"):
            asked = wire_calls.read_correction(request)
            made = await self._ask(lambda queries: queries.correct_label(*asked))
            return calls_pb2.CorrectLabelResponse(correction=wire_calls.label_correction(made))

    async def ExportCall(  # type: ignore[override]
        self, request: calls_pb2.ExportCallRequest, context: Context
    ) -> None:
        async with statuses(context, "export"):
            call_id, kind = wire_calls.read_call_id(request), exporter(wire_calls.read_format(request))
            data = await self._ask(lambda queries: kind.write(queries.timeline(call_id)))
            name = re.sub(r"[^\w.-]+", "_", call_id) + "." + kind.suffix
            for piece in wire_calls.export_pieces(data, kind.media_type, name):
                await context.write(piece)

    async def _ask(self, work: Callable[[Queries], T]) -> T:
        return await self._on_thread(self._queries, work)

    async def _run(self, work: Callable[[CallStore], T]) -> T:
        return await self._on_thread(self._store, work)

    async def _on_thread(self, source: Source | None, work: Callable[[Source], T]) -> T:
        if source is None:
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION, "expected a server that keeps calls (setting `store`), found none"
            )
        if self._asked >= MAX_QUERIES:
            raise CapacityError(f"expected at most {MAX_QUERIES} questions at once, found one more")
        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, source)
        except NotStoredError as error:
            raise StatusError(grpc.StatusCode.NOT_FOUND, str(error)) from error
        except DamagedCallError as error:
            raise StatusError(grpc.StatusCode.DATA_LOSS, str(error)) from error
        finally:
            self._asked -= 1

    @asynccontextmanager
    async def _watching(self) -> AsyncIterator[None]:
        if self._watchers >= MAX_WATCHERS:
            raise CapacityError(f"expected at most {MAX_WATCHERS} watchers, found one more")
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1


def _running(queries: Queries, only: CallFilter) -> list[CallRow]:
    return list(queries.list_calls(only, page_size=MAX_PAGE_SIZE, order="oldest").rows)


def _ended(ids: list[str], queries: Queries) -> list[CallRow]:
    """Those of the calls that are over; one that was deleted meanwhile is passed over."""
    found = []
    for call_id in ids:
        try:
            found.append(queries.call(call_id))
        except NotStoredError:
            continue
    return found
