"""Messages to types and back."""

import struct
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pytest

from affectline.models.errors import CapacityError, InvalidInputError
from affectline.models.labels import Label
from affectline.models.signals import (
    AffectEstimate,
    AffectScores,
    AudioChunk,
    EncodedFrame,
    Gap,
    GapReason,
    Modality,
    Span,
    TextEvent,
    VocalFeatures,
    Word,
)
from affectline.pipelines.routing import Evidence, Reason, Recommendation
from affectline.pipelines.session import ConsentChange
from affectline.pipelines.timeline import (
    Absence,
    Affect,
    CallOutcome,
    CallTimeline,
    Camera,
    ChangePoint,
    Consent,
    Contributor,
    CustomerHistory,
    Driver,
    DriverKind,
    Dynamics,
    EarlierCall,
    Fact,
    Highlight,
    Interruption,
    Moment,
    Notice,
    Participant,
    PartyScores,
    Role,
    Score,
    SpeechTurn,
    Stage,
    StageName,
    Suggestion,
    SuggestionFeedback,
    SuggestionKind,
    Summary,
    Toward,
    Trajectory,
    Utterance,
    Verdict,
    VideoCodec,
    VocalSummary,
)
from affectline.protos.v1 import analyze_pb2, recordings_pb2, routing_pb2, timeline_pb2
from affectline.server import wire

pytestmark = pytest.mark.unit

PARTICIPANTS = (
    Participant("caller", "customer", 0, "granted"),
    Participant("anna", "agent", 1, "granted", "works council agreement"),
    Participant("interpreter", "other", 2),
)
UTTERANCE = Utterance(
    id="u1",
    span=Span(1_000_000, 2_500_000),
    participant="caller",
    text="Grüezi, tschüss",
    words=(Word("Grüezi,", Span(1_000_000, 1_400_000), 0.9), Word("tschüss", Span(1_500_000, 2_000_000), 0.0)),
    language="de",
    confidence=0.83,
    final=True,
    revision=2,
    translation="",
)
ESTIMATE = AffectEstimate(
    span=Span(0, 1_000_000),
    participant="caller",
    modality="voice",
    scores=AffectScores({"angry": 0.75, "neutral": 0.25}, -0.7, 0.0, None, 0.6, ("loud", "fast"), anger_odds=-0.1),
    quality=0.9,
    model="voice@1",
)
MOMENT = Moment(
    id="caller/0",
    span=Span(0, 1_000_000),
    participant="caller",
    affect=Affect("angry", 0.1 + 0.2, {"angry": 0.1 + 0.2, "neutral": 0.7}, -0.5, 0.0, None),
    contributors=(
        Contributor("voice", 0.6, ESTIMATE),
        Contributor(
            "text",
            0.4,
            AffectEstimate(Span(0, 5), "caller", "text", AffectScores(None, 0.0, None, None, 1.0), 0.0, "t@2"),
        ),
    ),
    absent=(Absence("face", "no camera"),),
    stress=0.0,
    level_dbfs=-23.5,
    speech_ratio=0.4,
    revision=2,
    final=True,
    live=Affect("neutral", 0.6, {"angry": 0.4, "neutral": 0.6}, None, 0.25, None),
    anger=0.0,
)
SILENT = Moment(
    "anna/0", Span(0, 1_000_000), "anna", Affect("unknown", 0.0, {}, None, None, None), (), (), None, None, 0.0, 0, True
)
SUGGESTION = Suggestion(
    id="s1",
    kind="assist",
    action="say:acknowledge",
    text="Acknowledge the wait.",
    reason="Angry for 12 s.",
    participant="caller",
    because=("caller/0", "u1"),
    confidence=0.7,
    priority="high",
    created_us=1,
    expires_us=2,
    policy="default@1",
    revision=2,
)
VOCAL = VocalSummary(
    "u1",
    "caller",
    Span(0, 9),
    VocalFeatures(
        f0_median_hz=180.0, jitter=0.0, voiced_ratio=0.5, alpha_ratio_db=-14.5, quality=0.4, flaws=("clipped",)
    ),
    {"f0_median_hz": 1.5},
    True,
)
TIMELINE = CallTimeline(
    name="a call",
    duration_us=2_500_000,
    rate_hz=8_000,
    participants=PARTICIPANTS,
    utterances=(UTTERANCE,),
    moments=(MOMENT, SILENT),
    suggestions=(SUGGESTION,),
    speech=(SpeechTurn("caller", Span(0, 7)),),
    vocal=(VOCAL,),
    dynamics=(
        Dynamics("caller", 10, 0.5, 1, 2, 3, None),
        Dynamics("anna", 10, 0.5, 1, 2, 3, 144.5, 9, 1, 4, 0.4, 2, 5, 6, 133.5, 7, 8),
    ),
    summary=Summary(("It went well.",), (Highlight("caller/0", 5, "caller", "angry", 0.3, "tschüss", "the loudest"),)),
    notices=(Notice("clipped_audio", "The audio is clipped.", 3, "caller"),),
    models={"voice_affect": "voice@1"},
    facts=(Fact("commitment", "anna", UTTERANCE.id, Span(3, 5), "I'll call you back."),),
    feedback=(
        SuggestionFeedback("s1", "dismissed", 7),
        SuggestionFeedback("s2", "corrected", 9, "anxious", "He was worried about the cost."),
    ),
    history=CustomerHistory((EarlierCall(2.5, "angry", "unresolved", "a bill", "a refund"), EarlierCall(0))),
    scores=(
        PartyScores(
            "caller",
            Score(Span(0, 2_500_000), -1.25, 1_000_000, {"angry": 0.75, "neutral": 0.25}),
            (Score(Span(0, 625_000), 0.0, 5, {"neutral": 1.0}), Score(Span(625_000, 2_500_000), None, 0, {})),
            "up_and_down",
            (Driver("negative", "cue", "churn", 0.5), Driver("positive", "modality", "voice", 1.0)),
        ),
    ),
    interruptions=(Interruption("anna", "caller", Span(3, 7), 4, successful=True),),
    changes=(ChangePoint("caller", 7, "neutral", "angry", 0.75),),
    stages=(Stage("s-0", "identification", Span(1, 9), 0.75, (UTTERANCE.id,)),),
)


