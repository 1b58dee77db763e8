"""Between protobuf and questions to the store, with their answers; the other modules have the calls themselves."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from math import nan
from typing import Any, Final, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from affectline.models.errors import InvalidInputError
from affectline.pipelines.outcomes import MAX_NOTE_CHARACTERS, Outcome
from affectline.protos.v1 import calls_pb2, timeline_pb2
from affectline.server.store.query import (
    Aggregate,
    By,
    CallFilter,
    CallRow,
    CallState,
    Correction,
    Group,
    Hit,
    Interval,
    LabelTime,
    Order,
)
from affectline.server.wire.checks import END_OF_TIME_S, MessageError
from affectline.server.wire.names import EMOTIONS, OUTCOME_KINDS, STAGES
from affectline.server.wire.requests import MAX_CALL_ID_CHARACTERS

STATES: Final[dict[CallState, calls_pb2.CallState.ValueType]] = {
    "running": calls_pb2.CALL_STATE_RUNNING,
    "finished": calls_pb2.CALL_STATE_FINISHED,
    "broken_off": calls_pb2.CALL_STATE_BROKEN_OFF,
}
ORDERS: Final[dict[int, Order]] = {
    calls_pb2.CALL_ORDER_UNSPECIFIED: "newest",
    calls_pb2.CALL_ORDER_NEWEST: "newest",
    calls_pb2.CALL_ORDER_OLDEST: "oldest",
    calls_pb2.CALL_ORDER_LONGEST: "longest",
    calls_pb2.CALL_ORDER_MOST_NEGATIVE: "most_negative",
    calls_pb2.CALL_ORDER_MOST_POSITIVE: "most_positive",
    calls_pb2.CALL_ORDER_NEEDS_HELP: "needs_help",
}
GROUPS: Final[dict[int, By]] = {
    calls_pb2.CALL_GROUP_QUEUE: "queue",
    calls_pb2.CALL_GROUP_PRODUCT: "product",
    calls_pb2.CALL_GROUP_STAGE: "stage",
    calls_pb2.CALL_GROUP_AGENT_GROUP: "agent_group",
    calls_pb2.CALL_GROUP_HOUR: "hour",
    calls_pb2.CALL_GROUP_LANGUAGE: "language",
    calls_pb2.CALL_GROUP_DAY: "day",
}
FORMATS: Final = {
    calls_pb2.EXPORT_FORMAT_JSON: "json",
    calls_pb2.EXPORT_FORMAT_CSV: "csv",
    calls_pb2.EXPORT_FORMAT_PARQUET: "parquet",
    calls_pb2.EXPORT_FORMAT_SRT: "srt",
    calls_pb2.EXPORT_FORMAT_WEBVTT: "webvtt",
    calls_pb2.EXPORT_FORMAT_RTTM: "rttm",
    calls_pb2.EXPORT_FORMAT_CONTACT_LENS: "contact-lens",
    calls_pb2.EXPORT_FORMAT_CALL_ANALYTICS: "call-analytics",
    calls_pb2.EXPORT_FORMAT_HTML: "html",
}
T = TypeVar("T")
EXPORT_PIECE_BYTES: Final = 256 * 1024


def read_filter(message: calls_pb2.CallFilter, field: str = "filter") -> CallFilter:
    """Raises MessageError; `field` is where the message stands."""

    def optional(name: str) -> Any:
        return getattr(message, name) if message.HasField(name) else None  # type: ignore[arg-type]

    names: dict[int, CallState] = {value: name for name, value in STATES.items()}
    try:
        return CallFilter(
            started_from=_read_time(message, "begin_time", field),
            started_before=_read_time(message, "end_time", field),
            queues=tuple(message.queues),
            products=tuple(message.products),
            languages=tuple(message.languages),
            agent_groups=tuple(message.agent_groups),
            states=tuple(_one_of(names, state, f"{field}.states") for state in message.states),
            label=_named(EMOTIONS, message.emotion, f"{field}.emotion"),
            label_min_s=message.min_seconds or 1.0,
            stage=_named(STAGES, message.stage, f"{field}.stage"),
            policies=tuple(message.policies),
            with_alert=optional("with_alert"),
            outcome=_named(OUTCOME_KINDS, message.outcome, f"{field}.outcome"),
            outcome_min=optional("outcome_min"),
            outcome_max=optional("outcome_max"),
            outcome_bad=optional("outcome_bad"),
            words=message.words,
            demo=optional("demo"),
        )
    except MessageError:
        raise
    except InvalidInputError as error:
        raise MessageError((field, str(error))) from error


def read_order(message: calls_pb2.ListCallsRequest) -> Order:
    return _one_of(ORDERS, message.order, "order")


def read_group(message: calls_pb2.AggregateCallsRequest) -> By:
    return _one_of(GROUPS, message.by, "by")


def read_format(message: calls_pb2.ExportCallRequest) -> str:
    return _one_of(FORMATS, message.format, "format")


def read_call_id(message: Any) -> str:
    """Raises MessageError for what cannot be one."""
    call_id: str = message.call_id
    if not 1 <= len(call_id) <= MAX_CALL_ID_CHARACTERS or "\0" in call_id:
        raise MessageError(("call_id", f"expected 1 to {MAX_CALL_ID_CHARACTERS} characters, found {len(call_id)}"))
    return call_id


def read_correction(message: calls_pb2.CorrectLabelRequest) -> tuple[str, str, Any, str | None]:
    """(call, moment, label, note); raises MessageError."""
    call_id = read_call_id(message)
    if not 1 <= len(message.moment_id) <= MAX_CALL_ID_CHARACTERS:
        found = len(message.moment_id)
        raise MessageError(("moment_id", f"expected 1 to {MAX_CALL_ID_CHARACTERS} characters, found {found}"))
    label = _named(EMOTIONS, message.emotion, "emotion")
    if label is None:
        raise MessageError(("emotion", "expected an emotion, found none"))
    if len(message.note) > MAX_NOTE_CHARACTERS:
        raise MessageError(("note", f"expected at most {MAX_NOTE_CHARACTERS} characters, found {len(message.note)}"))
    return call_id, message.moment_id, label, message.note.strip() or None


def read_mask(message: Any, *always: str) -> FieldMask | None:
    """The fields of StoredCall that are wanted, and those that always are. Raises MessageError for unknown ones."""
    if not message.HasField("read_mask"):
        return None
    mask = FieldMask(paths=[*message.read_mask.paths, *always])
    if not mask.IsValidForDescriptor(calls_pb2.StoredCall.DESCRIPTOR):
        known = ", ".join(field.name for field in calls_pb2.StoredCall.DESCRIPTOR.fields)
        raise MessageError(("read_mask", f"expected fields of {known}; found another one"))
    return mask


def stored_call(row: CallRow, mask: FieldMask | None = None) -> calls_pb2.StoredCall:
    whole = calls_pb2.StoredCall(
        id=row.id,
        name=row.name,
        begin_time=_timestamp(row.began),
        begin_time_unknown=row.started is None,
        change_time=_timestamp(row.changed),
        duration_us=round(row.duration_s * 1e6),
        state=STATES[row.state],
        queue=row.queue or "",
        product=row.product or "",
        agent_group=row.agent_group or "",
        language=row.language or "",
        emotions=map(_emotion_time, row.labels),
        valence=row.valence,
        sparkline=[nan if each is None else each for each in row.sparkline or ()],
        alerts=row.alerts,
        last_suggestion=row.last_suggestion or "",
        outcomes=map(_outcome, row.outcomes),
        demo=row.demo,
    )
    if mask is None:
        return whole
    wanted = calls_pb2.StoredCall()
    mask.MergeMessage(whole, wanted)
    return wanted


def utterance_hit(hit: Hit) -> calls_pb2.UtteranceHit:
    return calls_pb2.UtteranceHit(
        call_id=hit.call_id,
        call_name=hit.call_name,
        begin_time=_timestamp(hit.began),
        utterance_id=hit.utterance_id,
        participant=hit.participant,
        span=timeline_pb2.Span(start_us=hit.start_us, end_us=hit.end_us),
        excerpt=hit.excerpt,
        matches=[calls_pb2.TextSpan(start=start, end=end) for start, end in hit.matches],
    )


def aggregate(found: Aggregate) -> calls_pb2.AggregateCallsResponse:
    return calls_pb2.AggregateCallsResponse(
        groups=map(_group, found.groups),
        withheld_groups=found.withheld_groups,
        withheld_calls=found.withheld_calls,
        min_calls=found.min_calls,
    )


def label_correction(made: Correction) -> calls_pb2.LabelCorrection:
    return calls_pb2.LabelCorrection(
        moment_id=made.moment,
        participant=made.participant,
        start_us=made.start_us,
        before=EMOTIONS[made.before],
        emotion=EMOTIONS[made.label],
        note=made.note or "",
        record_time=_timestamp(made.recorded),
    )


def export_pieces(data: bytes, media_type: str, file_name: str) -> Iterator[calls_pb2.ExportCallResponse]:
    """At least one, which tells what it is."""
    for start in range(0, max(1, len(data)), EXPORT_PIECE_BYTES):
        piece = calls_pb2.ExportCallResponse(data=data[start : start + EXPORT_PIECE_BYTES])
        if not start:
            piece.media_type, piece.file_name = media_type, file_name
        yield piece


def _emotion_time(each: LabelTime) -> calls_pb2.EmotionTime:
    return calls_pb2.EmotionTime(emotion=EMOTIONS[each.label], seconds=each.seconds, share=each.share)


def _outcome(each: Outcome) -> calls_pb2.CallOutcomeValue:
    at = _timestamp(each.at) if each.at else None
    return calls_pb2.CallOutcomeValue(kind=OUTCOME_KINDS[each.kind], value=each.value, at=at)


def _group(group: Group) -> calls_pb2.CallGroupFigures:
    return calls_pb2.CallGroupFigures(
        key=group.key or "",
        key_unknown=group.key is None,
        calls=group.calls,
        seconds=group.seconds,
        emotions=[
            calls_pb2.EmotionShare(
                emotion=EMOTIONS[label], time_share=share, call_share=group.call_shares.get(label, 0.0)
            )
            for label, share in group.time_shares.items()
        ],
        valence=_mean(group.valence) if group.valence else None,
    )


def _mean(interval: Interval) -> calls_pb2.CallMean:
    return calls_pb2.CallMean(mean=interval.mean, low=interval.low, high=interval.high, calls=interval.calls)


def _one_of(known: Mapping[Any, T], value: int, field: str) -> T:
    if value not in known:
        raise MessageError((field, f"expected {', '.join(map(str, known.values()))}; found {value}"))
    return known[value]


def _named(values: Any, value: int, field: str) -> Any:
    """Our name of an enum's value; None where nothing is said."""
    return _one_of({number: name for name, number in values.items()}, value, field) if value else None


def _read_time(message: Message, name: str, field: str) -> datetime | None:
    if not message.HasField(name):
        return None
    time: Timestamp = getattr(message, name)
    if not (0 <= time.seconds < END_OF_TIME_S and 0 <= time.nanos < 1_000_000_000):
        raise MessageError((f"{field}.{name}", "expected a time of the years 1970 to 2099, found another one"))
    return time.ToDatetime(tzinfo=UTC)


def _timestamp(time: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(time)
    return timestamp
