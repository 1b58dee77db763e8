"""A call that is really streamed, with the real models, watched in a real browser while it runs."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from affectline.pipelines.media import open_recording
from affectline.pipelines.session import CallConfig
from affectline.pipelines.timeline import CallTimeline, Participant
from affectline.server.client import open_channel, stream_call
from affectline.server.config import ServerConfig
from affectline.server.engine import Engine

from .web_server import serving

pytestmark = pytest.mark.integration


def test_a_streamed_call_is_on_the_wall_grows_and_is_kept(
    browser: Any, engine: Engine, example: Path, tmp_path: Path
) -> None:
    config = ServerConfig(
        listen="127.0.0.1:0", web_address="127.0.0.1:0", web_open=True, store=str(tmp_path / "calls.db"), workers=2
    )
    parties = (Participant("customer", "customer", 0, "granted"), Participant("agent", "agent", 1, "granted"))
    recording = open_recording(example)
    call = CallConfig(example.name, parties, recording.rate_hz, interim_results=True)

    with serving(config, lambda: engine) as pages:

        async def stream() -> CallTimeline:
            async with open_channel(f"127.0.0.1:{pages.grpc_port}") as channel:
                async for item in stream_call(channel, recording, call, speed=2):
                    if isinstance(item, CallTimeline):
                        return item
            raise AssertionError("expected a timeline at the end of the stream, found none")

        page = browser.new_page()
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{pages.address}/live")
        page.wait_for_selector("#none", state="visible")
        streaming = asyncio.run_coroutine_threadsafe(stream(), pages.loop)
        page.wait_for_selector("#wall tbody tr", timeout=60_000)
        page.locator("#wall tbody tr a").click()
        page.locator(".said", has_text="car").first.wait_for(timeout=120_000)
        running = page.locator("#facts").inner_text()
        assert running.startswith("running")
        page.locator("#mood .chip").wait_for(timeout=120_000)
        page.wait_for_selector("text=This call is over.", timeout=180_000)
        timeline = streaming.result(120)
        said = page.locator(".said:not(.partial) p").all_inner_texts()
        assert said == [u.text for u in sorted(timeline.utterances, key=lambda u: u.span.start_us)]
        assert page.locator(".suggestion").count() == len(timeline.suggestions) > 0
        page.get_by_role("link", name="Open the whole call").click()
        page.wait_for_selector("html[data-ready]")
        assert page.locator("#summary li").all_inner_texts() == list(timeline.summary.lines)
        page.close()
        assert problems == []
