"""A call's timeline as JSON, and back, and as a table."""

import csv
from bisect import bisect_right
from collections import defaultdict
from typing import Final, TextIO

from pydantic import TypeAdapter, ValidationError

from affectline.models.errors import InvalidInputError
from affectline.pipelines.timeline import CallTimeline

SCHEMA: Final = "affectline.timeline/1"

CSV_COLUMNS: Final[dict[str, str]] = {
    "call": "name of the call",
    "moment": "id of the moment",
    "start_s": "first second of media time inside, s",
    "end_s": "first second of media time after, s",
    "participant": "id of the party the row is about",
    "role": "customer, agent or other",
    "label": "most probable emotion, or unknown",
    "probability": "of the label, 0 to 1",
    "valence": "-1 unpleasant to 1 pleasant; empty when not known",
    "arousal": "-1 calm to 1 excited; empty when not known",
    "dominance": "-1 submissive to 1 in control; empty when not known",
    "stress": "tension against the speaker's own baseline, 0 to 1; empty until there is one",
    "anger": "the voice against its own usual towards anger, 0 to 1, angry from 0.5 on; empty without a voice",
    "level_dbfs": "RMS level, dB re full scale; empty where nothing may be analysed",
    "speech_ratio": "share of the time with speech, 0 to 1",
    "contributors": "modality=weight, separated by `; `; the weights sum to 1",
    "absent": "modality: reason, separated by `; `",
    "utterances": "ids of the party's utterances that overlap, separated by spaces",
}
"""Column -> what it holds. One row per moment."""

_adapter = TypeAdapter(CallTimeline)


def to_json(timeline: CallTimeline) -> bytes:
    """The whole timeline as one UTF-8 JSON document; `from_json` gives back an equal one."""
    return _adapter.dump_json(timeline)


def from_json(document: bytes) -> CallTimeline:
    """Reads what `to_json` wrote.

    Raises:
        InvalidInputError: not JSON, another schema, a field that is missing or of the wrong type, or a length below 0.
    """
    try:
        timeline = _adapter.validate_json(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise InvalidInputError(f"expected an {SCHEMA} document, found at {where}: {first['msg']}") from error
    if timeline.schema != SCHEMA:
        raise InvalidInputError(f"expected schema {SCHEMA}, found {timeline.schema!r}")
    if timeline.duration_us < 0:
        raise InvalidInputError(f"expected duration_us of 0 or more, found {timeline.duration_us}")
    return timeline


def write_csv(timeline: CallTimeline, file: TextIO) -> None:
    """Writes CSV_COLUMNS as a header and one row per moment, in the timeline's order.

    `file` is opened with `newline=""`. Texts that a spreadsheet would run as a formula get a leading quote.
    """
    roles = {party.id: party.role for party in timeline.participants}
    overlapping = utterances_by_moment(timeline)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for moment in timeline.moments:
        affect = moment.affect
        writer.writerow(
            (
                _text(timeline.name),
                _text(moment.id),
                _number(moment.span.start_us / 1e6),
                _number(moment.span.end_us / 1e6),
                _text(moment.participant),
                roles.get(moment.participant, ""),
                affect.label,
                _number(affect.probability),
                _number(affect.valence),
                _number(affect.arousal),
                _number(affect.dominance),
                _number(moment.stress),
                _number(moment.anger),
                _number(moment.level_dbfs),
                _number(moment.speech_ratio),
                "; ".join(f"{c.modality}={_number(c.weight)}" for c in moment.contributors),
                _text("; ".join(f"{absence.modality}: {absence.reason}" for absence in moment.absent)),
                _text(" ".join(overlapping[moment.id])),
            )
        )


def utterances_by_moment(timeline: CallTimeline) -> dict[str, list[str]]:
    by_party = defaultdict(list)
    for moment in timeline.moments:
        by_party[moment.participant].append(moment)
    starts = {party: [moment.span.start_us for moment in moments] for party, moments in by_party.items()}
    overlapping: dict[str, list[str]] = defaultdict(list)
    for utterance in timeline.utterances:
        moments = by_party[utterance.participant]
        first = bisect_right(starts.get(utterance.participant, []), utterance.span.start_us) - 1
        for moment in moments[max(0, first) :]:
            if moment.span.start_us >= utterance.span.end_us:
                break
            if moment.span.overlap_us(utterance.span):
                overlapping[moment.id].append(utterance.id)
    return overlapping


def _number(value: float | None) -> str:
    return "" if value is None else f"{round(value, 4):g}"


def _text(value: str) -> str:
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
