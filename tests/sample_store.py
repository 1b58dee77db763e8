"""A store of made-up calls that differ by product, queue, hour and day, for pages about many calls."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from affectline.models.labels import Label
from affectline.pipelines.outcomes import CallDetails, Feedback, Outcome
from affectline.pipelines.timeline import CallTimeline, Cue, Moment
from affectline.server.store.calls import CallStore

from .sample_timeline import AGENT, CUSTOMER, sample_timeline

PRODUCTS = {"Mesh router": -0.34, "Fibre 500": -0.05, "Mobile plan": 0.12, "TV box": 0.02}
"""Product -> how much more pleasant its calls are."""
QUEUES = ("billing", "repairs", "sales")
GROUPS = ("Leeds", "Porto")
PHRASES = {7: ("escalation", "third time I"), 13: ("confusion", "which button"), 9: ("churn", "will cancel")}
"""Line of the script -> a cue that is heard in it."""


def fill(store: CallStore, calls: int, *, demo: bool = False) -> None:
    """Adds `calls` calls of the last 20 days, the same ones at the same hours, whenever it is."""
    chance = random.Random(11)
    now = datetime.now(UTC)
    end = now.replace(hour=18, minute=20, second=0, microsecond=0)
    end -= timedelta(days=end > now)
    for number in range(calls):
        product = chance.choice(list(PRODUCTS))
        began = end - timedelta(days=number % 20, hours=2 + number * 5 % 9)
        mood = PRODUCTS[product] + chance.gauss(0, 0.12) - (0.2 if began.hour >= 16 else 0)
        timeline = varied(sample_timeline(), mood, chance)
        call_id = f"call-{number:03}"
        details = CallDetails(
            id=call_id,
            started=began,
            queue=chance.choice(QUEUES),
            product=product,
            agent_group=GROUPS[number % 2],
            customer_reference=f"+44 20 7946 0{number:03}",
            demo=demo,
        )
        store.add(details, replace(timeline, name=f"{product.lower().replace(' ', '-')}-{number:03}.flac"))
        if number % 3 == 0:
            store.record_outcome(call_id, Outcome("csat", 2 if mood < 0 else 5))
        if number % 5 == 0:
            store.record_outcome(call_id, Outcome("churned", float(mood < -0.3)))
        store.record_feedback(call_id, Feedback(timeline.suggestions[0].id, "accepted" if mood > 0 else "dismissed"))


def varied(timeline: CallTimeline, mood: float, chance: random.Random) -> CallTimeline:
    """The call with another mood, from -1 to 1 more pleasant than it was."""
    utterances = tuple(
        replace(u, cues=(Cue(*_cue(number), u.span, None),))
        if number in PHRASES and chance.random() > mood + 0.4
        else u
        for number, u in enumerate(timeline.utterances)
        if u.participant in (AGENT, CUSTOMER)
    )
    moments = tuple(_tinted(m, mood, chance) if m.participant == CUSTOMER else m for m in timeline.moments)
    return replace(timeline, utterances=utterances, moments=moments)


def _cue(number: int) -> tuple[str, str]:
    return PHRASES[number]


def _tinted(moment: Moment, mood: float, chance: random.Random) -> Moment:
    affect = moment.affect
    if affect.valence is None:
        return moment
    valence = max(-1.0, min(1.0, affect.valence + mood + chance.gauss(0, 0.05)))
    label: Label = affect.label
    if mood < -0.25 and affect.label in ("neutral", "satisfied") and chance.random() < 0.6:
        label = "frustrated"
    elif mood > 0.1 and affect.label in ("angry", "frustrated") and chance.random() < 0.7:
        label = "neutral"
    labels = {**affect.labels, label: affect.labels.get(affect.label, 0.0), affect.label: affect.labels.get(label, 0.0)}
    return replace(moment, affect=replace(affect, valence=valence, label=label, labels=labels))
