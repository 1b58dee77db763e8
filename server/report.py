"""The report of one call: a single HTML file that needs no network and runs nothing but its own script."""

import base64
import gzip
import json
import re
from hashlib import sha256
from html import escape
from pathlib import Path
from string import Template

from affectline.models.errors import InvalidInputError
from affectline.pipelines.stages import stage_affect
from affectline.pipelines.timeline import CallTimeline
from affectline.server.exports import to_json
from affectline.server.look import DRIVER_WORDS, EMOTION_COLOURS, FACT_TITLES, LIKELIHOODS, TRAJECTORY_WORDS

WEB = Path(__file__).with_name("web")


def render_html(timeline: CallTimeline, *, audio: bytes | None = None, audio_mime: str = "audio/ogg") -> str:
    """The whole report as one HTML document.

    `audio` is the call as one file a browser can play, of type `audio_mime`; without it the report is
    silent. The timeline is carried as base64 of gzipped JSON, so no text of a call is ever read as markup.

    Raises:
        InvalidInputError: `audio_mime` is not an audio type.
    """
    if not re.fullmatch(r"audio/[\w.+-]+", audio_mime):
        raise InvalidInputError(f"expected a type such as audio/ogg, found {audio_mime!r}")
    template, style, *scripts = (
        (WEB / name).read_text(encoding="utf-8")
        for name in ("report.html", "report.css", "call.js", "affect-line.js", "report.js")
    )
    script = "\n".join(scripts)
    script_hash = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'unsafe-inline'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    source = f' src="data:{audio_mime};base64,{base64.b64encode(audio).decode()}"' if audio else ""
    # Numbers only: this block is read as markup.
    feelings = [[each.valence, each.upset_us] for each in stage_affect(timeline)]
    return Template(template).substitute(
        policy=policy,
        title=escape(timeline.name),
        style=style,
        script=script,
        look=json.dumps(
            {
                "colours": EMOTION_COLOURS,
                "likelihoods": LIKELIHOODS,
                "facts": FACT_TITLES,
                "trajectories": TRAJECTORY_WORDS,
                "drivers": DRIVER_WORDS,
                "stages": feelings,
            }
        ),
        call=base64.b64encode(gzip.compress(to_json(timeline), mtime=0)).decode(),
        audio=source,
    )
