"""A call as files of other formats: read back, checked field by field, and with hostile texts in it."""

import json
import re
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from affectline.models.errors import InvalidInputError
from affectline.models.signals import Span
from affectline.pipelines.outcomes import CallDetails
from affectline.pipelines.timeline import CallTimeline, Redaction
from affectline.server import cli
from affectline.server.exporters import EXPORTERS, exporter
from affectline.server.exports import from_json, to_json
from affectline.server.store.calls import CallStore

from .sample_timeline import CUSTOMER, empty_timeline, sample_timeline

pytestmark = pytest.mark.unit

HOSTILE = "a --> b\n\n7\n00:00:00,000 --> 00:00:09,000\n<i>&amp;</i> ünï 💥"


def said(text: str, **changes: Any) -> CallTimeline:
    """The sample with its second utterance saying this."""
    timeline = sample_timeline()
    first, second, *rest = timeline.utterances
    return replace(timeline, utterances=(first, replace(second, text=text, **changes), *rest))


def written(name: str, timeline: CallTimeline) -> Any:
    data = EXPORTERS[name].write(timeline)
    return json.loads(data) if EXPORTERS[name].suffix.endswith("json") else data.decode()


@pytest.mark.parametrize("name", [name for name in EXPORTERS if name != "parquet"])
def test_every_format_takes_every_call(name: str) -> None:
    odd = replace(said(HOSTILE), name=HOSTILE)
    for timeline in (sample_timeline(), empty_timeline(), odd):
        assert isinstance(exporter(name).write(timeline), bytes)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="expected a format of json, csv"):
        exporter("xml")


def test_json_is_without_loss() -> None:
    assert from_json(EXPORTERS["json"].write(sample_timeline())) == sample_timeline()


SRT = re.compile(r"(\d+)\n(\d\d:\d\d:\d\d,\d{3}) --> (\d\d:\d\d:\d\d,\d{3})\n((?:.+\n)+)")


def blocks(text: str) -> list[tuple[str, str, str, str]]:
    found = [match.groups() for match in SRT.finditer(text)]
    assert "\n".join(f"{n}\n{a} --> {b}\n{t}" for n, a, b, t in found) == text  # nothing but blocks
    return found  # type: ignore[return-value]


def test_srt_has_a_block_for_each_utterance() -> None:
    found = blocks(written("srt", sample_timeline()))
    assert [int(block[0]) for block in found] == list(range(1, len(sample_timeline().utterances) + 1))
    number, start, end, text = found[7]
    assert (number, start, end) == ("8", "00:00:41,200", "00:00:52,000")
    assert " ".join(text.split()) == f"customer: {sample_timeline().utterances[7].text}"
    assert max(map(len, text.splitlines())) <= 42


def test_srt_of_hostile_text_keeps_its_blocks() -> None:
    assert len(blocks(written("srt", said(HOSTILE)))) == len(sample_timeline().utterances)
    assert blocks(written("srt", said(" \n "))) != []
    late = said("late", span=Span(360_000_000_000, 360_000_000_000))
    assert "100:00:00,000 --> 100:00:00,001" in written("srt", late)


def test_webvtt_names_voices_and_escapes_texts() -> None:
    text = written("webvtt", said(HOSTILE))
    header, *cues = text.split("\n\n")
    assert header == "WEBVTT"
    assert len(cues) == len(sample_timeline().utterances)
    for cue in cues:
        name, times, *lines = cue.strip("\n").split("\n")
        assert re.fullmatch(r"u\d+", name)
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}", times)
        assert lines[0].startswith(("<v customer>", "<v agent>"))
        assert "-->" not in "\n".join(lines)
    assert "&lt;i&gt;&amp;amp;&lt;/i&gt;" in text


def test_webvtt_plays_in_a_browser(browser: Any) -> None:
    """A real parser of the format: Chromium's."""
    page = browser.new_page()
    page.set_content("<video></video>")
    found = page.evaluate(
        """async text => {
            const track = document.createElement("track");
            track.src = URL.createObjectURL(new Blob([text], {type: "text/vtt"}));
            track.default = true;
            document.querySelector("video").append(track);
            track.track.mode = "hidden";
            await new Promise((yes, no) => { track.onload = yes; track.onerror = no; });
            return [...track.track.cues].map(cue => [cue.id, cue.startTime, cue.getCueAsHTML().textContent]);
        }""",
        written("webvtt", said(HOSTILE)),
    )
    page.close()
    assert len(found) == len(sample_timeline().utterances)
    assert (found[1][0], found[1][1]) == ("u1", 5.6)
    assert " ".join(found[1][2].split()) == " ".join(HOSTILE.split())