@pytest.mark.parametrize(
    "item",
    [
        UTTERANCE,
        MOMENT,
        SILENT,
        SUGGESTION,
        TIMELINE.speech[0],
        VOCAL,
        TIMELINE.notices[0],
        *TIMELINE.dynamics,
        *TIMELINE.stages,
        Notice("x", "y", 0),
        wire.Cursor(5, 3),
    ],
)
def test_replies_survive_the_wire(item: wire.Reply) -> None:
    sent = wire.reply(item).SerializeToString()
    assert wire.reply_from_wire(analyze_pb2.AnalyzeResponse.FromString(sent)) == item


def test_timeline_survives_the_wire() -> None:
    (part,) = wire.timeline_parts(TIMELINE)
    sent = timeline_pb2.Timeline.FromString(part.SerializeToString())
    assert wire.timeline_from_parts([sent]) == TIMELINE


def test_a_long_timeline_comes_in_parts_below_the_default_limit() -> None:
    timeline = CallTimeline(**{**_fields(TIMELINE), "moments": (MOMENT,) * 10_000, "utterances": (UTTERANCE,) * 500})
    parts = list(wire.timeline_parts(timeline))
    assert len(parts) > 2
    assert max(part.ByteSize() for part in parts) < 2**21
    assert wire.timeline_from_parts(parts) == timeline
    joined = timeline_pb2.Timeline.FromString(b"".join(part.SerializeToString() for part in parts))
    assert wire.timeline_from_parts([joined]) == timeline


