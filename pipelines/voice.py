"""Voice affect per second, from the encoding of the utterance it lies in."""

from collections.abc import Iterator, Sequence

from affectline.models.ports import VoiceAffect
from affectline.models.signals import AffectEstimate, Encoding, Span

SECOND_US = 1_000_000
WINDOW_US = 2_000_000
"""Around the middle of each second."""
MIN_SPEECH_US = 500_000
"""Less speech than this in the window says nothing about a voice."""
FULL_SPEECH_US = 1_500_000
"""From here on the amount of speech does not limit the quality."""


def voice_estimates(
    model: VoiceAffect,
    participant: str,
    encoding: Encoding,
    start_us: int,
    speech: Sequence[Span],
    signal_quality: float,
) -> Iterator[AffectEstimate]:
    """One estimate for each second that holds enough speech of the utterance.

    encoding starts at `start_us`; `speech` are the utterance's spans without its pauses; `signal_quality` in [0, 1].
    """
    end_us = start_us + encoding.input_frames * encoding.frame_us
    for second in range(speech[0].start_us // SECOND_US, -(-speech[-1].end_us // SECOND_US)):
        middle_us = second * SECOND_US + SECOND_US // 2
        window = Span(max(start_us, middle_us - WINDOW_US // 2), min(end_us, middle_us + WINDOW_US // 2))
        spoken_us = sum(window.overlap_us(span) for span in speech)
        if spoken_us < MIN_SPEECH_US:
            continue
        first = (window.start_us - start_us) // encoding.frame_us
        after = max(first + 1, (window.end_us - start_us) // encoding.frame_us)
        yield AffectEstimate(
            span=Span(second * SECOND_US, (second + 1) * SECOND_US),
            participant=participant,
            modality="voice",
            scores=model.estimate(encoding, first, after),
            quality=signal_quality * min(1.0, spoken_us / FULL_SPEECH_US),
            model=model.model,
        )
