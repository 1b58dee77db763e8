"""Lists, searches, counts and corrections over stored calls, on SQLite and, where it is installed, on PostgreSQL."""

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from scipy import stats

from affectline.models.errors import InvalidInputError
from affectline.models.signals import Span
from affectline.pipelines.outcomes import CallDetails, Outcome
from affectline.pipelines.timeline import CallTimeline
from affectline.server.store.calls import CallStore, NotStoredError
from affectline.server.store.query import (
    MAX_PAGE_SIZE,
    STAGE_NAMES,
    CallFilter,
    Order,
    Queries,
)
from affectline.server.store.search import MAX_QUERY_CHARACTERS, terms_of

from .sample_timeline import CUSTOMER, empty_timeline, sample_timeline
from .test_call_store import place  # noqa: F401 - fixture

pytestmark = pytest.mark.integration

NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


@pytest.fixture
def store(place: str) -> Iterator[CallStore]:  # noqa: F811
    store = CallStore(place, customer_key=b"sixteen letters!", now=lambda: NOON)
    yield store
    store.close()


@pytest.fixture
def queries(store: CallStore) -> Queries:
    return Queries(store)


def said(text: str, **changes: Any) -> CallTimeline:
    """A call of which the first utterance is this text."""
    timeline = sample_timeline()
    return replace(
        timeline, utterances=(replace(timeline.utterances[0], text=text), *timeline.utterances[1:]), **changes
    )


def ids(queries: Queries, **fields: Any) -> list[str]:
    return [row.id for row in queries.list_calls(CallFilter(**fields)).rows]


def seconds_of(label: str, stage: str | None = None) -> float:
    timeline = sample_timeline()
    spans = [each.span for each in timeline.stages if each.name == stage]
    if stage is None:
        spans = [Span(0, timeline.duration_us)]
    return sum(
        m.affect.label == label and any(s.start_us <= m.span.start_us + 500_000 < s.end_us for s in spans)
        for m in timeline.moments
        if m.participant == CUSTOMER
    )


