"""A call's timeline for a terminal: text, block characters and colours; plain text where it is piped."""

from collections.abc import Sequence
from itertools import groupby
from typing import Final

from rich.console import Console
from rich.style import Style
from rich.text import Text

from affectline.models.labels import Label
from affectline.pipelines.stages import StageAffect, stage_affect
from affectline.pipelines.summary import clock
from affectline.pipelines.timeline import CallTimeline, Dynamics, Moment, Participant, SuggestionFeedback
from affectline.server.axis import BREAK_US, Axis
from affectline.server.look import (
    EMOTION_COLOURS,
    FACT_TITLES,
    TRAJECTORY_WORDS,
    clean,
    drivers_of,
    length,
    likelihood,
    seconds,
    signed,
)

MIN_COLUMNS: Final = 40
MAX_COLUMNS: Final = 120
MAX_CHANGES: Final = 6
"""Points of change told; the page has all."""
GUTTER_COLUMNS: Final = 12
HALVES_PER_SIDE: Final = 4
"""Steps of valence above zero, and below it: two half-blocks per row, two rows."""
RISING: Final = "▁▂▃▄▅▆▇█"
PIN: Final = {"alert": "▲", "assist": "●", "routing": "◆"}
BREAK_CELL: Final = "┊"
"""Stands where time was left out in which nobody wrote."""
STAGE_STYLES: Final = (Style(color="#1F2933", bgcolor="#D9E0E7"), Style(color="#1F2933", bgcolor="#F0F3F6"))
"""In turn, so that neighbours differ."""
STRESS_STYLE: Final = "#D9480F"
UNKNOWN_CELL: Final = "·"
"""Stands where nothing is known."""


def render_terminal(timeline: CallTimeline, console: Console) -> None:
    """Prints title, affect line, summary, facts, top moments, suggestions and notices within the console's width.

    A console narrower than MIN_COLUMNS wraps.
    """
    width = max(MIN_COLUMNS, min(console.width, MAX_COLUMNS))
    parts = [_title(timeline), Text()]
    if timeline.participants:
        parts += [*_affect_line(timeline, width - GUTTER_COLUMNS), Text()]
    parts += [_plain(line) for line in timeline.summary.lines]
    if any(each.overall.known_us for each in timeline.scores):
        parts += [Text(), *_scores(timeline)]
    for part in parts:
        console.print(part, width=width, highlight=False)
    role_of = {party.id: who(party) for party in timeline.participants}
    for kind, title in FACT_TITLES.items():
        said = [
            (fact.span.start_us, _plain(f"{role_of.get(fact.participant, fact.participant)}: “{fact.text}”"), ())
            for fact in timeline.facts
            if fact.kind == kind
        ]
        _print_section(console, title, said, width)
    _print_conversation(timeline, console, width)
    _print_stages(timeline, console, width)
    _print_section(
        console,
        "Top moments",
        [
            (
                highlight.at_us,
                Text.assemble(
                    (highlight.label, _background(highlight.label)), f" ({likelihood(highlight.probability)})"
                ),
                [f"“{highlight.quote}”", highlight.reason] if highlight.quote else [highlight.reason],
            )
            for highlight in timeline.summary.highlights
        ],
        width,
    )
    judged = {each.suggestion_id: each for each in timeline.feedback}
    _print_section(
        console,
        "Suggestions",
        [
            (
                suggestion.created_us,
                Text.assemble(f"{PIN[suggestion.kind]} ", (clean(suggestion.text), "bold")),
                [suggestion.reason, *_verdict(judged.get(suggestion.id))],
            )
            for suggestion in timeline.suggestions
        ],
        width,
    )
    if timeline.notices:
        console.print()
    for notice in timeline.notices:
        console.print(Text(f"Note: {clean(notice.message)}", "yellow"), width=width, highlight=False)


def _verdict(feedback: SuggestionFeedback | None) -> list[str]:
    """What the agent made of a suggestion, where they said so."""
    if feedback is None:
        return []
    return [f"Agent: {feedback.verdict}{f' ({feedback.correction})' if feedback.correction else ''}."]


def who(party: Participant) -> str:
    """What a party is called; by their id where their role is not known, or another's, too."""
    return clean(party.id) if party.role in ("unknown", "other") else party.role


def _title(timeline: CallTimeline) -> Text:
    parties = ", ".join(_with_consent(party) for party in timeline.participants)
    return Text.assemble((clean(timeline.name), "bold"), f" · {length(timeline.duration_us)} · {parties}")


