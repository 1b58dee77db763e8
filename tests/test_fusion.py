"""Several modalities, one answer, and the reasons kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.labels import LABELS, UNKNOWN, Label
from affectline.models.signals import AffectEstimate, AffectScores, Modality, Span
from affectline.pipelines.fusion import fuse

pytestmark = pytest.mark.unit

EVEN: dict[Label, float] = {label: 1 / len(LABELS) for label in LABELS}
PRIORS = {"model@1": EVEN}


def estimate(
    label: Label, probability: float = 0.9, *, modality: Modality = "voice", quality: float = 1.0
) -> AffectEstimate:
    rest = (1 - probability) / (len(LABELS) - 1)
    scores = AffectScores({x: probability if x == label else rest for x in LABELS}, None, None, None, probability)
    return AffectEstimate(Span(0, 1_000_000), "customer", modality, scores, quality, "model@1")


def test_without_evidence_the_answer_is_unknown() -> None:
    affect, shares = fuse([], PRIORS)
    assert (affect.label, affect.valence, shares) == (UNKNOWN, None, ())


@pytest.mark.parametrize("label", LABELS)
def test_words_alone_can_say_each_label(label: Label) -> None:
    """With the prior of a model that hears a lot of one label in its data."""
    prior = {x: 0.47 if x == "neutral" else 0.23 if x == "satisfied" else 0.0375 for x in LABELS}
    affect, _ = fuse([estimate(label, 0.97, modality="text")], {"model@1": prior})
    assert affect.label == label
    assert affect.probability > 0.55


def test_too_poor_an_input_is_no_evidence_but_stays_visible() -> None:
    affect, shares = fuse([estimate("angry", quality=0.05)], PRIORS)
    assert affect.label == UNKNOWN
    assert len(shares) == 1


def test_clear_evidence_outweighs_the_neutral_prior() -> None:
    affect, _ = fuse([estimate("angry"), estimate("angry", modality="text")], PRIORS)
    assert affect.label == "angry"
    assert affect.valence is not None
    assert affect.valence < -0.4


def test_a_model_that_only_repeats_its_prior_changes_nothing() -> None:
    indifferent = AffectEstimate(
        Span(0, 1), "customer", "text", AffectScores(EVEN, None, None, None, 0.1), 1.0, "model@1"
    )
    alone, _ = fuse([estimate("sad")], PRIORS)
    both, _ = fuse([estimate("sad"), indifferent], PRIORS)
    assert both.labels == pytest.approx(dict(alone.labels))


def test_contradiction_ends_in_unknown() -> None:
    affect, _ = fuse([estimate("angry", 0.97), estimate("grateful", 0.5, modality="text")], PRIORS)
    assert affect.label == UNKNOWN


def test_a_neutral_answer_lies_near_the_middle() -> None:
    affect, _ = fuse([estimate("neutral")], PRIORS)
    assert affect.label == "neutral"
    assert (affect.valence, affect.arousal, affect.dominance) == pytest.approx((0, 0, 0), abs=0.15)


def test_the_better_input_weighs_more() -> None:
    _, shares = fuse([estimate("angry", quality=0.2), estimate("angry", quality=0.8)], PRIORS)
    assert [round(share.weight, 3) for share in shares] == [0.2, 0.8]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(LABELS), st.floats(0.1, 1), st.sampled_from(["voice", "text", "face"]), st.floats(0, 1)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_probabilities_and_weights_always_sum_to_one(said: list[tuple[Label, float, Modality, float]]) -> None:
    affect, shares = fuse([estimate(x, p, modality=m, quality=q) for x, p, m, q in said], PRIORS)
    if affect.labels:
        assert sum(affect.labels.values()) == pytest.approx(1)
        assert sum(share.weight for share in shares) == pytest.approx(1)
        assert affect.valence is not None
        assert -1 <= affect.valence <= 1
