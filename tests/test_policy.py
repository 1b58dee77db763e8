"""Policies: the language, its errors, and when the default pack speaks."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.labels import AFFECT_OF_LABEL, LABELS, Label
from affectline.models.signals import Span
from affectline.pipelines.cues import load_cues
from affectline.pipelines.measures import Measure, Party, SuggestedMeasure, View
from affectline.pipelines.policy import (
    DEFAULT_POLICIES,
    Policy,
    PolicyEngine,
    PolicyPack,
    When,
    feedback_by_policy,
    load_policies,
    replay,
)
from affectline.pipelines.policy_cases import Case, cases_path, load_cases, run_case
from affectline.pipelines.timeline import (
    Absence,
    Affect,
    CallTimeline,
    Cue,
    CustomerHistory,
    EarlierCall,
    Moment,
    Output,
    Participant,
    SpeechTurn,
    Stage,
    Suggestion,
    SuggestionFeedback,
    Summary,
    Utterance,
    Verdict,
)

pytestmark = pytest.mark.unit

SECOND_US = 1_000_000
PARTIES = (Participant("caller", "customer", 0, "granted"), Participant("rep", "agent", 1, "granted"))
DEFAULT = load_policies(DEFAULT_POLICIES)
CUES = load_cues()
Item = Moment | Utterance | SpeechTurn


def moment(
    participant: str,
    second: int,
    label: Label = "unknown",
    probability: float = 0.8,
    *,
    stress: float | None = None,
    speech_ratio: float = 1.0,
    level_dbfs: float | None = -25.0,
    final: bool = True,
) -> Moment:
    known = label != "unknown"
    affect = Affect(
        label=label,
        probability=probability if known else 0.0,
        labels={label: probability} if known else {},
        valence=AFFECT_OF_LABEL[label][0] if known else None,
        arousal=None,
        dominance=None,
    )
    return Moment(
        id=f"m-{participant}-{second}",
        span=Span(second * SECOND_US, (second + 1) * SECOND_US),
        participant=participant,
        affect=affect,
        contributors=(),
        absent=(),
        stress=stress,
        level_dbfs=level_dbfs,
        speech_ratio=speech_ratio,
        revision=0,
        final=final,
    )


def said(text: str, start_s: float, end_s: float, participant: str = "caller") -> Utterance:
    span = Span(round(start_s * SECOND_US), round(end_s * SECOND_US))
    cues = tuple(Cue(cue.kind, cue.phrase, span, cue.label) for cue in CUES.find(text))
    return Utterance(f"u-{participant}-{start_s}", span, participant, text, (), "en", 0.9, True, 0, cues=cues)


def turn(participant: str, start_s: float, end_s: float) -> SpeechTurn:
    return SpeechTurn(participant, Span(round(start_s * SECOND_US), round(end_s * SECOND_US)))


def call(
    labels: Sequence[tuple[int, Label]],
    *,
    extra: Sequence[Item] = (),
    stress: Callable[[int], float | None] = lambda second: None,
    probability: float = 0.8,
) -> list[Item]:
    """`labels`: (seconds, label) of the customer one after the other, while the agent's affect is unknown."""
    items: list[Item] = list(extra)
    seconds = count()
    for duration_s, label in labels:
        for _ in range(duration_s):
            second = next(seconds)
            items.append(moment("caller", second, label, probability, stress=stress(second)))
            items.append(moment("rep", second))
    return sorted(items, key=lambda item: (counts_from_us(item), isinstance(item, Moment)))


def counts_from_us(item: Item) -> int:
    """An utterance comes before the moments it lies in, everything else when it has ended."""
    return item.span.start_us if isinstance(item, Utterance) else item.span.end_us


def run(
    items: Sequence[Output], pack: PolicyPack = DEFAULT, history: CustomerHistory | None = None
) -> list[Suggestion]:
    engine = PolicyEngine(pack, PARTIES, history)
    return [suggestion for item in items for suggestion in engine.feed(item)] + engine.finish()


def names(suggestions: Sequence[Suggestion]) -> list[str]:
    return [suggestion.policy.partition("@")[0] for suggestion in suggestions]


def silence(seconds: int, **heard: float | None) -> list[Item]:
    items: list[Item] = [moment("caller", 0), moment("rep", 0)]
    for second in range(1, seconds + 1):
        items.append(moment("caller", second, speech_ratio=0.0))
        items.append(moment("rep", second, speech_ratio=0.0, **heard))  # type: ignore[arg-type]
    return items


def held(start_s: int, end_s: int, reason: str) -> list[Item]:
    """Seconds without media of either party."""
    silent = [
        moment(p, second, speech_ratio=0.0, level_dbfs=None)
        for second in range(start_s, end_s)
        for p in ("caller", "rep")
    ]
    return [replace(m, absent=(Absence("voice", reason),)) for m in silent]


CANCEL = said("Then cancel my contract today.", 9, 12)

FIRES = {
    "anger-retention": call([(10, "neutral"), (5, "angry"), (10, "neutral")], extra=[CANCEL]),
    "anger-supervisor": call([(10, "neutral"), (8, "angry"), (10, "neutral")]),
    "frustration-empathy": call([(10, "neutral"), (4, "frustrated")]),
    "overtalk": call([(20, "neutral")], extra=[turn("caller", 4, 12), turn("rep", 8.8, 14)]),
    "long-silence": silence(12),
}
CASES = load_cases(cases_path(DEFAULT_POLICIES), DEFAULT)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_default_pack_passes_its_cases(case: Case) -> None:
    assert run_case(DEFAULT, case, CUES).faults == ()


def test_every_default_policy_has_a_case_in_which_it_speaks_and_one_in_which_it_must_not() -> None:
    policies = {policy.name for policy in DEFAULT.policies}
    assert {name for case in CASES for name in case.expect} == policies
    silent = {name for name in policies for case in CASES if name not in case.expect and case.never}
    assert silent == policies