def _with_consent(party: Participant) -> str:
    return who(party) if party.consent == "granted" else f"{who(party)} (consent {party.consent})"


def _scores(timeline: CallTimeline) -> list[Text]:
    """Each party's scores, where anything is known, and what goes with the extremes."""
    lines = [Text("Scores, −5 unpleasant to +5 pleasant", "bold")]
    for each in timeline.scores:
        if each.overall.score is not None:
            quarters = ", ".join("unknown" if q.score is None else signed(q.score) for q in each.quarters)
            course = TRAJECTORY_WORDS[each.trajectory]
            lines.append(
                _plain(
                    f"{each.participant} {signed(each.overall.score)} over {each.overall.known_us // 1_000_000} s; "
                    f"by quarter {quarters}: {course}"
                )
            )
            for toward, points in (("negative", "Low"), ("positive", "High")):
                if found := drivers_of(each, toward):  # type: ignore[arg-type]
                    lines.append(Text(f"{points} points go with {found}.", "dim"))
            changes = [c for c in timeline.changes if c.participant == each.participant]
            if changes:
                told = ", ".join(f"{clock(c.at_us)} {c.after}" for c in changes[:MAX_CHANGES])
                more = f" and {len(changes) - MAX_CHANGES} more" if len(changes) > MAX_CHANGES else ""
                lines.append(Text(f"From {changes[0].before} to: {told}{more}.", "dim"))
    return lines


def _affect_line(timeline: CallTimeline, columns: int) -> list[Text]:
    """The rows of the picture, each a gutter and one character per column of time."""
    hero = next((p for p in timeline.participants if p.role == "customer"), timeline.participants[0])
    axis = Axis(timeline)
    step_us = max(1.0, axis.length_us / columns)
    cells: list[list[Moment]] = [[] for _ in range(columns)]
    for moment in timeline.moments:
        if moment.participant == hero.id:
            # A column shows the moments whose middle it holds; one narrower than a moment, the moment it lies in.
            first = round(axis.drawn_us(moment.span.start_us) / step_us)
            after = max(first + 1, round(axis.drawn_us(moment.span.end_us) / step_us))
            for cell in cells[min(first, columns - 1) : after]:
                cell.append(moment)
    labels = [_label(cell) for cell in cells]
    valences = [_mean([m.affect.valence for m in cell]) for cell in cells]
    stresses = [_mean([m.stress for m in cell]) for cell in cells]
    upper = _half_blocks(valences, labels, above=True)
    lower = _half_blocks(valences, labels, above=False)
    ribbon, names = _ribbon(labels)
    rows = [_row("stage", _stage_strip(timeline, axis, columns, step_us))] if timeline.stages else []
    rows += [
        _row("pleasant", upper[0]),
        _row("", upper[1]),
        _row(f"{who(hero)} ", ribbon, "bold"),
        _row("", lower[0]),
        _row("unpleasant", lower[1]),
    ]
    if names:
        rows.append(_row("", names))
    if any(stress is not None for stress in stresses):
        rows.append(_row("stress", Text("".join(map(_rising, stresses)), STRESS_STYLE)))
    verb = "writes" if timeline.written else "speaks"
    rows.append(_row(verb, _speakers(timeline, hero, axis, columns, step_us)))
    if timeline.suggestions:
        marks = " " * columns
        for suggestion in timeline.suggestions:
            column = marks.find(" ", min(columns - 1, int(axis.drawn_us(suggestion.created_us) / step_us)))
            if column >= 0:
                marks = marks[:column] + PIN[suggestion.kind] + marks[column + 1 :]
        rows.append(_row("suggestions", Text(marks, "bold")))
    rows.append(_row("", _clocks(axis, columns)))
    rows += _legend(timeline, hero, columns + GUTTER_COLUMNS)
    if len(timeline.participants) > 1:
        idle = f"  {BREAK_CELL} idle" if axis.breaks_us else ""
        rows.append(Text(f"{verb}: ▀ {who(hero)}  ▄ the other  █ both{idle}", "dim"))
    return rows


def _stage_strip(timeline: CallTimeline, axis: Axis, columns: int, step_us: float) -> Text:
    """What each stretch is for, its name cut to fit; a capital marks where it begins."""
    strip = Text()
    for number, stage in enumerate(timeline.stages):
        start, after = (
            min(columns, round(axis.drawn_us(t) / step_us)) for t in (stage.span.start_us, stage.span.end_us)
        )
        strip.append(" " * (start - len(strip)))
        size = after - len(strip)
        room = max(0, size - 1)  # a space before the next one
        name = stage.name if len(stage.name) <= room else f"{stage.name[: room - 1]}…" if room > 1 else ""
        strip.append(name.capitalize().ljust(size), STAGE_STYLES[number % 2])
    return strip


