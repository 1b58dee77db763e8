"""Feedback and outcomes of stored calls."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import TypeVar

import grpc

from affectline.protos.v1 import calls_pb2
from affectline.protos.v1.calls_pb2_grpc import CallServiceServicer
from affectline.server import wire
from affectline.server.services.sessions import Context, StatusError, statuses
from affectline.server.store.calls import CallStore, NotStoredError

T = TypeVar("T")


class CallService(CallServiceServicer):
    """Each request is one transaction of the store: it is recorded as a whole, or not at all."""

    def __init__(self, store: CallStore | None) -> None:
        self._store = store

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

    async def _run(self, work: Callable[[CallStore], T]) -> T:
        if self._store is None:
            raise StatusError(
                grpc.StatusCode.FAILED_PRECONDITION, "expected a server that keeps calls (setting `store`), found none"
            )
        try:
            return await asyncio.to_thread(work, self._store)
        except NotStoredError as error:
            raise StatusError(grpc.StatusCode.NOT_FOUND, str(error)) from error
