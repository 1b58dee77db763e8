"""The web pages as people use them, in a real browser."""

import csv
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from affectline.pipelines.media import open_recording
from affectline.pipelines.outcomes import CallDetails
from affectline.pipelines.policy import DEFAULT_POLICIES, load_policies
from affectline.pipelines.policy_replay import ReplayTally
from affectline.pipelines.timeline import CallTimeline
from affectline.server.config import ServerConfig
from affectline.server.exporters import EXPORTERS
from affectline.server.exports import CSV_COLUMNS, from_json
from affectline.server.hub import RunningCall
from affectline.server.kept_sound import keep_sound
from affectline.server.store.calls import CallStore
from affectline.server.store.query import CallFilter, Queries

from .sample_store import fill
from .sample_timeline import LENGTH_S, empty_timeline, sample_timeline, written_timeline
from .web_server import Pages, serving

pytestmark = pytest.mark.integration

CALLS = 60
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>\"'{{7*7}}${1}\u2028"
SIZES = {"desk": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder = tmp_path_factory.mktemp("web")
    store = CallStore(str(folder / "calls.db"), customer_key=b"0123456789abcdef")
    fill(store, CALLS)
    store.add(CallDetails("hostile", started=datetime.now(UTC), queue=HOSTILE, product=HOSTILE), hostile_timeline())
    store.add(CallDetails("silence"), empty_timeline())
    store.add(CallDetails("chat"), written_timeline())
    store.close()
    sound = np.sin(np.arange(LENGTH_S * 8000) / 9).astype(np.float32) * 0.1
    soundfile.write(folder / "call-003.wav", np.stack([sound, sound], 1), 8000)
    keep_sound(folder, "call-006", open_recording(folder / "call-003.wav"), sample_timeline())
    config = ServerConfig(
        listen="127.0.0.1:0",
        web_address="127.0.0.1:0",
        web_open=True,
        store=str(folder / "calls.db"),
        web_media=folder,
        customer_key="0123456789abcdef",  # type: ignore[arg-type]
    )
    with serving(config) as found:
        yield found


def hostile_timeline() -> CallTimeline:
    timeline = sample_timeline()
    return replace(
        timeline,
        name=HOSTILE,
        utterances=tuple(
            replace(u, text=HOSTILE, words=(), cues=tuple(replace(c, phrase=HOSTILE) for c in u.cues))
            for u in timeline.utterances
        ),
        suggestions=tuple(replace(s, text=HOSTILE, reason=HOSTILE, action=HOSTILE) for s in timeline.suggestions),
        notices=tuple(replace(n, message=HOSTILE) for n in timeline.notices),
        facts=tuple(replace(f, text=HOSTILE) for f in timeline.facts),
        models={HOSTILE: HOSTILE},
        summary=replace(
            timeline.summary,
            lines=(HOSTILE,),
            highlights=tuple(replace(h, quote=HOSTILE, reason=HOSTILE) for h in timeline.summary.highlights),
        ),
    )


@pytest.fixture(params=list(SIZES))
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def visit(browser: Any, pages: Pages) -> Iterator[Callable[..., Any]]:
    """Opens a page; fails the test on any script error, blocked resource or request to somewhere else."""
    problems: list[str] = []
    with ExitStack() as stack:

        def open_(path: str, size: str = "desk", **options: Any) -> Any:
            width, height = SIZES[size]
            context = browser.new_context(viewport={"width": width, "height": height}, **options)
            stack.callback(context.close)
            page = context.new_page()
            page.on("pageerror", lambda error: problems.append(str(error)))
            page.on(
                "console",
                lambda message: (
                    message.type == "error" and "status of 422" not in message.text and problems.append(message.text)
                ),
            )
            page.on(
                "request",
                lambda request: (
                    request.url.startswith((pages.address, "data:", "blob:")) or problems.append(request.url)
                ),
            )
            page.goto(pages.address + path)
            if path.startswith(("/calls", "/live")):
                page.wait_for_selector("html[data-ready]")
            return page

        yield open_
    assert problems == []


def running(pages: Pages, call_id: str, **details: Any) -> tuple[RunningCall, Any]:
    """A call that runs until its context is left."""
    context = pages.server.hub.call(call_id, CallDetails(call_id, **details), sample_timeline().participants)
    return pages.call(context.__enter__), context


def until(page: Any, expression: str, timeout_s: float = 20) -> None:
    """Waits until the expression holds; the pages' policy forbids Playwright's own way of it."""
    deadline_s = time.monotonic() + timeout_s
    while not page.evaluate(expression):
        assert time.monotonic() < deadline_s, expression
        page.wait_for_timeout(50)


def ended(pages: Pages, context: Any) -> None:
    pages.call(lambda: context.__exit__(None, None, None))


# ---- every page -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/live",
        "/calls",
        "/calls?q=supervisor&label=angry",
        "/calls?q=nobodysaidthis",
        "/calls/call-003",
        "/calls/silence",
        "/calls/chat",
        "/calls/hostile",
        "/insights?days=all",
        "/insights",
        "/insights/compare?a_product=Mesh+router&b_product=TV+box",
        "/policies",
        "/trust",
    ],
)
def test_every_page_fits_and_has_a_title_and_readable_text(visit, size: str, path: str) -> None:
    page = visit(path, size)
    assert page.locator("h1").count() == 1
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert page.evaluate("window.hacked") is None
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(CONTRAST) == []