def _row(caption: str, content: Text, style: str = "dim") -> Text:
    return Text.assemble((caption[: GUTTER_COLUMNS - 1].ljust(GUTTER_COLUMNS), style), content)


def _label(cell: Sequence[Moment]) -> Label | None:
    """The label with most probability in the cell; None without evidence."""
    votes: dict[Label, float] = {}
    for moment in cell:
        if moment.affect.labels:
            votes[moment.affect.label] = votes.get(moment.affect.label, 0.0) + moment.affect.probability
    return max(votes, key=lambda label: votes[label], default=None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _half_blocks(valences: Sequence[float | None], labels: Sequence[Label | None], *, above: bool) -> list[Text]:
    """Two rows of bars, top row first: growing up from zero, or hanging down from it."""
    rows = [Text(), Text()]
    for valence, label in zip(valences, labels, strict=True):
        size = round((valence or 0.0) * HALVES_PER_SIDE) * (1 if above else -1)
        near, far = (" ▄█"[min(2, max(0, n))] for n in (size, size - 2))
        for row, block in zip(rows, (far, near) if above else (near, far), strict=True):
            row.append(block if above else block.replace("▄", "▀"), _foreground(label))
    return rows


def _ribbon(labels: Sequence[Label | None]) -> tuple[Text, Text]:
    """One band of names on their colours, cut to fit, dots where nothing is known; and a row for cut names.

    A capital marks where an emotion begins, so that the band can be read without colours.
    """
    ribbon, names = Text(), ""
    for label, group in groupby(labels):
        start, size = len(ribbon), len(list(group))
        if label is None:
            ribbon.append(UNKNOWN_CELL * size, "dim")
            continue
        ribbon.append(label[:size].capitalize().ljust(size, "─"), _background(label))
        if len(label) > size > 1 and len(names) < start and start + len(label) <= len(labels):
            names = names.ljust(start) + label
    return ribbon, Text(names, "dim")


def _rising(value: float | None) -> str:
    return UNKNOWN_CELL if value is None else RISING[min(len(RISING) - 1, int(value * len(RISING)))]


def _speakers(timeline: CallTimeline, hero: Participant, axis: Axis, columns: int, step_us: float) -> Text:
    spoken = [[0.0, 0.0] for _ in range(columns)]
    for turn in timeline.moments if timeline.written else timeline.speech:
        from_us, to_us = axis.drawn_us(turn.span.start_us), axis.drawn_us(turn.span.end_us)
        for column in range(int(from_us / step_us), min(int(to_us / step_us) + 1, columns)):
            start_us, end_us = column * step_us, (column + 1) * step_us
            overlap_us = min(end_us, to_us) - max(start_us, from_us)
            spoken[column][turn.participant != hero.id] += max(0.0, overlap_us)
    blocks = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}
    cells = [blocks[mine > step_us / 3, theirs > step_us / 3] for mine, theirs in spoken]
    for place_us in axis.breaks_us:
        column = min(columns - 1, int((place_us + BREAK_US / 2) / step_us))
        cells[column] = BREAK_CELL if cells[column] == " " else cells[column]
    return Text("".join(cells))


def _clocks(axis: Axis, columns: int) -> Text:
    """The clock at each quarter, where there is room, and at the end."""
    line, end = "", clock(axis.time_us(axis.length_us))
    for quarter in range(4):
        start, text = columns * quarter // 4, clock(axis.time_us(axis.length_us * quarter / 4))
        if len(line) <= start - bool(line) and start + len(text) < columns - len(end):
            line = line.ljust(start) + text
    return Text(line.ljust(columns - len(end)) + end, "dim")


def _legend(timeline: CallTimeline, hero: Participant, width: int) -> list[Text]:
    """How much of the time in which something is known each emotion takes, most first."""
    times_us: dict[Label, int] = {}
    for moment in timeline.moments:
        if moment.participant == hero.id and moment.affect.labels:
            label = moment.affect.label
            times_us[label] = times_us.get(label, 0) + moment.span.duration_us
    lines: list[Text] = []
    for label, time_us in sorted(times_us.items(), key=lambda item: -item[1]):
        entry = Text.assemble(("■", _foreground(label)), f" {label} {100 * time_us / sum(times_us.values()):.0f} %  ")
        if not lines or len(lines[-1]) + len(entry) > width:
            lines.append(Text())
        lines[-1].append_text(entry)
    return lines


