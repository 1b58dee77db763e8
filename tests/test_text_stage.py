"""The words stage: cues, the turns before, translation, and what it does with words it cannot judge."""

from dataclasses import replace
from typing import ClassVar

import pytest

from affectline.models.labels import LABELS, Label
from affectline.models.signals import AffectScores, Span, Word
from affectline.pipelines.cues import load_cues
from affectline.pipelines.text import MAX_WRITTEN_S, TRANSLATED_QUALITY, TextStage, Understood, seconds_to_say, span_of
from affectline.pipelines.timeline import Participant, Utterance

pytestmark = pytest.mark.unit

CUES = load_cues()
AGENT = Participant("agent", "agent", 1)


class Plain:
    """A text model that hears one feeling word and nothing else: what the stage adds is seen alone."""

    model = "plain@1"
    languages = ("en",)
    prior: ClassVar = {label: 0.55 if label == "neutral" else 0.05 for label in LABELS}

    def estimate(self, text: str) -> AffectScores:
        if not any(char.isalpha() for char in text):
            return AffectScores(None, None, None, None, 0.0)
        heard: Label = "satisfied" if "fine" in text.lower() else "neutral"
        labels = dict.fromkeys(LABELS, 0.05) | {heard: 0.55}
        return AffectScores(labels, 0.3 if heard == "satisfied" else 0.0, 0.0, 0.0, 0.55)


def turn(text: str, at_s: int = 0, who: str = "customer", **changes: object) -> Utterance:
    span = Span(at_s * 1_000_000, (at_s + 2) * 1_000_000)
    said = Utterance(f"u-{at_s}", span, who, text, (), "en", 0.9, True, 1)
    return replace(said, **changes)  # type: ignore[arg-type]


def top(understood: Understood) -> str:
    assert understood.scores
    assert understood.scores.labels
    labels = understood.scores.labels
    return max(labels, key=lambda label: labels[label])


def test_a_cue_moves_the_label_the_valence_and_is_the_evidence() -> None:
    found = TextStage(Plain(), CUES).read(turn("This is the third time I'm calling about it"), 0.8)
    assert top(found) == "frustrated"
    assert found.scores
    assert found.scores.valence < 0  # type: ignore[operator]
    assert found.scores.evidence[0] == "third time i'm"
    assert found.quality == 0.8
    assert sum(found.scores.labels.values()) == pytest.approx(1)  # type: ignore[union-attr]


def test_a_phrase_said_again_and_again_counts_once_and_cues_have_a_limit() -> None:
    once = TextStage(Plain(), CUES).read(turn("it is still not working"), 1.0)
    often = TextStage(Plain(), CUES).read(turn("it is still not working " * 300), 1.0)
    assert once.scores
    assert often.scores
    assert often.scores.labels == pytest.approx(once.scores.labels)
    many = "ridiculous, useless, annoying, unacceptable, unbelievable, frustrating, overcharged, a joke " * 3
    assert 0.85 < max(TextStage(Plain(), CUES).read(turn(many), 1.0).scores.labels.values()) < 1  # type: ignore[union-attr]


def test_a_turn_of_nothing_but_personal_data_is_not_judged() -> None:
    stage = TextStage(Plain(), CUES)
    stage.read(turn("Can I have your card number, please?", 0, "agent"), 1.0)
    found = stage.read(turn("four nine two nine", 3), 1.0)
    assert (found.utterance.text, found.scores, found.absent) == ("[CARD]", None, "nothing but personal data")


def test_who_takes_part_is_known_by_name() -> None:
    stage = TextStage(Plain(), CUES, [Participant("Jane Hatherleigh", "customer", 0), AGENT])
    assert stage.read(turn("It is under Hatherleigh"), 1.0).utterance.text == "It is under [NAME]"


class Polite(Plain):
    """Hears thanks, and nothing else."""

    def estimate(self, text: str) -> AffectScores:
        scores = super().estimate(text)
        if scores.labels is None or "thank" not in text.lower():
            return scores
        return replace(scores, labels=dict.fromkeys(LABELS, 0.001) | {"grateful": 0.991}, valence=0.8)


def test_politeness_counts_nothing_of_an_agent_and_half_of_others() -> None:
    stage = TextStage(Polite(), CUES, [AGENT])
    agents = stage.read(turn("Thank you for calling, have a great day!", 0, "agent"), 1.0)
    assert agents.scores
    assert agents.scores.labels == Plain.prior
    assert agents.scores.evidence == ()
    customers = stage.read(turn("Thank you, it is on the table.", 60), 1.0)
    assert top(customers) == "grateful"
    assert customers.scores
    assert customers.scores.labels["grateful"] < 0.9  # type: ignore[index]
    assert customers.scores.valence == pytest.approx(0.4)
    assert top(stage.read(turn("Thank you, it is on the table.", 120, "agent"), 1.0)) == "neutral"