CONTRAST = """() => {
  const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => [r, g, b].map((c) => linear(c / 255))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const read = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const shown = walker.currentNode.data.trim() && node.checkVisibility({ contentVisibilityAuto: true });
    if (!shown || node.closest("svg, option, :disabled")) continue;
    let ground = null;
    for (let at = node; at && !ground; at = at.parentElement) {
      const { backgroundColor, backgroundImage } = getComputedStyle(at);
      if (backgroundImage !== "none") break;
      const colour = read(backgroundColor);
      if (colour.length === 3 || colour[3] > 0.9) ground = colour;
    }
    if (!ground) continue;
    const [a, b] = [light(read(getComputedStyle(node).color)), light(ground)].sort((x, y) => y - x);
    const text = walker.currentNode.data.trim().slice(0, 30);
    if ((a + 0.05) / (b + 0.05) < 4.5) found.push(`${node.tagName}.${node.className} ${text}`);
  }
  return [...new Set(found)].slice(0, 10);
}"""
"""Texts with a contrast below 4.5 : 1 against their ground."""


def test_texts_of_a_call_are_never_run_nor_read_as_markup(visit, pages: Pages) -> None:
    page = visit("/calls/hostile")
    assert page.locator("h1").inner_text().strip() == HOSTILE.replace("\u2028", "\u2028").strip()
    assert page.locator(".said p").first.text_content() == HOSTILE
    page.locator(".suggestion").first.click()
    assert page.evaluate("window.hacked") is None
    listed = visit(f"/calls?queue={HOSTILE.replace('&', '%26')}&q=window")
    assert listed.evaluate("window.hacked") is None
    assert HOSTILE.split("\u2028")[0] in listed.locator(".chips").inner_text()
    call, context = running(pages, "hostile-live", queue=HOSTILE)
    pages.call(lambda: call.publish([*hostile_timeline().suggestions, *hostile_timeline().utterances], 60_000_000))
    for path in ("/live", "/live/hostile-live", "/insights?days=all", "/trust"):
        live = visit(path)
        live.wait_for_timeout(300)
        assert live.evaluate("window.hacked") is None
    ended(pages, context)


# ---- calls ------------------------------------------------------------------------------------------------------


def test_a_filter_is_a_chip_in_plain_words_that_can_be_taken_away(visit) -> None:
    page = visit("/calls")
    whole = page.locator(".heading p").inner_text()
    page.get_by_text("Filters", exact=True).click()
    page.get_by_label("Customer sounds").select_option("frustrated")
    page.get_by_label("for at least").fill("20")
    page.get_by_label("Product").select_option("Mesh router")
    page.get_by_role("button", name="Show calls").click()
    page.wait_for_url("**label=frustrated**")
    chips = page.locator(".filter").all_inner_texts()
    assert [chip.replace("×", "").strip() for chip in chips] == ["product: Mesh router", "frustrated ≥ 20 s"]
    assert re.search(r"\?label=frustrated&least=20&product=Mesh\+router$", page.url)
    assert page.locator(".list tbody tr").count() > 0
    assert all("Mesh router" in text for text in page.locator(".list tbody td:first-child").all_inner_texts())
    page.get_by_label("Remove the filter frustrated").click()
    page.get_by_label("Remove the filter product").click()
    assert page.locator(".heading p").inner_text() == whole


