"""Calls with all voices on one channel, over gRPC and on the command line."""

from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from affectline.models.errors import InvalidInputError
from affectline.pipelines.media import open_recording
from affectline.pipelines.mono import MonoConfig
from affectline.pipelines.timeline import CallTimeline, Participant
from affectline.pipelines.turns import read_rttm
from affectline.protos.v1 import analyze_pb2, recordings_pb2, timeline_pb2
from affectline.protos.v1.analyze_pb2_grpc import AnalyzeServiceStub
from affectline.protos.v1.recordings_pb2_grpc import RecordingServiceStub
from affectline.server import wire
from affectline.server.cli import app
from affectline.server.client import stream_call
from affectline.server.config import ServerConfig
from affectline.server.engine import Engine
from affectline.server.main import Server

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[1] / "examples" / "dealership_call.flac"
RATE_HZ = 8_000
GRANTED = timeline_pb2.CONSENT_GRANTED


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pcm, _ = soundfile.read(EXAMPLE, dtype="float32")
    found = tmp_path_factory.mktemp("mono") / "call.wav"
    soundfile.write(found, pcm[: 30 * RATE_HZ].mean(axis=1), RATE_HZ)
    return found


@pytest.fixture
async def channel(engine: Engine) -> AsyncIterator[grpc.aio.Channel]:
    server = Server(ServerConfig(listen="127.0.0.1:0", workers=2))
    port = await server.start()
    try:
        await server.load(lambda: engine)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as found:
            yield found
    finally:
        await server.stop()


async def test_a_streamed_call_tells_who_is_found(channel: grpc.aio.Channel, path: Path) -> None:
    config = MonoConfig("a call", RATE_HZ, "granted", language="en")
    replies = [each async for each in stream_call(channel, open_recording(path), config, speed=None)]
    timeline = replies.pop()
    assert isinstance(timeline, CallTimeline)
    told = {each.id: each.role for each in replies if isinstance(each, Participant)}
    assert told == {party.id: party.role for party in timeline.participants}
    assert told["speaker-1"] == "agent"
    assert set(told) == {"speaker-1", "speaker-2"}


async def test_a_voice_that_may_not_be_heard_is_refused(channel: grpc.aio.Channel) -> None:
    message = wire.mono_config(MonoConfig("a call", RATE_HZ, "pending"), wire.AudioFormat("float32", RATE_HZ, 1))
    with pytest.raises(grpc.aio.AioRpcError, match=r"config.voices.consent: expected granted"):
        [each async for each in AnalyzeServiceStub(channel).Analyze(iter([message]))]


async def test_a_recording_job_finds_voices(channel: grpc.aio.Channel, path: Path) -> None:
    stub = RecordingServiceStub(channel)
    roles = [timeline_pb2.ROLE_AGENT, timeline_pb2.ROLE_CUSTOMER]
    voices = timeline_pb2.MixedVoices(consent=GRANTED, roles=roles)

    def steps() -> Iterator[recordings_pb2.CreateRecordingJobRequest]:
        message = recordings_pb2.RecordingConfig(name="a call", voices=voices, language="en")
        yield recordings_pb2.CreateRecordingJobRequest(config=message)
        yield recordings_pb2.CreateRecordingJobRequest(data=path.read_bytes())

    job = (await stub.CreateRecordingJob(steps())).job
    async for response in stub.WatchRecordingJob(recordings_pb2.WatchRecordingJobRequest(id=job.id)):
        job = response.job
    assert job.error == ""
    request = recordings_pb2.GetRecordingTimelineRequest(id=job.id)
    timeline = wire.timeline_from_parts([part.timeline async for part in stub.GetRecordingTimeline(request)])
    assert [(party.id, party.role) for party in timeline.participants] == [("agent", "agent"), ("customer", "customer")]
    assert {u.participant for u in timeline.utterances} == {"agent", "customer"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([str(EXAMPLE), "--diarizer", "x"], "expected one channel that carries all voices with --speakers, --turns or"),
        (["CALL", "--diarizer", "x", "--turns", __file__], "expected --turns or --diarizer, found both"),
        (["CALL", "--diarizer", "silero"], "expected a model for diarizer of pyannote"),
    ],
)
def test_a_diarizer_that_cannot_be_used_is_told(path: Path, engine: Engine, options: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["analyze", *(str(path) if each == "CALL" else each for each in options)])
    assert result.exit_code != 0
    assert said in " ".join(result.output.split())