@pytest.mark.parametrize("policy", DEFAULT.policies, ids=lambda policy: policy.name)
def test_a_case_fails_when_its_policy_is_gone(policy: Policy) -> None:
    rest = [p for p in DEFAULT.policies if p.name != policy.name]
    rest = [p for p in rest if not any(isinstance(m, SuggestedMeasure) for _, _, m in p.when.measures)]
    pack = DEFAULT.model_copy(update={"policies": rest})
    case = next(case for case in CASES if policy.name in case.expect).model_copy(update={"feedback": []})
    assert any(fault.startswith(f"expected {policy.name}, found ") for fault in run_case(pack, case, CUES).faults)


def test_rising_stress_is_an_escalation_risk() -> None:
    items = call([(10, "neutral"), (10, "frustrated")], stress=lambda second: 0.2 if second < 10 else 0.6)
    assert "escalation-risk" in names(run(items))


@pytest.mark.parametrize("name", FIRES)
def test_a_suggestion_tells_why_and_for_how_long(name: str) -> None:
    items = FIRES[name]
    assert name in names(run(items))
    by_id = {item.id: item for item in items if isinstance(item, Moment | Utterance)}
    for suggestion in run(items):
        assert suggestion.because
        evidence = [by_id[name] for name in suggestion.because]
        policy = next(p for p in DEFAULT.policies if p.id == suggestion.policy)
        assert suggestion.created_us == max(e.span.end_us for e in evidence)
        assert suggestion.expires_us - suggestion.created_us == policy.expires_s * SECOND_US
        assert policy.min_confidence <= suggestion.confidence <= 1
        assert "{" not in suggestion.reason


def test_reason_quotes_what_was_said() -> None:
    (suggestion,) = run(call([(4, "confused")], extra=[said("Where do I click now?", 0.2, 2.6)]))
    assert suggestion.reason == "Customer sounds confused for 3 s. Said: “Where do I click now?”"
    assert suggestion.because == ("m-caller-0", "u-caller-0.2", "m-caller-1", "m-caller-2")
    assert suggestion.confidence == pytest.approx(0.8)


def test_silence_counts_only_where_every_party_can_be_heard() -> None:
    assert "long-silence" not in names(run(silence(30, level_dbfs=None)))


PACK = """\
name: test
version: 3
min_gap_s: {gap}
max_per_minute: {most}
policies:
  - name: angry
    version: 2
    kind: {kind}
    priority: normal
    when:
      participant: customer
      within_s: 10
      all:
        - {{measure: label, any_of: [angry], for_s: 2}}
    cooldown_s: {cooldown}
    expires_s: 20
    action: say:calm
    text: Stay calm
    reason: "{{who}} sounds {{label}} for {{label_s}} s."
  - name: sad
    version: 1
    kind: {kind}
    priority: high
    when:
      participant: customer
      within_s: 10
      all:
        - {{measure: label, any_of: [sad], for_s: 2}}
    cooldown_s: {cooldown}
    expires_s: 20
    action: say:warm
    text: Offer a warm word
    reason: "{{who}} sounds {{label}}."
"""


def pack(gap: int = 0, most: int = 60, kind: str = "assist", cooldown: int = 0) -> PolicyPack:
    return load_policies(PACK.format(gap=gap, most=most, kind=kind, cooldown=cooldown))


