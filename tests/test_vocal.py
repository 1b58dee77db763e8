import csv
import json
import pickle
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import parselmouth
import pytest
import scipy.signal
import soundfile
import soxr
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from parselmouth.praat import call

from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32, VocalFeatures
from affectline.pipelines.vocal import (
    CALM_STRESS,
    FRAME_SAMPLES,
    MODEL,
    SpeakerBaseline,
    VocalStream,
    stress,
    vocal_features,
)

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[1]
EMODB = ROOT.parent / "shared" / "data" / "emodb"
needs_emodb = pytest.mark.skipif(not EMODB.is_dir(), reason=f"no EmoDB recordings in {EMODB}")
F64 = npt.NDArray[np.float64]


def glide(start_hz: float, end_hz: float, seconds: float = 2.0, harmonics: int = 12) -> F32:
    """A harmonic tone whose pitch moves evenly in semitones."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    f0 = start_hz * (end_hz / start_hz) ** (t / seconds)
    phase = 2 * np.pi * np.cumsum(f0) / RATE_HZ
    return sum((np.sin(k * phase) / k for k in range(1, harmonics + 1)), np.zeros(len(t))).astype(np.float32) * 0.2


def pulses(period_s: F64, amplitude: F64) -> F32:
    """A vowel-like sound from glottal pulses with these periods and amplitudes."""
    starts = np.cumsum(period_s)
    t = np.arange(int((starts[-1] + 0.02) * RATE_HZ)) / RATE_HZ
    pcm = np.zeros(len(t))
    for start, loudness in zip(starts, amplitude, strict=True):
        since = np.maximum(t - start, 0)
        ring = np.exp(-600 * since) * np.sin(2 * np.pi * 500 * since) + np.exp(-900 * since) * np.sin(
            2 * np.pi * 1_500 * since
        )
        pcm += loudness * ring
    return (0.3 * pcm).astype(np.float32)


def speech_like(seconds: float = 3.0, f0_hz: float = 140.0, syllables_s: float = 4.0) -> F32:
    """Pulses with a moving pitch through moving formants, swelling with each syllable."""
    random = np.random.default_rng(4)
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    semitones = 2 * np.sin(2 * np.pi * 0.7 * t) + np.sin(2 * np.pi * 1.9 * t + 1) - 0.5 * t
    turns = np.floor(np.cumsum(f0_hz * 2 ** (semitones / 12)) / RATE_HZ)
    pcm = (np.diff(turns, prepend=0) > 0) * (1 + 0.05 * random.standard_normal(len(t)))
    for middle_hz, reach_hz, pace_hz, band_hz in ((500, 200, 2.3, 80), (1_500, 500, 1.7, 120), (2_500, 200, 1.1, 160)):
        state = np.zeros(2)
        radius = np.exp(-np.pi * band_hz / RATE_HZ)
        for start in range(0, len(t), 160):
            formant_hz = middle_hz + reach_hz * np.sin(2 * np.pi * pace_hz * t[start])
            poles = (1, -2 * radius * np.cos(2 * np.pi * formant_hz / RATE_HZ), radius**2)
            pcm[start : start + 160], state = scipy.signal.lfilter(
                [1 - radius], poles, pcm[start : start + 160], zi=state
            )
    swell = 0.05 + 0.95 * np.abs(np.sin(np.pi * syllables_s * t))
    return (0.5 * swell * pcm / np.abs(pcm).max()).astype(np.float32)


def local(values: F64) -> float:
    return float(np.abs(np.diff(values)).mean() / values.mean())


@pytest.mark.parametrize(("start_hz", "end_hz"), [(100, 100), (70, 110), (150, 250), (400, 220), (440, 480)])
def test_pitch_of_a_glide(start_hz: float, end_hz: float) -> None:
    found = vocal_features(glide(start_hz, end_hz))
    semitones = 12 * np.log2(end_hz / start_hz)
    assert found.f0_median_hz == pytest.approx(np.sqrt(start_hz * end_hz), rel=0.01)
    assert found.f0_range_semitones == pytest.approx(0.8 * abs(semitones), abs=0.15)
    assert found.f0_slope_semitones_s == pytest.approx(semitones / 2, abs=0.1)
    assert found.f0_deviation_semitones == pytest.approx(abs(semitones) / np.sqrt(12), abs=0.1)
    assert found.voiced_ratio > 0.95


@pytest.mark.parametrize("snr_db", [5, 10, 15, 20, 30])
def test_harmonicity_is_the_ratio_of_tone_to_noise(snr_db: float) -> None:
    tone = glide(150, 150)
    noise = np.random.default_rng(0).standard_normal(len(tone)) * tone.std() * 10 ** (-snr_db / 20)
    found = vocal_features((tone + noise).astype(np.float32))
    assert found.hnr_db == pytest.approx(snr_db, abs=1.0)


@pytest.mark.parametrize("f0_hz", [90, 150, 260])
@pytest.mark.parametrize("perturbation", [0.003, 0.01, 0.03])
def test_jitter_and_shimmer_of_known_pulses(f0_hz: float, perturbation: float) -> None:
    random = np.random.default_rng(1)
    count = int(2 * f0_hz)
    steady = np.full(count, 1 / f0_hz)
    moved = steady * (1 + perturbation * random.standard_normal(count))
    louder = 1 + 3 * perturbation * random.standard_normal(count)

    jitter = vocal_features(pulses(moved, np.ones(count))).jitter
    assert jitter == pytest.approx(local(moved), rel=0.2, abs=0.0012)
    assert vocal_features(pulses(steady, louder)).shimmer == pytest.approx(local(louder), rel=0.2, abs=0.005)
    calm = vocal_features(pulses(steady, np.ones(count)))
    assert calm.jitter is not None
    assert calm.jitter < 0.0015
    assert calm.shimmer is not None
    assert calm.shimmer < 0.02


@pytest.mark.parametrize("syllables_s", [2, 4, 6])
def test_rate_counts_swells_of_a_voice(syllables_s: int) -> None:
    tone = glide(140, 120, seconds=3)
    t = np.arange(len(tone)) / RATE_HZ
    swell = (0.05 + 0.95 * np.sin(np.pi * syllables_s * t) ** 2).astype(np.float32)
    assert vocal_features(tone * swell).rate_syllables_s == pytest.approx(syllables_s, abs=0.4)


def test_only_speech_counts() -> None:
    speech = np.repeat([True, False, True], 31)
    tone = glide(200, 200, seconds=93 * FRAME_SAMPLES / RATE_HZ)
    other = glide(90, 90, seconds=93 * FRAME_SAMPLES / RATE_HZ) * 2
    found = vocal_features(np.where(np.repeat(speech, FRAME_SAMPLES), tone, other), speech)
    assert found.f0_median_hz == pytest.approx(200, rel=0.01)
    assert found.pause_ratio == pytest.approx(1 / 3)
    assert found.intensity_db == pytest.approx(20 * np.log10(tone.std()), abs=0.1)
    assert found.voiced_ratio > 0.95


def test_pauses_lie_between_first_and_last_speech() -> None:
    speech = np.array([False] * 20 + [True] * 30 + [False] * 10 + [True] * 20 + [False] * 40)
    found = vocal_features(speech_like(len(speech) * FRAME_SAMPLES / RATE_HZ), speech)
    assert found.pause_ratio == pytest.approx(1 / 6)


@pytest.mark.parametrize("tilt_db_octave", [-12, -6, 0])
def test_spectral_shape_follows_the_spectrum(tilt_db_octave: float) -> None:
    t = np.arange(2 * RATE_HZ) / RATE_HZ
    numbers = np.arange(1, 50)
    levels = 10 ** (tilt_db_octave * np.log2(numbers) / 20)
    voice = sum(a * np.sin(2 * np.pi * 100 * k * t + k**2) for k, a in zip(numbers, levels, strict=True))
    found = vocal_features((0.02 * voice).astype(np.float32))
    power = levels**2
    # The harmonic at 1 kHz lies on the border and belongs to both bands, half of it to each.
    low, high = power[:9].sum() + power[9] / 2, power[10:].sum() + power[9] / 2
    assert found.alpha_ratio_db == pytest.approx(10 * np.log10(high / low), abs=0.3)
    assert found.hammarberg_db == pytest.approx(10 * np.log10(power[:20].max() / power[20:].max()), abs=1.5)
    octaves = np.polyfit(numbers[4:15] / 10, tilt_db_octave * np.log2(numbers[4:15]), 1)[0]
    assert found.spectral_slope_db_khz == pytest.approx(octaves, abs=2.0)


def test_level_changes_intensity_only() -> None:
    tone = glide(150, 180)
    quiet, loud = vocal_features(tone * np.float32(0.125)), vocal_features(tone)
    assert quiet.intensity_db is not None
    assert loud.intensity_db == pytest.approx(quiet.intensity_db + 20 * np.log10(8))
    for name in (
        "f0_median_hz",
        "f0_range_semitones",
        "hnr_db",
        "jitter",
        "shimmer",
        "rate_syllables_s",
        "alpha_ratio_db",
    ):
        assert getattr(loud, name) == pytest.approx(getattr(quiet, name), rel=1e-3, abs=1e-5)


def test_what_the_input_cannot_carry_is_none() -> None:
    nothing = VocalFeatures(flaws=("no speech",))
    assert vocal_features(np.empty(0, np.float32)) == nothing
    assert vocal_features(np.zeros(RATE_HZ, np.float32)) == nothing
    tone = glide(150, 150)
    assert vocal_features(tone, np.zeros(63, np.bool_)) == nothing
    brief = vocal_features(tone[:800])
    assert brief == VocalFeatures(intensity_db=brief.intensity_db, pause_ratio=0.0, flaws=("too little speech",))
    assert vocal_features(tone[:4_000]).f0_slope_semitones_s is None


@pytest.mark.parametrize("samples", [1, 2, 159, 160, 161, 511, 513, 1_600, 1_601, 2_000, 4_801])
def test_any_length_is_taken(samples: int) -> None:
    tone = glide(150, 150)[:samples]
    assert vocal_features(tone).intensity_db is not None
    assert vocal_features(tone, np.array([False, True])).flaws


# Sound that is not speech ------------------------------------------------------------------------------


def tones(*spans: tuple[float, float, tuple[float, ...]], seconds: float = 3.0) -> F32:
    """Sines of these (start_s, end_s, frequencies_hz)."""
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    pcm = np.zeros(len(t))
    for start_s, end_s, frequencies_hz in spans:
        inside = (t >= start_s) & (t < end_s)
        pcm[inside] += sum(0.2 * np.sin(2 * np.pi * f * t[inside]) for f in frequencies_hz)
    return pcm.astype(np.float32)


def hiss(low_hz: float, high_hz: float, swells_s: float) -> F32:
    """Noise of a band, swelling and fading."""
    t = np.arange(3 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(0).standard_normal(len(t)) * np.abs(np.sin(np.pi * swells_s * t))
    band = scipy.signal.butter(2, (low_hz, high_hz), "bandpass", fs=RATE_HZ, output="sos")
    return (0.1 * scipy.signal.sosfilt(band, noise)).astype(np.float32)


KEYS_HZ = ((697, 1_209), (770, 1_336), (852, 1_477), (941, 1_633), (697, 1_477), (852, 1_209))
CHORDS_HZ = [[root * m * h for m in (1, 1.26, 1.5) for h in (1, 2, 3)] for root in (220, 262, 196, 247)]
NOT_VOICES = {
    "tone": (tones((0, 3, (440,))), "steady tones"),
    "ring-back": (tones((0.5, 2.5, (440, 480))), "steady tones"),
    "dial tone": (tones((0, 3, (350, 440))), "steady tones"),
    "DTMF": (tones(*((0.3 * i, 0.3 * i + 0.15, key) for i, key in enumerate(KEYS_HZ))), "steady tones"),
    "chords": (tones(*((0.7 * i, 0.7 * i + 0.7, tuple(c)) for i, c in enumerate(CHORDS_HZ))), "steady tones"),
    "breath": (hiss(300, 2_500, 0.5), "hardly any voice"),
    "whisper": (hiss(400, 4_000, 4), "hardly any voice"),
}


@pytest.mark.parametrize("line_noise", [0.0, 0.003])
@pytest.mark.parametrize("name", NOT_VOICES)
def test_what_is_no_voice_is_unfit_and_says_why(name: str, line_noise: float) -> None:
    pcm, flaw = NOT_VOICES[name]
    noise = np.random.default_rng(1).standard_normal(len(pcm)).astype(np.float32) * np.float32(line_noise)
    found = vocal_features(pcm + noise)
    assert flaw in found.flaws
    assert found.quality < SpeakerBaseline.MIN_QUALITY
    assert not SpeakerBaseline().fits(found)
    if flaw == "hardly any voice":
        assert found.f0_median_hz is None
        assert found.hnr_db is None


def test_speech_is_fit() -> None:
    for f0_hz in (100, 140, 220, 320):
        found = vocal_features(speech_like(f0_hz=f0_hz))
        assert found.quality == pytest.approx(1, abs=0.05)
        assert found.flaws == ()


@pytest.mark.parametrize("level", [1.0, 0.3])
def test_clipping_is_found_at_any_level(level: float) -> None:
    clipped = np.clip(speech_like() * np.float32(20), -1, 1) * np.float32(level)
    assert vocal_features(clipped).flaws == ("clipped",)
    assert vocal_features(clipped).quality < 0.75


def test_a_fifth_of_a_second_is_too_little() -> None:
    found = vocal_features(speech_like()[8_000:11_200])
    assert found.flaws == ("too little speech",)
    assert found.quality < 0.3
    assert found.rate_syllables_s is None


# Streaming ---------------------------------------------------------------------------------------------


def streamed(pcm: F32, speech: npt.NDArray[np.bool_], cuts: list[int], start_sample: int) -> list[tuple[object, ...]]:
    """All seconds and the whole, of sound fed in pieces."""
    stream = VocalStream(start_sample)
    seconds = []
    for start, end in zip([0, *cuts], [*cuts, len(pcm)], strict=True):
        seconds += stream.feed(pcm[start:end], speech[start:end])
    seconds += stream.finish()
    return [(second, *astuple(features)) for second, features in seconds] + [astuple(stream.features())]


SPOKEN = speech_like(4.3)
IS_SPEECH = np.repeat(np.random.default_rng(3).random(27) < 0.8, 2_560)[: len(SPOKEN)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, len(SPOKEN)), max_size=12).map(sorted), st.integers(0, 3 * RATE_HZ))
def test_pieces_do_not_matter(cuts: list[int], start_sample: int) -> None:
    assert streamed(SPOKEN, IS_SPEECH, cuts, start_sample) == streamed(SPOKEN, IS_SPEECH, [], start_sample)


def test_the_whole_of_a_stream_is_the_batch_result() -> None:
    frames = np.repeat([True, False, True, True], 40)
    pcm = speech_like(len(frames) * FRAME_SAMPLES / RATE_HZ)
    stream = VocalStream()
    for start in range(0, len(pcm), 100):
        stream.feed(pcm[start : start + 100], frames.repeat(FRAME_SAMPLES)[start : start + 100])
    stream.finish()
    assert stream.features() == vocal_features(pcm, frames)


def test_seconds_are_those_of_the_call_and_come_as_they_end() -> None:
    stream = VocalStream(start_sample=5 * RATE_HZ + RATE_HZ // 4)
    pcm = np.concatenate((speech_like(1.75, 120), speech_like(1.5, 240)))
    early = stream.feed(pcm[: int(0.95 * RATE_HZ)], True)
    late = stream.feed(pcm[int(0.95 * RATE_HZ) :], True) + stream.finish()
    assert [second for second, _ in early] == [5]
    assert [second for second, _ in late] == [6, 7, 8]
    by_second = dict(early + late)
    assert by_second[6].f0_median_hz < 170 < by_second[7].f0_median_hz


def test_memory_is_constant_and_the_last_half_minute_counts() -> None:
    stream = VocalStream()
    sizes = []
    for f0_hz in (90, 90, 90, 90, 200, 200, 200, 200):
        stream.feed(speech_like(10, f0_hz), True)
        sizes.append(len(pickle.dumps(stream)))
    assert sizes[-1] == pytest.approx(sizes[3], rel=0.01)
    assert stream.features().f0_median_hz == pytest.approx(vocal_features(speech_like(10, 200)).f0_median_hz, rel=0.02)


# Comparison with Praat ---------------------------------------------------------------------------------


def by_praat(pcm: F32) -> dict[str, float]:
    """The same features from Praat: its standard settings, our pitch range, within an octave of the median."""
    sound = parselmouth.Sound(pcm.astype(np.float64), RATE_HZ)
    pitch = call(sound, "To Pitch (ac)", 0.01, 60, 15, False, 0.03, 0.45, 0.01, 0.35, 0.14, 500)
    f0 = pitch.selected_array["frequency"]
    usual = np.median(f0[f0 > 0])
    voiced = (f0 >= usual / 2) & (f0 <= usual * 2)
    semitones = 12 * np.log2(f0[voiced])
    points = call([sound, pitch], "To PointProcess (cc)")
    low, high = np.percentile(semitones, (10, 90))
    alpha, hammarberg, slope = np.mean([shape_by_praat(sound, t) for t in pitch.xs()[voiced]], axis=0)
    return {
        "intensity_db": 20 * np.log10(call(sound, "Get root-mean-square", 0, 0)),
        "alpha_ratio_db": alpha,
        "hammarberg_db": hammarberg,
        "spectral_slope_db_khz": slope,
        "f0_median_hz": float(np.median(f0[voiced])),
        "f0_range_semitones": float(high - low),
        "f0_slope_semitones_s": float(np.polyfit(pitch.xs()[voiced], semitones, 1)[0]),
        "f0_deviation_semitones": float(semitones.std(ddof=1)),
        "jitter": call(points, "Get jitter (local)", 0, 0, 0.0001, 0.02, 1.3),
        "shimmer": call([sound, points], "Get shimmer (local)", 0, 0, 0.0001, 0.02, 1.3, 1.6),
        "hnr_db": call(call(sound, "To Harmonicity (ac)", 0.01, 60, 0.1, 3.0), "Get mean", 0, 0),
        "voiced_ratio": float(voiced.mean()),
        "rate_syllables_s": nuclei_by_praat(sound, pitch) / sound.duration,
    }


def shape_by_praat(sound: parselmouth.Sound, at_s: float) -> tuple[float, float, float]:
    """eGeMAPS' alpha ratio, Hammarberg index and slope of one frame's spectrum."""
    frame = sound.extract_part(at_s - 0.025, at_s + 0.025, parselmouth.WindowShape.HANNING)
    spectrum = call(frame, "To Spectrum", False)
    alpha = spectrum.get_band_energy(1_000, 5_000) / spectrum.get_band_energy(50, 1_000)
    power, hz = np.square(spectrum.values).sum(axis=0), spectrum.xs()
    hammarberg = power[hz <= 2_000].max() / power[(hz >= 2_000) & (hz <= 5_000)].max()
    band = (hz >= 500) & (hz <= 1_500)
    slope = np.polyfit(hz[band] / 1_000, 10 * np.log10(power[band]), 1)[0]
    return 10 * np.log10(alpha), 10 * np.log10(hammarberg), slope


def nuclei_by_praat(sound: parselmouth.Sound, pitch: parselmouth.Pitch) -> int:
    """The steps of de Jong & Wempe's script "Praat Script Syllable Nuclei", version 2."""
    intensity = call(sound, "To Intensity", 50, 0, True)
    level, times = intensity.values[0], intensity.xs()
    floor = max(call(intensity, "Get quantile", 0, 0, 0.99) - 25, level.min())
    peaks = [i for i in range(1, len(level) - 1) if level[i - 1] < level[i] >= level[i + 1] and level[i] > floor]
    nuclei = [
        i
        for i, following in zip(peaks, [*peaks[1:], len(level) - 1], strict=True)
        if level[i] - level[i : following + 1].min() > 2
    ]
    return sum(not np.isnan(call(pitch, "Get value at time", times[i], "Hertz", "Linear")) for i in nuclei)