@pytest.mark.skipif(find_spec("torch") is not None, reason="pyannote.audio may be installed")
def test_without_the_extra_it_is_told_how_to_get_it(engine: Engine) -> None:
    with pytest.raises(InvalidInputError, match=r"pip install 'affectline\[pyannote\]'"):
        Engine(diarizer="some/pipeline")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"audio_channel_count": 2}, "config.audio_channel_count"),
        ({"participants": [wire.participant(Participant("x", "customer", 0))]}, "config.participants"),
        ({"voices": {"count": 7}}, "config.voices.count"),
        ({"voices": {"count": -1}}, "config.voices.count"),
        ({"voices": {"roles": [timeline_pb2.ROLE_UNKNOWN]}}, "config.voices.roles"),
        ({"voices": {"roles": [0]}}, "config.voices.roles"),
        ({"voices": {"roles": [1] * 7}}, "config.voices.roles"),
        ({"voices": {"roles": [1], "count": 1}}, "config.voices.roles"),
        ({"voices": {"consent": timeline_pb2.CONSENT_DENIED}}, "config.voices.consent"),
        ({"voices": {"biometric_basis": "x" * 257}}, "config.voices.biometric_basis"),
        ({"cameras": [analyze_pb2.Camera(id="c")]}, "config.cameras"),
        ({"history": timeline_pb2.CustomerHistory()}, "config.history"),
    ],
)
def test_what_does_not_go_with_mixed_voices_is_named(changes: dict[str, Any], field: str) -> None:
    message = analyze_pb2.CallConfig(
        name="x",
        encoding=analyze_pb2.AUDIO_ENCODING_LINEAR16,
        sample_rate_hertz=RATE_HZ,
        audio_channel_count=1,
        voices=timeline_pb2.MixedVoices(consent=GRANTED),
    )
    assert wire.read_call_config(message)[0] == MonoConfig("x", RATE_HZ, "granted")
    if "audio_channel_count" in changes:
        message.audio_channel_count = changes.pop("audio_channel_count")
    message.MergeFrom(analyze_pb2.CallConfig(**changes))
    with pytest.raises(wire.MessageError) as caught:
        wire.read_call_config(message)
    assert field in [name for name, _ in caught.value.problems]


def test_the_command_line_tells_voices_apart(path: Path, tmp_path: Path) -> None:
    rttm, html = tmp_path / "out.rttm", tmp_path / "out.html"
    shown = CliRunner().invoke(app, ["analyze", str(path), "--rttm", str(rttm), "--html", str(html), "--with-audio"])
    assert shown.exit_code == 0, shown.output
    assert "2 voices told apart: agent (" in shown.stdout
    assert "--speakers customer,agent" in shown.stdout
    assert {turn.speaker for turn in read_rttm(rttm.read_text(), "out.rttm")} == {"agent", "customer"}
    assert html.stat().st_size > 50_000
    text = rttm.read_text().replace(" agent ", " x ").replace(" customer ", " agent ").replace(" x ", " customer ")
    rttm.write_text(text)
    again = CliRunner().invoke(app, ["analyze", str(path), "--turns", str(rttm)])
    assert "· customer, agent" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--speakers", "boss"], "expected --speakers as a number or of customer, agent, other; found 'boss'"),
        (["--speakers", "9"], "expected 1 to 6 speakers, found 9"),
        (["--speakers", "2", "--channels", "customer"], "expected one channel that carries all voices"),
        (["--speakers", "2", "--consent", "denied"], "expected the consent of all voices to be granted"),
    ],
)
def test_the_command_line_says_what_is_wrong(arguments: list[str], error: str, path: Path) -> None:
    shown = CliRunner().invoke(app, ["analyze", str(path), *arguments])
    assert shown.exit_code == 1
    assert error in " ".join(shown.output.split())


def test_one_voice_is_the_customers(tmp_path: Path) -> None:
    pcm, _ = soundfile.read(EXAMPLE, dtype="float32")
    soundfile.write(tmp_path / "x.wav", np.ascontiguousarray(pcm[7 * RATE_HZ : 20 * RATE_HZ, 0]), RATE_HZ)
    shown = CliRunner().invoke(app, ["analyze", str(tmp_path / "x.wav")])
    assert "One channel, one voice: everything heard is taken as the customer's." in " ".join(shown.stdout.split())
