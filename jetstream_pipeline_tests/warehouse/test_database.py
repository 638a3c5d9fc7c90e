"""The views show every window once, to whoever asks, at any moment."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.events.wires import Wire
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.quarantine import Unreadable, keep, quarantined
from jetstream_pipeline.storage.stream_filter import StreamFilter, write_filter
from jetstream_pipeline.storage.summary import Clamp, Proof, Verification, WindowState, WindowSummary
from jetstream_pipeline.storage.window_file import write_window
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.warehouse.database import querying, refresh
from jetstream_pipeline_tests.windows import HOUR, Window, commit, delete, store

NEXT = Window.hour(HOUR.end)
POSTS = [commit(f'{{"text":"post {number}"}}', number=number) for number in range(50)]


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    return DataDirectory(tmp_path / "it's [data]*")


def ask(data: DataDirectory, query: str) -> list[tuple]:
    """What a program with nothing but DuckDB sees."""
    with duckdb.connect(data.warehouse, read_only=True) as connection:
        return connection.execute(query).fetchall()


def columns(data: DataDirectory) -> dict[str, list[tuple]]:
    return {view: ask(data, f"DESCRIBE {view}") for (view,) in ask(data, "SHOW TABLES")}


def fill(data: DataDirectory, window: Window = HOUR, messages: list[bytes] | None = None, **options: object) -> None:
    summary = store(data, POSTS if messages is None else messages, window, **options)  # type: ignore[arg-type]
    if summary.state.is_whole:
        for table in TABLES:
            build_table(table, summary.stream, window, data.lake)
    refresh(data)


def test_views_without_data_are_empty_and_have_the_same_columns_as_with_it(data: DataDirectory) -> None:
    refresh(data)
    empty = columns(data)
    assert all(ask(data, f"SELECT * FROM {view}") == [] for view in empty)
    fill(data, NEXT, [*POSTS, b"garbage"], state=WindowState.TRUNCATED)
    fill(data, messages=[*POSTS, b"garbage"])
    assert columns(data) == empty
    assert {view for view in empty if not ask(data, f"SELECT 1 FROM {view}")} == {
        "likes", "reposts", "follows", "blocks", "profiles", "identities", "accounts",
        "likes_current", "follows_current", "profiles_current", "archived_events",
    }  # fmt: skip


def test_every_column_says_what_it_means(data: DataDirectory) -> None:
    refresh(data)
    assert (
        ask(data, "SELECT table_name, column_name FROM duckdb_columns() WHERE comment IS NULL AND NOT internal") == []
    )


def test_new_windows_and_streams_are_there_at_once(data: DataDirectory) -> None:
    fill(data)
    before = data.warehouse.stat().st_ino
    fill(data, NEXT)
    assert data.warehouse.stat().st_ino == before, "a new window of a known stream needs no new view"
    fill(data, stream="mine")
    counts = ask(data, "SELECT stream, date::VARCHAR, hour, count(*) FROM posts GROUP BY ALL ORDER BY ALL")
    assert counts == [
        ("mine", "2026-07-04", 14, 50),
        ("network", "2026-07-04", 14, 50),
        ("network", "2026-07-04", 15, 50),
    ]


def test_a_records_text_is_reached_by_key_from_its_row(data: DataDirectory) -> None:
    fill(data)
    query = "SELECT text, record FROM posts JOIN events USING (stream, uri, rev) WHERE text = 'post 7'"
    assert ask(data, query) == [("post 7", '{"text":"post 7"}')]
    ((time, time_us),) = ask(data, "SELECT epoch_us(time), time_us FROM events ORDER BY time LIMIT 1")
    assert time == time_us == HOUR.start_us


def test_a_table_and_its_view_of_what_exists_name_a_record_as_its_event_does(data: DataDirectory) -> None:
    collections = {"posts": "app.bsky.feed.post", "likes": "app.bsky.feed.like", "follows": "app.bsky.graph.follow"}
    fill(data, messages=[commit("{}", name, number) for name in collections.values() for number in range(20)])
    for table, collection in collections.items():
        addresses = ask(data, f"SELECT uri, rev FROM events WHERE collection = '{collection}' ORDER BY ALL")
        assert addresses[7] == (f"at://did:plc:a15/{collection}/k15", "3k15")
        for view in (table, f"{table}_current"):
            assert ask(data, f"SELECT uri, rev FROM {view} ORDER BY ALL") == addresses
            assert ask(data, f"SELECT did, rkey FROM {view} WHERE uri = '{addresses[7][0]}'") == [
                ("did:plc:a15", "k15")
            ]


def test_a_table_with_further_columns_is_read_beside_others(data: DataDirectory) -> None:
    fill(data)
    fill(data, NEXT)
    for window in (HOUR, NEXT):
        path = data.lake.table_path("network", "posts", window)
        rows = pq.ParquetFile(path).read()
        pq.write_table(rows.append_column("cid", rows["rkey"]).select([*rows.schema.names[::-1], "cid"]), path)
        assert ask(data, "SELECT count(*), count(DISTINCT uri), count(text) FROM posts") == [(100, 50, 100)]
        assert ask(data, "SELECT count(*) FROM posts_current") == [(50,)]


def test_a_lone_surrogate_does_not_stop_a_query_over_all_records(data: DataDirectory) -> None:
    fill(data, messages=[*POSTS, commit('{"text":"a\\ud83d"}', number=99), delete(number=100)])
    assert ask(data, "SELECT json->>'$.text' FROM events WHERE rkey IN ('k7', 'k99', 'k100') ORDER BY time_us") == [
        ("post 7",), ("a\ufffd",), (None,)
    ]  # fmt: skip


def test_a_window_that_became_whole_shows_once_and_what_was_incomplete_is_gone(data: DataDirectory) -> None:
    fill(data, messages=[*POSTS[:20], b"garbage"], state=WindowState.TRUNCATED)
    assert ask(data, "SELECT state, events, quarantined FROM windows") == [("truncated", 20, 1)]
    assert ask(data, "SELECT count(*) FROM events") == [(0,)]
    assert ask(data, "SELECT count(*), any_value(message) FROM quarantine") == [(1, b"garbage")]
    with duckdb.connect(data.warehouse, read_only=True) as earlier:
        fill(data)
        assert earlier.execute("SELECT count(*) FROM incomplete_events").fetchall() == [(0,)]
    assert ask(data, "SELECT state, events, file_size > 0 FROM windows") == [("complete", 50, True)]
    assert ask(data, "SELECT count(*) FROM quarantine") == [(0,)]


def test_the_views_say_all_that_the_files_say(data: DataDirectory) -> None:
    minutes = [HOUR.start + timedelta(minutes=number) for number in range(5)]
    summary = WindowSummary(
        events=0,
        first_time=minutes[0],
        last_time=minutes[1],
        counts_by_kind={"commit": 3, "identity": 2},
        counts_by_collection={"app.bsky.feed.post": 3},
        stream="network",
        start=HOUR.start,
        end=HOUR.end,
        state=WindowState.VERIFIED,
        reason="as a test wants it",
        fingerprint="of posts",
        host="one,other",
        wire="v1,v2",
        proof=Proof(
            cursor=4,
            start_shown_by="an event before",
            end_shown_by="an event after",
            position=minutes[2],
            connections=("cut", "closed"),
            clamps=(Clamp(host="one", asked=minutes[0], begins=minutes[1]),),
            repeats=5,
            resumptions=6,
            left_to_neighbours=7,
            taken_from_beyond=8,
        ),
        quarantined=9,
        repaired=10,
        verifications=(
            Verification(host="other", compared_at=minutes[3], compared=11, repaired=12, lacking_there=13, agreed=True),
        ),
        seconds=14.5,
        finished_at=minutes[4],
        version="1.2.3",
    )
    path = data.lake.events_path("network", HOUR)
    path.parent.mkdir(parents=True)
    write_window(path, [], lambda _: summary)
    kinds = StreamFilter(fingerprint="of posts", collections=("app.bsky.*",), dids=("did:plc:a",), kinds=("commit",))
    write_filter(data.lake.stream_path("network"), kinds)
    message = Unreadable(b"garbage", "no JSON", 7)
    keep(
        quarantined([message], received_at=minutes[0], host="one", wire=Wire.V2),
        data.quarantine_folder("network"),
        minutes[0],
    )
    with querying(data) as connection:
        rows = {
            view: connection.sql(f"SELECT * FROM {view}").to_arrow_table().to_pylist()[0]
            for view in ("windows", "streams", "quarantine")
        }
    said = summary.model_dump(exclude={"start", "end", "proof"}) | summary.proof.model_dump(exclude={"cursor"})
    said |= {"window_start": HOUR.start, "window_end": HOUR.end, "file": str(path), "file_size": path.stat().st_size}
    assert {name: _plain(value) for name, value in rows["windows"].items()} == {
        name: _plain(value) for name, value in said.items()
    }
    assert rows["streams"] == {"stream": "network", **kinds.model_dump(mode="json")}
    place = {"stream": "network", "date": HOUR.start.date(), "hour": HOUR.start.hour}
    assert rows["quarantine"] == place | {
        "received_at": minutes[0],
        "host": "one",
        "wire": "v2",
        "position_us": 7,
        "reason": "no JSON",
        "size": 7,
        "message": b"garbage",
    }


def _plain(value: object) -> object:
    """A map is pairs in DuckDB, a tuple a list."""
    if isinstance(value, dict):
        return list(value.items())
    return list(value) if isinstance(value, tuple) else value


def test_someone_who_holds_the_file_shuts_nobody_out(data: DataDirectory) -> None:
    refresh(data)
    program = f"import duckdb; duckdb.connect({str(data.warehouse)!r}); print('held', flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        fill(data)
        assert ask(data, "SELECT count(*) FROM events") == [(50,)]
        with querying(data) as connection:
            assert connection.execute("SELECT count(*) FROM events").fetchall() == [(50,)]
        holder.kill()


def test_a_damaged_file_is_made_anew(data: DataDirectory) -> None:
    fill(data)
    data.warehouse.write_bytes(b"not a database")
    refresh(data)
    assert ask(data, "SELECT count(*) FROM events") == [(50,)]


def test_a_moved_data_directory_is_read_where_it_lies(data: DataDirectory, tmp_path: Path) -> None:
    fill(data)
    moved = DataDirectory(data.root.rename(tmp_path / "elsewhere"))
    with querying(moved) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchall() == [(50,)]
        with pytest.raises(duckdb.Error, match="read-only"):
            connection.execute("CREATE TABLE mine AS SELECT 1")


def test_without_data_there_is_nothing_to_query_and_that_is_told(data: DataDirectory) -> None:
    with pytest.raises(InvalidInput, match="no data in"), querying(data):
        pass


_READER = """
import duckdb, json, sys
warehouse = sys.argv[1]
rounds, wrong = 0, []
print("ready", flush=True)
persistent = duckdb.connect(warehouse, read_only=True)
while not sys.stdin.readline().startswith("stop"):
    for connection in (persistent, duckdb.connect(warehouse, read_only=True)):
        try:
            rows = connection.execute(
                "SELECT date, hour, count(*), count(DISTINCT uri), min(length(record)) FROM events GROUP BY ALL"
            ).fetchall()
            states = connection.execute("SELECT count(*), count(DISTINCT window_start) FROM windows").fetchall()
        except duckdb.Error as error:
            wrong.append(str(error))
        else:
            wrong += [str(row) for row in rows if row[2:4] != (50, 50)]
            wrong += [str(row) for row in states if row[0] != row[1]]
    rounds += 1
    print(json.dumps(wrong), flush=True)