def test_praat_agrees_on_synthetic_voices() -> None:
    random = np.random.default_rng(2)
    for f0_hz in (90, 150, 260):
        count = int(2 * f0_hz)
        voice = pulses((1 + 0.01 * random.standard_normal(count)) / f0_hz, 1 + 0.03 * random.standard_normal(count))
        voice += random.standard_normal(len(voice)).astype(np.float32) * np.float32(0.002)
        found, expected = vocal_features(voice), by_praat(voice)
        assert found.f0_median_hz == pytest.approx(expected["f0_median_hz"], rel=0.005)
        assert found.jitter == pytest.approx(expected["jitter"], rel=0.15)
        assert found.shimmer == pytest.approx(expected["shimmer"], rel=0.25)
        assert found.hnr_db == pytest.approx(expected["hnr_db"], abs=2.0)


def test_praat_agrees_on_speech_like_sound() -> None:
    for f0_hz in (100, 140, 220, 320):
        pcm = speech_like(f0_hz=f0_hz)
        found, expected = vocal_features(pcm), by_praat(pcm)
        for name, (_, tolerance) in TOLERANCES.items():
            assert getattr(found, name) == pytest.approx(expected[name], abs=tolerance), name


# Feature -> largest median and largest 90th percentile of |ours - Praat's| over the clips.
TOLERANCES = {
    "f0_median_hz": (1.0, 3.0),
    "f0_range_semitones": (0.2, 0.8),
    "f0_slope_semitones_s": (0.1, 0.5),
    "f0_deviation_semitones": (0.1, 0.5),
    "jitter": (0.003, 0.007),
    "shimmer": (0.008, 0.02),
    "hnr_db": (1.2, 3.0),
    "voiced_ratio": (0.02, 0.04),
    "rate_syllables_s": (0.4, 1.2),
    "intensity_db": (0.01, 0.01),
    "alpha_ratio_db": (0.25, 0.8),
    "hammarberg_db": (0.3, 0.8),
    "spectral_slope_db_khz": (0.3, 0.8),
}


