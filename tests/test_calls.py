"""Constructed calls, and how what the service says of them is scored."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from affectline.models.labels import LABELS
from affectline.models.signals import F32, AffectEstimate, AffectScores, Span
from affectline.pipelines.timeline import Affect, Contributor, Moment
from benchmarks.calls import LINE_HZ, BuiltCall, Stretch, build_calls
from benchmarks.timeline import ALERT_S, Heard, alerted, alerts, by_voice, score, turns_angry

pytestmark = pytest.mark.integration


class Everything:
    """A speech gate that takes all sound for speech."""

    frame_samples = 512

    def open(self) -> "Everything":
        return self

    def feed(self, pcm: F32) -> F32:
        return np.ones(len(pcm) // 512, np.float32)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = ["path,label,speaker"]
    for speaker, hz in (("a", 200), ("b", 300)):
        for label in ("neutral", "anger", "sadness", "happiness"):
            for k in range(3):
                name = f"{speaker}-{label}-{k}.wav"
                time_s = np.arange(16_000 * (k + 1)) / 16_000
                soundfile.write(tmp_path / name, 0.3 * np.sin(2 * np.pi * hz * time_s), 16_000)
                lines.append(f"{name},{label},{speaker}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


def test_calls_are_the_same_every_time_and_know_what_is_felt(data: Path) -> None:
    calls, again = (list(build_calls(data, Everything(), calls=2)) for _ in range(2))
    assert [c.name for c in calls] == [c.name for c in again]
    assert all(np.array_equal(a.pcm, b.pcm) and a.stretches == b.stretches for a, b in zip(calls, again, strict=True))
    assert {c.customer for c in calls} == {"a", "b"}
    angry = calls[0]
    felt = [s.label for s in angry.stretches]
    assert (felt[0], "anger" in felt, felt[-1] in ("sadness", "happiness")) == ("neutral", True, True)
    assert all(
        one.span.end_us <= two.span.start_us for one, two in zip(angry.stretches, angry.stretches[1:], strict=False)
    )
    assert angry.stretches[-1].span.end_us <= angry.duration_us
    onset = angry.onsets(("anger",))
    assert len(onset) == 1
    first = next(s for s in angry.stretches if s.label == "anger")
    assert onset[0].start_us == first.span.start_us
    level_db = 20 * np.log10(np.sqrt(np.square(angry.pcm[1]).mean()))
    assert -40 < level_db < -24


def test_a_saved_call_is_a_telephone_recording(data: Path, tmp_path: Path) -> None:
    call = next(build_calls(data, Everything(), calls=1))
    call.save(tmp_path / "call.wav")
    found = soundfile.info(tmp_path / "call.wav")
    assert (found.samplerate, found.channels, found.subtype) == (LINE_HZ, 2, "ULAW")


def felt(angry: float) -> Affect:
    return Affect("angry", angry, {"angry": angry, "neutral": 1 - angry}, 0.0, 0.0, 0.0)


UNHEARD = Affect("unknown", 0.0, {}, None, None, None)


def test_an_alert_needs_seconds_and_comes_once() -> None:
    calm, hot = felt(0.1), felt(0.9)
    assert list(alerts([calm, hot, calm, calm, hot, UNHEARD, hot, hot, hot], 0.6)) == [6]
    assert list(alerts([hot] * 20, 0.6)) == [ALERT_S - 1]
    assert list(alerts([hot, hot, *[calm] * 5, hot, hot], 0.6)) == [1, 8]


@given(st.lists(st.floats(0, 1), max_size=50), st.floats(0.1, 0.9))
def test_a_higher_bar_never_gives_an_earlier_first_alert(beliefs: list[float], bar: float) -> None:
    said = [felt(b) for b in beliefs]
    low, high = (next(alerts(said, p), len(said)) for p in (bar, bar + 0.1))
    assert low <= high


def test_a_voice_turns_angry_once_until_it_has_come_half_way_back() -> None:
    assert list(turns_angry([0.1, 0.6, 0.4, None, 0.9, 0.2, 0.1, 0.5])) == [1, 7]
    assert list(turns_angry([None, 0.49])) == []


def test_what_was_heard_is_fused_anew_as_it_was_shown() -> None:
    """A calm voice, then an angry one that is first known provisionally."""

    def second(number: int, odds: float, *, final: bool) -> Moment:
        labels = {x: 0.91 if x == ("angry" if odds > 0 else "neutral") else 0.01 for x in LABELS}
        span = Span(number * 1_000_000, (number + 1) * 1_000_000)
        scores = AffectScores(labels, None, None, None, 0.5, anger_odds=odds)
        estimate = AffectEstimate(span, "customer", "voice", scores, 0.9, "voice@1")
        told = (Contributor("voice", 0.0, estimate),)
        return Moment(f"m-{number}", span, "customer", UNHEARD, told, (), None, None, 1.0, int(final), final)

    calm = [(1_000_000 * (k + 1), [second(k, -4.0, final=True)]) for k in range(15)]
    open_ = (17_000_000, [second(15, 3.0, final=False), second(16, 3.0, final=False)])
    closed = (19_000_000, [second(15, 3.0, final=True), second(16, 3.0, final=True)])
    call = BuiltCall("c", "a", np.zeros((2, 17 * LINE_HZ), np.float32), ())
    heard = Heard(call, [*calm, open_, closed], (), {"voice@1": dict.fromkeys(LABELS, 0.1)}).fused_anew()
    assert alerted(heard, by_voice) == [(16, 17_000_000)]
    assert [len(heard.moments), heard.moments[0].affect.label, heard.moments[-1].affect.label] == [
        17,
        "neutral",
        "angry",
    ]
    assert heard.shown[-2][1][0].affect == heard.shown[-1][1][0].affect


def test_scores_of_a_service_that_is_right_and_of_one_that_says_nothing() -> None:
    spans = [Span(k * 1_000_000, (k + 1) * 1_000_000) for k in range(6)]
    stretches = tuple(Stretch(s, "anger" if k % 2 else "neutral") for k, s in enumerate(spans))
    call = BuiltCall("c", "a", np.zeros((2, 6 * LINE_HZ), np.float32), stretches)
    right = score([(call, [felt(0.95 if k % 2 else 0.05) for k in range(6)])])
    assert (right["macro_f1"], right["auc"], right["named"]) == (1.0, 1.0, 1.0)
    nothing = score([(call, [UNHEARD] * 6)])
    assert (nothing["auc"], nothing["named"]) == (0.5, 0.0)
