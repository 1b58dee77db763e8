"""What the store needs while the server runs: running calls are written, dead servers' ended, old ones deleted."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

from affectline.models.errors import AffectlineError
from affectline.server.config import ServerConfig
from affectline.server.files import forget_unfinished
from affectline.server.kept_sound import forget_sounds
from affectline.server.services.sessions import log_failure
from affectline.server.store.calls import CallStore
from affectline.server.store.live import LiveWriter

FLUSH_EVERY_S: Final = 1.0
RECOVER_EVERY_S: Final = 60.0
PRUNE_EVERY_S: Final = 86_400.0

log = logging.getLogger("affectline.server")


class Upkeep:
    """`start` once, then `run` as a task. A store that fails is logged, and tried again."""

    def __init__(self, store: CallStore, writer: LiveWriter, config: ServerConfig) -> None:
        self._store = store
        self._writer = writer
        self._retention_days = config.retention_days
        self._media = config.web_media

    async def start(self) -> None:
        """Ends what servers that are gone left behind, and deletes what is too old."""
        await self._try(self._recover)
        await self._try(self._prune)

    async def run(self) -> None:
        """Until cancelled."""
        recovered_s = pruned_s = monotonic()
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self._try(self._writer.flush)
            if monotonic() >= recovered_s + RECOVER_EVERY_S:
                recovered_s = monotonic()
                await self._try(self._recover)
            if monotonic() >= pruned_s + PRUNE_EVERY_S:
                pruned_s = monotonic()
                await self._try(self._prune)

    async def _try(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(work)
        except AffectlineError as error:
            log.error("the store fails: %s", error)
        except Exception as error:
            log_failure("upkeep of the store", error)

    def _recover(self) -> None:
        if ended := self._writer.recover():
            log.warning("%d calls of a server that is gone were ended; they are marked as broken off", len(ended))

    def _prune(self) -> None:
        if self._media:
            forget_unfinished(self._media)
        if self._retention_days is None:
            return
        before = datetime.now(UTC) - timedelta(days=self._retention_days)
        count = self._store.prune(before, forget=lambda ids: forget_sounds(self._media, ids) if self._media else None)
        if count:
            log.info("%d calls older than %d days were deleted", count, self._retention_days)