def _fields(timeline: CallTimeline) -> dict[str, Any]:
    return {name: getattr(timeline, name) for name in CallTimeline.__dataclass_fields__}


@pytest.mark.parametrize(
    ("ours", "values"),
    [
        (Role, wire.ROLES),
        (Trajectory, wire.TRAJECTORIES),
        (Toward, wire.TOWARDS),
        (DriverKind, wire.DRIVER_KINDS),
        (Consent, wire.CONSENTS),
        (Label, wire.EMOTIONS),
        (Modality, wire.MODALITIES),
        (SuggestionKind, wire.KINDS),
        (StageName, wire.STAGES),
        (GapReason, wire.GAP_REASONS | {"consent withdrawn": None}),
        (Verdict, wire.VERDICTS),
        (CallOutcome, wire.OUTCOMES),
        (Evidence, wire.ROUTING_EVIDENCE),
        (VideoCodec, wire.VIDEO_CODECS),
    ],
)
def test_every_name_has_a_value_on_the_wire(ours: Any, values: Mapping[str, object]) -> None:
    assert set(get_args(ours)) == set(values)


def config_message(**changes: Any) -> analyze_pb2.CallConfig:
    fields: dict[str, Any] = {
        "name": "a call",
        "participants": [
            wire.participant(Participant("caller", "customer", 0, "granted")),
            party(id="anna", role="ROLE_AGENT", channel=1),
        ],
        "encoding": "AUDIO_ENCODING_LINEAR16",
        "sample_rate_hertz": 8_000,
        "audio_channel_count": 2,
    }
    return analyze_pb2.CallConfig(**{**fields, **changes})


def party(**changes: Any) -> timeline_pb2.Participant:
    fields: dict[str, Any] = {"id": "x", "role": "ROLE_OTHER", "channel": 0, **changes}
    return timeline_pb2.Participant(**fields)


def test_config_is_read_as_it_was_written() -> None:
    config, audio = wire.read_call_config(config_message(language="de", interim_results=True))
    assert wire.read_call_config(wire.call_config(config, audio).config) == (config, audio)
    assert (config.language, config.interim_results) == ("de", True)
    assert audio == wire.AudioFormat("linear16", 8_000, 2)


def test_unsaid_consent_is_pending_and_no_basis_is_none() -> None:
    config, _ = wire.read_call_config(config_message())
    assert [each.consent for each in config.participants] == ["granted", "pending"]
    assert config.participants[1].biometric_basis is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "config.name"),
        ({"name": "x" * 257}, "config.name"),
        ({"participants": []}, "config.participants"),
        ({"participants": [party(id=str(n), channel=n) for n in range(9)]}, "config.participants"),
        ({"participants": [party(), party(channel=1)]}, "config.participants[1].id"),
        ({"participants": [party(), party(id="y")]}, "config.participants[1].channel"),
        ({"participants": [party(channel=2)]}, "config.participants[0].channel"),
        ({"participants": [party(channel=-1)]}, "config.participants[0].channel"),
        ({"participants": [party(id="")]}, "config.participants[0].id"),
        ({"participants": [party(role=0)]}, "config.participants[0].role"),
        ({"participants": [party(role=77)]}, "config.participants[0].role"),
        ({"participants": [party(consent=77)]}, "config.participants[0].consent"),
        ({"participants": [party(biometric_basis="x" * 257)]}, "config.participants[0].biometric_basis"),
        ({"encoding": 0}, "config.encoding"),
        ({"encoding": 77}, "config.encoding"),
        ({"sample_rate_hertz": 7_999}, "config.sample_rate_hertz"),
        ({"sample_rate_hertz": 192_001}, "config.sample_rate_hertz"),
        ({"audio_channel_count": 9}, "config.audio_channel_count"),
        ({"language": "English"}, "config.language"),
    ],
)
def test_bad_config_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(wire.MessageError) as caught:
        wire.read_call_config(config_message(**changes))
    assert [name for name, _ in caught.value.problems] == [field]
    assert all("expected" in problem and "found" in problem for _, problem in caught.value.problems)


