"""How soon the page of a long call can be used, in a real browser, from a server on this machine.

python -m benchmarks.web [--hours 1] [--runs 5] [--json FILE]

The call is made of real ones, one after the other, as long as asked. A page is interactive when the affect line and
the transcript are drawn and a click on the line changes the why-panel. On a machine with other work, the processor's
time tells more than the clock's.
"""

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Thread
from time import perf_counter
from typing import Any

from affectline.models.signals import Span
from affectline.pipelines.changes import change_points
from affectline.pipelines.outcomes import CallDetails
from affectline.pipelines.scores import score_parties
from affectline.pipelines.timeline import CallTimeline
from affectline.server.config import ServerConfig
from affectline.server.exports import from_json, to_json
from affectline.server.hub import Hub
from affectline.server.store.calls import CallStore
from affectline.server.web.serve import WebServer
from benchmarks.common import report

TARGET_S = 2.0
KEYS = ("drawn_s", "interactive_s", "processor_s")


def lengthened(call: CallTimeline, length_us: int) -> CallTimeline:
    """The call said again and again until it is so long."""
    turns = -(-length_us // call.duration_us)

    def moved(span: Span, turn: int) -> Span:
        return Span(span.start_us + turn * call.duration_us, span.end_us + turn * call.duration_us)

    def spans(items: Any) -> tuple[Any, ...]:
        return tuple(
            replace(each, span=moved(each.span, turn), **({"id": f"{each.id}.{turn}"} if hasattr(each, "id") else {}))
            for turn in range(turns)
            for each in items
        )

    utterances = tuple(
        replace(each, words=tuple(replace(w, span=moved(w.span, turn)) for w in original.words))
        for turn in range(turns)
        for each, original in zip(
            spans(call.utterances)[turn * len(call.utterances) : (turn + 1) * len(call.utterances)],
            call.utterances,
            strict=True,
        )
    )
    moments = spans(call.moments)
    suggestions = tuple(
        replace(
            each,
            id=f"{each.id}.{turn}",
            because=tuple(f"{key}.{turn}" for key in each.because),
            created_us=each.created_us + turn * call.duration_us,
            expires_us=each.expires_us + turn * call.duration_us,
        )
        for turn in range(turns)
        for each in call.suggestions
    )
    highlights = tuple(replace(each, moment_id=f"{each.moment_id}.0") for each in call.summary.highlights)
    duration_us, stages = turns * call.duration_us, spans(call.stages)
    return replace(
        call,
        name=f"{duration_us / 3.6e9:.1f} h",
        duration_us=duration_us,
        utterances=utterances,
        moments=moments,
        suggestions=suggestions,
        speech=spans(call.speech),
        vocal=(),
        facts=(),
        snapshots=(),
        stages=stages,
        summary=replace(call.summary, highlights=highlights),
        changes=change_points(moments),
        scores=score_parties(call.participants, utterances, moments, duration_us, stages=stages),
        interruptions=spans(call.interruptions),
    )


@contextmanager
def serving(config: ServerConfig, store: CallStore) -> Iterator[str]:
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, daemon=True).start()
    server = WebServer(config, Hub(), store, lambda: True)
    port = asyncio.run_coroutine_threadsafe(server.start(), loop).result(60)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)


def processor_s() -> dict[int, float]:
    """Processor time so far of this process, the server in it, and those of the browser, in seconds."""
    parents: dict[int, int] = {}
    spent: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
                spent[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def is_ours(process: int) -> bool:
        while process > 1:
            if process == os.getpid():
                return True
            process = parents.get(process, 0)
        return False

    return {process: seconds for process, seconds in spent.items() if is_ours(process)}


def visit(browser: Any, address: str, width: int) -> dict[str, float]:
    """Seconds from asking for the page until it is drawn, and until a click has an answer; and of the processor."""
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    before_s, began_s = processor_s(), perf_counter()
    page.goto(address, wait_until="commit")
    page.wait_for_selector("html[data-ready]", state="attached")
    drawn_s = perf_counter() - began_s
    page.locator("#plot").scroll_into_view_if_needed()
    box = page.locator("#plot").bounding_box()
    before = page.locator("#why").inner_text()
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + 120)
    changed = page.locator("#why").inner_text() != before
    answered_s = perf_counter() - began_s
    spent_s = sum(seconds - before_s.get(process, 0.0) for process, seconds in processor_s().items())
    context.close()
    if not changed:
        sys.exit("expected a click on the line to change the why-panel, found the same text")
    return {"drawn_s": drawn_s, "interactive_s": answered_s, "processor_s": spent_s}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure how soon the page of a long call can be used.")
    parser.add_argument("--call", type=Path, help="a timeline as JSON; the example call is analysed when absent")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("expected Chromium on this machine, found none")
    call = lengthened(_call(arguments.call), round(arguments.hours * 3.6e9))
    with TemporaryDirectory() as folder:
        place = str(Path(folder) / "calls.db")
        store = CallStore(place)
        store.add(CallDetails("long"), call)
        config = ServerConfig(web_address="127.0.0.1:0", web_open=True)
        with serving(config, store) as address, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            visit(browser, f"{address}/calls/long", 1280)  # the first one also compiles templates
            found = {
                str(width): [visit(browser, f"{address}/calls/long", width) for _ in range(arguments.runs)]
                for width in (1280, 390)
            }
            browser.close()
        store.close()
    widths: dict[str, dict[str, dict[str, float]]] = {
        width: {key: {"median": median(r[key] for r in runs), "best": min(r[key] for r in runs)} for key in KEYS}
        for width, runs in found.items()
    }
    results = {
        "target_s": TARGET_S,
        "hours": call.duration_us / 3.6e9,
        "moments": len(call.moments),
        "utterances": len(call.utterances),
        "timeline_mb": len(to_json(call)) / 1e6,
        "runs": arguments.runs,
        "load_average_1_min": os.getloadavg()[0],
        "widths": widths,
    }
    headline = {
        f"interactive at {width} px, s": round(each["interactive_s"]["median"], 2) for width, each in widths.items()
    }
    report("web", results, headline, arguments.json)


def _call(path: Path | None) -> CallTimeline:
    if path is not None:
        return from_json(path.read_bytes())
    from affectline.pipelines.media import open_recording
    from affectline.pipelines.recorded import analyze_recording
    from affectline.pipelines.session import CallConfig
    from affectline.pipelines.timeline import Participant
    from affectline.server.engine import Engine

    recording = open_recording(Path(__file__).parents[1] / "examples/dealership_call.flac")
    parties = (Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))
    return analyze_recording(recording, CallConfig("example", parties, recording.rate_hz), Engine().open)


if __name__ == "__main__":
    main()
