"""The store of calls, on SQLite and, where it is installed, on PostgreSQL."""

import gzip
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, text

from affectline.models.errors import InvalidInputError, StorageError
from affectline.pipelines.associations import Call
from affectline.pipelines.outcomes import CallDetails, Feedback, Outcome
from affectline.pipelines.timeline import SuggestionFeedback
from affectline.server.exports import to_json
from affectline.server.insights import Insights, render_insights_html
from affectline.server.store import database
from affectline.server.store.calls import CallStore, NotStoredError, PolicyFeedback, StoredAlreadyError
from affectline.server.store.query import CallFilter, Queries
from affectline.server.store.tables import METADATA

from .sample_timeline import empty_timeline, sample_timeline

pytestmark = pytest.mark.integration

SEARCHED = ("utterance_words", "ix_utterances_words")
"""What serves the full-text search of either database is made by a migration alone."""
NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield str(tmp_path / "calls.db")
        return
    url = request.getfixturevalue("postgres")
    yield url
    engine = create_engine(url)
    with engine.begin() as connection:
        METADATA.drop_all(connection)
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
    engine.dispose()


@pytest.fixture
def store(place: str) -> Iterator[CallStore]:
    store = CallStore(place, customer_key=b"sixteen letters!")
    yield store
    store.close()


def test_a_call_comes_back_as_it_was_stored(store: CallStore) -> None:
    store.add(CallDetails("a"), sample_timeline())
    assert store.timeline("a") == sample_timeline()
    assert store.holds("a")
    assert not store.holds("b")
    with pytest.raises(NotStoredError, match="expected the id of a stored call"):
        store.timeline("b")


def rows(place: str, query: str) -> list[tuple[object, ...]]:
    engine = create_engine(place if "://" in place else f"sqlite:///{place}")
    with engine.connect() as connection:
        found = [tuple(row) for row in connection.execute(text(query))]
    engine.dispose()
    return found


def test_the_row_holds_what_is_searched_for_and_the_export(place: str, store: CallStore) -> None:
    details = CallDetails("a", NOON, "support", "broadband", "north", "customer 4711")
    store.add(details, sample_timeline())
    store.add(CallDetails("b", customer_reference="customer 4711"), empty_timeline())
    columns = "name, duration_us, queue, product, language, agent_group, customer, data"
    first, second = rows(place, f"SELECT {columns} FROM calls JOIN timelines ON call_id = id ORDER BY id")
    assert first[:6] == ("northwind-broadband-0412.flac", 186_000_000, "support", "broadband", "en", "north")
    assert gzip.decompress(bytes(first[7])) == to_json(sample_timeline())  # type: ignore[call-overload]
    assert first[6] == second[6] != "customer 4711"
    assert second[2:6] == (None, None, None, None)
    assert "4711" not in str(first[6])
    assert len(str(first[6])) == 64
    ((started,),) = rows(place, "SELECT started FROM calls WHERE id = 'a'")
    assert str(started).startswith("2026-05-03 12:00:00")


def test_another_key_gives_another_hash_and_no_key_none(tmp_path: Path) -> None:
    for number, key in enumerate((b"one key of many!", b"another key of m", None)):
        store = CallStore(str(tmp_path / "calls.db"), customer_key=key)
        store.add(CallDetails(str(number), customer_reference="x"), empty_timeline())
        store.close()
    one, other, none = (row[0] for row in rows(str(tmp_path / "calls.db"), "SELECT customer FROM calls ORDER BY id"))
    assert none is None
    assert one != other


def test_an_id_is_used_once_unless_the_call_is_replaced(store: CallStore) -> None:
    store.add(CallDetails("a"), sample_timeline())
    with pytest.raises(StoredAlreadyError):
        store.add(CallDetails("a"), empty_timeline())
    assert store.timeline("a") == sample_timeline()
    store.record_outcome("a", Outcome("csat", 4))
    store.record_feedback("a", Feedback("s0", "accepted"))
    with pytest.raises(StoredAlreadyError):  # another call by the same name
        store.add(CallDetails("a"), empty_timeline(), replace=True)
    again = replace(empty_timeline(), duration_us=sample_timeline().duration_us)
    store.add(CallDetails("a"), again, replace=True)
    assert store.timeline("a") == again
    assert [o.value for o in store.outcome_history("a")] == [4]
    assert store.feedback_counts() == [PolicyFeedback("defaults@1.0.0", 0, 1, 0, 0)]
    store.add(CallDetails("new"), sample_timeline(), replace=True)
    assert store.holds("new")


