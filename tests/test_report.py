"""The HTML report, in a real browser."""

import io
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

from affectline.models.errors import InvalidInputError
from affectline.pipelines.summary import clock
from affectline.pipelines.timeline import CallTimeline, Notice, SuggestionFeedback
from affectline.server.exports import from_json
from affectline.server.report import render_html

from .sample_timeline import LENGTH_S, empty_timeline, no_consent_timeline, sample_timeline, written_timeline

pytestmark = pytest.mark.integration

HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1>$title{{x}}\u2028"


@pytest.fixture
def open_report(browser, tmp_path: Path) -> Iterator[Callable]:
    """Opens a report with the network cut; fails the test on any script error or blocked resource."""
    problems: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 1000}, offline=True)

    def open_(timeline: CallTimeline, **options):
        file = tmp_path / "report.html"
        file.write_text(render_html(timeline, **options), encoding="utf-8")
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: message.type == "error" and problems.append(message.text))
        page.on(
            "request", lambda request: request.url[:5] in ("file:", "data:", "blob:") or problems.append(request.url)
        )
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield open_
    context.close()
    assert problems == []


def chart_x(page, at_s: float) -> float:
    """Where a time lies on the whole call's chart, in page pixels."""
    box = page.locator("#plot").bounding_box()
    gutter = 128
    return box["x"] + gutter + at_s / LENGTH_S * (box["width"] - gutter)


def test_it_is_one_file_that_names_no_other() -> None:
    class Links(HTMLParser):
        found: list[str] = []  # noqa: RUF012 - one parser, one list

        def handle_starttag(self, tag, attributes) -> None:
            self.found += [value for name, value in attributes if name in ("src", "href")]

    html = render_html(sample_timeline(), audio=b"sound")
    Links().feed(html)
    assert Links.found == ["data:audio/ogg;base64,c291bmQ="]
    assert "url(" not in html
    assert "@import" not in html
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy[1]
    assert not re.search(r"script-src[^;]*(unsafe|data:|\*)", policy[1])


def test_the_same_timeline_gives_the_same_bytes() -> None:
    assert render_html(sample_timeline()) == render_html(sample_timeline())


def test_a_type_that_is_no_audio_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="audio/ogg"):
        render_html(sample_timeline(), audio=b"x", audio_mime='text/html" onload="x')


def test_texts_of_a_call_are_never_run(open_report) -> None:
    timeline = sample_timeline()
    timeline = replace(
        timeline,
        name=HOSTILE,
        utterances=tuple(replace(u, text=HOSTILE, words=()) for u in timeline.utterances),
        suggestions=tuple(replace(s, text=HOSTILE, reason=HOSTILE, action=HOSTILE) for s in timeline.suggestions),
        notices=tuple(replace(n, message=HOSTILE) for n in timeline.notices),
        facts=tuple(replace(f, text=HOSTILE) for f in timeline.facts),
        summary=replace(
            timeline.summary,
            lines=(HOSTILE,),
            highlights=tuple(replace(h, quote=HOSTILE, reason=HOSTILE) for h in timeline.summary.highlights),
        ),
    )
    page = open_report(timeline)
    page.locator(".suggestion").first.click()
    assert page.evaluate("window.hacked") is None
    (source,) = page.locator("img").evaluate_all("pictures => pictures.map((picture) => picture.src)")
    assert source.startswith("data:image/jpeg;base64,")
    assert page.locator("h1").text_content() == HOSTILE
    assert page.locator(".said p").first.text_content() == HOSTILE


def test_the_first_top_moment_is_explained_at_once(open_report) -> None:
    page = open_report(sample_timeline())
    why = page.locator("#why").inner_text()
    assert "Sounds frustrated: says “nobody even called”." in why
    assert "likely, 0.73" in why
    assert "Voice 52 %" in why
    assert "Face: no video" in why
    assert "voice-affect@1.0.0" in why
    assert page.locator("#highlights [aria-current=true]").inner_text().startswith("1")


def test_a_click_on_the_line_explains_that_second_and_scrolls_the_transcript(open_report) -> None:
    page = open_report(sample_timeline())
    box = page.locator("#plot").bounding_box()
    page.mouse.click(chart_x(page, 56.5), box["y"] + 100)
    assert (
        "Sounds angry: louder than usual and higher than usual, and says “speak to a supervisor”"
        in page.locator("#why").inner_text()
    )
    assert "speak to a supervisor" in page.locator(".said.now").inner_text()
    assert page.evaluate("location.hash") == "#t=56"
    page.mouse.click(chart_x(page, 112.5), box["y"] + 100)
    assert "Not clear enough to name an emotion." in page.locator("#why").inner_text()
    assert "Voice: noise" in page.locator("#why").inner_text()
    page.mouse.click(chart_x(page, 64.5), box["y"] + 100)
    assert "Nothing is known here: no speech." in page.locator("#why").inner_text()


