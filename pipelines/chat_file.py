"""A written conversation from a file: JSON Lines, one turn a line."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from affectline.models.errors import InvalidInputError
from affectline.models.signals import TextEvent
from affectline.pipelines.chat import MAX_LENGTH_US, MAX_PARTICIPANTS, check_language
from affectline.pipelines.redaction import find_personal, redact
from affectline.pipelines.session import MAX_TEXT_CHARACTERS, MAX_WRITTEN
from affectline.pipelines.text import seconds_to_say
from affectline.pipelines.timeline import Role

MAX_FILE_BYTES = 64 * 2**20
MAX_LINE_BYTES = 12 * MAX_TEXT_CHARACTERS + 4_096
"""JSON may take twelve bytes for a character; and something for the rest of the line."""
MAX_NAME_CHARACTERS = 64
KEYS = ("participant", "text", "at", "language", "role")
ROLES: Mapping[str, Role] = {"customer": "customer", "agent": "agent", "other": "other"}


@dataclass(frozen=True, slots=True)
class ChatFile:
    roles: Mapping[str, Role]
    """Who writes, in order of their first turn, in which role."""
    turns: tuple[TextEvent, ...]
    """The first one at 0."""


def is_chat(path: Path) -> bool:
    """Whether the name is that of a written conversation."""
    return path.suffix.lower() in {".jsonl", ".ndjson"}


def read_chat(path: Path, roles: Mapping[str, Role]) -> ChatFile:
    """`roles`: those known beforehand, by name; they win over the file's.

    A line is an object with `participant` (customer, agent, other or a name), `text`, and where known `at` (ISO 8601,
    or seconds), `language` (ISO 639-1) and `role`. Without `at`, turns follow each other as long as it takes to say
    them. Raises InvalidInputError that names file, line, what was expected and what was found.
    """
    reader = _Reader(dict(roles))
    for number, line in _lines(path):
        try:
            reader.take(number, line)
        except InvalidInputError as error:
            raise InvalidInputError(f"{path.name} line {number}: {error}") from None
    if not reader.turns:
        raise InvalidInputError(f"{path.name}: expected one turn a line, found an empty file")
    for name, number in reader.unknown.items():
        raise InvalidInputError(
            f'{path.name} line {number}: expected the role of {name!r}, as "role" in one of their lines or as '
            f"{name}:ROLE, with {', '.join(ROLES)}; found none"
        )
    return ChatFile({name: reader.roles[name] for name in reader.names}, tuple(reader.turns))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(number from 1, content) of the lines that are not blank; the file is never in memory as a whole."""
    try:
        with path.open("rb") as file:
            size, number = 0, 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                size, number = size + len(line), number + 1
                if len(line) > MAX_LINE_BYTES:
                    raise InvalidInputError(
                        f"{path.name} line {number}: expected at most {MAX_LINE_BYTES} bytes, found more"
                    )
                if size > MAX_FILE_BYTES:
                    raise InvalidInputError(
                        f"{path.name} line {number}: expected a file of at most {MAX_FILE_BYTES} bytes, found more"
                    )
                if number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # the mark that some programs put in front of UTF-8
                if line.strip():
                    yield number, line
    except OSError as error:
        raise InvalidInputError(f"cannot read {path}: {error.strerror}") from error