def test_bad_config_names_all_fields_at_once() -> None:
    with pytest.raises(wire.MessageError) as caught:
        wire.read_call_config(analyze_pb2.CallConfig())
    assert {name for name, _ in caught.value.problems} == {
        "config.name",
        "config.encoding",
        "config.sample_rate_hertz",
        "config.audio_channel_count",
        "config.participants",
    }


def test_recording_config_needs_no_audio_format() -> None:
    message = recordings_pb2.RecordingConfig(name="a call", participants=[party(channel=7)], request_id="r1")
    config = wire.read_recording_config(message)
    assert (config.name, config.participants[0].channel, config.request_id) == ("a call", 7, "r1")
    assert (config.video_participant, config.ignore_video) == (None, False)
    message.video_participant = "x"
    assert wire.read_recording_config(message).video_participant == "x"
    message.ignore_video = True
    with pytest.raises(wire.MessageError, match="ignore_video: expected it not to be set with a video_participant"):
        wire.read_recording_config(message)
    message.video_participant = "nobody"
    with pytest.raises(wire.MessageError, match="video_participant: expected the id of a participant"):
        wire.read_recording_config(message)
    message.video_participant = ""
    assert wire.read_recording_config(message).ignore_video
    message.participants[0].channel = 8
    message.request_id = "x" * 129
    with pytest.raises(wire.MessageError, match=r"request_id.*channel"):
        wire.read_recording_config(message)


def reader(max_us: int = 60_000_000, **changes: Any) -> wire.CallReader:
    return wire.CallReader(*wire.read_call_config(config_message(**changes)), max_us)


LOUDEST_MULAW = 32_124 / 32_768
LOUDEST_ALAW = 32_256 / 32_768


def audio(data: bytes, start_sample: int | None = None) -> analyze_pb2.AnalyzeRequest:
    return analyze_pb2.AnalyzeRequest(audio=analyze_pb2.Audio(data=data, start_sample=start_sample))


@pytest.mark.parametrize(
    ("encoding", "data", "expected"),
    [
        ("AUDIO_ENCODING_LINEAR16", struct.pack("<4h", -32_768, 0, 16_384, 8_192), [[-1, 0.5], [0, 0.25]]),
        ("AUDIO_ENCODING_FLOAT32", struct.pack("<4f", -1, 0, 0.5, 2), [[-1, 0.5], [0, 1]]),
        ("AUDIO_ENCODING_MULAW", b"\x00\xff\x80\xff", [[-32_124 / 32_768, 32_124 / 32_768], [0, 0]]),
        (
            "AUDIO_ENCODING_ALAW",
            b"\x2a\xaa\xaa\x2a",
            [[-32_256 / 32_768, 32_256 / 32_768], [32_256 / 32_768, -32_256 / 32_768]],
        ),
    ],
)
def test_interleaved_audio_becomes_a_chunk_per_party(encoding: str, data: bytes, expected: list[list[float]]) -> None:
    chunks: list[Any] = reader(encoding=encoding).read(audio(data))
    assert [(each.channel, each.rate_hz, each.start_sample) for each in chunks] == [(0, 8_000, 0), (1, 8_000, 0)]
    np.testing.assert_array_equal([each.pcm for each in chunks], expected)


def test_channels_without_a_party_are_not_looked_at() -> None:
    (chunk,) = reader(participants=[party(channel=1)]).read(audio(struct.pack("<2h", 1, 16_384)))
    assert isinstance(chunk, AudioChunk)
    assert (chunk.channel, chunk.pcm.tolist()) == (1, [0.5])


def starts(inputs: list[Any]) -> set[int]:
    return {chunk.start_sample for chunk in inputs}