def test_a_call_that_cannot_be_stored_leaves_nothing(place: str, store: CallStore) -> None:
    twice = sample_timeline()
    twice = replace(twice, suggestions=(twice.suggestions[0], twice.suggestions[0]))
    with pytest.raises(StorageError, match="the store cannot be written"):
        store.add(CallDetails("a"), twice)
    assert not store.holds("a")
    assert rows(place, "SELECT count(*) FROM suggestions") == [(0,)]


def test_the_same_outcome_again_is_no_news_and_another_one_counts(store: CallStore) -> None:
    store.add(CallDetails("a"), empty_timeline())
    told = [store.record_outcome("a", Outcome("csat", value)) for value in (2, 2, 4, 4, 2)]
    assert told == [True, False, True, False, True]
    assert [o.value for o in store.outcome_history("a")] == [2, 4, 2]
    assert store.record_outcome("a", Outcome("resolved", 1))
    (call,) = store.reviewed_calls()
    assert {o.kind: o.value for o in call.outcomes} == {"csat": 2, "resolved": 1}


def test_the_newest_by_its_own_time_counts_however_late_an_older_one_comes(store: CallStore) -> None:
    store.add(CallDetails("a"), empty_timeline())
    assert store.record_outcome("a", Outcome("nps", 9, NOON))
    assert store.record_outcome("a", Outcome("nps", 3, NOON - timedelta(days=1)))
    assert not store.record_outcome("a", Outcome("nps", 3, NOON - timedelta(days=1)))
    assert not store.record_outcome("a", Outcome("nps", 9, NOON.astimezone()))
    assert [o.value for o in store.outcome_history("a")] == [3, 9]
    (call,) = store.reviewed_calls()
    assert [o.value for o in call.outcomes] == [9]
    assert call.outcomes[0].at == NOON


def test_feedback_replaces_and_keeps_its_history(store: CallStore) -> None:
    store.add(CallDetails("a"), sample_timeline())
    store.add(CallDetails("b"), sample_timeline())
    first = Feedback("s0", "dismissed", note="too late")
    assert [store.record_feedback("a", first) for _ in range(2)] == [True, False]
    assert store.record_feedback("a", Feedback("s0", "accepted"))
    assert store.record_feedback("a", Feedback("s1", "corrected", "apologise first"))
    assert store.record_feedback("b", Feedback("s0", "dismissed"))
    assert [(f.verdict, f.note, f.correction) for f in store.feedback_history("a")] == [
        ("dismissed", "too late", None),
        ("accepted", None, None),
        ("corrected", None, "apologise first"),
    ]
    assert store.feedback_counts() == [PolicyFeedback("defaults@1.0.0", 10, 1, 1, 1)]
    store.record_outcome("a", Outcome("csat", 1))
    store.record_outcome("b", Outcome("csat", 1))
    assert [(call.id, call.accepted) for call in store.reviewed_calls()] == [("a", 1), ("b", 0)]


def test_the_newest_reviewed_calls_are_told_as_such(store: CallStore) -> None:
    for hour, call_id in enumerate(("c", "a", "d", "b")):
        store.add(CallDetails(call_id, datetime(2026, 5, 3, hour, tzinfo=UTC)), sample_timeline())
        if call_id != "d":
            store.record_outcome(call_id, Outcome("csat", 1))
    assert [call.id for call in store.reviewed_calls()] == ["a", "b", "c"]
    found = [Call(each.id, {}, each.outcomes) for each in store.reviewed_calls(most=2)]
    assert [call.id for call in found] == ["a", "b"]
    assert "The newest 2 calls with an outcome" in render_insights_html(Insights.of(found, (), 5, 2))
    assert "The newest" not in render_insights_html(Insights.of(found, (), 5, 3))


def test_feedback_given_while_the_call_ran_is_kept_with_it(store: CallStore) -> None:
    feedback = (
        SuggestionFeedback("s0", "corrected", 40_000_000, "sad", "call 555 123 4567"),
        SuggestionFeedback("s9", "accepted", 50_000_000),
    )
    timeline = replace(sample_timeline(), feedback=feedback)
    for _ in range(2):
        store.add(CallDetails("a", NOON), timeline, replace=True)
    (kept,) = store.feedback_history("a")
    assert kept == Feedback("s0", "corrected", "sad: call [PHONE]", None, NOON + timedelta(seconds=40))
    assert store.feedback_counts() == [PolicyFeedback("defaults@1.0.0", 5, 0, 0, 1)]


def test_personal_data_is_taken_out_of_what_was_written(store: CallStore) -> None:
    store.add(CallDetails("a"), sample_timeline())
    card = "4111 1111 1111 1111"
    feedback = Feedback("s0", "corrected", f"do not read the card {card} aloud", f"card {card}\0")
    assert [store.record_feedback("a", feedback) for _ in range(2)] == [True, False]
    (kept,) = store.feedback_history("a")
    assert kept.correction == "do not read the card [CARD] aloud"
    assert kept.note == "card [CARD]"


