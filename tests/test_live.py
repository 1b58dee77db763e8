"""A running call on a terminal."""

import pytest

from affectline.models.signals import Span
from affectline.pipelines.timeline import Dynamics, Stage
from affectline.server.live import LiveCall

from .sample_timeline import sample_timeline

pytestmark = pytest.mark.unit


def stage(number: int, name: str, start_s: int) -> Stage:
    return Stage(f"s-{number}", name, Span(start_s * 1_000_000, 90_000_000), 0.72, ())  # type: ignore[arg-type]


def test_a_stage_is_told_when_it_begins_or_turns_out_to_be_another() -> None:
    live = LiveCall(sample_timeline().participants)
    first = stage(0, "greeting", 1)
    told = (first, first, stage(1, "problem", 6), first, stage(1, "problem", 6), stage(1, "identification", 6))
    lines = [line.plain.strip() for each in told for line in live.feed(each)]
    assert lines == [
        "0:01  greeting (likely, 0.72)",
        "0:06  problem (likely, 0.72)",
        "0:06  identification (likely, 0.72)",
    ]


def test_each_party_shows_its_share_and_a_long_monologue() -> None:
    live = LiveCall(sample_timeline().participants)
    for name, monologue_us in (("customer", 4_000_000), ("agent", 75_000_000)):
        assert list(live.feed(Dynamics(name, 30_000_000, 0.5, 0, 0, 0, None, monologue_us=monologue_us))) == []
    _, customer, agent = (line.plain for line in live.now().renderables)  # type: ignore[union-attr]
    assert customer.rstrip().endswith("talks 50 %")
    assert agent.rstrip().endswith("talks 50 %, 1:15 in one go")
