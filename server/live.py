"""A running call on a terminal: finished lines above, what is happening now below."""

from collections.abc import Iterator, Sequence

from rich.console import Group
from rich.text import Text

from affectline.models.labels import UNKNOWN, Label
from affectline.pipelines.summary import clock
from affectline.pipelines.timeline import Moment, Notice, Participant, Suggestion, Utterance
from affectline.server.look import EMOTION_COLOURS, clean, likelihood
from affectline.server.wire import Cursor, Reply


class LiveCall:
    """`feed` gives the lines that are settled; `now` is what still changes."""

    def __init__(self, participants: Sequence[Participant]) -> None:
        self._width = max(len(p.id) for p in participants)
        self._moments: dict[str, Moment] = {}
        self._partial: dict[str, str] = {p.id: "" for p in participants}
        self._cursor = Cursor(0, 0)

    def feed(self, item: Reply) -> Iterator[Text]:
        match item:
            case Cursor():
                self._cursor = item
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
            line.append(f"  {words}", "italic")
            line.truncate(120, overflow="ellipsis")
            lines.append(line)
        return Group(*lines)


def _colour(label: Label) -> str:
    return EMOTION_COLOURS.get(label, "default")