def test_fires_again_only_after_it_fell_below() -> None:
    assert names(run(call([(60, "angry")]), pack())) == ["angry"]
    twice = run(call([(5, "angry"), (15, "neutral"), (5, "angry")]), pack())
    assert [s.created_us // SECOND_US for s in twice] == [2, 22]
    assert [s.id for s in twice] == ["s1", "s2"]
    assert twice[0].policy == "angry@2"


def test_cooldown_holds_back_what_comes_too_soon() -> None:
    items = call([(5, "angry"), (15, "neutral"), (5, "angry"), (60, "neutral"), (5, "angry")])
    assert [s.created_us // SECOND_US for s in run(items, pack(cooldown=60))] == [2, 87]


def test_a_pack_spaces_its_suggestions_and_the_more_urgent_comes_first() -> None:
    items = call([(1, "angry"), (1, "sad"), (1, "angry"), (1, "sad"), (6, "neutral")])
    assert names(run(items, pack())) == ["angry", "sad"]
    shown = run(items, pack(gap=4))
    assert names(shown) == ["angry", "sad"]
    engine = PolicyEngine(pack(gap=4), PARTIES)
    seen_at = [item.span.end_us // SECOND_US for item in items if isinstance(item, Moment) if engine.feed(item)]
    assert seen_at == [3, 7]
    assert names(run(items, pack(most=1))) == ["angry"]
    together = [moment(p, 0, "angry" if p == "caller" else "unknown") for p in ("caller", "rep")]
    assert run(together, pack()) == []


def test_one_routing_suggestion_per_cooldown() -> None:
    items = call([(3, "angry"), (3, "sad"), (60, "neutral"), (3, "sad")])
    assert names(run(items, pack(kind="routing", cooldown=60))) == ["angry", "sad"]
    assert names(run(items, pack(kind="assist", cooldown=60))) == ["angry", "sad", "sad"]


def test_a_suggestion_is_never_shown_after_it_expired() -> None:
    text = PACK.replace("expires_s: 20", "expires_s: 2").format(gap=6, most=60, kind="assist", cooldown=0)
    items = call([(2, "angry"), (2, "sad"), (20, "neutral")])
    assert names(run(items, load_policies(text))) == ["angry"]


def test_old_evidence_does_not_fire_when_a_cooldown_ends() -> None:
    items = call([(3, "angry"), (12, "neutral"), (2, "angry"), (3, "neutral")])
    at_once = PACK.replace("    cooldown_s", "    rearm: {{below: 1, for_s: 0}}\n    cooldown_s")
    at_once = at_once.replace("expires_s: 20", "expires_s: 10")
    eager = load_policies(at_once.format(gap=0, most=60, kind="assist", cooldown=16))
    assert [s.created_us // SECOND_US for s in run(items, eager)] == [2, 17]
    late = (
        PACK.replace("within_s: 10", "within_s: 40")
        .replace("      all:", "      after_s: 20\n      all:")
        .format(gap=0, most=9, kind="assist", cooldown=0)
    )
    assert names(run(call([(2, "angry"), (30, "neutral")]), load_policies(late))) == []
    assert names(run(call([(15, "angry"), (15, "neutral")]), load_policies(late))) == ["angry"]


def test_replaying_a_finished_call_gives_what_it_gave_live() -> None:
    items = [*FIRES["anger-retention"], turn("caller", 9, 12)]
    items.sort(key=lambda item: (counts_from_us(item), isinstance(item, Moment)))
    finished = CallTimeline(
        name="call",
        duration_us=25 * SECOND_US,
        rate_hz=8_000,
        participants=PARTIES,
        utterances=tuple(item for item in items if isinstance(item, Utterance)),
        moments=tuple(item for item in items if isinstance(item, Moment)),
        suggestions=(),
        speech=tuple(item for item in items if isinstance(item, SpeechTurn)),
        vocal=(),
        dynamics=(),
        summary=Summary((), ()),
        notices=(),
        models={},
    )
    live = run(items)
    assert live
    assert replay(DEFAULT, finished) == live


def stage(number: int, name: str, start_s: int, confidence: float = 0.8) -> Stage:
    return Stage(f"s-{number}", name, Span(start_s * SECOND_US, (start_s + 1) * SECOND_US), confidence, ())  # type: ignore[arg-type]


def test_the_stage_of_the_call_is_the_last_one_told() -> None:
    angry = "        - {measure: label, any_of: [angry], for_s: 2}\n"
    at_stage = "        - {measure: stage, any_of: [identification], min_confidence: 0.6}\n"
    text = PACK.format(gap=0, most=9, kind="assist", cooldown=0).replace(angry, at_stage + angry)
    rule = load_policies(text)
    calm, cross = call([(5, "neutral")]), call([(5, "neutral"), (5, "angry"), (5, "neutral")])
    told = [stage(0, "greeting", 0), stage(1, "identification", 4)]
    assert names(run([*told, *cross], rule)) == ["angry"]
    assert names(run([*told, *calm], rule)) == []
    assert names(run([told[0], *cross], rule)) == []
    assert names(run([told[0], stage(1, "identification", 4, 0.5), *cross], rule)) == []
    assert names(run([*told, stage(2, "resolution", 5), *cross], rule)) == []
    assert names(run([*told, stage(2, "resolution", 5), told[1], *cross], rule)) == ["angry"]  # revised
    assert names(run([*told, *cross, stage(0, "problem", 0)], rule)) == ["angry"]


@pytest.mark.parametrize(
    ("measure", "holds", "fails", "reason"),
    [
        (
            "{measure: stress, at_least: 0.6, for_s: 3}",
            call([(3, "neutral")], stress=lambda second: 0.75),
            call([(9, "neutral")], stress=lambda second: 0.59),
            "stress 0.75 for stress_s 3",
        ),
        (
            "{measure: valence, at_most: -0.5, for_s: 3}",
            call([(3, "angry")]),
            call([(9, "confused")]),
            "valence -0.70 for valence_s 3",
        ),
        (
            "{measure: valence, at_least: 0.5, at_most: 0.75, for_s: 3}",
            call([(3, "satisfied")]),
            call([(9, "grateful")]),
            "valence +0.70 for valence_s 3",
        ),
        (
            "{measure: talk_share, at_least: 0.8}",
            call([(10, "neutral")], extra=[turn("rep", 0, 1), turn("caller", 1, 6)]),
            call([(10, "neutral")], extra=[turn("rep", 0, 2), turn("caller", 2, 6)]),
            "talk_share 83%",
        ),
        (
            "{measure: trend, of: valence, falls_by: 0.5, for_s: 2}",
            call([(4, "neutral"), (5, "angry")]),
            call([(4, "frustrated"), (5, "angry")]),
            "trend -0.70",
        ),
        (
            "{measure: trend, of: stress, rises_by: 0.3, for_s: 2}",
            call([(10, "neutral")], stress=lambda second: second / 10),
            call([(10, "neutral")], stress=lambda second: 1 - second / 10),
            "trend +0.35",
        ),
        (
            "{measure: count, of: moments, labels: [angry, sad], at_least: 3}",
            call([(1, "angry"), (2, "neutral"), (1, "sad"), (2, "neutral"), (1, "angry")]),
            call([(1, "angry"), (9, "neutral"), (1, "sad"), (9, "neutral"), (1, "angry")]),
            "count 3",
        ),
        (
            "{measure: count, of: moments, labels: [angry], at_least: 3, whole_call: true}",
            call([(1, "angry"), (20, "neutral"), (1, "angry"), (20, "neutral"), (1, "angry")]),
            call([(2, "angry"), (20, "neutral")]),
            "count 3",
        ),
        (
            "{measure: count, of: utterances, at_least: 2}",
            call([(10, "neutral")], extra=[said("Hello?", 1, 2), said("Anyone?", 3, 4)]),
            call([(20, "neutral")], extra=[said("Hello?", 1, 2), said("Anyone?", 15, 16)]),
            "count 2",
        ),
        (
            "{measure: count, of: cues, kinds: [escalation], at_least: 2, whole_call: true}",
            call([(40, "neutral")], extra=[said("Get me a manager.", 1, 2), said("I will sue you.", 30, 31)]),
            call([(40, "neutral")], extra=[said("Get me a manager.", 1, 2), said("It is fine.", 30, 31)]),
            "count 2 for cue sue you",
        ),
        (
            "{measure: cue_kind, any_of: [confusion, urgency]}",
            call([(9, "neutral")], extra=[said("I need it urgently.", 1, 3)]),
            call([(9, "neutral")], extra=[said("I can wait a week.", 1, 3)]),
            "cue urgently",
        ),
        (
            "{measure: cue_kind, any_of: [emotion], labels: [frustrated], at_least: 2}",
            call([(9, "neutral")], extra=[said("This is ridiculous, I am fed up.", 1, 3)]),
            call([(9, "neutral")], extra=[said("This is ridiculous. I am so happy with it.", 1, 3)]),
            "cues 2",
        ),
        (
            "{measure: interruptions, at_least: 2}",
            call(
                [(10, "neutral")],
                extra=[turn("rep", 0, 3), turn("caller", 2, 4), turn("rep", 5, 8), turn("caller", 7, 9)],
            ),
            call([(10, "neutral")], extra=[turn("rep", 0, 3), turn("caller", 2, 9)]),
            "interruptions 2",
        ),
        (
            "{measure: monologue, at_least_s: 8}",
            call([(12, "neutral")], extra=[turn("caller", 0, 4), turn("rep", 3, 3.8), turn("caller", 5, 9)]),
            call([(12, "neutral")], extra=[turn("caller", 0, 4), turn("rep", 3, 4.2), turn("caller", 5, 9)]),
            "monologue_s 9",
        ),
        (
            "{measure: pace, at_least: 180, for_s: 4}",
            call([(9, "neutral")], extra=[said("one two three four five six seven eight nine ten yes no", 1, 5)]),
            call([(9, "neutral")], extra=[said("one two three four five six seven eight nine ten yes", 1, 5)]),
            "pace 180",
        ),
        (
            "{measure: gap, at_least_s: 5}",
            [*call([(3, "neutral")]), *held(3, 9, "hold")],
            [*call([(3, "neutral")]), *held(3, 9, "loss")],
            "gap_s 5",
        ),
    ],
)
def test_a_measure_holds_and_explains_itself(measure: str, holds: list[Item], fails: list[Item], reason: str) -> None:
    template = " for ".join(f"{name} {{{name}}}" for name in reason.split()[::3])
    text = PACK.format(gap=0, most=9, kind="assist", cooldown=0)
    text = text.replace("{measure: label, any_of: [angry], for_s: 2}", measure)
    tried = load_policies(text.replace("{who} sounds {label} for {label_s} s.", template))
    assert run(fails, tried) == []
    found = run(holds, tried)[0].reason
    assert found.partition(" Said: ")[0] == reason


LAST_WEEK = CustomerHistory(
    (
        EarlierCall(6.5, "angry", "unresolved", "no signal", "a visit on Monday"),
        EarlierCall(2.2, "frustrated", "unresolved", "no signal"),
        EarlierCall(40, "satisfied", "sold", "a phone"),
    )
)


@pytest.mark.parametrize(
    ("measure", "reason"),
    [
        ("{measure: history, last_mood: [frustrated]}", "mood frustrated for days 2 days ago"),
        ("{measure: history, last_mood: [angry]}", None),
        ("{measure: history, last_outcome: [unresolved, abandoned]}", "outcome unresolved"),
        ("{measure: history, calls: 2}", "earlier_calls twice"),
        ("{measure: history, calls: 3}", None),
        ("{measure: history, calls: 3, within_days: 60}", "earlier_calls 3 times"),
        ("{measure: history, calls: 3, within_days: 60, same_topic: true}", None),
        ("{measure: history, calls: 2, within_days: 7, same_topic: true}", "earlier_calls twice for topic no signal"),
        ("{measure: history, open_promise: true}", "promise a visit on Monday"),
        ("{measure: history, open_promise: true, within_days: 3}", None),
        (
            "{measure: history, open_promise: true, last_mood: [frustrated]}",
            "mood frustrated for promise a visit on Monday",
        ),
    ],
)
def test_earlier_calls_are_evidence(measure: str, reason: str | None) -> None:
    words = (reason or "days").split(" for ")
    template = " for ".join(f"{word.split()[0]} {{{word.split()[0]}}}" for word in words)
    text = PACK.format(gap=0, most=9, kind="assist", cooldown=0)
    text = text.replace("{measure: label, any_of: [angry], for_s: 2}", measure)
    tried = load_policies(text.replace("{who} sounds {label} for {label_s} s.", template))
    items = call([(9, "neutral")])
    found = run(items, tried, LAST_WEEK)
    assert [s.reason for s in found] == ([] if reason is None else [reason])
    assert all(s.because == () and s.confidence == 1.0 and s.created_us == SECOND_US for s in found)
    assert run(items, tried) == []
    for consent in ("pending", "denied"):
        engine = PolicyEngine(tried, [replace(PARTIES[0], consent=consent), PARTIES[1]], LAST_WEEK)  # type: ignore[arg-type]
        assert [s for item in items for s in engine.feed(item)] == []


def test_earlier_calls_count_from_consent_on() -> None:
    pack_text = PACK.format(gap=0, most=9, kind="assist", cooldown=0)
    pack_text = pack_text.replace("{measure: label, any_of: [angry], for_s: 2}", "{measure: history, calls: 1}")
    engine = PolicyEngine(
        load_policies(pack_text.replace("{label} for {label_s} s", "{days}")),
        [replace(PARTIES[0], consent="pending"), PARTIES[1]],
        LAST_WEEK,
    )
    early, late = call([(3, "neutral")]), call([(6, "neutral")])[6:]
    assert [s for item in early for s in engine.feed(item)] == []
    engine.consent("caller", "granted")
    assert names([s for item in late for s in engine.feed(item)]) == ["angry"]


def tried(changes: dict[str, str], **settings: object) -> PolicyPack:
    """PACK with replacements."""
    text = PACK.format(**{"gap": 0, "most": 60, "kind": "assist", "cooldown": 0, **settings})
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return load_policies(text)


ANGRY = "- {measure: label, any_of: [angry], for_s: 2}"
SAD = "- {measure: label, any_of: [sad], for_s: 2}"


def test_what_must_not_hold_keeps_a_policy_silent() -> None:
    pack = tried({ANGRY: f"{ANGRY}\n      not:\n        - {{measure: cue_kind, any_of: [gratitude]}}"})
    thanks = said("Thank you so much.", 0.2, 1.5)
    assert names(run(call([(6, "angry")]), pack)) == ["angry"]
    assert names(run(call([(6, "angry")], extra=[thanks]), pack)) == []
    assert names(run(call([(15, "angry")], extra=[thanks]), pack)) == ["angry"]  # it left the window


def test_any_alone_is_a_condition() -> None:
    pack = tried({f"all:\n        {ANGRY}": f"any:\n        {ANGRY}\n        {SAD}", "{label} for {label_s} s": "low"})
    assert "Customer sounds low." in [s.reason for s in run(call([(3, "sad")]), pack)]
    assert run(call([(9, "neutral")]), pack) == []


def test_a_measure_may_have_a_window_of_its_own() -> None:
    pack = tried({ANGRY: "- {measure: label, any_of: [angry], for_s: 4, within_s: 30}"})
    apart = call([(2, "angry"), (20, "neutral"), (2, "angry")])
    assert names(run(apart, pack)) == ["angry"]
    assert names(run(apart, tried({"for_s: 2}": "for_s: 4}"}))) == []


def test_a_policy_may_wait_for_another_ones_suggestion() -> None:
    pack = tried(
        {
            SAD: f"{SAD}\n        - {{measure: suggested, any_of: [angry], within_s: 20}}",
            "sounds {label}.": "{suggested} {suggested_s}",
        }
    )
    found = run(call([(2, "angry"), (6, "neutral"), (3, "sad")]), pack)
    assert [(s.policy, s.reason) for s in found][1:] == [("sad@1", "Customer angry 8")]
    assert names(run(call([(3, "sad")]), pack)) == []
    assert names(run(call([(2, "angry"), (30, "neutral"), (3, "sad")]), pack)) == ["angry"]


def test_a_policy_speaks_only_in_its_part_of_the_call() -> None:
    early = tried({"      all:": "      until_s: 5\n      all:"})
    assert names(run(call([(4, "angry")]), early)) == ["angry"]
    assert names(run(call([(4, "neutral"), (9, "angry")]), early)) == []


# The same action twice


SAME = {"say:warm": "say:calm", "[sad]": "[sad, angry]", "priority: high": "priority: normal"}


def test_the_same_action_is_refreshed_while_it_stands_and_shown_again_when_it_has_expired() -> None:
    pack = tried(SAME, gap=4, most=1)
    first, again = run(call([(2, "angry")]), pack)
    assert (first.id, first.revision, again.id, again.revision) == ("s1", 0, "s1", 1)
    assert (again.policy, again.text, again.created_us) == ("sad@1", "Offer a warm word", first.created_us)
    assert again.expires_us >= first.expires_us
    pack = tried({"say:warm": "say:calm"}, cooldown=0)
    later = run(call([(2, "angry"), (30, "neutral"), (2, "sad")]), pack)
    assert [(s.id, s.revision) for s in later] == [("s1", 0), ("s2", 0)]


def test_a_less_urgent_policy_does_not_replace_what_stands() -> None:
    pack = tried({**SAME, "priority: normal": "priority: low"} | {"priority: high": "priority: high"})
    assert [s.policy for s in run(call([(4, "angry")]), pack)] == ["sad@1"]
    both = run(call([(4, "angry"), (30, "neutral"), (4, "angry")]), pack)
    assert [s.policy for s in both] == ["sad@1", "sad@1"]


# What agents make of it


def judged(verdict: Verdict, priority: str = "normal") -> list[Suggestion]:
    """Two bouts of anger; the agent judges the first suggestion."""
    pack = tried({"priority: normal": f"priority: {priority}"})
    engine = PolicyEngine(pack, PARTIES)
    found: list[Suggestion] = []
    for item in call([(4, "angry"), (30, "neutral"), (4, "angry")]):
        for suggestion in engine.feed(item):
            found.append(suggestion)
            if len(found) == 1:
                engine.judged(suggestion.action, suggestion.participant, verdict, 0)
    return found + engine.finish()


def test_what_was_dismissed_is_not_suggested_again_unless_it_is_urgent() -> None:
    assert len(judged("dismissed")) == 1
    assert len(judged("accepted")) == len(judged("corrected")) == 2
    assert len(judged("dismissed", "high")) == 2


def test_a_dismissal_can_be_taken_back() -> None:
    engine = PolicyEngine(tried({}), PARTIES)
    engine.judged("say:calm", "caller", "dismissed", 0)
    engine.judged("say:calm", "caller", "accepted", SECOND_US)
    assert names([s for item in call([(4, "angry")]) for s in engine.feed(item)]) == ["angry"]


def test_a_replay_hears_what_agents_said() -> None:
    items = call([(4, "angry"), (30, "neutral"), (4, "angry")])
    once = judged("dismissed")
    finished = CallTimeline(
        name="call",
        duration_us=38 * SECOND_US,
        rate_hz=8_000,
        participants=PARTIES,
        utterances=(),
        moments=tuple(item for item in items if isinstance(item, Moment)),
        suggestions=tuple(once),
        speech=(),
        vocal=(),
        dynamics=(),
        summary=Summary((), ()),
        notices=(),
        models={},
        feedback=(SuggestionFeedback("s1", "dismissed", 2 * SECOND_US + 1),),
    )
    assert replay(tried({}), finished) == once
    assert len(replay(tried({}), replace(finished, feedback=()))) == 2
    other = tried({"name: angry": "name: annoyed"})  # another policy for the same action
    assert len(replay(other, finished)) == 1


def test_feedback_is_counted_per_policy() -> None:
    made = run(call([(2, "angry"), (30, "neutral"), (2, "sad"), (30, "neutral"), (2, "angry")]), tried({}))
    verdicts: list[tuple[str, Verdict]] = [
        ("s1", "accepted"),
        ("s2", "corrected"),
        ("s3", "dismissed"),
        ("s9", "accepted"),
    ]
    counts = feedback_by_policy(made, [SuggestionFeedback(name, verdict, 0) for name, verdict in verdicts])
    assert counts == {"angry": {"accepted": 1, "dismissed": 1}, "sad": {"corrected": 1}}


def test_an_utterance_that_begins_as_a_moment_ends_counts_alike_before_and_after_it() -> None:
    pack = tried({ANGRY: "- {measure: cue_kind, any_of: [churn]}", "{label} for {label_s} s": "low"})
    moments, cancels = call([(6, "neutral")]), said("Cancel my contract.", 2, 4)
    before = [*moments[:2], cancels, *moments[2:]]
    after = [*moments[:4], cancels, *moments[4:]]
    (found,) = run(before, pack)
    assert run(after, pack) == [found]


def test_only_final_moments_count() -> None:
    items = [moment("caller", n, "angry", final=False) for n in range(9)]
    assert run(items, pack()) == []


def test_an_unknown_participant_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"\(caller, rep\), found 'other'"):
        PolicyEngine(DEFAULT, PARTIES).feed(moment("other", 0))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("any_of", "labell", r"line 14: unknown field 'labell'; expected one of within_s, for_s, measure, any_of, min"),
        ("    kind:", "    knid:", r"line 8: unknown field 'knid'; expected one of name, version, kind"),
        ("[angry]", "[cross]", r"line 14: .*'neutral'.*found 'cross'"),
        ("[angry]", "[unknown]", r"line 14: .*'unknown' is no evidence"),
        ("for_s: 2}", "for_s: 11}", r"line 14: all: can never hold: 11(.0)? s asked for within 10(.0)? s"),
        ("for_s: 2}", "min_probability: 1.5, for_s: 2}", r"line 14: min_probability: .*1, found 1.5"),
        ("measure: label", "measure: mood", r"line 14: .*'mood'.*'label', 'stress'"),
        ("{label_s}", "{labels}", r"line 19: reason: variable 'labels' is unknown; expected one of label, lab"),
        ("{label_s}", "{label_s", r"line 19: reason: not a template"),
        ("{label_s}", "{label_s:>99999999999}", r"line 19: reason: not a template: expected a plain name"),
        ("{label_s}", "{label_s.__class__}", r"line 19: reason: not a template: expected a plain name"),
        ("{label_s}", "{label[3]}", r"line 19: reason: not a template: expected a plain name"),
        ("{label_s}", "{}", r"line 19: reason: not a template: expected a plain name"),
        ("Stay calm", "Stay " + "calm " * 12, r"line 18: text: expected at most 12 words, not 13"),
        ("name: sad", "name: angry", r"line 20: policies: two policies are named 'angry'"),
        ("say:calm", "calm", r"line 17: action: .*found 'calm'"),
        ("    expires_s: 20\n", "", r"line 6: expires_s: Field required"),
        ("version: 3", "version: three", r"line 2: version: .*integer, found 'three'"),
        ("kind: assist", "kind: routing", r"line 15: cooldown_s: expected at least 60 s for a routing pol"),
        ("policies:", "policies: [", r"line 6: not valid YAML"),
        ("name: test", "name: \x07", r"not valid YAML"),
        ("version: 3", "version: !!timestamp 3", r"not valid YAML"),
    ],
)
def test_a_wrong_pack_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    text = PACK.format(gap=0, most=60, kind="assist", cooldown=0)
    assert old in text
    with pytest.raises(InvalidInputError, match=message):
        load_policies(text.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "[]", "just words", "policies: []", "&a [*a]", "1: 2"])
