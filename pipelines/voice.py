"""Voice affect per second, from the encoding of the utterance it lies in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from affectline.models.ports import VoiceAffect
from affectline.models.signals import F32, AffectEstimate, Encoding, FeatureStats, Span

SECOND_US = 1_000_000
WINDOW_US = 2_000_000
"""Around the middle of each second."""
MIN_SPEECH_US = 500_000
"""Less speech than this in the window says nothing about a voice."""
FULL_SPEECH_US = 1_500_000
"""From here on the amount of speech does not limit the quality."""


@dataclass(frozen=True, slots=True)
class Window:
    """The frames around one second that a voice is judged from."""

    second: int
    first: int
    after: int
    """Frames [first, after) of the encoding."""
    spoken_us: int
    """Speech within it."""


def voice_windows(encoding: Encoding, start_us: int, speech: Sequence[Span]) -> Iterator[Window]:
    """One window for each second that holds enough speech of an utterance.

    encoding starts at `start_us`; `speech` are the utterance's spans without its pauses.
    """
    end_us = start_us + encoding.input_frames * encoding.frame_us
    for second in range(speech[0].start_us // SECOND_US, -(-speech[-1].end_us // SECOND_US)):
        middle_us = second * SECOND_US + SECOND_US // 2
        window = Span(max(start_us, middle_us - WINDOW_US // 2), min(end_us, middle_us + WINDOW_US // 2))
        spoken_us = sum(window.overlap_us(span) for span in speech)
        if spoken_us >= MIN_SPEECH_US:
            first = (window.start_us - start_us) // encoding.frame_us
            yield Window(second, first, max(first + 1, (window.end_us - start_us) // encoding.frame_us), spoken_us)


def voice_estimates(
    model: VoiceAffect,
    participant: str,
    encoding: Encoding,
    start_us: int,
    speech: Sequence[Span],
    signal_quality: float,
    site: FeatureStats | None,
) -> Iterator[AffectEstimate]:
    """The voice's affect in each of `voice_windows`; `signal_quality` in [0, 1]."""
    for window in voice_windows(encoding, start_us, speech):
        yield AffectEstimate(
            span=Span(window.second * SECOND_US, (window.second + 1) * SECOND_US),
            participant=participant,
            modality="voice",
            scores=model.estimate(encoding, window.first, window.after, site),
            quality=signal_quality * min(1.0, window.spoken_us / FULL_SPEECH_US),
            model=model.model,
        )


def site_features(model: VoiceAffect, encoding: Encoding, start_us: int, speech: Sequence[Span]) -> Iterator[F32]:
    """What a site baseline learns from one utterance: the features [k] of each full window."""
    for window in voice_windows(encoding, start_us, speech):
        if window.spoken_us >= FULL_SPEECH_US:
            yield model.features(encoding, window.first, window.after)
