"""The load generator with real weights: what it takes for due, and its calls against a real server."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jiwer", reason="needs the extra `bench` (jiwer)")

from affectline.models.registry import all_models, load_model
from affectline.models.runtime import Runtime
from affectline.models.signals import AudioChunk
from affectline.models.store import Store, default_root
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import Moment, SpeechTurn
from affectline.server.engine import Engine
from benchmarks import load, tables
from benchmarks.common import read_sound
from benchmarks.load import PARTIES

pytestmark = pytest.mark.integration

CALL = Path(__file__).parents[1] / "examples" / "dealership_call.flac"
SECOND = 1_000_000


def test_what_is_due_is_what_a_session_says_at_that_time() -> None:
    pcm, rate_hz = read_sound(CALL)
    engine = Engine(runtime=Runtime())
    session = engine.open(CallConfig("due", PARTIES, rate_hz, "en"))
    step = rate_hz * 32 // 1000
    seconds: dict[str, list[int]] = {party.id: [] for party in PARTIES}
    turns: dict[str, dict[tuple[int, int], int]] = {party.id: {} for party in PARTIES}
    for start in range(0, pcm.shape[1], step):
        outputs = [
            each
            for party in PARTIES
            for each in session.push(
                AudioChunk(party.channel, pcm[party.channel, start : start + step], rate_hz, start)
            )
        ]
        for item in outputs:
            if isinstance(item, Moment) and item.final:
                seconds[item.participant].append(session.received_us)
            elif isinstance(item, SpeechTurn):
                turns[item.participant][item.span.start_us, item.span.end_us] = session.received_us
    ended_us = session.received_us
    for item in session.finish():
        if isinstance(item, Moment):
            seconds[item.participant].append(ended_us)
        elif isinstance(item, SpeechTurn):
            turns[item.participant][item.span.start_us, item.span.end_us] = ended_us
    gate = load_model(all_models()["silero"], Store(default_root()), Runtime(threads=1))
    for party in PARTIES:
        due = load.due_times(gate, pcm[party.channel], rate_hz)
        assert due.turns.keys() == turns[party.id].keys()
        waited_us = [turns[party.id][span] - at_us for span, at_us in due.turns.items()]
        waited_us += np.subtract(seconds[party.id], due.seconds_us).tolist()
        assert len(due.seconds_us) == len(seconds[party.id]) == 56
        assert min(waited_us) >= 0
        assert max(waited_us) <= 160_000  # the resampler's delay, in whole chunks


def test_calls_against_the_real_server_end_as_without_load(tmp_path: Path) -> None:
    out = tmp_path / "load.json"
    options = ["--calls", "2", "--seconds", "20", "--data", str(CALL.parent), "--language", "en"]
    options += ["--patience", "300", "--json", str(out)]
    done = subprocess.run([sys.executable, "-m", "benchmarks.load", *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text())
    assert document["data"]["recordings"] == [CALL.name]
    (run,) = document["runs"]
    assert run["statuses"] == {"OK": 2}
    assert run["turns_unlike_segmenter"] == 0
    assert run["partials"]["sent"] > 0
    assert run["quality"]["words"] > 20
    assert run["quality"]["transcript_wer_against_unloaded"] == 0
    assert run["quality"]["labels_as_unloaded"] == 1
    assert {"moment", "moment, first", "partial", "transcript", "timeline"} <= set(run["latency"])
    assert run["latency"]["moment"]["never_came"] == 0
    shown = tables.load(document)
    assert "| live calls at the same time | 2 |" in shown
    assert "| as without load: words, labels | 100.0%, 100.0% |" in shown
    assert run["server"]["rss_mb"] > 100
    assert 0 < run["callers"]["cpu_s_per_call_second"] < run["server"]["cpu_s_per_call_second"]