def test_what_is_no_pack_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="policies line 1: "):
        load_policies(text)


BROKEN = {
    "a loop of two": (
        {
            ANGRY: f"{ANGRY}\n        - {{measure: suggested, any_of: [sad]}}",
            SAD: f"{SAD}\n        - {{measure: suggested, any_of: [angry]}}",
        },
        r"line 30: policies: policies wait for each other in a loop: angry → sad → angry; expected none that waits",
    ),
    "itself": (
        {ANGRY: f"{ANGRY}\n      not:\n        - {{measure: suggested, any_of: [angry], within_s: 9}}"},
        r"line 16: policies: .* loop: angry → angry",
    ),
    "unknown name": (
        {
            ANGRY: "- measure: suggested\n          any_of:\n            - sad\n            - mad",
            "{label} for {label_s} s": "low",
        },
        r"line 17: policies: unknown policy 'mad'; expected one of angry, sad",
    ),
    "too many interruptions": (
        {ANGRY: "- {measure: interruptions, at_least: 30}"},
        r"line 14: all: can never hold: 15(.0)? s asked for within 10(.0)? s",
    ),
    "too many moments": (
        {ANGRY: "- {measure: count, of: moments, labels: [angry], at_least: 11}"},
        r"line 14: all: can never hold: 11 s asked for within 10",
    ),
    "trend over too little": (
        {ANGRY: "- {measure: trend, of: valence, falls_by: 0.2, for_s: 6}"},
        r"line 14: all: can never hold: 12(.0)? s asked for within 10",
    ),
    "trend too steep": (
        {ANGRY: "- {measure: trend, of: stress, falls_by: 1.5, for_s: 2}"},
        r"line 14: trend: can never hold: stress changes by 1 at most",
    ),
    "trend both ways": (
        {ANGRY: "- {measure: trend, of: stress, falls_by: 0.5, rises_by: 0.5, for_s: 2}"},
        r"line 14: trend: expected either rises_by or falls_by",
    ),
    "share above one": ({ANGRY: "- {measure: talk_share, at_least: 1.2}"}, r"line 14: at_least: .*1, found 1.2"),
    "own window": (
        {ANGRY: "- {measure: silence, at_least_s: 8, within_s: 5}"},
        r"line 14: all: can never hold: 8(.0)? s asked for within 5",
    ),
    "count of nothing": ({ANGRY: "- {measure: count, of: cues}"}, r"line 14: count: expected labels with moments"),
    "history of nothing": ({ANGRY: "- {measure: history, within_days: 3}"}, r"line 14: history: expected last_mood"),
    "unknown outcome": ({ANGRY: "- {measure: history, last_outcome: [lost]}"}, r"line 14: .*'resolved'.*found 'lost'"),
    "unknown cue": ({ANGRY: "- {measure: cue_kind, any_of: [cancelling]}"}, r"line 14: .*'churn'.*found 'cancelling'"),
    "until before after": (
        {"      all:": "      after_s: 9\n      until_s: 9\n      all:"},
        r"line 14: until_s: can never hold: expected more than after_s, found 9",
    ),
    "no condition": (
        {f"all:\n        {ANGRY}": "any: []"},
        r"line 10: when: expected a condition under `all` or `any`",
    ),
    "a variable of any": (
        {ANGRY: f"{ANGRY}\n      any:\n        - {{measure: gap, at_least_s: 3}}", "{label_s}": "{gap_s}"},
        r"line 21: reason: variable 'gap_s' has a value only when its condition under `any` holds",
    ),
    "a variable of what was not asked": (
        {ANGRY: "- {measure: history, last_mood: [sad]}", "{label} for {label_s} s": "{promise}"},
        r"line 19: reason: variable 'promise' is unknown; expected one of days, mood, who",
    ),
    "rearm above the bar": (
        {"    cooldown_s": "    rearm: {below: 1.5}\n    cooldown_s"},
        r"line 15: below: .*1, found 1.5",
    ),
    "unknown field of rearm": (
        {"    cooldown_s": "    rearm: {bellow: 0.5}\n    cooldown_s"},
        r"line 15: unknown field 'bellow'; expected one of below, for_s",
    ),
}


