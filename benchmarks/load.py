"""Live calls against the real server: how late its answers are, what they cost, and how many calls it carries.

    python -m benchmarks.load --calls N … [--seconds S] [--data DIR] [--server ADDRESS] [--search] [--json FILE]

Starts `affectline serve` in a process of its own, or takes the server at ADDRESS, and streams two-party recordings to
it in real time from other processes. A call begins somewhere in a recording and goes round in it, so calls do not run
in step; mono recordings are left out, as one side or a mix is no two-party call. Figures count what fell due while all
calls ran. AFFECTLINE_* variables reach the server; `max_calls` is the number of calls where they do not set it.

A result is *due* when a service without delay could have it: the speech gate and the segmenter are run over the same
sound here to tell. Times run on the caller's clock, so sound that waits at the caller for a chunk to fill, or for the
server to take it, counts. What never came counts up to when its call was over.

- moment: from when the second is due (its end, or 0.8 s after the last utterance in it) to its final moment. Seconds in
  which the party speaks count by themselves, since silent ones are easy; the objective is on those.
- moment, first: from the second's end to its first moment, provisional or final; 0 where that came before its end.
- transcript: from when an utterance is due (0.8 s after its end, or when it is cut for its length) to its final text.
- transcript, after speech: from the utterance's end; with the 0.8 s.
- partial: from the last sound that a partial transcript is made of to its coming.
- suggestion: from when its last evidence is due, or from the media time at which it was made, to its coming.
- suggestion, after cue: from the end of its last evidence.
- timeline: from the end of a call to its whole timeline.
"""

import argparse
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from affectline.models.errors import InvalidInputError
from affectline.models.ports import RATE_HZ, SpeechGate
from affectline.models.runtime import Runtime
from affectline.models.signals import F32, AudioChunk
from affectline.pipelines.audio import ChannelAudio
from affectline.pipelines.g711 import encode_mulaw
from affectline.pipelines.media import open_recording
from affectline.pipelines.segmenter import END_SILENCE_MS, Segment, Segmenter
from affectline.pipelines.session import MIN_PARTIAL_US, PARTIAL_EVERY_US, CallConfig
from affectline.pipelines.timeline import CallTimeline, Moment, Participant
from affectline.protos.v1 import timeline_pb2
from affectline.server import wire
from affectline.server.engine import Engine
from benchmarks.callers import START_WITHIN_S, Caller, CallLog, Calls, Mark, Sound, make_calls
from benchmarks.common import pulled, read_sound, report
from benchmarks.serving import Served, Usage, Watch, serving
from benchmarks.transcript import word_error_rate, word_errors

PARTIES: Final = (Participant("caller", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))
CHUNKS_MS: Final = (20, 40, 60, 100)
"""Telephony systems send so; calls take turns with them."""
OBJECTIVE_S: Final = 1.0
"""p95 of a moment and of a final transcript after they are due."""
RAMP_S: Final = 15.0
"""All calls have begun after so long, or after a third of their length."""
SETTLE_S: Final = 3.0
"""After the last beginning, before figures count."""
WARM_UP_S: Final = 20.0
"""Of a call before the measured ones, so that every network has run."""
WARM_UP_PATIENCE_S: Final = 600.0
PATIENCE_S: Final = 20.0
OTHERS_CORES: Final = 0.2
"""Busy with other programs, from which on times are doubtful."""
SECOND_US: Final = 1_000_000
GOLDEN: Final = 0.6180339887
"""Multiples of it spread evenly over a recording, however many there are."""


@dataclass(slots=True)
class Due:
    """What a service without delay knows of one party, and when; media time in µs."""

    seconds_us: list[int] = field(default_factory=list)
    """Second -> when its moment can be final."""
    turns: dict[tuple[int, int], int] = field(default_factory=dict)
    """Span of an utterance -> when it is known to be over."""
    spoken: set[int] = field(default_factory=set)
    """Seconds with speech of the party."""
    partials_us: list[int] = field(default_factory=list)
    """When partial results are due."""


@dataclass(frozen=True, slots=True)
class Plan:
    calls: int
    seconds: float
    interim: bool
    language: str | None
    chunks_ms: tuple[int, ...]
    sounds: tuple[Sound, ...]
    patience_s: float = PATIENCE_S
    """A call that has not ended so long after its last sample is given up."""


