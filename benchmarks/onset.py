"""Alerts of a voice that turns angry in hours of speech in which nobody is angry.

    python -m benchmarks.onset [--clips DIR [DIR …]] [--calls-of DIR [DIR …]] [--quiet N] [--json FILE]

`--clips` holds labelled clips, of which neutral calls are built as in benchmarks/timeline.py; `--calls-of` ordinary
calls, one party a file, as in benchmarks/fusion_fit.py. All goes through the session with provisional moments, but for
the recogniser, which always hears the same word: the voice alone makes these alerts, and hours would take hours.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from affectline.models.runtime import Runtime
from affectline.models.signals import AudioChunk, Encoding, Transcription
from affectline.pipelines.session import CallConfig
from affectline.server.engine import Engine
from benchmarks.calls import LINE_HZ, BuiltCall, build_calls
from benchmarks.common import report
from benchmarks.fusion_fit import ordinary_calls
from benchmarks.timeline import PARTIES, Heard, WatchedSession, alerted, by_voice

CHUNK = LINE_HZ // 10


class OneWord:
    """A recogniser that hears the same word in whatever comes."""

    languages: tuple[str, ...] = ("en",)

    def transcribe(
        self,
        encoding: Encoding,
        *,
        language: str | None = None,
        usual_language: str | None = None,
        translate: bool = False,
        draft: Sequence[int] = (),
    ) -> Transcription:
        return Transcription("okay", (), "en", 1.0, 0.9, 0.0)


def listened(engine: Engine, call: BuiltCall) -> Heard:
    """The customer's side alone, chunk by chunk."""
    models = replace(engine.models, recogniser=OneWord())
    config = CallConfig(call.name, PARTIES[1:], LINE_HZ, interim_results=True)
    session = WatchedSession(config, models, engine.policies)
    for start in range(0, call.pcm.shape[1], CHUNK):
        session.push(AudioChunk(1, call.pcm[1, start : start + CHUNK], LINE_HZ, start))
    session.finish()
    return Heard(call, session.shown, session.timeline().moments, session.priors)


def counted(engine: Engine, calls: Iterable[BuiltCall]) -> dict[str, Any]:
    alerts: dict[str, int] = {}
    speech_s, voiced_s = 0.0, 0
    for call in calls:
        heard = listened(engine, call)
        speech_s += sum(m.speech_ratio for m in heard.moments)
        voiced_s += sum(m.anger is not None for m in heard.moments)
        if found := len(alerted(heard, by_voice)):
            alerts[call.name] = found
        print(f"{call.name}: {found}", file=sys.stderr, flush=True)
    hours = speech_s / 3600
    return {
        "hours_of_speech": round(hours, 3),
        "hours_judged": round(voiced_s / 3600, 3),
        "alerts": sum(alerts.values()),
        "alerts_in": alerts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="False alerts of a voice that turns angry.")
    parser.add_argument("--clips", type=Path, nargs="*", default=(), metavar="DIR", help="folders of labelled clips")
    parser.add_argument("--calls-of", type=Path, nargs="*", default=(), metavar="DIR", help="folders of ordinary calls")
    parser.add_argument("--quiet", type=int, default=1, metavar="N", help="neutral calls per speaker; %(default)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    args = parser.parse_args()
    engine = Engine(runtime=Runtime(threads=1))
    found: dict[str, Any] = {}
    for folder in args.clips:
        plain = build_calls(folder, engine.models.gate, calls=args.quiet, plan=("neutral",) * 5)
        found[folder.resolve().name] = counted(engine, plain)
    for folder in args.calls_of:
        found[folder.resolve().name] = counted(engine, ordinary_calls(folder))
    for name, values in found.items():
        print(f"{name}: {values}", flush=True)
    hours = sum(each["hours_of_speech"] for each in found.values())
    alerts = sum(each["alerts"] for each in found.values())
    report("onset", {"data": found}, {"alerts": alerts, "hours": round(hours, 2)}, args.json)


if __name__ == "__main__":
    main()
