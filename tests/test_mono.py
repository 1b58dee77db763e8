"""Calls whose voices share one channel: split by voice, analysed as parties; from a file, and while they run."""

from dataclasses import replace
from itertools import groupby, repeat
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ as MODELS_RATE_HZ
from affectline.models.signals import F32, AudioChunk, Gap, Span, SpeakerTurn
from affectline.pipelines.media import open_recording
from affectline.pipelines.mono import (
    MonoConfig,
    Splitter,
    Voices,
    analyze_voices,
    find_voices_of,
    speaker_search,
)
from affectline.pipelines.mono_live import MonoSession
from affectline.pipelines.resample import Resampler
from affectline.pipelines.rttm import read_rttm, write_rttm
from affectline.pipelines.session import ConsentChange
from affectline.pipelines.speakers import Turn
from affectline.pipelines.timeline import CallTimeline, Notice, Output, Participant
from affectline.pipelines.turns import whole_turns, with_overlaps
from affectline.server.engine import Engine
from benchmarks.mixes import speech_turns

pytestmark = pytest.mark.integration

EXAMPLE = Path(__file__).parents[1] / "examples" / "dealership_call.flac"
RATE_HZ = 8_000
CONFIG = MonoConfig("a call", RATE_HZ, "granted", language="en")
S_US = 1_000_000


@pytest.fixture(scope="module")
def mono() -> F32:
    """Both sides of the example in one channel."""
    pcm, _ = soundfile.read(EXAMPLE, dtype="float32")
    return np.asarray(pcm.mean(axis=1), np.float32)


