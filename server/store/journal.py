"""What came out of a running call, as it is written while it runs, and the timeline that can be made from it."""

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pydantic import TypeAdapter, ValidationError

from affectline.models.errors import InvalidInputError
from affectline.pipelines.changes import change_points
from affectline.pipelines.facts import find_facts
from affectline.pipelines.scores import score_parties
from affectline.pipelines.summary import summarise
from affectline.pipelines.timeline import (
    CallTimeline,
    Consent,
    Dynamics,
    Moment,
    Notice,
    Output,
    Snapshot,
    SpeechTurn,
    Stage,
    Suggestion,
    SuggestionFeedback,
    Summary,
    Utterance,
    VocalSummary,
)
from affectline.server.exports import from_json, to_json


@dataclass(frozen=True, slots=True)
class ConsentSaid:
    """A party's consent, from `at_us` on."""

    participant: str
    consent: Consent
    biometric_basis: str | None
    at_us: int


@dataclass(slots=True)
class Entry:
    """What became known since the last one, by kind; each in the order in which it did."""

    received_us: int
    utterances: list[Utterance] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)
    suggestions: list[Suggestion] = field(default_factory=list)
    speech: list[SpeechTurn] = field(default_factory=list)
    vocal: list[VocalSummary] = field(default_factory=list)
    dynamics: list[Dynamics] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    feedback: list[SuggestionFeedback] = field(default_factory=list)
    consents: list[ConsentSaid] = field(default_factory=list)

    def take(self, item: Output | SuggestionFeedback | ConsentSaid) -> None:
        """What can still change is left out, and comes when it is final."""
        match item:
            case Utterance() if item.final:
                self.utterances.append(item)
            case Moment() if item.final:
                self.moments.append(item)
            case Suggestion():
                self.suggestions.append(item)
            case SpeechTurn():
                self.speech.append(item)
            case VocalSummary():
                self.vocal.append(item)
            case Dynamics():
                self.dynamics.append(item)
            case Stage():
                self.stages.append(item)
            case Notice():
                self.notices.append(item)
            case Snapshot():
                self.snapshots.append(item)
            case SuggestionFeedback():
                self.feedback.append(item)
            case ConsentSaid():
                self.consents.append(item)


_adapter = TypeAdapter(Entry)


def write_start(timeline: CallTimeline) -> bytes:
    """The call before its first sound: who takes part, and which models listen."""
    empty = replace(
        timeline,
        duration_us=0,
        utterances=(),
        moments=(),
        suggestions=(),
        speech=(),
        vocal=(),
        dynamics=(),
        summary=Summary((), ()),
        notices=(),
        facts=(),
        snapshots=(),
        feedback=(),
        changes=(),
        scores=(),
        interruptions=(),
        stages=(),
    )
    return gzip.compress(to_json(empty), 6)


def write_entry(entry: Entry) -> bytes:
    return gzip.compress(_adapter.dump_json(entry), 1)


def so_far(journal: Sequence[bytes]) -> CallTimeline:
    """The timeline as far as it was written: first a start, then entries. Raises InvalidInputError when damaged."""
    start, entries = from_json(_unpacked(journal[0])), [_read(data) for data in journal[1:]]
    moments = {(m.participant, m.span.start_us): m for entry in entries for m in entry.moments}
    suggestions = {each.id: each for entry in entries for each in entry.suggestions}
    figures = {each.participant: each for entry in entries for each in entry.dynamics}
    feedback = {each.suggestion_id: each for entry in entries for each in entry.feedback}
    parties = {party.id: party for party in start.participants}
    for said in (each for entry in entries for each in entry.consents):
        if said.participant in parties:
            basis = said.biometric_basis or parties[said.participant].biometric_basis
            parties[said.participant] = replace(parties[said.participant], consent=said.consent, biometric_basis=basis)
    participants = tuple(parties.values())
    duration_us = max((entry.received_us for entry in entries), default=0)
    stages = current_stages([stage for entry in entries for stage in entry.stages])
    ordered = tuple(sorted(moments.values(), key=lambda m: (m.span.start_us, m.participant)))
    utterances = tuple(sorted((u for e in entries for u in e.utterances), key=lambda u: (u.span, u.participant)))
    return replace(
        start,
        participants=participants,
        duration_us=duration_us,
        utterances=utterances,
        moments=ordered,
        suggestions=tuple(suggestions.values()),
        speech=tuple(sorted((t for e in entries for t in e.speech), key=lambda t: (t.span, t.participant))),
        vocal=tuple(sorted((v for e in entries for v in e.vocal), key=lambda v: (v.span, v.participant))),
        dynamics=tuple(figures[each.id] for each in participants if each.id in figures),
        summary=summarise(participants, utterances, ordered),
        notices=tuple(each for entry in entries for each in entry.notices),
        snapshots=tuple(each for entry in entries for each in entry.snapshots),
        facts=find_facts(participants, utterances),
        feedback=tuple(sorted(feedback.values(), key=lambda f: (f.at_us, f.suggestion_id))),
        changes=change_points(ordered),
        scores=score_parties(participants, utterances, ordered, duration_us, stages=stages),
        stages=stages,
    )


def current_stages(told: Sequence[Stage]) -> tuple[Stage, ...]:
    """Each stage as it was told last; it replaces that of its id, and all that began after it."""
    stages: dict[str, Stage] = {}
    for stage in told:
        stages = {
            key: each for key, each in stages.items() if key != stage.id and each.span.start_us <= stage.span.start_us
        }
        stages[stage.id] = stage
    return tuple(sorted(stages.values(), key=lambda each: each.span))


def _read(data: bytes) -> Entry:
    try:
        return _adapter.validate_json(_unpacked(data))
    except ValidationError as error:
        raise InvalidInputError("expected a journal of a call, found a damaged one") from error


def _unpacked(data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InvalidInputError("expected gzipped JSON, found something else") from error