@pytest.mark.slow
@needs_emodb
@pytest.mark.parametrize("band_hz", [16_000, 8_000])
def test_praat_agrees_on_emotional_speech(band_hz: int) -> None:
    gaps: dict[str, list[float]] = {name: [] for name in TOLERANCES}
    for path in sorted((EMODB / "audio").iterdir())[::9]:
        pcm, rate_hz = soundfile.read(path, dtype="float32")
        pcm = soxr.resample(soxr.resample(pcm, rate_hz, band_hz), band_hz, RATE_HZ)
        found, expected = vocal_features(pcm), by_praat(pcm)
        for name, values in gaps.items():
            values.append(abs(getattr(found, name) - expected[name]))
    for name, (middle, most) in TOLERANCES.items():
        assert np.median(gaps[name]) <= middle, name
        assert np.percentile(gaps[name], 90) <= most, name


# Baseline and stress -----------------------------------------------------------------------------------

USUAL = VocalFeatures(
    f0_median_hz=150,
    f0_range_semitones=7.5,
    f0_slope_semitones_s=-3,
    f0_deviation_semitones=3,
    intensity_db=-25,
    jitter=0.03,
    shimmer=0.1,
    hnr_db=10.5,
    rate_syllables_s=5.5,
    pause_ratio=0.05,
    voiced_ratio=0.68,
    alpha_ratio_db=-17.5,
    hammarberg_db=27.5,
    spectral_slope_db_khz=-10,
    quality=1.0,
)
TENSE = replace(
    USUAL,
    f0_median_hz=230,
    intensity_db=-15,
    rate_syllables_s=6,
    alpha_ratio_db=-7,
    hammarberg_db=14,
    spectral_slope_db_khz=-5,
    hnr_db=8,
)
SOFT = replace(USUAL, f0_median_hz=130, intensity_db=-40, alpha_ratio_db=-26, hammarberg_db=36)
OTHER = replace(USUAL, f0_median_hz=225, intensity_db=-20, rate_syllables_s=6, alpha_ratio_db=-15)
"""A calm speaker of another pitch."""


