"""The benchmarks' own arithmetic, their files, and the tables made from them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jiwer", reason="needs the extra `bench` (jiwer)")

from affectline.models.runtime import Runtime
from benchmarks import tables
from benchmarks.common import bootstrap, load_clips, report
from benchmarks.peers_weights import random_deepface
from benchmarks.transcript import normalised, reference_text, telephone, word_error_rate, word_errors

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]


def write_labels(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text)
    return folder


def test_clips_come_with_their_whole_row_and_a_limit_draws_the_same_ones(tmp_path: Path) -> None:
    lines = "".join(f"audio/{i}.wav,calm,{i % 3},hello {i}\n" for i in range(20))
    data = write_labels(tmp_path, "path,label,speaker,text\n" + lines)
    clips = load_clips(data)
    assert (clips[3].path, clips[3].speaker, reference_text(clips[3])) == (data / "audio/3.wav", "0", "hello 3")
    drawn = load_clips(data, 5)
    assert len({clip.path for clip in drawn}) == 5
    assert drawn == load_clips(data, 5)
    assert load_clips(data, 50) == clips


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "expected labels.csv"),
        ("path,speaker\na.wav,1\n", "found no label"),
        ("", "found no label, path, speaker"),
    ],
)
def test_a_folder_that_does_not_fit_is_named(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        write_labels(tmp_path, text)
    with pytest.raises(SystemExit, match=said):
        load_clips(tmp_path)


def test_ravdess_statements_are_known(tmp_path: Path) -> None:
    data = write_labels(tmp_path, "path,label,speaker,statement\na.wav,sad,1,02\nb.wav,sad,1,07\n")
    assert [reference_text(clip) for clip in load_clips(data)] == ["Dogs are sitting by the door", None]


@pytest.mark.parametrize(
    ("reference", "found", "errors"),
    [
        ("Kids are talking.", "kids, ARE talking", (0, 3)),
        ("kids are talking", "kid's are", (2, 3)),
        ("kids are talking", "", (3, 3)),
        ("lubię czytać", "lubie czytać!", (1, 2)),
        ("I’m here", "I'm here, here", (1, 2)),
    ],
)
def test_word_errors(reference: str, found: str, errors: tuple[int, int]) -> None:
    assert word_errors(reference, found) == errors


def test_normalised_text_has_no_marks_left() -> None:
    assert normalised("  Well — “OK”, it's   1.5 km! ") == "well ok it's 1 5 km"


def test_the_interval_holds_the_rate_and_narrows_with_more_speakers() -> None:
    rng = np.random.default_rng(1)

    def width(speakers: int) -> float:
        errors = np.stack([rng.binomial(10, 0.1, speakers * 5), np.full(speakers * 5, 10)], axis=1)
        low, high = bootstrap(word_error_rate, errors, [str(i % speakers) for i in range(len(errors))])
        assert low <= word_error_rate(errors) <= high
        return high - low

    assert width(100) < width(10)


def test_the_telephone_keeps_what_is_below_4_khz_and_nothing_above() -> None:
    time_s = np.arange(16_000) / 16_000
    low, high = (np.sin(2 * np.pi * hz * time_s).astype(np.float32) / 2 for hz in (1_000, 6_000))
    kept, gone = telephone(low), telephone(high)
    assert len(kept) == pytest.approx(16_000, abs=2)
    assert np.std(kept) == pytest.approx(np.std(low), rel=0.02)
    assert np.std(gone) < 0.01


def test_results_end_in_one_line_and_a_whole_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "result.json"
    report("some", {"data": {"name": "d"}}, {"wer": 0.1, "peer": "absent"}, target)
    assert capsys.readouterr().out.splitlines()[-1] == "RESULT wer=0.1 peer=absent"
    document = json.loads(target.read_text())
    assert document["headline"] == {"wer": 0.1, "peer": "absent"}
    assert {"cpu", "cores", "memory_gb", "os", "python", "versions", "revision", "command"} <= set(
        document["environment"]
    )
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks/results").glob("*.json")), ids=lambda path: path.name)
def test_committed_results_name_no_folder_of_a_machine(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r'(^|[\s"=])/\w', text)
    assert json.loads(text)["benchmark"] == path.stem.partition("_")[0]


def test_every_table_can_be_made() -> None:
    text = "".join(f"{name}:\n<!-- bench:{name} -->\nold\n<!-- /bench:{name} -->\n" for name in tables.TABLES)
    done = tables.filled(text)
    assert "\nold\n" not in done
    assert tables.filled(done) == done
    assert done.count("| --- | ---:") == len(tables.TABLES)


@pytest.mark.parametrize("text", ["<!-- bench:none --><!-- /bench:none -->", "<!-- bench:speed -->"])
def test_a_marker_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        tables.filled(text)


def test_the_readme_shows_the_committed_results() -> None:
    command = [sys.executable, "-m", "benchmarks.tables", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_faces_are_shown_beside_peers_also_where_only_their_speed_is_known() -> None:
    document = json.loads((ROOT / "benchmarks/results/face.json").read_text())
    known = document["expression"]["mini-xception"] | {"ms_per_face": 1.0}
    document["expression"] = {"mini-xception": known}
    document["best"] = "mini-xception"
    document["peers"] = {
        "one": {"weights": True, "expression": known | {"ms_per_face": 12.0}, "whole_ms": 40.0},
        "two": {"weights": False, "expression": {"ms_per_face": 0.5}, "whole_ms": 50.0},
    }
    live = json.loads((ROOT / "benchmarks/results/face_stream.json").read_text())
    shown = tables.face(document, live)
    assert f"| one | {known['accuracy']:.3f} (" in shown
    assert "| two (speed only: no weights here) |  |  |  | 0.50 ms |" in shown
    assert "Times as long as mini-xception: one 12.0, two 0.5." in shown
    assert "one's 40 ms, two's 50 ms" in shown


def test_a_peer_without_weights_gets_random_ones_of_its_shape(tmp_path: Path) -> None:
    session = Runtime(threads=1).session(random_deepface(tmp_path))
    assert session.dims == {"input": (None, 48, 48, 1)}
    faces = np.random.default_rng(0).uniform(0, 1, (3, 48, 48, 1)).astype(np.float32)
    found = session.run({"input": faces})["output"]
    assert found.shape == (3, 7)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.ptp(found, axis=0).max() > 0