def test_fine_after_three_complaints_is_not_satisfied() -> None:
    stage = TextStage(Plain(), CUES)
    assert top(TextStage(Plain(), CUES).read(turn("fine."), 1.0)) == "satisfied"
    for at_s, text in enumerate(["This is the third time I call", "Nobody called me back", "I've been on hold again"]):
        stage.read(turn(text, 5 * at_s), 1.0)
    stage.read(turn("There is nothing I can do.", 16, "agent"), 1.0)
    assert top(stage.read(turn("fine.", 18), 1.0)) != "satisfied"
    assert top(stage.read(turn("fine.", 18, "agent"), 1.0)) == "satisfied", "the other party's mood is not theirs"


def test_a_mood_fades_and_long_turns_speak_for_themselves() -> None:
    stage = TextStage(Plain(), CUES)
    stage.read(turn("Nobody called me back"), 1.0)
    assert top(stage.read(turn("fine.", 300), 1.0)) == "satisfied"
    stage.read(turn("Nobody called me back", 310), 1.0)
    assert top(stage.read(turn("it is all fine now that the box is here", 313), 1.0)) == "satisfied"


def test_yes_makes_the_question_ones_own_and_no_refutes_what_was_hoped() -> None:
    stage = TextStage(Plain(), CUES)
    stage.read(turn("I see. Do you want to cancel your plan?", 0, "agent"), 1.0)
    said = stage.read(turn("Yes, please.", 3), 1.0)
    assert [(cue.kind, cue.phrase, cue.span) for cue in said.utterance.cues] == [
        ("churn", "cancel my plan", said.utterance.span)
    ]
    stage.read(turn("Sorry, are you confused about it?", 20, "agent"), 1.0)
    assert top(stage.read(turn("yes", 23), 1.0)) == "confused"
    stage.read(turn("Okay, it works now?", 30, "agent"), 1.0)
    assert top(stage.read(turn("No.", 33, final=False), 1.0)) == "frustrated"
    assert top(stage.read(turn("No, it was on the other table.", 33), 1.0)) == "neutral"


@pytest.mark.parametrize(
    ("question", "who", "answer", "at_s"),
    [
        ("Do you want to cancel your plan?", "customer", "Yes.", 3),
        ("Do you want to cancel your plan?", "agent", "Yes.", 60),
        ("Do you want to cancel your plan?", "agent", "Monday.", 3),
        ("You can cancel your plan online.", "agent", "Yes.", 3),
    ],
)
def test_what_answers_no_question_takes_nothing_from_it(question: str, who: str, answer: str, at_s: int) -> None:
    stage = TextStage(Plain(), CUES)
    stage.read(turn(question, 0, who), 1.0)
    assert stage.read(turn(answer, at_s), 1.0).utterance.cues == ()


def test_what_is_not_final_is_not_remembered() -> None:
    stage = TextStage(Plain(), CUES)
    stage.read(turn("Nobody called me back", final=False), 1.0)
    assert top(stage.read(turn("fine.", 3), 1.0)) == "satisfied"


def test_another_language_is_read_in_translation_at_a_lower_quality() -> None:
    said = turn("Niemand hat mich zurückgerufen.", language="de", translation="Nobody called me back.")
    found = TextStage(Plain(), CUES).read(said, 0.9)
    assert top(found) == "frustrated"
    assert found.quality == pytest.approx(0.9 * TRANSLATED_QUALITY)
    assert found.utterance.cues[0].span == said.span


def test_a_language_nobody_knows_and_words_without_letters_are_absences() -> None:
    stage = TextStage(Plain(), CUES)
    found = stage.read(turn("Ph'nglui mglw'nafh", language="und"), 0.9)
    assert (found.scores, found.absent) == (None, "words in 'und' are not covered without translation")
    found = stage.read(turn("4711"), 0.9)
    assert (found.scores, found.absent) == (None, "no words that can be judged")


def test_a_cue_has_the_time_of_its_words() -> None:
    text = "Well, I want to cancel my plan"
    words = tuple(Word(w, Span(i * 10, i * 10 + 10), 0.9) for i, w in enumerate(text.split()))
    (cue,) = TextStage(Plain(), CUES).read(turn(text, words=words, span=Span(0, 70)), 1.0).utterance.cues
    assert (cue.kind, cue.phrase, cue.span) == ("churn", "cancel my plan", Span(40, 70))
    assert span_of(words, "something else", 0, 4) is None


@pytest.mark.parametrize(("text", "seconds"), [("ok", 1), ("one two three four", 2), ("word " * 1_000, MAX_WRITTEN_S)])
def test_a_written_turn_stands_as_long_as_it_takes_to_say(text: str, seconds: int) -> None:
    assert seconds_to_say(text) == seconds
