"""Routing: what leads where, what emotion may and may not do to it, and what is said about it."""

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.labels import AFFECT_OF_LABEL, LABELS, Label
from affectline.models.signals import Span
from affectline.pipelines.cues import load_cues
from affectline.pipelines.routing import (
    BANDS,
    DECLARED,
    DEFAULT_ROUTING,
    EMOTION,
    PLAIN,
    Evidence,
    RoutingConfig,
    RoutingContext,
    load_routing,
    recommend,
)
from affectline.pipelines.timeline import (
    Affect,
    CallTimeline,
    Consent,
    Cue,
    CustomerHistory,
    EarlierCall,
    Moment,
    Participant,
    Summary,
    Utterance,
)

pytestmark = pytest.mark.contract

CONFIG = load_routing(DEFAULT_ROUTING)
CUES = load_cues()
SECOND_US = 1_000_000


def talk(
    *felt: tuple[int, Label],
    says: str = "",
    probability: float = 0.8,
    consent: Consent = "granted",
    who: str = "customer",
) -> CallTimeline:
    """A conversation in which one party feels this for so many seconds, one after the other, and says something."""
    parties = (Participant("customer", "customer", 0, consent), Participant("agent", "agent", 1, "granted"))
    labels = [label for seconds, label in felt for _ in range(seconds)]
    moments = tuple(_moment(who, second, label, probability) for second, label in enumerate(labels))
    span = Span(0, max(1, len(labels)) * SECOND_US)
    cues = tuple(Cue(cue.kind, cue.phrase, span, cue.label) for cue in CUES.find(says))
    said = (Utterance("u1", span, who, says, (), "en", 0.9, True, 1, cues=cues),) if says else ()
    return CallTimeline("call", span.end_us, 8_000, parties, said, moments, (), (), (), (), Summary((), ()), (), {})


def _moment(who: str, second: int, label: Label, probability: float) -> Moment:
    known = label != "unknown"
    affect = Affect(label, probability if known else 0.0, {}, AFFECT_OF_LABEL[label][0] if known else None, None, None)
    span = Span(second * SECOND_US, (second + 1) * SECOND_US)
    return Moment(f"m{second}", span, who, affect, (), (), None, -25.0, 1.0, 1, True)


def last_call(**values: object) -> CustomerHistory:
    return CustomerHistory((EarlierCall(**{"days_ago": 3, **values}),))  # type: ignore[arg-type]


USES = {
    "an angry caller": (RoutingContext(call=talk((10, "neutral"), (6, "angry"))), "retention", "high", "angry"),
    "an angry voice at the menu": (RoutingContext(ivr=talk((4, "angry"))), "retention", "high", "angry"),
    "a happy caller": (RoutingContext(call=talk((10, "neutral"), (20, "satisfied"))), "sales", "normal", "satisfied"),
    "a grateful caller": (RoutingContext(call=talk((15, "grateful"))), "sales", "normal", "grateful"),
    "a word of leaving": (
        RoutingContext(call=talk((9, "neutral"), says="I want to cancel my contract.")),
        "retention",
        "normal",
        "cancel my contract",
    ),
    "asking for somebody above": (
        RoutingContext(ivr=talk((5, "neutral"), says="Get me a manager.")),
        "supervisor",
        "high",
        "manager",
    ),
    "hardship": (RoutingContext(ivr=talk((5, "sad"), says="My husband died.")), "care", "high", "husband died"),
    "the intent to leave": (RoutingContext(intent="Cancel "), "retention", "normal", "Cancel"),
    "the intent to buy": (RoutingContext(intent="upgrade"), "sales", "normal", "upgrade"),
    "a bill, asked angrily last time": (
        RoutingContext(intent="bill", history=last_call(mood="angry")),
        "billing",
        "high",
        "bill",
    ),
    "calling for the third time": (
        RoutingContext(history=CustomerHistory(tuple(EarlierCall(d, "neutral", "unresolved") for d in (1, 3, 5)))),
        "supervisor",
        "normal",
        "ended unresolved",
    ),
}


@pytest.mark.parametrize("use", USES)
def test_each_use_leads_where_it_should_and_says_why(use: str) -> None:
    context, queue, priority, word = USES[use]
    found = recommend(CONFIG, context)
    assert (found.queue, found.priority) == (queue, priority)
    assert found.rule
    assert word in found.reasons[0].text
    assert 0 < found.confidence <= 1
    assert set(found.used) == {reason.evidence for reason in found.reasons if reason.evidence}


def test_nothing_known_leads_to_the_default_queue_and_says_so() -> None:
    found = recommend(CONFIG, RoutingContext())
    assert (found.queue, found.priority, found.confidence, found.rule) == ("general", "normal", 0.0, "")
    assert [reason.text for reason in found.reasons] == ["Nothing known: the default queue."]
    assert (found.greeting, found.used, found.withheld) == ("", (), ())