def test_a_row_tells_what_the_call_was_like(store: CallStore, queries: Queries) -> None:
    store.add(CallDetails("a", NOON, "support", "dsl", "north"), sample_timeline())
    store.record_outcome("a", Outcome("csat", 2))
    store.record_outcome("a", Outcome("csat", 4))
    store.record_outcome("a", Outcome("churned", 0))
    (row,) = queries.list_calls().rows
    assert row == queries.call("a")
    timeline = sample_timeline()
    felt = [m for m in timeline.moments if m.participant == CUSTOMER and m.affect.label != "unknown"]
    known = [m.affect.valence for m in felt if m.affect.valence is not None]
    assert (row.queue, row.product, row.agent_group, row.language) == ("support", "dsl", "north", "en")
    assert (row.state, row.started, row.duration_s, row.demo) == ("finished", NOON, 186, False)
    assert row.valence == pytest.approx(sum(known) / len(known))
    assert row.labels[0].label == max({m.affect.label for m in felt}, key=lambda label: seconds_of(label))
    assert row.labels[0].seconds == seconds_of(row.labels[0].label)
    assert row.alerts == sum(s.kind == "alert" for s in timeline.suggestions)
    assert row.last_suggestion == timeline.suggestions[-1].text
    assert [(o.kind, o.value) for o in row.outcomes] == [("churned", 0), ("csat", 4)]
    assert row.sparkline is not None
    assert len(row.sparkline) == 60
    angry_at = next(m.span.start_us for m in felt if m.affect.label == "angry")
    low = row.sparkline[angry_at * 60 // timeline.duration_us]
    assert low is not None
    assert low < -0.2


def test_a_call_of_which_nothing_is_known_has_a_row(store: CallStore, queries: Queries) -> None:
    store.add(CallDetails("a"), empty_timeline())
    (row,) = queries.list_calls().rows
    assert (row.valence, row.sparkline, row.labels, row.outcomes) == (None, None, (), ())
    assert (row.started, row.began) == (None, NOON)


def fill(store: CallStore, count: int = 7) -> None:
    for number in range(count):
        started = NOON + timedelta(hours=number // 2)  # two at a time begin at once
        timeline = replace(sample_timeline(), duration_us=186_000_000 + number % 3)
        details = CallDetails(f"c{number}", started, "support" if number % 2 else "sales", agent_group="north")
        store.add(details, timeline if number % 3 else empty_timeline())


@pytest.mark.parametrize("order", ["newest", "oldest", "longest", "most_negative", "most_positive", "needs_help"])
@pytest.mark.parametrize("size", [1, 2, 3, 50])
def test_pages_give_each_call_once_in_order(store: CallStore, queries: Queries, order: Order, size: int) -> None:
    fill(store)
    whole = [row.id for row in queries.list_calls(order=order, page_size=100).rows]
    assert sorted(whole) == [f"c{number}" for number in range(7)]
    found, token, pages = [], "", 0
    while pages == 0 or token:
        page = queries.list_calls(order=order, page_size=size, page_token=token)
        found += [row.id for row in page.rows]
        token, pages = page.next_token, pages + 1
        assert page.total == 7
    assert found == whole
    assert pages == -(-7 // size)
    if order == "newest":
        assert whole == ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]


def test_a_page_of_a_growing_store_repeats_nothing(store: CallStore, queries: Queries) -> None:
    fill(store)
    first = queries.list_calls(page_size=3)
    store.add(CallDetails("late", NOON + timedelta(days=1)), empty_timeline())
    second = queries.list_calls(page_size=3, page_token=first.next_token)
    assert [row.id for row in second.rows] == ["c3", "c2", "c1"]


def test_filters_pick_the_calls_that_are_meant(store: CallStore, queries: Queries) -> None:
    fill(store)
    assert ids(queries, queues=("sales",)) == ["c6", "c4", "c2", "c0"]
    assert ids(queries, queues=("sales", "support"), started_from=NOON + timedelta(hours=3)) == ["c6"]
    assert ids(queries, started_before=NOON + timedelta(hours=1)) == ["c1", "c0"]
    assert ids(queries, agent_groups=("south",)) == []
    assert ids(queries, languages=("en",)) == ["c5", "c4", "c2", "c1"]
    assert ids(queries, states=("finished",)) == [f"c{number}" for number in range(6, -1, -1)]
    assert ids(queries, states=("running", "broken_off")) == []
    assert ids(queries, with_alert=True) == ids(queries, languages=("en",))
    assert ids(queries, with_alert=False) == ["c6", "c3", "c0"]
    assert ids(queries, demo=True) == []


def test_a_label_counts_in_seconds_of_customers_and_by_stage(store: CallStore, queries: Queries) -> None:
    store.add(CallDetails("a"), sample_timeline())
    for label in ("angry", "frustrated", "satisfied"):
        total = seconds_of(label)
        assert total > 1
        assert ids(queries, label=label, label_min_s=total) == ["a"]
        assert ids(queries, label=label, label_min_s=total + 0.5) == []
        for stage in STAGE_NAMES:
            within = seconds_of(label, stage)
            assert ids(queries, label=label, stage=stage, label_min_s=max(within, 1)) == (["a"] if within else [])
            assert ids(queries, label=label, stage=stage, label_min_s=within + 0.5) == []
    assert ids(queries, stage="hold") == ["a"]
    assert ids(queries, stage="transfer") == []


def test_policies_match_by_name_and_by_version_and_take_no_wildcards(store: CallStore, queries: Queries) -> None:
    store.add(CallDetails("a"), sample_timeline())
    policy = sample_timeline().suggestions[0].policy
    name = policy.partition("@")[0]
    assert ids(queries, policies=(policy,)) == ids(queries, policies=(name,)) == ["a"]
    assert ids(queries, policies=("none", name)) == ["a"]
    for wrong in (f"{name}@0", name[:-1], "%", "_" * len(name), f"%{name[1:]}", "\\", ""):
        assert ids(queries, policies=(wrong,)) == []


def test_outcomes_count_as_they_are_now(store: CallStore, queries: Queries) -> None:
    fill(store, 3)
    for value in (1, 5):
        store.record_outcome("c0", Outcome("csat", value))
    store.record_outcome("c1", Outcome("csat", 2))
    store.record_outcome("c2", Outcome("churned", 1))
    assert ids(queries, outcome="csat") == ["c1", "c0"]
    assert ids(queries, outcome="csat", outcome_max=2) == ids(queries, outcome="csat", outcome_bad=True) == ["c1"]
    assert ids(queries, outcome="csat", outcome_min=3) == ids(queries, outcome="csat", outcome_bad=False) == ["c0"]
    assert ids(queries, outcome="churned", outcome_bad=True) == ["c2"]
    assert ids(queries, outcome="nps") == []


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("supervisor", ["b", "a"]),
        ("SUPERVISOR cancel", ["b", "a"]),
        ("supervisor router", []),  # in different utterances
        ('"to a supervisor"', ["b", "a"]),
        ('"a to supervisor"', []),
        ("superv*", ["b", "a"]),
        ("superv", []),
        ("resume", ["a"]),
        ("RÉSUMÉ", ["a"]),
        ("straße", ["b"]),
        ("STRASSE", ["b"]),
        ("c++ 100%", ["b"]),
        ("don't", ["b", "a"]),
        ("Größe", []),
    ],
)
def test_words_are_found_whatever_their_case_and_accents(
    store: CallStore, queries: Queries, words: str, found: list[str]
) -> None:
    store.add(CallDetails("a", NOON), said("My résumé, please."))
    store.add(CallDetails("b", NOON + timedelta(hours=1)), said("I don't live in Haupt-Straße, C++ is 100% slower"))
    assert ids(queries, words=words) == found
    assert sorted({hit.call_id for hit in queries.search(words).hits}) == sorted(found)