def test_unknown_calls_and_suggestions_are_refused_and_lose_nothing(store: CallStore) -> None:
    store.add(CallDetails("a"), sample_timeline())
    for call, suggestion in (("b", "s0"), ("a", "s99")):
        with pytest.raises(NotStoredError):
            store.record_feedback(call, Feedback(suggestion, "accepted"))
    with pytest.raises(NotStoredError, match="nothing was recorded"):
        store.record_outcome("b", Outcome("csat", 3))
    assert store.feedback_history("a") == ()
    assert list(store.reviewed_calls()) == []


def test_names_and_texts_of_any_kind_are_kept(store: CallStore) -> None:
    timeline = replace(empty_timeline(), name="a\0b’'; DROP TABLE calls; --")
    store.add(CallDetails("x'; --"), timeline)
    assert store.timeline("x'; --") == timeline


def test_many_threads_write_one_after_the_other(store: CallStore) -> None:
    store.add(CallDetails("a"), sample_timeline())

    def write(number: int) -> tuple[bool, bool]:
        store.add(CallDetails(f"c{number}"), empty_timeline())
        news = store.record_outcome("a", Outcome("csat", 5))
        return news, store.record_feedback("a", Feedback("s0", "accepted"))

    with ThreadPoolExecutor(12) as threads:
        told = list(threads.map(write, range(48)))
    assert [sum(outcome for outcome, _ in told), sum(feedback for _, feedback in told)] == [1, 1]
    assert all(store.holds(f"c{number}") for number in range(48))


def fill(place: str, number: int) -> bool:
    store = CallStore(place)
    for call in range(10):
        store.add(CallDetails(f"{number}-{call}"), empty_timeline())
    news = store.record_outcome("0-0", Outcome("nps", 7)) if store.holds("0-0") else False
    store.close()
    return news


def test_many_processes_open_and_write(place: str) -> None:
    with ProcessPoolExecutor(4) as processes:
        list(processes.map(fill, [place] * 4, range(4)))
    store = CallStore(place)
    assert all(store.holds(f"{number}-{call}") for number in range(4) for call in range(10))
    assert len(store.outcome_history("0-0")) <= 1
    store.close()


def test_the_migrations_make_the_tables_that_the_code_uses(place: str, store: CallStore) -> None:
    engine = create_engine(place if "://" in place else f"sqlite:///{place}")
    options = {"include_object": lambda thing, name, *_: not str(name).startswith(SEARCHED)}
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []
    engine.dispose()


def test_sqlite_writes_ahead_and_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "100 %.db"
    CallStore(str(path)).close()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert path.stat().st_mode & 0o077 == 0


def test_a_reader_does_not_hold_a_writer_up(tmp_path: Path) -> None:
    store = CallStore(str(tmp_path / "calls.db"))
    store.add(CallDetails("a"), empty_timeline())
    reader = sqlite3.connect(tmp_path / "calls.db", isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM calls").fetchone() == (1,)
    store.add(CallDetails("b"), empty_timeline())
    assert reader.execute("SELECT count(*) FROM calls").fetchone() == (1,)
    reader.close()
    store.close()


def not_sqlite(folder: Path) -> str:
    (folder / "text").write_text("not a database " * 100)
    return str(folder / "text")


def from_the_future(folder: Path) -> str:
    path = folder / "newer.db"
    CallStore(str(path)).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    return str(path)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda folder: str(folder), InvalidInputError, "expected a file in a folder that exists"),
        (lambda folder: str(folder / "none/x.db"), InvalidInputError, "expected a file in a folder that exists"),
        (lambda folder: "oracle://me:pass-word@host/x", InvalidInputError, "expected a path, or the URL"),
        (lambda folder: "nonsense://x", InvalidInputError, "expected a path, or the URL"),
        (not_sqlite, StorageError, "file is not a database"),
        (from_the_future, StorageError, "newer version"),
    ],
)
def test_places_that_cannot_be_a_store_are_named(
    make: Callable[[Path], str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message) as caught:
        CallStore(make(tmp_path))
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"\x1f\x8bnonsense", gzip.compress(b"nothing")[:10] + b"\xff" * 40, gzip.compress(b"\xff\xfe{")]
)
def test_a_damaged_timeline_is_told(place: str, store: CallStore, data: bytes) -> None:
    store.add(CallDetails("a"), empty_timeline())
    engine = create_engine(place if "://" in place else f"sqlite:///{place}")
    with engine.begin() as connection:
        connection.execute(text("UPDATE timelines SET data = :data"), {"data": data})
    engine.dispose()
    with pytest.raises(StorageError, match="a timeline of a in the store, found a damaged one"):
        store.timeline("a")
    store.add(CallDetails("b"), empty_timeline())
    for call_id in "ab":
        store.record_outcome(call_id, Outcome("csat", 4))
    damaged: list[str] = []
    assert [call.id for call in store.reviewed_calls(damaged.append)] == ["b"]
    assert damaged == ["a"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("csat", 0),
        ("csat", 6),
        ("csat", 3.5),
        ("csat", float("nan")),
        ("nps", -1),
        ("nps", 11),
        ("resolved", 2),
        ("churned", float("inf")),
    ],
)
def test_values_off_the_scale_are_refused(kind, value) -> None:
    with pytest.raises(InvalidInputError, match=f"for {kind}, found"):
        Outcome(kind, value)