def test_place_in_the_audio_is_kept() -> None:
    call = reader()
    frame = bytes(4 * 80)
    assert starts(call.read(audio(frame))) == {0}
    assert starts(call.read(audio(frame))) == {80}
    assert starts(call.read(audio(frame, 1_000))) == {1_000}
    with pytest.raises(InvalidInputError, match=r"from sample 1080 on .* found sample 1000"):
        call.read(audio(frame, 1_000))
    assert starts(call.read(audio(frame))) == {1_080}
    assert call.received_us == 145_000


def test_half_a_sample_breaks_the_protocol() -> None:
    with pytest.raises(wire.MessageError, match=r"multiple of 4 bytes.*found 7"):
        reader().read(audio(bytes(7)))


def test_samples_that_are_no_numbers_are_left_out_and_counted() -> None:
    call = reader(encoding="AUDIO_ENCODING_FLOAT32")
    with pytest.raises(InvalidInputError, match="finite"):
        call.read(audio(struct.pack("<2f", float("nan"), 0)))
    assert starts(call.read(audio(bytes(8)))) == {1}


@pytest.mark.parametrize("start_sample", [None, 8_000, 80_000])
def test_the_longest_call_is_kept_to(start_sample: int | None) -> None:
    call = reader(max_us=1_000_000)
    call.read(audio(bytes(4 * 8_000)))
    with pytest.raises(CapacityError, match="at most 1 s"):
        call.read(audio(bytes(4), start_sample))


@pytest.mark.parametrize("start_sample", [-1, 3_600 * 8_000 + 1, 2**62])
def test_impossible_jumps_leave_the_place_as_it_was(start_sample: int) -> None:
    call = reader(max_us=2**62)
    with pytest.raises(InvalidInputError, match="at most 120 s ahead"):
        call.read(audio(bytes(4), start_sample))
    assert starts(call.read(audio(bytes(4)))) == {0}


def gap(duration_us: int, reason: GapReason | None = "hold") -> analyze_pb2.AnalyzeRequest:
    value = wire.GAP_REASONS[reason] if reason else analyze_pb2.GAP_REASON_UNSPECIFIED
    return analyze_pb2.AnalyzeRequest(gap=analyze_pb2.Gap(duration_us=duration_us, reason=value))


def test_audio_goes_on_after_a_gap() -> None:
    call = reader()
    call.read(audio(bytes(4 * 8_000)))
    span = Span(1_000_000, 1_500_000)
    assert call.read(gap(500_000)) == [Gap(0, span, "hold"), Gap(1, span, "hold")]
    assert starts(call.read(audio(bytes(4)))) == {12_000}
    with pytest.raises(CapacityError, match="at most 60 s"):
        call.read(gap(100_000_000))


@pytest.mark.parametrize(
    "message",
    [
        gap(0),
        gap(-1),
        gap(2**62),
        gap(8, None),
        analyze_pb2.AnalyzeRequest(text=analyze_pb2.TextEvent(participant="caller", text="x" * 16_385)),
        analyze_pb2.AnalyzeRequest(text=analyze_pb2.TextEvent(participant="caller", text="hello", at_us=-1)),
        analyze_pb2.AnalyzeRequest(video=analyze_pb2.VideoFrame(at_us=2**62)),
    ],
)
def test_unusable_events_do_not_break_the_protocol(message: analyze_pb2.AnalyzeRequest) -> None:
    with pytest.raises(InvalidInputError, match=r"expected .*found") as caught:
        reader().read(message)
    assert not isinstance(caught.value, wire.MessageError)


def consent(participant: str, value: int = 0, basis: str | None = None) -> analyze_pb2.AnalyzeRequest:
    fields: dict[str, Any] = {"participant": participant, "consent": value, "biometric_basis": basis}
    return analyze_pb2.AnalyzeRequest(consent=analyze_pb2.ConsentChange(**fields))


