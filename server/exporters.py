"""Every format in which a call can be taken away, by name; the command line and the API both offer these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import Final

from affectline.models.errors import InvalidInputError
from affectline.pipelines.timeline import CallTimeline
from affectline.server.aws_json import to_call_analytics, to_contact_lens
from affectline.server.exports import to_json, write_csv
from affectline.server.parquet import to_parquet
from affectline.server.report import render_html
from affectline.server.speech_files import to_rttm, to_srt, to_webvtt


@dataclass(frozen=True, slots=True)
class Exporter:
    """One format."""

    suffix: str
    """Of a file, without the dot."""
    media_type: str
    summary: str
    """For people, in a few words."""
    write: Callable[[CallTimeline], bytes]


def _csv(timeline: CallTimeline) -> bytes:
    table = StringIO(newline="")
    write_csv(timeline, table)
    return table.getvalue().encode()


EXPORTERS: Final[Mapping[str, Exporter]] = {
    "json": Exporter("json", "application/json", "the whole timeline, without loss", to_json),
    "csv": Exporter("csv", "text/csv; charset=utf-8", "one row per moment", _csv),
    "parquet": Exporter("parquet", "application/vnd.apache.parquet", "the same as Apache Parquet", to_parquet),
    "srt": Exporter("srt", "application/x-subrip", "subtitles", to_srt),
    "webvtt": Exporter("vtt", "text/vtt; charset=utf-8", "subtitles for the web", to_webvtt),
    "rttm": Exporter("rttm", "text/plain; charset=utf-8", "who spoke when", to_rttm),
    "contact-lens": Exporter(
        "contact-lens.json", "application/json", "fields of Amazon Connect Contact Lens", to_contact_lens
    ),
    "call-analytics": Exporter(
        "call-analytics.json", "application/json", "fields of Amazon Transcribe Call Analytics", to_call_analytics
    ),
    "html": Exporter(
        "html", "text/html; charset=utf-8", "a page for people", lambda timeline: render_html(timeline).encode()
    ),
}


def exporter(name: str) -> Exporter:
    """Raises InvalidInputError for an unknown format."""
    if name not in EXPORTERS:
        raise InvalidInputError(f"expected a format of {', '.join(EXPORTERS)}; found {name[:40]!r}")
    return EXPORTERS[name]
