"""Calls whose voices share one channel: found apart, and each given a channel of its own.

A recording is heard three times: for who speaks when (speakers.py, or another diarizer), for who is the agent, by the
words of the first turns (roles.py), and then as an ordinary call in which each voice has a channel. On it, the others
are muted; where two speak at once both get the sound, marked as mixed. So an agent's voice is never judged, and one
whose role is not known is taken as an agent's.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Final

import numpy as np

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ, Diarizer
from affectline.models.signals import F32, AudioChunk, Span
from affectline.pipelines.audio import ChannelAudio
from affectline.pipelines.media import Recording
from affectline.pipelines.recorded import Session
from affectline.pipelines.resample import Resampler
from affectline.pipelines.roles import RoleBelief, RoleFinder
from affectline.pipelines.session import CallConfig, ModelSet
from affectline.pipelines.speakers import MAX_SPEAKERS, Turn, diarize, listen
from affectline.pipelines.timeline import CallTimeline, Consent, Notice, Participant, Role
from affectline.pipelines.transcript import Transcriber
from affectline.pipelines.turns import whole_turns

LEAD_US: Final = 300_000
"""Silence belongs to who spoke last, up to so long before the next turn."""
ROLE_SPEECH_US: Final = 180_000_000
"""So much speech at most is read to find the roles …"""
ROLE_PIECE_US: Final = 14_000_000
"""… in pieces of at most this length."""
MIN_ROLE_PIECE_US: Final = 500_000
MAX_DIARIZED_S: Final = 2 * 3_600
"""Longest recording for a diarizer other than our own search. It takes the sound whole (460 MB), and pyannote.audio
compares all its windows in pairs."""
MAX_NEAR: Final = 64
"""Turns that are looked at for one chunk: more do not fit into one."""


@dataclass(frozen=True, slots=True)
class MonoConfig:
    """What is known of a call with all voices on one channel, before its first sample."""

    name: str
    rate_hz: int
    consent: Consent
    """Of all voices: they cannot be told apart before they are heard."""
    language: str | None = None
    roles: tuple[Role, ...] = ()
    """Of the speakers in the order in which they are first heard, who are so many; empty: found."""
    count: int | None = None
    """How many speak, where that is known."""
    biometric_basis: str | None = None
    """As Participant.biometric_basis, of whoever turns out to be an agent."""
    pictures_agreed: bool = False
    interim_results: bool = False

    def __post_init__(self) -> None:
        count = len(self.roles) or self.count
        if count is not None and not 1 <= count <= MAX_SPEAKERS:
            raise InvalidInputError(f"expected 1 to {MAX_SPEAKERS} speakers, found {count}")
        if self.roles and self.count not in (None, len(self.roles)):
            raise InvalidInputError(f"expected {len(self.roles)} speakers, as many as roles, found {self.count}")

    @property
    def speakers(self) -> int | None:
        return len(self.roles) or self.count


@dataclass(frozen=True, slots=True)
class Voices:
    """Who speaks when, and who they are."""

    turns: tuple[Turn, ...]
    """Their speakers are the ids of participants."""
    participants: tuple[Participant, ...]
    """Each on a channel of their own, that the recording does not have."""
    beliefs: Mapping[str, RoleBelief]
    """Of each participant."""
    diarizer: str | None = None
    """The model that said who speaks when; None where our own search did, or where it was known."""


def find_voices_of(
    recording: Recording,
    config: MonoConfig,
    models: ModelSet,
    *,
    turns: Sequence[Turn] | None = None,
    progress: Callable[[float], None] = lambda share: None,
) -> Voices:
    """turns: who speaks when where that is known, as from an RTTM file; its names become the ids. Otherwise
    `models.diarizer` is asked, and without one our own search.

    Raises InvalidInputError when the recording has not exactly one channel, its voices have not agreed, or cannot be
    read; with a diarizer also when it is longer than MAX_DIARIZED_S, or more than MAX_SPEAKERS are found.
    """
    if recording.channels != 1 or not recording.has_sound:
        raise InvalidInputError(f"expected a recording with one channel of sound, found {recording.channels}")
    if config.consent != "granted":
        raise InvalidInputError(
            f"expected the consent of all voices to be granted before they are told apart, found {config.consent}"
        )
    search = None
    if turns is None:
        search = speaker_search(models, _sound(recording, progress))
        turns = search(config.speakers)
    names = list(dict.fromkeys(turn.speaker for turn in sorted(turns, key=lambda turn: turn.span)))
    if config.roles and names and len(names) > len(config.roles):
        raise InvalidInputError(f"expected a role for each of {len(names)} speakers, found {len(config.roles)}")
    names = names or ["1"]
    finder = RoleFinder(models.cues)
    beliefs = _beliefs(recording, config, models, finder, turns, names, named=search is None)
    if search and config.speakers is None and len(names) == 1 and finder.both_sides(names[0]):
        # The voices are alike, but the words are those of two sides.
        turns = search(2)
        names = list(dict.fromkeys(turn.speaker for turn in turns))
        beliefs = _beliefs(recording, config, models, RoleFinder(models.cues), turns, names, named=False)
    ids = _ids([(name, beliefs[name].role) for name in names]) if search else {name: name for name in names}
    return Voices(
        tuple(replace(turn, speaker=ids[turn.speaker]) for turn in turns),
        tuple(participant(ids[name], beliefs[name].role, channel, config) for channel, name in enumerate(names)),
        {ids[name]: belief for name, belief in beliefs.items()},
        models.diarizer.model if search and models.diarizer else None,
    )


def speaker_search(models: ModelSet, sound: Iterator[F32]) -> Callable[[int | None], tuple[Turn, ...]]:
    """How many speak in the sound, where that is known -> who speaks when.

    sound: a whole recording, mono at RATE_HZ in blocks of any length; it is heard here, once. Both raise
    InvalidInputError as find_voices_of does.
    """
    if models.diarizer is None:
        return partial(diarize, listen(models.gate, models.speakers, sound))
    return partial(_diarized, models.diarizer, _joined(sound))


def _diarized(diarizer: Diarizer, pcm: F32, count: int | None) -> tuple[Turn, ...]:
    return whole_turns(diarizer.diarize(pcm, RATE_HZ, speakers=count) if len(pcm) else (), diarizer.model)


def _joined(sound: Iterator[F32]) -> F32:
    """[n] of all blocks."""
    joined = bytearray()  # it grows without being copied twice
    for block in sound:
        joined += block.tobytes()
        if len(joined) > MAX_DIARIZED_S * RATE_HZ * 4:
            raise InvalidInputError(
                f"expected at most {MAX_DIARIZED_S // 3_600} h of sound with a diarizer, which takes it whole; "
                "found more"
            )
    return np.frombuffer(joined, np.float32)


def analyze_voices(
    recording: Recording,
    config: MonoConfig,
    voices: Voices,
    open_session: Callable[[CallConfig], Session],
    progress: Callable[[float], None] = lambda share: None,
) -> CallTimeline:
    """The recording as a call of these voices."""
    call = CallConfig(config.name, voices.participants, recording.rate_hz, config.language)
    session = open_session(call)
    channels = {party.id: party.channel for party in voices.participants}
    split = Splitter(channels, recording.rate_hz)
    split.turns += voices.turns
    for chunk in recording.chunks():
        for piece in split.feed(chunk):
            session.push(piece)
        done_us = (chunk.start_sample + len(chunk.pcm)) * 1_000_000 // chunk.rate_hz
        progress(min(1.0, done_us / recording.duration_us) if recording.duration_us else 0.0)
    session.finish()
    for notice in notices(voices):
        session.note(notice)
    if recording.truncated:
        message = "Part of the recording is missing or damaged."
        session.note(Notice("truncated_recording", message, session.received_us))
    timeline = session.timeline()
    return replace(timeline, models={**timeline.models, "diarizer": voices.diarizer}) if voices.diarizer else timeline


def notices(voices: Voices) -> Iterator[Notice]:
    """What limits the answers of a call whose voices were told apart."""
    if len(voices.participants) > 1:
        message = "All voices were on one channel; who speaks when is the machine's guess, and may be wrong at times."
        yield Notice("voices_told_apart", message, 0)
    for party in voices.participants:
        if party.role == "unknown":
            message = f"Whether {party.id} is a customer or an agent is not known: their voice is not analysed."
            yield Notice("role_not_known", message, 0, party.id)


def participant(name: str, role: Role, channel: int, config: MonoConfig) -> Participant:
    basis = config.biometric_basis if role in ("agent", "unknown") else None
    return Participant(name, role, channel, config.consent, basis, config.pictures_agreed)


class Splitter:
    """Gives each voice a channel: `turns` is filled by the caller, in time order, ahead of the sound."""

    def __init__(self, channels: Mapping[str, int], rate_hz: int) -> None:
        """channels: speaker -> channel; more may be added while it runs."""
        self.channels = dict(channels)
        self.turns: list[Turn] = []
        self._rate_hz = rate_hz
        self._last: frozenset[str] = frozenset()
        """Who spoke last."""

    def feed(self, chunk: AudioChunk) -> Iterator[AudioChunk]:
        """The sound on each channel; all channels of one stretch come before the next stretch."""
        edges = (chunk.start_sample, chunk.start_sample + len(chunk.pcm))
        start_us, end_us = (edge * 1_000_000 // self._rate_hz for edge in edges)
        at = edges[0]
        for until_us, speakers in self._owners(start_us, end_us):
            end = edges[1] if until_us >= end_us else min(edges[1], until_us * self._rate_hz // 1_000_000)
            if end <= at:
                continue
            pcm = chunk.pcm[at - edges[0] : end - edges[0]]
            for speaker, channel in self.channels.items():
                own = speaker in speakers or (not speakers and channel == 0)
                sound = pcm if own else np.zeros_like(pcm)
                yield AudioChunk(channel, sound, self._rate_hz, at, mixed=own and len(speakers) > 1)
            at = end
        while self.turns and self.turns[0].span.end_us <= start_us:
            self._last = frozenset((self.turns.pop(0).speaker,))

    def _owners(self, start_us: int, end_us: int) -> Iterator[tuple[int, frozenset[str]]]:
        """(end, who has the sound until then) from `start_us` on."""
        near = [turn for turn in self.turns[:MAX_NEAR] if turn.span.start_us - LEAD_US < end_us]
        edges = {end_us}
        for turn in near:
            edges |= {turn.span.start_us - LEAD_US, turn.span.start_us, turn.span.end_us}
        for until_us in sorted(edge for edge in edges if start_us < edge <= end_us):
            now = frozenset(t.speaker for t in near if t.span.start_us < until_us <= t.span.end_us)
            if not now:
                coming = [t for t in near if 0 <= t.span.start_us - until_us < LEAD_US]
                now = frozenset((min(coming, key=lambda t: t.span).speaker,) if coming else sorted(self._last)[:1])
            self._last = now
            yield until_us, now


def _sound(recording: Recording, progress: Callable[[float], None]) -> Iterator[F32]:
    """The only channel at RATE_HZ, gaps as silence."""
    resampler, at = Resampler(recording.rate_hz, RATE_HZ), 0
    for chunk in recording.chunks():
        missing = chunk.start_sample - at
        while missing > 0:
            yield resampler.feed(np.zeros(min(missing, 10 * recording.rate_hz), np.float32))
            missing -= 10 * recording.rate_hz
        at = chunk.start_sample + len(chunk.pcm)
        yield resampler.feed(chunk.pcm)
        if recording.duration_us:
            progress(min(1.0, at * 1_000_000 / recording.rate_hz / recording.duration_us))
    yield resampler.finish()


def _beliefs(
    recording: Recording,
    config: MonoConfig,
    models: ModelSet,
    finder: RoleFinder,
    turns: Sequence[Turn],
    names: Sequence[str],
    *,
    named: bool,
) -> dict[str, RoleBelief]:
    """Each speaker's role: as given, as its name says, or from the words of the first turns."""
    if config.roles:
        return {name: RoleBelief(role, 1.0) for name, role in zip(names, config.roles, strict=False)}
    known: dict[str, Role] = {"customer": "customer", "agent": "agent", "other": "other"}
    if named and all(name in known for name in names):
        return {name: RoleBelief(known[name], 1.0) for name in names}
    transcriber = Transcriber(models.encoder, models.recogniser)
    read_us: dict[str, int] = defaultdict(int)
    for turn, pcm in _pieces(recording, turns):
        if sum(read_us.values()) > ROLE_SPEECH_US:
            break
        read_us[turn.speaker] += turn.span.duration_us
        said = transcriber.read(
            pcm,
            turn.span.start_us,
            language=config.language,
            usual_language=None,
            translates=lambda spoken: spoken not in models.text.languages,
        )
        heard, english = said.transcription, said.translation
        if heard.text:
            finder.hear(turn.speaker, heard.text, heard.language, english.text if english else None)
        beliefs = finder.beliefs(names)
        if len(names) > 1 and all(b.role != "unknown" and b.confidence > 0.99 for b in beliefs.values()):
            break
    found = finder.beliefs(names)
    if len(names) == 1 and found[names[0]].role != "agent":
        # A single voice is a customer's, as on any recording with one channel, unless it speaks like an agent.
        return {names[0]: RoleBelief("customer", found[names[0]].confidence)}
    return found