def test_cameras_are_read_as_they_were_written_and_slips_are_named() -> None:
    front, rear = wire.FACINGS["front"], wire.FACINGS["rear"]

    def camera(name: str, party: str, facing: Any) -> analyze_pb2.Camera:
        return analyze_pb2.Camera(id=name, participant=party, facing=facing)

    config, audio = wire.read_call_config(
        config_message(cameras=[camera("face", "anna", front), camera("back", "anna", rear)])
    )
    assert config.cameras == (Camera("face", "anna", "front"), Camera("back", "anna", "rear"))
    assert wire.read_call_config(wire.call_config(config, audio).config) == (config, audio)
    streamed = analyze_pb2.Camera(
        id="face", participant="anna", facing=front, codec=wire.VIDEO_CODECS["h264"], rotation_degrees=270
    )
    config, audio = wire.read_call_config(config_message(cameras=[streamed]))
    assert config.cameras == (Camera("face", "anna", "front", "h264", 270),)
    assert wire.read_call_config(wire.call_config(config, audio).config) == (config, audio)
    slips = [camera("", "anna", front), camera("b", "nobody", rear), camera("c", "anna", 0), camera("c", "anna", front)]
    slips[1].codec, slips[1].rotation_degrees = 77, 45  # type: ignore[assignment]
    with pytest.raises(wire.MessageError) as caught:
        wire.read_call_config(config_message(cameras=slips))
    fields = [field for field, _ in caught.value.problems]
    assert fields == [
        "config.cameras[0].id",
        "config.cameras[1].participant",
        "config.cameras[1].codec",
        "config.cameras[1].rotation_degrees",
        "config.cameras[2].facing",
        "config.cameras[3].id",
        "config.cameras[3].facing",
    ]


def test_text_video_and_consent() -> None:
    call = reader()
    text = analyze_pb2.TextEvent(participant="anna", text="hello", at_us=5)
    assert call.read(analyze_pb2.AnalyzeRequest(text=text)) == [TextEvent("anna", "hello", 5)]
    picture = analyze_pb2.VideoFrame(camera="front", image=b"JPEG", at_us=7)
    assert call.read(analyze_pb2.AnalyzeRequest(video=picture)) == [EncodedFrame("front", b"JPEG", 7)]
    granted = wire.CONSENTS["granted"]
    assert call.read(consent("anna", granted, "agreement")) == [ConsentChange("anna", "granted", "agreement")]
    assert call.read(consent("anna")) == [ConsentChange("anna", "pending")]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (consent("nobody"), "consent.participant"),
        (consent("anna", 77), "consent.consent"),
        (consent("anna", 1, "x" * 257), "consent.biometric_basis"),
        (analyze_pb2.AnalyzeRequest(config=config_message()), "config"),
        (analyze_pb2.AnalyzeRequest(), "step"),
    ],
)
def test_breaches_of_the_protocol(message: analyze_pb2.AnalyzeRequest, field: str) -> None:
    with pytest.raises(wire.MessageError) as caught:
        reader().read(message)
    assert [name for name, _ in caught.value.problems] == [field]


def text_request(**changes: Any) -> analyze_pb2.AnalyzeTextRequest:
    fields: dict[str, Any] = {
        "name": "a chat",
        "participants": [party(channel=77), party(id="anna", role="ROLE_AGENT", channel=77)],
        "turns": [text_turn(at_us=5), text_turn(participant="anna", at_us=5, language="de")],
    }
    return analyze_pb2.AnalyzeTextRequest(**fields | changes)


def text_turn(**changes: Any) -> analyze_pb2.TextEvent:
    return analyze_pb2.TextEvent(**{"participant": "x", "text": " hello\n", **changes})