def test_hovering_a_gap_tells_its_reason(open_report) -> None:
    page = open_report(no_consent_timeline())
    page.mouse.move(chart_x(page, 90), page.locator("#plot").bounding_box()["y"] + 100)
    assert "no consent" in page.locator("#tip").inner_text()


def test_the_agents_voice_is_absent_with_its_reason(open_report) -> None:
    page = open_report(sample_timeline())
    page.locator(".said.right").first.click()
    assert "Voice: agent voice is not analysed" in page.locator("#why").inner_text()


def test_a_suggestion_shows_what_the_agent_made_of_it(open_report) -> None:
    timeline = sample_timeline()
    feedback = (SuggestionFeedback(timeline.suggestions[0].id, "corrected", 2, "sad", HOSTILE),)
    page = open_report(replace(timeline, feedback=feedback))
    cards = page.locator(".suggestion")
    assert f"Agent: corrected (sad: {HOSTILE})." in cards.first.inner_text()
    assert "Agent:" not in cards.nth(1).inner_text()


def test_a_suggestion_selects_its_evidence_everywhere_and_lets_go(open_report) -> None:
    page = open_report(sample_timeline())
    page.locator(".suggestion", has_text="supervisor").first.click()
    assert "speak to a supervisor" in page.locator(".said.evidence").inner_text()
    assert page.locator("#pins [aria-pressed=true]").inner_text() == "escalation"
    page.keyboard.press("Escape")
    assert page.locator(".said.evidence, [aria-pressed=true].suggestion").count() == 0


def test_a_promise_leads_to_where_it_was_made(open_report) -> None:
    timeline = sample_timeline()
    page = open_report(timeline)
    assert page.locator("#sentences h2").all_inner_texts() == ["Problem", "Promised", "Left unanswered"]
    page.get_by_role("region", name="Promised").get_by_role("button").first.click()
    assert page.locator("#now").inner_text().startswith("1:01")
    assert timeline.facts[1].text in page.locator("#sentences [aria-current=true]").inner_text()
    assert page.locator("#why").inner_text().startswith("Agent at 1:01")


def test_without_facts_there_is_no_place_for_them(open_report) -> None:
    assert not open_report(empty_timeline()).locator("#sentences").is_visible()


def test_no_column_stays_empty_beside_a_tall_one(open_report) -> None:
    page = open_report(sample_timeline())
    ends = [page.locator(f".call > .column:nth-of-type({n}) > .card").last.bounding_box() for n in (1, 2)]
    bottoms = [box["y"] + box["height"] for box in ends]
    assert abs(bottoms[0] - bottoms[1]) < 300
    heights = [card.bounding_box()["height"] for card in page.locator(".overview .card").all()]
    assert max(heights) < 260


RECORD_TEXTS = """() => {
  const { fillText } = CanvasRenderingContext2D.prototype;
  window.texts = [];
  CanvasRenderingContext2D.prototype.fillText = function (text, ...rest) {
    window.texts.push(text);
    return fillText.call(this, text, ...rest);
  };
}"""


def test_a_stage_is_named_whole_or_shows_that_it_is_cut(open_report) -> None:
    page = open_report(sample_timeline())
    page.evaluate(RECORD_TEXTS)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(300)
    names = {stage.name for stage in sample_timeline().stages}
    drawn = {text for text in page.evaluate("window.texts") if any(name.startswith(text.rstrip("…")) for name in names)}
    assert {"problem", "resolution"} <= drawn
    assert all(text in names or (text.endswith("…") and len(text) > 3) for text in drawn)


def test_zoom_by_wheel_drag_and_fit(open_report) -> None:
    page = open_report(sample_timeline())
    picture, scroll_bar = "document.getElementById('plot').toDataURL()", page.locator("#pan")
    whole, y = page.evaluate(picture), page.locator("#plot").bounding_box()["y"] + 100
    page.mouse.move(chart_x(page, 60), y)
    page.mouse.wheel(0, -200)
    scroll_bar.wait_for(state="visible")
    assert page.evaluate(picture) != whole
    page.locator("#fit").click()
    assert page.evaluate(picture) == whole
    page.mouse.move(chart_x(page, 80), y)
    page.mouse.down()
    page.mouse.move(chart_x(page, 100), y, steps=4)
    page.mouse.up()
    assert scroll_bar.is_visible()
    page.mouse.click(chart_x(page, LENGTH_S / 2), y)  # the middle of what is shown now
    assert page.evaluate("location.hash") in ("#t=89", "#t=90")