@pytest.mark.parametrize("changes", BROKEN)
def test_a_pack_that_cannot_work_is_refused_with_its_line(changes: str) -> None:
    with pytest.raises(InvalidInputError, match=BROKEN[changes][1]):
        tried(BROKEN[changes][0])


def test_a_label_that_no_model_here_can_say_is_refused() -> None:
    text = PACK.format(gap=0, most=60, kind="assist", cooldown=0)
    assert load_policies(text, {"angry", "sad"})
    with pytest.raises(InvalidInputError, match=r"line 14: any_of: no model here can say 'angry'; expected some of"):
        load_policies(text, {"sad"})


def test_every_fault_is_listed() -> None:
    text = PACK.format(gap=-1, most=0, kind="assist", cooldown=0)
    with pytest.raises(InvalidInputError) as refusal:
        load_policies(text)
    assert [line.partition(":")[0] for line in str(refusal.value).splitlines()] == [
        "policies line 3",
        "policies line 4",
    ]


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidInputError, match=r"missing\.yaml"):
        load_policies(DEFAULT_POLICIES.with_name("missing.yaml"))


STORY = st.lists(st.tuples(st.integers(1, 9), st.sampled_from(LABELS)), min_size=1, max_size=12)


def interleaved(items: Sequence[Item], choices: Iterator[bool]) -> list[Item]:
    """Another arrival order that a session may give: each party's own order kept, at most 4 s of lag."""
    waiting = {p.id: [i for i in items if i.participant == p.id] for p in PARTIES}
    ends_us = dict.fromkeys(waiting, 0)
    order: list[Item] = []
    while any(waiting.values()):
        first, second = waiting if next(choices) else reversed(waiting)
        ahead_us = ends_us[first] - ends_us[second]
        chosen = second if waiting[second] and (not waiting[first] or ahead_us >= 4 * SECOND_US) else first
        item = waiting[chosen].pop(0)
        ends_us[chosen] = counts_from_us(item)
        order.append(item)
    return order