def test_a_search_in_plain_words_is_read_as_filters(visit) -> None:
    page = visit("/calls?product=Mesh+router")
    page.fill("input[type=search]", "frustrated for over 20 s about billing")
    page.press("input[type=search]", "Enter")
    page.wait_for_url("**/calls?*label=frustrated*")
    chips = page.locator(".filter").all_inner_texts()
    found = [chip.replace("×", "").strip() for chip in chips]
    assert found == ["queue: billing", "product: Mesh router", "frustrated ≥ 20 s"]
    assert page.locator("input[type=search]").input_value() == ""
    page = visit("/calls?q=%22frustrated+for+over+20+s%22")
    assert 'said “"frustrated for over 20 s"”' in page.locator(".filter").inner_text()


def test_an_address_shows_the_same_calls_to_everyone(visit, pages: Pages) -> None:
    path = "/calls?product=TV+box&outcome=csat-low&order=most_negative"
    shown = [visit(path).locator(".list tbody tr a").all_inner_texts() for _ in range(2)]
    store = CallStore(pages.server._config.store)  # type: ignore[arg-type]
    only = CallFilter(products=("TV box",), outcome="csat", outcome_bad=True)
    rows = Queries(store).list_calls(only, order="most_negative").rows
    store.close()
    assert shown[0] == shown[1] == [row.name for row in rows]
    assert rows


def test_the_list_is_walked_with_keys(visit) -> None:
    page = visit("/calls")
    names = page.locator(".list tbody tr a").all_inner_texts()
    for key in "jjjk":
        page.keyboard.press(key)
    assert names[1] in page.evaluate("document.activeElement.innerText")
    page.keyboard.press("Enter")
    page.wait_for_url("**/calls/*")
    assert page.locator("h1").inner_text() == names[1]
    page.go_back()
    page.keyboard.press("/")
    page.keyboard.type("supervisor")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=supervisor")


def test_pages_of_the_list_hold_every_call_once(visit) -> None:
    page = visit("/calls")
    names = page.locator(".list tbody tr a").all_inner_texts()
    page.get_by_role("link", name="Next page").click()
    page.wait_for_selector("text=First page")
    names += page.locator(".list tbody tr a").all_inner_texts()
    assert len(names) == len(set(names)) == CALLS + 3


def test_a_search_is_kept_and_forgotten(visit) -> None:
    page = visit("/calls?q=supervisor&label=angry")
    page.locator("#saved summary").click()
    page.locator("#saved-name").fill("Angry, wants a supervisor")
    page.keyboard.press("Enter")
    page.goto(page.url.partition("?")[0])
    page.locator("#saved summary").click()
    page.get_by_role("link", name="Angry, wants a supervisor").click()
    page.wait_for_url("**q=supervisor&label=angry")
    page.locator("#saved summary").click()
    page.get_by_label("Forget Angry").click()
    assert page.locator("#saved-list").inner_text() == "None yet."


def test_what_was_said_leads_to_the_second_it_was_said(visit) -> None:
    page = visit('/calls?q="speak to a supervisor"')
    first = page.locator(".hits a").first
    assert first.locator("mark").all_inner_texts() == ["speak to a supervisor"]
    first.click()
    page.wait_for_selector("html[data-ready]")
    assert page.evaluate("location.hash") == "#t=53"
    assert "speak to a supervisor" in page.locator(".said.now").inner_text()


# ---- one call ---------------------------------------------------------------------------------------------------


def test_a_click_on_a_top_moment_plays_there(visit) -> None:
    page = visit("/calls/call-003")
    assert page.evaluate("document.getElementById('audio').paused")
    page.locator("#highlights .row").nth(1).click()
    until(page, "() => { const a = document.getElementById('audio'); return !a.paused && a.currentTime > 56.2; }")
    assert page.evaluate("document.getElementById('audio').currentTime") < 62
    assert "supervisor" in page.locator(".said.now").inner_text()
    page.locator("#plot").focus()
    page.keyboard.press(" ")
    until(page, "document.getElementById('audio').paused")
    box = page.locator("#plot").bounding_box()
    page.mouse.click(box["x"] + 128 + (box["width"] - 128) / 2, box["y"] + 150)
    assert abs(page.evaluate("document.getElementById('audio').currentTime") - LENGTH_S / 2) < 1


