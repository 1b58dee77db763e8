"""Logs for people or, as JSON lines, for machines. Neither tells an exception's message, nor what a call was about."""

import json
import logging
import traceback
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Literal

LogFormat = Literal["text", "json"]
TEXT: Final = "%(asctime)s %(levelname)s %(message)s"

_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class PlainFormatter(logging.Formatter):
    """Of an exception, its type and where it arose: its message could hold what was said in a call."""

    def format(self, record: logging.LogRecord) -> str:
        record.exc_text = None  # another formatter may have left the message there
        return super().format(record)

    def formatException(self, ei: _Raised) -> str:  # noqa: N802
        return _where(ei)


class JsonFormatter(logging.Formatter):
    """One object per line: time (ISO 8601, UTC), level, logger, message and, of an exception, error and where."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0]:
            line |= {"error": record.exc_info[0].__name__, "where": _where(record.exc_info)}
        return json.dumps(line, ensure_ascii=False)


def configure(log_format: LogFormat) -> None:
    """Sends all logs from INFO on to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if log_format == "json" else PlainFormatter(TEXT))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _where(raised: _Raised) -> str:
    return "".join(traceback.format_tb(raised[2])) + (raised[0].__name__ if raised[0] else "")
