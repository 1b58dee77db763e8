"""The report of one call: a single HTML file that needs no network and runs nothing but its own script."""

import base64
import gzip
import re
from hashlib import sha256

from affectline.models.errors import InvalidInputError
from affectline.pipelines.timeline import CallTimeline
from affectline.server.exports import to_json
from affectline.server.web.pages import TEMPLATES, asset, look_of


def render_html(timeline: CallTimeline, *, audio: bytes | None = None, audio_mime: str = "audio/ogg") -> str:
    """The whole report as one HTML document.

    `audio` is the call as one file a browser can play, of type `audio_mime`; without it the report is
    silent. The timeline is carried as base64 of gzipped JSON, so no text of a call is ever read as markup.

    Raises:
        InvalidInputError: `audio_mime` is not an audio type.
    """
    if not re.fullmatch(r"audio/[\w.+-]+", audio_mime):
        raise InvalidInputError(f"expected a type such as audio/ogg, found {audio_mime!r}")
    script = "\n".join(map(asset, ("call.js", "affect-line.js", "call-view.js", "report.js")))
    script_hash = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'unsafe-inline'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    return TEMPLATES.get_template("report.html").render(
        policy=policy,
        title=timeline.name,
        style=asset("report.css"),
        script=script,
        look=look_of(),
        call=base64.b64encode(gzip.compress(to_json(timeline), mtime=0)).decode(),
        audio=f"data:{audio_mime};base64,{base64.b64encode(audio).decode()}" if audio else "",
    )
