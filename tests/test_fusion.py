"""Several modalities, one answer, and the reasons kept; feelings that last, and change."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.labels import LABELS, UNKNOWN, Label
from affectline.models.signals import AffectEstimate, AffectScores, Modality, Span
from affectline.pipelines.changes import MIN_SECONDS, change_points
from affectline.pipelines.fusion import FITTED, AffectFilter, fuse
from affectline.pipelines.timeline import Affect, Moment

pytestmark = pytest.mark.unit

EVEN: dict[Label, float] = {label: 1 / len(LABELS) for label in LABELS}
PRIORS = {"model@1": EVEN}


def estimate(
    label: Label, probability: float = 0.9, *, modality: Modality = "voice", quality: float = 1.0
) -> AffectEstimate:
    rest = (1 - probability) / (len(LABELS) - 1)
    scores = AffectScores({x: probability if x == label else rest for x in LABELS}, None, None, None, probability)
    return AffectEstimate(Span(0, 1_000_000), "customer", modality, scores, quality, "model@1")


def lasting(said: list[AffectEstimate], priors: Mapping[str, Mapping[Label, float]], *, seconds: int) -> Affect:
    """What is felt at the end of so many seconds that all say the same."""
    return AffectFilter(priors).step([said] * seconds)[-1][0]


def tension(arousal: float) -> AffectEstimate:
    scores = AffectScores(None, None, arousal, None, 0.5)
    return AffectEstimate(Span(0, 1_000_000), "customer", "stress", scores, 1.0, "stress@1")


def test_without_evidence_the_answer_is_unknown() -> None:
    affect, shares = fuse([], PRIORS)
    assert (affect.label, affect.valence, shares) == (UNKNOWN, None, ())


@pytest.mark.parametrize("label", LABELS)
def test_a_turn_of_words_alone_can_say_each_label(label: Label) -> None:
    """With the prior of a model that hears a lot of one label in its data."""
    prior = {x: 0.47 if x == "neutral" else 0.23 if x == "satisfied" else 0.0375 for x in LABELS}
    affect = lasting([estimate(label, 0.97, modality="text")], {"model@1": prior}, seconds=6)
    assert affect.label == label
    assert affect.probability > 0.55


def test_too_poor_an_input_is_no_evidence_but_stays_visible() -> None:
    affect, shares = fuse([estimate("angry", quality=0.05)], PRIORS)
    assert affect.label == UNKNOWN
    assert len(shares) == 1


def test_clear_evidence_outweighs_the_neutral_prior() -> None:
    affect = lasting([estimate("angry"), estimate("angry", modality="text")], PRIORS, seconds=2)
    assert affect.label == "angry"
    assert affect.valence is not None
    assert affect.valence < -0.4


def test_a_model_that_only_repeats_its_prior_changes_nothing() -> None:
    indifferent = AffectEstimate(
        Span(0, 1), "customer", "text", AffectScores(EVEN, None, None, None, 0.1), 1.0, "model@1"
    )
    alone, _ = fuse([estimate("sad")], PRIORS)
    both, _ = fuse([estimate("sad"), indifferent], PRIORS)
    assert both.labels == pytest.approx(dict(alone.labels), abs=1e-5)


def test_plain_words_do_not_deny_what_the_voice_says() -> None:
    usual: dict[Label, float] = {label: 0.55 if label == "neutral" else 0.05 for label in LABELS}
    plain_words = replace(estimate("neutral", 0.9, modality="text"), model="words@1")
    voice = lasting([estimate("angry")], PRIORS, seconds=3)
    plain = lasting([estimate("angry"), plain_words], PRIORS | {"words@1": usual}, seconds=3)
    assert plain.label == voice.label == "angry"


def test_tension_speaks_for_excited_labels() -> None:
    calm, _ = fuse([estimate("sad", 0.5), tension(-1)], PRIORS)
    tense, _ = fuse([estimate("sad", 0.5), tension(1)], PRIORS)
    assert tense.labels["angry"] > calm.labels["angry"]
    assert tense.labels["sad"] < calm.labels["sad"]


def test_a_neutral_answer_lies_near_the_middle() -> None:
    affect, _ = fuse([estimate("neutral")], PRIORS)
    assert affect.label == "neutral"
    assert (affect.valence, affect.arousal, affect.dominance) == pytest.approx((0, 0, 0), abs=0.2)


def test_the_better_input_weighs_more() -> None:
    _, shares = fuse([estimate("angry", quality=0.2), estimate("angry", quality=0.8)], PRIORS)
    assert [round(share.weight, 3) for share in shares] == [0.2, 0.8]


def test_a_feeling_builds_up_over_seconds_and_outlasts_silence() -> None:
    path = AffectFilter(PRIORS)
    beliefs = [path.step([[estimate("angry", 0.3)]])[0][0].labels["angry"] for _ in range(5)]
    assert beliefs == sorted(beliefs)
    ((silent, _),) = path.step([[]])
    assert silent.label == UNKNOWN
    ((after, _),) = path.step([[estimate("angry", 0.4)]])
    fresh, _ = fuse([estimate("angry", 0.4)], PRIORS)
    assert after.labels["angry"] > fresh.labels["angry"]


def test_looking_does_not_move_on() -> None:
    path = AffectFilter(PRIORS)
    first = path.look([[estimate("angry")]])
    assert path.look([[estimate("angry")]]) == first == path.step([[estimate("angry")]])


def test_seconds_that_become_known_together_are_judged_together() -> None:
    one, two = AffectFilter(PRIORS), AffectFilter(PRIORS)
    seconds = [[estimate("angry", 0.3)]] * 4
    apart = [one.step([said])[0][0] for said in seconds]
    together = [affect for affect, _ in two.step(seconds)]
    assert together[0].labels["angry"] > apart[0].labels["angry"]
    assert together[-1] == apart[-1]
    assert one.smoothed() == two.smoothed() == together


def test_what_came_after_mends_what_was_unclear() -> None:
    """One doubtful second between clear ones."""
    path = AffectFilter(PRIORS)
    seconds = [[estimate("angry")]] * 3 + [[estimate("neutral", 0.6)]] + [[estimate("angry")]] * 3
    live = [path.step([said])[0][0] for said in seconds]
    after = path.smoothed()
    assert len(after) == len(live)
    assert after[3].labels["angry"] > live[3].labels["angry"]
    assert after[-1].labels == pytest.approx(dict(live[-1].labels), abs=1e-5)


def test_tension_counts_less_once_the_call_is_over() -> None:
    """It changes slowly: each second would get its neighbours' as well."""
    path = AffectFilter(PRIORS)
    said = [estimate("angry", 0.3), tension(0.9)]
    live = path.step([said] * 5)
    after = path.smoothed()
    assert 0.1 < after[2].labels["angry"] < live[2][0].labels["angry"]


