"""What goes with bad outcomes: statistics against published values, planted effects, and none."""

import random
from dataclasses import replace

import pytest
from scipy.stats import fisher_exact

from affectline.models.labels import UNKNOWN, Label
from affectline.models.signals import Span
from affectline.pipelines.associations import Association, Call, associate, features_of, newcombe, wilson
from affectline.pipelines.outcomes import Outcome
from affectline.pipelines.scores import score_parties
from affectline.pipelines.timeline import (
    Affect,
    CallTimeline,
    Dynamics,
    Moment,
    Participant,
    SpeechTurn,
    Stage,
    Summary,
)

from .sample_timeline import empty_timeline, no_consent_timeline, sample_timeline, written_timeline

pytestmark = pytest.mark.unit

SECOND_US = 1_000_000
PARTIES = (Participant("caller", "customer", 0, "granted"), Participant("anna", "agent", 1, "granted"))


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_of_a_share_are_those_of_newcombe_1998(hits: int, total: int, low: float, high: float) -> None:
    assert wilson(hits, total) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_intervals_of_a_difference_are_those_of_newcombe_1998(
    counts: tuple[int, int, int, int], low: float, high: float
) -> None:
    difference, interval = newcombe(*counts)
    assert difference == pytest.approx(counts[0] / counts[1] - counts[2] / counts[3])
    assert interval == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_without_cases_nothing_is_known() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert newcombe(0, 0, 0, 0) == (0.0, (-1.0, 1.0))


def calls(table: dict[str, tuple[int, int, int, int]]) -> list[Call]:
    """feature -> (bad with it, calls with it, bad without it, calls without it), each on calls of its own."""
    found = []
    for feature, (bad, having, other_bad, lacking) in table.items():
        for holds, hits, total in ((True, bad, having), (False, other_bad, lacking)):
            found += [
                Call(f"{feature}-{holds}-{i}", {feature: holds}, [Outcome("resolved", float(i >= hits))])
                for i in range(total)
            ]
    return found


def test_the_sentence_gives_the_counts_of_both_sides() -> None:
    (found,) = associate(calls({"the customer was frustrated for 20 s or more during identification": (14, 20, 9, 60)}))
    assert found.sentence == (
        "Calls in which the customer was frustrated for 20 s or more during identification ended unresolved in 14 of "
        "20 cases, others in 9 of 60."
    )
    assert found.finding == "more"
    assert found.difference == pytest.approx(0.55)
    assert found.p_value == pytest.approx(fisher_exact([[14, 6], [9, 51]]).pvalue)
    assert found.q_value == found.p_value  # one comparison only
    assert found.interval[0] > 0.3
    assert len(found.having.bad_ids) == 14


def test_false_discoveries_are_controlled_as_by_benjamini_and_hochberg() -> None:
    tables = {f"f{i}": (10 + 2 * i, 40, 10, 40) for i in range(12)}
    found = {each.feature: each for each in associate(calls(tables))}
    ordered = sorted(found.values(), key=lambda each: each.p_value or 0)
    expected, smallest = {}, 1.0
    for rank in range(len(ordered), 0, -1):
        smallest = min(smallest, (ordered[rank - 1].p_value or 0) * len(ordered) / rank)
        expected[ordered[rank - 1].feature] = smallest
    assert {name: each.q_value for name, each in found.items()} == pytest.approx(expected)
    assert {each.finding for each in found.values()} == {"more", "no_clear_difference"}
    assert all((each.finding == "more") == ((each.q_value or 0) <= 0.05) for each in found.values())


@pytest.mark.parametrize("counts", [(4, 4, 0, 60), (0, 60, 4, 4), (0, 0, 3, 60)])
def test_groups_that_are_too_small_say_so_however_large_the_difference(counts: tuple[int, int, int, int]) -> None:
    (found,) = associate(calls({"x": counts}))
    assert (found.finding, found.p_value, found.q_value) == ("too_few_calls", None, None)


def test_the_smallest_group_can_be_set() -> None:
    assert associate(calls({"x": (4, 4, 0, 60)}), min_group=4)[0].finding == "more"


def random_calls(chance: random.Random, planted: float) -> list[Call]:
    """200 calls with 20 features that mean nothing, and one of which `planted` is added to the rate of bad outcomes."""
    found = []
    for number in range(200):
        features = {f"noise {i}": chance.random() < 0.1 + 0.04 * i for i in range(20)}
        features["planted"] = chance.random() < 0.3
        bad = chance.random() < 0.25 + planted * features["planted"]
        found.append(Call(str(number), features, [Outcome("churned", float(bad))]))
    return found


def told(found: list[Association]) -> set[str]:
    return {each.feature for each in found if each.finding in ("more", "fewer")}


def test_a_planted_effect_is_found_and_little_else() -> None:
    chance = random.Random(5)
    runs = [told(associate(random_calls(chance, planted=0.4))) for _ in range(30)]
    assert sum("planted" in features for features in runs) >= 28
    false = sum(len(features - {"planted"}) / max(1, len(features)) for features in runs) / len(runs)
    assert false <= 0.05


