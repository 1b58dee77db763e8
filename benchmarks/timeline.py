"""The emotion timeline of constructed two-party calls: what is felt when, how soon it is seen, what is seen wrongly.

    python -m benchmarks.timeline [--data DIR] [--calls N] [--quiet N] [--site] [--interim] [--features DIR]
        [--heard DIR] [--json FILE]

Every call is streamed over gRPC through a server. A second counts where the customer speaks for half of it. Each
modality alone is the same fusion with nothing but that modality. There are two kinds of alert: a voice that turns angry
against its own usual (`Moment.anger`), and a fused probability of anger or frustration of at least ALERT_PROBABILITY
for ALERT_S of the last seconds. An alert is late by what passed since the feeling began, and false where none lasts or
has just ended. `--heard` keeps what the models said of each call, so that another fusion is tried in no time. A model
is never tested on speakers it learnt from: on such data, heads fitted without the speaker take its place. The site
baseline is what the telephone sound of the folder is like, learnt without labels.
"""

import argparse
import asyncio
import math
import pickle
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from affectline.models.labels import LABELS, UNKNOWN, Label
from affectline.models.ports import VoiceAffect
from affectline.models.runtime import Runtime
from affectline.models.signals import FeatureStats, Modality
from affectline.models.training.examples import Examples
from affectline.models.training.voice import calibration_error, encoded, save, stats_of, train
from affectline.models.zoo.voice import VoiceHead
from affectline.pipelines.chat import ChatConfig, ChatSession
from affectline.pipelines.fusion import AffectFilter
from affectline.pipelines.media import open_recording
from affectline.pipelines.onset import AngerWatch
from affectline.pipelines.session import CallConfig, CallSession, Input
from affectline.pipelines.timeline import Affect, CallTimeline, Moment, Output, Participant
from affectline.server.client import open_channel, stream_call
from affectline.server.config import ServerConfig
from affectline.server.engine import Engine
from affectline.server.main import Server
from benchmarks.calls import LABELS_OF_CLASS, LINE_HZ, BuiltCall, build_calls
from benchmarks.common import arguments, report
from benchmarks.voice import CLIP_NAMES, TRAINED_ON

PARTIES: Final = (Participant("agent", "agent", 0, "granted"), Participant("customer", "customer", 1, "granted"))
ANGRY: Final = LABELS_OF_CLASS["anger"]
ALERT_PROBABILITY: Final = 0.25
ALERT_S, ALERT_WINDOW_S = 2, 3
OVER_S: Final = 5
"""An alert this long after the feeling ended is not false."""
IN_TIME_S: Final = 5
ALONE: Final[Mapping[str, frozenset[Modality]]] = {
    "voice": frozenset(("voice",)),
    "words": frozenset(("text",)),
    "stress": frozenset(("stress",)),
    "all but voice": frozenset(("text", "stress", "dynamics", "face")),
    "all but words": frozenset(("voice", "stress", "dynamics", "face")),
    "all but stress": frozenset(("voice", "text", "dynamics", "face")),
}
ANGER: Final = 0.5
"""From here on a voice turns angry."""
UNHEARD: Final = Affect(UNKNOWN, 0.0, {}, None, None, None)
F64 = npt.NDArray[np.float64]
Ground = Callable[[Mapping[int, Moment]], Iterator[int]]
"""Second -> moment, as far as is known, to the seconds in which an alert begins."""


@dataclass(frozen=True, slots=True)
class Heard:
    """One call, and what the service said of it."""

    call: BuiltCall
    shown: Sequence[tuple[int, Sequence[Moment]]]
    """(media time that had come, the customer's moments that came then), provisional ones included."""
    moments: Sequence[Moment]
    """The customer's, one per second from the start, in the light of the whole call."""
    priors: Mapping[str, Mapping[Label, float]]
    """Of the models that were heard."""

    def fused_anew(self) -> "Heard":
        """The same estimates through the fusion as it is now."""
        affect, anger = AffectFilter(self.priors), AngerWatch()
        shown = []
        for known_us, moments in self.shown:
            now: list[Moment] = []
            for final, group in groupby(moments, lambda m: m.final):
                ms = list(group)
                said = [[c.estimate for c in m.contributors] for m in ms]
                answers = (affect.step if final else affect.look)(said)
                levels = (anger.step if final else anger.look)(said)
                now += [
                    replace(m, affect=a, contributors=c, anger=level)
                    for m, (a, c), level in zip(ms, answers, levels, strict=True)
                ]
            shown.append((known_us, now))
        live = [m for _, moments in shown for m in moments if m.final]
        after = [replace(m, affect=a, live=m.affect) for m, a in zip(live, affect.smoothed(), strict=True)]
        return Heard(self.call, shown, after, self.priors)


