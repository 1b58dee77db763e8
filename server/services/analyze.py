"""The live path, one call per stream; and written conversations, whole."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from threading import Lock
from time import monotonic
from typing import Any, TypeVar
from uuid import uuid4

from affectline.models.errors import CapacityError, InvalidInputError
from affectline.models.observer import UNOBSERVED, Observer
from affectline.models.signals import AudioChunk, EncodedFrame, FrameUse
from affectline.pipelines.mono import MonoConfig
from affectline.pipelines.outcomes import CallDetails
from affectline.pipelines.recorded import Session
from affectline.pipelines.session import CallConfig, Input
from affectline.pipelines.timeline import CallTimeline, Notice, Output
from affectline.protos.v1 import analyze_pb2, timeline_pb2
from affectline.protos.v1.analyze_pb2_grpc import AnalyzeServiceServicer
from affectline.server import wire
from affectline.server.config import ServerConfig
from affectline.server.hub import Hub, RunningCall
from affectline.server.services.keeper import Keeper
from affectline.server.services.sessions import Context, Sessions, log_failure, receive, receive_config, statuses
from affectline.server.store.live import LiveCall

CURSOR_EVERY_US = 1_000_000
VIDEO_SHARE = 0.3
"""Of a call's working time that looking at pictures may take; sound goes first."""
DECODE_SHARE = 0.2
"""The same of decoding the frames of streams that are not looked at."""
MAX_DEBT_S = 1.0
"""So far decoding may run ahead of its share before a stream is left out up to a later key frame."""

log = logging.getLogger("affectline.server")

T = TypeVar("T")


class PictureBudget:
    """Lets so many pictures of a call through that the rest of it is not held up; those in between are not looked at.

    A picture is taken or dropped when it comes, and none is kept, so the newest one counts.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds, going forward."""
        self._clock = clock
        self._look_s = self._decode_s = 0.0
        """From when on there is time to look at one, and to decode one."""
        self._skips = False
        self._use: FrameUse = "look"
        self._started_s = 0.0

    def take(self, *, spare: bool = False) -> FrameUse:
        """What there is time for now; `done` must follow when something is done. `spare`: nothing, for other calls."""
        self._started_s = self._clock()
        # Once it skips, until all is paid back: the frames up to the next key frame are lost anyway.
        self._skips = spare or self._decode_s > self._started_s + (0 if self._skips else MAX_DEBT_S)
        self._use = "skip" if self._skips else "look" if self._started_s >= self._look_s else "follow"
        return self._use

    def done(self) -> None:
        took_s = self._clock() - self._started_s
        if self._use == "look":
            self._look_s = self._started_s + took_s / VIDEO_SHARE
        else:
            self._decode_s = max(self._decode_s, self._started_s) + took_s / DECODE_SHARE