class _Reader:
    """Takes line after line; errors are about the line at hand."""

    def __init__(self, roles: dict[str, Role]) -> None:
        self.roles = roles
        self.turns: list[TextEvent] = []
        self.names: list[str] = []
        self.unknown: dict[str, int] = {}
        """Writers without a role yet -> line of their first turn."""
        self._given = frozenset(roles)
        self._first: datetime | float | None = None
        """The first turn's time, where the file has times."""

    def take(self, number: int, line: bytes) -> None:
        found = _parsed(line)
        if len(self.turns) >= MAX_WRITTEN:
            raise InvalidInputError(f"expected at most {MAX_WRITTEN} turns, found more")
        if extra := sorted(set(found) - set(KEYS)):
            raise InvalidInputError(f"expected the keys {', '.join(KEYS)}; found {', '.join(map(_shown, extra[:5]))}")
        name = _text(found, "participant", MAX_NAME_CHARACTERS)
        text = _text(found, "text", MAX_TEXT_CHARACTERS)
        language = _text(found, "language", MAX_NAME_CHARACTERS) if found.get("language") is not None else None
        check_language(language)
        at_us = self._at_us(found.get("at"))
        self._meet(number, name, found.get("role"))
        self.turns.append(TextEvent(name, text, at_us, language))

    def _at_us(self, at: object) -> int:
        last = self.turns[-1] if self.turns else None
        if last is None:
            self._first = None if at is None else _time(at)
            return 0
        if self._first is None or at is None:
            if self._first is not None or at is not None:
                expected, found = ("a time", "none") if at is None else ("no time", _shown(at))
                raise InvalidInputError(f"expected {expected} as 'at', like the turns before; found {found}")
            at_us = last.at_us + seconds_to_say(last.text) * 1_000_000
        else:
            at_us = _since(self._first, _time(at), at)
        if at_us < last.at_us:
            raise InvalidInputError(f"expected a time not before that of the turn before as 'at', found {_shown(at)}")
        if at_us > MAX_LENGTH_US:
            raise InvalidInputError(f"expected turns within {MAX_LENGTH_US // 86_400_000_000} days, found {_shown(at)}")
        return at_us

    def _meet(self, number: int, name: str, role: object) -> None:
        if role is not None and not (isinstance(role, str) and role in ROLES):
            raise InvalidInputError(f"expected one of {', '.join(ROLES)} as 'role', found {_shown(role)}")
        if name not in self.names:
            if len(self.names) >= MAX_PARTICIPANTS:
                raise InvalidInputError(f"expected at most {MAX_PARTICIPANTS} participants, found one more")
            self.names.append(name)
            self.unknown[name] = number
        if name not in self._given and isinstance(role, str):
            if self.roles.setdefault(name, ROLES[role]) != role:
                raise InvalidInputError(f"expected the participant as {self.roles[name]}, as before; found {role!r}")
        elif name in ROLES:
            self.roles.setdefault(name, ROLES[name])
        if name in self.roles:
            self.unknown.pop(name, None)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"expected UTF-8, found the byte 0x{line[error.start]:02x}") from None
    except (ValueError, RecursionError) as error:
        why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "something else"
        raise InvalidInputError(f"expected a JSON object, found no JSON: {why}") from None
    if not isinstance(found, dict):
        raise InvalidInputError(f"expected a JSON object, found {_kind(found)}")
    return found


def _text(found: Mapping[str, Any], key: str, most: int) -> str:
    if key not in found:
        raise InvalidInputError(f"expected {key!r}, found none")
    text = found[key]
    if not isinstance(text, str):
        raise InvalidInputError(f"expected a text as {key!r}, found {_kind(text)}")
    text = text.strip()
    if not 1 <= len(text) <= most:
        raise InvalidInputError(f"expected 1 to {most} characters as {key!r}, found {len(text)}")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidInputError(f"expected whole characters as {key!r}, found half of a surrogate pair")
    return text


def _time(at: object) -> datetime | float:
    """A point in time, or seconds."""
    if isinstance(at, str):
        try:
            return datetime.fromisoformat(at.strip())
        except ValueError:
            _no_time(_shown(at))
    if isinstance(at, bool) or not isinstance(at, (int, float)):
        _no_time(_kind(at))
    try:
        seconds = float(at)
    except OverflowError:
        seconds = math.inf
    if not abs(seconds) < 1e12:
        _no_time("a number that is too large")
    return seconds


def _no_time(found: str) -> NoReturn:
    raise InvalidInputError(
        f"expected ISO 8601 such as \"2026-05-03T10:15:00Z\" or seconds as a number as 'at', found {found}"
    )


def _since(first: datetime | float, time: datetime | float, at: object) -> int:
    """Microseconds between two times of the same kind."""
    if isinstance(first, datetime) and isinstance(time, datetime) and (first.tzinfo is None) == (time.tzinfo is None):
        passed = time - first
        return (passed.days * 86_400 + passed.seconds) * 1_000_000 + passed.microseconds
    if isinstance(first, datetime) or isinstance(time, datetime):
        raise InvalidInputError(f"expected times of one kind, with or without a zone or in seconds, found {_shown(at)}")
    return round((time - first) * 1_000_000)


def _shown(value: object) -> str:
    """The value as it is written, without personal data, cut where it is long."""
    text = repr(value)
    text = redact(text, find_personal(text))
    return text if len(text) <= 60 else f"{text[:60]}…"


def _kind(value: object) -> str:
    """What JSON calls it."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