def test_keys(open_report) -> None:
    page = open_report(sample_timeline())
    page.keyboard.press("n")
    assert page.evaluate("location.hash") == "#t=56"
    page.keyboard.press("ArrowRight")
    assert page.evaluate("location.hash") == "#t=57"
    page.keyboard.press("Shift+ArrowLeft")
    assert page.evaluate("location.hash") == "#t=47"
    page.keyboard.press("j")
    assert page.evaluate("location.hash") == "#t=50"
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()


def test_the_sound_moves_the_cursor(open_report) -> None:
    sound = io.BytesIO()
    tone = np.zeros(8000 * LENGTH_S, dtype=np.float32)
    soundfile.write(sound, tone, 8000, format="OGG")
    page = open_report(sample_timeline(), audio=sound.getvalue())
    page.keyboard.press("n")
    page.keyboard.press("Space")
    page.locator("#now", has_text="0:57 /").wait_for()
    page.keyboard.press("Space")
    page.locator("#play", has_text="Play").wait_for()


@pytest.mark.parametrize("make", [empty_timeline, no_consent_timeline])
def test_a_call_without_words_says_so_and_what_to_check(open_report, make) -> None:
    page = open_report(make())
    assert "check which channel carries whom" in page.locator("#transcript").inner_text()
    assert "Nothing is known here" in page.locator("#why").inner_text()
    assert page.locator("#notices li").count() == len(make().notices)


def test_the_saved_document_is_the_timeline(open_report, tmp_path: Path) -> None:
    page = open_report(sample_timeline())
    with page.expect_download() as download:
        page.locator("#save").click()
    download.value.save_as(tmp_path / "saved.json")
    assert from_json((tmp_path / "saved.json").read_bytes()) == sample_timeline()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_are_readable_in_light_and_dark(open_report, scheme) -> None:
    """Contrast of at least 4.5 : 1 for every text on its own background (WCAG 2, level AA)."""
    page = open_report(sample_timeline())
    page.emulate_media(color_scheme=scheme)
    page.keyboard.press("n")
    assert page.evaluate(CONTRASTS_BELOW, 4.5) == []


CONTRASTS_BELOW = """(least) => {
  const rgba = (text) => { const p = text.match(/[\\d.]+/g).map(Number); return [...p.slice(0, 3), p[3] ?? 1]; };
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || node.matches("script, style")) continue;
    const [a, b] = [light(rgba(getComputedStyle(node).color)), light(ground(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < least) bad.push(`${node.className || node.tagName}: ${node.textContent}`);
  }
  return bad;
}"""


def test_a_phone_shows_it_without_sideways_scrolling(open_report) -> None:
    page = open_report(sample_timeline())
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )  # the chart follows
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_call_without_length_and_with_one_party_opens(open_report) -> None:
    timeline = empty_timeline()
    page = open_report(replace(timeline, duration_us=0, moments=(), participants=timeline.participants[:1]))
    assert "no moment of this call was analysed" in page.locator("#why").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("+")


def test_an_hour_is_ready_within_two_seconds(open_report) -> None:
    page = open_report(sample_timeline(repeats=20))
    times_s = []
    for _ in range(3):  # the best of three: other work on the machine is not what is measured
        start_s = time.monotonic()
        page.reload()
        page.wait_for_selector("html[data-ready]")
        page.keyboard.press("n")
        times_s.append(time.monotonic() - start_s)
    assert min(times_s) < 2
    assert "Customer at 2:04\n\nSounds surprised" in page.locator("#why").inner_text()