class WatchedSession(CallSession):
    """Knows how much media had come when each moment was shown."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.shown: list[tuple[int, list[Moment]]] = []
        self.priors = self._priors

    def push(self, item: Input) -> list[Output]:
        return self._watched(super().push(item))

    def finish(self) -> list[Output]:
        return self._watched(super().finish())

    def _watched(self, found: list[Output]) -> list[Output]:
        if moments := [each for each in found if isinstance(each, Moment) and each.participant == "customer"]:
            self.shown.append((self.received_us, moments))
        return found


class Calls:
    """Opens call sessions with the voice head that each call may be judged by."""

    def __init__(
        self, engine: Engine, voices: Callable[[], Mapping[str, VoiceAffect]], site: FeatureStats | None
    ) -> None:
        """voices: makes speaker -> head, where the engine's own must not be used."""
        self._engine = engine
        self._voices = voices
        self._site = site
        self.last: WatchedSession | None = None

    def open(self, config: CallConfig) -> WatchedSession:
        voice = self._voices().get(config.name.split()[0], self._engine.models.voice)
        models = replace(self._engine.models, voice=voice)
        self.last = WatchedSession(config, models, self._engine.policies, site=self._site)
        return self.last

    def open_chat(self, config: ChatConfig) -> ChatSession:
        return self._engine.open_chat(config)


async def stream(
    opener: Calls, calls: Iterable[BuiltCall], *, interim: bool = False, kept: Path | None = None
) -> list[Heard]:
    """Sends the calls one after the other, as fast as the server takes them.

    interim: asks for provisional moments, too. kept: folder for what was said of each call; a call that lies there is
    fused anew and not sent.
    """
    server = Server(ServerConfig(listen="127.0.0.1:0", workers=2))
    port = await server.start()
    found = []
    try:
        await server.load(lambda: opener)
        with tempfile.TemporaryDirectory() as folder:
            async with open_channel(f"127.0.0.1:{port}") as channel:
                for call in calls:
                    file = kept / f"{call.name}{'-interim' if interim else ''}.pickle" if kept else None
                    if file and file.is_file():
                        shown, priors = pickle.loads(file.read_bytes())
                        found.append(Heard(call, shown, (), priors).fused_anew())
                        continue
                    path = Path(folder) / "call.wav"
                    call.save(path)
                    timeline = await _listen(channel, path, call, interim)
                    assert opener.last is not None
                    shown, priors = opener.last.shown, opener.last.priors
                    moments = [m for m in timeline.moments if m.participant == "customer"]
                    found.append(Heard(call, shown, moments, priors))
                    if file:
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_bytes(pickle.dumps((shown, priors)))
                    print(f"{call.name}: {call.duration_us / 1e6:.0f} s", file=sys.stderr, flush=True)
    finally:
        await server.stop()
    return found


async def _listen(channel: Any, path: Path, call: BuiltCall, interim: bool) -> CallTimeline:
    config = CallConfig(f"{call.customer} {call.name}", PARTIES, LINE_HZ, interim_results=interim)
    replies = [item async for item in stream_call(channel, open_recording(path), config, speed=None)]
    timeline = replies[-1]
    assert isinstance(timeline, CallTimeline)
    return timeline


def alone(heard: Heard, modalities: frozenset[Modality]) -> tuple[list[Affect], list[Affect]]:
    """(live, after the call): the customer's affect from nothing but these modalities."""
    path = AffectFilter(heard.priors)
    live = []
    for _, shown in heard.shown:
        final = [m for m in shown if m.final]
        said = [[c.estimate for c in m.contributors if c.modality in modalities] for m in final]
        live += [affect for affect, _ in path.step(said)]
    return live, path.smoothed()


