"""The timeline in a terminal."""

import io
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from affectline.models.labels import LABELS
from affectline.pipelines.summary import clock
from affectline.pipelines.timeline import SuggestionFeedback
from affectline.server.axis import BREAK_US, Axis
from affectline.server.look import FACT_TITLES
from affectline.server.terminal import render_terminal

from .sample_timeline import empty_timeline, no_consent_timeline, sample_timeline, written_timeline

pytestmark = pytest.mark.unit


def shown(timeline, **options) -> str:
    file = io.StringIO()
    render_terminal(timeline, Console(file=file, **{"width": 80, **options}))
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("make", [sample_timeline, empty_timeline, no_consent_timeline, written_timeline])
def test_piped_output_is_plain_and_fits(make, width) -> None:
    text = shown(make(), width=width)
    assert "\x1b" not in text
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_everything_a_supervisor_needs_is_there() -> None:
    timeline = sample_timeline()
    text = " ".join(shown(timeline).split())
    for line in timeline.summary.lines:
        assert line in text
    for highlight in timeline.summary.highlights:
        assert highlight.reason in text
        assert highlight.quote in text
    for suggestion in timeline.suggestions:
        assert suggestion.text in text
        assert suggestion.reason in text
    for fact in timeline.facts:
        assert fact.text in text
    assert [title in text for title in FACT_TITLES.values()] == [True] * 3
    for label in LABELS:
        assert label in text
    assert "likely, 0.73" in text
    assert timeline.notices[0].message in text


def test_what_the_agent_made_of_a_suggestion_stands_below_it() -> None:
    timeline = sample_timeline()
    first, second = (suggestion.id for suggestion in timeline.suggestions[:2])
    feedback = (SuggestionFeedback(first, "dismissed", 1), SuggestionFeedback(second, "corrected", 2, "sad", "Listen."))
    text = shown(replace(timeline, feedback=feedback))
    assert text.count("Agent: ") == 2
    assert "Agent: dismissed.\n" in text
    assert "Agent: corrected (sad: Listen.).\n" in text


def test_valence_is_above_the_ribbon_when_pleasant_and_below_when_not() -> None:
    lines = shown(sample_timeline()).splitlines()
    ribbon = next(i for i, line in enumerate(lines) if line.startswith("customer"))
    angry, grateful = lines[ribbon].index("Angry"), lines[ribbon].index("Gra")
    assert lines[ribbon + 1][angry] == "█"
    assert lines[ribbon - 1][angry] == " "
    assert lines[ribbon - 1][grateful] == "█"
    assert lines[ribbon + 1][grateful : grateful + 1].strip() == ""


def test_a_terminal_gets_colours() -> None:
    assert "48;2;178;24;43" in shown(sample_timeline(), force_terminal=True, color_system="truecolor")


def test_without_consent_nothing_but_the_reason_is_shown() -> None:
    text = shown(no_consent_timeline())
    assert "consent denied" in text
    assert "did not consent" in text
    assert "Top moments" not in text
    assert "Promised" not in text
    assert "█" not in text.replace("█ both", "")


def test_a_call_without_length_is_shown() -> None:
    text = shown(replace(empty_timeline(), duration_us=0, moments=()), width=20)
    assert "Nobody spoke in this call." in " ".join(text.split())


def test_what_was_said_cannot_steer_the_terminal() -> None:
    timeline = sample_timeline()
    first, *rest = timeline.summary.highlights
    hostile = replace(first, quote="\x1b[2J\x07[bold red]gone[/]\u202e")
    timeline = replace(timeline, summary=replace(timeline.summary, highlights=(hostile, *rest)))
    text = shown(timeline)
    assert not {"\x1b", "\x07", "\u202e"} & set(text)
    assert "[bold red]gone[/]" in text


def test_a_thread_of_days_is_drawn_by_its_turns() -> None:
    lines = shown(written_timeline()).splitlines()
    assert lines[0] == "thread.jsonl · 3d 00:00 · customer, agent"
    writes = next(line for line in lines if line.startswith("writes"))
    assert writes.count("┊") == 3
    assert set(writes[12:]) <= set("▀▄█┊ ")
    assert sum(cell in "▀▄█" for cell in writes) > 40
    clocks = next(line for line in lines if line.strip().startswith("0:00"))
    assert clocks.split() == ["0:00", "8:00:01", "1d", "00:00", "1d", "00:00", "3d", "00:00"]
    narrow = next(line for line in shown(written_timeline(), width=40).splitlines() if line.strip().startswith("0:00"))
    assert narrow.split() == ["0:00", "8:00:01", "3d", "00:00"]
    assert "writes: ▀ customer  ▄ the other  █ both  ┊ idle" in lines
    assert not any(line.startswith(("stress", "speaks")) for line in lines)


def test_places_and_times_of_the_axis_belong_together() -> None:
    timeline = written_timeline()
    axis = Axis(timeline)
    assert axis.length_us == 32_000_000 + 3 * BREAK_US
    for moment in timeline.moments:
        assert axis.time_us(axis.drawn_us(moment.span.start_us)) == moment.span.start_us
    places = [axis.drawn_us(us) for us in range(0, timeline.duration_us + 1, 1_800_000_000)]
    assert places == sorted(places)
    assert axis.time_us(axis.breaks_us[0] + BREAK_US // 2) == 8 * 3_600_000_000
    assert axis.time_us(axis.length_us) == timeline.duration_us
    call = sample_timeline()
    assert (Axis(call).length_us, Axis(call).breaks_us) == (call.duration_us, [])


@pytest.mark.parametrize(
    ("at_s", "expected"),
    [(59.9, "0:59"), (3_599, "59:59"), (3_600, "1:00:00"), (86_399, "23:59:59"), (183_600, "2d 03:00")],
)
def test_clocks_have_hours_and_days_where_needed(at_s: float, expected: str) -> None:
    assert clock(round(at_s * 1_000_000)) == expected


def test_scores_are_told_where_something_is_known() -> None:
    assert "customer −0.4 over 83 s; by quarter −1.4, −2.2, −0.1, +3.0: recovered" in " ".join(
        shown(sample_timeline()).split()
    )
    assert "Low points go with voice 52 %, words 38 %." in shown(sample_timeline())
    assert "Scores" not in shown(empty_timeline())
    first = next(c for c in sample_timeline().changes if c.participant == "customer")
    assert f"From {first.before} to: {clock(first.at_us)} {first.after}" in shown(sample_timeline())


def test_stages_stand_above_the_line_and_say_how_they_felt() -> None:
    lines = shown(sample_timeline(), width=100).splitlines()
    strip = next(line for line in lines if line.startswith("stage "))
    assert [name in strip for name in ("Problem", "Resolution", "Hold", "Closing")] == [True] * 4
    assert any(line.split()[:4] == ["0:22", "problem", "39", "s"] and "upset 26 s" in line for line in lines)


def test_one_row_of_figures_per_party() -> None:
    text = " ".join(shown(sample_timeline()).split())
    assert "interrupts 2 × (2 took the floor)" in text
    assert "answers after 1.0 s (90 % within 3.4 s)" in text
    assert "silence 31 s (17 %), longest 8.0 s" in text
