"""Writes calls to the store, where there is one: while they run, and whole when they are over."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import grpc

from affectline.models.errors import AffectlineError
from affectline.pipelines.outcomes import CallDetails
from affectline.pipelines.timeline import CallTimeline, Notice
from affectline.server.services.sessions import Context, StatusError, log_failure
from affectline.server.store.calls import CallStore, NotStoredError
from affectline.server.store.live import LiveCall, LiveWriter

CALL_ID_HEADER: Final = "affectline-call-id"
WRITE_TIMEOUT_S: Final = 15
"""A caller waits no longer for its timeline because of the store."""

log = logging.getLogger("affectline.server")


class Keeper:
    """What goes wrong with the store is logged and told in a notice; it costs no caller their timeline."""

    def __init__(self, store: CallStore | None, writer: LiveWriter | None = None) -> None:
        """`writer`: writes calls while they run; without it they are stored when they are over."""
        self._store = store
        self._writer = writer

    @property
    def keeps(self) -> bool:
        return self._store is not None

    async def check(self, details: CallDetails) -> None:
        """Raises StatusError when a call of this id is stored. A store that fails now may work by the call's end."""
        if self._store and details.id:
            try:
                async with asyncio.timeout(WRITE_TIMEOUT_S):
                    stored = await asyncio.to_thread(self._store.holds, details.id)
            except (AffectlineError, TimeoutError) as error:
                log.error("the store fails: %s", error)
            else:
                if stored:
                    expected = "expected the id of a new call, found that of a stored one"
                    raise StatusError(grpc.StatusCode.ALREADY_EXISTS, expected)

    async def begin(self, details: CallDetails, context: Context) -> CallDetails:
        """The details of a call that begins now, with an id, which the caller is told."""
        if self._store is None:
            return details
        await self.check(details)
        named = replace(details, id=details.id or uuid4().hex, started=details.started or datetime.now(UTC))
        await context.send_initial_metadata(((CALL_ID_HEADER, named.id),))
        return named

    def open(self, details: CallDetails, start: Callable[[], CallTimeline]) -> LiveCall | None:
        """A call that is written from now on while it runs; `start` gives its timeline before the first sound."""
        return self._writer.open(details, start()) if self._writer else None

    async def abandon(self, what: str, details: CallDetails) -> None:
        """Ends a call that cannot come to its end: what was written of it while it ran is kept."""
        if self._writer:
            try:
                await asyncio.to_thread(self._writer.abandon, details.id)
            except AffectlineError as error:
                log.error("%s was not ended in the store: %s", what, error)

    async def timeline(self, call_id: str) -> CallTimeline:
        """Of a stored call. Raises NotStoredError or StorageError."""
        if self._store is None:
            raise NotStoredError("expected a store of calls, found none")
        return await asyncio.to_thread(self._store.timeline, call_id)

    async def keep(self, what: str, details: CallDetails, timeline: CallTimeline) -> list[Notice]:
        """What went wrong; `what` names the call in the log."""
        if self._store is None:
            return []
        told = "The call could not be stored. This reply is complete."
        try:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                add = self._writer.finish if self._writer else self._store.add
                await asyncio.to_thread(add, details, timeline)
        except TimeoutError:
            log.error("%s was not stored within %d s", what, WRITE_TIMEOUT_S)
            told = f"The call was not stored within {WRITE_TIMEOUT_S} s; it may still be. This reply is complete."
        except AffectlineError as error:
            log.error("%s was not stored: %s", what, error)
        except Exception as error:
            log_failure(f"storing {what}", error)
        else:
            if details.customer_reference and not self._store.hashes_customers:
                message = "The customer's reference was not kept: the server has no key to hash it with."
                return [Notice("customer_not_kept", message, timeline.duration_us)]
            return []
        return [Notice("not_stored", told, timeline.duration_us)]
