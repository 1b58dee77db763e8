"""A whole recording through one call session, as fast as it goes."""

from collections.abc import Callable
from dataclasses import replace

from affectline.models.errors import InvalidInputError
from affectline.pipelines.media import Recording
from affectline.pipelines.session import CallConfig, CallSession
from affectline.pipelines.timeline import CallTimeline, Notice


def analyze_recording(
    recording: Recording,
    config: CallConfig,
    open_session: Callable[[CallConfig], CallSession],
    progress: Callable[[float], None] = lambda share: None,
) -> CallTimeline:
    """The recording's timeline. `progress` is told the share done, in [0, 1], where the length is known.

    Channels without a participant are left out. Raises InvalidInputError when a participant's channel is not in the
    recording, or the recording cannot be read.
    """
    channels = {participant.channel for participant in config.participants}
    if max(channels) >= recording.channels:
        raise InvalidInputError(
            f"expected participants on channels 0 to {recording.channels - 1}, which the recording has; "
            f"found one on channel {max(channels)}"
        )
    session = open_session(config)
    for chunk in recording.chunks():
        if chunk.channel in channels:
            session.push(chunk)
        end_us = (chunk.start_sample + len(chunk.pcm)) * 1_000_000 // chunk.rate_hz
        progress(min(1.0, end_us / recording.duration_us) if recording.duration_us else 0.0)
    session.finish()
    timeline = session.timeline()
    if not recording.truncated:
        return timeline
    notice = Notice("truncated_recording", "Part of the recording is missing or damaged.", timeline.duration_us)
    return replace(timeline, notices=(*timeline.notices, notice))
