"""Who talks how much, over whom, and how fast."""

from collections.abc import Sequence

from affectline.models.signals import Span
from affectline.pipelines.timeline import Dynamics, Participant, SpeechTurn, Utterance

MIN_INTERRUPTION_US = 500_000
"""Shorter overlaps are listening sounds ("mhm"), not interruptions."""


def dynamics(
    participants: Sequence[Participant], turns: Sequence[SpeechTurn], utterances: Sequence[Utterance], end_us: int
) -> tuple[Dynamics, ...]:
    """Figures of each party over a call that lasted `end_us`."""
    spans = {p.id: sorted(t.span for t in turns if t.participant == p.id) for p in participants}
    talk = {name: sum(s.duration_us for s in own) for name, own in spans.items()}
    everyone_us = sum(talk.values())
    silence_us = _longest_silence(sorted(s for own in spans.values() for s in own), end_us)
    figures = []
    for name, own in spans.items():
        others = [s for other, theirs in spans.items() if other != name for s in theirs]
        overlaps = [(mine, their) for mine in own for their in others if mine.overlap_us(their)]
        words = sum(len(u.text.split()) for u in utterances if u.participant == name and u.words)
        figures.append(
            Dynamics(
                participant=name,
                talk_us=talk[name],
                talk_share=talk[name] / everyone_us if everyone_us else 0.0,
                overtalk_us=sum(mine.overlap_us(their) for mine, their in overlaps),
                interruptions=sum(
                    their.start_us < mine.start_us and mine.overlap_us(their) >= MIN_INTERRUPTION_US
                    for mine, their in overlaps
                ),
                longest_silence_us=silence_us,
                words_per_minute=words / (talk[name] / 60e6) if words else None,
            )
        )
    return tuple(figures)


def _longest_silence(spans: Sequence[Span], end_us: int) -> int:
    longest = reached_us = 0
    for span in [*spans, Span(end_us, end_us)]:
        longest = max(longest, span.start_us - reached_us)
        reached_us = max(reached_us, span.end_us)
    return longest
