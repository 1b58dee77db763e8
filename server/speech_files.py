"""What was said, and by whom, in the formats of subtitles and of speech research."""

import re
import textwrap
from collections.abc import Iterator
from html import escape
from typing import Final

from affectline.pipelines.timeline import CallTimeline, Utterance

LINE_CHARACTERS: Final = 42
"""Of a subtitle, as broadcasters have it."""


def to_srt(timeline: CallTimeline) -> bytes:
    """SubRip: one block for each utterance, its party before its text, lines of up to LINE_CHARACTERS."""
    blocks = []
    for number, (utterance, start, end) in enumerate(_cues(timeline), 1):
        lines = "\n".join(_lines(f"{utterance.participant}: {utterance.text}"))
        blocks.append(f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{lines}\n")
    return "\n".join(blocks).encode()


def to_webvtt(timeline: CallTimeline) -> bytes:
    """WebVTT: one cue for each utterance under its id, its party as the voice."""
    blocks = ["WEBVTT\n"]
    for utterance, start, end in _cues(timeline):
        voice = escape(" ".join(utterance.participant.split()), quote=False)
        lines = escape("\n".join(_lines(utterance.text)), quote=False)
        name = re.sub(r"\s+|-->", "_", utterance.id)
        blocks.append(f"{name}\n{_clock(start, '.')} --> {_clock(end, '.')}\n<v {voice}>{lines}\n")
    return "\n".join(blocks).encode()


def to_rttm(timeline: CallTimeline) -> bytes:
    """RTTM of NIST's Rich Transcription: a SPEAKER line for each turn of speech; nothing of written conversations.

    Its fields: type, file, channel (from 1), start and duration in s, two that are not told, speaker, two not told.
    """
    channels = {party.id: party.channel + 1 for party in timeline.participants}
    call = _name(timeline.name)
    lines = [
        f"SPEAKER {call} {channels.get(turn.participant, 1)} {turn.span.start_us / 1e6:.3f} "
        f"{(turn.span.end_us - turn.span.start_us) / 1e6:.3f} <NA> <NA> {_name(turn.participant)} <NA> <NA>\n"
        for turn in timeline.speech
    ]
    return "".join(lines).encode()


def _cues(timeline: CallTimeline) -> Iterator[tuple[Utterance, int, int]]:
    """Utterances with words, their start and end in ms; none ends as it begins."""
    for utterance in timeline.utterances:
        if utterance.text.strip():
            start = utterance.span.start_us // 1_000
            yield utterance, start, max(start + 1, utterance.span.end_us // 1_000)


def _lines(text: str) -> list[str]:
    """Without empty ones, which would end the block."""
    return textwrap.wrap(" ".join(text.split()), LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False)


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1_000)
    return f"{seconds // 3_600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{ms:03}"


def _name(text: str) -> str:
    """One field: without blanks."""
    return re.sub(r"\s+", "_", text.strip()) or "<NA>"
