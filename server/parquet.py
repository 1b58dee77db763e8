"""A call's moments as Apache Parquet, for tools that read columns. Needs the extra `parquet`."""

from io import BytesIO
from typing import Any, Final

from affectline.models.errors import ModelMissingError
from affectline.pipelines.timeline import CallTimeline
from affectline.server.exports import utterances_by_moment

SCHEMA: Final = "affectline.moments/1"
"""In the file's metadata under `affectline.schema`, beside the call's name and duration."""


class ExtraMissingError(ModelMissingError):
    """A format needs a package that is not installed."""


def to_parquet(timeline: CallTimeline) -> bytes:
    """One row per moment, in the timeline's order; null where a value is not known.

    Raises ExtraMissingError without pyarrow.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ExtraMissingError(
            "expected the package pyarrow for Parquet, found none: pip install affectline[parquet]"
        ) from None
    text = pa.dictionary(pa.int32(), pa.string())
    weight = pa.struct([("modality", pa.string()), ("weight", pa.float64())])
    reason = pa.struct([("modality", pa.string()), ("reason", pa.string())])
    numbers = ("probability", "valence", "arousal", "dominance", "stress", "anger", "level_dbfs", "speech_ratio")
    schema = pa.schema(
        [
            ("moment", pa.string()),
            ("start_us", pa.int64()),
            ("end_us", pa.int64()),
            ("participant", text),
            ("role", text),
            ("label", text),
            *((name, pa.float64()) for name in numbers),
            ("contributors", pa.list_(weight)),
            ("absent", pa.list_(reason)),
            ("utterances", pa.list_(pa.string())),
        ],
        metadata={
            "affectline.schema": SCHEMA,
            "affectline.call": timeline.name,
            "affectline.duration_us": str(timeline.duration_us),
        },
    )
    table = pa.Table.from_pylist(_rows(timeline), schema)
    buffer = BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _rows(timeline: CallTimeline) -> list[dict[str, Any]]:
    roles = {party.id: party.role for party in timeline.participants}
    utterances = utterances_by_moment(timeline)
    return [
        {
            "moment": moment.id,
            "start_us": moment.span.start_us,
            "end_us": moment.span.end_us,
            "participant": moment.participant,
            "role": roles.get(moment.participant),
            "label": moment.affect.label,
            "probability": moment.affect.probability,
            "valence": moment.affect.valence,
            "arousal": moment.affect.arousal,
            "dominance": moment.affect.dominance,
            "stress": moment.stress,
            "anger": moment.anger,
            "level_dbfs": moment.level_dbfs,
            "speech_ratio": moment.speech_ratio,
            "contributors": [{"modality": each.modality, "weight": each.weight} for each in moment.contributors],
            "absent": [{"modality": each.modality, "reason": each.reason} for each in moment.absent],
            "utterances": utterances[moment.id],
        }
        for moment in timeline.moments
    ]
