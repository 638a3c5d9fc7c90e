"""A day of windows is one file for each data set or 24, and nobody who asks can tell which."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jetstream_pipeline.feeding.feed import Feed
from jetstream_pipeline.feeding.feeding import feed_window, is_fed
from jetstream_pipeline.quality.windows import Windows
from jetstream_pipeline.storage import days
from jetstream_pipeline.storage.days import held, summary_of
from jetstream_pipeline.storage.errors import StorageError
from jetstream_pipeline.storage.hive import hours_of
from jetstream_pipeline.storage.lake import Lake
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.storage.summary import SUMMARY_KEY, WindowState
from jetstream_pipeline.tables import compaction
from jetstream_pipeline.tables.build import build_stale, build_table
from jetstream_pipeline.tables.compaction import Compacted, Compaction
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.warehouse.database import refresh
from jetstream_pipeline.warehouse.views import views
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.object_store import ObjectStore
from jetstream_pipeline_tests.windows import HOUR, commit, store

DAY = HOUR.start.date()
NEXT = DAY + timedelta(days=1)
AFTER = NEXT + timedelta(days=1)
EVENTS_IN_ALL = sum(hour % 3 for hour in range(24))
"""Of the day, and of the next one's first hour, which has none."""
(POSTS,) = [table for table in TABLES if table.name == "posts"]
NOW = timedelta()
QUERIES = (
    "SELECT * FROM events ORDER BY date, hour, position",
    "SELECT * FROM posts ORDER BY date, hour, uri",
    "SELECT * FROM posts_current ORDER BY uri",
    "SELECT * EXCLUDE (file) FROM windows",
    "SELECT date, hour, count(*) FROM events WHERE hour = 3 GROUP BY ALL ORDER BY ALL",
)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days, "SEEN_SEC", 0.0)


def replay(data: DataDirectory, window: Window, text: str = "first", *, tables: bool = True) -> None:
    hour = window.start.hour
    numbers = range(3 * hour, 3 * hour + hour % 3)
    store(data, [commit(f'{{"text":"{text} {hour}"}}', number=number) for number in numbers], window)
    if tables:
        with held(data, "network", [window]):
            build_table(POSTS, "network", window, data.lake)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> DataDirectory:
    """A whole day, and the first hour of the next one; to be copied."""
    data = DataDirectory(tmp_path_factory.mktemp("filled"))
    for window in (*hours_of(DAY), hours_of(NEXT)[0]):
        replay(data, window)
    return data


def copied(filled: DataDirectory, folder: Path) -> DataDirectory:
    shutil.copytree(filled.root / "lake", folder / "lake", dirs_exist_ok=True)
    return DataDirectory(folder)


@pytest.fixture
def data(filled: DataDirectory, tmp_path: Path) -> DataDirectory:
    return copied(filled, tmp_path)


def compact(data: DataDirectory, keep: timedelta = NOW) -> list[Compacted]:
    return list(Compaction(data, "network").run(AFTER, keep=keep))


def expand(data: DataDirectory) -> None:
    assert list(Compaction(data, "network").expand(AFTER)) == [DAY]


def seen(data: DataDirectory) -> list[list[tuple[Any, ...]]]:
    with asking(data) as connection:
        return [connection.execute(query).fetchall() for query in QUERIES]


@contextmanager
def asking(data: DataDirectory) -> Iterator[duckdb.DuckDBPyConnection]:
    """Over the views that are asked here, as they are now."""
    with duckdb.connect() as connection:
        for view in views(data):
            if view.name in ("events", "posts", "posts_current", "windows"):
                connection.execute(f"CREATE VIEW {view.name} AS {view.query}")
        yield connection


def files(data: DataDirectory) -> dict[str, bytes]:
    root = data.lake.root
    assert isinstance(root, Path)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.parquet")}