@settings(max_examples=60, deadline=None)
@given(STORY, st.randoms(use_true_random=False))
def test_the_order_of_arrival_between_parties_does_not_matter(story: list[tuple[int, Label]], random: object) -> None:
    extra: list[Item] = [
        said("Cancel my contract, or get me a supervisor.", 3, 6.5),
        turn("caller", 3, 6.5),
        turn("rep", 5, 9.2),
    ]
    items = call(story, extra=extra, stress=lambda second: second % 10 / 10)
    choices = iter(lambda: random.random() < 0.5, None)  # type: ignore[attr-defined]
    assert run(interleaved(items, choices)) == run(items)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.floats(0, 1))
def test_unknown_moments_never_count(seconds: int, stress: float) -> None:
    extra = [said("This is the third time I ask for a supervisor, I am fed up.", 0.5, 0.9)]
    assert run(call([(seconds, "unknown")], extra=extra, stress=lambda second: stress)) == []


# Hysteresis

PROBABILITIES = st.lists(st.sampled_from([0.0, 0.3, 0.4, 0.49, 0.5, 0.6, 0.9]), min_size=5, max_size=120)


def angry(probabilities: Sequence[float]) -> list[Item]:
    """A second of each probability of anger; 0 is a neutral one."""
    items: list[Item] = []
    for second, p in enumerate(probabilities):
        items += [
            moment("caller", second, "angry", p) if p else moment("caller", second, "neutral"),
            moment("rep", second),
        ]
    return items