def test_choosing_another_label_holds_the_sound(visit) -> None:
    page = visit("/calls/call-003")
    page.locator("#highlights .row").first.click()
    until(page, "!document.getElementById('audio').paused")
    page.get_by_role("button", name="Correct this label").click()
    until(page, "document.getElementById('audio').paused")
    assert page.get_by_role("group", name="What it was").is_visible()


def test_sound_that_is_held_again_before_it_began_is_no_error(visit) -> None:
    page = visit("/calls/call-003")
    page.evaluate(
        "document.getElementById('audio').load(); for (const _ of [1, 2]) document.getElementById('play').click()"
    )
    until(page, "document.getElementById('audio').readyState > 1")
    assert page.locator("#play").inner_text() == "Play"


def test_sound_that_the_server_kept_itself_is_played_as_it_is(visit, pages: Pages) -> None:
    folder = pages.server._config.web_media
    assert folder is not None
    assert pages.ask("/calls/call-006/audio").body == (folder / "call-006.kept.ogg").read_bytes()
    page = visit("/calls/call-006")
    page.locator("#highlights .row").first.click()
    until(page, "!document.getElementById('audio').paused")


def test_without_kept_sound_the_page_says_so(visit) -> None:
    page = visit("/calls/call-004")
    assert not page.locator("#play").is_visible()
    assert "The sound of this call is not kept here." in page.locator("#hint").inner_text()
    page.get_by_text("Export", exact=True).click()
    assert page.get_by_role("link", name="Page with the sound").count() == 0


def test_a_label_is_corrected_in_two_clicks_and_stays_corrected(visit, pages: Pages) -> None:
    page = visit("/calls/call-005")
    page.get_by_role("button", name="Correct this label").click()
    page.get_by_role("group", name="What it was").get_by_role("button", name="sad").click()
    page.wait_for_selector("text=Corrected by a person to sad")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert "Corrected by a person to sad" in page.locator("#why").inner_text()
    store = CallStore(pages.server._config.store)  # type: ignore[arg-type]
    (made,) = Queries(store).corrections("call-005")
    assert (made.label, made.before) == ("sad", store.timeline("call-005").moments[67].affect.label)
    store.close()


def test_what_people_made_of_a_suggestion_since_is_shown(visit) -> None:
    assert re.search("Agent: (accepted|dismissed)", visit("/calls/call-003").locator(".suggestion").first.inner_text())


EXPORTED: dict[str, str] = {
    "One row per moment (CSV)": "csv",
    "Timeline (JSON)": "json",
    "Page of its own": "html",
    "Page with the sound": "page-with-sound",
    "Subtitles (SRT)": "srt",
    "Subtitles (WebVTT)": "webvtt",
    "Who spoke when (RTTM)": "rttm",
    "Like Contact Lens (JSON)": "contact-lens",
    "Like Call Analytics (JSON)": "call-analytics",
    "One row per moment (Parquet)": "parquet",
}


@pytest.mark.parametrize("name", EXPORTED)
def test_exports_are_downloaded(visit, pages: Pages, name: str) -> None:
    page = visit("/calls/call-003")
    page.get_by_text("Export", exact=True).click()
    with page.expect_download() as waiting:
        page.get_by_role("link", name=name).click()
    content = Path(waiting.value.path()).read_bytes()
    store = CallStore(pages.server._config.store)  # type: ignore[arg-type]
    timeline = store.timeline("call-003")
    store.close()
    match kind := EXPORTED[name]:
        case "csv":
            rows = list(csv.reader(io.StringIO(content.decode())))
            assert rows[0] == list(CSV_COLUMNS)
            assert len(rows) == 1 + len(timeline.moments)
        case "json":
            assert from_json(content) == timeline
        case "html" | "page-with-sound":
            assert timeline.name in content.decode()
            assert (b"data:audio/ogg;base64," in content) == (kind == "page-with-sound")
        case _:
            assert content == EXPORTERS[kind].write(timeline)
    assert waiting.value.suggested_filename.startswith("call-003.")