def test_a_written_conversation_is_read_and_its_channels_are_not_looked_at() -> None:
    config, turns = wire.read_text_request(text_request(language="fr"))
    assert (config.name, [p.id for p in config.participants], config.language) == ("a chat", ["x", "anna"], "fr")
    assert turns == [TextEvent("x", "hello", 5), TextEvent("anna", "hello", 5, "de")]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 257}, "name"),
        ({"language": "English"}, "language"),
        ({"participants": []}, "participants"),
        ({"participants": [party(id=str(n)) for n in range(17)]}, "participants"),
        ({"participants": [party(), party(id="anna"), party()]}, "participants[2].id"),
        ({"participants": [party(), party(id="anna", role=0)]}, "participants[1].role"),
        ({"participants": [party(), party(id="anna", consent=77)]}, "participants[1].consent"),
        ({"turns": [text_turn(participant="boss")]}, "turns[0].participant"),
        ({"turns": [text_turn(text=" ")]}, "turns[0].text"),
        ({"turns": [text_turn(text="x" * 16_385)]}, "turns[0].text"),
        ({"turns": [text_turn(at_us=-1)]}, "turns[0].at_us"),
        ({"turns": [text_turn(at_us=1_777_000_000_000_000)]}, "turns[0].at_us"),
        ({"turns": [text_turn(at_us=2), text_turn(at_us=1)]}, "turns[1].at_us"),
        ({"turns": [text_turn(language="")]}, "turns[0].language"),
        ({"turns": [text_turn()] * 5_001}, "turns"),
    ],
)
def test_a_bad_written_conversation_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(wire.MessageError, match="expected") as caught:
        wire.read_text_request(text_request(**changes))
    assert [name for name, _ in caught.value.problems] == [field]


# Feedback and history


def feedback(**changes: Any) -> analyze_pb2.AnalyzeRequest:
    fields = {"suggestion_id": "s1", "verdict": 1, "at_us": 5, **changes}
    return analyze_pb2.AnalyzeRequest(feedback=timeline_pb2.SuggestionFeedback(**fields))


def test_feedback_is_read_as_it_was_written() -> None:
    for given in TIMELINE.feedback:
        message = analyze_pb2.AnalyzeRequest(feedback=wire.suggestion_feedback(given))
        assert reader().read(message) == [given]


