"""What requests share: everything that is wrong with a message is found before it is refused."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from affectline.models.errors import InvalidInputError
from affectline.pipelines.timeline import CustomerHistory, Participant
from affectline.protos.v1 import timeline_pb2
from affectline.server.wire.names import CONSENT_NAMES, EMOTION_NAMES, OUTCOME_NAMES, ROLE_NAMES
from affectline.server.wire.timeline import customer_history_from_wire, participant_from_wire

MAX_EARLIER_CALLS: Final = 100
MAX_DAYS_AGO: Final = 36_500
END_OF_TIME_S: Final = 4_102_444_800
"""Seconds from 1970 to 2100."""
MAX_PROBLEMS: Final = 20
"""As many are told at once: statuses travel in headers, which callers take up to 8 KiB of."""


class MessageError(InvalidInputError):
    """A message that breaks the protocol; the call cannot go on."""

    def __init__(self, *problems: tuple[str, str]) -> None:
        """`problems`: (path of the field, what was expected and what was found)."""
        super().__init__("; ".join(f"{field}: {problem}" for field, problem in problems))
        self.problems = problems


class Check:
    """Collects what is wrong with a message, so that the caller sees all of it at once."""

    def __init__(self) -> None:
        self.problems: list[tuple[str, str]] = []

    def that(self, holds: bool, field: str, problem: str) -> None:
        if not holds:
            self.problems.append((field, problem))

    def length(self, text: str, field: str, low: int, high: int) -> None:
        self.that(low <= len(text) <= high, field, f"expected {low} to {high} characters, found {len(text)}")

    def done(self) -> None:
        if self.problems:
            raise MessageError(*self.problems[:MAX_PROBLEMS])


def check_participants(
    check: Check, path: str, messages: Sequence[timeline_pb2.Participant], most: int
) -> tuple[Participant, ...]:
    """All but their channels; nobody when they are too few or too many."""
    if not 1 <= len(messages) <= most:
        check.problems.append((path, f"expected 1 to {most} participants, found {len(messages)}"))
        return ()
    participants = []
    index_of: dict[str, int] = {}
    for index, message in enumerate(messages):
        field = f"{path}[{index}]"
        check.length(message.id, f"{field}.id", 1, 64)
        check.length(message.biometric_basis, f"{field}.biometric_basis", 0, 256)
        first = index_of.setdefault(message.id, index)
        check.that(first == index, f"{field}.id", f"expected an id of its own, found that of participants[{first}]")
        check.that(
            message.role in ROLE_NAMES and ROLE_NAMES[message.role] != "unknown",
            f"{field}.role",
            f"expected customer, agent or other, found {message.role}",
        )
        check.that(
            message.consent in {0, *CONSENT_NAMES},
            f"{field}.consent",
            f"expected granted, pending or denied, found {message.consent}",
        )
        participants.append(participant_from_wire(message))
    return tuple(participants)


def check_language(check: Check, field: str, language: str | None) -> None:
    check.that(
        language is None or re.fullmatch("[a-z]{2,3}", language) is not None,
        field,
        "expected an ISO 639-1 code such as `en`, found something else",
    )


def check_history(check: Check, path: str, message: timeline_pb2.CustomerHistory) -> CustomerHistory:
    check.that(
        len(message.calls) <= MAX_EARLIER_CALLS,
        f"{path}.calls",
        f"expected at most {MAX_EARLIER_CALLS}, found {len(message.calls)}",
    )
    calls = message.calls[:MAX_EARLIER_CALLS]
    for index, call in enumerate(calls):
        field = f"{path}.calls[{index}]"
        check.that(
            0 <= call.days_ago <= MAX_DAYS_AGO,
            f"{field}.days_ago",
            f"expected 0 to {MAX_DAYS_AGO}, found another value",
        )
        check.that(call.mood in {0, *EMOTION_NAMES}, f"{field}.mood", f"expected an emotion, found {call.mood}")
        check.that(
            call.outcome in {0, *OUTCOME_NAMES}, f"{field}.outcome", f"expected an outcome, found {call.outcome}"
        )
        check.length(call.topic, f"{field}.topic", 0, 64)
        check.length(call.open_promise, f"{field}.open_promise", 0, 256)
    return customer_history_from_wire(calls)


def check_text(check: Check, field: str, text: str, low: int, high: int) -> None:
    check.length(text, field, low, high)
    check.that("\0" not in text, field, "expected text, found a zero character")


def check_time(check: Check, field: str, message: Message, name: str) -> datetime | None:
    if not message.HasField(name):
        return None
    time: Timestamp = getattr(message, name)
    if not (0 <= time.seconds < END_OF_TIME_S and 0 <= time.nanos < 1_000_000_000):
        check.problems.append((field, "expected a time of the years 1970 to 2099, found another one"))
        return None
    return time.ToDatetime(tzinfo=UTC)