def test_what_no_rule_asks_for_leads_to_the_default_queue() -> None:
    found = recommend(CONFIG, RoutingContext(intent="opening hours"))
    assert found.queue == "general"
    assert found.reasons[0].text == "No rule fits what may be looked at: the default queue."


@pytest.mark.parametrize(
    "call",
    [
        talk((3, "angry"), (20, "neutral")),
        talk((10, "angry"), probability=0.49),
        talk((10, "angry"), (60, "neutral")),  # over a minute ago
        talk((10, "angry"), who="agent"),
    ],
)
def test_a_passing_or_doubtful_mood_leads_nowhere(call: CallTimeline) -> None:
    found = recommend(CONFIG, RoutingContext(call=call))
    assert (found.queue, found.priority) == ("general", "normal")


def test_reasons_name_the_moments_they_rest_on() -> None:
    found = recommend(CONFIG, RoutingContext(call=talk((3, "neutral"), (5, "angry"))))
    assert found.reasons[0].text == "The customer sounds angry for 5 s."
    assert found.reasons[0].refs == ("m3", "m4", "m5", "m6", "m7")
    assert found.reasons[1].text == "Priority goes up one band, to high: the customer sounds angry for 5 s."
    assert found.confidence == pytest.approx(0.8)


@pytest.mark.parametrize("consent", ["pending", "denied"])
def test_without_consent_nothing_is_heard_and_it_is_said(consent: Consent) -> None:
    found = recommend(CONFIG, RoutingContext(call=talk((20, "angry"), says="Cancel my contract.", consent=consent)))
    assert found.queue == "general"
    assert found.withheld == (f"the call: the customer's consent is {consent}",)


# The right to object

EVERYTHING = RoutingContext(
    intent="bill",
    history=CustomerHistory(
        (
            EarlierCall(1, "angry", "unresolved", "a bill", "a refund"),
            EarlierCall(2, "angry", "unresolved", "a bill"),
            EarlierCall(3, "angry", "escalated", "a bill"),
        )
    ),
    ivr=talk((9, "angry"), says="Cancel my contract, get me a manager."),
    call=talk((30, "angry"), says="Cancel my contract."),
)


def test_who_objected_is_routed_by_intent_and_choice_alone_and_it_is_said() -> None:
    assert recommend(CONFIG, EVERYTHING).queue == "retention"
    found = recommend(CONFIG, replace(EVERYTHING, emotion_routing_objected=True))
    alone = recommend(CONFIG, RoutingContext(intent="bill"))
    assert (found.queue, found.priority, found.skills, found.greeting, found.used, found.rule) == (
        alone.queue,
        alone.priority,
        alone.skills,
        alone.greeting,
        ("intent",),
        "has-a-bill",
    )
    assert "the customer objected" in found.reasons[-1].text
    assert len(found.withheld) == len(set(get_args(Evidence)) - DECLARED)
    assert all(line.endswith(": the customer objected") for line in found.withheld)


# Whatever comes in

MOODS = st.sampled_from((*LABELS, "unknown"))
TALKS = st.one_of(
    st.none(),
    st.builds(
        lambda felt, says, consent: talk(*felt, says=says, consent=consent),
        st.lists(st.tuples(st.integers(1, 15), MOODS), max_size=5),
        st.sampled_from(["", "Cancel my contract.", "Get me a manager.", "My husband died.", "Thank you so much."]),
        st.sampled_from(get_args(Consent)),
    ),
)
HISTORIES = st.one_of(
    st.none(),
    st.builds(
        lambda calls: CustomerHistory(tuple(calls)),
        st.lists(
            st.builds(
                EarlierCall,
                st.floats(0, 60),
                st.one_of(st.none(), MOODS),
                st.sampled_from([None, "resolved", "unresolved", "escalated", "sold"]),
                st.sampled_from(["", "a bill", "no signal {calls}"]),
                st.sampled_from(["", "a visit {days}"]),
            ),
            max_size=5,
        ),
    ),
)
CONTEXTS = st.builds(
    RoutingContext,
    st.sampled_from(["", "bill", "CANCEL", "fault", "weather"]),
    st.sampled_from(["", "fibre"]),
    st.sampled_from(["", "2"]),
    HISTORIES,
    TALKS,
    TALKS,
)
EAGER = CONFIG.model_copy(
    update={
        "rules": [rule.model_copy(update={"priority": "high" if rule.when.moods else "low"}) for rule in CONFIG.rules]
    }
)
RESERVED = CONFIG.model_copy(update={"cap_bands": 0})


def without_emotion(context: RoutingContext) -> RoutingContext:
    history = context.history
    if history:
        history = CustomerHistory(tuple(replace(call, mood=None) for call in history.calls))
    return replace(context, history=history, ivr=None, call=None)