def accustomed(features: VocalFeatures = USUAL, utterances: int = 4) -> SpeakerBaseline:
    baseline = SpeakerBaseline()
    for _ in range(utterances):
        baseline.learn(features, 3_000_000)
    return baseline


def call_of(*parts: tuple[VocalFeatures, int]) -> list[list[float]]:
    """Stress of each part's utterances, as they come; those before the baseline is ready are left out."""
    random = np.random.default_rng(5)
    baseline = SpeakerBaseline()
    levels: list[list[float]] = []
    for features, count in parts:
        levels.append([])
        for _ in range(count):
            assert features.f0_median_hz is not None
            said = replace(features, f0_median_hz=features.f0_median_hz * 2 ** (random.normal(0, 0.7) / 12))
            if deviations := baseline.deviations(said):
                levels[-1].append(stress(deviations))
            baseline.learn(said, 3_000_000)
    return levels


def test_baseline_needs_three_utterances_and_eight_seconds() -> None:
    baseline = accustomed(utterances=2)
    assert not baseline.ready
    assert baseline.deviations(TENSE) == {}
    baseline.learn(replace(USUAL, f0_median_hz=None), 9_000_000)
    baseline.learn(replace(USUAL, quality=0.2), 9_000_000)
    assert not baseline.ready
    baseline.learn(USUAL, 1_000_000)
    assert not baseline.ready
    baseline.learn(USUAL, 1_000_000)
    assert baseline.ready