def read_calls(data: Path, encoding: str) -> tuple[list[Sound], list[str]]:
    """The two-party recordings of a folder, coded for the wire; and the names of what was left out."""
    sounds, left_out = [], []
    for path in sorted(each for each in data.rglob("*") if each.is_file()):
        try:
            recording = open_recording(path)
        except InvalidInputError:
            continue
        if not recording.has_sound or recording.channels != len(PARTIES):
            left_out.append(path.name)
            continue
        pcm, rate_hz = read_sound(path)
        if encoding == "mulaw" and rate_hz == 8_000:
            flat = encode_mulaw(np.ascontiguousarray(pcm.T).ravel())
            sounds.append(Sound(path.name, flat.tobytes(), len(PARTIES), rate_hz, "mulaw"))
        else:
            flat16 = np.clip(np.round(pcm.T * 32_768), -32_768, 32_767).astype("<i2")
            sounds.append(Sound(path.name, flat16.tobytes(), 2 * len(PARTIES), rate_hz, "linear16"))
    if not sounds:
        raise SystemExit(f"expected recordings of {len(PARTIES)} channels in {data}, found none")
    return sounds, left_out


def call_config(plan: Plan, sound: Sound, number: int) -> CallConfig:
    return CallConfig(f"load {number}", PARTIES, sound.rate_hz, plan.language, interim_results=plan.interim)


def callers(plan: Plan, start_s: float, *, speed: float | None = 1.0, ramp_s: float | None = None) -> list[Caller]:
    """The plan's calls; they begin one after the other within `ramp_s`."""
    ramp_s = min(RAMP_S, plan.seconds / 3) if ramp_s is None else ramp_s
    made = []
    for number in range(plan.calls):
        which = number % len(plan.sounds)
        sound = plan.sounds[which]
        message = wire.call_config(call_config(plan, sound, number), wire_format(sound))
        made.append(
            Caller(
                number=number,
                config=message.SerializeToString(),
                sound=which,
                offset_frame=int(number * GOLDEN % 1 * sound.frames),
                frames=round(plan.seconds * sound.rate_hz),
                chunk_frames=plan.chunks_ms[number % len(plan.chunks_ms)] * sound.rate_hz // 1000,
                start_s=start_s + ramp_s * number / plan.calls,
                patience_s=plan.patience_s,
                speed=speed,
            )
        )
    return made


def wire_format(sound: Sound) -> wire.AudioFormat:
    return wire.AudioFormat(sound.encoding, sound.rate_hz, len(PARTIES))


def heard(caller: Caller, sound: Sound) -> F32:
    """[channels, n]: what the server was sent."""
    return wire.decode_audio(sound.piece(caller.offset_frame, caller.frames), wire_format(sound))