HOSTILE = [
    '"',
    '""',
    '"unclosed',
    "a AND",
    "NOT",
    "OR OR OR",
    "NEAR(a b, 3)",
    "words:a",
    "{a b}:c",
    "a ^b",
    "*",
    "a*b*c*",
    "- + : ( ) { } [ ] ^ ~",
    "'; DROP TABLE calls; --",
    "a' | !b & c <-> d:*",
    "\\",
    "%",
    "_",
    "\0zero",
    "a\0b",
    "\ud800",
    "💥 💥",
    "ﬁ ﷺ",
    "x" * MAX_QUERY_CHARACTERS,
]


@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
def test_signs_of_query_languages_are_only_signs(store: CallStore, queries: Queries, words: str) -> None:
    store.add(CallDetails("a"), sample_timeline())
    if terms := terms_of(words):
        assert all(term.prefix <= ("*" in words) for term in terms)
        wanted = {word for term in terms for word in term.words}
        said_so = [u.id for u in sample_timeline().utterances if wanted <= set(re.findall(r"\w+", u.text.lower()))]
        assert [hit.utterance_id for hit in queries.search(words).hits] == said_so
        assert ids(queries, words=words) == (["a"] if said_so else [])
    else:
        with pytest.raises(InvalidInputError, match="expected a word to search for"):
            queries.search(words)
        assert ids(queries, words=words) == ["a"]


def test_a_hit_tells_where_and_shows_its_words(store: CallStore, queries: Queries) -> None:
    long = "well " * 80 + "the Décoder is broken " + "and so on " * 80
    store.add(CallDetails("a", NOON), said(long))
    store.add(CallDetails("b", NOON - timedelta(days=1)), said("decoder decoder"))
    page = queries.search("decoder", page_size=1)
    (hit,) = page.hits
    assert (hit.call_id, hit.utterance_id, hit.participant, hit.start_us) == ("a", "u0", "agent", 1_000_000)
    assert len(hit.excerpt) <= 240
    assert [hit.excerpt[low:high] for low, high in hit.matches] == ["Décoder"]
    (other,) = queries.search("decoder", page_size=1, page_token=page.next_token).hits
    assert (other.call_id, other.matches) == ("b", ((0, 7), (8, 15)))
    assert [h.call_id for h in queries.search("decoder", CallFilter(started_before=NOON)).hits] == ["b"]


def test_hits_are_paged_within_and_across_calls(store: CallStore, queries: Queries) -> None:
    for number in range(3):
        store.add(CallDetails(f"c{number}", NOON), sample_timeline())
    whole = [(h.call_id, h.utterance_id) for h in queries.search("the", page_size=100).hits]
    found, token, first = [], "", True
    while first or token:
        page = queries.search("the", page_size=4, page_token=token)
        found += [(h.call_id, h.utterance_id) for h in page.hits]
        token, first = page.next_token, False
    assert found == whole
    assert len(set(found)) == len(found) > 12


