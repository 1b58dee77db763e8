"""A whole recording through one call session, as fast as it goes."""

from collections.abc import Callable
from typing import Protocol

from affectline.models.errors import InvalidInputError
from affectline.pipelines.media import Recording
from affectline.pipelines.session import CallConfig, Input
from affectline.pipelines.timeline import CallTimeline, Notice, Output

PICTURE_EVERY_US = 200_000


class Session(Protocol):
    """What users of a call session need of it; see session.CallSession."""

    @property
    def received_us(self) -> int: ...
    @property
    def final_us(self) -> int: ...
    def push(self, item: Input) -> list[Output]: ...
    def note(self, notice: Notice) -> None: ...
    def finish(self) -> list[Output]: ...
    def timeline(self) -> CallTimeline: ...


def analyze_recording(
    recording: Recording,
    config: CallConfig,
    open_session: Callable[[CallConfig], Session],
    progress: Callable[[float], None] = lambda share: None,
) -> CallTimeline:
    """The recording's timeline. `progress` is told the share done, in [0, 1], where the length is known.

    Channels without a participant are left out; the recording's video is that of the first camera. Raises
    InvalidInputError when a participant's channel is not in the recording, or the recording cannot be read.
    """
    channels = {participant.channel for participant in config.participants}
    if max(channels) >= recording.channels:
        raise InvalidInputError(
            f"expected participants on channels 0 to {recording.channels - 1}, which the recording has; "
            f"found one on channel {max(channels)}"
        )
    session = open_session(config)
    pictures = recording.pictures(config.cameras[0].id, PICTURE_EVERY_US) if config.cameras else iter(())
    picture = next(pictures, None)
    for chunk in recording.chunks():
        if chunk.channel in channels:
            session.push(chunk)
        while picture is not None and picture.at_us <= session.received_us:
            session.push(picture)
            picture = next(pictures, None)
        end_us = (chunk.start_sample + len(chunk.pcm)) * 1_000_000 // chunk.rate_hz
        progress(min(1.0, end_us / recording.duration_us) if recording.duration_us else 0.0)
    session.finish()
    if recording.truncated:
        session.note(_truncated(recording, session.received_us))
    return session.timeline()


def _truncated(recording: Recording, received_us: int) -> Notice:
    expected = f" of {recording.duration_us / 1e6:.1f} s" if recording.duration_us else ""
    message = f"Part of the recording is missing or damaged: {received_us / 1e6:.1f} s{expected} could be read."
    return Notice("truncated_recording", message, received_us)
