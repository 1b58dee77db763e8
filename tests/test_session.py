"""A real call through the real networks: what comes out, and what must not."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affectline.models.errors import InvalidInputError
from affectline.models.signals import F32, AudioChunk, Gap, Span, TextEvent, VideoFrame
from affectline.pipelines.media import open_recording
from affectline.pipelines.policy import replay
from affectline.pipelines.recorded import analyze_recording
from affectline.pipelines.session import MAX_NOTED, CallConfig, CallSession, ConsentChange
from affectline.pipelines.timeline import (
    CallTimeline,
    CustomerHistory,
    Dynamics,
    EarlierCall,
    Moment,
    Notice,
    Output,
    Participant,
    Stage,
    Suggestion,
    SuggestionFeedback,
    Utterance,
)
from affectline.server.engine import Engine
from affectline.server.site_store import SiteStore
from benchmarks.stages import follow

pytestmark = pytest.mark.integration

CUSTOMER = Participant("customer", "customer", 0, "granted")
AGENT = Participant("agent", "agent", 1, "granted")
CALL = CallConfig("test", (CUSTOMER, AGENT), 8_000, language="en")


@pytest.fixture(scope="module")
def sound(example: Path) -> F32:
    """[samples, 2] at 8 kHz."""
    pcm, rate_hz = soundfile.read(example, dtype="float32")
    assert rate_hz == CALL.rate_hz
    return np.asarray(pcm)


@pytest.fixture(scope="module")
def whole(engine: Engine, example: Path) -> CallTimeline:
    return analyze_recording(open_recording(example), CALL, engine.open)


def stream(session: CallSession, sound: F32, cuts: Iterable[int] = (), start: int = 0) -> list[Output]:
    """Pushes both channels in chunks that end at `cuts`."""
    found: list[Output] = []
    edges = [0, *cuts, len(sound)]
    for first, after in pairwise(edges):
        for party in range(sound.shape[1]):
            chunk = AudioChunk(party, np.ascontiguousarray(sound[first:after, party]), CALL.rate_hz, start + first)
            found += session.push(chunk)
    return found


def moments_of(timeline: CallTimeline, participant: str) -> list[Moment]:
    return [m for m in timeline.moments if m.participant == participant]


def test_the_example_is_understood(whole: CallTimeline) -> None:
    words = {p: " ".join(u.text for u in whole.utterances if u.participant == p) for p in ("customer", "agent")}
    assert "baffled about how and why the lights" in words["customer"]
    assert "sorry for the inconvenience" in words["agent"]
    assert {u.language for u in whole.utterances} == {"en"}
    assert any(m.affect.label == "confused" and 35_000_000 < m.span.start_us < 45_000_000 for m in whole.moments)
    assert [s.policy.split("@")[0] for s in whole.suggestions if s.kind == "assist"] == ["confusion-simplify"]


def test_every_second_of_every_party_has_one_final_moment(whole: CallTimeline) -> None:
    for participant in ("customer", "agent"):
        seconds = [m.span.start_us for m in moments_of(whole, participant)]
        assert seconds == [s * 1_000_000 for s in range(56)]
    assert all(m.final for m in whole.moments)


def test_a_moment_keeps_its_evidence_or_says_why_there_is_none(whole: CallTimeline) -> None:
    for moment in whole.moments:
        accounted = {c.modality for c in moment.contributors} | {a.modality for a in moment.absent}
        assert accounted == {"voice", "text", "stress", "face"}
        if moment.affect.label != "unknown":
            assert moment.contributors


def test_evidence_of_suggestions_exists(whole: CallTimeline) -> None:
    known = {m.id for m in whole.moments} | {u.id for u in whole.utterances}
    assert whole.suggestions
    for suggestion in whole.suggestions:
        assert set(suggestion.because) <= known
        assert suggestion.expires_us > suggestion.created_us


def test_words_lie_inside_their_utterances_in_order(whole: CallTimeline) -> None:
    for utterance in whole.utterances:
        assert " ".join(w.text for w in utterance.words).split() == utterance.text.split()
        starts = [w.span.start_us for w in utterance.words]
        assert starts == sorted(starts)
        assert all(
            utterance.span.start_us <= w.span.start_us <= w.span.end_us <= utterance.span.end_us
            for w in utterance.words
        )


def test_the_agents_voice_is_not_judged_but_words_and_pace_are(whole: CallTimeline) -> None:
    heard = {c.modality for m in moments_of(whole, "agent") for c in m.contributors}
    assert heard == {"text"}
    assert not [v for v in whole.vocal if v.participant == "agent"]
    (agent,) = (d for d in whole.dynamics if d.participant == "agent")
    assert agent.talk_us > 5_000_000
    assert agent.words_per_minute


def test_a_recorded_basis_turns_the_agents_voice_on(engine: Engine, sound: F32) -> None:
    agent = replace(AGENT, biometric_basis="medical safety study")
    session = engine.open(replace(CALL, participants=(CUSTOMER, agent)))
    stream(session, sound[: 8 * CALL.rate_hz])
    session.finish()
    heard = {c.modality for m in moments_of(session.timeline(), "agent") for c in m.contributors}
    assert "voice" in heard


def test_the_chunks_do_not_show_in_the_timeline(engine: Engine, sound: F32) -> None:
    part = sound[: 20 * CALL.rate_hz]
    odd = np.cumsum(np.random.default_rng(3).integers(1, 4_000, 1_000))
    timelines = []
    for cuts, interim in (((), False), (odd[odd < len(part)].tolist(), True)):
        session = engine.open(replace(CALL, interim_results=interim))
        stream(session, part, cuts)
        session.finish()
        timelines.append(session.timeline())
    assert timelines[0] == timelines[1]


def test_what_sound_waits_for_comes_no_later(engine: Engine, sound: F32) -> None:
    """Sound is looked at in large portions; all that is told of it comes with the same packet as if it were not."""

    class Eager(CallSession):
        _is_due = property(lambda self: True)

    config = replace(CALL, interim_results=True)
    packets = waited = 0
    patient, eager = (kind(config, engine.models, engine.policies) for kind in (CallSession, Eager))
    lost = range(30 * CALL.rate_hz, 31 * CALL.rate_hz)  # while the customer speaks
    for start in range(0, 45 * CALL.rate_hz, 160):
        if start in lost:
            continue
        packet = sound[start : start + 160]
        kept = start != lost.stop and (start + 160) * 1_000_000 // CALL.rate_hz < patient.idle_until_us
        told = [stream(session, packet, start=start) for session in (patient, eager)]
        assert told[0] == told[1]
        assert not (kept and told[0])
        assert start != lost.stop or any(isinstance(item, Utterance) and item.final for item in told[0])
        packets, waited = packets + 1, waited + kept
    assert waited > 0.8 * packets
    assert patient.finish() == eager.finish()


def test_figures_and_stages_told_live_become_those_of_the_timeline(engine: Engine, sound: F32) -> None:
    told, odd = [], np.cumsum(np.random.default_rng(5).integers(1, 9_000, 200))
    for cuts in ((), odd[odd < len(sound)].tolist()):
        session = engine.open(CALL)
        found = [*stream(session, sound, cuts), *session.finish()]
        told.append([item for item in found if isinstance(item, Dynamics | Stage)])
        timeline = session.timeline()
        figures = [item for item in found if isinstance(item, Dynamics)]
        assert figures[-2:] == list(timeline.dynamics)
        assert [f.until_us for f in figures[:-2:2]] == pytest.approx(
            list(range(5_000_000, 56_000_000, 5_000_000)), abs=32_000
        )
        stages: list[Stage] = []
        for stage in (item for item in found if isinstance(item, Stage)):
            stages = follow(stages, [stage])
        assert tuple(stages) == timeline.stages
        assert timeline.stages[0].span.start_us == timeline.utterances[0].span.start_us
        assert timeline.stages[-1].span.end_us == timeline.duration_us
        assert sum(d.interruptions for d in timeline.dynamics) == len(timeline.interruptions)
    assert told[0] == told[1]


def test_interim_results_come_before_the_final_ones(engine: Engine, sound: F32) -> None:
    session = engine.open(replace(CALL, interim_results=True))
    found = stream(session, sound[: 8 * CALL.rate_hz], range(800, 8 * CALL.rate_hz, 800)) + session.finish()
    first: dict[str, bool] = {}
    for item in found:
        if isinstance(item, Utterance | Moment):
            first.setdefault(item.id, item.final)
    partial_ids = {name for name, final in first.items() if not final}
    assert {name[0] for name in partial_ids} == {"u", "m"}
    assert partial_ids <= {item.id for item in found if isinstance(item, Utterance | Moment) and item.final}


@pytest.mark.parametrize("consent", ["pending", "denied"])
def test_without_consent_nothing_is_computed(engine: Engine, sound: F32, consent: str) -> None:
    customer = replace(CUSTOMER, consent=consent)
    session = engine.open(replace(CALL, participants=(customer, AGENT)))
    stream(session, sound[: 12 * CALL.rate_hz])
    session.finish()
    timeline = session.timeline()
    for moment in moments_of(timeline, "customer"):
        assert moment.affect.label == "unknown"
        assert not moment.contributors
        assert {a.reason for a in moment.absent if a.modality != "face"} == {f"consent {consent}"}
        assert moment.level_dbfs is None
    assert not [x for x in (*timeline.utterances, *timeline.speech, *timeline.vocal) if x.participant == "customer"]


def test_consent_counts_from_when_it_is_given_and_until_it_is_taken_back(engine: Engine, sound: F32) -> None:
    rate = CALL.rate_hz
    session = engine.open(replace(CALL, participants=(replace(CUSTOMER, consent="pending"), AGENT)))
    stream(session, sound[: 12 * rate])
    session.push(ConsentChange("customer", "granted"))
    stream(session, sound[12 * rate : 30 * rate], start=12 * rate)
    session.push(ConsentChange("customer", "denied"))
    stream(session, sound[30 * rate : 43 * rate], start=30 * rate)
    session.finish()
    spans = [u.span for u in session.timeline().utterances if u.participant == "customer"]
    assert spans
    assert min(s.start_us for s in spans) >= 12_000_000
    assert max(s.end_us for s in spans) <= 30_100_000
    assert [n.code for n in session.timeline().notices].count("consent_changed") == 2


def test_hold_is_a_stated_absence(engine: Engine, sound: F32) -> None:
    rate = CALL.rate_hz
    session = engine.open(CALL)
    stream(session, sound[: 8 * rate])
    for channel in (0, 1):
        session.push(Gap(channel, Span(8_000_000, 18_000_000), "hold"))
    stream(session, sound[8 * rate : 13 * rate], start=18 * rate)
    session.finish()
    timeline = session.timeline()
    assert timeline.duration_us == 23_000_000
    held = [m for m in moments_of(timeline, "customer") if 9_000_000 <= m.span.start_us < 17_000_000]
    assert {a.reason for m in held for a in m.absent if a.modality != "face"} == {"hold"}
    assert timeline.dynamics[0].silence_us < 9_000_000
    (waiting,) = (s for s in timeline.stages if s.name == "hold")
    assert 7_000_000 < waiting.span.start_us <= 8_100_000
    assert waiting.span.end_us >= 18_000_000


def test_a_channel_that_stops_does_not_stop_the_other(engine: Engine, sound: F32) -> None:
    session = engine.open(CALL)
    found: list[Output] = []
    for start in range(0, 20 * CALL.rate_hz, 8_000):
        found += session.push(AudioChunk(0, sound[start : start + 8_000, 0].copy(), CALL.rate_hz, start))
    assert [item for item in found if isinstance(item, Utterance) and item.participant == "customer"]
    assert session.final_us > 10_000_000


def test_silence_noise_and_tones_claim_nothing(engine: Engine) -> None:
    rate, seconds = 16_000, 6
    time_s = np.arange(seconds * rate) / rate
    noise = np.random.default_rng(1).normal(0, 0.05, len(time_s))
    for pcm in (np.zeros(len(time_s)), noise, 0.3 * np.sin(2 * np.pi * 440 * time_s)):
        session = engine.open(CallConfig("quiet", (CUSTOMER,), rate))
        session.push(AudioChunk(0, pcm.astype(np.float32), rate, 0))
        session.finish()
        timeline = session.timeline()
        assert {m.affect.label for m in timeline.moments} == {"unknown"}
        assert not timeline.utterances
        assert not timeline.suggestions
        assert "no_speech" in {n.code for n in timeline.notices}


def test_written_turns_count_as_words(engine: Engine) -> None:
    session = engine.open(CallConfig("chat", (CUSTOMER,), 16_000))
    session.push(AudioChunk(0, np.zeros(16_000 * 3, np.float32), 16_000, 0))
    session.push(TextEvent("customer", "This is ridiculous, I want to speak to a supervisor!", 3_500_000))
    session.push(AudioChunk(0, np.zeros(16_000 * 3, np.float32), 16_000, 16_000 * 3))
    session.finish()
    written = [m for m in session.timeline().moments if m.contributors]
    assert {m.affect.label for m in written} <= {"angry", "frustrated"}
    assert [m.span.start_us for m in written] == [3_000_000, 4_000_000, 5_000_000], "ten words, three a second"


def test_a_written_promise_is_a_fact(engine: Engine) -> None:
    session = engine.open(CallConfig("chat", (CUSTOMER, AGENT), 16_000))
    session.push(TextEvent("customer", "My router is broken.", 0))
    session.push(TextEvent("agent", "I'm sorry. I'll send you a new one tomorrow.", 2_000_000))
    session.finish()
    timeline = session.timeline()
    assert [(f.kind, f.text) for f in timeline.facts] == [
        ("issue", "My router is broken."),
        ("commitment", "I'll send you a new one tomorrow."),
    ]
    assert timeline.facts[0].text in timeline.summary.lines[0]


def test_video_is_answered_with_one_notice(engine: Engine) -> None:
    session = engine.open(CALL)
    frame = VideoFrame("front", np.zeros((4, 4, 3), np.uint8), 0)
    replies = [session.push(frame), session.push(frame)]
    assert [type(item) for reply in replies for item in reply] == [Notice]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"participants": ()}, "at least one participant"),
        ({"participants": (CUSTOMER, CUSTOMER)}, "ids of their own"),
        ({"participants": (CUSTOMER, replace(AGENT, channel=0))}, "channel of its own"),
        ({"participants": (replace(CUSTOMER, channel=8),)}, "from 0 to 7"),
        ({"rate_hz": 4_000}, "8000 to 192000"),
        ({"language": "klingon"}, "found 'klingon'"),
    ],
)
def test_a_contradictory_configuration_is_refused(engine: Engine, changes: dict[str, object], expected: str) -> None:
    with pytest.raises(InvalidInputError, match=expected):
        engine.open(replace(CALL, **changes))  # type: ignore[arg-type]


def test_bad_input_leaves_the_call_as_it_was(engine: Engine, sound: F32) -> None:
    session = engine.open(CALL)
    stream(session, sound[: CALL.rate_hz])
    for item in (
        AudioChunk(5, sound[:80, 0], CALL.rate_hz, 0),
        AudioChunk(0, sound[:80, 0], 16_000, CALL.rate_hz),
        TextEvent("nobody", "hello", 0),
        ConsentChange("nobody", "granted"),
    ):
        with pytest.raises(InvalidInputError, match="expected"):
            session.push(item)
    stream(session, sound[CALL.rate_hz : 7 * CALL.rate_hz], start=CALL.rate_hz)
    session.finish()
    assert session.timeline().duration_us == 7_000_000
    assert session.timeline().utterances
    with pytest.raises(InvalidInputError, match="after the end"):
        session.push(TextEvent("customer", "hello?", 0))


def test_feedback_on_a_suggestion_is_kept_and_the_last_word_counts(engine: Engine, sound: F32) -> None:
    history = CustomerHistory((EarlierCall(3, "angry", "unresolved"),))
    session = engine.open(replace(CALL, history=history))
    found = stream(session, sound[: 8 * CALL.rate_hz])
    (greeting,) = (item for item in found if isinstance(item, Suggestion))
    assert greeting.policy == "greet-after-trouble@1"
    assert greeting.because == ()
    assert session.push(SuggestionFeedback(greeting.id, "accepted", 5_000_000)) == []
    corrected = SuggestionFeedback(greeting.id, "corrected", 6_000_000, "sad", "She is Anna, call 555 123 4567.")
    (notice,) = session.push(corrected)
    assert isinstance(notice, Notice)
    assert (notice.code, notice.message) == (
        "feedback_replaced",
        "Feedback on suggestion s1 is corrected; before it was accepted.",
    )
    for wrong in (
        SuggestionFeedback("s7", "accepted", 6_000_000),
        SuggestionFeedback(greeting.id, "corrected", 6_000_000),
        SuggestionFeedback(greeting.id, "accepted", 6_000_000, "sad"),
        SuggestionFeedback(greeting.id, "corrected", 6_000_000, None, "x" * 501),
        SuggestionFeedback(greeting.id, "accepted", -1),
    ):
        with pytest.raises(InvalidInputError):
            session.push(wrong)
    session.finish()
    timeline = session.timeline()
    (kept,) = timeline.feedback
    assert (kept.suggestion_id, kept.verdict, kept.label) == ("s1", "corrected", "sad")
    assert "555" not in kept.text
    assert greeting.created_us < kept.at_us <= session.received_us
    assert timeline.history == history
    assert replay(engine.policies, timeline) == list(timeline.suggestions)


def test_a_sender_of_bad_messages_fills_no_memory(engine: Engine) -> None:
    session = engine.open(CALL)
    for _ in range(MAX_NOTED + 10):
        session.note(Notice("unusable_input", "not usable", 0))
    session.note(Notice("call_too_long", "ended", 0))
    assert len(session.timeline().notices) == MAX_NOTED + 1


def test_an_empty_call_ends_cleanly(engine: Engine) -> None:
    session = engine.open(CALL)
    assert not [item for item in session.finish() if isinstance(item, Suggestion | Moment)]
    assert session.timeline().duration_us == 0


def test_the_site_baseline_learns_from_a_call_and_judges_the_next(example: Path, tmp_path: Path) -> None:
    engine = Engine(site=tmp_path)
    first = analyze_recording(open_recording(example), CALL, engine.open)
    with np.load(tmp_path / "voice-open@1-telephone.npz") as learnt:
        assert learnt["windows"].sum() >= 10
    usual = engine.models.voice.usual
    for _ in range(10):  # many calls on a line that shifts every feature
        SiteStore(tmp_path, "voice-open@1", usual).learn(CALL.rate_hz, np.tile(usual.mean + usual.deviation, (60, 1)))
    later = analyze_recording(open_recording(example), CALL, engine.open)
    assert [u.text for u in later.utterances] == [u.text for u in first.utterances]
    assert voices(later) != voices(first)


def voices(timeline: CallTimeline) -> list[object]:
    return [c.estimate.scores.labels for m in timeline.moments for c in m.contributors if c.modality == "voice"]


def test_a_restricted_model_is_used_only_by_who_accepts_it() -> None:
    with pytest.raises(InvalidInputError, match=r"non-commercial.*--accept-license"):
        Engine(voice_model="voice-research")