def test_what_is_only_in_the_translation_is_found(store: CallStore, queries: Queries) -> None:
    timeline = sample_timeline()
    first = replace(timeline.utterances[0], text="Ich möchte kündigen.", translation="I want to terminate.")
    store.add(CallDetails("a"), replace(timeline, utterances=(first, *timeline.utterances[1:])))
    (hit,) = queries.search("terminate").hits
    assert (hit.excerpt, hit.matches) == ("Ich möchte kündigen.", ())
    assert queries.search("kundigen").hits[0].matches == ((11, 19),)


def test_a_call_that_is_analysed_again_is_found_by_its_new_words_only(store: CallStore, queries: Queries) -> None:
    store.add(CallDetails("a"), said("zebra"))
    store.add(CallDetails("a"), said("giraffe"), replace=True)
    assert ids(queries, words="zebra") == []
    assert ids(queries, words="giraffe") == ["a"]


@pytest.mark.parametrize(
    "fields",
    [
        {"started_from": datetime(2026, 1, 1)},
        {"queues": ("x",) * 101},
        {"queues": ("a\0",)},
        {"label": "happy"},
        {"label": "angry", "label_min_s": 0},
        {"label": "angry", "label_min_s": float("nan")},
        {"stage": "end"},
        {"states": ("lost",)},
        {"outcome": "fine"},
        {"outcome_min": 3},
        {"words": "x" * 501},
        {"words": "a " * 21},
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        CallFilter(**fields)


def test_tokens_that_were_not_given_out_are_refused(store: CallStore, queries: Queries) -> None:
    fill(store)
    token = queries.list_calls(page_size=2).next_token
    hits = queries.search("the", page_size=2).next_token
    for wrong in ("x", "é", "====", "W10", token[:-4], hits, "bnVsbA", "MQ", token + "AAAA", "A" * 10_000):
        with pytest.raises(InvalidInputError, match="expected a page token"):
            queries.list_calls(page_size=2, page_token=wrong)
        if wrong != hits:
            with pytest.raises(InvalidInputError, match="expected a page token"):
                queries.search("the", page_size=2, page_token=wrong)
    with pytest.raises(InvalidInputError, match="expected a page token"):
        queries.list_calls(page_size=2, page_token=token, order="oldest")
    with pytest.raises(InvalidInputError, match="expected a page token"):
        queries.list_calls(CallFilter(queues=("sales",)), page_size=2, page_token=token)


def test_sizes_and_orders_are_checked(store: CallStore, queries: Queries) -> None:
    fill(store)
    with pytest.raises(InvalidInputError, match=f"0 to {MAX_PAGE_SIZE}"):
        queries.list_calls(page_size=-1)
    assert len(queries.list_calls(page_size=2**31).rows) == 7
    with pytest.raises(InvalidInputError, match="expected an order"):
        queries.list_calls(order="id; --")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="expected by of"):
        queries.aggregate(by="customer")  # type: ignore[arg-type]


def test_groups_have_shares_and_an_interval(store: CallStore, queries: Queries) -> None:
    for number in range(12):
        details = CallDetails(f"c{number}", NOON + timedelta(hours=number % 2), "support" if number % 2 else "sales")
        timeline = sample_timeline()
        shift = number / 40
        moments = tuple(
            replace(m, affect=replace(m.affect, valence=m.affect.valence - shift)) if m.affect.valence else m
            for m in timeline.moments
        )
        store.add(details, replace(timeline, moments=moments))
    found = queries.aggregate(by="queue")
    assert [(g.key, g.calls) for g in found.groups] == [("sales", 6), ("support", 6)]
    group = found.groups[0]
    known = sum(share for label, share in group.time_shares.items() if label != "unknown")
    assert known == pytest.approx(1)
    assert group.time_shares["unknown"] == pytest.approx(seconds_of("unknown") / 186)
    assert group.seconds == 6 * 186
    assert group.call_shares["angry"] == 1
    means = [row.valence for row in queries.list_calls(CallFilter(queues=("sales",))).rows]
    assert group.valence is not None
    assert group.valence.mean == pytest.approx(sum(m for m in means if m is not None) / 6)
    assert group.valence.low is not None
    assert group.valence.high is not None

    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert (group.valence.low, group.valence.high) == pytest.approx((expected.low, expected.high))
    hours = queries.aggregate(by="hour")
    assert [(g.key, g.calls) for g in hours.groups] == [("12", 6), ("13", 6)]
    assert [g.key for g in queries.aggregate(by="day").groups] == ["2026-05-03"]
    assert [g.key for g in queries.aggregate(by="week").groups] == ["2026-04-27"]  # a Sunday's Monday
    stages = {g.key: g for g in queries.aggregate(by="stage").groups}
    assert set(stages) == {stage.name for stage in sample_timeline().stages}
    lasted = sum(s.span.end_us - s.span.start_us for s in sample_timeline().stages if s.name == "problem") / 1e6
    assert stages["problem"].seconds == pytest.approx(12 * lasted, rel=0.05)
    assert stages["problem"].call_shares["angry"] == 1
    compared = queries.compare(CallFilter(queues=("sales",)), CallFilter(queues=("support",)))
    assert None not in (compared.a, compared.b)
    assert compared.valence_difference is not None
    other = [row.valence for row in queries.list_calls(CallFilter(queues=("support",))).rows]
    welch = stats.ttest_ind(other, means, equal_var=False).confidence_interval(0.95)
    assert (compared.valence_difference.low, compared.valence_difference.high) == pytest.approx((welch.low, welch.high))
    assert compared.shared_calls == 0
    assert queries.compare(CallFilter(), CallFilter(queues=("sales",))).shared_calls == 6


def test_small_groups_are_withheld_and_counted(store: CallStore, queries: Queries) -> None:
    for number in range(9):
        queue = "large" if number < 5 else "small" if number < 8 else None
        store.add(CallDetails(f"c{number}", NOON, queue), sample_timeline())
    found = queries.aggregate(by="queue")
    assert [group.key for group in found.groups] == ["large"]
    assert (found.withheld_groups, found.withheld_calls, found.min_calls) == (2, 4, 5)
    compared = queries.compare(CallFilter(queues=("large",)), CallFilter(queues=("small",)))
    assert compared.a is not None
    assert compared.b is None
    assert compared.valence_difference is None
    assert [group.key for group in Queries(store, min_calls=1).aggregate(by="queue").groups] == ["large", "small", None]


def test_figures_of_a_single_agent_are_withheld(store: CallStore, queries: Queries) -> None:
    for number in range(18):
        group, agent = (("one", "x"), ("two", "x" if number % 2 else "y"), ("open", "x" if number < 15 else None))[
            number // 6
        ]
        store.add(CallDetails(f"c{number}", NOON, agent_group=group, agent_reference=agent), sample_timeline())
    found = queries.aggregate(by="agent_group")
    assert [group.key for group in found.groups] == ["open", "two"]
    assert (found.withheld_groups, found.withheld_calls) == (1, 6)


def test_a_correction_stands_beside_what_the_model_said(store: CallStore, queries: Queries) -> None:
    store.add(CallDetails("a"), sample_timeline())
    moment = next(m for m in sample_timeline().moments if m.affect.label == "angry" and m.participant == CUSTOMER)
    made = queries.correct_label("a", moment.id, "frustrated", "heard it, call 555 123 4567")
    assert (made.before, made.label, made.start_us) == ("angry", "frustrated", moment.span.start_us)
    assert made.note == "heard it, call [PHONE]"
    again = queries.correct_label("a", moment.id, "angry")
    assert queries.corrections("a") == (made, again)
    assert queries.timeline("a") == sample_timeline()
    for call_id, moment_id in (("b", moment.id), ("a", "m"), ("a", "%"), ("a\0", "\0")):
        with pytest.raises(NotStoredError):
            queries.correct_label(call_id, moment_id, "sad")
    with pytest.raises(InvalidInputError, match="expected a label"):
        queries.correct_label("a", moment.id, "happy")  # type: ignore[arg-type]
    assert len(queries.corrections("a")) == 2


def test_unknown_calls_are_told(queries: Queries) -> None:
    for call_id in ("x", "", "\0", "'; --"):
        with pytest.raises(NotStoredError):
            queries.call(call_id)
        with pytest.raises(NotStoredError):
            queries.timeline(call_id)


def test_what_there_is_to_filter_by(store: CallStore, queries: Queries) -> None:
    fill(store)
    assert queries.values("queue") == ("sales", "support")
    assert queries.values("product") == ()