def due_times(gate: SpeechGate, pcm: F32, rate_hz: int) -> Due:
    """pcm [n] of one party, from the call's beginning to its end."""
    frame_us = gate.frame_samples * SECOND_US // RATE_HZ
    end_us = len(pcm) * SECOND_US // rate_hz
    audio = ChannelAudio(rate_hz, gate.frame_samples)
    audio.push(AudioChunk(0, pcm, rate_hz, 0))
    audio.finish()
    probabilities = gate.open().feed(audio.read(0, audio.frames * gate.frame_samples))
    segmenter = Segmenter(frame_us / 1000)
    due, partial_us = Due(), 0

    def close(segments: Iterable[Segment], now_us: int) -> None:
        for segment in segments:
            start_us, end_us = segment.start_frame * frame_us, segment.end_frame * frame_us
            due.turns[start_us, end_us] = now_us
            due.spoken.update(range(start_us // SECOND_US, -(-end_us // SECOND_US)))

    for frame, probability in enumerate(probabilities.tolist(), 1):
        now_us = min(frame * frame_us, end_us)
        close(segmenter.feed(probability), now_us)
        start = segmenter.open_start
        open_us = now_us if start is None else start * frame_us
        if now_us - open_us >= MIN_PARTIAL_US and now_us - max(partial_us, open_us) >= PARTIAL_EVERY_US:
            partial_us = now_us
            due.partials_us.append(now_us)
        settled_us = (segmenter.frame if start is None else start) * frame_us
        while (len(due.seconds_us) + 1) * SECOND_US <= settled_us:
            due.seconds_us.append(now_us)
    close(segmenter.break_off(), end_us)
    while len(due.seconds_us) * SECOND_US < end_us:
        due.seconds_us.append(end_us)
    return due


Lags = dict[str, list[tuple[float, bool]]]
"""Name -> (seconds late, whether it came at all)."""


def lags_of(log: CallLog, due: Mapping[str, Due], start_s: float, end_s: float) -> Lags:
    """Of one call, what fell due between two times of the monotonic clock."""
    found: Lags = {}

    def add(name: str, due_us: int, mark: Mark | None, *, since_us: int | None = None, early: bool = False) -> None:
        """`due_us` tells whether it counts; its lateness runs from `since_us`."""
        if start_s <= log.began_s + due_us / 1e6 < end_s:
            from_s = log.began_s + (due_us if since_us is None else since_us) / 1e6
            late_s = (log.closed_s if mark is None else mark.at_s) - from_s
            found.setdefault(name, []).append((max(0.0, late_s) if early else late_s, mark is not None))

    first: dict[str, Mark] = {}
    final: dict[str, Mark] = {}
    over: set[tuple[str, int, int]] = set()
    for mark in log.marks:
        if mark.kind == "speech_turn":
            over.add((mark.participant, mark.start_us, mark.end_us))
        first.setdefault(mark.id, mark)
        if mark.final:
            final.setdefault(mark.id, mark)
    ready: dict[str, tuple[int, int]] = {}
    """Evidence -> when it is due, and its end."""
    for party, one in due.items():
        for second, due_us in enumerate(one.seconds_us):
            name, spoken = f"m-{party}-{second}", second in one.spoken
            ends_us = (second + 1) * SECOND_US
            ready[name] = due_us, ends_us
            add("moment" if spoken else "moment, silent", due_us, final.get(name))
            if spoken:
                add("moment, first", ends_us, first.get(name), early=True)
        for (start_us, end_us), due_us in one.turns.items():
            name = f"u-{party}-{start_us // 1000}"
            ready[name] = due_us, end_us
            text = final.get(name)
            if text is None and (log.status == "OK" or (party, start_us, end_us) in over):
                continue  # no words were recognised
            add("transcript", due_us, text)
            add("transcript, after speech", due_us, text, since_us=end_us)
    for mark in log.marks:
        if mark.kind == "utterance" and not mark.final:
            add("partial", mark.end_us, mark)
        elif mark.kind == "suggestion" and mark.final and (evidence := [ready[b] for b in mark.because if b in ready]):
            due_us = max(mark.end_us, *(due_us for due_us, _ in evidence))
            add("suggestion", due_us, mark)
            add("suggestion, after cue", due_us, mark, since_us=max(end_us for _, end_us in evidence))
    return found


def percentiles(late: Sequence[tuple[float, bool]]) -> dict[str, float | int]:
    seconds = [each for each, _ in late]
    p50, p95, p99 = np.percentile(seconds, (50, 95, 99)).tolist()
    return {
        "n": len(late),
        "p50_s": round(p50, 3),
        "p95_s": round(p95, 3),
        "p99_s": round(p99, 3),
        "max_s": round(max(seconds), 3),
        "never_came": sum(not came for _, came in late),
    }


def timeline_of(log: CallLog) -> CallTimeline | None:
    return wire.timeline_from_parts([timeline_pb2.Timeline.FromString(log.timeline)]) if log.timeline else None


def cost(seen: Sequence[Usage], calls: int, base: Usage) -> dict[str, Any]:
    """Of a server while `calls` calls ran."""
    if len(seen) < 2:
        raise SystemExit("expected a server that runs as long as its calls, found it gone")
    took_s = seen[-1].at_s - seen[0].at_s
    busy = (seen[-1].cpu_s - seen[0].cpu_s) / took_s
    rss_mb = float(np.median([each.rss_mb for each in seen]))
    return {
        "cores_busy": round(busy, 3),
        "cpu_s_per_call_second": round(busy / calls, 4),
        "machine_cores_busy": round((seen[-1].machine_s - seen[0].machine_s) / took_s, 3),
        "rss_base_mb": round(base.rss_mb, 1),
        "rss_mb": round(rss_mb, 1),
        "rss_peak_mb": round(max(each.rss_mb for each in seen), 1),
        "rss_per_call_mb": round((rss_mb - base.rss_mb) / calls, 2),
        "threads_base": base.threads,
        "threads": max(each.threads for each in seen),
        "handles": max(each.handles for each in seen),
    }


def warm_up(served: Served, plan: Plan) -> None:
    one = replace(plan, calls=1, seconds=WARM_UP_S, patience_s=WARM_UP_PATIENCE_S)
    made = callers(one, time.monotonic(), speed=None)
    (log,) = make_calls(served.address, made, plan.sounds, token()).logs
    if log.status != "OK":
        raise SystemExit(f"expected a call to go through, found {log.status}")


def token() -> str | None:
    return os.environ.get("AFFECTLINE_TOKEN")


def run(served: Served, plan: Plan, gate: SpeechGate) -> tuple[dict[str, Any], list[Caller], Calls]:
    """The figures of one run, and its calls."""
    warm_up(served, plan)
    base = served.usage()
    made = callers(plan, time.monotonic() + START_WITHIN_S)
    with Watch(served) as watch:
        calls = make_calls(served.address, made, plan.sounds, token())
    ran = [log for log in calls.logs if log.began_s]
    if not ran:
        raise SystemExit(f"expected calls to begin, found {Counter(log.status for log in calls.logs)}")
    start_s = max(log.began_s for log in ran) + SETTLE_S
    end_s = min(log.began_s for log in ran) + plan.seconds
    if end_s - start_s < 10:
        raise SystemExit("expected calls that run together for 10 s or more, found shorter ones: raise --seconds")
    lags: Lags = {}
    turns = partials = partials_due = spoken = 0
    unlike = 0
    for caller, log in zip(made, calls.logs, strict=True):
        if not log.began_s:
            continue
        sound = plan.sounds[caller.sound]
        due = {p.id: due_times(gate, heard(caller, sound)[p.channel], sound.rate_hz) for p in PARTIES}
        for name, late in lags_of(log, due, start_s, end_s).items():
            lags.setdefault(name, []).extend(late)
        expected = {(party, *span) for party, one in due.items() for span in one.turns}
        cut = {(m.participant, m.start_us, m.end_us) for m in log.marks if m.kind == "speech_turn"}
        turns += len(expected)
        unlike += len(expected ^ cut)
        spoken += sum(len(one.spoken) for one in due.values())
        partials += sum(m.kind == "utterance" and not m.final for m in log.marks)
        partials_due += sum(len(one.partials_us) for one in due.values())
    ended = [(log.closed_s - log.said_end_s, True) for log in ran if log.status == "OK" and log.said_end_s]
    minutes = len(ran) * plan.seconds / 60
    notices = Counter(n.code for log in ran if (timeline := timeline_of(log)) for n in timeline.notices)
    late_s = [each for log in ran for each in log.late_s]
    figures: dict[str, Any] = {
        "calls": plan.calls,
        "seconds": plan.seconds,
        "interim_results": plan.interim,
        "language": plan.language or "detected",
        "all_ran_s": round(end_s - start_s, 1),
        "statuses": dict(Counter(log.status for log in calls.logs)),
        "refused": sum(log.status == "RESOURCE_EXHAUSTED" for log in calls.logs),
        "speech": {
            "spoken_seconds_per_minute": round(spoken / minutes, 1),
            "utterances_per_minute": round(turns / minutes, 1),
        },
        "latency": {name: percentiles(late) for name, late in sorted(lags.items())},
        "partials": {"sent": partials, "due": partials_due if plan.interim else 0},
        "turns_unlike_segmenter": unlike,
        "notices": dict(notices.most_common()),
    }
    if ended:
        figures["latency"]["timeline"] = percentiles(ended)
    caller_cpu = calls.client_cpu_s / (len(ran) * plan.seconds)
    if base:
        spent = cost(watch.between(start_s, end_s), len(ran), base)
        others = spent["machine_cores_busy"] - spent["cores_busy"] - caller_cpu * len(ran)
        figures["server"] = {**spent, "others_cores_busy": round(max(0.0, others), 3)}
    figures["callers"] = {
        "cpu_s_per_call_second": round(caller_cpu, 4),
        "late_p99_ms": round(float(np.percentile(late_s, 99)) * 1e3, 1),
        "waited_for_the_server_s_per_call": round(sum(log.blocked_s for log in ran) / len(ran), 2),
    }
    figures["holds"] = holds(figures)
    return figures, made, calls


def holds(figures: Mapping[str, Any]) -> bool:
    """Whether every call went through and the objective was held."""
    if set(figures["statuses"]) != {"OK"}:
        return False
    late = (figures["latency"].get(name) for name in ("moment", "transcript"))
    return all(each is None or each["p95_s"] <= OBJECTIVE_S for each in late)


def unloaded(engine: Engine, config: CallConfig, pcm: F32) -> CallTimeline:
    """The same sound through a session of its own, with all the time it wants."""
    session = engine.open(config)
    for start in range(0, pcm.shape[1], config.rate_hz):
        for party in config.participants:
            piece = pcm[party.channel, start : start + config.rate_hz]
            session.push(AudioChunk(party.channel, piece, config.rate_hz, start))
    session.finish()
    return session.timeline()


def quality(plan: Plan, made: Sequence[Caller], calls: Calls, sample: int) -> dict[str, Any]:
    """Live timelines of a few calls beside the unloaded analysis of the same sound."""
    whole = [(c, t) for c, log in zip(made, calls.logs, strict=True) if (t := timeline_of(log))]
    chosen = whole[:: max(1, len(whole) // sample)][:sample] if sample else []
    if not chosen:
        return {"calls": 0}
    engine = Engine(runtime=Runtime())
    errors: list[tuple[int, int]] = []
    pairs: list[tuple[Moment, Moment | None]] = []
    suggested: list[tuple[set[str], set[str]]] = []
    for caller, live in chosen:
        sound = plan.sounds[caller.sound]
        alone = unloaded(engine, call_config(plan, sound, caller.number), heard(caller, sound))
        for party in PARTIES:
            texts = [" ".join(u.text for u in t.utterances if u.participant == party.id) for t in (alone, live)]
            if texts[0]:
                errors.append(word_errors(texts[0], texts[1]))
        by_id = {moment.id: moment for moment in live.moments}
        pairs += [(moment, by_id.get(moment.id)) for moment in alone.moments if moment.speech_ratio > 0]
        suggested.append(({s.action for s in alone.suggestions}, {s.action for s in live.suggestions}))
    same = [b is not None and a.affect.label == b.affect.label for a, b in pairs]
    while_ran = [b is not None and (a.live or a.affect).label == (b.live or b.affect).label for a, b in pairs]
    return {
        "calls": len(chosen),
        "words": sum(words for _, words in errors),
        "transcript_wer_against_unloaded": round(word_error_rate(np.array(errors)), 4) if errors else None,
        "spoken_moments": len(pairs),
        "labels_as_unloaded": round(float(np.mean(same)), 4) if same else None,
        "labels_as_unloaded_while_it_ran": round(float(np.mean(while_ran)), 4) if while_ran else None,
        "suggested_actions_as_unloaded": sum(a == b for a, b in suggested),
    }


def say(figures: Mapping[str, Any]) -> None:
    """One run, for a person to read."""
    print(
        f"{figures['calls']} calls of {figures['seconds']:g} s, interim results "
        f"{'on' if figures['interim_results'] else 'off'}: {'holds' if figures['holds'] else 'DOES NOT HOLD'} "
        f"p95 <= {OBJECTIVE_S:g} s; {figures['statuses']}"
    )
    for name, each in figures["latency"].items():
        never = f"  {each['never_came']} never came" if each["never_came"] else ""
        print(
            f"  {name:<26} n {each['n']:>5}  p50 {each['p50_s']:>7.3f}  p95 {each['p95_s']:>7.3f}  "
            f"p99 {each['p99_s']:>7.3f}  max {each['max_s']:>7.3f} s{never}"
        )
    for name in ("speech", "partials", "notices", "server", "callers", "quality"):
        if name in figures:
            print(f"  {name}: {', '.join(f'{key} {value}' for key, value in figures[name].items()) or 'none'}")
    print(f"  turns unlike the segmenter's: {figures['turns_unlike_segmenter']}")
    if (others := figures.get("server", {}).get("others_cores_busy", 0)) > OTHERS_CORES:
        print(f"  other programs kept {others} cores busy: these times say little of the server", flush=True)


def search(first: int, holds_at: Callable[[int], bool], most: int = 1_000) -> int:
    """The largest number of calls that holds, by doubling and then halving; 0 when one call does not."""
    low, high, calls = 0, most + 1, first
    while high - low > 1:
        if holds_at(calls):
            low = calls
        else:
            high = calls
        calls = min(2 * low, most) if high > most and low else (low + high) // 2
    return low


def main() -> None:
    parser = argparse.ArgumentParser(description="Live calls against the real server.")
    parser.add_argument("--calls", type=int, nargs="+", default=[8], metavar="N", help="at a time; several in turn")
    parser.add_argument("--seconds", type=float, default=90, metavar="S", help="length of a call; %(default)s")
    folder = Path("../shared/data/call_center_en")
    parser.add_argument("--data", type=Path, default=folder, metavar="DIR", help="recordings; %(default)s when absent")
    parser.add_argument("--server", metavar="HOST:PORT", help="one that runs; its own figures are left out then")
    parser.add_argument("--search", action="store_true", help="find the most calls that hold the objective, from N on")
    parser.add_argument(
        "--interim", action=argparse.BooleanOptionalAction, default=True, help="ask for interim results"
    )
    parser.add_argument("--language", metavar="CODE", help="that the caller names; detected when absent")
    parser.add_argument("--encoding", choices=("mulaw", "as-recorded"), default="mulaw", help="%(default)s when absent")
    parser.add_argument(
        "--chunk-ms", type=int, nargs="+", default=list(CHUNKS_MS), metavar="MS", help="calls take turns; %(default)s"
    )
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_S, metavar="S", help="for a call to end; %(default)s when absent"
    )
    parser.add_argument("--quality", type=int, default=2, metavar="K", help="calls compared with an unloaded analysis")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    if min(args.calls) < 1 or args.seconds <= 0 or min(args.chunk_ms) < 1:
        parser.error("expected at least one call, and lengths above 0")
    sounds, left_out = read_calls(args.data, args.encoding)
    gate: SpeechGate = pulled("silero", Runtime(threads=1))
    runs: list[dict[str, Any]] = []

    def measure(calls: int) -> bool:
        chunks_ms = tuple(args.chunk_ms)
        plan = Plan(calls, args.seconds, args.interim, args.language, chunks_ms, tuple(sounds), args.patience)
        with serving(args.server, {"max_calls": calls}) as served:
            figures, made, done = run(served, plan, gate)
            if served.load_s is not None:
                figures["server"]["load_s"] = round(served.load_s, 1)
        if not args.search:
            figures["quality"] = quality(plan, made, done, args.quality)
        runs.append(figures)
        say(figures)
        return bool(figures["holds"])

    headline: dict[str, Any] = {}
    if args.search:
        best = search(args.calls[0], measure)
        headline["most_calls"] = best
        shown = next((each for each in runs if each["calls"] == best), runs[-1])
    else:
        for calls in args.calls:
            measure(calls)
        shown = runs[-1]
        headline["calls"] = args.calls[-1]
    late = shown["latency"]
    for name in ("moment", "transcript"):
        headline[f"{name}_p95_s"] = late[name]["p95_s"] if name in late else None
    headline["cpu_s_per_call_second"] = shown.get("server", {}).get("cpu_s_per_call_second")
    data = {"name": args.data.name, "recordings": [s.name for s in sounds], "left_out": left_out}
    results = {
        "data": data,
        "encoding": {s.name: s.encoding for s in sounds},
        "chunks_ms": args.chunk_ms,
        "objective": {"moment_p95_s": OBJECTIVE_S, "transcript_p95_s": OBJECTIVE_S, "end_of_speech_ms": END_SILENCE_MS},
        "runs": runs,
    }
    report("load", results, headline, args.json)


if __name__ == "__main__":
    main()
