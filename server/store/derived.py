"""What is searched and counted of a call: rows made from its timeline, and nothing that the timeline does not say."""

import re
import unicodedata
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from affectline.models.labels import UNKNOWN
from affectline.pipelines.timeline import CallTimeline, Moment, Participant, Stage, Suggestion, Utterance

VERSION: Final = 1
"""Counts up when the rows change; rows of an older version are made anew when the store is opened."""
SPARKLINE_POINTS: Final = 60
WORD: Final = re.compile(r"[^\W_]+")
_NOTHING: Final = -128
_STEPS: Final = 127
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Derived:
    """Rows without the call's id, by table; `call` are columns of `calls`."""

    call: Row
    participants: list[Row]
    utterances: list[Row]
    moments: list[Row]
    stages: list[Row]
    feelings: list[Row]
    models: list[Row]
    suggestions: list[Row]


def derive(timeline: CallTimeline) -> Derived:
    """All rows of a call that is over."""
    customers = {party.id for party in timeline.participants if party.role == "customer"}
    felt = [moment for moment in timeline.moments if moment.participant in customers]
    feelings = feelings_of(felt, timeline.stages)
    return Derived(
        call={
            "name": storable(timeline.name),
            "duration_us": timeline.duration_us,
            "language": language_of(timeline.utterances),
            "state": "broken_off" if any(n.code == "broken_off" for n in timeline.notices) else "finished",
            "sparkline": sparkline(felt, 0, timeline.duration_us),
            "alerts": alerts_of(timeline.suggestions),
            "last_suggestion": last_suggestion(timeline.suggestions),
            **mean_valence(feelings),
        },
        participants=participant_rows(timeline.participants),
        utterances=utterance_rows(timeline.utterances),
        moments=moment_rows(timeline.moments),
        stages=stage_rows(timeline.stages),
        feelings=feelings,
        models=model_rows(timeline.models),
        suggestions=suggestion_rows(timeline.suggestions),
    )


def participant_rows(participants: Sequence[Participant]) -> list[Row]:
    return [
        {
            "id": each.id,
            "role": each.role,
            "channel": each.channel,
            "consent": each.consent,
            "biometric_basis": each.biometric_basis,
            "pictures_agreed": each.pictures_agreed,
        }
        for each in participants
    ]


def utterance_rows(utterances: Sequence[Utterance]) -> list[Row]:
    return [
        {
            "id": each.id,
            "participant": each.participant,
            "start_us": each.span.start_us,
            "end_us": each.span.end_us,
            "text": storable(each.text),
            "words": searched(f"{each.text}\n{each.translation}" if each.translation else each.text),
        }
        for each in utterances
    ]


def moment_rows(moments: Sequence[Moment]) -> list[Row]:
    """One for each second of a party; of two that begin at once, the later one."""
    rows = {
        (each.participant, each.span.start_us): {
            "participant": each.participant,
            "start_us": each.span.start_us,
            "id": each.id,
            "end_us": each.span.end_us,
            "label": each.affect.label,
            "probability": each.affect.probability,
            "valence": each.affect.valence,
            "arousal": each.affect.arousal,
            "stress": each.stress,
        }
        for each in moments
    }
    return list(rows.values())


def stage_rows(stages: Sequence[Stage]) -> list[Row]:
    return [
        {
            "id": each.id,
            "name": each.name,
            "start_us": each.span.start_us,
            "end_us": each.span.end_us,
            "confidence": each.confidence,
        }
        for each in stages
    ]


def model_rows(models: Mapping[str, str]) -> list[Row]:
    return [{"task": task, "model": model} for task, model in models.items()]


def suggestion_rows(suggestions: Sequence[Suggestion]) -> list[Row]:
    return [
        {
            "id": each.id,
            "kind": each.kind,
            "action": each.action,
            "policy": each.policy,
            "created_us": each.created_us,
            "expires_us": each.expires_us,
            "participant": each.participant,
            "priority": each.priority,
            "confidence": each.confidence,
            "text": storable(each.text),
        }
        for each in suggestions
    ]


