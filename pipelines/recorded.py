"""A whole recording through one call session, as fast as it goes."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from affectline.models.errors import InvalidInputError
from affectline.models.signals import AudioChunk, Gap, Span
from affectline.pipelines.media import Recording
from affectline.pipelines.pictures import PICTURE_EVERY_US
from affectline.pipelines.session import CallConfig, Input
from affectline.pipelines.timeline import CallTimeline, Camera, Notice, Output, Participant


class Session(Protocol):
    """What users of a call session need of it; see session.CallSession."""

    @property
    def received_us(self) -> int: ...
    @property
    def idle_until_us(self) -> int: ...
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
    InvalidInputError when a participant's channel is not in the recording, unless that has no sound at all, or when the
    recording cannot be read.
    """
    channels = {participant.channel for participant in config.participants}
    if recording.has_sound and max(channels) >= recording.channels:
        raise InvalidInputError(
            f"expected participants on channels 0 to {recording.channels - 1}, which the recording has; "
            f"found one on channel {max(channels)}"
        )
    session = open_session(config)
    pictures = recording.pictures(config.cameras[0].id, PICTURE_EVERY_US) if config.cameras else iter(())
    picture = next(pictures, None)
    for item in recording.chunks() if recording.has_sound else _without_sound(recording, channels):
        if item.channel in channels:
            session.push(item)
        while picture is not None and picture.at_us <= session.received_us:
            session.push(picture)
            picture = next(pictures, None)
        end_us = item.span.end_us if isinstance(item, Gap) else _end_us(item)
        progress(min(1.0, end_us / recording.duration_us) if recording.duration_us else 0.0)
    session.finish()
    if recording.truncated:
        session.note(_truncated(recording, session.received_us))
    return session.timeline()


def film_cameras(recording: Recording, participants: Sequence[Participant], shows: str | None) -> tuple[Camera, ...]:
    """The recording's own video as a front camera of the party `shows`; none without a video.

    None for `shows` is the only customer; with several, or none, the video is nobody's. Raises InvalidInputError when
    there is no such party.
    """
    if not recording.has_video:
        return ()
    ids = [party.id for party in participants]
    if shows is None:
        customers = [party.id for party in participants if party.role == "customer"]
        return (Camera("video", customers[0], "front"),) if len(customers) == 1 else ()
    if shows not in ids:
        raise InvalidInputError(f"expected the video to show one of {', '.join(ids)}; found {shows!r}")
    return (Camera("video", shows, "front"),)


def _without_sound(recording: Recording, channels: set[int]) -> Iterator[Gap]:
    duration_us = recording.duration_us or 0
    for start_us in range(0, duration_us, PICTURE_EVERY_US):
        for channel in channels:
            yield Gap(channel, Span(start_us, min(start_us + PICTURE_EVERY_US, duration_us)), "no sound")


def _end_us(chunk: AudioChunk) -> int:
    return (chunk.start_sample + len(chunk.pcm)) * 1_000_000 // chunk.rate_hz


def _truncated(recording: Recording, received_us: int) -> Notice:
    expected = f" of {recording.duration_us / 1e6:.1f} s" if recording.duration_us else ""
    message = f"Part of the recording is missing or damaged: {received_us / 1e6:.1f} s{expected} could be read."
    return Notice("truncated_recording", message, received_us)
