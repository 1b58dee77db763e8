"""Takes the pictures of the web pages in docs/gallery/ and that of the README, in a real browser.

python docs/gallery.py [--only NAME]

Two calls of examples/ are analysed, one more is streamed while the pictures of the live pages are taken. The calls
that the insights are about are made up and marked as such.
"""

import argparse
import asyncio
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from affectline.pipelines.chat import ChatConfig, analyze_chat  # noqa: E402
from affectline.pipelines.chat_file import read_chat  # noqa: E402
from affectline.pipelines.media import open_recording  # noqa: E402
from affectline.pipelines.outcomes import CallDetails  # noqa: E402
from affectline.pipelines.recorded import analyze_recording  # noqa: E402
from affectline.pipelines.session import CallConfig  # noqa: E402
from affectline.pipelines.timeline import CallTimeline, Participant  # noqa: E402
from affectline.server.client import open_channel, stream_call  # noqa: E402
from affectline.server.config import ServerConfig  # noqa: E402
from affectline.server.engine import Engine  # noqa: E402
from affectline.server.main import Server  # noqa: E402
from affectline.server.report import render_html  # noqa: E402
from affectline.server.store.calls import CallStore  # noqa: E402
from tests.sample_store import fill  # noqa: E402
from tests.sample_timeline import sample_timeline  # noqa: E402

GALLERY = ROOT / "docs/gallery"
CALL = ROOT / "examples/dealership_call.flac"
PARTIES = (Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))
DESK, PHONE = (1280, 860), (390, 844)
STORED = {
    "calls": "/calls",
    "call": "/calls/northwind#t=56",
    "insights": "/insights",
    "policies": "/policies",
    "trust": "/trust",
}
REPORT_PX = 1270
STREAMED_S = 44
"""So much of the streamed call has passed when its picture is taken."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Take the pictures of docs/gallery/.")
    parser.add_argument("--only", help="only pictures whose name begins like this")
    only = parser.parse_args().only or ""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        sys.exit("expected Chromium on this machine, found none")
    GALLERY.mkdir(exist_ok=True)
    engine = Engine()
    with TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        recording = open_recording(CALL)
        heard = analyze_recording(recording, CallConfig(CALL.name, PARTIES, recording.rate_hz), engine.open)
        if "timeline".startswith(only):
            _report(browser, Path(folder), heard)
        config = _config(Path(folder), engine, heard)
        with _serving(config, engine) as (server, loop, address):

            def take(name: str, path: str, size: tuple[int, int], scheme: str = "light") -> None:
                if name.startswith(only):
                    _picture(browser, address + path, GALLERY / f"{name}.png", size, scheme)

            for name, path in STORED.items():
                take(name, path, DESK)
            take("call-dark", "/calls/northwind#t=56", DESK, "dark")
            for name in ("calls", "call", "insights"):
                take(f"{name}-phone", STORED[name], PHONE)
            if "live".startswith(only[:4]):
                with _running(server, loop):
                    take("live", "/live", DESK)
                    take("live-phone", "/live", PHONE)
                    take("live-call", f"/live/{_streamed(server).id}", DESK)
                    take("live-call-phone", f"/live/{_streamed(server).id}", PHONE)
        browser.close()


def _config(folder: Path, engine: Engine, heard: CallTimeline) -> ServerConfig:
    """A store of analysed and made-up calls, and settings that show it."""
    store = CallStore(str(folder / "calls.db"), customer_key=b"only for these pictures")
    fill(store, 120, demo=True)
    northwind = CallDetails(
        "northwind", started=datetime.now(UTC), queue="repairs", product="Fibre 500", agent_group="Leeds", demo=True
    )
    store.add(northwind, sample_timeline())
    store.add(CallDetails("dealership", started=datetime.now(UTC), queue="service", product="Car"), heard)
    chat = read_chat(ROOT / "examples/chat.jsonl", {})
    writers = tuple(Participant(name, role, 0, "granted") for name, role in chat.roles.items())
    written = analyze_chat(ChatConfig("chat.jsonl", writers), chat.turns, engine.open_chat)
    store.add(CallDetails("chat", started=datetime.now(UTC), queue="service", product="Fibre 500"), written)
    store.close()
    return ServerConfig(
        listen="127.0.0.1:0", web_address="127.0.0.1:0", web_open=True, store=str(folder / "calls.db"), workers=2
    )


@contextmanager
def _serving(config: ServerConfig, engine: Engine) -> Iterator[tuple[Server, asyncio.AbstractEventLoop, str]]:
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, daemon=True).start()

    async def start() -> tuple[Server, int]:
        server = Server(config)
        server.grpc_port = await server.start()  # type: ignore[attr-defined]
        await server.load(lambda: engine)
        assert server.web_port is not None
        return server, server.web_port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(120)
    try:
        yield server, loop, f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)


@contextmanager
def _running(server: Any, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """One call that is really streamed, and two made-up ones beside it on the wall."""
    recording = open_recording(CALL)
    config = CallConfig("streamed", PARTIES, recording.rate_hz, interim_results=True)
    heard = asyncio.Event()
    contexts = []

    async def stream() -> None:
        async with open_channel(f"127.0.0.1:{server.grpc_port}") as channel:
            async for _ in stream_call(channel, recording, config, speed=1):
                call = _streamed(server)
                if call and call.received_us >= STREAMED_S * 1_000_000:
                    heard.set()

    async def begin() -> asyncio.Task[None]:
        timeline = sample_timeline()
        for call_id, until_s, queue in (("made-up-1", 66, "repairs"), ("made-up-2", 33, "billing")):
            details = CallDetails(call_id, queue=queue, customer_reference=f"+44 20 7946 01{until_s}")
            context = server.hub.call(call_id, details, timeline.participants)
            contexts.append(context)
            until_us = until_s * 1_000_000
            items: list[object] = [each for each in timeline.moments if each.span.end_us <= until_us]
            items += [each for each in timeline.suggestions if each.created_us <= until_us]
            items += [each for each in timeline.stages if each.span.start_us <= until_us]
            context.__enter__().publish(items, until_us)
        task = asyncio.create_task(stream())
        await asyncio.wait_for(heard.wait(), 300)
        return task

    task = asyncio.run_coroutine_threadsafe(begin(), loop).result(310)
    try:
        yield
    finally:
        loop.call_soon_threadsafe(task.cancel)
        for context in contexts:
            loop.call_soon_threadsafe(context.__exit__, None, None, None)


def _streamed(server: Any) -> Any:
    return next((call for call in server.hub.calls if not call.id.startswith("made-up")), None)


def _report(browser: Any, folder: Path, heard: CallTimeline) -> None:
    """The picture of the README: the report of the example call, from its affect line on."""
    file = folder / "report.html"
    file.write_text(render_html(heard), encoding="utf-8")
    context = browser.new_context(viewport={"width": 1280, "height": 1100})
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    page.wait_for_timeout(500)
    top = page.locator(".call").bounding_box()["y"] - 8
    area = {"x": 0, "y": top, "width": 1280, "height": REPORT_PX}
    page.screenshot(path=ROOT / "docs/timeline.png", full_page=True, clip=area)
    context.close()


def _picture(browser: Any, address: str, path: Path, size: tuple[int, int], scheme: str) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    page = context.new_page()
    page.goto(address)
    page.wait_for_timeout(300)
    page.wait_for_selector("html[data-ready], main", state="attached")
    page.wait_for_timeout(1200)
    page.screenshot(path=path)
    context.close()
    sys.stdout.write(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB\n")


if __name__ == "__main__":
    main()