def test_a_call_that_cannot_be_fetched_says_what_to_do(browser, pages: Pages) -> None:
    page = browser.new_page()
    page.route(
        "**/timeline.json", lambda route: route.fulfill(status=503, json={"error": "The store does not answer."})
    )
    page.goto(f"{pages.address}/calls/call-003")
    page.wait_for_selector("#notices li")
    assert "The store does not answer. Load the page again" in page.locator("#notices").inner_text()
    page.close()


def test_phrases_are_quoted_as_they_were_said(visit, pages: Pages) -> None:
    store = CallStore(pages.server._config.store)  # type: ignore[arg-type]
    ids = (f"call-{number:03}" for number in range(CALLS))
    call_id = next(each for each in ids if store.timeline(each).utterances[7].cues)
    store.close()
    said = visit(f"/calls/{call_id}").locator(".said", has_text="third time I call about this")
    assert said.locator(".cue").inner_text() == "may escalate “third time”"


# ---- insights ---------------------------------------------------------------------------------------------------


def test_a_row_of_a_chart_leads_to_its_calls(visit) -> None:
    page = visit("/insights?days=all")
    card = page.locator(".question", has_text="Which products upset people?")
    assert "Lowest in Mesh router" in card.locator(".answer").inner_text()
    row = card.locator(".chart a", has_text="Mesh router")
    mean, low, high = re.findall(r"[−+]?\d\.\d\d", row.inner_text())[:3]
    assert float(low.replace("−", "-")) < float(mean.replace("−", "-")) < float(high.replace("−", "-"))
    count = row.inner_text().split("·")[-1].strip()
    row.locator(".name").click()
    page.wait_for_url("**/calls?**product=Mesh+router")
    assert page.locator(".heading p").inner_text().startswith(f"{count} calls fit")


def test_groups_too_small_say_so(visit) -> None:
    card = visit("/insights?days=all").locator(".question", has_text="Which products upset people?")
    assert "2 groups (3 calls) too small to show" in card.inner_text()
    assert "script" not in card.locator(".chart").inner_text()


def test_phrases_and_drivers_come_with_counts_and_intervals(visit) -> None:
    page = visit("/insights?days=all")
    page.wait_for_selector("[data-part][data-ready]")
    part = page.locator("[data-part]")
    row = part.locator("tbody tr", has_text="third time").inner_text()
    assert re.search(r"may escalate\s+\d+\s+\d+ % \(\d+ % to \d+ %\)", row)
    assert "third time I" not in row
    part.get_by_role("link", name="third time").click()
    page.wait_for_url("**/calls?**q=%22third+time%22")
    assert "call" in page.locator(".heading p").inner_text()


def test_two_sets_are_compared_with_an_interval(visit) -> None:
    page = visit("/insights/compare")
    assert "Nothing chosen yet" in page.inner_text("main")
    page.locator("[name=a_product]").select_option("Mesh router")
    page.locator("[name=b_product]").select_option("Mobile plan")
    page.get_by_role("button", name="Compare").click()
    page.wait_for_selector("[aria-label=Result]")
    told = page.locator("[aria-label=Result] h2").inner_text()
    assert re.fullmatch(r"More pleasant in B: valence \+\d\.\d\d \(\+\d\.\d\d to \+\d\.\d\d\)\.", told)
    page.goto(page.url + "&b_group=Nowhere")
    assert "Too few calls in in B" not in page.inner_text("main")
    assert "Too few calls" in page.inner_text("main")


def test_a_period_without_calls_says_what_to_do(visit) -> None:
    page = visit("/insights?from=2001-01-01&to=2001-01-02")
    assert "No calls in this period" in page.inner_text("main")
    page.get_by_role("link", name="Ask over all time").click()
    page.wait_for_selector(".chart")


def test_a_trend_of_few_calls_is_told_by_week(visit) -> None:
    page = visit("/insights?days=all&q=supervisor")
    assert "by week" in page.locator(".trend").inner_text()
    assert page.locator(".trend title").first.text_content().startswith("week of ")
    page.locator(".trend a").first.click()
    from_to = re.search(r"from=(\d{4}-\d\d-\d\d)&to=(\d{4}-\d\d-\d\d)", page.url)
    assert from_to is not None
    first, last = (datetime.fromisoformat(day) for day in from_to.groups())
    assert (first.weekday(), (last - first).days) == (0, 6)