def test_without_an_effect_hardly_anything_is_told() -> None:
    chance = random.Random(6)
    wrong = sum(bool(told(associate(random_calls(chance, planted=0.0)))) for _ in range(60))
    assert wrong <= 6  # of 60, where 3 are expected at most


def test_the_order_is_what_is_told_then_the_rest() -> None:
    found = associate(calls({"large": (18, 20, 2, 40), "small": (20, 40, 10, 60), "none": (5, 20, 5, 20), "few": (1, 2, 1, 9)}))  # fmt: skip # noqa: E501
    assert [(each.feature, each.finding) for each in found] == [
        ("large", "more"),
        ("small", "more"),
        ("none", "no_clear_difference"),
        ("few", "too_few_calls"),
    ]
    assert associate([]) == []


def call(seconds: list[tuple[Label, float] | None], **changes: object) -> CallTimeline:
    """One customer's seconds, label and valence; None where nothing is known."""
    moments = []
    for number, each in enumerate(seconds):
        label, valence = each or (UNKNOWN, None)
        affect = Affect(label, 0.9 if each else 0.0, {label: 0.9} if each else {}, valence, None, None)
        span = Span(number * SECOND_US, (number + 1) * SECOND_US)
        moments.append(Moment(f"m{number}", span, "caller", affect, (), (), None, None, 1.0, 0, True))
    length_us = len(seconds) * SECOND_US
    timeline = CallTimeline("x", length_us, 8000, PARTIES, (), tuple(moments), (), (), (), (), Summary((), ()), (), {})
    scores = score_parties(PARTIES, (), moments, length_us)
    return replace(timeline, scores=scores, **changes)  # type: ignore[arg-type]


def holding(timeline: CallTimeline, accepted: int | None = None) -> set[str]:
    return {feature for feature, holds in features_of(timeline, accepted).items() if holds}


def test_features_hold_from_their_thresholds_on() -> None:
    angry: tuple[Label, float] = ("angry", -0.8)
    neutral: tuple[Label, float] = ("neutral", 0.0)
    assert holding(call([angry] * 15 + [neutral] * 45)) == {
        "the customer sounded angry in 20 % or more of what could be judged",
        "the customer sounded angry at some moment with a probability of 0.8 or more",
        "the customer sounded displeased for 15 s or more without a better moment",
        "the customer's scores recovered",
    }
    assert holding(call([neutral] * 50 + [("angry", -0.6)] * 10)) == {
        "the customer sounded angry at some moment with a probability of 0.8 or more",
        "the customer's score in the last quarter was −1 or lower",
        "the customer's scores worsened",
    }
    # What the agent says in between does not end a stretch; a better second does.
    displeased = "the customer sounded displeased for 15 s or more without a better moment"
    assert displeased in holding(call(([("sad", -0.3)] * 5 + [None] * 5) * 3))
    assert displeased not in holding(call(([("sad", -0.3)] * 5 + [neutral]) * 3))


def test_what_cannot_be_told_of_a_call_is_left_out() -> None:
    assert features_of(empty_timeline()) == {}
    assert features_of(no_consent_timeline()).keys() <= {"nobody spoke for 30 % or more of the time"}
    few = features_of(call([("angry", -0.8)] * 9))
    assert few == {}
    assert features_of(call([("angry", -0.8)] * 9), accepted=0) == {"a suggestion was accepted": False}
    assert holding(call([None]), accepted=2) == {"a suggestion was accepted"}
    assert not any("interrupted" in f or "spoke" in f for f in features_of(written_timeline()))
    assert "the customer interrupted 2 times or more" in features_of(sample_timeline())


def test_conversation_features() -> None:
    turns = (SpeechTurn("caller", Span(0, 40 * SECOND_US)), SpeechTurn("anna", Span(20 * SECOND_US, 50 * SECOND_US)))
    dynamics = (Dynamics("caller", 0, 0.5, 0, 1, 0, None), Dynamics("anna", 0, 0.5, 0, 2, 0, None))
    quiet, busy = (call([None] * length, speech=turns, dynamics=dynamics) for length in (80, 60))
    assert holding(quiet) == {"the agent interrupted 2 times or more", "nobody spoke for 30 % or more of the time"}
    assert holding(busy) == {"the agent interrupted 2 times or more"}


def test_stages_have_features_of_their_own() -> None:
    stages = (
        Stage("s-0", "identification", Span(0, 30 * SECOND_US), 0.8, ()),
        Stage("s-1", "closing", Span(30 * SECOND_US, 60 * SECOND_US), 0.8, ()),
        Stage("s-2", "hold", Span(60 * SECOND_US, 61 * SECOND_US), 0.8, ()),
    )
    timeline = replace(call([("frustrated", -0.5)] * 20 + [("neutral", 0.2)] * 41), stages=stages)
    assert {feature for feature in holding(timeline) if "during" in feature} == {
        "the customer sounded frustrated for 20 s or more during identification",
        "the customer's score during identification was −1 or lower",
    }
    features = features_of(timeline)
    assert features["the customer's score during closing was −1 or lower"] is False
    assert not any("hold" in feature for feature in features)  # too little is known of it