def test_what_is_unfit_has_no_deviations() -> None:
    baseline = accustomed()
    assert baseline.deviations(replace(TENSE, quality=0.2)) == {}
    assert baseline.deviations(vocal_features(NOT_VOICES["DTMF"][0])) == {}
    assert "jitter" not in baseline.deviations(replace(TENSE, jitter=None))


def test_deviations_are_from_median_and_mad_once_enough_is_known() -> None:
    baseline = SpeakerBaseline()
    for hnr_db in [8, 10, 12, 14, 40] * 5:
        baseline.learn(replace(USUAL, hnr_db=hnr_db), 3_000_000)
    assert baseline.deviations(replace(USUAL, hnr_db=12))["hnr_db"] == pytest.approx(0, abs=0.1)
    assert baseline.deviations(replace(USUAL, hnr_db=18))["hnr_db"] == pytest.approx(6 / (1.4826 * 2), rel=0.15)


def test_the_first_utterances_are_blended_with_calm_voices() -> None:
    """A speaker who differs from the population is their own usual more and more."""
    far = replace(USUAL, hnr_db=15)
    scores = [accustomed(far, utterances).deviations(far)["hnr_db"] for utterances in (3, 6, 24)]
    assert 1 > scores[0] > scores[1] > scores[2] > 0


