"""A call with known names and words goes through the server; none of them comes out in logs, metrics or spans."""

import io
import re
from collections.abc import Iterator

import grpc
import pytest

from affectline.pipelines.media import open_recording
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline, Participant
from affectline.protos.v1 import analyze_pb2, timeline_pb2
from affectline.protos.v1.analyze_pb2_grpc import AnalyzeServiceStub
from affectline.server.client import stream_call
from affectline.server.engine import Engine

from .test_observing import CALL, ROOT, SAID, fetched, json_lines, watched

pytestmark = pytest.mark.integration

__all__ = ["json_lines"]

NAMES = ("Zebulon", "Quirkenbaum")
"""Of the parties of a call."""


async def test_no_word_of_a_call_reaches_logs_metrics_or_spans(
    monkeypatch: pytest.MonkeyPatch, json_lines: io.StringIO
) -> None:
    parties = tuple(
        Participant(name, role, channel, "granted", "consented on paper by Eulalia")
        for channel, (name, role) in enumerate(zip(NAMES, ("customer", "agent"), strict=True))
    )
    recording = open_recording(CALL)
    config = CallConfig("Wolfeschlegel's call", parties, recording.rate_hz, interim_results=True)
    turn = analyze_pb2.TextEvent(participant=NAMES[0], text=SAID, at_us=0)
    chat = analyze_pb2.AnalyzeTextRequest(
        name="Wolfeschlegel's chat",
        participants=[
            timeline_pb2.Participant(id=NAMES[0], role=timeline_pb2.ROLE_CUSTOMER, consent=timeline_pb2.CONSENT_GRANTED)
        ],
        turns=[turn],
    )
    wrong = analyze_pb2.AnalyzeTextRequest(name="Wolfeschlegel's chat", turns=[turn], language="pumpernickel")
    async with watched(Engine(), monkeypatch) as each:
        seen = [item async for item in stream_call(each.channel, recording, config, speed=None)]
        stub = AnalyzeServiceStub(each.channel)
        assert [part async for part in stub.AnalyzeText(chat)]
        with pytest.raises(grpc.aio.AioRpcError, match="INVALID_ARGUMENT"):
            [part async for part in stub.AnalyzeText(wrong)]
        monkeypatch.setattr("affectline.pipelines.chat.ChatSession.push", raising)
        with pytest.raises(grpc.aio.AioRpcError, match="INTERNAL"):
            [part async for part in stub.AnalyzeText(chat)]
        text, found = await fetched(each.server)
        spans = each.spans.get_finished_spans()
    timeline = seen[-1]
    assert isinstance(timeline, CallTimeline)
    stages = {dict(labels)["stage"] for name, labels in found if name == "affectline_stage_seconds_count"}
    assert {"speech_gate", "acoustic_encoder", "recogniser", "voice_affect", "text_affect"} == stages
    models = {dict(labels)["model"] for name, labels in found if name == "affectline_model_loaded"}
    assert "whisper-base@1.int8" in models
    assert found["affectline_utterances_total", ()] == len(timeline.utterances)
    states = {
        (labels["modality"], labels["state"]): value
        for (name, pairs), value in found.items()
        if name == "affectline_modality_moments_total" and (labels := dict(pairs))
    }
    assert states["face", "no_input"] == len(timeline.moments)
    assert states["voice", "present"] > 0
    assert {state for modality, state in states if modality == "voice"} <= {"present", "unfit", "no_input"}
    by_id = {span.context.span_id: span for span in spans}
    recognised = [span for span in spans if span.name == "recogniser"]
    assert recognised
    assert {by_id[span.parent.span_id].name for span in recognised} == {"Analyze"}
    told = "\n".join((json_lines.getvalue(), text, *(span.to_json() for span in spans)))
    assert "in raising" in told  # the failure was logged, with its place
    secret = [*NAMES, "Eulalia", "Wolfeschlegel", *re.findall(r"\w{4,}", SAID)]
    heard = {w for u in timeline.utterances for w in re.findall(r"[^\W\d_]{5,}", u.text.lower())}
    ours = set(re.findall(r"[^\W\d_]{5,}", " ".join(source())))
    assert len(heard - ours) > 15
    words = set(re.findall(r"\w+", told.lower()))
    assert not words & {word.lower() for word in secret} - {"name", "never", "came"}
    assert not words & (heard - ours)


def source() -> Iterator[str]:
    """The program's own words: those of the modules that log, name metrics or begin spans, and of their paths.

    What is for the command line only, and the demo's made-up calls, have no part in that.
    """
    for path in (ROOT / "server").rglob("*.py"):
        if not path.stem.endswith("cli") and path.parent.name != "demo":
            yield path.read_text().lower()


def raising(*_: object) -> None:
    raise RuntimeError(SAID)
