"""How a whole call felt to each party: scores overall and by quarter, where they went, and what went with the extremes.

Contact-center tools show sentiment from -5 to 5; so does this, from mean valence. An agent gets no score: it would be
one of a person at work.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final

from affectline.models.labels import UNKNOWN, Label
from affectline.models.signals import Span
from affectline.pipelines.timeline import (
    Driver,
    DriverKind,
    Moment,
    Participant,
    PartyScores,
    Score,
    Stage,
    Toward,
    Trajectory,
    Utterance,
)

SCALE: Final = 5.0
"""The score of valence 1."""
STEP: Final = 1.0
"""A smaller difference between quarters is none."""
MIN_QUARTER_US: Final = 3_000_000
"""Of known affect; a quarter with less has a score, but does not count for the trajectory."""
MIN_KNOWN_US: Final = 10_000_000
"""Of known affect in the quarters that count, for any trajectory."""
PEAK: Final = 0.3
"""Valence, below zero or above, from which a second is one of the extremes."""
MIN_SHARE: Final = 0.2
"""What goes with less of the extremes is not named."""
TOWARDS: Final[tuple[tuple[Toward, int], ...]] = (("negative", -1), ("positive", 1))
MAX_DRIVERS: Final = 3
"""Named of each kind and direction."""


def score_parties(
    participants: Sequence[Participant],
    utterances: Sequence[Utterance],
    moments: Sequence[Moment],
    duration_us: int,
    *,
    stages: Sequence[Stage] = (),
    written: bool = False,
) -> tuple[PartyScores, ...]:
    """The scores of every party but agents. moments: final ones, in time order."""
    quarters = _quarters(moments, duration_us, written=written)
    found = []
    for party in participants:
        if party.role == "agent":
            continue
        own = [moment for moment in moments if moment.participant == party.id]
        parts = tuple(_score(own, quarter) for quarter in quarters)
        found.append(
            PartyScores(
                participant=party.id,
                overall=_score(own, Span(0, duration_us)),
                quarters=parts,
                trajectory=trajectory(parts),
                drivers=tuple(_drivers(own, [u for u in utterances if u.participant == party.id], stages)),
            )
        )
    return tuple(found)


def is_known(moment: Moment) -> bool:
    affect = moment.affect
    return affect.label != UNKNOWN and affect.valence is not None


def trajectory(quarters: Sequence[Score]) -> Trajectory:
    """Where the scores went.

    `recovered`: the end lies a STEP or more above the lowest quarter and less than a STEP below the highest one.
    `worsened`: the reverse. `flat`: no two quarters differ by a STEP. `up_and_down`: everything else.
    `too_little_known`: fewer than two quarters with MIN_QUARTER_US of known affect, or under MIN_KNOWN_US in them.
    """
    counted = [q for q in quarters if q.known_us >= MIN_QUARTER_US]
    scores = [q.score for q in counted if q.score is not None]
    if len(scores) < 2 or sum(q.known_us for q in counted) < MIN_KNOWN_US:
        return "too_little_known"
    above_lowest, below_highest = scores[-1] - min(scores), max(scores) - scores[-1]
    if above_lowest + below_highest < STEP:
        return "flat"
    if above_lowest >= STEP > below_highest:
        return "recovered"
    if below_highest >= STEP > above_lowest:
        return "worsened"
    return "up_and_down"


def _quarters(moments: Sequence[Moment], duration_us: int, *, written: bool) -> list[Span]:
    """Four spans that partition the call: of equal length, or in writing with equally much written in them."""
    edges = [duration_us * quarter // 4 for quarter in range(5)]
    if written and moments:
        total_us, reached_us, cuts = sum(m.span.duration_us for m in moments), 0, [0]
        for moment in moments:
            while len(cuts) < 4 and reached_us >= total_us * len(cuts) / 4:
                cuts.append(moment.span.start_us)
            reached_us += moment.span.duration_us
        edges = [*cuts, *[duration_us] * (5 - len(cuts))]
    return [Span(start_us, end_us) for start_us, end_us in pairwise(edges)]


def _score(moments: Sequence[Moment], span: Span) -> Score:
    known_us, total = 0, 0.0
    by_label: dict[Label, int] = defaultdict(int)
    for moment in moments:
        affect, shared_us = moment.affect, moment.span.overlap_us(span)
        if shared_us and is_known(moment):
            known_us += shared_us
            total += shared_us * (affect.valence or 0.0)
            by_label[affect.label] += shared_us
    score = max(-SCALE, min(SCALE, SCALE * total / known_us)) if known_us else None
    return Score(span, score, known_us, {label: us / known_us for label, us in sorted(by_label.items())})


def _drivers(moments: Sequence[Moment], utterances: Sequence[Utterance], stages: Sequence[Stage]) -> Iterator[Driver]:
    """What goes with the party's extremes, the unpleasant ones first; the largest share of each kind first."""
    cues = [(cue.kind, u.span) for u in utterances for cue in u.cues]
    for toward, sign in TOWARDS:
        peaks = [m for m in moments if is_known(m) and sign * (m.affect.valence or 0.0) >= PEAK]
        shares: dict[DriverKind, Mapping[str, float]] = {
            "modality": _pulls(peaks, sign),
            "cue": _times(peaks, cues),
            "stage": _times(peaks, [(stage.name, stage.span) for stage in stages]),
        }
        for kind, by_name in shares.items():
            ranked = sorted(by_name.items(), key=lambda item: (-item[1], item[0]))
            yield from (Driver(toward, kind, name, share) for name, share in ranked[:MAX_DRIVERS] if share >= MIN_SHARE)


def _pulls(peaks: Sequence[Moment], sign: int) -> dict[str, float]:
    """Modality -> its part in [0, 1] of the pull that way: time, times weight, times its own valence."""
    pulls: dict[str, float] = defaultdict(float)
    for moment in peaks:
        for each in moment.contributors:
            valence = each.estimate.scores.valence
            if valence is not None and sign * valence > 0:
                pulls[each.modality] += moment.span.duration_us * each.weight * abs(valence)
    total = sum(pulls.values())
    return {name: pull / total for name, pull in pulls.items()}


def _times(peaks: Sequence[Moment], named: Sequence[tuple[str, Span]]) -> dict[str, float]:
    """Name -> share in [0, 1] of the peaks' time that lies within its spans."""
    total_us = sum(m.span.duration_us for m in peaks)
    spans: dict[str, list[Span]] = defaultdict(list)
    for name, span in named:
        spans[name].append(span)
    shares: dict[str, float] = {}
    for name, own in spans.items() if total_us else ():
        stretches = _merged(own)
        starts_us = [stretch.start_us for stretch in stretches]
        shared_us = 0
        for moment in peaks:
            first = max(0, bisect_right(starts_us, moment.span.start_us) - 1)
            after = bisect_left(starts_us, moment.span.end_us)
            shared_us += sum(stretch.overlap_us(moment.span) for stretch in stretches[first:after])
        shares[name] = shared_us / total_us
    return shares


def _merged(spans: Sequence[Span]) -> list[Span]:
    """The same time as spans that do not overlap, in order."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.start_us <= found[-1].end_us:
            found[-1] = Span(found[-1].start_us, max(found[-1].end_us, span.end_us))
        else:
            found.append(span)
    return found