def test_an_outburst_is_told_and_not_learnt() -> None:
    before, angry, after, again = call_of((USUAL, 8), (TENSE, 20), (USUAL, 6), (TENSE, 3))
    assert max(before) < 0.5
    assert min(angry) > 0.9
    assert max(after) < 0.5
    assert min(again) > 0.9


def test_anger_from_the_first_second_is_not_the_usual() -> None:
    angry, calm, again = call_of((TENSE, 10), (USUAL, 6), (TENSE, 3))
    assert min(angry) > 3 * CALM_STRESS
    assert max(calm) < 0.4
    assert min(again) > 0.9


def test_a_soft_start_is_corrected() -> None:
    soft, normal = call_of((SOFT, 5), (USUAL, 16))
    assert max(soft) < 0.3
    assert max(normal[-6:]) < 0.5


def test_a_whispered_start_is_not_learnt() -> None:
    baseline = accustomed(replace(vocal_features(NOT_VOICES["whisper"][0]), f0_median_hz=None), 10)
    assert not baseline.ready
    for _ in range(3):
        baseline.learn(USUAL, 3_000_000)
    assert stress(baseline.deviations(USUAL)) == pytest.approx(CALM_STRESS, abs=0.1)


def test_another_speaker_on_the_line_becomes_usual() -> None:
    _, other = call_of((USUAL, 10), (OTHER, 20))
    assert max(other[-5:]) < 0.5


