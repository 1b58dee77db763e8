"""What the demo's calls are made of: chats from made-up stories, and the example recording in other orders."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import soundfile
import yaml

from affectline.models.signals import F32, TextEvent
from affectline.pipelines.outcomes import OUTCOME_KINDS, CallDetails, Outcome
from affectline.pipelines.timeline import Participant

STORIES: Final = Path(__file__).with_name("stories.yaml")
PARTIES: Final = (Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))
WEEKS: Final = 4
OFFICE_HOURS: Final = range(8, 20)
AGENTS: Final[dict[str, tuple[str, ...]]] = {
    "north": ("agent 1", "agent 2", "agent 3"),
    "south": ("agent 4", "agent 5"),
    "partner": ("agent 6",),
}
"""Group -> who works in it."""
READING_S: Final = (8, 40)
"""A turn of a chat comes so long after the one before: from, to."""
OUTCOME_SHARE: Final = 0.8
"""Of the calls some outcome becomes known."""
PIECE_S: Final = 7.0
"""The recording is cut about so often, where it is quietest."""
QUIET_S: Final = 1.5
"""The quietest place is looked for so far before and after."""
CALL_PIECES: Final = (4, 6)


@dataclass(frozen=True, slots=True)
class Chat:
    """A written conversation and what is known of it."""

    name: str
    details: CallDetails
    turns: tuple[TextEvent, ...]
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Sound:
    """A recording and what is known of it."""

    name: str
    details: CallDetails
    pcm: F32
    """[samples, channels] in [-1, 1]"""
    rate_hz: int
    outcomes: tuple[Outcome, ...]


def chats(count: int, seed: int, until: datetime) -> Iterator[Chat]:
    """`until`: none begins later. The same every time."""
    content = yaml.safe_load(STORIES.read_text(encoding="utf-8"))
    stories = content["stories"]
    chance = random.Random(f"chats {seed}")
    for number in range(count):
        story = chance.choices(stories, [each["weight"] for each in stories])[0]
        words = {name: chance.choice(choices) for name, choices in content["words"].items()}
        at_us, turns = 0, []
        for who, said in story["turns"]:
            text = said if isinstance(said, str) else chance.choice(said)
            turns.append(TextEvent(who, text.format(**words), at_us, "en"))
            at_us += chance.randint(*READING_S) * 1_000_000
        product = chance.choice(story["products"])
        details = _details(chance, f"demo-chat-{number:03}", until, story["queue"], product)
        yield Chat(f"Demo: {story['name']} {number:03}", details, tuple(turns), _outcomes(chance, story, details))


def sounds(recording: Path, count: int, seed: int, until: datetime) -> Iterator[Sound]:
    """The recording as it is, and then pieces of it in another order, each of both parties at once."""
    pcm, rate_hz = soundfile.read(recording, dtype="float32", always_2d=True)
    pieces = _pieces(pcm, rate_hz)
    chance = random.Random(f"sounds {seed}")
    for number in range(count):
        if number:
            chosen = chance.sample(pieces, min(len(pieces), chance.randint(*CALL_PIECES)))
            kind, sound = "in another order", np.concatenate(chosen)
        else:
            kind, sound = "as recorded", pcm
        details = _details(chance, f"demo-call-{number:03}", until, "sales", "cars")
        story = {"outcomes": {"csat": [3, 4, 5], "resolved": [1, 0]}}
        yield Sound(f"Demo: dealership {kind} {number:03}", details, sound, rate_hz, _outcomes(chance, story, details))


def _pieces(pcm: F32, rate_hz: int) -> list[F32]:
    """Cut where it is quietest near every PIECE_S."""
    hop = rate_hz // 50
    frames = len(pcm) // hop
    loud = np.square(pcm[: frames * hop]).sum(axis=1).reshape(frames, hop).mean(axis=1)
    smooth = np.convolve(loud, np.ones(10) / 10, mode="same")
    step, reach = round(PIECE_S * 50), round(QUIET_S * 50)
    cuts = [0]
    for centre in range(step, frames - reach, step):
        near = smooth[centre - reach : centre + reach]
        cuts.append((centre - reach + int(near.argmin())) * hop)
    return [pcm[start:end] for start, end in zip(cuts, [*cuts[1:], len(pcm)], strict=True)]


def _details(chance: random.Random, call_id: str, until: datetime, queue: str, product: str) -> CallDetails:
    group = chance.choice(list(AGENTS))
    day = until - timedelta(days=1 + chance.randrange(7 * WEEKS))
    hour = chance.choice(OFFICE_HOURS)
    started = day.replace(hour=hour, minute=chance.randrange(60), second=chance.randrange(60), microsecond=0)
    return CallDetails(
        call_id,
        started=started,
        queue=queue,
        product=product,
        agent_group=group,
        agent_reference=chance.choice(AGENTS[group]),
        demo=True,
    )


def _outcomes(chance: random.Random, story: dict[str, Any], details: CallDetails) -> tuple[Outcome, ...]:
    """What the story says may come of it; some never becomes known."""
    assert details.started is not None
    if chance.random() > OUTCOME_SHARE:
        return ()
    values: dict[str, Sequence[float]] = story["outcomes"]
    known = [Outcome(kind, float(chance.choice(values[kind]))) for kind in OUTCOME_KINDS if kind in values]
    return tuple(replace(each, at=details.started + timedelta(hours=2)) for each in known)