def feelings_of(moments: Sequence[Moment], stages: Sequence[Stage]) -> list[Row]:
    """How long each label was felt, in the whole call (stage empty) and in each stage, by the moments' middles."""
    starts = [stage.span.start_us for stage in stages]
    sums: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0, 0.0])
    for moment in moments:
        span, affect = moment.span, moment.affect
        took_us = span.end_us - span.start_us
        middle_us = span.start_us + took_us // 2
        number = bisect_right(starts, middle_us) - 1
        within = number >= 0 and middle_us < stages[number].span.end_us
        known = affect.label != UNKNOWN and affect.valence is not None
        for stage in ("", stages[number].name) if within else ("",):
            each = sums[stage, affect.label]
            each[0] += took_us
            if known:
                each[1] += took_us
                each[2] += took_us * (affect.valence or 0.0)
    return [
        {"stage": stage, "label": label, "us": int(us), "valued_us": int(valued_us), "valence_us": valence_us}
        for (stage, label), (us, valued_us, valence_us) in sums.items()
    ]


def mean_valence(feelings: Sequence[Row]) -> Row:
    """Of the whole call: mean valence where it is known, and for how long it is."""
    whole = [row for row in feelings if not row["stage"]]
    valued_us = sum(row["valued_us"] for row in whole)
    total = sum(row["valence_us"] for row in whole)
    return {"valence": total / valued_us if valued_us else None, "valued_us": valued_us}


def alerts_of(suggestions: Sequence[Suggestion]) -> int:
    return sum(each.kind == "alert" for each in suggestions)


def last_suggestion(suggestions: Sequence[Suggestion]) -> str | None:
    last = max(suggestions, key=lambda each: (each.created_us, each.revision), default=None)
    return storable(last.text) if last else None


def sparkline(moments: Sequence[Moment], start_us: int, end_us: int) -> bytes | None:
    """The valence from `start_us` to `end_us` as SPARKLINE_POINTS signed bytes, see `read_sparkline`.

    None where none is known in that time.
    """
    length_us = end_us - start_us
    known = [
        (m.span.start_us - start_us, m.span.end_us - start_us, m.affect.valence)
        for m in moments
        if m.affect.label != UNKNOWN and m.affect.valence is not None and start_us < m.span.end_us
    ]
    if length_us <= 0 or not known:
        return None
    table = np.array(known, np.float64)
    scale = SPARKLINE_POINTS / length_us
    first = np.clip((table[:, 0] * scale).astype(int), 0, SPARKLINE_POINTS - 1)
    last = np.clip(np.ceil(table[:, 1] * scale).astype(int) - 1, first, SPARKLINE_POINTS - 1)
    total, count = np.zeros(SPARKLINE_POINTS + 1), np.zeros(SPARKLINE_POINTS + 1)
    np.add.at(total, first, table[:, 2])
    np.add.at(total, last + 1, -table[:, 2])
    np.add.at(count, first, 1)
    np.add.at(count, last + 1, -1)
    total, count = np.cumsum(total)[:-1], np.cumsum(count)[:-1]
    steps = np.rint(np.clip(total / np.maximum(count, 1), -1, 1) * _STEPS)
    return np.where(count > 0, steps, _NOTHING).astype(np.int8).tobytes()


def read_sparkline(data: bytes | None) -> tuple[float | None, ...] | None:
    """SPARKLINE_POINTS mean valences in [-1, 1]; None where none is known."""
    if data is None:
        return None
    return tuple(
        None if step == _NOTHING else round(step / _STEPS, 3) for step in np.frombuffer(data, np.int8).tolist()
    )


def language_of(utterances: Sequence[Utterance]) -> str | None:
    """The one most was said in."""
    spoken: Counter[str] = Counter()
    for utterance in utterances:
        spoken[utterance.language] += len(utterance.text)
    return max(spoken, key=lambda language: spoken[language]) if spoken else None


def folded(text: str) -> str:
    """As texts are compared in a search: small letters, no accents."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return storable("".join(letter for letter in decomposed if not unicodedata.combining(letter)))


def words_of(text: str) -> list[str]:
    """Its words as they are compared in a search: letters and digits only, small, without accents."""
    return WORD.findall(folded(text))


def searched(text: str) -> str:
    """All its words, each with a space on either side."""
    return f" {' '.join(words_of(text))} "


def storable(text: str) -> str:
    """Without the zero character, which PostgreSQL refuses."""
    return text.replace("\0", "")