def _print_section(console: Console, title: str, items: Sequence[tuple[int, Text, Sequence[str]]], width: int) -> None:
    """Each item: its time in µs, what it is, and lines about it."""
    if not items:
        return
    console.print()
    console.print(Text(title, "bold"))
    indent = max(6, 1 + max(len(clock(time_us)) for time_us, _, _ in items))
    for time_us, head, lines in items:
        prefix = clock(time_us).rjust(indent - 1) + " "
        for text in (head, *map(_plain, lines)):
            for row in text.wrap(console, width - indent):
                row.rstrip()
                console.print(Text.assemble(prefix, row), width=width, highlight=False)
                prefix = " " * indent


def _print_conversation(timeline: CallTimeline, console: Console, width: int) -> None:
    """One row per party, and the silence that they share."""
    if not timeline.dynamics:
        return
    role_of = {party.id: who(party) for party in timeline.participants}
    rows = [(role_of.get(each.participant, each.participant), _figures(each)) for each in timeline.dynamics]
    shared = timeline.dynamics[0]
    longest = seconds(shared.longest_silence_us)
    rows.append(("silence", f"{seconds(shared.silence_us)} ({_percent(shared.silence_share)}), longest {longest}"))
    console.print()
    console.print(Text("Conversation", "bold"))
    indent = 3 + max(len(name) for name, _ in rows)
    for name, figures in rows:
        prefix = f"  {name}".ljust(indent) + " "
        for row in Text(figures).wrap(console, width - len(prefix)):
            row.rstrip()
            console.print(Text.assemble(prefix, row), width=width, highlight=False)
            prefix = " " * len(prefix)


def _figures(party: Dynamics) -> str:
    parts = [f"talks {_percent(party.talk_share)}, {seconds(party.overtalk_us)} over the other"]
    if party.interruptions:
        took = f" ({party.successful_interruptions} took the floor)" if party.successful_interruptions else ""
        parts.append(f"interrupts {party.interruptions} ×{took}")
    if party.response_median_us is not None and party.response_p90_us is not None:
        parts.append(
            f"answers after {seconds(party.response_median_us)} (90 % within {seconds(party.response_p90_us)})"
        )
    if party.words_per_minute is not None:
        parts.append(f"{party.words_per_minute:.0f} words/min")
    parts.append(f"longest in one go {seconds(party.longest_monologue_us)}")
    return "; ".join(parts)


def _print_stages(timeline: CallTimeline, console: Console, width: int) -> None:
    """How each party felt in each stage."""
    if not timeline.stages:
        return
    cells = {(each.stage, each.participant): _feels(each) for each in stage_affect(timeline)}
    parties = [party for party in timeline.participants if any(cells[s.id, party.id] for s in timeline.stages)]
    rows = [[seconds(s.span.duration_us), *(cells[s.id, party.id] for party in parties)] for s in timeline.stages]
    indent = max(5, *(len(clock(s.span.start_us)) for s in timeline.stages))
    heads = ["By stage", "", *(who(party) for party in parties)]
    rows = [
        [f"{clock(s.span.start_us).rjust(indent)} {s.name}", *row] for s, row in zip(timeline.stages, rows, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    console.print()
    for row in (heads, *rows):
        text = Text("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
        text.stylize("bold" if row is heads else "")
        text.truncate(width, overflow="ellipsis")
        console.print(text, width=width, highlight=False)


def _feels(each: StageAffect) -> str:
    if each.valence is None:
        return ""
    upset = f", upset {seconds(each.upset_us)}" if each.upset_us else ""
    return f"{round(each.valence, 2) + 0.0:+.2f}{upset}".replace("-", "−")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _foreground(label: Label | None) -> Style:
    return Style(color=EMOTION_COLOURS.get(label)) if label else Style()


def _background(label: Label) -> Style:
    """The label's colour with black or white on it, whichever reads better."""
    fill = EMOTION_COLOURS.get(label)
    if fill is None:
        return Style(dim=True)
    return Style(color="#000000" if _luminance(fill) > 0.179 else "#FFFFFF", bgcolor=fill)


def _luminance(colour: str) -> float:
    """Relative luminance of `#RRGGBB` in [0, 1] (WCAG 2)."""
    parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _plain(text: str) -> Text:
    return Text(clean(text))