said = st.tuples(
    st.sampled_from(LABELS), st.floats(0.1, 1), st.sampled_from(["voice", "text", "face"]), st.floats(0, 1)
)


@given(st.lists(said, min_size=1, max_size=6))
def test_probabilities_and_weights_always_sum_to_one(found: list[tuple[Label, float, Modality, float]]) -> None:
    affect, shares = fuse([estimate(x, p, modality=m, quality=q) for x, p, m, q in found], PRIORS)
    if affect.labels:
        assert sum(affect.labels.values()) == pytest.approx(1, abs=1e-5)
        assert sum(share.weight for share in shares) == pytest.approx(1)
        assert affect.valence is not None
        assert -1 <= affect.valence <= 1


@given(st.lists(st.lists(said, max_size=3), min_size=1, max_size=6))
def test_the_filter_is_the_sum_over_all_paths(seconds: list[list[tuple[Label, float, Modality, float]]]) -> None:
    """Forward and smoothed beliefs against the model's definition, path by path (two labels are enough to tell)."""
    estimates = [[estimate(x, p, modality=m, quality=q) for x, p, m, q in second] for second in seconds]
    path = AffectFilter(PRIORS)
    live = [path.step([each])[0][0] for each in estimates]
    prior = FITTED.prior.astype(float)
    move = FITTED.stays * np.eye(len(LABELS)) + (1 - FITTED.stays) * prior
    seen = []
    for each in estimates:
        likelihood = np.ones(len(LABELS))
        for one in each:
            labels = one.scores.labels or {}
            how = FITTED.weighing[one.modality]
            ratio = (np.array([labels[x] for x in LABELS]) + 1e-3) / (0.1 + 1e-3)
            telling = 1 - labels["neutral"] if how.plain else 1
            likelihood *= (how.hidden + (1 - how.hidden) * ratio) ** (how.weight * one.quality * telling)
        seen.append(likelihood)
    forward = [prior @ move * seen[0]]
    for likelihood in seen[1:]:
        forward.append(forward[-1] @ move * likelihood)
    backward = [np.ones(len(LABELS))]
    for likelihood in seen[:0:-1]:
        backward.append(move @ (likelihood * backward[-1]))
    for k, (one, two) in enumerate(zip(live, path.smoothed(), strict=True)):
        if one.labels:
            expected = forward[k] / forward[k].sum()
            assert list(one.labels.values()) == pytest.approx(expected, abs=1e-4)
            both = forward[k] * backward[-1 - k]
            assert list(two.labels.values()) == pytest.approx(both / both.sum(), abs=1e-4)


def moments(*labels: Label) -> list[Moment]:
    base = Moment("", Span(0, 0), "customer", Affect(UNKNOWN, 0, {}, None, None, None), (), (), None, None, 1, 1, True)
    return [
        replace(
            base,
            id=f"m-{k}",
            span=Span(k * 1_000_000, (k + 1) * 1_000_000),
            affect=Affect(label, 0.0 if label == UNKNOWN else 0.8, {}, None, None, None),
        )
        for k, label in enumerate(labels)
    ]


def test_a_feeling_that_lasts_is_a_change_and_a_flicker_is_none() -> None:
    found = change_points(
        moments(*["neutral"] * 5, "sad", *["neutral"] * 4, UNKNOWN, *["angry"] * MIN_SECONDS, *["satisfied"] * 2)
    )
    assert [(c.at_us, c.before, c.after) for c in found] == [(11_000_000, "neutral", "angry")]
    assert found[0].confidence == pytest.approx(0.8)


@given(st.lists(st.sampled_from([*LABELS[:4], UNKNOWN]), max_size=40))
def test_changes_alternate(labels: list[Label]) -> None:
    found = change_points(moments(*labels))
    assert all(one.after == two.before and one.at_us < two.at_us for one, two in pairwise(found))
    assert all(change.before != change.after for change in found)