def score(calls: Sequence[tuple[BuiltCall, Sequence[Affect]]]) -> dict[str, Any]:
    """Per-second figures; each affect stands for one second from the start of its call."""
    truth, beliefs, named = [], [], []
    for call, affects in calls:
        for second, affect in enumerate(affects):
            label = call.truth(second)
            if label is not None:
                truth.append(label)
                beliefs.append([affect.labels.get(each, 1 / len(LABELS)) for each in LABELS])
                named.append(affect.label != UNKNOWN)
    classes = sorted(set(truth))
    groups = [[LABELS.index(label) for label in LABELS_OF_CLASS[name]] for name in classes]
    p = np.array(beliefs)
    of_class = np.stack([p[:, group].sum(axis=1) for group in groups], 1)
    actual = np.array([classes.index(name) for name in truth])
    guess, sure = of_class.argmax(axis=1), of_class.max(axis=1)
    answered = np.array(named)
    f1 = [_f1(actual == k, guess == k) for k in range(len(classes))]
    auc = {name: round(_auc(of_class[:, k], actual == k), 3) for k, name in enumerate(classes)}
    return {
        "seconds": len(truth),
        "macro_f1": round(float(np.mean(f1)), 3),
        "auc": round(float(np.mean(list(auc.values()))), 3),
        "auc_per_class": auc,
        "accuracy": round(float((guess == actual).mean()), 3),
        "accuracy_where_named": round(float((guess == actual)[answered].mean()), 3) if answered.any() else None,
        "named": round(float(answered.mean()), 3),
        "ece": round(calibration_error(guess == actual, sure.astype(np.float32)), 3),
    }


def _f1(actual: npt.NDArray[np.bool_], guess: npt.NDArray[np.bool_]) -> float:
    return float(2 * (actual & guess).sum() / max(1, actual.sum() + guess.sum()))


