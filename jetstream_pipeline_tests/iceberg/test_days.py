"""A day that is one file is one data file of its table, and hours again when it is expanded: in one commit each."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from jetstream_pipeline.iceberg.following import leaving
from jetstream_pipeline.iceberg.sync import sync
from jetstream_pipeline.retention.prune import Pruning
from jetstream_pipeline.retention.rules import Limit, Retention
from jetstream_pipeline.storage import days
from jetstream_pipeline.storage.hive import hours_of
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.compaction import Compaction
from jetstream_pipeline.window import Window
from jetstream_pipeline_tests.iceberg.reading import SQLITE, by_polars, lake_rows, table
from jetstream_pipeline_tests.windows import HOUR, commit, store

DAY = HOUR.start.date()
NEXT = Window.hour(hours_of(DAY)[-1].end)


def put(data: DataDirectory, hours: int = 24) -> None:
    for number, window in enumerate((*hours_of(DAY)[:hours], NEXT)):
        store(data, [commit('{"text":"one"}', number=number)], window)


def shown(data: DataDirectory) -> tuple[int, list[int]]:
    """How many files the table has, and the times of its events."""
    with table(data) as found:
        files = list(found.scan().plan_files())
        times = found.scan(selected_fields=("time_us",)).to_arrow()["time_us"].to_pylist()
    return len(files), sorted(times)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(days, "SEEN_SEC", 0.0)


def test_a_day_takes_the_place_of_its_hours_and_they_of_it(data: DataDirectory) -> None:
    put(data)
    sync(SQLITE, data, "network")
    files, times = shown(data)
    assert (files, len(times)) == (25, 25)
    compaction = Compaction(data, "network")
    assert [done.kept for done in compaction.run(NEXT.start.date(), keep=timedelta())] == [None]
    (synced,) = sync(SQLITE, data, "network", ["events"])
    assert (synced.added, synced.removed) == (1, 24)
    assert shown(data) == (2, times)
    with table(data) as found:
        rows = by_polars(found)
        hours = pl.scan_iceberg(found, reader_override="native").select("hour").collect()["hour"].to_list()
    assert sorted(hours, key=str) == sorted([*range(24), None], key=str)
    assert list(compaction.expand(NEXT.start.date())) == [DAY]
    (synced,) = sync(SQLITE, data, "network", ["events"])
    assert (synced.added, synced.removed) == (24, 1)
    assert shown(data) == (25, times)
    assert rows.equals(lake_rows(data, "events"))


def test_in_a_store_what_a_table_shows_is_let_go_before_it_is_deleted(
    remote_data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(remote_data, 3)
    sync(SQLITE, remote_data, "network")
    leave = leaving(SQLITE, remote_data, "network")
    assert leave
    deleting = Pruning(remote_data, "network", Retention(Limit(days=1)), leave=leave)
    for number, pruned in enumerate(deleting.run(datetime.now(UTC))):
        assert pruned.kept is None
        if number == 0:
            assert shown(remote_data)[0] == 1
    assert number == 2
    assert shown(remote_data)[0] == 1
    assert list(remote_data.lake.whole("network")) == [NEXT]


def test_in_a_store_what_does_not_count_leaves_the_table_though_it_stands(remote_data: DataDirectory) -> None:
    put(remote_data)
    sync(SQLITE, remote_data, "network")
    _, times = shown(remote_data)
    compaction = Compaction(remote_data, "network")
    assert [done.kept for done in compaction.run(NEXT.start.date())] == [None]
    (synced,) = sync(SQLITE, remote_data, "network", ["events"])
    assert (synced.added, synced.removed) == (1, 24)
    assert shown(remote_data) == (2, times)
    list(compaction.run(NEXT.start.date(), keep=timedelta()))
    assert shown(remote_data) == (2, times), "hours' files are gone now"
    assert list(compaction.expand(NEXT.start.date())) == [DAY]
    (synced,) = sync(SQLITE, remote_data, "network", ["events"])
    assert (synced.added, synced.removed) == (24, 1)
    assert shown(remote_data) == (25, times)
