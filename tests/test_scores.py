"""Scores of a whole call: quarters, trajectory, and what goes with the extremes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.labels import LABELS, UNKNOWN, Label
from affectline.models.signals import AffectEstimate, AffectScores, Modality, Span
from affectline.pipelines.scores import MIN_KNOWN_US, STEP, score_parties, trajectory
from affectline.pipelines.timeline import (
    Affect,
    Contributor,
    Cue,
    CueKind,
    Driver,
    Moment,
    Participant,
    PartyScores,
    Score,
    Stage,
    Utterance,
)

pytestmark = pytest.mark.unit

SECOND_US = 1_000_000
CALLER = Participant("caller", "customer", 0, "granted")
AGENT = Participant("anna", "agent", 1, "granted")
Felt = tuple[float, Label] | None
"""Valence and label of a second; None where nothing is known."""

felt = st.none() | st.tuples(st.floats(-1, 1), st.sampled_from(LABELS))


def moment(second: int, what: Felt, *, party: str = "caller", shares: dict[Modality, float] | None = None) -> Moment:
    span = Span(second * SECOND_US, (second + 1) * SECOND_US)
    valence, label = what or (None, UNKNOWN)
    scores = AffectScores(None, valence, None, None, 1.0)
    parts = tuple(
        Contributor(modality, weight, AffectEstimate(span, party, modality, scores, 1.0, "m@1"))
        for modality, weight in (shares or {}).items()
    )
    affect = Affect(label, 0.8 if what else 0.0, {label: 1.0} if what else {}, valence, None, None)
    return Moment(f"{party}-{second}", span, party, affect, parts, (), None, None, 1.0, 0, True)


def scored(seconds: list[Felt], duration_us: int | None = None) -> PartyScores:
    moments = [moment(i, each) for i, each in enumerate(seconds)]
    (found,) = score_parties(
        [CALLER, AGENT], [], moments, len(moments) * SECOND_US if duration_us is None else duration_us
    )
    return found


@given(st.lists(felt, max_size=120), st.integers(0, SECOND_US - 1))
def test_quarters_partition_the_call_and_sum_up_to_it(seconds: list[Felt], cut_us: int) -> None:
    duration_us = max(0, len(seconds) * SECOND_US - cut_us)
    found = scored(seconds, duration_us)
    edges = [(q.span.start_us, q.span.end_us) for q in found.quarters]
    assert [edges[0][0], *(end for _, end in edges)] == [duration_us * i // 4 for i in range(5)]
    assert all(edges[i][1] == edges[i + 1][0] for i in range(3))
    assert sum(q.known_us for q in found.quarters) == found.overall.known_us
    known = [q for q in found.quarters if q.score is not None]
    if found.overall.score is None:
        assert known == []
    else:
        whole = sum((q.score or 0) * q.known_us for q in known) / found.overall.known_us
        assert found.overall.score == pytest.approx(whole, abs=1e-9)
        assert min(q.score or 0 for q in known) - 1e-9 <= found.overall.score <= max(q.score or 0 for q in known) + 1e-9
    for each in (*found.quarters, *([found.overall])):
        assert each.score is None or -5 <= each.score <= 5
        assert (sum(each.labels.values()) == pytest.approx(1)) == bool(each.known_us)


@given(st.lists(st.tuples(st.floats(-1, 1), st.sampled_from(LABELS)), min_size=40, max_size=120))
def test_more_pleasant_seconds_never_score_lower(seconds: list[tuple[float, Label]]) -> None:
    rising = scored(sorted(seconds))
    falling = scored(sorted(seconds, reverse=True))
    low, high = rising.quarters[0].score or 0, rising.quarters[-1].score or 0
    assert rising.trajectory == ("recovered" if high - low >= STEP else "flat")
    low, high = falling.quarters[-1].score or 0, falling.quarters[0].score or 0
    assert falling.trajectory == ("worsened" if high - low >= STEP else "flat")


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=4))
def test_upside_down_a_recovery_is_a_worsening(points: list[float]) -> None:
    def course(scores: list[float]) -> str:
        return trajectory([Score(Span(0, 9), score, MIN_KNOWN_US, {}) for score in scores])

    other = {"recovered": "worsened", "worsened": "recovered"}
    there, back = course(points), course([-point for point in points])
    assert back == other.get(there, there)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ((0, 0.9, 0, 0.5), "flat"),
        ((0, -3, -2, 1), "recovered"),
        ((0, -3, -2, -0.5), "recovered"),
        ((2, 3, 1, -1), "worsened"),
        ((3, -3, 3, 0), "up_and_down"),
        ((0, 3, -3, 0), "up_and_down"),
        ((0, 1.2, 0, 0.6), "up_and_down"),
    ],
)
def test_trajectories_have_their_names(points: tuple[float, ...], expected: str) -> None:
    assert trajectory([Score(Span(0, 9), score, MIN_KNOWN_US, {}) for score in points]) == expected


@given(st.lists(st.none(), max_size=80))
def test_without_a_known_second_nothing_is_said(seconds: list[None]) -> None:
    found = scored(list(seconds))
    assert (found.trajectory, found.overall.score, found.drivers) == ("too_little_known", None, ())
    assert all(q.score is None and not q.labels for q in found.quarters)


def test_a_few_known_seconds_are_too_little() -> None:
    some: list[Felt] = [(-0.5, "angry")] * 4 + [None] * 20 + [(0.5, "satisfied")] * 4
    assert scored([*some, None, None]).trajectory == "too_little_known"  # 8 s are known
    assert scored([(-0.5, "angry"), *some[1:], (0.5, "satisfied"), (0.5, "satisfied")]).trajectory == "recovered"
    assert scored([(-0.5, "angry")] * 40 + [None] * 120).trajectory == "too_little_known"  # one quarter only


def test_scores_are_mean_valence_times_five_and_agents_have_none() -> None:
    mine = [moment(i, (-0.4, "frustrated")) for i in range(4)]
    theirs = [moment(i, (0.9, "grateful"), party="anna") for i in range(4)]
    (found,) = score_parties([CALLER, AGENT], [], sorted([*mine, *theirs], key=lambda m: m.span), 4 * SECOND_US)
    assert found.participant == "caller"
    assert found.overall.score == pytest.approx(-2.0)
    assert found.overall.labels == {"frustrated": 1.0}


def said(start_s: int, end_s: int, *kinds: CueKind) -> Utterance:
    span = Span(start_s * SECOND_US, end_s * SECOND_US)
    cues = tuple(Cue(kind, "…", span) for kind in kinds)
    return Utterance(f"u{start_s}", span, "caller", "…", (), "en", 1.0, True, 0, cues=cues)


def test_drivers_name_what_goes_with_the_extremes() -> None:
    voice: dict[Modality, float] = {"voice": 0.75, "text": 0.25}
    words: dict[Modality, float] = {"text": 1.0}
    moments = [
        *(moment(i, (-0.8, "angry"), shares=voice) for i in range(10)),
        *(moment(i, (-0.1, "neutral"), shares=words) for i in range(10, 20)),
        *(moment(i, (0.8, "grateful"), shares=words) for i in range(20, 30)),
    ]
    utterances = [said(0, 6, "churn", "escalation"), said(6, 7, "urgency"), said(20, 30, "gratitude")]
    stages = [
        Stage("s-0", "problem", Span(0, 15 * SECOND_US), 0.8, ()),
        Stage("s-1", "closing", Span(15 * SECOND_US, 30 * SECOND_US), 0.8, ()),
    ]
    (found,) = score_parties([CALLER], utterances, moments, 30 * SECOND_US, stages=stages)
    assert found.drivers == (
        Driver("negative", "modality", "voice", pytest.approx(0.75)),
        Driver("negative", "modality", "text", pytest.approx(0.25)),
        Driver("negative", "cue", "churn", pytest.approx(0.6)),
        Driver("negative", "cue", "escalation", pytest.approx(0.6)),
        Driver("negative", "stage", "problem", pytest.approx(1.0)),
        Driver("positive", "modality", "text", pytest.approx(1.0)),
        Driver("positive", "cue", "gratitude", pytest.approx(1.0)),
        Driver("positive", "stage", "closing", pytest.approx(1.0)),
    )


def test_a_modality_that_says_the_opposite_did_not_drive() -> None:
    one = moment(0, (-0.8, "angry"), shares={"voice": 0.5})
    up = replace(one.contributors[0].estimate, modality="text", scores=AffectScores(None, 0.9, None, None, 1.0))
    both = replace(one, contributors=(*one.contributors, Contributor("text", 0.5, up)))
    (found,) = score_parties([CALLER], [], [both], SECOND_US)
    assert [each.name for each in found.drivers] == ["voice"]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 30)), min_size=1, max_size=20))
def test_quarters_of_writing_hold_equally_much_of_it(turns: list[tuple[int, int]]) -> None:
    """(idle s, written s) of each turn."""
    moments, at = [], 0
    for idle_s, length_s in turns:
        at += idle_s
        moments += [moment(at + i, (0.1, "neutral")) for i in range(length_s)]
        at += length_s
    (found,) = score_parties([CALLER], [], moments, at * SECOND_US, written=True)
    edges = [q.span.start_us for q in found.quarters]
    assert edges[0] == 0
    assert edges == sorted(edges)
    assert found.quarters[-1].span.end_us == at * SECOND_US
    assert all(abs(q.known_us - len(moments) * SECOND_US / 4) <= SECOND_US for q in found.quarters)


spans = st.tuples(st.integers(0, 60), st.integers(0, 20))


@given(st.lists(spans, min_size=1, max_size=12), st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_share_of_a_stage_is_its_share_of_the_low_seconds(
    stretches: list[tuple[int, int]], low: list[bool]
) -> None:
    """(start s, length s) of each stretch of the stage, which may overlap."""
    moments = [moment(i, (-0.8 if each else 0.0, "sad")) for i, each in enumerate(low)]
    stages = [
        Stage(f"s-{k}", "hold", Span(start * SECOND_US, (start + length) * SECOND_US), 0.8, ())
        for k, (start, length) in enumerate(stretches)
    ]
    (found,) = score_parties([CALLER], [], moments, len(low) * SECOND_US, stages=stages)
    inside = {second for start, length in stretches for second in range(start, start + length)}
    seconds = [i for i, each in enumerate(low) if each]
    share = sum(i in inside for i in seconds) / len(seconds) if seconds else 0.0
    assert [each.share for each in found.drivers] == ([pytest.approx(share)] if share >= 0.2 else [])
