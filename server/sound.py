"""A call's sound for a browser's player."""

from io import BytesIO

import av
import numpy as np

from affectline.pipelines.media import Recording, mute
from affectline.pipelines.timeline import CallTimeline, muted_spans


def heard_channels(timeline: CallTimeline) -> set[int]:
    """Channels on which everybody agreed."""
    silent = {party.channel for party in timeline.participants if party.consent != "granted"}
    return {party.channel for party in timeline.participants} - silent


def to_ogg(recording: Recording, timeline: CallTimeline) -> bytes:
    """The recording as Opus in Ogg; parties without consent and personal data are silent."""
    heard = heard_channels(timeline)
    muted = muted_spans(timeline)
    if recording.channels == 1:  # whoever says it, it is heard there
        muted = {0: [span for spans in muted.values() for span in spans]}
    buffer = BytesIO()
    layout = "stereo" if recording.channels > 1 else "mono"
    with av.open(buffer, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=48_000, layout=layout, options={"b": "24k"})
        pending: list[np.ndarray] = []
        for chunk in recording.chunks():
            if chunk.channel < 2:
                spans = muted.get(chunk.channel, ())
                pending.append(mute(chunk, spans) if chunk.channel in heard else np.zeros_like(chunk.pcm))
            if chunk.channel == recording.channels - 1:
                frame = av.AudioFrame.from_ndarray(np.stack(pending), "fltp", layout)
                frame.sample_rate = recording.rate_hz
                frame.pts = chunk.start_sample
                pending = []
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()