def test_what_is_bad() -> None:
    bad = [("csat", 2), ("nps", 6), ("resolved", 0), ("churned", 1), ("escalated", 1)]
    good = [("csat", 3), ("nps", 7), ("resolved", 1), ("churned", 0), ("escalated", 0)]
    assert [Outcome(kind, value).bad for kind, value in (*bad, *good)] == [True] * 5 + [False] * 5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("verdict", "correction", "note"),
    [("accepted", "x", None), ("corrected", "x" * 1001, None), ("accepted", None, "x" * 4001)],
)
def test_feedback_is_whole(verdict, correction, note) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        Feedback("s", verdict, correction, note)


def older_store(place: str, timelines: dict[str, bytes]) -> None:
    """A database as the first version of the store left it."""
    if "://" not in place:
        Path(place).touch()
    engine = create_engine(place if "://" in place else f"sqlite:///{place}")
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).with_name("migrations")))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for call_id, data in timelines.items():
            values = {"id": call_id, "at": "2026-05-03 12:00:00", "data": data}
            connection.execute(
                text(
                    "INSERT INTO calls (id, name, started, stored, duration_us, queue, timeline) "
                    "VALUES (:id, 'a call', :at, :at, 186000000, 'support', :data)"
                ),
                values,
            )
            connection.execute(
                text(
                    "INSERT INTO suggestions (call_id, id, kind, action, policy, created_us) "
                    "VALUES (:id, 's0', 'assist', 'say:own', 'defaults@1.0.0', 37)"
                ),
                values,
            )
            connection.execute(
                text(
                    "INSERT INTO feedback (call_id, suggestion_id, policy, verdict, at, recorded) "
                    "VALUES (:id, 's0', 'defaults@1.0.0', 'accepted', :at, :at)"
                ),
                values,
            )
            connection.execute(
                text("INSERT INTO outcomes (call_id, kind, value, at, recorded) VALUES (:id, 'csat', 2, :at, :at)"),
                values,
            )
    engine.dispose()


def test_an_older_store_is_brought_up_to_date_and_can_be_searched(place: str) -> None:
    whole = gzip.compress(to_json(sample_timeline()))
    older_store(place, {"a": whole, "b": whole, "damaged": b"nonsense"})
    store = CallStore(place)
    queries = Queries(store)
    assert store.timeline("a") == store.timeline("b") == sample_timeline()
    assert [row.id for row in queries.list_calls(CallFilter(queues=("support",)), order="oldest").rows] == [
        "a",
        "b",
        "damaged",
    ]
    assert {hit.call_id for hit in queries.search("supervisor").hits} == {"a", "b"}
    found = queries.list_calls(CallFilter(label="angry", stage="problem", outcome="csat", outcome_bad=True)).rows
    assert {row.id for row in found} == {"a", "b"}
    assert found[0].began == NOON
    assert found[0].last_suggestion == sample_timeline().suggestions[-1].text
    assert [f.verdict for f in store.feedback_history("a")] == ["accepted"]
    assert store.feedback_counts() == [PolicyFeedback("defaults@1.0.0", 11, 3, 0, 0)]
    with pytest.raises(StorageError, match="found a damaged one"):
        store.timeline("damaged")
    store.close()
    other = CallStore(place)  # a second time there is nothing to do
    assert Queries(other).list_calls().total == 3
    options = {"include_object": lambda thing, name, *_: not str(name).startswith(SEARCHED)}
    with other.database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts=options), METADATA) == []
    other.close()


def test_rows_of_an_older_kind_are_made_anew(place: str, store: CallStore) -> None:
    store.add(CallDetails("a"), sample_timeline())
    with store.database.writing() as connection:
        connection.execute(text("DELETE FROM moments"))
        connection.execute(text("DELETE FROM feelings"))
        connection.execute(text("UPDATE calls SET derived = 0, valence = NULL"))
    again = CallStore(place)
    (row,) = Queries(again).list_calls(CallFilter(label="angry")).rows
    assert row.valence is not None
    assert rows(place, "SELECT count(*) FROM moments") == [(len(sample_timeline().moments),)]
    again.close()