def test_what_is_known_to_be_excited_is_not_learnt() -> None:
    baseline = accustomed()
    before = baseline.deviations(SOFT)
    baseline.learn(SOFT, 3_000_000, excited=True)
    assert baseline.deviations(SOFT) == before
    baseline.learn(SOFT, 3_000_000)
    assert baseline.deviations(SOFT) != before


def test_old_utterances_are_forgotten() -> None:
    baseline = accustomed(SOFT, utterances=10)
    for _ in range(SpeakerBaseline.MEMORY):
        baseline.learn(USUAL, 3_000_000)
    assert baseline.deviations(USUAL) == accustomed(USUAL, SpeakerBaseline.MEMORY).deviations(USUAL)


def test_stress_rises_with_tension_and_stays_in_range() -> None:
    baseline = accustomed(utterances=SpeakerBaseline.MEMORY)
    assert 0.05 < CALM_STRESS < 0.25
    assert stress({}) == CALM_STRESS
    assert stress(baseline.deviations(USUAL)) == pytest.approx(CALM_STRESS, abs=0.05)
    assert stress(baseline.deviations(TENSE)) > 0.9
    assert stress(baseline.deviations(SOFT)) < CALM_STRESS
    for name, sign in (
        ("f0_median_hz", 1),
        ("alpha_ratio_db", 1),
        ("spectral_slope_db_khz", 1),
        ("rate_syllables_s", 1),
        ("hammarberg_db", -1),
        ("hnr_db", -1),
    ):
        assert stress({name: -sign}) < CALM_STRESS < stress({name: sign}) < stress({name: sign * 2})
    assert 0 <= stress(dict.fromkeys(TOLERANCES, -1e9)) < stress(dict.fromkeys(TOLERANCES, 1e9)) <= 1


