"""The timeline as JSON and as a table."""

import csv
import io
import json
from dataclasses import replace

import pytest

from affectline.models.errors import InvalidInputError
from affectline.server.exports import CSV_COLUMNS, from_json, to_json, write_csv

from .sample_timeline import CUSTOMER, empty_timeline, no_consent_timeline, sample_timeline

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("make", [sample_timeline, empty_timeline, no_consent_timeline])
def test_json_gives_back_an_equal_timeline(make) -> None:
    timeline = make()
    assert from_json(to_json(timeline)) == timeline


def test_a_document_from_before_facts_is_read() -> None:
    document = json.loads(to_json(sample_timeline()))
    del document["facts"]
    assert from_json(json.dumps(document).encode()) == replace(sample_timeline(), facts=())


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (b"", "Invalid JSON"),
        (b"[]", "object"),
        (b"{}", "name"),
        (to_json(sample_timeline())[:-100], "Invalid JSON"),
        (to_json(sample_timeline()).replace(b'"duration_us":186000000', b'"duration_us":"long"'), "duration_us"),
        (to_json(sample_timeline()).replace(b'"duration_us":186000000', b'"duration_us":-1'), "found -1"),
        (to_json(sample_timeline()).replace(b"affectline.timeline/1", b"affectline.timeline/9"), "timeline/9"),
        (to_json(sample_timeline()).replace(b'"start_us":1000000,', b'"start_us":99000000,', 1), "start_us"),
    ],
)
def test_another_document_is_refused_with_what_was_found(document, found) -> None:
    with pytest.raises(InvalidInputError, match="expected") as error:
        from_json(document)
    assert found in str(error.value)


def table(timeline) -> list[dict[str, str]]:
    file = io.StringIO(newline="")
    write_csv(timeline, file)
    file.seek(0)
    return list(csv.DictReader(file))


def test_csv_has_one_row_per_moment() -> None:
    timeline = sample_timeline()
    rows = table(timeline)
    assert [row["moment"] for row in rows] == [moment.id for moment in timeline.moments]
    assert list(rows[0]) == list(CSV_COLUMNS)
    row = next(row for row in rows if row["moment"] == f"{CUSTOMER}-56")
    moment = next(moment for moment in timeline.moments if moment.id == f"{CUSTOMER}-56")
    assert (row["start_s"], row["end_s"], row["role"], row["label"]) == ("56", "57", "customer", "angry")
    assert float(row["valence"]) == pytest.approx(moment.affect.valence, abs=1e-4)
    assert row["contributors"] == "voice=0.52; text=0.38; stress=0.1"
    assert row["absent"] == "face: no video"
    assert row["utterances"] == "u9"


def test_csv_leaves_empty_what_is_not_known() -> None:
    for row in table(no_consent_timeline()):
        assert row["label"] == "unknown"
        assert row["valence"] == row["stress"] == row["level_dbfs"] == ""
        assert row["absent"] == "voice: no consent; text: no consent"


def test_csv_tells_how_far_a_voice_turned_angry() -> None:
    first, *others = sample_timeline().moments
    rows = table(replace(sample_timeline(), moments=(replace(first, anger=0.625), *others)))
    assert rows[0]["anger"] == "0.625"


def test_csv_texts_never_start_a_formula() -> None:
    rows = table(replace(sample_timeline(), name='=HYPERLINK("http://x")'))
    assert {row["call"] for row in rows} == {'\'=HYPERLINK("http://x")'}
