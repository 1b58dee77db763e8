"""What the services share: call sessions, threads to run them on, reading with a deadline, and statuses."""

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, NoReturn, Protocol, TypeVar, cast

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from affectline.models.errors import AffectlineError, CapacityError, InvalidInputError, ModelMissingError
from affectline.pipelines.chat import Chat, ChatConfig
from affectline.pipelines.mono import MonoConfig
from affectline.pipelines.recorded import Session
from affectline.pipelines.session import CallConfig, ModelSet
from affectline.server.pace import SharedPace
from affectline.server.wire import MessageError

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")
Watched = Callable[[Callable[..., Any]], Callable[..., Any]]

RETRY_AFTER_S = 5

log = logging.getLogger("affectline.server")


class Opener(Protocol):
    """Opens calls and written conversations on loaded models; see engine.Engine."""

    def open(self, config: CallConfig) -> Session: ...
    def open_chat(self, config: ChatConfig) -> Chat: ...


class MonoOpener(Protocol):
    """Tells voices on one channel apart; see engine.Engine."""

    @property
    def models(self) -> ModelSet: ...
    def open_mono(self, config: MonoConfig) -> Session: ...


class LoadingError(AffectlineError):
    """The models are still being loaded."""

    retryable = True


class StatusError(AffectlineError):
    """An error for which there is one right status."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Sessions:
    """Opens call sessions once the models are loaded, and runs their work on a bounded number of threads.

    A session is used by one task, which awaits each piece of its work, so its order is kept and no more
    than one piece per call waits for a thread.
    """

    def __init__(self, pace: SharedPace, threads: int, watched: Watched = lambda work: work) -> None:
        """`pace`: when heavy work gets its turn. `watched` wraps each piece of work when it is asked for."""
        self.pace = pace
        self._watched = watched
        self._waiting: set[object] = set()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="session")
        self._opener: Opener | None = None

    async def load(self, load: Callable[[], Opener]) -> None:
        """Loads the models on one of the threads; raises what `load` raises."""
        self._opener = await self.run(load)

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for a thread."""
        return len(self._waiting)

    @property
    def opener(self) -> Opener:
        """Raises LoadingError until the models are loaded."""
        if self._opener is None:
            raise LoadingError("expected the models to be loaded, found that they still load")
        return self._opener

    @property
    def mono(self) -> MonoOpener:
        """Raises LoadingError until the models are loaded."""
        return cast(MonoOpener, self.opener)  # an Engine is both

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        asked, watched = object(), self._watched(work)

        def begin() -> T:
            self._waiting.discard(asked)
            found: T = watched(*arguments)
            return found

        self._waiting.add(asked)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, begin)
        finally:
            self._waiting.discard(asked)  # cancelled before a thread was free

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


async def receive(context: Context, timeout_s: float) -> Any:
    """The caller's next message, or None when it has closed its side; raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        message = await context.read()
    return None if message is grpc.aio.EOF else message


async def receive_config(context: Context, timeout_s: float) -> Any:
    """The configuration in the caller's first message; raises MessageError when something else comes."""
    message = await receive(context, timeout_s)
    found = "the end of the stream" if message is None else message.WhichOneof("step") or "nothing"
    if found != "config":
        raise MessageError(("config", f"expected it in the first message, found {found}"))
    return message.config


@asynccontextmanager
async def statuses(context: Context, what: str) -> AsyncIterator[None]:
    """Turns errors into the status that ends the RPC; `what` names it in the log."""
    try:
        yield
    except TimeoutError:
        await _abort(context, grpc.StatusCode.DEADLINE_EXCEEDED, "expected the stream to move, found it idle")
    except MessageError as error:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=problem)
            for field, problem in error.problems
        ]
        await _abort(
            context,
            grpc.StatusCode.INVALID_ARGUMENT,
            str(error),
            error_details_pb2.BadRequest(field_violations=violations),
        )
    except AffectlineError as error:
        retry = [error_details_pb2.RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER_S))]
        await _abort(context, _code(error), str(error), *(retry if error.retryable else ()))
    except grpc.aio.AbortError:
        raise
    except Exception as error:
        log_failure(what, error)
        await _abort(context, grpc.StatusCode.INTERNAL, f"unexpected error; the server's log has it as {what}")


def log_failure(what: str, error: Exception) -> None:
    """Logs where an unexpected error arose; not its message, which could hold what was said in a call."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s failed: %s\n%s", what, type(error).__name__, where)


def _code(error: AffectlineError) -> grpc.StatusCode:
    match error:
        case StatusError():
            return error.code
        case InvalidInputError():
            return grpc.StatusCode.INVALID_ARGUMENT
        case CapacityError():
            return grpc.StatusCode.RESOURCE_EXHAUSTED
        case ModelMissingError():
            return grpc.StatusCode.FAILED_PRECONDITION
        case _:
            return grpc.StatusCode.UNAVAILABLE if error.retryable else grpc.StatusCode.INTERNAL


async def _abort(context: Context, code: grpc.StatusCode, message: str, *details: Message) -> NoReturn:
    packed = [AnyMessage() for _ in details]
    for each, detail in zip(packed, details, strict=True):
        each.Pack(detail)
    number: int = code.value[0]
    status = rpc_status.to_status(status_pb2.Status(code=number, message=message, details=packed))
    await context.abort(code, message, status.trailing_metadata or ())