def test_rttm_tells_who_spoke_when() -> None:
    lines = written("rttm", replace(sample_timeline(), name="a call\nof two")).splitlines()
    assert len(lines) == len(sample_timeline().speech)
    kind, call, channel, start, duration, *nothing, speaker, _, _ = lines[1].split(" ")
    assert (kind, call, channel, start, duration, speaker) == (
        "SPEAKER",
        "a_call_of_two",
        "1",
        "5.600",
        "5.400",
        CUSTOMER,
    )
    assert nothing == ["<NA>", "<NA>"]
    assert all(len(line.split(" ")) == 10 for line in lines)


CONTACT_LENS_TURN = {
    "Id",
    "Content",
    "BeginOffsetMillis",
    "EndOffsetMillis",
    "ParticipantId",
    "Sentiment",
    "LoudnessScore",
    "Redaction",
    "IssuesDetected",
    "ActionItemsDetected",
    "OutcomesDetected",
}
CALL_ANALYTICS_TURN = {
    "Id",
    "Content",
    "BeginOffsetMillis",
    "EndOffsetMillis",
    "ParticipantRole",
    "Sentiment",
    "LoudnessScores",
    "Items",
    "Redaction",
    "IssuesDetected",
    "ActionItemsDetected",
    "OutcomesDetected",
}
CHARACTERISTICS = {
    "TotalConversationDurationMillis",
    "Sentiment",
    "Interruptions",
    "NonTalkTime",
    "TalkSpeed",
    "TalkTime",
}
"""Field names of the published output of both."""


@pytest.mark.parametrize(
    ("name", "turn_fields", "begin"),
    [("contact-lens", CONTACT_LENS_TURN, "BeginOffsetChar"), ("call-analytics", CALL_ANALYTICS_TURN, "Begin")],
)
def test_aws_json_has_the_published_fields(name: str, turn_fields: set[str], begin: str) -> None:
    sample = sample_timeline()
    document = written(name, sample)
    assert (document["JobStatus"], document["Channel"], document["LanguageCode"]) == ("COMPLETED", "VOICE", "en")
    turns = document["Transcript"]
    assert [turn["Content"] for turn in turns] == [u.text for u in sample.utterances]
    assert {field for turn in turns for field in turn} <= turn_fields
    assert (turns[7]["BeginOffsetMillis"], turns[7]["EndOffsetMillis"], turns[7]["Sentiment"]) == (
        41_200,
        52_000,
        "NEGATIVE",
    )
    assert turns[-2]["Sentiment"] == "POSITIVE"
    roles = {u.id: u.participant for u in sample.utterances}
    assert not any("Sentiment" in turn for turn in turns if roles[turn["Id"]] == "agent")
    (issue,) = turns[1]["IssuesDetected"]
    offsets = issue["CharacterOffsets"]
    fact = sample.facts[0]
    assert turns[1]["Content"][offsets[begin] : offsets[begin.replace("Begin", "End")]] == fact.text
    found = document["ConversationCharacteristics"]
    assert set(found) == CHARACTERISTICS
    assert found["TotalConversationDurationMillis"] == 186_000
    score = next(s for s in sample.scores if s.participant == CUSTOMER)
    assert found["Sentiment"]["OverallSentiment"] == {"CUSTOMER": round(score.overall.score or 0, 2)}
    quarters = found["Sentiment"]["SentimentByPeriod"]["QUARTER"]["CUSTOMER"]
    assert [quarter["BeginOffsetMillis"] for quarter in quarters] == [0, 46_500, 93_000, 139_500]
    assert all(-5 <= quarter["Score"] <= 5 for quarter in quarters)
    interruptions = found["Interruptions"]
    assert interruptions["TotalCount"] == 3
    assert interruptions["InterruptionsByInterrupter"]["CUSTOMER"] == [
        {"BeginOffsetMillis": 53_500, "EndOffsetMillis": 55_000, "DurationMillis": 1_500}
    ]
    silent = [(each["BeginOffsetMillis"], each["EndOffsetMillis"]) for each in found["NonTalkTime"]["Instances"]]
    assert silent == [(114_000, 122_000), (181_000, 186_000)]
    assert found["NonTalkTime"]["TotalTimeMillis"] == 13_000
    talk = found["TalkTime"]
    assert talk["TotalTimeMillis"] == sum(each["TotalTimeMillis"] for each in talk["DetailsByParticipant"].values())
    assert set(found["TalkSpeed"]["DetailsByParticipant"]) <= {"CUSTOMER", "AGENT"}
    categories = document["Categories"]
    assert categories["MatchedCategories"] == list(categories["MatchedDetails"])
    assert categories["MatchedDetails"]["defaults"]["PointsOfInterest"]


