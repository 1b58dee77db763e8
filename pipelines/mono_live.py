"""A running call whose voices share one channel: an ordinary call session behind the search for speakers.

Sound waits until it is settled who speaks (speakers_live.DELAY_US), and then goes to its speaker's channel. A voice is
a party whose role is not known, so that only their words are used, until their words say with confidence who they are.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ
from affectline.models.signals import AudioChunk, EncodedFrame, Gap, GapReason, Span, VideoFrame
from affectline.pipelines.audio import MAX_JUMP_S
from affectline.pipelines.mono import MonoConfig, Splitter, participant
from affectline.pipelines.resample import Resampler
from affectline.pipelines.roles import RoleFinder
from affectline.pipelines.session import CallConfig, CallSession, ConsentChange, Input, ModelSet
from affectline.pipelines.speakers_live import SpeakerTracker
from affectline.pipelines.timeline import CallTimeline, Consent, Notice, Output, Participant, Role, Utterance

SURE: Final = 0.95
"""Least confidence with which a role is taken on while the call runs; it goes again below roles.CONFIDENT."""
PIECE_S: Final = 1
"""Sound is passed on in pieces of at most this length."""


class MonoSession:
    """Satisfies recorded.Session. Not thread-safe."""

    def __init__(self, config: MonoConfig, models: ModelSet, open_session: Callable[[CallConfig], CallSession]) -> None:
        """Raises InvalidInputError when the voices have not agreed, or what `open_session` raises."""
        if config.consent != "granted":
            raise InvalidInputError(
                f"expected the consent of all voices to be granted before they are told apart, found {config.consent}"
            )
        self._config = config
        self._first = self._party(0)
        self._session = open_session(
            CallConfig(
                config.name,
                (self._first,),
                config.rate_hz,
                config.language,
                interim_results=config.interim_results,
                live=True,
            )
        )
        self._tracker = SpeakerTracker(models.gate, models.speakers, config.speakers)
        self._splitter = Splitter({}, config.rate_hz)
        self._resampler = Resampler(config.rate_hz, RATE_HZ)
        self._finder = RoleFinder(models.cues)
        self._parties: dict[str, Participant] = {}
        """Speaker -> party, in the order in which they were first heard."""
        self._consents: dict[str, Consent] = {}
        self._waiting: deque[AudioChunk | Gap] = deque()
        self._received = 0
        """Samples that have come, gaps included."""
        self._finished = False

    @property
    def received_us(self) -> int:
        return self._received * 1_000_000 // self._config.rate_hz

    @property
    def idle_until_us(self) -> int:
        return 0  # every piece of sound is looked through for voices

    @property
    def final_us(self) -> int:
        return self._session.final_us

    def push(self, item: Input) -> list[Output]:
        """As CallSession.push; media is that of channel 0. Raises InvalidInputError."""
        if self._finished:
            raise InvalidInputError("expected nothing after the end of the call, found more input")
        match item:
            case AudioChunk():
                return list(self._hear(item))
            case Gap():
                missing = item.span.end_us * self._config.rate_hz // 1_000_000 - self._received
                return list(self._miss(missing, item.reason))
            case ConsentChange():
                outputs = self._session.push(item)  # raises for who is not known
                self._consents[item.participant] = item.consent
                return outputs
            case VideoFrame() | EncodedFrame():
                raise InvalidInputError("expected no pictures in a call with mixed voices, found one")
            case _:
                return self._learn(self._session.push(item))

    def note(self, notice: Notice) -> None:
        self._session.note(notice)

    def finish(self) -> list[Output]:
        if self._finished:
            return []
        self._finished = True
        self._splitter.turns += self._tracker.feed(self._resampler.finish()) + self._tracker.finish()
        outputs = [*self._release(self.received_us), *self._learn(self._session.finish())]
        for notice in self._limits():
            self._session.note(notice)
            outputs.append(notice)
        return outputs

    def timeline(self) -> CallTimeline:
        return self._session.timeline()

    def _limits(self) -> Iterator[Notice]:
        if len(self._parties) > 1:
            message = (
                "All voices were on one channel; who speaks when is the machine's guess, and may be wrong at times."
            )
            yield Notice("voices_told_apart", message, self.received_us)
        for party in self._parties.values():
            if party.role == "unknown":
                message = f"Whether {party.id} is a customer or an agent is not known: their voice is not analysed."
                yield Notice("role_not_known", message, self.received_us, party.id)

    def _hear(self, chunk: AudioChunk) -> Iterator[Output]:
        if chunk.rate_hz != self._config.rate_hz or chunk.channel != 0:
            raise InvalidInputError(
                f"expected audio of channel 0 at {self._config.rate_hz} Hz, "
                f"found channel {chunk.channel} at {chunk.rate_hz} Hz"
            )
        missing = chunk.start_sample - self._received
        if missing > MAX_JUMP_S * self._config.rate_hz:
            raise InvalidInputError(
                f"expected the audio to go on at sample {self._received}, found {chunk.start_sample}, "
                f"more than {MAX_JUMP_S} s ahead"
            )
        yield from self._miss(missing, "loss")
        pcm = chunk.pcm[max(0, -missing) :]
        if any(consent != "granted" for consent in self._consents.values()):
            yield from self._miss(len(pcm), "consent withdrawn")
            return
        for start in range(0, len(pcm), PIECE_S * chunk.rate_hz):
            piece = pcm[start : start + PIECE_S * chunk.rate_hz]
            self._waiting.append(AudioChunk(0, piece, chunk.rate_hz, self._received))
            self._received += len(piece)
            self._splitter.turns += self._tracker.feed(self._resampler.feed(piece))
            yield from self._release(self._tracker.settled_us)

    def _miss(self, samples: int, reason: GapReason) -> Iterator[Output]:
        """Media that does not come: silence for the search, a gap for everybody."""
        step = PIECE_S * self._config.rate_hz
        while samples > 0:
            piece = min(samples, step)
            start_us = self.received_us
            self._received += piece
            samples -= piece
            self._waiting.append(Gap(0, Span(start_us, self.received_us), reason))
            self._splitter.turns += self._tracker.feed(self._resampler.feed(np.zeros(piece, np.float32)))
            yield from self._release(self._tracker.settled_us)

    def _release(self, until_us: int) -> Iterator[Output]:
        """What is waiting and settled goes to its speakers."""
        for turn in self._splitter.turns:
            if turn.speaker not in self._parties:
                yield from self._meet(turn.speaker)
        while self._waiting:
            item = self._waiting[0]
            if isinstance(item, Gap):
                if item.span.end_us > until_us:
                    return
                self._waiting.popleft()
                for channel in range(max(1, len(self._parties))):
                    yield from self._learn(self._session.push(replace(item, channel=channel)))
                continue
            settled = until_us * item.rate_hz // 1_000_000 - item.start_sample
            if settled <= 0:
                return
            self._waiting.popleft()
            if settled < len(item.pcm):
                rest = replace(item, pcm=item.pcm[settled:], start_sample=item.start_sample + settled)
                self._waiting.appendleft(rest)
            for piece in self._splitter.feed(replace(item, pcm=item.pcm[:settled])):
                yield from self._learn(self._session.push(piece))

    def _meet(self, speaker: str) -> Iterator[Output]:
        party = self._party(len(self._parties))
        if self._parties:
            yield from self._learn(self._session.join(party))
        self._parties[speaker] = party
        self._splitter.channels[speaker] = party.channel
        yield party

    def _party(self, number: int) -> Participant:
        """The next voice, with the role that was given for it."""
        roles = self._config.roles
        role: Role = roles[number] if number < len(roles) else "unknown"
        alone = role in ("customer", "agent") and roles.count(role) == 1
        return participant(role if alone else f"speaker-{number + 1}", role, number, self._config)

    def _learn(self, outputs: list[Output]) -> list[Output]:
        """Lets the words say who is who."""
        if self._config.roles:
            return outputs
        told: list[Output] = []
        for item in outputs:
            told.append(item)
            if isinstance(item, Utterance) and item.final:
                self._finder.hear(item.participant, item.text, item.language, item.translation)
                told += self._changed_roles()
        return told

    def _changed_roles(self) -> Iterator[Participant]:
        beliefs = self._finder.beliefs([party.id for party in self._parties.values()])
        for speaker, party in self._parties.items():
            belief = beliefs[party.id]
            sure = belief.confidence >= SURE or belief.role == party.role
            role: Role = belief.role if sure else "unknown"
            if role != party.role:
                self._session.change_role(party.id, role)
                self._parties[speaker] = changed = participant(party.id, role, party.channel, self._config)
                yield changed
