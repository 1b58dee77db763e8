"""Sounds of calls, converted for a browser when someone wants to hear them."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

KEPT: Final = 16
"""Converted sounds that are kept while the server runs; the ones not asked for longest give way."""


class Sounds:
    """One is converted at a time, so that running calls keep the processor."""

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self._folder: TemporaryDirectory[str] | None = None
        self._known: OrderedDict[str, Path] = OrderedDict()
        self._made = 0
        self._one = asyncio.Semaphore(1)

    async def get(self, call_id: str, make: Callable[[], bytes]) -> Path:
        """The file with the sound of a call; `make` gives it where it is not there yet. Raises what `make` raises."""
        async with self._one:
            if call_id not in self._known:
                self._folder = self._folder or TemporaryDirectory(prefix="affectline-sound-")
                path = Path(self._folder.name) / f"{self._made}.ogg"
                self._made += 1
                write = asyncio.get_running_loop().run_in_executor
                await write(self._threads, lambda: path.write_bytes(make()))
                self._known[call_id] = path
            self._known.move_to_end(call_id)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)[1].unlink(missing_ok=True)
            return self._known[call_id]

    def close(self) -> None:
        if self._folder:
            self._folder.cleanup()
