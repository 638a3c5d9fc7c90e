"""Tables show what the lake holds: replaced windows at once, removed ones no more, whoever writes and whoever dies."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from jetstream_pipeline.errors import InvalidInput
from jetstream_pipeline.iceberg import schema
from jetstream_pipeline.iceberg import sync as sync_module
from jetstream_pipeline.iceberg.errors import CatalogueError
from jetstream_pipeline.iceberg.following import follow
from jetstream_pipeline.iceberg.sync import Synced, sync
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.cli.commands import NEXT, grow
from jetstream_pipeline_tests.iceberg.reading import (
    SQLITE,
    by_duckdb,
    by_polars,
    lake_rows,
    ordered,
    read,
    snapshots,
    table,
)
from jetstream_pipeline_tests.windows import HOUR, commit, delete, store

BY_NAME = {one.name: one for one in TABLES}
SYNC = """
import sys
from pathlib import Path
from pydantic import SecretStr
from jetstream_pipeline.iceberg.sync import sync
from jetstream_pipeline.storage.layout import DataDirectory

for _ in sys.stdin:
    sync(SecretStr(sys.argv[2]), DataDirectory(Path(sys.argv[1])), "network", ["events"])
    print("done", flush=True)
"""


def changes(synced: list[Synced]) -> dict[str, tuple[int, int]]:
    return {one.table.partition(".")[2]: (one.added, one.removed) for one in synced if one.added or one.removed}


def put(data: DataDirectory, hours: int, first: Window = HOUR) -> list[Window]:
    windows = [Window.hour(first.start + timedelta(hours=number)) for number in range(hours)]
    for number, window in enumerate(windows):
        store(data, [commit('{"text":"one"}', number=number)], window)
    return windows


def test_other_engines_read_the_rows_of_the_lake(data: DataDirectory) -> None:
    record = '{"text":"two","langs":["en","de"],"createdAt":"2026-07-04T16:00:00.5+02:00"}'
    store(data, [commit('{"text":"one\\u0000"}'), commit(record, number=1), delete(number=2)])
    store(data, [commit('{"text":"\U0010ffff"}', number=3)], NEXT)
    store(data, [], Window.hour(NEXT.end))
    for window in (HOUR, NEXT):
        for name in ("posts", "likes"):
            build_table(BY_NAME[name], "network", window, data.lake)
    sync(SQLITE, data, "network")
    for name in ("events", "posts", "likes"):
        with table(data, name) as found:
            expected = lake_rows(data, name)
            assert by_polars(found).equals(expected)
            if expected.num_rows:
                assert by_duckdb(found).equals(expected)
    with table(data) as found:
        assert found.scan().count() == 4


def test_no_byte_is_copied(data: DataDirectory) -> None:
    put(data, 2)
    sync(SQLITE, data, "network")
    with table(data) as found:
        linked = {Path(task.file.file_path.removeprefix("file://")).stat().st_ino for task in found.scan().plan_files()}
    assert linked == {data.lake.events_path("network", window).stat().st_ino for window in (HOUR, NEXT)}


def test_bounds_leave_out_the_files_that_a_query_does_not_want(data: DataDirectory) -> None:
    put(data, 2)
    store(data, [commit('{"text":"other"}', number=7)], NEXT)
    sync(SQLITE, data, "network")
    with table(data) as found:
        assert len(list(found.scan("did = 'did:plc:a7'").plan_files())) == 1
        assert len(list(found.scan(f"time_us > {HOUR.start_us}").plan_files())) == 1
        assert len(list(found.scan("collection = 'app.bsky.feed.like'").plan_files())) == 0


def test_what_differs_is_one_commit_for_each_table_and_what_does_not_is_none(data: DataDirectory) -> None:
    put(data, 5)
    assert changes(sync(SQLITE, data, "network")) == {"events": (5, 0)}
    assert changes(sync(SQLITE, data, "network")) == {}
    store(data, [commit('{"text":"again"}')], HOUR)
    data.lake.events_path("network", NEXT).unlink()
    put(data, 2, Window.hour(HOUR.start + timedelta(days=2)))
    assert changes(sync(SQLITE, data, "network")) == {"events": (3, 2)}
    assert len(snapshots(data)) == 2
    with table(data) as found:
        assert by_polars(found).equals(lake_rows(data))


def test_what_is_about_to_be_deleted_leaves_the_table_first(data: DataDirectory) -> None:
    put(data, 2)
    sync(SQLITE, data, "network")
    leaving = data.lake.events_path("network", NEXT)
    assert changes(sync(SQLITE, data, "network", leaving=[leaving])) == {"events": (0, 1)}
    leaving.unlink()
    assert changes(sync(SQLITE, data, "network")) == {}


def test_a_table_whose_last_window_is_removed_is_empty(data: DataDirectory) -> None:
    put(data, 1)
    build_table(BY_NAME["posts"], "network", HOUR, data.lake)
    sync(SQLITE, data, "network")
    data.lake.table_path("network", "posts", HOUR).unlink()
    assert changes(sync(SQLITE, data, "network")) == {"posts": (0, 1)}
    with table(data, "posts") as found:
        assert by_polars(found).num_rows == 0


def test_an_old_snapshot_shows_the_old_rows(data: DataDirectory) -> None:
    put(data, 2)
    sync(SQLITE, data, "network")
    before = lake_rows(data)
    (old,) = snapshots(data)
    grow(data)
    sync(SQLITE, data, "network")
    assert len(snapshots(data)) == 2
    with table(data) as found:
        assert by_polars(found, old).equals(before)
        assert by_polars(found).equals(lake_rows(data))
        assert not before.equals(lake_rows(data))


def test_whoever_reads_while_a_window_is_replaced_sees_the_old_one_or_the_new_one(data: DataDirectory) -> None:
    put(data, 3)
    sync(SQLITE, data, "network")
    seen: set[tuple[str, ...]] = set()
    over = threading.Event()

    def reading() -> None:
        with table(data) as found:
            while not over.is_set():
                found.refresh()
                rows = pl.scan_iceberg(found, reader_override="native").collect()
                seen.add(tuple(sorted(rows["record"])))

    reader = threading.Thread(target=reading)
    reader.start()
    try:
        for number in range(8):
            store(data, [commit(f'{{"text":"{number}"}}'), commit(f'{{"text":"{number}"}}', number=1)], NEXT)
            sync(SQLITE, data, "network")
    finally:
        over.set()
        reader.join()
    others = ['{"text":"one"}'] * 2
    allowed = {tuple(sorted([*others, '{"text":"one"}']))}
    allowed |= {tuple(sorted([*others, *[f'{{"text":"{number}"}}'] * 2])) for number in range(8)}
    assert seen <= allowed
    assert len(snapshots(data)) == 9


def test_what_a_process_that_died_before_its_commit_has_left_is_mended(data: DataDirectory) -> None:
    put(data, 2)
    sync(SQLITE, data, "network")
    store(data, [commit('{"text":"new"}')], NEXT)
    dying = SYNC.replace(
        "\nfor ",
        "\nimport os, signal\nfrom pyiceberg.catalog.sql import SqlCatalog\n"
        "SqlCatalog.commit_table = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nfor ",
    )
    died = subprocess.run([sys.executable, "-c", dying, data.root, "sqlite"], input=b"go on\n", check=False)
    assert died.returncode == -signal.SIGKILL
    assert len(snapshots(data)) == 1
    with table(data) as found:
        assert by_polars(found).num_rows == 2
    assert changes(sync(SQLITE, data, "network")) == {"events": (1, 1)}
    with table(data) as found:
        assert by_polars(found).equals(lake_rows(data))


def test_processes_that_do_the_same_at_once_do_it_once(data: DataDirectory) -> None:
    windows = put(data, 3)
    command = [sys.executable, "-c", SYNC, data.root, "sqlite"]
    both = [subprocess.Popen(command, stdin=PIPE, stdout=PIPE, stderr=PIPE, text=True) for _ in range(2)]
    for number in range(3):
        for process in both:
            assert process.stdin
            process.stdin.write("go on\n")
            process.stdin.flush()
        for process in both:
            assert process.stdout
            assert process.stdout.readline() == "done\n"
        with table(data) as found:
            assert by_polars(found).equals(lake_rows(data))
            assert len(found.snapshots()) == number + 1
        store(data, [commit(f'{{"text":"{number}"}}'), commit('{"text":"more"}', number=1)], windows[1])
    assert [process.communicate()[1] for process in both] == ["", ""]


def test_many_that_write_to_a_table_in_postgres_at_once_lose_nothing(data: DataDirectory, postgres_url: str) -> None:
    setting = SecretStr(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    windows = [Window.hour(HOUR.start + timedelta(hours=number)) for number in range(12)]

    def work(window: Window) -> None:
        store(data, [commit('{"text":"one"}')], window)
        sync(setting, data, "network", ["events"])

    with ThreadPoolExecutor(4) as workers:
        list(workers.map(work, windows))
    with table(data, catalogue=setting) as found:
        assert by_polars(found).equals(lake_rows(data))
        assert len(found.snapshots()) <= len(windows)
        assert len(list(found.scan().plan_files())) == len(windows)


def test_a_column_that_files_have_gained_is_null_in_older_ones(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(data, 2)
    older = pa.schema([field for field in schema.FILE_SCHEMA if field.name not in ("host", "position")])
    path = data.lake.events_path("network", HOUR)
    rows = read(path).select(older.names)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "FILE_SCHEMA", older)
        other = data.lake.events_path("network", NEXT)
        newer = read(other)
        for one in (path, other):
            pq.write_table(read(one).select(older.names), one.with_suffix(".new"))
            os.replace(one.with_suffix(".new"), one)
        sync(SQLITE, data, "network", ["events"])
    pq.write_table(newer, other.with_suffix(".new"))
    os.replace(other.with_suffix(".new"), other)
    assert changes(sync(SQLITE, data, "network", ["events"])) == {"events": (1, 1)}
    expected = pa.concat_tables([rows, newer], promote_options="default").select(schema.FILE_SCHEMA.names)
    with table(data) as found:
        assert by_polars(found).equals(ordered(expected))
        assert found.schema().find_field("position").doc


def test_a_catalogue_that_cannot_be_reached_is_told_in_one_line_without_its_password(data: DataDirectory) -> None:
    put(data, 2)
    pytest.importorskip("psycopg")
    setting = SecretStr("postgresql+psycopg://me:hunter2@127.0.0.1:1/lake?connect_timeout=2")
    with pytest.raises(CatalogueError, match="jetstream-pipeline iceberg sync") as refusal:
        sync(setting, data, "network")
    assert "hunter2" not in str(refusal.value)
    assert "postgresql+psycopg://127.0.0.1:1/lake" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert str(follow(setting, data, "network")) == str(refusal.value)
    assert follow(SecretStr(""), data, "network") is None


def test_a_catalogue_of_another_lake_is_refused(data: DataDirectory, tmp_path: Path) -> None:
    put(data, 2)
    other = DataDirectory(tmp_path / "other")
    put(other, 1)
    setting = SecretStr(f"sqlite:///{tmp_path}/shared.db")
    sync(setting, data, "network")
    with pytest.raises(InvalidInput, match="name another catalogue"):
        sync(setting, other, "network")


def test_a_lake_that_is_not_there_takes_nothing_out_of_tables(data: DataDirectory) -> None:
    with pytest.raises(InvalidInput, match="no stream"):
        sync(SQLITE, data, "network")


def test_small_manifests_are_put_together(data: DataDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {**schema.properties("events"), "commit.manifest.min-count-to-merge": "4"}
    monkeypatch.setattr(sync_module, "properties", lambda _: said)
    for window in [Window.hour(HOUR.start + timedelta(hours=number)) for number in range(7)]:
        put(data, 1, window)
        sync(SQLITE, data, "network", ["events"])
    with table(data) as found:
        snapshot = found.current_snapshot()
        assert snapshot
        assert len(snapshot.manifests(found.io)) <= 4
        assert by_polars(found).num_rows == 7
