"""`affectline policies` and `affectline recommend`, as a person at a terminal sees them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from affectline.pipelines.policy import DEFAULT_POLICIES, load_policies, replay
from affectline.pipelines.policy_cases import cases_path
from affectline.pipelines.timeline import SuggestionFeedback
from affectline.server.cli import app
from affectline.server.exports import to_json

from .sample_timeline import sample_timeline

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A copy of the default pack and its cases."""
    path = tmp_path / "ours.yaml"
    path.write_text(DEFAULT_POLICIES.read_text())
    cases_path(path).write_text(cases_path(DEFAULT_POLICIES).read_text())
    return path


def test_a_sound_pack_is_listed(pack: Path) -> None:
    done = run("policies", "check", pack)
    assert done.exit_code == 0
    assert "anger-retention@2" in done.output
    assert f"ours.yaml is sound: {len(load_policies(pack).policies)} policies, default@2." in done.output


def test_names_and_texts_are_not_read_as_markup(pack: Path, tmp_path: Path) -> None:
    call = sample_timeline()
    shown = replace(call.suggestions[0], policy="[/gone]@1")
    (tmp_path / "call.json").write_bytes(to_json(replace(call, suggestions=(shown,), feedback=())))
    done = run("policies", "replay", pack, "--over", tmp_path / "call.json")
    assert done.exit_code == 0, done.output
    assert "Not in this pack: [/gone]." in done.output
    cases = cases_path(pack)
    cases.write_text("cases:\n  - {name: 'of [/b]', call: [{at: [0, 9]}], expect: []}\n")
    assert "of [/b]" in run("policies", "test", pack).output
    text = pack.read_text().replace("name: default\n", 'name: "\\e[/x]"\n', 1)
    pack.write_text(text.replace("text: ", "text: '[/b]' # ", 1))
    done = run("policies", "check", pack)
    assert done.exit_code == 0, done.output
    assert "[/b]" in done.output
    assert " [/x]@2." in done.output


def test_every_fault_of_a_pack_is_told_with_its_line(pack: Path) -> None:
    pack.write_text(pack.read_text().replace("for_s: 8}", "for_s: 80}").replace("cooldown_s: 600", "cooldown_s: 5"))
    done = run("policies", "check", pack)
    assert done.exit_code == 1
    assert "affectline: ours.yaml line 35: all: can never hold: 80.0 s asked for within 30.0 s" in done.output
    assert "cooldown_s: expected at least 60 s for a routing policy, found 5" in done.output


def test_the_cases_beside_a_pack_are_run(pack: Path) -> None:
    done = run("policies", "test", pack)
    assert done.exit_code == 0
    assert "✓ Sadness that goes on wants a warm word" in done.output
    assert "cases pass." in done.output
    assert "No case makes these speak" not in done.output


def test_a_case_that_fails_says_what_was_found(pack: Path) -> None:
    pack.write_text(
        pack.read_text().replace("any_of: [sad], min_probability: 0.45", "any_of: [sad], min_probability: 0.9")
    )
    done = run("policies", "test", pack)
    assert done.exit_code == 1
    assert "✗ Sadness that goes on wants a warm word\n    expected sadness-warmth, found nothing" in done.output
    assert "No case makes these speak: sadness-warmth." in done.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "expect: [anger-supervisor]",
            "expect: [anger-boss]",
            "unknown policy 'anger-boss'; expected one of anger-ret",
        ),
        ("feels: angry}", "feels: cross}", "found 'cross'"),
        ("at: [0, 10]", "at: [10, 0]", "at: expected a later second after an earlier one"),
        ("    expect:", "    expects:", "unknown field 'expects'; expected one of name, call, history"),
    ],
)
def test_a_wrong_case_is_named_with_its_line(pack: Path, old: str, new: str, message: str) -> None:
    path = cases_path(pack)
    path.write_text(path.read_text().replace(old, new, 1))
    done = run("policies", "test", pack)
    assert done.exit_code == 1
    assert "affectline: ours.cases.yaml line " in done.output
    assert message in done.output


