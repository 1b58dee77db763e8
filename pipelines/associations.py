"""Which moments and stages of calls go with bad outcomes.

Each feature of a call holds or does not; the shares of bad outcomes on both sides are compared. The thresholds are
fixed beforehand, by convention, so that the data cannot choose them. That one thing goes with another does not make it
the cause: what the customer called about may bring both.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final, Literal

from scipy.stats import binomtest, false_discovery_control, fisher_exact

from affectline.models.labels import Label
from affectline.models.signals import Span
from affectline.pipelines.outcomes import Outcome, OutcomeKind
from affectline.pipelines.scores import is_known
from affectline.pipelines.timeline import CallTimeline, Moment, PartyScores, Trajectory

FALSE_DISCOVERIES: Final = 0.05
"""Expected share of associations told that are none (Benjamini & Hochberg 1995)."""
MIN_GROUP: Final = 5
"""Calls with a feature, and calls without it, that a comparison needs."""
LABELS_LOOKED_AT: Final[tuple[Label, ...]] = ("frustrated", "angry", "confused", "sad")
LABEL_SHARE: Final = 0.2
LABEL_US: Final = 20_000_000
LOW_SCORE: Final = -1.0
MIN_SCORED_US: Final = 3_000_000
"""Of known affect; a stretch with less has no score here."""
VERY_ANGRY: Final = 0.8
UNPLEASANT: Final = -0.2
UNPLEASANT_US: Final = 15_000_000
INTERRUPTIONS: Final = 2
SILENCE_SHARE: Final = 0.3
COURSES: Final[dict[Trajectory, str]] = {
    "recovered": "recovered",
    "worsened": "worsened",
    "flat": "stayed flat",
    "up_and_down": "went up and down",
}
BAD_ENDS: Final[dict[OutcomeKind, str]] = {
    "csat": "ended with a CSAT of 2 or lower",
    "nps": "ended with an NPS of 6 or lower",
    "resolved": "ended unresolved",
    "churned": "ended in churn",
    "escalated": "were escalated",
}

Finding = Literal["more", "fewer", "no_clear_difference", "too_few_calls"]


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it is compared."""

    id: str
    features: Mapping[str, bool]
    """Feature, in words that follow "calls in which", -> whether it holds; absent where that cannot be told."""
    outcomes: Sequence[Outcome]