def test_aws_words_and_loudness_are_per_word_and_per_second() -> None:
    (words, lens) = (written(name, sample_timeline())["Transcript"][1] for name in ("call-analytics", "contact-lens"))
    assert [item["Content"] for item in words["Items"]] == [w.text for w in sample_timeline().utterances[1].words]
    assert all(0 <= float(item["Confidence"]) <= 1 and item["Type"] == "pronunciation" for item in words["Items"])
    assert lens["LoudnessScore"] == words["LoudnessScores"]
    assert len(lens["LoudnessScore"]) == 6  # 5.6 s to 11 s touch six seconds
    assert all(0 <= score <= 100 for score in lens["LoudnessScore"])


def test_aws_json_says_where_personal_data_was() -> None:
    redacted = said("my card is [CARD]", redactions=(Redaction("card", Span(6_000_000, 7_000_000)),))
    turn = written("contact-lens", redacted)["Transcript"][1]
    assert turn["Redaction"] == {"RedactedTimestamps": [{"BeginOffsetMillis": 6_000, "EndOffsetMillis": 7_000}]}


def test_a_chat_is_a_chat_in_aws_json() -> None:
    timeline = sample_timeline()
    turns = tuple(replace(u, written=True) for u in timeline.utterances)
    document = written("contact-lens", replace(timeline, rate_hz=0, utterances=turns))
    assert document["Channel"] == "CHAT"
    assert document["ConversationCharacteristics"]["NonTalkTime"]["Instances"] == []
    assert not any("LoudnessScore" in turn for turn in document["Transcript"])


def test_a_long_call_is_exported_in_little_time() -> None:
    """Four hours: nothing grows with the square of the length."""
    import time

    timeline = sample_timeline(77)
    started = time.process_time()
    written("call-analytics", timeline)
    assert time.process_time() - started < 10


def test_parquet_holds_the_moments() -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    timeline = sample_timeline()
    table = pq.read_table(BytesIO(EXPORTERS["parquet"].write(timeline)))
    assert table.schema.metadata[b"affectline.schema"] == b"affectline.moments/1"
    assert table.schema.metadata[b"affectline.duration_us"] == b"186000000"
    rows = table.to_pylist()
    assert [row["moment"] for row in rows] == [m.id for m in timeline.moments]
    for row, moment in zip(rows, timeline.moments, strict=True):
        assert (row["start_us"], row["end_us"], row["label"]) == (
            moment.span.start_us,
            moment.span.end_us,
            moment.affect.label,
        )
        assert (row["valence"], row["stress"]) == (moment.affect.valence, moment.stress)
        assert [each["weight"] for each in row["contributors"]] == [c.weight for c in moment.contributors]
        assert [each["reason"] for each in row["absent"]] == [a.reason for a in moment.absent]
    none = EXPORTERS["parquet"].write(replace(timeline, moments=()))
    assert pq.read_table(BytesIO(none)).schema.equals(table.schema)


def test_the_command_line_exports_files_and_stored_calls(tmp_path: Path) -> None:
    place = str(tmp_path / "calls.db")
    store = CallStore(place)
    store.add(CallDetails("a"), sample_timeline())
    store.close()
    document = tmp_path / "call.json"
    document.write_bytes(to_json(sample_timeline()))
    runner = CliRunner()
    expected = EXPORTERS["srt"].write(sample_timeline())
    for arguments in ([str(document)], ["a", "--store", place]):
        done = runner.invoke(cli.app, ["export", *arguments, "--format", "srt"])
        assert (done.exit_code, done.stdout_bytes) == (0, expected)
    out = tmp_path / "call.rttm"
    assert (
        runner.invoke(cli.app, ["export", "a", "--store", place, "--format", "rttm", "--out", str(out)]).exit_code == 0
    )
    assert out.read_bytes() == EXPORTERS["rttm"].write(sample_timeline())
    for arguments, problem in (
        (["b", "--store", place, "--format", "srt"], "expected the id of a stored call"),
        (["b", "--format", "srt"], "expected a file b, or --store"),
        (["a", "--store", place, "--format", "xml"], "expected a format of"),
    ):
        done = runner.invoke(cli.app, ["export", *arguments])
        assert done.exit_code == 1
        assert problem in done.stderr


def test_words_without_times_have_no_items() -> None:
    utterance = replace(sample_timeline().utterances[1], words=())
    document = written("call-analytics", replace(sample_timeline(), utterances=(utterance,)))
    assert document["Transcript"][0]["Items"] == []