def test_a_day_is_one_file_for_each_data_set_and_everything_shows_as_before(data: DataDirectory) -> None:
    before, whole = seen(data), data.lake.whole("network")
    (done,) = compact(data)
    assert (done.day, done.files, done.kept) == (DAY, 48, None)
    assert 0 < done.bytes < done.bytes_before
    assert seen(data) == before
    assert sorted(files(data)) == [
        f"network/{name}/{place}/{name}.parquet"
        for name in ("events", "posts")
        for place in (f"date={DAY}", f"date={NEXT}/hour=00")
    ]
    assert data.lake.whole("network") == whole
    assert all(data.lake.has("network", window) for window in whole)
    assert data.lake.oldest_hour("network") == hours_of(DAY)[0].start
    assert compact(data) == []


def test_expanded_it_is_what_it_was_byte_for_byte(data: DataDirectory) -> None:
    before = files(data)
    compact(data)
    expand(data)
    assert files(data) == before
    assert not data.lake.marked("network")


def test_views_as_they_were_show_a_day_that_is_hours_again(data: DataDirectory) -> None:
    compact(data)
    refresh(data)
    with held(data, "network", hours_of(DAY)[5:6]):
        assert not data.lake.marked("network")
        with duckdb.connect(data.warehouse, read_only=True) as connection:
            assert connection.execute("SELECT count(*) FROM events").fetchall() == [(EVENTS_IN_ALL,)]


def test_hours_files_stay_for_queries_that_had_listed_them(data: DataDirectory) -> None:
    before = seen(data)
    compact(data, keep=timedelta(hours=1))
    assert len(files(data)) == 52
    assert seen(data) == before
    compact(data)
    assert len(files(data)) == 4
    assert seen(data) == before