print(rounds, flush=True)
"""


@contextmanager
def writing(data: DataDirectory) -> Iterator[None]:
    """Windows appear and are replaced by runs that differ in nothing but their times, for as long as the body runs."""
    stopped = threading.Event()

    def write() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            window = Window.hour(HOUR.start + timedelta(hours=number % 12))
            store(data, POSTS, window, seconds=number * 1000.0)
            refresh(data)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_queries_of_another_process_never_fail_while_windows_are_written_and_replaced(data: DataDirectory) -> None:
    fill(data)
    command = [sys.executable, "-c", _READER, str(data.warehouse)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader,
        writing(data),
    ):
        assert reader.stdin
        assert reader.stdout
        assert reader.stdout.readline() == "ready\n"
        for _ in range(150):
            print("go", file=reader.stdin, flush=True)
            assert json.loads(reader.stdout.readline()) == []
        print("stop", file=reader.stdin, flush=True)
        assert reader.stdout.readline() == "150\n"


def test_messages_kept_outside_of_windows_are_in_quarantine_too(data: DataDirectory) -> None:
    rows = quarantined([Unreadable(b"garbage", "no JSON", 7)], received_at=HOUR.start, host="host", wire=Wire.V1)
    keep(rows, data.quarantine_folder("my_queue"), HOUR.start)
    keep(rows, data.quarantine_folder("my_queue"), HOUR.start)
    with querying(data) as connection:
        found = connection.sql("SELECT stream, hour, message, reason FROM quarantine").fetchall()
    assert found == [("my_queue", HOUR.start.hour, b"garbage", "no JSON")] * 2