def test_what_goes_with_bad_outcomes_is_the_page_of_the_command(visit) -> None:
    page = visit("/insights/outcomes")
    assert page.locator("h1").inner_text() == "What goes with bad outcomes?"
    assert page.locator(".card").count() > 0


# ---- policies and trust -----------------------------------------------------------------------------------------


def test_a_pack_is_previewed_over_stored_calls(visit, pages: Pages) -> None:
    page = visit("/policies")
    pack = load_policies(DEFAULT_POLICIES)
    assert page.locator("[aria-label='Policies that are on'] tbody tr").count() == len(pack.policies)
    page.get_by_role("button", name="Preview").click()
    page.wait_for_selector("#preview table")
    store = CallStore(pages.server._config.store)  # type: ignore[arg-type]
    queries, tally = Queries(store), ReplayTally(pack)
    for row in queries.list_calls(CallFilter(states=("finished",)), page_size=20).rows:
        tally.add(queries.timeline(row.id))
    store.close()
    expected = {c.policy: c.fired for c in tally.counts() if c.fired or c.suggested}
    rows = page.locator("#preview tbody tr").all()
    assert {r.locator("td").first.inner_text(): int(r.locator("td").nth(1).inner_text()) for r in rows} == expected
    assert any(expected.values())


def test_a_pack_with_a_fault_names_its_line(visit) -> None:
    page = visit("/policies")
    text = page.locator("textarea").input_value()
    page.locator("textarea").fill(text.replace("kind: routing", "kind: rooting", 1))
    page.get_by_role("button", name="Preview").click()
    page.wait_for_selector("#preview [role=alert]")
    line = next(n for n, each in enumerate(text.splitlines(), 1) if "kind: routing" in each)
    assert f"policies line {line}: kind: " in page.locator("#preview [role=alert]").inner_text()
    assert "kind: rooting" in page.locator("textarea").input_value()


def test_trust_counts_what_the_store_holds(visit) -> None:
    page = visit("/trust")
    assert f"Calls\n{CALLS + 3}" in page.locator("[aria-label=Keeping]").inner_text()
    customer = page.locator("[aria-label=Consent] tbody tr", has_text="customer").inner_text().split()
    assert customer[1] == str(CALLS + 3)
    assert re.search(
        rf"outcomes of calls\s+{CALLS // 3 + CALLS // 5}\b", page.locator("[aria-label=Records]").inner_text()
    )
    page.get_by_text("words-minilm 1").click()
    assert "Limits." in page.locator("details[open]").inner_text()


# ---- live -------------------------------------------------------------------------------------------------------


def test_the_wall_puts_who_needs_help_first_but_not_under_the_pointer(visit, pages: Pages) -> None:
    timeline = sample_timeline()
    alert = next(s for s in timeline.suggestions if s.kind == "alert")
    calm, calm_context = running(pages, "calm", customer_reference="+44 20 7946 0123")
    upset, upset_context = running(pages, "upset", queue="billing")
    early = [m for m in timeline.moments if m.span.end_us <= 25_000_000]
    pages.call(lambda: calm.publish(early, 25_000_000))
    pages.call(lambda: upset.publish(early, 25_000_000))
    page = visit("/live")
    rows = page.locator("#wall tbody tr")
    assert [text.split("\n")[0].strip() for text in rows.all_inner_texts()] == ["– None", "– None"]
    assert "•••23" in rows.nth(0).inner_text()
    assert "7946" not in page.content()
    rows.nth(0).hover()
    pages.call(
        lambda: upset.publish([m for m in timeline.moments if m.span.end_us <= 60_000_000] + [alert], 60_000_000)
    )
    page.wait_for_selector("tr.need-3")
    assert "billing" in rows.nth(1).inner_text()
    assert "order held" in page.locator("#state").inner_text()
    page.mouse.move(5, 5)
    until(page, "document.querySelector('#wall tbody tr').className === 'need-3'")
    assert alert.text in rows.nth(0).inner_text()
    assert "1 may need help" in page.locator("#state").inner_text()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/live/upset")
    page.wait_for_selector("html[data-ready]")
    assert alert.text in page.locator("#alert").inner_text()
    back = visit("/live")
    ended(pages, upset_context)
    until(back, "document.querySelectorAll('#wall tbody tr').length === 1")
    ended(pages, calm_context)
    back.wait_for_selector("#none", state="visible")