def _auc(score: F64, positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve (Mann-Whitney)."""
    n = int(positive.sum())
    if n in (0, len(positive)):
        return math.nan
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * (len(positive) - n)))


def alerts(affects: Sequence[Affect], probability: float) -> Iterator[int]:
    """Seconds in which an alert begins; the next one needs a second without any ground for it between."""
    high = [sum(a.labels.get(label, 0.0) for label in ANGRY) >= probability for a in affects]
    known = [bool(a.labels) for a in affects]
    on = False
    recent: list[bool] = []
    for second in range(len(affects)):
        if known[second]:
            recent = [*recent, high[second]][-ALERT_WINDOW_S:]
            if not on and sum(recent) >= ALERT_S:
                on = True
                yield second
            elif on and not any(recent):
                on = False


def turns_angry(levels: Sequence[float | None]) -> Iterator[int]:
    """Seconds in which a voice turns angry; again only once it has come half-way back."""
    on = False
    for second, level in enumerate(levels):
        if level is not None:
            if level >= ANGER and not on:
                yield second
            on = level >= (ANGER / 2 if on else ANGER)


def by_voice(track: Mapping[int, Moment]) -> Iterator[int]:
    return turns_angry([track[k].anger if k in track else None for k in range(max(track) + 1)])


def by_label(track: Mapping[int, Moment]) -> Iterator[int]:
    said = [track[k].affect if k in track else UNHEARD for k in range(max(track) + 1)]
    return alerts(said, ALERT_PROBABILITY)


def alerted(heard: Heard, ground: Ground) -> list[tuple[int, int]]:
    """(second that an alert is about, media time when it was first shown); one within OVER_S of another is the same."""
    track: dict[int, Moment] = {}
    found: list[tuple[int, int]] = []
    for known_us, shown in heard.shown:
        track |= {m.span.start_us // 1_000_000: m for m in shown}
        for second in ground(track):
            if all(abs(second - other) > OVER_S for other, _ in found):
                found.append((second, known_us))
    return found


def alerting(heard: Sequence[Heard], ground: Ground) -> dict[str, Any]:
    """How many angry stretches are found, how soon, and alerts without one per hour of the customer's other speech."""
    delays, onsets, false, other_us = [], 0, 0, 0
    for each in heard:
        stretches = each.call.onsets(("anger", "frustration"))
        onsets += len(stretches)
        other_us += sum(s.span.duration_us for s in each.call.stretches if s.label not in ("anger", "frustration"))
        open_ = list(stretches)
        for second, known_us in alerted(each, ground):
            felt_us = (second + 1) * 1_000_000
            within = [s for s in stretches if s.start_us < felt_us <= s.end_us + (1 + OVER_S) * 1_000_000]
            false += not within
            for stretch in within:
                if stretch in open_:
                    open_.remove(stretch)
                    delays.append((known_us - stretch.start_us) / 1e6)
    hours = other_us / 3.6e9
    return {
        "onsets": onsets,
        "found": round(len(delays) / onsets, 3) if onsets else None,
        "found_in_time": round(sum(d <= IN_TIME_S for d in delays) / onsets, 3) if onsets else None,
        "delay_s": [round(float(q), 1) for q in np.quantile(delays, (0.5, 0.9))] if delays else None,
        "false_per_hour": round(false / hours, 2) if hours else None,
        "hours_without": round(hours, 2),
    }


def evaluated(heard: Sequence[Heard]) -> dict[str, Any]:
    live = [[m.as_live().affect for m in each.moments] for each in heard]
    after = [[m.affect for m in each.moments] for each in heard]
    calls = [each.call for each in heard]
    found: dict[str, Any] = {
        "live": score(list(zip(calls, live, strict=True))),
        "after": score(list(zip(calls, after, strict=True))),
        "alerts": alerting(heard, by_voice),
        "alerts_by_label": alerting(heard, by_label),
    }
    pairs = [(a.label, b.label) for one, two in zip(live, after, strict=True) for a, b in zip(one, two, strict=True)]
    known = [(a, b) for a, b in pairs if UNKNOWN not in (a, b)]
    found["live_is_after"] = round(sum(a == b for a, b in known) / max(1, len(known)), 3)
    for name, modalities in ALONE.items():
        both = [alone(each, modalities) for each in heard]
        first = score([(call, one) for call, (one, _) in zip(calls, both, strict=True)])
        second = score([(call, two) for call, (_, two) in zip(calls, both, strict=True)])
        keys = ("macro_f1", "auc", "ece")
        found[name] = {"live": {k: first[k] for k in keys}, "after": {k: second[k] for k in keys}}
    return found


def heads_without(examples: Examples, learnt: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, VoiceAffect]:
    """Speaker -> a head that learnt from those rows."""
    found: dict[str, VoiceAffect] = {}
    known: dict[bytes, VoiceAffect] = {}
    with tempfile.TemporaryDirectory() as folder:
        for speaker, rows in learnt.items():
            key = rows.tobytes()
            if key not in known:
                path = Path(folder) / f"voice-without-{len(known)}.onnx"
                save(path, train(examples[rows], own_calls=False)[0])
                known[key] = VoiceHead(path, Runtime(threads=1))
            found[speaker] = known[key]
    return found


def main() -> None:
    parser: argparse.ArgumentParser = arguments("The emotion timeline of constructed calls.")
    parser.add_argument("--calls", type=int, default=2, metavar="N", help="calls per speaker; %(default)s when absent")
    parser.add_argument("--quiet", type=int, default=2, metavar="N", help="neutral calls per speaker")
    parser.add_argument("--site", action="store_true", help="with a site baseline")
    parser.add_argument("--interim", action="store_true", help="with provisional moments while somebody speaks")
    parser.add_argument("--features", type=Path, metavar="DIR", help="folder that keeps encoded clips")
    parser.add_argument("--heard", type=Path, metavar="DIR", help="folder that keeps what the models said of each call")
    args = parser.parse_args()
    engine = Engine(runtime=Runtime(threads=1))
    models = engine.models
    trained_on = TRAINED_ON.get("voice-open", set())
    first = next((args.data / "audio").glob("*"), args.data)
    own = any(re.fullmatch(CLIP_NAMES[corpus], first.stem) for corpus in trained_on)

    @cache
    def voices() -> Mapping[str, VoiceAffect]:
        if not own:
            return {}
        examples = encoded(args.data, args.features)
        speakers = np.unique(examples.speaker).tolist()
        return heads_without(examples, {s.partition("/")[2]: examples.speaker != s for s in speakers})

    site = None
    if args.site:
        examples = encoded(args.data, args.features)
        site = stats_of(examples.x[examples.band == "telephone"])
    opener = Calls(engine, voices, site)
    calls = build_calls(args.data, models.gate, calls=args.calls)
    heard = asyncio.run(stream(opener, calls, interim=args.interim, kept=args.heard))
    plain = build_calls(args.data, models.gate, calls=args.quiet, plan=("neutral",) * 5)
    quiet = asyncio.run(stream(opener, plain, interim=args.interim, kept=args.heard))
    results = evaluated(heard)
    results["neutral_calls"] = alerting(quiet, by_voice)
    results["neutral_calls_by_label"] = alerting(quiet, by_label)
    for name, values in results.items():
        print(f"{name}: {values}", flush=True)
    headline = {"macro_f1": results["live"]["macro_f1"], "macro_f1_after": results["after"]["macro_f1"]}
    headline |= {"found_in_time": results["alerts"]["found_in_time"]}
    headline |= {"false_per_hour": results["neutral_calls"]["false_per_hour"]}
    data = {"name": args.data.resolve().name, "calls": len(heard), "site_baseline": args.site, "interim": args.interim}
    data |= {"minutes": round(sum(each.call.duration_us for each in heard) / 6e7, 1)}
    report("timeline", {"data": data, **results}, headline, args.json)


if __name__ == "__main__":
    main()
