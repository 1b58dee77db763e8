"""The demo store: real results on made-up calls, the same every time; and old calls deleted on the command line."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from affectline.pipelines.outcomes import CallDetails
from affectline.server import cli
from affectline.server.demo.material import WEEKS, chats, sounds
from affectline.server.engine import Engine
from affectline.server.store.calls import CallStore
from affectline.server.store.query import CallFilter, Queries

from .sample_timeline import sample_timeline

pytestmark = pytest.mark.integration

DAY = datetime(2026, 11, 25, tzinfo=UTC)


def test_the_material_is_the_same_every_time_and_marked(example: Path) -> None:
    made = [*chats(30, 7, DAY), *sounds(example, 4, 7, DAY)]
    again = [*chats(30, 7, DAY), *sounds(example, 4, 7, DAY)]
    assert [replace(each, pcm=None) if hasattr(each, "pcm") else each for each in made] == [
        replace(each, pcm=None) if hasattr(each, "pcm") else each for each in again
    ]
    assert len({each.details.id for each in made}) == 34
    for each in made:
        assert each.name.startswith("Demo: ")
        assert each.details.demo
        assert each.details.started is not None
        assert DAY - timedelta(weeks=WEEKS, days=1) <= each.details.started < DAY
        assert each.details.agent_reference is not None
    assert {each.name for each in chats(30, 8, DAY)} != {each.name for each in chats(30, 7, DAY)}
    assert len({each.details.queue for each in made}) >= 5
    assert any(each.outcomes for each in made)
    assert not all(each.outcomes for each in made)


def test_every_text_of_the_stories_can_be_said() -> None:
    for chat in chats(400, random.randrange(10_000), DAY):
        assert [turn.at_us for turn in chat.turns] == sorted({turn.at_us for turn in chat.turns})
        assert not any("{" in turn.text or not turn.text for turn in chat.turns)
        assert {turn.participant for turn in chat.turns} == {"customer", "agent"}


def test_pieces_of_the_recording_are_its_own_sound(example: Path) -> None:
    whole, *others = sounds(example, 5, 7, DAY)
    pcm, rate_hz = soundfile.read(example, dtype="float32", always_2d=True)
    assert np.array_equal(whole.pcm, pcm)
    assert {each.rate_hz for each in others} == {rate_hz}
    columns = {bytes(pcm[start : start + 200]) for start in range(len(pcm) - 200)}
    for other in others:
        assert 20 < len(other.pcm) / rate_hz < 60
        assert bytes(other.pcm[:200]) in columns
    assert len({len(each.pcm) for each in others}) > 1


@pytest.mark.integration
def test_the_demo_fills_a_store(engine: Engine, tmp_path: Path) -> None:
    place = str(tmp_path / "demo.db")
    media = tmp_path / "sound"
    media.mkdir()
    arguments = ["demo", "--store", place, "--calls", "6", "--until", "2026-11-25", "--media", str(media)]
    done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    store = CallStore(place)
    queries = Queries(store)
    found = queries.list_calls(CallFilter(demo=True)).rows
    assert len(found) == queries.list_calls().total == 6
    assert all(row.labels and row.name.startswith("Demo: ") and row.duration_s > 20 for row in found)
    chat = next(row for row in found if row.id.startswith("demo-chat"))
    timeline = store.timeline(chat.id)
    assert timeline.written
    assert timeline.models["text_affect"].startswith("words")
    spoken = store.timeline("demo-call-000")
    assert spoken.models["recogniser"].startswith("whisper")
    assert any("Platinum Motors" in u.text for u in spoken.utterances)
    (kept,) = media.iterdir()
    sound, rate_hz = soundfile.read(kept)
    assert kept.name == "demo-call-000.kept.ogg"
    assert len(sound) / rate_hz == pytest.approx(spoken.duration_us / 1e6, abs=0.1)
    assert f"AFFECTLINE_WEB_MEDIA={media}" in done.output.replace("\n", "")
    store.close()
    again = CliRunner().invoke(cli.app, arguments)
    assert again.exit_code == 1
    assert "expected a new or empty store for the demo, found one with 6 calls" in again.stderr


def test_old_calls_are_pruned_on_the_command_line(tmp_path: Path) -> None:
    place = str(tmp_path / "calls.db")
    store = CallStore(place)
    for days in (1, 40, 50):
        store.add(CallDetails(f"c{days}", datetime.now(UTC) - timedelta(days=days)), sample_timeline())
        (tmp_path / f"c{days}.kept.ogg").touch()
    command = ["calls", "prune", "--store", place, "--days", "30", "--media", str(tmp_path)]
    told = CliRunner().invoke(cli.app, [*command, "--dry-run"])
    assert told.stdout.startswith("2 calls began before ")
    assert store.holds("c40")
    done = CliRunner().invoke(cli.app, command)
    assert done.stdout.startswith("2 calls that began before ")
    assert [store.holds(f"c{days}") for days in (1, 40, 50)] == [True, False, False]
    assert [path.name for path in tmp_path.glob("*.ogg")] == ["c1.kept.ogg"]
    missing = CliRunner().invoke(cli.app, ["calls", "prune", "--store", str(tmp_path / "none.db"), "--days", "30"])
    assert missing.exit_code == 1
    assert "expected a store at" in missing.stderr
    store.close()