def _pieces(recording: Recording, turns: Sequence[Turn]) -> Iterator[tuple[Turn, F32]]:
    """Stretches of one voice by itself, with their sound at RATE_HZ, in time order."""
    stretches: list[Turn] = []
    alone = [turn for turn in turns if not turn.overlap]
    for speaker, group in groupby(alone, lambda turn: turn.speaker):
        for turn in group:
            last = stretches[-1] if stretches else None
            if (
                last is not None
                and last.speaker == speaker
                and turn.span.start_us - last.span.end_us < 1_000_000
                and turn.span.end_us - last.span.start_us <= ROLE_PIECE_US
            ):
                stretches[-1] = replace(last, span=Span(last.span.start_us, turn.span.end_us))
            else:
                stretches.append(turn)
    stretches = [turn for turn in stretches if turn.span.duration_us >= MIN_ROLE_PIECE_US]
    audio = ChannelAudio(recording.rate_hz, 1)
    chunks = recording.chunks()
    for turn in stretches:
        start = turn.span.start_us * RATE_HZ // 1_000_000
        end = min(turn.span.end_us, turn.span.start_us + ROLE_PIECE_US) * RATE_HZ // 1_000_000
        audio.forget_before(start)
        while audio.frames < end and (chunk := next(chunks, None)) is not None:
            audio.push(chunk)
            audio.forget_before(start)
        pcm = audio.read(start, end)
        if len(pcm) >= RATE_HZ // 4:
            yield turn, pcm.copy()


def _ids(roles: Sequence[tuple[str, Role]]) -> dict[str, str]:
    """Speaker -> id: the role where only one has it, `speaker-N` otherwise."""
    held = [role for _, role in roles]
    return {
        name: role if role in ("customer", "agent") and held.count(role) == 1 else f"speaker-{number}"
        for number, (name, role) in enumerate(roles, 1)
    }
