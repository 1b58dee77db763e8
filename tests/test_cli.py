"""The command line on real files, good and bad."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affectline.server.engine import Engine
from affectline.server.exports import CSV_COLUMNS, from_json
from affectline.server.store.calls import CallStore

from .films import drawn, film

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(engine: Engine, tmp_path: Path) -> Run:
    """Runs `affectline ARGS…` in an empty folder; the models are in the store."""

    def run(*arguments: str | Path, **environment: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "affectline.server.cli", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / ".pkgroot"), "COLUMNS": "80", **environment},
        )

    return run


@pytest.fixture
def short(example: Path, tmp_path: Path) -> Path:
    """The first 8 s of the example."""
    pcm, rate_hz = soundfile.read(example, dtype="int16")
    path = tmp_path / "short.wav"
    soundfile.write(path, pcm[: 8 * rate_hz], rate_hz)
    return path


def test_analyze_prints_a_timeline_and_writes_what_was_asked_for(run: Run, short: Path, tmp_path: Path) -> None:
    done = run("analyze", short, "--json", "call.json", "--html", "call.html", "--csv", "call.csv", "--with-audio")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    timeline = from_json((tmp_path / "call.json").read_bytes())
    assert [p.id for p in timeline.participants] == ["customer", "agent"]
    assert "Thank you for calling" in timeline.utterances[0].text
    assert (tmp_path / "call.csv").read_text().splitlines()[0].split(",") == list(CSV_COLUMNS)
    assert "data:audio/ogg;base64," in (tmp_path / "call.html").read_text()


def test_a_call_is_kept_under_its_files_name_and_can_have_an_outcome(run: Run, short: Path, tmp_path: Path) -> None:
    kept = [run("analyze", short, "--store", "calls.db", "--json", "-") for _ in range(2)]
    assert [done.returncode for done in kept] == [0, 0]
    store = CallStore(str(tmp_path / "calls.db"))
    assert store.timeline(short.name) == from_json(kept[1].stdout.encode())
    store.close()
    (tmp_path / "outcomes.csv").write_text(f"call,kind,value\n{short.name},csat,2\n")
    done = run("outcomes", "import", "outcomes.csv", "--store", "calls.db")
    assert done.stdout == "1 recorded, 0 known already, 0 left out\n"
    assert "1 call with an outcome" in run("insights", "outcomes", AFFECTLINE_STORE="calls.db").stdout


def test_a_store_that_is_none_is_told_before_anything_is_analysed(run: Run, short: Path, tmp_path: Path) -> None:
    done = run("analyze", short, "--store", "none/calls.db")
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected a file in a folder that exists for the store" in done.stderr


def test_json_to_standard_output_is_only_json(run: Run, short: Path) -> None:
    done = run("analyze", short, "--json", "-", "--channels", "agent,customer")
    assert [p["id"] for p in json.loads(done.stdout)["participants"]] == ["agent", "customer"]


def test_several_files_go_into_a_folder(run: Run, short: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.wav"
    other.write_bytes(short.read_bytes())
    done = run("analyze", short, other, "--json", "out")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["other.wav.json", "short.wav.json"]


def test_consent_is_the_operators_to_state(run: Run, short: Path) -> None:
    done = run("analyze", short, "--json", "-", "--consent", "customer=denied,agent=granted")
    timeline = from_json(done.stdout.encode())
    assert {u.participant for u in timeline.utterances} == {"agent"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--channels", "customer"), "one party for each of the recording's 2 channels, found 1: customer"),
        (("--channels", "customer,robot"), "expected a role of customer, agent, other; found 'robot'"),
        (("--channels", "customer,customer"), "ids of their own"),
        (("--consent", "maybe"), "expected a consent of granted, pending, denied; found 'maybe'"),
        (("--consent", "customer=granted"), "expected the consent of agent"),
        (("--consent", "granted,boss=denied"), "found one of boss"),
        (("--language", "tlh"), "found 'tlh'"),
        (("--raw", "mp3"), "ENCODING:RATE_HZ:CHANNELS"),
        (("--raw", "mulaw:²:1"), "ENCODING:RATE_HZ:CHANNELS"),
        (("--raw", "s16le:99999999999999999999:1"), "ENCODING:RATE_HZ:CHANNELS"),
        (
            ("--json", "no/such/folder/call.json"),
            "expected a folder to write no/such/folder/call.json into, found none",
        ),
    ],
)
def test_bad_options_are_one_sentence(run: Run, short: Path, arguments: tuple[str, ...], expected: str) -> None:
    done = run("analyze", short, *arguments)
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.fixture
def chat(tmp_path: Path) -> Path:
    path = tmp_path / "chat.jsonl"
    path.write_bytes((ROOT / "examples/chat.jsonl").read_bytes())
    return path


def test_a_chat_gives_the_same_kinds_of_results(run: Run, chat: Path, tmp_path: Path) -> None:
    done = run("analyze", chat, "--json", "chat.json", "--html", "chat.html", "--csv", "chat.csv")
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "┊ idle" in done.stdout
    assert "The customer reads" in done.stdout
    timeline = from_json((tmp_path / "chat.json").read_bytes())
    assert timeline.written
    labels = {m.affect.label for m in timeline.moments if m.participant == "customer"}
    assert labels >= {"frustrated", "confused", "grateful"}
    assert {s.policy.split("@")[0] for s in timeline.suggestions} >= {"escalation-risk", "confusion-simplify"}
    assert (tmp_path / "chat.csv").read_text().count("\n") == len(timeline.moments) + 1
    assert "audio/ogg" not in (tmp_path / "chat.html").read_text()


def test_chats_and_recordings_go_together(run: Run, short: Path, chat: Path, tmp_path: Path) -> None:
    done = run("analyze", short, chat, "--json", "out", "--html", "out", "--with-audio")
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").glob("*.json")) == ["chat.jsonl.json", "short.wav.json"]
    assert "audio/ogg" not in (tmp_path / "out/chat.jsonl.html").read_text()


def test_options_work_on_chats(run: Run, tmp_path: Path) -> None:
    (tmp_path / "named.jsonl").write_text(
        '{"participant": "Ann", "text": "The doohickey is purple again"}\n'
        '{"participant": "Bo", "text": "Ich helfe Ihnen sofort weiter"}\n'
    )
    (tmp_path / "cues.yaml").write_text("groups:\n  - kind: churn\n    phrases:\n      - doohickey is purple\n")
    options = (
        "--cues",
        "cues.yaml",
        "--channels",
        "Bo:agent,Ann:customer",
        "--consent",
        "Ann=granted,denied",
        "--language",
        "en",
    )
    done = run("analyze", "named.jsonl", "--json", "-", *options)
    timeline = from_json(done.stdout.encode())
    assert [(p.id, p.role, p.consent) for p in timeline.participants] == [
        ("Ann", "customer", "granted"),
        ("Bo", "agent", "denied"),
    ]
    (said,) = timeline.utterances
    assert (said.participant, said.language, [cue.phrase for cue in said.cues]) == (
        "Ann",
        "en",
        ["doohickey is purple"],
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--raw", "mulaw:8000:1"), "expected a recording with --raw, found written conversations only"),
        (("--with-audio",), "expected a recording with --with-audio"),
        (("--consent", "customer=granted"), "expected the consent of agent"),
        (("--consent", "granted,boss=denied"), "found one of boss"),
        (("--channels", "Ann:boss"), "expected a role of customer, agent, other; found 'boss'"),
        (("--language", "English"), "expected an ISO 639-1 code such as 'en', found 'English'"),
    ],
)
def test_bad_options_of_a_chat_are_one_sentence(
    run: Run, chat: Path, arguments: tuple[str, ...], expected: str
) -> None:
    done = run("analyze", chat, *arguments)
    assert done.returncode == 1
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_bad_line_of_a_chat_is_named(run: Run, chat: Path) -> None:
    chat.write_text(chat.read_text() + "\nthank you\n")
    done = run("analyze", chat)
    assert done.returncode == 1
    assert done.stderr == (
        "affectline: chat.jsonl line 18: expected a JSON object, found no JSON: Expecting value at column 1\n"
    )


def wav(path: Path, pcm: np.ndarray, rate_hz: int = 16_000) -> Path:
    soundfile.write(path, pcm, rate_hz, format="WAV")
    return path


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: (p.write_bytes(b""), p)[1], "empty"),
        (lambda p: (p.write_text("This is no recording. " * 50), p)[1], "expected"),
        (lambda p: wav(p, np.zeros(1)), "found"),
        (lambda p: wav(p, np.zeros((16_000, 8))), "the recording has 8 channels"),
        (lambda p: p, "found"),
        (lambda p: p.parent, "found"),
    ],
    ids=["empty", "text", "one sample", "eight channels", "missing", "a folder"],
)
def test_unusable_files_are_named_with_what_was_found(
    run: Run, tmp_path: Path, make: Callable[[Path], Path], expected: str
) -> None:
    path = make(tmp_path / "call.wav")
    done = run("analyze", path, "--json", "call.json")
    assert done.returncode == 1
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "call.json").exists()


def test_odd_but_honest_files_are_analysed(run: Run, tmp_path: Path, example: Path) -> None:
    pcm, rate_hz = soundfile.read(example, dtype="float32")
    voice = np.repeat(pcm[: 8 * rate_hz, 1], 12)  # 96 kHz
    files = [
        wav(tmp_path / "wide.mp3", voice, 96_000),  # WAV under a wrong name
        wav(tmp_path / "clipped.wav", np.clip(pcm[: 8 * rate_hz, 1] * 30, -1, 1), rate_hz),
        wav(tmp_path / "eight.wav", np.repeat(pcm[: 8 * rate_hz, 1:], 8, axis=1), rate_hz),
    ]
    whole = (tmp_path / "clipped.wav").read_bytes()
    cut = tmp_path / "cut.wav"
    cut.write_bytes(whole[: len(whole) * 3 // 4])
    for path in [*files, cut]:
        channels = ("--channels", "customer,-,-,-,-,-,-,-") if path.name == "eight.wav" else ()
        done = run("analyze", path, "--json", "-", "--language", "en", *channels)
        assert done.returncode == 0, done.stderr
        timeline = from_json(done.stdout.encode())
        assert timeline.utterances
        codes = {notice.code for notice in timeline.notices}
        assert ("clipped_audio" in codes) == (path.name in {"clipped.wav", "cut.wav"})
        assert ("truncated_recording" in codes) == (path.name == "cut.wav")


def test_a_video_without_sound_is_analysed_for_the_face(run: Run, tmp_path: Path) -> None:
    path = film(tmp_path / "silent.mp4", [drawn(number) for number in range(30)])
    done = run("analyze", path, "--html", "page.html", "--with-audio", "--json", "-")
    assert done.returncode == 0, done.stderr
    timeline = from_json(done.stdout.encode())
    assert [notice.code for notice in timeline.notices] == ["no_sound"]
    absent = {(a.modality, a.reason) for moment in timeline.moments for a in moment.absent}
    assert absent == {("voice", "no sound"), ("text", "no sound"), ("stress", "no sound"), ("face", "no face")}
    assert "data:audio" not in (tmp_path / "page.html").read_text()
    shown = run("analyze", path, "--channels", "customer,Mia:agent", "--camera", "Mia")
    assert shown.returncode == 0, shown.stderr
    assert "face of Mia is not analysed" in shown.stdout
    assert "One channel" not in shown.stdout
    nobody = run("analyze", path, "--camera", "-", "--json", "-")
    absent = {(a.modality, a.reason) for m in from_json(nobody.stdout.encode()).moments for a in m.absent}
    assert ("face", "no video") in absent
    unknown = run("analyze", path, "--camera", "bob")
    assert unknown.returncode == 1
    assert "expected the video to show one of customer; found 'bob'" in unknown.stderr


def test_without_a_network_and_models_the_way_out_is_named(run: Run, short: Path, tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"
    done = run(
        "analyze",
        short,
        AFFECTLINE_MODELS=str(tmp_path / "store"),
        PIP_INDEX_URL=nowhere,
        PIP_FIND_LINKS="",
        PIP_RETRIES="0",
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "--from" in done.stderr


def test_help_names_every_command(run: Run) -> None:
    out = run("--help").stdout
    assert all(command in out for command in ("analyze", "serve", "call", "models", "policies", "recommend"))