@pytest.mark.parametrize("changes", [{"verdict": 0}, {"verdict": 9}, {"correction_emotion": 99}, {"at_us": -1}])
def test_unusable_feedback_does_not_break_the_protocol(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        reader().read(feedback(**changes))
    assert not isinstance(refusal.value, wire.MessageError)


def earlier(*calls: dict[str, Any]) -> timeline_pb2.CustomerHistory:
    return timeline_pb2.CustomerHistory(calls=[timeline_pb2.EarlierCall(**call) for call in calls])


def test_history_comes_with_the_configuration() -> None:
    config, _ = wire.read_call_config(config_message(history=earlier({"days_ago": 2, "mood": 5, "topic": "a bill"})))
    assert config.history == CustomerHistory((EarlierCall(2.0, "angry", topic="a bill"),))
    assert wire.read_call_config(config_message())[0].history is None
    again = wire.call_config(config, wire.AudioFormat("linear16", 8_000, 2)).config
    assert wire.read_call_config(again)[0].history == config.history


BAD_HISTORIES = [
    ({"days_ago": -1}, "calls[0].days_ago"),
    ({"days_ago": float("nan")}, "calls[0].days_ago"),
    ({"days_ago": 1, "mood": 99}, "calls[0].mood"),
    ({"days_ago": 1, "outcome": 99}, "calls[0].outcome"),
    ({"days_ago": 1, "topic": "x" * 65}, "calls[0].topic"),
    ({"days_ago": 1, "open_promise": "x" * 257}, "calls[0].open_promise"),
]


@pytest.mark.parametrize(("call", "field"), BAD_HISTORIES)
def test_a_bad_history_names_the_field(call: dict[str, Any], field: str) -> None:
    with pytest.raises(wire.MessageError) as refusal:
        wire.read_call_config(config_message(history=earlier(call)))
    assert [name for name, _ in refusal.value.problems] == [f"config.history.{field}"]
    with pytest.raises(wire.MessageError) as refusal:
        wire.read_recommend_request(routing_pb2.RecommendRequest(history=earlier(call)))
    assert [name for name, _ in refusal.value.problems] == [f"history.{field}"]


def test_a_long_history_is_refused() -> None:
    with pytest.raises(wire.MessageError, match=r"config.history.calls: expected at most 100, found 101"):
        wire.read_call_config(config_message(history=earlier(*[{"days_ago": 1}] * 101)))


# Routing


def test_a_recommendation_is_written_whole() -> None:
    answer = Recommendation(
        queue="retention",
        priority="high",
        skills=("patience",),
        greeting="Hello.",
        reasons=(Reason("Angry.", "mood", ("m1",)), Reason("A note.", None)),
        confidence=0.5,
        used=("mood",),
        withheld=("the call: no consent",),
        rule="angry",
        config="ours@1",
    )
    sent = wire.recommendation(answer).recommendation
    assert (sent.queue, sent.priority, list(sent.skills), sent.greeting) == ("retention", 3, ["patience"], "Hello.")
    assert [(r.text, r.evidence, list(r.because)) for r in sent.reasons] == [("Angry.", 6, ["m1"]), ("A note.", 0, [])]
    assert (sent.confidence, list(sent.used), list(sent.withheld)) == (0.5, [6], ["the call: no consent"])
    assert (sent.rule, sent.config) == ("angry", "ours@1")


def test_a_request_is_read_and_the_menu_heard_only_with_consent() -> None:
    message = routing_pb2.RecommendRequest(intent="Bill", menu_choice="2", ivr_utterances=[" It is wrong. "], consent=1)
    context, said, language = wire.read_recommend_request(message)
    assert (context.intent, context.choice, said, language) == ("Bill", "2", ("It is wrong.",), None)
    assert context.ivr is None
    message.consent = 2
    context, said, _ = wire.read_recommend_request(message)
    assert said == ()
    assert context.ivr is not None
    assert [p.consent for p in context.ivr.participants] == ["pending"]
    message.consent, message.emotion_routing_objected = 1, True
    assert wire.read_recommend_request(message)[1] == ()


def test_the_call_so_far_is_read_from_its_timeline() -> None:
    (part,) = wire.timeline_parts(TIMELINE)
    context, _, _ = wire.read_recommend_request(routing_pb2.RecommendRequest(call=part))
    assert context.call is not None
    assert context.call.moments == TIMELINE.moments
    assert context.call.utterances == TIMELINE.utterances


def broken_call(change: str) -> timeline_pb2.Timeline:
    (part,) = wire.timeline_parts(TIMELINE)
    match change:
        case "emotion":
            part.moments[0].affect.emotion = 99  # type: ignore[assignment]
        case "span":
            part.moments[0].span.end_us = -5
        case "cue":
            part.utterances[0].cues.add(kind=99)  # type: ignore[arg-type]
    return part


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"intent": "x" * 65}, "intent"),
        ({"product": "x" * 65}, "product"),
        ({"menu_choice": "x" * 65}, "menu_choice"),
        ({"ivr_utterances": ["x"] * 51}, "ivr_utterances"),
        ({"ivr_utterances": ["ok", " "]}, "ivr_utterances[1]"),
        ({"ivr_utterances": ["x" * 2_001]}, "ivr_utterances[0]"),
        ({"language": "english"}, "language"),
        ({"consent": 9}, "consent"),
        ({"call": timeline_pb2.Timeline()}, "call.participants"),
        ({"call": broken_call("emotion")}, "call"),
        ({"call": broken_call("span")}, "call"),
        ({"call": broken_call("cue")}, "call"),
    ],
)
def test_a_bad_request_names_the_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(wire.MessageError) as refusal:
        wire.read_recommend_request(routing_pb2.RecommendRequest(**changes))
    assert [name for name, _ in refusal.value.problems] == [field]