def test_a_pack_without_cases_says_where_they_belong(pack: Path) -> None:
    cases_path(pack).unlink()
    done = run("policies", "test", pack)
    assert done.exit_code == 1
    assert "ours.cases.yaml, found no such file" in done.output


@pytest.fixture
def calls(tmp_path: Path, pack: Path) -> Path:
    """Two calls of the past, one with what the default pack suggested and what the agent made of it."""
    folder = tmp_path / "calls"
    folder.mkdir()
    call = replace(sample_timeline(), suggestions=())
    made = tuple(replay(load_policies(pack), call))
    assert made
    told = replace(call, suggestions=made, feedback=(SuggestionFeedback(made[0].id, "dismissed", call.duration_us),))
    (folder / "a.json").write_bytes(to_json(told))
    (folder / "b.json").write_bytes(to_json(call))
    return folder


def test_a_replay_counts_what_a_pack_would_say_beside_what_was_said(pack: Path, calls: Path) -> None:
    done = run("policies", "replay", pack, "--over", calls, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["calls"], found["left_out"]) == (2, 0)
    call = sample_timeline()
    made = replay(load_policies(pack), call)
    first = made[0].policy.partition("@")[0]
    count = next(each for each in found["policies"] if each["policy"] == first)
    mine = sum(s.policy.startswith(f"{first}@") for s in made)
    assert (count["fired"], count["calls"], count["suggested"], count["dismissed"]) == (2 * mine, 2, mine, 1)
    assert count["per_call"] == mine
    assert count["per_hour"] == pytest.approx(2 * mine / (2 * call.duration_us / 3.6e9))
    table = run("policies", "replay", pack, "--over", calls / "a.json", calls / "b.json").output
    assert f"2 calls, {2 * call.duration_us // 60_000_000}:" in table
    assert first in table


def test_a_file_that_is_no_timeline_is_left_out_and_named(pack: Path, calls: Path) -> None:
    (calls / "c.json").write_text('{"what": "ever"}')
    done = run("policies", "replay", pack, "--over", calls, "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["left_out"] == 1
    assert "c.json: expected an affectline.timeline/1 document" in done.stderr
    (calls / "a.json").unlink()
    (calls / "b.json").unlink()
    assert run("policies", "replay", pack, "--over", calls).exit_code == 1
    (calls / "c.json").unlink()
    assert "found no .json file" in run("policies", "replay", pack, "--over", calls).output


def test_a_recommendation_names_queue_reasons_and_greeting(tmp_path: Path) -> None:
    request = tmp_path / "request.yaml"
    call = sample_timeline()
    angry = max(m.span.end_us for m in call.moments if m.affect.label == "angry")
    cut = tuple(m for m in call.moments if m.span.end_us <= angry)
    (tmp_path / "call.json").write_bytes(to_json(replace(call, moments=cut, duration_us=angry)))
    request.write_text("call: call.json\nhistory:\n  - {days_ago: 2, mood: frustrated, outcome: unresolved}\n")
    done = run("recommend", request)
    assert done.exit_code == 0, done.output
    assert "→ retention" in done.output
    assert "The customer sounds angry for" in done.output
    assert "begin with" in done.output
    found = json.loads(run("recommend", request, "--json").stdout)
    assert (found["queue"], found["priority"]) == ("retention", "high")
    request.write_text("call: call.json\nemotion_routing_objected: true\n")
    done = run("recommend", request)
    assert "→ general" in done.output
    assert "the customer objected" in done.output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("intention: bill", "line 1: unknown field 'intention'; expected one of intent"),
        ("history:\n  - {days_ago: -1}", "line 2: days_ago: "),
        ("call: nowhere.json", "cannot read the call nowhere.json"),
        ("intent: 5\nproduct: 6", "line 1: intent: Input should be a valid string, found 5\naffectline: request.yaml"),
    ],
)
def test_a_wrong_request_is_told_a_line_for_each_fault(tmp_path: Path, text: str, message: str) -> None:
    request = tmp_path / "request.yaml"
    request.write_text(text)
    done = run("recommend", request)
    assert done.exit_code == 1
    assert message in done.output