def test_a_day_that_others_make_hours_while_files_are_removed_loses_none(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = seen(data)
    compact(data, keep=timedelta(hours=1))
    alone = days.alone

    def late(*given: Any) -> Any:
        monkeypatch.setattr(days, "alone", alone)
        expand(data)
        return alone(*given)

    monkeypatch.setattr(days, "alone", late)
    Compaction(data, "network")._sweep(NOW)
    assert not data.lake.marked("network")
    assert seen(data) == before


def test_a_day_that_others_make_one_file_while_files_are_removed_keeps_it(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, marks = seen(data), Lake.marks

    def early(lake: Lake, stream: str) -> Any:
        found = marks(lake, stream)
        monkeypatch.setattr(Lake, "marks", marks)
        compact(data)
        return found

    monkeypatch.setattr(Lake, "marks", early)
    Compaction(data, "network")._sweep(NOW)
    assert data.lake.marked("network") == {DAY}
    assert seen(data) == before


@pytest.mark.parametrize("what", ["removes its file", "begins a table"])
def test_a_day_that_another_machine_is_at_stays_as_it_is(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    shutil.rmtree(data.lake.root / "network" / "posts")
    write = days.write_day

    def meanwhile(*given: Any) -> None:
        write(*given)
        if what == "begins a table":
            build_table(POSTS, "network", hours_of(DAY)[1], data.lake)
        else:
            data.lake.day_path("network", "events", DAY).unlink()

    monkeypatch.setattr(days, "write_day", meanwhile)
    (done,) = compact(data)
    assert "meanwhile" in str(done.kept)
    assert not data.lake.marked("network")


def test_what_a_window_says_of_itself_is_known_wherever_it_is(data: DataDirectory) -> None:
    window = hours_of(DAY)[5]
    before = summary_of(data.lake, "network", window)
    compact(data)
    assert summary_of(data.lake, "network", window) == before
    windows = Windows("network", data.lake)
    assert windows.before(hours_of(NEXT)[0]) == summary_of(data.lake, "network", hours_of(DAY)[23])
    with pytest.raises(StorageError):
        summary_of(data.lake, "network", hours_of(AFTER)[0])


@pytest.mark.parametrize("number", [0, 5, 23, 24])
def test_an_hour_of_a_day_or_beside_it_is_replayed_as_any_other(data: DataDirectory, number: int) -> None:
    compact(data)
    window = [*hours_of(DAY), *hours_of(NEXT)][number]
    replay(data, window, "second")
    beside = number in (0, 23, 24) or number == 5
    assert data.lake.marked("network") == (set() if beside else {DAY})
    texts = seen(data)[1]
    assert len(texts) == 24
    assert sum("second" in str(row) for row in texts) == window.start.hour % 3


def test_a_window_of_a_day_is_fed_and_its_tables_are_derived(data: DataDirectory) -> None:
    window, feed = hours_of(DAY)[5], Feed("work")
    assert feed_window("network", window, feed, data).added == 2
    compact(data)
    assert build_stale("network", window, data.lake) == []
    assert is_fed("network", window, feed, data)
    assert feed_window("network", hours_of(DAY)[4], feed, data).added == 1
    assert not data.lake.marked("network")
    compact(data)
    with held(data, "network", [window]):
        assert build_table(POSTS, "network", window, data.lake).rows == 2


def test_only_days_that_are_whole_and_left_alone_are_made(data: DataDirectory) -> None:
    newest = data.lake.events_path("network", hours_of(NEXT)[0])
    content = newest.read_bytes()
    newest.unlink()
    assert compact(data) == [], "it is the newest day"
    newest.write_bytes(content)
    assert list(Compaction(data, "network").run(DAY)) == []
    data.lake.table_path("network", "posts", hours_of(DAY)[3]).unlink()
    assert compact(data) == [], "a table lacks an hour"
    with held(data, "network", hours_of(DAY)[3:4]):
        build_table(POSTS, "network", hours_of(DAY)[3], data.lake)
        (busy,) = compact(data)
    assert busy.kept == "a run is at one of its windows"
    assert [done.kept for done in compact(data)] == [None]


def test_a_day_that_lacks_a_window_stays(data: DataDirectory) -> None:
    lacking = hours_of(DAY)[3]
    data.lake.events_path("network", lacking).unlink()
    store(data, [], lacking, state=WindowState.TRUNCATED)
    assert compact(data) == []


def test_a_day_whose_hours_have_other_columns_stays_and_keeps_no_other(data: DataDirectory) -> None:
    for window in hours_of(NEXT)[1:] + hours_of(AFTER)[:1]:
        replay(data, window)
    path = data.lake.events_path("network", hours_of(DAY)[7])
    rows, said = pq.ParquetFile(path).read(), pq.read_metadata(path).metadata
    older = rows.drop_columns(["seq"])
    pq.write_table(older.replace_schema_metadata({SUMMARY_KEY: said[SUMMARY_KEY]}), path)
    odd, other = Compaction(data, "network").run(AFTER, keep=NOW)
    assert odd.day == DAY
    assert "other columns" in str(odd.kept)
    assert (other.day, other.kept) == (NEXT, None)


def test_a_table_that_is_begun_later_is_of_hours_then(data: DataDirectory) -> None:
    shutil.rmtree(data.lake.root / "network" / "posts")
    compact(data)
    for window in hours_of(DAY):
        with held(data, "network", [window]):
            build_table(POSTS, "network", window, data.lake)
    assert len(seen(data)[1]) == 24
    assert [done.files for done in compact(data)] == [48]
    assert len(seen(data)[1]) == 24


def test_the_newest_hours_of_a_data_set_stay_for_views_that_look_for_hours(data: DataDirectory) -> None:
    data.lake.table_path("network", "posts", hours_of(NEXT)[0]).unlink()
    before = seen(data)
    compact(data)
    with asking(data) as connection:
        assert len(connection.execute("SELECT * FROM posts").fetchall()) == 24
    assert seen(data) == before


def test_conditions_on_hour_leave_the_other_hours_unread(data: DataDirectory) -> None:
    compact(data)
    with asking(data) as connection:
        query = f"EXPLAIN ANALYZE SELECT record FROM events WHERE hour = 5 AND date = '{DAY}'"
        ((_, told),) = connection.execute(query).fetchall()
    assert "2 rows" in told or "2 Rows" in told
    assert f"date={NEXT}" not in told


def test_a_query_at_any_moment_sees_every_window_once(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    (expected, *_) = seen(data)
    done, problems, begun = threading.Event(), [], 0

    def ask() -> None:
        nonlocal begun
        while not done.is_set():
            begun += 1
            try:
                with duckdb.connect(data.warehouse, read_only=True) as connection:
                    if (rows := connection.execute(QUERIES[0]).fetchall()) != expected:
                        problems.append(len(rows))
            except duckdb.IOException:
                continue  # a day that was listed has just been expanded: asked again, it answers

    def until_seen(_: float) -> None:
        """What is being asked now has been answered, and another query after it."""
        last, deadline = begun + 2, time.monotonic() + 60
        while begun < last:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    compact(data, keep=timedelta(hours=1))
    refresh(data)
    thread = threading.Thread(target=ask)
    thread.start()
    for module in (days, compaction):
        monkeypatch.setattr(module, "time", SimpleNamespace(sleep=until_seen, time_ns=time.time_ns))
    try:
        for _ in range(2):
            expand(data)
            compact(data, keep=timedelta(hours=1))
        until_seen(0)
    finally:
        done.set()
        thread.join()
    assert problems == []


class Killed(BaseException):
    pass


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["replay", "compact", "compact later", "expand"]),
            st.integers(0, 47),
            st.none() | st.integers(0, 6),
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_done_and_dies_the_views_show_what_was_put(
    tmp_path_factory: pytest.TempPathFactory, filled: DataDirectory, steps: list[tuple[str, int, int | None]]
) -> None:
    data = copied(filled, tmp_path_factory.mktemp("days"))
    windows = [*hours_of(DAY), *hours_of(NEXT)]
    expected = {window: window.start.hour % 3 * [f"first {window.start.hour}"] for window in windows[:25]}
    for step, (action, number, dies_after) in enumerate(steps, 1):
        with dying(dies_after if action != "replay" else None):
            if action == "replay":
                window = windows[number]
                store(data, [commit(f'{{"text":"{step}"}}')], window)
                expected[window] = [str(step)]
            elif action == "expand":
                list(Compaction(data, "network").expand(AFTER))
            else:
                compact(data, timedelta(hours=1) if "later" in action else NOW)
        with asking(data) as connection:
            query = "SELECT date, hour, json->>'text' FROM events ORDER BY date, hour, position"
            rows = connection.execute(query).fetchall()
            states = connection.execute("SELECT window_start FROM windows").fetchall()
        assert rows == [
            (one.start.date(), one.start.hour, text) for one, texts in sorted(expected.items()) for text in texts
        ]
        assert len(states) == len(expected)
        assert data.lake.whole("network") == set(expected)


class dying:
    """Within, the process dies before the step of that number that changes the lake."""

    def __init__(self, after: int | None) -> None:
        self._patch = pytest.MonkeyPatch()
        self._left = after

    def __enter__(self) -> None:
        for module, name in (
            (days, "write_day"),
            (days, "write_hours"),
            (days, "mark"),
            (days, "delete"),
            (compaction, "delete"),
        ):
            self._patch.setattr(module, name, self._dying(getattr(module, name)))

    def _dying(self, step: Any) -> Any:
        def call(*given: Any) -> None:
            if self._left == 0:
                raise Killed
            if self._left is not None:
                self._left -= 1
            step(*given)

        return call

    def __exit__(self, kind: object, *_: object) -> bool:
        self._patch.undo()
        return kind is Killed


def test_in_an_object_store_it_is_the_same(
    filled: DataDirectory, remote_data: DataDirectory, object_store: ObjectStore
) -> None:
    root = remote_data.lake.root
    root.fs.put(f"{filled.lake.root}/network/events", f"{root.path}/network/events", recursive=True)
    assert [done.kept for done in compact(remote_data)] == [None]
    assert compact(remote_data) == []
    keys = [key for key in object_store.keys("lake/network/events") if f"{DAY}" in key]
    assert keys == [f"lake/network/events/date={DAY}/events.parquet"]
    assert len(remote_data.lake.whole("network")) == 25
    expand(remote_data)
    assert len([key for key in object_store.keys("lake/network/events") if f"{DAY}/hour=" in key]) == 24