class AnalyzeService(AnalyzeServiceServicer):
    """Reads a message, lets the session work on it, sends the replies, reads the next one.

    So a call holds at most one message, and the rest waits in gRPC's flow-control window at the caller.
    """

    def __init__(
        self, sessions: Sessions, config: ServerConfig, keeper: Keeper, hub: Hub, observer: Observer = UNOBSERVED
    ) -> None:
        self._observer = observer
        self._sessions = sessions
        self._config = config
        self._keeper = keeper
        self._hub = hub
        self.running = 0
        """Calls that run now."""
        self._broken_off: set[asyncio.Task[None]] = set()
        """Calls that are being stored after their stream broke off."""

    async def Analyze(self, _: object, context: Context) -> None:  # type: ignore[override]
        # Not a generator: the task itself reads and writes, so a cancelled call is cleaned up at once.
        call = f"call {uuid4().hex[:12]}"
        async with statuses(context, call):
            message = await receive_config(context, self._config.idle_timeout_s)
            async with self._slot(call):
                await self._analyze(call, message, context)

    async def AnalyzeText(self, request: analyze_pb2.AnalyzeTextRequest, context: Context) -> None:  # type: ignore[override]
        call = f"call {uuid4().hex[:12]}"
        async with statuses(context, call), self._slot(call):
            config, turns = wire.read_text_request(request)
            details = await self._keeper.begin(wire.read_call_details(request.details, "details"), context)
            chat = self._sessions.opener.open_chat(config)
            for turn in turns:  # one at a time, so that no call waits long for a thread
                await self._sessions.run(chat.push, turn)
            timeline = await self._sessions.run(chat.finish)
            notices = await self._keeper.keep(call, details, timeline)
            timeline = replace(timeline, notices=(*timeline.notices, *notices))
            for part in await self._sessions.run(_parts, timeline):
                async with asyncio.timeout(self._config.idle_timeout_s):
                    await context.write(analyze_pb2.AnalyzeTextResponse(timeline=part))

    async def drain(self) -> None:
        """Waits until calls that broke off are stored."""
        await asyncio.gather(*self._broken_off, return_exceptions=True)

    @asynccontextmanager
    async def _slot(self, call: str) -> AsyncIterator[None]:
        if self.running >= self._config.max_calls:
            raise CapacityError(f"expected at most {self._config.max_calls} calls, found one more")
        if self.running and not self._sessions.pace.affords("call"):
            self._sessions.pace.left_out("call")
            raise CapacityError("expected time for one more call, found that results of the running ones come late")
        self.running += 1
        started_s = monotonic()
        log.info("%s began, %d running", call, self.running)
        try:
            yield
        finally:
            self.running -= 1
            log.info("%s ended after %.1f s, %d running", call, monotonic() - started_s, self.running)

    async def _analyze(self, call: str, message: analyze_pb2.CallConfig, context: Context) -> None:
        config, audio = wire.read_call_config(message)
        details = await self._keeper.begin(wire.read_call_details(message.details, "config.details"), context)
        try:
            if isinstance(config, MonoConfig):
                session = await self._sessions.run(self._sessions.mono.open_mono, config)
            else:
                session = await self._sessions.run(self._sessions.opener.open, config)
        except InvalidInputError as error:
            raise wire.MessageError(("config", str(error))) from error
        turn = Lock()
        live = self._keeper.open(details, session.timeline)
        try:
            known = () if isinstance(config, MonoConfig) else config.participants  # voices are told when they are known
            with self._hub.call(details.id or call.removeprefix("call "), details, known) as shown:
                await self._listen(config, audio, session, turn, live, shown, context)
                outputs = await self._sessions.run(_in_turn, turn, session.finish)
                shown.publish(outputs, session.received_us)
                await self._send(context, outputs)
        except BaseException:
            if self._keeper.keeps:  # the caller is gone, fell silent or broke the protocol, or the server stops
                task = asyncio.create_task(self._keep_broken_off(call, details, session, turn))
                self._broken_off.add(task)
                task.add_done_callback(self._broken_off.discard)
            raise
        timeline = await self._sessions.run(session.timeline)
        notices = await self._keeper.keep(call, details, timeline)
        timeline = replace(timeline, notices=(*timeline.notices, *notices))
        await self._send(context, notices)
        await self._send(context, [wire.Cursor(session.received_us, session.final_us)])
        for part in await self._sessions.run(_parts, timeline):
            await self._write(context, analyze_pb2.AnalyzeResponse(timeline=part))

    async def _keep_broken_off(self, call: str, details: CallDetails, session: Session, turn: Lock) -> None:
        """What was heard until the stream broke off is stored like a whole call, and says so."""
        message = "The stream broke off here; what was heard until then is all there is."
        session.note(Notice("broken_off", message, session.received_us))
        try:
            await self._sessions.run(_in_turn, turn, session.finish)
            timeline = await self._sessions.run(session.timeline)
        except Exception as error:
            log_failure(call, error)
            await self._keeper.abandon(call, details)
        else:
            await self._keeper.keep(call, details, timeline)
        log.info("%s broke off and was kept", call)

    async def _listen(
        self,
        config: CallConfig | MonoConfig,
        audio: wire.AudioFormat,
        session: Session,
        turn: Lock,
        live: LiveCall | None,
        shown: RunningCall,
        context: Context,
    ) -> None:
        """Takes the caller's messages until the call is over."""
        reader = wire.CallReader(config, audio, round(self._config.max_call_s * 1_000_000))
        deadline_s = monotonic() + self._config.max_call_s
        cursor_us = 0
        pictures = PictureBudget(monotonic)
        cameras = () if isinstance(config, MonoConfig) else config.cameras
        streams = {camera.id for camera in cameras if camera.codec}

        while (request := await receive(context, self._config.idle_timeout_s)) is not None:
            if request.HasField("end"):
                break
            try:
                if monotonic() > deadline_s:
                    raise CapacityError(f"expected a call of at most {self._config.max_call_s:g} s, found a longer one")
                inputs = reader.read(request)
            except CapacityError as error:
                notice = Notice("call_too_long", f"{error}; the timeline ends here", reader.received_us)
                session.note(notice)
                await self._send(context, [notice])
                break
            except wire.MessageError:
                raise
            except InvalidInputError as error:
                await self._send(context, [_unusable(session, error)])
                continue
            picture = request.HasField("video")
            if picture:
                use = pictures.take(spare=not self._sessions.pace.affords("picture"))
                if use != "look":
                    self._observer.skipped("picture")
                if use != "look" and request.video.camera not in streams:
                    continue
                inputs = [replace(item, use=use) for item in inputs if isinstance(item, EncodedFrame)]
            if _is_only_kept(inputs, session) and reader.received_us < session.idle_until_us:
                outputs = _push(session, inputs)  # in less time than a thread would take to begin
            else:
                outputs = await self._sessions.run(_in_turn, turn, _push, session, inputs)
            if live:
                live.take(inputs, outputs, session.received_us)
            shown.publish(outputs, session.received_us)
            await self._send(context, outputs)
            if picture:
                pictures.done()
            if session.received_us - cursor_us >= CURSOR_EVERY_US:
                cursor_us = session.received_us
                await self._send(context, [wire.Cursor(cursor_us, session.final_us)])

    async def _send(self, context: Context, items: Iterable[wire.Reply]) -> None:
        for item in items:
            await self._write(context, wire.reply(item))

    async def _write(self, context: Context, response: analyze_pb2.AnalyzeResponse) -> None:
        async with asyncio.timeout(self._config.idle_timeout_s):
            await context.write(response)


def _is_only_kept(inputs: list[Input], session: Session) -> bool:
    """Whether it is sound that goes on where the last ended; a loss ends utterances."""
    match inputs:
        case [AudioChunk(start_sample=start, rate_hz=rate_hz), *_]:
            return start * 1_000_000 // rate_hz <= session.received_us
    return False


def _in_turn(turn: Lock, work: Callable[..., T], *arguments: Any) -> T:
    """A piece of work whose caller was cancelled may still run: the next one of the same call waits for it."""
    with turn:
        return work(*arguments)


def _push(session: Session, items: list[Input]) -> list[Output]:
    outputs: list[Output] = []
    for item in items:
        try:
            outputs += session.push(item)
        except InvalidInputError as error:
            outputs.append(_unusable(session, error))
    return outputs


def _unusable(session: Session, error: InvalidInputError) -> Notice:
    notice = Notice("unusable_input", str(error), session.received_us)
    session.note(notice)
    return notice


def _parts(timeline: CallTimeline) -> list[timeline_pb2.Timeline]:
    return list(wire.timeline_parts(timeline))