@cache
def rearmed(rearm: str) -> PolicyPack:
    changes = {
        "    cooldown_s": f"    rearm: {rearm}\n    cooldown_s",
        "expires_s: 20": "expires_s: 1",
        "[sad]": "[disgusted]",
    }
    return tried(changes)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.36, 0.49, 0.5, 0.51, 0.9]), min_size=5, max_size=120))
def test_a_value_that_flickers_around_its_bar_gives_one_suggestion_at_most(probabilities: list[float]) -> None:
    assert len(run(angry(probabilities), rearmed("{below: 0.7, for_s: 5}"))) <= 1


@settings(max_examples=100, deadline=None)
@given(PROBABILITIES, st.sampled_from([0.1, 0.5, 0.7, 0.99, 1]), st.sampled_from([0, 1, 5, 20]))
def test_hysteresis_only_takes_suggestions_away(probabilities: list[float], below: float, for_s: int) -> None:
    items = angry(probabilities)
    every = {s.created_us for s in run(items, rearmed("{below: 1, for_s: 0}"))}
    fewer = [s.created_us for s in run(items, rearmed(f"{{below: {below}, for_s: {for_s}}}"))]
    assert set(fewer) <= every
    assert bool(fewer) == bool(every)  # the first one always comes


@settings(max_examples=100, deadline=None)
@given(PROBABILITIES, st.sampled_from([0, 1, 4, 12]))
def test_between_two_suggestions_the_lower_bar_was_left_for_long_enough(probabilities: list[float], for_s: int) -> None:
    fired = [s.created_us // SECOND_US for s in run(angry(probabilities), rearmed(f"{{below: 0.7, for_s: {for_s}}}"))]
    for one, next_one in itertools.pairwise(fired):
        low = [
            sum(p >= 0.35 for p in probabilities[max(0, now - 10) : now]) < 1.4 for now in range(one + 1, next_one + 1)
        ]
        longest = max((len(list(run)) for is_low, run in itertools.groupby(low) if is_low), default=0)
        assert longest >= max(1, for_s)


MEASURES = {
    "label": "{measure: label, any_of: [angry, sad], for_s: 3, min_probability: 0.5}",
    "stress": "{measure: stress, at_least: 0.5, for_s: 3}",
    "anger": "{measure: anger, at_least: 0.5, for_s: 3}",
    "trend": "{measure: trend, of: valence, falls_by: 0.4, for_s: 3}",
    "valence": "{measure: valence, at_least: -0.7, at_most: -0.3, for_s: 3}",
    "overtalk": "{measure: overtalk, at_least_s: 2}",
    "interruptions": "{measure: interruptions, at_least: 2}",
    "monologue": "{measure: monologue, at_least_s: 5}",
    "silence": "{measure: silence, at_least_s: 3}",
    "gap": "{measure: gap, at_least_s: 3}",
    "talk_share": "{measure: talk_share, at_least: 0.5}",
    "pace": "{measure: pace, at_least: 120, for_s: 3}",
    "cue": "{measure: cue, phrases: [cancel]}",
    "cue_kind": "{measure: cue_kind, any_of: [churn], at_least: 2}",
    "count": "{measure: count, of: moments, labels: [angry, sad], at_least: 4}",
    "stage": "{measure: stage, any_of: [problem]}",
    "history": "{measure: history, calls: 1}",
    "suggested": "{measure: suggested, any_of: [sad]}",
}


@cache
def asking(measure: str) -> When:
    return tried({ANGRY: f"- {measure}", "{who} sounds {label} for {label_s} s.": "x"}).policies[0].when


def test_every_measure_is_tried_below() -> None:
    measures = {get_args(kind.model_fields["measure"].annotation)[0] for kind in get_args(get_args(Measure)[0])}
    assert set(MEASURES) == measures


@pytest.mark.parametrize("measure", MEASURES)
@settings(max_examples=40, deadline=None)
@given(
    story=STORY,
    share=st.floats(0.05, 1),
    talk=st.lists(st.tuples(st.sampled_from(["caller", "rep"]), st.integers(0, 30), st.integers(1, 8)), max_size=6),
    heard=st.sampled_from([-25.0, None]),
)
def test_a_lowered_bar_holds_wherever_the_bar_itself_does(
    measure: str, story: list[tuple[int, Label]], share: float, talk: list[tuple[str, int, int]], heard: float | None
) -> None:
    party, other = (Party(p) for p in PARTIES)
    for item in call(story, stress=lambda second: second % 7 / 7):
        if isinstance(item, Moment) and item.participant == "caller":
            item = replace(item, level_dbfs=heard, absent=() if heard else (Absence("voice", "hold"),))
            item = replace(item, anger=len(party.moments) % 5 / 5, speech_ratio=1.0 if heard else 0.0)
            party.moments.append(item)
            party.felt[item.affect.label].append(item)
    for number, (who, start_s, length_s) in enumerate(sorted(talk, key=lambda t: t[1])):
        spoken = turn(who, start_s, start_s + length_s)
        (party if who == "caller" else other).turns.append(spoken)
        if who == "caller":
            party.talk_us += spoken.span.duration_us
            party.overtalk.append(spoken)
            words = said("cancel my contract and cancel it today " * (number % 3), start_s, start_s + length_s)
            party.utterances.append(words)
            party.said.append(words)
    end_us = party.moments[-1].span.end_us
    view = View(party, Span(0, end_us), (party, other), 0, LAST_WEEK, [(0, "sad")], stage(0, "problem", 0))
    asked = asking(MEASURES[measure])
    if asked.evidence(view) is not None:
        assert asked.eased(share).evidence(view) is not None