def test_a_thread_of_days_is_drawn_by_its_turns(open_report, tmp_path: Path) -> None:
    timeline = written_timeline()
    page = open_report(timeline)
    assert page.locator("#facts").inner_text() == "3d 00:00 · Customer · Agent · language en · written"
    assert page.locator("#now").inner_text() == "3d 00:00 / 3d 00:00"
    why = page.locator("#why").inner_text()
    assert "Reads frustrated: writes “" in why
    for word in ("Sounds", "stress", "level", "Voice"):
        assert word not in why
    assert page.locator("#dynamics tr").all_inner_texts()[1].split() == ["Turns", "3", "2"]
    assert page.locator("#pins button:not(.number):visible").count() == 2

    box = page.locator("#plot").bounding_box()
    width = box["width"] - 128
    whole_s = 32 + 3 * 3  # five turns of 6 s, a pause of 2 s, and three breaks
    page.mouse.move(box["x"] + 128 + 7.5 / whole_s * width, box["y"] + 100)
    assert page.locator("#tip").inner_text() == "7:59:54 h without turns"
    page.mouse.click(box["x"] + 128 + 40.5 / whole_s * width, box["y"] + 100)
    assert page.evaluate("location.hash") == "#t=259205"
    assert page.locator(".said.now .time").inner_text() == "3d 00:00"
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#now").inner_text() == "3d 00:00 / 3d 00:00"
    with page.expect_download() as download:
        page.locator("#save").click()
    download.value.save_as(tmp_path / "saved.json")
    assert from_json((tmp_path / "saved.json").read_bytes()) == timeline


def test_a_written_conversation_without_consent_opens(open_report) -> None:
    timeline = replace(written_timeline(), utterances=(), moments=(), suggestions=(), duration_us=0)
    page = open_report(replace(timeline, summary=replace(timeline.summary, highlights=())))
    assert "consent was recorded" in page.locator("#transcript").inner_text()


def test_a_call_without_sound_says_so(open_report) -> None:
    timeline = sample_timeline()
    assert "kHz audio" in open_report(timeline).locator("#facts").inner_text()
    silent = tuple(Notice("no_sound", "No sound came.", 0, party.id) for party in timeline.participants)
    page = open_report(replace(timeline, notices=silent))
    assert "no sound" in page.locator("#facts").inner_text()
    assert "kHz" not in page.locator("#facts").inner_text()
    page = open_report(replace(timeline, notices=silent[:1]))
    assert "kHz audio" in page.locator("#facts").inner_text()


def test_the_scores_of_the_call_are_told_and_lead_to_their_quarter(open_report) -> None:
    page = open_report(sample_timeline())
    scores = page.locator("#scores").inner_text()
    assert "Customer −0.4" in scores
    assert "recovered" in scores
    assert "Low points: voice 52 %, words 38 %" in scores
    assert page.locator(".quarter").all_inner_texts() == ["−1.4", "−2.2", "−0.1", "+3.0"]
    page.locator(".quarter").nth(1).click()
    assert page.evaluate("location.hash") == "#t=46"


def test_markers_take_no_more_room_than_there_are(open_report) -> None:
    timeline = sample_timeline()
    heights = []
    for number in (1, 2):
        page = open_report(replace(timeline, suggestions=timeline.suggestions[:number], feedback=()))
        heights.append(page.locator("#plot").bounding_box()["height"])
    assert heights[1] - heights[0] == 23


def test_where_the_feeling_changes_is_told_and_leads_there(open_report) -> None:
    timeline = sample_timeline()
    page = open_report(timeline)
    buttons = page.locator(".change")
    own = [c for c in timeline.changes if c.participant == "customer"]
    assert own
    assert buttons.all_inner_texts() == [f"{clock(c.at_us)}{c.after}" for c in own]
    buttons.first.click()
    assert page.evaluate("location.hash") == f"#t={own[0].at_us // 1_000_000}"


@pytest.mark.parametrize("make", [empty_timeline, no_consent_timeline])
def test_where_nothing_is_known_there_is_no_score(open_report, make) -> None:
    assert open_report(make()).locator("#scores").inner_text() == ""


def test_each_stage_shows_how_it_felt_and_leads_there(open_report) -> None:
    page = open_report(sample_timeline())
    rows = page.locator("table.stages tbody tr")
    assert rows.count() == 8
    assert rows.nth(3).inner_text().split("\t")[1:3] == ["problem", "39 s"]
    assert "upset 26 s" in rows.nth(3).inner_text()
    rows.nth(4).locator("button").click()
    assert page.locator("#now").inner_text() == "1:01 / 3:06"


def test_the_pointer_tells_the_stage_and_who_cuts_in(open_report) -> None:
    page = open_report(sample_timeline())
    box = page.locator("#plot").bounding_box()
    page.mouse.move(chart_x(page, 51), box["y"] + 40)
    tip = page.locator("#tip").inner_text()
    assert "problem (likely, 0.81)" in tip
    assert "Agent cuts in for 2.0 s and takes the floor" in tip


def test_figures_of_the_conversation(open_report) -> None:
    page = open_report(sample_timeline())
    text = page.locator("#dynamics").inner_text()
    assert "2 × (2 took the floor)" in text
    assert "1.0 s (90 % within 3.4 s)" in text
    assert "31 s (17 %), longest 8.0 s" in text