@dataclass(frozen=True, slots=True)
class Side:
    """The calls with a feature, or those without it."""

    calls: int
    bad: int
    bad_ids: tuple[str, ...]
    """The calls with a bad outcome."""

    @property
    def rate(self) -> float:
        """Share of bad outcomes, in [0, 1]; 0 without calls."""
        return self.bad / self.calls if self.calls else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the rate (Wilson 1927)."""
        return wilson(self.bad, self.calls)


@dataclass(frozen=True, slots=True)
class Association:
    """How a feature goes with a bad outcome."""

    kind: OutcomeKind
    feature: str
    having: Side
    lacking: Side
    finding: Finding
    difference: float
    """Rate with the feature minus rate without it, in [-1, 1]."""
    interval: tuple[float, float]
    """95 % interval of the difference (Newcombe 1998, method 10)."""
    p_value: float | None
    """Two-sided (Fisher's exact test); None where there are too few calls."""
    q_value: float | None
    """Smallest share of false discoveries at which this one would be told; None where there are too few calls."""

    @property
    def sentence(self) -> str:
        """The counts in words."""
        having, lacking = self.having, self.lacking
        return (
            f"Calls in which {self.feature} {BAD_ENDS[self.kind]} in {having.bad} of {having.calls} cases, "
            f"others in {lacking.bad} of {lacking.calls}."
        )


def features_of(timeline: CallTimeline, accepted: int | None = None) -> dict[str, bool]:
    """The call's features, of its customer where it has one; accepted: suggestions, where people were asked."""
    found: dict[str, bool] = {}
    if accepted is not None:
        found["a suggestion was accepted"] = accepted > 0
    if not timeline.written:
        found |= _conversation(timeline)
    roles = {party.id: party.role for party in timeline.participants}
    customers = [each for each in timeline.scores if roles.get(each.participant) == "customer"]
    if not customers:
        return found
    scores = customers[0]
    known = [m for m in timeline.moments if m.participant == scores.participant and is_known(m)]
    if scores.overall.known_us >= 10_000_000:
        found |= dict(_whole(scores, known))
    stages: dict[str, list[Span]] = defaultdict(list)
    for stage in timeline.stages:
        stages[stage.name].append(stage.span)
    for name, spans in stages.items():
        found |= dict(_stage(name, spans, known))
    return found


def _conversation(timeline: CallTimeline) -> Iterator[tuple[str, bool]]:
    roles = {party.id: party.role for party in timeline.participants}
    for each in timeline.dynamics:
        if (role := roles.get(each.participant)) in ("customer", "agent"):
            yield f"the {role} interrupted {INTERRUPTIONS} times or more", each.interruptions >= INTERRUPTIONS
    if timeline.speech and timeline.duration_us:
        silent = 1 - _covered_us([turn.span for turn in timeline.speech]) / timeline.duration_us
        yield f"nobody spoke for {100 * SILENCE_SHARE:.0f} % or more of the time", silent >= SILENCE_SHARE


def _whole(scores: PartyScores, known: Sequence[Moment]) -> Iterator[tuple[str, bool]]:
    for label in LABELS_LOOKED_AT:
        share = scores.overall.labels.get(label, 0.0)
        yield (
            f"the customer sounded {label} in {LABEL_SHARE:.0%} or more of what could be judged".replace("%", " %"),
            (share >= LABEL_SHARE),
        )
    peak = max((m.affect.labels.get("angry", 0.0) for m in known), default=0.0)
    yield f"the customer sounded angry at some moment with a probability of {VERY_ANGRY} or more", peak >= VERY_ANGRY
    longest_us = max(
        (
            sum(m.span.duration_us for m in run)
            for unpleasant, run in groupby(known, key=lambda m: (m.affect.valence or 0.0) <= UNPLEASANT)
            if unpleasant
        ),
        default=0,
    )
    words = f"the customer sounded displeased for {UNPLEASANT_US // 1_000_000} s or more without a better moment"
    yield words, longest_us >= UNPLEASANT_US
    last = scores.quarters[-1]
    if last.score is not None and last.known_us >= MIN_SCORED_US:
        yield "the customer's score in the last quarter was −1 or lower", last.score <= LOW_SCORE
    if scores.trajectory != "too_little_known":
        for course, words in COURSES.items():
            yield f"the customer's scores {words}", scores.trajectory == course


def _stage(name: str, spans: Sequence[Span], known: Sequence[Moment]) -> Iterator[tuple[str, bool]]:
    parts = [(m.affect, sum(m.span.overlap_us(span) for span in spans)) for m in known]
    known_us = sum(us for _, us in parts)
    if known_us < MIN_SCORED_US:
        return
    for label in LABELS_LOOKED_AT:
        label_us = sum(us for affect, us in parts if affect.label == label)
        words = f"the customer sounded {label} for {LABEL_US // 1_000_000} s or more during {name}"
        yield words, label_us >= LABEL_US
    score = 5 * sum((affect.valence or 0.0) * us for affect, us in parts) / known_us
    yield f"the customer's score during {name} was −1 or lower", score <= LOW_SCORE


def _covered_us(spans: Sequence[Span]) -> int:
    covered_us = reached_us = 0
    for span in sorted(spans):
        covered_us += max(0, span.end_us - max(span.start_us, reached_us))
        reached_us = max(reached_us, span.end_us)
    return covered_us


def associate(calls: Iterable[Call], min_group: int = MIN_GROUP) -> list[Association]:
    """Every feature against every kind of outcome: what is told first, the largest difference first.

    Of all comparisons together, FALSE_DISCOVERIES of those that are told are expected to be none.
    """
    sides: dict[tuple[OutcomeKind, str], dict[bool, list[tuple[str, bool]]]] = {}
    for call in calls:
        for outcome in call.outcomes:
            for feature, holds in call.features.items():
                both = sides.setdefault((outcome.kind, feature), {True: [], False: []})
                both[holds].append((call.id, outcome.bad))
    found = [
        _compare(kind, feature, _side(both[True]), _side(both[False]), min_group)
        for (kind, feature), both in sorted(sides.items())
    ]
    tested = [each for each in found if each.p_value is not None]
    if tested:
        q_values = false_discovery_control([each.p_value for each in tested], method="bh")
        tested = [_judged(each, float(q)) for each, q in zip(tested, q_values, strict=True)]
    told = [each for each in tested if each.finding in ("more", "fewer")]
    others = [each for each in tested if each.finding == "no_clear_difference"]
    return [
        *sorted(told, key=lambda each: -abs(each.difference)),
        *sorted(others, key=lambda each: each.p_value or 0.0),
        *(each for each in found if each.p_value is None),
    ]


def _side(calls: Sequence[tuple[str, bool]]) -> Side:
    bad = tuple(call_id for call_id, is_bad in calls if is_bad)
    return Side(len(calls), len(bad), bad)


def _compare(kind: OutcomeKind, feature: str, having: Side, lacking: Side, min_group: int) -> Association:
    difference, interval = newcombe(having.bad, having.calls, lacking.bad, lacking.calls)
    few = min(having.calls, lacking.calls) < max(1, min_group)
    table = [[side.bad, side.calls - side.bad] for side in (having, lacking)]
    p_value = None if few else float(fisher_exact(table).pvalue)
    return Association(kind, feature, having, lacking, "too_few_calls", difference, interval, p_value, None)


def _judged(association: Association, q_value: float) -> Association:
    finding: Finding = "more" if association.difference > 0 else "fewer"
    told = q_value <= FALSE_DISCOVERIES
    return replace(association, finding=finding if told else "no_clear_difference", q_value=q_value)


def wilson(hits: int, total: int) -> tuple[float, float]:
    """95 % score interval of a share (Wilson 1927); everything without cases."""
    if total == 0:
        return 0.0, 1.0
    interval = binomtest(hits, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def newcombe(hits: int, total: int, other_hits: int, other_total: int) -> tuple[float, tuple[float, float]]:
    """The first share minus the other, and its 95 % interval from both score intervals (Newcombe 1998, method 10)."""
    share = hits / total if total else 0.0
    other = other_hits / other_total if other_total else 0.0
    (low, high), (other_low, other_high) = wilson(hits, total), wilson(other_hits, other_total)
    difference = share - other
    below = ((share - low) ** 2 + (other_high - other) ** 2) ** 0.5
    above = ((high - share) ** 2 + (other - other_low) ** 2) ** 0.5
    return difference, (max(-1.0, difference - below), min(1.0, difference + above))
