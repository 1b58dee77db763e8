"""What watchers of running calls get to know, and that they hold up nobody."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from time import process_time

import pytest

from affectline.models.labels import Label
from affectline.models.signals import Span
from affectline.pipelines.outcomes import CallDetails
from affectline.pipelines.timeline import Moment, Stage, Suggestion, Utterance
from affectline.server import hub as hub_module
from affectline.server.hub import Hub, RunningCall, masked

from .sample_timeline import AGENT, CUSTOMER, sample_timeline

pytestmark = pytest.mark.unit

TIMELINE = sample_timeline()
CUSTOMERS = [moment for moment in TIMELINE.moments if moment.participant == CUSTOMER]

RUNNING: list[AbstractContextManager[RunningCall]] = []


@pytest.fixture(autouse=True)
def _over() -> Iterator[None]:
    """Ends the calls that a test began."""
    yield
    while RUNNING:
        RUNNING.pop().__exit__(None, None, None)


def felt(label: Label, seconds: int, start_s: int = 100) -> list[Moment]:
    """So many seconds of the customer with that label."""
    known = next(m for m in CUSTOMERS if m.affect.labels)
    return [
        replace(
            known,
            id=f"m{at}",
            span=Span(at * 1_000_000, (at + 1) * 1_000_000),
            affect=replace(known.affect, label=label, valence=-0.5),
        )
        for at in range(start_s, start_s + seconds)
    ]


def started(hub: Hub, call_id: str = "one", **details: str) -> RunningCall:
    context = hub.call(call_id, CallDetails(call_id, **details), TIMELINE.participants)  # type: ignore[arg-type]
    RUNNING.append(context)  # a context that nobody holds ends
    return context.__enter__()


async def test_a_row_tells_the_last_minute_of_the_customer() -> None:
    call = started(Hub(), queue="sales")
    call.publish(TIMELINE.moments, 60_000_000)
    row = call.row
    assert row.queue == "sales"
    assert len(row.valence) == 60
    expected = [m.affect.valence for m in CUSTOMERS[:60]]
    assert row.valence == tuple(None if v is None else round(v, 2) for v in expected)
    call.publish([], 100_000_000)
    assert call.row.valence[0] == (
        None if CUSTOMERS[40].affect.valence is None else round(CUSTOMERS[40].affect.valence, 2)
    )


@pytest.mark.parametrize(
    ("label", "seconds", "need"),
    [("angry", 8, 2), ("angry", 7, 0), ("confused", 9, 1), ("sad", 3, 0), ("satisfied", 30, 0)],
)
async def test_need_follows_what_lasts(label: Label, seconds: int, need: int) -> None:
    call = started(Hub())
    call.publish(felt(label, seconds), 130_000_000)
    assert call.row.need == need
    if need:
        assert f"{label} for {seconds} s" in call.row.reason


async def test_an_alert_comes_first_until_it_expires() -> None:
    call = started(Hub())
    alert = next(s for s in TIMELINE.suggestions if s.kind == "alert")
    call.publish([alert, *felt("sad", 10)], alert.created_us)
    assert call.row.need == 3
    assert call.row.alert == alert.text
    call.publish([], alert.expires_us + 1_000_000)
    assert call.row.alert is None


async def test_a_watcher_gets_what_changed_once_and_all_of_it_when_late() -> None:
    call = started(Hub())
    utterance, *_ = TIMELINE.utterances
    partial = replace(utterance, id="p", text="Thank", final=False)
    call.publish([partial, CUSTOMERS[0]], 1_000_000)
    seen = call.version
    call.publish([replace(CUSTOMERS[0], revision=1), utterance], 2_000_000)
    assert call.since(seen) == [replace(CUSTOMERS[0], revision=1), utterance]
    assert call.since(0) == [partial, replace(CUSTOMERS[0], revision=1), utterance]
    assert call.since(call.version) == []


async def test_a_stage_takes_the_place_of_later_ones() -> None:
    call = started(Hub())
    first, second, third = (
        Stage(f"s-{n}", name, Span(n * 9_000_000, 90_000_000), 0.7, ())  # type: ignore[arg-type]
        for n, name in enumerate(("greeting", "problem", "closing"))
    )
    call.publish([first, second, third], 30_000_000)
    assert call.row.stage == "closing"
    call.publish([replace(second, name="identification")], 31_000_000)
    assert call.row.stage == "identification"
    assert [item.id for item in call.since(0) if isinstance(item, Stage)] == ["s-0", "s-1"]


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "MAX_ITEMS", 50)
    call = started(Hub())
    call.publish(TIMELINE.moments, 186_000_000)
    assert call.since(0) == list(TIMELINE.moments[-50:])


async def test_publishing_waits_for_nobody() -> None:
    """A thousand messages of a call with a hundred watchers that never look take no time to speak of."""
    hub = Hub()
    call = started(hub)
    sleepers = [asyncio.create_task(hub.changed(hub.version, 60)) for _ in range(100)]
    await asyncio.sleep(0)
    began = process_time()
    for number in range(1_000):
        call.publish([TIMELINE.moments[number % len(TIMELINE.moments)]], number * 1_000_000)
    assert process_time() - began < 0.5
    await asyncio.wait_for(asyncio.gather(*sleepers), 5)


async def test_quiet_messages_wake_watchers_once_a_second() -> None:
    hub = Hub()
    call = started(hub)
    before = hub.version
    for at in range(100):
        call.publish([], at * 20_000)
    assert hub.version - before == 1


async def test_a_watcher_waits_for_news_and_is_let_go_at_the_end() -> None:
    hub = Hub()
    assert await hub.changed(hub.version, 0.01) == hub.version
    waiting = asyncio.create_task(hub.changed(hub.version, 60))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    hub.close()
    await asyncio.wait_for(waiting, 5)
    assert hub.closed


async def test_two_streams_with_one_id_are_two_calls() -> None:
    hub = Hub()
    first, second = started(hub), started(hub)
    assert (first.id, second.id) == ("one", "one~2")
    with hub.call("third", CallDetails("third"), TIMELINE.participants) as call:
        assert hub.get("third") is call
    assert call.over
    assert [each.id for each in hub.calls] == ["one", "one~2"]


async def test_a_customer_is_never_named() -> None:
    row = started(Hub(), customer_reference="+44 20 7946 0123").row
    assert row.who == "•••23"
    assert masked("1234") == "•••"


async def test_an_agents_mood_is_not_shown() -> None:
    call = started(Hub())
    agent = [replace(m, participant=AGENT, id=f"a{m.id}") for m in felt("angry", 20)]
    call.publish(agent, 130_000_000)
    assert call.row.need == 0
    assert all(v is None for v in call.row.valence)


def test_only_what_people_watch_is_kept() -> None:
    hub = Hub()
    call = started(hub)
    call.publish([*TIMELINE.vocal, *TIMELINE.snapshots, object()], 5_000_000)
    assert call.since(0) == []
    call.publish([*TIMELINE.suggestions, *TIMELINE.utterances], 5_000_000)
    kinds = {type(item) for item in call.since(0)}
    assert kinds == {Suggestion, Utterance}
