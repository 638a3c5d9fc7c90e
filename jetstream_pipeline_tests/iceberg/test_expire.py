"""Old snapshots are forgotten with what only they had; what a table shows stays, and what may be about to be."""

from datetime import UTC, datetime, timedelta

from jetstream_pipeline.iceberg.expire import expire
from jetstream_pipeline.iceberg.sync import sync
from jetstream_pipeline.iceberg.tables import shown_tables
from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline.tables.build import build_table
from jetstream_pipeline.tables.definitions import TABLES
from jetstream_pipeline_tests.cli.commands import NEXT, grow
from jetstream_pipeline_tests.iceberg.reading import SQLITE, by_polars, lake_rows, snapshots, table
from jetstream_pipeline_tests.windows import HOUR, commit, store


def put(data: DataDirectory) -> None:
    """Two windows of one post each, the first one with its table of posts."""
    for window in (HOUR, NEXT):
        store(data, [commit('{"text":"first"}')], window)
    build_table(next(table for table in TABLES if table.name == "posts"), "network", HOUR, data.lake)


def files(data: DataDirectory, kind: str) -> set[str]:
    return {path.name for path in (data.lake.root / "_iceberg" / "network" / "events" / kind).iterdir()}


def test_what_only_old_snapshots_had_is_deleted(data: DataDirectory) -> None:
    put(data)
    sync(SQLITE, data, "network")
    grow(data)
    sync(SQLITE, data, "network")
    assert len(files(data, "data")) == 3
    expired = expire(SQLITE, data, "network", datetime.now(UTC), grace_sec=0)
    by_name = {one.table: one for one in expired}
    assert by_name["jetstream_network.events"].snapshots == 1
    assert by_name["jetstream_network.events"].bytes > 0
    assert by_name["jetstream_network.posts"].snapshots == 0
    assert len(files(data, "data")) == 2
    assert len(snapshots(data)) == 1
    with table(data) as found:
        assert by_polars(found).equals(lake_rows(data))
    grow(data)
    sync(SQLITE, data, "network")
    with table(data) as found:
        assert by_polars(found).equals(lake_rows(data))


def test_what_is_younger_stays(data: DataDirectory) -> None:
    put(data)
    sync(SQLITE, data, "network")
    grow(data)
    sync(SQLITE, data, "network")
    before = files(data, "data"), files(data, "metadata")
    expire(SQLITE, data, "network", datetime.now(UTC) - timedelta(hours=1), grace_sec=0)
    assert len(snapshots(data)) == 2
    assert files(data, "data") == before[0]
    # A commit under way has linked its files, and no snapshot refers to them yet.
    expire(SQLITE, data, "network", datetime.now(UTC))
    assert files(data, "data") == before[0]
    assert before[1] <= files(data, "metadata")


def test_what_each_table_shows_is_listed(data: DataDirectory) -> None:
    put(data)
    assert shown_tables(SQLITE, data, "network") == []
    sync(SQLITE, data, "network")
    by_name = {one.table: one for one in shown_tables(SQLITE, data, "network")}
    assert (by_name["jetstream_network.events"].files, by_name["jetstream_network.events"].rows) == (2, 2)
    assert (by_name["jetstream_network.posts"].files, by_name["jetstream_network.posts"].rows) == (1, 1)
    assert by_name["jetstream_network.posts"].metadata.endswith(".metadata.json")
