import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import parselmouth
import pytest
import soundfile
import soxr
from parselmouth.praat import call

from affectline.models.ports import RATE_HZ
from affectline.models.signals import F32, VocalFeatures
from affectline.pipelines.vocal import FRAME_SAMPLES, SpeakerBaseline, stress, vocal_features

pytestmark = pytest.mark.unit

EMODB = Path(__file__).parents[2] / "shared" / "data" / "emodb"
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
    assert jitter == pytest.approx(local(moved), rel=0.2, abs=0.001)
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
    assert found.voiced_ratio == pytest.approx(2 / 3, abs=0.03)


def test_level_changes_intensity_only() -> None:
    tone = glide(150, 180)
    quiet, loud = vocal_features(tone * np.float32(0.125)), vocal_features(tone)
    assert quiet.intensity_db is not None
    assert loud.intensity_db == pytest.approx(quiet.intensity_db + 20 * np.log10(8))
    for name in ("f0_median_hz", "f0_range_semitones", "hnr_db", "jitter", "shimmer", "rate_syllables_s"):
        assert getattr(loud, name) == pytest.approx(getattr(quiet, name), rel=1e-3, abs=1e-5)


def test_what_the_input_cannot_carry_is_none() -> None:
    assert vocal_features(np.empty(0, np.float32)) == VocalFeatures()
    assert vocal_features(np.zeros(RATE_HZ, np.float32)) == VocalFeatures(pause_ratio=1.0)
    tone = glide(150, 150)
    assert vocal_features(tone, np.zeros(63, np.bool_)) == VocalFeatures(pause_ratio=1.0)
    brief = vocal_features(tone[:800])
    assert brief == VocalFeatures(intensity_db=brief.intensity_db, pause_ratio=0.0)
    noise = vocal_features(np.random.default_rng(0).standard_normal(RATE_HZ).astype(np.float32) * np.float32(0.1))
    assert noise.f0_median_hz is None
    assert noise.hnr_db is None
    assert noise.voiced_ratio < 0.1
    assert noise.rate_syllables_s == 0
    assert vocal_features(tone[:4_000]).f0_slope_semitones_s is None


@pytest.mark.parametrize("samples", [1, 2, 159, 160, 161, 511, 513, 1_600, 1_601, 2_000, 4_801])
def test_any_length_is_taken(samples: int) -> None:
    tone = glide(150, 150)[:samples]
    assert vocal_features(tone).intensity_db is not None
    assert vocal_features(tone, np.array([False, True])).pause_ratio is not None


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
    return {
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
}


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
    f0_range_semitones=5,
    f0_slope_semitones_s=-1,
    f0_deviation_semitones=2,
    intensity_db=-25,
    jitter=0.02,
    shimmer=0.09,
    hnr_db=11,
    rate_syllables_s=4,
    pause_ratio=0.1,
    voiced_ratio=0.6,
)
TENSE = replace(USUAL, f0_median_hz=230, intensity_db=-15, f0_range_semitones=9)
FLAT = replace(USUAL, f0_median_hz=110, intensity_db=-33, f0_range_semitones=3)


def accustomed(features: VocalFeatures = USUAL, utterances: int = 4) -> SpeakerBaseline:
    baseline = SpeakerBaseline()
    for _ in range(utterances):
        baseline.learn(features, 3_000_000)
    return baseline


def test_baseline_needs_three_utterances_and_eight_seconds() -> None:
    baseline = accustomed(utterances=2)
    assert not baseline.ready
    assert baseline.deviations(TENSE) == {}
    baseline.learn(replace(USUAL, f0_median_hz=None), 9_000_000)
    assert not baseline.ready
    baseline.learn(USUAL, 1_000_000)
    assert not baseline.ready
    baseline.learn(USUAL, 1_000_000)
    assert baseline.ready


def test_deviations_are_robust_z_scores() -> None:
    baseline = SpeakerBaseline()
    for hnr_db in (8, 10, 12, 14, 40):
        baseline.learn(replace(USUAL, hnr_db=hnr_db), 3_000_000)
    scores = baseline.deviations(replace(USUAL, hnr_db=18, jitter=None, f0_median_hz=300))
    assert scores["hnr_db"] == pytest.approx((18 - 12) / (1.4826 * 2))
    assert scores["f0_median_hz"] == pytest.approx(12)  # an octave, over a spread of one semitone
    assert scores["intensity_db"] == 0
    assert "jitter" not in scores


def test_outbursts_are_not_learnt_but_calming_down_is() -> None:
    baseline = accustomed()
    before = baseline.deviations(TENSE)
    for _ in range(20):
        baseline.learn(TENSE, 3_000_000)
    assert baseline.deviations(TENSE) == before
    for _ in range(20):
        baseline.learn(FLAT, 3_000_000)
    assert stress(baseline.deviations(FLAT)) == pytest.approx(0.25)


def test_old_utterances_are_forgotten() -> None:
    baseline = accustomed(FLAT, utterances=10)
    for _ in range(SpeakerBaseline.MEMORY):
        baseline.learn(replace(FLAT, f0_median_hz=115), 3_000_000)
    assert baseline.deviations(replace(FLAT, f0_median_hz=115))["f0_median_hz"] == 0


def test_stress_rises_with_tension_and_stays_in_range() -> None:
    baseline = accustomed()
    assert stress({}) == pytest.approx(0.25)
    assert stress(baseline.deviations(USUAL)) == pytest.approx(0.25)
    assert stress(baseline.deviations(TENSE)) > 0.75
    assert stress(baseline.deviations(FLAT)) < 0.1
    for name, sign in (
        ("f0_median_hz", 1),
        ("f0_range_semitones", 1),
        ("intensity_db", 1),
        ("rate_syllables_s", 1),
        ("hnr_db", -1),
    ):
        assert stress({name: -sign}) < 0.25 < stress({name: sign}) < stress({name: sign * 2})
    for name in ("jitter", "shimmer"):
        assert stress({name: -2}) == stress({name: 2}) > 0.25
    assert 0 <= stress(dict.fromkeys(TOLERANCES, -1e9)) < stress(dict.fromkeys(TOLERANCES, 1e9)) <= 1


@needs_emodb
def test_acted_anger_and_fear_are_tenser_than_the_same_speakers_neutral_voice() -> None:
    with (EMODB / "labels.csv").open(newline="") as file:
        clips = list(csv.DictReader(file))
    calm: list[float] = []
    tense: list[float] = []
    for speaker in sorted({clip["speaker"] for clip in clips}):
        found = {
            label: [
                vocal_features(soundfile.read(EMODB / clip["path"], dtype="float32")[0])
                for clip in clips
                if clip["speaker"] == speaker and clip["label"] == label
            ]
            for label in ("neutral", "anger", "fear")
        }
        baseline = SpeakerBaseline()
        for features in found["neutral"][::2]:
            baseline.learn(features, 2_500_000)
        if baseline.ready:  # some speakers have too few neutral clips
            calm += [stress(baseline.deviations(features)) for features in found["neutral"][1::2]]
            tense += [stress(baseline.deviations(features)) for features in found["anger"] + found["fear"]]
    assert len(calm) >= 20
    pairs = np.subtract.outer(tense, calm)
    assert (pairs > 0).mean() > 0.85