@given(CONTEXTS, st.sampled_from([CONFIG, EAGER, RESERVED]))
def test_emotion_lifts_priority_by_its_cap_at_most_and_never_lowers_it(
    context: RoutingContext, config: RoutingConfig
) -> None:
    found, plain = recommend(config, context), recommend(config, without_emotion(context))
    difference = BANDS.index(found.priority) - BANDS.index(plain.priority)
    assert 0 <= difference <= config.cap_bands


@given(CONTEXTS)
def test_every_answer_has_its_reasons_and_names_a_queue_of_the_site(context: RoutingContext) -> None:
    for asked in (context, replace(context, emotion_routing_objected=True)):
        found = recommend(CONFIG, asked)
        assert found == recommend(CONFIG, asked)
        assert found.queue in {queue.name for queue in CONFIG.queues}
        assert found.reasons
        assert all(reason.text for reason in found.reasons)
        assert 0 <= found.confidence <= 1
        assert not asked.emotion_routing_objected or set(found.used) <= DECLARED


def test_every_kind_of_evidence_has_its_words_and_its_side() -> None:
    kinds = set(get_args(Evidence))
    assert set(PLAIN) == kinds
    assert kinds - {"contacts"} == DECLARED | EMOTION


# Greetings


@pytest.mark.parametrize(
    ("history", "begins"),
    [
        (last_call(mood="frustrated"), "The last call (3 days ago) was hard going"),
        (last_call(mood="angry"), "The last call (3 days ago) ended badly"),
        (last_call(mood="sad"), "Begin calmly and leave them time"),
        (last_call(mood="anxious"), "Say early what happens next"),
        (last_call(mood="satisfied"), "Last time (3 days ago) went well"),
        (
            last_call(mood="angry", open_promise="a visit"),
            "Start with what was promised 3 days ago and how it stands: “a",
        ),
        (
            CustomerHistory((EarlierCall(1, "angry", topic="no signal"), EarlierCall(4, topic="no signal"))),
            "They called twice about the same matter (no signal): start by saying you see that.",
        ),
        (last_call(mood="neutral"), ""),
        (last_call(mood="angry", days_ago=31), ""),
        (None, ""),
    ],
)
def test_the_greeting_fits_the_last_contact(history: CustomerHistory | None, begins: str) -> None:
    found = recommend(CONFIG, RoutingContext(intent="fault", history=history))
    assert found.greeting.startswith(begins)
    assert bool(found.greeting) == bool(begins)
    if begins:
        assert {"contacts", "earlier_mood"} & set(found.used)


# The site's file

ROUTING = """\
name: ours
version: 2
default_queue: desk
cap_bands: 1
queues:
  - {name: desk, for: Everything}
  - {name: vip, for: Large contracts, skills: [patience]}
rules:
  - name: large
    queue: vip
    skills: [patience, contracts]
    when: {products: [fibre 1000], choices: ["2"]}
raise_for: {moods: [sad]}
greetings:
  promise: "Begin with {promise}."
  moods:
    sad: "Slowly ({days})."
"""


def test_a_site_has_its_own_rules() -> None:
    config = load_routing(ROUTING)
    found = recommend(config, RoutingContext(product="Fibre 1000", choice="2", history=last_call(mood="sad")))
    assert (found.queue, found.skills, found.greeting) == ("vip", ("patience", "contracts"), "Slowly (3 days ago).")
    assert found.config == "ours@2"
    assert recommend(config, RoutingContext(product="Fibre 1000")).queue == "desk"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("default_queue: desk", "default_queue: disk", r"line 3: default_queue: unknown queue 'disk'; expected one of"),
        ("queue: vip", "queue: vipp", r"line 10: rules: unknown queue 'vipp'; expected one of desk, vip"),
        ("{name: desk, for", "{name: vip, for", r"line 7: queues: two queues are named 'vip'"),
        ("cap_bands: 1", "cap_bands: 2", r"line 4: cap_bands: .*1, found 2"),
        ('{products: [fibre 1000], choices: ["2"]}', "{}", r"line 12: when: expected at least one condition"),
        ("products:", "produkts:", r"line 12: unknown field 'produkts'; expected one of intents, products"),
        ("moods: [sad]", "moods: [cross]", r"line 13: .*'neutral'.*found 'cross'"),
        ("{promise}.", "{promises}.", r"line 15: promise: expected a template with none but promise, days"),
        ("({days})", "({topic})", r"line 17: moods: expected a template with none but days; found 'topic'"),
        ("{promise}.", "{promise:>99999999999}.", r"line 15: promise: .*, found 'promise' and more"),
        (
            "for: Everything",
            "purpose: Everything",
            r"line 6: unknown field 'purpose'; expected one of name, for, skills",
        ),
        ("version: 2", "version: two", r"line 2: version: .*integer, found 'two'"),
        ("queues:", "queues: [", r"not valid YAML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(old: str, new: str, message: str) -> None:
    assert old in ROUTING
    with pytest.raises(InvalidInputError, match=message):
        load_routing(ROUTING.replace(old, new, 1))