def test_a_running_call_grows_holds_still_when_asked_and_ends(visit, pages: Pages, size: str) -> None:
    timeline = sample_timeline()
    call, context = running(pages, f"growing-{size}", queue="repairs")

    def publish(until_s: int, since_s: int = 0) -> None:
        low, high = since_s * 1_000_000, until_s * 1_000_000
        items: list[object] = [m for m in timeline.moments if low < m.span.end_us <= high]
        items += [u for u in timeline.utterances if low < u.span.end_us <= high]
        items += [s for s in timeline.suggestions if low < s.created_us <= high]
        items += [s for s in timeline.stages if low <= s.span.start_us <= high]
        items += [t for t in timeline.speech if low < t.span.end_us <= high]
        pages.call(lambda: call.publish(items, high))

    publish(40)
    page = visit(f"/live/growing-{size}", size)
    assert "0:40 min · repairs · stage: problem" in page.locator("#facts").inner_text()
    assert "Own the missed visit" in page.locator("#next").inner_text()
    spoken = page.locator(".said").count()
    publish(60, 40)
    until(page, "document.getElementById('facts').textContent.includes('1:00')")
    assert page.locator(".said").count() > spoken
    assert "angry" in page.locator("#mood").inner_text()
    assert "Join the call" in page.locator("#alert").inner_text()
    page.locator(".said", has_text="Nobody came").click()
    assert "Customer at 0:28" in page.locator("#why").inner_text()
    publish(70, 60)
    until(page, "document.getElementById('facts').textContent.includes('1:10')")
    assert "Customer at 0:28" in page.locator("#why").inner_text()
    page.get_by_role("button", name="Follow the call again").click()
    assert "0:28" not in page.locator("#why").inner_text()
    ended(pages, context)
    page.wait_for_selector("text=This call is over.")


def test_voices_of_one_channel_are_shown_as_they_become_known(visit, pages: Pages) -> None:
    timeline = sample_timeline()
    context = pages.server.hub.call("mono", CallDetails("mono"), ())
    call = pages.call(context.__enter__)
    page = visit("/live/mono")
    pages.call(lambda: call.publish([replace(p, role="other") for p in timeline.participants], 5_000_000))
    early = [u for u in timeline.utterances if u.span.end_us <= 60_000_000]
    moments = [m for m in timeline.moments if m.span.end_us <= 60_000_000]
    pages.call(lambda: call.publish([*early, *moments], 60_000_000))
    page.locator(".said").nth(len(early) - 1).wait_for()
    pages.call(lambda: call.publish(list(timeline.participants), 61_000_000))
    until(page, "document.getElementById('columns').innerText.includes('Agent')")
    assert page.locator("#columns span").all_inner_texts() == ["Customer", "Agent"]
    sides = [("right" in (node.get_attribute("class") or "")) for node in page.locator(".said").all()]
    assert sides == [u.participant == "agent" for u in early]
    assert "angry" in page.locator("#mood").inner_text()
    ended(pages, context)


def test_the_newest_words_are_shown_before_they_are_final(visit, pages: Pages) -> None:
    utterance = sample_timeline().utterances[1]
    call, context = running(pages, "partial")
    pages.call(lambda: call.publish([replace(utterance, id="x", text="Hi. My in", words=(), final=False)], 6_000_000))
    page = visit("/live/partial")
    assert page.locator(".said.partial").inner_text().endswith("Hi. My in")
    pages.call(lambda: call.publish([utterance], 12_000_000))
    page.wait_for_selector(".said.partial", state="detached")
    assert utterance.text in page.locator(".said").inner_text()
    ended(pages, context)


def test_a_lost_connection_is_told_and_healed(browser, pages: Pages) -> None:
    page = browser.new_page()
    page.route("**/live/events", lambda route: route.abort())
    page.goto(f"{pages.address}/live")
    until(page, "document.getElementById('state').textContent.startsWith('The connection is gone')")
    page.unroute("**/live/events")
    page.wait_for_selector("#none", state="visible", timeout=15_000)
    page.close()


def test_answers_that_are_no_pages_are_json(pages: Pages) -> None:
    answer = pages.ask("/calls/none/timeline.json", headers={"accept": "application/json"})
    assert answer.status == 404
    assert "There is no such call" in json.loads(answer.body)["error"]
