"""Policies: the language, its errors, and when the default pack speaks."""

from collections.abc import Callable, Iterator, Sequence
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.labels import AFFECT_OF_LABEL, LABELS, Label
from affectline.models.signals import Span
from affectline.pipelines.policy import DEFAULT_POLICIES, PolicyEngine, PolicyPack, load_policies, replay
from affectline.pipelines.timeline import (
    Affect,
    CallTimeline,
    Moment,
    Output,
    Participant,
    SpeechTurn,
    Suggestion,
    Summary,
    Utterance,
)

pytestmark = pytest.mark.unit

SECOND_US = 1_000_000
PARTIES = (Participant("caller", "customer", 0, "granted"), Participant("rep", "agent", 1, "granted"))
DEFAULT = load_policies(DEFAULT_POLICIES)
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
    return Utterance(f"u-{participant}-{start_s}", span, participant, text, (), "en", 0.9, True, 0)


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


def run(items: Sequence[Output], pack: PolicyPack = DEFAULT) -> list[Suggestion]:
    engine = PolicyEngine(pack, PARTIES)
    return [suggestion for item in items for suggestion in engine.feed(item)] + engine.finish()


def names(suggestions: Sequence[Suggestion]) -> list[str]:
    return [suggestion.policy.partition("@")[0] for suggestion in suggestions]


def silence(seconds: int, **heard: float | None) -> list[Item]:
    items: list[Item] = [moment("caller", 0), moment("rep", 0)]
    for second in range(1, seconds + 1):
        items.append(moment("caller", second, speech_ratio=0.0))
        items.append(moment("rep", second, speech_ratio=0.0, **heard))  # type: ignore[arg-type]
    return items


CANCEL = said("Then cancel my contract today.", 9, 12)
THIRD_TIME = said("This is the third time I call.", 9, 12)

FIRES = {
    "anger-retention": call([(10, "neutral"), (5, "angry"), (10, "neutral")], extra=[CANCEL]),
    "anger-supervisor": call([(10, "neutral"), (8, "angry"), (10, "neutral")]),
    "satisfied-sales": call([(60, "neutral"), (13, "satisfied"), (5, "neutral")]),
    "escalation-risk": call([(10, "neutral"), (3, "frustrated"), (5, "neutral")], extra=[THIRD_TIME]),
    "frustration-empathy": call([(10, "neutral"), (4, "frustrated")]),
    "confusion-simplify": call([(10, "neutral"), (3, "confused")]),
    "sadness-warmth": call([(10, "neutral"), (4, "sad")]),
    "anxiety-reassure": call([(10, "neutral"), (4, "anxious")]),
    "gratitude-close": call([(60, "neutral"), (2, "grateful")]),
    "overtalk": call([(20, "neutral")], extra=[turn("caller", 4, 12), turn("rep", 8.8, 14)]),
    "long-silence": silence(12),
}
NEAR_MISSES = {
    "anger-retention": call([(10, "neutral"), (5, "angry")], extra=[said("Cancel? No, my card.", 9, 12)]),
    "anger-supervisor": call([(10, "neutral"), (7, "angry"), (30, "neutral")]),
    "satisfied-sales": call([(13, "satisfied"), (60, "neutral")]),
    "escalation-risk": call([(10, "neutral"), (9, "frustrated")], stress=lambda second: 0.4),
    "frustration-empathy": call([(10, "neutral"), (9, "frustrated")], probability=0.44),
    "confusion-simplify": call([(2, "confused"), (20, "neutral"), (2, "confused")]),
    "sadness-warmth": call([(10, "neutral"), (3, "sad")]),
    "anxiety-reassure": call([(10, "neutral"), (3, "anxious")]),
    "gratitude-close": call([(2, "grateful"), (60, "neutral")]),
    "overtalk": call([(20, "neutral")], extra=[turn("rep", 4, 12), turn("caller", 8.8, 14)]),
    "long-silence": silence(11),
}


@pytest.mark.parametrize("name", [policy.name for policy in DEFAULT.policies])
def test_each_default_policy_fires_and_does_not_on_a_near_miss(name: str) -> None:
    assert name in names(run(FIRES[name]))
    assert name not in names(run(NEAR_MISSES[name]))


def test_rising_stress_is_an_escalation_risk() -> None:
    items = call([(10, "neutral"), (10, "frustrated")], stress=lambda second: 0.2 if second < 10 else 0.6)
    assert "escalation-risk" in names(run(items))


@pytest.mark.parametrize("name", FIRES)
def test_a_suggestion_tells_why_and_for_how_long(name: str) -> None:
    items = FIRES[name]
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
    items.sort(key=lambda item: (item.span.end_us, isinstance(item, Moment)))
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
    ],
)
def test_a_measure_holds_and_explains_itself(measure: str, holds: list[Item], fails: list[Item], reason: str) -> None:
    template = " for ".join(f"{name} {{{name}}}" for name in reason.split()[::3])
    text = PACK.format(gap=0, most=9, kind="assist", cooldown=0)
    text = text.replace("{measure: label, any_of: [angry], for_s: 2}", measure)
    tried = load_policies(text.replace("{who} sounds {label} for {label_s} s.", template))
    assert run(fails, tried) == []
    assert run(holds, tried)[0].reason == reason


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
    extra = [said("Cancel my contract, third time I ask for a supervisor.", 0.5, 0.9)]
    assert run(call([(seconds, "unknown")], extra=extra, stress=lambda second: stress)) == []