@needs_emodb
def test_acted_anger_and_fear_are_tenser_than_the_same_speakers_neutral_voice() -> None:
    with (EMODB / "labels.csv").open(newline="") as file:
        clips = list(csv.DictReader(file))
    correct = []
    for speaker in ("03", "10", "13", "16"):
        found = {
            label: [
                vocal_features(soundfile.read(EMODB / clip["path"], dtype="float32")[0])
                for clip in clips
                if clip["speaker"] == speaker and clip["label"] == label
            ]
            for label in ("neutral", "anger", "fear")
        }
        baseline = SpeakerBaseline()
        for features in found["neutral"][:3]:
            baseline.learn(features, 3_000_000)
        calm = [stress(baseline.deviations(features)) for features in found["neutral"][3:]]
        tense = [stress(baseline.deviations(features)) for features in found["anger"] + found["fear"]]
        correct.append((np.subtract.outer(tense, calm) > 0).mean())
    assert np.mean(correct) > 0.9


def test_the_card_states_what_the_benchmark_measured() -> None:
    measured = json.loads((ROOT / "benchmarks/results/vocal.json").read_text())
    card = yaml.safe_load((ROOT / "models/cards/vocal-stress.yaml").read_text())
    found = [
        *measured["fit"]["leave_one_speaker_out"].values(),
        *(v for by_start in measured["stress"].values() for name, v in by_start.items() if "population" not in name),
    ]
    keys = ("n", "speakers", "auc", "auc_lowest_speaker", "ece")
    assert [[row[key] for key in keys] for row in card["metrics"]] == [[row[key] for key in keys] for row in found]
    assert f"{card['name']}@{card['version']}" == MODEL
    assert measured["real_time"]["all features, streamed in 32 ms pieces"] < 0.01
