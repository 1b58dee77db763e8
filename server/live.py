"""A running call on a terminal: finished lines above, what is happening now below."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Group
from rich.text import Text

from affectline.models.labels import UNKNOWN, Label
from affectline.pipelines.summary import clock
from affectline.pipelines.timeline import Dynamics, Moment, Notice, Participant, Stage, Suggestion, Utterance
from affectline.server.look import EMOTION_COLOURS, clean, likelihood
from affectline.server.wire import Cursor, Reply

LONG_MONOLOGUE_US: Final = 30_000_000
"""A monologue of this length is mentioned."""


class LiveCall:
    """`feed` gives the lines that are settled; `now` is what still changes."""

    def __init__(self, participants: Sequence[Participant]) -> None:
        self._width = max((len(p.id) for p in participants), default=9)
        self._moments: dict[str, Moment] = {}
        self._partial: dict[str, str] = {p.id: "" for p in participants}
        self._figures: dict[str, Dynamics] = {}
        self._stages: dict[str, tuple[str, int]] = {}
        """Id -> name and start of each stage as it was shown last."""
        self._cursor = Cursor(0, 0)

    def feed(self, item: Reply) -> Iterator[Text]:
        match item:
            case Cursor():
                self._cursor = item
            case Participant():
                self._partial.setdefault(item.id, "")
                known = "a voice" if item.role == "unknown" else f"the {item.role}"
                yield Text(f"{'':>6}  {clean(item.id)}: {known}", "dim bold")
            case Moment() if item.affect.label != UNKNOWN:
                self._moments[item.participant] = item
            case Utterance(final=False):
                self._partial[item.participant] = clean(item.text)
            case Utterance():
                self._partial[item.participant] = ""
                yield Text.assemble(
                    (f"{clock(item.span.start_us):>6}  {item.participant:<{self._width}}  ", "dim"), clean(item.text)
                )
            case Suggestion(revision=0):
                yield Text.assemble(
                    (f"{clock(item.created_us):>6}  ", "dim"),
                    (f"→ {clean(item.text)}", "bold"),
                    (f"  {clean(item.reason)}", "dim"),
                )
            case Dynamics():
                self._figures[item.participant] = item
            case Stage():
                seen = (item.name, item.span.start_us)
                if self._stages.get(item.id) != seen:
                    self._stages[item.id] = seen
                    yield Text(
                        f"{clock(item.span.start_us):>6}  {item.name} ({likelihood(item.confidence)})", "dim bold"
                    )
            case Notice():
                yield Text(f"{clock(item.at_us):>6}  {clean(item.message)}", "yellow")

    def now(self) -> Group:
        """One line per party: how they sound, and what they are saying."""
        lines = [Text(f"{clock(self._cursor.received_us):>6}  heard, {clock(self._cursor.final_us)} settled", "dim")]
        for name, words in self._partial.items():
            line = Text(f"        {name:<{self._width}}  ", "dim")
            moment = self._moments.get(name)
            if moment is not None:
                line.append(
                    f"{moment.affect.label} ({likelihood(moment.affect.probability)})", _colour(moment.affect.label)
                )
            figures = self._figures.get(name)
            if figures is not None and figures.talk_us:
                line.append(f"  talks {figures.talk_share:.0%}".replace("%", " %"), "dim")
                if figures.monologue_us >= LONG_MONOLOGUE_US:
                    line.append(f", {clock(figures.monologue_us)} in one go", "dim")
            line.append(f"  {words}", "italic")
            line.truncate(120, overflow="ellipsis")
            lines.append(line)
        return Group(*lines)


def _colour(label: Label) -> str:
    return EMOTION_COLOURS.get(label, "default")