@pytest.fixture(scope="module")
def path(mono: F32, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("mono") / "call.wav"
    soundfile.write(found, mono, RATE_HZ)
    return found


@pytest.fixture(scope="module")
def voices(path: Path, engine: Engine) -> Voices:
    return find_voices_of(open_recording(path), CONFIG, engine.models)


@pytest.fixture(scope="module")
def whole(path: Path, engine: Engine, voices: Voices) -> CallTimeline:
    return analyze_voices(open_recording(path), CONFIG, voices, engine.open)


def live(engine: Engine, pcm: F32, config: MonoConfig = CONFIG, step: int = 800) -> tuple[MonoSession, list[Output]]:
    session, outputs = engine.open_mono(config), list[Output]()
    for at in range(0, len(pcm), step):
        outputs += session.push(AudioChunk(0, pcm[at : at + step], RATE_HZ, at))
    return session, outputs + session.finish()


def heard_by(timeline: CallTimeline, party: str) -> set[str]:
    """Modalities that say anything of a party."""
    return {c.modality for m in timeline.moments if m.participant == party for c in m.contributors}


def test_voices_of_a_recording_are_found_with_their_roles(voices: Voices) -> None:
    assert [(party.id, party.role, party.channel) for party in voices.participants] == [
        ("agent", "agent", 0),
        ("customer", "customer", 1),
    ]
    for at_s, speaker in ((3, "agent"), (11, "customer"), (31, "customer"), (48, "agent")):
        now = {t.speaker for t in voices.turns if t.span.start_us <= at_s * S_US < t.span.end_us}
        assert now == {speaker}, at_s


def test_each_voice_is_a_party_and_the_agents_is_not_judged(whole: CallTimeline) -> None:
    said = [(u.participant, u.text.lower()) for u in whole.utterances]
    assert any(who == "agent" and "thank you for calling" in text for who, text in said)
    assert any(who == "customer" and "calling in today" in text for who, text in said)
    assert heard_by(whole, "customer") >= {"voice", "text"}
    assert not heard_by(whole, "agent") & {"voice", "stress"}
    assert {v.participant for v in whole.vocal} == {"customer"}
    assert "voices_told_apart" in {notice.code for notice in whole.notices}


def test_roles_can_be_given_and_turns_corrected(path: Path, engine: Engine, voices: Voices) -> None:
    swapped = find_voices_of(
        open_recording(path), MonoConfig("x", RATE_HZ, "granted", roles=("customer", "agent")), engine.models
    )
    assert [party.id for party in swapped.participants] == ["customer", "agent"]
    turns = with_overlaps([Turn(Span(0, 6 * S_US), "agent"), Turn(Span(5 * S_US, 20 * S_US), "customer")])
    given_turns = find_voices_of(open_recording(path), CONFIG, engine.models, turns=turns)
    assert [party.role for party in given_turns.participants] == ["agent", "customer"]
    assert given_turns.turns == turns
    three = [Turn(Span(n * S_US, (n + 1) * S_US), f"s{n}") for n in range(3)]
    with pytest.raises(InvalidInputError, match="expected a role for each of 3 speakers, found 2"):
        find_voices_of(
            open_recording(path),
            MonoConfig("x", RATE_HZ, "granted", roles=("agent", "customer")),
            engine.models,
            turns=three,
        )


def test_voices_that_have_not_agreed_and_other_recordings_are_refused(path: Path, engine: Engine) -> None:
    with pytest.raises(InvalidInputError, match=r"consent of all voices to be granted .* found pending"):
        find_voices_of(open_recording(path), MonoConfig("x", RATE_HZ, "pending"), engine.models)
    with pytest.raises(InvalidInputError, match=r"consent of all voices to be granted .* found denied"):
        engine.open_mono(MonoConfig("x", RATE_HZ, "denied"))
    with pytest.raises(InvalidInputError, match="expected a recording with one channel of sound, found 2"):
        find_voices_of(open_recording(EXAMPLE), CONFIG, engine.models)
    with pytest.raises(InvalidInputError, match="expected 1 to 6 speakers, found 7"):
        MonoConfig("x", RATE_HZ, "granted", count=7)


class Listed:
    """A diarizer that has its turns from RTTM. Unless it counts, it hears one voice where no number is given."""

    model = "listed@1"

    def __init__(self, text: str, *, counts: bool = True) -> None:
        (self._turns,) = read_rttm(text).values()
        self._counts = counts

    def diarize(self, pcm: F32, rate_hz: int, *, speakers: int | None = None) -> tuple[SpeakerTurn, ...]:
        turns = [turn for turn in self._turns if turn.span.end_us <= len(pcm) * S_US // rate_hz]
        return tuple(turns if self._counts or speakers else (replace(t, speaker="A") for t in turns))


@pytest.fixture(scope="module")
def truth(engine: Engine) -> str:
    """RTTM of the example: its channels tell who speaks when."""
    pcm, _ = soundfile.read(EXAMPLE, dtype="float32")
    found: list[SpeakerTurn] = []
    for name, side in (("SPEAKER_01", pcm[:, 0]), ("SPEAKER_00", pcm[:, 1])):
        resampler = Resampler(RATE_HZ)
        heard = np.concatenate((resampler.feed(np.ascontiguousarray(side)), resampler.finish()))
        found += [SpeakerTurn(turn.span, name) for turn in speech_turns(name, heard, engine.models.gate)]
    # One cuts in on the other; both lines also lie in or beside other ones of the same speaker.
    found += [SpeakerTurn(Span(11 * S_US, 12 * S_US), name) for name in ("SPEAKER_00", "SPEAKER_01")]
    return write_rttm({"call": sorted(found)})


@pytest.mark.parametrize("count", [None, 2])
def test_another_diarizer_takes_the_place_of_our_search(
    path: Path, engine: Engine, truth: str, count: int | None
) -> None:
    models = replace(engine.models, diarizer=Listed(truth, counts=count is None))
    found = find_voices_of(open_recording(path), replace(CONFIG, count=count), models)
    assert [(party.id, party.role) for party in found.participants] == [("agent", "agent"), ("customer", "customer")]
    assert found.diarizer == "listed@1"
    ids = {"SPEAKER_00": "agent", "SPEAKER_01": "customer"}
    expected = [replace(turn, speaker=ids[turn.speaker]) for turn in whole_turns(read_rttm(truth)["call"], "x")]
    assert list(found.turns) == expected
    at_once = {turn.speaker for turn in found.turns if turn.overlap and turn.span == Span(11 * S_US, 12 * S_US)}
    assert at_once == {"agent", "customer"}


def test_the_timeline_names_the_diarizer_that_was_used(
    mono: F32, engine: Engine, voices: Voices, truth: str, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "x.wav", mono[: 10 * RATE_HZ], RATE_HZ)
    config = replace(CONFIG, roles=("agent", "customer"))
    models = replace(engine.models, diarizer=Listed(truth))
    recording = open_recording(tmp_path / "x.wav")
    used = find_voices_of(recording, config, models)
    timeline = analyze_voices(recording, config, used, engine.open)
    assert timeline.models["diarizer"] == "listed@1"
    assert voices.diarizer is None
    given_turns = find_voices_of(recording, config, models, turns=used.turns)
    assert "diarizer" not in analyze_voices(recording, config, given_turns, engine.open).models


def test_what_a_diarizer_cannot_be_given_or_finds_too_much_of_is_told(engine: Engine) -> None:
    many = write_rttm({"x": [SpeakerTurn(Span(0, S_US), f"s{number}") for number in range(7)]})
    models = replace(engine.models, diarizer=Listed(many))
    minute = np.zeros(60 * MODELS_RATE_HZ, np.float32)
    with pytest.raises(InvalidInputError, match="listed@1: expected at most 6 speakers, found 7"):
        speaker_search(models, iter([minute]))(None)
    assert speaker_search(models, iter([]))(None) == ()
    with pytest.raises(InvalidInputError, match="expected at most 2 h of sound with a diarizer"):
        speaker_search(models, repeat(minute))


@pytest.mark.parametrize("kind", ["silence", "music"])
def test_without_speech_there_is_one_party_who_says_nothing(kind: str, engine: Engine, tmp_path: Path) -> None:
    at_s = np.arange(12 * RATE_HZ) / RATE_HZ
    chord = sum(np.sin(2 * np.pi * hz * at_s) for hz in (262, 330, 392)) * (at_s % 0.5 < 0.4) * 0.1
    soundfile.write(tmp_path / "x.wav", np.zeros_like(at_s) if kind == "silence" else chord, RATE_HZ)
    recording = open_recording(tmp_path / "x.wav")
    found = find_voices_of(recording, CONFIG, engine.models)
    timeline = analyze_voices(recording, CONFIG, found, engine.open)
    assert [party.role for party in timeline.participants] == ["customer"]
    assert not timeline.utterances


def test_a_single_voice_stays_one(mono: F32, engine: Engine, tmp_path: Path) -> None:
    pcm, _ = soundfile.read(EXAMPLE, dtype="float32")
    soundfile.write(tmp_path / "x.wav", pcm[:, 0], RATE_HZ)
    found = find_voices_of(open_recording(tmp_path / "x.wav"), CONFIG, engine.models)
    assert [(party.id, party.role) for party in found.participants] == [("customer", "customer")]


def test_live_parties_join_and_voices_wait_for_their_roles(mono: F32, engine: Engine) -> None:
    session, outputs = live(engine, mono)
    known = [item for item in outputs if isinstance(item, Participant)]
    assert [(party.id, party.role) for party in known[:1]] == [("speaker-1", "unknown")]
    assert {party.id: party.role for party in known} == {"speaker-1": "agent", "speaker-2": "customer"}
    timeline = session.timeline()
    assert [(party.id, party.role) for party in timeline.participants] == [
        ("speaker-1", "agent"),
        ("speaker-2", "customer"),
    ]
    assert not heard_by(timeline, "speaker-1") & {"voice", "stress"}
    assert {u.participant for u in timeline.utterances} == {"speaker-1", "speaker-2"}
    # Nothing of a voice is judged before it is said whose it is.
    for number, item in enumerate(outputs):
        if getattr(item, "contributors", None) and "voice" in {c.modality for c in item.contributors}:  # type: ignore[union-attr]
            before = [p for p in outputs[:number] if isinstance(p, Participant) and p.id == item.participant]  # type: ignore[union-attr]
            assert before[-1].role == "customer"
    assert timeline.duration_us == session.received_us == len(mono) * S_US // RATE_HZ


def test_live_with_given_roles_is_judged_from_the_start(mono: F32, engine: Engine) -> None:
    config = MonoConfig("a call", RATE_HZ, "granted", language="en", roles=("agent", "customer"))
    session, _ = live(engine, mono, config)
    timeline = session.timeline()
    assert [party.id for party in timeline.participants] == ["agent", "customer"]
    assert heard_by(timeline, "customer") >= {"voice", "text"}
    assert not heard_by(timeline, "agent") & {"voice", "stress"}


def test_live_chunks_do_not_matter(mono: F32, engine: Engine) -> None:
    pcm = mono[: 20 * RATE_HZ]
    assert live(engine, pcm, step=333)[0].timeline() == live(engine, pcm, step=50_000)[0].timeline()


def test_live_holds_losses_and_consent(mono: F32, engine: Engine) -> None:
    session = engine.open_mono(CONFIG)
    outputs = session.push(AudioChunk(0, mono[: 8 * RATE_HZ], RATE_HZ, 0))
    outputs += session.push(Gap(0, Span(8 * S_US, 11 * S_US), "hold"))
    with pytest.raises(InvalidInputError, match="expected audio of channel 0 at 8000 Hz"):
        session.push(AudioChunk(1, mono[:100], RATE_HZ, 11 * RATE_HZ))
    with pytest.raises(InvalidInputError, match="more than 120 s ahead"):
        session.push(AudioChunk(0, mono[:100], RATE_HZ, 200 * RATE_HZ))
    outputs += session.push(AudioChunk(0, mono[8 * RATE_HZ : 14 * RATE_HZ], RATE_HZ, 12 * RATE_HZ))  # 1 s is lost
    with pytest.raises(InvalidInputError, match="expected the id of a participant"):
        session.push(ConsentChange("speaker-9", "denied"))
    outputs += session.push(ConsentChange("speaker-1", "denied"))
    outputs += session.push(AudioChunk(0, mono[14 * RATE_HZ : 40 * RATE_HZ], RATE_HZ, 18 * RATE_HZ))
    session.finish()
    timeline = session.timeline()
    assert timeline.duration_us == 44 * S_US
    assert not [u for u in timeline.utterances if u.span.start_us > 18 * S_US]
    assert {"consent_changed"} <= {n.code for n in outputs if isinstance(n, Notice)}
    with pytest.raises(InvalidInputError, match="nothing after the end"):
        session.push(AudioChunk(0, mono[:100], RATE_HZ, 44 * RATE_HZ))


TURNS = st.lists(
    st.builds(
        lambda start, length, who: Turn(Span(start * 10_000, (start + length) * 10_000), who),
        st.integers(0, 900),
        st.integers(5, 300),
        st.sampled_from("abc"),
    ),
    max_size=8,
)


@settings(max_examples=50, deadline=None)
@given(turns=TURNS, cuts=st.lists(st.integers(0, 80_000), max_size=6))
def test_the_sound_of_a_turn_goes_to_its_speaker_and_to_nobody_else(turns: list[Turn], cuts: list[int]) -> None:
    pcm = np.full(80_000, 0.5, np.float32)
    channels = {"a": 0, "b": 1, "c": 2}
    split = Splitter(channels, RATE_HZ)
    split.turns += with_overlaps(turns) if turns else ()
    got = {channel: np.zeros(0, np.float32) for channel in channels.values()}
    mixed = {channel: np.zeros(0, bool) for channel in channels.values()}
    at = 0
    for part in np.split(pcm, sorted(cuts)):
        for start, pieces in groupby(split.feed(AudioChunk(0, part, RATE_HZ, at)), lambda piece: piece.start_sample):
            for piece in pieces:
                assert start == len(got[piece.channel])
                got[piece.channel] = np.concatenate((got[piece.channel], piece.pcm))
                mixed[piece.channel] = np.concatenate((mixed[piece.channel], np.full(len(piece.pcm), piece.mixed)))
        at += len(part)
    assert all(len(sound) == len(pcm) for sound in got.values())
    for sample in range(40, 80_000, 400):  # in the middle of a grid cell of 10 ms
        at_us = sample * S_US // RATE_HZ
        now = {t.speaker for t in turns if t.span.start_us <= at_us < t.span.end_us}
        owners = {who for who, channel in channels.items() if got[channel][sample]}
        assert owners == now if now else len(owners) <= 1
        assert all(mixed[channels[who]][sample] == (len(now) > 1) for who in now)
